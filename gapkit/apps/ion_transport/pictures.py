"""Pictures of ion transport: displacements, Arrhenius lines and energy profiles with bands, hops of defects."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from gapkit.apps.ion_transport.barrier_profile import PeriodicBarrier, ProfileBarrier
from gapkit.apps.ion_transport.conductivity import Arrhenius
from gapkit.apps.ion_transport.diffusion import CM2_PER_S, DiffusionEstimate
from gapkit.apps.ion_transport.hops import HopsResult
from gapkit.apps.ion_transport.run import TransportResult
from gapkit.plotting import BLUE, CYCLE, ORANGE, check_picture, new_figure, save_figure


def transport_figure(result: TransportResult, path: str | os.PathLike) -> None:
    """Displacements at each temperature, and diffusion constants against 1/T with lines and bands, as one picture file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=2)
    draw_displacements(axes[0], result)
    for name, line, color in (
        ("tracer", result.tracer_line, BLUE),
        ("collective", result.conductivity_line, ORANGE),
    ):
        draw_arrhenius(axes[1], result.temperatures, [getattr(d, name) for d in result.diffusion], line, name, color)
    axes[1].set(xlabel="1000 / T (1/K)", ylabel="D (cm$^2$/s)", yscale="log")
    axes[1].set_title("triangles: upper bounds (95 %)", fontsize=9)
    axes[1].legend(fontsize=8)
    save_figure(figure, path)


def draw_displacements(axes: Any, result: TransportResult) -> None:
    """Mean-square displacements of single ions with error bars, and the lines that give the diffusion constants."""
    for temperature, found in zip(result.temperatures, result.diffusion, strict=True):
        t = found.tracer
        (bars, *_) = axes.errorbar(
            t.lags / 1e3, t.msd, yerr=t.msd_std, fmt="o", ms=3, elinewidth=0.8, label=f"{temperature:g} K"
        )
        axes.plot(t.lags / 1e3, t.intercept + 6 * t.value * t.lags, "-", lw=0.9, color=bars.get_color())
    axes.set(xlabel="time (ps)", ylabel=f"mean-square displacement of {result.settings.species} ($\\mathrm{{\\AA}}^2$)")
    axes.set_title("lines: intercept + 6 D t", fontsize=9)
    axes.legend(fontsize=8)


def draw_arrhenius(
    axes: Any,
    temperatures: np.ndarray,
    estimates: list[DiffusionEstimate],
    line: Arrhenius | None,
    name: str,
    color: str,
) -> None:
    """Diffusion constants against 1000/T with error bars or upper bounds, and the line with a band of one standard
    deviation of all errors."""
    for k, (t, found) in enumerate(zip(temperatures, estimates, strict=True)):
        label = name if k == 0 else None
        x, scale = 1000 / t, CM2_PER_S
        if found.resolved:
            axes.errorbar(x, scale * found.value, yerr=scale * found.value_std, fmt="o", ms=4, color=color, label=label)
        else:
            axes.plot(x, scale * found.upper, marker="v", ms=6, color=color, mfc="none", ls="none", label=label)
    if line is not None:
        ends = 1 / np.linspace(1 / temperatures.max(), 1 / temperatures.min(), 50)
        value, std = line.line(ends)
        axes.plot(1000 / ends, CM2_PER_S * np.exp(value), "-", color=color, lw=1.2)
        low, high = (CM2_PER_S * np.exp(value + sign * std) for sign in (-1, 1))
        axes.fill_between(1000 / ends, low, high, color=color, alpha=0.25, lw=0)


def profile_figure(
    model: PeriodicBarrier, barrier: ProfileBarrier, path: str | os.PathLike, labels: tuple[np.ndarray, np.ndarray]
) -> None:
    """Energy profile with a band of one standard deviation and its labels, and the posterior of the barrier.

    Parameters
    ----------
    labels
        Path coordinates (n,) and energies (n,; eV) that the model was fitted to.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=2)
    s = np.linspace(0, model.period, 201)
    value, std = model.profile(s)
    axes[0].fill_between(s, value - std, value + std, color=BLUE, alpha=0.25, lw=0)
    axes[0].plot(s, value, "-", color=BLUE)
    axes[0].plot(np.mod(labels[0], model.period), labels[1] - model.offset, "o", ms=4, color="black", label="labels")
    axes[0].set(xlabel="path coordinate", ylabel="energy about its mean (eV)")
    axes[0].legend(fontsize=8)
    axes[1].hist(barrier.samples, bins=40, density=True, color=BLUE, alpha=0.6, label="random profiles")
    low, high = np.quantile(barrier.samples, [0.001, 0.999])
    x = np.linspace(low, high, 200)
    normal = np.exp(-0.5 * ((x - barrier.linear) / barrier.linear_std) ** 2)
    axes[1].plot(
        x, normal / (barrier.linear_std * np.sqrt(2 * np.pi)), color=ORANGE, label="linearised at the mean profile"
    )
    axes[1].set(xlabel="barrier (eV)", ylabel="density (1/eV)")
    axes[1].legend(fontsize=8)
    save_figure(figure, path)


def hops_figure(result: HopsResult, path: str | os.PathLike) -> None:
    """Energy along each kind of hop, and the tracer diffusion constant against 1/T with its band, as one picture file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    figure, (axes,) = new_figure(columns=2)
    for k, (hop, found) in enumerate(zip(result.network.kinds, result.barriers, strict=True)):
        draw_hop(axes[0], found, f"{hop.distance:.2f} $\\mathrm{{\\AA}}$", CYCLE[k % len(CYCLE)])
    axes[0].legend(fontsize=8)
    draw_tracer(axes[1], result)
    axes[1].legend(fontsize=8)
    save_figure(figure, path)


def draw_hop(axes: Any, found: Any, label: str, color: str) -> None:
    """Energy along the path of a hop, with the barrier's standard deviation as a band.

    The standard deviation is known at the saddle; the band is narrower elsewhere in proportion to the energy.

    Parameters
    ----------
    found
        Barrier of the hop (:class:`gapkit.apps.kinetics.BarrierResult`).
    """
    energy = found.path.energies - found.path.energies[0]
    share = found.forward_std * np.clip(energy / found.forward, 0.0, 1.0)
    axes.fill_between(found.path.coordinate, energy - share, energy + share, color=color, alpha=0.3, lw=0)
    axes.plot(found.path.coordinate, energy, "o-", ms=4, lw=1, color=color, label=label)
    axes.set(xlabel="length of the path ($\\mathrm{\\AA}$)", ylabel="energy (eV)")


def draw_tracer(axes: Any, result: HopsResult, color: str = BLUE) -> None:
    """Tracer diffusion constant by hops against 1000/T, with its 90 % interval as a band."""
    order = np.argsort(result.temperature)
    x = 1e3 / result.temperature[order]
    low, high = (CM2_PER_S * end[order] for end in result.interval(0.9))
    axes.fill_between(x, low, high, color=color, alpha=0.25, lw=0, label="90 % interval")
    axes.plot(x, CM2_PER_S * result.tracer[order], "o-", ms=4, lw=1, color=color, label="median")
    axes.set(xlabel="1000 / T (1/K)", ylabel=f"tracer D of {result.network.species} (cm$^2$/s)", yscale="log")
