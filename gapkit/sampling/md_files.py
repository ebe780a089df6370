"""Files of a molecular dynamics run: a trajectory that grows with the run, and the state from which a run continues."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np

from gapkit.checkpoints import Checkpoint
from gapkit.exceptions import DataError, SettingsError
from gapkit.safe_write import check_target, shown

#: endings of trajectories
ENDINGS = (".xyz", ".extxyz")
#: least time (s) between two saves of the state; frames are written at once
SAVE_EVERY = 5.0


def check_trajectory(path: str | os.PathLike) -> Path:
    """A path that a trajectory can be written to; :class:`SettingsError` for an ending of another format."""
    if Path(path).suffix not in ENDINGS:
        raise SettingsError(f"{shown(path)}: a trajectory grows in extended XYZ; use a name that ends in .xyz")
    return check_target(path, DataError)


class MDFiles:
    """Trajectory in extended XYZ, written frame by frame, and ``NAME.restart`` beside it, the state of the run.

    Each frame reaches the operating system before :meth:`record` returns, so that a process that is killed loses none.

    Parameters
    ----------
    path
        The trajectory.
    run
        Description of the run, JSON-ready: all that its course depends on, but not its length.
    restart
        Whether the run goes on from the saved state, where there is one; else the trajectory begins anew.

    Attributes
    ----------
    count : int
        Number of frames in the trajectory.
    state : dict or None
        Saved state: ``step``, ``positions`` (A), ``momenta`` (ASE's unit), ``rng``,
        and of the trajectory ``size`` (bytes) and ``frames``. None at the beginning of a run.

    Raises
    ------
    SettingsError
        For the state of another run, and a name that ends in another format.
    DataError
        Where the trajectory is shorter than the state says, or the operating system refuses.
    """

    def __init__(self, path: str | os.PathLike, run: Mapping[str, Any], restart: bool = False) -> None:
        self.path = check_trajectory(path)
        self._checkpoint = Checkpoint(self.path.with_name(f"{self.path.name}.restart"), run)
        check_target(self._checkpoint.path, DataError)
        self.state = self._checkpoint.load() if restart else None
        self.count = 0 if self.state is None else int(self.state["frames"])
        self._saved = -np.inf
        there = self.path.stat().st_size if self.path.exists() else 0
        kept = 0 if self.state is None else int(self.state["size"])
        if there < kept:
            raise DataError(
                f"{shown(path)}: holds {there} bytes, its restart file counts {kept}: frames are lost; remove "
                f"{shown(self._checkpoint.path)} to start anew"
            )
        if self.state is None:  # a state of an earlier run does not belong to what is written now
            Path(self._checkpoint.path).unlink(missing_ok=True)
        try:
            # without a buffer, what is written is with the operating system
            self._file = open(self.path, "r+b" if there else "w+b", buffering=0)  # noqa: SIM115
            self._file.truncate(kept)
            self._file.seek(kept)
        except OSError as reason:
            raise self._refused(reason) from None

    def record(self, frame: ase.Atoms) -> None:
        """Write one frame.

        Raises
        ------
        DataError
            Where the operating system refuses.
        """
        text = io.StringIO()
        ase.io.write(text, frame, format="extxyz")
        rest = memoryview(text.getvalue().encode())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as reason:
            raise self._refused(reason) from None
        self.count += 1

    def save(self, step: int, atoms: ase.Atoms, rng: np.random.Generator, now: bool = False) -> None:
        """Save the state, unless that was done moments ago; ``now``: in any case but at step 0."""
        if step == 0 or (not now and time.monotonic() - self._saved < SAVE_EVERY):
            return
        try:
            os.fsync(self._file.fileno())  # the trajectory is never shorter than the state says
            size = self._file.tell()
        except OSError as reason:
            raise self._refused(reason) from None
        state = {"step": step, "positions": atoms.positions, "momenta": atoms.get_momenta()}
        state |= {"size": size, "frames": self.count}
        words = json.dumps(rng.bit_generator.state)
        self._checkpoint.save({**{k: np.array(v) for k, v in state.items()}, "rng": np.array(words)})
        self._saved = time.monotonic()

    def close(self) -> None:
        """Close the trajectory."""
        self._file.close()

    def __enter__(self) -> MDFiles:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _refused(self, reason: OSError) -> DataError:
        text = reason.strerror or str(reason)[:100]
        return DataError(f"{shown(self.path)}: cannot be written ({text}); free space, and go on with --restart")
