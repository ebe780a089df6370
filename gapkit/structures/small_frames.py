r"""Pairs of many small frames in one compiled pass: every pair of atoms with every lattice vector that can be near.

With dual vectors b_k of the periodic cell vectors a_k, :math:`b_k \cdot a_l = \delta_{kl}`, an image
:math:`r_j - r_i + \sum_k S_k a_k` within the cutoff has :math:`|b_k \cdot (r_j - r_i) + S_k| \le |b_k| r_{cut}`:
a short range of whole numbers S_k for any cell, however skewed. Pairs of different frames never meet.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: distances that are tried for one frame; frames that need more are left to searches that scale better
MOST_TRIALS = 60_000
#: a frame is plain (see :func:`plain_frames`) up to this coordinate (A) in periodic and in open directions, whose
#: diagonals are then within the limits of ``plausibility.check_extent``, ...
FARTHEST, WIDEST = 5e4, 250.0
#: ... with faces at least this far apart (A), and up to this many atoms per A^3
LOWEST, DENSEST = 0.6, 5.0
#: rounding that is allowed for at the ends of a range of images
MARGIN = 1e-9


@njit(cache=True, nogil=True)
def _cross(a, b, out):
    out[0] = a[1] * b[2] - a[2] * b[1]
    out[1] = a[2] * b[0] - a[0] * b[2]
    out[2] = a[0] * b[1] - a[1] * b[0]


@njit(cache=True, nogil=True)
def _dual(cell, pbc, box, dual):
    """Fill ``dual`` (3, 3) with the rows b_k, and return the volume of ``box``: the periodic vectors, and unit vectors
    across them for the directions that are not periodic."""
    periodic = 0
    for k in range(3):
        if pbc[k]:
            box[periodic] = cell[k]
            periodic += 1
    if periodic == 0:
        box[:] = 0.0
        for k in range(3):
            box[k, k] = 1.0
    if periodic == 1:
        a = box[0]
        least = 0
        for k in range(1, 3):
            if abs(a[k]) < abs(a[least]):
                least = k
        axis = np.zeros(3)
        axis[least] = 1.0
        _cross(a, axis, box[1])
        box[1] /= math.sqrt(box[1, 0] ** 2 + box[1, 1] ** 2 + box[1, 2] ** 2)
    if periodic == 1 or periodic == 2:
        _cross(box[0], box[1], box[2])
        box[2] /= math.sqrt(box[2, 0] ** 2 + box[2, 1] ** 2 + box[2, 2] ** 2)
    _cross(box[1], box[2], dual[0])
    _cross(box[2], box[0], dual[1])
    _cross(box[0], box[1], dual[2])
    volume = box[0, 0] * dual[0, 0] + box[0, 1] * dual[0, 1] + box[0, 2] * dual[0, 2]
    dual /= volume
    return periodic, abs(volume)


@njit(cache=True, nogil=True)
def plain_frames(positions, numbers, known, begin, cells, pbc, plain):
    """Mark in ``plain`` (frames,) the frames that need no closer look before their pairs are searched.

    Plain is a frame of known species (``known``: by atomic number), of moderate size, whose periodic cell is neither
    thin nor dense. A frame that is not plain may still be sound.
    """
    box, dual = np.empty((3, 3)), np.empty((3, 3))
    given = np.empty(3, dtype=np.bool_)
    for f in range(len(plain)):
        plain[f] = False
        n = begin[f + 1] - begin[f]
        if n == 0:
            continue
        open_frame = not (pbc[f, 0] or pbc[f, 1] or pbc[f, 2])
        limit = WIDEST if not (pbc[f, 0] and pbc[f, 1] and pbc[f, 2]) else FARTHEST
        sound = True
        for a in range(begin[f], begin[f + 1]):
            z = numbers[a]
            if z < 1 or z >= len(known) or not known[z]:
                sound = False
                break
            for axis in range(3):
                if not abs(positions[a, axis]) < limit:  # also where it is not a number
                    sound = False
        if not sound:
            continue
        for k in range(3):
            for axis in range(3):
                if not abs(cells[f, k, axis]) < FARTHEST:
                    sound = False
        if not sound:
            continue
        if open_frame:
            plain[f] = True
            continue
        for k in range(3):  # a vector that is there counts in the shape of the cell, periodic or not
            square = cells[f, k, 0] ** 2 + cells[f, k, 1] ** 2 + cells[f, k, 2] ** 2
            given[k] = pbc[f, k] or square > 0.0
            if given[k] and square < LOWEST**2:
                sound = False
        if not sound:
            continue
        known_vectors, volume = _dual(cells[f], given, box, dual)
        if not volume > 1e-6:
            continue
        for k in range(known_vectors):
            if dual[k, 0] ** 2 + dual[k, 1] ** 2 + dual[k, 2] ** 2 > 1.0 / LOWEST**2:
                sound = False
        everywhere = pbc[f, 0] and pbc[f, 1] and pbc[f, 2]
        plain[f] = sound and (not everywhere or n < DENSEST * volume)


@njit(cache=True, nogil=True)
def search(positions, begin, cells, pbc, r_cut, found, first, i, j, vectors, distances):
    """Pairs within ``r_cut`` of atoms ``begin[f]`` to ``begin[f + 1]`` of each frame f, sorted by central atom.

    ``found`` (frames,) says which frames were searched; those that need too many trials have no pairs here. Fills
    ``first`` (atoms + 1,), ``i``, ``j``, ``vectors`` and ``distances`` as ``neighbours.Neighbours`` has them, and
    returns the number of pairs, or -1 where there is no room for all.
    """
    box, dual = np.empty((3, 3)), np.empty((3, 3))
    reach = np.zeros(3)
    low, high = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    room = len(j)
    limit = r_cut * r_cut
    used = 0
    first[0] = 0
    for f in range(len(found)):
        n = begin[f + 1] - begin[f]
        periodic, _ = _dual(cells[f], pbc[f], box, dual)
        trials = 1.0 * n * n
        for k in range(3):
            reach[k] = math.sqrt(dual[k, 0] ** 2 + dual[k, 1] ** 2 + dual[k, 2] ** 2) * r_cut + MARGIN
            if k < periodic:
                trials *= 2 * reach[k] + 1
        found[f] = trials <= MOST_TRIALS  # also False where the cell is not finite
        for a in range(begin[f], begin[f + 1]):
            for axis in range(3):
                found[f] = found[f] and abs(positions[a, axis]) < 1e9
        if not found[f]:
            first[begin[f] + 1 : begin[f + 1] + 1] = used
            continue
        for a in range(begin[f], begin[f + 1]):
            x0, y0, z0 = positions[a, 0], positions[a, 1], positions[a, 2]
            for b in range(begin[f], begin[f + 1]):
                x, y, z = positions[b, 0] - x0, positions[b, 1] - y0, positions[b, 2] - z0
                low[:] = 0
                high[:] = 0
                for k in range(periodic):
                    along = dual[k, 0] * x + dual[k, 1] * y + dual[k, 2] * z
                    low[k] = math.ceil(-along - reach[k])
                    high[k] = math.floor(-along + reach[k])
                for s0 in range(low[0], high[0] + 1):
                    for s1 in range(low[1], high[1] + 1):
                        for s2 in range(low[2], high[2] + 1):
                            if a == b and s0 == 0 and s1 == 0 and s2 == 0:
                                continue
                            # in this order both ends of a pair see the same numbers but for their signs
                            vx = x + (s0 * box[0, 0] + s1 * box[1, 0] + s2 * box[2, 0])
                            vy = y + (s0 * box[0, 1] + s1 * box[1, 1] + s2 * box[2, 1])
                            vz = z + (s0 * box[0, 2] + s1 * box[1, 2] + s2 * box[2, 2])
                            square = vx * vx + vy * vy + vz * vz
                            if square < limit:
                                if used == room:
                                    return -1
                                i[used] = a
                                j[used] = b
                                vectors[used, 0] = vx
                                vectors[used, 1] = vy
                                vectors[used, 2] = vz
                                distances[used] = math.sqrt(square)
                                used += 1
            first[a + 1] = used
    return used
