"""Whether a change of the code left behaviour as it was: models are fitted and saved by one checkout, and loaded,
asked and fitted again by another.

    python benchmarks/same_behaviour.py record FOLDER    # by the code of before
    python benchmarks/same_behaviour.py compare FOLDER   # by the code of after; exit code 1 where something moved

Three systems: a crystal (silicon, DFT), an alloy (copper and gold, effective-medium theory; triplets, a baseline,
noise groups of two config_types) and a molecule (ethanol, exact mean). Saved models, recalibrated ones among them, must
predict the same to 1e-12, error bars included; models fitted with given levels must agree to 1e-9 (relative to the
largest number of an array).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.datasets import load_molecules, load_silicon

SAVED, FITTED = 1e-12, 1e-9
SYSTEMS = ("crystal", "alloy", "molecule")


def alloy_frames(n: int, seed: int) -> list[Atoms]:
    """Strained and rattled copper-gold cells, labelled by effective-medium theory."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.8, cubic=True) * (2, 1, 1)
        atoms.numbers[rng.permutation(len(atoms))[: 1 + k % 6]] = 79
        strain = np.eye(3) + rng.uniform(-0.04, 0.04, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(scale=0.05 if k % 2 else 0.15, size=atoms.positions.shape)
        atoms.info["config_type"] = "cold" if k % 2 else "hot"
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress(),
        }  # fmt: skip
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def data(system: str) -> tuple[list[Atoms], list[Atoms], list[Atoms]]:
    """Training, calibration and test frames."""
    if system == "crystal":
        return load_silicon("train")[::6], load_silicon("calibration")[::3], load_silicon("test")[::6]
    if system == "alloy":
        return alloy_frames(24, 1), alloy_frames(12, 2), alloy_frames(6, 3)
    frames = load_molecules("ethanol")
    return frames[0::3], frames[1::3], frames[2::9]


def estimator(system: str, given: bool) -> gapkit.GAP:
    """The model of a system, with all noise and signal levels ``given``, or searched."""
    signal = (0.05, 0.8, 0.3) if given else (None,) * 3
    noise: Any = "auto"
    if given:
        noise = {"energy": 0.003, "forces": 0.08, "virial": 0.05}
        if system == "molecule":
            del noise["virial"]
    if system == "molecule":
        soap = gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=6, l_max=4), gapkit.DotProduct(2), 150, signal=signal[1])
        return gapkit.GAP([soap], noise_levels=noise, exact=True, folds=4, n_jobs=1, random_state=0)
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=5.0), gapkit.SquaredExponential(0.8), 15, signal=signal[0]),
        gapkit.Term(gapkit.SOAP(r_cut=5.0, n_max=6, l_max=4), gapkit.DotProduct(4), 120, signal=signal[1]),
    ]
    if system == "crystal":
        return gapkit.GAP(terms, noise_levels=noise, folds=4, n_jobs=1, random_state=0)
    terms.append(gapkit.Term(gapkit.Triplet(r_cut=3.5), gapkit.SquaredExponential(1.0), 30, signal=signal[2]))
    if given:
        noise["config_types"] = {"hot": {"forces": 0.2}}
    return gapkit.GAP(terms, baseline="zbl", noise_levels=noise, folds=4, n_jobs=1, random_state=0)


