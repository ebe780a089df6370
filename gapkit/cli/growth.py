"""The command ``gapkit growth``: a metal surface grown with barriers from a model."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from gapkit.apps.growth.hops import hops_from_frames
from gapkit.apps.growth.pictures import animate_growth, ensemble_figure, growth_figure
from gapkit.apps.growth.run import SurfaceGrowthSettings, run_surface_growth
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import output_folder, output_path, write_json
from gapkit.datasets import load_surface_barriers
from gapkit.exceptions import SettingsError

#: layers to deposit, where no duration is given
LAYERS = 0.5
DEFAULTS = {"size": 96, "temperature": 350.0, "flux": 3e4, "n_records": 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit growth``."""
    parser.add_argument("-o", "--output", default="gapkit-growth", help="folder for pictures and checkpoint")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--layers", type=float, help=f"layers to deposit (default {LAYERS})")
    amount.add_argument(
        "--duration", type=float, metavar="VALUE", default=argparse.SUPPRESS,
        help="time to be simulated, in place of layers (s)",
    )  # fmt: skip
    names = {"n_steps": "--vicinal", "n_samples": "--samples"}
    add_settings(parser, SurfaceGrowthSettings, names, DEFAULTS, ("duration", "keep_heights"))
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Learn the bundled barriers, grow a (100) surface, draw it."""
    table = settings_table(options, SurfaceGrowthSettings, DEFAULTS)
    settings = replace(SurfaceGrowthSettings.from_dict(table), keep_heights=True)  # the pictures need them
    if options.layers is not None or "duration" not in table:
        layers, flux = LAYERS if options.layers is None else options.layers, settings.flux
        if not flux > 0 or not 0 < layers < math.inf:
            raise SettingsError(f"--flux and --layers must be positive, not {flux} and {layers}; or give a duration")
        settings = replace(settings, duration=layers / flux)
    target = output_path(options.json) if options.json else None
    folder = output_folder(options.output)
    grown = run_surface_growth(
        hops_from_frames(load_surface_barriers()), settings, checkpoint=folder / "growth.npz",
        random_state=options.seed, progress=not options.quiet,
    )  # fmt: skip
    print(grown)
    growth_figure(grown.growth, folder / "growth.png")
    animate_growth(grown.growth, folder / "growth.gif")
    if grown.ensemble is not None:
        ensemble_figure([(f"{settings.metal}(100)", grown.ensemble)], folder / "uncertainty.png")
    if target:
        write_json(target, grown.to_dict())
        print(f"written: {target}")
    print(f"pictures and checkpoint: {folder}")
