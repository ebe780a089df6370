"""Barriers of surface hops found by search on a potential that was fitted without them, against live EMT.

    python benchmarks/barriers.py [--metals Cu] [--groups flat step kink] [--rattled 1] [--seed 5] [--json FILE]

For each metal and each group of bundled hops the potential is fitted by defaults to the frames of the other groups
(initial, saddle and final frame of a hop, and ``--rattled`` displaced frames between them, labelled by EMT). Each hop
of the group is then searched on the potential by ``gapkit.apps.kinetics.run_barrier``, and beside it by EMT from the
bundled saddle. One line a hop: barrier by EMT, error, stated standard deviation and its parts (meV). Hops whose way
down from the saddle ends in another minimum are counted and left out.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase.calculators.emt import EMT

import gapkit
from gapkit.apps.kinetics import BarrierSettings, run_barrier
from gapkit.datasets import load_surface_barriers
from gapkit.exceptions import GapkitError, GapkitWarning
from gapkit.sampling.paths import SaddleSettings, refine_saddle
from gapkit.sampling.relaxation import RelaxationSettings, free_atoms, relax_many


def labelled(atoms: ase.Atoms) -> ase.Atoms:
    """A copy with the oracle's energy and forces."""
    made = atoms.copy()
    made.calc = EMT()
    made.get_potential_energy()
    return made


def training_frames(hops: Sequence[Sequence[ase.Atoms]], rattled: int, rng: np.random.Generator) -> list[ase.Atoms]:
    """Frames of these hops, and displaced frames between their images."""
    frames: list[ase.Atoms] = []
    for initial, saddle, final in hops:
        frames += [initial, saddle, final]
        for _ in range(rattled):
            low, high = (initial, saddle) if rng.uniform() < 0.5 else (saddle, final)
            made, free = low.copy(), free_atoms(low)
            step = high.positions - low.positions
            step -= np.round(step @ np.linalg.inv(low.cell.array)) @ low.cell.array
            made.positions[free] += rng.uniform() * step[free] + rng.normal(scale=0.08, size=(len(free), 3))
            frames.append(labelled(made))
    return frames


def true_barriers(hop: Sequence[ase.Atoms]) -> list[float]:
    """Forward and backward barrier (eV) by EMT."""
    ends = relax_many([hop[0], hop[2]], EMT(), RelaxationSettings(fmax=1e-3), strict=True)
    saddle = refine_saddle(hop[1], EMT(), SaddleSettings(dense_limit=0))
    return [saddle.energy - end.atoms.get_potential_energy() for end in ends]


def compare(gap: gapkit.GAP, hop: Sequence[ase.Atoms]) -> dict[str, Any]:
    """Barriers of one hop by the potential and by EMT (eV)."""
    truth = true_barriers(hop)
    found = run_barrier(gap, hop[0], hop[2], BarrierSettings(statistics="classical"))
    return {
        "truth": truth,
        "barrier": [found.forward, found.backward],
        "std": [found.forward_std, found.backward_std],
        "label": found.label_error.tolist(),
        "function": found.function_error.tolist(),
        "motion": found.motion_error.tolist(),
        "excess": float(found.domain_excess.max()),
    }


def summary(results: Sequence[dict[str, Any]]) -> str:
    """Mean absolute error, mean stated standard deviation and root mean square z of some hops."""
    error = np.ravel([r["barrier"] for r in results]) - np.ravel([r["truth"] for r in results])
    std, function = np.ravel([r["std"] for r in results]), np.ravel([r["function"] for r in results])
    z = error / std
    return (
        f"{len(results):>4} hops: MAE {1e3 * np.abs(error).mean():.1f} meV, stated {1e3 * std.mean():.1f} (median "
        f"{1e3 * np.median(std):.1f}), rms z {np.sqrt(np.mean(z**2)):.2f}, 90 % intervals cover "
        f"{100 * np.mean(np.abs(z) < 1.645):.0f} %; function alone {1e3 * function.mean():.2f} meV, rms z "
        f"{np.sqrt(np.mean((error / function) ** 2)):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metals", nargs="+", default=["Cu"])
    parser.add_argument("--groups", nargs="+", default=["flat", "step", "kink"], help="beginnings of config_type")
    parser.add_argument("--rattled", type=int, default=1, help="displaced frames a hop")
    parser.add_argument("--seed", type=int, default=5, help="of the displaced frames")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", GapkitWarning)
    results: list[dict[str, Any]] = []
    for metal in options.metals:
        frames = [a for a in load_surface_barriers(metal) if a.info["config_type"][:4] in ("flat", "step", "kink")]
        hops = [frames[k : k + 3] for k in range(0, len(frames), 3)]
        for group in options.groups:
            rng = np.random.default_rng(options.seed)
            known = [h for h in hops if not h[0].info["config_type"].startswith(group)]
            left_out = [h for h in hops if h[0].info["config_type"].startswith(group)]
            begin = time.process_time()
            made = training_frames(known, options.rattled, rng)
            gap = gapkit.GAP(random_state=0).fit(made)
            print(f"{metal} without {group}: {len(made)} frames, fit {time.process_time() - begin:.0f} s", flush=True)
            here, failed = [], 0
            for hop in left_out:
                try:
                    here.append(compare(gap, hop) | {"metal": metal, "group": group, "site": hop[0].info["site"]})
                except GapkitError as error:
                    failed += 1
                    print(f"  {hop[0].info['site']}: {error}", flush=True)
                    continue
                one = here[-1]
                wrong = 1e3 * (one["barrier"][0] - one["truth"][0])
                print(
                    f"  {one['site']:<16} {one['truth'][0]:.4f} eV, error {wrong:6.2f}, "
                    f"std {1e3 * one['std'][0]:7.2f} (motion {1e3 * one['motion'][0]:.2f}, function "
                    f"{1e3 * one['function'][0]:.2f}) meV, excess {one['excess']:.1f}",
                    flush=True,
                )
            if here:
                print(f"{metal} {group}: {summary(here)}; {failed} without a single hop", flush=True)
            results += here
    if results:
        print(summary(results))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
