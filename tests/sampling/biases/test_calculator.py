"""Biased calculator: against its parts, finite differences, and one copy at a time."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from gapkit.exceptions import SettingsError
from gapkit.sampling.batches import batch_forces
from gapkit.sampling.biases import Angle, Biased, Centroid, Coordination, Distance, Harmonic, Torsion, Walls
from tests.numerical import VOIGT, central_difference, displaced, strained


def copper():
    """A rattled cell of eight atoms, large enough for the images of its neighbours."""
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    return atoms


def biases():
    return [
        Harmonic(Distance(0, 1), 2.3, 2.0),
        Harmonic(Torsion(3, 0, 1, 2), 1.0, 0.3),
        Walls(Coordination((4,), tuple(range(8)), r_0=2.8), 1.0, upper=2.0),
    ]


def test_results_are_those_of_the_calculator_and_the_biases():
    atoms = copper()
    atoms.calc = Biased(EMT(), biases())
    plain = copper()
    plain.calc = EMT()
    added = [b.evaluate(atoms.positions, atoms.cell, True) for b in biases()]
    energy = sum(float(a.energy[0]) for a in added)
    assert atoms.get_potential_energy() == pytest.approx(plain.get_potential_energy() + energy)
    assert atoms.calc.results["bias_energy"] == pytest.approx(energy)
    assert energy > 0.1
    assert atoms.calc.results["unbiased_energy"] == pytest.approx(plain.get_potential_energy())
    np.testing.assert_allclose(atoms.get_forces(), plain.get_forces() + sum(a.forces[0] for a in added), atol=1e-12)
    assert atoms.calc.results["collective_variables"][0] == pytest.approx(atoms.get_distance(0, 1, mic=True))
    assert len(atoms.calc.results["collective_variables"]) == 3


def test_forces_are_minus_the_derivative_of_the_energy():
    atoms = copper()
    atoms.calc = Biased(EMT(), biases())
    forces = atoms.get_forces()
    for atom, axis in ((0, 0), (1, 2), (4, 1), (3, 0)):

        def energy(h, atom=atom, axis=axis):
            moved = displaced(atoms, atom, axis, h)
            moved.calc = Biased(EMT(), biases())
            return moved.get_potential_energy()

        assert forces[atom, axis] == pytest.approx(-central_difference(energy, 1e-3), abs=1e-5)


@pytest.mark.parametrize("component", range(6))
def test_stress_is_the_derivative_by_a_strain(component):
    atoms = copper()
    calculator = Biased(LennardJones(sigma=2.2, epsilon=0.1, rc=3.3, smooth=True), biases())
    atoms.calc = calculator
    stress = atoms.get_stress()

    def energy(h):
        moved = strained(atoms, component, h)
        moved.calc = calculator
        return moved.get_potential_energy()

    numeric = central_difference(energy, 1e-4) / atoms.get_volume()
    assert stress[component] == pytest.approx(numeric, abs=1e-7)
    calculator.calculator.calculate(atoms, ["stress"])
    plain = calculator.calculator.results["stress"]
    assert np.abs(stress - plain).max() > 1e-4, f"the biases have a virial ({VOIGT[component]})"


def test_copies_at_once_are_copies_one_by_one():
    atoms = copper()
    x = atoms.positions + np.random.default_rng(0).normal(scale=0.1, size=(3, *atoms.positions.shape))
    windows = Harmonic(Distance(0, 1), (2.0, 2.5, 3.0), 4.0)
    energies, forces = batch_forces(atoms, Biased(EMT(), [windows, *biases()]))(x)
    for r in range(3):
        one = atoms.copy()
        one.positions = x[r]
        one.calc = Biased(EMT(), [windows.window(r), *biases()])
        assert energies[r] == pytest.approx(one.get_potential_energy())
        np.testing.assert_allclose(forces[r], one.get_forces(), atol=1e-10)


class Batched(EMT):
    """Counts how often copies are evaluated together."""

    together = 0

    def batch_forces(self, atoms):
        single = batch_forces(atoms, EMT())

        def evaluate(positions):
            self.together += 1
            return single(positions)

        return evaluate


def test_a_calculator_that_takes_copies_at_once_is_asked_once():
    calculator = Batched()
    atoms = copper()
    energies, _ = batch_forces(atoms, Biased(calculator, biases()))(np.array([atoms.positions] * 4))
    assert calculator.together == 1
    assert np.ptp(energies) == 0


def test_results_follow_the_atoms():
    """Positions that change are seen; a calculator that fails leaves no results."""
    water = molecule("H2O")
    water.calc = Biased(EMT(), Harmonic(Angle(1, 0, 2), 2.0, 1.0))
    before = water.get_potential_energy()
    water.positions[1, 1] += 0.2
    assert water.get_potential_energy() != before
    water.positions[1] = water.positions[0]
    with pytest.raises(ArithmeticError, match="same place"):
        water.calc.calculate(water, ["energy"])
    assert water.calc.results == {}


class WithErrors(Calculator):
    """Constant energy, with its standard deviation and local energies."""

    implemented_properties = ("energy", "forces", "energies")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        n = len(atoms)
        self.results = {"energy": 1.0, "forces": np.zeros((n, 3)), "energies": np.ones(n) / n, "energy_std": 0.1}


def test_error_bars_pass_and_local_energies_do_not():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1.0]])
    atoms.calc = Biased(WithErrors(), [Harmonic(Distance(0, 1), 2.0, 4.0)])
    assert atoms.get_potential_energy() == 3
    assert atoms.calc.results["energy_std"] == 0.1
    assert "energies" not in atoms.calc.results
    assert atoms.calc.implemented_properties == ["energy", "forces"]
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_a_frame_without_a_volume_has_no_stress():
    water = molecule("H2O")
    water.calc = Biased(EMT(), [Harmonic(Distance(0, 1), 1.0, 1.0)])
    with pytest.raises(PropertyNotImplementedError, match="no stress"):
        water.get_stress()


def test_what_a_biased_calculator_refuses():
    water = molecule("H2O")
    bias = Harmonic(Distance(0, 1), 1.0, 1.0)
    with pytest.raises(SettingsError, match="at least one bias"):
        Biased(EMT(), [])
    with pytest.raises(SettingsError, match="3 is no bias"):
        Biased(EMT(), [3])
    with pytest.raises(SettingsError, match="no ASE calculator"):
        Biased(None, [bias])
    with pytest.raises(SettingsError, match="centroid"):
        Biased(EMT(), [Harmonic(Centroid(Distance(0, 1)), 1.0, 1.0)])
    far = Biased(EMT(), [Harmonic(Distance(0, 7), 1.0, 1.0)])
    with pytest.raises(SettingsError, match=r"no atom 7 in a frame of 3 atoms \(0 to 2\)"):
        far.batch_forces(water)
    water.calc = far
    with pytest.raises(SettingsError, match="no atom 7 in a frame of 3"):
        water.get_potential_energy()
    water.calc = Biased(EMT(), [Harmonic(Distance(0, 1), (1.0, 2.0), 1.0)])
    with pytest.raises(SettingsError, match="2 centres for 1 copies"):
        water.get_potential_energy()
    with pytest.raises(SettingsError, match="give an instance"):
        Biased(EMT, [bias])
    with pytest.raises(SettingsError, match=r"Distance\(i=0, j=1\) is no bias"):
        Biased(EMT(), Distance(0, 1))
