"""Passes over the environments of a frame: descriptors; energies and pair gradients; Jacobians."""

import math

import numpy as np
from numba import njit

from gapkit.numerics.harmonics import lower_degree
from gapkit.numerics.products import product, transpose_blocks
from gapkit.numerics.simd import add, broadcast, fma, load, multiply, splat, store, subtract
from gapkit.numerics.soap import (
    expand,
    neighbour_sums,
    pair_gradients,
    pair_harmonics,
    pair_jacobian,
    place_neighbours,
    power_spectrum,
    power_spectrum_adjoint,
    radial_factors,
    radial_functions,
    square_size,
    sums_size,
)
from gapkit.numerics.vectors import add_strain, aligned_zeros, inner, powers, subtract_along, weighted_powers

#: sparse points whose kernel values are held at a time: they and their features stay in the second cache
PANEL = 64


@njit(cache=True, nogil=True)
def _workspace(atoms, first, n_channels, l_max, n_vectors):
    """Arrays for the largest of these environments: slots; where channels begin, and their sizes; radial functions and
    slopes; harmonics; scratch space of ``pair_harmonics`` and of the power spectrum."""
    longest = 1
    for a in atoms:
        longest = max(longest, first[a + 1] - first[a])
    n_slots = (longest + 7 * n_channels + 7) // 8 * 8
    radial = 8 * n_slots * (l_max + 1) * n_vectors
    return (
        np.empty(n_slots, dtype=np.int64),
        np.zeros(n_channels + 1, dtype=np.int64),
        np.zeros(n_channels, dtype=np.int64),
        aligned_zeros(radial),
        aligned_zeros(radial),
        aligned_zeros((l_max + 1) ** 2 * n_slots),
        aligned_zeros(24),
        aligned_zeros(square_size(l_max, n_vectors)),
    )


@njit(cache=True, nogil=True)
def _normalise(vector):
    """Divide by the length, which is returned."""
    length = math.sqrt(inner(vector, vector))
    inverse = 1.0 / length
    for k in range(len(vector)):
        vector[k] *= inverse
    return length


@njit(cache=True, nogil=True)
def _describe(a, pairs, basis, blocks, scale, slopes, workspace, c, c_at, p):
    """Neighbours, radial functions, harmonics, coefficients and power spectrum of the environment of atom ``a``."""
    first, j, vectors, distance, channel_of = pairs
    tables, centre, l_max, n_max, n_vectors, n_channels, summed, _ = basis
    slot, begin, size, f, df, y, work, square = workspace
    place_neighbours(first[a], first[a + 1], channel_of, j, n_channels, slot, begin, size)
    table, inverse_spacing, factors = tables
    used = begin[n_channels]
    radial_functions(slot, used, distance, table, inverse_spacing, (l_max + 1) * n_vectors, slopes, f, df)
    pair_harmonics(slot, used, vectors, distance, factors, l_max, y, work)
    expand(begin, n_channels, summed, channel_of[a], centre, f, y, l_max, n_vectors, c, c_at)
    power_spectrum(c, c_at, blocks, l_max, n_max, n_vectors, scale, square, p)


@njit(cache=True, nogil=True)
def descriptors(atoms, pairs, basis, blocks, scale, normalise, out):
    """Power spectra of the environments ``atoms`` into the rows of ``out`` (len(atoms), n_features).

    ``pairs``: where each environment's pairs begin (atoms + 1,), their neighbours (p,), vectors (flat 3p) and distances
    (p,), and the channel of each atom's density (atoms,). ``basis`` is the tuple of
    ``gapkit.descriptors.soap.SoapBasis.floor_arrays``; ``scale`` is eight doubles longer than the features.
    """
    _, _, l_max, _, n_vectors, n_channels, _, _ = basis
    workspace = _workspace(atoms, pairs[0], n_channels, l_max, n_vectors)
    c = aligned_zeros(8 * n_channels * (l_max + 1) ** 2 * n_vectors)
    p = aligned_zeros(len(scale))
    n_features = out.shape[1]
    for i in range(len(atoms)):
        _describe(atoms[i], pairs, basis, blocks, scale, False, workspace, c, 0, p)
        if normalise:
            _normalise(p[:n_features])
        out[i] = p[:n_features]


