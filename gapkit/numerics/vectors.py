"""Reductions over rows that plain loops would add up one by one, because rounding forbids the compiler to reorder."""

from numba import njit

from gapkit.numerics.simd import add, fma, load, multiply, splat, store, total


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
    out = total(add(first, second))
    for k in range(whole, n):
        out += a[k] * b[k]
    return out


@njit(cache=True, nogil=True)
def weighted_powers(power, t, shift, shared, weights, slope):
    """Sum of ``weights * v**power`` and of its slopes by v, with v = ``t + shift + shared``, all (m,).

    Leaves ``v**power`` in ``t`` and ``weights * power * v**(power - 1)`` in ``slope``.
    """
    m = len(t)
    whole = m // 8 * 8
    both = splat(shared)
    factor = splat(float(power))
    value = splat(0.0)
    slopes = splat(0.0)
    for k in range(0, whole, 8):
        v = add(add(load(t, k), load(shift, k)), both)
        lower = splat(1.0)
        for _ in range(power - 1):
            lower = multiply(lower, v)
        w = load(weights, k)
        powered = multiply(lower, v)
        value = fma(w, powered, value)
        side = multiply(multiply(w, factor), lower)
        slopes = add(slopes, side)
        store(t, k, powered)
        store(slope, k, side)
    sum_of_values, sum_of_slopes = total(value), total(slopes)
    for k in range(whole, m):
        x = t[k] + shift[k] + shared
        below = x ** (power - 1)
        t[k] = below * x
        slope[k] = weights[k] * power * below
        sum_of_values += weights[k] * t[k]
        sum_of_slopes += slope[k]
    return sum_of_values, sum_of_slopes
