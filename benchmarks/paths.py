"""A band in batches against ASE's band image by image: a vacancy of silicon hops, by a gapkit potential.

    python benchmarks/paths.py [--sparse 500] [--cells 2] [--images 7] [--fmax 0.03] [--repeats 5]

Prints the time of one evaluation of all images (a batch, the calculator image by image, and ASE's NEB), and the
evaluations, processor time and barrier of whole searches from the same relaxed ends: by ``find_path`` without its
refinement of the saddle, and by ASE's NEB (improved tangents, climbing image, started by IDPP) with FIRE and BFGS. All
ratios are from one run; run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.mep import NEB
from ase.optimize import BFGS, FIRE

import gapkit
from gapkit.datasets import load_silicon
from gapkit.sampling.batches import batch_forces
from gapkit.sampling.paths import PathSettings, find_path
from gapkit.sampling.relaxation import RelaxationSettings, relax_many


def vacancy_hop(cells: int) -> tuple[Atoms, Atoms]:
    """A vacancy of silicon before and after a neighbour has moved into it."""
    cell = bulk("Si", a=5.47, cubic=True) * (cells, cells, cells)
    neighbour = int(np.argsort(cell.get_distances(0, range(len(cell)), mic=True))[1])
    initial, final = cell.copy(), cell.copy()
    final.positions[neighbour] += cell.get_distance(neighbour, 0, mic=True, vector=True)
    del initial[0], final[0]
    return initial, final


def seconds(work: Callable[[int], object], repeats: int) -> float:
    """Median processor time of ``work``, which is told the number of the repeat."""
    found = []
    for k in range(repeats):
        begin = time.process_time()
        work(k)
        found.append(time.process_time() - begin)
    return float(np.median(found))


def one_evaluation(gap: gapkit.GAP, images: list[Atoms], repeats: int) -> None:
    """Time of the energies and forces of all images between the ends."""
    inner = images[1:-1]
    rng = np.random.default_rng(0)
    # positions that no calculator has seen, as in a step of a band
    noise = 1e-3 * rng.normal(size=(repeats + 1, len(inner), len(inner[0]), 3))
    start = np.array([image.positions for image in inner])
    evaluate = batch_forces(images[0], gap.calculator())
    evaluate(start)
    batch = seconds(lambda k: evaluate(start + noise[k]), repeats)
    single = gap.calculator()

    def one_by_one(k: int) -> None:
        for image, x in zip(inner, start + noise[k], strict=True):
            copy = Atoms(image.numbers, x, cell=image.cell, pbc=image.pbc, calculator=single)
            copy.get_forces()

    copies = [image.copy() for image in images]
    for copy in copies:
        copy.calc = gap.calculator()
    band = NEB(copies, climb=True, method="improvedtangent")
    band.get_forces()

    def by_ase(k: int) -> None:
        band.set_positions((start + noise[k]).reshape(-1, 3))
        band.get_forces()

    print(f"{len(inner)} images of {len(inner[0])} atoms, one evaluation: {1e3 * batch:.1f} ms in a batch")
    for name, work in (("one calculator, image by image", one_by_one), ("ASE's NEB", by_ase)):
        other = seconds(work, repeats)
        print(f"  {name}: {1e3 * other:.1f} ms, ratio {other / batch:.2f}")


def searches(gap: gapkit.GAP, ends: list[Atoms], images: int, fmax: float) -> list[Atoms]:
    """Whole searches; returns the images of gapkit's."""
    begin = time.process_time()
    settings = PathSettings(images=images, fmax=fmax, relax_ends=False, refine=False)
    path = find_path(ends[0], ends[1], gap.calculator(), settings)
    whole, count = time.process_time() - begin, path.evaluations - 2
    state = "converged" if path.band_converged else "not converged"
    print(f"find_path: {count} evaluations, {whole:.2f} s, barrier {path.barrier_forward:.4f} eV, {state}")
    for optimiser in (FIRE, BFGS):
        begin = time.process_time()
        copies = [path.images[0].copy(), *(path.images[0].copy() for _ in range(images)), path.images[-1].copy()]
        for copy in copies:
            copy.calc = gap.calculator()
        band = NEB(copies, k=1.0, climb=True, method="improvedtangent")
        band.interpolate(method="idpp")
        with optimiser(band, logfile=None) as run:
            done = run.run(fmax=fmax, steps=500)
            other, steps = time.process_time() - begin, run.nsteps + 1
        energies = [copy.get_potential_energy() for copy in copies]
        state = "converged" if done else "not converged"
        print(
            f"ASE's NEB, {optimiser.__name__}: {steps * images} evaluations, {other:.2f} s, "
            f"barrier {max(energies) - energies[0]:.4f} eV, {state}; ratios: evaluations {steps * images / count:.2f}, "
            f"time {other / whole:.2f}"
        )
    return path.images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sparse", type=int, default=500, help="sparse points of the potential")
    parser.add_argument("--cells", type=int, default=2, help="cubic cells along each direction")
    parser.add_argument("--images", type=int, default=7, help="images between the ends")
    parser.add_argument("--fmax", type=float, default=0.03, help="largest force at the end, eV/A")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of timed evaluations")
    options = parser.parse_args()
    gap = gapkit.GAP(sparse=options.sparse, folds=3, random_state=0).fit(load_silicon("train"))
    relaxed = relax_many(vacancy_hop(options.cells), gap.calculator(), RelaxationSettings(fmax=1e-3), strict=True)
    images = searches(gap, [frame.atoms for frame in relaxed], options.images, options.fmax)
    one_evaluation(gap, images, options.repeats)


if __name__ == "__main__":
    main()
