"""Dynamics that writes as it runs: a kill leaves what was recorded, and a run goes on as if it had not ended."""

import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling import md_files
from gapkit.sampling.dynamics import run_md
from gapkit.sampling.md_files import MDFiles

RUN = {"seed": 3, "temperature": 300.0}


@pytest.fixture
def go(gap, monkeypatch):
    """Runs with forces that do not depend on what was computed before; the state is saved at each record."""
    monkeypatch.setattr(md_files, "SAVE_EVERY", 0.0)
    return partial(run_copper, gap)


def run_copper(gap, path, steps, restart=False, ensemble="nvt", stop_at=None, every=5):
    """Run copper, or break it off hard at a record, as a kill would."""
    files = MDFiles(path, RUN, restart)

    def break_off(step):
        if step == stop_at:
            raise ZeroDivisionError

    try:
        copper = bulk("Cu", cubic=True)
        return run_md(
            copper, gap.calculator(), 300.0, steps, ensemble=ensemble, random_state=3, record_every=every,
            step_callback=break_off, files=files,
        )  # fmt: skip
    except ZeroDivisionError:
        return None
    finally:
        files.close()


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("stop_at", [0, 15, 20])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, go, ensemble, stop_at):
    go(tmp_path / "whole.xyz", 33, ensemble=ensemble)
    go(tmp_path / "run.xyz", 33, ensemble=ensemble, stop_at=stop_at)
    assert len(ase.io.read(tmp_path / "run.xyz", ":")) == stop_at // 5 + 1
    go(tmp_path / "run.xyz", 33, restart=True, ensemble=ensemble)
    assert (tmp_path / "run.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()
    assert len(ase.io.read(tmp_path / "run.xyz", ":")) == 8  # the last step too


def test_a_run_is_made_longer(tmp_path, go):
    """The frame of a last step that is no record of the longer run goes."""
    go(tmp_path / "whole.xyz", 40)
    assert go(tmp_path / "run.xyz", 18).time.tolist() == [0, 5, 10, 15, 18]
    longer = go(tmp_path / "run.xyz", 40, restart=True)
    assert longer.time.tolist() == [18, 20, 25, 30, 35, 40]
    assert (tmp_path / "run.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()
    before = (tmp_path / "run.xyz").read_bytes()
    go(tmp_path / "run.xyz", 40, restart=True)  # nothing is left to do
    assert (tmp_path / "run.xyz").read_bytes() == before


@pytest.mark.parametrize(("saves", "steps"), [("none", 33), ("one", 33), ("one", 12)])
def test_frames_behind_the_saved_state_are_made_again(tmp_path, go, monkeypatch, saves, steps):
    monkeypatch.setattr(md_files, "SAVE_EVERY", 1e9)
    if saves == "none":
        monkeypatch.setattr(MDFiles, "save", lambda *_, **__: None)
    go(tmp_path / "run.xyz", 33, stop_at=20)
    with open(tmp_path / "run.xyz", "ab") as file:
        file.write(b"4\nhalf of a fr")
    go(tmp_path / "run.xyz", steps, restart=True)
    go(tmp_path / "whole.xyz", steps)
    assert (tmp_path / "run.xyz").read_bytes() == (tmp_path / "whole.xyz").read_bytes()


def test_no_frames_are_kept_in_memory(tmp_path):
    files = MDFiles(tmp_path / "run.xyz", RUN)
    run = run_md(bulk("Cu", cubic=True), EMT(), 300.0, 20, record_every=1, files=files, random_state=0)
    files.close()
    assert run.frames == []
    assert files.count == len(run.time) == len(ase.io.read(tmp_path / "run.xyz", ":")) == 21


def test_without_restart_a_run_begins_anew(tmp_path, go):
    go(tmp_path / "run.xyz", 20)
    go(tmp_path / "run.xyz", 10)
    assert len(ase.io.read(tmp_path / "run.xyz", ":")) == 3
    (tmp_path / "run.xyz").unlink()
    with pytest.raises(DataError, match=r"holds 0 bytes, its restart file counts \d+: frames are lost"):
        go(tmp_path / "run.xyz", 20, restart=True)


def test_what_does_not_belong_together_is_refused(tmp_path, go):
    go(tmp_path / "run.xyz", 10)
    with pytest.raises(SettingsError, match="another run, which differs in seed"):
        MDFiles(tmp_path / "run.xyz", {**RUN, "seed": 4}, restart=True)
    with pytest.raises(SettingsError, match=r"use a name that ends in \.xyz"):
        MDFiles(tmp_path / "run.cif", RUN)
    os.mkfifo(tmp_path / "pipe.xyz")
    with pytest.raises(DataError, match="is a pipe"):
        MDFiles(tmp_path / "pipe.xyz", RUN)


def test_a_full_disk_is_said_and_leaves_what_was_recorded(tmp_path, go):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    go(tmp_path / "small.xyz", 10)
    size = (tmp_path / "small.xyz").stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, 6000) + 100, limits[1]))
        with pytest.raises(DataError, match=r"run.xyz: cannot be written \(File too large\).*--restart"):
            go(tmp_path / "run.xyz", 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "run.xyz").read_bytes().startswith((tmp_path / "small.xyz").read_bytes())


COMMAND = """
import sys
from gapkit.sampling import md_files
md_files.SAVE_EVERY = 0.05
from gapkit.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_command_keeps_what_it_recorded_and_goes_on(tmp_path, gap, number):
    gap.save(tmp_path / "m.gapkit")
    ase.io.write(tmp_path / "s.xyz", bulk("Cu", cubic=True))
    out = tmp_path / "run.xyz"
    arguments = ["md", "m.gapkit", "s.xyz", "-o", "run.xyz", "--every", "2", "--temperature", "50", "--no-uncertainty"]
    command = [sys.executable, "-c", COMMAND, *arguments, "--steps"]
    process = subprocess.Popen([*command, "1000000"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begin = time.monotonic()
    while not (out.exists() and out.stat().st_size > 10_000):
        assert time.monotonic() - begin < 100
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    found = ase.io.read(out, ":")
    assert len(found) > 5
    steps = str(2 * len(found) + 20)
    done = subprocess.run([*command, steps, "--restart"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(found) + 11} frames written to run.xyz" in done.stdout
    longer = ase.io.read(out, ":")
    assert len(longer) == len(found) + 11
    shared = found[:-1]  # the last may be that of an interruption
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(shared, longer, strict=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.gapkit", "run.xyz", "run.xyz.restart", "s.xyz"]
