r"""Noise and signal levels from held-out error, by triangles alone.

With Gram matrices :math:`G_{gf} = R_{gf}^T R_{gf}` of group g and fold f, leaving fold f out means solving

.. math:: H_f u_f = \sum_g s_g (c_g - c_{gf}), \qquad H_f = \mathrm{diag}(\delta^{-2}) + \sum_g s_g (G_g - G_{gf}),
          \quad s_g = \sigma_g^{-2}

and the squared error on the rows of that fold is :math:`u^T G_{gf} u - 2 u^T c_{gf} + y^T y_{gf}`. The objective is
:math:`\tfrac12 \log \mathrm{MSE}_{energy} + \tfrac12 \log \mathrm{MSE}_{forces}` over all folds, plus a weak prior
about the starting levels, which also fixes the common scale that the mean does not depend on. Its gradient takes one
more solve per fold: with :math:`v = H^{-1} \partial J/\partial u`,
:math:`\partial J/\partial \log s_g = -v \cdot s_g (G_g u - c_g)` and
:math:`\partial J/\partial \log \delta_t = 2 v_t \cdot \delta_t^{-2} u_t`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import scipy.optimize

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
    """Noise and signal standard deviations.

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
class HeldOutError:
    """The objective and its gradient as a function of the logarithms of the free levels.

    Parameters
    ----------
    triangles, column_terms
        What is known of the rows, and the term of each column.
    start
        Levels to start from; those not in ``free_noise`` stay.
    free_noise, free_signal
        Noise groups and terms to search over.
    kinds
        Label kinds whose held-out errors count.
    """

    triangles: Triangles
    column_terms: np.ndarray
    start: Levels
    free_noise: tuple[str, ...]
    free_signal: tuple[int, ...]
    kinds: tuple[str, ...]
    _gram: dict = field(init=False)
    _total: dict = field(init=False)

    def __post_init__(self) -> None:
        self._gram, self._total = self.triangles.grams(), {}
        for (group, _), G in self._gram.items():
            self._total[group] = self._total[group] + G if group in self._total else G

    def levels(self, x: np.ndarray, objective: float = float("nan")) -> Levels:
        """Levels at the logarithms ``x``."""
        noise = dict(self.start.noise)
        noise.update({g: float(np.exp(v)) for g, v in zip(self.free_noise, x, strict=False)})
        signal = np.array(self.start.signal, dtype=float)
        signal[list(self.free_signal)] = np.exp(x[len(self.free_noise) :])
        return Levels(noise, signal, objective)

    @property
    def start_point(self) -> np.ndarray:
        """Logarithms of the free levels at the start."""
        noise = [np.log(self.start.noise[g]) for g in self.free_noise]
        return np.array(noise + [np.log(self.start.signal[t]) for t in self.free_signal])

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        levels = self.levels(x)
        inverse_signal2 = levels.signal[self.column_terms] ** -2.0
        s = {g: levels.noise[g] ** -2.0 for g in self._total}
        squared = dict.fromkeys(self.kinds, 0.0)
        count = dict.fromkeys(self.kinds, 0)
        solved = []
        for fold in self.triangles.folds:
            held = {k[0]: G for k, G in self._gram.items() if k[1] == fold}
            both = sum(s[g] * (G - held[g] if g in held else G) for g, G in self._total.items())
            H, c = both[:-1, :-1], both[:-1, -1]
            H[np.diag_indices_from(H)] += inverse_signal2
            try:
                factor = scipy.linalg.cho_factor(H, lower=True, check_finite=False)
            except np.linalg.LinAlgError:
                return UNSOLVABLE, np.zeros_like(x)  # the search turns back from levels that rounding makes singular
            u = scipy.linalg.cho_solve(factor, c, check_finite=False)
            gradients = {k: np.zeros_like(u) for k in self.kinds}
            extended = np.append(u, -1.0)
            for g, G in held.items():
                if kind_of(g) in squared:
                    product = G @ extended
                    squared[kind_of(g)] += float(extended @ product)
                    count[kind_of(g)] += self.triangles.items[(g, fold)].n_rows
                    gradients[kind_of(g)] += 2 * product[:-1]
            solved.append((held, factor, u, extended, gradients))
        tiny = {k: 1e-20 * max(count[k], 1) for k in self.kinds}
        value = sum(0.5 * np.log(max(squared[k], tiny[k]) / max(count[k], 1)) for k in self.kinds)
        gradient = np.zeros_like(x)
        for held, factor, u, extended, gradients in solved:
            slope = sum(0.5 / max(squared[k], tiny[k]) * gradients[k] for k in self.kinds)
            v = scipy.linalg.cho_solve(factor, slope, check_finite=False)
            for n, g in enumerate(self.free_noise):
                G = self._total[g] - held[g] if g in held else self._total[g]
                gradient[n] += 2 * s[g] * float(v @ (G @ extended)[:-1])  # d log s = -2 d log sigma
            for n, t in enumerate(self.free_signal):
                mine = self.column_terms == t
                gradient[len(self.free_noise) + n] += 2 * float(v[mine] @ (inverse_signal2[mine] * u[mine]))
        away = (x - self.start_point) / PRIOR_WIDTH
        return value + 0.5 * float(away @ away), gradient + away / PRIOR_WIDTH


