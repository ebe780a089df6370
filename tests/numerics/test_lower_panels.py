"""Half a symmetric matrix in panels, against dense algebra."""

import numpy as np
import pytest

from gapkit.exceptions import NumericsError
from gapkit.numerics.lower_panels import LowerPanels


@pytest.fixture
def dense():
    A = np.random.default_rng(2).normal(size=(23, 30))
    return A @ A.T


@pytest.fixture(params=[1, 5, 23, 100])
def factor(dense, request):
    unread = dense.copy()
    unread[np.triu_indices(23, 1)] = np.nan
    made = LowerPanels.of(unread, request.param)
    made.cholesky()
    return made


def test_the_factor_is_that_of_lapack(dense, factor):
    np.testing.assert_allclose(factor.lower(), np.linalg.cholesky(dense), rtol=1e-10, atol=1e-12)


def test_half_the_memory_is_held(dense):
    assert sum(p.size for _, p in LowerPanels.of(dense, 1).panels) == 23 * 24 / 2


def test_systems_are_solved(dense, factor):
    rng = np.random.default_rng(3)
    for y in (rng.normal(size=23), rng.normal(size=(23, 4))):
        np.testing.assert_allclose(factor.solve(y), np.linalg.solve(dense, y), rtol=1e-8)


def test_columns_of_the_inverse_factor_and_its_last_corner(dense, factor):
    L = np.linalg.cholesky(dense)
    np.testing.assert_allclose(factor.inverse_columns(7, 14), np.linalg.inv(L)[7:, 7:14], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(factor.last_corner(9), L[-9:, -9:], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("width", [1, 4, 6, 50])
def test_blocks_are_added_where_they_belong(dense, width):
    """Blocks of unequal size, across the borders of panels; those on the diagonal come whole."""
    made, ends = LowerPanels(23, width), [0, 3, 10, 11, 23]
    for k, low in enumerate(ends[:-1]):
        for j, left in enumerate(ends[: k + 1]):
            made.add(low, left, dense[low : ends[k + 1], left : ends[j + 1]])
    made.add_diagonal(np.arange(23.0))
    np.testing.assert_array_equal(made.lower(), np.tril(dense + np.diag(np.arange(23.0))))


def test_a_copy_is_left_alone(dense):
    made = LowerPanels.of(dense, 5)
    made.copy().cholesky()
    np.testing.assert_array_equal(made.lower(), np.tril(dense))


def test_a_matrix_that_is_not_positive_definite_is_refused(dense):
    dense[20, 20] = -1.0
    with pytest.raises(NumericsError, match="not positive definite"):
        LowerPanels.of(dense, 5).cholesky()
