"""Pictures; matplotlib is imported when the first one is drawn."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gapkit.exceptions import GapkitError
from gapkit.safe_write import replacing

if TYPE_CHECKING:
    from gapkit.estimators.report import Report
    from gapkit.fitting.label_report import LabelReport

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#718096"
GREEN, PURPLE, RED = "#2f855a", "#6b46c1", "#c53030"
#: colours of curves, in order
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)


class NotebookColours(NamedTuple):
    """Five colours for readers with any kind of colour vision (Okabe and Ito 2008), as hexadecimal RGB."""

    blue: str = "#0072B2"
    orange: str = "#D55E00"
    green: str = "#009E73"
    purple: str = "#CC79A7"
    grey: str = "#7F7F7F"


def notebook_style() -> NotebookColours:
    """Settings of matplotlib for the notebooks: small figures, no frames, curves in five colours.

    The settings hold for all figures that this process draws afterwards (``matplotlib.rcParams``).

    Returns
    -------
    NotebookColours
        The colours of the first five curves of a figure, by name and in order.

    Examples
    --------
    >>> import matplotlib
    >>> with matplotlib.rc_context():
    ...     BLUE, ORANGE, GREEN, PURPLE, GREY = notebook_style()
    >>> BLUE
    '#0072B2'
    """
    import matplotlib
    from matplotlib.rcsetup import cycler

    colours = NotebookColours()
    matplotlib.rcParams.update(
        {
            "figure.dpi": 85,
            "figure.constrained_layout.use": True,
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=colours),
            "legend.frameon": False,
            "lines.linewidth": 1.6,
        }
    )
    return colours


def new_figure(rows: int = 1, columns: int = 1, width: float = 4.2, height: float = 3.9) -> tuple[Any, np.ndarray]:
    """A figure without a window, and its axes (rows, columns); ``width`` and ``height`` of one of them in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: Any, path: str | os.PathLike) -> None:
    """Write a figure; an existing file is replaced only when the new one is complete.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures, or the folder cannot be written to.
    """
    check_picture(path)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def parity(axes: Any, reference: np.ndarray, predicted: np.ndarray, std: np.ndarray, label: str, unit: str) -> None:
    """Predicted against reference values, with error bars of one standard deviation where they are known."""
    known = np.isfinite(std).all() and len(std) == len(reference)
    if known:
        axes.errorbar(reference, predicted, yerr=std, fmt="none", ecolor=GREY, elinewidth=0.6, alpha=0.4, zorder=1)
    axes.plot(reference, predicted, "o", ms=3, mew=0, color=BLUE, alpha=0.6, zorder=2)
    span = [min(reference.min(), predicted.min()), max(reference.max(), predicted.max())]
    axes.plot(span, span, "-", color="black", lw=0.8, zorder=3)
    rmse = float(np.sqrt(np.mean((predicted - reference) ** 2)))
    axes.set(xlabel=f"reference {label} ({unit})", ylabel=f"predicted {label} ({unit})")
    axes.set_title(f"{label}: RMSE {rmse:.3g} {unit}", fontsize=10)


