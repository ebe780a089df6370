import io
import os
import re
import signal
import sys
import threading

import numpy as np
import pytest

from gapkit.checkpoints import Checkpoint, stoppable
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar


def test_a_state_comes_back_to_the_last_bit(tmp_path):
    saved = Checkpoint(tmp_path / "run.npz", {"seed": 3, "sizes": (1.0, 2.5)})
    assert saved.load() is None
    state = {"x": np.random.default_rng(0).normal(size=(4, 3)), "step": np.array(7), "name": np.array("walk")}
    saved.save(state)
    back = saved.load()
    assert set(back) == set(state)
    for key, value in state.items():
        assert back[key].dtype == value.dtype
        assert np.array_equal(back[key], value)


def test_the_state_of_another_run_is_refused_by_name(tmp_path):
    Checkpoint(tmp_path / "run.npz", {"seed": 3, "steps": 10, "old": 1}).save({"x": np.zeros(2)})
    with pytest.raises(SettingsError, match="differs in new, old, seed;"):
        Checkpoint(tmp_path / "run.npz", {"seed": 4, "steps": 10, "new": 1}).load()


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text\n"])
def test_a_damaged_file_is_named(tmp_path, spoil):
    path = tmp_path / "run.npz"
    Checkpoint(path, {}).save({"x": np.arange(1000.0)})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"run.npz: not a complete checkpoint .*; remove it"):
        Checkpoint(path, {}).load()


def test_a_file_of_another_kind_or_format_is_named(tmp_path):
    np.savez(tmp_path / "run.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="not a complete checkpoint"):
        Checkpoint(tmp_path / "run.npz", {}).load()
    np.savez(tmp_path / "run.npz", header=np.array('{"format": 99, "run": {}}'))
    with pytest.raises(DataError, match="format 99, this version reads 1"):
        Checkpoint(tmp_path / "run.npz", {}).load()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_step(number):
    before = signal.getsignal(number)
    done = []
    with stoppable() as stop:
        for step in range(5):
            if stop.requested:
                break
            if step == 2:
                os.kill(os.getpid(), number)
            done.append(step)
    assert done == [0, 1, 2]
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait():
    with stoppable() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_one_interrupt_ends_a_block_and_those_inside():
    before = signal.getsignal(signal.SIGINT)
    with stoppable() as whole:
        with stoppable() as part:
            signal.raise_signal(signal.SIGINT)
            assert part.requested
        with stoppable() as rest:
            assert rest.requested
        assert whole.requested and signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with stoppable() as later:
        assert not later.requested


def test_a_thread_leaves_signals_alone():
    seen = []

    def work():
        with stoppable() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "show", "bar", "line"),
    [
        (Terminal, True, True, False),
        (Terminal, False, False, False),
        (io.StringIO, True, False, True),
        (io.StringIO, False, False, False),
    ],
)
def test_bars_are_shown_on_terminals_and_lines_in_log_files(monkeypatch, stream, show, bar, line):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", stream())
    assert list(progress_bar([1, 2, 3], "count", show=show)) == [1, 2, 3]
    written = sys.stderr.getvalue()
    assert ("count: " in written) == (bar or line)
    assert ("\r" in written) == bar
    assert (re.fullmatch(r"count: 3 steps, \d+\.\d s\n", written) is not None) == line


def test_a_stage_without_steps_of_its_own_writes_one_line(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(desc="frames", unit="frame", total=5, show=True) as bar:
        bar.set_postfix_str("halfway")
        bar.update()
        bar.update(4)
        assert bar.n == bar.total == 5
        assert sys.stderr.getvalue() == ""
    bar.close()
    assert re.fullmatch(r"frames: 5 frames, \d+\.\d s\n", sys.stderr.getvalue())
