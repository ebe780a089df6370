"""Rate of a vacancy's hop in aluminium three ways: dynamics of a potential, its barrier, and the oracle of its labels.

    python benchmarks/aluminium_vacancy.py [--temperatures 800 1000] [--time 100] [--sets all cold perfect] [--seed 0]

The oracle is effective-medium theory (EMT of ASE) in its own lattice, 31 atoms, classical: its numbers are not those of
aluminium. Potentials are fitted by defaults to three sets of forty frames that know nothing of the oracle's saddle:
"all" has dynamics with a vacancy at 400, 800 and 1200 K, of the perfect crystal at 400 and 1000 K, and frames rattled
about the straight line of the hop; "cold" has dynamics at 300 K alone; "perfect" dynamics at 400, 800 and 1200 K
without a vacancy. Rates (1/ps) of the vacancy: by dynamics (``count_hops``, Poisson's standard deviation) and by
harmonic transition state theory with the potential's own prefactor (``run_barrier``). Aims: abs(z) < 3 between each
pair, standard deviations of at most half of the rate. ``--time`` is that of dynamics (ps) at each temperature.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.emt import EMT
from vacancy_hops import Hop, dynamics, ends_of, hop, labelled, lattice

import gapkit
from gapkit.apps.ion_transport.hop_counting import count_hops
from gapkit.apps.ion_transport.trajectories import IonTrajectory
from gapkit.apps.kinetics import BarrierSettings, run_barrier
from gapkit.exceptions import GapkitWarning
from gapkit.sampling.recording import read_records
from gapkit.sampling.replica_motion import ReplicaSettings
from gapkit.sampling.replicas import run_replicas

REPLICAS = 8
#: hops of a vacancy in the fcc lattice
NEIGHBOURS = 12


def training_frames(kind: str, perfect: Atoms, seed: int) -> list[Atoms]:
    """Forty labelled frames."""
    rng = np.random.default_rng(seed)
    initial, final = ends_of(perfect)
    runs = {
        "all": [(initial, T, 8) for T in (400.0, 800.0, 1200.0)] + [(perfect, T, 4) for T in (400.0, 1000.0)],
        "cold": [(initial, 300.0, 30), (perfect, 300.0, 10)],
        "perfect": [(perfect, T, n) for T, n in ((400.0, 13), (800.0, 13), (1200.0, 14))],
    }[kind]
    frames = [frame for start, T, n in runs for frame in dynamics(start, T, n, rng)]
    for _ in range(8 if kind == "all" else 0):
        between = initial.copy()
        between.positions += rng.uniform(0.1, 0.9) * (final.positions - initial.positions)
        between.positions += rng.normal(scale=0.07, size=between.positions.shape)
        frames.append(labelled(between))
    return frames


def by_dynamics(calculator: Any, perfect: Atoms, temperature: float, length: float, seed: int) -> dict[str, float]:
    """Rate (1/ps) by counting hops."""
    begin = time.process_time()
    settings = ReplicaSettings(
        temperature=temperature, timestep=4.0, friction=0.002, n_replicas=REPLICAS,
        steps=int(1000 * length / REPLICAS / 4.0) + 250, record_every=5,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run"
        run_replicas(ends_of(perfect)[0], calculator, settings, random_state=seed, trajectory=file)
        trajectory = IonTrajectory.from_records(read_records(file)).after(1000.0)
        counts = count_hops(trajectory, perfect)
        longer = count_hops(trajectory, perfect, dwell=600.0)
    return {
        "rate": counts.rate / 1e12, "std": counts.rate_std / 1e12, "hops": int(counts.hops.sum()),
        "recrossings": int(counts.recrossings.sum()), "hops_dwell_600": int(longer.hops.sum()),
        "seconds": time.process_time() - begin,
    }  # fmt: skip


def oracle_rate(truth: Hop, temperature: float) -> float:
    """Rate (1/ps) of the oracle by transition state theory."""
    return float(NEIGHBOURS * np.exp(truth.ln_nu - truth.barrier / (units.kB * temperature)))


def z_of(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Difference of two logarithms of rates over its standard deviation."""
    return float((first[0] - second[0]) / np.hypot(first[1], second[1]))


