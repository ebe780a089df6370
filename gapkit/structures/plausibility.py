"""What a frame must satisfy before pair lists are made of it: sizes that a pair search can work with."""

from __future__ import annotations

import ase
import numpy as np
from ase.geometry import minkowski_reduce

from gapkit.exceptions import DataError
from gapkit.structures.labels import check_distances, check_structure
from gapkit.structures.neighbours import neighbours

#: largest extent (A) of a frame in directions that are not periodic, and longest periodic vector
WIDEST, LONGEST = 1e4, 1e5
#: shortest lattice vector (A), and highest number density (1/A^3)
SHORTEST, DENSEST = 0.5, 10.0
#: cutoff (A) of the pair list that looks for atoms on one spot
CONTACT = 1.0


def check_extent(atoms: ase.Atoms, where: str) -> None:
    """Raise :class:`DataError` for a structure that no pair search can work with.

    Refused, beside what ``gapkit.structures.labels.check_structure`` refuses: a frame wider than 1e4 A where it is not
    periodic; a periodic vector longer than 1e5 A; a lattice vector (of the reduced cell) shorter than 0.5 A; more than
    10 atoms per A^3 of a cell. The pair search (vesin 0.6) would hang, end the process, or fill the memory.
    """
    check_structure(atoms, where)
    pbc = atoms.pbc
    vectors = atoms.cell.array[pbc]
    if len(vectors) and np.linalg.norm(vectors, axis=1).max() > LONGEST:
        raise DataError(f"{where}: a cell vector is longer than {LONGEST:.0e} A; repair the cell")
    if len(vectors) < 3:
        plane = np.linalg.qr(vectors.T)[0] if len(vectors) else np.zeros((3, 0))
        across = atoms.positions - atoms.positions.mean(axis=0)
        across -= across @ plane @ plane.T
        width = np.linalg.norm(across, axis=1)
        if width.max() > WIDEST:
            raise DataError(
                f"{where}: atom {int(np.argmax(width))} is {width.max():.3g} A from the middle of the frame, in a "
                "direction that is not periodic; remove the atom or repair the frame"
            )
    if not len(vectors):
        return
    reduced = minkowski_reduce(atoms.cell, pbc)[0][pbc]
    shortest = float(np.linalg.norm(reduced, axis=1).min())
    if shortest < SHORTEST:
        raise DataError(
            f"{where}: every atom is {shortest:.2g} A from its own periodic image: the cell is too small; repair it "
            "(lengths are in A)"
        )
    if len(vectors) == 3:
        density = len(atoms) / abs(float(np.linalg.det(reduced)))
        if density > DENSEST:
            raise DataError(
                f"{where}: {density:.3g} atoms per A^3 of the cell: the cell is too small; repair it (lengths are in A)"
            )


def check_contacts(atoms: ase.Atoms, where: str) -> None:
    """:func:`check_extent`, and :class:`DataError` where two atoms are on one spot; costs one short pair list."""
    check_extent(atoms, where)
    pairs = neighbours(atoms, CONTACT)
    check_distances(pairs.distances, pairs.i, pairs.j, where)
