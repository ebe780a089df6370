"""Conductivity in SI units, and activation energies with shared and independent errors."""

from __future__ import annotations

import numpy as np
import pytest
from ase.units import kB
from scipy import constants

from gapkit.apps.ion_transport.conductivity import (
    arrhenius,
    conductivity,
    nernst_einstein_factor,
    potential_covariance,
)
from gapkit.apps.ion_transport.diffusion import DiffusionSettings, diffusion
from gapkit.apps.ion_transport.toys import brownian_ions, caged_ions
from gapkit.exceptions import DataError, GapkitWarning, SettingsError

ALONE = DiffusionSettings(species="Li", reference="none")
TEMPERATURES = (500.0, 600.0, 700.0, 800.0)


def walk(temperature: float, seed: int, activation: float = 0.2):
    """Diffusion of ions with the activation energy (eV) and D_0 = 0.05 A^2/fs."""
    return diffusion(
        brownian_ions(0.05 * np.exp(-activation / (kB * temperature)), n_ions=20, frames=400, random_state=seed), ALONE
    )


def test_the_conductivity_agrees_with_si_units():
    si = 10 * constants.e**2 * 4 / (1e-27 * constants.k * 300) * 1e-5  # D = 1 A^2/fs = 1e-5 m^2/s; S/m
    assert nernst_einstein_factor(10, 2.0, 1000.0, 300.0) == pytest.approx(si / 100, rel=1e-6)


def test_both_conductivities_follow_from_their_diffusion_constants():
    found = walk(600.0, 0)
    s = conductivity(found.tracer, found.collective, 20, -1.0, 8000.0, 600.0)
    factor = nernst_einstein_factor(20, 1.0, 8000.0, 600.0)
    assert s.nernst_einstein == pytest.approx(factor * found.tracer.value)
    assert s.collective_std == pytest.approx(factor * found.collective.value_std)
    assert s.nernst_einstein / s.collective == pytest.approx(found.haven)
    assert s.collective_upper > s.collective
    with pytest.raises(SettingsError, match="positive"):
        conductivity(found.tracer, found.collective, 20, 1.0, 0.0, 600.0)


def test_the_activation_energy_of_simulated_ions_is_found_within_its_error():
    z, held = [], 0
    for k in range(60):
        line = arrhenius(TEMPERATURES, [walk(t, 100 * k + int(t)).tracer for t in TEMPERATURES])
        z.append((line.activation_energy - 0.2) / line.activation_energy_std)
        low, high = line.interval(0.9)
        held += low <= 0.2 <= high
    assert abs(np.mean(z)) < 4 * np.std(z) / np.sqrt(60)
    assert abs(held / 60 - 0.9) < 4 * np.sqrt(0.09 / 60)
    assert np.isnan(line.potential_std)


def test_a_shared_error_of_the_barrier_moves_the_activation_energy_and_not_the_prefactor():
    found = [walk(t, int(t)).tracer for t in TEMPERATURES]
    inverse = 1 / (kB * np.array(TEMPERATURES))
    shared = arrhenius(TEMPERATURES, found, 0.05**2 * np.outer(inverse, inverse))
    alone = arrhenius(TEMPERATURES, found)
    assert shared.potential_std == pytest.approx(0.05)
    assert shared.statistical_std == alone.statistical_std
    assert shared.activation_energy_std == pytest.approx(np.hypot(0.05, alone.statistical_std))
    assert shared.log_prefactor_std == pytest.approx(alone.log_prefactor_std)
    independent = arrhenius(TEMPERATURES, found, 0.05**2 * np.diag(inverse**2))
    assert independent.potential_std > 0.1
    assert independent.log_prefactor_std > 1
    assert "potential 0.0500" in str(shared)
    assert "too small" in str(arrhenius(TEMPERATURES, found, np.zeros((4, 4))))
    assert "potential" not in str(alone)


def test_the_band_of_the_line_is_narrowest_among_the_temperatures():
    line = arrhenius(TEMPERATURES, [walk(t, int(t)).tracer for t in TEMPERATURES])
    value, std = line.line([300.0, 620.0, 2000.0])
    assert std[1] < std[0] and std[1] < std[2]
    assert value[1] == pytest.approx(line.log_prefactor - line.activation_energy / (kB * 620.0))


def test_temperatures_without_hops_are_left_out_with_a_warning():
    frozen = diffusion(caged_ions(frames=400, amplitude=0.1, random_state=0), ALONE).tracer
    found = [frozen, *(walk(t, int(t)).tracer for t in TEMPERATURES[1:])]
    with pytest.warns(GapkitWarning, match="no diffusion is resolved at 500 K"):
        line = arrhenius(TEMPERATURES, found)
    assert line.temperatures.tolist() == [600.0, 700.0, 800.0]
    assert np.isfinite(line.activation_energy)
    with pytest.raises(DataError, match="at 1 of 2"):
        arrhenius([500.0, 600.0], found[:2])
    with pytest.raises(DataError, match="different"):
        arrhenius([500.0, 500.0], found[1:3])
    with pytest.raises(SettingsError, match="covariance"):
        arrhenius([500.0, 600.0], found[1:3], np.eye(3))


def test_variance_components_give_back_the_covariance_of_the_potential():
    rng = np.random.default_rng(0)
    shared = np.array([[0.09, 0.06], [0.06, 0.05]])
    noise = np.array([0.2, 0.1])
    draws = rng.multivariate_normal([0, 0], shared, size=4000) + rng.normal(size=(4000, 2)) * noise
    np.testing.assert_allclose(potential_covariance(draws, np.tile(noise, (4000, 1))), shared, atol=0.01)
    only_noise = potential_covariance(rng.normal(size=(6, 2)) * noise, np.tile(3 * noise, (6, 1)))
    assert np.linalg.eigvalsh(only_noise).min() >= -1e-12
    with pytest.raises(DataError, match="at least 3"):
        potential_covariance(np.zeros((2, 2)), np.zeros((2, 2)))
    with pytest.raises(DataError, match="not finite"):
        potential_covariance(np.full((3, 2), np.nan), np.zeros((3, 2)))