def reliability(axes: Any, errors: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Share of labels inside the central interval of each nominal probability; the diagonal is perfect."""
    from scipy.special import erf

    nominal = np.linspace(0.02, 0.98, 49)
    width = np.linspace(0.01, 4, 800)
    covered = erf(width / np.sqrt(2))
    drawn = False
    for (name, (error, std)), color in zip(errors.items(), (BLUE, ORANGE), strict=False):
        if len(error) == 0 or not np.isfinite(std).all():
            continue
        z = np.abs(error / std)
        inside = np.array([np.mean(z <= np.interp(p, covered, width)) for p in nominal])
        rms_z = float(np.sqrt(np.mean(z**2)))
        axes.plot(nominal, inside, "-", color=color, lw=1.6, label=f"{name}: rms z = {rms_z:.2f}")
        drawn = True
    axes.plot([0, 1], [0, 1], "--", color="black", lw=0.8)
    axes.set(xlabel="nominal probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("error bars: too narrow below, too wide above the line", fontsize=9)
    if drawn:
        axes.legend(fontsize=8, loc="upper left")


def check_picture(path: str | os.PathLike) -> None:
    """Raise :class:`GapkitError` unless the ending of ``path`` names a format that can be drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = FigureCanvasAgg.get_supported_filetypes()
    ending = os.path.splitext(path)[1].lstrip(".").lower()
    if ending not in known:
        raise GapkitError(f"{path}: no picture format of that ending; use .png, .pdf or .svg")


def report_figure(report: Report, path: str | os.PathLike, title: str = "") -> None:
    """Parity of energies and forces with error bars, and their reliability, as one picture file.

    An existing file is replaced only when the new one is complete.

    Raises
    ------
    GapkitError
        Where the ending of ``path`` names no format of pictures, or the folder cannot be written to.
    """
    check_picture(path)
    figure = _report_drawing(report, title)
    save_figure(figure, path)


def _report_drawing(report: Report, title: str) -> Any:
    figure, axes = new_figure(1, 3)
    e, f = report.energy, report.forces
    if len(e["reference"]):
        parity(axes[0, 0], e["reference"], e["predicted"], e["std"], "energy", "eV/atom")
    if len(f["reference"]):
        parity(axes[0, 1], f["reference"], f["predicted"], f["std"], "force", "eV/A")
    reliability(
        axes[0, 2],
        {
            "energies": (e["predicted"] - e["reference"], e["std"]),
            "forces": (f["predicted"] - f["reference"], f["std"]),
        },
    )
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def labels_figure(report: LabelReport, path: str | os.PathLike) -> None:
    """Picture of a label report: energies, forces, errors out of fold, and energies against predictions from forces.

    Raises
    ------
    GapkitError
        As :func:`report_figure`.
    """
    check_picture(path)
    figure, axes = new_figure(2, 2, height=3.3)
    _draw_energies(axes[0, 0], report)
    _draw_forces(axes[0, 1], report)
    _draw_scores(axes[1, 0], report)
    _draw_consistency(axes[1, 1], report)
    for place, text in zip(axes.ravel(), "abcd", strict=True):
        place.set_title(f"({text})", loc="left", fontsize=9)
    save_figure(figure, path)


def _suspicious(report: LabelReport) -> np.ndarray:
    """Which frames (n_frames,) a problem names."""
    return np.isin(report.per_frame["frame"], [k for problem in report.problems for k in problem.frames])


def _draw_energies(axes: Any, report: LabelReport) -> None:
    energy, volume = report.per_frame["energy"], report.per_frame["volume"]
    periodic = np.isfinite(volume).any()
    x = volume if periodic else report.per_frame["frame"]
    marked = _suspicious(report)
    axes.plot(x[~marked], energy[~marked], "o", ms=3, mew=0, color=BLUE, alpha=0.6)
    axes.plot(x[marked], energy[marked], "x", ms=6, color=RED, label="suspicious")
    axes.set(xlabel="volume (A$^3$/atom)" if periodic else "frame", ylabel="energy (eV/atom)")
    if marked.any():
        axes.legend(fontsize=8)


def _draw_forces(axes: Any, report: LabelReport) -> None:
    force, marked = report.per_frame["force"], _suspicious(report)
    x = report.per_frame["frame"]
    shown = np.isfinite(force) & (force > 0)
    axes.plot(x[shown & ~marked], force[shown & ~marked], "o", ms=3, mew=0, color=BLUE, alpha=0.6)
    axes.plot(x[shown & marked], force[shown & marked], "x", ms=6, color=RED)
    axes.set(xlabel="frame", ylabel="rms force (eV/A)")
    if shown.any():
        axes.set_yscale("log")


def _draw_scores(axes: Any, report: LabelReport) -> None:
    for kind, color in zip(("energy", "forces", "virial"), (BLUE, ORANGE, GREEN), strict=True):
        found = sorted((frame, z) for (frame, of), z in report.findings.scores.items() if of == kind)
        if found:
            frames, z = np.array(found).T
            axes.plot(frames, np.maximum(z, 1e-3), "o", ms=3, mew=0, color=color, alpha=0.6, label=kind)
    for label in report.findings.left_out:
        axes.annotate(f"{label.frame} {label.kind}", (label.frame, label.z), fontsize=7, color=RED)
    axes.axhline(1, color="black", lw=0.8)
    axes.set(xlabel="frame", ylabel="error out of fold / typical", yscale="log")
    if report.findings.scores:
        axes.legend(fontsize=8)


def _draw_consistency(axes: Any, report: LabelReport) -> None:
    for c, color in zip(report.findings.consistencies, (BLUE, GREEN), strict=False):
        axes.plot(*c.points.T, "o", ms=3, mew=0, color=color, alpha=0.5, label=f"{c.kind}: slope {c.slope:.3g}")
    if report.findings.consistencies:
        points = np.vstack([c.points for c in report.findings.consistencies])
        span = np.array([points.min(), points.max()])
        axes.plot(span, span, "-", color="black", lw=0.8)
        axes.legend(fontsize=8)
    axes.set(xlabel="predicted from other kinds (eV/atom)", ylabel="label (eV/atom)")


def learning_figure(log: Sequence[Any], path: str | os.PathLike) -> None:
    """Picture of test errors and candidates' standard deviations against labels (``gapkit.active.loop.Generation``).

    Raises
    ------
    GapkitError
        As :func:`report_figure`.
    """
    check_picture(path)
    figure, axes = new_figure(1, 2)
    labels = np.array([r.labels for r in log])
    for axis, names, unit in (
        (axes[0, 0], {"force_rmse": "force RMSE, test"}, "eV/A"),
        (axes[0, 1], {"largest_std": "largest", "mean_std": "mean of frames"}, "std of local energies (eV)"),
    ):
        for (name, label), color in zip(names.items(), (BLUE, ORANGE), strict=False):
            values = np.array([np.nan if getattr(r, name) is None else getattr(r, name) for r in log])
            known = np.isfinite(values)
            if known.any():
                # deviations are those of the candidates before the generation's labels
                x = labels if name == "force_rmse" else np.r_[labels[:1], labels[:-1]]
                axis.plot(x[known], values[known], "o-", ms=4, color=color, label=label)
                axis.set_yscale("log")
                axis.legend(fontsize=8)
        axis.set(xlabel="labels", ylabel=unit)
    save_figure(figure, path)


def error_curve_figure(
    size: np.ndarray, energy: np.ndarray, force: np.ndarray, abscissa: str, path: str | os.PathLike
) -> None:
    """Errors against a size on logarithmic axes (``gapkit.model_selection.LearningCurve``), as one picture file.

    Parameters
    ----------
    size, energy, force : (k,)
        Training frames or sparse points; energy errors (meV) and force errors (eV/A), nan where there are none.
    """
    check_picture(path)
    figure, axes = new_figure(1, 2)
    _draw_curve(axes[0], size, energy, force, abscissa)
    save_figure(figure, path)


def _draw_curve(axes: Any, size: np.ndarray, energy: np.ndarray, force: np.ndarray, abscissa: str) -> None:
    """Energy errors on the left, force errors on the right of two axes."""
    drawn = ((axes[0], energy, "energy error (meV)", BLUE), (axes[1], force, "force error (eV/A)", ORANGE))
    for one, error, name, color in drawn:
        known = np.isfinite(error)
        one.plot(size[known], error[known], "o-", color=color, ms=4)
        one.set(xlabel=abscissa, ylabel=name)
        if known.any():
            one.set(xscale="log", yscale="log")


def cross_validation_figure(
    names: Sequence[str], energy: np.ndarray, force: np.ndarray, path: str | os.PathLike
) -> None:
    """Errors of every group that was held out (``gapkit.model_selection.CrossValidation``), as one picture file.

    Parameters
    ----------
    names
        Names of the groups (g,).
    energy, force : (g,)
        Mean absolute errors: meV per atom, and eV/A.
    """
    check_picture(path)
    figure, axes = new_figure(1, 2, height=max(2.5, 0.3 * len(names) + 1))
    for one, error, label, color in ((axes[0, 0], energy, "meV/atom", BLUE), (axes[0, 1], force, "eV/A", ORANGE)):
        one.barh(range(len(names)), np.nan_to_num(error), color=color)
        one.set_yticks(range(len(names)), names, fontsize=8)
        one.set(xlabel=f"held-out mean absolute error ({label})")
    save_figure(figure, path)


def card_figures(curve: Sequence[Sequence[Any]] | None, report: Report | None) -> list[tuple[str, bytes]]:
    """Pictures of a model card as (title, PNG): errors against sparse points, parity, reliability.

    ``curve``: [sparse points, energy (eV), force (eV/A)] each, None for an error that is not known.
    """
    made = []
    if curve:
        figure, axes = new_figure(1, 2)
        table = np.array([[np.nan if v is None else float(v) for v in point] for point in curve])
        _draw_curve(axes[0], table[:, 0], 1e3 * table[:, 1], table[:, 2], "sparse points")
        made.append(("Held-out errors against sparse points", _png(figure)))
    if report is not None:
        made.append(("Parity and reliability", _png(_report_drawing(report, ""))))
    return made


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def calibration_figure(
    error: np.ndarray, std: np.ndarray, path: str | os.PathLike, unit: str = "", title: str = ""
) -> None:
    """Picture of calibration: reliability curve, error against standard deviation by deciles, distribution of z.

    Raises
    ------
    GapkitError
        As :func:`report_figure`; DataError for errors and standard deviations that cannot be compared.
    """
    from gapkit.uncertainty.metrics import deciles, miscalibration_area, reliability_curve, z_scores

    check_picture(path)
    z = z_scores(error, std)
    figure, axes = new_figure(1, 3)
    nominal, inside = reliability_curve(error, std)
    axes[0, 0].fill_between(nominal, nominal, inside, color=GREY, alpha=0.3)
    axes[0, 0].plot(nominal, inside, color=BLUE)
    axes[0, 0].plot([0, 1], [0, 1], "--", color="black", lw=0.8)
    axes[0, 0].set(xlabel="nominal probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    axes[0, 0].set_title(f"miscalibration area {miscalibration_area(error, std):.3f}", fontsize=10)
    predicted, seen = deciles(error, std)
    axes[0, 1].loglog(predicted, seen, "o-", ms=4, color=BLUE)
    span = [min(predicted.min(), seen.min()), max(predicted.max(), seen.max())]
    axes[0, 1].loglog(span, span, "--", color="black", lw=0.8)
    axes[0, 1].set(xlabel=f"rms deviation of a decile {unit}", ylabel=f"rms error {unit}")
    x = np.linspace(-4, 4, 200)
    axes[0, 2].hist(np.clip(z, -4, 4), bins=60, density=True, color=BLUE, alpha=0.6)
    axes[0, 2].plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="black", lw=0.8)
    axes[0, 2].set(xlabel="error / deviation", ylabel="density")
    axes[0, 2].set_title(
        f"rms z {np.sqrt(np.mean(z**2)):.2f}, within one sigma {np.mean(np.abs(z) <= 1):.0%}", fontsize=10
    )
    if title:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, path)
