"""Pictures of a domain (distances, standard deviations, map) and of its repair (errors against labels)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gapkit.apps.transferability.environments import DomainMap
from gapkit.apps.transferability.learning import LearningResult
from gapkit.apps.transferability.phases import PhasesResult, PhaseTransfer
from gapkit.apps.transferability.run import DomainResult
from gapkit.apps.transferability.si100 import FACES, DimersResult
from gapkit.plotting import BLUE, CYCLE, GREY, check_picture, new_figure, save_figure


def draw_distances(axes: Any, report: DomainResult) -> None:
    """Standard deviation of each new atom against its distance to the training set, with both limits; training atoms in
    grey."""
    axes.plot(
        report.training_distance, 1e3 * report.training.std, ".", ms=2.5, color=GREY, alpha=0.5, label="training atoms"
    )
    names = list(dict.fromkeys(report.new.config_type.tolist()))
    for name, color in zip(names, CYCLE * (len(names) // len(CYCLE) + 1), strict=False):
        of_type = report.new.config_type == name
        axes.plot(
            report.distance[of_type], 1e3 * report.std[of_type], "o", ms=4, mew=0, alpha=0.7, color=color, label=name
        )
    axes.axvline(report.distance_limit, color="black", lw=0.8, ls="--")
    axes.axhline(1e3 * report.std_limit, color="black", lw=0.8, ls=":")
    axes.set(xlabel="kernel distance to the nearest training atom", ylabel="std of the local energy (meV)")
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))  # above: inside it hides the limit


def draw_map(axes: Any, chart: DomainMap, report: DomainResult) -> Any:
    """Training environments in grey, new ones coloured by the standard deviation of their local energy; the colours are
    returned."""
    axes.plot(*chart.training.T, ".", ms=3, color=GREY, alpha=0.5, label="training")
    colours = 1e3 * report.std[chart.new_place]
    points = axes.scatter(*chart.new.T, c=colours, s=16, cmap="inferno_r", lw=0.2, edgecolors="black", label="new")
    first, second = (f"{100 * share:.0f} %" for share in chart.explained)
    axes.set(xlabel=f"first component ({first} of the variance)", ylabel=f"second component ({second})")
    axes.legend(fontsize=8)
    return points


def domain_figure(result: DomainResult, path: str | os.PathLike) -> None:
    """Distances and standard deviations, and the map where there is one, as one picture file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=1 if result.chart is None else 2, width=4.6, height=4.0)
    draw_distances(axes[0], result)
    if result.chart is not None:
        colours = draw_map(axes[1], result.chart, result)
        figure.colorbar(colours, ax=axes[1], label="std of the local energy (meV)")
    save_figure(figure, path)


def draw_dimers(axes: Any, result: DimersResult) -> None:
    """Energies of the faces per dimer with two standard deviations, and the geometry of their dimers."""
    places = np.arange(len(FACES))
    gains = [result.gain(face) for face in FACES]
    std = [2 * g.std for g in gains]
    axes.errorbar(places, [g.value for g in gains], yerr=std, fmt="o", ms=5, capsize=3, color=BLUE)
    for place, face, gain in zip(places, FACES, gains, strict=True):
        d = result.geometry(face)
        axes.annotate(
            f"{d.length:.2f} A, {d.buckling:.0f} deg", (place, gain.value), (0, 12), textcoords="offset points",
            ha="center", fontsize=8,
        )  # fmt: skip
    axes.axhline(0.0, color=GREY, lw=0.8)
    axes.set_xticks(places, FACES)
    axes.set(ylabel="energy per dimer (eV)", xlim=(-0.5, len(FACES) - 0.5))
    axes.margins(y=0.2)
    axes.set_title("Si(100): bars are 2 std of the difference", fontsize=9)


def dimers_figure(result: DimersResult, path: str | os.PathLike) -> None:
    """:func:`draw_dimers` as one picture file; raises as :func:`domain_figure`."""
    check_picture(path)
    figure, ((axes,),) = new_figure(width=4.6, height=4.0)
    draw_dimers(axes, result)
    save_figure(figure, path)


