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
from gapkit.numerics.radial import interpolate, interpolate_values
from gapkit.numerics.simd import add, broadcast, fma, load, multiply, splat, store, total

STRIDE, NARROW = _harmonics.STRIDE, _harmonics.NARROW
_evaluate_harmonics = _harmonics.harmonics


@njit(cache=True, nogil=True)
def pair_basis(first, count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, gradient, f, df, y, work):
    """Radial functions and harmonics of one environment's neighbours.

    ``distance`` (p,) and ``unit`` (flat 3p) are those of all pairs; this environment's are ``first`` to
    ``first + count``. Fills ``f`` and, with ``gradient``, ``df`` per neighbour ((l_max + 1) n_pad doubles each) and
    ``y`` per group of eight neighbours: ``(l_max + 1)^2`` x STRIDE doubles with ``gradient``, x NARROW without.
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    stride = STRIDE if gradient else NARROW
    for k in range(count):
        if gradient:
            interpolate(radial, inverse_spacing, n_l, n_pad, distance[first + k], f, df, k * n_l * n_pad)
        else:
            interpolate_values(radial, inverse_spacing, n_l, n_pad, distance[first + k], f, k * n_l * n_pad)
    for group in range((count + 7) // 8):
        for lane in range(8):
            k = 8 * group + lane
            if k >= count:
                k = count - 1
            p = 3 * (first + k)
            work[lane] = unit[p]
            work[8 + lane] = unit[p + 1]
            work[16 + lane] = unit[p + 2]
        _evaluate_harmonics(l_max, norm, work, 0, gradient, work[24:], y, group * n_lm * stride)


@njit(cache=True, nogil=True)
def _four_alike(k, count, channel):
    """Whether neighbours k to k + 3 exist, are of one channel, and stand in one group of eight."""
    if k % 4 != 0 or k + 4 > count:
        return False
    return channel[k] == channel[k + 1] and channel[k] == channel[k + 2] and channel[k] == channel[k + 3]


@njit(cache=True, nogil=True)
def _expand_four(k, base, y_base, stride, n_l, n_pad, f, y, c):
    """Coefficients of four neighbours of one channel: each is read and written once, not four times."""
    next_f = n_l * n_pad
    for l in range(n_l):
        for n in range(0, n_pad, 8):
            here = (k * n_l + l) * n_pad + n
            r0 = load(f, here)
            r1 = load(f, here + next_f)
            r2 = load(f, here + 2 * next_f)
            r3 = load(f, here + 3 * next_f)
            for lm in range(l * l, (l + 1) * (l + 1)):
                at = base + lm * n_pad + n
                side = y_base + lm * stride
                acc = fma(broadcast(y, side), r0, load(c, at))
                acc = fma(broadcast(y, side + 1), r1, acc)
                acc = fma(broadcast(y, side + 2), r2, acc)
                store(c, at, fma(broadcast(y, side + 3), r3, acc))


@njit(cache=True, nogil=True)
def expand(count, channel, n_channels, summed, centre_channel, centre, f, y, stride, l_max, n_pad, c):
    """Coefficients of one environment: its neighbours and the central atom itself (l = 0 only).

    ``channel`` (count,) is each neighbour's channel; ``summed`` is the channel that adds all species, or -1;
    ``centre`` (n_pad,) holds f_n0(0) Y_00; ``stride`` is that of ``y`` (see :func:`pair_basis`).
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    c[: n_channels * n_lm * n_pad] = 0.0
    for n in range(n_pad):
        c[centre_channel * n_lm * n_pad + n] = centre[n]
    k = 0
    while k < count:
        base = channel[k] * n_lm * n_pad
        y_base = (k // 8) * n_lm * stride + k % 8
        if _four_alike(k, count, channel):
            _expand_four(k, base, y_base, stride, n_l, n_pad, f, y, c)
            k += 4
            continue
        for l in range(n_l):
            for n in range(0, n_pad, 8):
                radial = load(f, (k * n_l + l) * n_pad + n)
                for lm in range(l * l, (l + 1) * (l + 1)):
                    at = base + lm * n_pad + n
                    store(c, at, fma(broadcast(y, y_base + lm * stride), radial, load(c, at)))
        k += 1
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
                        acc = fma(broadcast(c, a + lm * n_pad + n), load(c, b + lm * n_pad + tail), acc)
                    store(row, tail, acc)
                for n2 in range(start, n_max):
                    p[feature] = row[n2] * scale[feature]
                    feature += 1


@njit(cache=True, nogil=True)
def _fill_symmetric(g, scale, feature, n_max, n_pad, square):
    """Matrix of dE/dp_nn' of one l from its upper triangle, the diagonal twice; returns the next feature."""
    for n in range(n_max):
        square[n * n_pad + n] = 2 * g[feature] * scale[feature]
        feature += 1
        for n2 in range(n + 1, n_max):
            value = g[feature] * scale[feature]
            square[n * n_pad + n2] = value
            square[n2 * n_pad + n] = value
            feature += 1
    return feature


@njit(cache=True, nogil=True)
def _fill_both(g, scale, feature, n_max, n_pad, square):
    """Matrix of dE/dp_nn' of one l, and behind it its transpose; returns the next feature."""
    behind = n_pad * n_pad
    for n in range(n_max):
        for n2 in range(n_max):
            value = g[feature] * scale[feature]
            square[n * n_pad + n2] = value
            square[behind + n2 * n_pad + n] = value
            feature += 1
    return feature


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
            if symmetric:
                feature = _fill_symmetric(g, scale, feature, n_max, n_pad, square)
            else:
                feature = _fill_both(g, scale, feature, n_max, n_pad, square)
            for lm in range(l * l, (l + 1) * (l + 1)):
                for tail in range(0, n_pad, 8):
                    acc = load(q, b + lm * n_pad + tail)
                    for n in range(n_max):
                        acc = fma(broadcast(c, a + lm * n_pad + n), load(square, n * n_pad + tail), acc)
                    store(q, b + lm * n_pad + tail, acc)
                    if not symmetric:
                        acc = load(q, a + lm * n_pad + tail)
                        for n in range(n_max):
                            acc = fma(broadcast(c, b + lm * n_pad + n), load(square, size + n * n_pad + tail), acc)
                        store(q, a + lm * n_pad + tail, acc)
    if summed >= 0:
        for s in range(summed):
            for at in range(0, n_lm * n_pad, 8):
                here = s * n_lm * n_pad + at
                store(q, here, add(load(q, here), load(q, summed * n_lm * n_pad + at)))


@njit(cache=True, nogil=True)
def _two_gradients(k, base, unit, inverse, pair, q, f, df, y, y_base, n_l, n_pad, g):
    """:func:`pair_gradients` of neighbours k and k + 1, of one channel and in one group of eight: q is read once."""
    next_f = n_l * n_pad
    ar = ax = ay = az = splat(0.0)
    br = bx = by = bz = splat(0.0)
    for l in range(n_l):
        for n in range(0, n_pad, 8):
            ur = ux = uy = uz = splat(0.0)
            vr = vx = vy = vz = splat(0.0)
            for lm in range(l * l, (l + 1) * (l + 1)):
                slope = load(q, base + lm * n_pad + n)
                at = y_base + lm * STRIDE
                ur = fma(broadcast(y, at), slope, ur)
                vr = fma(broadcast(y, at + 1), slope, vr)
                ux = fma(broadcast(y, at + 8), slope, ux)
                vx = fma(broadcast(y, at + 9), slope, vx)
                uy = fma(broadcast(y, at + 16), slope, uy)
                vy = fma(broadcast(y, at + 17), slope, vy)
                uz = fma(broadcast(y, at + 24), slope, uz)
                vz = fma(broadcast(y, at + 25), slope, vz)
            at = (k * n_l + l) * n_pad + n
            radial = load(f, at)
            ar = fma(load(df, at), ur, ar)
            ax = fma(radial, ux, ax)
            ay = fma(radial, uy, ay)
            az = fma(radial, uz, az)
            radial = load(f, at + next_f)
            br = fma(load(df, at + next_f), vr, br)
            bx = fma(radial, vx, bx)
            by = fma(radial, vy, by)
            bz = fma(radial, vz, bz)
    _write_gradient(pair, unit, inverse[0], total(ar), total(ax), total(ay), total(az), g)
    _write_gradient(pair + 1, unit, inverse[1], total(br), total(bx), total(by), total(bz), g)


@njit(cache=True, nogil=True)
def _write_gradient(pair, unit, inverse, along, x, y, z, g):
    """dE/dr_ij from its part along the unit vector and the harmonics' gradients, not yet divided by the distance."""
    p = 3 * pair
    g[pair, 0] = along * unit[p] + x * inverse
    g[pair, 1] = along * unit[p + 1] + y * inverse
    g[pair, 2] = along * unit[p + 2] + z * inverse


@njit(cache=True, nogil=True)
def pair_gradients(first, count, channel, distance, unit, q, f, df, y, l_max, n_pad, g):
    """dE/dr_ij (eV/A) of one environment's neighbours into ``g`` (pairs, 3)."""
    n_l = l_max + 1
    n_lm = n_l * n_l
    k = 0
    while k < count:
        base = channel[k] * n_lm * n_pad
        y_base = (k // 8) * n_lm * STRIDE + k % 8
        if k % 2 == 0 and k + 1 < count and channel[k] == channel[k + 1]:
            inverse = (1.0 / distance[first + k], 1.0 / distance[first + k + 1])
            _two_gradients(k, base, unit, inverse, first + k, q, f, df, y, y_base, n_l, n_pad, g)
            k += 2
            continue
        sum_r = sum_x = sum_y = sum_z = splat(0.0)
        for l in range(n_l):
            for n in range(0, n_pad, 8):
                acc_r = acc_x = acc_y = acc_z = splat(0.0)
                for lm in range(l * l, (l + 1) * (l + 1)):
                    slope = load(q, base + lm * n_pad + n)
                    at = y_base + lm * STRIDE
                    acc_r = fma(broadcast(y, at), slope, acc_r)
                    acc_x = fma(broadcast(y, at + 8), slope, acc_x)
                    acc_y = fma(broadcast(y, at + 16), slope, acc_y)
                    acc_z = fma(broadcast(y, at + 24), slope, acc_z)
                at = (k * n_l + l) * n_pad + n
                radial = load(f, at)
                sum_r = fma(load(df, at), acc_r, sum_r)
                sum_x = fma(radial, acc_x, sum_x)
                sum_y = fma(radial, acc_y, sum_y)
                sum_z = fma(radial, acc_z, sum_z)
        inverse_k = 1.0 / distance[first + k]
        _write_gradient(first + k, unit, inverse_k, total(sum_r), total(sum_x), total(sum_y), total(sum_z), g)
        k += 1


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
                    side = multiply(broadcast(y, here + 8 * (axis + 1)), across)
                    store(dc, lm * n_pad + n, fma(broadcast(y, here), along, side))
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
                                acc = fma(broadcast(dc, lm * n_pad + n), load(c, b + lm * n_pad + tail), acc)
                        if touches_b:
                            for lm in range(l * l, (l + 1) * (l + 1)):
                                acc = fma(broadcast(c, a + lm * n_pad + n), load(dc, lm * n_pad + tail), acc)
                        store(row, tail, acc)
                    for n2 in range(start, n_max):
                        out[axis, feature] = row[n2] * scale[feature]
                        feature += 1
