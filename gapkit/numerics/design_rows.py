r"""The chain rule from kernels to energies, forces and virials: the only place where it is written.

Each environment e of a frame adds :math:`w_e\, g(x_e)` to the energy, with :math:`g \sim GP(0, k)`,
:math:`k(x, x') = \phi(t)`, :math:`\partial t/\partial x = x' - s x` (s = 1 for squared-distance kernels, else 0) and
:math:`\partial^2 t/\partial x \partial x' = 1` (see ``kernel_functions``). With :math:`J = dx/d\theta` and
:math:`w' = dw/d\theta` for a position or strain component theta, covariances with the value at a sparse point x_m are

.. math::
    \langle E, g_m \rangle = \sum_e w_e \phi(t_{em}), \qquad
    \langle \partial_\theta E, g_m \rangle = \sum_e w'_e \phi(t_{em}) + w_e \phi'(t_{em}) J_e \cdot (x_m - s x_e)

and prior variances follow from both arguments alike (:func:`prior_variance`).
"""

import numpy as np
from numba import njit

from gapkit.numerics import kernel_functions
from gapkit.numerics.products import product, transpose_blocks
from gapkit.numerics.simd import add, fma, load, splat, store
from gapkit.numerics.vectors import aligned_zeros, inner

#: sparse points whose rows are made together: with the rows of a frame and the derivatives of one environment they stay
#: in the second cache
PANEL = 192


@njit(cache=True, nogil=True)
def _half_squares(x):
    out = np.empty(len(x))
    for i in range(len(x)):
        acc = 0.0
        for f in range(x.shape[1]):
            acc += x[i, f] ** 2
        out[i] = 0.5 * acc
    return out


@njit(cache=True, nogil=True)
def arguments(x, y, centred):
    """Kernel arguments t (n, m) of scaled features ``x`` (n, f) and ``y`` (m, f)."""
    t = np.dot(x, y.T)
    if centred:
        hx = _half_squares(x)
        hy = _half_squares(y)
        for i in range(len(x)):
            for k in range(len(y)):
                t[i, k] = min(t[i, k] - hx[i] - hy[k], 0.0)
    return t


@njit(cache=True, nogil=True)
def add_rows(x, weight, start, target, J, dweight, sparse, function, parameter, centred, rows):
    """Add one batch of environments to the covariances of a frame with the sparse points.

    Parameters
    ----------
    x, J : (e, f), (c, f)
        Features and their derivatives, scaled by the kernel.
    weight, start, target, dweight
        Arrays as in ``gapkit.descriptors.EnvironmentBatch``.
    sparse : (m, f)
        Scaled features of the sparse points.
    rows : (1 + targets, m)
        Row 0: the energy; row 1 + target: its derivative by that target. Without targets, only the energy.
    """
    t = arguments(x, sparse, centred)
    slope = np.empty_like(t)
    kernel_functions.apply(function, parameter, t, t, slope)
    m, width = sparse.shape
    for e in range(len(x)):
        for k in range(m):
            rows[0, k] += weight[e] * t[e, k]
            slope[e, k] *= weight[e]
    if len(rows) == 1:
        return
    longest = 0
    for e in range(len(x)):
        longest = max(longest, start[e + 1] - start[e])
    padded = (width + 7) // 8 * 8
    points = aligned_zeros(PANEL * padded)
    transposed = aligned_zeros(padded * PANEL)
    projected = aligned_zeros(longest * PANEL)
    flat_J = J.reshape(-1)
    for begin in range(0, m, PANEL):
        used = min(PANEL, m - begin)
        columns = (used + 7) // 8 * 8
        for k in range(used):
            points[k * padded : k * padded + width] = sparse[begin + k]
        transpose_blocks(columns, width, points, 0, padded, transposed, 0, PANEL)
        for e in range(len(x)):
            top, bottom = start[e], start[e + 1]
            product(
                bottom - top, columns, width, flat_J, top * width, width, 1, transposed, 0, PANEL, projected, 0, PANEL,
                False,
            )  # fmt: skip
            for c in range(top, bottom):
                shift = inner(J[c], x[e]) if centred else 0.0
                here = slice(begin, begin + used)
                _add_row(
                    projected, (c - top) * PANEL, shift, slope[e, here], dweight[c], t[e, here],
                    rows[1 + target[c], here],
                )  # fmt: skip


