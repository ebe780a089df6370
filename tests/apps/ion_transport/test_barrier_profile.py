"""Barriers of periodic profiles: exact answers, the posterior against dense algebra, coverage over random profiles."""

from __future__ import annotations

import numpy as np
import pytest

from gapkit.apps.ion_transport.barrier_profile import PeriodicBarrier, extrema, fourier_functions, spectrum
from gapkit.apps.ion_transport.toys import power_law_profile, prior_profile, profile_trials
from gapkit.exceptions import DataError, NumericsError, SettingsError


def test_many_exact_labels_give_the_exact_barrier():
    s = np.arange(40) / 40 * 2.5
    energy = 0.3 * np.cos(2 * np.pi * s / 2.5) - 0.05 * np.sin(4 * np.pi * s / 2.5) + 7.0
    found = PeriodicBarrier(period=2.5, noise=1e-5).fit(s, energy).barrier(random_state=0)
    fine = np.linspace(0, 1, 200001)
    profile = 0.3 * np.cos(2 * np.pi * fine) - 0.05 * np.sin(4 * np.pi * fine)
    assert found.value == pytest.approx(np.ptp(profile), abs=2e-5)
    assert found.linear == pytest.approx(np.ptp(profile), abs=2e-5)
    assert found.maximum == pytest.approx(2.5 * (fine[profile.argmax()] % 1.0), abs=2.5 / 256)
    assert found.minimum == pytest.approx(2.5 * fine[profile.argmin()], abs=2.5 / 256)


def test_slopes_of_the_functions_are_their_finite_differences():
    s, h = np.array([0.13, 1.7, -0.4]), 1e-6
    found = fourier_functions(s, 5, 1.3, derivative=True)
    numeric = (fourier_functions(s + h, 5, 1.3) - fourier_functions(s - h, 5, 1.3)) / (2 * h)
    assert np.abs(found).max() > 1
    np.testing.assert_allclose(found, numeric, atol=1e-7)


def test_a_parabola_refines_extrema():
    grid = np.arange(256) / 256
    shifts = np.linspace(0, 1 / 256, 7)
    bound = 2 * (2 * np.pi / 256) ** 4 / 24  # the fourth order of the cosine at both extrema
    assert extrema(np.cos(2 * np.pi * (grid - shifts[:, None]))) == pytest.approx(2.0, abs=bound)
    assert extrema(np.zeros((1, 256)))[0] == 0.0


@pytest.mark.parametrize("smooth", [True, False])
def test_a_spectrum_sums_to_one_and_decays(smooth):
    found = spectrum(0.1, 8, smooth)
    assert found.sum() == pytest.approx(1.0)
    assert np.all(np.diff(found) < 0)


def test_samples_and_moments_agree_with_an_average_of_dense_posteriors():
    rng = np.random.default_rng(3)
    s, toy = rng.random(size=5), power_law_profile(rng)
    energy, force = toy.labels(s, rng)
    model = PeriodicBarrier(harmonics=3, noise=0.02, force_noise=0.1).fit(s, energy, force)
    functions = np.vstack([fourier_functions(s, 3), fourier_functions(s, 3, derivative=True)])
    labels, precision = np.r_[energy - energy.mean(), -force], 1 / np.r_[np.full(5, 0.02**2), np.full(5, 0.1**2)]
    mean, second = np.zeros(7), np.zeros((7, 7))
    for weight, prior in zip(model.weights_, model._prior, strict=True):
        covariance = np.linalg.inv((functions.T * precision) @ functions + np.diag(1 / prior))
        node = covariance @ functions.T @ (precision * labels)
        mean += weight * node
        second += weight * (covariance + np.outer(node, node))
    at = np.array([0.2, 0.9])
    f = fourier_functions(at, 3)[:, 1:]
    value, std = model.profile(at)
    np.testing.assert_allclose(value, f @ mean[1:], atol=1e-7)
    covariance = (second - np.outer(mean, mean))[1:, 1:]
    np.testing.assert_allclose(std, np.sqrt(np.einsum("ni,ij,nj->n", f, covariance, f)), rtol=1e-5)
    drawn = model.coefficients(20000, np.random.default_rng(0))[:, 1:] @ f.T
    assert np.all(np.abs(drawn.mean(axis=0) - value) < 4 * std / np.sqrt(20000))
    np.testing.assert_allclose(drawn.std(axis=0), std, rtol=0.05)


