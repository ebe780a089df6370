"""Active learning: what is chosen, labels that survive a kill, and a loop that goes on where it was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from gapkit import fingerprints, generation
from gapkit.active import (
    ActiveLearning,
    AtomThreshold,
    DOptimal,
    DynamicsExplorer,
    GeneratorExplorer,
    LabelStore,
    MaximumVariance,
    PoolExplorer,
    RandomChoice,
    Stop,
    StoredLabels,
    VarianceReduction,
    label_frames,
    labelling,
)
from gapkit.active.acquisition import Candidates
from gapkit.active.labelling import frame_from_dict, frame_key, frame_to_dict
from gapkit.active.loop import Generation, log_table, read_log
from gapkit.exceptions import DataError, GapkitError, SettingsError
from gapkit.plotting import learning_figure
from tests.conftest import copper_frames, label, small_gap

pytestmark = pytest.mark.filterwarnings("ignore:all frames fall into one fold:gapkit.exceptions.GapkitWarning")


def bare(frames):
    copies = [a.copy() for a in frames]
    for a in copies:
        a.calc = None
    return copies


@pytest.fixture(scope="module")
def pool():
    return copper_frames(30, seed=5)


# ---- acquisition


def test_maximum_variance_takes_the_largest(gap, pool):
    candidates = Candidates.of(gap, pool)
    chosen = MaximumVariance()(candidates, 4, np.random.default_rng(0))
    std = [gap.predict([a], uncertainty=True, include_noise=False).local_energy_std[0].max() for a in pool]
    assert chosen == [int(k) for k in np.argsort(std)[::-1][:4]]


def test_d_optimal_avoids_a_copy_of_what_it_took(gap, pool):
    best = MaximumVariance()(Candidates.of(gap, pool), 1, np.random.default_rng(0))[0]
    copies = [pool[best]] * 3 + pool
    greedy = MaximumVariance()(Candidates.of(gap, copies), 3, np.random.default_rng(0))
    assert all(frame_key(copies[k]) == frame_key(pool[best]) for k in greedy)
    chosen = DOptimal(noise=1e-5)(Candidates.of(gap, copies), 3, np.random.default_rng(0))
    assert len({frame_key(copies[k]) for k in chosen}) == 3


def test_d_optimal_gains_sum_to_the_joint_determinant(gap, pool):
    """log det(1 + sum_f H_f H_f^T) is the sum of the gains, each conditioned on the frames taken before."""
    from gapkit.active.acquisition import condition

    known = [H / 1e-3 for H in Candidates.of(gap, pool[:3]).knowledge()]
    stacked = np.hstack(known)
    joint = np.linalg.slogdet(np.eye(len(stacked)) + stacked @ stacked.T)[1]
    total = 0.0
    for k in range(3):
        total += np.linalg.slogdet(np.eye(known[k].shape[1]) + known[k].T @ known[k])[1]
        condition(known, k, range(k + 1, 3))
    assert total == pytest.approx(joint, rel=1e-9)


def test_variance_reduction_predicts_what_knowing_a_frame_leaves(gap, pool):
    """The fall of force variances from the posterior's precision with the frame's rows added, without any shortcut."""
    s, frames = 0.05, pool[:6]
    candidates = Candidates.of(gap, frames)
    known, share = candidates.force_knowledge(10**6, np.random.default_rng(0))
    assert np.all(share == 1)
    p = gap.potential_
    rows = [
        p.basis.whiten(p.basis.rows(p.structure(a)).K[1 : 1 + 3 * len(a)]) * p.posterior.column_signal for a in frames
    ]
    precision = p.posterior.R.T @ p.posterior.R
    before = sum(np.einsum("nm,nm->", A, np.linalg.solve(precision, A.T).T) / len(A) for A in rows)
    falls = []
    for A in rows:
        added = precision + A.T @ A / s**2
        falls.append(before - sum(np.einsum("nm,nm->", B, np.linalg.solve(added, B.T).T) / len(B) for B in rows))
    T = np.hstack([H / np.sqrt(H.shape[1]) for H in known])
    gains = [VarianceReduction._gain(H / s, T @ T.T) for H in known]
    np.testing.assert_allclose(gains, falls, rtol=1e-6)
    best = VarianceReduction(noise=s, most=10**6, targets=10**6)(candidates, 1, np.random.default_rng(0))
    assert best == [int(np.argmax(falls))]


def test_variance_reduction_takes_no_copies(gap, pool):
    frames = [*pool[:8], *pool[:8]]
    chosen = VarianceReduction(noise=1e-4)(Candidates.of(gap, frames), 4, np.random.default_rng(0))
    assert len({frame_key(frames[k]) for k in chosen}) == 4
    bare = replace(gap.potential_, noise_levels={"energy": 1e-3})
    with pytest.raises(SettingsError, match="without forces"):
        VarianceReduction()(Candidates(bare, pool[:2]), 1, np.random.default_rng(0))


def test_the_threshold_leaves_known_frames_alone(gap, pool):
    candidates = Candidates.of(gap, pool)
    rng = np.random.default_rng(0)
    assert AtomThreshold(1e6)(candidates, 5, rng) == []
    assert len(AtomThreshold(1e-6)(candidates, 5, rng)) == 5
    limit = float(np.median(candidates.largest_std))
    factor = limit / gap.potential_.domain_limit(include_noise=False)
    chosen = AtomThreshold(factor)(candidates, 30, rng)
    assert set(chosen) == {k for k, s in enumerate(candidates.largest_std) if s > limit}
    assert sorted(RandomChoice()(candidates, 30, rng)) == list(range(30))
    with pytest.raises(SettingsError, match="factor"):
        AtomThreshold(-1)


# ---- explorers


def test_dynamics_stops_where_the_model_knows_too_little(gap):
    start = bulk("Cu", cubic=True)
    rng = np.random.default_rng(0)
    long = DynamicsExplorer([start], 300.0, 40, 2.0, 10, stop_factor=1e6)(gap, rng)
    assert len(long) == 4
    short = DynamicsExplorer([start], 300.0, 40, 2.0, 10, stop_factor=1e-6)(gap, rng)
    assert len(short) == 1
    assert len({frame_key(a) for a in long}) == 4
    with pytest.raises(SettingsError, match="temperature"):
        DynamicsExplorer([start], -1.0)
    with pytest.raises(SettingsError, match="starting frame"):
        DynamicsExplorer([], 300.0)


def test_a_generator_explores(gap):
    make = lambda gap, rng: generation.random_displacements(bulk("Cu", cubic=True), 0.1, 99, rng)  # noqa: E731
    assert len(GeneratorExplorer(make, 7)(gap, np.random.default_rng(0))) == 7


# ---- labels


class Moody(Calculator):
    """EMT that fails for some frames, dies for others, and counts its calls in a folder."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if "forces" not in properties and "stress" not in properties:
            with open(os.path.join(self.folder, "calls"), "a") as file:
                file.write(frame_key(self.atoms) + "\n")
        x = self.atoms.positions[0, 0]
        if x > 90:
            os._exit(1)
        if x > 80:
            raise RuntimeError("no convergence")
        inner = self.atoms.copy()
        inner.calc = EMT()
        self.results = {"energy": inner.get_potential_energy(), "forces": inner.get_forces()}
        if inner.pbc.any():
            self.results["stress"] = inner.get_stress()


