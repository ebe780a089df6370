"""The command ``gapkit growth``."""

from __future__ import annotations

import argparse
from pathlib import Path

from gapkit.apps.growth.hops import hops_from_frames
from gapkit.apps.growth.pictures import animate_growth, ensemble_figure, growth_figure
from gapkit.apps.growth.run import grow_surface
from gapkit.apps.growth.simulation import GrowthSettings
from gapkit.datasets import load_surface_barriers
from gapkit.exceptions import GapkitError


def growth(options: argparse.Namespace) -> None:
    """Learn the bundled barriers, grow a (100) surface, draw it."""
    folder = Path(options.output)
    if not options.flux > 0 or not options.layers > 0:
        raise GapkitError(f"--flux and --layers must be positive, not {options.flux} and {options.layers}")
    settings = GrowthSettings(
        options.size, options.temperature, options.flux, options.layers / options.flux,
        n_steps=options.vicinal, n_records=40, keep_heights=True, seed=options.seed,
    )  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GapkitError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
    grown = grow_surface(
        hops_from_frames(load_surface_barriers()), options.metal, settings, options.samples,
        checkpoint=folder / "growth.npz", progress=not options.quiet,
    )  # fmt: skip
    print(grown.summary())
    growth_figure(grown.result, folder / "growth.png")
    animate_growth(grown.result, folder / "growth.gif")
    if grown.ensemble is not None:
        ensemble_figure([(f"{options.metal}(100)", grown.ensemble)], folder / "uncertainty.png")
    print(f"pictures and checkpoint: {folder}")
