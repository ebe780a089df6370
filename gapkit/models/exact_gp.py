r"""The Gaussian process on every label: no sparse points, one Cholesky factorisation.

With the prior covariance K of all labels, their noise :math:`\Sigma` (diagonal) and :math:`B = (K + \Sigma)^{-1}`, the
mean of any function value is :math:`k_* \cdot \alpha` with :math:`\alpha = B y` (Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006), eq. 2.23). The errors of the rows g of a fold that is left out follow without
another factorisation: prediction minus label is :math:`e_g = -(B_{gg})^{-1} \alpha_g` (their eqs. 5.10 to 5.12, for
blocks). With the columns W of :math:`L^{-1}` that belong to g, :math:`B_{gg} = W^T W`. Of many labels only the last
fold is asked for: its rows come last, where :math:`(B_{gg})^{-1} = L_{gg} L_{gg}^T` stands in the factor L.

Where the noise variances change at the rate D (diagonal), the errors change at the rate

.. math:: \dot e_g = (B_{gg})^{-1} \big[ (B D B)_{gg}\, e_g + (B D \alpha)_g \big] .
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

from gapkit.exceptions import NumericsError
from gapkit.models.held_out import rounded_absolute, rounding_of
from gapkit.numerics.lower_panels import LowerPanels

#: up to so many labels the errors of all folds are made
EVERY_FOLD = 8000
#: accuracy of the place of a minimum
TOLERANCE = 1e-6
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
    slopes : (n,)
        Rate at which the errors change, where a rate of the noise variances was given.
    """

    alpha: np.ndarray
    errors: np.ndarray
    slopes: np.ndarray


def solve_exact(
    K: LowerPanels, y: np.ndarray, noise_variance: np.ndarray, folds: np.ndarray, rate: np.ndarray | None = None
) -> ExactSolution:
    """Solve for all labels at once.

    Parameters
    ----------
    K : (n, n)
        Prior covariance; overwritten.
    y, noise_variance, folds : (n,)
        The labels of a fold must follow each other. Of more than ``EVERY_FOLD`` labels only those of the last fold get
        errors.
    rate : (n,)
        D, at which the noise variances change; None: no slopes.

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
    errors, slopes = np.full(len(y), np.nan), np.full(len(y), np.nan)
    parts = list(_runs(folds))
    if sum(folds[p.start] >= 0 for p in parts) < 2:
        return ExactSolution(alpha, errors, slopes)
    if len(y) > EVERY_FOLD:
        last = parts[-1]
        if folds[-1] >= 0:
            L = K.last_corner(last.stop - last.start)
            errors[last] = -L @ (L.T @ alpha[last])
        return ExactSolution(alpha, errors, slopes)
    turned = None if rate is None else K.solve(rate * alpha)
    for g in parts:
        if folds[g.start] < 0:
            continue
        W = K.inverse_columns(g.start, g.stop)
        factor = scipy.linalg.cho_factor(W.T @ W, lower=True, overwrite_a=True, check_finite=False)
        errors[g] = -scipy.linalg.cho_solve(factor, alpha[g], check_finite=False)
        if turned is not None:
            alone = np.zeros(len(y))
            alone[g] = errors[g]
            moved = K.solve(rate * K.solve(alone))[g] + turned[g]
            slopes[g] = scipy.linalg.cho_solve(factor, moved, check_finite=False)
    return ExactSolution(alpha, errors, slopes)


def _runs(folds: np.ndarray) -> Iterator[slice]:
    """Places of the labels of each fold, which follow each other."""
    change = np.flatnonzero(np.diff(folds)) + 1
    for begin, end in zip([0, *change], [*change, len(folds)], strict=True):
        yield slice(int(begin), int(end))


def error_slope(solution: ExactSolution, y: np.ndarray, kinds: np.ndarray) -> float:
    """Slope of the sum over label kinds of the logarithm of the mean absolute out-of-fold error, rounded at zero.

    Energies and forces count, where there are any; else all labels that have errors.
    """
    there = np.isfinite(solution.errors)
    counted = [there & (kinds == kind) for kind in ("energy", "forces")]
    counted = [mine for mine in counted if mine.any()] or [there]
    total = 0.0
    for mine in counted:
        loss, by_error = rounded_absolute(solution.errors[mine], rounding_of(y[mine]))
        total += float(by_error @ solution.slopes[mine]) / max(loss, np.finfo(float).tiny)
    return total


def first_minimum(slope: Callable[[float], float], lowest: float, step: float) -> float:
    """The minimum that is met first on the way from zero down to ``lowest``: where ``slope`` turns from positive.

    Zero, where the function falls towards zero; ``lowest``, where it falls all the way down. The way is gone in steps
    until the slope has turned, and its root then found between the last two: the answer moves with the slope, whatever
    the steps.
    """
    high, value = 0.0, slope(0.0)
    if value <= 0.0:
        return 0.0
    while high > lowest:
        low = max(high - step, lowest)
        below = slope(low)
        if below <= 0.0:
            return float(scipy.optimize.brentq(slope, low, high, xtol=TOLERANCE)) if below < 0.0 else low
        high = low
    return lowest