def search_levels(
    triangles: Triangles,
    column_terms: np.ndarray,
    start: Levels,
    lower: Mapping[str, float],
    free_noise: tuple[str, ...],
    free_signal: tuple[int, ...],
    max_iterations: int = 30,
    callback: Callable[[float], None] | None = None,
) -> Levels:
    """Levels of least held-out error (L-BFGS from ``start``).

    Returns ``start`` where there is nothing to search: no free level, fewer than two folds, or no label kind whose
    error could be held out. ``lower`` bounds the noise of each group from below.
    """
    kinds = tuple(k for k in ("energy", "forces") if any(kind_of(g) == k and f >= 0 for g, f in triangles.items))
    if not kinds or len(triangles.folds) < 2 or not (free_noise or free_signal):
        return start
    objective = HeldOutError(triangles, column_terms, start, free_noise, free_signal, kinds)
    x0 = objective.start_point
    bounds = [(np.log(lower[g]), max(x, np.log(lower[g])) + 7) for g, x in zip(free_noise, x0, strict=False)]
    bounds += [(x - 5, x + 5) for x in x0[len(free_noise) :]]
    x0 = np.clip(x0, [b[0] for b in bounds], [b[1] for b in bounds])
    if objective(x0)[0] >= UNSOLVABLE:
        return start

    def report(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        if callback is not None:
            callback(float(intermediate_result.fun))

    result = scipy.optimize.minimize(
        objective, x0, jac=True, method="L-BFGS-B", bounds=bounds, callback=report,
        options={"maxiter": max_iterations, "ftol": 1e-5},
    )  # fmt: skip
    return objective.levels(result.x, float(result.fun))


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


def held_out_statistics(triangles: Triangles, column_terms: np.ndarray, levels: Levels) -> dict[str, HeldOutStatistics]:
    """Per noise group, over all folds, each judged by the posterior of the others; from triangles alone."""
    sums: dict[str, np.ndarray] = {}
    grams = triangles.grams()
    for fold in triangles.folds:
        posterior = Posterior.solve_normal_equations(grams, levels.noise, levels.signal, column_terms, leave_out=fold)
        for (group, f), triangle in triangles.items.items():
            if f == fold:
                error = posterior.squared_error(triangle)
                add = np.array([triangle.n_rows, error, *posterior.summed_variances(triangle)])
                sums[group] = sums.get(group, 0) + add
    return {g: HeldOutStatistics(int(n), e / n, r / n, v / n) for g, (n, e, r, v) in sums.items()}
