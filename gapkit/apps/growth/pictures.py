"""Pictures of growth: the surface from above, its record, the spread by uncertain barriers, and an animation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gapkit.apps.growth.ensemble import GrowthEnsemble
from gapkit.apps.growth.run import SurfaceGrowthResult
from gapkit.apps.growth.simulation import GrowthResult
from gapkit.exceptions import DataError
from gapkit.plotting import BLUE, GREY, ORANGE, check_picture, new_figure, save_figure
from gapkit.safe_write import replacing


def relief(heights: np.ndarray, n_steps: int = 0, span: tuple[int, int] | None = None) -> np.ndarray:
    """Brightness (L, L) from 0 to 1 of a surface lit from the low side of x and y; ``span``: heights of the darkest and
    the brightest terrace, those of the surface by default."""
    right = np.roll(heights, -1, axis=0)
    right[-1] -= n_steps
    slope = (heights - right) + (heights - np.roll(heights, -1, axis=1))
    low, high = span if span is not None else (int(heights.min()), int(heights.max()))
    terrace = (heights - low) / max(high - low, 1)
    return np.clip(0.2 + 0.6 * terrace - 0.12 * np.clip(slope, -1, 1), 0.0, 1.0)


def surface_image(axes: Any, heights: np.ndarray, title: str, n_steps: int = 0, span: tuple[int, int] | None = None):
    """Draw a surface from above; x to the right."""
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10)
    picture = relief(heights, n_steps, span).T
    return axes.imshow(picture, origin="lower", cmap="cividis", vmin=0, vmax=1, interpolation="nearest")


def _series(result: GrowthResult) -> np.ndarray:
    heights = np.asarray(result.heights)
    if heights.ndim != 3:
        raise DataError("the result holds the last surface only: run with GrowthSettings(keep_heights=True)")
    return heights


def _layers(result: GrowthResult, k: int) -> str:
    return f"{result.mean_height[k] - result.mean_height[0]:.2f} layers, {result.time[k]:.3g} s"


def growth_figure(result: GrowthResult, path: str | os.PathLike, n_images: int = 3) -> None:
    """Surfaces at evenly spread times, and roughness and step density against the layers grown, as one picture file.

    Raises
    ------
    DataError
        Where the result holds the last surface only.
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    heights = _series(result)
    figure, (axes,) = new_figure(columns=n_images + 1)
    span = (int(heights.min()), int(heights.max()))
    chosen = np.linspace(0, len(heights) - 1, n_images + 1).round().astype(int)[1:]
    for axis, k in zip(axes, chosen, strict=False):
        surface_image(axis, heights[k], _layers(result, k), result.settings.n_steps, span)
    draw_record(axes[-1], result)
    save_figure(figure, path)


def draw_record(axes: Any, result: GrowthResult) -> None:
    """Roughness and step density against the layers grown."""
    grown = result.mean_height - result.mean_height[0]
    axes.plot(grown, result.roughness, "-", color=BLUE, label="roughness w (layers)")
    axes.plot(grown, result.step_density, "-", color=ORANGE, label="step density")
    without = np.sqrt(result.roughness[0] ** 2 + np.maximum(grown, 0))  # chance arrivals add Poisson's variance
    axes.plot(grown, without, ":", color="black", lw=0.9, label="w without hops (Poisson)")
    axes.set(xlabel="grown (layers)", ylim=(0, None))
    axes.set_title(f"{result.settings.temperature:g} K, {result.settings.flux:g} layers/s", fontsize=10)
    axes.legend(fontsize=8)


def draw_ensemble(axes: Any, ensemble: GrowthEnsemble, title: str, quantity: str = "roughness") -> None:
    """Mean of a quantity ("roughness" or "mean_height", layers) against time, with bands of one standard deviation:
    that due to the barriers' uncertainty, and that of chance in one run."""
    mean, barriers, chance = ensemble.variance_components(getattr(ensemble, quantity))
    axes.fill_between(ensemble.time, mean - barriers, mean + barriers, color=ORANGE, alpha=0.35, lw=0, label="barriers")
    axes.fill_between(ensemble.time, mean - chance, mean + chance, color=GREY, alpha=0.6, lw=0)
    axes.plot(ensemble.time, mean, "-", color=BLUE, label="mean; grey: chance")
    axes.set(xlabel="time (s)", ylabel=f"{quantity.replace('_', ' ')} (layers)", ylim=(0, None))
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper left")


def ensemble_figure(
    runs: Sequence[tuple[str, GrowthEnsemble]], path: str | os.PathLike, quantity: str = "roughness"
) -> None:
    """Ensembles side by side (:func:`draw_ensemble`), as one picture file."""
    check_picture(path)
    figure, (axes,) = new_figure(columns=len(runs))
    for axis, (name, ensemble) in zip(axes, runs, strict=True):
        draw_ensemble(axis, ensemble, name, quantity)
    save_figure(figure, path)


def surface_growth_figure(result: SurfaceGrowthResult, path: str | os.PathLike) -> None:
    """The surface at the end, its record, and the ensemble where there is one, as one picture file.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures.
    """
    check_picture(path)
    grown, metal = result.growth, f"{result.settings.metal}(100)"
    figure, (axes,) = new_figure(columns=2 if result.ensemble is None else 3)
    heights = np.asarray(grown.heights)
    last = heights[-1] if heights.ndim == 3 else heights
    surface_image(axes[0], last, f"{metal}, {_layers(grown, -1)}", grown.settings.n_steps)
    draw_record(axes[1], grown)
    if result.ensemble is not None:
        draw_ensemble(axes[2], result.ensemble, metal)
    save_figure(figure, path)


def animate_growth(result: GrowthResult, path: str | os.PathLike, frames_per_second: int = 12) -> None:
    """The growing surface as an animated picture (.gif).

    Raises
    ------
    DataError
        Where the result holds the last surface only, or ``path`` does not end in .gif.
    """
    from matplotlib.animation import FuncAnimation, PillowWriter

    if not str(path).lower().endswith(".gif"):
        raise DataError(f"{path}: an animation ends in .gif")
    heights = _series(result)
    figure, ((axis,),) = new_figure(width=4.4, height=4.7)
    n_steps, span = result.settings.n_steps, (int(heights.min()), int(heights.max()))
    image = surface_image(axis, heights[0], _layers(result, 0), n_steps, span)

    def draw(k: int):
        image.set_data(relief(heights[k], n_steps, span).T)
        axis.set_title(_layers(result, k), fontsize=10)
        return (image,)

    film = FuncAnimation(figure, draw, frames=len(heights), cache_frame_data=False)
    with replacing(path) as temporary:
        film.save(temporary, writer=PillowWriter(fps=frames_per_second), dpi=90)
