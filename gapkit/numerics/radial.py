r"""Radial functions of the SOAP expansion, tabulated once and interpolated by cubic Hermite pieces.

A neighbour at distance r adds :math:`w(r) f_{nl}(r) Y_{lm}(\hat r)` to the coefficient c_nlm of its species. With
dscribe's GTO basis :math:`g_{nl}(r) = \sum_{n'} \beta_{nn'l}\, r^l e^{-\alpha_{n'l} r^2}` and a Gaussian density of
width sigma, :math:`\eta = 1/2\sigma^2` (Himanen et al., Comput. Phys. Commun. 247, 106949 (2020), eq. 25),

.. math::
    f_{nl}(r) = \sum_{n'} \beta_{nn'l} \Big(\frac{\pi}{\alpha+\eta}\Big)^{3/2}
                \Big(\frac{\eta}{\alpha+\eta}\Big)^{l} r^l \exp\Big(-\frac{\alpha\eta}{\alpha+\eta} r^2\Big),
    \quad \alpha = \alpha_{n'l}

and the weight of Caro, Phys. Rev. B 100, 024112 (2019), :math:`w = (1 + 2 (r/r_{cut})^3 - 3 (r/r_{cut})^2)^m`,
which takes value and m >= 1 first derivatives to zero at the cutoff. The sum over n' cancels heavily (the basis is
ill-conditioned), so the table is made in extended precision; it is stored with a model and never made again.
"""

import numpy as np
from numba import njit

from gapkit.numerics.simd import fma, load, multiply, splat, store, subtract
from gapkit.numerics.vectors import aligned_zeros


def gto_radial_functions(alphas, betas, sigma, r):
    """``f_nl(r)`` and its derivative.

    Parameters
    ----------
    alphas : (l_max + 1, n_max) and betas : (l_max + 1, n_max, n_max)
        Exponents (1/A^2) and orthonormalisation coefficients of dscribe's basis.
    sigma : float
        Width of the atomic density (A).
    r : (k,)
        Distances (A).

    Returns
    -------
    value, slope : (k, l_max + 1, n_max), float64
    """
    wide = np.longdouble
    alphas, betas, r = np.asarray(alphas, wide), np.asarray(betas, wide), np.asarray(r, wide)
    eta = wide(1) / (2 * wide(sigma) ** 2)
    l = np.arange(len(alphas)).astype(wide)[:, None]
    prefactor = (wide(np.pi) / (alphas + eta)) ** wide(1.5) * (eta / (alphas + eta)) ** l  # (l, n)
    decay = alphas * eta / (alphas + eta)
    r = r[:, None, None]
    gauss = prefactor * np.exp(-decay * r**2)
    power = r**l
    lower = np.where(l > 0, l * r ** np.maximum(l - 1, 0), 0)
    primitive = power * gauss
    primitive_slope = (lower - 2 * decay * r * power) * gauss
    value = np.einsum("lnp,klp->kln", betas, primitive)
    slope = np.einsum("lnp,klp->kln", betas, primitive_slope)
    return value.astype(np.float64), slope.astype(np.float64)


def cutoff_weight(r, r_cut, power):
    """Caro's weight and its derivative (1/A) at distances ``r`` (A); zero from ``r_cut`` on.

    Examples
    --------
    >>> weight, slope = cutoff_weight([0.0, 2.5, 5.0], r_cut=5.0, power=1)
    >>> weight.tolist(), bool(slope[-1] == 0.0)
    ([1.0, 0.5, 0.0], True)
    """
    x = np.minimum(np.asarray(r, dtype=float) / r_cut, 1.0)
    base = (1 - x) ** 2 * (1 + 2 * x)
    return base**power, power * base ** (power - 1) * 6 * x * (x - 1) / r_cut


def hermite_table(value, slope, spacing, n_pad):
    """Flat table of Hermite pieces: per grid point and l, ``n_pad`` values then ``n_pad`` slopes x spacing.

    ``value`` and ``slope`` have shape (k, l_max + 1, n_max), on the grid ``k * spacing``.
    """
    k, l, n = value.shape
    table = np.zeros((k, l, 2, n_pad))
    table[:, :, 0, :n] = value
    table[:, :, 1, :n] = slope * spacing
    return table.ravel()


def in_octets(table, n_l, n_pad):
    """The table of :func:`hermite_table` as :func:`interpolate` takes it: at each point, eight n at a time, each l."""
    turned = np.reshape(table, (-1, n_l, 2, n_pad // 8, 8)).transpose(0, 3, 1, 2, 4)
    out = aligned_zeros(turned.size)
    out[:] = turned.ravel()
    return out


@njit(cache=True, nogil=True)
def interpolate(table, inverse_spacing, n_series, r, f, df, offset):
    """Values and derivatives of ``n_series`` times eight functions at distance ``r``, in the order of the table.

    Fills ``f[offset:]`` and ``df[offset:]``; the cubic Hermite error is h^4 max|f''''| / 384.
    """
    position = r * inverse_spacing
    row = 16 * n_series
    k = int(position)
    if (k + 2) * row > len(table):  # a distance one rounding below the cutoff
        k -= 1
    t = position - k
    t2 = t * t
    t3 = t2 * t
    v0 = splat(2 * t3 - 3 * t2 + 1)
    s0 = splat(t3 - 2 * t2 + t)
    v1 = splat(3 * t2 - 2 * t3)
    s1 = splat(t3 - t2)
    dv = splat((6 * t2 - 6 * t) * inverse_spacing)
    ds0 = splat((3 * t2 - 4 * t + 1) * inverse_spacing)
    ds1 = splat((3 * t2 - 2 * t) * inverse_spacing)
    low = k * row
    high = low + row
    for series in range(n_series):
        a = load(table, low + 16 * series)
        b = load(table, low + 16 * series + 8)
        c = load(table, high + 16 * series)
        d = load(table, high + 16 * series + 8)
        store(f, offset + 8 * series, fma(v0, a, fma(s0, b, fma(v1, c, multiply(s1, d)))))
        store(df, offset + 8 * series, fma(dv, subtract(a, c), fma(ds0, b, multiply(ds1, d))))


@njit(cache=True, nogil=True)
def interpolate_values(table, inverse_spacing, n_series, r, f, offset):
    """Interpolate all series at the distance ``r`` (see :func:`interpolate`), without derivatives."""
    position = r * inverse_spacing
    row = 16 * n_series
    k = int(position)
    if (k + 2) * row > len(table):
        k -= 1
    t = position - k
    t2 = t * t
    t3 = t2 * t
    v0 = splat(2 * t3 - 3 * t2 + 1)
    s0 = splat(t3 - 2 * t2 + t)
    v1 = splat(3 * t2 - 2 * t3)
    s1 = splat(t3 - t2)
    low = k * row
    high = low + row
    for series in range(n_series):
        a = load(table, low + 16 * series)
        b = load(table, low + 16 * series + 8)
        c = load(table, high + 16 * series)
        d = load(table, high + 16 * series + 8)
        store(f, offset + 8 * series, fma(v0, a, fma(s0, b, fma(v1, c, multiply(s1, d)))))
