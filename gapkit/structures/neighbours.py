"""Pair lists, by the vesin library."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
import vesin
from ase.geometry import minkowski_reduce

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
        |r_ij| (A).
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
    """
    cell, pbc = _search_box(atoms, r_cut)
    search = vesin.NeighborList(cutoff=float(r_cut), full_list=True, sorted=True, n_threads=n_threads)
    i, j, vectors, distances = search.compute(
        points=np.ascontiguousarray(atoms.positions, dtype=np.float64),
        box=cell,
        periodic=pbc,
        quantities="ijDd",
    )
    return _sorted_pairs(
        len(atoms), r_cut, i.astype(np.int64), j.astype(np.int64), np.ascontiguousarray(vectors), distances
    )


class Structure:
    """One frame as descriptors see it: atomic numbers and pair lists, the latter made once for the longest cutoff.

    Attributes
    ----------
    numbers : (n_atoms,) int
    n_atoms : int
    """

    def __init__(self, atoms: ase.Atoms, r_cut: float) -> None:
        self.numbers = np.asarray(atoms.numbers, dtype=np.int64)
        self.n_atoms = len(atoms)
        self._longest = neighbours(atoms, r_cut)
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
