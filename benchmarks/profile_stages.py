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
from engines.measure import blas_kernels
from numba import njit
from speed import model, silicon

from gapkit.descriptors.base import KernelSum
from gapkit.descriptors.soap import BLOCK
from gapkit.numerics import kernel_functions, soap
from gapkit.numerics.harmonics import NARROW, STRIDE
from gapkit.numerics.soap_frames import scatter_pair_gradients
from gapkit.numerics.threads import blas_threads
from gapkit.structures.neighbours import Structure


@njit(nogil=True)
def pair_bases(first, distance, unit, basis, gradient, f, df, y, work):
    """Radial functions and harmonics of every environment in turn, into the same arrays."""
    radial, inverse_spacing, norm, _, l_max, _, n_pad, _, _ = basis
    for a in range(len(first) - 1):
        count = first[a + 1] - first[a]
        soap.pair_basis(
            first[a], count, distance, unit, radial, inverse_spacing, norm, l_max, n_pad, gradient, f, df, y, work
        )


@njit(nogil=True)
def expansions(first, channel, basis, f, y, c):
    """Coefficients c (atoms, size) of every environment, from the radial functions and harmonics of one."""
    _, _, _, centre, l_max, _, n_pad, n_channels, summed = basis
    for a in range(len(first) - 1):
        soap.expand(
            first[a + 1] - first[a],
            channel[first[a] :],
            n_channels,
            summed,
            0,
            centre,
            f,
            y,
            NARROW,
            l_max,
            n_pad,
            c[a],
        )


@njit(nogil=True)
def power_spectra(basis, blocks, scale, c, p, row):
    """Power spectra p (atoms, f)."""
    _, _, _, _, l_max, n_max, n_pad, _, _ = basis
    for a in range(len(c)):
        soap.power_spectrum(c[a], blocks, l_max, n_max, n_pad, scale, p[a], row)


@njit(nogil=True)
def normalised(p, mean):
    """Unit vectors, less their mean."""
    for a in range(len(p)):
        inverse = 1.0 / np.sqrt(np.sum(p[a] ** 2))
        for k in range(p.shape[1]):
            p[a, k] = p[a, k] * inverse - mean[k]


@njit(nogil=True)
def products(a, b, out, block):
    """out = a b^T, ``block`` rows of ``a`` at a time."""
    for begin in range(0, len(a), block):
        np.dot(a[begin : begin + block], b.T, out[: len(a[begin : begin + block])])


@njit(nogil=True)
def kernel_values(t, dt, weights, parameter, energy, n):
    """The scalar kernel and what is done with it, over blocks of ``len(t)`` of ``n`` environments."""
    for begin in range(0, n, len(t)):
        here = min(len(t), n - begin)
        for i in range(here):
            for k in range(t.shape[1]):
                t[i, k] = 0.9 + 1e-9 * t[i, k]
        kernel_functions.apply(kernel_functions.POWER, parameter, t[:here], t[:here], dt[:here])
        np.dot(t[:here], weights, energy[:here])
        for i in range(here):
            total = 0.0
            for k in range(t.shape[1]):
                dt[i, k] *= weights[k]
                total += dt[i, k]
            energy[i] += total


@njit(nogil=True)
def adjoints(basis, blocks, scale, c, g, q, square):
    """dE/dc of every environment."""
    _, _, _, _, l_max, n_max, n_pad, n_channels, summed = basis
    for a in range(len(c)):
        soap.power_spectrum_adjoint(g[a], c[a], blocks, n_channels, summed, l_max, n_max, n_pad, scale, q, square)


