"""Molecular dynamics: the thermostat against its equation of motion."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from gapkit.exceptions import SettingsError
from gapkit.sampling.dynamics import langevin, run_md


class NoForces(Calculator):
    """Atoms that do not see each other."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_a_free_atom_at_zero_kelvin_slows_down_by_the_friction_alone():
    """Langevin at 0 K: dv/dt = -v / 100 fs, so that v falls by e in 100 fs."""
    atoms = Atoms("Ar")
    atoms.set_velocities([[0.01, -0.02, 0.03]])
    run = run_md(atoms, NoForces(), 0.0, 100, 0.5, "nvt", np.random.default_rng(0), record_every=50)
    assert run.time.tolist() == [0.0, 25.0, 50.0]
    for time, frame in zip(run.time, run.frames, strict=True):
        np.testing.assert_allclose(frame.get_velocities(), atoms.get_velocities() * np.exp(-time / 100), rtol=1e-5)
    speed2 = 0.01**2 + 0.02**2 + 0.03**2
    assert run.total_energy[0] == pytest.approx(0.5 * atoms.get_masses()[0] * speed2)
    assert run.frames[-1].positions[0, 2] == pytest.approx(0.03 * 100 * units.fs * (1 - np.exp(-0.5)), rel=1e-4)


def test_velocities_that_are_drawn_leave_the_centre_of_mass_at_rest():
    """Of two atoms with other masses: opposite momenta, which free atoms keep."""
    atoms = Atoms("ArNe", positions=[[0, 0, 0], [5, 0, 0]])
    run = run_md(atoms, NoForces(), 300.0, 20, random_state=0)
    for frame in run.frames:
        momenta = frame.get_momenta()
        np.testing.assert_allclose(momenta[0], -momenta[1], atol=1e-12)
        assert np.linalg.norm(momenta[0]) > 0.1
    assert not atoms.get_momenta().any()


def test_a_seed_and_its_generator_give_the_same_run():
    atoms = Atoms("ArNe", positions=[[0, 0, 0], [5, 0, 0]])
    runs = [run_md(atoms, NoForces(), 300.0, 5, 1.0, "nvt", state) for state in (7, np.random.default_rng(7), 8)]
    moved = [run.frames[-1].positions for run in runs]
    np.testing.assert_array_equal(moved[0], moved[1])
    assert not np.allclose(moved[0], moved[2])


@pytest.mark.parametrize("state", ["seven", -1, 1.5])
def test_a_random_state_of_another_kind_is_refused(state):
    with pytest.raises(SettingsError, match="random_state must be a seed of at least 0, a generator or None"):
        run_md(Atoms("Ar"), NoForces(), 300.0, 5, random_state=state)
    with pytest.raises(SettingsError, match="random_state must be a seed of at least 0, a generator or None"):
        langevin(Atoms("Ar"), 300.0, 1.0, state)
