"""Labelled frames of several files, with messages that name the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ase import Atoms

from gapkit.estimators.gap import GAP
from gapkit.exceptions import GapkitError
from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames


def read_labelled(paths: Sequence[str], gap: GAP, check: Callable[[Atoms, str], None]) -> list[Atoms]:
    """Frames of all files; a message about a label or structure names the file and the frame in it."""
    frames = []
    for path in paths:
        of_path = read_frames(path)
        try:
            for frame in labelled_frames(of_path, gap.energy_key, gap.forces_key, gap.virial_key, require_labels=False):
                check(frame.atoms, f"frame {frame.index}")
        except GapkitError as error:
            raise type(error)(f"{path}: {error}") from None
        frames += of_path
    return frames
