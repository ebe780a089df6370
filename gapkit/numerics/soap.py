r"""Expansion coefficients, power spectrum, adjoint and Jacobian of SOAP: the compiled floor.

Coefficients are kept as ``c[channel][lm][n]`` with n padded to a multiple of eight, so that n is the SIMD axis.
The *channels* are the species' densities; compression ``mu2`` has one channel for all species, ``mu1nu1`` one more
that sums them. The power spectrum is a list of *blocks* (a, b): channels a and b, multiplied

.. math:: p^{ab}_{l n n'} = \sum_m c^a_{nlm} c^b_{n'lm}

(Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013), eq. 31; Darby, Kermode, Csanyi, npj Comput. Mater. 8, 166
(2022) for the compressed forms), n' >= n only where a = b. ``blocks`` has rows (a, b, symmetric, offset of its
first feature). Feature order is dscribe's; ``scale`` multiplies feature by feature.
"""

from numba import njit

from gapkit.numerics import harmonics as _harmonics
from gapkit.numerics.radial import interpolate
from gapkit.numerics.simd import add, fma, load, multiply, splat, store, total

STRIDE = _harmonics.STRIDE
_evaluate_harmonics = _harmonics.harmonics


@njit(cache=True, nogil=True)
def pair_basis(first, count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, gradient, f, df, y, work):
    """Radial functions and harmonics of one environment's neighbours.

    ``distance`` (p,) and ``unit`` (flat 3p) are those of all pairs; this environment's are ``first`` to
    ``first + count``. Fills ``f``, ``df`` per neighbour ((l_max + 1) n_pad doubles each) and ``y`` per group of
    eight neighbours (``(l_max + 1)^2`` x STRIDE doubles).
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    for k in range(count):
        interpolate(radial, inverse_spacing, n_l, n_pad, distance[first + k], f, df, k * n_l * n_pad)
    for group in range((count + 7) // 8):
        for lane in range(8):
            k = 8 * group + lane
            if k >= count:
                k = count - 1
            p = 3 * (first + k)
            work[lane] = unit[p]
            work[8 + lane] = unit[p + 1]
            work[16 + lane] = unit[p + 2]
        _evaluate_harmonics(l_max, norm, work, 0, gradient, work[24:], y, group * n_lm * STRIDE)


@njit(cache=True, nogil=True)
def expand(count, channel, n_channels, summed, centre_channel, centre, f, y, l_max, n_pad, c):
    """Coefficients of one environment: its neighbours and the central atom itself (l = 0 only).

    ``channel`` (count,) is each neighbour's channel; ``summed`` is the channel that adds all species, or -1;
    ``centre`` (n_pad,) holds f_n0(0) Y_00.
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    c[: n_channels * n_lm * n_pad] = 0.0
    for n in range(n_pad):
        c[centre_channel * n_lm * n_pad + n] = centre[n]
    for k in range(count):
        base = channel[k] * n_lm * n_pad
        y_base = (k // 8) * n_lm * STRIDE + k % 8
        for l in range(n_l):
            for n in range(0, n_pad, 8):
                radial = load(f, (k * n_l + l) * n_pad + n)
                for lm in range(l * l, (l + 1) * (l + 1)):
                    at = base + lm * n_pad + n
                    store(c, at, fma(splat(y[y_base + lm * STRIDE]), radial, load(c, at)))
    if summed >= 0:
        for at in range(0, n_lm * n_pad, 8):
            acc = splat(0.0)
            for s in range(summed):
                acc = add(acc, load(c, s * n_lm * n_pad + at))
            store(c, summed * n_lm * n_pad + at, acc)


@njit(cache=True, nogil=True)
def power_spectrum(c, blocks, l_max, n_max, n_pad, scale, p, row):
    """Packed features of one environment, times ``scale``, into ``p`` (n_features,). ``row``: n_pad doubles."""
    n_lm = (l_max + 1) * (l_max + 1)
    for block in range(len(blocks)):
        a = blocks[block, 0] * n_lm * n_pad
        b = blocks[block, 1] * n_lm * n_pad
        feature = blocks[block, 3]
        for l in range(l_max + 1):
            for n in range(n_max):
                start = n if blocks[block, 2] == 1 else 0
                for tail in range(start // 8 * 8, n_pad, 8):
                    acc = splat(0.0)
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        acc = fma(splat(c[a + lm * n_pad + n]), load(c, b + lm * n_pad + tail), acc)
                    store(row, tail, acc)
                for n2 in range(start, n_max):
                    p[feature] = row[n2] * scale[feature]
                    feature += 1


@njit(cache=True, nogil=True)
def power_spectrum_adjoint(g, c, blocks, n_channels, summed, l_max, n_max, n_pad, scale, q, square):
    """dE/dc into ``q`` from dE/dp = ``g`` (n_features,). ``square``: 2 n_pad^2 doubles of scratch space."""
    n_lm = (l_max + 1) * (l_max + 1)
    q[: n_channels * n_lm * n_pad] = 0.0
    size = n_pad * n_pad
    square[: 2 * size] = 0.0
    for block in range(len(blocks)):
        a = blocks[block, 0] * n_lm * n_pad
        b = blocks[block, 1] * n_lm * n_pad
        symmetric = blocks[block, 2] == 1
        feature = blocks[block, 3]
        for l in range(l_max + 1):
            for n in range(n_max):
                for n2 in range(n if symmetric else 0, n_max):
                    value = g[feature] * scale[feature]
                    feature += 1
                    if symmetric:
                        square[n * n_pad + n2] = value if n2 > n else 2 * value
                        square[n2 * n_pad + n] = square[n * n_pad + n2]
                    else:
                        square[n * n_pad + n2] = value
                        square[size + n2 * n_pad + n] = value
            for lm in range(l * l, (l + 1) * (l + 1)):
                for tail in range(0, n_pad, 8):
                    acc = load(q, b + lm * n_pad + tail)
                    for n in range(n_max):
                        acc = fma(splat(c[a + lm * n_pad + n]), load(square, n * n_pad + tail), acc)
                    store(q, b + lm * n_pad + tail, acc)
                    if not symmetric:
                        acc = load(q, a + lm * n_pad + tail)
                        for n in range(n_max):
                            acc = fma(splat(c[b + lm * n_pad + n]), load(square, size + n * n_pad + tail), acc)
                        store(q, a + lm * n_pad + tail, acc)
    if summed >= 0:
        for s in range(summed):
            for at in range(0, n_lm * n_pad, 8):
                here = s * n_lm * n_pad + at
                store(q, here, add(load(q, here), load(q, summed * n_lm * n_pad + at)))


@njit(cache=True, nogil=True)
def pair_gradients(first, count, channel, distance, unit, q, f, df, y, l_max, n_pad, g):
    """dE/dr_ij (eV/A) of one environment's neighbours into ``g`` (pairs, 3)."""
    n_l = l_max + 1
    n_lm = n_l * n_l
    for k in range(count):
        base = channel[k] * n_lm * n_pad
        y_base = (k // 8) * n_lm * STRIDE + k % 8
        sum_r = splat(0.0)
        sum_x = splat(0.0)
        sum_y = splat(0.0)
        sum_z = splat(0.0)
        for l in range(n_l):
            for n in range(0, n_pad, 8):
                acc_r = splat(0.0)
                acc_x = splat(0.0)
                acc_y = splat(0.0)
                acc_z = splat(0.0)
                for lm in range(l * l, (l + 1) * (l + 1)):
                    slope = load(q, base + lm * n_pad + n)
                    at = y_base + lm * STRIDE
                    acc_r = fma(splat(y[at]), slope, acc_r)
                    acc_x = fma(splat(y[at + 8]), slope, acc_x)
                    acc_y = fma(splat(y[at + 16]), slope, acc_y)
                    acc_z = fma(splat(y[at + 24]), slope, acc_z)
                at = (k * n_l + l) * n_pad + n
                radial = load(f, at)
                sum_r = fma(load(df, at), acc_r, sum_r)
                sum_x = fma(radial, acc_x, sum_x)
                sum_y = fma(radial, acc_y, sum_y)
                sum_z = fma(radial, acc_z, sum_z)
        along = total(sum_r)
        inverse = 1.0 / distance[first + k]
        p = 3 * (first + k)
        g[first + k, 0] = along * unit[p] + total(sum_x) * inverse
        g[first + k, 1] = along * unit[p + 1] + total(sum_y) * inverse
        g[first + k, 2] = along * unit[p + 2] + total(sum_z) * inverse


@njit(cache=True, nogil=True)
def pair_jacobian(k, channel, summed, distance, unit, c, blocks, f, df, y, l_max, n_max, n_pad, scale, dc, row, out):
    """dp/dr_ij of one neighbour into ``out`` (3, n_features).

    ``distance`` and ``unit`` (3,) are this pair's; ``k`` its place in ``f``, ``df``, ``y``. ``dc``:
    (l_max + 1)^2 n_pad doubles, ``row``: n_pad doubles of scratch space.
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    y_base = (k // 8) * n_lm * STRIDE + k % 8
    for axis in range(3):
        for l in range(n_l):
            for n in range(0, n_pad, 8):
                at = (k * n_l + l) * n_pad + n
                along = multiply(splat(unit[axis]), load(df, at))
                across = multiply(splat(1.0 / distance), load(f, at))
                for lm in range(l * l, (l + 1) * (l + 1)):
                    here = y_base + lm * STRIDE
                    side = multiply(splat(y[here + 8 * (axis + 1)]), across)
                    store(dc, lm * n_pad + n, fma(splat(y[here]), along, side))
        for block in range(len(blocks)):
            a = blocks[block, 0] * n_lm * n_pad
            b = blocks[block, 1] * n_lm * n_pad
            touches_a = blocks[block, 0] == channel or blocks[block, 0] == summed
            touches_b = blocks[block, 1] == channel or blocks[block, 1] == summed
            feature = blocks[block, 3]
            for l in range(n_l):
                for n in range(n_max):
                    start = n if blocks[block, 2] == 1 else 0
                    for tail in range(start // 8 * 8, n_pad, 8):
                        acc = splat(0.0)
                        if touches_a:
                            for lm in range(l * l, (l + 1) * (l + 1)):
                                acc = fma(splat(dc[lm * n_pad + n]), load(c, b + lm * n_pad + tail), acc)
                        if touches_b:
                            for lm in range(l * l, (l + 1) * (l + 1)):
                                acc = fma(splat(c[a + lm * n_pad + n]), load(dc, lm * n_pad + tail), acc)
                        store(row, tail, acc)
                    for n2 in range(start, n_max):
                        out[axis, feature] = row[n2] * scale[feature]
                        feature += 1
