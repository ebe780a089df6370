"""Long runs that can be stopped and continued: a file of their state, and Ctrl-C held until a step is complete."""

from __future__ import annotations

import json
import os
import signal
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapkit.exceptions import DataError, SettingsError
from gapkit.safe_write import replacing

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """File of the state of a run, replaced as a whole at each save.

    Attributes
    ----------
    path
        The file.
    run : mapping
        Description of the run, JSON-ready: everything that its result depends on, such as settings, seed, starting
        structure. A state that another run saved is refused.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> saved = Checkpoint(Path(folder.name) / "walk.npz", {"seed": 1})
    >>> saved.load() is None
    True
    >>> saved.save({"step": np.array(7)})
    >>> int(saved.load()["step"])
    7
    >>> folder.cleanup()
    """

    path: str | os.PathLike
    run: Mapping[str, Any]

    def save(self, state: Mapping[str, np.ndarray]) -> None:
        """Write the arrays of ``state``; the old file stays until the new one is complete.

        Raises
        ------
        DataError
            Where the file cannot be written.
        """
        header = json.dumps({"format": _FORMAT, "run": _plain(self.run)})
        with replacing(self.path, DataError) as temporary, open(temporary, "wb") as file:
            arrays: dict[str, Any] = {f"state_{k}": np.asarray(v) for k, v in state.items()}
            np.savez(file, header=np.array(header), **arrays)

    def load(self) -> dict[str, np.ndarray] | None:
        """The arrays of the last save; None where there is no file.

        Raises
        ------
        SettingsError
            For the file of another run, with the names of what differs.
        DataError
            For a file that is no complete checkpoint.
        """
        if not os.path.exists(self.path):
            return None
        try:
            with open(self.path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                state = {k.removeprefix("state_"): file[k] for k in file.files if k != "header"}
            form, run = header["format"], dict(header["run"])
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: not a complete checkpoint ({error}); remove it to start anew") from None
        if form != _FORMAT:
            raise DataError(f"{self.path}: checkpoint of format {form}, this version reads {_FORMAT}; start anew")
        differ = differences(run, self.run)
        if differ:
            raise SettingsError(
                f"{self.path}: checkpoint of another run, which differs in {', '.join(differ)}; remove the file, or "
                "give what it was made with"
            )
        return state


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the entries in which the descriptions of two runs differ, with the differing keys of tables.

    Examples
    --------
    >>> differences({"seed": 1, "settings": {"r": 1, "folds": 5}}, {"seed": 1, "settings": {"r": 2, "folds": 5}})
    ['settings (r)']
    """
    old, new = _plain(before), _plain(now)
    names = []
    for key in sorted(k for k in {*old, *new} if old.get(k) != new.get(k)):
        one, other = old.get(key), new.get(key)
        inner = differences(one, other) if isinstance(one, dict) and isinstance(other, dict) else []
        names.append(f"{key} ({', '.join(inner)})" if inner else key)
    return names


def _plain(run: Mapping[str, Any]) -> dict[str, Any]:
    """``run`` as JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(run))


@dataclass
class Stop:
    """Record of whether the user, or the queue, asked the run to stop."""

    requested: bool = False


_current: Stop | None = None  # that of the outermost block of the main thread


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Context in which Ctrl-C (SIGINT) and SIGTERM set ``requested`` and let the running step be completed.

    A second Ctrl-C interrupts at once. A block inside another shares its state, so that one Ctrl-C ends both. In
    threads other than the main one signals are left as they are.

    Examples
    --------
    >>> with stoppable() as stop:
    ...     steps = [k for k in range(3) if not stop.requested]
    >>> steps
    [0, 1, 2]
    """
    global _current
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    if _current is not None:
        yield _current
        return
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: Any) -> None:
        if stop.requested:
            for known, old in before.items():
                signal.signal(known, old)
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.raise_signal(number)
        stop.requested = True

    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler is not None:  # None: set by other than Python, and could not be put back
            before[number] = handler
            signal.signal(number, ask)
    _current = stop
    try:
        yield stop
    finally:
        _current = None
        for known, old in before.items():
            signal.signal(known, old)
