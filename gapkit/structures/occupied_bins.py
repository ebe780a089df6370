r"""Pairs of a frame by bins of which only the occupied ones are kept: for every cell, periodic or not.

Bins lie along the periodic vectors (of the reduced cell) and along unit vectors across them. None is thinner than the
cutoff, unless the cell is: then the same bin is met again in several images. Atoms are sorted by the number of their
bin, and bins are found by bisection, so that memory and time follow the number of atoms, however large and empty the
cell (Allen and Tildesley, Computer Simulation of Liquids, 2017, section 5.3, for bins that are all kept).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import ase
import numpy as np
from ase.geometry import minkowski_reduce
from numba import njit

from gapkit.exceptions import DataError
from gapkit.numerics.threads import map_blocks

#: largest coordinate and component of a cell vector (A)
FARTHEST = 1e9
#: most bins in one direction, so that a bin's number is a whole number of 64 bits
MOST_BINS = 2**20
#: most bins around an atom: beyond it the cell is far thinner than any that a frame may have
MOST_AROUND = 10**6
#: room for pairs per atom at first, and at most where the cell's density says how many there may be
ROOM, LARGEST_ROOM = 64, 5000
#: least number of atoms that a thread is given
LEAST_PART = 256
#: rounding that is allowed for when images are counted
MARGIN = 1e-9


class Box(NamedTuple):
    """Axes of bins.

    Attributes
    ----------
    vectors : (3, 3) float
        Periodic vectors (A), then unit vectors across them.
    periodic : int
        Number of periodic vectors.
    bins : (3,) int
        Number of bins in each direction.
    reach : (3,) int
        Number of bins on either side that the cutoff reaches into.
    """

    vectors: np.ndarray
    periodic: int
    bins: np.ndarray
    reach: np.ndarray


def search(
    positions: np.ndarray, axes: np.ndarray, periodic: int, r_cut: float, n_threads: int
) -> tuple[np.ndarray, ...]:
    """Pairs within ``r_cut`` (A), sorted by central atom.

    Parameters
    ----------
    positions : (n, 3)
        Positions (A), finite and below :data:`FARTHEST`.
    axes, periodic
        Results of :func:`axes`.

    Returns
    -------
    first : (n + 1,)
        Pairs ``first[a]`` to ``first[a + 1]`` belong to central atom a.
    i, j : (p,)
        Central atoms and neighbours.
    vectors : (p, 3)
        Vectors from i to j (A); the two vectors of a pair differ in nothing but their signs.
    distances : (p,)
        Lengths of the vectors (A).

    Raises
    ------
    DataError
        For a cell so thin that an atom has a million images within the cutoff.
    """
    n = len(positions)
    positions = np.array(positions, dtype=np.float64)  # a copy: code for read-only arrays would be compiled anew
    inverse = np.linalg.inv(axes)
    along = positions @ inverse
    box = _box(axes, periodic, inverse, along, r_cut)
    inside, bin_of, keys = _place(positions, along, box)
    order = np.argsort(keys, kind="stable")
    sorted_keys, sorted_positions = keys[order], np.ascontiguousarray(inside[order].T)

    likely = ROOM
    if periodic == 3:
        density = n / abs(float(np.linalg.det(axes)))
        likely = int(min(1.2 * density * 4.19 * r_cut**3 + 10, LARGEST_ROOM))

    def fill(begin: int, *out: np.ndarray) -> int:
        return _fill(begin, inside, bin_of, sorted_keys, sorted_positions, order, *box, r_cut, *out)

    return filled(fill, n, likely, n_threads)


def filled(fill: Callable[..., int], n: int, likely: int, n_threads: int) -> tuple[np.ndarray, ...]:
    """Arrays of :func:`search`, filled for parts of the ``n`` atoms on threads, with the room that their pairs need.

    Parameters
    ----------
    fill
        Function from the first atom of a part, and arrays to be filled (pairs of each atom, i, j, vectors, distances),
        to the number of pairs; negative where the room is too small.
    likely
        Pairs per atom that room is made for at first.
    """

    def of_part(part: range) -> tuple[np.ndarray, ...]:
        room = likely * len(part)
        while True:
            count = np.empty(len(part), dtype=np.int64)
            i, j = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
            vectors, distances = np.empty((room, 3)), np.empty(room)
            used = fill(part.start, count, i, j, vectors, distances)
            if used >= 0:
                return count, i[:used], j[:used], vectors[:used], distances[:used]
            room *= 2

    size = max(LEAST_PART, -(-n // n_threads))
    parts = map_blocks(of_part, [range(k, min(k + size, n)) for k in range(0, n, size)], n_threads)
    count, *pairs = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    first = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(count, out=first[1:])
    return (first, *pairs)


def check_numbers(values: np.ndarray, what: str) -> None:
    """Raise :class:`DataError` for coordinates that are not finite or beyond :data:`FARTHEST`."""
    if not (np.abs(values) < FARTHEST).all():
        raise DataError(f"{what} is not a finite number below {FARTHEST:.0e} A; repair the frame")


def axes(atoms: ase.Atoms) -> tuple[np.ndarray, int]:
    """Vectors (3, 3; A) along which bins lie, the periodic ones first, and how many of them are periodic.

    The vectors of a very skewed lattice are reduced, so that bins are few.

    Raises
    ------
    DataError
        For periodic vectors that are not finite or beyond :data:`FARTHEST`, or lie in one plane or line.
    """
    pbc = np.asarray(atoms.pbc, dtype=bool)
    vectors = np.array(atoms.cell.array[pbc], dtype=np.float64)
    if not len(vectors):
        return np.eye(3), 0
    check_numbers(vectors, "a cell vector")
    across = np.linalg.qr(vectors.T, mode="complete")[0][:, len(vectors) :].T
    box = np.vstack([vectors, across])
    try:
        height = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
        if np.any(height[: len(vectors)] < 0.3 * np.linalg.norm(vectors, axis=1)):
            box[: len(vectors)] = minkowski_reduce(atoms.cell, pbc)[0][pbc]
        if not np.isfinite(np.linalg.inv(box)).all():
            raise ValueError
    except (np.linalg.LinAlgError, RuntimeError, ValueError):
        raise DataError("the periodic cell vectors lie in one plane or line; repair the cell") from None
    return box, len(vectors)


def _box(vectors: np.ndarray, periodic: int, inverse: np.ndarray, along: np.ndarray, r_cut: float) -> Box:
    height = 1 / np.linalg.norm(inverse, axis=0)
    bins, reach = np.ones(3, dtype=np.int64), np.ones(3, dtype=np.int64)
    for k in range(3):
        if k < periodic:
            bins[k] = int(max(1.0, min(height[k] / r_cut, MOST_BINS)))
            reach[k] = int(min(math.ceil(r_cut * bins[k] / height[k] * (1 - 1e-15)), MOST_AROUND))
        elif len(along):
            bins[k] = int(max(1.0, min(np.ptp(along[:, k]) / r_cut, MOST_BINS)))
    if math.prod(2 * int(r) + 1 for r in reach[:periodic]) > MOST_AROUND:
        raise DataError(
            f"the cell is so thin ({height[:periodic].min():.2g} A) that an atom has more than {MOST_AROUND} images "
            f"within {r_cut:.3g} A; repair the cell (lengths are in A)"
        )
    return Box(vectors, periodic, bins, reach)


def _place(positions: np.ndarray, along: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions within the cell (n, 3), bins (n, 3), and the numbers of the bins (n,)."""
    inside, bin_of = positions, np.zeros((len(positions), 3), dtype=np.int64)
    for k in range(3):
        if k < box.periodic:
            whole = np.floor(along[:, k])
            inside = inside - whole[:, None] * box.vectors[k]
            share = along[:, k] - whole
        elif len(along):
            share = (along[:, k] - along[:, k].min()) / max(np.ptp(along[:, k]), 1e-300)
        bin_of[:, k] = np.minimum(share * box.bins[k], box.bins[k] - 1)
    keys = (bin_of[:, 0] * box.bins[1] + bin_of[:, 1]) * box.bins[2] + bin_of[:, 2]
    return inside, bin_of, keys


