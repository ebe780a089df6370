"""The ASE calculator: derivatives, sums, caching, uncertainties, and ASE's own drivers."""

import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from gapkit.exceptions import DataError, NumericsError, OutOfDomainWarning
from gapkit.potential.potential import Potential
from gapkit.sampling.dynamics import run_md
from tests.conftest import small_gap
from tests.numerical import central_difference, displaced, strained

# folds=1 is chosen on purpose in several tests
pytestmark = pytest.mark.filterwarnings("ignore:all frames fall into one fold:gapkit.exceptions.GapkitWarning")


@pytest.fixture(params=["plain", "zbl"])
def fitted(request, gap, train):
    """Without and with a baseline that acts at these distances."""
    if request.param == "plain":
        return gap
    baseline = {"name": "zbl", "r_cut": 3.4, "cutoff_width": 2.0}
    return small_gap(baseline=baseline, folds=1, noise={"energy": 0.01, "forces": 0.1, "virial": 0.1}).fit(train)


def rattled(seed=5, pbc=True):
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.rattle(0.15, rng=np.random.default_rng(seed))
    atoms.set_cell(atoms.cell.array @ [[1, 0.03, 0.01], [0, 1, 0.02], [0.02, 0, 1]], scale_atoms=True)
    atoms.pbc = pbc
    return atoms


def energy_of(calculator, atoms):
    atoms.calc = calculator
    return atoms.get_potential_energy()


@pytest.mark.parametrize("pbc", [True, (True, True, False), False], ids=["periodic", "slab", "cluster"])
def test_forces_are_the_derivative_of_the_energy(fitted, pbc):
    atoms, calculator = rattled(pbc=pbc), fitted.calculator()
    atoms.calc = calculator
    forces = atoms.get_forces().copy()
    numerical = np.array(
        [
            [-central_difference(lambda h: energy_of(calculator, displaced(atoms, a, x, h)), 2e-3) for x in range(3)]  # noqa: B023
            for a in range(len(atoms))
        ]
    )
    assert np.abs(forces).min() > 1e-4
    np.testing.assert_allclose(forces, numerical, rtol=0, atol=1e-6 * np.abs(forces).max())


@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=["periodic", "slab"])
def test_stress_is_the_strain_derivative_of_the_energy(fitted, pbc):
    atoms, calculator = rattled(pbc=pbc), fitted.calculator()
    atoms.calc = calculator
    stress = atoms.get_stress()
    numerical = [
        # a step well below the spacing of the radial table, whose third derivative jumps at its points
        central_difference(lambda h: energy_of(calculator, strained(atoms, v, h)), 1e-4) / atoms.get_volume()  # noqa: B023
        for v in range(6)
    ]
    assert np.abs(stress).min() > 1e-5
    np.testing.assert_allclose(stress, numerical, rtol=0, atol=1e-6 * np.abs(stress).max())


def test_local_energies_and_stresses_sum_to_the_whole(fitted):
    atoms = rattled()
    atoms.calc = fitted.calculator()
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-11)
    assert atoms.get_stresses().shape == (4, 6)
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), rtol=0, atol=1e-12)
    assert np.abs(atoms.get_stresses() - atoms.get_stress() / 4).max() > 1e-4  # not merely shared out
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert atoms.calc.results["free_energy"] == atoms.calc.results["energy"]


def test_calculator_and_predict_agree(fitted):
    atoms = rattled()
    p = fitted.predict([atoms], uncertainty=True)
    atoms.calc = fitted.calculator("full")
    assert atoms.get_potential_energy() == pytest.approx(p.energy[0], rel=1e-11, abs=1e-11)
    np.testing.assert_allclose(atoms.get_forces(), p.forces[0], atol=1e-10)
    atoms.calc = fitted.calculator("full", skin=0)  # the same pair list: the same numbers to the last digit
    assert atoms.get_potential_energy() == p.energy[0]
    np.testing.assert_array_equal(atoms.get_forces(), p.forces[0])
    np.testing.assert_array_equal(atoms.get_stress(), p.stress[0])
    np.testing.assert_array_equal(atoms.get_potential_energies(), p.local_energy[0])
    results = atoms.calc.results
    assert results["energy_std"] == p.energy_std[0]
    np.testing.assert_array_equal(results["forces_std"], p.forces_std[0])
    np.testing.assert_array_equal(results["stress_std"], p.stress_std[0])
    np.testing.assert_array_equal(results["energies_std"], p.local_energy_std[0])


