"""The command ``gapkit fracture``: cracks in silicon, and the critical loads of crack systems left out."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from gapkit.apps.fracture.cleaving_silicon import CleavingSilicon
from gapkit.apps.fracture.crystals import Material
from gapkit.apps.fracture.pictures import fracture_figure
from gapkit.apps.fracture.run import FractureSettings, run_fracture
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import output_path, picture_path, write_json
from gapkit.estimators.gap import load

#: mode angles (degrees), where none are given
MODES = (0.0, 11.5, 23.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit fracture``."""
    parser.add_argument("--model", metavar="MODEL", help="a potential of silicon (default: Holland and Marder's)")
    parser.add_argument("-o", "--output", default="gapkit-fracture.png", metavar="FILE.png", help="picture")
    parser.add_argument(
        "--modes", type=float, nargs="+", metavar="DEGREES", dest="degrees",
        help=f"mode angles in degrees (default {' '.join(map(str, MODES))}); in radians in a file",
    )  # fmt: skip
    add_settings(parser, FractureSettings, skip=("modes",))
    parser.add_argument("--seed", type=int, default=0, help="of the choice of sparse points (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument(
        "--checkpoint", metavar="FILE", help="keep finished cracks there: the same command goes on from it"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Label cracks of a silicon potential, learn a fracture potential, predict crack systems left out."""
    picture = picture_path(options.output)
    target = output_path(options.json) if options.json else None
    checkpoint = output_path(options.checkpoint) if options.checkpoint else None
    gap = load(options.model) if options.model else None
    calculator = gap.calculator() if gap else CleavingSilicon()
    defaults = {"modes": tuple(np.radians(MODES))} | ({"cutoff": gap.potential_.r_cut} if gap else {})
    table = settings_table(options, FractureSettings, defaults)
    if options.degrees is not None:
        table["modes"] = tuple(np.radians(options.degrees))
    wanted = FractureSettings.from_dict(table)
    settings = replace(wanted, radius=max(wanted.radius, 2.2 * wanted.cutoff))  # the free part holds a few cutoffs
    result = run_fracture(
        Material.measured(calculator), settings, checkpoint=checkpoint, random_state=options.seed,
        progress=not options.quiet,
    )  # fmt: skip
    print(result)
    fracture_figure(result, picture)
    print(f"written: {picture}")
    if target:
        write_json(target, result.to_dict())
        print(f"written: {target}")
