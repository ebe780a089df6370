"""A fit that is interrupted goes on behind its finished stages, and only from a checkpoint of the same fit."""

import json
import zipfile

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit import fingerprints
from gapkit.checkpoints import Checkpoint
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.fitting import exact_mean, shape_choice, stages
from gapkit.numerics.memory import MemoryLimit
from tests.conftest import copper_frames, small_gap

#: stages whose choice is kept, in the order of a fit
STAGES = ("settings", "screening", "shape", "levels")
LONG = {"screening": "screened", "shape": "choose_shape", "levels": "choose_levels"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:labels that contradict:gapkit.exceptions.GapkitWarning"),
    pytest.mark.filterwarnings("ignore:isolated atoms:gapkit.exceptions.GapkitWarning"),
]


@pytest.fixture(scope="module")
def frames():
    """Frames of which one has a wrong energy, so that every stage has something to choose."""
    made = copper_frames(24, seed=3)
    wrong = made[5].calc.results
    made[5].calc = SinglePointCalculator(made[5], **{**wrong, "energy": wrong["energy"] + 20.0})
    return made


@pytest.fixture
def few_labels(monkeypatch):
    """The shape of SOAP is chosen for these few frames too."""
    monkeypatch.setattr(shape_choice, "FEWEST_LABELS", 100)
    monkeypatch.setattr(shape_choice, "PILOT_SPARSE", 60)


def content(gap, path):
    """All that a model file holds, to the last bit."""
    gap.save(path, updatable=True)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def decisions(path):
    with np.load(path) as file:
        return json.loads(str(file["state_decisions"]))


def cut(path, tables):
    """The checkpoint with these decisions, as a fit leaves it that is killed behind them."""
    with np.load(path) as file:
        run = json.loads(str(file["header"]))["run"]
    Checkpoint(path, run).save({"decisions": np.array(json.dumps(tables))})


def test_a_fit_goes_on_behind_every_stage_to_the_same_model(frames, tmp_path, few_labels, monkeypatch):
    gap = gapkit.GAP(folds=3)
    whole = content(gap.fit(frames), tmp_path / "whole.gapkit")
    report = str(gap.label_report_)
    path = tmp_path / "fit.npz"
    with pytest.warns(GapkitWarning, match="frame 5, energy"):
        assert content(gap.fit(frames, checkpoint=path), tmp_path / "kept.gapkit") == whole
    found = decisions(path)
    assert tuple(found) == STAGES
    assert found["screening"]["left_out"][0]["frame"] == 5
    assert len(found["shape"]["tried"]) > 1
    for n in (1, 2, 3, 4):
        cut(path, {name: found[name] for name in STAGES[:n]})
        with monkeypatch.context() as patch:
            for name in set(STAGES[:n]) & set(LONG):
                patch.setattr(stages, LONG[name], None)  # not called again
            with pytest.warns(GapkitWarning, match="frame 5, energy"):
                again = gap.fit(frames, checkpoint=path)
        assert content(again, tmp_path / "again.gapkit") == whole
        assert decisions(path) == found
        assert str(again.label_report_) == report