def test_a_frame_that_is_not_periodic_has_no_stress(gap):
    atoms = rattled(pbc=False)
    atoms.cell = None
    atoms.calc = gap.calculator("full")
    for ask in (atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError, match="stress"):
            ask()
    energy = atoms.get_potential_energy()
    assert np.isfinite(energy)
    assert {"stress", "stresses", "stress_std"}.isdisjoint(atoms.calc.results)
    assert {"energies_std", "energy_std", "forces_std"} < set(atoms.calc.results)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    assert gap.predict([atoms]).stress == [None]


def test_uncertainty_local_and_full(gap):
    atoms = rattled()
    atoms.calc = gap.calculator()
    atoms.get_forces()
    assert not any(k.endswith("_std") for k in atoms.calc.results)
    atoms.calc = gap.calculator("local")
    atoms.get_forces()
    local = atoms.calc.results["energies_std"]
    assert [k for k in atoms.calc.results if k.endswith("_std")] == ["energies_std"]
    atoms.calc = gap.calculator("full")
    atoms.get_forces()
    full = atoms.calc.results
    assert np.all(local > 0.98 * full["energies_std"])  # of low rank, on the large side
    assert np.all(local < 1.6 * full["energies_std"])
    shapes = {"energy_std": (), "forces_std": (4, 3), "stress_std": (6,), "energies_std": (4,)}
    assert {k: np.shape(v) for k, v in full.items() if k.endswith("_std")} == shapes
    assert all(np.all(np.asarray(full[k]) > 0) for k in shapes)
    atoms.calc = gap.calculator("full", noise=False)
    atoms.get_forces()
    for k in shapes:
        assert np.all(atoms.calc.results[k] < full[k])


def squeezed():
    """Neighbours at 1.1 A, far from anything in the training set."""
    return Atoms("Cu3", positions=[[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0.3]])


@pytest.mark.parametrize("uncertainty", ["local", "full"])
def test_out_of_domain_is_said_exactly_once(gap, train, uncertainty):
    calculator = gap.calculator(uncertainty)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for atoms in train:
            energy_of(calculator, atoms.copy())
        assert said == []
        for shift in (0.0, 0.1, 0.2):
            atoms = squeezed()
            atoms.positions[1, 0] += shift
            energy_of(calculator, atoms)
    assert [w.category for w in said] == [OutOfDomainWarning]
    assert "out of the domain of the training data" in str(said[0].message)
    with pytest.warns(OutOfDomainWarning):
        energy_of(gap.calculator(uncertainty), squeezed())


def test_without_uncertainty_there_is_no_warning(gap):
    assert np.isfinite(energy_of(gap.calculator(), squeezed()))  # warnings are errors here


def counted(monkeypatch):
    calls = []
    original = Potential.evaluate

    def evaluate(self, *args, **kwargs):
        calls.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Potential, "evaluate", evaluate)
    return calls


def test_results_are_cached_and_never_stale(gap, monkeypatch):
    calls = counted(monkeypatch)
    atoms, other = rattled(), rattled(seed=6)
    atoms.calc = gap.calculator()
    first = atoms.get_potential_energy()
    atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energies()
    assert len(calls) == 1
    reference = gap.predict([other]).energy[0]
    changes = [
        lambda a: a.positions.__setitem__((0, 0), a.positions[0, 0] + 1e-6),
        lambda a: a.set_cell(a.cell.array * 1.001, scale_atoms=False),
        lambda a: a.set_pbc((True, True, False)),
        lambda a: a.__delitem__(3),
    ]
    for change in changes:
        before = atoms.get_potential_energy()
        change(atoms)
        fresh = atoms.copy()
        fresh.calc = gap.calculator()
        # a kept pair list and a fresh one add up in another order
        assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), rel=1e-11, abs=1e-11)
        assert abs(atoms.get_potential_energy() - before) > 1e-9
        np.testing.assert_allclose(atoms.get_forces(), fresh.get_forces(), atol=1e-10)
    other.calc = atoms.calc
    assert other.get_potential_energy() == pytest.approx(reference, rel=1e-11, abs=1e-11)
    again = rattled()
    again.calc = atoms.calc
    assert again.get_potential_energy() == first


