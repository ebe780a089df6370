r"""Expansion coefficients, power spectrum, adjoint and Jacobian of one SOAP environment: the compiled floor.

Radial functions come eight at a time, the SIMD axis: *vectors* e = 0, 1, ... of n = 8 e to 8 e + 7, the last one
filled up with zeros. Coefficients are kept as ``c[channel][e][lm][8]``. The *channels* are the species' densities;
compression ``mu2`` has one channel for all species, ``mu1nu1`` one more that sums them. The power spectrum is a list of
*blocks* (a, b): channels a and b, multiplied

.. math:: p^{ab}_{l n n'} = \sum_m c^a_{nlm} c^b_{n'lm}

(Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013), eq. 31; Darby, Kermode, Csanyi, npj Comput. Mater. 8, 166
(2022) for the compressed forms), n' >= n only where a = b. ``blocks`` has rows (a, b, symmetric, offset of its
first feature). Feature order is dscribe's; ``scale`` multiplies feature by feature.

Neighbours stand in *slots*, those of a channel side by side and each channel from a multiple of eight on. Radial
functions are ``f[slot][e][l][8]``, and so are their derivatives, both zero in slots left over; harmonics are
``y[slot // 8][lm][slot % 8]``. Strides of inner loops are constants, without which the compiler spends more
instructions on addresses than on numbers.
"""

import numpy as np
from numba import njit

from gapkit.numerics.harmonics import harmonics
from gapkit.numerics.radial import interpolate, interpolate_values
from gapkit.numerics.simd import add, broadcast, fma, horizontal_sum, load, multiply, splat, store, tile, transpose

#: ones from the diagonal on, zeros before: the lanes of row n of a triangle
_UPPER = np.triu(np.ones((8, 8))).ravel()


@njit(cache=True, nogil=True)
def place_neighbours(first, last, channel_of, j, n_channels, slot, begin, size):
    """Slots of one environment's pairs ``first`` to ``last``: fills ``slot`` with the pair in each.

    ``channel_of`` (n_atoms,) is the channel of each atom's density. Channel s has ``size[s]`` neighbours from slot
    ``begin[s]`` on; slots left over hold -1. ``begin[n_channels]`` is the number of slots.
    """
    used = 0
    for s in range(n_channels):
        begin[s] = used
        for pair in range(first, last):
            if channel_of[j[pair]] == s:
                slot[used] = pair
                used += 1
        size[s] = used - begin[s]
        while used & 7 != 0:
            slot[used] = -1
            used += 1
    begin[n_channels] = used


@njit(cache=True, nogil=True)
def radial_functions(slot, n_slots, distance, table, inverse_spacing, n_series, slopes, f, df):
    """Radial functions and, with ``slopes``, their derivatives of one environment's neighbours: ``f``, ``df``.

    ``n_series`` is l_max + 1 times the number of vectors.
    """
    for k in range(n_slots):
        here = 8 * n_series * k
        if slot[k] < 0:
            for series in range(n_series):
                store(f, here + 8 * series, splat(0.0))
                store(df, here + 8 * series, splat(0.0))
        elif slopes:
            interpolate(table, inverse_spacing, n_series, distance[slot[k]], f, df, here)
        else:
            interpolate_values(table, inverse_spacing, n_series, distance[slot[k]], f, here)


@njit(cache=True, nogil=True, error_model="numpy")
def pair_harmonics(slot, n_slots, vectors, distance, factors, l_max, y, work):
    """Spherical harmonics of one environment's neighbours into ``y``.

    ``vectors`` (flat 3p) and ``distance`` (p,) are those of all pairs; ``factors``: ``harmonics.recursion``; ``work``:
    24 doubles of scratch space.
    """
    n_lm = (l_max + 1) * (l_max + 1)
    for k in range(0, n_slots, 8):
        for lane in range(8):
            pair = slot[k + lane]
            if pair >= 0:  # else the last unit vector once more
                inverse = 1.0 / distance[pair]
                work[lane] = vectors[3 * pair] * inverse
                work[8 + lane] = vectors[3 * pair + 1] * inverse
                work[16 + lane] = vectors[3 * pair + 2] * inverse
        harmonics(l_max, factors, work, 0, y, k * n_lm)


