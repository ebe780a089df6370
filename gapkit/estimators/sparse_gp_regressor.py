r"""Sparse Gaussian process regression on plain feature matrices.

Notation: n rows, m sparse points, k targets; :math:`\sigma` noise and :math:`\delta` signal standard
deviation; :math:`L L^T = K_{mm}` and whitened rows :math:`A = K_{nm} L^{-T}`, so that :math:`Q = \delta^2 A
A^T` is the Nystrom approximation of the prior covariance and the model is :math:`y \sim N(0, C)`, :math:`C =
Q + \sigma^2 I` (the deterministic training conditional, Quinonero-Candela and Rasmussen, J. Mach. Learn. Res.
6, 1939 (2005), sec. 5). With :math:`B = I + (\delta/\sigma)^2 A^T A = R^T R`, R from the QR decomposition of
:math:`[\delta A/\sigma; I]`,

.. math:: \log|C| = 2 n \log\sigma + 2 \sum_i \log |R_{ii}|, \qquad C^{-1} A = A B^{-1} / \sigma^2,
          \qquad y^T C^{-1} y = \min_w |y - \delta A w|^2/\sigma^2 + |w|^2 .
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from warnings import warn

import numpy as np
import scipy.linalg
import scipy.optimize
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gapkit.estimators.kernel_ridge import checked_kernel, origin, weighted_gradient
from gapkit.exceptions import NumericsError, SettingsError
from gapkit.kernels import Kernel, SquaredExponential
from gapkit.models.posterior import RESIDUAL_ERROR, RESIDUAL_FLOOR
from gapkit.models.sparse_block import whiten, whitening_factor
from gapkit.models.sparse_points import Selection, selection
from gapkit.models.triangles import triangle_of

_LOG_2PI = float(np.log(2.0 * np.pi))
_SEARCH_JITTER = 1e-8  # of the unit kernel, while the length scale is searched for: keeps the objective smooth
_NOISE_RANGE = (1e-5, 1e1)  # of the root mean square of y
_SIGNAL_RANGE = (1e-3, 1e4)  # of the root mean square of y over that of the unit kernel
_LENGTH_RANGE = (1e-2, 1e2)  # of the median distance of the training rows
_LENGTH_STARTS = (0.25, 1.0, 4.0)  # of the median distance


def collapsed_solution(
    A: np.ndarray, Y: np.ndarray, noise: float, signal: float
) -> tuple[np.ndarray, np.ndarray, float]:
    r"""Solution of the sparse regression by one QR decomposition: R, w and the log evidence.

    Parameters
    ----------
    A : (n, m)
        Whitened rows.
    Y : (n, k)
        Targets.
    noise, signal
        :math:`\sigma` and :math:`\delta`.

    Returns
    -------
    R : (m, m)
        Upper triangle of the QR decomposition of ``[signal A / noise; I]``.
    w : (m, k)
        Posterior mean of the whitened weights; the predictions are ``signal A w``.
    log_evidence : float
        :math:`\sum_k \log N(y_k; 0, C)`.
    """
    (n, m), k = A.shape, Y.shape[1]
    stack = np.zeros((n + m, m + k), order="F")
    stack[:n, :m] = (signal / noise) * A
    stack[:n, m:] = Y / noise
    stack[n + np.arange(m), np.arange(m)] = 1.0
    T = triangle_of(stack)
    R = np.ascontiguousarray(T[:m, :m])
    w = scipy.linalg.solve_triangular(R, T[:m, m:], check_finite=False)
    log_determinant = 2.0 * n * np.log(noise) + 2.0 * np.log(np.abs(np.diag(R))).sum()
    quadratic = float(np.sum(T[m:, m:] ** 2))
    return R, w, -0.5 * quadratic - 0.5 * k * (log_determinant + n * _LOG_2PI)


@dataclass(frozen=True)
class LevelEvidence:
    r"""Log evidence as a function of noise and signal, at a fixed kernel: O(m) per evaluation.

    In the eigenvectors of :math:`A A^T`, C is diagonal: :math:`\delta^2 s_i^2 + \sigma^2` and, outside their
    span, :math:`\sigma^2`.

    Attributes
    ----------
    eigenvalues : (m,)
        :math:`s_i^2`.
    inside : (m,)
        Squared components of the targets along the eigenvectors, summed over targets.
    outside : float
        Squared norm of what lies outside.
    n_rows, n_targets : int
    """

    eigenvalues: np.ndarray
    inside: np.ndarray
    outside: float
    n_rows: int
    n_targets: int

    @classmethod
    def of(cls, A: np.ndarray, Y: np.ndarray) -> LevelEvidence:
        """Evidence of whitened rows (n, m) and targets (n, k), by one eigendecomposition."""
        m = A.shape[1]
        T = triangle_of(np.asfortranarray(np.hstack([A, Y])))
        U, s, _ = np.linalg.svd(T[:m, :m])
        inside = np.sum((U.T @ T[:m, m:]) ** 2, axis=1)
        return cls(s**2, inside, float(np.sum(T[m:, m:] ** 2)), len(A), Y.shape[1])

    def __call__(self, log_levels: np.ndarray) -> tuple[float, np.ndarray]:
        """Log evidence and its gradient (2,) by ``(log noise, log signal)``."""
        noise2, signal2 = np.exp(2.0 * np.asarray(log_levels))
        k, rest = self.n_targets, self.n_rows - len(self.eigenvalues)
        function2 = signal2 * self.eigenvalues
        c = function2 + noise2
        value = -0.5 * (np.sum(self.inside / c) + self.outside / noise2)
        value -= 0.5 * k * (np.log(c).sum() + rest * np.log(noise2) + self.n_rows * _LOG_2PI)
        by_c = self.inside / c**2 - k / c
        by_noise = noise2 * by_c.sum() + self.outside / noise2 - k * rest
        return float(value), np.array([by_noise, np.sum(function2 * by_c)])

    def maximise(self, bounds: list[tuple[float, float]], max_iter: int) -> tuple[np.ndarray, float, int, bool]:
        """Best ``(log noise, log signal)`` within ``bounds``, its evidence, iterations, and whether the search
        converged."""
        grids = [np.unique(np.linspace(low, high, 9)) for low, high in bounds]
        starts = [(self(np.array([a, b]))[0], a, b) for a in grids[0] for b in grids[1]]
        _, *start = max(starts)
        return _maximise(self, np.array(start), bounds, max_iter)


@dataclass(frozen=True)
class LengthScaleEvidence:
    r"""Log evidence as a function of noise, signal and the length scale of a squared exponential.

    With :math:`\alpha = C^{-1} y`, :math:`P = \alpha\alpha^T - k C^{-1}` (summed over targets) and
    :math:`W = A L^{-1}`, the derivative by any kernel parameter is
    :math:`\delta^2 [\langle P W, dK_{nm}\rangle - \tfrac12 \langle W^T P W, dK_{mm}\rangle]`.

    Attributes
    ----------
    X : (n, f)
        Training features.
    points : (m, f)
        Sparse points.
    Y : (n, k)
        Targets.
    jitter : float
        Added to the diagonal of K_mm.
    """

    X: np.ndarray
    points: np.ndarray
    Y: np.ndarray
    jitter: float = _SEARCH_JITTER

    def __call__(self, log_parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Log evidence and its gradient (3,) by ``(log noise, log signal, log length scale)``."""
        noise, signal, length = np.exp(log_parameters)
        (n, k), m = self.Y.shape, len(self.points)
        kernel = SquaredExponential(length)
        Z = kernel.scale(self.points)
        t_nm, t_mm = kernel.argument(kernel.scale(self.X), Z), kernel.argument(Z, Z)
        np.fill_diagonal(t_mm, 0.0)
        K_nm, K_mm = np.exp(t_nm), np.exp(t_mm)
        L = scipy.linalg.cholesky(K_mm + self.jitter * np.eye(m), lower=True, check_finite=False)
        A = whiten(K_nm, L)
        R, w, value = collapsed_solution(A, self.Y, noise, signal)

        alpha = (self.Y - signal * (A @ w)) / noise**2
        R_inverse = scipy.linalg.solve_triangular(R, np.eye(m), check_finite=False)
        L_inverse = scipy.linalg.solve_triangular(L, np.eye(m), lower=True, check_finite=False)
        M = R_inverse @ (R_inverse.T @ L_inverse)  # B^-1 L^-1
        explained = m - np.sum(R_inverse**2)  # tr(C^-1 Q) = m - tr(B^-1)
        fitted = np.sum(alpha * (self.Y - noise**2 * alpha))  # alpha^T Q alpha
        by_noise = noise**2 * np.sum(alpha**2) - k * (n - explained)
        by_signal = fitted - k * explained

        W_alpha = L_inverse.T @ (A.T @ alpha)
        PW = alpha @ W_alpha.T - (k / noise**2) * (A @ M)
        WPW = W_alpha @ W_alpha.T - (k / signal**2) * (L_inverse.T @ (L_inverse - M))
        # t scales as length^-2, so that dK / dlog(length) = -2 t K
        by_length = signal**2 * (np.sum(PW * (-2.0 * t_nm * K_nm)) - 0.5 * np.sum(WPW * (-2.0 * t_mm * K_mm)))
        return value, np.array([by_noise, by_signal, by_length])


