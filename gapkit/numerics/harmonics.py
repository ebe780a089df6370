r"""Real spherical harmonics, eight directions at a time, and the gradients of the solid ones as a linear map.

With :math:`c_m + i s_m = (x + iy)^m` and :math:`Q_l^m = r^{l-m}\, d^m P_l(z/r)/d(z/r)^m` the solid harmonics are
:math:`S_{lm} = r^l Y_{lm} = N_{lm} Q_l^{|m|} (c_m \text{ or } s_{|m|})`, polynomials in x, y, z that follow from

.. math::
    Q_m^m = (2m-1)!!, \quad Q_{m+1}^m = (2m+1) z Q_m^m, \quad
    (l-m) Q_l^m = (2l-1) z Q_{l-1}^m - (l+m-1) r^2 Q_{l-2}^m

(Bigi, Fraux, Browning, Ceriotti, J. Chem. Phys. 159, 064802 (2023), eq. 5 to 14, in another normalisation.) Their
gradients are solid harmonics of the next lower degree: for :math:`R_l^m = Q_l^m (c_m + i s_m)`

.. math::
    \partial_z R_l^m = (l+m) R_{l-1}^m, \quad (\partial_x + i\partial_y) R_l^m = -R_{l-1}^{m+1}, \quad
    (\partial_x - i\partial_y) R_l^m = (l+m)(l+m-1) R_{l-1}^{m-1}

(Hobson, The Theory of Spherical and Ellipsoidal Harmonics (1931), section 84). On the unit sphere the gradient of
:math:`Y_{lm}(\hat r)` is :math:`(\nabla S_{lm} - l\, Y_{lm}\, \hat r)/r`, so sums over m of coefficients and gradients
need no gradients of harmonics, only coefficients that :func:`lower_degree` has lowered by :func:`ladder`.
"""

import math

import numpy as np
from numba import njit

from gapkit.numerics.simd import broadcast, fma, load, multiply, splat, store, subtract


def _norm(l: int, m: int) -> float:
    """N_lm, with the real harmonics' sqrt 2."""
    ratio = math.factorial(l - m) / math.factorial(l + m)
    return math.sqrt((2 * l + 1) / (4 * math.pi) * ratio * (1 if m == 0 else 2))


def recursion(l_max: int) -> np.ndarray:
    r"""Factors a, b of :math:`N_{lm} Q_l^m = a z N_{l-1,m} Q_{l-1}^m + b r^2 N_{l-2,m} Q_{l-2}^m`.

    Flat, at ``2 (l (l_max + 1) + m)``; where l = m, a is the value itself.
    """
    table = np.zeros((l_max + 1, l_max + 1, 2))
    for m in range(l_max + 1):
        table[m, m, 0] = _norm(m, m) * math.prod(range(1, 2 * m, 2))
        for l in range(m + 1, l_max + 1):
            table[l, m, 0] = (2 * l - 1) / (l - m) * _norm(l, m) / _norm(l - 1, m)
            if l > m + 1:
                table[l, m, 1] = -(l + m - 1) / (l - m) * _norm(l, m) / _norm(l - 2, m)
    return table.ravel()


