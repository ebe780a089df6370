"""Replicas in motion: thermal averages against theory, independence of each other, ASE as oracle, errors."""

import io
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet

from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.sampling.replicas import ReplicaSettings, run_replicas

STIFFNESS = np.array([[2.0, 3.0, 4.0], [1.0, 5.0, 2.5]])


def springs(x):
    """Independent harmonic wells of the stiffness of each coordinate (eV/A^2)."""
    return 0.5 * (STIFFNESS * x**2).reshape(len(x), -1).sum(axis=1), -STIFFNESS * x


def double_wells(x):
    """A force function that evaluates one replica after the other."""
    energies, forces = np.empty(len(x)), np.empty(x.shape)
    for r, one in enumerate(x):
        energies[r] = ((one**2 - 1) ** 2).sum() + 0.3 * one.sum() ** 2
        forces[r] = -4 * one * (one**2 - 1) - 0.6 * one.sum()
    return energies, forces


def pair(**changes) -> Atoms:
    return Atoms("CH", positions=np.zeros((2, 3)), **changes)


def z_scores(samples, exact):
    """Of means over replicas, each replica being one independent sample, along the first axis."""
    return (samples.mean(axis=0) - exact) / (samples.std(axis=0, ddof=1) / np.sqrt(len(samples)))


class Squares:
    """Means over the steps of the squares of positions and velocities, for each replica."""

    def __init__(self):
        self.count, self.x2, self.v2 = 0, 0.0, 0.0

    def __call__(self, state):
        self.count += 1
        self.x2, self.v2 = self.x2 + state.positions**2, self.v2 + state.velocities**2


def test_thermal_averages_of_harmonic_replicas_are_those_of_theory():
    """<x^2> = kT/k, and <v^2> = kT/m (1 - (omega dt)^2/4), which at 1.5 fs is up to 5 % less than kT/m."""
    settings = ReplicaSettings(temperature=400, timestep=1.5, friction=0.05, steps=300, n_replicas=500)
    first = run_replicas(pair(), springs, settings, random_state=3)
    settings = ReplicaSettings(
        temperature=400, timestep=1.5, friction=0.05, steps=2000, record_every=4, draw_velocities=False
    )
    squares = Squares()
    run = run_replicas(first.frames(), springs, settings, random_state=4, observers=[(4, squares)])
    kT, masses = 400 * units.kB, pair().get_masses()[:, None]
    omega_dt = np.sqrt(STIFFNESS / masses) * 1.5 * units.fs
    assert omega_dt.max() > 0.3
    exact = kT / masses * (1 - omega_dt**2 / 4)
    assert abs(z_scores(squares.x2 / squares.count, kT / STIFFNESS)).max() < 4
    assert abs(z_scores(squares.v2 / squares.count, exact)).max() < 4
    assert abs(z_scores(squares.v2 / squares.count, kT / masses)).max() > 4  # a bias of some per cent would be seen
    assert abs(z_scores(run.potential_energy, 3 * kT)) < 4
    assert abs(z_scores(run.temperature, 400 * (1 - (omega_dt**2).mean() / 4))) < 4


def test_drawn_velocities_have_the_temperature_and_fixed_coordinates_are_at_rest():
    fixed = np.zeros((2, 3), dtype=bool)
    fixed[0, 1] = True
    settings = ReplicaSettings(temperature=500, steps=1, n_replicas=4000, record_every=1)
    seen = []
    run_replicas(
        pair(), springs, settings, random_state=1, fixed=fixed, observers=[(9, lambda s: seen.append(s.velocities))]
    )
    (v,) = seen
    assert not v[:, 0, 1].any()
    z = z_scores((v**2)[:, ~fixed], (500 * units.kB / np.broadcast_to(pair().get_masses()[:, None], (2, 3)))[~fixed])
    assert abs(z).max() < 4


