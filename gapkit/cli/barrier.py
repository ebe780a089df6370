"""The command ``gapkit barrier``: barrier and rates between two minima by a fitted potential."""

from __future__ import annotations

import argparse

from gapkit.apps.kinetics.pictures import barrier_figure
from gapkit.apps.kinetics.run import BarrierSettings, run_barrier
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import output_path, picture_path, write_json
from gapkit.estimators.gap import load
from gapkit.structures.files import read_frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", help="model file")
    parser.add_argument("initial", metavar="INITIAL.xyz", help="one end; the last frame of the file")
    parser.add_argument("final", metavar="FINAL.xyz", help="the other end, with the same atoms in the same order")
    add_settings(parser, BarrierSettings)
    parser.add_argument("--plot", metavar="FILE", help="profile and rates (.png, .pdf, .svg)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Barrier and rates, printed, drawn, and written."""
    settings = BarrierSettings.from_dict(settings_table(options, BarrierSettings))
    target = output_path(options.json) if options.json else None
    picture = picture_path(options.plot) if options.plot else None
    gap = load(options.model)
    ends = []
    for path in (options.initial, options.final):
        frames = read_frames(path)
        gap.potential_.check(frames[-1], f"{path}: frame {len(frames) - 1}")
        ends.append(frames[-1])
    found = run_barrier(gap, ends[0], ends[1], settings, progress=not options.quiet)
    print(found)
    if target:
        write_json(target, found.to_dict())
        print(f"written: {target}")
    if picture:
        barrier_figure(found, picture)
        print(f"picture: {picture}")
