r"""Real spherical harmonics and their tangential gradients, eight directions at a time.

With :math:`c_m + i s_m = (x + iy)^m` and :math:`Q_l^m = r^{l-m}\, d^m P_l(z/r)/d(z/r)^m` the solid harmonics are
:math:`S_{lm} = r^l Y_{lm} = N_{lm} Q_l^{|m|} (c_m \text{ or } s_{|m|})`, polynomials in x, y, z that follow from

.. math::
    Q_m^m = (2m-1)!!, \quad Q_{m+1}^m = (2m+1) z Q_m^m, \quad
    (l-m) Q_l^m = (2l-1) z Q_{l-1}^m - (l+m-1) r^2 Q_{l-2}^m

    \partial_x Q_l^m = -x Q_{l-1}^{m+1}, \quad \partial_y Q_l^m = -y Q_{l-1}^{m+1}, \quad
    \partial_z Q_l^m = (l+m) Q_{l-1}^m

(Bigi, Fraux, Browning, Ceriotti, J. Chem. Phys. 159, 064802 (2023), eq. 5 to 14, in another normalisation.)
On the unit sphere the gradient of :math:`Y_{lm}(\hat r)` is
:math:`(\nabla S_{lm} - l\, Y_{lm}\, \hat r)/r`; the factor 1/r is left to the caller.
"""

import math

import numpy as np
from numba import njit

from gapkit.numerics.simd import add, fma, load, multiply, splat, store, subtract

#: doubles kept per (direction group, lm): Y, and the three components of the tangential gradient, 8 lanes each
STRIDE = 32
#: the same without gradients: what is read often stays in the first cache
NARROW = 8


def normalisation(l_max: int) -> np.ndarray:
    r"""Flat ``(l_max + 1)^2`` table of :math:`N_{lm}` at ``l (l_max + 1) + m``, with the real harmonics' sqrt 2."""
    table = np.zeros((l_max + 1, l_max + 1))
    for l in range(l_max + 1):
        for m in range(l + 1):
            ratio = math.factorial(l - m) / math.factorial(l + m)
            table[l, m] = math.sqrt((2 * l + 1) / (4 * math.pi) * ratio * (1 if m == 0 else 2))
    return table.ravel()


def scratch_size(l_max: int) -> int:
    """Doubles of scratch space that :func:`harmonics` needs."""
    return 8 * ((l_max + 2) ** 2 + 2 * (l_max + 1))


@njit(cache=True, nogil=True)
def harmonics(l_max, norm, directions, offset, with_gradient, scratch, out, out_offset):
    """Evaluate eight unit vectors.

    Parameters
    ----------
    l_max, norm
        Highest degree, and :func:`normalisation`.
    directions, offset
        Flat array; x, y, z of the eight unit vectors in three runs of eight from ``offset``.
    with_gradient
        Whether to fill the gradient lanes too.
    scratch
        At least :func:`scratch_size` doubles.
    out, out_offset
        Filled at ``out_offset + lm * stride + 8 * component + lane`` with ``lm = l^2 + l + m``; the stride is
        ``STRIDE`` with gradients and ``NARROW`` without.
    """
    width = l_max + 2
    stride = STRIDE if with_gradient else NARROW
    x = load(directions, offset)
    y = load(directions, offset + 8)
    z = load(directions, offset + 16)
    zero = splat(0.0)
    cosine = 8 * width * width
    sine = cosine + 8 * (l_max + 1)
    store(scratch, cosine, splat(1.0))
    store(scratch, sine, zero)
    for m in range(1, l_max + 1):
        c = load(scratch, cosine + 8 * (m - 1))
        s = load(scratch, sine + 8 * (m - 1))
        store(scratch, cosine + 8 * m, subtract(multiply(x, c), multiply(y, s)))
        store(scratch, sine + 8 * m, fma(x, s, multiply(y, c)))
    # Q_l^m at 8 (l width + m); entries with m > l are needed as zeros by the gradient
    double_factorial = 1.0
    for m in range(l_max + 1):
        if m > 0:
            double_factorial *= 2 * m - 1
        store(scratch, 8 * (m * width + m), splat(double_factorial))
        store(scratch, 8 * (m * width + m + 1), zero)
        if m < l_max:
            store(scratch, 8 * ((m + 1) * width + m), multiply(splat((2 * m + 1.0) * double_factorial), z))
        for l in range(m + 2, l_max + 1):
            first = multiply(splat((2 * l - 1.0) / (l - m)), multiply(z, load(scratch, 8 * ((l - 1) * width + m))))
            second = load(scratch, 8 * ((l - 2) * width + m))
            store(scratch, 8 * (l * width + m), fma(splat(-(l + m - 1.0) / (l - m)), second, first))
    for l in range(l_max + 1):
        degree = splat(-float(l))
        for m in range(l + 1):
            q = load(scratch, 8 * (l * width + m))
            n = splat(norm[l * (l_max + 1) + m])
            c = load(scratch, cosine + 8 * m)
            s = load(scratch, sine + 8 * m)
            nq = multiply(n, q)
            plus = out_offset + (l * l + l + m) * stride
            minus = out_offset + (l * l + l - m) * stride
            y_plus = multiply(nq, c)
            y_minus = multiply(nq, s)
            store(out, plus, y_plus)
            if m > 0:
                store(out, minus, y_minus)
            if not with_gradient:
                continue
            q_side = zero  # N Q_{l-1}^{m+1}
            q_down = zero  # N (l + m) Q_{l-1}^m
            if l > 0:
                if m + 1 <= l - 1:
                    q_side = multiply(n, load(scratch, 8 * ((l - 1) * width + m + 1)))
                if m <= l - 1:
                    q_down = multiply(multiply(n, splat(float(l + m))), load(scratch, 8 * ((l - 1) * width + m)))
            mnq = multiply(splat(float(m)), nq)
            c_low = zero
            s_low = zero
            if m > 0:
                c_low = load(scratch, cosine + 8 * (m - 1))
                s_low = load(scratch, sine + 8 * (m - 1))
            side = multiply(q_side, c)
            radial = multiply(degree, y_plus)
            store(out, plus + 8, fma(x, subtract(radial, side), multiply(mnq, c_low)))
            store(out, plus + 16, subtract(multiply(y, subtract(radial, side)), multiply(mnq, s_low)))
            store(out, plus + 24, fma(radial, z, multiply(q_down, c)))
            if m > 0:
                side = multiply(q_side, s)
                radial = multiply(degree, y_minus)
                store(out, minus + 8, fma(x, subtract(radial, side), multiply(mnq, s_low)))
                store(out, minus + 16, add(multiply(y, subtract(radial, side)), multiply(mnq, c_low)))
                store(out, minus + 24, fma(radial, z, multiply(q_down, s)))
