"""The command ``gapkit fracture``."""

from __future__ import annotations

import argparse

import numpy as np

from gapkit.apps.fracture.cleaving_silicon import CleavingSilicon
from gapkit.apps.fracture.crystals import Material
from gapkit.apps.fracture.pictures import fracture_figure
from gapkit.apps.fracture.run import FractureSettings, run_fracture
from gapkit.cli.main import output_path
from gapkit.estimators.gap import load
from gapkit.plotting import check_picture


def fracture(options: argparse.Namespace) -> None:
    """Label cracks of a silicon potential, learn a fracture potential, predict crack systems left out."""
    target = output_path(options.output)
    check_picture(options.output)
    gap = load(options.model) if options.model else None
    calculator = gap.calculator() if gap else CleavingSilicon()
    cutoff = gap.potential_.r_cut if gap else FractureSettings.cutoff
    material = Material.measured(calculator)
    settings = FractureSettings(
        modes=tuple(np.radians(options.modes)), radius=max(options.radius, 2.2 * cutoff), cutoff=cutoff,
        factor=options.factor,
    )  # fmt: skip
    result = run_fracture(material, settings, progress=not options.quiet)
    print(result.summary())
    fracture_figure(result, target)
    print(f"written: {target}")
