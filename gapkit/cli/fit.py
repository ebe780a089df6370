"""The command ``gapkit fit``: a potential from labelled frames."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapkit.exceptions import SettingsError, SpeciesError

if TYPE_CHECKING:
    from ase import Atoms

    from gapkit.model_selection import Trial


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit fit``."""
    parser.add_argument("train", nargs="+", metavar="TRAIN.xyz")
    parser.add_argument("-o", "--output", required=True, metavar="MODEL")
    parser.add_argument("--test", nargs="+", metavar="TEST.xyz", help="report errors on these frames")
    parser.add_argument("--config", metavar="FILE.toml", help="parameters of gapkit.GAP")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--fast", action="store_true", help="a fit in seconds, less accurate (docs/ACCURACY.md)")
    size.add_argument("--tune", metavar="TIME", help="search over kernel shapes for this long: 90s, 10m, 2h")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="keep there what finished stages chose: the same command goes on from it"
    )
    parser.add_argument("--memory", type=float, metavar="GB", help="memory to plan for (default: what there is)")
    parser.add_argument(
        "--last-digits", action="store_true", help="fit once more with noise of 1e-12, and keep how far that moves it"
    )
    parser.add_argument("--updatable", action="store_true", help="keep what later updates need in the model file")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Fit and save; report errors on test frames."""
    from ase.data import chemical_symbols

    from gapkit.cli.frames import read_labelled
    from gapkit.cli.outputs import output_path
    from gapkit.estimators.gap import GAP
    from gapkit.model_selection import fast_terms, last_digits, tune
    from gapkit.structures.labels import labelled_frames
    from gapkit.structures.plausibility import check_contacts

    target = output_path(options.output)
    minutes = budget(options.tune) if options.tune else None
    gap = GAP(**(read_config(options.config) if options.config else {}))
    if (options.fast or minutes) and not isinstance(gap.terms, str):
        raise SettingsError("--fast and --tune choose the terms, which the configuration gives: leave out one of them")
    if minutes and (options.checkpoint or options.memory is not None):
        raise SettingsError("--tune keeps its own trials: leave out --checkpoint and --memory")
    checkpoint = output_path(options.checkpoint) if options.checkpoint else None
    if checkpoint is not None and same_file(checkpoint, target):
        raise SettingsError(f"--checkpoint and --output are both {options.checkpoint}; give two names")
    frames = read_labelled(options.train, gap, check_contacts)
    keys = (gap.energy_key, gap.forces_key, gap.virial_key)
    alone = {f.index for f in labelled_frames(frames, *keys, require_labels=False) if f.is_isolated_atom}
    known = {int(z) for k, atoms in enumerate(frames) for z in atoms.numbers if k not in alone}

    def check_test(atoms: Atoms, context: str) -> None:
        """Refuse a test frame that the fitted model could not predict."""
        check_contacts(atoms, context)
        unknown = sorted({chemical_symbols[z] for z in atoms.numbers if z not in known})
        if unknown:
            raise SpeciesError(
                f"{context}: {', '.join(unknown)} is in no training frame; add some, or remove the frame"
            )

    tests = read_labelled(options.test, gap, check_test) if options.test else None
    if minutes:
        state = target.with_name(target.name + ".tune.json")
        gap, tuning = tune(gap, frames, minutes, state=state, callback=None if options.quiet else show_trial)
        print(f"{tuning}\ntrials kept in {state}: the same command goes on from there")
    else:
        if options.fast:
            gap.set_params(terms=list(fast_terms(frames, gap)))
        gap.fit(frames, progress=not options.quiet, checkpoint=checkpoint, memory=options.memory)
    if options.last_digits:
        print(last_digits(gap, frames, progress=not options.quiet))
    gap.save(target, updatable=options.updatable)
    print(f"model written to {target}")
    if tests is not None:
        print(gap.evaluate(tests, progress=not options.quiet))


def read_config(path: str) -> dict[str, Any]:
    """Parameters of ``gapkit.GAP`` from a TOML file."""
    from gapkit.cli.configuration import read_toml
    from gapkit.estimators.gap import GAP
    from gapkit.fitting.settings import FitSettings

    table = read_toml(path, GAP().get_params())
    try:
        FitSettings.of(GAP(**table).get_params(deep=False))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return table


def same_file(one: Path, two: Path) -> bool:
    """Whether two names are those of one file, links followed."""
    return os.path.realpath(one) == os.path.realpath(two)


def budget(text: str) -> float:
    """Minutes of a time such as ``90s``, ``10m``, ``1.5h``; a bare number is minutes."""
    unit = {"s": 1 / 60, "m": 1.0, "h": 60.0}.get(text[-1:].lower())
    try:
        minutes = float(text if unit is None else text[:-1]) * (unit or 1.0)
    except ValueError:
        minutes = 0.0
    if not (math.isfinite(minutes) and minutes > 0):
        raise SettingsError(f"--tune takes a time such as 90s, 10m or 2h, not {text!r}")
    return minutes


def show_trial(trial: Trial) -> None:
    """One line for a finished trial."""
    print(f"round {trial.round + 1}  {trial.candidate}  score {trial.score:.4f}  {trial.seconds:.1f} s", flush=True)
