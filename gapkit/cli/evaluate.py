"""The command ``gapkit evaluate``: errors and calibration on labelled frames."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit evaluate``."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("data", nargs="+", metavar="DATA.xyz")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--plot", metavar="FILE.png", help="parity and reliability")
    parser.add_argument("--no-uncertainty", action="store_true", help="errors only, much faster")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Errors and calibration of a model."""
    from gapkit.cli.frames import read_labelled
    from gapkit.cli.outputs import output_path
    from gapkit.estimators.gap import load
    from gapkit.plotting import check_picture, report_figure
    from gapkit.safe_write import replacing

    targets = [output_path(p) for p in (options.json, options.plot) if p]
    if options.plot:
        check_picture(options.plot)
    gap = load(options.model)
    frames = read_labelled(options.data, gap, gap.potential_.check)
    report = gap.evaluate(frames, uncertainty=not options.no_uncertainty, progress=not options.quiet)
    print(report)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(report.to_json() + "\n", encoding="utf-8")
    if options.plot:
        report_figure(report, options.plot)
    for target in targets:
        print(f"written: {target}")
