"""Pair lists against vesin's own full list, for cells of any shape."""

import ase
import numpy as np
import pytest
import vesin

from gapkit.structures import neighbours as module
from gapkit.structures.neighbours import _bins, _search_box, neighbours


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


def as_vesin_finds_them(atoms, r_cut):
    box, pbc = _search_box(atoms, r_cut)
    return vesin.NeighborList(cutoff=r_cut, full_list=True).compute(
        points=atoms.positions, box=box, periodic=pbc, quantities="ijD"
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n_threads", [1, 3])
def test_bins_find_what_vesin_finds(seed, n_threads, monkeypatch):
    """Cells of three bins and more each way, skewed and left-handed ones too; atoms outside, on faces, and crowded."""
    rng = np.random.default_rng(seed)
    r_cut = float(rng.uniform(1.5, 3.0))
    cell = np.diag(rng.uniform(3.0, 6.0, size=3) * r_cut * [1, 1, rng.choice([-1, 1])])
    cell = cell + 0.15 * r_cut * rng.normal(size=(3, 3))
    n = 200
    scaled = rng.uniform(-1.5, 2.5, size=(n, 3))
    scaled[:20] = np.round(scaled[:20])
    scaled[20:120] = 0.5 + 0.05 * rng.normal(size=(100, 3))  # far denser than the average: no room at first
    atoms = ase.Atoms(f"Si{n}", scaled_positions=scaled, cell=cell, pbc=True)
    if _bins(_search_box(atoms, r_cut)[0], r_cut).min() < 3:
        pytest.skip("the cell came out too thin")
    monkeypatch.setattr(module, "LEAST_PART", 10)
    monkeypatch.setattr(module.vesin, "NeighborList", None)  # it is not asked
    pairs = neighbours(atoms, r_cut, n_threads)
    monkeypatch.undo()
    i, j, vectors = as_vesin_finds_them(atoms, r_cut)
    mine, theirs = in_order(pairs.i, pairs.j, pairs.vectors), in_order(i, j, vectors)
    np.testing.assert_array_equal(pairs.i[mine], i[theirs])
    np.testing.assert_array_equal(pairs.j[mine], j[theirs])
    np.testing.assert_allclose(pairs.vectors[mine], vectors[theirs], atol=1e-10)
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(pairs.vectors, axis=1), atol=1e-12)
    assert np.array_equal(pairs.i, np.repeat(np.arange(n), np.diff(pairs.first)))
