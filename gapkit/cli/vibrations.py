"""The command ``gapkit vibrations``: frequencies of a relaxed structure by a fitted potential, with error bars."""

from __future__ import annotations

import argparse

from gapkit.apps.vibrational_spectra.pictures import vibrations_figure
from gapkit.apps.vibrational_spectra.run import VibrationsSettings, run_vibrations
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.inputs import last_frame
from gapkit.cli.outputs import add_result_outputs, result_paths, show_result
from gapkit.estimators.gap import load
from gapkit.oracles import ORACLES, oracle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", help="model file")
    parser.add_argument("frame", metavar="FRAME.xyz", help="structure to relax; the last frame of the file")
    parser.add_argument("--reference", choices=sorted(ORACLES), help="reference method, for a diagnosis of the modes")
    add_settings(parser, VibrationsSettings)
    add_result_outputs(parser, "frequencies with their error bars")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn potentials (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Frequencies, printed, drawn, and written."""
    settings = VibrationsSettings.from_dict(settings_table(options, VibrationsSettings))
    paths = result_paths(options)
    gap = load(options.model)
    atoms = last_frame(options.frame, gap)
    reference = oracle(options.reference) if options.reference else None
    found = run_vibrations(
        gap, atoms, reference, settings, random_state=options.seed, progress=not options.quiet
    )  # fmt: skip
    show_result(found, paths, vibrations_figure)
