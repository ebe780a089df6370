"""Variances of local energies by forms of low rank, against the exact ones."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import gapkit
from gapkit.descriptors.base import smooth_cutoff
from gapkit.exceptions import OutOfDomainWarning
from gapkit.models.terms import Term
from gapkit.potential import local_variance
from gapkit.potential.local_variance import choose_forms, supports
from tests.conftest import copper_frames, label, small_gap

ZETA_2 = [
    Term(gapkit.PairDistance(r_cut=4.0), gapkit.SquaredExponential(0.7), n_sparse=10),
    Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(2), n_sparse=20, projection=12),
]
WIDE = [Term(gapkit.SOAP(r_cut=4.0, n_max=3, l_max=2), gapkit.DotProduct(2), n_sparse=20, projection=20)]


def alloy_frames(n, seed):
    frames = copper_frames(n, seed)
    for atoms in frames:
        atoms.calc = None
        atoms.symbols[::3] = "Ag"
    return [label(a) for a in frames]


def forms_of_full_rank(gap, frames, monkeypatch):
    monkeypatch.setattr(local_variance, "ERROR", -1.0)
    monkeypatch.setattr(local_variance, "WORTHWHILE", 0.0)
    monkeypatch.setattr(local_variance, "TABLE_POINTS", 10_000)  # the bound is read from the table linearly
    p = gap.potential_
    return replace(p, local_forms=choose_forms(p.basis, p.posterior, p.calibration, [p.structure(a) for a in frames]))


def pair_excess(p, atoms):
    """By how much the bound on the pair terms' residual exceeds that residual (eV^2)."""
    excess = np.zeros(len(atoms))
    structure = p.structure(atoms)
    rows = p.basis.local_rows(structure)
    A = p.basis.whiten(rows.K)
    for b in p.basis.blocks:
        if b.descriptor.settings()["name"] != "pair":
            continue
        pairs = structure.pairs(b.descriptor.r_cut)
        species = np.sort(structure.numbers[np.column_stack([pairs.i, pairs.j])], axis=1)
        mine = (species == b.channel).all(axis=1)
        r = pairs.distances[mine]
        weight = 0.5 * smooth_cutoff(r, b.descriptor.r_cut, b.descriptor.cutoff_width)[0]
        a = np.linalg.solve(b.factor, b.kernel(b.points / b.kernel.scale(np.ones((1, 1))), r[:, None]))
        root = weight * np.sqrt(np.maximum(1 - (a**2).sum(axis=0), 0))
        bound = np.bincount(pairs.i[mine], root, minlength=len(atoms)) ** 2
        excess += p.posterior.signal[b.term] ** 2 * bound
        excess += p.posterior.signal[b.term] ** 2 * (A[:, b.columns] ** 2).sum(axis=1)
    for t in {b.term for b in p.basis.blocks if b.descriptor.settings()["name"] == "pair"}:
        excess -= p.posterior.signal[t] ** 2 * rows.prior[:, t]
    return p.calibration.of("energy").residual_scale * excess


@pytest.mark.parametrize(
    "changes", [{}, {"terms": ZETA_2}, {"terms": WIDE}], ids=["kernel sum", "collapsed, projected", "collapsed, whole"]
)
@pytest.mark.parametrize("make", [copper_frames, alloy_frames], ids=["one species", "two species"])
def test_a_form_of_full_rank_gives_the_exact_variance(changes, make, monkeypatch):
    gap = small_gap(**changes).fit(make(12, seed=1))
    p = forms_of_full_rank(gap, make(12, seed=1), monkeypatch)
    for atoms in make(4, seed=2):
        expected = p.local_std(p.structure(atoms), include_noise=False) ** 2 + pair_excess(p, atoms)
        found = p.evaluate(atoms, local_variance=True)
        # of that table, whose bound has corners
        np.testing.assert_allclose(found.local_variance, expected, rtol=1e-3)
        np.testing.assert_allclose(found.forces, p.evaluate(atoms).forces, atol=1e-12)
        assert found.energy == p.evaluate(atoms).energy
        assert p.evaluate(atoms).local_variance is None


