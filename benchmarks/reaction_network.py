"""A network of reactions whose barriers all come from one potential, through to a rate, against GFN2-xTB live.

    python benchmarks/reaction_network.py [--rounds 1 2 3 99] [--temperatures 400 600] [--samples 400] [--json FILE]

Potentials are fitted by defaults to the bundled frames of malonaldehyde up to a round of their active learning. The
later the round, the nearer are its frames to the stationary points. Minima and saddles of both tautomers are found on
the potential and, from the same frames, by GFN2-xTB. The observable is the net rate from the highest rotamer of one
tautomer to that of the other, at which all routes meet. Printed: test errors along GFN2-xTB's own paths, every state
with its error bar and error, the rate by both with the error propagated linearly and by draws, degrees of rate control,
the worth of one more label, and a table asked and measured.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np

import gapkit
from gapkit.apps.kinetics import MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.from_frames import FramesMechanism, mechanism_from_frames
from gapkit.apps.kinetics.malonaldehyde import network
from gapkit.datasets import load_malonaldehyde
from gapkit.exceptions import GapkitWarning
from gapkit.oracles import oracle

SOURCE, SINK = "open_hydroxyl", "open_hydroxyl'"


def energies(found: FramesMechanism) -> np.ndarray:
    """Potential energies (p,) of all states above the first (eV)."""
    E = np.array([a.get_potential_energy() for a in found.frames])
    return E - E[0]


def compare(gap: gapkit.GAP, frames: list, temperature: float, samples: int) -> dict[str, Any]:
    """Rate by the potential and by GFN2-xTB at a temperature."""
    minima, saddles = network(frames)
    observed = {"proton_transfer": 1.0}
    mine, theirs = (
        mechanism_from_frames(m, minima, saddles, [SOURCE, SINK], temperature, observed) for m in (gap, oracle("gfn2"))
    )
    settings = MicrokineticsSettings(temperature=temperature, n_samples=samples)
    given = {SOURCE: 1.0, SINK: 0.0}
    rate = run_microkinetics(mine.mechanism, given, mine.covariance, settings, random_state=0)
    truth = run_microkinetics(theirs.mechanism, given, None, MicrokineticsSettings(temperature=temperature))
    return {"mine": mine, "theirs": theirs, "rate": rate, "truth": truth}


def independent_std(rate: Any, found: FramesMechanism) -> float:
    """Standard deviation of ln rate where all errors are taken as independent."""
    assert found.covariance is not None
    return float(np.sqrt(rate.slopes**2 @ np.diagonal(found.covariance)))


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


def row(found: dict[str, Any], rounds: int, temperature: float) -> dict[str, Any]:
    """Numbers of one comparison."""
    rate, truth = found["rate"], found["truth"]
    return {
        "rounds": rounds,
        "temperature": temperature,
        "ln_rate": rate.ln_turnover,
        "ln_rate_reference": truth.ln_turnover,
        "std": rate.ln_turnover_std,
        "std_sampled": float(rate.samples.std(ddof=1)),
        "std_independent": independent_std(rate, found["mine"]),
        "z": (rate.ln_turnover - truth.ln_turnover) / rate.ln_turnover_std,
        "rate_control_sum": float(rate.rate_control.sum()),
        "in_domain": found["mine"].in_domain,
    }


def report(rows: list[dict[str, Any]], samples: int) -> str:
    """Rates by round and temperature, and the table asked and measured."""
    lines = [
        f"{'rounds':>6} {'T (K)':>6} {'ln rate':>9} {'GFN2':>9} {'std':>7} {'draws':>7} {'if indep.':>9} {'z':>6} "
        f"{'sum X - 1':>10}"
    ]
    lines += [
        f"{r['rounds']:>6} {r['temperature']:>6.0f} {r['ln_rate']:>9.4f} {r['ln_rate_reference']:>9.4f} "
        f"{r['std']:>7.4f} {r['std_sampled']:>7.4f} {r['std_independent']:>9.4f} {r['z']:>6.2f} {r['rate_control_sum'] - 1:>10.1e}"
        for r in rows
    ]
    worst = max(abs(r["rate_control_sum"] - 1) for r in rows)
    ratio = max(abs(r["std"] / r["std_sampled"] - 1) for r in rows)
    scores = ", ".join(format(r["z"], ".2f") for r in rows)
    lines += [
        "\n| what | asked | measured |\n|---|---|---|",
        f"| sum of degrees of rate control | 1 to 1e-6 | 1 to {worst:.0e} |",
        f"| error of the rate, linear against {samples} draws | within 10 % | within {100 * ratio:.1f} % |",
        f"| z of ln rate against GFN2-xTB | abs(z) < 3 | {scores} |",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", nargs="+", type=int, default=[1, 2, 3, 99])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[400.0, 600.0])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", GapkitWarning)
    rows = []
    for rounds in options.rounds:
        frames = [a for a in load_malonaldehyde("explored") if a.info["round"] <= rounds]
        begin = time.process_time()
        gap = gapkit.GAP(random_state=0).fit(frames)
        print(f"\n{len(frames)} training frames, fit {time.process_time() - begin:.0f} s of processor time")
        print(gap.evaluate(load_malonaldehyde("paths")))
        for k, T in enumerate(options.temperatures):
            found = compare(gap, frames, T, options.samples)
            if k == 0:
                print(states(found["mine"], found["theirs"]))
            print(f"\n{T:g} K\n{found['rate']}", flush=True)
            rows.append(row(found, rounds, T))
    print(f"\n{report(rows, options.samples)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
