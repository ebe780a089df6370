r"""The Gaussian process on every label: no sparse points, one Cholesky factorisation.

With the prior covariance K of all labels, their noise :math:`\Sigma` (diagonal) and :math:`B = (K + \Sigma)^{-1}`, the
mean of any function value is :math:`k_* \cdot \alpha` with :math:`\alpha = B y` (Rasmussen and Williams, Gaussian
Processes for Machine Learning (2006), eq. 2.23). The errors of the rows g of a fold that is left out follow without
another factorisation: prediction minus label is :math:`-(B_{gg})^{-1} \alpha_g` (their eqs. 5.10 to 5.12, for blocks).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError

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

    Raises
    ------
    NumericsError
        Where K and the noise together are not positive definite.
    """
    K[np.diag_indices_from(K)] += noise_variance
    factor, info = scipy.linalg.lapack.dpotrf(K, lower=1, overwrite_a=1, clean=0)
    if info:
        raise NumericsError(f"the covariance of all {len(y)} labels is not positive definite: {_REMEDY}")
    alpha, _ = scipy.linalg.lapack.dpotrs(factor, y, lower=1)
    if not np.isfinite(alpha).all():
        raise NumericsError(f"the weights of the {len(y)} labels are not finite: {_REMEDY}")
    errors = np.full(len(y), np.nan)
    held = [f for f in np.unique(folds) if f >= 0]
    if len(held) > 1:
        inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        for fold in held:
            mine = np.flatnonzero(folds == fold)
            block = inverse[np.ix_(mine, mine)]  # of its upper triangle nothing is read
            errors[mine] = -scipy.linalg.cho_solve(
                scipy.linalg.cho_factor(block, lower=True, overwrite_a=True, check_finite=False), alpha[mine]
            )
    return ExactSolution(alpha, errors)
