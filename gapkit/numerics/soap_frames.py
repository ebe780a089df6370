"""Passes over the environments of a frame: descriptors; energies and pair gradients; Jacobians."""

import math

import numpy as np
from numba import njit

from gapkit.numerics.harmonics import NARROW, STRIDE
from gapkit.numerics.soap import (
    expand,
    pair_basis,
    pair_gradients,
    pair_jacobian,
    power_spectrum,
    power_spectrum_adjoint,
)
from gapkit.numerics.vectors import inner, weighted_powers


@njit(cache=True, nogil=True)
def _workspace(atoms, first, l_max, n_pad):
    """Radial functions and slopes, harmonics, and scratch space for the largest of these environments."""
    longest = 1
    for a in atoms:
        longest = max(longest, first[a + 1] - first[a])
    n_l = l_max + 1
    radial = longest * n_l * n_pad
    groups = (longest + 7) // 8
    scratch = 24 + 8 * ((l_max + 2) ** 2 + 2 * n_l)
    return np.empty(radial), np.empty(radial), np.empty(groups * n_l * n_l * STRIDE), np.empty(scratch)


@njit(cache=True, nogil=True)
def _normalise(vector):
    """Divide by the length, which is returned."""
    length = math.sqrt(inner(vector, vector))
    inverse = 1.0 / length
    for k in range(len(vector)):
        vector[k] *= inverse
    return length


@njit(cache=True, nogil=True)
def descriptors(atoms, first, distance, unit, channel, centre_channel, basis, blocks, scale, normalise, out):
    """Power spectra of the environments ``atoms`` into the rows of ``out`` (len(atoms), n_features).

    ``first`` (atoms + 1,) is where each environment's pairs begin; ``basis`` is the tuple of
    ``gapkit.descriptors.soap.SoapBasis.floor_arrays``.
    """
    radial, inverse_spacing, norm, centre, l_max, n_max, n_pad, n_channels, summed = basis
    f, df, y, work = _workspace(atoms, first, l_max, n_pad)
    c = np.empty(n_channels * (l_max + 1) ** 2 * n_pad)
    row = np.empty(n_pad)
    for i in range(len(atoms)):
        a = atoms[i]
        start, count = first[a], first[a + 1] - first[a]
        pair_basis(start, count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, False, f, df, y, work)
        expand(count, channel[start:], n_channels, summed, centre_channel[a], centre, f, y, NARROW, l_max, n_pad, c)
        power_spectrum(c, blocks, l_max, n_max, n_pad, scale, out[i], row)
        if normalise:
            _normalise(out[i])


@njit(cache=True, nogil=True)
def _kernel_values(u, coefficients, t, dt):
    """Kernel values ``t`` (n, m) of a kernel sum's points; ``dt`` is scratch space. See :func:`_sum_over_points`."""
    mean, offsets, products, weights, power = coefficients
    np.dot(u, offsets.T, t)
    for i in range(len(u)):
        weighted_powers(power, t[i], products, inner(u[i], mean), weights, dt[i])


@njit(cache=True, nogil=True)
def _sum_over_points(u, coefficients, energy, slope, t, dt):
    """Energies (n,) and dE/du (n, d) of a sum of powers; ``u`` (n, d) is taken from the mean sparse point.

    ``coefficients`` holds the points' mean (d,), their offsets from it (m, d), products with it (m,), weights (m,; eV)
    and the power. ``t``, ``dt`` (n, m): scratch space; kernel values are left in ``t``.
    """
    mean, offsets, products, weights, power = coefficients
    np.dot(u, offsets.T, t)
    slopes = np.empty(len(u))
    for i in range(len(u)):
        energy[i], slopes[i] = weighted_powers(power, t[i], products, inner(u[i], mean), weights, dt[i])
    np.dot(dt, offsets, slope)
    for i in range(len(u)):
        for k in range(len(mean)):
            slope[i, k] += slopes[i] * mean[k]


@njit(cache=True, nogil=True)
def _subtract_explained(atoms, t, others, soap, pair, signs, variance):
    """Take sum_j s_j (C k)_j^2 from the ``variance`` of each atom, k being ``t`` (n, m) and the rows of ``others``."""
    h = np.dot(t, soap.T)
    if pair.shape[1] > 0:
        mine = np.empty((len(atoms), pair.shape[1]))
        for i in range(len(atoms)):
            mine[i] = others[atoms[i]]
        h += np.dot(mine, pair.T)
    signed = np.empty(len(signs))
    for i in range(len(atoms)):
        for r in range(len(signs)):
            signed[r] = signs[r] * h[i, r]
        variance[atoms[i]] -= inner(h[i], signed)


