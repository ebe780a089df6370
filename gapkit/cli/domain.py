"""The command ``gapkit domain``: the atoms of some frames that are unlike a model's training set."""

from __future__ import annotations

import argparse
from dataclasses import replace

from gapkit.apps.transferability.pictures import domain_figure
from gapkit.apps.transferability.run import DomainSettings, run_domain
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import output_path, picture_path, write_json
from gapkit.estimators.gap import load
from gapkit.structures.files import read_frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit domain``."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("data", nargs="+", metavar="DATA.xyz")
    parser.add_argument("--training", nargs="+", required=True, metavar="TRAIN.xyz", help="what it was fitted to")
    add_settings(parser, DomainSettings)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of atoms for the map (default 0)")
    parser.add_argument("--plot", metavar="FILE.png", help="draw distances, standard deviations and a map")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Compare the atoms of some frames with a model and its training frames."""
    settings = DomainSettings.from_dict(settings_table(options, DomainSettings))
    if not options.plot:
        settings = replace(settings, map_environments=0)
    picture = picture_path(options.plot) if options.plot else None
    target = output_path(options.json) if options.json else None
    result = run_domain(
        load(options.model), read_frames(*options.training), read_frames(*options.data), settings,
        random_state=options.seed, progress=not options.quiet,
    )  # fmt: skip
    print(result)
    if picture:
        domain_figure(result, picture)
        print(f"written: {picture}")
    if target:
        write_json(target, result.to_dict())
        print(f"written: {target}")
