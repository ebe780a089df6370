"""The plain definition of a pair list, and what every pair list must keep."""

from collections import Counter

import numpy as np


def every_image(atoms, r_cut):
    """All pairs (i, j, vector) within ``r_cut``: the plain definition, over more images than can be near.

    A shift S with |r + S a| < r_cut has, by the pseudo-inverse P of the periodic vectors a, S = (r + S a) P - r P.
    """
    vectors = atoms.cell.array[atoms.pbc]
    inverse = np.linalg.pinv(vectors) if len(vectors) else np.zeros((3, 0))
    r = atoms.positions[None] - atoms.positions[:, None]
    nearest = -np.rint(r @ inverse)
    most = np.ceil(r_cut * np.linalg.norm(inverse, axis=0) + 0.5)
    ranges = [np.arange(-m, m + 1) for m in most]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(vectors)) if ranges else [[]]
    found = []
    for shift in shifts:
        images = r + (nearest + shift) @ vectors if len(vectors) else r
        keep = np.linalg.norm(images, axis=2) < r_cut
        for i, j in np.argwhere(keep):
            if i != j or np.abs(images[i, j]).max() > 1e-9:
                found.append((int(i), int(j), images[i, j]))
    return found


def in_order(i, j, vectors):
    order = np.lexsort(np.round(np.column_stack([vectors, j, i]), 5).T)
    return np.asarray(i)[order], np.asarray(j)[order], np.asarray(vectors)[order]


def same_pairs(pairs, i, j, vectors):
    """Whether a pair list holds these pairs, each as often, in the order that it promises."""
    assert len(pairs.i) == len(i)
    for mine, theirs in zip(in_order(pairs.i, pairs.j, pairs.vectors), in_order(i, j, vectors), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-9)
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(pairs.vectors, axis=1), rtol=1e-14)
    np.testing.assert_array_equal(pairs.i, np.repeat(np.arange(pairs.n_atoms), np.diff(pairs.first)))
    assert pairs.first[0] == 0 and pairs.first[-1] == len(pairs.i)


def both_ends_see_opposite_vectors(pairs):
    """To the last bit, so that forces add up to zero as well as rounding allows; plus 0.0 makes -0.0 zero."""
    one = Counter(zip(pairs.i.tolist(), pairs.j.tolist(), *(pairs.vectors.T + 0.0).tolist(), strict=True))
    other = Counter(zip(pairs.j.tolist(), pairs.i.tolist(), *(-pairs.vectors.T + 0.0).tolist(), strict=True))
    assert one == other
