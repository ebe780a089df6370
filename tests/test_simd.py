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
    return simd.total(x)


def test_every_operation_equals_numpy():
    rng = np.random.default_rng(0)
    a, b, out = rng.normal(size=9), rng.normal(size=8), np.zeros(16)
    total = _everything(a, b, out)
    x = a[1:]
    np.testing.assert_allclose(out[:8], x * b + 2, rtol=1e-15, atol=1e-15)
    np.testing.assert_allclose(out[8:], x * b + x - b, rtol=1e-14, atol=1e-15)
    assert total == pytest.approx(x.sum(), rel=1e-14)