def test_unrelated_changes_change_nothing(gap):
    atoms = rattled()
    atoms.calc = gap.calculator("full")
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces().copy(), atoms.get_stress().copy()
    atoms.set_momenta(np.ones((4, 3)))
    atoms.set_initial_charges([1, -1, 0, 0])
    atoms.set_initial_magnetic_moments([1, 1, 1, 1])
    atoms.set_masses([1, 2, 3, 4])
    atoms.info["config_type"] = "bulk"
    atoms.arrays["energy"] = np.full(4, 7.0)
    assert atoms.get_potential_energy() == energy
    np.testing.assert_array_equal(atoms.get_forces(), forces)
    np.testing.assert_array_equal(atoms.get_stress(), stress)


def test_a_frame_that_fails_leaves_no_results(gap):
    atoms = rattled()
    calculator = gap.calculator()
    atoms.calc = calculator
    atoms.get_potential_energy()
    bad = atoms.copy()
    bad.positions[1] = bad.positions[0]
    with pytest.raises(DataError, match="on one spot"):
        calculator.calculate(bad)
    assert calculator.results == {}
    bad.calc = calculator
    for _ in range(2):
        with pytest.raises(DataError):
            bad.get_potential_energy()


def test_an_energy_that_is_not_finite_is_an_error(gap, monkeypatch):
    from dataclasses import replace

    broken = replace(gap.potential_, alpha=np.full_like(gap.potential_.alpha, np.inf))
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(NumericsError, match="frame: .*not finite; atoms are far too close"),
    ):
        broken.evaluate(rattled())


def test_optimisers_of_ase_run(gap):
    atoms = rattled()
    atoms.calc = gap.calculator()
    start = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.02, steps=30)
    relaxed = atoms.get_potential_energy()
    assert relaxed < start - 0.05
    assert np.abs(atoms.get_forces()).max() < 0.03
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=0.02, steps=40)
    assert atoms.get_potential_energy() < relaxed
    assert np.abs(atoms.get_stress()).max() < 0.01


def test_dynamics_conserves_the_energy(gap):
    atoms = bulk("Cu", a=3.6, cubic=True) * (2, 1, 1)
    run = run_md(atoms, gap.calculator("local"), 200.0, 25, 1.0, random_state=0, record_every=10)
    np.testing.assert_array_equal(run.time, [0, 10, 20, 25])
    assert np.ptp(run.total_energy) < 2e-4 < np.ptp(run.potential_energy)
    assert run.temperature[0] == pytest.approx(200, rel=0.8)
    for frame, potential in zip(run.frames, run.potential_energy, strict=True):
        assert frame.get_potential_energy() / 8 == pytest.approx(potential, abs=1e-12)
        p = gap.predict([frame])
        np.testing.assert_allclose(frame.get_forces(), p.forces[0], atol=1e-12)
        np.testing.assert_allclose(frame.get_stress(), p.stress[0], atol=1e-12)
    assert "stress" not in atoms.info
    assert np.abs(atoms.get_momenta()).max() == 0.0  # the caller's frame stays


def test_the_error_of_velocity_verlet_falls_with_the_square_of_the_step(gap):
    spans = []
    for step in (2.0, 1.0):
        atoms = bulk("Cu", a=3.6, cubic=True)
        atoms.set_momenta(np.random.default_rng(1).normal(scale=2.0, size=(4, 3)))
        atoms.calc = gap.calculator()
        totals = []
        dynamics = VelocityVerlet(atoms, step * units.fs)
        dynamics.attach(lambda: totals.append(atoms.get_total_energy()))  # noqa: B023
        dynamics.run(int(60 / step))
        spans.append(np.ptp(totals))
    assert 3.0 < spans[0] / spans[1] < 5.0


def test_langevin_and_the_drift_of_a_straight_line(gap):
    run = run_md(rattled(), gap.calculator(), 300.0, 20, 1.0, "nvt", np.random.default_rng(3), record_every=5)
    assert len(run.frames) == 5
    object.__setattr__(run, "total_energy", 1.0 + 0.25 * run.time)
    assert run.drift == pytest.approx(0.25 * 20)
