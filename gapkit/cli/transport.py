"""The command ``gapkit transport``: diffusion and conductivity of ions, by dynamics or from trajectories."""

from __future__ import annotations

import argparse

from gapkit.apps.ion_transport.pictures import transport_figure
from gapkit.apps.ion_transport.run import TransportSettings, run_transport
from gapkit.apps.ion_transport.trajectories import IonTrajectory
from gapkit.cli.configuration import add_settings, settings_table
from gapkit.cli.inputs import last_frame
from gapkit.cli.outputs import add_result_outputs, result_paths, show_result
from gapkit.estimators.gap import load
from gapkit.exceptions import SettingsError
from gapkit.structures.files import read_frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "frames", nargs="+", metavar="FRAMES.xyz", help="a start with --model, else a trajectory for each temperature"
    )
    parser.add_argument("--model", metavar="MODEL", help="run dynamics with this potential from the last frame")
    parser.add_argument("--frame-time", type=float, metavar="FS", help="time between the frames of trajectories (fs)")
    parser.add_argument(
        "--draws", type=int, default=0, metavar="N",
        help="potentials drawn from the posterior, at least 3, whose runs give the potential's error (default 0: none)",
    )  # fmt: skip
    add_settings(parser, TransportSettings)
    add_result_outputs(parser, "displacements and Arrhenius lines")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> None:
    """Diffusion, conductivity and activation energy, printed, drawn, and written."""
    settings = TransportSettings.from_dict(settings_table(options, TransportSettings))
    paths = result_paths(options)
    if options.model:
        if len(options.frames) > 1 or options.frame_time is not None:
            raise SettingsError("with --model give one file with the start, and no --frame-time")
        if options.draws < 0 or 0 < options.draws < 3:
            raise SettingsError(f"--draws must be 0 or at least 3, not {options.draws}")
        gap = load(options.model)
        start = last_frame(options.frames[0], gap)
        drawn = gap.samples(options.draws, options.seed, [start]) if options.draws else []
        found = run_transport(
            start, gap.calculator(), settings, posterior=[one.calculator() for one in drawn],
            random_state=options.seed, progress=not options.quiet,
        )  # fmt: skip
    else:
        found = run_transport(_trajectories(options, settings), settings=settings)
    show_result(found, paths, transport_figure)


def _trajectories(options: argparse.Namespace, settings: TransportSettings) -> dict[float, IonTrajectory]:
    """Trajectories of the files by temperature."""
    if options.draws:
        raise SettingsError("--draws needs --model")
    if options.frame_time is None:
        raise SettingsError("trajectories need --frame-time, the time between two frames (fs); dynamics needs --model")
    if len(options.frames) != len(settings.temperatures):
        raise SettingsError(
            f"{len(options.frames)} trajectories for {len(settings.temperatures)} temperatures: name as many "
            "--temperatures as files, in their order"
        )
    return {
        t: IonTrajectory.from_frames(read_frames(path), options.frame_time)
        for t, path in zip(settings.temperatures, options.frames, strict=True)
    }