@njit(cache=True, nogil=True)
def _quadratic(u, coefficients, energy, slope):
    """Energies (n,) and slopes (n, d) of constant + linear . u + u . matrix u, the matrix symmetric."""
    constant, linear, matrix = coefficients
    np.dot(u, matrix, slope)
    for i in range(len(u)):
        energy[i] = constant + inner(u[i], linear) + inner(u[i], slope[i])
        for k in range(len(linear)):
            slope[i, k] = linear[k] + 2 * slope[i, k]


@njit(cache=True, nogil=True)
def energies_and_pair_gradients(
    atoms, first, distance, unit, channel, centre_channel, basis, blocks, scale, mean, directions, collapsed,
    coefficients, polynomial, spread, others, block_size, energy, g, variance,
):  # fmt: skip
    """Local energies and dE/dr_ij of the environments ``atoms``, blocks of ``block_size`` at a time.

    The local energy is a function of u = U (p / |p| - ``mean``), U being ``directions`` (d, f), or the identity
    where it has no rows: a quadratic ``polynomial`` where ``collapsed``, else the kernel sum of ``coefficients`` (see
    ``gapkit.descriptors.soap_predictor``). With a ``spread``, what its sparse points and the pair sums ``others``
    (n_atoms, q) explain is taken from ``variance[atom]``. Fills ``energy[atom]`` and ``g[pair]`` for these atoms and
    their pairs only, so that threads can share the arrays. The adjoint of the normalisation is
    :math:`dE/dp = (G - \\hat p (\\hat p \\cdot G))/|p|`.
    """
    radial, inverse_spacing, norm, centre, l_max, n_max, n_pad, n_channels, summed = basis
    n_features = len(scale)
    projects = len(directions) > 0
    d = len(directions) if projects else n_features
    of_variance, soap, pair, signs = spread
    spreads = len(signs) > 0
    m = len(of_variance[3]) if spreads else 0 if collapsed else len(coefficients[3])
    f, df, y, work = _workspace(atoms, first, l_max, n_pad)
    size_c = n_channels * (l_max + 1) ** 2 * n_pad
    block_size = max(1, min(block_size, len(atoms)))
    c = np.empty(block_size * size_c)
    q = np.empty(size_c)
    row = np.empty(n_pad)
    square = np.empty(2 * n_pad * n_pad)
    p = np.empty((block_size, n_features))
    length = np.empty(block_size)
    offset = np.empty((block_size, n_features))
    gradient = np.empty((block_size, n_features))
    u = np.empty((block_size, d)) if projects else offset
    slope = np.empty((block_size, d)) if projects else gradient
    values = np.empty(block_size)
    t = np.empty((block_size, m))
    dt = np.empty((block_size, m))
    for begin in range(0, len(atoms), block_size):
        n = min(block_size, len(atoms) - begin)
        for i in range(n):
            a = atoms[begin + i]
            start, count = first[a], first[a + 1] - first[a]
            here = c[i * size_c : (i + 1) * size_c]
            pair_basis(start, count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, False, f, df, y, work)
            expand(
                count, channel[start:], n_channels, summed, centre_channel[a], centre, f, y, NARROW, l_max, n_pad, here
            )
            power_spectrum(here, blocks, l_max, n_max, n_pad, scale, p[i], row)
            length[i] = _normalise(p[i])
            for k in range(n_features):
                offset[i, k] = p[i, k] - mean[k]
        if projects:
            np.dot(offset[:n], directions.T, u[:n])
        if collapsed:
            _quadratic(u[:n], polynomial, values[:n], slope[:n])
        else:
            _sum_over_points(u[:n], coefficients, values[:n], slope[:n], t[:n], dt[:n])
        if spreads:
            if collapsed:
                _kernel_values(u[:n], of_variance, t[:n], dt[:n])
            _subtract_explained(atoms[begin : begin + n], t[:n], others, soap, pair, signs, variance)
        if projects:
            np.dot(slope[:n], directions, gradient[:n])
        for i in range(n):
            a = atoms[begin + i]
            energy[a] = values[i]
            start, count = first[a], first[a + 1] - first[a]
            along = inner(p[i], gradient[i])
            inverse = 1.0 / length[i]
            for k in range(n_features):
                gradient[i, k] = (gradient[i, k] - p[i, k] * along) * inverse
            here = c[i * size_c : (i + 1) * size_c]
            power_spectrum_adjoint(gradient[i], here, blocks, n_channels, summed, l_max, n_max, n_pad, scale, q, square)
            pair_basis(start, count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, True, f, df, y, work)
            pair_gradients(start, count, channel[start:], distance, unit, q, f, df, y, l_max, n_pad, g)


