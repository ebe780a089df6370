"""How far a fit moves when nothing but last digits does: noise of 1e-12, frames shuffled, threads, matrix kernels.

    python benchmarks/last_digits.py [--train TRAIN.xyz [MORE.xyz] --test TEST.xyz] [--frames 300] [--every 1]
        [--variants given shuffled noise:1 noise:2 threads:2 coretype:ZEN bootstrap:1]

Fits bundled silicon, or the frames given, once for each variant, in a process of its own (threads and OpenBLAS's choice
of matrix kernels are settings of a process), and prints how energies and forces of the test frames differ from the
first. ``noise:K`` is relative noise in positions and labels, K its seed. ``bootstrap:K`` leaves out one trajectory, or
one fifth of the frames where none is named: what data alone move. ``--frames N`` takes N training frames at random
(isolated atoms stay), ``--every N`` each N-th.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings

import numpy as np
from ase import Atoms

#: threads of a variant that names none
ONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def sets(options: argparse.Namespace) -> tuple[list[Atoms], list[Atoms]]:
    """Training and test frames."""
    from gapkit.datasets import load_silicon
    from gapkit.structures.files import read_frames

    if not options.train:
        return load_silicon("train")[:: options.every], load_silicon("test")
    train, test = read_frames(*options.train), read_frames(*options.test)
    bonded = [a for a in train if len(a) > 1 or a.pbc.any()]
    if options.frames:
        pick = np.random.default_rng(0).permutation(len(bonded))[: options.frames]
        bonded = [bonded[k] for k in pick]
    return bonded[:: options.every] + [a for a in train if len(a) == 1 and not a.pbc.any()], test


def changed(train: list[Atoms], variant: str) -> list[Atoms]:
    """The training frames of a variant."""
    import gapkit
    from gapkit.model_selection.last_digits import noisy_copies

    name, _, number = variant.partition(":")
    if name == "shuffled":
        return [train[k] for k in np.random.default_rng(0).permutation(len(train))]
    if name == "noise":
        return noisy_copies(train, gapkit.GAP(), np.random.default_rng(int(number)))
    if name == "bootstrap":
        rng = np.random.default_rng(int(number))
        names = sorted({str(a.info["trajectory"]) for a in train if "trajectory" in a.info})
        if names:
            gone = rng.choice(names)
            return [a for a in train if str(a.info.get("trajectory")) != gone]
        keep = rng.random(len(train)) > 0.2
        return [a for a, kept in zip(train, keep, strict=True) if kept or len(a) == 1]
    return train


def one(options: argparse.Namespace, variant: str) -> None:
    """Fit one variant and print predictions as JSON: the child process."""
    import gapkit

    warnings.simplefilter("ignore")
    train, test = sets(options)
    frames = changed(train, variant)
    begin = time.process_time()
    gap = gapkit.GAP(random_state=0).fit(frames)
    spent = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = gap.predict(test)
    labels = [a.get_potential_energy() for a in test]
    forces = [(f - a.get_forces()).ravel() for f, a in zip(found.forces, test, strict=True)]
    print(json.dumps({
        "energy": found.energy.tolist(), "forces": [f.ravel().tolist() for f in found.forces], "seconds": spent,
        "GB": peak, "E": float(np.mean(np.abs(found.energy - labels) / [len(a) for a in test])),
        "F": float(np.mean(np.abs(np.concatenate(forces)))), "sizes": [len(a) for a in test],
    }))  # fmt: skip


def run(variant: str) -> dict:
    """The result of a variant's process."""
    name, _, value = variant.partition(":")
    environment = {**os.environ, **ONE}
    if name == "threads":
        environment |= dict.fromkeys(ONE, value)
    if name == "coretype":
        environment["OPENBLAS_CORETYPE"] = value
    command = [sys.executable, *sys.argv, "--one", variant]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+")
    parser.add_argument("--test", nargs="+")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=["given", "shuffled", "noise:1", "noise:2"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options, options.one)
        return
    first: dict | None = None
    print("variant        E MAE    F MAE    largest change of an energy     of a force   seconds     GB")
    for variant in options.variants:
        found = run(variant)
        first = first or found
        energy = 1e3 * np.max(np.abs(np.subtract(found["energy"], first["energy"])) / found["sizes"])
        force = max(np.abs(np.subtract(a, b)).max() for a, b in zip(found["forces"], first["forces"], strict=True))
        print(
            f"{variant:<12} {1e3 * found['E']:7.3f} {found['F']:8.4f} {energy:22.2g} meV/atom {force:10.2g} eV/A "
            f"{found['seconds']:8.0f} {found['GB']:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