@njit(cache=True, nogil=True)
def _fill(
    start, inside, bin_of, sorted_keys, sorted_positions, order, vectors_of_box, periodic, bins, reach, r_cut,
    count, i, j, vectors, distances,
):  # fmt: skip
    """Pairs within ``r_cut`` of atoms ``start`` and on, as many as ``count`` has.

    Returns the number of pairs, or -1 where there is no room for all.
    """
    xs, ys, zs = sorted_positions[0], sorted_positions[1], sorted_positions[2]
    near = np.empty(len(order), dtype=np.int64)
    limit, wider = r_cut * r_cut, (r_cut + MARGIN * (1 + r_cut)) ** 2
    used = 0
    for a in range(start, start + len(count)):
        before = used
        for b0 in range(bin_of[a, 0] - reach[0], bin_of[a, 0] + reach[0] + 1):
            k0 = _image(b0, bins[0])
            if k0 != 0 and periodic < 1:
                continue
            for b1 in range(bin_of[a, 1] - reach[1], bin_of[a, 1] + reach[1] + 1):
                k1 = _image(b1, bins[1])
                if k1 != 0 and periodic < 2:
                    continue
                row = ((b0 - k0 * bins[0]) * bins[1] + b1 - k1 * bins[1]) * bins[2]
                low, highest = bin_of[a, 2] - reach[2], bin_of[a, 2] + reach[2]
                while low <= highest:  # bins of one image in a row: their atoms lie one after the other
                    k2 = _image(low, bins[2])
                    high = min(highest, (k2 + 1) * bins[2] - 1)
                    begin, last = row + low - k2 * bins[2], row + high - k2 * bins[2]
                    low = high + 1
                    if k2 != 0 and periodic < 3:
                        continue
                    sx = k0 * vectors_of_box[0, 0] + k1 * vectors_of_box[1, 0] + k2 * vectors_of_box[2, 0]
                    sy = k0 * vectors_of_box[0, 1] + k1 * vectors_of_box[1, 1] + k2 * vectors_of_box[2, 1]
                    sz = k0 * vectors_of_box[0, 2] + k1 * vectors_of_box[1, 2] + k2 * vectors_of_box[2, 2]
                    x0, y0, z0 = inside[a, 0] - sx, inside[a, 1] - sy, inside[a, 2] - sz
                    found = 0
                    for k in range(_bisect(sorted_keys, begin), _bisect(sorted_keys, last + 1)):
                        # without a branch: most atoms are too far away
                        near[found] = k
                        found += (xs[k] - x0) ** 2 + (ys[k] - y0) ** 2 + (zs[k] - z0) ** 2 < wider
                    if used + found > len(j):
                        return -1
                    home = k0 == 0 and k1 == 0 and k2 == 0
                    for m in range(found):
                        k = near[m]
                        if home and order[k] == a:
                            continue
                        # in this order both ends of a pair see the same numbers but for their signs
                        x, y, z = xs[k] - inside[a, 0] + sx, ys[k] - inside[a, 1] + sy, zs[k] - inside[a, 2] + sz
                        square = x * x + y * y + z * z
                        if square >= limit:
                            continue
                        i[used], j[used] = a, order[k]
                        vectors[used, 0], vectors[used, 1], vectors[used, 2] = x, y, z
                        distances[used] = math.sqrt(square)
                        used += 1
        count[a - start] = used - before
    return used


@njit(cache=True, nogil=True)
def _image(k, n):
    """Image of the cell in which bin ``k`` of ``n`` lies."""
    return k // n if k < 0 or k >= n else 0


@njit(cache=True, nogil=True)
def _bisect(keys, key):
    """How many of the sorted keys are below this one."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low