def shown(name: str, temperature: float, found: dict[str, float]) -> None:
    print(f"{name:<22}{temperature:>6.0f} K" + "".join(f"  {k} {v:.4g}" for k, v in found.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[800.0, 1000.0])
    parser.add_argument("--time", type=float, default=100.0, help="of dynamics at each temperature (ps)")
    parser.add_argument("--sets", nargs="+", default=["all", "cold", "perfect"], choices=["all", "cold", "perfect"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, help="folder where fitted models are kept")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    parser.add_argument("--no-oracle-dynamics", action="store_true", help="leave out dynamics by the oracle")
    options = parser.parse_args()
    warnings.simplefilter("ignore", GapkitWarning)
    perfect = lattice("Al", 2)
    initial, final = ends_of(perfect)
    truth = hop((initial, final), EMT())
    print(f"oracle: barrier {truth.barrier:.4f} eV, ln nu* {truth.ln_nu:.3f} (THz)", flush=True)
    logs: dict[str, dict[str, tuple[float, float]]] = {}
    for T in options.temperatures:
        logs[f"{T:g}"] = {"oracle TST": (float(np.log(oracle_rate(truth, T))), 0.0)}
        shown("oracle TST", T, {"rate": oracle_rate(truth, T)})
    for kind in options.sets:
        begin = time.process_time()
        file = None if options.models is None else options.models / f"Al_{kind}_{options.seed}.gapkit"
        if file is not None and file.exists():
            gap = gapkit.load(file)
        else:
            gap = gapkit.GAP(random_state=options.seed).fit(training_frames(kind, perfect, options.seed))
            if file is not None:
                gap.save(file)
        print(f"{kind}: potential after {time.process_time() - begin:.0f} s", flush=True)
        settings = BarrierSettings(
            images=3, temperatures=tuple(options.temperatures), statistics="classical", degeneracy=NEIGHBOURS
        )
        try:
            result = run_barrier(gap, initial, final, settings)
        except gapkit.GapkitError as error:
            print(f"{kind}: no barrier: {error}", flush=True)
            continue
        rates = result.rates
        ln_nu = float(rates.ln_rate[0]) + rates.barrier / (units.kB * rates.temperature[0]) - np.log(12e12)
        print(
            f"{kind}: barrier {result.forward:.4f} +- {result.forward_std:.4f} eV (oracle {truth.barrier:.4f}), ln nu* "
            f"{ln_nu:.3f} +- {rates.ln_prefactor_std:.3f} (oracle {truth.ln_nu:.3f}), in domain {result.in_domain}",
            flush=True,
        )
        for k, T in enumerate(options.temperatures):
            logs[f"{T:g}"][f"{kind} TST"] = (float(rates.ln_rate[k] - np.log(1e12)), float(rates.ln_rate_std[k]))
            shown(f"{kind} TST", T, {"rate": rates.median[k] / 1e12, "std_ln": rates.ln_rate_std[k]})
        if kind == "all":
            for T in options.temperatures:
                counted(logs[f"{T:g}"], "all dynamics", gap.calculator(), perfect, T, options)
    for T in () if options.no_oracle_dynamics else options.temperatures:
        counted(logs[f"{T:g}"], "oracle dynamics", EMT(), perfect, T, options)
    for T, found in logs.items():
        names = list(found)
        for k, a in enumerate(names):
            for b in names[k + 1 :]:
                print(f"{T:>6} K  z of {a} against {b}: {z_of(found[a], found[b]):.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(logs, indent=1))


def counted(
    logs: dict[str, tuple[float, float]], name: str, calculator: Any, perfect: Atoms, T: float, options: Any
) -> None:
    """Rate by dynamics, printed and kept."""
    found = by_dynamics(calculator, perfect, T, options.time, options.seed)
    shown(name, T, found)
    if found["hops"]:
        logs[name] = (float(np.log(found["rate"])), float(found["std"] / found["rate"]))


if __name__ == "__main__":
    main()
