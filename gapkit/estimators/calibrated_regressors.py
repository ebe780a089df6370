r"""Regressors of some hundred rows whose standard deviations are calibrated on rows left out.

:class:`CalibratedRegressor` scales the features to unit variance, centres the labels, fits a regressor, and sets its
standard deviations by errors of rows that were left out. Two things in it are strategies:

- the regressor (:class:`GroupedRegressor`): hyperparameters by the evidence (:class:`EvidenceProcess`), by the least
  left-out error (:class:`LeftOutRidge`), or by the greatest left-out likelihood (:class:`LeftOutProcess`);
- the law from its standard deviations to calibrated ones (:mod:`gapkit.estimators.error_scales`).

Rows of a group are left out together. Hyperparameters of the kernel ridges are found in closed form: with
:math:`B = (K + \alpha I)^{-1}` the labels minus the predictions of the rows g of a group are
:math:`(B_{gg})^{-1} (B y)_g`, and their covariance is :math:`\delta^2 (B_{gg})^{-1}` for a Gaussian process of the
signal :math:`\delta` (Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eqs. 5.10 to 5.12, for
blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import numpy as np
import scipy.linalg
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from gapkit.estimators.error_scales import ConstantFactor, ErrorScale
from gapkit.estimators.kernel_ridge import KernelRidgeRegressor
from gapkit.estimators.sparse_gp_regressor import SparseGPRegressor
from gapkit.kernels import Kernel, SquaredExponential
from gapkit.models.sparse_block import whiten, whitening_factor

#: a feature that varies less than this (relative to the largest feature where that is above 1) is a constant
CONSTANT = 1e-9


class GroupedRegressor(Protocol):
    """Contract of the regressors. X is (n, f), scaled; y is (n,), centred; rows of one group (n,) belong together."""

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Self:
        """Choose hyperparameters and learn."""

    def refit(self, X: np.ndarray, y: np.ndarray) -> GroupedRegressor:
        """Regressor of other rows with the hyperparameters of this one."""

    def left_out(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prediction minus label (n,) of every row without its group, and its standard deviation (n,)."""

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and standard deviation (n,) of new labels."""

    def covariance(self, X: np.ndarray) -> np.ndarray:
        """Covariance (n, n) of the function, without noise."""

    @property
    def signal(self) -> float:
        """Standard deviation of the function far from all training rows."""


def left_out_by_refitting(
    regressor: GroupedRegressor, X: np.ndarray, y: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Errors and standard deviations (n,) of :meth:`GroupedRegressor.left_out`, by one refit for each group."""
    errors, stds = np.empty(len(y)), np.empty(len(y))
    for group in np.unique(groups):
        out = groups == group
        mean, stds[out] = regressor.refit(X[~out], y[~out]).predict(X[out])
        errors[out] = mean - y[out]
    return errors, stds