def _maximise(
    function, start: np.ndarray, bounds: list[tuple[float, float]], max_iter: int
) -> tuple[np.ndarray, float, int, bool]:
    """Maximum of ``function`` (value and gradient) by L-BFGS: place, value, iterations, whether it converged.

    Coordinates whose bounds are equal stay where they start.
    """
    free = np.array([low < high for low, high in bounds])
    x = np.array(start, dtype=float)

    def negative(x_free):
        x[free] = x_free
        value, gradient = function(x)
        return -value, -gradient[free]

    if not free.any():
        return x, function(x)[0], 0, True
    found = scipy.optimize.minimize(
        negative,
        x[free],
        jac=True,
        bounds=[b for b, f in zip(bounds, free, strict=True) if f],
        method="L-BFGS-B",
        options={"maxiter": max_iter},
    )
    x[free] = found.x
    return x, -float(found.fun), int(found.nit), found.nit < max_iter


class SparseGPRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Sparse Gaussian process regression with m sparse points, a scikit-learn estimator.

    Deterministic training conditional with the Nystrom residual in the predictive variance, at a cost of
    O(n m^2). The prior mean is zero: centre ``y`` where its mean is far from zero. Several targets share one
    kernel and one noise.

    Parameters
    ----------
    kernel : gapkit.kernels.Kernel, optional
        Used as it is. Default: a squared exponential whose length scale maximises the evidence.
    noise : float or "auto"
        Noise standard deviation :math:`\sigma`, in the units of ``y``; "auto" maximises the evidence.
    signal : float or "auto"
        Prior standard deviation :math:`\delta` that multiplies the kernel, in the units of ``y``; likewise.
    n_sparse : int
        Largest number of sparse points.
    selection : str or object
        How they are chosen among the training rows; "greedy" is pivoted Cholesky, which stops early where the
        rest adds nothing. See ``gapkit.models.sparse_points``.
    random_state : int, RandomState or None
        For selections that draw random numbers.
    max_iter : int
        Largest number of L-BFGS iterations per search.

    Attributes
    ----------
    kernel_, noise_, signal_
        Kernel and levels used.
    sparse_indices_ : (m,)
        Training rows that serve as sparse points.
    sparse_points_ : (m, f)
        Their features, shifted by ``X_offset_``.
    weights_ : (m,) or (m, k)
        Posterior mean w of the whitened weights.
    R_ : (m, m)
        Their posterior covariance is ``(R^T R)^-1``.
    log_marginal_likelihood_ : float
        Log evidence (Quinonero-Candela and Rasmussen 2005), summed over targets.
    nystrom_trace_ : float
        :math:`\delta^2 \sum_n (k_{nn} - |a_n|^2)`, the prior variance that the sparse points do not explain.
        ``log_marginal_likelihood_ - n_targets * nystrom_trace_ / (2 * noise_**2)`` is the lower bound of
        Titsias, AISTATS 2009, eq. 9.
    n_iter_ : int
        Iterations of the last search, at least 1.
    X_offset_ : (f,)
        Mean of the training features for kernels of a distance, where a shift changes rounding alone; else
        zero.

    Examples
    --------
    >>> import gapkit
    >>> import numpy as np
    >>> X = np.linspace(0.0, 6.0, 40)[:, None]
    >>> gp = gapkit.SparseGPRegressor(n_sparse=12).fit(X, np.sin(X[:, 0]))
    >>> mean, std = gp.predict([[1.0], [20.0]], return_std=True, include_noise=False)
    >>> bool(abs(mean[0] - np.sin(1.0)) < 1e-3), bool(std[1] > 100 * std[0])
    (True, True)
    """

    def __init__(
        self,
        kernel: Kernel | None = None,
        noise: float | str = "auto",
        signal: float | str = "auto",
        n_sparse: int = 500,
        selection: str | Selection = "greedy",
        random_state=None,
        max_iter: int = 200,
    ) -> None:
        self.kernel = kernel
        self.noise = noise
        self.signal = signal
        self.n_sparse = n_sparse
        self.selection = selection
        self.random_state = random_state
        self.max_iter = max_iter

    def fit(self, X, y) -> SparseGPRegressor:
        """Choose sparse points and levels, and solve for the weights.

        Parameters
        ----------
        X : (n, f)
            Features.
        y : (n,) or (n, k)
            Targets.

        Raises
        ------
        SettingsError
            If a parameter cannot work.
        NumericsError
            If the kernel matrix of the sparse points cannot be factorised.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._check_settings()
        kernel = checked_kernel(self.kernel, X, SquaredExponential(length_scale=1.0))
        self.X_offset_ = origin(kernel, X)
        X = X - self.X_offset_
        Y = y.reshape(len(y), -1).astype(np.float64)
        choose, rng = selection(self.selection), self._generator()

        def sparse(kernel: Kernel) -> np.ndarray:
            return np.asarray(choose(X, kernel, min(self.n_sparse, len(X)), rng))

        scale = float(np.sqrt(np.mean(Y**2))) or 1.0
        if self.kernel is None:
            kernel, levels, indices, converged = self._search_length_scale(X, Y, scale, sparse)
        else:
            indices = sparse(kernel)
            if len(indices) == 0:
                raise SettingsError(f"{kernel!r} is zero for all training rows: features of zero length?")
            factor, _ = whitening_factor(kernel(X[indices]))
            bounds = self._level_bounds(scale, kernel, X)
            evidence = LevelEvidence.of(whiten(kernel(X, X[indices]), factor), Y)
            levels, _, self.n_iter_, converged = evidence.maximise(bounds, self.max_iter)
        self.n_iter_ = max(1, self.n_iter_)
        if not converged:
            warn(
                f"the search for the largest evidence stopped after {self.max_iter} iterations; increase max_iter",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.kernel_ = kernel
        self.noise_ = float(np.exp(levels[0])) if self.noise == "auto" else float(self.noise)
        self.signal_ = float(np.exp(levels[1])) if self.signal == "auto" else float(self.signal)
        self.sparse_indices_ = indices
        self.sparse_points_ = X[indices]
        self._factor, self.jitter_ = whitening_factor(kernel(self.sparse_points_))
        A = whiten(kernel(X, self.sparse_points_), self._factor)
        self.R_, w, self.log_marginal_likelihood_ = collapsed_solution(A, Y, self.noise_, self.signal_)
        self.nystrom_trace_ = float(self.signal_**2 * self._residual(X, A).sum())
        self.weights_ = w[:, 0] if y.ndim == 1 else w
        self._dual = self.signal_ * scipy.linalg.solve_triangular(
            self._factor, self.weights_, lower=True, trans="T", check_finite=False
        )
        return self

    def predict(self, X, return_std: bool = False, return_cov: bool = False, include_noise: bool = True):
        r"""Predictions and, on request, their uncertainty.

        With a the whitened row of a point and k** its prior variance, the mean is :math:`\delta\, a \cdot w`
        and the variance :math:`\delta^2 (k_{**} - |a|^2) + \delta^2 |R^{-T} a|^2 + \sigma^2`.

        Parameters
        ----------
        X : (n, f)
            Features.
        return_std, return_cov
            Whether to return standard deviations or covariances too; at most one.
        include_noise
            Whether they include the noise, so that they are those of new targets; False: of the function
            alone.

        Returns
        -------
        mean : (n,) or (n, k)
        std : (n,) or (n, k)
            With ``return_std``.
        cov : (n, n) or (n, n, k)
            With ``return_cov``.
        """
        if return_std and return_cov:
            raise SettingsError("give return_std or return_cov, not both")
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False) - self.X_offset_
        A = whiten(self.kernel_(X, self.sparse_points_), self._factor)
        mean = self.signal_ * (A @ self.weights_)
        if not (return_std or return_cov):
            return mean
        half = scipy.linalg.solve_triangular(self.R_, A.T, trans="T", check_finite=False)
        residual = self._residual(X, A)
        variance = self.signal_**2 * (residual + np.einsum("mn,mn->n", half, half))
        if include_noise:
            variance += self.noise_**2
        if return_std:
            std = np.sqrt(variance)
            return mean, std if mean.ndim == 1 else np.repeat(std[:, None], mean.shape[1], axis=1)
        cov = self.signal_**2 * (self.kernel_(X) - A @ A.T + half.T @ half)
        cov[np.diag_indices_from(cov)] = variance
        return mean, cov if mean.ndim == 1 else np.repeat(cov[:, :, None], mean.shape[1], axis=2)

    def predict_gradient(self, X) -> np.ndarray:
        """Derivatives of the predictions by the features: (n, f), or (n, k, f) for k targets."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False) - self.X_offset_
        return weighted_gradient(self.kernel_, X, self.sparse_points_, self._dual)

    def _check_settings(self) -> None:
        for name in ("noise", "signal"):
            value = getattr(self, name)
            number = isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < np.inf
            if not number and not (isinstance(value, str) and value == "auto"):
                raise SettingsError(f"{name} must be a positive standard deviation or 'auto', not {value!r}")
        for name in ("n_sparse", "max_iter"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise SettingsError(f"{name} must be an integer of at least 1, not {value!r}")

    def _generator(self) -> np.random.Generator:
        """NumPy's newer generator, seeded by scikit-learn's random state."""
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))

    def _level_bounds(self, scale: float, kernel: Kernel, X: np.ndarray) -> list[tuple[float, float]]:
        """Ranges of log noise and log signal; those that are given are points."""
        prior = float(np.sqrt(kernel.diagonal(X).mean()))
        ranges = [
            (self.noise, scale * np.array(_NOISE_RANGE)),
            (self.signal, scale / prior * np.array(_SIGNAL_RANGE)),
        ]
        return [tuple(np.log(span if given == "auto" else (given, given))) for given, span in ranges]

    def _search_length_scale(self, X, Y, scale, sparse):
        """Kernel, log levels and sparse points of the largest evidence, and whether the search converged.

        The sparse points are chosen for the best of a few length scales, the three parameters found with the
        points held, the points chosen once more, and the parameters found again.
        """
        some = X[:: max(1, len(X) // 500)]
        median = (float(np.median(pdist(some))) if len(some) > 1 else 0.0) or 1.0
        bounds = self._level_bounds(scale, SquaredExponential(1.0), X)
        trials = []
        for factor in _LENGTH_STARTS:
            kernel = SquaredExponential(factor * median)
            points = X[sparse(kernel)]
            A = whiten(kernel(X, points), whitening_factor(kernel(points))[0])
            levels, value, *_ = LevelEvidence.of(A, Y).maximise(bounds, self.max_iter)
            trials.append((value, kernel.length_scale, *levels))
        _, length, *levels = max(trials)
        bounds = [*bounds, tuple(np.log(median * np.array(_LENGTH_RANGE)))]
        x = np.array([*levels, np.log(length)])
        for _ in range(2):
            indices = sparse(SquaredExponential(float(np.exp(x[2]))))
            evidence = LengthScaleEvidence(X, X[indices], Y)
            x, _, self.n_iter_, converged = _maximise(evidence, x, bounds, self.max_iter)
        return SquaredExponential(float(np.exp(x[2]))), x[:2], indices, converged

    def _residual(self, X: np.ndarray, A: np.ndarray) -> np.ndarray:
        """Nystrom residual (n,) of the unit kernel, ``k(x, x) - |a|^2``; negative only by rounding, then
        zero."""
        prior = self.kernel_.diagonal(X)
        difference = prior - np.einsum("nm,nm->n", A, A)
        if np.any(difference < -RESIDUAL_ERROR * prior):
            raise NumericsError(
                f"a Nystrom residual of {np.min(difference / prior):.2e} of the prior variance is negative "
                "beyond rounding: the sparse points' kernel matrix is too ill-conditioned; use fewer of them"
            )
        difference[difference < RESIDUAL_FLOOR * prior] = 0.0
        return difference
