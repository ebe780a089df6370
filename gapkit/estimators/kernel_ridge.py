"""Kernel ridge regression on plain feature matrices."""

from __future__ import annotations

from numbers import Real

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from gapkit.exceptions import NumericsError, SettingsError
from gapkit.kernels import Kernel, SquaredExponential

_GRADIENT_BLOCK = 2**22  # numbers in one block of kernel gradients, 32 MiB


def checked_kernel(kernel: Kernel | None, X: np.ndarray, default: Kernel) -> Kernel:
    """Kernel of an estimator: ``kernel``, or ``default`` for None; it must take features like ``X`` (n, f)."""
    if kernel is None:
        return default
    if not isinstance(kernel, Kernel):
        raise SettingsError(f"kernel must be one of gapkit.kernels or None, not {kernel!r}")
    try:
        kernel.scale(X[:1])
    except ValueError as error:
        raise SettingsError(
            f"{kernel!r} cannot take {X.shape[1]} features: give one length scale, or one per feature"
        ) from error
    return kernel


def origin(kernel: Kernel, X: np.ndarray) -> np.ndarray:
    """Shift (f,) of features that leaves the kernel unchanged and its rounding small: their mean, or zero."""
    return X.mean(axis=0) if kernel.centred else np.zeros(X.shape[1])


def weighted_gradient(kernel: Kernel, X: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Gradient of ``sum_m k(x, points_m) weights_m`` by x, in blocks of rows.

    Parameters
    ----------
    X, points
        Features (n, f) and (m, f).
    weights
        Shape (m,) or (m, k).

    Returns
    -------
    gradient : (n, f) or (n, k, f)
    """
    rows = max(1, _GRADIENT_BLOCK // max(1, points.size))
    blocks = [
        np.einsum("nmf,m...->n...f", kernel.gradient(X[begin : begin + rows], points), weights)
        for begin in range(0, len(X), rows)
    ]
    return np.concatenate(blocks)


class KernelRidgeRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Kernel ridge regression, a scikit-learn estimator.

    Predicts :math:`f(x) = \sum_n c_n k(x, x_n)` with :math:`(K + \alpha I)\, c = y` (Saunders, Gammerman and
    Vovk, ICML 1998): the mean of a Gaussian process whose ratio of noise to signal variance is alpha. No
    intercept is fitted; centre ``y`` where its mean is far from zero.

    Parameters
    ----------
    kernel : gapkit.kernels.Kernel, optional
        Default: ``SquaredExponential(length_scale=1.0)``.
    alpha : float
        Ridge, positive or zero, in the units of the kernel.

    Attributes
    ----------
    kernel_ : Kernel
        The kernel used.
    dual_coef_ : (n,) or (n, k)
        c.
    X_fit_ : (n, f)
        Training features, shifted by ``X_offset_``.
    X_offset_ : (f,)
        Mean of the training features for kernels of a distance, where a shift changes rounding alone; else
        zero.

    Examples
    --------
    >>> import gapkit
    >>> import numpy as np
    >>> X = np.linspace(0.0, 6.0, 40)[:, None]
    >>> krr = gapkit.KernelRidgeRegressor(gapkit.SquaredExponential(1.0), alpha=1e-6).fit(X, np.sin(X[:, 0]))
    >>> bool(abs(krr.predict([[1.0]])[0] - np.sin(1.0)) < 1e-3)
    True
    >>> bool(abs(krr.predict_gradient([[1.0]])[0, 0] - np.cos(1.0)) < 1e-2)
    True
    """

    kernel_: Kernel
    dual_coef_: np.ndarray
    X_fit_: np.ndarray
    X_offset_: np.ndarray

    def __init__(self, kernel: Kernel | None = None, alpha: float = 1e-3) -> None:
        self.kernel = kernel
        self.alpha = alpha

    def fit(self, X, y) -> KernelRidgeRegressor:
        """Solve for the coefficients.

        Parameters
        ----------
        X : (n, f)
            Features.
        y : (n,) or (n, k)
            Targets.

        Raises
        ------
        NumericsError
            If the kernel matrix cannot be factorised; the message says what to do.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, Real) or not 0 <= self.alpha < np.inf:
            raise SettingsError(f"alpha must be a number that is positive or zero, not {self.alpha!r}")
        self.kernel_ = checked_kernel(self.kernel, X, SquaredExponential(length_scale=1.0))
        self.X_offset_ = origin(self.kernel_, X)
        self.X_fit_ = X - self.X_offset_
        K = self.kernel_(self.X_fit_)
        K[np.diag_indices_from(K)] += self.alpha
        try:
            factor = scipy.linalg.cho_factor(K, lower=True, overwrite_a=True)
        except np.linalg.LinAlgError as error:
            raise NumericsError(
                f"K + alpha I of {len(X)} rows is not positive definite with alpha = {self.alpha:g}: "
                "rows repeat, or nearly do for this kernel; "
                "increase alpha, remove repeated rows, or shorten the length scale"
            ) from error
        self.dual_coef_ = scipy.linalg.cho_solve(factor, y)
        return self

    def predict(self, X) -> np.ndarray:
        """Predictions (n,) or (n, k) for features ``X`` (n, f)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return self.kernel_(X - self.X_offset_, self.X_fit_) @ self.dual_coef_

    def predict_gradient(self, X) -> np.ndarray:
        """Derivatives of the predictions by the features: (n, f), or (n, k, f) for k targets."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return weighted_gradient(self.kernel_, X - self.X_offset_, self.X_fit_, self.dual_coef_)