class EvidenceProcess:
    """Sparse Gaussian process whose length scale, noise and signal maximise the evidence.

    Parameters
    ----------
    n_sparse : int
        Largest number of sparse points; with as many as rows the process is exact.
    """

    def __init__(self, n_sparse: int = 1000) -> None:
        self.n_sparse = n_sparse

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> EvidenceProcess:
        self.regressor_ = SparseGPRegressor(n_sparse=self.n_sparse).fit(X, y)
        return self

    def refit(self, X: np.ndarray, y: np.ndarray) -> EvidenceProcess:
        known, other = self.regressor_, EvidenceProcess(self.n_sparse)
        other.regressor_ = SparseGPRegressor(known.kernel_, known.noise_, known.signal_, self.n_sparse).fit(X, y)
        return other

    def left_out(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return left_out_by_refitting(self, X, y, groups)

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.regressor_.predict(X, return_std=True)

    def covariance(self, X: np.ndarray) -> np.ndarray:
        return self.regressor_.predict(X, return_cov=True, include_noise=False)[1]

    @property
    def signal(self) -> float:
        return self.regressor_.signal_


class LeftOutRidge:
    r"""Kernel ridge regression with the length scale and ridge of the least mean absolute left-out error.

    The variance has the shape of the squared power function (Wendland, Scattered Data Approximation (2005), ch. 11)
    plus alpha; its size is the maximum-likelihood signal of a Gaussian process with this ridge,
    :math:`y^T (K + \alpha I)^{-1} y / n`.
    """

    LENGTHS = (0.3, 0.5, 0.75, 1.0, 1.5, 2.5)  # of the median distance
    RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> LeftOutRidge:
        median, blocks = median_distance(X), rows_of_groups(groups)
        best = (np.inf, 1.0, 1.0)
        for length in self.LENGTHS:
            K = SquaredExponential(length * median)(X)
            for alpha in self.RIDGES:
                B = scipy.linalg.inv(K + alpha * np.eye(len(y)))
                c = B @ y
                errors = np.concatenate([np.linalg.solve(B[np.ix_(g, g)], c[g]) for g in blocks])
                best = min(best, (float(np.mean(np.abs(errors))), length * median, alpha))
        return self._solve(X, y, SquaredExponential(best[1]), best[2], None)

    def refit(self, X: np.ndarray, y: np.ndarray) -> LeftOutRidge:
        known = self.regressor_
        return LeftOutRidge()._solve(X, y, known.kernel_, known.alpha, self.scale_)

    def left_out(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return left_out_by_refitting(self, X, y, groups)

    def _solve(self, X: np.ndarray, y: np.ndarray, kernel: Kernel, alpha: float, scale: float | None) -> LeftOutRidge:
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


class LeftOutProcess:
    r"""Regressor with the mean of a kernel ridge and the variance of the sparse Gaussian process with its kernel.

    The length scale and the ridge are those under which the labels of groups left out are most probable, the size of
    all standard deviations being free. The process has :math:`\sigma^2 = \alpha \delta^2`, with the signal
    :math:`\delta` of the largest likelihood: its mean is the ridge's.

    Parameters
    ----------
    n_sparse : int
        Largest number of sparse points of the Gaussian process.
    random_state : int, RandomState or None
        Seed of the choice of sparse points.

    Attributes
    ----------
    ridge_ : KernelRidgeRegressor
        Gives the mean.
    process_ : SparseGPRegressor
        Gives the variance.
    """

    LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of the median distance
    RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)

    def __init__(self, n_sparse: int = 500, random_state: Any = None) -> None:
        self.n_sparse, self.random_state = n_sparse, random_state

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> LeftOutProcess:
        length, alpha = self._search(X, y, rows_of_groups(groups))
        return self._solve(X, y, SquaredExponential(length), alpha, None)

    def refit(self, X: np.ndarray, y: np.ndarray) -> LeftOutProcess:
        other = LeftOutProcess(self.n_sparse, self.random_state)
        return other._solve(X, y, self.ridge_.kernel_, self.ridge_.alpha, self.signal)

    def _solve(
        self, X: np.ndarray, y: np.ndarray, kernel: Kernel, alpha: float, signal: float | None
    ) -> LeftOutProcess:
        self.ridge_ = KernelRidgeRegressor(kernel, alpha).fit(X, y)
        if signal is None:
            signal = float(np.sqrt(max(y @ self.ridge_.dual_coef_, 1e-300) / len(y)))
        noise = np.sqrt(max(alpha, 1e-12)) * signal
        self.process_ = SparseGPRegressor(kernel, noise, signal, self.n_sparse, random_state=self.random_state).fit(
            X, y
        )
        self._signal = signal
        return self

    def _search(self, X: np.ndarray, y: np.ndarray, blocks: list[np.ndarray]) -> tuple[float, float]:
        median = median_distance(X)
        best = (np.inf, median, 1e-3)
        for length in self.LENGTHS:
            values, vectors = scipy.linalg.eigh(SquaredExponential(length * median)(X))
            along = vectors.T @ y
            for alpha in self.RIDGES:
                inverse = 1.0 / (np.maximum(values, 0.0) + alpha)
                c = vectors @ (inverse * along)
                z2, logs = 0.0, 0.0
                for g in blocks:
                    covariance = np.linalg.inv((vectors[g] * inverse) @ vectors[g].T)
                    variance = np.diag(covariance)
                    z2 += float(np.sum((covariance @ c[g]) ** 2 / variance))
                    logs += float(np.sum(np.log(variance)))
                best = min(best, (logs + len(y) * np.log(z2 / len(y)), length * median, alpha))
        return best[1], best[2]

    def left_out(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        K = self.ridge_.kernel_(X) + self.ridge_.alpha * np.eye(len(y))
        B = scipy.linalg.cho_solve(scipy.linalg.cho_factor(K, lower=True), np.eye(len(y)))
        c = B @ y
        errors, std = np.empty(len(y)), np.empty(len(y))
        for g in rows_of_groups(groups):
            inverse = np.linalg.inv(B[np.ix_(g, g)])
            errors[g] = -inverse @ c[g]
            std[g] = self.signal * np.sqrt(np.diag(inverse))
        return errors, std

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ridge_.predict(X), self.process_.predict(X, return_std=True)[1]

    def covariance(self, X: np.ndarray) -> np.ndarray:
        return self.process_.predict(X, return_cov=True, include_noise=False)[1]

    @property
    def signal(self) -> float:
        return self._signal

    def draw(self, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        """Departure from the mean of one function of the posterior, for any rows (n, f); what the sparse points do not
        explain (the Nystrom residual) is left out."""
        process = self.process_
        factor, _ = whitening_factor(process.kernel_(process.sparse_points_))
        xi = scipy.linalg.solve_triangular(process.R_, rng.normal(size=len(process.R_)))

        def departure(X: np.ndarray) -> np.ndarray:
            return process.signal_ * (
                whiten(process.kernel_(X - process.X_offset_, process.sparse_points_), factor) @ xi
            )

        return departure


def median_distance(X: np.ndarray) -> float:
    """Median distance of the rows (n, f); 1 where it is zero."""
    return float(np.median(pdist(X))) or 1.0


def rows_of_groups(groups: np.ndarray) -> list[np.ndarray]:
    """Rows of each group, in the order of the sorted groups."""
    return [np.flatnonzero(groups == g) for g in np.unique(groups)]


class CalibratedRegressor(RegressorMixin, BaseEstimator):
    """Base of estimators that scale, centre, learn by groups, and calibrate on rows left out.

    A subclass says what its rows are: :class:`gapkit.apps.growth.barrier_model.SurfaceBarrierModel` takes hops,
    :class:`gapkit.apps.fracture.fracture_potential.FracturePotential` stresses of bonds.

    Attributes
    ----------
    regressor_ : GroupedRegressor
    offset_, scale_ : (f,)
        Offset and scale of the features.
    mean_ : float
        Mean label.
    error_law_ : ErrorScale
        Law from the regressor's standard deviations to calibrated ones.
    errors_ : (ways, n)
        Prediction minus label of every row, left out in each way.
    stds_ : (ways, n)
        Calibrated standard deviations of these predictions.
    scores_ : (ways, n)
        Sorted absolute errors of each way of leaving out, in units of the calibrated standard deviation.
    """

    #: law from the regressor's standard deviations to calibrated ones
    law: type[ErrorScale] = ConstantFactor

    def _standardise(self, X: np.ndarray) -> np.ndarray:
        """Learn offset and scale of the features; scaled features (n, f)."""
        self.offset_, scale = X.mean(axis=0), X.std(axis=0)
        self.scale_ = np.where(scale > CONSTANT * max(1.0, float(np.abs(X).max())), scale, 1.0)
        return self._scaled(X)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        return (np.asarray(X, dtype=float) - self.offset_) / self.scale_

    def _learn(
        self, regressor: GroupedRegressor, Z: np.ndarray, y: np.ndarray, groups: np.ndarray, ways: Sequence[np.ndarray]
    ) -> None:
        """Fit to scaled features ``Z`` (n, f) and labels (n,), and calibrate on each of the ``ways`` of leaving out:
        groups (n,) each."""
        self.mean_ = float(y.mean())
        centred = y - self.mean_
        self.regressor_ = regressor.fit(Z, centred, groups)
        left_out = [self.regressor_.left_out(Z, centred, way) for way in ways]
        self.errors_ = np.array([errors for errors, _ in left_out])
        stds = np.array([std for _, std in left_out])
        self.error_law_ = self.law.fit(self.errors_, stds, self.regressor_.signal)
        self.stds_ = stds * self.error_law_.factor(stds)
        self.scores_ = np.sort(np.abs(self.errors_ / self.stds_), axis=1)

    def _predicted(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (n,) and calibrated standard deviations (n,) of new labels."""
        check_is_fitted(self)
        mean, std = self.regressor_.predict(Z)
        return mean + self.mean_, std * self.error_law_.factor(std)

    def _half_width(self, std: np.ndarray, level: float) -> np.ndarray:
        """Half-widths (n,) of intervals that hold a new label with probability ``level``, by that way of leaving out
        which asks for more."""
        n = self.scores_.shape[1]
        rank = min(n, int(np.ceil(level * (n + 1))))
        return self.scores_[:, rank - 1].max() * std

    def _sampled(self, Z: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Labels (n_samples, n) drawn jointly from the calibrated posterior of the function: rows that are alike err
        alike."""
        check_is_fitted(self)
        mean = self.regressor_.predict(Z)[0] + self.mean_
        covariance = self.regressor_.covariance(Z)
        factor = self.error_law_.factor(np.sqrt(np.maximum(np.diag(covariance), 0.0)))
        values, vectors = np.linalg.eigh(factor[:, None] * covariance * factor)
        root = vectors * np.sqrt(np.maximum(values, 0.0))  # rounding leaves tiny negative eigenvalues
        return mean + rng.normal(size=(n_samples, len(mean))) @ root.T
