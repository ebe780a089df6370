"""Structures that commands start from."""

from __future__ import annotations

from ase import Atoms

from gapkit.estimators.gap import GAP
from gapkit.structures.files import read_frames


def last_frame(path: str, gap: GAP) -> Atoms:
    """Last frame of a file, if the model can compute it.

    Raises
    ------
    DataError, SpeciesError
        Otherwise, naming the file and the frame.
    """
    frames = read_frames(path)
    gap.potential_.check(frames[-1], f"{path}: frame {len(frames) - 1}")
    return frames[-1]