def test_fixed_coordinates_stay_to_the_last_bit_and_the_others_sample_right():
    """A coordinate coupled to a fixed one sees it at its place: the mean of x is at the spring's shifted bottom."""

    def coupled(x):
        d = x[:, 1] - x[:, 0]
        force = np.stack([3 * d, -3 * d], axis=1)
        return 1.5 * (d**2).sum(axis=1), force

    atoms = Atoms("CH", positions=[[0.1, 1 / 3, -0.7]] * 2, constraint=FixAtoms([0]))
    settings = ReplicaSettings(temperature=300, timestep=1.0, friction=0.05, steps=1000, n_replicas=200)
    means, squares = [], []

    def take(state):
        if state.step >= 200:
            assert np.array_equal(state.positions[:, 0], np.tile(atoms.positions[0], (200, 1)))
            assert not state.velocities[:, 0].any()
            means.append(state.positions[:, 1])
            squares.append((state.positions[:, 1] - atoms.positions[0]) ** 2)

    run = run_replicas(atoms, coupled, settings, random_state=0, observers=[(10, take)])
    assert run.n_free == 3
    assert abs(z_scores(np.mean(means, axis=0), atoms.positions[0])).max() < 4
    assert abs(z_scores(np.mean(squares, axis=0), 300 * units.kB / 3)).max() < 4
    assert abs(z_scores(run.temperature, 300)) < 4  # of three coordinates, at a step whose bias is below 0.5 %


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_coordinate_that_is_fixed_stays_where_the_frame_moves_it(ensemble):
    atoms = Atoms("CH", positions=[[0.1, 0.2, 0.3], [0, 0, 0]], velocities=np.full((2, 3), 0.05))
    settings = ReplicaSettings(ensemble=ensemble, steps=5, draw_velocities=False)
    state = run_replicas(atoms, springs, settings, random_state=0, fixed=np.array([True, False])).state
    assert np.array_equal(state.positions[0, 0], atoms.positions[0])
    assert not state.velocities[0, 0].any()
    assert state.positions[0, 1].min() > 0.01


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_replica_moves_the_same_to_the_last_bit_alone_or_with_others(ensemble):
    rng = np.random.default_rng(5)
    starts = [pair() for _ in range(5)]
    for atoms in starts:
        atoms.positions = rng.normal(scale=0.5, size=(2, 3))
    common = {"ensemble": ensemble, "steps": 60, "timestep": 0.5, "record_every": 7}
    together = run_replicas(starts, double_wells, ReplicaSettings(**common), random_state=11)
    for r, atoms in enumerate(starts):
        alone = run_replicas(atoms, double_wells, ReplicaSettings(**common, first_replica=r), random_state=11)
        for name in ("positions", "velocities", "energies", "forces"):
            assert np.array_equal(getattr(alone.state, name)[0], getattr(together.state, name)[r]), name
        for name in ("temperature", "temperature_std", "potential_energy", "total_energy", "drift"):
            assert getattr(alone, name)[0] == getattr(together, name)[r], name
    half = run_replicas(starts[3:], double_wells, ReplicaSettings(**common, first_replica=3), random_state=11)
    assert np.array_equal(half.state.positions, together.state.positions[3:])
    other = run_replicas(starts, double_wells, ReplicaSettings(**common), random_state=12)
    assert abs(other.state.positions - together.state.positions).min() > 0


def test_replicas_of_one_frame_differ_and_their_random_numbers_are_independent():
    seen = []
    settings = ReplicaSettings(n_replicas=400, steps=1, record_every=1)
    run_replicas(pair(), springs, settings, random_state=0, observers=[(9, lambda s: seen.append(s.velocities))])
    v = (seen[0] * np.sqrt(pair().get_masses()[:, None])).reshape(400, 6)
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    overlaps = (unit @ unit.T)[np.triu_indices(400, 1)]
    assert abs(overlaps.mean()) < 4 * overlaps.std() / np.sqrt(400)
    assert (overlaps**2).mean() == pytest.approx(1 / 6, rel=0.1)
    assert overlaps.max() < 1 - 1e-6


