"""The search for noise and signal levels: L-BFGS on any objective, from one start or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.optimize

from gapkit.models.levels import UNSOLVABLE, LevelObjective, Levels

#: how far signals, and noise above its start, may move, in natural logarithms
SIGNAL_REACH, NOISE_REACH = 5.0, 7.0
#: the search has converged where no slope is larger than this, or where a step changes the value by a share that is
#: rounding; an end by a number of iterations would make levels depend on the last digits of the labels
FLAT, SAME_VALUE = 1e-6, 2e-11
#: steps whose change of slope the search remembers: as many as there are levels, so that it converges as Newton's does
MEMORY = 30
#: iterations after which a search that has not converged ends
MOST_ITERATIONS = 300


def search_levels(
    objective: LevelObjective,
    lower: Mapping[str, float],
    starts: Sequence[Levels] | None = None,
    max_iterations: int = MOST_ITERATIONS,
    callback: Callable[[float], None] | None = None,
) -> Levels:
    """Levels of least ``objective`` by L-BFGS: the best end of all ``starts`` (default: the objective's own).

    Returns the objective's start where there is nothing to search: no free level, or fewer folds than it needs.
    ``lower`` bounds the noise of each group from below.
    """
    free = len(objective.free_noise) + len(objective.free_signal)
    if not free or (objective.needs_folds and len(objective.triangles.folds) < 2):
        return objective.start
    x0 = objective.start_point
    low = [np.log(lower[g]) for g in objective.free_noise] + list(x0[len(objective.free_noise) :] - SIGNAL_REACH)
    high = [max(x, np.log(lower[g])) + NOISE_REACH for g, x in zip(objective.free_noise, x0, strict=False)]
    high += list(x0[len(objective.free_noise) :] + SIGNAL_REACH)

    def report(intermediate_result: scipy.optimize.OptimizeResult) -> None:
        if callback is not None:
            callback(float(intermediate_result.fun))

    best = objective.start
    for start in [objective.start] if starts is None else starts:
        begin = np.clip(objective.point(start), low, high)
        if objective(begin)[0] >= UNSOLVABLE:
            continue
        result = scipy.optimize.minimize(
            objective, begin, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)), callback=report,
            options={"maxiter": max_iterations, "ftol": SAME_VALUE, "gtol": FLAT, "maxcor": MEMORY},
        )  # fmt: skip
        if np.isnan(best.objective) or result.fun < best.objective:
            best = objective.levels(result.x, float(result.fun))
    return best