def test_forms_of_a_fit_err_on_the_large_side(gap, held_out):
    p = gap.potential_
    assert sorted(p.local_forms) == [1]
    noise = p.calibration.of("energy").noise
    for atoms in held_out:
        exact = np.hypot(p.local_std(p.structure(atoms), include_noise=False), noise)
        found = np.sqrt(p.evaluate(atoms, local_variance=True).local_variance + noise**2)
        assert np.all(found > 0.98 * exact)
        assert np.all(found < 1.6 * exact)


def test_rank_follows_the_stated_error(gap, train, monkeypatch):
    p = gap.potential_
    structures = [p.structure(a) for a in train]
    ranks = []
    for error in (2.0, 0.3, 0.0):
        monkeypatch.setattr(local_variance, "ERROR", error)
        ranks.append(len(choose_forms(p.basis, p.posterior, p.calibration, structures)[1].signs))
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1]


def test_the_calculator_uses_the_form_and_the_file_keeps_it(gap, held_out, tmp_path):
    gap.save(tmp_path / "m.gapkit")
    again = gapkit.load(tmp_path / "m.gapkit")
    atoms = held_out[0].copy()
    found = []
    for model in (gap, again):
        atoms.calc = model.calculator("local")
        atoms.get_potential_energy()
        found.append(atoms.calc.results["energies_std"])
    p = gap.potential_
    variance = p.evaluate(atoms, local_variance=True).local_variance
    np.testing.assert_allclose(found[0], p.with_noise(variance, True), rtol=1e-7)
    np.testing.assert_array_equal(found[0], found[1])
    atoms.calc = gap.calculator("full")
    atoms.get_potential_energy()
    exact = atoms.calc.results["energies_std"]
    assert not np.array_equal(exact, found[0])
    np.testing.assert_allclose(exact, p.local_std(p.structure(atoms)), rtol=1e-7)


def test_a_frame_far_from_the_data_is_still_seen(gap):
    far = Atoms("Cu3", positions=[[0, 0, 0], [1.2, 0, 0], [0, 1.3, 0]])
    far.calc = gap.calculator("local")
    with pytest.warns(OutOfDomainWarning):
        far.get_potential_energy()
    usual = copper_frames(1, seed=5)[0]
    usual.calc = gap.calculator("local")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        usual.get_potential_energy()


def test_an_update_shows_at_once(train, held_out):
    gap = small_gap().fit(train)
    atoms = held_out[0].copy()

    def deviations():
        atoms.calc = gap.calculator("local")
        atoms.get_potential_energy()
        return atoms.calc.results["energies_std"]

    before = deviations()
    gap.update(held_out)
    assert gap.potential_.local_forms == {}
    np.testing.assert_allclose(deviations(), gap.potential_.local_std(gap.potential_.structure(atoms)), rtol=1e-7)
    assert deviations().mean() < before.mean()


def test_one_environment_is_enough_to_choose_a_form(gap, train):
    p = gap.potential_
    structure = p.structure(bulk("Cu"))
    assert structure.n_atoms == 1
    assert len(choose_forms(p.basis, p.posterior, p.calibration, [structure])[1].signs) > 0


def test_asking_for_variances_without_a_form_says_so(train, held_out):
    p = replace(small_gap().fit(train).potential_, local_forms={})
    with pytest.raises(gapkit.exceptions.SettingsError, match="has_fast_local_variance"):
        p.evaluate(held_out[0], local_variance=True)


def test_other_models_fall_back_on_exact_variances(train, held_out):
    terms = [
        Term(gapkit.SOAP(r_cut=4.0, n_max=3, l_max=2), gapkit.DotProduct(2), n_sparse=10),
        Term(gapkit.SOAP(r_cut=3.0, n_max=3, l_max=2), gapkit.DotProduct(2), n_sparse=10),
    ]
    gap = small_gap(terms=terms).fit(train)
    p = gap.potential_
    assert not supports(p.basis)
    assert p.local_forms == {}
    atoms = held_out[0].copy()
    atoms.calc = gap.calculator("local")
    atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.calc.results["energies_std"], p.local_std(p.structure(atoms)), rtol=1e-7)
