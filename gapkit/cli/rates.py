"""The command ``gapkit rates``: turnover frequency of a mechanism, its error bar, and the number to compute next."""

from __future__ import annotations

import argparse

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.apps.kinetics.pictures import microkinetics_figure
from gapkit.apps.kinetics.run import MicrokineticsSettings, run_microkinetics
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.outputs import output_path, picture_path, write_json
from gapkit.exceptions import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("mechanism", metavar="MECHANISM.toml", help="species, reactions and their energies")
    parser.add_argument(
        "--activity", action="append", default=[], metavar="NAME=VALUE",
        help="pressure of a gas (bar), or activity of a fixed species; once for each",
    )  # fmt: skip
    add_settings(parser, MicrokineticsSettings)
    parser.add_argument("--plot", metavar="FILE", help="rate control and worth of more numbers (.png, .pdf, .svg)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Steady state and its errors, printed, drawn, and written."""
    settings = MicrokineticsSettings.from_dict(settings_table(options, MicrokineticsSettings))
    target = output_path(options.json) if options.json else None
    picture = picture_path(options.plot) if options.plot else None
    activities = dict(_activity(text) for text in options.activity)
    found = run_microkinetics(
        Mechanism.from_file(options.mechanism), activities, None, settings, random_state=options.seed,
        progress=not options.quiet,
    )  # fmt: skip
    print(found)
    if target:
        write_json(target, found.to_dict())
        print(f"written: {target}")
    if picture:
        microkinetics_figure(found, picture)
        print(f"picture: {picture}")


def _activity(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not name.strip() or not number >= 0:
        raise SettingsError(f"--activity takes NAME=VALUE such as CO=0.3, not {text!r:.80}")
    return name.strip(), number
