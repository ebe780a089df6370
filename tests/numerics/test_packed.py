"""Packed symmetric matrices, against whole ones."""

import numpy as np
import pytest

from gapkit.numerics import packed


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_factor_solution_and_diagonal(n):
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n + 3))
    whole, b = A @ A.T, rng.normal(size=n)
    values = packed.pack(whole)
    assert len(values) == packed.length(n)
    np.testing.assert_array_equal(values[packed.diagonal(n)], np.diag(whole))
    shifted = values.copy()
    shifted[packed.diagonal(n)] += np.arange(n)
    expected = np.linalg.solve(whole + np.diag(np.arange(n)), b)
    np.testing.assert_allclose(packed.solve(packed.factorised(shifted, n), b), expected, rtol=1e-9, atol=1e-12)


def test_a_matrix_that_is_not_positive_is_refused():
    with pytest.raises(np.linalg.LinAlgError, match="minor 2"):
        packed.factorised(packed.pack(np.diag([1.0, -1.0, 2.0])), 3)
