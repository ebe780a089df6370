"""The pair potential of silver iodide: finite differences, strain, an independent sum, and its crystals."""

from __future__ import annotations

import ase
import numpy as np
import pytest
from scipy.special import erfc

from gapkit.apps.ion_transport.silver_iodide import SilverIodide, alpha_silver_iodide
from gapkit.exceptions import DataError, SettingsError, SpeciesError
from gapkit.testing import check_calculator


def disordered() -> ase.Atoms:
    atoms = alpha_silver_iodide(3, random_state=1)
    atoms.rattle(0.1, seed=0)
    atoms.calc = SilverIodide(7.0)
    return atoms


def test_energies_equal_a_plain_sum_over_pairs():
    atoms = disordered()
    r = atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]
    kind = np.add.outer(atoms.numbers == 53, (atoms.numbers == 53).astype(int))[np.triu_indices(len(atoms), 1)]
    charge = 0.5815**2 * 14.399645 * np.array([1, -1, 1])[kind]
    n, h, p, c = np.array([[11, 0.16, 0, 0], [9, 1310, 14.9, 0], [7, 5328, 29.8, 84.5]])[kind].T

    def value(r):
        return charge * erfc(0.25 * r) / r + h / r**n - p / r**4 - c / r**6

    slope = (value(7.0 + 1e-5) - value(7.0 - 1e-5)) / 2e-5
    expected = np.sum((value(r) - value(7.0) - (r - 7.0) * slope)[r < 7.0])
    assert atoms.get_potential_energy() == pytest.approx(expected, rel=1e-6)


def test_forces_and_stress_are_finite_differences():
    atoms = disordered()
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    assert np.abs(forces).max() > 0.5
    for i, c in ((0, 0), (70, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = SilverIodide(7.0)
            moved.positions[i, c] += sign * 1e-4
            energies.append(moved.get_potential_energy())
        assert forces[i, c] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-6)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.calc = SilverIodide(7.0)
        shear = np.eye(3)
        shear[0, 1] = shear[1, 0] = sign * 1e-5
        strained.set_cell(atoms.cell[:] @ shear, scale_atoms=True)
        energies.append(strained.get_potential_energy())
    assert 2 * stress[0, 1] * atoms.get_volume() == pytest.approx((energies[0] - energies[1]) / 2e-5, abs=1e-4)


def test_copies_are_evaluated_as_single_frames():
    atoms = disordered()
    other = atoms.positions + 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    energies, forces = SilverIodide(7.0).batch_forces(atoms)(np.array([atoms.positions, other]))
    assert energies[0] == pytest.approx(atoms.get_potential_energy())
    atoms.positions = other
    assert energies[1] == pytest.approx(atoms.get_potential_energy())
    np.testing.assert_allclose(forces[1], atoms.get_forces())


def test_a_skewed_cell_of_one_lattice_has_the_energy_of_the_straight_one():
    atoms = disordered()
    skewed = atoms.copy()
    a, b, c = atoms.cell[:]
    skewed.set_cell([a, b + a, c])
    skewed.positions += 40.0
    skewed.calc = SilverIodide(7.0)  # beyond half of the smallest height of the skewed cell, 5.4 A
    assert skewed.get_potential_energy() == pytest.approx(atoms.get_potential_energy())


def test_crystals_have_the_right_sites():
    ordered, random = alpha_silver_iodide(3, ordered=True), alpha_silver_iodide(3, random_state=0)
    for atoms in (ordered, random):
        assert atoms.get_chemical_formula() == "Ag54I54"
        distances = atoms.get_all_distances(mic=True)
        silver = distances[:54, 54:].min(axis=1)
        np.testing.assert_allclose(silver, 5.07 * np.sqrt(5) / 4)  # four iodides around each tetrahedral site
        assert distances[:54, :54][~np.eye(54, dtype=bool)].min() > 0.45 * 5.07


def test_frames_that_cannot_work_are_refused():
    with pytest.raises(SettingsError, match="cutoff"):
        SilverIodide(cutoff=-1.0)
    with pytest.raises(SettingsError, match="repeat"):
        alpha_silver_iodide(0)
    small = alpha_silver_iodide(2, ordered=True)
    small.calc = SilverIodide()
    with pytest.raises(DataError, match="larger cell"):
        small.get_potential_energy()
    wrong = ase.Atoms("NaI", [[0, 0, 0], [3, 0, 0]], cell=[20] * 3, pbc=True, calculator=SilverIodide())
    with pytest.raises(SpeciesError, match="Na"):
        wrong.get_potential_energy()
    broken = alpha_silver_iodide(3, ordered=True)
    broken.positions[7, 1] = np.nan
    with pytest.raises(DataError, match="atom 7"):
        SilverIodide().get_potential_energy(broken)
    flat = ase.Atoms("AgI", [[0, 0, 0], [3, 0, 0]], cell=[[20, 0, 0], [20, 0, 0], [0, 0, 20]], pbc=True)
    with pytest.raises(DataError, match="no volume"):
        SilverIodide().get_potential_energy(flat)


def test_a_pair_in_the_open_has_the_energy_of_the_pair_function():
    pair = ase.Atoms("AgI", [[0, 0, 0], [2.8, 0, 0]], calculator=SilverIodide(7.0))
    boxed = ase.Atoms("AgI", [[0, 0, 0], [2.8, 0, 0]], cell=[20] * 3, pbc=True, calculator=SilverIodide(7.0))
    assert pair.get_potential_energy() == pytest.approx(boxed.get_potential_energy())
    assert pair.get_forces()[0, 0] == pytest.approx(boxed.get_forces()[0, 0])


def test_the_calculator_passes_the_checks_for_calculators():
    atoms = alpha_silver_iodide(3, random_state=0)
    atoms.rattle(0.1, seed=1)
    report = check_calculator(SilverIodide(6.5), atoms)
    assert {"forces", "stress", "other cell vectors", "batch_forces"} <= set(report.passed)