@njit(cache=True, nogil=True)
def count_columns(atoms, first, j, n_atoms):
    """Rows that :func:`jacobians` fills for each of ``atoms``: three per atom involved, and six for the strain."""
    seen = np.full(n_atoms, -1)
    counts = np.empty(len(atoms), dtype=np.int64)
    for i in range(len(atoms)):
        a = atoms[i]
        seen[a] = i
        involved = 1
        for pair in range(first[a], first[a + 1]):
            if seen[j[pair]] != i:
                seen[j[pair]] = i
                involved += 1
        counts[i] = 3 * involved + 6
    return counts


@njit(cache=True, nogil=True)
def jacobians(
    atoms, first, j, distance, unit, channel, centre_channel, basis, blocks, scale, n_atoms, x, start_of, target, J
):
    """Normalised descriptors and their derivatives by atomic positions and strain.

    Fills ``x[i]`` (n_features,) and, from row ``start_of[i]`` of ``J`` on, one row per derivative; ``target`` names
    it: 3 a + axis for the position of atom a, 3 n_atoms + v for component v (Voigt, ASE order) of the strain. With
    r_ij = r_j - r_i, dp/dr_j adds and dp/dr_i takes away dp/dr_ij; strain takes the symmetric part of
    r_ij (x) dp/dr_ij. The derivative of the unit vector is (dp - x (x . dp)) / |p|.
    """
    radial, inverse_spacing, norm, centre, l_max, n_max, n_pad, n_channels, summed = basis
    n_features = x.shape[1]
    f, df, y, work = _workspace(atoms, first, l_max, n_pad)
    c = np.empty(n_channels * (l_max + 1) ** 2 * n_pad)
    dc = np.empty((l_max + 1) ** 2 * n_pad)
    row = np.empty(n_pad)
    one = np.zeros((3, n_features))
    place = np.full(n_atoms, -1)
    for i in range(len(atoms)):
        a = atoms[i]
        start, count = first[a], first[a + 1] - first[a]
        pair_basis(start, count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, True, f, df, y, work)
        expand(count, channel[start:], n_channels, summed, centre_channel[a], centre, f, y, STRIDE, l_max, n_pad, c)
        power_spectrum(c, blocks, l_max, n_max, n_pad, scale, x[i], row)
        top = start_of[i]
        bottom = start_of[i + 1]
        J[top:bottom] = 0.0
        place[a] = top
        for axis in range(3):
            target[top + axis] = 3 * a + axis
        used = top + 3
        for k in range(count):
            other = j[start + k]
            if place[other] < 0:
                place[other] = used
                for axis in range(3):
                    target[used + axis] = 3 * other + axis
                used += 3
        for v in range(6):
            target[used + v] = 3 * n_atoms + v
        for k in range(count):
            pair = start + k
            u = unit[3 * pair : 3 * pair + 3]
            pair_jacobian(
                k, channel[pair], summed, distance[pair], u, c, blocks, f, df, y, l_max, n_max, n_pad, scale, dc,
                row, one,
            )  # fmt: skip
            here = place[j[pair]]
            rx, ry, rz = distance[pair] * u[0], distance[pair] * u[1], distance[pair] * u[2]
            for axis in range(3):
                for s in range(n_features):
                    J[here + axis, s] += one[axis, s]
                    J[top + axis, s] -= one[axis, s]
            for s in range(n_features):
                gx, gy, gz = one[0, s], one[1, s], one[2, s]
                J[used, s] += rx * gx
                J[used + 1, s] += ry * gy
                J[used + 2, s] += rz * gz
                J[used + 3, s] += 0.5 * (ry * gz + rz * gy)
                J[used + 4, s] += 0.5 * (rx * gz + rz * gx)
                J[used + 5, s] += 0.5 * (rx * gy + ry * gx)
        place[a] = -1
        for k in range(count):
            place[j[start + k]] = -1
        inverse = 1.0 / _normalise(x[i])
        for column in range(top, bottom):
            along = inner(x[i], J[column])
            for s in range(n_features):
                J[column, s] = (J[column, s] - along * x[i, s]) * inverse


@njit(cache=True, nogil=True)
def scatter_pair_gradients(atoms, first, j, vectors, g, gradient, strain):
    """From dE_i/dr_ij of ``atoms`` to dE/dr (n, 3) and to each environment's own dE_i/d(strain) (n, 6)."""
    for i in atoms:
        for p in range(first[i], first[i + 1]):
            other = j[p]
            for axis in range(3):
                gradient[other, axis] += g[p, axis]
                gradient[i, axis] -= g[p, axis]
            x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
            strain[i, 0] += x * g[p, 0]
            strain[i, 1] += y * g[p, 1]
            strain[i, 2] += z * g[p, 2]
            strain[i, 3] += 0.5 * (y * g[p, 2] + z * g[p, 1])
            strain[i, 4] += 0.5 * (x * g[p, 2] + z * g[p, 0])
            strain[i, 5] += 0.5 * (x * g[p, 1] + y * g[p, 0])