@njit(cache=True, nogil=True)
def _add_row(projected, at, shift, slope, dweight, value, row):
    """``row += slope (projected - shift) + dweight value``; ``projected`` from ``at`` on."""
    n = len(row)
    minus, factor = splat(-shift), splat(dweight)
    for k in range(0, n // 8 * 8, 8):
        there = fma(load(slope, k), add(load(projected, at + k), minus), load(row, k))
        store(row, k, fma(factor, load(value, k), there))
    for k in range(n // 8 * 8, n):
        row[k] += slope[k] * (projected[at + k] - shift) + dweight * value[k]


@njit(cache=True, nogil=True)
def add_local_rows(x, weight, atom, sparse, function, parameter, centred, rows):
    """Add one batch to the covariances of local energies with the sparse points, ``rows`` (n_atoms, m)."""
    t = arguments(x, sparse, centred)
    slope = np.empty_like(t)
    kernel_functions.apply(function, parameter, t, t, slope)
    for e in range(len(x)):
        for k in range(len(sparse)):
            rows[atom[e], k] += weight[e] * t[e, k]


@njit(cache=True, nogil=True)
def energy_variance(x, weight, y, weight_y, function, parameter, centred):
    """Prior covariance of two sums of environments, sum_ee' w_e w_e' k(x_e, y_e'), in blocks."""
    acc = 0.0
    for begin in range(0, len(x), 256):
        end = min(begin + 256, len(x))
        t = arguments(x[begin:end], y, centred)
        for i in range(end - begin):
            inner = 0.0
            for k in range(len(y)):
                inner += weight_y[k] * kernel_functions.value(function, parameter, t[i, k])
            acc += weight[begin + i] * inner
    return acc


@njit(cache=True, nogil=True)
def local_variances(x, weight, atom, function, parameter, centred, out):
    """Add prior variances of local energies to ``out`` (n_atoms,); environments are grouped by atom."""
    begin = 0
    while begin < len(x):
        end = begin + 1
        while end < len(x) and atom[end] == atom[begin]:
            end += 1
        out[atom[begin]] += energy_variance(
            x[begin:end], weight[begin:end], x[begin:end], weight[begin:end], function, parameter, centred
        )
        begin = end


@njit(cache=True, nogil=True)
def _rows_of(select, x, weight, owner, J, dweight, centred):
    """Gather the derivative rows ``select``: their environments' x and weight, their J, dweight and s J.x."""
    n, width = len(select), x.shape[1]
    xs, js = np.empty((n, width)), np.empty((n, width))
    w, dw, shift = np.empty(n), np.empty(n), np.zeros(n)
    for k in range(n):
        c = select[k]
        xs[k] = x[owner[c]]
        js[k] = J[c]
        w[k] = weight[owner[c]]
        dw[k] = dweight[c]
        if centred:
            for f in range(width):
                shift[k] += J[c, f] * x[owner[c], f]
    return xs, js, w, dw, shift


@njit(cache=True, nogil=True)
def _mixed_sum(phi, phi1, phi2, jx, xj, jj, wp, dwp, shift_p, w, dw, shift):
    """Sum over all q of the mixed second derivative for one p; every q but the first counts twice.

    w' w' phi + (w'_p w_q b + w_p w'_q a) phi' + w_p w_q (phi'' a b + phi' J_p . J_q), with a = J_p . (x_q - s x_p) and
    b = J_q . (x_p - s x_q).
    """
    acc = 0.0
    first = 0.0
    for q in range(len(w)):
        a = jx[q] - shift_p
        b = xj[q] - shift[q]
        term = wp * w[q] * (phi2[q] * a * b + phi1[q] * jj[q])
        term += dwp * dw[q] * phi[q] + (dwp * w[q] * b + wp * dw[q] * a) * phi1[q]
        acc += term
        if q == 0:
            first = term
    return 2.0 * acc - first


@njit(cache=True, nogil=True)
def _add_group(x, weight, owner, J, dweight, columns, function, parameter, centred, out):
    """Prior variances of derivatives that depend on the same environments; ``columns`` (rows, n), ``out`` (rows,)."""
    n = columns.shape[1]
    xs, _, _, _, _ = _rows_of(columns[0], x, weight, owner, J, dweight, centred)
    for low in range(0, n, 128):
        high = min(low + 128, n)
        t = arguments(xs[low:high], xs[low:], centred)
        phi, phi1, phi2 = np.empty_like(t), np.empty_like(t), np.empty_like(t)
        kernel_functions.apply_all(function, parameter, t, phi, phi1, phi2)
        for r in range(len(columns)):
            _, js, w, dw, shift = _rows_of(columns[r], x, weight, owner, J, dweight, centred)
            jx = np.dot(js[low:high], xs[low:].T)
            xj = jx.T.copy() if n <= 128 else np.dot(xs[low:high], js[low:].T)
            jj = np.dot(js[low:high], js[low:].T)
            for i in range(high - low):
                p = low + i
                out[r] += _mixed_sum(
                    phi[i, i:], phi1[i, i:], phi2[i, i:], jx[i, i:], xj[i, i:], jj[i, i:], w[p], dw[p], shift[p],
                    w[p:], dw[p:], shift[p:],
                )  # fmt: skip


@njit(cache=True, nogil=True)
def prior_variances(x, weight, start, target, J, dweight, function, parameter, centred, out):
    """Add the prior variances of a frame's energy and derivatives to ``out`` (1 + targets,).

    Each is the sum over the pairs of environments that depend on the target, see :func:`_mixed_sum`. The three
    coordinates of an atom, and the six components of the strain, depend on the same environments.
    """
    out[0] += energy_variance(x, weight, x, weight, function, parameter, centred)
    n_columns = len(target)
    if n_columns == 0:
        return
    n_positions = len(out) - 7
    owner = np.empty(n_columns, dtype=np.int64)
    for e in range(len(x)):
        owner[start[e] : start[e + 1]] = e
    order = np.argsort(target, kind="mergesort")
    begin = 0
    while begin < n_columns:
        row = target[order[begin]]
        together = 3 if row < n_positions else 6
        end = begin
        while end < n_columns and target[order[end]] < row + together:
            end += 1
        columns = order[begin:end].reshape(together, (end - begin) // together)
        _add_group(
            x, weight, owner, J, dweight, columns, function, parameter, centred,
            out[1 + row : 1 + row + together],
        )  # fmt: skip
        begin = end


@njit(cache=True, nogil=True)
def values_and_slopes(x, sparse, weights, function, parameter, centred):
    """A kernel sum g(x) with ``weights`` (m,) at each environment, (e,), and dg/dx (e, f): without rows."""
    m, width = sparse.shape
    t = arguments(x, sparse, centred)
    value = np.zeros(len(x))
    gradient = np.zeros((len(x), width))
    for e in range(len(x)):
        total_slope = 0.0
        for k in range(m):
            value[e] += weights[k] * kernel_functions.value(function, parameter, t[e, k])
            s = weights[k] * kernel_functions.slope(function, parameter, t[e, k])
            total_slope += s
            for f in range(width):
                gradient[e, f] += s * sparse[k, f]
        if centred:
            for f in range(width):
                gradient[e, f] -= total_slope * x[e, f]
    return value, gradient


@njit(cache=True, nogil=True)
def add_prediction(g, slope, weight, atom, start, target, J, dweight, n_atoms, local, derivative, atom_strain):
    """Add one batch's mean to local energies (n_atoms,), dE/dr (n_atoms, 3) and dE_a/d(strain) (n_atoms, 6).

    ``g`` (e,), ``slope`` (e, f): :func:`values_and_slopes`; the others as in ``descriptors.base.EnvironmentBatch``.
    """
    width = slope.shape[1]
    for e in range(len(g)):
        local[atom[e]] += weight[e] * g[e]
        for c in range(start[e], start[e + 1]):
            d = dweight[c] * g[e]
            for f in range(width):
                d += weight[e] * J[c, f] * slope[e, f]
            if target[c] < 3 * n_atoms:
                derivative[target[c] // 3, target[c] % 3] += d
            else:
                atom_strain[atom[e], target[c] - 3 * n_atoms] += d
