"""Pair lists against vesin's own full list, for cells of any shape."""

import ase
import numpy as np
import pytest
import vesin

from gapkit.structures.neighbours import _search_box, neighbours


def in_order(i, j, vectors):
    return np.lexsort(np.round(np.column_stack([vectors, j, i]), 6).T)


@pytest.mark.parametrize("seed", range(60))
def test_both_ways_of_each_pair(seed):
    """Small skewed cells with many images of one atom, any periodicity; cutoffs up to several cells."""
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * rng.uniform(1.5, 5) + 2 * np.eye(3)
    n, r_cut = int(rng.integers(1, 6)), float(rng.uniform(2, 7))
    atoms = ase.Atoms(f"Si{n}", scaled_positions=rng.random((n, 3)), cell=cell, pbc=rng.random(3) < 0.7)
    pairs = neighbours(atoms, r_cut)
    box, pbc = _search_box(atoms, r_cut)
    i, j, vectors, distances = vesin.NeighborList(cutoff=r_cut, full_list=True).compute(
        points=atoms.positions, box=box, periodic=pbc, quantities="ijDd"
    )
    assert len(pairs.i) == len(i)
    mine, theirs = in_order(pairs.i, pairs.j, pairs.vectors), in_order(i, j, vectors)
    np.testing.assert_array_equal(pairs.i[mine], i[theirs])
    np.testing.assert_array_equal(pairs.j[mine], j[theirs])
    np.testing.assert_allclose(pairs.vectors[mine], vectors[theirs], atol=1e-10)
    np.testing.assert_allclose(pairs.distances[mine], distances[theirs], atol=1e-10)
    assert np.array_equal(pairs.i, np.repeat(np.arange(n), np.diff(pairs.first)))
