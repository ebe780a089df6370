"""gapkit beside its peers, in one run: same machine, same structures, one process per engine, pinned threads.

    python benchmarks/peers.py                                   # on frames made here; minutes
    python benchmarks/peers.py --train Si_training.xyz --test Si_test.xyz --fit --scaling --json peers.json

Prints energies, forces and virials against QUIP's GAP (quippy) and LAMMPS potentials, descriptor gradients against
dscribe and featomic, a fit against gap_fit (``--fit``: a quarter of an hour and more), variances, threads, small cells,
start-up, and 100,000 atoms (``--scaling``); then the ratios that gapkit promises. Times are medians of repeats; ratios
are of processor time, except between numbers of threads. A peer that is not installed is named as such:
``pip install gapkit[benchmarks]`` brings them. Numbers mean little while other work keeps the cores busy: the load is
printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from engines import launch, quippy_gap, tables

#: the benchmark of the issue: one potential, told to every engine (eV, A)
SETTINGS: dict[str, Any] = {
    "n_max": 8,
    "l_max": 6,
    "r_cut": 5.0,
    "sigma": 0.5,
    "zeta": 4,
    "n_sparse": 1000,
    "signal": 1.0,
    "noise": {"energy": 0.002, "forces": 0.1, "virial": 0.2},
}
MODELS = ("dense", "projected", "zeta2", "default")
LAMMPS = ("SNAP, linear", "SNAP, quadratic", "PACE", "Tersoff", "Stillinger-Weber")
SECTIONS = ("speed", "lammps", "gradients", "variance", "threads", "small", "start-up")
#: kernels that OpenBLAS can be told to use on x86-64; None: its own choice
CORES = (None, "HASWELL", "SKYLAKEX", "ZEN") if platform.machine() in ("x86_64", "AMD64") else (None,)
SCALING = (1000, 8000, 100_000)


def gap_fit(work: Path, prepared: dict[str, Any], everything: bool) -> dict[str, Any]:
    """QUIP's model; one made before in ``work`` from the same frames and settings is used again."""
    frames = (work / "train.xyz").read_bytes() + (work / "sparse.txt").read_bytes()
    key = hashlib.sha256(frames + json.dumps([SETTINGS, everything], sort_keys=True).encode()).hexdigest()
    kept = work / f"gap_fit-{'all' if everything else 'energies'}.kept"
    if kept.exists() and (found := json.loads(kept.read_text()))["key"] == key:
        return found
    print(f"  gap_fit, {'all labels' if everything else 'energies only'} ...", file=sys.stderr, flush=True)
    answer = quippy_gap.train(work, SETTINGS, prepared["e0"], forces=everything, virials=everything)
    if "failed" not in answer:
        kept.write_text(json.dumps({**answer, "key": key}))
    return answer


def load() -> str:
    """What else keeps the cores busy."""
    try:
        return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    except OSError:
        return "unknown"


