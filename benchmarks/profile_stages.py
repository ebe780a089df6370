"""Where the time of energy + forces + virial goes, stage by stage, and how far it is from the floor.

    python benchmarks/profile_stages.py [--atoms 1000] [--sparse 1000] [--zeta 4] [--directions 128]

One core. Each stage of ``gapkit.numerics`` runs by itself over all environments of a silicon crystal; the fused pass is
timed whole. Arithmetic is counted from the sizes, and its floor is the counted number over the rate of the matrix
product that this model needs, measured here in compiled code, where gapkit calls it. (Not called profile.py: a module
of that name would stand in the way of Python's own.)
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from numba import njit
from speed import model, silicon

from gapkit.descriptors.base import KernelSum, Sums
from gapkit.descriptors.soap import BLOCK
from gapkit.numerics import soap, soap_frames
from gapkit.numerics.harmonics import lower_degree
from gapkit.numerics.products import product
from gapkit.numerics.soap_frames import PANEL
from gapkit.numerics.threads import blas_threads
from gapkit.numerics.vectors import inner, weighted_powers
from gapkit.structures.structure import Structure


@njit(nogil=True)
def neighbour_functions(pairs, basis, slopes, workspace):
    """Slots, radial functions and harmonics of every environment in turn, into the same arrays."""
    first, j, vectors, distance, channel_of = pairs
    (table, inverse_spacing, factors), _, l_max, _, n_vectors, n_channels, _, _ = basis
    slot, begin, size, f, df, y, work, _ = workspace
    for a in range(len(first) - 1):
        soap.place_neighbours(first[a], first[a + 1], channel_of, j, n_channels, slot, begin, size)
        used = begin[n_channels]
        soap.radial_functions(slot, used, distance, table, inverse_spacing, (l_max + 1) * n_vectors, slopes, f, df)
        soap.pair_harmonics(slot, used, vectors, distance, factors, l_max, y, work)


@njit(nogil=True)
def expansions(n, basis, workspace, c):
    """Coefficients c (n, size) of every environment, from the radial functions and harmonics of one."""
    _, centre, l_max, _, n_vectors, n_channels, summed, _ = basis
    _, begin, _, f, _, y, _, _ = workspace
    flat = c.reshape(-1)
    for a in range(n):
        soap.expand(begin, n_channels, summed, 0, centre, f, y, l_max, n_vectors, flat, a * c.shape[1])


@njit(nogil=True)
def power_spectra(basis, blocks, scale, workspace, c, p):
    """Power spectra p (atoms, f + 8)."""
    _, _, l_max, n_max, n_vectors, _, _, _ = basis
    square = workspace[-1]
    for a in range(len(c)):
        soap.power_spectrum(c[a], 0, blocks, l_max, n_max, n_vectors, scale, square, p[a])


@njit(nogil=True)
def normalised(p):
    """Unit vectors."""
    for a in range(len(p)):
        inverse = 1.0 / np.sqrt(inner(p[a], p[a]))
        for k in range(p.shape[1]):
            p[a, k] = p[a, k] * inverse


@njit(nogil=True)
def products(n, rows, depth, a, row, step, b, c, block):
    """A (rows, depth) B for ``n`` columns, ``block`` at a time; A is given by its strides ``row`` and ``step``."""
    for _ in range(0, n, block):
        product(rows, block, depth, a, 0, row, step, b, 0, block, c, 0, block, False)


@njit(nogil=True)
def kernel_values(n, power, weights, shift, t, values, slopes, block):
    """The scalar kernel and what is done with it, for ``n`` environments, ``block`` at a time."""
    for _ in range(0, n, block):
        for begin in range(0, len(weights), PANEL):
            rows = min(PANEL, len(weights) - begin)
            t[: rows * block] = 0.9
            weighted_powers(power, rows, block, shift, values, weights, begin, t, values, slopes)


@njit(nogil=True)
def adjoints(basis, blocks, scale, workspace, c, g, q, lowered):
    """dE/dc of every environment, lowered by a degree."""
    _, _, l_max, n_max, n_vectors, n_channels, summed, (source, factor) = basis
    square = workspace[-1]
    for a in range(len(c)):
        soap.power_spectrum_adjoint(
            g[a], c[a], 0, blocks, n_channels, summed, l_max, n_max, n_vectors, scale, square, q
        )
        for at in range(0, len(q), 8 * (l_max + 1) ** 2):
            lower_degree(q, at, l_max, source, factor, lowered, 4 * at)


@njit(nogil=True)
def gradients(n, pairs, basis, lowered, workspace, out):
    """dE/dr_ij of one environment, as often as there are environments."""
    _, _, vectors, distance, _ = pairs
    _, _, l_max, _, n_vectors, n_channels, _, _ = basis
    slot, begin, size, f, df, y, _, _ = workspace
    for _ in range(n):
        soap.pair_gradients(slot, begin, size, vectors, distance, lowered, f, df, y, n_channels, l_max, n_vectors, out)


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median processor time of a call, compiled before."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def stages(
    structure: Structure, descriptor, points: np.ndarray, directions: np.ndarray | None, zeta: int
) -> list[tuple[str, float, Callable[[], object]]]:
    """Name, counted operations per atom, and a call over all atoms, for each stage but the pair list."""
    rng = np.random.default_rng(0)
    b = descriptor.basis_
    pairs, arguments = structure.pairs(descriptor.r_cut), descriptor._floor_pairs(structure)
    basis, blocks, scale = b.floor_arrays, b.blocks, b.padded_scale
    n, k, m = structure.n_atoms, len(pairs.j) / structure.n_atoms, len(points)
    n_l, pad, features = b.l_max + 1, b.n_pad, b.n_features
    n_lm = n_l * n_l
    width = features if directions is None else len(directions)
    workspace = soap_frames._workspace(np.arange(n), arguments[0], b.n_channels, b.l_max, pad // 8)
    c, p = np.empty((n, b.n_channels * n_lm * pad)), np.zeros((n, len(scale)))
    g, q, lowered = rng.normal(size=p.shape), rng.normal(size=c.shape[1]), rng.normal(size=4 * c.shape[1])
    t, values, slopes = np.zeros(max(m, width) * BLOCK), np.zeros(BLOCK), np.zeros(BLOCK)
    u, out = rng.normal(size=max(m, features) * BLOCK), np.empty(max(m, features) * BLOCK)
    weights, gradient = rng.normal(size=m), np.empty((len(pairs.j), 3))
    derivative, strain = np.zeros((n, 3)), np.zeros((n, 6))
    flat, matrix = points.reshape(-1), np.ascontiguousarray(points.T @ points).reshape(-1)
    radial, sphere = 8 * n_l * pad * k, 4 * n_lm * k
    found = [
        ("radial functions, harmonics", radial + sphere,
         lambda: neighbour_functions(arguments, basis, False, workspace)),
        ("expansion", 2 * n_lm * pad * k, lambda: expansions(n, basis, workspace, c)),
        ("power spectrum", n_lm * b.n_max * (b.n_max + 1),
         lambda: power_spectra(basis, blocks, scale, workspace, c, p)),
        ("normalisation", 4 * features, lambda: normalised(p)),
    ]  # fmt: skip
    if directions is not None:
        onto = directions.reshape(-1)
        found.append(("projection", 2 * features * width,
                      lambda: products(n, width, features, onto, features, 1, u, out, BLOCK)))  # fmt: skip
    if zeta <= 2:
        found.append(("matrix product (collapsed)", 2 * width * width,
                      lambda: products(n, width, width, matrix, width, 1, u, out, BLOCK)))  # fmt: skip
    else:
        found += [
            ("first matrix product", 2 * width * m,
             lambda: products(n, m, width, flat, width, 1, u, out, BLOCK)),
            ("kernel function", (zeta + 6) * m,
             lambda: kernel_values(n, zeta, weights, weights, t, values, slopes, BLOCK)),
            ("second matrix product", 2 * width * m,
             lambda: products(n, width, m, flat, 1, width, u, out, BLOCK)),
        ]  # fmt: skip
    if directions is not None:
        found.append(("projection back", 2 * features * width,
                      lambda: products(n, features, width, onto, 1, features, u, out, BLOCK)))  # fmt: skip
    found += [
        ("adjoint of the power spectrum", 2 * n_lm * (b.n_max + 5) * pad,
         lambda: adjoints(basis, blocks, scale, workspace, c, g, q, lowered)),
        ("radial functions, harmonics, slopes", 2 * radial + sphere,
         lambda: neighbour_functions(arguments, basis, True, workspace)),
        ("pair gradients", 2 * (4 * n_lm + n_l) * pad * k,
         lambda: gradients(n, arguments, basis, lowered, workspace, gradient)),
        ("scatter to forces and virials", 24 * k,
         lambda: soap_frames.scatter_pair_gradients(
             np.arange(n), pairs.first, pairs.j, pairs.vectors, gradient, derivative, strain)),
    ]  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, default=1000)
    parser.add_argument("--sparse", type=int, default=1000)
    parser.add_argument("--n-max", type=int, default=8)
    parser.add_argument("--l-max", type=int, default=6)
    parser.add_argument("--r-cut", type=float, default=5.0)
    parser.add_argument("--zeta", type=int, default=4)
    parser.add_argument("--directions", type=int, default=0, help="project descriptors on so many directions")
    parser.add_argument("--repeats", type=int, default=7)
    o = parser.parse_args()
    basis, alpha = model(o.sparse, o.n_max, o.l_max, o.r_cut, o.zeta)
    block = basis.blocks[0]
    points, directions = block.points, None
    if o.directions:
        directions = np.ascontiguousarray(np.linalg.svd(points, full_matrices=False)[2][: o.directions])
        points = np.ascontiguousarray(points @ directions.T)
    predictor = block.descriptor.predictor([KernelSum(block.kernel, points, alpha, directions)])
    atoms = silicon(o.atoms)
    structure, n = Structure(atoms, o.r_cut), len(atoms)

    def fused() -> None:
        sums = Sums.zeros(n)
        block.descriptor.add_prediction(structure, block.channel, predictor, sums)

    with blas_threads(1):
        m, width = points.shape
        u, out, flat = np.zeros(width * BLOCK), np.empty(m * BLOCK), points.reshape(-1)
        once = min(seconds(lambda: products(8 * BLOCK, m, width, flat, width, 1, u, out, BLOCK), 1) for _ in range(20))
        rate = 2e-9 * 8 * BLOCK * points.size / once
        pair_list = 1e6 / n * seconds(lambda: Structure(atoms, o.r_cut), o.repeats)
        whole = 1e6 / n * seconds(fused, o.repeats)
        named = [
            (name, operations, 1e6 / n * seconds(call, o.repeats))
            for name, operations, call in stages(structure, block.descriptor, points, directions, o.zeta)
        ]
    print(
        f"{n} atoms, {len(structure.pairs(o.r_cut).distances) / n:.1f} neighbours, {o.sparse} sparse points, "
        f"{block.descriptor.basis_.n_features} features"
        + (f" on {o.directions} directions" if o.directions else "")
        + f", zeta {o.zeta}\nmatrix product {rate:.1f} GFLOP/s; load {os.getloadavg()[0]:.1f}\n"
    )
    print(f"{'stage':<38} {'us/atom':>9} {'kflop/atom':>11} {'GFLOP/s':>9} {'floor us':>9}")
    print(f"{'pair list':<38} {pair_list:>9.2f}")
    for name, operations, t in named:
        line = f"{name:<38} {t:>9.2f} {1e-3 * operations:>11.1f} {1e-3 * operations / t:>9.1f}"
        print(f"{line} {1e-3 * operations / rate:>9.2f}")
    operations = sum(x[1] for x in named)
    floor = 1e-3 * operations / rate
    total = pair_list + whole
    print(f"{'sum of the stages':<38} {pair_list + sum(x[2] for x in named):>9.2f}")
    print(f"{'fused pass with pair list':<38} {total:>9.2f} {1e-3 * operations:>11.1f} {'':>9} {floor:>9.2f}")
    print(
        f"distance to the floor: {total / (pair_list + floor):.2f} with the pair list as measured, "
        f"{whole / floor:.2f} for the pass alone"
    )


if __name__ == "__main__":
    main()
