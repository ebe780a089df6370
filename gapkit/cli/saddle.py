"""The command ``gapkit saddle``: barrier between two minima by a reference method, with few calls of it."""

from __future__ import annotations

import argparse
from functools import partial

from gapkit.apps.kinetics.active_barrier import ActiveBarrierSettings, run_active_barrier
from gapkit.apps.kinetics.pictures import active_barrier_figure
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import add_result_outputs, output_path, result_paths, show_result
from gapkit.estimators.gap import load
from gapkit.exceptions import SettingsError
from gapkit.oracles import ORACLES, oracle
from gapkit.structures.files import read_frames, write_frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("initial", metavar="INITIAL.xyz", help="one end; the last frame of the file")
    parser.add_argument("final", metavar="FINAL.xyz", help="the other end, with the same atoms in the same order")
    parser.add_argument("--oracle", required=True, choices=sorted(ORACLES), help="reference method")
    parser.add_argument(
        "--labels", metavar="FOLDER", help="folder of the labels; a search that was killed goes on there"
    )
    parser.add_argument("--model", metavar="FILE", help="model to begin with, saved with what an update needs")
    parser.add_argument("--frames", metavar="FILE", help="labelled frames of the same method to begin with")
    parser.add_argument("--output", metavar="FILE.xyz", help="write all labelled frames there")
    add_settings(parser, ActiveBarrierSettings)
    add_result_outputs(parser, "profile and course of the search")
    parser.add_argument("--seed", type=int, default=0, help="of the random displacements (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Barrier by the reference method, printed, drawn, and written."""
    settings = ActiveBarrierSettings.from_dict(settings_table(options, ActiveBarrierSettings))
    paths = result_paths(options)
    output = output_path(options.output) if options.output else None
    try:
        oracle(options.oracle)  # a missing code is an error now, not after the ends were read
    except ImportError as error:
        raise SettingsError(str(error)) from None
    initial, final = (read_frames(path)[-1] for path in (options.initial, options.final))
    found = run_active_barrier(
        partial(oracle, options.oracle), initial, final, settings, model=load(options.model) if options.model else None,
        frames=read_frames(options.frames) if options.frames else (), folder=options.labels,
        random_state=options.seed, progress=not options.quiet,
    )  # fmt: skip
    show_result(found, paths, active_barrier_figure)
    if output:
        write_frames(output, found.frames)
        print(f"labelled frames: {output}")
