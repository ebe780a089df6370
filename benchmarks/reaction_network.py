"""A network of reactions whose barriers all come from one potential, through to a rate, against GFN2-xTB live.

    python benchmarks/reaction_network.py [--rounds 1 2 3 99] [--temperatures 400 600] [--vibration-std 0]
                                          [--samples 400] [--json FILE]

Potentials are fitted by defaults to the bundled frames of malonaldehyde up to a round of their active learning. The
later the round, the nearer are its frames to the stationary points. Minima and saddles of both tautomers are found on
the potential and by GFN2-xTB, from the same guesses, those of the last round. The observable is the net rate from the
highest rotamer of one tautomer to that of the other, at which all routes meet. Printed: test errors along GFN2-xTB's
own paths, every state with its error bar and error, the rate with its error propagated linearly and by draws, degrees
of rate control, the worth of one more label. The rate is compared twice: with the energies of GFN2-xTB and the
vibrations of the potential ("z E", which judges the covariance), and with both of GFN2-xTB ("z", which judges the whole
error). "vib" is the root mean square error of the vibrational free energies over k_B T.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
from ase.units import kB

import gapkit
from gapkit.apps.kinetics import MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.from_frames import FramesMechanism, mechanism_from_frames
from gapkit.apps.kinetics.malonaldehyde import network
from gapkit.apps.kinetics.microkinetics import MicrokineticsResult
from gapkit.apps.kinetics.steady_state import Conditions, steady_state
from gapkit.datasets import load_malonaldehyde
from gapkit.exceptions import GapkitWarning
from gapkit.oracles import oracle

#: activities of the two ends
GIVEN = {"open_hydroxyl": 1.0, "open_hydroxyl'": 0.0}


def energies(found: FramesMechanism) -> np.ndarray:
    """Potential energies (p,) of all states above the first (eV)."""
    E = np.array([a.get_potential_energy() for a in found.frames])
    return E - E[0]


def rate_of(
    model: Any, temperature: float, samples: int, vibration_std: float = 0.0
) -> tuple[FramesMechanism, MicrokineticsResult]:
    """Mechanism and rate by a potential, or by a calculator, at a temperature."""
    minima, saddles = network(load_malonaldehyde("explored"))
    found = mechanism_from_frames(
        model, minima, saddles, list(GIVEN), temperature, {"proton_transfer": 1.0}, vibration_std=vibration_std
    )
    settings = MicrokineticsSettings(temperature=temperature, n_samples=samples if found.covariance is not None else 0)
    return found, run_microkinetics(found.mechanism, GIVEN, found.covariance, settings, random_state=0)


def independent_std(rate: MicrokineticsResult, covariance: np.ndarray | None) -> float:
    """Standard deviation of ln rate where all errors are taken as independent."""
    return float(np.sqrt(rate.slopes**2 @ np.diagonal(np.array(covariance))))


def states(mine: FramesMechanism, theirs: FramesMechanism) -> str:
    """Table of the states of one tautomer above the chelate: energy by GFN2-xTB, error, stated standard deviation."""
    C = np.array(mine.covariance)
    std = np.sqrt(np.maximum(np.diagonal(C) + C[0, 0] - 2 * C[0], 0.0))
    reference, error = energies(theirs), energies(mine) - energies(theirs)
    lines = [f"{'state above the chelate':<28} {'GFN2 (eV)':>10} {'error':>8} {'stated (meV)':>13} {'z':>6}"]
    lines += [
        f"{name:<28} {reference[k]:>10.4f} {1e3 * error[k]:>8.2f} {1e3 * std[k]:>13.2f} {error[k] / std[k]:>6.2f}"
        for k, name in enumerate(mine.mechanism.parameters)
        if k and not name.endswith("'")
    ]
    return "\n".join(lines)


def vibrations(found: FramesMechanism) -> np.ndarray:
    """Free energies (p,) of the states less their potential energies, over k_B T."""
    states = [(s.energy, s.entropy) for s in found.mechanism.species]
    states += [(float(r.energy or 0.0), r.entropy) for r in found.mechanism.reactions]
    E = [a.get_potential_energy() for a in found.frames]
    T = found.temperature
    return np.array([(h - T * s - e) / (kB * T) for (h, s), e in zip(states, E, strict=True)])


def row(
    rounds: int, mine: FramesMechanism, rate: MicrokineticsResult, theirs: FramesMechanism, truth: MicrokineticsResult
) -> dict[str, Any]:
    """Numbers of one comparison."""
    T, function = mine.temperature, np.array(mine.function_covariance)
    swapped = mine.mechanism.energies + energies(theirs) - energies(mine)
    same_vibrations = steady_state(mine.mechanism, Conditions(T, GIVEN), swapped).turnover
    return {
        "rounds": rounds,
        "T (K)": T,
        "ln rate": rate.ln_turnover,
        "GFN2": truth.ln_turnover,
        "std": rate.ln_turnover_std,
        "draws": float(rate.samples.std(ddof=1)),
        "indep.": independent_std(rate, mine.covariance),
        "function": float(np.sqrt(rate.slopes @ function @ rate.slopes)),
        "f indep.": independent_std(rate, function),
        "vib": float(np.sqrt(np.mean((vibrations(mine) - vibrations(theirs)) ** 2))),
        "z E": (rate.ln_turnover - float(np.log(same_vibrations))) / rate.ln_turnover_std,
        "z": (rate.ln_turnover - truth.ln_turnover) / rate.ln_turnover_std,
        "sum X": float(rate.rate_control.sum()),
    }


def report(rows: list[dict[str, Any]], samples: int) -> str:
    """Rates by round and temperature, and the table asked and measured."""
    lines = [" ".join(f"{name:>9}" for name in rows[0])]
    lines += [" ".join(f"{v:>9d}" if isinstance(v, int) else f"{v:>9.4f}" for v in r.values()) for r in rows]
    worst = max(abs(r["sum X"] - 1) for r in rows)
    ratio = max(abs(r["std"] / r["draws"] - 1) for r in rows)
    scores, all_in = (", ".join(format(r[name], ".2f") for r in rows) for name in ("z E", "z"))
    lines += [
        "\n| what | asked | measured |\n|---|---|---|",
        f"| sum of degrees of rate control | 1 to 1e-6 | 1 to {worst:.0e} |",
        f"| error of the rate, linear against {samples} draws | within 10 % | within {100 * ratio:.1f} % |",
        f"| z of ln rate, energies of GFN2-xTB | abs(z) < 3 | {scores} |",
        f"| z of ln rate, energies and vibrations of GFN2-xTB | abs(z) < 3 | {all_in} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", nargs="+", type=int, default=[1, 2, 3, 99])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[400.0, 600.0])
    parser.add_argument("--vibration-std", type=float, default=0.0, help="of vibrational free energies over k_B T")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", GapkitWarning)
    rows = []
    truths = {T: rate_of(oracle("gfn2"), T, 0) for T in options.temperatures}
    for rounds in options.rounds:
        frames = [a for a in load_malonaldehyde("explored") if a.info["round"] <= rounds]
        begin = time.process_time()
        gap = gapkit.GAP(random_state=0).fit(frames)
        print(f"\n{len(frames)} training frames, fit {time.process_time() - begin:.0f} s of processor time")
        print(gap.evaluate(load_malonaldehyde("paths")))
        for k, (T, (theirs, truth)) in enumerate(truths.items()):
            mine, rate = rate_of(gap, T, options.samples, options.vibration_std)
            if k == 0:
                print(states(mine, theirs))
            print(f"\n{rate}", flush=True)
            rows.append(row(rounds, mine, rate, theirs, truth))
    print(f"\n{report(rows, options.samples)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
