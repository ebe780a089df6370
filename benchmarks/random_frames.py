"""Random frames through ``predict``, and tiny fits, each in a process that may end: how often, how long, how wrong?

    python benchmarks/random_frames.py [--frames 100000] [--fits 2000] [--seed 0] [--first 0]

Frames and training sets are those of ``tests/random_frames.py``: cells that are flat, sparse, tilted, left-handed,
partly periodic; 1 to 60 atoms, some on top of each other; training sets of one to six frames with all labels or some,
in eV or far from it, some of them spoiled; labels of EMT, Morse and Lennard-Jones potentials. Frames are asked of a
model of crystals, every fifth of one of clusters. A process may have 2 GB beyond its parent's; a frame 20 s, a fit
120 s.

Exit code 1 where a process ended or hung, anything but a gapkit error of one line was raised, a number was not finite,
an error bar was wider than that of the prior, or more than 1 % of the errors of the tiny fits were beyond ten error
bars (by label kind; a frame's force components count as one, by their root mean square).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.random_frames import ask, isolated, model_to_ask, tiny_fit

MEMORY, FRAME_SECONDS, FIT_SECONDS = 2e9, 20, 120
#: an error of so many error bars is far off, and the share of errors that may be
FAR, SHARE = 10.0, 0.01
QUANTILES = (0.5, 0.68, 0.9, 0.95, 0.99)


class Tally:
    """Verdicts by kind, failures, times, and absolute z by label kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.failures: list[str] = []
        self.z: dict[str, list[float]] = {"energy": [], "forces": []}
        self.far: list[str] = []
        self.far_of: Counter[tuple[str, str]] = Counter()
        self.slowest = (0.0, -1)

    def add(self, number: int, answer: dict, seconds: float) -> None:
        """Count one answer."""
        verdict, kind = answer["verdict"], answer.get("kind", "?")
        self.verdicts[kind, verdict if verdict in ("predicted", "refused") else "failed"] += 1
        self.slowest = max(self.slowest, (seconds, number))
        if verdict not in ("predicted", "refused"):
            self.failures.append(f"{self.name} {number} ({kind}): {verdict}")
        for label, z in self.z.items():
            per_frame = answer.get(label, [])
            if label == "forces" and per_frame:
                per_frame = [float(np.sqrt(np.mean(np.square(per_frame))))]
            z += per_frame
            if per_frame and max(per_frame) > FAR:
                self.far_of[kind, label] += 1
                self.far.append(f"{self.name} {number} ({kind}, n={answer.get('n')}): {label} {max(per_frame):.3g}")

    def report(self) -> None:
        """Print tables."""
        print(f"\n{self.name}: slowest {self.slowest[0]:.1f} s (number {self.slowest[1]})")
        kinds = sorted({kind for kind, _ in self.verdicts})
        print(f"| kind | predicted | refused | failed | energy beyond {FAR:g} | forces beyond {FAR:g} |")
        print("|---|---|---|---|---|---|")
        for kind in kinds:
            counts = [self.verdicts[kind, v] for v in ("predicted", "refused", "failed")]
            print("| " + " | ".join(map(str, [kind, *counts, *(self.far_of[kind, label] for label in self.z)])) + " |")
        print(f"| abs z | n | {' | '.join(f'{q:.0%}' for q in QUANTILES)} | beyond {FAR:g} |")
        print("|---" * (len(QUANTILES) + 3) + "|")
        for label, z in self.z.items():
            if z:
                row = " | ".join(f"{v:.3g}" for v in np.quantile(z, QUANTILES))
                print(f"| {label} | {len(z)} | {row} | {self.beyond(label):.2%} |")

    def beyond(self, label: str) -> float:
        """Share of the errors of a label kind beyond ``FAR`` error bars."""
        return float(np.mean(np.array(self.z[label]) > FAR)) if self.z[label] else 0.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--fits", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first frame and fit")
    parser.add_argument("--far", action="store_true", help="list errors beyond ten error bars")
    options = parser.parse_args(arguments)
    failures: list[str] = []
    clusters = options.frames // 5
    for name, count in (("crystals", options.frames - clusters), ("clusters", clusters)):
        tally, model = Tally(f"frames ({name})"), model_to_ask(name)
        ask(model, options.seed, options.first)  # compiled here, once
        numbers = range(options.first, options.first + count)
        begin = time.monotonic()
        for answer in isolated(lambda k, m=model: ask(m, options.seed, k), numbers, FRAME_SECONDS, MEMORY):
            tally.add(*answer)
        print(f"{name}: {len(numbers)} frames in {time.monotonic() - begin:.0f} s")
        tally.report()
        failures += tally.failures
    fits = Tally("fits")
    with tempfile.TemporaryDirectory() as folder:
        numbers = range(options.first, options.first + options.fits)
        for answer in isolated(lambda k: tiny_fit(options.seed, k, folder), numbers, FIT_SECONDS, MEMORY):
            fits.add(*answer)
    fits.report()
    failures += fits.failures
    failures += [
        f"{fits.beyond(label):.2%} of the errors of {label} in tiny fits are beyond {FAR:g} error bars"
        for label in fits.z
        if len(fits.z[label]) >= 1 / SHARE and fits.beyond(label) > SHARE
    ]
    if options.far:
        print("\n".join(fits.far))
    print("\n" + ("\n".join(failures) or "no failure"))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