def test_the_barrier_does_not_depend_on_zero_of_energy_period_or_origin():
    rng = np.random.default_rng(0)
    s, toy = rng.random(size=9), power_law_profile(rng)
    energy, force = toy.labels(s, rng)
    first = PeriodicBarrier().fit(s, energy, force).barrier(random_state=1)
    second = PeriodicBarrier(period=3.0).fit(3 * s + 6, energy - 500.0, force / 3).barrier(random_state=1)
    assert second.value == pytest.approx(first.value, abs=1e-6)
    assert second.value_std == pytest.approx(first.value_std, rel=1e-4)
    assert second.linear == pytest.approx(first.linear, abs=1e-6)


def coverage(profile, where: str, trials: int, seed: int) -> tuple[float, float]:
    """Share of 90 % intervals that hold the barrier, and rms z."""
    held, z = 0, []
    for true, found in profile_trials(profile, where, trials, np.random.default_rng(seed)):
        low, high = found.interval(0.9)
        held += low <= true <= high
        z.append((found.value - true) / found.value_std)
    return held / trials, float(np.sqrt(np.mean(np.square(z))))


@pytest.mark.parametrize("where", ["equispaced", "random", "forces"])
def test_intervals_hold_the_barrier_of_profiles_of_the_prior(where):
    held, z = coverage(prior_profile, where, 200, seed=5)
    assert abs(held - 0.9) < 4 * np.sqrt(0.9 * 0.1 / 200)
    assert 0.7 < z < 1.4


@pytest.mark.slow
@pytest.mark.parametrize("where", ["equispaced", "random", "forces"])
@pytest.mark.parametrize("profile", [prior_profile, power_law_profile], ids=["prior", "power_law"])
def test_intervals_of_90_percent_hold_86_to_94_percent_of_1000_barriers(profile, where):
    held, _ = coverage(profile, where, 1000, seed=0)
    assert 0.86 <= held <= 0.94


def test_input_that_cannot_work_is_refused():
    with pytest.raises(SettingsError, match="harmonics"):
        PeriodicBarrier(harmonics=0)
    with pytest.raises(SettingsError, match="noise"):
        PeriodicBarrier(noise=-1.0)
    with pytest.raises(SettingsError, match="fit first"):
        PeriodicBarrier().barrier()
    model = PeriodicBarrier()
    with pytest.raises(DataError, match="three labels"):
        model.fit([0.0, 0.5], [0.0, 0.1])
    with pytest.raises(DataError, match="one place"):
        model.fit([0.1, 1.1, 2.1], [0.0, 0.1, 0.2])
    with pytest.raises(DataError, match="finite"):
        model.fit([0.0, 0.5, np.nan], [0.0, 0.1, 0.2])
    with pytest.raises(DataError, match="one length"):
        model.fit([0.0, 0.5, 0.6], [0.0, 0.1])
    with pytest.raises(DataError, match="forces"):
        model.fit([0.0, 0.5, 0.6], [0.0, 0.1, 0.2], [1.0])
    with pytest.raises(NumericsError, match="one place"):
        PeriodicBarrier(noise=1e-12).fit([0.0, 0.0, 0.5], [0.0, 0.1, 0.2])
    fitted = model.fit([0.0, 0.3, 0.6], [0.0, 0.1, 0.2])
    with pytest.raises(SettingsError, match="n_samples"):
        fitted.barrier(n_samples=1)
    with pytest.raises(SettingsError, match="level"):
        fitted.barrier(random_state=0).interval(1.5)
