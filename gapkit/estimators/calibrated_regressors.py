"""Two regressors behind one contract, for :class:`gapkit.apps.growth.barrier_model.SurfaceBarrierModel`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import scipy.linalg
from scipy.spatial.distance import pdist

from gapkit.estimators.kernel_ridge import KernelRidgeRegressor
from gapkit.estimators.sparse_gp_regressor import SparseGPRegressor
from gapkit.kernels import SquaredExponential

_LENGTHS = (0.3, 0.5, 0.75, 1.0, 1.5, 2.5)  # of the median distance, tried by the ridge
_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class BarrierRegressor(Protocol):
    """What :class:`SurfaceBarrierModel` asks of a regressor. X is (n, f), y is (n,)."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> BarrierRegressor:
        """Choose hyperparameters and learn; rows of one group (n,) belong together."""

    def refit(self, X: np.ndarray, y: np.ndarray) -> BarrierRegressor:
        """A new regressor of other rows with the hyperparameters of this one."""

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and standard deviation (n,) of new labels."""

    def covariance(self, X: np.ndarray) -> np.ndarray:
        """Covariance (n, n) of the function, without noise."""

    @property
    def signal(self) -> float:
        """Standard deviation of the function far from all training rows."""


class GaussianProcessBarriers:
    """:class:`gapkit.SparseGPRegressor` whose length scale, noise and signal maximise the evidence.

    Parameters
    ----------
    n_sparse : int
        Largest number of sparse points; with as many as rows the process is exact.
    """

    def __init__(self, n_sparse: int = 1000) -> None:
        self.n_sparse = n_sparse

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> GaussianProcessBarriers:
        self.regressor_ = SparseGPRegressor(n_sparse=self.n_sparse).fit(X, y)
        return self

    def refit(self, X: np.ndarray, y: np.ndarray) -> GaussianProcessBarriers:
        mine, other = self.regressor_, GaussianProcessBarriers(self.n_sparse)
        other.regressor_ = SparseGPRegressor(mine.kernel_, mine.noise_, mine.signal_, self.n_sparse).fit(X, y)
        return other

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.regressor_.predict(X, return_std=True)

    def covariance(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.predict(X, return_cov=True, noise=False)[1]

    @property
    def signal(self) -> float:
        return self.regressor_.signal_


class KernelRidgeBarriers:
    r""":class:`gapkit.KernelRidgeRegressor` with length scale and ridge of the least left-out error.

    All hops of a name are left out at once, in closed form: with :math:`B = (K + \alpha I)^{-1}` the errors of the
    rows g of a group are :math:`(B_{gg})^{-1} (B y)_g` (Rasmussen and Williams 2006, eq. 5.12, for blocks). The
    variance has the shape of the squared power function plus alpha; its size is the maximum-likelihood signal of a
    Gaussian process with this ridge, :math:`y^T (K + \alpha I)^{-1} y / n`.
    """

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> KernelRidgeBarriers:
        median = float(np.median(pdist(X))) or 1.0
        blocks = [np.flatnonzero(groups == g) for g in np.unique(groups)]
        best = (np.inf, 1.0, 1.0)
        for length in _LENGTHS:
            K = SquaredExponential(length * median)(X)
            for alpha in _RIDGES:
                B = scipy.linalg.inv(K + alpha * np.eye(len(y)))
                c = B @ y
                errors = np.concatenate([np.linalg.solve(B[np.ix_(g, g)], c[g]) for g in blocks])
                best = min(best, (float(np.mean(np.abs(errors))), length * median, alpha))
        return self._solve(X, y, SquaredExponential(best[1]), best[2], None)

    def refit(self, X: np.ndarray, y: np.ndarray) -> KernelRidgeBarriers:
        mine = self.regressor_
        return KernelRidgeBarriers()._solve(X, y, mine.kernel_, mine.alpha, self.scale_)

    def _solve(self, X, y, kernel, alpha, scale) -> KernelRidgeBarriers:
        self.regressor_ = KernelRidgeRegressor(kernel, alpha).fit(X, y)
        K = kernel(self.regressor_.X_fit_)
        self._factor = scipy.linalg.cho_factor(K + alpha * np.eye(len(y)), lower=True)
        if scale is None:  # the maximum-likelihood signal of a Gaussian process with this ridge
            scale = np.sqrt(float(y @ self.regressor_.dual_coef_) / len(y))
        self.scale_ = float(scale)
        return self

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        K = self._cross(X)
        explained = np.sum(K * scipy.linalg.cho_solve(self._factor, K.T).T, axis=1)
        variance = np.maximum(1.0 - explained, 0.0) + self.regressor_.alpha
        return self.regressor_.predict(X), self.scale_ * np.sqrt(variance)

    def covariance(self, X: np.ndarray) -> np.ndarray:
        K = self._cross(X)
        prior = self.regressor_.kernel_(X - self.regressor_.X_offset_)
        return self.scale_**2 * (prior - K @ scipy.linalg.cho_solve(self._factor, K.T))

    def _cross(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.kernel_(X - self.regressor_.X_offset_, self.regressor_.X_fit_)

    @property
    def signal(self) -> float:
        return self.scale_
