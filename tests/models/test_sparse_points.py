"""Selections of sparse points."""

import numpy as np
import pytest

from gapkit.exceptions import SettingsError
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models import sparse_points
from gapkit.models.sparse_points import SELECTIONS, GreedyVariance, pivoted_cholesky, selection


def candidates(n=80, seed=0):
    x = np.abs(np.random.default_rng(seed).normal(size=(n, 5))) + 0.2
    return x / np.linalg.norm(x, axis=1)[:, None]


@pytest.mark.parametrize("name", SELECTIONS)
def test_every_selection_gives_distinct_points_of_the_pool(name):
    x = candidates()
    index = selection(name)(x, DotProduct(2), 12, np.random.default_rng(1))
    assert len(index) == len(set(index.tolist())) == 12
    again = selection(name)(x, DotProduct(2), 12, np.random.default_rng(1))
    np.testing.assert_array_equal(index, again)
    everything = selection(name)(x[:7], SquaredExponential(0.5), 20, np.random.default_rng(1))
    assert sorted(everything) == list(range(7))


def test_pivoted_cholesky_residual_is_the_conditional_prior_variance():
    x, kernel = candidates(), SquaredExponential(0.6)
    index, residual = pivoted_cholesky(x, kernel, 10)
    K = kernel(x)
    schur = K - K[:, index] @ np.linalg.solve(K[np.ix_(index, index)], K[index])
    np.testing.assert_allclose(residual, np.diag(schur), atol=1e-9)


def test_pivoted_cholesky_takes_the_largest_residual_each_time():
    x, kernel = candidates(seed=3), SquaredExponential(0.6)
    index, _ = pivoted_cholesky(x, kernel, 8)
    for k in range(1, 8):
        _, residual = pivoted_cholesky(x[np.append(index[:k], np.arange(len(x)))], kernel, k)
        chosen, _ = pivoted_cholesky(x, kernel, k)
        np.testing.assert_array_equal(chosen, index[:k])
        K = kernel(x)
        left = np.diag(K - K[:, index[:k]] @ np.linalg.solve(K[np.ix_(index[:k], index[:k])], K[index[:k]]))
        assert left[index[k]] == pytest.approx(left.max(), rel=1e-6)
        assert len(residual)


@pytest.mark.parametrize("n", [5, 60])
def test_the_last_digits_of_unit_vectors_do_not_choose_the_points(n):
    """Both routes: columns as needed, and the whole matrix."""
    x, rng = candidates(seed=7), np.random.default_rng(0)
    index, _ = pivoted_cholesky(x, DotProduct(4), n)
    assert index[0] == 0
    for _ in range(5):
        changed = x * (1 + 2e-16 * rng.integers(-1, 2, size=x.shape))
        np.testing.assert_array_equal(pivoted_cholesky(changed, DotProduct(4), n)[0][:5], index[:5])


def test_it_stops_when_nothing_is_left():
    x = np.repeat(candidates(4), 10, axis=0)
    index, residual = pivoted_cholesky(x, SquaredExponential(0.5), 30)
    assert len(index) == 4
    assert residual.max() < 1e-9


def test_greedy_points_explain_more_than_random_ones():
    x, kernel = candidates(300, 5)[:, :2].copy(), SquaredExponential(0.4)
    K = kernel(x)

    def unexplained(index):
        return np.trace(K - K[:, index] @ np.linalg.pinv(K[np.ix_(index, index)]) @ K[index])

    rng = np.random.default_rng(0)
    greedy = unexplained(selection("greedy")(x, kernel, 25, rng))
    random = np.mean([unexplained(selection("random")(x, kernel, 25, rng)) for _ in range(5)])
    assert greedy < 0.8 * random


def test_unknown_names_are_refused():
    with pytest.raises(SettingsError, match="greedy"):
        selection("magic")


@pytest.mark.parametrize(("n", "tolerance"), [(40, 1e-10), (80, 1e-10), (80, 0.1)])
def test_the_whole_matrix_gives_the_points_and_residuals_of_the_columns(monkeypatch, n, tolerance):
    x, kernel = candidates(seed=7), SquaredExponential(0.3)
    monkeypatch.setattr(sparse_points, "WHOLE_MATRIX", 0.0)
    whole, residual = pivoted_cholesky(x, kernel, n, tolerance)
    monkeypatch.setattr(sparse_points, "WHOLE_MATRIX", 2.0)
    index, expected = pivoted_cholesky(x, kernel, n, tolerance)
    np.testing.assert_array_equal(whole, index)
    np.testing.assert_allclose(residual, expected, atol=1e-9)
    assert (len(index) < n) == (tolerance == 0.1)


def test_a_tolerance_is_a_stated_residual_and_replaces_a_number():
    x, kernel = candidates(200, 4), SquaredExponential(0.5)
    for tolerance in (1e-1, 1e-3):
        index = GreedyVariance(tolerance)(x, kernel, len(x), np.random.default_rng(0))
        _, residual = pivoted_cholesky(x, kernel, len(index))
        assert residual.max() <= tolerance < pivoted_cholesky(x, kernel, len(index) - 1)[1].max()


def test_a_large_pool_is_thinned_but_keeps_what_is_rare(monkeypatch):
    monkeypatch.setattr(sparse_points, "PILOT", 1)
    crowd, rare = candidates(300, 8) * 0.05 + 0.4, candidates(4, 9) + np.arange(4)[:, None]
    x = np.vstack([crowd, rare])
    index = GreedyVariance(largest=30)(x, SquaredExponential(0.5), 20, np.random.default_rng(0))
    assert set(range(300, 304)) <= set(index.tolist())
    assert len(set(index.tolist())) == 20
