"""The fitted potential as physics: invariances, continuity, forces, conservation, error bars."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet

import gapkit
from gapkit.sampling.dynamics import run_md
from gapkit.uncertainty.calibration import Calibration, GroupCalibration
from gapkit.uncertainty.label_errors import StatedErrors
from tests.conftest import label
from tests.numerical import central_difference, displaced, random_rotation, strained


def alloys(n, seed):
    """Rattled, strained Cu-Ag cells of four to eight atoms, and one isolated atom of each."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True, a=3.75 + 0.3 * rng.uniform()) * (1, 1, 1 + k % 2)
        atoms.symbols[rng.integers(len(atoms))] = "Ag"
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(scale=0.03, size=(3, 3))), scale_atoms=True)
        atoms.rattle(rng.uniform(0.02, 0.15), rng=rng)
        frames.append(label(atoms))
    return frames + [label(Atoms(s)) for s in ("Cu", "Ag")]


@pytest.fixture(scope="module")
def gap():
    terms = [
        gapkit.Term(gapkit.PairDistance(4.5), gapkit.SquaredExponential(0.5), n_sparse=20),
        gapkit.Term(gapkit.Triplet(3.4, 0.6), gapkit.SquaredExponential((0.8, 1.0, 0.8)), n_sparse=30),
        gapkit.Term(gapkit.SOAP(r_cut=4.5, n_max=5, l_max=4), gapkit.DotProduct(4), n_sparse=120),
    ]
    return gapkit.GAP(terms=terms, baseline="zbl", random_state=0).fit(alloys(60, seed=1))


@pytest.fixture(scope="module")
def frame():
    return alloys(2, seed=9)[1]


def test_it_learns(gap):
    report = gap.evaluate(alloys(12, seed=2)).summary
    assert report["energy_rmse_mev_per_atom"] < 15
    assert report["force_rmse_ev_per_ang"] < 0.15
    assert 0.3 < report["force_z_std"] < 3


@pytest.mark.parametrize("atom", [0, 5])
def test_forces_are_the_derivative_of_the_energy(gap, frame, atom):
    evaluate = gap.potential_.evaluate
    forces = evaluate(frame).forces
    for axis in range(3):
        numerical = -central_difference(lambda s, x=axis: evaluate(displaced(frame, atom, x, s)).energy, 1e-3)
        assert forces[atom, axis] == pytest.approx(numerical, abs=1e-6 * np.abs(forces).max())
    assert np.abs(forces[atom]).max() > 0.02


@pytest.mark.parametrize("component", range(6))
def test_virial_is_the_strain_derivative_of_the_energy(gap, frame, component):
    evaluate = gap.potential_.evaluate
    virial = evaluate(frame).virial
    numerical = -central_difference(lambda s: evaluate(strained(frame, component, s)).energy, 3e-4)
    assert virial[component] == pytest.approx(numerical, abs=1e-6 * np.abs(virial).max())


def test_energy_forces_and_error_bars_follow_symmetry(gap, frame):
    rng = np.random.default_rng(3)
    p = gap.potential_
    mean, spread = p.evaluate(frame), p.spread(frame)
    order, rotation = rng.permutation(len(frame)), random_rotation(rng)
    moved = frame[order]
    moved.calc = None
    moved.set_cell(moved.cell.array @ rotation.T)
    moved.positions = moved.positions @ rotation.T + rng.normal(scale=5, size=3)
    moved.wrap()
    other, other_spread = p.evaluate(moved), p.spread(moved)
    assert other.energy == pytest.approx(mean.energy, rel=1e-10)
    np.testing.assert_allclose(other.forces, mean.forces[order] @ rotation.T, atol=1e-9)
    np.testing.assert_allclose(other.local_energy, mean.local_energy[order], atol=1e-9)
    np.testing.assert_allclose(other_spread.local_energy, spread.local_energy[order], rtol=1e-6)
    assert other_spread.energy == pytest.approx(spread.energy, rel=1e-6)


