"""Statistics of time series: by hand, against autoregressive series, whose answers are exact, and against pymbar."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.time_series import (
    autocovariance,
    block_averages,
    detect_equilibration,
    mean_estimate,
    ratio_estimate,
    slope_estimate,
    statistical_inefficiency,
)


def autoregressive(phi, runs, length, seed):
    """Stationary series x_t = phi x_{t-1} + e_t, (runs, length), with e of unit variance."""
    noise = np.random.default_rng(seed).normal(size=(runs, length))
    noise[:, 0] /= np.sqrt(1 - phi**2)
    return lfilter([1], [1, -phi], noise, axis=1)


def variance_of_the_mean(phi, length):
    """sum_t (1 - |t|/T) phi^|t| / (T (1 - phi^2)), in closed form."""
    total = length * (1 + phi) / (1 - phi) - 2 * phi * (1 - phi**length) / (1 - phi) ** 2
    return total / length**2 / (1 - phi**2)


def test_values_that_alternate_have_the_textbook_error():
    """s / sqrt(T), s with T - 1 degrees of freedom, where the inefficiency counts as 1."""
    x = np.tile([1.0, -1.0, 2.0, -2.0], 5)
    assert mean_estimate(x).value_std == pytest.approx(np.std(x, ddof=1) / np.sqrt(20))
    assert mean_estimate(x).independent == 20


def test_the_error_of_a_mean_is_the_corrected_sum_of_autocovariances():
    """R_0 + 2 sum_t (1 - t/T) R_t up to the first t >= 5/2 g(t), over T (1 - sum_t (1 - |t|/T) / T)."""
    x = autoregressive(0.6, 1, 200, seed=16)[0]
    centred = x - x.mean()
    r = [np.mean(centred[: 200 - t] * centred[t:]) for t in range(200)]
    total, share, t = r[0], 1.0, 0
    while t < 2.5 * max(total / r[0], 1):
        t += 1
        total += 2 * (1 - t / 200) * r[t]
        share += 2 * (1 - t / 200)
    variance = total / (1 - share / 200) / 200
    found = mean_estimate(x)
    assert found.value_std**2 == pytest.approx(variance)
    assert found.independent == pytest.approx((r[0] + variance) / variance)
    assert found.degrees_of_freedom == 200 / (2 * t + 1)


def coverage(estimates, truth):
    """Share of 90 % intervals that hold the truth."""
    return np.mean([lower < truth < upper for lower, upper in (e.interval(0.9) for e in estimates)])


def test_inefficiency_by_hand():
    """2, 1, 0, -1, -2 has the variance 2, C_1 = (4 / 4) / 2 and C_2 = (-1 / 3) / 2, where the sum ends at
    1 + 2 (1 - 1 / 5) C_1. Mean and unit play no part."""
    series = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
    assert statistical_inefficiency(series) == pytest.approx(1.8)
    assert statistical_inefficiency(300.0 + 7.0 * series) == pytest.approx(1.8)


@pytest.mark.parametrize("series", [np.full(5, 3.0), np.tile([1.0, -1.0], 4)], ids=["constant", "alternating"])
def test_inefficiency_is_at_least_one(series):
    assert statistical_inefficiency(series) == 1.0
    assert mean_estimate(series).independent <= len(series)


def test_autocovariance_is_that_of_sums_over_pairs():
    """Of two runs of different lengths, about their common mean."""
    rng = np.random.default_rng(0)
    runs = [rng.normal(size=7), rng.normal(size=4)]
    covariance, pairs = autocovariance(runs)
    assert pairs.tolist() == [11, 9, 7, 5, 3, 2, 1]
    for lag in range(7):
        products = [r[i] * r[i + lag] for r in runs for i in range(len(r) - lag)]
        assert covariance[lag] == pytest.approx(np.mean(products))


@pytest.mark.parametrize("phi", [0.5, 0.9])
def test_independent_samples_of_an_autoregressive_series(phi):
    """T (1 - phi) / (1 + phi), exactly; the scatter is that of many runs."""
    runs = autoregressive(phi, 60, 4000, seed=1)
    found = np.array([mean_estimate(x).independent for x in runs])
    exact = 4000 * (1 - phi) / (1 + phi)
    assert found.mean() == pytest.approx(exact, rel=0.06)
    variance = np.array([mean_estimate(x).value_std ** 2 for x in runs])
    error = variance.std(ddof=1) / np.sqrt(len(runs))
    assert abs(variance.mean() - variance_of_the_mean(phi, 4000)) < 4 * error
    assert error < 0.05 * variance.mean()


@pytest.mark.parametrize(("phi", "length"), [(0.5, 150), (0.5, 1500), (0.9, 1000), (0.9, 3000), (0.97, 6600)])
def test_intervals_of_the_mean_cover_90_percent(phi, length):
    """1,000 runs of 50 to 500 independent samples; 0.0095 is the standard deviation of the share itself."""
    share = coverage([mean_estimate(x) for x in autoregressive(phi, 1000, length, seed=2)], 0.0)
    assert 0.88 <= share <= 0.92


def test_intervals_of_uncorrelated_values_are_slightly_wide():
    share = coverage([mean_estimate(x) for x in autoregressive(0.0, 1000, 300, seed=3)], 0.0)
    assert 0.88 <= share <= 0.94


def test_short_series_state_few_degrees_of_freedom_and_cover():
    """Ten independent samples: Student's t is what holds; normal intervals would not."""
    estimates = [mean_estimate(x) for x in autoregressive(0.9, 1000, 190, seed=4)]
    assert coverage(estimates, 0.0) > 0.86
    assert np.mean([abs(e.value) < 1.645 * e.value_std for e in estimates]) < 0.87


