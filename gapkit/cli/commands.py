"""The commands, each around one public function."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from tqdm import tqdm

from gapkit.cli.configuration import read_toml
from gapkit.cli.main import output_path
from gapkit.estimators.gap import GAP, load
from gapkit.estimators.parameters import fit_parameters
from gapkit.exceptions import GapkitError, SettingsError, SpeciesError
from gapkit.model_selection import Trial, fast_terms, tune, write_card
from gapkit.plotting import check_picture, report_figure
from gapkit.safe_write import replacing
from gapkit.sampling.dynamics import check_run, run_md
from gapkit.structures.files import read_frames, write_frames
from gapkit.structures.labels import labelled_frames
from gapkit.structures.plausibility import check_contacts


def read_config(path: str) -> dict[str, Any]:
    """Parameters of ``gapkit.GAP`` from a TOML file."""
    table = read_toml(path, GAP().get_params())
    try:
        fit_parameters(GAP(**table).get_params(deep=False))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return table


def read_labelled(paths: Sequence[str], gap: GAP, check: Callable[[Atoms, str], None]) -> list[Atoms]:
    """Frames of all files; a message about a label or structure names the file and the frame in it."""
    frames = []
    for path in paths:
        own = read_frames(path)
        try:
            for frame in labelled_frames(own, gap.energy_key, gap.forces_key, gap.virial_key, require_labels=False):
                check(frame.atoms, f"frame {frame.index}")
        except GapkitError as error:
            raise type(error)(f"{path}: {error}") from None
        frames += own
    return frames


def fit(options: argparse.Namespace) -> None:
    """Fit and save; report errors on test frames."""
    target = output_path(options.output)
    minutes = budget(options.tune) if options.tune else None
    gap = GAP(**(read_config(options.config) if options.config else {}))
    if (options.fast or minutes) and not isinstance(gap.terms, str):
        raise SettingsError("--fast and --tune choose the terms, which the configuration gives: leave out one of them")
    frames = read_labelled(options.train, gap, check_contacts)
    keys = (gap.energy_key, gap.forces_key, gap.virial_key)
    alone = {f.index for f in labelled_frames(frames, *keys, require_labels=False) if f.is_isolated_atom}
    known = {int(z) for k, atoms in enumerate(frames) for z in atoms.numbers if k not in alone}

    def check_test(atoms: Atoms, where: str) -> None:
        """Before the fit what would fail after it."""
        check_contacts(atoms, where)
        unknown = sorted({chemical_symbols[z] for z in atoms.numbers if z not in known})
        if unknown:
            raise SpeciesError(f"{where}: {', '.join(unknown)} is in no training frame; add some, or remove the frame")

    tests = read_labelled(options.test, gap, check_test) if options.test else None
    if minutes:
        state = target.with_name(target.name + ".tune.json")
        gap, tuning = tune(gap, frames, minutes, state=state, callback=None if options.quiet else show_trial)
        print(f"{tuning}\ntrials kept in {state}: the same command goes on from there")
    else:
        if options.fast:
            gap.set_params(terms=list(fast_terms(frames, gap)))
        gap.fit(frames, progress=not options.quiet)
    gap.save(target, updatable=options.updatable)
    print(f"model written to {target}")
    if tests is not None:
        print(gap.evaluate(tests, progress=not options.quiet))


def budget(text: str) -> float:
    """Minutes of a time such as ``90s``, ``10m``, ``1.5h``; a bare number is minutes."""
    unit = {"s": 1 / 60, "m": 1.0, "h": 60.0}.get(text[-1:].lower())
    try:
        minutes = float(text if unit is None else text[:-1]) * (unit or 1.0)
    except ValueError:
        minutes = 0.0
    if not (np.isfinite(minutes) and minutes > 0):
        raise SettingsError(f"--tune takes a time such as 90s, 10m or 2h, not {text!r}")
    return minutes


def show_trial(trial: Trial) -> None:
    """One line for a finished trial."""
    print(f"round {trial.round + 1}  {trial.candidate}  score {trial.score:.4f}  {trial.seconds:.1f} s", flush=True)


def evaluate(options: argparse.Namespace) -> None:
    """Errors and calibration of a model."""
    targets = [output_path(p) for p in (options.json, options.plot) if p]
    if options.plot:
        check_picture(options.plot)
    gap = load(options.model)
    frames = read_labelled(options.data, gap, gap.potential_.check)
    report = gap.evaluate(frames, uncertainty=not options.no_uncertainty, progress=not options.quiet)
    print(report)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(report.to_json() + "\n", encoding="utf-8")
    if options.plot:
        report_figure(report, options.plot)
    for target in targets:
        print(f"written: {target}")


def predict(options: argparse.Namespace) -> None:
    """Write frames with predicted energy, forces, stress and their standard deviations."""
    target = output_path(options.output)
    gap = load(options.model)
    frames = []
    for path in options.data:
        own = read_frames(path)
        for index, atoms in enumerate(own):
            gap.potential_.check(atoms, f"{path}: frame {index}")
        frames += own
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
            out.arrays["forces_std"] = predictions.forces_std[n]
            out.arrays["local_energy_std"] = predictions.local_energy_std[n]
            if predictions.stress_std[n] is not None:
                out.info["stress_std"] = predictions.stress_std[n]
        written.append(out)
    write_frames(target, written)
    print(f"{len(written)} frames written to {target}")


def info(options: argparse.Namespace) -> None:
    """Print what a model file holds, or write it as a card."""
    gap = load(options.model)
    if options.data and not options.card:
        raise SettingsError("--data is for --card: name the card's file too")
    if not options.card:
        print(gap.describe())
        return
    target = output_path(options.card)
    report = gap.evaluate(read_labelled(options.data, gap, gap.potential_.check)) if options.data else None
    write_card(gap, target, report)
    print(f"written: {target}")


def md(options: argparse.Namespace) -> None:
    """Molecular dynamics from the last frame of a file."""
    check_run(options.steps, options.timestep, options.temperature)
    target = output_path(options.output) if options.output else None
    gap = load(options.model)
    frames = read_frames(options.structure)
    atoms = frames[-1]
    gap.potential_.check(atoms, f"{options.structure}: frame {len(frames) - 1}")
    calculator = gap.calculator(uncertainty=None if options.no_uncertainty else "local")
    with tqdm(total=options.steps, desc="dynamics", unit="step", leave=False) as bar:
        run = run_md(
            atoms, calculator, options.temperature, options.steps, options.timestep, options.ensemble,
            np.random.default_rng(options.seed), options.every, lambda step: bar.update(step - bar.n),
        )  # fmt: skip
    if run.interrupted:
        print(f"interrupted after {run.time[-1] / options.timestep:.0f} of {options.steps} steps")
    print(f"mean temperature {run.temperature[len(run.temperature) // 2 :].mean():.0f} K")
    if options.ensemble == "nve":
        print(f"drift of the total energy {1e3 * run.drift:.4f} meV/atom over {run.time[-1] / 1e3:.2f} ps")
    if target:
        write_frames(target, run.frames)
        print(f"{len(run.frames)} frames written to {target}")


def quickstart(options: argparse.Namespace) -> None:
    """Fit the bundled silicon frames, judge the potential on held-out ones, draw it, and run it."""
    from ase.build import bulk

    from gapkit.datasets import load_silicon

    if options.steps < 1:
        raise SettingsError(f"steps must be at least 1, not {options.steps}")
    train, test = load_silicon(split="train"), load_silicon(split="test")
    folder = Path(options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GapkitError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
    print(f"silicon, DFT labels: {len(train)} training frames, {len(test)} held-out frames")
    gap = GAP(random_state=0).fit(train, progress=True)
    gap.save(folder / "silicon.gapkit")
    report = gap.evaluate(test, progress=True)
    print(f"\nheld-out frames (z: root mean square of error over predicted error, 1 is honest)\n{report}\n")
    report_figure(report, folder / "silicon.png", "silicon, held-out frames against DFT")
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    with tqdm(total=options.steps, desc="dynamics", unit="step", leave=False) as bar:
        run = run_md(
            atoms, gap.calculator(), 600.0, options.steps, rng=np.random.default_rng(0),
            step_callback=lambda step: bar.update(step - bar.n),
        )  # fmt: skip
    print(
        f"64 atoms, {run.time[-1] / 1e3:.1f} ps of NVE dynamics at {run.temperature.mean():.0f} K: "
        f"total energy drifts by {1e3 * run.drift:.4f} meV/atom"
    )
    print(f"model: {folder / 'silicon.gapkit'}   picture: {folder / 'silicon.png'}")
