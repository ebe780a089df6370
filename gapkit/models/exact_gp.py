r"""The Gaussian process on every label: no sparse points, one Cholesky factorisation.

With the prior covariance K of all labels, their noise :math:`\Sigma` (diagonal) and :math:`B = (K + \Sigma)^{-1}`, the
mean of any function value is :math:`k_* \cdot \alpha` with :math:`\alpha = B y` (Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006), eq. 2.23). The errors of the rows g of a fold that is left out follow without
another factorisation: prediction minus label is :math:`-(B_{gg})^{-1} \alpha_g` (their eqs. 5.10 to 5.12, for blocks).
Of many labels only the last fold is asked for: its rows come last, where
:math:`(B_{gg})^{-1} = L_{gg} L_{gg}^T` stands in the Cholesky factor L.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError

#: up to so many labels the errors of all folds are made, from the whole inverse
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


def solve_exact(K: np.ndarray, y: np.ndarray, noise_variance: np.ndarray, folds: np.ndarray) -> ExactSolution:
    """Solve for all labels at once.

    Parameters
    ----------
    K : (n, n)
        Prior covariance, Fortran order; its lower triangle is used and overwritten.
    y, noise_variance, folds : (n,)
        Of more than ``EVERY_FOLD`` labels those of one fold must come last, and only they get errors.

    Raises
    ------
    NumericsError
        Where K and the noise together are not positive definite.
    """
    K[np.diag_indices_from(K)] += noise_variance
    cholesky_in_place(K)
    half = scipy.linalg.solve_triangular(K, y, lower=True, check_finite=False)
    alpha = scipy.linalg.solve_triangular(K, half, lower=True, trans="T", check_finite=False)
    if not np.isfinite(alpha).all():
        raise NumericsError(f"the weights of the {len(y)} labels are not finite: {_REMEDY}")
    errors = np.full(len(y), np.nan)
    held = [f for f in np.unique(folds) if f >= 0]
    if len(held) < 2:
        return ExactSolution(alpha, errors)
    if len(y) > EVERY_FOLD:
        last = int(np.count_nonzero(folds == folds[-1]))
        if folds[-1] >= 0 and (folds[-last:] == folds[-1]).all():
            L = np.tril(K[-last:, -last:])
            errors[-last:] = -L @ (L.T @ alpha[-last:])
        return ExactSolution(alpha, errors)
    inverse, _ = scipy.linalg.lapack.dpotri(K, lower=1)
    for fold in held:
        mine = np.flatnonzero(folds == fold)
        block = inverse[np.ix_(mine, mine)]  # of its upper triangle nothing is read
        factor = scipy.linalg.cho_factor(block, lower=True, overwrite_a=True, check_finite=False)
        errors[mine] = -scipy.linalg.cho_solve(factor, alpha[mine], check_finite=False)
    return ExactSolution(alpha, errors)


def cholesky_in_place(K: np.ndarray, block: int = 1024) -> None:
    """Overwrite the lower triangle of ``K`` (n, n) by its Cholesky factor, in panels of ``block`` columns.

    By panels of our own, because LAPACK's factorisation in the OpenBLAS of SciPy 1.17 ends the process at 28,000 rows.

    Raises
    ------
    NumericsError
        Where ``K`` is not positive definite.
    """
    n = len(K)
    for begin in range(0, n, block):
        end = min(begin + block, n)
        corner, info = scipy.linalg.lapack.dpotrf(K[begin:end, begin:end], lower=1, clean=1)
        if info:
            raise NumericsError(f"the covariance of all {n} labels is not positive definite: {_REMEDY}")
        K[begin:end, begin:end] = corner
        if end == n:
            return
        panel = scipy.linalg.solve_triangular(corner, K[end:, begin:end].T, lower=True, check_finite=False).T
        K[end:, begin:end] = panel
        for low in range(end, n, block):
            high = min(low + block, n)
            K[low:, low:high] -= panel[low - end :] @ panel[low - end : high - end].T
