r"""Differences of energy between two sites of an adatom, as the difference of one function of the site.

With the descriptors x of the initial and y of the final site, and a Gaussian process g of the kernel k and the signal
:math:`\delta`, the change of energy is :math:`g(y) - g(x)`, itself a Gaussian process of the kernel

.. math:: \delta^2 [k(y, y') + k(x, x') - k(y, x') - k(x, y')] .

A hop and its reverse have opposite changes, and the changes around a closed loop of sites add up to zero, whatever has
been learned. The process is sparse (deterministic training conditional, Quinonero-Candela and Rasmussen, J. Mach.
Learn. Res. 6, 1939 (2005)): its rows are the differences of two whitened rows of sites.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist

from gapkit.estimators.calibrated_regressors import left_out_by_refitting
from gapkit.estimators.sparse_gp_regressor import LevelEvidence, collapsed_solution
from gapkit.kernels import SquaredExponential
from gapkit.models.sparse_block import whiten, whitening_factor
from gapkit.models.sparse_points import selection

_LENGTHS = (0.5, 8.0)  # of the median distance of two sites
_NOISE = (1e-2, 1.0)  # of the root mean square of the changes: descriptors determine an energy to about 1 %
_SIGNAL = (0.1, 1e2)


class SiteEnergyProcess:
    r"""Gaussian process of changes of energy, a regressor of the contract
    :class:`gapkit.estimators.calibrated_regressors.GroupedRegressor`.

    Rows X (n, 2 f) hold the scaled features of the initial and of the final site; labels y (n,) are final less initial
    energy, and hold every change in both directions, so that their mean is zero; one direction of each is learned from,
    because the other one says nothing new. The length scale, noise and signal maximise the evidence.

    Parameters
    ----------
    n_sparse : int
        Largest number of sites that serve as sparse points.
    """

    def __init__(self, n_sparse: int = 400) -> None:
        self.n_sparse = n_sparse

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> SiteEnergyProcess:
        """Choose sparse points and hyperparameters, and learn from rows (n, 2 f) and labels (n,)."""
        sites = np.unique(np.concatenate(np.split(X, 2, axis=1)), axis=0)
        median = float(np.median(pdist(sites))) or 1.0
        rng = np.random.default_rng(0)
        chosen = selection("greedy")(sites, SquaredExponential(median), min(self.n_sparse, len(sites)), rng)
        self.points_ = sites[np.asarray(chosen)]
        one = _one_direction(X)
        scale = float(np.sqrt(np.mean(y**2))) or 1.0
        bounds = [(np.log(low * scale), np.log(high * scale)) for low, high in (_NOISE, _SIGNAL)]

        def best_levels(log_length: float) -> tuple[float, np.ndarray]:
            self._use(SquaredExponential(median * np.exp(log_length)))
            levels, value, *_ = LevelEvidence.of(self._rows(X[one]), y[one, None]).maximise(bounds, 100)
            return value, levels

        found = minimize_scalar(
            lambda length: -best_levels(length)[0], bounds=np.log(_LENGTHS), method="bounded", options={"xatol": 0.05}
        )
        self.noise_, self.signal_ = (float(v) for v in np.exp(best_levels(found.x)[1]))
        return self._solve(X, y)

    def refit(self, X: np.ndarray, y: np.ndarray) -> SiteEnergyProcess:
        """Process of other rows with the sparse points and hyperparameters of this one."""
        other = SiteEnergyProcess(self.n_sparse)
        other.points_, other.kernel_, other._factor = self.points_, self.kernel_, self._factor
        other.noise_, other.signal_ = self.noise_, self.signal_
        return other._solve(X, y)

    def left_out(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Prediction minus label (n,) of every row without its group, and its standard deviation (n,)."""
        return left_out_by_refitting(self, X, y, groups)

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and standard deviation (n,) of new labels."""
        A, residual, half = self._parts(X)
        variance = self.signal_**2 * (residual + np.sum(half**2, axis=0)) + self.noise_**2
        return self.signal_ * (A @ self.weights_), np.sqrt(variance)

    def covariance(self, X: np.ndarray) -> np.ndarray:
        """Covariance (n, n) of the changes, without noise."""
        A, _, half = self._parts(X)
        initial, final = np.split(X, 2, axis=1)
        k = self.kernel_
        cross = k(initial, final)
        return self.signal_**2 * (k(initial) + k(final) - cross - cross.T - A @ A.T + half.T @ half)

    @property
    def signal(self) -> float:
        """Standard deviation of the difference of two sites far from all others and from each other."""
        return float(np.sqrt(2.0) * self.signal_)

    def _use(self, kernel: SquaredExponential) -> None:
        self.kernel_ = kernel
        self._factor, _ = whitening_factor(kernel(self.points_))

    def _rows(self, X: np.ndarray) -> np.ndarray:
        """Whitened rows (n, m): final less initial site."""
        initial, final = np.split(X, 2, axis=1)
        return whiten(self.kernel_(final, self.points_) - self.kernel_(initial, self.points_), self._factor)

    def _solve(self, X: np.ndarray, y: np.ndarray) -> SiteEnergyProcess:
        one = _one_direction(X)
        self.R_, w, _ = collapsed_solution(self._rows(X[one]), y[one, None], self.noise_, self.signal_)
        self.weights_ = w[:, 0]
        return self

    def _parts(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whitened rows (n, m), prior variance that they leave (n,), and ``R^-T A^T`` (m, n)."""
        A = self._rows(X)
        initial, final = np.split(X, 2, axis=1)
        apart = self.kernel_.scale(final) - self.kernel_.scale(initial)
        together = np.exp(-0.5 * np.sum(apart**2, axis=1))
        residual = np.maximum(2.0 - 2.0 * together - np.sum(A**2, axis=1), 0.0)
        return A, residual, scipy.linalg.solve_triangular(self.R_, A.T, trans="T", check_finite=False)


def _one_direction(X: np.ndarray) -> np.ndarray:
    """Whether a row (n, 2 f) is kept: of a change and its reverse, the one whose first feature to differ rises; rows
    whose two sites are the same are kept."""
    initial, final = np.split(X, 2, axis=1)
    change = final - initial
    first = np.argmax(change != 0, axis=1)
    return change[np.arange(len(X)), first] >= 0
