r"""Chain rule from interatomic vectors to atomic positions and strain, for pairs and triplets.

A quantity q(r_ij) of a pair vector r_ij = r_j - r_i has dq/dr_j = q', dq/dr_i = -q', and, with the strain acting as
r -> (1 + epsilon) r, dq/d(epsilon) = the symmetric part of r_ij (x) q' (Voigt xx yy zz yz xz xy).
"""

import numpy as np
from numba import njit

from gapkit.numerics.radial import interpolate_values
from gapkit.numerics.simd import add, load, store
from gapkit.numerics.vectors import add_strain


@njit(cache=True, nogil=True)
def _spread(q, atom_from, atom_to, vector, top, used, J, column):
    """Add the gradient ``q`` (3,) by r_(from -> to) to rows of J: atoms at ``top`` + 3 * place, strain at ``used``."""
    for axis in range(3):
        J[top + 3 * atom_to + axis, column] += q[axis]
        J[top + 3 * atom_from + axis, column] -= q[axis]
        J[used + axis, column] += vector[axis] * q[axis]
    J[used + 3, column] += 0.5 * (vector[1] * q[2] + vector[2] * q[1])
    J[used + 4, column] += 0.5 * (vector[0] * q[2] + vector[2] * q[0])
    J[used + 5, column] += 0.5 * (vector[0] * q[1] + vector[1] * q[0])


@njit(cache=True, nogil=True)
def _targets(target, top, atoms, n_atoms):
    """Name the derivative rows of one environment: three per atom, six for the strain."""
    for place in range(len(atoms)):
        for axis in range(3):
            target[top + 3 * place + axis] = 3 * atoms[place] + axis
    for v in range(6):
        target[top + 3 * len(atoms) + v] = 3 * n_atoms + v


@njit(cache=True, nogil=True)
def pair_columns(index, i, j, vectors, distances, slope, n_atoms, derivatives):
    """Derivatives of r_ij and of a weight with slope dw/dr for the pairs ``index``: (start, target, J, dweight)."""
    n = len(index)
    rows = 12 if derivatives else 0
    start = np.arange(n + 1) * rows
    target = np.empty(n * rows, dtype=np.int64)
    both = np.zeros((n * rows, 2))
    if derivatives:
        atoms = np.empty(2, dtype=np.int64)
        q = np.empty(3)
        for e in range(n):
            p = index[e]
            top = start[e]
            atoms[0] = i[p]
            atoms[1] = j[p]
            _targets(target, top, atoms, n_atoms)
            for axis in range(3):
                q[axis] = vectors[p, axis] / distances[p]
            _spread(q, 0, 1, vectors[p], top, top + 6, both, 0)
            q *= slope[e]
            _spread(q, 0, 1, vectors[p], top, top + 6, both, 1)
    return start, target, both[:, :1].copy(), both[:, 1].copy()


@njit(cache=True, nogil=True)
def triplet_list(centres, first, z, za, zb):
    """Pairs of pair indices (p, p') that share a centre and whose neighbours are of species (za, zb), each once."""
    count = 0
    for fill in range(2):
        if fill == 1:
            one = np.empty(count, dtype=np.int64)
            two = np.empty(count, dtype=np.int64)
        count = 0
        for a in centres:
            for p in range(first[a], first[a + 1]):
                if z[p] != za:
                    continue
                for p2 in range(p + 1 if za == zb else first[a], first[a + 1]):
                    if z[p2] != zb:
                        continue
                    if fill == 1:
                        one[count] = p
                        two[count] = p2
                    count += 1
    return one, two


@njit(cache=True, nogil=True)
def triplet_columns(first, second, i, j, vectors, distances, cut, cut_slope, n_atoms, derivatives):
    """Features, weight and derivatives of triplets (i; j, k): (x, weight, start, target, J, dweight)."""
    n = len(first)
    rows = 15 if derivatives else 0
    x = np.empty((n, 3))
    weight = np.empty(n)
    start = np.arange(n + 1) * rows
    target = np.empty(n * rows, dtype=np.int64)
    both = np.zeros((n * rows, 4))
    atoms = np.empty(3, dtype=np.int64)
    vector = np.empty(3)
    u1 = np.empty(3)
    u2 = np.empty(3)
    for e in range(n):
        p1 = first[e]
        p2 = second[e]
        r1 = distances[p1]
        r2 = distances[p2]
        square = 0.0
        for axis in range(3):
            vector[axis] = vectors[p2, axis] - vectors[p1, axis]
            square += vector[axis] ** 2
        r3 = np.sqrt(square)
        x[e, 0] = r1 + r2
        x[e, 1] = (r1 - r2) ** 2
        x[e, 2] = r3
        weight[e] = cut[p1] * cut[p2]
        if not derivatives:
            continue
        top = start[e]
        used = top + 9
        atoms[0] = i[p1]
        atoms[1] = j[p1]
        atoms[2] = j[p2]
        _targets(target, top, atoms, n_atoms)
        for axis in range(3):
            u1[axis] = vectors[p1, axis] / r1
            u2[axis] = vectors[p2, axis] / r2
        _spread(u1, 0, 1, vectors[p1], top, used, both, 0)
        _spread(u2, 0, 2, vectors[p2], top, used, both, 0)
        _spread(2 * (r1 - r2) * u1, 0, 1, vectors[p1], top, used, both, 1)
        _spread(-2 * (r1 - r2) * u2, 0, 2, vectors[p2], top, used, both, 1)
        _spread(vector / r3, 1, 2, vector, top, used, both, 2)
        _spread(cut_slope[p1] * cut[p2] * u1, 0, 1, vectors[p1], top, used, both, 3)
        _spread(cut_slope[p2] * cut[p1] * u2, 0, 2, vectors[p2], top, used, both, 3)
    return x, weight, start, target, both[:, :3].copy(), both[:, 3].copy()