def test_the_trajectory_of_nve_is_that_of_ase():
    atoms = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    atoms.set_constraint(FixAtoms([0, 1, 2, 3]))
    atoms.rattle(0.1, seed=1)
    atoms.set_velocities(np.random.default_rng(0).normal(scale=0.02, size=(8, 3)))
    other = atoms.copy()
    other.rattle(0.05, seed=2)
    settings = ReplicaSettings(ensemble="nve", steps=50, timestep=2.0, draw_velocities=False)
    run = run_replicas([atoms, other], EMT(), settings)
    for r, frame in enumerate((atoms, other)):
        moved = frame.copy()
        moved.calc = EMT()
        VelocityVerlet(moved, 2 * units.fs).run(50)
        assert abs(moved.positions[4:] - frame.positions[4:]).max() > 0.05
        last = run.frames()[r]
        np.testing.assert_allclose(last.positions, moved.positions, rtol=0, atol=1e-10)
        np.testing.assert_allclose(last.get_velocities(), moved.get_velocities(), rtol=0, atol=1e-10)
        assert last.get_potential_energy() == pytest.approx(moved.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(last.get_forces(), moved.get_forces(), rtol=0, atol=1e-9)
        assert run.total_energy[r] == pytest.approx(moved.get_total_energy(), abs=1e-3)


def test_a_run_goes_on_from_the_frames_of_another():
    first = ReplicaSettings(ensemble="nve", steps=30, timestep=0.5, n_replicas=2)
    then = ReplicaSettings(ensemble="nve", steps=30, timestep=0.5, draw_velocities=False)
    whole = run_replicas(
        pair(), double_wells, ReplicaSettings.from_dict({**first.as_dict(), "steps": 60}), random_state=0
    )
    begun = run_replicas(pair(), double_wells, first, random_state=0)
    ended = run_replicas(begun.frames(), double_wells, then)
    assert abs(begun.state.positions - whole.state.positions).max() > 0.01
    np.testing.assert_allclose(ended.state.positions, whole.state.positions, atol=1e-12)


def test_averages_and_drift_are_those_of_the_energies_that_observers_see():
    atoms, seen = pair(), []
    settings = ReplicaSettings(steps=100, n_replicas=3, record_every=10, timestep=0.5)

    def take(state):
        kinetic = 0.5 * (state.velocities**2 * atoms.get_masses()[:, None]).sum(axis=(1, 2))
        seen.append((state.step * 0.5, state.energies, kinetic))

    run = run_replicas(atoms, double_wells, settings, random_state=2, observers=[(10, take)])
    time, potential, kinetic = (np.array(a) for a in zip(*seen, strict=True))
    assert run.records == 11 and run.time == 50.0
    temperature = 2 * kinetic / (6 * units.kB)
    np.testing.assert_allclose(run.temperature, temperature.mean(axis=0))
    np.testing.assert_allclose(run.temperature_std, temperature.std(axis=0))
    np.testing.assert_allclose(run.potential_energy, potential.mean(axis=0))
    np.testing.assert_allclose(run.potential_energy_std, potential.std(axis=0))
    np.testing.assert_allclose(run.total_energy, (potential + kinetic).mean(axis=0))
    np.testing.assert_allclose(run.total_energy_std, (potential + kinetic).std(axis=0))
    np.testing.assert_allclose(run.drift, np.polyfit(time, potential + kinetic, 1)[0] * 50 / 2)
    assert abs(run.drift).min() > 1e-3
    assert np.array_equal(run.state.energies, potential[-1])


def test_energy_is_conserved_without_a_thermostat_to_second_order():
    spreads = []
    for timestep, steps in ((1.0, 200), (0.5, 400), (0.25, 800)):
        settings = ReplicaSettings(ensemble="nve", timestep=timestep, steps=steps, record_every=1, n_replicas=2)
        spreads.append(run_replicas(pair(), springs, settings, random_state=0).total_energy_std)
    assert np.min(spreads) > 1e-7
    np.testing.assert_allclose(np.divide(spreads[:-1], spreads[1:]), 4, rtol=0.1)


def test_states_are_read_only_and_later_steps_leave_them_alone():
    buffer = np.zeros((2, 2, 3))

    def reused(x):
        buffer[:] = -x
        return np.zeros(2), buffer

    states = []
    settings = ReplicaSettings(steps=4, n_replicas=2)
    run_replicas(pair(), reused, settings, random_state=0, observers=[(2, states.append), (3, states.append)])
    assert [s.step for s in states] == [0, 0, 2, 3, 4]
    for state in states:
        np.testing.assert_array_equal(state.forces, -state.positions)
        for name in ("positions", "velocities", "energies", "forces"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(state, name)[0] = 1.0
    assert abs(states[-1].positions - states[-2].positions).min() > 0


def test_memory_does_not_grow_with_the_length_of_the_run(tmp_path):
    peaks = []
    for steps in (200, 2000):
        settings = ReplicaSettings(n_replicas=20, steps=steps, record_every=1, checkpoint_every=50)
        tracemalloc.start()
        run_replicas(
            pair(), springs, settings, random_state=0,
            checkpoint=tmp_path / f"{steps}.npz", trajectory=tmp_path / f"{steps}.records",
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "2000.records").stat().st_size > 2_500_000
    assert peaks[1] < peaks[0] + 50_000


def test_frames_and_calculators_are_left_as_they_are():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    before = atoms.positions.copy()
    run = run_replicas(atoms, settings=ReplicaSettings(steps=3, n_replicas=2), random_state=0)
    np.testing.assert_array_equal(atoms.positions, before)
    assert not atoms.get_momenta().any()
    assert run.frames()[1].get_potential_energy() == pytest.approx(run.state.energies[1])


def test_a_seed_that_was_not_given_repeats_the_run():
    settings = ReplicaSettings(steps=5, n_replicas=2)
    run = run_replicas(pair(), springs, settings)
    again = run_replicas(pair(), springs, settings, random_state=run.seed)
    assert np.array_equal(run.state.positions, again.state.positions)
    from_generator = run_replicas(pair(), springs, settings, random_state=np.random.default_rng(4))
    assert from_generator.seed == run_replicas(pair(), springs, settings, random_state=np.random.default_rng(4)).seed


def test_the_table_has_a_line_for_each_replica():
    run = run_replicas(pair(), springs, ReplicaSettings(steps=20, n_replicas=3, first_replica=7), random_state=0)
    lines = str(run).splitlines()
    assert lines[0] == "3 replicas of CH, nvt at 300 K, friction 0.01/fs, seed 0: 20 steps of 1 fs"
    assert [int(line.split()[0]) for line in lines[3:]] == [7, 8, 9]
    values = lines[3].replace("+-", "").split()[1:]
    expected = [
        run.temperature, run.temperature_std, run.potential_energy, run.potential_energy_std, run.total_energy,
        run.total_energy_std, 1e3 * run.drift,
    ]  # fmt: skip
    np.testing.assert_allclose([float(v) for v in values], [e[0] for e in expected], atol=0.06)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_is_shown_on_request(monkeypatch):
    for progress in (True, False):
        monkeypatch.setattr(sys, "stderr", Terminal())
        run_replicas(pair(), springs, ReplicaSettings(steps=5), random_state=0, progress=progress)
        assert ("dynamics" in sys.stderr.getvalue()) == progress


def test_replicas_run_in_a_thread():
    runs = []
    thread = threading.Thread(
        target=lambda: runs.append(run_replicas(pair(), springs, ReplicaSettings(steps=5), random_state=0))
    )
    thread.start()
    thread.join()
    assert not runs[0].interrupted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ensemble": "npt"}, "ensemble must be 'nve' or 'nvt'"),
        ({"friction": -0.1}, "friction must be finite and not negative"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"timestep": 0.0}, "timestep must be positive"),
        ({"temperature": -1.0}, "temperature must be finite and not negative"),
        ({"record_every": 0}, "record_every must be at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"n_replicas": 0}, "n_replicas must be at least 1"),
        ({"first_replica": -1}, "first_replica must not be negative"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        ReplicaSettings(**changes)


def test_calls_that_cannot_work_are_refused():
    one = ReplicaSettings(steps=3)
    with pytest.raises(SettingsError, match="2 frames for 3 replicas"):
        run_replicas([pair(), pair()], springs, ReplicaSettings(n_replicas=3))
    with pytest.raises(SettingsError, match="all coordinates are fixed"):
        run_replicas(pair(), springs, one, fixed=np.array([True, True]))
    with pytest.raises(SettingsError, match="no calculator"):
        run_replicas(pair(), settings=one)
    with pytest.raises(SettingsError, match="random_state must not be negative, not -1"):
        run_replicas(pair(), springs, one, random_state=-1)
    with pytest.raises(SettingsError, match="observer 1: steps must be a whole number of at least 1, not 0"):
        run_replicas(pair(), springs, one, observers=[(1, print), (0, print)])
    with pytest.raises(SettingsError, match=r"observer 0: steps must be a whole number of at least 1, not 2\.5"):
        run_replicas(pair(), springs, one, observers=[(2.5, print)])
    for wrong in ([print], (5, print), [(5, 7)]):
        with pytest.raises(SettingsError, match=r"observer 0 must be a pair \(number of steps, function\)"):
            run_replicas(pair(), springs, one, observers=wrong)
    for wrong in (one, EMT):
        with pytest.raises(SettingsError, match="is no ASE calculator: give an instance"):
            run_replicas(pair(), wrong, one)
    with pytest.raises(SettingsError, match="named both as checkpoint and as trajectory"):
        run_replicas(pair(), springs, one, checkpoint="a", trajectory="./a")
    with pytest.raises(DataError, match="frame 1: the atoms of frame 0 in another order"):
        run_replicas([molecule("H2O"), molecule("H2O")[[1, 0, 2]]], springs, one)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: (np.zeros(2), np.zeros((1, 2, 3))), r"not \(2,\) and \(1, 2, 3\)"),
        (lambda x: (np.zeros(1), np.zeros((2, 3))), r"not \(1,\) and \(2, 3\)"),
    ],
)
def test_forces_of_another_shape_are_refused(wrong, words):
    with pytest.raises(SettingsError, match=words):
        run_replicas(pair(), wrong, ReplicaSettings(steps=3))


@pytest.mark.parametrize("spoilt", ["energy", "forces"])
def test_forces_that_are_not_finite_end_the_run_with_replica_and_step(spoilt):
    calls = []

    def broken(x):
        energies, forces = springs(x)
        calls.append(1)
        if len(calls) == 4:
            (energies if spoilt == "energy" else forces)[1] = np.nan
        return energies, forces

    with pytest.raises(NumericsError, match="replica 1, step 3: an energy or force is not finite; take a shorter"):
        run_replicas(pair(), broken, ReplicaSettings(steps=5, n_replicas=2))


def test_a_calculator_that_fails_is_reported_with_the_step():
    class Broken(EMT):
        def calculate(self, *args, **options):
            super().calculate(*args, **options)
            if self.count == 2:
                self.results["energy"] = np.nan
            self.count += 1

    calculator = Broken()
    calculator.count = 0
    with pytest.raises(NumericsError, match="step 2: copy 0: an energy or force is not finite"):
        run_replicas(bulk("Cu", cubic=True), calculator, ReplicaSettings(steps=5))
