"""Replicas: the bias of averages by the time step, and the cost of a step apart from the forces.

    python benchmarks/replicas.py bias [--replicas 100] [--samples 1000]
    python benchmarks/replicas.py cost [--replicas 100] [--atoms 9] [--steps 3000] [--model MODEL.gapkit --frame FILE]

``bias``: 300 coordinates of each replica in quartic wells U = x^4, at kT = 1, m = 1 and friction 1, by BAOAB: how far
the mean squares of position and velocity are from their exact values, by the time step dt (three minutes). The
frequency omega, with omega^2 = <U''>, tells what a step means elsewhere: a C-H bond (3,000 cm^-1) has omega dt = 0.28
at 0.5 fs.
``cost``: microseconds of a step with forces that cost nothing, and, with a model, its share of the whole.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase import units
from scipy.special import gamma

import gapkit
from gapkit.sampling.batches import BatchForces, batch_forces
from gapkit.sampling.replicas import ReplicaSettings, ReplicaState, run_replicas

#: mean square position in the well U = x^4 at kT = 1
EXACT = gamma(0.75) / gamma(0.25)


def quartic(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and forces of U = sum x^4 for positions (R, n, 3)."""
    return (x**4).sum(axis=(1, 2)), -4 * x**3


def mean_squares(dt: float, replicas: int, samples: int, seed: int) -> np.ndarray:
    """Ratios (2, 2) of <x^2> and m <v^2> to their exact values, and their standard errors, at kT = 1, m = 1."""
    atoms = ase.Atoms("H100", positions=np.zeros((100, 3)), masses=np.ones(100))
    stride = max(1, round(1.0 / dt))
    settings = ReplicaSettings(
        temperature=1 / units.kB, timestep=dt / units.fs, friction=units.fs, steps=(samples + 20) * stride,
        n_replicas=replicas, record_every=10**9, checkpoint_every=10**9,
    )  # fmt: skip
    sums = np.zeros((2, replicas))
    taken = 0

    def take(state: ReplicaState) -> None:
        nonlocal taken
        if state.step >= 20 * stride:
            sums[0] += (state.positions**2).mean(axis=(1, 2))
            sums[1] += (state.velocities**2).mean(axis=(1, 2))
            taken += 1

    run_replicas(atoms, quartic, settings, random_state=seed, observers=[(stride, take)])
    means = sums / taken / np.array([[EXACT], [1.0]])
    return np.array([means.mean(axis=1), means.std(axis=1, ddof=1) / np.sqrt(replicas)])


def bias(replicas: int, samples: int) -> None:
    print("| dt | omega dt | <x^2> / exact - 1 (%) | m<v^2> / kT - 1 (%) |\n|---|---|---|---|")
    for dt in (0.05, 0.1, 0.2, 0.3):
        (x, v), (dx, dv) = 100 * mean_squares(dt, replicas, samples, seed=1)
        print(
            f"| {dt:g} | {np.sqrt(12 * EXACT) * dt:.2f} | {x - 100:.2f} +- {dx:.2f} | {v - 100:.2f} +- {dv:.2f} |",
            flush=True,
        )


def seconds_per_step(atoms: ase.Atoms, forces: BatchForces, settings: ReplicaSettings, **options: Any) -> float:
    """Smallest of three times of a run over its steps (s)."""
    best = np.inf
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            files = {name: Path(folder) / file for name, file in options.items()}
            begin = time.perf_counter()
            run_replicas(atoms, forces, settings, random_state=0, **files)
            best = min(best, time.perf_counter() - begin)
    return best / settings.steps


def cost(replicas: int, n: int, steps: int, model: str | None, frame: str | None) -> None:
    atoms = ase.Atoms(f"H{n}", positions=np.zeros((n, 3))) if frame is None else ase.io.read(frame)
    energies, forces = np.zeros(replicas), np.zeros((replicas, len(atoms), 3))
    print(f"{replicas} replicas of {len(atoms)} atoms, forces of no cost; microseconds a step:")
    table = (
        ("velocity Verlet", {"ensemble": "nve"}, {}),
        ("BAOAB", {}, {}),
        ("BAOAB, record every 10 and checkpoint every 1,000 steps", {}, {"checkpoint": "c", "trajectory": "t"}),
    )
    for name, changes, files in table:
        settings = ReplicaSettings(n_replicas=replicas, steps=steps, **changes)
        spent = seconds_per_step(atoms, lambda x: (energies, forces), settings, **files)
        print(f"  {name:56s} {1e6 * spent:7.0f}")
    if model is not None:
        real = batch_forces(atoms, gapkit.load(model).calculator())
        start = np.array([atoms.positions] * replicas)
        real(start)
        begin = time.perf_counter()
        for _ in range(10):
            start = start + 1e-3
            real(start)
        work = (time.perf_counter() - begin) / 10
        print(f"  forces of {model}: {1e6 * work:.0f}; share of the last line: {100 * spent / (spent + work):.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("bias")
    asked.add_argument("--replicas", type=int, default=100)
    asked.add_argument("--samples", type=int, default=1000)
    asked = commands.add_parser("cost")
    asked.add_argument("--replicas", type=int, default=100)
    asked.add_argument("--atoms", type=int, default=9)
    asked.add_argument("--steps", type=int, default=3000)
    asked.add_argument("--model")
    asked.add_argument("--frame")
    o = parser.parse_args()
    if o.command == "bias":
        bias(o.replicas, o.samples)
    else:
        cost(o.replicas, o.atoms, o.steps, o.model, o.frame)


if __name__ == "__main__":
    main()