def test_a_fit_that_ends_early_leaves_what_it_chose(frames, tmp_path, monkeypatch):
    path, gap = tmp_path / "fit.npz", small_gap()
    with monkeypatch.context() as patch:
        patch.setattr(stages, "choose_levels", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            gap.fit(frames, checkpoint=path)
    assert set(decisions(path)) == {"settings", "screening"}
    gap.fit(frames, checkpoint=path)
    assert set(decisions(path)) == {"settings", "screening", "levels"}
    assert [p.name for p in tmp_path.iterdir()] == ["fit.npz"]


def test_a_fit_without_a_seed_keeps_the_one_that_it_drew(train, tmp_path):
    path, gap = tmp_path / "fit.npz", small_gap(random_state=None, sparse="random")
    first = content(gap.fit(train, checkpoint=path), tmp_path / "a.gapkit")
    assert content(gap.fit(train, checkpoint=path), tmp_path / "b.gapkit") == first
    path.unlink()
    assert content(gap.fit(train, checkpoint=path), tmp_path / "c.gapkit") != first
    assert gap.random_state is None


def test_a_generator_is_known_by_its_state(train, tmp_path):
    path, gap = tmp_path / "fit.npz", small_gap(sparse="random")
    made = [
        content(
            gap.set_params(random_state=np.random.default_rng(4)).fit(train, checkpoint=path), tmp_path / "m.gapkit"
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    with pytest.raises(SettingsError, match=r"differs in settings \(random_state"):
        gap.set_params(random_state=np.random.default_rng(5)).fit(train, checkpoint=path)


def test_a_fit_goes_on_where_another_machine_would_choose_another_mean(tmp_path, monkeypatch):
    """Whether the mean is exact depends on the memory there is."""
    clusters = [a for a in copper_frames(40, seed=6) if not a.pbc.any()]
    gap, path = gapkit.GAP(folds=3, n_jobs=1), tmp_path / "fit.npz"
    whole = content(gap.fit(clusters, checkpoint=path), tmp_path / "m.gapkit")
    assert gap.potential_.mean_points
    monkeypatch.setattr(exact_mean, "memory_limit", lambda: MemoryLimit(1e4, "nobody has"))
    assert content(gap.fit(clusters, checkpoint=path), tmp_path / "m.gapkit") == whole
    assert not gap.fit(clusters).potential_.mean_points


@pytest.mark.parametrize(
    ("gap", "n", "differ"),
    [
        ({"folds": 4}, 12, r"settings \(folds\)"),
        ({"noise_levels": {"energy": 0.1}, "e0": "least_squares"}, 12, r"settings \(e0, noise_levels \(by_kind"),
        ({"terms": small_gap().terms[:1]}, 12, r"settings \(terms\)"),
        ({"baseline": "zbl"}, 12, r"settings \(baseline\)"),
        ({}, 11, "frames, labels"),
    ],
)
def test_the_checkpoint_of_another_fit_is_refused_with_what_differs(train, tmp_path, gap, n, differ):
    path = tmp_path / "fit.npz"
    small_gap().fit(train, checkpoint=path)
    with pytest.raises(SettingsError, match=rf"fit.npz: checkpoint of another run, which differs in {differ}"):
        small_gap(**gap).fit(train[:n], checkpoint=path)
    small_gap(n_jobs=1).fit(train, checkpoint=path)


def test_the_checkpoint_of_another_version_or_kind_is_refused(train, tmp_path, monkeypatch):
    path = tmp_path / "fit.npz"
    small_gap().fit(train, checkpoint=path)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "__version__", "0.0.1")
        with pytest.raises(SettingsError, match="differs in version; remove the file"):
            small_gap().fit(train, checkpoint=path)
    Checkpoint(path, {"kind": "replicas", "seed": 3}).save({"x": np.zeros(3)})
    with pytest.raises(SettingsError, match="differs in frames, kind, labels, seed, settings, version;"):
        small_gap().fit(train, checkpoint=path)


@pytest.mark.parametrize(
    "spoil",
    [
        {"settings": {"seed": "x"}},
        {"levels": {"noise": {}}},
        {"levels": {"noise": 3, "signal": [], "objective": 0.0, "account": {}}},
        {"levels": {"noise": {"forces": 1.0}, "signal": [1.0, 1.0], "objective": 0.0, "account": {}}},
        {"levels": None},
        {"screening": {"left_out": [{"frame": 0}], "consistencies": [], "scores": [], "alike": []}},
        {"screening": {"left_out": [], "consistencies": [{}], "scores": [], "alike": []}},
        {"screening": {"left_out": []}},
        {"screening": 3},
    ],
)
def test_a_checkpoint_with_a_wrong_table_is_refused(train, tmp_path, spoil):
    path = tmp_path / "fit.npz"
    small_gap().fit(train, checkpoint=path)
    cut(path, decisions(path) | spoil)
    with pytest.raises(DataError, match=r"fit.npz: not a checkpoint of a fit \(.*\); remove it to start anew"):
        small_gap().fit(train, checkpoint=path)


def test_a_damaged_checkpoint_is_refused_and_never_changes_the_fit(train, tmp_path):
    path, gap = tmp_path / "fit.npz", small_gap()
    whole = content(gap.fit(train, checkpoint=path), tmp_path / "m.gapkit")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    for k in range(40):
        at = int(rng.integers(len(good)))
        bad = good[:at] if k % 4 == 0 else good[:at] + bytes([good[at] ^ int(rng.integers(1, 256))]) + good[at + 1 :]
        path.write_bytes(bad)
        try:
            gap.fit(train, checkpoint=path)
        except (DataError, SettingsError) as error:
            refused.append(str(error))
        else:
            assert content(gap, tmp_path / "m.gapkit") == whole
    assert len(refused) >= 30
    assert all(len(text.splitlines()) == 1 for text in refused)


def test_a_place_that_cannot_be_written_to_is_said_before_the_work(train, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "screened", None)
    with pytest.raises(DataError, match="does not exist"):
        small_gap().fit(train, checkpoint=tmp_path / "none" / "fit.npz")
    with pytest.raises(DataError, match="is a folder"):
        small_gap().fit(train, checkpoint=tmp_path)
