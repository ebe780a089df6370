"""Pair lists: of small frames by trying every image, of dense periodic frames at least three cutoffs wide by bins, of
all others by bins of which only the occupied ones are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import ase
import numpy as np
from numba import njit

from gapkit.exceptions import DataError
from gapkit.numerics.threads import thread_count
from gapkit.numerics.writeable import for_kernels
from gapkit.structures import occupied_bins, small_frames

#: atoms of a frame up to which every image is tried
SMALL = 64
#: pairs per atom that room is made for at first
ROOM = 64


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

    @classmethod
    def joined(cls, lists: Sequence[Neighbours]) -> Neighbours:
        """Lists of frames that do not meet as one, the atoms numbered through."""
        if len(lists) == 1:
            return lists[0]
        ends = np.cumsum([one.n_atoms for one in lists])
        begin = ends - [one.n_atoms for one in lists]
        i = np.concatenate([one.i + start for one, start in zip(lists, begin, strict=True)])
        j = np.concatenate([one.j + start for one, start in zip(lists, begin, strict=True)])
        vectors, distances = (np.concatenate([getattr(one, a) for one in lists]) for a in ("vectors", "distances"))
        return _sorted_pairs(int(ends[-1]), lists[0].r_cut, i, j, vectors, distances)

    def around(self, centres: np.ndarray) -> Neighbours:
        """The pairs whose central atom is one of ``centres``."""
        chosen = np.zeros(self.n_atoms, dtype=bool)
        chosen[centres] = True
        if chosen.all():
            return self
        keep = chosen[self.i]
        kept = self.i[keep], self.j[keep], self.vectors[keep], self.distances[keep]
        return _sorted_pairs(self.n_atoms, self.r_cut, *kept)

    @classmethod
    def of_pairs(cls, n_atoms: int, r_cut: float, i: np.ndarray, j: np.ndarray, vectors: np.ndarray) -> Neighbours:
        """Pair list from pairs in any order, such as an engine's; a pair of two centres stands in it twice.

        Parameters
        ----------
        n_atoms
            Number of atoms, ghosts included.
        r_cut
            Cutoff (A) that the list is complete for; pairs beyond it may be there, and are left out.
        i, j : (p,)
            Central atoms and neighbours.
        vectors : (p, 3)
            Vectors from i to j (A).

        Raises
        ------
        DataError
            For an atom that is not there.

        Examples
        --------
        >>> pairs = Neighbours.of_pairs(2, 2.0, [1, 0], [0, 1], [[-1.0, 0, 0], [1.0, 0, 0]])
        >>> pairs.i.tolist(), pairs.distances.tolist()
        ([0, 1], [1.0, 1.0])
        """
        i, j = np.asarray(i, dtype=np.int64), np.asarray(j, dtype=np.int64)
        vectors = np.asarray(vectors, dtype=np.float64).reshape(-1, 3)
        if not len(i) == len(j) == len(vectors):
            raise DataError(f"{len(i)} central atoms, {len(j)} neighbours and {len(vectors)} vectors do not match")
        if len(i) and not (min(i.min(), j.min()) >= 0 and max(i.max(), j.max()) < n_atoms):
            raise DataError(f"a pair names an atom that is not among the {n_atoms} of the domain")
        distances = np.linalg.norm(vectors, axis=1)
        order = np.argsort(i, kind="stable")
        order = order[~(distances[order] >= r_cut)]  # what is not a number stays, to be found
        return _sorted_pairs(n_atoms, r_cut, i[order], j[order], vectors[order], distances[order])


def _sorted_pairs(n_atoms, r_cut, i, j, vectors, distances):
    first = np.zeros(n_atoms + 1, dtype=np.int64)
    np.cumsum(np.bincount(i, minlength=n_atoms), out=first[1:])
    return Neighbours(n_atoms, float(r_cut), first, i, j, vectors, distances)


def neighbours(atoms: ase.Atoms, r_cut: float, n_threads: int | None = None) -> Neighbours:
    """Pair list of a periodic, partly periodic or isolated frame of any cell shape.

    Parameters
    ----------
    atoms
        Frame; cells smaller than the cutoff are fine.
    r_cut
        Cutoff (A).
    n_threads
        Threads for large frames; default: what the environment allows.

    Raises
    ------
    DataError
        Above 64 atoms, and for thin cells: where a coordinate or a periodic vector is not finite or beyond 1e9 A, where
        the periodic vectors lie in one plane or line, and where an atom has a million images within the cutoff.

    Examples
    --------
    >>> from ase.build import bulk
    >>> pairs = neighbours(bulk("Si", a=5.43), r_cut=2.5)
    >>> len(pairs.i), pairs.distances.round(3).tolist()[:2]
    (8, [2.351, 2.351])
    """
    if len(atoms) <= SMALL:
        pairs, found = _small_pairs(FrameArrays.of([atoms]), r_cut)
        if found[0]:
            return pairs
    return _search_large(atoms, r_cut, n_threads)


class FrameArrays(NamedTuple):
    """Many frames as arrays, their atoms numbered through.

    Atomic numbers (n,), positions (n, 3; A), the first atom of each frame and at last the number of all atoms
    (frames + 1,), cells (frames, 3, 3; A), and periodic directions (frames, 3).
    """

    numbers: np.ndarray
    positions: np.ndarray
    begin: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray

    @classmethod
    def of(cls, frames: Sequence[ase.Atoms]) -> FrameArrays:
        """Arrays of these frames; those of a single one are not copied unless they are read-only."""
        begin = np.zeros(len(frames) + 1, dtype=np.int64)
        if len(frames) == 1:
            (atoms,) = frames
            begin[1] = len(atoms)
            positions, cell = for_kernels(atoms.positions, np.float64), for_kernels(atoms.cell.array, np.float64)
            numbers, pbc = for_kernels(atoms.numbers, np.int64), for_kernels(atoms.pbc, np.bool_)
            return cls(numbers, positions, begin, cell[None], pbc[None])
        np.cumsum([len(atoms) for atoms in frames], out=begin[1:])
        return cls(
            np.concatenate([atoms.numbers for atoms in frames], dtype=np.int64),
            np.concatenate([atoms.positions for atoms in frames], dtype=np.float64),
            begin,
            np.array([atoms.cell.array for atoms in frames], dtype=np.float64),
            np.array([atoms.pbc for atoms in frames], dtype=np.bool_),
        )

    @classmethod
    def of_copies(cls, atoms: ase.Atoms, positions: np.ndarray) -> FrameArrays:
        """Copies of one frame at other ``positions`` (R, n, 3)."""
        copies, n = positions.shape[:2]
        return cls(
            np.tile(np.asarray(atoms.numbers, dtype=np.int64), copies),
            for_kernels(positions, np.float64).reshape(-1, 3),
            n * np.arange(copies + 1),
            np.tile(np.asarray(atoms.cell.array, dtype=np.float64), (copies, 1, 1)),
            np.tile(atoms.pbc, (copies, 1)),
        )

    def frame(self, f: int) -> ase.Atoms:
        """Arrays of frame ``f`` alone."""
        of_frame = slice(self.begin[f], self.begin[f + 1])
        return ase.Atoms(self.numbers[of_frame], self.positions[of_frame], cell=self.cells[f], pbc=self.pbc[f])


def neighbours_of_frames(frames: FrameArrays, r_cut: float) -> Neighbours:
    """Pair list of many frames as if they were one; pairs of different frames never meet.

    Examples
    --------
    >>> from ase.build import molecule
    >>> pairs = neighbours_of_frames(FrameArrays.of([molecule("N2"), molecule("O2")]), r_cut=2.0)
    >>> pairs.i.tolist(), pairs.j.tolist()
    ([0, 1, 2, 3], [1, 0, 3, 2])
    """
    begin = frames.begin
    if len(begin) == 2 and begin[1] > SMALL:
        return _search_large(frames.frame(0), r_cut)
    pairs, found = _small_pairs(frames, r_cut)
    if found.all():
        return pairs
    parts = []
    for f in range(len(found)):
        if found[f]:
            part = slice(pairs.first[begin[f]], pairs.first[begin[f + 1]])
            parts.append((pairs.i[part], pairs.j[part], pairs.vectors[part], pairs.distances[part]))
        else:
            one = _search_large(frames.frame(f), r_cut)
            parts.append((one.i + begin[f], one.j + begin[f], one.vectors, one.distances))
    return _sorted_pairs(begin[-1], r_cut, *map(np.concatenate, zip(*parts, strict=True)))


def _small_pairs(frames: FrameArrays, r_cut: float) -> tuple[Neighbours, np.ndarray]:
    """Pairs of the frames for which trying every image is quick, and which frames these are."""
    _, positions, begin, cells, pbc = frames
    n = int(begin[-1])
    found, first = np.empty(len(cells), dtype=np.bool_), np.empty(n + 1, dtype=np.int64)
    room = ROOM * n
    while True:
        i, j = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
        vectors, distances = np.empty((room, 3)), np.empty(room)
        used = small_frames.search(positions, begin, cells, pbc, float(r_cut), found, first, i, j, vectors, distances)
        if used >= 0:
            return Neighbours(n, float(r_cut), first, i[:used], j[:used], vectors[:used], distances[:used]), found
        room *= 4


def _search_large(atoms: ase.Atoms, r_cut: float, n_threads: int | None = None) -> Neighbours:
    n, n_threads = len(atoms), n_threads or thread_count()
    occupied_bins.check_numbers(atoms.positions, "a coordinate")
    cell, periodic = occupied_bins.axes(atoms)
    if periodic == 3:
        bins = _bins(cell, r_cut)
        if bins.min() >= 3 and bins.prod() <= n:  # else most of them are empty
            return _search_bins(atoms, r_cut, cell, bins, n_threads)
    first, i, j, vectors, distances = occupied_bins.search(atoms.positions, cell, periodic, r_cut, n_threads)
    return Neighbours(n, float(r_cut), first, i, j, vectors, distances)


def _bins(cell: np.ndarray, r_cut: float) -> np.ndarray:
    """Into how many layers, none thinner than the cutoff, the cell can be cut in each direction (at most 100)."""
    faces = np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]])
    height = abs(np.linalg.det(cell)) / np.maximum(np.linalg.norm(faces, axis=1), 1e-300)
    return np.minimum(height / r_cut, 100.0).astype(np.int64)


def _search_bins(atoms: ase.Atoms, r_cut: float, cell: np.ndarray, bins: np.ndarray, n_threads: int) -> Neighbours:
    """Pairs of a periodic frame that is at least three bins wide each way, on threads."""
    n = len(atoms)
    sorted_atoms = _sort_into_bins(for_kernels(atoms.positions, np.float64), cell, np.linalg.inv(cell), bins)
    volume = abs(np.linalg.det(cell))
    likely = int(1.2 * n / volume * 4.19 * r_cut**3) + 10

    def fill(begin: int, *out: np.ndarray) -> int:
        return _fill_from_bins(begin, sorted_atoms, cell, bins, r_cut, *out)

    return Neighbours(n, float(r_cut), *occupied_bins.filled(fill, n, likely, n_threads))


@njit(cache=True, nogil=True)
def _sort_into_bins(positions, cell, inverse, bins):
    """Positions within the cell (n, 3), bins (n, 3), where each bin begins; and, bin by bin, atoms and x, y, z."""
    n = len(positions)
    n_bins = bins[0] * bins[1] * bins[2]
    bin_of = np.empty((n, 3), dtype=np.int64)
    inside = np.empty((n, 3))
    begin = np.zeros(n_bins + 1, dtype=np.int64)
    for a in range(n):
        for axis in range(3):
            inside[a, axis] = positions[a, axis]
        for v in range(3):
            fraction = 0.0
            for axis in range(3):
                fraction += positions[a, axis] * inverse[axis, v]
            whole = math.floor(fraction)
            bin_of[a, v] = min(int((fraction - whole) * bins[v]), bins[v] - 1)
            for axis in range(3):
                inside[a, axis] -= whole * cell[v, axis]
        begin[(bin_of[a, 0] * bins[1] + bin_of[a, 1]) * bins[2] + bin_of[a, 2] + 1] += 1
    for b in range(n_bins):
        begin[b + 1] += begin[b]
    place = begin[:-1].copy()
    order = np.empty(n, dtype=np.int64)
    xs, ys, zs = np.empty(n), np.empty(n), np.empty(n)
    for a in range(n):
        b = (bin_of[a, 0] * bins[1] + bin_of[a, 1]) * bins[2] + bin_of[a, 2]
        k = place[b]
        place[b] = k + 1
        order[k] = a
        xs[k], ys[k], zs[k] = inside[a, 0], inside[a, 1], inside[a, 2]
    return inside, bin_of, begin, order, xs, ys, zs


@njit(cache=True, nogil=True)
def _fill_from_bins(start, sorted_atoms, cell, bins, r_cut, count, i, j, vectors, distances):
    """Pairs within ``r_cut`` of atoms ``start`` and on, as many as ``count`` has, from their bins and those around.

    ``sorted_atoms`` is from :func:`_sort_into_bins`. Returns the number of pairs, or -1 where there is no room for all.
    """
    inside, bin_of, begin, order, xs, ys, zs = sorted_atoms
    near = np.empty(len(order), dtype=np.int64)
    limit = r_cut * r_cut
    used = 0
    for a in range(start, start + len(count)):
        before = used
        for shift_a in range(-1, 2):
            ka, ia = _wrapped(bin_of[a, 0] + shift_a, bins[0])
            for shift_b in range(-1, 2):
                kb, ib = _wrapped(bin_of[a, 1] + shift_b, bins[1])
                for shift_c in range(-1, 2):
                    kc, ic = _wrapped(bin_of[a, 2] + shift_c, bins[2])
                    x0 = inside[a, 0] - ia * cell[0, 0] - ib * cell[1, 0] - ic * cell[2, 0]
                    y0 = inside[a, 1] - ia * cell[0, 1] - ib * cell[1, 1] - ic * cell[2, 1]
                    z0 = inside[a, 2] - ia * cell[0, 2] - ib * cell[1, 2] - ic * cell[2, 2]
                    b = (ka * bins[1] + kb) * bins[2] + kc
                    found = 0
                    for k in range(begin[b], begin[b + 1]):  # without a branch: most atoms are too far away
                        square = (xs[k] - x0) ** 2 + (ys[k] - y0) ** 2 + (zs[k] - z0) ** 2
                        near[found] = k
                        found += square < limit
                    if used + found > len(j):
                        return -1
                    for m in range(found):
                        k = near[m]
                        if order[k] == a:  # three bins wide: no other image of it is near
                            continue
                        x, y, z = xs[k] - x0, ys[k] - y0, zs[k] - z0
                        i[used], j[used] = a, order[k]
                        vectors[used, 0], vectors[used, 1], vectors[used, 2] = x, y, z
                        distances[used] = math.sqrt(x * x + y * y + z * z)
                        used += 1
        count[a - start] = used - before
    return used


@njit(cache=True, nogil=True)
def _wrapped(k, n):
    """Bin ``k`` of ``n``, at most one beyond either end, within the cell; and the image that it belongs to."""
    if k < 0:
        return k + n, -1.0
    if k >= n:
        return k - n, 1.0
    return k, 0.0
