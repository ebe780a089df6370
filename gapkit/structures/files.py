"""Frames from files and into files."""

from __future__ import annotations

import itertools
import lzma
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError, open_with_compression

from gapkit.exceptions import DataError
from gapkit.safe_write import replacing
from gapkit.structures.xyz_dialects import is_xyz, mended


def read_frames(*paths: str | os.PathLike[str]) -> list[Atoms]:
    """All frames of all files, in order.

    Parameters
    ----------
    paths
        Files in extended XYZ or any other format that ASE recognises.

    Raises
    ------
    DataError
        Names the file and, where known, the frame (counted from 0) and its first line (counted from 1), when
        a file is missing, empty or unreadable.
    """
    if not paths:
        raise DataError("no file was given; name at least one")
    return [atoms for path in paths for atoms in _read_file(Path(path))]


def write_frames(path: str | os.PathLike[str], frames: Atoms | Sequence[Atoms]) -> None:
    """Write frames to a file whose format follows from its name (``.xyz``: extended XYZ).

    A crash leaves the old file as it was (:func:`gapkit.safe_write.replacing`).

    Parameters
    ----------
    path
        The file; an existing one is replaced.
    frames
        At least one structure.
    """
    frames = [frames] if isinstance(frames, Atoms) else list(frames)
    if not frames:
        raise DataError(f"{path}: there are no frames to write")
    with replacing(path, DataError) as temporary:
        try:
            ase.io.write(temporary, frames)
        except UnknownFileTypeError as error:
            raise DataError(f"{path}: unknown format; use a name that ends in .xyz") from error


def _read_file(path: Path) -> list[Atoms]:
    """All frames of one file."""
    if not os.path.exists(path):  # unlike Path.exists also for a name that is too long
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: not a file; name the file that holds the frames")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    if is_xyz(path):
        _check_counts(path)
    frames: list[Atoms] = []
    try:
        source, kind, isotopes = mended(path)
        for atoms in ase.io.iread(source, index=":", format=kind, do_not_split_by_at_sign=True):
            if len(frames) in isotopes:
                atoms.set_masses([isotopes[len(frames)].get(k, m) for k, m in enumerate(atoms.get_masses())])
            frames.append(atoms)
    except UnknownFileTypeError as error:
        raise DataError(f"{path}: unknown format; convert it to extended XYZ (.xyz)") from error
    except Exception as error:  # readers of two hundred formats raise whatever they like
        reason = " ".join(str(error).split()) or type(error).__name__
        if "StopIteration" in reason:
            reason = "the file ends inside a frame"
        raise DataError(f"{path}: {_place(path, len(frames))}cannot be read: {reason}") from error
    if not frames:
        raise DataError(f"{path}: the file holds no frames")
    return frames


def _check_counts(path: Path) -> None:
    """:class:`DataError` where a frame of an XYZ file has fewer bytes than its number of atoms says.

    ASE would read on behind the end of the file for as many lines: hours for 10^12 atoms.
    """
    line, frame = 1, 0
    try:
        with open_with_compression(str(path), "rb") as file:
            while (header := file.readline(1000).strip()[:400]).isdigit():
                n = int(header)
                lines = itertools.islice(file, min(n, sys.maxsize - 1) + 1)
                if n > sum(len(text) for text in lines):  # what is there is read, not as many lines as it says
                    raise DataError(
                        f"{path}: frame {frame}, line {line}: cannot be read: the file ends inside a frame of "
                        f"{header[:20].decode()} atoms; restore the file, or repair the number"
                    )
                line, frame = line + n + 2, frame + 1
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return  # damaged: what ASE says of it is reported


def _place(path: Path, n_read: int) -> str:
    """``frame 3, line 41: `` for a plain XYZ file, shorter where less is known.

    The frame after the ``n_read`` ones that could be read; but where a line that should hold a number of
    atoms does not, which ASE finds before it reads any frame, that line.
    """
    if path.suffix != ".xyz":
        return f"frame {n_read}: " if n_read else ""
    starts = [1]
    with open(path, errors="replace") as file:
        while header := file.readline().strip():
            if not header.isdecimal():
                return f"frame {len(starts) - 1}, line {starts[-1]}: "
            for _ in range(int(header) + 1):
                if not file.readline():
                    break
            starts.append(starts[-1] + int(header) + 2)
    return f"frame {n_read}, line {starts[min(n_read, len(starts) - 1)]}: "
