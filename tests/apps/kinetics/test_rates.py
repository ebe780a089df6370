"""Rates and tunnelling against closed forms and the Schroedinger equation."""

import numpy as np
import pytest
from ase import units

from gapkit.apps.kinetics.rates import ln_rates, rates
from gapkit.apps.kinetics.toys import DoubleWell, double_well_atom
from gapkit.apps.kinetics.tunnelling import crossover_temperature, eckart_transmission, tunnelling_factor
from gapkit.exceptions import DataError, SettingsError
from gapkit.vibrations import hessian, normal_modes

WELL = DoubleWell(0.5, 1.0, 2.0)


def modes(x):
    return normal_modes(hessian(double_well_atom("Ar", x), WELL, step=1e-3), project=False)


@pytest.fixture(scope="module")
def both():
    return modes(-1.0), modes(0.0)


def test_a_classical_rate_is_vineyards(both):
    k, kappa = ln_rates(*both, np.array([300.0, 800.0]), statistics="classical")
    mass = double_well_atom("Ar").get_masses()[0]
    assert np.exp(k) == pytest.approx([WELL.vineyard(mass, 300.0), WELL.vineyard(mass, 800.0)], rel=1e-5)
    assert np.all(kappa == 1)


def test_quantum_rates_become_classical_at_high_temperature(both):
    T = np.array([500.0, 2e4])
    quantum, classical = (ln_rates(*both, T, statistics=s)[0] for s in ("quantum", "classical"))
    difference = np.abs(quantum - classical)
    # zero-point energies at both points: the leading difference is (sum of squares of quanta)/24 (k_B T)^2
    assert difference[1] < 1e-5 < difference[0]


def test_rates_carry_the_error_of_the_barrier(both):
    T = np.array([300.0, 600.0])
    found = rates(*both, T, barrier_std=0.03, ln_prefactor_std=0.2, covariance_of_both=0.003, statistics="classical")
    kT = units.kB * T
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([0, 0], [[0.03**2, 0.003], [0.003, 0.2**2]], 200_000)
    ln_k = draws[:, 1, None] - draws[:, :1] / kT
    assert found.ln_rate_std == pytest.approx(ln_k.std(axis=0), rel=4 / np.sqrt(4e5))
    assert found.covariance == pytest.approx(np.cov(ln_k.T), rel=0.02)
    assert found.arrhenius().activation_energy == pytest.approx(0.5, abs=1e-4)
    assert found.corrected(0.01).ln_rate == pytest.approx(found.ln_rate + 0.01 / kT)
    assert "90 % interval" in str(found)


def test_a_mean_without_meaning_is_not_printed(both):
    said = str(rates(*both, [300.0], barrier_std=0.1))
    assert "no meaning" in said


def numerical_transmission(energy, mass, V, length, n=20001):
    """Transmission through a potential on a grid: the wave behind is exp(ikx), integrated back by Numerov's method."""
    hbar = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
    x = np.linspace(-length, length, n)
    h = x[1] - x[0]
    k2 = 2 * mass * (energy - V(x)) / hbar**2
    f = 1 + h**2 * k2 / 12
    psi = np.empty(n, dtype=complex)
    k_out, k_in = np.sqrt(k2[-1]), np.sqrt(k2[0])
    psi[-1], psi[-2] = np.exp(1j * k_out * x[-1]), np.exp(1j * k_out * x[-2])
    for i in range(n - 2, 0, -1):
        psi[i - 1] = ((12 - 10 * f[i]) * psi[i] - f[i + 1] * psi[i + 1]) / f[i - 1]
    before = np.array([[np.exp(1j * k_in * x[j]), np.exp(-1j * k_in * x[j])] for j in (0, 1)])
    incoming = np.linalg.solve(before, psi[:2])[0]
    return float(k_out / k_in / abs(incoming) ** 2)


@pytest.mark.parametrize(("forward", "backward"), [(0.3, 0.3), (0.3, 0.5)])
@pytest.mark.parametrize("share", [0.4, 0.9, 1.3])
def test_eckarts_transmission_solves_the_schroedinger_equation(forward, backward, share):
    mass, width = 1.008, 0.25
    A, B = forward - backward, (np.sqrt(forward) + np.sqrt(backward)) ** 2

    def V(x):
        y = np.exp(x / width)
        return A * y / (1 + y) + B * y / (1 + y) ** 2

    # curvature at the top (Eckart 1930), whose frequency is that of the formula
    curvature = (A**2 - B**2) ** 2 / (8 * B**3) / width**2
    hbar = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
    quantum = hbar * np.sqrt(curvature / mass)
    exact = numerical_transmission(share * forward, mass, V, 40 * width)
    assert eckart_transmission(share * forward, quantum, forward, backward) == pytest.approx(exact, rel=1e-4)


def test_factors_agree_where_tunnelling_is_weak():
    T = np.array([2000.0])
    wigner, bell, eckart = (tunnelling_factor(k, 1000.0, T, 3.0, 3.0) for k in ("wigner", "bell", "eckart"))
    u = 1000.0 * units.invcm / (units.kB * 2000.0)
    assert bell - wigner == pytest.approx(7 * u**4 / 5760, rel=0.02)  # the next term of the series
    assert wigner == pytest.approx(eckart, abs=2e-3)


def test_bell_ends_at_the_crossover_temperature():
    with pytest.raises(SettingsError, match="diverges"):
        tunnelling_factor("bell", 1227.0, 0.999 * crossover_temperature(1227.0))
    assert crossover_temperature(1227.0) == pytest.approx(281.0, abs=0.5)


def test_points_that_are_not_minimum_and_saddle_are_refused(both):
    with pytest.raises(DataError, match="imaginary modes"):
        ln_rates(both[1], both[1], 300.0)
    with pytest.raises(DataError, match="a saddle of first order has one"):
        ln_rates(both[0], both[0], 300.0)
    with pytest.raises(SettingsError, match="do not tunnel"):
        ln_rates(*both, 300.0, statistics="classical", tunnelling="wigner")
    with pytest.raises(SettingsError, match="covariance"):
        rates(*both, 300.0, barrier_std=0.1, covariance_of_both=1.0)
