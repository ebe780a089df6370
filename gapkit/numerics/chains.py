r"""Chain rule from interatomic vectors to atomic positions and strain, for pairs and triplets.

A quantity q(r_ij) of a pair vector r_ij = r_j - r_i has dq/dr_j = q', dq/dr_i = -q', and, with the strain acting as
r -> (1 + epsilon) r, dq/d(epsilon) = the symmetric part of r_ij (x) q' (Voigt xx yy zz yz xz xy).
"""

import numpy as np
from numba import njit

from gapkit.numerics import kernel_functions


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
def add_pair_prediction(
    index, i, j, vectors, distances, weight, weight_slope, points, factor, weights, function, parameter, centred, local,
    gradient, strain,
):  # fmt: skip
    """Add w(r) g(r) of the pairs ``index``, half to each atom, to local energies, dE/dr and dE_a/d(strain).

    g(r) = sum_m weights_m k(factor r, points_m); ``weight`` and ``weight_slope`` are w and dw/dr of these pairs.
    """
    for e in range(len(index)):
        p = index[e]
        x = factor * distances[p]
        g = 0.0
        dg = 0.0
        for m in range(len(points)):
            y = points[m, 0]
            t = -0.5 * (x - y) ** 2 if centred else x * y
            g += weights[m] * kernel_functions.value(function, parameter, t)
            dt = y - x if centred else y
            dg += weights[m] * kernel_functions.slope(function, parameter, t) * dt
        slope = (weight_slope[e] * g + weight[e] * factor * dg) / distances[p]
        a, b = i[p], j[p]
        local[a] += 0.5 * weight[e] * g
        local[b] += 0.5 * weight[e] * g
        x, y, z = vectors[p]
        pull = (slope * x, slope * y, slope * z)
        for axis in range(3):
            gradient[b, axis] += pull[axis]
            gradient[a, axis] -= pull[axis]
        virial = (x * pull[0], y * pull[1], z * pull[2], y * pull[2], x * pull[2], x * pull[1])
        for v in range(6):
            strain[a, v] += 0.5 * virial[v]
            strain[b, v] += 0.5 * virial[v]
