"""Energies that reference energies by least squares leave open: lone atoms, and other compositions."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.exceptions import GapkitWarning, OutOfDomainWarning
from gapkit.potential.joint import joint_energies
from gapkit.structures.labels import labelled_frames
from gapkit.structures.reference_energies import reference_energies
from gapkit.structures.structure import Structure

TERMS = [gapkit.Term(gapkit.SOAP(r_cut=3.5, n_max=4, l_max=2), gapkit.DotProduct(2), n_sparse=20)]
BOND = 4.75


def hydrogen(r):
    """H2 by a Morse potential whose atoms have -13.6 eV."""
    x = np.exp(-1.94 * (r - 0.741))
    atoms = Atoms("H2", positions=[[0, 0, 0], [r, 0, 0]])
    f = 2 * BOND * 1.94 * (1 - x) * x
    atoms.calc = SinglePointCalculator(atoms, energy=-27.2 + BOND * ((1 - x) ** 2 - 1), forces=[[f, 0, 0], [-f, 0, 0]])
    return atoms


def atom(energy=-13.6):
    atoms = Atoms("H", positions=[[0, 0, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((1, 3)))
    return atoms


TRAIN = [hydrogen(r) for r in np.linspace(0.6, 1.3, 15)]


@pytest.fixture(scope="module")
def bonded():
    return gapkit.GAP(TERMS, folds=3, random_state=0).fit(TRAIN)


@pytest.fixture(scope="module")
def with_atom():
    return gapkit.GAP(TERMS, folds=3, random_state=0).fit([*TRAIN, atom()])


def test_a_molecule_pulled_apart_has_the_uncertainty_of_its_bond(bonded):
    apart = hydrogen(6.0)
    found = bonded.predict([apart], uncertainty=True)
    error = abs(found.energy[0] - apart.get_potential_energy())
    assert error > 1 and 1 < found.energy_std[0] < 15
    assert error < 3 * found.energy_std[0]
    assert np.all(found.local_energy_std[0] > 0.5)


def test_a_molecule_pulled_apart_is_out_of_the_domain_in_either_way(bonded):
    for uncertainty in ("local", "full"):
        atoms = hydrogen(6.0)
        atoms.calc = bonded.calculator(uncertainty=uncertainty)
        with pytest.warns(OutOfDomainWarning):
            atoms.get_potential_energy()
        assert atoms.calc.results["domain_excess"] >= 2


def test_the_uncertainty_rises_towards_the_cutoff(bonded):
    r = np.array([1.0, 2.6, 2.9, 3.2, 3.4, 3.6])
    found = bonded.predict([hydrogen(x) for x in r], uncertainty=True)
    error = np.abs(found.energy - [hydrogen(x).get_potential_energy() for x in r])
    assert np.all(np.diff(found.energy_std[2:]) > 0)
    assert np.all(error < 6 * found.energy_std)


def test_with_an_isolated_atom_the_atoms_are_known(with_atom):
    found = with_atom.predict([hydrogen(6.0)], uncertainty=True)
    assert found.energy[0] == pytest.approx(-27.2, abs=0.02)
    assert found.energy_std[0] < 0.5
    assert not with_atom.potential_.reference.alone


def test_bonded_frames_have_no_uncertainty_from_this(bonded):
    reference = bonded.potential_.reference
    structure = bonded.potential_.structure(hydrogen(1.0))
    assert reference.alone and not reference.loadings(structure).any()


def test_energies_given_by_the_user_are_trusted():
    gap = gapkit.GAP(TERMS, e0={"H": -13.6}, folds=3, random_state=0).fit(TRAIN)
    assert not gap.potential_.reference.alone


def test_lone_atoms_err_together_in_differences_and_samples(bonded):
    frames = [hydrogen(6.0), hydrogen(9.0), hydrogen(0.8)]
    joint = joint_energies(bonded.potential_, frames)
    assert joint.difference(1, 0).std < 0.01 * joint.std[0]
    assert joint.difference(2, 0).std > 1
    rng = np.random.default_rng(0)
    from gapkit.potential.samples import Sampler, sampled_energies

    drawn = [s.evaluate(frames[0]).energy for s in Sampler.of(bonded.potential_, frames).samples(400, rng)]
    assert np.std(drawn) == pytest.approx(joint.std[0], rel=0.15)
    drawn = sampled_energies(bonded.potential_, frames, 400, rng)
    assert np.std(drawn[:, 0]) == pytest.approx(joint.std[0], rel=0.15)
    assert np.std(drawn[:, 0] - drawn[:, 1]) < 0.01 * joint.std[0]


def test_a_saved_model_keeps_what_is_open(bonded, tmp_path):
    bonded.save(tmp_path / "a.model")
    again = gapkit.load(tmp_path / "a.model").predict([hydrogen(6.0)], uncertainty=True)
    assert again.energy_std == pytest.approx(bonded.predict([hydrogen(6.0)], uncertainty=True).energy_std, rel=1e-12)


def labelled(formulas):
    e0 = {"H": -13.6, "O": -2040.0}
    frames = []
    for formula in formulas:
        atoms = Atoms(formula, positions=np.arange(3 * len(Atoms(formula))).reshape(-1, 3) * 0.7)
        atoms.info["energy"] = sum(e0[s] for s in atoms.get_chemical_symbols()) - len(atoms)
        frames.append(atoms)
    return labelled_frames(frames)


def test_a_composition_that_the_frames_do_not_tell_is_uncertain_by_the_scale_of_energies():
    with pytest.warns(GapkitWarning, match="do not determine"):
        found = reference_energies(labelled(["H2O", "H2O", "H4O2"]), [1, 8])
    water, hydroxyl = (Structure(Atoms(s, positions=np.eye(3)[: len(Atoms(s))]), 3.0) for s in ("H2O", "OH"))
    assert found.loadings(water) == pytest.approx(0, abs=1e-9)
    error = abs(found.of([1, 8]) - (-2040 - 13.6 - 2))
    std = abs(found.loadings(hydroxyl)).max()
    assert 0.2 * error < std < 5 * error


def test_compositions_that_tell_leave_nothing_open():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not reference_energies(labelled(["H2O", "H2", "O2"]), [1, 8]).open_combinations
