"""Pair lists, by the vesin library."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ase
import numpy as np
import vesin
from ase.geometry import minkowski_reduce
from numba import njit

#: extent (A) in directions that are not periodic beyond which the frame is searched as a periodic one
WIDE = 200.0


@dataclass(frozen=True)
class Neighbours:
    """All pairs within a cutoff, sorted by central atom; each pair stands twice, as (i, j) and as (j, i).

    Attributes
    ----------
    n_atoms : int
    r_cut : float
        Cutoff (A).
    first : (n_atoms + 1,) int
        Pairs ``first[a]`` to ``first[a + 1]`` belong to central atom a.
    i, j : (p,) int
        Central atom and neighbour (which may be a periodic image of any atom, the central one included).
    vectors : (p, 3) float
        r_ij = r_j + shift - r_i (A).
    distances : (p,) float
        ``|r_ij|`` (A).
    """

    n_atoms: int
    r_cut: float
    first: np.ndarray
    i: np.ndarray
    j: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray

    def within(self, r_cut: float) -> Neighbours:
        """The pairs at distances below a shorter cutoff (A)."""
        if r_cut >= self.r_cut:
            return self
        keep = self.distances < r_cut
        return _sorted_pairs(self.n_atoms, r_cut, self.i[keep], self.j[keep], self.vectors[keep], self.distances[keep])


def _sorted_pairs(n_atoms, r_cut, i, j, vectors, distances):
    first = np.zeros(n_atoms + 1, dtype=np.int64)
    np.cumsum(np.bincount(i, minlength=n_atoms), out=first[1:])
    return Neighbours(n_atoms, float(r_cut), first, i, j, vectors, distances)


def _search_box(atoms: ase.Atoms, r_cut: float) -> tuple[np.ndarray, np.ndarray]:
    """Box (3, 3) in A and periodic directions (3,) for vesin: the frame's own, unless it is very skewed or very wide.

    Then vesin 0.6 makes a grid beyond all bounds (it hangs, or the process ends). The pairs are the same for any basis
    of the lattice, and for a periodic box whose images in open directions are beyond the cutoff.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    if not pbc.any():
        return np.eye(3), pbc
    cell = np.array(atoms.cell.complete(), dtype=np.float64)
    faces = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    height = abs(np.linalg.det(cell)) / np.maximum(np.linalg.norm(faces, axis=1), 1e-300)
    skewed = bool(np.any(height < 0.3 * np.linalg.norm(cell, axis=1)))
    if pbc.all():
        return (np.array(minkowski_reduce(cell)[0]) if skewed else cell), pbc
    vectors = cell[pbc]
    open_axes = np.linalg.qr(vectors.T, mode="complete")[0][:, len(vectors) :].T
    width = np.ptp(atoms.positions @ open_axes.T, axis=0)
    if not skewed and np.all(width < WIDE):
        return cell, pbc
    vectors = minkowski_reduce(atoms.cell, pbc)[0][pbc]
    return np.vstack([vectors, (width + 2 * r_cut)[:, None] * open_axes]), np.ones(3, dtype=bool)


def neighbours(atoms: ase.Atoms, r_cut: float, n_threads: int = 1) -> Neighbours:
    """Pair list of a periodic, partly periodic or isolated frame of any cell shape.

    Parameters
    ----------
    atoms
        Frame; cells smaller than the cutoff are fine.
    r_cut
        Cutoff (A).

    Examples
    --------
    >>> from ase.build import bulk
    >>> pairs = neighbours(bulk("Si", a=5.43), r_cut=2.5)
    >>> len(pairs.i), pairs.distances.round(3).tolist()[:2]
    (8, [2.351, 2.351])
    """
    cell, pbc = _search_box(atoms, r_cut)
    # each pair once and unsorted takes a quarter of the time of each twice and sorted
    search = vesin.NeighborList(cutoff=float(r_cut), full_list=False, sorted=False, n_threads=n_threads)
    one, other, apart = search.compute(
        points=np.ascontiguousarray(atoms.positions, dtype=np.float64),
        box=cell,
        periodic=pbc,
        quantities="ijD",
    )
    n = len(atoms)
    first = np.zeros(n + 1, dtype=np.int64)
    i, j = np.empty(2 * len(one), dtype=np.int64), np.empty(2 * len(one), dtype=np.int64)
    vectors, distances = np.empty((2 * len(one), 3)), np.empty(2 * len(one))
    _both_ways(one, other, np.ascontiguousarray(apart), first, i, j, vectors, distances)
    return Neighbours(n, float(r_cut), first, i, j, vectors, distances)


@njit(cache=True, nogil=True)
def _both_ways(one, other, apart, first, i, j, vectors, distances):
    """From each pair once, in any order, to each twice, by central atom (counting sort)."""
    for p in range(len(one)):
        first[np.int64(one[p]) + 1] += 1
        first[np.int64(other[p]) + 1] += 1
    for a in range(len(first) - 1):
        first[a + 1] += first[a]
    place = first[:-1].copy()
    for p in range(len(one)):
        a, b = np.int64(one[p]), np.int64(other[p])
        x, y, z = apart[p, 0], apart[p, 1], apart[p, 2]
        r = math.sqrt(x * x + y * y + z * z)
        k = place[a]
        place[a] = k + 1
        i[k], j[k], distances[k] = a, b, r
        vectors[k, 0], vectors[k, 1], vectors[k, 2] = x, y, z
        k = place[b]
        place[b] = k + 1
        i[k], j[k], distances[k] = b, a, r
        vectors[k, 0], vectors[k, 1], vectors[k, 2] = -x, -y, -z


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

    def serves(self, atoms: ase.Atoms) -> bool:
        """Whether the list of an earlier frame serves this one: the same atoms, all finite and not far from there."""
        return self._known is not None and self._known.serves(atoms, self.r_cut, self.skin)

    def pairs(self, atoms: ase.Atoms) -> Neighbours:
        """Pair list of the frame within r_cut, as :func:`neighbours` gives it (the order within an atom may differ)."""
        if self.skin == 0:
            self.n_searches += 1
            return neighbours(atoms, self.r_cut)
        known = self._known
        if known is None or not self.serves(atoms):
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
        positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
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


class Structure:
    """One frame as descriptors see it: atomic numbers and pair lists, the latter made once for the longest cutoff.

    Attributes
    ----------
    numbers : (n_atoms,) int
    n_atoms : int
    """

    def __init__(self, atoms: ase.Atoms, r_cut: float, pairs: Neighbours | None = None) -> None:
        self.numbers = np.asarray(atoms.numbers, dtype=np.int64)
        self.n_atoms = len(atoms)
        self._longest = neighbours(atoms, r_cut) if pairs is None else pairs
        self._shorter: dict[float, Neighbours] = {}

    def pairs(self, r_cut: float) -> Neighbours:
        """Pair list within ``r_cut`` (A), at most the cutoff that the structure was made with."""
        if r_cut == self._longest.r_cut:
            return self._longest
        if r_cut > self._longest.r_cut:
            raise ValueError(f"pair list made for {self._longest.r_cut} A cannot serve a cutoff of {r_cut} A")
        if r_cut not in self._shorter:
            self._shorter[r_cut] = self._longest.within(r_cut)
        return self._shorter[r_cut]
