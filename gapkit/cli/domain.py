"""The command ``gapkit domain``."""

from __future__ import annotations

import argparse

from gapkit.apps.transferability.pictures import domain_figure
from gapkit.apps.transferability.run import domain_map, domain_report
from gapkit.cli.main import output_path
from gapkit.estimators.gap import load
from gapkit.plotting import check_picture
from gapkit.structures.files import read_frames


def domain(options: argparse.Namespace) -> None:
    """Which atoms of some frames a model does not know."""
    target = output_path(options.plot) if options.plot else None
    if target:
        check_picture(options.plot)
    gap = load(options.model)
    report = domain_report(gap, read_frames(*options.training), read_frames(*options.data))
    print(report)
    if target:
        domain_figure(report, domain_map(gap, report.training, report.new), target)
        print(f"written: {target}")