@njit(nogil=True)
def gradients(first, channel, distance, unit, basis, q, f, df, y, out):
    """dE/dr_ij of every environment."""
    _, _, _, _, l_max, _, n_pad, _, _ = basis
    for a in range(len(first) - 1):
        count = first[a + 1] - first[a]
        soap.pair_gradients(first[a], count, channel[first[a] :], distance, unit, q, f, df, y, l_max, n_pad, out)


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
    pairs, (distance, unit, channel, _) = descriptor._floor_arguments(structure)
    basis, blocks, scale = b.floor_arrays, b.blocks, descriptor._kernel_scale
    n, k, m = structure.n_atoms, len(distance) / structure.n_atoms, len(points)
    n_l, pad, features = b.l_max + 1, b.n_pad, b.n_features
    n_lm, longest = n_l * n_l, int(np.diff(pairs.first).max())
    width = features if directions is None else len(directions)
    f, df = np.empty(longest * n_l * pad), np.empty(longest * n_l * pad)
    y = np.empty((longest + 7) // 8 * n_lm * STRIDE)
    work = np.empty(24 + 8 * ((b.l_max + 2) ** 2 + 2 * n_l))
    c, p, g = np.empty((n, b.n_channels * n_lm * pad)), np.empty((n, features)), rng.normal(size=(n, features))
    row, square, q = np.empty(pad), np.empty(2 * pad * pad), rng.normal(size=c.shape[1])
    t, dt, energy = np.empty((BLOCK, m)), np.ones((BLOCK, m)), np.empty(BLOCK)
    u, slope, back = rng.normal(size=(n, width)), np.empty((BLOCK, width)), np.empty((BLOCK, features))
    mean, weights, gradient = np.zeros(features), rng.normal(size=m), np.empty((len(distance), 3))
    derivative, strain = np.zeros((n, 3)), np.zeros((n, 6))
    turned = np.ascontiguousarray(points.T)
    matrix = np.ascontiguousarray(points.T @ points)
    blocks_of = range(0, n, BLOCK)

    def second() -> None:
        for _ in blocks_of:
            products(dt, turned, slope, BLOCK)

    radial, sphere = 13 * n_l * pad * k, 4 * n_lm * k
    found = [
        ("radial functions, harmonics", radial + sphere,
         lambda: pair_bases(pairs.first, distance, unit, basis, False, f, df, y, work)),
        ("expansion", 2 * n_lm * pad * k, lambda: expansions(pairs.first, channel, basis, f, y, c)),
        ("power spectrum", n_lm * b.n_max * (b.n_max + 1), lambda: power_spectra(basis, blocks, scale, c, p, row)),
        ("normalisation", 4 * features, lambda: normalised(p, mean)),
    ]  # fmt: skip
    if directions is not None:
        turned_directions = np.ascontiguousarray(directions.T)
        found.append(("projection", 2 * features * width, lambda: products(p, directions, slope, BLOCK)))
    if zeta <= 2:
        found.append(("matrix product (collapsed)", 2 * width * width, lambda: products(u, matrix, slope, BLOCK)))
    else:
        found += [
            ("first matrix product", 2 * width * m, lambda: products(u, points, t, BLOCK)),
            ("kernel function", (zeta + 6) * m, lambda: kernel_values(t, dt, weights, zeta, energy, n)),
            ("second matrix product", 2 * width * m, second),
        ]
    if directions is not None:
        found.append(("projection back", 2 * features * width, lambda: products(u, turned_directions, back, BLOCK)))
    found += [
        ("adjoint of the power spectrum", 2 * n_lm * b.n_max * pad,
         lambda: adjoints(basis, blocks, scale, c, g, q, square)),
        ("radial functions, harmonics, slopes", radial + 4 * sphere,
         lambda: pair_bases(pairs.first, distance, unit, basis, True, f, df, y, work)),
        ("pair gradients", 8 * (n_lm + n_l) * pad * k,
         lambda: gradients(pairs.first, channel, distance, unit, basis, q, f, df, y, gradient)),
        ("scatter to forces and virials", 24 * k,
         lambda: scatter_pair_gradients(
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
        arrays = np.zeros(n), np.zeros((n, 3)), np.zeros((n, 6))
        block.descriptor.add_prediction(structure, block.channel, predictor, *arrays)

    with blas_threads(1):
        a, out = np.random.default_rng(0).normal(size=(BLOCK, points.shape[1])), np.empty((BLOCK, len(points)))
        product = min(seconds(lambda: [products(a, points, out, BLOCK) for _ in range(8)], 1) for _ in range(20)) / 8
        rate = 2e-9 * BLOCK * points.size / product
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
        + f", zeta {o.zeta}\n{blas_kernels()}; matrix product {rate:.1f} GFLOP/s; load {os.getloadavg()[0]:.1f}\n"
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