def answers(gap: gapkit.GAP, frames: list[Atoms]) -> dict[str, np.ndarray]:
    """All that a user can ask a model: arrays by name."""
    found: dict[str, Any] = {}
    for noise in (True, False):
        p = gap.predict(frames, uncertainty=True, include_noise=noise)
        joint = gap.joint_energies(frames, include_noise=noise)
        found |= {f"{name} noise={noise}": getattr(p, name) for name in (
            "energy", "forces", "stress", "local_energy", "energy_std", "forces_std", "stress_std", "local_energy_std",
        )}  # fmt: skip
        found |= {f"covariance noise={noise}": joint.covariance, f"share noise={noise}": joint.residual_share}
    found["energy_std alone"] = gap.predict(frames, uncertainty="energy").energy_std
    report = gap.evaluate(frames)
    found["report"] = [v for v in report.summary.values() if isinstance(v, float)]
    for mode in ("local", "full"):
        calculator = gap.calculator(uncertainty=mode)
        for k, atoms in enumerate(frames[:3]):
            copy = atoms.copy()
            copy.calc = calculator
            copy.get_potential_energy()
            found |= {f"calculator {mode} {k} {name}": v for name, v in calculator.results.items() if v is not None}
    found["domain limit"] = [gap.potential_.domain_limit(noise) for noise in (True, False)]
    found["samples"] = [s.evaluate(frames[0]).energy for s in gap.samples(3, random_state=1, frames=frames[:1])]
    try:
        for k, widths in enumerate(gap.intervals(frames, level=0.5)):
            found |= {f"interval {k} {name}": v for name, v in widths.items() if v is not None}
    except gapkit.exceptions.SettingsError:
        pass  # not recalibrated
    return {name: _flat(value) for name, value in found.items()}


def _flat(value: Any) -> np.ndarray:
    """Numbers of nested lists of arrays, None left out."""
    if isinstance(value, list | tuple):
        parts = [_flat(v) for v in value if v is not None]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.ravel(np.asarray(value, dtype=float))


def models(system: str) -> dict[str, gapkit.GAP]:
    """A searched and a given model, fitted now; and the searched one after recalibration and after an update."""
    train, calibration, _ = data(system)
    searched = estimator(system, given=False).fit(train)
    searched_again = estimator(system, given=False).fit(train[: len(train) // 2])
    return {
        "searched": searched,
        "recalibrated": searched_again.recalibrate(calibration, random_state=0),
        "given": estimator(system, given=True).fit(train),
    }


def updated(gap: gapkit.GAP, system: str) -> gapkit.GAP:
    """A model from a file after three more frames."""
    return gap.update(data(system)[1][:3])


def record(folder: Path) -> None:
    """Fit, save and ask."""
    folder.mkdir(parents=True, exist_ok=True)
    for system in SYSTEMS:
        test = data(system)[2]
        for name, gap in models(system).items():
            path = folder / f"{system}-{name}.gapkit"
            gap.save(path, updatable=True)
            np.savez(path.with_suffix(".npz"), **answers(gapkit.load(path), test))
            np.savez(path.with_suffix(".updated.npz"), **answers(updated(gapkit.load(path), system), test))
            print(f"{path} written", flush=True)


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> tuple[float, str]:
    """Largest difference, relative to the largest number of its array, and the array's name."""
    if set(a) != set(b):
        return np.inf, f"only one has {sorted(set(a) ^ set(b))}"
    worst = (0.0, "nothing")
    for name in a:
        if a[name].shape != b[name].shape:
            return np.inf, name
        size = max(float(np.abs(a[name]).max(initial=0.0)), 1e-300)
        worst = max(worst, (float(np.abs(a[name] - b[name]).max(initial=0.0)) / size, name))
    return worst


def compare(folder: Path) -> int:
    """Load and ask again, fit the given ones again; the number of differences beyond what is allowed."""
    failures = 0
    print(f"{'system':<10} {'model':<14} {'what':<12} {'allowed':>8} {'found':>9}  where")
    for system in SYSTEMS:
        test = data(system)[2]
        fresh = estimator(system, given=True).fit(data(system)[0])
        for name in ("searched", "recalibrated", "given"):
            path = folder / f"{system}-{name}.gapkit"
            before = dict(np.load(path.with_suffix(".npz")))
            rows = [("loaded", SAVED, difference(before, answers(gapkit.load(path), test)))]
            after = dict(np.load(path.with_suffix(".updated.npz")))
            rows.append(("updated", FITTED, difference(after, answers(updated(gapkit.load(path), system), test))))
            if name == "given":
                rows.append(("fitted", FITTED, difference(before, answers(fresh, test))))
            for what, allowed, (found, where) in rows:
                failures += found > allowed
                print(f"{system:<10} {name:<14} {what:<12} {allowed:>8.0e} {found:>9.1e}  {where}", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("record", "compare"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "record":
        record(options.folder)
        return 0
    return min(compare(options.folder), 1)


if __name__ == "__main__":
    sys.exit(main())
