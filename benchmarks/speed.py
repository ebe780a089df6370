"""Cost of energy + forces + virial per atom on one core, silicon, against the number of atoms.

    python benchmarks/speed.py [--sparse 1000] [--sizes 64 1000 8000 32000]

The model has as many sparse points as asked, taken from rattled crystals; its weights are random, which changes no
cost. Times are medians of repeats, pair list included; the BLAS kernel in use is printed, because an old one costs a
third of the speed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import time

import numpy as np
from ase.build import bulk
from threadpoolctl import threadpool_info

from gapkit.descriptors import SOAP
from gapkit.descriptors.base import Sums
from gapkit.kernels import DotProduct
from gapkit.models.basis import SparseBasis
from gapkit.numerics.threads import blas_threads
from gapkit.structures.structure import Structure


def silicon(n_atoms: int, seed: int = 0):
    """Rattled diamond silicon of about n_atoms atoms."""
    repeat = max(1, round((n_atoms / 8) ** (1 / 3)))
    atoms = bulk("Si", cubic=True) * (repeat, repeat, repeat)
    if n_atoms == 1000:
        atoms = bulk("Si", cubic=True) * (5, 5, 5)
    atoms.rattle(0.1, seed=seed)
    return atoms


def model(n_sparse: int, n_max: int, l_max: int, r_cut: float, zeta: int):
    """A SOAP basis with n_sparse points and random weights."""
    soap = SOAP(r_cut=r_cut, n_max=n_max, l_max=l_max, n_jobs=1).for_species([14])
    rows = []
    rng = np.random.default_rng(0)
    while sum(len(r) for r in rows) < n_sparse:
        atoms = bulk("Si", cubic=True) * (2, 2, 2)
        atoms.set_cell(atoms.cell * rng.uniform(0.9, 1.1), scale_atoms=True)
        atoms.rattle(rng.uniform(0.05, 0.4), rng=rng)
        structure = Structure(atoms, r_cut)
        rows.append(soap.environments(structure, (14,), derivatives=False).x)
    x = np.vstack(rows)[:n_sparse]
    return SparseBasis.build([(0, soap, DotProduct(zeta), (14,), x)], 1), rng.normal(size=n_sparse)


def evaluate(basis: SparseBasis, predictors: list, atoms) -> tuple[float, float]:
    """Seconds of the pair list and of the evaluation."""
    begin = time.perf_counter()
    structure = basis.structure(atoms)
    middle = time.perf_counter()
    n = len(atoms)
    sums = Sums.zeros(n)
    for descriptor, channel, predictor in predictors:
        descriptor.add_prediction(structure, channel, predictor, sums)
    return middle - begin, time.perf_counter() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparse", type=int, default=1000)
    parser.add_argument("--n-max", type=int, default=8)
    parser.add_argument("--l-max", type=int, default=6)
    parser.add_argument("--r-cut", type=float, default=5.0)
    parser.add_argument("--zeta", type=int, default=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1000, 8000, 32000])
    parser.add_argument("--repeats", type=int, default=5)
    o = parser.parse_args()
    basis, alpha = model(o.sparse, o.n_max, o.l_max, o.r_cut, o.zeta)
    predictors = basis.predictors(alpha)
    evaluate(basis, predictors, silicon(64))
    kernels = {
        f"{i['internal_api']} {i.get('architecture', '?')}" for i in threadpool_info() if i["user_api"] == "blas"
    }
    features = basis.blocks[0].points.shape[1]
    print(
        f"{o.sparse} sparse points, {features} features, r_cut {o.r_cut}, zeta {o.zeta}; "
        f"BLAS {', '.join(sorted(kernels))}"
    )
    a, b = np.random.default_rng(0).normal(size=(128, features)), basis.blocks[0].points
    with blas_threads(1):
        rate = 0.0
        for _ in range(20):
            begin = time.perf_counter()
            a @ b.T
            rate = max(rate, 2 * len(a) * b.size / (time.perf_counter() - begin))
    floor = 4e6 * b.size / rate
    print(f"matrix products alone: {floor:.1f} us/atom at {rate / 1e9:.0f} GFLOP/s")
    print(f"{'atoms':>7} {'pairs us/atom':>14} {'E+F+V us/atom':>14} {'total ms/atom':>14} {'peak GB':>8}")
    for size in o.sizes:
        atoms = silicon(size)
        times = np.array([evaluate(basis, predictors, atoms) for _ in range(o.repeats)])
        pairs, rest = np.median(times, axis=0) * 1e6 / len(atoms)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{len(atoms):>7} {pairs:>14.1f} {rest:>14.1f} {(pairs + rest) / 1e3:>14.4f} {peak:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
