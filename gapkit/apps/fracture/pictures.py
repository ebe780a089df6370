"""Pictures of fracture: a crack tip under stress, predicted against labelled rupture, critical loads, resistance curves
and crack paths."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import units

from gapkit.apps.fracture.clusters import Cluster
from gapkit.apps.fracture.crystals import MPA_SQRT_M
from gapkit.apps.fracture.propagation import PropagationResult
from gapkit.apps.fracture.run import FractureResult
from gapkit.descriptors.stress import atomic_stresses, stress_invariants
from gapkit.plotting import BLUE, GREEN, GREY, ORANGE, PURPLE, check_picture, new_figure, save_figure
from gapkit.uncertainty.held_out import HeldOut


def draw_tip(axes: Any, cluster: Cluster, positions: np.ndarray, title: str = "", width: float = 12.0) -> Any:
    """Atoms around a crack tip, coloured by their largest principal stress (GPa), with the bonds that hold."""
    sigma, _ = atomic_stresses(cluster.frame(positions), None, np.full(len(positions), cluster.material.volume))
    stress = stress_invariants(sigma)[:, 4] / units.GPa
    near = np.max(np.abs(positions[:, :2]), axis=1) < width
    for (i, j), broken in zip(cluster.bonds, cluster.broken(positions), strict=True):
        if near[i] and near[j] and not broken:
            axes.plot(*positions[[i, j], :2].T, "-", color="black", lw=0.8, zorder=1)
    dots = axes.scatter(*positions[near, :2].T, c=stress[near], cmap="viridis", s=60, vmin=0, vmax=40, zorder=2)
    axes.set(xlabel="x (A)", ylabel="y (A)", aspect="equal", xlim=(-width, width), ylim=(-width, width))
    axes.set_title(title, fontsize=10)
    return dots


def draw_held_out(axes: Any, held: HeldOut, tip: np.ndarray, title: str = "") -> None:
    """Predicted against labelled driving forces with error bars; bonds at tips in another colour."""
    axes.errorbar(held.label, held.predicted, held.std, fmt="none", ecolor=GREY, elinewidth=0.6, alpha=0.5)
    axes.plot(held.label[~tip], held.predicted[~tip], "o", ms=3.5, mew=0, color=BLUE, label="other bonds")
    axes.plot(held.label[tip], held.predicted[tip], "o", ms=3.5, mew=0, color=ORANGE, label="tip bonds")
    span = [held.label.min(), held.label.max()]
    axes.plot(span, span, "-", color="black", lw=0.8)
    axes.set(xlabel="label: energy released by rupture (eV)", ylabel="predicted (eV)")
    axes.set_title(f"{title}: $R^2$ {held.r2:.3f}, tip bonds {held.part(tip).r2:.3f}", fontsize=10)
    axes.legend(fontsize=8)


def draw_critical_loads(axes: Any, result: FractureResult) -> None:
    """Predicted loads of rupture with error bars, over the trapping ranges of the atoms."""
    places = np.arange(len(result.predictions))
    for n, c in enumerate(result.predictions):
        low, high = c.k_minus / MPA_SQRT_M, c.k_plus / MPA_SQRT_M
        axes.plot(
            [n, n], [low, high], "-", color=GREY, lw=7, alpha=0.5, label="atoms: $K_-$ to $K_+$" if n == 0 else None
        )
        axes.plot(n, c.griffith / MPA_SQRT_M, "_", color="black", ms=12, label="Griffith" if n == 0 else None)
    for name, color, shift in (("atoms", BLUE, -0.15), ("continuum", ORANGE, 0.15)):
        value = np.array([getattr(c, name) for c in result.predictions]) / MPA_SQRT_M
        std = np.array([getattr(c, name + "_std") for c in result.predictions]) / MPA_SQRT_M
        axes.errorbar(places + shift, value, std, fmt="o", ms=4, color=color, capsize=2, label=f"predicted, {name}")
    names = [f"{c.system} {np.degrees(c.mode):+.0f} deg" for c in result.predictions]
    axes.set_xticks(places, names, fontsize=7, rotation=90)
    axes.set(ylabel="stress intensity (MPa m$^{1/2}$)", ylim=(0, None))
    axes.set_title("crack systems not trained on", fontsize=10)
    axes.legend(fontsize=8, loc="lower left")


def draw_resistance(axes: Any, x: np.ndarray, curves: np.ndarray, theory: np.ndarray | None = None) -> None:
    """Stress intensity (MPa m^(1/2)) for growth against the place of the tip: mean and standard deviation of draws
    (n_samples, n), and theory (n,), all in eV/A^(5/2)."""
    mean, std = curves.mean(axis=0) / MPA_SQRT_M, curves.std(axis=0, ddof=1) / MPA_SQRT_M
    axes.fill_between(x, mean - std, mean + std, color=BLUE, alpha=0.3, lw=0)
    axes.plot(x, mean, "-", color=BLUE, label="fracture potential")
    if theory is not None:
        axes.plot(x, theory / MPA_SQRT_M, "--", color="black", lw=1, label="Griffith")
    axes.set(xlabel="tip (A)", ylabel="K for growth (MPa m$^{1/2}$)", ylim=(0, None))
    axes.set_title("resistance curve", fontsize=10)
    axes.legend(fontsize=8, loc="lower right")


def draw_paths(axes: Any, runs: Sequence[tuple[str, PropagationResult]], theory: Sequence[float] = ()) -> None:
    """Crack paths with those of the draws; ``theory``: angles (rad) of straight lines from the origin."""
    colors = (BLUE, ORANGE, GREEN, PURPLE)
    for (name, run), color in zip(runs, colors, strict=False):
        for sample in run.samples:
            axes.plot(*sample.path.T, "-", color=color, lw=0.5, alpha=0.25)
        axes.plot(*run.mean.path.T, "-", color=color, lw=2, label=name)
    reach = max(float(run.mean.path[:, 0].max()) for _, run in runs)
    for n, angle in enumerate(theory):
        label = "largest energy release" if n == 0 else None
        axes.plot([0, reach], [0, reach * np.tan(angle)], "--", color="black", lw=1, label=label)
    axes.set(xlabel="x (A)", ylabel="y (A)")
    axes.set_title("crack paths", fontsize=10)
    axes.legend(fontsize=8)


def draw_arrest(axes: Any, loads: np.ndarray, ensemble: PropagationResult, theory: np.ndarray, edge: float) -> None:
    """Place of arrest against the load: mean of the draws with standard deviation, theory, and the interface."""
    x = ensemble.sampled_arrest_x if ensemble.samples else ensemble.arrest_x[None]
    axes.errorbar(loads, np.nanmean(x, axis=0), ensemble.arrest_x_std, fmt="o", ms=4, color=BLUE, capsize=2)
    axes.plot(loads, theory, "-", color="black", lw=1, label="theory")
    axes.axhline(edge, color=ORANGE, lw=1, ls="--", label="interface")
    axes.set(xlabel="opening (A)", ylabel="place of arrest (A)")
    axes.set_title("arrest in two phases", fontsize=10)
    axes.legend(fontsize=8)


def fracture_figure(result: FractureResult, path: str | os.PathLike) -> None:
    """A crack tip, left-out bonds, and critical loads of crack systems not trained on, as one picture file."""
    check_picture(path)
    figure, (axes,) = new_figure(columns=3, width=4.6)
    history = result.histories[0]
    dots = draw_tip(axes[0], history.cluster, history.states[-1].positions, f"{history.name} deg, below rupture")
    figure.colorbar(dots, ax=axes[0], label="largest principal stress (GPa)")
    draw_held_out(axes[1], result.by_history, result.labels.tip, "histories left out")
    draw_critical_loads(axes[2], result)
    save_figure(figure, path)


def propagation_figure(result: PropagationResult, path: str | os.PathLike) -> None:
    """The crack's path and those of its draws, and the place of arrest against the load, as one picture file."""
    check_picture(path)
    figure, (axes,) = new_figure(columns=2, width=4.6)
    draw_paths(axes[0], [("mean potential", result)])
    std = np.where(np.isfinite(result.arrest_x_std), result.arrest_x_std, 0.0)
    axes[1].errorbar(result.mean.loads, result.arrest_x, yerr=std, fmt="o", ms=4, color=BLUE, capsize=2)
    axes[1].set(xlabel="load", ylabel="place of arrest (A)")
    axes[1].set_title(f"bars: std of {len(result.samples)} draws", fontsize=9)
    save_figure(figure, path)
