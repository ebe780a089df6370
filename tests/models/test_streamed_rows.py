"""Rows of large frames: equal to those made at once, in memory that does not hold all derivatives."""

import tracemalloc

import numpy as np
import pytest
from ase.build import bulk

from gapkit.descriptors import SOAP, PairDistance
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models import streamed_rows
from gapkit.models.basis import SparseBasis


def basis_of(atoms, r_cut=3.5, n_max=4, l_max=3, directions=6, pairs=True):
    rng = np.random.default_rng(0)
    species = sorted(set(atoms.numbers.tolist()))
    soap = SOAP(r_cut=r_cut, n_max=n_max, l_max=l_max).for_species(species)
    pair = PairDistance(r_cut=r_cut).for_species(species)
    features = soap.basis_.n_features
    chosen = []
    for c in pair.channels if pairs else ():
        chosen.append((0, pair, SquaredExponential(0.6), c, rng.uniform(2, r_cut, size=(5, 1))))
    for channel in soap.channels:
        x = rng.normal(size=(7, features))
        x /= np.linalg.norm(x, axis=1)[:, None]
        chosen.append((1, soap, DotProduct(3), channel, x))
    onto = {(1, c): np.linalg.qr(rng.normal(size=(features, directions)))[0].T.copy() for c in soap.channels}
    return SparseBasis.build(chosen, 2, directions=onto)


@pytest.mark.parametrize(("environments", "group"), [(5, 7), (64, 3)])
def test_streamed_rows_equal_those_made_at_once(environments, group, monkeypatch):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (2, 1, 1)
    atoms.rattle(0.2, seed=1)
    basis = basis_of(atoms)
    structure = basis.structure(atoms)
    expected = basis.rows(structure, hidden=True)
    monkeypatch.setattr(streamed_rows, "AT_ONCE", 4)
    monkeypatch.setattr(streamed_rows, "ENVIRONMENTS", environments)
    monkeypatch.setattr(streamed_rows, "GROUP", group)
    got = basis.rows(structure, hidden=True)
    np.testing.assert_allclose(got.K, expected.K, rtol=1e-11, atol=1e-11 * np.abs(expected.K).max())
    np.testing.assert_allclose(got.prior, expected.prior, rtol=1e-11, atol=1e-11 * expected.prior.max())
    np.testing.assert_allclose(got.hidden, expected.hidden, rtol=1e-10, atol=1e-11 * expected.prior.max())
    assert (expected.hidden[:, 1] > 0.1 * expected.prior[:, 1]).any() and not expected.hidden[:, 0].any()
    np.testing.assert_array_equal(basis.rows(structure, prior=False).prior, 0.0)
    assert expected.prior.min(axis=0).max() > 0


def test_groups_hold_every_atom_once():
    atoms = bulk("Si", cubic=True) * (3, 3, 1)
    pairs = basis_of(atoms, r_cut=2.6).structure(atoms).pairs(2.6)
    groups = list(streamed_rows.neighbouring_groups(pairs, 10))
    assert max(map(len, groups)) == 10
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(len(atoms)))
    joined = np.isin(pairs.j[pairs.first[groups[0][0]] : pairs.first[groups[0][0] + 1]], groups[0])
    assert joined.all()  # the seed's neighbours came first


def test_memory_is_set_by_the_size_of_groups(monkeypatch):
    atoms = bulk("Si", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=0)
    basis = basis_of(atoms, r_cut=5.0, n_max=6, l_max=4, pairs=False)
    structure = basis.structure(atoms)

    def peak():
        tracemalloc.start()
        basis.rows(structure)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    monkeypatch.setattr(streamed_rows, "ENVIRONMENTS", 16)
    monkeypatch.setattr(streamed_rows, "GROUP", 32)
    basis.rows(structure)
    streamed = peak()
    monkeypatch.setattr(streamed_rows, "AT_ONCE", 10_000)
    assert streamed < 0.4 * peak()
