"""Log-normal quantities against quadrature and draws."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from gapkit.exceptions import SettingsError
from gapkit.uncertainty.lognormal import (
    capped_mean_factor,
    draws_for_mean,
    interval_factors,
    mean_factor,
    mean_is_meaningful,
    share_of_mean_in_tail,
)

KT = 8.617333262e-5 * 300.0


@pytest.mark.parametrize("b", [0.1, 0.77, 1.55, 3.0])
def test_mean_and_its_tail_are_integrals_over_a_gaussian(b):
    whole = quad(lambda x: np.exp(b * x) * norm.pdf(x), -12, 12 + b, epsabs=0, epsrel=1e-12, limit=200)[0]
    tail = quad(lambda x: np.exp(b * x) * norm.pdf(x), 2, 12 + b, epsabs=0, epsrel=1e-12, limit=200)[0]
    assert mean_factor(b) == pytest.approx(whole, rel=1e-10)
    assert share_of_mean_in_tail(b, 2.0) == pytest.approx(tail / whole, rel=1e-10)


@pytest.mark.parametrize(("barrier", "std"), [(0.1, 0.1), (0.5, 0.06), (0.02, 0.05)])
def test_capped_mean_is_an_integral_over_the_barrier(barrier, std):
    def value(z):
        return np.exp(-max(barrier + std * z, 0.0) / KT) * norm.pdf(z)

    edge = -barrier / std
    points = sorted({-14.0, edge, -std / KT, 14.0})
    points = [p for p in points if -14 <= p <= 14]
    total = sum(quad(value, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in itertools.pairwise(points))
    assert capped_mean_factor(barrier, std, KT) == pytest.approx(total * np.exp(barrier / KT), rel=1e-10)


def test_draws_have_the_stated_mean_interval_and_scatter():
    b, n = 0.8, 400_000
    values = np.exp(b * np.random.default_rng(3).normal(size=n))
    error = mean_factor(b) * np.sqrt(np.expm1(b**2) / n)
    assert abs(values.mean() - mean_factor(b)) < 4 * error
    low, high = interval_factors(b, 0.9)
    assert abs(np.mean((values > low) & (values < high)) - 0.9) < 4 * np.sqrt(0.09 / n)
    assert draws_for_mean(b, 0.1) == pytest.approx(np.expm1(b**2) / 0.01)


def test_a_mean_that_rests_on_negative_barriers_has_no_meaning():
    assert mean_is_meaningful(0.5, 0.02, KT)
    assert not mean_is_meaningful(0.5, 0.05, KT)  # b = 1.9
    assert not mean_is_meaningful(0.02, 0.03, KT)  # the mean barrier under the weight is negative


@pytest.mark.parametrize(
    "call", [lambda: mean_factor(-1.0), lambda: interval_factors(1.0, 1.0), lambda: draws_for_mean(1.0, 0)]
)
def test_values_that_cannot_be_are_refused(call):
    with pytest.raises(SettingsError):
        call()