def test_intervals_of_slopes_ratios_and_pooled_runs_cover():
    """Of 600 series of 160 independent samples, phi = 0.9: 90 % +- 1.2 %."""
    x = autoregressive(0.9, 600, 3000, seed=5)
    b = 10 + autoregressive(0.9, 600, 3000, seed=6)
    time = np.arange(3000) * 0.01
    slopes = [slope_estimate(time, 0.3 * time + row) for row in x]
    assert 0.86 <= coverage(slopes, 0.3) <= 0.94
    against = [slope_estimate(other, 0.3 * other + row) for row, other in zip(x, b, strict=True)]
    assert 0.86 <= coverage(against, 0.3) <= 0.94
    ratios = [ratio_estimate(2.0 * other + row, other) for row, other in zip(x, b, strict=True)]
    assert 0.86 <= coverage(ratios, 2.0) <= 0.94
    pooled = [mean_estimate([x[k, :1000], x[k + 1], x[k + 2, :500]]) for k in range(0, 600, 3)]
    assert 0.83 <= coverage(pooled, 0.0) <= 0.97


def test_pooled_runs_have_the_samples_of_all():
    x = autoregressive(0.8, 4, 5000, seed=7)
    pooled = mean_estimate(list(x))
    assert pooled.value == pytest.approx(x.mean())
    assert pooled.independent == pytest.approx(20000 / 9, rel=0.15)
    assert pooled.value_std == pytest.approx(np.sqrt(variance_of_the_mean(0.8, 5000) / 4), rel=0.1)


def test_runs_that_disagree_are_not_taken_for_many_samples():
    """Two runs at -5 and 5: the error bar is of the size of the difference, not of the noise."""
    noise = autoregressive(0.0, 2, 1000, seed=8)
    estimate = mean_estimate([noise[0] - 5, noise[1] + 5])
    assert estimate.value_std > 2
    assert estimate.independent <= 2