@njit(cache=True, nogil=True)
def _shared(mean, u, columns, shared):
    """Products of the mean sparse point with the columns of ``u``."""
    product(1, columns, len(mean), mean, 0, 0, 1, u, 0, columns, shared, 0, columns, False)


@njit(cache=True, nogil=True)
def _sum_over_points(u, columns, coefficients, spread, energy, slope, t, k, h):
    """Energies (columns,) and dE/du (d, columns) of a sum of powers; ``u`` (d, columns) is taken from the mean point.

    ``coefficients`` holds the points' mean (d,), their offsets from it (m, d), products with it (m,), weights (m,; eV)
    and the power. Unless ``spread`` (r, m) is empty, its product with the kernel values is added to ``h`` (r, columns).
    ``t``, ``k``: PANEL x columns doubles of scratch space. Matrices are flat.
    """
    mean, offsets, products, weights, power = coefficients
    m, d = offsets.shape
    points = offsets.reshape(-1)
    matrix = spread.reshape(-1)
    shared, slopes = aligned_zeros(columns), aligned_zeros(columns)
    _shared(mean, u, columns, shared)
    energy[:columns] = 0.0
    for begin in range(0, m, PANEL):
        rows = min(PANEL, m - begin)
        product(rows, columns, d, points, begin * d, d, 1, u, 0, columns, t, 0, columns, False)
        if len(spread) > 0:
            powers(power, rows, columns, products, shared, begin, t, k)
            product(len(spread), columns, rows, matrix, begin, m, 1, k, 0, columns, h, 0, columns, True)
        weighted_powers(power, rows, columns, products, shared, weights, begin, t, energy, slopes)
        product(d, columns, rows, points, begin * d, 1, d, t, 0, columns, slope, 0, columns, begin > 0)
    product(d, columns, 1, mean, 0, 1, 1, slopes, 0, columns, slope, 0, columns, True)


@njit(cache=True, nogil=True)
def _kernel_products(u, columns, coefficients, spread, t, k, h):
    """Add the part of :func:`_sum_over_points` that goes to ``h``."""
    mean, offsets, products, _, power = coefficients
    m, d = offsets.shape
    points = offsets.reshape(-1)
    matrix = spread.reshape(-1)
    shared = aligned_zeros(columns)
    _shared(mean, u, columns, shared)
    for begin in range(0, m, PANEL):
        rows = min(PANEL, m - begin)
        product(rows, columns, d, points, begin * d, d, 1, u, 0, columns, t, 0, columns, False)
        powers(power, rows, columns, products, shared, begin, t, k)
        product(len(spread), columns, rows, matrix, begin, m, 1, k, 0, columns, h, 0, columns, True)


@njit(cache=True, nogil=True)
def _quadratic(u, columns, polynomial, energy, slope):
    """Energies (columns,) and slopes (d, columns) of constant + linear . u + u . matrix u, the matrix symmetric."""
    constant, linear, matrix = polynomial
    d = len(linear)
    product(d, columns, d, matrix.reshape(-1), 0, d, 1, u, 0, columns, slope, 0, columns, False)
    for j in range(0, columns, 8):
        value = splat(constant)
        for k in range(d):
            there = k * columns + j
            s = load(slope, there)
            towards = add(broadcast(linear, k), s)
            value = fma(load(u, there), towards, value)
            store(slope, there, add(towards, s))
        store(energy, j, value)


@njit(cache=True, nogil=True)
def _pair_products(atoms, columns, pair_sums, pair, h):
    """The ``pair_sums`` (n_atoms, q) of these atoms times ``pair`` (r, q), into ``h`` (r, columns)."""
    r, q = pair.shape
    width = (q + 7) // 8 * 8
    chosen = aligned_zeros(columns * width)
    for i in range(len(atoms)):
        chosen[i * width : i * width + q] = pair_sums[atoms[i]]
    transposed = aligned_zeros(columns * width)
    transpose_blocks(columns, q, chosen, 0, width, transposed, 0, columns)
    product(r, columns, q, pair.reshape(-1), 0, q, 1, transposed, 0, columns, h, 0, columns, False)


