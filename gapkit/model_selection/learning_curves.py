"""Error against the number of training frames, and against the number of sparse points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.base import clone

from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.model_selection.cross_validation import frame_groups, group_splits
from gapkit.models.levels import held_out_statistics


@dataclass(frozen=True)
class LearningCurve:
    """Errors against a size: training frames or sparse points.

    Attributes
    ----------
    size : (k,)
        Training frames, or sparse points.
    energy : (k,)
        Mean absolute error (meV per atom) of frames held out; of a curve against sparse points the root mean square
        error (meV per square root of atoms). nan without energies.
    force : (k,)
        Mean absolute error (eV/A), or root mean square error.
    abscissa : str
        Name of the quantity that ``size`` counts.
    """

    size: np.ndarray
    energy: np.ndarray
    force: np.ndarray
    abscissa: str = "training frames"

    def slope(self, of: str = "force") -> float:
        """Exponent b of the power law error = a size^b through the points, by least squares of logarithms.

        Examples
        --------
        >>> import numpy as np
        >>> size = np.array([10, 20, 40])
        >>> round(LearningCurve(size, 5.0 * size**-0.5, 1.0 / size).slope("energy"), 6)
        -0.5
        """
        error = getattr(self, of)
        known = np.isfinite(error) & (error > 0)
        if known.sum() < 2:
            raise DataError("a slope needs two errors or more")
        return float(np.polyfit(np.log(self.size[known]), np.log(error[known]), 1)[0])

    def __str__(self) -> str:
        lines = [f"{self.abscissa:>16} {'energy (meV)':>13} {'force (eV/A)':>13}"]
        lines += [f"{n:>16d} {e:>13.3f} {f:>13.4f}" for n, e, f in zip(self.size, self.energy, self.force, strict=True)]
        return "\n".join(lines)


def nested_subsets(labels: Sequence[str | None], sizes: Sequence[int]) -> list[np.ndarray]:
    """Indices of subsets of about ``sizes`` frames, each inside the next, in which every label has its share.

    The k-th frame of n of a label comes in by the bits of k read backwards (van der Corput), so that small subsets
    are spread over a trajectory. Frames labelled None are in all of them.
    """
    place = np.empty(len(labels))
    for label in set(labels):
        of_group = [k for k, g in enumerate(labels) if g == label]
        reversed_bits = [sum(((j >> b) & 1) / 2 ** (b + 1) for b in range(24)) for j in range(len(of_group))]
        rank = np.argsort(np.argsort(reversed_bits, kind="stable"), kind="stable")
        place[of_group] = -1.0 if label is None else (rank + 0.5) / len(of_group)
    counted = sum(g is not None for g in labels)
    return [np.flatnonzero(place < size / counted) for size in sizes]


def learning_curve(
    gap: GAP,
    frames: Sequence[Atoms],
    sizes: Sequence[int] | None = None,
    test: Sequence[Atoms] | None = None,
    groups: str | Sequence[Any] = "trajectory",
    strata: str = "config_type",
    callback: Callable[[int], None] | None = None,
) -> LearningCurve:
    """Fit clones of ``gap`` to more and more frames, and test all on the same others.

    Parameters
    ----------
    sizes
        Training frames; default: an eighth, a quarter, a half and all.
    test
        Frames to judge on; default: a fifth of ``frames``, in whole ``groups`` and never fitted to.
    strata
        ``info`` entry of which every subset has its share.
    callback
        Called with each size when it is done.
    """
    frames = list(frames)
    if test is None:
        labels = frame_groups(frames, groups)
        train_index, test_index = next(group_splits(labels, min(5, len({g for g in labels if g is not None}))))
        test, frames = [frames[k] for k in test_index], [frames[k] for k in train_index]
    isolated = [len(a) == 1 and not a.pbc.any() for a in frames]
    labels = [None if alone else str(a.info.get(strata)) for a, alone in zip(frames, isolated, strict=True)]
    n = len(frames) - sum(isolated)
    sizes = [max(2, n // 8), max(2, n // 4), max(2, n // 2), n] if sizes is None else [int(s) for s in sizes]
    if not sizes or min(sizes) < 1 or max(sizes) > n:
        raise SettingsError(f"sizes must be from 1 to the {n} frames that are not held out, not {sizes}")
    used, energy, force = list[int](), list[float](), list[float]()
    for subset in nested_subsets(labels, sorted(set(sizes))):
        model = clone(gap).fit([frames[k] for k in subset])
        summary = model.evaluate(test, uncertainty=False).summary
        used.append(sum(not isolated[k] for k in subset))
        energy.append(_number(summary["energy_mae_mev_per_atom"]))
        force.append(_number(summary["force_mae_ev_per_ang"]))
        if callback is not None:
            callback(used[-1])
    return LearningCurve(np.array(used), np.array(energy), np.array(force))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def sparse_curve(gap: GAP, sizes: Sequence[int] | None = None) -> LearningCurve:
    """Held-out error against the number of sparse points, from the triangles of one fit.

    Whitened columns nest: the leading ones are those of a model with fewer sparse points, exactly; noise and signal
    levels stay those of the fit. No row is made again.

    Raises
    ------
    SettingsError
        For a model loaded without its triangles (save it with ``updatable=True``), or fitted without folds.
    """
    fit = getattr(gap, "_fit", None)
    if fit is None:
        raise SettingsError("this model has no triangles: fit it, or save it with updatable=True")
    if len(fit.triangles.folds) < 2:
        raise SettingsError("nothing was held out in this fit: it has fewer than two folds")
    basis = fit.potential.basis
    m = basis.n_columns
    sizes = [m // 8, m // 4, m // 2, m] if sizes is None else sizes
    used, energy, force = list[int](), list[float](), list[float]()
    for n in sorted({int(s) for s in sizes if 1 <= s <= m}):
        columns = basis.leading_columns(n)
        statistics = held_out_statistics(fit.triangles.select(columns), basis.column_terms()[columns], fit.levels)
        used.append(len(columns))
        for kind, errors, unit in (("energy", energy, 1e3), ("forces", force, 1.0)):
            of_kind = [s for g, s in statistics.items() if g.split(":")[0] == kind]
            count = sum(s.n_rows for s in of_kind)
            square = sum(s.n_rows * s.squared_error for s in of_kind)
            errors.append(unit * float(np.sqrt(square / count)) if count else float("nan"))
    return LearningCurve(np.array(used), np.array(energy), np.array(force), "sparse points")
