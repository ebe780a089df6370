"""Pair lists that are kept while atoms move little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from numba import njit

from gapkit.numerics.writeable import for_kernels, writeable
from gapkit.structures.neighbours import Neighbours, neighbours


@njit(cache=True, nogil=True)
def _refresh(first, j, shifts, positions, r_cut, new_first, new_i, new_j, vectors, distances):
    """Pairs of a longer list that are within ``r_cut`` at the new positions; returns their number."""
    used = 0
    limit = r_cut * r_cut
    for a in range(len(first) - 1):
        new_first[a] = used
        x0, y0, z0 = positions[a, 0], positions[a, 1], positions[a, 2]
        for p in range(first[a], first[a + 1]):
            b = j[p]
            x = positions[b, 0] + shifts[p, 0] - x0
            y = positions[b, 1] + shifts[p, 1] - y0
            z = positions[b, 2] + shifts[p, 2] - z0
            square = x * x + y * y + z * z
            if square < limit:
                new_i[used] = a
                new_j[used] = b
                vectors[used, 0] = x
                vectors[used, 1] = y
                vectors[used, 2] = z
                distances[used] = math.sqrt(square)
                used += 1
    new_first[len(first) - 1] = used
    return used


class VerletList:
    r"""A pair list that is kept while atoms move little (Verlet, Phys. Rev. 159, 98 (1967)).

    All pairs within ``r_cut + skin`` are searched once. Later frames of the same atoms use them as long as no pair
    from outside can have come within r_cut: with the cell deformed by F and atoms displaced by u beyond that, a
    distance is at least :math:`s_{min}(F)(r_{cut} + skin) - 2 \max|u|`.

    Parameters
    ----------
    r_cut
        Cutoff (A).
    skin
        Extra reach (A); 0 searches anew for every frame.

    Attributes
    ----------
    n_searches : int
        How often the pairs were searched so far.
    """

    def __init__(self, r_cut: float, skin: float) -> None:
        self.r_cut = float(r_cut)
        self.skin = float(skin)
        self.n_searches = 0
        self._known: _Reference | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; kernels need what lies in read-only memory as a copy."""
        vars(self).update(writeable(state))

    def serves(self, atoms: ase.Atoms) -> bool:
        """Whether the list of an earlier frame serves this one: the same atoms, all finite and not far from there."""
        known = self._known  # another thread may replace it
        return known is not None and known.serves(atoms, self.r_cut, self.skin)

    def pairs(self, atoms: ase.Atoms) -> Neighbours:
        """Pair list of the frame within r_cut, as :func:`neighbours` gives it (the order within an atom may differ)."""
        if self.skin == 0:
            self.n_searches += 1
            return neighbours(atoms, self.r_cut)
        known = self._known
        if known is None or not known.serves(atoms, self.r_cut, self.skin):
            # a failed search must not leave an old list behind
            self._known = None
            known = self._known = _Reference.of(atoms, self.r_cut + self.skin)
            self.n_searches += 1
        n, longer = len(known.numbers), known.longer
        size = len(longer.j)
        first = np.empty(n + 1, dtype=np.int64)
        i, j = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
        vectors, distances = np.empty((size, 3)), np.empty(size)
        shifts = known.images @ atoms.cell.complete().array if atoms.pbc.any() else known.images
        positions = for_kernels(atoms.positions, np.float64)
        used = _refresh(longer.first, longer.j, shifts, positions, self.r_cut, first, i, j, vectors, distances)
        return Neighbours(n, self.r_cut, first, i[:used], j[:used], vectors[:used], distances[:used])


@dataclass(frozen=True)
class _Reference:
    """The frame that a Verlet list was made for, its longer pair list, and each pair's image as lattice vectors."""

    numbers: np.ndarray
    pbc: np.ndarray
    cell: np.ndarray
    positions: np.ndarray
    longer: Neighbours
    images: np.ndarray

    @classmethod
    def of(cls, atoms: ase.Atoms, reach: float) -> _Reference:
        longer = neighbours(atoms, reach)
        cell, positions = atoms.cell.complete().array.copy(), atoms.positions.copy()
        images = np.zeros_like(longer.vectors)
        if atoms.pbc.any():  # else the cell means nothing, and may be singular
            shift = longer.vectors - (positions[longer.j] - positions[longer.i])
            images = np.rint(shift @ np.linalg.inv(cell))
        # in one order whenever the list was made: sums over pairs, and a resumed run, are the same to the last bit
        order = np.lexsort((*images.T, longer.j, longer.i))
        images = images[order]
        j, vectors, distances = longer.j[order], longer.vectors[order], longer.distances[order]
        longer = Neighbours(longer.n_atoms, longer.r_cut, longer.first, longer.i[order], j, vectors, distances)
        return cls(atoms.numbers.copy(), atoms.pbc.copy(), cell, positions, longer, images)

    def serves(self, atoms: ase.Atoms, r_cut: float, skin: float) -> bool:
        """Whether no pair outside the list can be within ``r_cut`` in this frame."""
        if not (np.array_equal(self.numbers, atoms.numbers) and np.array_equal(self.pbc, atoms.pbc)):
            return False
        cell = atoms.cell.complete().array
        deformation, least = np.eye(3), 1.0
        if not np.isfinite(cell).all():
            return False
        if self.pbc.any() and not np.array_equal(cell, self.cell):
            deformation = np.linalg.solve(self.cell, cell)
            least = float(np.linalg.svd(deformation, compute_uv=False)[-1])
        moved = atoms.positions - self.positions @ deformation
        farthest = math.sqrt(float(np.einsum("na,na->n", moved, moved).max(initial=0.0)))
        return least * (r_cut + skin) - 2 * farthest >= r_cut  # also False where a position is not finite
