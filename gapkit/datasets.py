"""Reference sets that come with gapkit: labelled frames, by name.

Every frame is an ``ase.Atoms`` that carries its labels as ASE results: energy in eV, forces in eV/A and, where the set
has it, stress in eV/A^3 (Voigt xx yy zz yz xz xy, tension positive). ``info`` says at least

- ``config_type``: the family of the configuration;
- ``trajectory``: frames of one trajectory or one scan share it (folds should be made by it);
- ``level_of_theory``: what the labels are.

How each set was made, and the command that makes it again, is in ``data/<set>/README.md``.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import ase.io
from ase import Atoms

from gapkit.exceptions import DataError

# folder -> (its parts, in order; the parts that "everything" means)
_SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "silicon": (
        ("train", "calibration", "test", "finite_difference"),
        ("train", "calibration", "test"),
    ),
    "silicon_surface": (
        ("train", "calibration", "test", "relaxed"),
        ("train", "calibration", "test"),
    ),
    "molecules": (("ethanol", "malonaldehyde", "butane", "water", "H2", "N2", "HF"),) * 2,
    "malonaldehyde": (("explored", "paths"), ("explored",)),
    "spin": (("iron_hexaaqua", "methylene"),) * 2,
    "ionic": (("NaCl", "LiF"),) * 2,
    "surface_barriers": (("Cu", "Ni", "Pd", "Ag", "Pt", "Au", "Al"),) * 2,
}


def load_silicon(split: str | None = None) -> list[Atoms]:
    """Bulk silicon: DFT (PBE) energies, forces and stress.

    ``split``: "train", "calibration" or "test" (independent trajectories), "finite_difference" (a frame and its
    displaced and sheared neighbours, to check forces and stress against energies), or None for the three splits.

    Examples
    --------
    >>> from gapkit.datasets import load_silicon
    >>> frame = load_silicon("finite_difference")[0]
    >>> frame.get_chemical_formula(), frame.get_forces().shape, frame.get_stress().shape
    ('Si8', (8, 3), (6,))
    """
    return _load("silicon", split)


def load_silicon_surface(split: str | None = None) -> list[Atoms]:
    """Clean silicon surfaces, labelled with the code and settings of :func:`load_silicon`.

    ``split``: "train", "calibration", "test", "relaxed" (the faces of Si(100) 2x1 relaxed by the same method, named in
    ``info["reconstruction"]``), or None for the three splits.
    """
    return _load("silicon_surface", split)


def load_molecules(name: str | None = None) -> list[Atoms]:
    """Molecules by name ("ethanol", "malonaldehyde", "butane", "water", "H2", "N2", "HF"), or all of them.

    Where a frame belongs to a split, ``info["split"]`` says so; the level of theory is in each frame.

    Examples
    --------
    >>> from gapkit.datasets import load_molecules
    >>> curve = load_molecules("H2")
    >>> curve[0].info["config_type"], len(curve[0])
    ('H2_curve', 2)
    """
    return _load("molecules", name)


def load_malonaldehyde(part: str | None = None) -> list[Atoms]:
    """Malonaldehyde by GFN2-xTB: proton transfer and rotamers, for barriers and reaction networks.

    ``part``: "explored" (training frames of an active learning that started from one minimum; default), or "paths"
    (minima, saddles and images of the reference's own relaxed paths, for tests). ``info["step"]`` of these names the
    step of the network. GFN2-xTB is cheap enough to be asked live (:func:`gapkit.oracles.oracle`).

    Examples
    --------
    >>> from gapkit.datasets import load_malonaldehyde
    >>> sorted({a.info["config_type"] for a in load_malonaldehyde("paths")})
    ['minimum', 'path', 'saddle']
    """
    return _load("malonaldehyde", part)


def load_spin(name: str | None = None) -> list[Atoms]:
    """Spin states: "iron_hexaaqua" or "methylene"; ``info`` has ``spin_state`` and ``s_squared`` (hbar^2)."""
    return _load("spin", name)


def load_ionic(name: str | None = None) -> list[Atoms]:
    """Ionic crystals: "NaCl" (GFN2-xTB, charges of the method in ``arrays["charges"]``) or "LiF" (DFT, formal charges,
    no stress). Energies of the two are of different methods: do not fit them together."""
    return _load("ionic", name)


def load_surface_barriers(metal: str | None = None) -> list[Atoms]:
    """Adatom hops on metal surfaces ("Cu", "Ni", "Pd", "Ag", "Pt", "Au", "Al", or all): a classical reference (EMT).

    Three frames per hop, one after the other: ``info["image"]`` is "initial", "saddle", "final"; ``info["site"]`` names
    the hop; ``info["barrier"]`` and ``info["reverse_barrier"]`` are in eV.
    """
    return _load("surface_barriers", metal)


def available() -> dict[str, tuple[str, ...]]:
    """The sets that this installation holds, each with the parts that are there."""
    found = {name: tuple(p for p in parts if _exists(name, p)) for name, (parts, _) in _SETS.items()}
    return {name: parts for name, parts in found.items() if parts}


def data_file(folder: str, name: str) -> str:
    """Text of a small file of a set, such as its ``SHA256SUMS`` or ``settings.json``."""
    try:
        return (_root() / folder / name).read_text()
    except OSError as error:
        raise DataError(f"this installation has no file {name!r} in the set {folder!r}") from error


def _load(folder: str, part: str | None) -> list[Atoms]:
    """Frames of one part of a set, or of all the parts that "everything" means."""
    parts, everything = _SETS[folder]
    if part is None:
        wanted = [p for p in everything if _exists(folder, p)]
    elif part in parts:
        wanted = [part] if _exists(folder, part) else []
    else:
        raise DataError(f"the set {folder!r} has no part {part!r}: choose one of {', '.join(parts)}, or None for all")
    if not wanted:
        what = f"part {part!r} of the set" if part else "set"
        raise DataError(
            f"the {what} {folder!r} is not in this installation: data/{folder}/README.md says how to make it"
        )
    frames: list[Atoms] = []
    for name in wanted:
        with resources.as_file(_root() / folder / f"{name}.xyz") as path:
            frames += ase.io.read(path, ":", format="extxyz")
    return frames


def _exists(folder: str, part: str) -> bool:
    return (_root() / folder / f"{part}.xyz").is_file()


def _root():
    """The folder of the sets: package data when installed, the repository's ``data/`` in a checkout."""
    checkout = Path(__file__).resolve().parent.parent / "data"
    if (checkout / "silicon").is_dir():
        return checkout
    try:
        return resources.files("gapkit.data")
    except ModuleNotFoundError as error:
        raise DataError("the reference sets are not installed: install gapkit again, or use a checkout") from error
