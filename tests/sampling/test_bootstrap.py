"""Block bootstrap: exact expectations of resampled series, and the errors of autoregressive ones."""

import numpy as np
import pytest

from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.sampling.bootstrap import block_length, bootstrap_estimate, moving_blocks, stationary_blocks
from gapkit.sampling.time_series import mean_estimate, ratio_estimate, slope_estimate
from tests.sampling.test_time_series import autoregressive, variance_of_the_mean


def test_stationary_blocks_have_the_mean_length():
    """Of 40,000 steps a share of 1 - 1/b continues a block."""
    indices = stationary_blocks(40000, 8, np.random.default_rng(0))
    share = np.mean(np.diff(indices) % 40000 == 1)
    assert abs(share - 7 / 8) < 4 * np.sqrt(7 / 64 / 40000)
    assert indices.min() >= 0 and indices.max() < 40000


def test_moving_blocks_have_their_length_and_stay_inside():
    indices = moving_blocks(103, 10, np.random.default_rng(0))
    assert len(indices) == 103
    whole = indices[:100].reshape(10, 10)
    np.testing.assert_array_equal(whole - whole[:, :1], np.tile(np.arange(10), (10, 1)))
    assert indices.max() < 103
    starts = {int(moving_blocks(6, 4, np.random.default_rng(k))[0]) for k in range(40)}
    assert starts == {0, 1, 2}


def test_variance_of_the_mean_over_moving_blocks_is_exact():
    """The mean of T/b blocks drawn at random has the variance of all blocks' means, divided by T/b."""
    x = autoregressive(0.8, 1, 400, seed=0)[0]
    means = np.array([x[k : k + 20].mean() for k in range(381)])
    found = bootstrap_estimate(np.mean, x, block=20, draws=4000, blocks=moving_blocks, random_state=1)
    assert abs(found.value_std / (means.std() / np.sqrt(20)) - 1) < 4 / np.sqrt(2 * 4000)
    assert found.value == x.mean()


def test_variance_of_the_mean_over_stationary_blocks_is_exact():
    """Politis, Romano 1994, eq. 9: R_0 + 2 sum_t b_t R_t with circular autocovariances and
    b_t = (1 - t/T) (1 - p)^t + (t/T) (1 - p)^(T - t), over T."""
    x = autoregressive(0.8, 1, 300, seed=1)[0]
    centred, p = x - x.mean(), 1 / 15
    circular = np.array([centred @ np.roll(centred, -t) / 300 for t in range(300)])
    t = np.arange(1, 300)
    weights = (1 - t / 300) * (1 - p) ** t + t / 300 * (1 - p) ** (300 - t)
    exact = np.sqrt((circular[0] + weights @ circular[1:]) / 300)
    found = bootstrap_estimate(np.mean, x, block=15, draws=4000, random_state=2).value_std
    assert abs(found / exact - 1) < 4 / np.sqrt(2 * 4000)


@pytest.mark.parametrize("blocks", [stationary_blocks, moving_blocks])
def test_bootstrap_finds_the_error_of_an_autoregressive_series(blocks):
    """With 1,050 independent samples, within 15 %; blocks of one sample would give a quarter of it."""
    x = autoregressive(0.9, 1, 20000, seed=3)[0]
    exact = np.sqrt(variance_of_the_mean(0.9, 20000))
    assert bootstrap_estimate(np.mean, x, blocks=blocks, random_state=0).value_std == pytest.approx(exact, rel=0.15)
    assert bootstrap_estimate(np.mean, x, block=1, random_state=0).value_std < 0.3 * exact


def test_few_samples_give_the_bias_that_the_docstring_states():
    """100 independent samples: 11 % too small, in the root mean square over runs."""
    runs = autoregressive(0.9, 150, 1900, seed=1)
    found = [bootstrap_estimate(np.mean, x, draws=100, random_state=k).value_std ** 2 for k, x in enumerate(runs)]
    assert np.sqrt(np.mean(found) / variance_of_the_mean(0.9, 1900)) == pytest.approx(0.89, abs=0.05)


def test_length_of_blocks_of_an_autoregressive_series():
    """(G / g)^2 = (2 phi / (1 - phi^2))^2; g = (1 + phi) / (1 - phi)."""
    for phi in (0.5, 0.9):
        exact = ((2 * phi / (1 - phi**2)) ** 2 * 50000) ** (1 / 3)
        assert block_length(autoregressive(phi, 1, 50000, seed=4)[0]) == pytest.approx(exact, rel=0.15)
    assert block_length(np.arange(100.0)) == 25


def test_slope_ratio_and_pooled_runs_agree_with_linear_propagation():
    a = list(autoregressive(0.8, 3, 4000, seed=5))
    b = [10 + x for x in autoregressive(0.8, 3, 4000, seed=6)]
    time = [np.arange(4000.0)] * 3
    pairs = [
        (bootstrap_estimate(np.mean, a, random_state=0), mean_estimate(a)),
        (bootstrap_estimate(lambda u, v: u.mean() / v.mean(), a, b, random_state=0), ratio_estimate(a, b)),
        (bootstrap_estimate(lambda t, u: np.polyfit(t, u, 1)[0], time, a, random_state=0), slope_estimate(time, a)),
    ]
    for ours, linear in pairs:
        assert ours.value == pytest.approx(linear.value, rel=1e-6)
        assert ours.value_std == pytest.approx(linear.value_std, rel=0.15)


def test_same_seed_same_answer():
    x = autoregressive(0.5, 1, 200, seed=7)[0]
    first, again, other = (bootstrap_estimate(np.var, x, random_state=s) for s in (1, 1, 2))
    assert first == again != other


def test_what_the_bootstrap_refuses():
    x = np.arange(10.0)
    with pytest.raises(SettingsError, match="no series"):
        bootstrap_estimate(np.mean)
    with pytest.raises(SettingsError, match="draws"):
        bootstrap_estimate(np.mean, x, draws=1)
    with pytest.raises(SettingsError, match="from 1 to 10"):
        bootstrap_estimate(np.mean, x, block=11)
    with pytest.raises(DataError, match="series 1 has runs"):
        bootstrap_estimate(np.dot, x, x[1:])
    with pytest.raises(NumericsError, match="series as given"):
        bootstrap_estimate(lambda v: v, x)
    with pytest.raises(NumericsError, match="draw"):
        bootstrap_estimate(lambda v: np.nan if len(set(v)) < 10 else 1.0, x, random_state=0)
