"""The command ``gapkit md``: molecular dynamics."""

from __future__ import annotations

import argparse
import hashlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit md``."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("structure", metavar="START.xyz")
    parser.add_argument("-o", "--output", metavar="TRAJECTORY.xyz")
    parser.add_argument("--temperature", type=float, default=300.0, metavar="K")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--timestep", type=float, default=1.0, metavar="FS")
    parser.add_argument("--ensemble", choices=("nve", "nvt"), default="nve")
    parser.add_argument("--every", type=int, default=10, metavar="STEPS", help="steps between records (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--restart", action="store_true", help="go on with a trajectory, to --steps steps in all")
    parser.add_argument("--no-uncertainty", action="store_true", help="do not watch for environments out of domain")


def run(options: argparse.Namespace) -> None:
    """Molecular dynamics from the last frame of a file.

    Frames are written as they are recorded. Beside the trajectory stands the state from which ``--restart`` goes on.
    """

    from gapkit.cli.outputs import output_path
    from gapkit.estimators.gap import load
    from gapkit.exceptions import SettingsError
    from gapkit.progress import progress_bar
    from gapkit.sampling.dynamics import check_run, run_md
    from gapkit.sampling.md_files import MDFiles, check_trajectory
    from gapkit.structures.files import read_frames

    check_run(options.steps, options.timestep, options.temperature)
    if options.restart and not options.output:
        raise SettingsError("--restart needs the trajectory that it goes on with: give it with -o")
    target = output_path(options.output) if options.output else None
    if target:
        check_trajectory(target)
    gap = load(options.model)
    frames = read_frames(options.structure)
    atoms = frames[-1]
    gap.potential_.check(atoms, f"{options.structure}: frame {len(frames) - 1}")
    calculator = gap.calculator(uncertainty=None if options.no_uncertainty else "local")
    files = MDFiles(target, _described(options, atoms), options.restart) if target else None
    with progress_bar(desc="dynamics", total=options.steps, show=True) as progress, files or nullcontext():
        run = run_md(
            atoms, calculator, options.temperature, options.steps, options.timestep, options.ensemble,
            options.seed, options.every, lambda step: progress.update(step - progress.n), files,
        )  # fmt: skip
    if run.interrupted:
        print(f"interrupted after {run.time[-1] / options.timestep:.0f} of {options.steps} steps")
    print(f"mean temperature {run.temperature[len(run.temperature) // 2 :].mean():.0f} K")
    if options.ensemble == "nve":
        print(f"drift of the total energy {1e3 * run.drift:.4f} meV/atom over {run.time[-1] / 1e3:.2f} ps")
    if files:
        print(f"{files.count} frames written to {target}")


def _described(options: argparse.Namespace, atoms: Atoms) -> dict[str, Any]:
    """All that the course of the run depends on: the model, the starting structure, and options."""
    with open(options.model, "rb") as file:
        model = hashlib.file_digest(file, "sha256").hexdigest()
    start = hashlib.sha256()
    for part in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses(), atoms.get_momenta()):
        start.update(part.tobytes())
    names = ("temperature", "timestep", "ensemble", "every", "seed")
    return {"model": model, "structure": start.hexdigest(), **{name: getattr(options, name) for name in names}}
