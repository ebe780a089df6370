"""The SIMD value type against NumPy."""

import numpy as np
import pytest
from numba import njit

from gapkit.numerics import simd


@njit
def _everything(a, b, out):
    x, y = simd.load(a, 1), simd.load(b, 0)
    simd.store(out, 0, simd.fma(x, y, simd.splat(2.0)))
    simd.store(out, 8, simd.add(simd.multiply(x, y), simd.subtract(x, y)))
    return simd.horizontal_sum(x)


def test_every_operation_equals_numpy():
    rng = np.random.default_rng(0)
    a, b, out = rng.normal(size=9), rng.normal(size=8), np.zeros(16)
    total = _everything(a, b, out)
    x = a[1:]
    np.testing.assert_allclose(out[:8], x * b + 2, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(out[8:], x * b + x - b, rtol=1e-14, atol=1e-15)
    assert total == pytest.approx(x.sum(), rel=1e-14)


@njit
def _transposed(a, out):
    simd.transpose(a, 3, 9, out, 1, 10)


def test_transpose_equals_numpy():
    a, out = np.random.default_rng(1).normal(size=80), np.zeros(90)
    _transposed(a, out)
    block = np.lib.stride_tricks.sliding_window_view(a[3:], 8)[: 9 * 7 + 1 : 9]
    np.testing.assert_array_equal(np.lib.stride_tricks.sliding_window_view(out[1:], 8)[: 10 * 7 + 1 : 10], block.T)


@njit
def _tile(a, b, c, adds):
    simd.tile(4, 2, a, 1, 10, 2, b, 3, 17, 5, c, 2, 18, adds)


@pytest.mark.parametrize("adds", [False, True])
def test_tile_is_a_part_of_a_matrix_product(adds):
    rng = np.random.default_rng(2)
    a, b, c = rng.normal(size=60), rng.normal(size=90), rng.normal(size=80)
    before = c.copy()
    _tile(a, b, c, adds)
    A = np.array([[a[1 + 10 * i + 2 * k] for k in range(5)] for i in range(4)])
    B = np.array([b[3 + 17 * k : 3 + 17 * k + 16] for k in range(5)])
    expected = before.copy()
    for i, row in enumerate(A @ B):
        here = slice(2 + 18 * i, 2 + 18 * i + 16)
        expected[here] = row + (before[here] if adds else 0)
    np.testing.assert_allclose(c, expected, rtol=1e-13, atol=1e-14)