@njit(cache=True, nogil=True)
def _subtract_explained(atoms, columns, signs, h, variance):
    """Take sum_j s_j h_j^2 from the ``variance`` of each atom; ``h`` (r, columns)."""
    explained = aligned_zeros(columns)
    for i in range(0, columns, 8):
        there = splat(0.0)
        for k in range(len(signs)):
            side = load(h, k * columns + i)
            there = fma(multiply(broadcast(signs, k), side), side, there)
        store(explained, i, there)
    for i in range(len(atoms)):
        variance[atoms[i]] -= explained[i]


@njit(cache=True, nogil=True)
def energies_and_pair_gradients(
    atoms, pairs, basis, blocks, scale, mean, directions, collapsed, coefficients, polynomial, spread, pair_sums,
    block_size, energy, g, variance,
):  # fmt: skip
    """Local energies and dE/dr_ij of the environments ``atoms``, blocks of ``block_size`` (a multiple of 8) at a time.

    The local energy is a function of u = U (p / |p| - ``mean``), U being ``directions`` (d, f), or the identity
    where it has no rows: a quadratic ``polynomial`` where ``collapsed``, else the kernel sum of ``coefficients`` (see
    ``gapkit.descriptors.soap_predictor``). With a ``spread``, what its sparse points and the pair sums ``pair_sums``
    (n_atoms, q) explain is taken from ``variance[atom]``. Adds to ``energy[atom]`` and fills ``g[pair]`` for these
    atoms and their pairs only, so that threads can share the arrays; ``pairs`` as in :func:`descriptors`. The adjoint
    of the normalisation is :math:`dE/dp = (G - \\hat p (\\hat p \\cdot G))/|p|`.

    In matrix products a column is an environment, and their number a multiple of eight; columns beyond the last
    environment hold what was there before.
    """
    first, j, vectors, distance, channel_of = pairs
    (table, inverse_spacing, factors), _, l_max, n_max, n_vectors, n_channels, summed, (source, factor) = basis
    n_features = len(mean)
    width = (len(scale) + 7) // 8 * 8
    projects = len(directions) > 0
    d = len(directions) if projects else n_features
    flat_directions = directions.reshape(-1)
    of_variance, soap, pair, signs = spread
    spreads = len(signs) > 0
    none = soap[:0]
    workspace = _workspace(atoms, first, n_channels, l_max, n_vectors)
    slot, begin, size, f, df, y, work, square = workspace
    size_c = 8 * n_channels * (l_max + 1) ** 2 * n_vectors
    block_size = min(block_size, (len(atoms) + 7) // 8 * 8)
    c = aligned_zeros(block_size * size_c)
    q = aligned_zeros(size_c)
    lowered = aligned_zeros(4 * size_c)
    p = aligned_zeros(block_size * width)
    gradient = aligned_zeros(block_size * width)
    length = aligned_zeros(block_size)
    transposed = aligned_zeros(width * block_size)
    u = aligned_zeros(d * block_size) if projects else transposed
    slope = aligned_zeros(width * block_size)
    t = aligned_zeros(PANEL * block_size)
    k = aligned_zeros(PANEL * block_size if spreads else 0)
    h = aligned_zeros(len(signs) * block_size)
    values = aligned_zeros(block_size)
    for start in range(0, len(atoms), block_size):
        n = min(block_size, len(atoms) - start)
        columns = (n + 7) // 8 * 8
        for i in range(n):
            here = p[i * width : (i + 1) * width]
            _describe(atoms[start + i], pairs, basis, blocks, scale, False, workspace, c, i * size_c, here)
            length[i] = _normalise(here[:n_features])
        transpose_blocks(columns, n_features, p, 0, width, transposed, 0, columns)
        for feature in range(n_features):
            for i in range(0, columns, 8):
                at = feature * columns + i
                store(transposed, at, subtract(load(transposed, at), broadcast(mean, feature)))
        if projects:
            product(
                d, columns, n_features, flat_directions, 0, n_features, 1, transposed, 0, columns, u, 0, columns, False
            )
        if spreads:
            _pair_products(atoms[start : start + n], columns, pair_sums, pair, h)
        if collapsed:
            _quadratic(u, columns, polynomial, values, slope)
            if spreads:
                _kernel_products(u, columns, of_variance, soap, t, k, h)
        else:
            _sum_over_points(u, columns, coefficients, soap if spreads else none, values, slope, t, k, h)
        if spreads:
            _subtract_explained(atoms[start : start + n], columns, signs, h, variance)
        if projects:
            product(
                n_features, columns, d, flat_directions, 0, 1, n_features, slope, 0, columns, transposed, 0, columns,
                False,
            )  # fmt: skip
            transpose_blocks(n_features, columns, transposed, 0, columns, gradient, 0, width)
        else:
            transpose_blocks(n_features, columns, slope, 0, columns, gradient, 0, width)
        for i in range(n):
            a = atoms[start + i]
            energy[a] += values[i]
            here = gradient[i * width : (i + 1) * width]
            unit = p[i * width : (i + 1) * width]
            along = inner(unit[:n_features], here[:n_features])
            subtract_along(along, unit, 1.0 / length[i], here, 0, n_features)
            power_spectrum_adjoint(
                here, c, i * size_c, blocks, n_channels, summed, l_max, n_max, n_vectors, scale, square, q
            )
            for at in range(0, len(q), 8 * (l_max + 1) ** 2):
                lower_degree(q, at, l_max, source, factor, lowered, 4 * at)
            place_neighbours(first[a], first[a + 1], channel_of, j, n_channels, slot, begin, size)
            used = begin[n_channels]
            radial_functions(slot, used, distance, table, inverse_spacing, (l_max + 1) * n_vectors, True, f, df)
            pair_harmonics(slot, used, vectors, distance, factors, l_max, y, work)
            pair_gradients(slot, begin, size, vectors, distance, lowered, f, df, y, n_channels, l_max, n_vectors, g)


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
def _add_to_centre(x, y, z, apart, one, width, centre_sums):
    """Add a neighbour's dp/dr (3, width) to the derivatives (9, width) by the central atom's position and the strain.

    The neighbour stands at (x, y, z) from the central atom, and does not move with it if it is ``apart``.
    """
    minus = splat(-1.0 if apart else 0.0)
    half_x, half_y, half_z = splat(0.5 * x), splat(0.5 * y), splat(0.5 * z)
    vx, vy, vz = splat(x), splat(y), splat(z)
    for k in range(0, width, 8):
        gx = load(one, k)
        gy = load(one, width + k)
        gz = load(one, 2 * width + k)
        store(centre_sums, k, fma(minus, gx, load(centre_sums, k)))
        store(centre_sums, width + k, fma(minus, gy, load(centre_sums, width + k)))
        store(centre_sums, 2 * width + k, fma(minus, gz, load(centre_sums, 2 * width + k)))
        store(centre_sums, 3 * width + k, fma(vx, gx, load(centre_sums, 3 * width + k)))
        store(centre_sums, 4 * width + k, fma(vy, gy, load(centre_sums, 4 * width + k)))
        store(centre_sums, 5 * width + k, fma(vz, gz, load(centre_sums, 5 * width + k)))
        store(centre_sums, 6 * width + k, fma(half_y, gz, fma(half_z, gy, load(centre_sums, 6 * width + k))))
        store(centre_sums, 7 * width + k, fma(half_x, gz, fma(half_z, gx, load(centre_sums, 7 * width + k))))
        store(centre_sums, 8 * width + k, fma(half_x, gy, fma(half_y, gx, load(centre_sums, 8 * width + k))))


@njit(cache=True, nogil=True)
def jacobians(atoms, pairs, basis, blocks, scale, n_atoms, x, start_of, target, J):
    """Normalised descriptors and their derivatives by atomic positions and strain.

    Fills ``x[i]`` (n_features,) and, from row ``start_of[i]`` of ``J`` on, one row per derivative; ``target`` names
    it: 3 a + axis for the position of atom a, 3 n_atoms + v for component v (Voigt, ASE order) of the strain. With
    r_ij = r_j - r_i, dp/dr_j adds and dp/dr_i takes away dp/dr_ij; strain takes the symmetric part of
    r_ij (x) dp/dr_ij. The derivative of the unit vector is (dp - x (x . dp)) / |p|.
    """
    first, j, vectors, distance, _ = pairs
    _, _, l_max, n_max, n_vectors, n_channels, summed, (source, factor) = basis
    n_features = x.shape[1]
    width = (len(scale) + 7) // 8 * 8
    workspace = _workspace(atoms, first, n_channels, l_max, n_vectors)
    slot, begin, size, f, df, y, _, _ = workspace
    c = aligned_zeros(8 * n_channels * (l_max + 1) ** 2 * n_vectors)
    lowered = aligned_zeros(4 * len(c))
    sums = aligned_zeros(sums_size(n_channels, l_max, n_vectors))
    rho, phi = aligned_zeros(8 * (l_max + 1) * n_vectors + 8), aligned_zeros(8 * (l_max + 1) * n_vectors + 8)
    p = aligned_zeros(width)
    one = aligned_zeros(3 * width)
    centre_sums = aligned_zeros(9 * width)  # by the position of the central atom, and by the strain
    place = np.full(n_atoms, -1)
    touches = np.zeros(n_channels, dtype=np.bool_)
    if summed >= 0:
        touches[summed] = True
    for i in range(len(atoms)):
        a = atoms[i]
        _describe(a, pairs, basis, blocks, scale, True, workspace, c, 0, p)
        inverse_length = 1.0 / _normalise(p[:n_features])
        x[i] = p[:n_features]
        for at in range(0, len(c), 8 * (l_max + 1) ** 2):
            lower_degree(c, at, l_max, source, factor, lowered, 4 * at)
        top = start_of[i]
        place[a] = top
        used = top + 3
        for axis in range(3):
            target[top + axis] = 3 * a + axis
        centre_sums[:] = 0.0
        for s in range(n_channels):
            touches[s] = True
            for k in range(begin[s], begin[s] + size[s]):
                if k & 7 == 0:
                    neighbour_sums(k, lowered, y, n_channels, l_max, n_vectors, sums)
                pair = slot[k]
                rx, ry, rz = vectors[3 * pair], vectors[3 * pair + 1], vectors[3 * pair + 2]
                inverse = 1.0 / distance[pair]
                radial_factors(k, inverse, f, df, l_max, n_vectors, rho, phi)
                pair_jacobian(
                    k & 7, rx * inverse, ry * inverse, rz * inverse, touches, rho, phi, sums, blocks, l_max, n_max,
                    n_vectors, scale, width, one,
                )  # fmt: skip
                for axis in range(3):
                    along = inner(p[:n_features], one[axis * width : axis * width + n_features])
                    subtract_along(along, p, inverse_length, one, axis * width, n_features)
                other = j[pair]
                _add_to_centre(rx, ry, rz, other != a, one, width, centre_sums)
                if other == a:
                    continue  # an image of the central atom moves with it
                if place[other] < 0:
                    place[other] = used
                    for axis in range(3):
                        target[used + axis] = 3 * other + axis
                        J[used + axis] = one[axis * width : axis * width + n_features]
                    used += 3
                else:
                    for axis in range(3):
                        J[place[other] + axis] += one[axis * width : axis * width + n_features]
            touches[s] = s == summed
        for v in range(6):
            target[used + v] = 3 * n_atoms + v
            J[used + v] = centre_sums[(3 + v) * width : (3 + v) * width + n_features]
        for axis in range(3):
            J[top + axis] = centre_sums[axis * width : axis * width + n_features]
        place[a] = -1
        for pair in range(first[a], first[a + 1]):
            place[j[pair]] = -1


@njit(cache=True, nogil=True)
def scatter_pair_gradients(atoms, first, j, vectors, g, gradient, strain):
    """Add dE_i/dr_ij of ``atoms`` to dE/dr (n, 3) and to each environment's dE_i/d(strain) (n, 6 or 9)."""
    for i in atoms:
        for p in range(first[i], first[i + 1]):
            other = j[p]
            for axis in range(3):
                gradient[other, axis] += g[p, axis]
                gradient[i, axis] -= g[p, axis]
            add_strain(strain, i, vectors[p, 0], vectors[p, 1], vectors[p, 2], g[p, 0], g[p, 1], g[p, 2])
