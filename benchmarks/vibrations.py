"""Frequencies of molecules by potentials of thermal frames, against GFN2-xTB at the same geometry.

    python benchmarks/vibrations.py [--molecules H2O CH3CH2OH] [--frames 100] [--seed 0] [--json FILE]

For each molecule the frames are snapshots of Langevin dynamics by tightly converged GFN2-xTB (300 K, every 20 fs), from
its minimum. The potential is fitted by defaults. ``gapkit.apps.vibrational_spectra.run_vibrations`` relaxes the
molecule and diagnoses its Hessian. Names are those of ASE's molecules, and ``malonaldehyde``. Needs the extra
``reference``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import ase
import numpy as np
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

import gapkit
from gapkit.apps.vibrational_spectra import VibrationsResult, run_vibrations
from gapkit.datasets import load_molecules
from gapkit.exceptions import GapkitWarning
from gapkit.oracles import oracle
from gapkit.sampling.dynamics import langevin
from gapkit.sampling.relaxation import RelaxationSettings, relax_many

#: steps (0.5 fs) between snapshots, and before the first
EVERY, BEFORE = 40, 400
#: convergence of GFN2-xTB; at its default of 1 the reference frequencies have errors of 4 cm^-1 for water
ACCURACY = 1e-4


def labelled(atoms: ase.Atoms, calculator: Any) -> ase.Atoms:
    """A copy with energy and forces."""
    made = atoms.copy()
    made.calc = calculator
    energy, forces = made.get_potential_energy(), made.get_forces()
    made.calc = SinglePointCalculator(made, energy=energy, forces=forces)
    return made


def thermal_frames(minimum: ase.Atoms, calculator: Any, n: int, seed: int) -> list[ase.Atoms]:
    """Isolated atoms, and ``n`` snapshots of dynamics at 300 K."""
    frames = []
    for symbol in sorted(set(minimum.get_chemical_symbols())):
        atom = labelled(ase.Atoms(symbol), calculator)
        atom.info["config_type"] = "isolated_atom"
        frames.append(atom)
    moving = minimum.copy()
    moving.calc = calculator
    MaxwellBoltzmannDistribution(moving, temperature_K=600, rng=np.random.default_rng(seed))
    dynamics = langevin(moving, 300.0, 0.5, seed)
    dynamics.run(BEFORE)
    for _ in range(n):
        dynamics.run(EVERY)
        frames.append(labelled(moving, calculator))
    return frames


def numbers(result: VibrationsResult) -> dict[str, float]:
    """Errors of the frequencies, of the zero-point energy, and their standard deviations."""
    assert result.diagnosis is not None
    error = result.diagnosis.frequencies - result.diagnosis.reference
    std = result.frequencies_std[result.diagnosis.assignment]
    zero_point = 0.5 * ase.units.invcm * float(error.sum())
    return {
        "modes": len(error),
        "mae": float(np.abs(error).mean()),
        "largest": float(np.abs(error).max()),
        "std": float(std.mean()),
        "rms_z": float(np.sqrt(np.mean((error / std) ** 2))),
        "zero_point_error_meV": 1e3 * zero_point,
        "zero_point_std_meV": 1e3 * result.zero_point_energy_std,
        "scale": result.diagnosis.scale,
        "mixing_share": result.diagnosis.mixing_share,
        "step_error": result.step_error,
        "rigid": result.rigid,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--molecules", nargs="+", default=["H2O", "CH3CH2OH", "malonaldehyde"])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the dynamics and the fit")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", GapkitWarning)
    calculator, table = oracle("gfn2", accuracy=ACCURACY), {}
    for name in options.molecules:
        start = load_molecules("malonaldehyde")[-1] if name == "malonaldehyde" else molecule(name)
        start = ase.Atoms(start.numbers, start.positions)
        minimum = relax_many([start], calculator, RelaxationSettings(fmax=1e-4), strict=True)[0].atoms
        begin = time.process_time()
        frames = thermal_frames(minimum, calculator, options.frames, options.seed)
        labels = time.process_time() - begin
        gap = gapkit.GAP(random_state=options.seed).fit(frames)
        fit = time.process_time() - begin - labels
        result = run_vibrations(gap, minimum, calculator)
        table[name] = numbers(result)
        print(f"{name}: dynamics {labels:.0f} s, fit {fit:.0f} s of processor time\n{result}\n", flush=True)
    for name, row in table.items():
        print(name, ", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(table, file, indent=1)


if __name__ == "__main__":
    main()
