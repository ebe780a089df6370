"""Matrix products of the compiled floor against NumPy."""

import numpy as np
import pytest

from gapkit.numerics import products


@pytest.mark.parametrize("rows", [1, 3, 8, 23])
@pytest.mark.parametrize("columns", [8, 16, 24, 56])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_product_equals_numpy(rows, columns, turned, adds):
    """All sizes of tiles and what they leave over; A by rows, and by columns."""
    rng = np.random.default_rng(rows + columns)
    depth = 7
    A, B, C = rng.normal(size=(rows, depth)), rng.normal(size=(depth, columns)), rng.normal(size=(rows, columns))
    a, row, step = (A.T.copy().ravel(), 1, rows) if turned else (A.ravel(), depth, 1)
    out = np.concatenate([[5.0], C.ravel(), [6.0]])
    products.product(rows, columns, depth, a, 0, row, step, B.ravel(), 0, columns, out, 1, columns, adds)
    np.testing.assert_allclose(out[1:-1].reshape(rows, columns), A @ B + adds * C, rtol=1e-12, atol=1e-13)
    assert out[0] == 5.0 and out[-1] == 6.0


def test_product_without_depth_is_zero():
    c = np.ones(24)
    products.product(3, 8, 0, np.ones(1), 0, 1, 1, np.ones(8), 0, 8, c, 0, 8, False)
    np.testing.assert_array_equal(c, 0.0)


def test_turn_is_the_transpose():
    source, out = np.random.default_rng(0).normal(size=(16, 27)), np.zeros((24, 18))
    products.transpose_blocks(13, 21, source.ravel(), 2, 27, out.reshape(-1), 1, 18)
    np.testing.assert_array_equal(out[:, 1:17], source[:, 2:26].T)


@pytest.mark.parametrize("rows", [2, 6, 14])
@pytest.mark.parametrize("columns", [8, 16, 56])
def test_products_with_two_rows_left_over(rows, columns):
    """Eight columns take two rows at once where two are left over."""
    rng = np.random.default_rng(rows + columns)
    A, B = rng.normal(size=(rows, 5)), rng.normal(size=(5, columns))
    c = np.zeros(rows * columns)
    products.product(rows, columns, 5, A.ravel(), 0, 5, 1, B.ravel(), 0, columns, c, 0, columns, False)
    np.testing.assert_allclose(c.reshape(rows, columns), A @ B, rtol=1e-12, atol=1e-13)
