"""The command ``gapkit predict``: predictions written beside the frames."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit predict``."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("data", nargs="+", metavar="DATA.xyz")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.xyz")
    parser.add_argument("--uncertainty", action="store_true", help="standard deviations too")


def run(options: argparse.Namespace) -> None:
    """Write frames with predicted energy, forces, stress and their standard deviations."""
    from ase.calculators.singlepoint import SinglePointCalculator

    from gapkit.cli.outputs import output_path
    from gapkit.estimators.gap import load
    from gapkit.structures.files import read_frames, write_frames

    target = output_path(options.output)
    gap = load(options.model)
    frames = []
    for path in options.data:
        of_path = read_frames(path)
        for index, atoms in enumerate(of_path):
            gap.potential_.check(atoms, f"{path}: frame {index}")
        frames += of_path
    predictions = gap.predict(frames, uncertainty=options.uncertainty)
    written = []
    for n, atoms in enumerate(frames):
        out = atoms.copy()
        for name in ("energy", "forces", "stress", "virial"):
            out.info.pop(name, None)
            out.arrays.pop(name, None)
        stress = predictions.stress[n]
        results = {"energy": predictions.energy[n], "forces": predictions.forces[n]}
        if stress is not None:
            results["stress"] = stress
        out.calc = SinglePointCalculator(out, **results)
        out.arrays["local_energy"] = predictions.local_energy[n]
        if predictions.energy_std is not None:
            out.info["energy_std"] = float(predictions.energy_std[n])
        for name, std in (("forces_std", predictions.forces_std), ("local_energy_std", predictions.local_energy_std)):
            if std is not None:
                out.arrays[name] = std[n]
        if predictions.stress_std is not None and predictions.stress_std[n] is not None:
            out.info["stress_std"] = predictions.stress_std[n]
        written.append(out)
    write_frames(target, written)
    print(f"{len(written)} frames written to {target}")