def ladder(l_max: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The map from coefficients of gradients of solid harmonics to coefficients of solid harmonics.

    Returns
    -------
    source, factor : (5 l_max^2,) int and float
        :math:`\sum_m q_{lm} \partial_a S_{lm} = \sum_{m'} q^a_{l-1,m'} S_{l-1,m'}`. Of the five entries from
        ``5 ((l-1)^2 + (l-1) + m')`` on, the first two give q^x as sum of ``factor * q[source]``, two more q^y, one q^z.
    """
    found: list[list[list[tuple[int, float]]]] = [[[], [], []] for _ in range(l_max**2)]
    for l in range(1, l_max + 1):
        for m in range(-l, l + 1):
            for axis, low, factor in _gradient(l, m):
                found[(l - 1) ** 2 + l - 1 + low][axis].append((l * l + l + m, factor))
    source, factors = np.zeros((l_max**2, 5), dtype=np.int64), np.zeros((l_max**2, 5))
    for row, axes in enumerate(found):
        for begin, entries in zip((0, 2, 4), axes, strict=True):
            for k, (lm, factor) in enumerate(entries):
                source[row, begin + k], factors[row, begin + k] = lm, factor
    return source.ravel(), factors.ravel()


def _gradient(l: int, m: int) -> list[tuple[int, int, float]]:
    """Gradient of S_lm as (axis, m', factor of S_{l-1,m'})."""
    k, sine = abs(m), m < 0
    up, down = -0.5 if k > 0 else -1.0, 0.5 * (l + k) * (l + k - 1)
    parts = [(2, k, sine, l + k), (0, k + 1, sine, up), (1, k + 1, not sine, -up if sine else up)]
    if k > 0:
        parts += [(0, k - 1, sine, down), (1, k - 1, not sine, down if sine else -down)]
    return [
        (axis, -low if odd else low, factor * _norm(l, k) / _norm(l - 1, low))
        for axis, low, odd, factor in parts
        if low <= l - 1 and not (odd and low == 0)
    ]


@njit(cache=True, nogil=True)
def harmonics(l_max, factors, directions, offset, out, out_offset):
    """Evaluate eight unit vectors.

    Parameters
    ----------
    l_max, factors
        Highest degree, and :func:`recursion`.
    directions, offset
        Flat array; x, y, z of the eight unit vectors in three runs of eight from ``offset``.
    out, out_offset
        Filled at ``out_offset + 8 lm + lane`` with ``lm = l^2 + l + m``.
    """
    x = load(directions, offset)
    y = load(directions, offset + 8)
    z = load(directions, offset + 16)
    cosine = splat(1.0)
    sine = splat(0.0)
    for m in range(l_max + 1):
        if m > 0:
            turned = subtract(multiply(x, cosine), multiply(y, sine))
            sine = fma(x, sine, multiply(y, cosine))
            cosine = turned
        lower = splat(0.0)
        q = splat(0.0)
        for l in range(m, l_max + 1):
            at = 2 * (l * (l_max + 1) + m)
            if l == m:
                q = broadcast(factors, at)
            else:
                higher = fma(multiply(broadcast(factors, at), z), q, multiply(broadcast(factors, at + 1), lower))
                lower = q
                q = higher
            store(out, out_offset + 8 * (l * l + l + m), multiply(q, cosine))
            if m > 0:
                store(out, out_offset + 8 * (l * l + l - m), multiply(q, sine))


@njit(cache=True, nogil=True)
def lower_degree(q, offset, l_max, source, factor, out, out_offset):
    """Coefficients beside those of their gradients, for eight n: ``out`` holds q, q^x, q^y, q^z for each lm.

    ``q[offset + 8 lm + n]`` are the coefficients, ``source`` and ``factor`` from :func:`ladder`. The highest degree
    leads nowhere: only q is filled there.
    """
    for lm in range((l_max + 1) * (l_max + 1)):
        here = out_offset + 32 * lm
        store(out, here, load(q, offset + 8 * lm))
        if lm < l_max * l_max:
            k = 5 * lm
            along_x = multiply(broadcast(factor, k), load(q, offset + 8 * source[k]))
            along_x = fma(broadcast(factor, k + 1), load(q, offset + 8 * source[k + 1]), along_x)
            along_y = multiply(broadcast(factor, k + 2), load(q, offset + 8 * source[k + 2]))
            along_y = fma(broadcast(factor, k + 3), load(q, offset + 8 * source[k + 3]), along_y)
            store(out, here + 8, along_x)
            store(out, here + 16, along_y)
            store(out, here + 24, multiply(broadcast(factor, k + 4), load(q, offset + 8 * source[k + 4])))
