"""Barriers of surface hops found by search on a potential that was fitted without them, against live EMT.

    python benchmarks/barriers.py [--metals Cu] [--groups flat step kink] [--rattled 1] [--seed 5] [--prefactors 3]
                                  [--hops N] [--models FOLDER] [--json FILE]

For each metal and each group of bundled hops the potential is fitted by defaults to the frames of the other groups
(initial, saddle and final frame of a hop, and ``--rattled`` displaced frames between them, labelled by EMT). Each hop
of the group is then searched on the potential by ``gapkit.apps.kinetics.run_barrier``, and beside it by EMT from the
bundled saddle. One line a hop: barrier by EMT, error, stated standard deviation and its parts (meV). Hops whose way
down from the saddle ends in another minimum are counted and left out. Of the first ``--prefactors`` hops of a group
Vineyard's prefactor is compared with that of EMT at EMT's own points. With ``--models`` fitted models are kept in a
folder, and taken from there.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
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
from gapkit.vibrations import hessian, normal_modes


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


def true_points(hop: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """Initial minimum, saddle and final minimum by EMT."""
    ends = relax_many([hop[0], hop[2]], EMT(), RelaxationSettings(fmax=1e-3), strict=True)
    saddle = refine_saddle(hop[1], EMT(), SaddleSettings(dense_limit=0))
    return [ends[0].atoms, saddle.atoms, ends[1].atoms]


def log_prefactor(minimum: ase.Atoms, saddle: ase.Atoms, calculator: Any) -> float:
    """Logarithm of Vineyard's prefactor, but for a constant of units."""
    modes = [normal_modes(hessian(atoms, calculator)) for atoms in (minimum, saddle)]
    first, second = (np.log(m.angular_frequencies[~m.imaginary]).sum() for m in modes)
    return float(first - second)


def compare(gap: gapkit.GAP, hop: Sequence[ase.Atoms], prefactor: bool) -> dict[str, Any]:
    """Barriers of one hop by the potential and by EMT (eV), and, if asked, logarithms of their prefactors."""
    points = true_points(hop)
    energies = [labelled(atoms).get_potential_energy() for atoms in points]
    truth = [energies[1] - energies[0], energies[1] - energies[2]]
    settings = BarrierSettings(statistics="classical", ln_prefactor_std=None if prefactor else 0.0)
    found = run_barrier(gap, hop[0], hop[2], settings)
    assert found.path.saddle is not None
    both = (
        {
            "ln_prefactor": log_prefactor(found.path.images[0], found.path.saddle.atoms, gap.calculator()),
            "ln_prefactor_truth": log_prefactor(points[0], points[1], EMT()),
            "ln_prefactor_std": found.rates.ln_prefactor_std,
        }
        if prefactor
        else {}
    )
    return both | {
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


def prefactor_summary(results: Sequence[dict[str, Any]]) -> str:
    """Errors of the logarithms of prefactors beside their stated standard deviations."""
    some = [r for r in results if "ln_prefactor" in r]
    error = np.array([r["ln_prefactor"] - r["ln_prefactor_truth"] for r in some])
    std = np.array([r["ln_prefactor_std"] for r in some])
    return (
        f"ln of {len(some)} prefactors: rms error {np.sqrt(np.mean(error**2)):.3f}, stated {std.mean():.3f} (median "
        f"{np.median(std):.3f}), rms z {np.sqrt(np.mean((error / std) ** 2)):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metals", nargs="+", default=["Cu"])
    parser.add_argument("--groups", nargs="+", default=["flat", "step", "kink"], help="beginnings of config_type")
    parser.add_argument("--rattled", type=int, default=1, help="displaced frames a hop")
    parser.add_argument("--seed", type=int, default=5, help="of the displaced frames")
    parser.add_argument("--hops", type=int, help="no more hops of a group than these")
    parser.add_argument("--prefactors", type=int, default=3, help="hops of a group whose prefactors are compared")
    parser.add_argument("--models", metavar="FOLDER", help="keep fitted models there")
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
            left_out = [h for h in hops if h[0].info["config_type"].startswith(group)][: options.hops]
            begin = time.process_time()
            made = training_frames(known, options.rattled, rng)
            kept = Path(options.models or ".") / f"{metal}_{group}.gapkit"
            if options.models and kept.exists():
                gap = gapkit.load(kept)
            else:
                gap = gapkit.GAP(random_state=0).fit(made)
                if options.models:
                    gap.save(kept)
            print(f"{metal} without {group}: {len(made)} frames, fit {time.process_time() - begin:.0f} s", flush=True)
            here, failed = [], 0
            for hop in left_out:
                try:
                    prefactor = len(here) < options.prefactors
                    here.append(
                        compare(gap, hop, prefactor) | {"metal": metal, "group": group, "site": hop[0].info["site"]}
                    )
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
        in_domain = [r for r in results if r["excess"] <= 1]
        print(f"in domain: {summary(in_domain)}")
        print(prefactor_summary(results))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
