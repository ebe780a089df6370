"""The command ``gapkit rates``: turnover frequency of a mechanism, its error bar, and the number to compute next."""

from __future__ import annotations

import argparse

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.apps.kinetics.microkinetics import MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.pictures import microkinetics_figure
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import add_result_outputs, result_paths, show_result
from gapkit.exceptions import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("mechanism", metavar="MECHANISM.toml", help="species, reactions and their energies")
    parser.add_argument(
        "--activity", action="append", default=[], metavar="NAME=VALUE",
        help="pressure of a gas (bar), or activity of a fixed species; once for each",
    )  # fmt: skip
    add_settings(parser, MicrokineticsSettings)
    add_result_outputs(parser, "rate control and worth of more numbers")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Steady state and its errors, printed, drawn, and written."""
    settings = MicrokineticsSettings.from_dict(settings_table(options, MicrokineticsSettings))
    paths = result_paths(options)
    activities = dict(_activity(text) for text in options.activity)
    found = run_microkinetics(
        Mechanism.from_file(options.mechanism), activities, None, settings, random_state=options.seed,
        progress=not options.quiet,
    )  # fmt: skip
    show_result(found, paths, microkinetics_figure)


def _activity(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not name.strip() or not number >= 0:
        raise SettingsError(f"--activity takes NAME=VALUE such as CO=0.3, not {text!r:.80}")
    return name.strip(), number