@njit(cache=True, nogil=True)
def expand(begin, n_channels, summed, centre_channel, centre, f, y, l_max, n_vectors, c, c_at):
    """Coefficients of one environment: its neighbours and the central atom itself (l = 0 only).

    ``begin`` as :func:`place_neighbours` leaves it; ``summed`` is the channel that adds all species, or -1; ``centre``
    holds f_n0(0) Y_00. Eight neighbours share each access to a coefficient.
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    size_c = 8 * n_vectors * n_lm
    for at in range(0, n_channels * size_c, 8):
        store(c, c_at + at, splat(0.0))
    for e in range(n_vectors):
        store(c, c_at + centre_channel * size_c + 8 * e * n_lm, load(centre, 8 * e))
    for s in range(n_channels):
        for k in range(begin[s], begin[s + 1], 8):
            for e in range(n_vectors):
                _expand_vector(k, f, y, l_max, n_vectors, e, c, c_at + s * size_c + 8 * e * n_lm)
    if summed >= 0:
        for at in range(0, size_c, 8):
            acc = splat(0.0)
            for s in range(summed):
                acc = add(acc, load(c, c_at + s * size_c + at))
            store(c, c_at + summed * size_c + at, acc)


@njit(cache=True, nogil=True)
def _expand_vector(k, f, y, l_max, n_vectors, e, c, c_at):
    """Add slots k to k + 7 to the coefficients of one channel and eight n."""
    n_l = l_max + 1
    step = 8 * n_vectors * n_l
    of_f = (k * n_vectors + e) * 8 * n_l
    of_y = k * n_l * n_l
    for l in range(n_l):
        here = of_f + 8 * l
        f0 = load(f, here)
        f1 = load(f, here + step)
        f2 = load(f, here + 2 * step)
        f3 = load(f, here + 3 * step)
        f4 = load(f, here + 4 * step)
        f5 = load(f, here + 5 * step)
        f6 = load(f, here + 6 * step)
        f7 = load(f, here + 7 * step)
        for lm in range(l * l, (l + 1) * (l + 1)):
            side = of_y + 8 * lm
            at = c_at + 8 * lm
            one = fma(broadcast(y, side), f0, load(c, at))
            two = multiply(broadcast(y, side + 1), f1)
            one = fma(broadcast(y, side + 2), f2, one)
            two = fma(broadcast(y, side + 3), f3, two)
            one = fma(broadcast(y, side + 4), f4, one)
            two = fma(broadcast(y, side + 5), f5, two)
            one = fma(broadcast(y, side + 6), f6, one)
            two = fma(broadcast(y, side + 7), f7, two)
            store(c, at, add(one, two))


@njit(cache=True, nogil=True)
def square_size(l_max, n_vectors):
    """Doubles of scratch space of the power spectrum and its adjoint."""
    return 2 * (l_max + 1) * 64 * n_vectors * n_vectors + 16


@njit(cache=True, nogil=True)
def _rows_of(l, e, n_vectors):
    """Where the vectors e of the rows n of an (l, n, n') array begin: its layout is [l][n' // 8][n][n' % 8]."""
    return (l * n_vectors + e) * 64 * n_vectors


@njit(cache=True, nogil=True)
def power_spectrum(c, c_at, blocks, l_max, n_max, n_vectors, scale, square, p):
    """Packed features of one environment, times ``scale``, into ``p``: n_features, and seven doubles that may change.

    ``square``: :func:`square_size` doubles of scratch space.
    """
    n_lm = (l_max + 1) * (l_max + 1)
    for block in range(len(blocks)):
        a = c_at + blocks[block, 0] * 8 * n_vectors * n_lm
        b = c_at + blocks[block, 1] * 8 * n_vectors * n_lm
        symmetric = blocks[block, 2] == 1
        for e in range(n_vectors):
            for e2 in range(e if symmetric else 0, n_vectors):
                left, right = a + 8 * e * n_lm, b + 8 * e2 * n_lm
                for l in range(l_max + 1):
                    row, out = 8 * l * l, _rows_of(l, e2, n_vectors) + 64 * e
                    tile(8, 1, c, left + row, 1, 8, c, right + row, 8, 2 * l + 1, square, out, 8, False)
        feature = blocks[block, 3]
        for l in range(l_max + 1):
            for n in range(n_max):
                start = n & 7 if symmetric else 0
                for e2 in range(n >> 3 if symmetric else 0, n_vectors):
                    # what is stored too much is overwritten by what follows
                    values = load(square, _rows_of(l, e2, n_vectors) + 8 * n + start)
                    store(p, feature, multiply(values, load(scale, feature)))
                    feature += min(8, n_max - 8 * e2) - start
                    start = 0


@njit(cache=True, nogil=True)
def _unpack(g, scale, feature, symmetric, l_max, n_max, n_vectors, square):
    """Matrices dE/dp_nn' of one block for every l; behind them their transposes where they are not ``symmetric``.

    A symmetric one is the sum of its upper triangle and that turned: the diagonal counts twice.
    """
    behind = (l_max + 1) * 64 * n_vectors * n_vectors
    for l in range(l_max + 1):
        for n in range(n_max):
            start = n & 7 if symmetric else 0
            for e2 in range(n >> 3 if symmetric else 0, n_vectors):
                values = multiply(load(g, feature - start), load(scale, feature - start))
                store(square, _rows_of(l, e2, n_vectors) + 8 * n, multiply(values, load(_UPPER, 8 * start)))
                feature += min(8, n_max - 8 * e2) - start
                start = 0
    for l in range(l_max + 1):
        for e in range(n_vectors):
            for e2 in range(e if symmetric else 0, n_vectors):
                here = _rows_of(l, e2, n_vectors) + 64 * e
                turned = _rows_of(l, e, n_vectors) + 64 * e2
                if not symmetric:
                    transpose(square, here, 8, square, behind + turned, 8)
                elif e != e2:
                    transpose(square, here, 8, square, turned, 8)
                else:
                    transpose(square, here, 8, square, behind, 8)
                    for k in range(0, 64, 8):
                        store(square, here + k, add(load(square, here + k), load(square, behind + k)))


@njit(cache=True, nogil=True)
def _multiply_rows(rows, c, c_at, depth, square, square_at, q, q_at):
    """``q[lm][n'] += sum_n c[lm][n] square[n][n']`` for ``rows`` values of lm, eight n' and the n of one eight."""
    lm = 0
    while lm + 4 <= rows:
        tile(4, 1, c, c_at + 8 * lm, 8, 1, square, square_at, 8, depth, q, q_at + 8 * lm, 8, True)
        lm += 4
    if lm + 2 <= rows:
        tile(2, 1, c, c_at + 8 * lm, 8, 1, square, square_at, 8, depth, q, q_at + 8 * lm, 8, True)
        lm += 2
    if lm < rows:
        tile(1, 1, c, c_at + 8 * lm, 8, 1, square, square_at, 8, depth, q, q_at + 8 * lm, 8, True)


@njit(cache=True, nogil=True)
def power_spectrum_adjoint(g, c, c_at, blocks, n_channels, summed, l_max, n_max, n_vectors, scale, square, q):
    """dE/dc into ``q`` from dE/dp = ``g``, which is n_features and seven doubles long."""
    n_lm = (l_max + 1) * (l_max + 1)
    size_c = 8 * n_vectors * n_lm
    for at in range(0, n_channels * size_c, 8):
        store(q, at, splat(0.0))
    behind = (l_max + 1) * 64 * n_vectors * n_vectors
    for block in range(len(blocks)):
        a = blocks[block, 0] * size_c
        b = blocks[block, 1] * size_c
        symmetric = blocks[block, 2] == 1
        _unpack(g, scale, blocks[block, 3], symmetric, l_max, n_max, n_vectors, square)
        for e in range(n_vectors):
            depth = min(8, n_max - 8 * e)
            for e2 in range(n_vectors):
                left, right = 8 * e * n_lm, 8 * e2 * n_lm
                for l in range(l_max + 1):
                    row, at = 8 * l * l, _rows_of(l, e2, n_vectors) + 64 * e
                    _multiply_rows(2 * l + 1, c, c_at + a + left + row, depth, square, at, q, b + right + row)
                    if not symmetric:
                        at += behind
                        _multiply_rows(2 * l + 1, c, c_at + b + left + row, depth, square, at, q, a + right + row)
    if summed >= 0:
        for s in range(summed):
            for at in range(0, size_c, 8):
                here = s * size_c + at
                store(q, here, add(load(q, here), load(q, summed * size_c + at)))


@njit(cache=True, nogil=True, error_model="numpy")
def pair_gradients(slot, begin, size, vectors, distance, lowered, f, df, y, n_channels, l_max, n_vectors, g):
    """dE/dr_ij (eV/A) of one environment's neighbours into ``g`` (pairs, 3).

    ``lowered[channel][e]`` is the result of ``harmonics.lower_degree`` for dE/dc. With q_l the sums over m of dE/dc Y
    and q'_l those of dE/dc and the gradients of solid harmonics, both still by n,
    ``dE/dr = sum_nl (df q_l - l f q_l / r) r/|r| + f q'_l / r``. Four neighbours share each load.
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    step = 8 * n_vectors * n_l
    for s in range(n_channels):
        for k in range(begin[s], begin[s] + size[s], 4):
            inverse = (
                1.0 / distance[max(slot[k], 0)],
                1.0 / distance[max(slot[k + 1], 0)],
                1.0 / distance[max(slot[k + 2], 0)],
                1.0 / distance[max(slot[k + 3], 0)],
            )
            a = ax = ay = az = splat(0.0)
            b = bx = by = bz = splat(0.0)
            c = cx = cy = cz = splat(0.0)
            d = dx = dy = dz = splat(0.0)
            for e in range(n_vectors):
                here = 32 * (s * n_vectors + e) * n_lm
                side = 8 * (k >> 3) * n_lm + (k & 7)
                at = (k * n_vectors + e) * 8 * n_l
                for l in range(n_l):
                    qa = qb = qc = qd = splat(0.0)
                    if l == l_max:  # nothing of a higher degree leads down to here
                        for _ in range(2 * l + 1):
                            q = load(lowered, here)
                            qa = fma(broadcast(y, side), q, qa)
                            qb = fma(broadcast(y, side + 1), q, qb)
                            qc = fma(broadcast(y, side + 2), q, qc)
                            qd = fma(broadcast(y, side + 3), q, qd)
                            here += 32
                            side += 8
                    else:
                        qax = qay = qaz = splat(0.0)
                        qbx = qby = qbz = splat(0.0)
                        qcx = qcy = qcz = splat(0.0)
                        qdx = qdy = qdz = splat(0.0)
                        for _ in range(2 * l + 1):
                            ya = broadcast(y, side)
                            yb = broadcast(y, side + 1)
                            yc = broadcast(y, side + 2)
                            yd = broadcast(y, side + 3)
                            q = load(lowered, here)
                            qa = fma(ya, q, qa)
                            qb = fma(yb, q, qb)
                            qc = fma(yc, q, qc)
                            qd = fma(yd, q, qd)
                            q = load(lowered, here + 8)
                            qax = fma(ya, q, qax)
                            qbx = fma(yb, q, qbx)
                            qcx = fma(yc, q, qcx)
                            qdx = fma(yd, q, qdx)
                            q = load(lowered, here + 16)
                            qay = fma(ya, q, qay)
                            qby = fma(yb, q, qby)
                            qcy = fma(yc, q, qcy)
                            qdy = fma(yd, q, qdy)
                            q = load(lowered, here + 24)
                            qaz = fma(ya, q, qaz)
                            qbz = fma(yb, q, qbz)
                            qcz = fma(yc, q, qcz)
                            qdz = fma(yd, q, qdz)
                            here += 32
                            side += 8
                        higher = load(f, at + 8)
                        ax = fma(higher, qax, ax)
                        ay = fma(higher, qay, ay)
                        az = fma(higher, qaz, az)
                        higher = load(f, at + step + 8)
                        bx = fma(higher, qbx, bx)
                        by = fma(higher, qby, by)
                        bz = fma(higher, qbz, bz)
                        higher = load(f, at + 2 * step + 8)
                        cx = fma(higher, qcx, cx)
                        cy = fma(higher, qcy, cy)
                        cz = fma(higher, qcz, cz)
                        higher = load(f, at + 3 * step + 8)
                        dx = fma(higher, qdx, dx)
                        dy = fma(higher, qdy, dy)
                        dz = fma(higher, qdz, dz)
                    minus_l = -float(l)
                    a = fma(fma(splat(minus_l * inverse[0]), load(f, at), load(df, at)), qa, a)
                    b = fma(fma(splat(minus_l * inverse[1]), load(f, at + step), load(df, at + step)), qb, b)
                    c = fma(fma(splat(minus_l * inverse[2]), load(f, at + 2 * step), load(df, at + 2 * step)), qc, c)
                    d = fma(fma(splat(minus_l * inverse[3]), load(f, at + 3 * step), load(df, at + 3 * step)), qd, d)
                    at += 8
            _write_gradient(slot[k], vectors, inverse[0], a, ax, ay, az, g)
            _write_gradient(slot[k + 1], vectors, inverse[1], b, bx, by, bz, g)
            _write_gradient(slot[k + 2], vectors, inverse[2], c, cx, cy, cz, g)
            _write_gradient(slot[k + 3], vectors, inverse[3], d, dx, dy, dz, g)


@njit(cache=True, nogil=True)
def _write_gradient(pair, vectors, inverse, along, x, y, z, g):
    """dE/dr of a pair from its parts along the unit vector, and across, by n and not yet divided by the distance."""
    if pair >= 0:
        outward = horizontal_sum(along) * inverse
        g[pair, 0] = outward * vectors[3 * pair] + horizontal_sum(x) * inverse
        g[pair, 1] = outward * vectors[3 * pair + 1] + horizontal_sum(y) * inverse
        g[pair, 2] = outward * vectors[3 * pair + 2] + horizontal_sum(z) * inverse


@njit(cache=True, nogil=True)
def neighbour_sums(k, lowered, y, n_channels, l_max, n_vectors, sums):
    """Sums over m of coefficients and harmonics, for slots k to k + 7: ``sums[channel][e][l][slot % 8][4][8]``.

    ``lowered[channel][e]`` holds coefficients q and those of their gradients (``harmonics.lower_degree``). The four
    entries are, by n, A_l = sum_m q_lm Y_lm and, for each axis, B_(l+1) = sum_m q_(l+1)m dS_(l+1)m/da on the unit
    sphere, the latter undefined for the highest l.
    """
    n_l = l_max + 1
    n_lm = n_l * n_l
    for series in range(n_channels * n_vectors):
        for l in range(n_l):
            of_y = k * n_lm + 8 * l * l
            of_lowered = 32 * (series * n_lm + l * l)
            at = 256 * (series * n_l + l)
            if l < l_max:
                tile(8, 2, y, of_y, 1, 8, lowered, of_lowered, 32, 2 * l + 1, sums, at, 32, False)
                tile(8, 2, y, of_y, 1, 8, lowered, of_lowered + 16, 32, 2 * l + 1, sums, at + 16, 32, False)
            else:
                tile(8, 1, y, of_y, 1, 8, lowered, of_lowered, 32, 2 * l + 1, sums, at, 32, False)


@njit(cache=True, nogil=True)
def sums_size(n_channels, l_max, n_vectors):
    """Doubles that :func:`neighbour_sums` fills."""
    return 256 * n_channels * n_vectors * (l_max + 1) + 8


@njit(cache=True, nogil=True)
def radial_factors(k, inverse, f, df, l_max, n_vectors, rho, phi):
    """``phi`` = f/r and ``rho`` = df - l f/r of slot ``k``, both [e][l][8]; ``inverse`` is 1/r."""
    for e in range(n_vectors):
        for l in range(l_max + 1):
            at = 8 * (e * (l_max + 1) + l)
            across = multiply(splat(inverse), load(f, k * 8 * n_vectors * (l_max + 1) + at))
            store(phi, at, across)
            store(rho, at, fma(splat(-float(l)), across, load(df, k * 8 * n_vectors * (l_max + 1) + at)))


@njit(cache=True, nogil=True)
def pair_jacobian(lane, x, y, z, touches, rho, phi, sums, blocks, l_max, n_max, n_vectors, scale, step, out):
    """dp/dr_ij of one neighbour: ``out[axis * step + feature]``; seven doubles behind each axis may change.

    ``lane`` is its slot modulo eight; ``x``, ``y``, ``z``: the unit vector; ``touches[channel]``: whether the neighbour
    is part of that density; ``rho``, ``phi``: :func:`radial_factors`; A and B in ``sums``: :func:`neighbour_sums`. In
    block (a, b), dp_nn' is ``r/|r|`` rho_n A^b_n' + phi_n B^b_n' by the change of channel a, and ``r/|r|`` A^a_n rho_n'
    + B^a_n phi_n' by that of b.
    """
    n_l = l_max + 1
    ux, uy, uz = splat(x), splat(y), splat(z)
    for block in range(len(blocks)):
        a, b = blocks[block, 0], blocks[block, 1]
        of_a, of_b = touches[a], touches[b]
        symmetric = blocks[block, 2] == 1
        feature = blocks[block, 3]
        for l in range(n_l):
            for n in range(n_max):
                place = (n >> 3) * n_l + l  # of the vector that holds n, and of l
                start = n & 7
                left = 256 * (a * n_vectors * n_l + place) + 32 * lane + start
                lane_2 = start if symmetric else 0
                for e2 in range(n >> 3 if symmetric else 0, n_vectors):
                    place_2 = e2 * n_l + l
                    right = 256 * (b * n_vectors * n_l + place_2) + 32 * lane + lane_2
                    along = across_x = across_y = across_z = splat(0.0)
                    if of_a:
                        along = multiply(broadcast(rho, 8 * place + start), load(sums, right))
                        if l > 0:  # gradients of degree l stand with the sums of degree l - 1
                            one = broadcast(phi, 8 * place + start)
                            across_x = multiply(one, load(sums, right - 256 + 8))
                            across_y = multiply(one, load(sums, right - 256 + 16))
                            across_z = multiply(one, load(sums, right - 256 + 24))
                    if of_b:
                        along = fma(broadcast(sums, left), load(rho, 8 * place_2 + lane_2), along)
                        if l > 0:
                            two = load(phi, 8 * place_2 + lane_2)
                            across_x = fma(broadcast(sums, left - 256 + 8), two, across_x)
                            across_y = fma(broadcast(sums, left - 256 + 16), two, across_y)
                            across_z = fma(broadcast(sums, left - 256 + 24), two, across_z)
                    weight = load(scale, feature)
                    store(out, feature, multiply(weight, fma(ux, along, across_x)))
                    store(out, feature + step, multiply(weight, fma(uy, along, across_y)))
                    store(out, feature + 2 * step, multiply(weight, fma(uz, along, across_z)))
                    feature += min(8, n_max - 8 * e2) - lane_2
                    lane_2 = 0
