"""Operations on whole vectors that plain loops would do one number at a time.

Rounding forbids the compiler to reorder a sum, and arrays may overlap for all it knows.
"""

import numpy as np
from numba import njit

from gapkit.numerics.simd import add, broadcast, fma, horizontal_sum, load, multiply, splat, store


@njit(cache=True, nogil=True)
def aligned_zeros(n):
    """n zeros from a boundary of cache lines on: eight doubles that cross one cost two accesses."""
    buffer = np.zeros(n + 8)
    skip = -(buffer.ctypes.data // 8) % 8
    return buffer[skip : skip + n]


@njit(cache=True, nogil=True)
def inner(a, b):
    """Inner product of two contiguous vectors of one length."""
    n = len(a)
    whole = n // 8 * 8
    first = splat(0.0)
    second = splat(0.0)
    k = 0
    while k + 16 <= whole:
        first = fma(load(a, k), load(b, k), first)
        second = fma(load(a, k + 8), load(b, k + 8), second)
        k += 16
    if k < whole:
        first = fma(load(a, k), load(b, k), first)
    out = horizontal_sum(add(first, second))
    for k in range(whole, n):
        out += a[k] * b[k]
    return out


@njit(cache=True, nogil=True)
def subtract_along(along, x, factor, a, at, n):
    """``a = factor (a - along x)`` for the n numbers of ``a`` from ``at`` on; up to seven behind them may change.

    ``x`` is as long as what may change.
    """
    minus, scale = splat(-along), splat(factor)
    for k in range(0, n, 8):
        store(a, at + k, multiply(scale, fma(minus, load(x, k), load(a, at + k))))


@njit(cache=True, nogil=True)
def weighted_powers(power, rows, columns, shift, shared, weights, begin, t, values, slopes):
    """Sums over the rows i of ``weights[begin + i] * v**power`` and their slopes by v, column by column.

    v = t + shift[begin + i] + shared[column], with ``t`` (rows, columns) flat and ``columns`` a multiple of eight. Adds
    to ``values`` and ``slopes`` (columns,), and leaves ``weights * power * v**(power - 1)`` in ``t``.
    """
    factor = splat(float(power))
    for j in range(0, columns, 8):
        both = load(shared, j)
        value = load(values, j)
        slope = load(slopes, j)
        for i in range(rows):
            v = add(add(load(t, i * columns + j), broadcast(shift, begin + i)), both)
            lower = splat(1.0)
            for _ in range(power - 1):
                lower = multiply(lower, v)
            weighted = multiply(broadcast(weights, begin + i), lower)
            value = fma(weighted, v, value)
            side = multiply(weighted, factor)
            slope = add(slope, side)
            store(t, i * columns + j, side)
        store(values, j, value)
        store(slopes, j, slope)


@njit(cache=True, nogil=True)
def powers(power, rows, columns, shift, shared, begin, t, out):
    """``out = v**power`` with v as in :func:`weighted_powers`."""
    for j in range(0, columns, 8):
        both = load(shared, j)
        for i in range(rows):
            v = add(add(load(t, i * columns + j), broadcast(shift, begin + i)), both)
            raised = v
            for _ in range(power - 1):
                raised = multiply(raised, v)
            store(out, i * columns + j, raised)


@njit(cache=True, nogil=True)
def add_strain(strain, a, x, y, z, gx, gy, gz):
    """Add the strain derivative of a function with gradient (gx, gy, gz) by the vector (x, y, z) to row ``a``.

    With six columns the symmetric part in Voigt order (xx yy zz yz xz xy); with nine all of x_c g_d, row by row.
    """
    if strain.shape[1] == 9:
        strain[a, 0] += x * gx
        strain[a, 1] += x * gy
        strain[a, 2] += x * gz
        strain[a, 3] += y * gx
        strain[a, 4] += y * gy
        strain[a, 5] += y * gz
        strain[a, 6] += z * gx
        strain[a, 7] += z * gy
        strain[a, 8] += z * gz
        return
    strain[a, 0] += x * gx
    strain[a, 1] += y * gy
    strain[a, 2] += z * gz
    strain[a, 3] += 0.5 * (y * gz + z * gy)
    strain[a, 4] += 0.5 * (x * gz + z * gx)
    strain[a, 5] += 0.5 * (x * gy + y * gx)
