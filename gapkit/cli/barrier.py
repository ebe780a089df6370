"""The command ``gapkit barrier``: barrier and rates between two minima by a fitted potential."""

from __future__ import annotations

import argparse

from gapkit.apps.kinetics.pictures import barrier_figure
from gapkit.apps.kinetics.run import BarrierSettings, run_barrier
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.inputs import last_frame
from gapkit.cli.outputs import add_result_outputs, result_paths, show_result
from gapkit.estimators.gap import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", help="model file")
    parser.add_argument("initial", metavar="INITIAL.xyz", help="one end; the last frame of the file")
    parser.add_argument("final", metavar="FINAL.xyz", help="the other end, with the same atoms in the same order")
    add_settings(parser, BarrierSettings)
    add_result_outputs(parser, "profile and rates")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Barrier and rates, printed, drawn, and written."""
    settings = BarrierSettings.from_dict(settings_table(options, BarrierSettings))
    paths = result_paths(options)
    gap = load(options.model)
    initial, final = (last_frame(path, gap) for path in (options.initial, options.final))
    found = run_barrier(gap, initial, final, settings, progress=not options.quiet)
    show_result(found, paths, barrier_figure)
