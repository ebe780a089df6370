"""Pictures of kinetics: a profile with its error bars and rates beside it, and the control of a turnover frequency."""

from __future__ import annotations

import os

import numpy as np

from gapkit.apps.kinetics.active_barrier import ActiveBarrierResult
from gapkit.apps.kinetics.microkinetics import MicrokineticsResult
from gapkit.apps.kinetics.run import BarrierResult
from gapkit.plotting import BLUE, GREEN, ORANGE, check_picture, new_figure, save_figure


def barrier_figure(result: BarrierResult, path: str | os.PathLike) -> None:
    """Energy along the path with the error bars of saddle and final minimum, and rates with 90 % bands, as one file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=2)
    found, zero = result.path, result.path.energies[0]
    axes[0].plot(found.coordinate, found.energies - zero, "o-", ms=4, lw=1, color=BLUE, label="path")
    top = int(np.argmax(found.energies))
    at = [found.coordinate[top], found.coordinate[-1]]
    axes[0].errorbar(
        at, [result.forward, result.reaction_energy], yerr=[2 * result.forward_std, 2 * result.reaction_energy_std],
        fmt="s", ms=4, capsize=3, color=ORANGE, label="saddle and final minimum, two std",
    )  # fmt: skip
    axes[0].set(xlabel="length of the path ($\\mathrm{\\AA}$)", ylabel="energy (eV)")
    axes[0].legend(fontsize=8)
    rates = result.rates
    low, high = rates.interval(0.9)
    order = np.argsort(rates.temperature)
    x = 1e3 / rates.temperature[order]
    axes[1].fill_between(x, low[order], high[order], color=BLUE, alpha=0.25, lw=0, label="90 % interval")
    axes[1].plot(x, rates.median[order], "o-", ms=4, lw=1, color=BLUE, label="median")
    axes[1].set(xlabel="1000 / T (1/K)", ylabel="rate (1/s)", yscale="log")
    axes[1].legend(fontsize=8)
    save_figure(figure, path)


def active_barrier_figure(result: ActiveBarrierResult, path: str | os.PathLike) -> None:
    """Path on the potential with the oracle's labels at its three points, and the course of the search, as one file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=2)
    found = result.path
    axes[0].plot(found.coordinate, found.energies - found.energies[0], "o-", ms=4, lw=1, color=BLUE, label="potential")
    top = found.coordinate[int(np.argmax(found.energies))]
    axes[0].errorbar(
        [0.0, top, found.coordinate[-1]], [0.0, result.forward, result.reaction_energy],
        yerr=[0.0, 2 * result.forward_std, 2 * result.reaction_energy_std],
        fmt="s", ms=4, capsize=3, color=ORANGE, label="labels of the oracle, two std",
    )  # fmt: skip
    axes[0].set(xlabel="length of the path ($\\mathrm{\\AA}$)", ylabel="energy (eV)")
    axes[0].legend(fontsize=8)
    labels = [step.labels for step in result.steps]
    forces = np.array([step.largest_force for step in result.steps])
    for k, (name, color) in enumerate((("initial minimum", GREEN), ("saddle", ORANGE), ("final minimum", BLUE))):
        axes[1].plot(
            labels, np.where(np.isfinite(forces[:, k]), forces[:, k], np.nan), "o-", ms=4, color=color, label=name
        )
    axes[1].axhline(result.settings.fmax, color="0.3", lw=0.8, ls="--")
    axes[1].set(xlabel="labels", ylabel="largest labelled force (eV/$\\mathrm{\\AA}$)", yscale="log")
    axes[1].legend(fontsize=8)
    save_figure(figure, path)


def microkinetics_figure(result: MicrokineticsResult, path: str | os.PathLike) -> None:
    """Degrees of rate control beside the worth of one more number for each energy, as one picture file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=2)
    names = [r.name for r in result.mechanism.reactions]
    axes[0].barh(names, result.rate_control, color=BLUE)
    axes[0].axvline(0.0, color="0.3", lw=0.8)
    axes[0].set(xlabel="degree of rate control", title="reactions")
    order = np.argsort(result.information)[::-1][:8]
    axes[1].barh([result.mechanism.parameters[k] for k in order], 100 * result.information[order], color=ORANGE)
    axes[1].set(xlabel="variance removed by one more number (%)", title="energies")
    for one in axes:
        one.invert_yaxis()
    save_figure(figure, path)
