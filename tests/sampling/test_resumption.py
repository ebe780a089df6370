"""Runs of replicas that were killed or stopped go on as if nothing had happened, to the last bit."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms

from gapkit.checkpoints import Checkpoint
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling import recording
from gapkit.sampling.recording import RecordWriter, read_records
from gapkit.sampling.replicas import ReplicaSettings, run_replicas

SETTINGS = ReplicaSettings(
    steps=40, n_replicas=3, timestep=0.5, record_every=3, checkpoint_every=10, record_velocities=True
)


class Crash(Exception):
    """Stands for whatever ends a process."""


def wells(x):
    return (x**4).sum(axis=(1, 2)), -4 * x**3


def pair(**changes) -> Atoms:
    return Atoms("CH", **{"positions": [[0, 0, 0.1], [1, 0, 0]], **changes})


def go(folder, settings=SETTINGS, *, seed=5, observers=(), atoms=None):
    return run_replicas(
        pair() if atoms is None else atoms, wells, settings, random_state=seed, observers=observers,
        checkpoint=folder / "run.npz", trajectory=folder / "run.records",
    )  # fmt: skip


def crash_at(step):
    def observer(state):
        if state.step == step:
            raise Crash

    return [(1, observer)]


def changed(**changes):
    return ReplicaSettings.from_dict({**SETTINGS.as_dict(), **changes})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run without a break, and the bytes of its records."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = go(folder)
    return run, (folder / "run.records").read_bytes()


def same(folder, run, undisturbed):
    whole, data = undisturbed
    assert (folder / "run.records").read_bytes() == data
    for name in ("positions", "velocities", "energies", "forces"):
        assert np.array_equal(getattr(run.state, name), getattr(whole.state, name)), name
    for name in ("temperature", "temperature_std", "potential_energy", "total_energy", "total_energy_std", "drift"):
        assert np.array_equal(getattr(run, name), getattr(whole, name)), name
    assert (run.state.step, run.records, run.seed, run.interrupted) == (40, 14, 5, False)


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 30, 39, 40])
def test_a_run_that_broke_off_goes_on_from_the_last_checkpoint(tmp_path, undisturbed, step):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(step))
    steps = []
    run = go(tmp_path, observers=[(1, lambda state: steps.append(state.step))])
    same(tmp_path, run, undisturbed)
    last = max(0, (step - 1) // 10 * 10)  # the observer comes before the checkpoint of its step
    assert steps == list(range(last + 1 if last else 0, 41))


def test_every_moment_between_operations_on_files_can_be_the_last(tmp_path, undisturbed, monkeypatch):
    """The process ends before or after each write, flush and checkpoint, one after the other."""
    operations = [(RecordWriter, "_begin"), (RecordWriter, "append"), (RecordWriter, "sync"), (Checkpoint, "save")]
    left = [0]

    def breaking(original):
        def method(*args, **options):
            for moment in ("before", "after"):
                left[0] -= 1
                if left[0] == 0:
                    raise Crash
                if moment == "before":
                    result = original(*args, **options)
            return result

        return method

    for owner, name in operations:
        monkeypatch.setattr(owner, name, breaking(getattr(owner, name)))
    moments = 0
    while True:
        folder = tmp_path / str(moments)
        folder.mkdir()
        left[0] = moments + 1
        try:
            go(folder)
        except Crash:
            moments += 1
        else:
            break
        left[0] = -1
        same(folder, go(folder), undisturbed)
    assert moments == 2 * (1 + 14 + 4 + 5)


@pytest.mark.parametrize("tail", [b"x", b"\0" * 10_000])
def test_what_follows_the_records_that_the_checkpoint_counts_is_cut_off(tmp_path, undisturbed, tail):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(25))
    with open(tmp_path / "run.records", "ab") as file:
        file.write(tail)
    same(tmp_path, go(tmp_path), undisturbed)


def test_a_record_that_was_cut_in_its_middle_is_written_again(tmp_path, undisturbed):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(28))
    path = tmp_path / "run.records"
    size = read_records(path).table.dtype.itemsize
    assert len(read_records(path)) == 10  # steps 0, 3, ... 27, of which the checkpoint of step 20 counts seven
    os.truncate(path, path.stat().st_size - 2 * size - size // 2)
    assert len(read_records(path)) == 7
    same(tmp_path, go(tmp_path), undisturbed)


@pytest.mark.parametrize("left", [0, 1, 64, 200])
def test_a_first_line_that_was_cut_is_written_again(tmp_path, undisturbed, left):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(4))
    os.truncate(tmp_path / "run.records", left)
    same(tmp_path, go(tmp_path), undisturbed)


def test_records_that_are_lost_are_reported(tmp_path):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(25))
    path = tmp_path / "run.records"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 3 * read_records(path).table.dtype.itemsize)
    with pytest.raises(DataError, match=r"run.records: holds 6 complete records, the checkpoint counts 7: .* lost"):
        go(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="holds 0 complete records, the checkpoint counts 7"):
        go(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="is not there, though the checkpoint counts 7 records; remove the checkpoint"):
        go(tmp_path)
    assert not path.exists()


def test_records_without_a_checkpoint_are_never_overwritten(tmp_path):
    go(tmp_path)
    (tmp_path / "run.npz").unlink()
    path = tmp_path / "run.records"
    whole = path.read_bytes()
    for checkpoint in (None, tmp_path / "run.npz"):
        with pytest.raises(DataError, match=r"run.records: is there already, and no checkpoint counts its records"):
            run_replicas(pair(), wells, SETTINGS, random_state=5, trajectory=path, checkpoint=checkpoint)
        assert path.read_bytes() == whole
        assert not (tmp_path / "run.npz").exists()


@pytest.mark.parametrize("step", [4, 25])
def test_a_file_of_something_else_is_never_overwritten(tmp_path, step):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(step))
    path = tmp_path / "run.records"
    for other in (b"my diary\n", b"x" * 100_000, path.read_bytes().replace(b'"seed": 5', b'"seed": 6')):
        path.write_bytes(other)
        with pytest.raises(DataError, match="holds something other than the records of this run"):
            go(tmp_path)
        assert path.read_bytes() == other


def test_a_run_whose_disk_is_full_says_so_and_goes_on_later(tmp_path, undisturbed):
    """A limit on the size of files stands for the full disk: a record is written in part."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "run.records"

    seen = []

    def fill(state):
        seen.append(state.step)
        if state.step == 25:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))

    try:
        with pytest.raises(
            DataError, match=r"run.records: cannot be written \(File too large\); free space and resume"
        ):
            go(tmp_path, observers=[(1, fill)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(read_records(path)) == 9
    assert seen[-1] == 26  # the record of step 27 is the first that does not fit
    same(tmp_path, go(tmp_path), undisturbed)


def test_records_are_on_the_disk_before_the_checkpoint_that_counts_them(tmp_path, monkeypatch):
    path, order = tmp_path / "run.records", []
    fsync, save = os.fsync, Checkpoint.save

    def watched_fsync(handle):
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            order.append(("sync", len(read_records(path))))
        fsync(handle)

    def watched_save(self, state):
        order.append(("save", int(state["averages_count"])))
        save(self, state)

    monkeypatch.setattr(recording.os, "fsync", watched_fsync)
    monkeypatch.setattr(Checkpoint, "save", watched_save)
    go(tmp_path)
    expected = [("save", 0)]
    for count in (4, 7, 11, 14):
        expected += [("sync", count), ("save", count)]
    assert order == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on(tmp_path, undisturbed, number):
    def ask(state):
        if state.step == 17:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    run = go(tmp_path, observers=[(1, ask)])
    assert signal.getsignal(number) is before
    assert run.interrupted and run.state.step == 17 and run.records == 6
    assert ", interrupted" in str(run)
    steps = []
    same(tmp_path, go(tmp_path, observers=[(1, lambda state: steps.append(state.step))]), undisturbed)
    assert steps == list(range(18, 41))  # nothing is repeated


def test_a_signal_in_the_last_step_interrupts_nothing(tmp_path, undisturbed):
    run = go(tmp_path, observers=[(40, lambda state: state.step and signal.raise_signal(signal.SIGTERM))])
    same(tmp_path, run, undisturbed)


def test_a_signal_during_the_first_forces_leaves_step_zero_recorded_once(tmp_path, undisturbed):
    run = go(tmp_path, observers=[(100, lambda state: signal.raise_signal(signal.SIGTERM))])
    assert run.interrupted and run.state.step == 0 and run.records == 1
    same(tmp_path, go(tmp_path), undisturbed)


def test_a_run_without_a_checkpoint_stops_too():
    run = run_replicas(
        pair(), wells, SETTINGS, random_state=5, observers=[(9, lambda state: signal.raise_signal(signal.SIGINT))]
    )
    assert run.interrupted and run.state.step == 0 and run.trajectory is None


def test_a_run_that_is_complete_returns_at_once(tmp_path, undisturbed):
    go(tmp_path)
    calls = []
    run = go(tmp_path, observers=[(1, calls.append)])
    same(tmp_path, run, undisturbed)
    assert not calls


def test_a_run_can_be_made_longer(tmp_path, undisturbed):
    go(tmp_path, changed(steps=14, checkpoint_every=4))
    same(tmp_path, go(tmp_path, changed(checkpoint_every=7)), undisturbed)
    with pytest.raises(SettingsError, match="checkpoint of step 40, beyond the 30 steps that are asked for"):
        go(tmp_path, changed(steps=30))


def test_a_seed_that_was_not_given_is_that_of_the_checkpoint(tmp_path, undisturbed):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(15))
    same(tmp_path, go(tmp_path, seed=None), undisturbed)
    with pytest.raises(SettingsError, match="checkpoint of the seed 5; give that"):
        go(tmp_path, seed=6)


@pytest.mark.parametrize(
    ("changes", "atoms", "names"),
    [
        ({"temperature": 310.0}, pair(), "temperature"),
        ({"ensemble": "nve"}, pair(), "ensemble"),
        ({"n_replicas": 4}, pair(), "number of replicas, starting positions"),
        ({"record_every": 2, "timestep": 0.4}, pair(), "record_every, timestep"),
        ({}, pair(positions=[[0, 0, 0.1], [1, 0, 1e-12]]), "starting positions"),
        ({}, pair(masses=[13, 1]), "masses"),
        ({}, pair(cell=[5, 5, 5]), "cell"),
        ({}, pair(pbc=True), "periodic directions"),
        ({}, Atoms("CF", positions=pair().positions), "atomic numbers, masses"),
        ({"draw_velocities": False}, pair(), "draw_velocities, starting velocities"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path, changes, atoms, names):
    with pytest.raises(Crash):
        go(tmp_path, observers=crash_at(15))
    with pytest.raises(SettingsError, match=f"checkpoint of another run, which differs in {names};"):
        go(tmp_path, changed(**changes), atoms=atoms)
    with pytest.raises(SettingsError, match="differs in whether there is a trajectory"):
        run_replicas(pair(), wells, SETTINGS, random_state=5, checkpoint=tmp_path / "run.npz")


NURSERY = """
import os, pathlib, random, signal, sys, threading, time
import ase
from tqdm import tqdm
from gapkit.sampling.replicas import ReplicaSettings, run_replicas

def wells(x):
    return (x**4).sum(axis=(1, 2)), -4 * x**3

def go(folder):
    settings = ReplicaSettings(n_replicas=7, steps=600, timestep=0.5, record_every=2, checkpoint_every=6)
    run_replicas(
        ase.Atoms("CH", positions=[[0, 0, 0.1], [1, 0, 0]]), wells, settings, random_state=9,
        checkpoint=folder / "run.npz", trajectory=folder / "run.records",
    )

tqdm.set_lock(threading.RLock())  # forked processes share the default one, and a killed one never gives it back
here, wanted = pathlib.Path(sys.argv[1]), int(sys.argv[2])
chance = random.Random(1)
begin = time.perf_counter()
go(here)
whole = time.perf_counter() - begin
kills, runs = 0, 0
while kills < wanted:
    folder = here / str(runs)
    folder.mkdir()
    for attempt in range(1000):
        child = os.fork()
        if child == 0:
            go(folder)
            os._exit(0)
        time.sleep(chance.uniform(0, (0.4 + 0.01 * attempt) * whole))  # longer, where the machine became slow
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        kills += 1
    else:
        sys.exit("no run comes to its end")
    runs += 1
print(kills, runs)
"""


def test_a_process_that_is_killed_twenty_times_leaves_the_same_trajectory(tmp_path):
    """SIGKILL at random moments; most of the time goes into records and checkpoints here."""
    done = subprocess.run(
        [sys.executable, "-c", NURSERY, str(tmp_path), "20"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    kills, runs = (int(v) for v in done.stdout.split())
    assert kills >= 20 and runs >= 1
    data = (tmp_path / "run.records").read_bytes()
    assert len(read_records(tmp_path / "run.records")) == 301
    for k in range(runs):
        assert (tmp_path / str(k) / "run.records").read_bytes() == data