@pytest.mark.parametrize("phi", [0.0, 0.7, 0.95])
def test_blocks_of_an_autoregressive_series_have_the_exact_expectation(phi):
    """E[s_B^2] = (var of a block's mean - var of the mean) / (n_B - 1), whatever the correlation."""
    runs = autoregressive(phi, 300, 1024, seed=9)
    found = np.array([block_averages(x).mean_std ** 2 for x in runs])
    blocks = block_averages(runs[0])
    assert blocks.length.tolist() == [2**k for k in range(10)]
    assert blocks.blocks.tolist() == [1024 // 2**k for k in range(10)]
    for k, (length, count) in enumerate(zip(blocks.length, blocks.blocks, strict=True)):
        exact = (variance_of_the_mean(phi, length) - variance_of_the_mean(phi, 1024)) / (count - 1)
        z = (found[:, k].mean() - exact) / (found[:, k].std(ddof=1) / np.sqrt(300))
        assert abs(z) < 4


def test_the_chosen_blocks_are_in_the_plateau():
    phi, length = 0.9, 2**15
    blocks = block_averages(autoregressive(phi, 1, length, seed=10)[0])
    exact = np.sqrt(variance_of_the_mean(phi, length))
    assert abs(blocks.mean_std[blocks.chosen] - exact) < 4 * blocks.mean_std_std[blocks.chosen]
    assert blocks.mean_std[0] < 0.3 * exact
    assert block_averages(np.arange(64.0)).chosen is None


def test_error_of_a_blocked_standard_deviation():
    """Uncorrelated normal values: std(s) = s / sqrt(2 (n - 1))."""
    found = np.array([block_averages(x).mean_std[0] for x in autoregressive(0.0, 2000, 64, seed=11)])
    stated = block_averages(autoregressive(0.0, 1, 64, seed=12)[0])
    assert found.std() == pytest.approx(stated.mean_std_std[0], rel=0.25)
    assert stated.mean_std_std[0] == stated.mean_std[0] / np.sqrt(126)


def test_equilibration_of_a_decaying_transient():
    """10 exp(-t/50) has fallen below a tenth of the noise at t = 230, and to one of the noise at t = 115."""
    for seed in range(5):
        noise = np.random.default_rng(seed).normal(size=3000)
        found = detect_equilibration(noise + 10 * np.exp(-np.arange(3000) / 50))
        assert 90 < found.start < 400
        assert found.independent == pytest.approx((3000 - found.start) / found.inefficiency)


def test_equilibration_tries_every_start_of_a_short_series():
    """The largest number of samples by brute force."""
    series = np.exp(-np.arange(60) / 5) + 0.1 * np.random.default_rng(0).normal(size=60)
    found = detect_equilibration(series)
    brute = [(60 - k) / statistical_inefficiency(series[k:]) for k in range(57)]
    assert found.start == np.argmax(brute) > 0
    assert found.independent == pytest.approx(max(brute))


def test_equilibration_keeps_all_of_a_stationary_series_and_one_sample_of_a_constant_one():
    assert detect_equilibration(np.tile([1.0, -1.0, 0.5], 300)).start == 0
    constant = detect_equilibration(np.full(50, 2.0))
    assert (constant.start, constant.independent) == (0, 1)
    resting = np.concatenate([np.random.default_rng(0).normal(size=100), np.zeros(400)])
    assert detect_equilibration(resting).start < 100, "a constant tail is one sample, not 400"


def test_a_constant_series_is_one_sample_without_error():
    for value in (0.0, 0.1, -1e5):
        estimate = mean_estimate(np.full(30, value))
        assert estimate.value == pytest.approx(value, rel=1e-14, abs=0)
        assert (estimate.value_std, estimate.independent) == (0, 1)


def test_a_drift_is_one_sample():
    """Of a straight line the mean is known no better than the values scatter."""
    estimate = mean_estimate(np.arange(100.0))
    assert estimate.independent == estimate.degrees_of_freedom == 1
    assert estimate.value_std == pytest.approx(np.std(np.arange(100), ddof=1))


def test_exact_slope_and_exact_ratio_have_no_error():
    x = np.random.default_rng(0).uniform(1, 2, size=50)
    slope = slope_estimate(x, 1.0 - 3.0 * x)
    assert slope.value == pytest.approx(-3.0)
    assert slope.value_std == 0
    ratio = ratio_estimate(2.5 * x, x)
    assert ratio.value == pytest.approx(2.5)
    assert ratio.value_std == 0


def test_slope_of_uncorrelated_residuals_is_that_of_regression():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=5000)
    found = slope_estimate(x, 2 * x + rng.normal(size=5000))
    assert found.value_std == pytest.approx(1 / np.sqrt(5000 / 12), rel=0.1)
    assert abs(found.value - 2) < 4 * found.value_std


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_shift_and_unit_pass_through(shift, scale):
    x = autoregressive(0.6, 1, 400, seed=13)[0]
    a, b = mean_estimate(x), mean_estimate(shift + scale * x)
    assert b.value == pytest.approx(shift + scale * a.value, rel=1e-9, abs=1e-9)
    assert b.value_std == pytest.approx(scale * a.value_std, rel=1e-6)
    assert b.independent == pytest.approx(a.independent, rel=1e-6)


