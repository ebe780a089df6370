"""Checks of a frame before pair lists are made of it: sizes that a pair search can work with."""

from __future__ import annotations

import ase
import numpy as np
from ase.geometry import minkowski_reduce

from gapkit.exceptions import DataError
from gapkit.structures.labels import check_distances, check_structure
from gapkit.structures.neighbours import neighbours

#: largest distance (A) from the middle of an isolated frame, and of a partly periodic one where it is not periodic
WIDEST, WIDEST_PARTLY = 1e4, 1e3
#: longest periodic vector (A)
LONGEST = 1e5
#: smallest distance (A) of opposite faces of the cell as it is given
LOWEST = 1e-3
#: shortest lattice vector (A), and highest number density (1/A^3)
SHORTEST, DENSEST = 0.5, 10.0
#: cutoff (A) of the pair list that looks for atoms on one spot
CONTACT = 1.0


def check_extent(atoms: ase.Atoms, context: str) -> None:
    """Raise :class:`DataError` for a structure that no pair search can work with.

    Refused, beside what ``gapkit.structures.labels.check_structure`` refuses: an atom farther than 1e4 A (partly
    periodic frames: 1e3 A) from the middle of the frame where that is not periodic; a periodic vector longer than
    1e5 A; faces of the cell less than 1e-3 A apart; a lattice vector (of the reduced cell) shorter than 0.5 A; more
    than 10 atoms per A^3 of a cell. The pairs of such a frame would be too many, or
    mean nothing.
    """
    check_structure(atoms, context)
    pbc = atoms.pbc
    vectors = atoms.cell.array[pbc]
    if len(vectors) and np.linalg.norm(vectors, axis=1).max() > LONGEST:
        raise DataError(f"{context}: a cell vector is longer than {LONGEST:.0e} A; repair the cell")
    if len(vectors) < 3:
        plane = np.linalg.qr(vectors.T)[0] if len(vectors) else np.zeros((3, 0))
        across = atoms.positions - atoms.positions.mean(axis=0)
        across -= across @ plane @ plane.T
        width = np.linalg.norm(across, axis=1)
        if width.max() > (WIDEST_PARTLY if len(vectors) else WIDEST):
            raise DataError(
                f"{context}: atom {int(np.argmax(width))} is {width.max():.3g} A from the middle of the frame, in a "
                "direction that is not periodic; remove the atom or repair the frame"
            )
    if not len(vectors):
        return
    a, b, c = atoms.cell.complete().array
    faces = np.array([np.cross(b, c), np.cross(c, a), np.cross(a, b)])
    height = abs(float(np.dot(a, faces[0]))) / np.maximum(np.linalg.norm(faces, axis=1), 1e-300)
    if height.min() < LOWEST:
        raise DataError(
            f"{context}: the cell is so skewed that its planes are {height.min():.2g} A apart; reduce it "
            "(ase.geometry.minkowski_reduce) or repair it"
        )
    reduced = minkowski_reduce(atoms.cell, pbc)[0][pbc]
    shortest = float(np.linalg.norm(reduced, axis=1).min())
    if shortest < SHORTEST:
        raise DataError(
            f"{context}: every atom is {shortest:.2g} A from its own periodic image: the cell is too small; repair it "
            "(lengths are in A)"
        )
    if len(vectors) == 3:
        density = len(atoms) / abs(float(np.linalg.det(reduced)))
        if density > DENSEST:
            raise DataError(
                f"{context}: {density:.3g} atoms per A^3 of the cell: the cell is too small; repair it "
                "(lengths are in A)"
            )


def check_contacts(atoms: ase.Atoms, context: str) -> None:
    """:func:`check_extent`, and :class:`DataError` where two atoms are on one spot; costs one short pair list."""
    check_extent(atoms, context)
    pairs = neighbours(atoms, CONTACT)
    check_distances(pairs.distances, pairs.i, pairs.j, context)
