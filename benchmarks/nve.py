"""Energy conservation: silicon at 1,000 K, 1 fs steps, without a thermostat.

    python benchmarks/nve.py MODEL.gapkit [--repeat 4] [--steps 10000]

Prints the drift of the total energy by a straight-line fit, its fluctuation, and the time per atom and step.
"""

from __future__ import annotations

import argparse
import time

from ase.build import bulk
from tqdm import tqdm

import gapkit
from gapkit.sampling.dynamics import run_md


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--repeat", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--temperature", type=float, default=1000.0)
    o = parser.parse_args()
    atoms = bulk("Si", cubic=True).repeat(o.repeat)
    begin = time.perf_counter()
    with tqdm(total=o.steps) as bar:
        # twice the temperature in velocities: half of it goes into potential energy at once
        run = run_md(
            atoms, gapkit.load(o.model).calculator(), 2 * o.temperature, o.steps, random_state=0,
            record_every=20, step_callback=lambda step: bar.update(step - bar.n),
        )  # fmt: skip
    seconds = time.perf_counter() - begin
    print(f"{len(atoms)} atoms, {run.time[-1] / 1e3:.1f} ps, mean temperature {run.temperature[50:].mean():.0f} K")
    print(f"drift {1e3 * run.drift:.5f} meV/atom, fluctuation {1e3 * run.total_energy.std():.5f} meV/atom (rms)")
    print(f"{1e3 * seconds / o.steps / len(atoms):.4f} ms per atom and step")


if __name__ == "__main__":
    main()
