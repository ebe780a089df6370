"""Steps of dynamics on arrays: exact laws of the harmonic oscillator, reversibility, order, and ASE as oracle."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.verlet import VelocityVerlet
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from gapkit.sampling.batches import batch_forces
from gapkit.sampling.integrators import (
    baoab_step,
    kinetic_energies,
    thermal_velocities,
    thermostat,
    velocity_verlet_step,
)


def spring(stiffness):
    return lambda x: (0.5 * stiffness * x**2, -stiffness * x)


def pendulum(x):
    """An anharmonic well."""
    return -np.cos(x), -np.sin(x)


def linear_map(mass, stiffness, dt, friction):
    """Matrices M (2, 2) and b (2,) of (x, v) -> M (x, v) + b xi, read off from unit vectors."""
    damping, spread = thermostat(dt, friction, KT, np.array(1 / mass))

    def moved(x, v, xi):
        x, v, _, _ = baoab_step(
            np.array(x), np.array(v), np.array(-stiffness * x), dt=dt, inverse_masses=1 / mass,
            evaluate=spring(stiffness), damping=damping, noise=spread * xi,
        )  # fmt: skip
        return np.array([x, v])

    return np.transpose([moved(1.0, 0.0, 0.0), moved(0.0, 1.0, 0.0)]), moved(0.0, 0.0, 1.0)


KT = 0.7


@given(
    mass=st.floats(0.5, 50), stiffness=st.floats(0.1, 10), omega_dt=st.floats(0.05, 1.9), friction_dt=st.floats(0.01, 3)
)
def test_baoab_samples_harmonic_positions_exactly_and_velocities_with_the_known_variance(
    mass, stiffness, omega_dt, friction_dt
):
    """Stationary covariance C = M C M^T + b b^T, without sampling noise (Leimkuhler, Matthews 2013)."""
    dt = omega_dt / np.sqrt(stiffness / mass)
    M, b = linear_map(mass, stiffness, dt, friction_dt / dt)
    C = solve_discrete_lyapunov(M, np.outer(b, b))
    assert C[0, 0] == pytest.approx(KT / stiffness, rel=1e-8)
    assert C[1, 1] == pytest.approx(KT / mass * (1 - omega_dt**2 / 4), rel=1e-8)
    assert abs(C[0, 1]) < 1e-8 * np.sqrt(C[0, 0] * C[1, 1])


def test_beyond_the_stable_step_there_is_no_stationary_state():
    stable, _ = linear_map(2.0, 2.0, 1.99, 0.5)
    unstable, _ = linear_map(2.0, 2.0, 2.01, 0.5)
    assert abs(np.linalg.eigvals(stable)).max() < 1 < abs(np.linalg.eigvals(unstable)).max()


def test_the_thermostat_alone_takes_any_velocities_to_the_maxwell_boltzmann_variance():
    """v -> c v + noise keeps the variance kT/m, and forgets with exp(-friction t), for any step."""
    for dt in (1e-6, 0.3, 5.0):
        damping, spread = thermostat(dt, 0.4, KT, np.array([0.5, 0.0]))
        assert damping == pytest.approx(np.exp(-0.4 * dt))
        np.testing.assert_allclose(damping**2 * KT * 0.5 + spread[0] ** 2, KT * 0.5, rtol=1e-14)
        assert spread[1] == 0
    assert spread[0] > 0
    _, tiny = thermostat(1e-12, 0.4, KT, np.array([0.5]))
    assert tiny[0] == pytest.approx(np.sqrt(KT * 0.8e-12 * 0.5), rel=1e-9)  # 1 - c^2 is not computed as a difference


def test_baoab_without_friction_is_velocity_verlet():
    x, v = np.array([0.3, -1.0]), np.array([0.2, 0.5])
    common = {"dt": 0.2, "inverse_masses": np.array([1.0, 0.25]), "evaluate": pendulum}
    one = velocity_verlet_step(x, v, pendulum(x)[1], **common)
    two = baoab_step(x, v, pendulum(x)[1], **common, damping=1.0, noise=0.0)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-15)
    assert abs(one[0] - x).min() > 0.01


def run(x, v, dt, steps, evaluate=pendulum, inverse_masses=1.0, drift=None):
    forces = evaluate(x)[1]
    energies = []
    options = {} if drift is None else {"drift": drift}
    for _ in range(steps):
        x, v, energy, forces = velocity_verlet_step(
            x, v, forces, dt=dt, inverse_masses=inverse_masses, evaluate=evaluate, **options
        )
        energies.append(energy + 0.5 * v**2 / inverse_masses)
    return x, v, np.array(energies)


def test_velocity_verlet_returns_when_velocities_are_turned_round():
    x0, v0 = np.array([0.3, 2.0]), np.array([0.7, -0.1])
    x, v, _ = run(x0, v0, 0.3, 200)
    back, turned, _ = run(x, -v, 0.3, 200)
    assert abs(x - x0).min() > 0.1
    np.testing.assert_allclose(back, x0, atol=1e-11)
    np.testing.assert_allclose(turned, -v0, atol=1e-11)


def test_energy_errors_and_final_errors_of_velocity_verlet_are_of_second_order():
    x0, v0 = np.array([1.0]), np.array([0.5])
    exact = run(x0, v0, 1e-4, 100_000)[0]
    ends, ranges = [], []
    for dt in (0.1, 0.05, 0.025):
        x, _, energies = run(x0, v0, dt, round(10 / dt))
        ends.append(abs(x - exact)[0])
        ranges.append(np.ptp(energies))
    for errors in (ends, ranges):
        assert errors[-1] > 1e-7
        np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4, rtol=0.05)


def test_a_drift_with_the_springs_in_it_conserves_their_energy_for_any_step():
    """The exact rotation of the oscillator as drift, and no other forces."""

    def rotation(x, v, t):
        return np.cos(2 * t) * x + np.sin(2 * t) / 2 * v, np.cos(2 * t) * v - 2 * np.sin(2 * t) * x

    def nothing(x):
        return 0 * x, 0 * x

    x, v, _ = run(np.array([1.0]), np.array([0.3]), 3.7, 10, nothing, drift=rotation)
    np.testing.assert_allclose(0.5 * v**2 + 2 * x**2, 0.5 * 0.09 + 2, rtol=1e-13)
    np.testing.assert_allclose(x, np.cos(74) + 0.15 * np.sin(74), rtol=1e-12)
    damped = baoab_step(
        np.array([1.0]), np.array([0.0]), np.array([0.0]), dt=np.pi / 2, inverse_masses=1.0, evaluate=nothing,
        damping=0.5, noise=0.0, drift=rotation,
    )  # fmt: skip
    np.testing.assert_allclose([damped[0][0], damped[1][0]], [-0.5, 0.0], atol=1e-12)


def test_velocity_verlet_is_that_of_ase():
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.numbers[::3] = 47
    rng = np.random.default_rng(3)
    atoms.set_velocities(rng.normal(scale=0.02, size=(8, 3)))
    x, v = atoms.positions[None].copy(), atoms.get_velocities()[None]
    evaluate = batch_forces(atoms, EMT())
    forces, dt = evaluate(x)[1], 2 * units.fs
    for _ in range(60):
        x, v, energies, forces = velocity_verlet_step(
            x, v, forces, dt=dt, inverse_masses=1 / atoms.get_masses()[:, None], evaluate=evaluate
        )
    start = atoms.positions.copy()
    atoms.calc = EMT()
    VelocityVerlet(atoms, dt).run(60)
    assert abs(atoms.positions - start).max() > 0.1
    np.testing.assert_allclose(x[0], atoms.positions, rtol=0, atol=1e-10)
    np.testing.assert_allclose(v[0], atoms.get_velocities(), rtol=0, atol=1e-10)
    assert energies[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


def test_each_step_calls_the_forces_once():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return pendulum(x)

    x = np.ones((2, 1, 3))
    velocity_verlet_step(x, x, x, dt=0.1, inverse_masses=1.0, evaluate=counted)
    baoab_step(x, x, x, dt=0.1, inverse_masses=1.0, evaluate=counted, damping=0.5, noise=0.0)
    assert calls == [(2, 1, 3)] * 2


def test_thermal_velocities_and_kinetic_energies_belong_together():
    """The mean kinetic energy is kT/2 for each coordinate that is not fixed."""
    masses = np.array([1.0, 7.0, 30.0])
    inverse = np.where(np.arange(9).reshape(3, 3) == 4, 0.0, 1 / masses[:, None])
    v = thermal_velocities(KT, inverse, np.random.default_rng(0).normal(size=(20_000, 3, 3)))
    kinetic = kinetic_energies(v, masses)
    z = (kinetic.mean() - 8 * KT / 2) / (np.sqrt(8 / 2) * KT / np.sqrt(len(v)))
    assert abs(z) < 4
    assert not v[:, 1, 1].any()
    np.testing.assert_allclose(kinetic[0], 0.5 * sum(m * (u**2).sum() for m, u in zip(masses, v[0], strict=True)))