def calls(folder):
    path = Path(folder) / "calls"
    return path.read_text().split() if path.exists() else []


def shifted(atoms, x):
    moved = atoms.copy()
    moved.calc = None
    moved.positions[:, 0] += x - moved.positions[0, 0]
    return moved


def test_labels_are_those_of_the_oracle_and_made_once(tmp_path, pool):
    store = LabelStore(tmp_path / "labels")
    done = []
    frames = bare(pool[:4])
    labelled = label_frames(frames, partial(Moody, str(tmp_path)), store, 0, 0, lambda: done.append(1))
    assert len(done) == 4
    for mine, true in zip(labelled, pool[:4], strict=True):
        assert mine.get_potential_energy() == pytest.approx(true.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(mine.get_forces(), true.get_forces(), atol=1e-10)
        assert mine.info["config_type"] == true.info["config_type"]
        if true.pbc.all():
            np.testing.assert_allclose(mine.get_stress(), true.get_stress(), atol=1e-12)
    assert len(calls(tmp_path)) == 4
    label_frames([*frames, frames[0]], partial(Moody, str(tmp_path)), store, 0)
    assert len(calls(tmp_path)) == 4


class ByFiles(Calculator):
    """An oracle that writes its input and reads its output in ``directory``, slowly, as codes behind files do."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        file = Path(self.directory) / "input.txt"
        assert not file.exists()
        file.write_text(f"{atoms.positions.sum():.17g}")
        time.sleep(0.05)
        energy = float(file.read_text())
        if atoms.info.get("config_type") == "fails":
            raise RuntimeError("no convergence")
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3))}


@pytest.mark.parametrize("own", [False, True])
def test_oracles_that_work_with_files_have_a_folder_per_label(tmp_path, pool, own):
    """Two labels at a time, and one that is tried again, in the store or below the folder that the oracle names."""
    frames = [a.copy() for a in pool[:4]]
    frames[1].info["config_type"] = "fails"
    store = LabelStore(tmp_path / "labels")
    where = tmp_path / "scratch" if own else store.folder / "runs"
    make = partial(ByFiles, directory=str(where)) if own else ByFiles
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda a: labelling._label(str(store.folder), frame_to_dict(a), make, 1), frames))
    for k, atoms in enumerate(frames):
        found = store.get(atoms)
        assert (found is None) == (k == 1)
        assert found is None or found.get_potential_energy() == pytest.approx(atoms.positions.sum(), abs=1e-12)
    tries = sorted(folder.name for folder in where.iterdir())
    assert tries == sorted([*(f"{frame_key(a)}-0" for a in frames), f"{frame_key(frames[1])}-1"])


def test_oracles_without_files_leave_no_folders(tmp_path, pool):
    store = LabelStore(tmp_path / "labels")
    label_frames(pool[:2], EMT, store, workers=0)
    assert {path.suffix for path in store.folder.iterdir()} == {".json"}


def test_failures_are_retried_recorded_and_skipped(tmp_path, pool):
    store = LabelStore(tmp_path / "labels")
    frames = [pool[0], shifted(pool[1], 85.0), pool[2]]
    labelled = label_frames(bare(frames), partial(Moody, str(tmp_path)), store, 0, retries=2)
    assert len(labelled) == 2
    assert calls(tmp_path).count(frame_key(frames[1])) == 3
    assert store.failure(frames[1]) == "RuntimeError: no convergence"
    assert store.failure(frames[0]) is None
    label_frames(bare(frames), partial(Moody, str(tmp_path)), store, 0, retries=2)
    assert len(calls(tmp_path)) == 5  # a recorded failure is not tried again


@pytest.mark.slow
def test_a_worker_that_dies_costs_only_its_frame(tmp_path, pool):
    store = LabelStore(tmp_path / "labels")
    frames = [pool[0], shifted(pool[1], 95.0), pool[2]]
    labelled = label_frames(bare(frames), partial(Moody, str(tmp_path)), store, 2, retries=0)
    assert [frame_key(a) for a in labelled] == [frame_key(pool[0]), frame_key(pool[2])]
    assert "died" in store.failure(frames[1])


def test_frames_survive_the_disk_to_the_last_digit(tmp_path, pool):
    again = frame_from_dict(json.loads(json.dumps(frame_to_dict(pool[0]))))
    np.testing.assert_array_equal(again.positions, pool[0].positions)
    assert frame_key(again) == frame_key(pool[0])
    moved = pool[0].copy()
    moved.positions[0, 0] += 1e-7
    assert frame_key(moved) != frame_key(pool[0])
    store = LabelStore(tmp_path)
    store.path(pool[0]).write_text("{")
    with pytest.raises(DataError, match="not a label"):
        store.get(pool[0])


def test_stored_labels_know_their_pool_only(pool):
    atoms = pool[0].copy()
    atoms.calc = StoredLabels(pool)
    assert atoms.get_potential_energy() == pool[0].get_potential_energy()
    atoms.positions[0, 0] += 0.1
    with pytest.raises(DataError, match="not in the pool"):
        atoms.get_potential_energy()


# ---- the loop


def learning(folder, pool, **changes):
    settings = {
        "gap": small_gap(), "initial": pool[:4], "explorer": PoolExplorer(pool), "batch": 3,
        "make_oracle": partial(StoredLabels, pool), "workers": 0, "stop": Stop(generations=3), "test": pool[-6:],
    }  # fmt: skip
    return ActiveLearning(folder, **{**settings, **changes})


def test_the_loop_learns_and_logs(tmp_path, pool):
    run = learning(tmp_path / "a", pool)
    log = run.run()
    assert [r.labels for r in log] == [4, 7, 10, 13]
    assert [r.candidates for r in log[1:]] == [26, 23, 20]
    assert log[-1].force_rmse < log[0].force_rmse
    assert log[0].refitted and log[1].refitted and not log[2].refitted
    assert log == read_log(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("model-*.gapkit"))) == 1
    text = (tmp_path / "a" / "log.txt").read_text()
    assert text == log_table(log) + "\n"
    learning_figure(log, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert learning(tmp_path / "a", pool).run() == log  # nothing is left to do
    with pytest.raises(GapkitError, match="holds no active-learning run"):
        read_log(tmp_path)


def test_an_update_in_the_loop_equals_the_fit_with_frozen_levels(tmp_path, pool):
    """The last generation by triangles: the same weights as accumulating all frames at once."""
    run = learning(tmp_path / "a", pool, refit_growth=float("inf"), stop=Stop(generations=2))
    run.run()
    first = learning(tmp_path / "b", pool, stop=Stop(generations=0))
    first.run()
    frames = [run.store.get(frame_from_dict(f)) for n in (1, 2) for f in run._read(f"choice-{n:04d}.json")["frames"]]
    first.gap.update(frames)
    a, b = run.gap.predict(pool), first.gap.predict(pool)
    np.testing.assert_allclose(a.energy, b.energy, rtol=1e-8)
    largest = np.abs(np.vstack(b.forces)).max()  # sums of large weights: rounding goes with the largest forces
    np.testing.assert_allclose(np.vstack(a.forces), np.vstack(b.forces), atol=1e-8 * largest)


def test_the_loop_stops(tmp_path, pool):
    few = learning(tmp_path / "labels", pool, stop=Stop(labels=6)).run()
    assert few[-1].labels == 6
    sure = learning(tmp_path / "std", pool, stop=Stop(local_std=1e3)).run()
    assert len(sure) == 1
    all_of_it = learning(tmp_path / "pool", pool[:8], stop=Stop(generations=99), test=None).run()
    assert all_of_it[-1].labels == 8
    assert all_of_it[-1].force_rmse is None


def test_other_settings_in_the_same_folder_are_refused(tmp_path, pool):
    learning(tmp_path, pool, stop=Stop(generations=0)).run()
    with pytest.raises(SettingsError, match=r"other settings \(batch\)"):
        learning(tmp_path, pool, batch=4).run()
    with pytest.raises(SettingsError, match="batch must be"):
        learning(tmp_path, pool, batch=0)
    for wrong in (np.random.default_rng(0), -1, None):
        with pytest.raises(SettingsError, match="random_state must be a whole number of at least 0"):
            learning(tmp_path / "c", pool, random_state=wrong)
    with pytest.raises(SettingsError, match="initial frames"):
        learning(tmp_path, pool, initial=[])


@pytest.mark.parametrize("state", [None, -1, 0.5, "zero", np.random.default_rng(0)])
def test_a_random_state_that_a_later_run_could_not_repeat_is_refused(state, tmp_path, pool):
    with pytest.raises(SettingsError, match="random_state must be a whole number of at least 0"):
        learning(tmp_path, pool, random_state=state)


def relabelled(frames):
    """The frames with energies 1 eV higher."""
    changed = [a.copy() for a in frames]
    for atoms, known in zip(changed, frames, strict=True):
        labels = {**known.calc.results, "energy": known.calc.results["energy"] + 1.0}
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return changed


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        (lambda pool: {"initial": relabelled(pool[:4])}, "labels"),
        (lambda pool: {"initial": pool[1:5]}, "frames, labels"),
        (lambda pool: {"test": pool[10:12]}, "test frames"),
        (
            lambda pool: {"gap": small_gap(noise_levels={"energy": 0.1}, folds=2)},
            r"settings \(model \(folds, noise_levels\)\)",
        ),
        (lambda pool: {"explorer": PoolExplorer(bare(pool[:9]))}, r"settings \(explorer \(frames\)\)"),
        (lambda pool: {"acquisition": DOptimal(noise=0.5)}, r"settings \(acquisition \(noise\)\)"),
        (lambda pool: {"refit_growth": 3.0}, r"settings \(refit_growth\)"),
        (lambda pool: {"make_oracle": EMT}, r"oracle \(calculator .*made by\)"),
        (lambda pool: {"make_oracle": partial(StoredLabels, relabelled(pool))}, r"oracle \(.*\)"),
    ],
)
def test_a_folder_of_another_run_is_refused_with_what_differs(tmp_path, pool, changes, differ):
    common = {"gap": small_gap(), "explorer": PoolExplorer(bare(pool)), "stop": Stop(generations=0)}
    learning(tmp_path, pool, **common).run()
    learning(tmp_path, pool, **common | {"gap": small_gap(n_jobs=1)}).run()
    with pytest.raises(SettingsError, match=rf"holds a run with other {differ}; use what it was made with, or another"):
        learning(tmp_path, pool, **common | changes(pool)).run()


def test_a_folder_of_another_version_is_refused_and_its_labels_count_elsewhere(tmp_path, pool, monkeypatch):
    stop = Stop(generations=0)
    learning(tmp_path / "a", pool, initial=bare(pool[:4]), stop=stop).run()
    monkeypatch.setattr(fingerprints, "__version__", "0.0.1")
    with pytest.raises(SettingsError, match="a run with other version; .*copy labels"):
        learning(tmp_path / "a", pool, initial=bare(pool[:4]), stop=stop).run()
    shutil.copytree(tmp_path / "a" / "labels", tmp_path / "b" / "labels")
    monkeypatch.setattr(labelling, "_label", None)
    assert learning(tmp_path / "b", pool, initial=bare(pool[:4]), stop=stop).run()[0].labels == 4


def test_labels_of_another_oracle_are_refused(tmp_path, pool):
    store = LabelStore(tmp_path / "labels")
    label_frames(bare(pool[:2]), partial(LennardJones, sigma=2.0), store, workers=0)
    label_frames(bare(pool[:3]), partial(LennardJones, sigma=2.0), store, workers=1)
    with pytest.raises(SettingsError, match=r"labels: holds labels of another oracle \(calculator .*; give the oracle"):
        label_frames(bare(pool[:2]), partial(LennardJones, sigma=2.5), store, workers=0)
    label_frames(bare(pool[3:4]), partial(LennardJones, sigma=2.5), store, workers=0)  # a label of its own
    path = store.path(pool[0])
    table = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in table.items() if k != "oracle"}))  # as older versions wrote it
    label_frames(bare(pool[:1]), partial(LennardJones, sigma=2.5), store, workers=0)


def test_initial_frames_without_labels_are_labelled(tmp_path, pool):
    log = learning(tmp_path / "a", pool, initial=bare(pool[:4]), stop=Stop(generations=0)).run()
    assert log[0].labels == 4
    with pytest.raises(DataError, match="all initial frames: DataError: the frame is not in the pool"):
        learning(tmp_path / "b", pool, initial=bare(copper_frames(3, seed=99)), retries=0).run()


SCRIPT = """
import sys, time
from functools import partial
sys.path.insert(0, {root!r})
from gapkit.active import *
from tests.conftest import copper_frames, small_gap
from tests.active.test_loop import Moody, bare

def main():
    pool = copper_frames(16, seed=5)
    for a in pool[:6]:
        a.info["trajectory"] = str(id(a))
    run = ActiveLearning({folder!r}, small_gap(), pool[:6], PoolExplorer(bare(pool)), partial(Moody, {folder!r}),
                         batch=3, stop=Stop(generations=2), workers={workers}, random_state=3)
    run.run()

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_killed_at_random_moments_it_resumes_and_labels_nothing_twice(tmp_path):
    """SIGKILL about the time of several labels; choices and model are those of a run that was left alone."""
    root = str(Path(__file__).resolve().parents[2])
    folders = [tmp_path / "killed", tmp_path / "alone"]
    scripts = []
    for folder in folders:
        folder.mkdir()
        scripts.append(tmp_path / f"{folder.name}.py")
        scripts[-1].write_text(textwrap.dedent(SCRIPT.format(root=root, folder=str(folder), workers=0)))
    subprocess.run([sys.executable, scripts[1]], check=True)
    rng, kills = np.random.default_rng(0), 0
    for wanted in (1, 4, 7):  # labels at which to kill; the last never comes
        process = subprocess.Popen([sys.executable, scripts[0]])
        while process.poll() is None and len(list((folders[0] / "labels").glob("[!.]*.json"))) < wanted:
            time.sleep(0.005)
        if process.poll() is None:
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert process.returncode == 0
    assert kills >= 1
    made = calls(folders[0])
    labels = len(list((folders[0] / "labels").glob("[!.]*.json")))  # without what a kill left half-written
    assert labels == 6 and len(set(made)) == 6
    assert len(made) <= 6 + kills  # only a label that a kill interrupted is begun again
    for one, two in zip(*(read_log(f) for f in folders), strict=True):
        numbers = [{k: v for k, v in vars(r).items() if v is not None and k != "seconds"} for r in (one, two)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-6)
    for number in (1, 2):
        one, two = (json.loads((f / f"choice-{number:04d}.json").read_text())["frames"] for f in folders)
        assert one == two


# ---- the command


CONFIG = """
folder = "run"
initial = "start.xyz"
test = "test.xyz"
batch = 2
workers = 0
[model]
folds = 3
random_state = 0
[[model.terms]]
name = "soap"
r_cut = 4.0
n_max = 3
l_max = 2
n_sparse = 20
[oracle]
name = "emt"
[explorer]
kind = "random_displacements"
std = 0.2
n = 3
[stop]
generations = 2
"""


def test_the_command_runs_and_goes_on(tmp_path, pool, capsys):
    import ase.io

    from gapkit.cli import main

    ase.io.write(tmp_path / "start.xyz", [label(a) for a in bare(pool[:4])])
    ase.io.write(tmp_path / "test.xyz", pool[-4:])
    (tmp_path / "c.toml").write_text(CONFIG)
    assert main(["active", str(tmp_path / "c.toml"), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "candidates" in out and "learning.png" in out
    assert [r.labels for r in read_log(tmp_path / "run")] == [4, 6, 8]
    (tmp_path / "c.toml").write_text(CONFIG.replace("generations = 2", "generations = 3"))
    assert main(["active", str(tmp_path / "c.toml"), "--quiet"]) == 0
    assert read_log(tmp_path / "run")[-1].labels == 10


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('name = "emt"', 'name = "vasp"', "no oracle is called 'vasp'"),
        ('kind = "random_displacements"', 'kind = "guess"', "no kind is called 'guess'"),
        ("batch = 2", "batches = 2", "unknown keys batches"),
        ("batch = 2", "seed = 2", "the key seed is now called random_state"),
        ("batch = 2", "random_state = -1", "random_state must be"),
        ("folder = ", "folder = 3 # ", "folder"),
        ("[stop]", "[acquisition]\nkind = 'best'\n[stop]", "no acquisition is called 'best'"),
        ("generations = 2", "epochs = 2", "epochs"),
        ('initial = "start.xyz"', "", "missing initial"),
        ("batch = 2", "batch = 0", "batch must be"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, pool, capsys, old, new, match):
    import ase.io

    from gapkit.cli import main

    ase.io.write(tmp_path / "start.xyz", pool[:4])
    ase.io.write(tmp_path / "test.xyz", pool[-2:])
    assert old in CONFIG
    (tmp_path / "c.toml").write_text(CONFIG.replace(old, new))
    assert main(["active", str(tmp_path / "c.toml"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert match in error and error.count("\n") == 1


def test_a_log_line_without_numbers_has_dashes():
    row = Generation(0, 4, 0, 0, None, None, None, None, True, 1.0)
    assert log_table([row]).splitlines()[-1].count(" -") == 4


def test_a_label_is_the_energy_that_forces_are_derivatives_of(tmp_path, pool):
    class Smeared(EMT):
        implemented_properties = [*EMT.implemented_properties, "free_energy"]  # noqa: RUF012

        def calculate(self, *arguments, **keywords):
            super().calculate(*arguments, **keywords)
            self.results["free_energy"] = self.results["energy"] - 0.25

    (labelled,) = label_frames(bare(pool[:1]), Smeared, LabelStore(tmp_path / "labels"), 0)
    assert labelled.get_potential_energy() == pytest.approx(pool[0].get_potential_energy() - 0.25, rel=1e-12)
