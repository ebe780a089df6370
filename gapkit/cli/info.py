"""The command ``gapkit info``: contents of a model file, as text or as a card."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``gapkit info``."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--card", metavar="FILE", help="write a model card: .md or .html (with pictures)")
    parser.add_argument("--data", nargs="+", metavar="DATA.xyz", help="frames not fitted to, for the card's errors")


def run(options: argparse.Namespace) -> None:
    """Print the contents of a model file, or write them as a card."""
    from gapkit.cli.frames import read_labelled
    from gapkit.cli.outputs import output_path
    from gapkit.estimators.gap import load
    from gapkit.exceptions import SettingsError
    from gapkit.model_selection import write_card

    gap = load(options.model)
    if options.data and not options.card:
        raise SettingsError("--data is for --card: name the card's file too")
    if not options.card:
        print(gap.describe())
        return
    target = output_path(options.card)
    report = gap.evaluate(read_labelled(options.data, gap, gap.potential_.check)) if options.data else None
    write_card(gap, target, report)
    print(f"written: {target}")