def test_energy_does_not_depend_on_the_choice_of_cell(gap, frame):
    p = gap.potential_
    mean = p.evaluate(frame)
    sheared = make_supercell(frame, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    assert p.evaluate(sheared).energy == pytest.approx(mean.energy, rel=1e-10)
    double = p.evaluate(frame * (1, 2, 1))
    assert double.energy == pytest.approx(2 * mean.energy, rel=1e-10)
    np.testing.assert_allclose(double.stress, mean.stress, atol=1e-11)


def test_energy_and_forces_are_continuous_as_an_atom_crosses_the_cutoff(gap):
    p = gap.potential_
    for r_cut in (4.5, 3.4):
        sides = []
        for r in (r_cut - 1e-7, r_cut + 1e-7):
            atoms = Atoms("CuAgCu", positions=[[0, 0, 0], [2.4, 0.3, 0], [0, 0, r]])
            sides.append(p.evaluate(atoms))
        work = -2e-7 * sides[0].forces[2, 2]  # the energy may change by the work of the force, and by no more
        assert sides[1].energy - sides[0].energy == pytest.approx(work, abs=3e-9)
        np.testing.assert_allclose(sides[0].forces, sides[1].forces, atol=1e-5)


def test_isolated_atom_has_its_reference_energy(gap):
    for symbol in ("Cu", "Ag"):
        atoms = label(Atoms(symbol))
        assert gap.potential_.evaluate(atoms).energy == pytest.approx(atoms.get_potential_energy(), abs=5e-3)


def test_local_energies_and_atomic_virials_sum(gap, frame):
    mean = gap.potential_.evaluate(frame)
    assert mean.local_energy.sum() == pytest.approx(mean.energy, rel=1e-12)
    np.testing.assert_allclose(mean.atomic_virials.sum(axis=0), mean.virial, atol=1e-12)
    np.testing.assert_allclose(mean.forces.sum(axis=0), 0, atol=1e-10)


def test_thread_counts_agree(gap):
    atoms = bulk("Cu", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=1)
    results = []
    for n_jobs in (1, 2):
        for block in gap.potential_.basis.blocks:
            if isinstance(block.descriptor, gapkit.SOAP):
                block.descriptor.n_jobs = n_jobs
        results.append(gap.potential_.evaluate(atoms))
    assert results[0].energy == pytest.approx(results[1].energy, rel=1e-10)
    np.testing.assert_allclose(results[0].forces, results[1].forces, atol=1e-10)


def test_error_bars_grow_away_from_the_data(gap, frame):
    p = gap.potential_
    near = p.spread(frame, noise=False)
    far = frame.copy()
    far.rattle(0.6, seed=5)
    strange = p.spread(far, noise=False)
    assert strange.energy > 1.5 * near.energy
    assert strange.forces.max() > 2 * near.forces.max()
    with_noise = p.spread(frame)
    assert with_noise.energy > near.energy > 0
    assert np.all(with_noise.forces > near.forces)


def test_local_energies_have_the_levels_of_the_frames_config_type(gap, frame):
    """Variances of the function four times as large, and noise of 50 in place of 10 meV."""
    levels = {"energy": GroupCalibration(0.01, 1.0, 1.0), "energy:liquid": GroupCalibration(0.05, 4.0, 4.0)}
    potential = replace(gap.potential_, errors=StatedErrors(Calibration(levels, 1.0, 1.0)))
    alone = potential.spread(frame, noise=False, forces=False).local_energy ** 2
    assert alone.min() > 0
    for config_type, factor, noise in ((None, 1.0, 0.01), ("liquid", 4.0, 0.05), ("unknown", 1.0, 0.01)):
        found = potential.spread(frame, forces=False, config_type=config_type).local_energy ** 2
        np.testing.assert_allclose(found, factor * alone + noise**2, rtol=1e-9)


@pytest.mark.slow
def test_dynamics_conserve_energy(gap):
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    run = run_md(atoms, gap.calculator(), 600.0, 1000, 1.0, random_state=0)
    assert abs(run.drift) < 1e-4
    assert run.total_energy.std() < 1e-3
    assert run.potential_energy.std() > 1e-3  # it does move


def test_the_calculator_drives_ase_dynamics(gap):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=3)
    atoms.calc = gap.calculator()
    before = atoms.get_total_energy()
    VelocityVerlet(atoms, units.fs).run(20)
    assert atoms.get_total_energy() == pytest.approx(before, abs=4e-3)
    assert atoms.get_kinetic_energy() > 1e-3


@pytest.mark.parametrize("kind", ["energy", "forces", "stress"])
def test_each_label_kind_alone_teaches_its_own_quantity(kind):
    """Signs and units of every kind of row: a model taught by one kind predicts that kind on new frames."""

    def only(frames):
        kept = []
        for atoms in frames:
            if kind in atoms.calc.results and len(atoms) > 1:
                kept.append(atoms.copy())
                kept[-1].calc = SinglePointCalculator(kept[-1], **{kind: atoms.calc.results[kind]})
        return kept

    terms = [gapkit.Term(gapkit.SOAP(r_cut=4.5, n_max=5, l_max=4), gapkit.DotProduct(2), n_sparse=60)]
    e0 = {"Cu": 3.51, "Ag": 2.96}
    model = gapkit.GAP(terms=terms, e0=e0, folds=3, random_state=0).fit(only(alloys(40, seed=4)))
    test = only(alloys(10, seed=5))
    prediction = model.predict(test)
    got = np.concatenate([np.ravel(p) for p in getattr(prediction, kind)])
    expected = np.concatenate([np.ravel(atoms.calc.results[kind]) for atoms in test])
    if kind == "energy":
        sizes = np.array([len(atoms) for atoms in test])
        got, expected = got / sizes, expected / sizes
    assert np.sqrt(np.mean((got - expected) ** 2)) < 0.35 * expected.std()


def test_an_interrupted_run_keeps_what_it_recorded(gap):
    def stop(step):
        if step == 20:
            raise KeyboardInterrupt

    run = run_md(bulk("Cu", cubic=True), gap.calculator(), 300.0, 1000, random_state=0, step_callback=stop)
    assert run.interrupted
    np.testing.assert_array_equal(run.time, [0, 10, 20])
    assert len(run.frames) == 3
