r"""A fracture potential: the driving force for bond rupture from the stress around the bond, with error bars.

Kernel ridge regression gives the mean; its twin, the sparse Gaussian process with the same kernel and
:math:`\sigma^2 = \alpha \delta^2`, the variance. The length scale and the ridge are those under which groups left
out (loading histories, crack systems) are most probable, in closed form: with :math:`B = (K + \alpha I)^{-1}` the
labels minus the predictions of the rows g of a group are :math:`(B_{gg})^{-1} (B y)_g`, their covariance
:math:`\delta^2 (B_{gg})^{-1}` (Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eqs. 5.10 to
5.12, for blocks). Their ratio sets a factor on all standard deviations.

A crack advances where :math:`\Phi > \Phi_c`. The critical value belongs to the material: :meth:`set_critical` takes it
from places where bonds did rupture, and its error bar from their scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.optimize import brentq
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data

from gapkit.estimators.kernel_ridge import KernelRidgeRegressor
from gapkit.estimators.sparse_gp_regressor import SparseGPRegressor
from gapkit.exceptions import DataError, SettingsError
from gapkit.kernels import SquaredExponential
from gapkit.models.sparse_block import whiten, whitening_factor

_LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of the median distance of the training rows
_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


class FracturePotential(RegressorMixin, BaseEstimator):
    """Driving force for bond rupture from stress descriptors: kernel ridge regression and a sparse Gaussian process.

    Parameters
    ----------
    n_sparse : int
        Largest number of sparse points of the Gaussian process.

    Attributes
    ----------
    ridge_ : KernelRidgeRegressor
        Gives the mean, in scaled features.
    twin_ : SparseGPRegressor
        Gives the variance, with the same kernel.
    std_factor_ : float
        By which the twin's standard deviations are multiplied.
    group_errors_ : (n,) eV
        Prediction minus label of every row, its group left out.
    critical_, critical_std_, critical_error_ : float, eV
        Critical value, its scatter from bond to bond, and the standard error of the mean; 0, 0, 0 (Griffith's
        threshold) until :meth:`set_critical`.
    """

    def __init__(self, n_sparse: int = 500) -> None:
        self.n_sparse = n_sparse

    def fit(self, X, y, groups=None) -> FracturePotential:
        """Learn from labelled bonds.

        Parameters
        ----------
        X : (n, f)
            Descriptors.
        y : (n,)
            Driving forces (eV).
        groups : (n,), optional
            Rows that are left out together where settings and error bars are chosen: loading histories, or crack
            systems. Without groups ten contiguous blocks of rows stand for them.

        Raises
        ------
        DataError
            For fewer than two groups.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if groups is None:
            groups = np.arange(len(y)) * min(10, len(y)) // len(y)
        groups = np.asarray(groups)
        if len(groups) != len(y):
            raise DataError(f"{len(groups)} groups for {len(y)} rows")
        blocks = [np.flatnonzero(groups == g) for g in np.unique(groups)]
        if len(blocks) < 2:
            raise DataError("all rows are of one group: error bars need at least two")
        self.offset_, spread = X.mean(axis=0), X.std(axis=0)
        self.scale_ = np.where(spread > 1e-12 * max(1.0, np.abs(X).max()), spread, 1.0)
        self.mean_ = float(y.mean())
        Z, centred = (X - self.offset_) / self.scale_, y - self.mean_
        length, alpha = self._search(Z, centred, blocks)
        kernel = SquaredExponential(length)
        self.ridge_ = KernelRidgeRegressor(kernel, alpha).fit(Z, centred)
        # the Gaussian process whose mean the ridge is: noise^2 = alpha signal^2, the signal of the largest likelihood
        signal = float(np.sqrt(max(centred @ self.ridge_.dual_coef_, 1e-300) / len(y)))
        noise = np.sqrt(max(alpha, 1e-12)) * signal
        self.twin_ = SparseGPRegressor(kernel, noise, signal, self.n_sparse).fit(Z, centred)
        self.group_errors_, std = self._left_out(Z, centred, blocks, signal)
        self.std_factor_ = float(np.sqrt(np.mean((self.group_errors_ / std) ** 2)))
        self.critical_ = self.critical_std_ = self.critical_error_ = 0.0
        return self

    def _search(self, Z: np.ndarray, y: np.ndarray, blocks: list[np.ndarray]) -> tuple[float, float]:
        """Length scale and ridge under which the labels of groups left out are most probable, the size of all standard
        deviations being free."""
        median = float(np.median(pdist(Z))) or 1.0
        best = (np.inf, median, 1e-3)
        for length in _LENGTHS:
            values, vectors = scipy.linalg.eigh(SquaredExponential(length * median)(Z))
            along = vectors.T @ y
            for alpha in _RIDGES:
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

    def _left_out(
        self, Z: np.ndarray, y: np.ndarray, blocks: list[np.ndarray], signal: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prediction minus label (n,) of every row without its group, and the standard deviation (n,) of its label."""
        K = self.ridge_.kernel_(Z) + self.ridge_.alpha * np.eye(len(y))
        B = scipy.linalg.cho_solve(scipy.linalg.cho_factor(K, lower=True), np.eye(len(y)))
        c = B @ y
        errors, std = np.empty(len(y)), np.empty(len(y))
        for g in blocks:
            inverse = np.linalg.inv(B[np.ix_(g, g)])
            errors[g] = -inverse @ c[g]
            std[g] = signal * np.sqrt(np.diag(inverse))
        return errors, std

    def predict(self, X, return_std: bool = False):
        """Driving forces (n,) in eV and, on request, the standard deviations (n,) of new labels."""
        check_is_fitted(self)
        Z = (validate_data(self, X, dtype=np.float64, reset=False) - self.offset_) / self.scale_
        mean = self.ridge_.predict(Z) + self.mean_
        if not return_std:
            return mean
        return mean, self.std_factor_ * self.twin_.predict(Z, return_std=True)[1]

    def sample(self, X, n_samples: int, rng: np.random.Generator) -> np.ndarray:
        """Driving forces (n_samples, n) in eV, drawn jointly from the calibrated posterior of the function: rows that
        are alike err alike."""
        check_is_fitted(self)
        Z = (np.asarray(X, dtype=float) - self.offset_) / self.scale_
        covariance = self.std_factor_**2 * self.twin_.predict(Z, return_cov=True, noise=False)[1]
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))  # rounding leaves tiny negative eigenvalues
        return self.ridge_.predict(Z) + self.mean_ + rng.normal(size=(n_samples, len(Z))) @ root.T

    def draw(self, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        """One driving force from the calibrated posterior, as a function of descriptors (n, f) that may be asked again
        and again; what the sparse points do not explain (the Nystrom residual) is left out."""
        check_is_fitted(self)
        twin = self.twin_
        factor, _ = whitening_factor(twin.kernel_(twin.sparse_points_))
        xi = scipy.linalg.solve_triangular(twin.R_, rng.normal(size=len(twin.R_)))

        def drive(X: np.ndarray) -> np.ndarray:
            Z = (np.asarray(X, dtype=float) - self.offset_) / self.scale_
            A = whiten(twin.kernel_(Z - twin.X_offset_, twin.sparse_points_), factor)
            return self.predict(X) + self.std_factor_ * twin.signal_ * (A @ xi)

        return drive

    def set_critical(self, X) -> FracturePotential:
        """Critical value from the descriptors (e, f) of bonds at the point of rupture.

        Raises
        ------
        DataError
            For fewer than two ruptures: one has no scatter.
        """
        values = self.predict(X)
        if len(values) < 2:
            raise DataError("at least two ruptures are needed: one has no scatter")
        self.critical_ = float(values.mean())
        self.critical_std_ = float(values.std(ddof=1))
        self.critical_error_ = self.critical_std_ / np.sqrt(len(values))
        return self


@dataclass(frozen=True)
class CriticalLoad:
    """Where a fracture potential reaches its critical value.

    Attributes
    ----------
    load : float
        In the units of the loads that were tried.
    model_std, critical_std : float
        Standard deviations of the load due to the potential, and due to the scatter of its critical value.
    """

    load: float
    model_std: float
    critical_std: float

    @property
    def std(self) -> float:
        """Both together."""
        return float(np.hypot(self.model_std, self.critical_std))


def critical_load(
    potential: FracturePotential,
    descriptors: Callable[[np.ndarray], np.ndarray],
    loads: np.ndarray,
    critical: float | None = None,
    critical_std: float | None = None,
) -> CriticalLoad:
    """First load at which the driving force reaches the critical value, and its error bar.

    Parameters
    ----------
    descriptors
        Takes loads (k,), gives descriptors (k, f) of the tip.
    loads : (k,)
        Increasing; between two of them the descriptors are asked for again.
    critical, critical_std : float, optional
        eV; the potential's own by default.

    Raises
    ------
    DataError
        Where the critical value is not reached within ``loads``.
    """
    loads = np.asarray(loads, dtype=float)
    if loads.ndim != 1 or len(loads) < 2 or not np.all(np.diff(loads) > 0):
        raise SettingsError("loads must be at least two increasing numbers")
    critical = potential.critical_ if critical is None else float(critical)
    spread = potential.critical_std_ if critical_std is None else float(critical_std)

    def excess(load: float) -> float:
        return float(potential.predict(descriptors(np.array([load])))[0] - critical)

    above = potential.predict(descriptors(loads)) > critical
    if above.all() or not above.any():
        raise DataError(
            f"the driving force is {'above' if above.all() else 'below'} its critical value {critical:.3g} eV "
            f"at all loads from {loads[0]:.3g} to {loads[-1]:.3g}: widen the range"
        )
    k = int(np.argmax(above))
    if k == 0:
        raise DataError(f"the driving force is above its critical value {critical:.3g} eV at the lowest load")
    found = brentq(excess, loads[k - 1], loads[k], xtol=1e-10 * loads[-1])
    h = 0.01 * found
    slope = (excess(found + h) - excess(found - h)) / (2.0 * h)
    std = potential.predict(descriptors(np.array([found])), return_std=True)[1][0]
    return CriticalLoad(float(found), float(std / abs(slope)), float(spread / abs(slope)))


@dataclass(frozen=True)
class HeldOutBonds:
    """Predictions of bonds whose group the potential had not seen; arrays (n,) in eV.

    Attributes
    ----------
    label, predicted, std
    group : (n,)
    """

    label: np.ndarray
    predicted: np.ndarray
    std: np.ndarray
    group: np.ndarray

    @property
    def r2(self) -> float:
        """Share of the labels' variance that is explained."""
        residual = np.sum((self.predicted - self.label) ** 2)
        return float(1.0 - residual / np.sum((self.label - self.label.mean()) ** 2))

    @property
    def rmse(self) -> float:
        """Root-mean-square error (eV)."""
        return float(np.sqrt(np.mean((self.predicted - self.label) ** 2)))

    @property
    def z_rms(self) -> float:
        """Root mean square of error over standard deviation; 1 is honest."""
        return float(np.sqrt(np.mean(((self.predicted - self.label) / self.std) ** 2)))

    def part(self, mask: np.ndarray) -> HeldOutBonds:
        """Some of the bonds."""
        return HeldOutBonds(self.label[mask], self.predicted[mask], self.std[mask], self.group[mask])


def hold_out(
    potential: FracturePotential, X: np.ndarray, y: np.ndarray, groups: np.ndarray, inner: np.ndarray | None = None
) -> HeldOutBonds:
    """Predictions of each group by a potential fitted, settings and error bars included, to all others.

    Parameters
    ----------
    groups : (n,)
        Left out one by one.
    inner : (n,), optional
        Groups within a fit; ``groups`` by default.
    """
    X, y, groups = np.asarray(X), np.asarray(y), np.asarray(groups)
    inner = groups if inner is None else np.asarray(inner)
    mean, std = np.empty(len(y)), np.empty(len(y))
    for g in np.unique(groups):
        out = groups == g
        mean[out], std[out] = clone(potential).fit(X[~out], y[~out], inner[~out]).predict(X[out], return_std=True)
    return HeldOutBonds(y, mean, std, groups)
