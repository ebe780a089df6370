r"""The Gaussian process on every label: no sparse points, one Cholesky factorisation.

With the prior covariance K of all labels, their noise :math:`\Sigma` (diagonal) and :math:`B = (K + \Sigma)^{-1}`, the
mean of any function value is :math:`k_* \cdot \alpha` with :math:`\alpha = B y` (Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006), eq. 2.23). The errors of the rows g of a fold that is left out follow without
another factorisation: prediction minus label is :math:`e_g = -(B_{gg})^{-1} \alpha_g` (their eqs. 5.10 to 5.12, for
blocks). With the columns W of :math:`L^{-1}` that belong to g, :math:`B_{gg} = W^T W`. Of many labels only the last
fold is asked for: its rows come last, where :math:`(B_{gg})^{-1} = L_{gg} L_{gg}^T` stands in the factor L.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError
from gapkit.models.held_out import rounded_absolute, rounding_of
from gapkit.numerics.lower_panels import LowerPanels

#: up to so many labels the errors of all folds are made
EVERY_FOLD = 8000
_REMEDY = "labels repeat each other or the noise is too small for them; give larger noise levels, or exact=False"


@dataclass(frozen=True)
class ExactSolution:
    """Weights of all labels, and the errors of those that can be left out.

    Attributes
    ----------
    alpha : (n,)
        B y.
    errors : (n,)
        Prediction minus label without the label's own fold; not a number where the fold is negative.
    """

    alpha: np.ndarray
    errors: np.ndarray


def solve_exact(
    K: LowerPanels, y: np.ndarray, noise_variance: np.ndarray, folds: np.ndarray, every_fold: int | None = None
) -> ExactSolution:
    """Solve for all labels at once.

    Parameters
    ----------
    K : (n, n)
        Prior covariance; overwritten.
    y, noise_variance, folds : (n,)
        The labels of a fold must follow each other.
    every_fold
        Number of labels (default: ``EVERY_FOLD``) beyond which only those of the last fold get errors.

    Raises
    ------
    NumericsError
        Where K and the noise together are not positive definite.
    """
    K.add_diagonal(noise_variance)
    try:
        K.cholesky()
    except NumericsError:
        raise NumericsError(f"the covariance of all {len(y)} labels is not positive definite: {_REMEDY}") from None
    alpha = K.solve(y)
    if not np.isfinite(alpha).all():
        raise NumericsError(f"the weights of the {len(y)} labels are not finite: {_REMEDY}")
    errors = np.full(len(y), np.nan)
    parts = list(_runs(folds))
    if sum(folds[p.start] >= 0 for p in parts) < 2:
        return ExactSolution(alpha, errors)
    if len(y) > (EVERY_FOLD if every_fold is None else every_fold):
        last = parts[-1]
        if folds[-1] >= 0:
            L = K.last_corner(last.stop - last.start)
            errors[last] = -L @ (L.T @ alpha[last])
        return ExactSolution(alpha, errors)
    for g in parts:
        if folds[g.start] < 0:
            continue
        W = K.inverse_columns(g.start, g.stop)
        factor = scipy.linalg.cho_factor(W.T @ W, lower=True, overwrite_a=True, check_finite=False)
        errors[g] = -scipy.linalg.cho_solve(factor, alpha[g], check_finite=False)
    return ExactSolution(alpha, errors)


def _runs(folds: np.ndarray) -> Iterator[slice]:
    """Places of the labels of each fold, which follow each other."""
    change = np.flatnonzero(np.diff(folds)) + 1
    for begin, end in zip([0, *change], [*change, len(folds)], strict=True):
        yield slice(int(begin), int(end))


def held_out_objective(errors: np.ndarray, y: np.ndarray, kinds: np.ndarray) -> float:
    """Sum over label kinds of the logarithm of the mean absolute out-of-fold error, rounded at zero.

    Energies and forces count, where there are any; else all labels that have errors (those that are finite).
    """
    there = np.isfinite(errors)
    counted = [there & (kinds == kind) for kind in ("energy", "forces")]
    counted = [of_kind for of_kind in counted if of_kind.any()] or [there]
    losses = [rounded_absolute(errors[of_kind], rounding_of(y[of_kind]))[0] / of_kind.sum() for of_kind in counted]
    return float(np.sum(np.log(np.maximum(losses, np.finfo(float).tiny))))


def minimum_downwards(value: Callable[[float], float], lowest: float, step: float) -> float:
    """Minimiser of ``value`` between zero and ``lowest``, found by steps downwards from zero until it rises.

    The answer is the vertex of the parabola through the least value and its neighbours. It moves with the values, and
    does not jump where two of them tie.
    """
    x, v = [0.0], [value(0.0)]
    while len(v) < 3 or (x[-1] - step > lowest - 1e-9 and v[-1] < v[-2]):
        x.append(x[-1] - step)
        v.append(value(x[-1]))
    k = int(np.clip(np.argmin(v), 1, len(v) - 2))
    bend = v[k - 1] - 2 * v[k] + v[k + 1]
    if not np.isfinite(bend) or bend <= 0.0:
        return x[int(np.argmin(v))]
    return float(np.clip(x[k] + step * (v[k + 1] - v[k - 1]) / (2 * bend), lowest, 0.0))
