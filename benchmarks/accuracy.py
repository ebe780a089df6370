"""Errors, time and memory of a default fit.

    python benchmarks/accuracy.py TRAIN.xyz [MORE.xyz] --test TEST.xyz [--copies 4] [--frames 100] [--no-exact]
        [--no-uncertainty]

Prints test errors with 95 % bootstrap intervals over frames, calibration, wall and processor time of the fit, and peak
memory. ``--copies n`` gives every training frame n times, to show that memory does not grow with their number.
``--frames n`` takes n training frames at random (seed 0; isolated atoms stay); ``--no-exact`` is ``GAP(exact=False)``.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

import gapkit
from gapkit.structures.files import read_frames


def interval(values: list[np.ndarray], rng: np.random.Generator) -> str:
    """95 % bootstrap interval of the mean absolute value, frames resampled."""
    n = len(values)
    means = []
    for _ in range(1000):
        pick = rng.integers(n, size=n)
        means.append(np.mean(np.abs(np.concatenate([np.atleast_1d(values[k]) for k in pick]))))
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{low:.4g} to {high:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--no-exact", action="store_true")
    parser.add_argument("--no-uncertainty", action="store_true")
    parser.add_argument("--save")
    o = parser.parse_args()
    train, test = read_frames(*o.train) * o.copies, read_frames(*o.test)
    if o.frames:
        bonded = [a for a in train if len(a) > 1 or a.pbc.any()]
        pick = np.random.default_rng(0).permutation(len(bonded))[: o.frames]
        train = [bonded[k] for k in pick] + [a for a in train if len(a) == 1 and not a.pbc.any()]
    wall, cpu = time.perf_counter(), time.process_time()
    gap = gapkit.GAP(random_state=0, exact=False if o.no_exact else "auto").fit(train, progress=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if o.save:
        gap.save(o.save)
    print(gap.describe())
    print(f"fit of {len(train)} frames: {wall:.0f} s wall, {cpu:.0f} s processor, peak memory {peak:.2f} GB")
    print(gap.evaluate(test, uncertainty=not o.no_uncertainty))
    rng = np.random.default_rng(0)
    p = gap.predict(test)
    energy, forces = [], []
    for n, atoms in enumerate(test):
        energy.append(1e3 * np.atleast_1d(p.energy[n] - atoms.get_potential_energy()) / len(atoms))
        forces.append((p.forces[n] - atoms.get_forces()).ravel())
    print(f"energy MAE, 95 % interval over test frames: {interval(energy, rng)} meV/atom")
    print(f"force MAE, 95 % interval over test frames: {interval(forces, rng)} eV/A")


if __name__ == "__main__":
    main()