def draw_gain(axes: Any, curves: Sequence[LearningResult], face: str = "buckled") -> None:
    """Dimer energy with two standard deviations against the number of surface labels, and the reference.

    Error bars before the first label may run out of the picture: its height follows those after it.
    """
    for k, (curve, color) in enumerate(zip(curves, CYCLE, strict=False)):
        value, std = curve.gains(face)
        shift = 0.35 * (k - (len(curves) - 1) / 2)
        axes.errorbar(
            curve.n_added + shift, value, yerr=2 * std, fmt="o-", ms=4, lw=1, capsize=2, color=color, label=curve.name
        )
    line = curves[0].reference.gain(face).value
    axes.axhline(line, color="black", lw=1)
    axes.axhspan(line - 0.03, line + 0.03, color=GREY, alpha=0.25, lw=0)
    axes.set(xlabel="surface frames added", ylabel=f"energy of the {face} dimer (eV)")
    ends = np.array([line - 0.05, line + 0.05])
    for curve in curves:
        value, std = curve.gains(face)
        later = np.isfinite(value) & ((curve.n_added > 0) | (len(value) == 1))
        reach = np.concatenate([ends, (value - 2 * std)[later], (value + 2 * std)[later], value[np.isfinite(value)]])
        ends = np.array([reach.min(), reach.max()])
    axes.set_ylim(*(ends + 0.05 * np.ptp(ends) * np.array([-1, 1])))
    axes.set_title("line: DFT, band: 30 meV, bars: 2 std", fontsize=9)
    axes.legend(fontsize=8, loc="lower right")


def draw_errors(axes: Any, curves: Sequence[LearningResult]) -> None:
    """Error (full) and predicted standard deviation (dashed) of energies of test surfaces against the number of
    labels."""
    for curve, color in zip(curves, CYCLE, strict=False):
        error = [1e3 * s.energy_rmse for s in curve.steps]
        axes.plot(curve.n_added, error, "o-", ms=4, lw=1, color=color, label=f"{curve.name}: error")
        std = [1e3 * s.energy_std for s in curve.steps]
        axes.plot(curve.n_added, std, "s--", ms=3, lw=1, color=color, label=f"{curve.name}: std")
    axes.set(xlabel="surface frames added", ylabel="energy of test surfaces (meV/atom)", yscale="log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.legend(fontsize=8)


def learning_figure(result: LearningResult | Sequence[LearningResult], path: str | os.PathLike) -> None:
    """Dimer energies, and errors of test surfaces, of one strategy or several, as one picture file; raises as
    :func:`domain_figure`."""
    check_picture(path)
    curves = [result] if isinstance(result, LearningResult) else list(result)
    figure, (axes,) = new_figure(columns=2, width=4.6, height=4.0)
    draw_gain(axes[0], curves)
    draw_errors(axes[1], curves)
    save_figure(figure, path)


def draw_phases(axes: Any, results: Sequence[PhaseTransfer]) -> None:
    """Energies of scans of volume of unseen phases: labels, and predictions with two standard deviations."""
    for result, color in zip(results, CYCLE, strict=False):
        scan = [k for k, name in enumerate(result.trajectory) if name.endswith("volume")] or range(len(result.z))
        order = sorted(scan, key=lambda k: result.volume[k])
        axes.plot(result.volume[order], result.reference[order], "-", color=color, label=" + ".join(result.families))
        axes.errorbar(
            result.volume[order], result.predicted[order], yerr=2 * result.predicted_std[order], fmt="o", ms=4,
            capsize=2, color=color,
        )  # fmt: skip
    axes.set(xlabel="volume (A$^3$/atom)", ylabel="energy above diamond (eV/atom)")
    axes.set_title("lines: DFT; points: predicted unseen, 2 std", fontsize=9)
    axes.legend(fontsize=8)


def phases_figure(result: PhasesResult, path: str | os.PathLike) -> None:
    """:func:`draw_phases` as one picture file; raises as :func:`domain_figure`."""
    check_picture(path)
    figure, ((axes,),) = new_figure(width=4.6, height=4.0)
    draw_phases(axes, result.transfers)
    save_figure(figure, path)
