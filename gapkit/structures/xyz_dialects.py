"""Dialects of extended XYZ that ASE refuses or takes for something else, mended in the text before it is read.

Keys in other capitals: ASE takes ``lattice=`` for information, and the frame for a cluster. Six numbers for a virial or
stress, in the order xx yy zz yz xz xy: ASE wants nine. The symbols D and T for isotopes of hydrogen.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ase.io.formats import open_with_compression

#: keys of extended XYZ in any capitals, and as ASE knows them
_USUAL = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_KEYS = re.compile(r"(?i)(?<![\w\"'])(lattice|properties|pbc)\s*=(?=\s*\S)")
#: endings of compressed files that ASE reads
_COMPRESSED = ([".gz"], [".bz2"], [".xz"])
#: tensors that ASE wants nine numbers of
_TENSORS = re.compile(r"(?<![\w\"'])(virial|virials|stress)\s*=\s*([\"'])([^\"']*)\2")
#: masses (atomic mass constants) of isotopes with symbols of their own
ISOTOPES = {"D": 2.014101778, "T": 3.016049281}

#: masses by atom of the frames that have isotopes, by frame
Masses = dict[int, dict[int, float]]


def is_xyz(path: Path) -> bool:
    """Whether a name is that of an XYZ file, compressed or not."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return bool({".xyz", ".extxyz"} & set(suffixes[-2:-1] if suffixes[-1:] in _COMPRESSED else suffixes[-1:]))


def mended(path: Path) -> tuple[Any, str | None, Masses]:
    """Input for ASE's reader, its format where that is no path, and masses of isotopes by frame and atom."""
    if not is_xyz(path):
        return path, None, {}
    with open_with_compression(str(path), "rb") as file:
        lines = io.StringIO(file.read().decode(errors="replace"), newline=None).readlines()
    given = list(lines)
    isotopes: Masses = {}
    at = frame = 0
    while at + 1 < len(lines) and lines[at].strip().isdecimal():
        n = int(lines[at])
        lines[at + 1] = _TENSORS.sub(_nine, _KEYS.sub(lambda m: f"{_USUAL[m[1].lower()]}=", lines[at + 1]))
        column = _species_column(lines[at + 1])
        for k, line in enumerate(lines[at + 2 : at + 2 + n]):
            words = line.split(None, column + 1)
            if len(words) > column and words[column] in ISOTOPES:
                isotopes.setdefault(frame, {})[k] = ISOTOPES[words[column]]
                words[column] = "H"
                lines[at + 2 + k] = " ".join(words).rstrip() + "\n"
        at, frame = at + 2 + n, frame + 1
    if lines == given:
        return path, None, {}
    return io.StringIO("".join(lines)), "extxyz", isotopes


def _species_column(comment: str) -> int:
    """Column of the symbols: where ``Properties`` says, else the first."""
    found = re.search(r"Properties=\"?([^\s\"]+)", comment)
    column = 0
    parts = found[1].split(":") if found else []
    for name, _, count in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if name == "species":
            return column
        column += int(count) if count.isdecimal() else 1
    return 0


def _nine(match: re.Match[str]) -> str:
    """A tensor of six numbers as nine; others as they are."""
    words = match[3].split()
    if len(words) != 6:
        return match[0]
    xx, yy, zz, yz, xz, xy = words
    return f'{match[1]}="{" ".join((xx, xy, xz, xy, yy, yz, xz, yz, zz))}"'
