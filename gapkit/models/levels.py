"""Levels (hyperparameters: noise and signal standard deviations), their objectives, and held-out statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles

#: value of the objective where the equations cannot be solved
UNSOLVABLE = 1e10
#: standard deviation, in natural logarithms, of the prior of each level about its start
PRIOR_WIDTH = 10.0


def kind_of(group: str) -> str:
    """Label kind of a noise group: ``forces`` of ``forces:liquid``."""
    return group.split(":")[0]


@dataclass(frozen=True)
class Levels:
    """Levels of a model: noise and signal standard deviations.

    Attributes
    ----------
    noise : dict
        Standard deviation of each noise group: ``energy`` (eV per square root of atoms), ``forces`` (eV/A),
        ``virial`` (eV per square root of atoms), and groups of their own such as ``forces:liquid``.
    signal : (terms,)
        Prior standard deviation of each term's local function (eV).
    objective : float
        Value at the end of the search; nan where there was none.
    """

    noise: dict[str, float]
    signal: np.ndarray
    objective: float = float("nan")


@dataclass
class LevelObjective:
    """A function of noise and signal levels to be minimised, as one of the logarithms of the free ones.

    Subclasses give :meth:`evaluate`; a weak prior about the start is added here once.

    Parameters
    ----------
    triangles, column_terms
        Triangles of the rows, and the term of each column.
    start
        Levels to start from; those not in ``free_noise`` and ``free_signal`` stay.
    free_noise, free_signal
        Noise groups and terms to search over.
    tied
        Groups that are searched over as one: by group, the free group whose noise theirs is a constant multiple of, as
        at the start.
    n_threads
        Threads that work on different folds, where the objective has them.
    """

    triangles: Triangles
    column_terms: np.ndarray
    start: Levels
    free_noise: tuple[str, ...]
    free_signal: tuple[int, ...]
    tied: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    n_threads: int = field(default=1, kw_only=True)
    #: whether it needs two folds or more
    needs_folds: ClassVar[bool] = True
    #: whether a common factor of all levels leaves it as it is
    scale_free: ClassVar[bool] = False

    def evaluate(self, levels: Levels) -> tuple[float, dict[str, float], np.ndarray]:
        """Value, and its slopes by the logarithm of each group's noise and of each term's signal (terms,).

        Raises
        ------
        numpy.linalg.LinAlgError
            Where rounding makes the equations singular.
        """
        raise NotImplementedError

    def levels(self, x: np.ndarray, objective: float = float("nan")) -> Levels:
        """Levels at the logarithms ``x``."""
        noise = dict(self.start.noise)
        noise.update({g: float(np.exp(v)) for g, v in zip(self.free_noise, x, strict=False)})
        noise.update({g: noise[leader] * self.ratio(g) for g, leader in self.tied.items()})
        signal = np.array(self.start.signal, dtype=float)
        signal[list(self.free_signal)] = np.exp(x[len(self.free_noise) :])
        return Levels(noise, signal, objective)

    def ratio(self, group: str) -> float:
        """Noise of a group over that of the group it is tied to; 1 for a group that is not tied."""
        return self.start.noise[group] / self.start.noise[self.tied.get(group, group)]

    def point(self, levels: Levels) -> np.ndarray:
        """Logarithms of the free levels."""
        noise = [np.log(levels.noise[g]) for g in self.free_noise]
        return np.array(noise + [np.log(levels.signal[t]) for t in self.free_signal])

    @property
    def start_point(self) -> np.ndarray:
        """Logarithms of the free levels at the start."""
        return self.point(self.start)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            value, noise, signal = self.evaluate(self.levels(x))
        except np.linalg.LinAlgError:
            return UNSOLVABLE, np.zeros_like(x)  # the search turns back from levels that rounding makes singular
        gradient = np.array([noise[g] for g in self.free_noise] + [signal[t] for t in self.free_signal])
        away = (x - self.start_point) / PRIOR_WIDTH
        return value + 0.5 * float(away @ away), gradient + away / PRIOR_WIDTH


@dataclass(frozen=True)
class HeldOutStatistics:
    """Means over the held-out rows of one noise group.

    Attributes
    ----------
    n_rows : int
    squared_error : float
    residual : float
        Nystrom residual variance.
    weight_variance : float
        Variance left in the weights.
    """

    n_rows: int
    squared_error: float
    residual: float
    weight_variance: float


def fold_posteriors(triangles: Triangles, column_terms: np.ndarray, levels: Levels) -> Iterator[tuple[int, Posterior]]:
    """Pairs of a fold and the posterior of all rows but its own, from triangles alone."""
    weighted: dict[tuple[str, int], np.ndarray] = {}
    for (group, fold), G in triangles.each_gram():
        # of a model of thousands of columns, Gram matrices of every group would not fit: one for each fold
        G *= levels.noise[group] ** -2.0
        if ("all", fold) in weighted:
            weighted["all", fold] += G
        else:
            weighted["all", fold] = G
    for fold in triangles.folds:
        yield (
            fold,
            Posterior.solve_normal_equations(weighted, {"all": 1.0}, levels.signal, column_terms, leave_out=fold),
        )


class HeldOutSums:
    """Sums over held-out rows, fold by fold."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}

    def add(self, triangles: Triangles, fold: int, posterior: Posterior, mean: Posterior | None = None) -> None:
        """Add the rows of a fold under the ``posterior`` of the others, with errors of ``mean`` where it is given."""
        for (group, f), triangle in triangles.items.items():
            if f == fold:
                error = (mean or posterior).squared_error(triangle)
                more = np.array([triangle.n_rows, error, *posterior.summed_variances(triangle)])
                self._sums[group] = self._sums.get(group, 0) + more

    def statistics(self) -> dict[str, HeldOutStatistics]:
        """Means over the rows of each noise group."""
        return {g: HeldOutStatistics(int(n), e / n, r / n, v / n) for g, (n, e, r, v) in self._sums.items()}


def held_out_statistics(triangles: Triangles, column_terms: np.ndarray, levels: Levels) -> dict[str, HeldOutStatistics]:
    """Held-out statistics of each noise group over all folds, each under the posterior of the others."""
    sums = HeldOutSums()
    for fold, posterior in fold_posteriors(triangles, column_terms, levels):
        sums.add(triangles, fold, posterior)
    return sums.statistics()
