r"""Scalar kernel functions of one argument, with slope and curvature.

Every kernel of gapkit is a function of one number, :math:`k(x, x') = \phi(t)` with

* dot-product kernels:  :math:`t = x \cdot x'`
* squared exponential:  :math:`t = x \cdot x' - |x|^2/2 - |x'|^2/2 = -|x - x'|^2/2`

so that in both cases :math:`\partial t/\partial x = x' - s\,x` (``s`` = 0 or 1) and
:math:`\partial^2 t/\partial x \partial x' = 1`. One chain rule serves them all (``numerics/design_rows``).
The functions are named by a small integer, because compiled code cannot hold Python objects.
"""

import math

from numba import njit

POWER = 0  # phi(t) = t**parameter, dot-product geometry
EXPONENTIAL = 1  # phi(t) = exp(t), squared-distance geometry (parameter unused)


@njit(cache=True, nogil=True, inline="always")
def value(function, parameter, t):
    """Scalar function of a kernel, phi(t)."""
    if function == EXPONENTIAL:
        return math.exp(t)
    return t**parameter


@njit(cache=True, nogil=True, inline="always")
def slope(function, parameter, t):
    """Slope phi'(t) of the scalar function of a kernel."""
    if function == EXPONENTIAL:
        return math.exp(t)
    return parameter * t ** (parameter - 1)


@njit(cache=True, nogil=True, inline="always")
def curvature(function, parameter, t):
    """Curvature phi''(t) of the scalar function of a kernel."""
    if function == EXPONENTIAL:
        return math.exp(t)
    if parameter == 1:
        return 0.0
    return parameter * (parameter - 1) * t ** (parameter - 2)


@njit(cache=True, nogil=True)
def apply(function, parameter, t, k, dk):
    """Fill ``k = phi(t)`` and ``dk = phi'(t)`` for a matrix ``t`` (in place where ``k is t``)."""
    n, m = t.shape
    for i in range(n):
        if function == EXPONENTIAL:
            for j in range(m):
                v = math.exp(t[i, j])
                dk[i, j] = v
                k[i, j] = v
            continue
        # one pass per power over a row: each is a plain product that vectorises
        for j in range(m):
            dk[i, j] = 1.0
        for _ in range(parameter - 1):
            for j in range(m):
                dk[i, j] *= t[i, j]
        for j in range(m):
            v = dk[i, j]
            k[i, j] = v * t[i, j]
            dk[i, j] = parameter * v


@njit(cache=True, nogil=True)
def apply_all(function, parameter, t, k, dk, d2k):
    """Fill phi(t), phi'(t) and phi''(t) for a matrix ``t`` (n, m)."""
    apply(function, parameter, t, k, dk)
    for i in range(t.shape[0]):
        for j in range(t.shape[1]):
            d2k[i, j] = dk[i, j] if function == EXPONENTIAL else curvature(function, parameter, t[i, j])