@njit(cache=True, nogil=True)
def _add_pull(pull, atom_from, atom_to, centre, vector, gradient, strain):
    """Add the gradient ``pull`` (3,) by r_(from -> to), a part of the energy of ``centre``."""
    for axis in range(3):
        gradient[atom_to, axis] += pull[axis]
        gradient[atom_from, axis] -= pull[axis]
    add_strain(strain, centre, vector[0], vector[1], vector[2], pull[0], pull[1], pull[2])


@njit(cache=True, nogil=True)
def add_triplet_prediction(
    first, second, i, j, vectors, distances, cut, cut_slope, g, slope, local, gradient, strain
):  # fmt: skip
    """Add f_cut(r_ij) f_cut(r_ik) g of all triplets to the energies of their centres, and the derivatives.

    ``first``, ``second`` (e,): the pairs (i, j) and (i, k); ``cut``, ``cut_slope`` (p,): f_cut and its slope; ``g``
    (e,) and ``slope`` (e, 3): value and derivatives by the features of :func:`triplet_columns`.
    """
    across, pull = np.empty(3), np.empty(3)
    for e in range(len(first)):
        p1, p2 = first[e], second[e]
        a = i[p1]
        r1, r2 = distances[p1], distances[p2]
        square = 0.0
        for axis in range(3):
            across[axis] = vectors[p2, axis] - vectors[p1, axis]
            square += across[axis] ** 2
        weight = cut[p1] * cut[p2]
        local[a] += weight * g[e]
        twist = 2 * (r1 - r2) * slope[e, 1]
        along = weight * (slope[e, 0] + twist) + cut_slope[p1] * cut[p2] * g[e]
        for axis in range(3):
            pull[axis] = along * vectors[p1, axis] / r1
        _add_pull(pull, a, j[p1], a, vectors[p1], gradient, strain)
        along = weight * (slope[e, 0] - twist) + cut[p1] * cut_slope[p2] * g[e]
        for axis in range(3):
            pull[axis] = along * vectors[p2, axis] / r2
        _add_pull(pull, a, j[p2], a, vectors[p2], gradient, strain)
        along = weight * slope[e, 2] / np.sqrt(square)
        for axis in range(3):
            pull[axis] = along * across[axis]
        _add_pull(pull, j[p1], j[p2], a, across, gradient, strain)


@njit(cache=True, nogil=True)
def add_pair_prediction(
    first, j, vectors, distances, numbers, low, high, r_cut, width, table, slopes, spacing, local, gradient, strain
):  # fmt: skip
    """Add the energy f_cut(r) v(r) of all pairs of species ``low`` and ``high``, half to each atom, and derivatives.

    v and ``spacing`` dv/dr stand in ``table`` and ``slopes`` on the grid k ``spacing``; between them v is the cubic
    Hermite interpolant and its derivative exactly that. f_cut falls from 1 to 0 over the last ``width`` of ``r_cut``
    (``descriptors.base.smooth_cutoff``; it is not in the table, because its third derivative jumps). Every pair stands
    in the list twice, once for each end; of a pair of which one end alone is there, that end's half is added.
    """
    last = len(table) - 2
    inverse = 1.0 / spacing
    for a in range(len(first) - 1):
        z = numbers[a]
        if z != low and z != high:
            continue
        wanted = high if z == low else low
        for p in range(first[a], first[a + 1]):
            b = j[p]
            if numbers[b] != wanted:
                continue
            position = distances[p] * inverse
            k = min(int(position), last)
            s = position - k
            s2 = s * s
            change = table[k + 1] - table[k]
            value = table[k] + change * s2 * (3 - 2 * s) + slopes[k] * s * (1 - s) ** 2 + slopes[k + 1] * s2 * (s - 1)
            slope = 6 * change * s * (1 - s) + slopes[k] * (1 - s) * (1 - 3 * s) + slopes[k + 1] * s * (3 * s - 2)
            slope *= inverse
            fall = min(1.0, (distances[p] - (r_cut - width)) / width)
            if fall > 0.0:
                cut = 1 - fall**3 * (10 - 15 * fall + 6 * fall * fall)
                slope = slope * cut - value * 30 * (fall * (1 - fall)) ** 2 / width
                value *= cut
            local[a] += 0.5 * value
            pull = 0.5 * slope / distances[p]
            x, y, z_axis = vectors[p, 0], vectors[p, 1], vectors[p, 2]
            gradient[b, 0] += pull * x
            gradient[b, 1] += pull * y
            gradient[b, 2] += pull * z_axis
            gradient[a, 0] -= pull * x
            gradient[a, 1] -= pull * y
            gradient[a, 2] -= pull * z_axis
            add_strain(strain, a, x, y, z_axis, pull * x, pull * y, pull * z_axis)


@njit(cache=True, nogil=True)
def pair_kernel_sums(first, j, distances, numbers, low, high, table, inverse_spacing, n_pad, out):
    """Add the tabulated functions of all pairs of species ``low`` and ``high`` to the rows of their first atoms.

    ``table`` is from ``radial.in_octets`` with one l; ``out`` (n_atoms, n_pad).
    """
    f = np.empty(n_pad)
    flat = out.reshape(-1)
    for a in range(len(numbers)):
        z = numbers[a]
        if z != low and z != high:
            continue
        wanted = high if z == low else low
        for p in range(first[a], first[a + 1]):
            if numbers[j[p]] == wanted:
                interpolate_values(table, inverse_spacing, n_pad // 8, distances[p], f, 0)
                for k in range(0, n_pad, 8):
                    store(flat, a * n_pad + k, add(load(flat, a * n_pad + k), load(f, k)))