def test_reversed_time_changes_nothing():
    x = autoregressive(0.6, 1, 500, seed=14)[0]
    assert mean_estimate(x[::-1]).value_std == pytest.approx(mean_estimate(x).value_std)
    assert statistical_inefficiency(x[::-1]) == pytest.approx(statistical_inefficiency(x))


@pytest.mark.filterwarnings("ignore")
def test_inefficiency_and_equilibration_agree_with_pymbar():
    theirs = pytest.importorskip("pymbar.timeseries")
    for phi in (0.3, 0.9):
        x = autoregressive(phi, 1, 800, seed=15)[0] + 8 * np.exp(-np.arange(800) / 30)
        assert statistical_inefficiency(x) == pytest.approx(theirs.statistical_inefficiency(x, mintime=0), rel=1e-9)
    short = x[:99]
    start, _, samples = theirs.detect_equilibration(short, fast=False, nskip=1)
    found = detect_equilibration(short)
    assert abs(found.start - start) <= 5, "pymbar takes four lags at least, and one more sample"
    assert found.independent == pytest.approx(samples, rel=0.2)


def test_the_text_of_an_estimate_shows_value_and_error():
    assert str(mean_estimate(np.tile([1.0, 2.0, 2.0, 1.0], 100))).startswith("1.5 +- 0.0")


def test_what_a_series_must_not_be():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="not finite at step 2"):
        mean_estimate(np.array([1.0, 2.0, np.nan, 3.0]))
    with pytest.raises(DataError, match="not finite at step 1 "):
        statistical_inefficiency(np.array([1.0, np.inf]))
    with pytest.raises(DataError, match=r"list\(matrix\)"):
        mean_estimate(rng.normal(size=(3, 50)))
    with pytest.raises(DataError, match=r"shape \(T,\), not \(3, 50\)"):
        statistical_inefficiency(rng.normal(size=(3, 50)))
    with pytest.raises(DataError, match="holds 3 values, at least 4"):
        mean_estimate([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="holds 2 values, at least 4"):
        mean_estimate([np.ones(1), np.ones(1)])
    with pytest.raises(DataError, match="holds 0 values"):
        statistical_inefficiency([])
    with pytest.raises(DataError, match="numbers of shape"):
        mean_estimate(["a", "b", "c", "d"])
    with pytest.raises(DataError, match=r"run 1 of series must have the shape \(T,\)"):
        mean_estimate([np.ones(5), np.ones((5, 2))])
    with pytest.raises(DataError, match="differ in length"):
        slope_estimate(np.arange(5.0), np.arange(6.0))
    with pytest.raises(DataError, match="x is constant"):
        slope_estimate(np.ones(9), np.arange(9.0))
    with pytest.raises(DataError, match="mean of the denominator is zero"):
        ratio_estimate(np.arange(4.0), np.array([1.0, -1.0, 1.0, -1.0]))
    with pytest.raises(DataError, match="at least 4"):
        detect_equilibration(np.ones(3))
    with pytest.raises(DataError, match="at least 4"):
        block_averages(np.ones(3))
    with pytest.raises(SettingsError, match="candidates"):
        detect_equilibration(np.ones(30), candidates=1)
    with pytest.raises(SettingsError, match="level"):
        mean_estimate(np.arange(9.0)).interval(1.0)
    with pytest.raises(DataError, match="series is complex: give its real part"):
        mean_estimate(np.exp(1j * np.arange(9.0)))