def processor() -> str:
    """Its name, where the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def measure(o: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything asked for, as one table of tables."""

    def run(engine: str, task: str, **arguments: Any) -> dict[str, Any]:
        return launch.run(work, engine, task, **arguments)

    here = str(work)
    result: dict[str, Any] = {"settings": SETTINGS, "atoms": o.atoms, "processor": processor(), "load before": load()}
    result["versions"] = launch.versions()
    prepared = run("systems", "prepare", train=o.train, test=o.test, out=here, n_sparse=SETTINGS["n_sparse"])
    if "failed" in prepared:
        raise SystemExit(f"peers.py: {prepared['failed']}")
    result["frames"] = prepared
    features = SETTINGS["n_max"] * (SETTINGS["n_max"] + 1) // 2 * (SETTINGS["l_max"] + 1)
    rate = {"features": features, "points": SETTINGS["n_sparse"]}
    result["blas"] = {core or "its choice": run("measure", "product_rate", core=core, **rate) for core in CORES}
    virials = prepared["virials"] > 0

    result["compile"] = run("gapkit_model", "compile_all")
    wanted = [m for m in MODELS if m == "dense" or "speed" in o.only]
    fits = {
        m: run("gapkit_model", "fit", work=here, settings=SETTINGS, model=m, e0=prepared["e0"], virials=virials)
        for m in wanted
    }
    result["fits"] = fits
    models = [m for m in wanted if "failed" not in fits[m]]
    if "dense" not in models:
        raise SystemExit(f"peers.py: gapkit's own fit failed: {fits['dense']['failed']}")
    if o.fit:
        result["gap_fit"] = gap_fit(work, prepared, everything=True)

    if "speed" in o.only:
        speed = {"work": here, "n_atoms": o.atoms, "repeats": o.repeats}
        result["speed"] = {m: run("gapkit_model", "speed", model=m, **speed) for m in models}
        quip = result.get("gap_fit") or gap_fit(work, prepared, everything=False)
        result["quippy"] = quip
        if "failed" not in quip:
            result["quippy"] = run("quippy_gap", "speed", model=quip["model"], r_cut=SETTINGS["r_cut"], **speed)
            result["quippy"]["command"] = quip["command"]
    if "lammps" in o.only:
        arguments = {"work": here, "n_atoms": o.atoms, "repeats": o.repeats, "match_cutoff": SETTINGS["r_cut"]}
        result["lammps"] = {s: run("lammps_pair", "speed", style=s, **arguments) for s in LAMMPS}
    if "gradients" in o.only:
        result["gradients"] = {
            str(n): {
                engine: run(engine, "gradients", settings=SETTINGS, n_atoms=n, repeats=repeats)
                for engine, repeats in (
                    ("gapkit_model", o.repeats),
                    ("dscribe_soap", 1 if n > 64 else 2),
                    ("featomic_soap", min(o.repeats, 3)),
                )
            }
            for n in (64, 512)
        }
    if "variance" in o.only:
        result["variance"] = {
            m: run("gapkit_model", "variance", work=here, model=m, n_atoms=o.atoms, repeats=o.repeats)
            for m in models
            if m in ("dense", "projected", "default")
        }
    if "threads" in o.only:
        arguments = {"work": here, "model": "dense", "n_atoms": 1000, "repeats": 2 * o.repeats}
        result["threads"] = {str(n): run("gapkit_model", "speed", threads=n, **arguments) for n in (1, 2)}
    if "small" in o.only:
        result["small"] = run("gapkit_model", "small_cells", work=here, model="dense", repeats=o.repeats)
    if "start-up" in o.only:
        result["start-up"] = run("gapkit_model", "start_up", work=here, model="dense")
    if o.scaling:
        result["scaling"] = {
            str(n): {
                m: run("gapkit_model", "scaling", work=here, model=m, n_atoms=n, repeats=3 if n < 10_000 else 1)
                for m in models
                if m in ("dense", "projected")
            }
            for n in SCALING
        }
    result["load after"] = load()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", default=[], metavar="XYZ", help="labelled silicon frames")
    parser.add_argument("--test", nargs="+", default=[], metavar="XYZ", help="frames for errors; default: every fifth")
    parser.add_argument("--atoms", type=int, default=1000, choices=(64, 512, 1000, 8000))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fit", action="store_true", help="also gap_fit with energies, forces and all virials")
    parser.add_argument("--scaling", action="store_true", help="also 100,000 atoms")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections to measure")
    parser.add_argument("--work", type=Path, help="folder for models; QUIP's fits found there are used again")
    parser.add_argument("--json", type=Path, help="all numbers as a file")
    parser.add_argument("--from-json", type=Path, help="measure nothing: print the tables of such a file")
    o = parser.parse_args()
    o.train, o.test = [[str(Path(p).resolve()) for p in paths] for paths in (o.train, o.test)]
    if o.from_json:
        result = json.loads(o.from_json.read_text())
    elif o.work:
        o.work.mkdir(parents=True, exist_ok=True)
        result = measure(o, o.work.resolve())
    else:
        with tempfile.TemporaryDirectory(prefix="gapkit-peers-") as folder:
            result = measure(o, Path(folder))
    if o.json:
        o.json.write_text(json.dumps(result, indent=1))
    print(tables.report(result))


if __name__ == "__main__":
    main()
