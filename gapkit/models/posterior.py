r"""The posterior of the whitened weights, and the predictions of linear functionals that follow from it.

With rows a (whitened, unit kernels), signal standard deviations delta per column and noise sigma per group,
:math:`w \sim N(0, 1)` and :math:`y = a \delta w + \sigma \epsilon`. Stacking :math:`R_g \delta / \sigma_g` over the
identity and one QR give

.. math:: R^T R = 1 + \sum_g \delta R_g^T R_g \delta / \sigma_g^2, \quad w = R^{-1} z

    \mathrm{mean} = a_* \delta w, \qquad
    \mathrm{var} = \underbrace{\textstyle\sum_t \delta_t^2 (k_t(*, *) - |a_{*t}|^2)}_{\text{Nystrom residual}}
                 + |R^{-T} \delta a_*|^2

the DTC approximation with the residual kept (Quinonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005),
eq. 20; Foster et al., J. Mach. Learn. Res. 10, 857 (2009) for the QR form).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError
from gapkit.models.triangles import Triangle, Triangles, fold_in, is_triangle

#: the Nystrom residual is a difference of two nearly equal numbers: below this share of k** it counts as zero ...
RESIDUAL_FLOOR = 1e-9
#: ... and a value more negative than this share of k** cannot be rounding
RESIDUAL_ERROR = 1e-6


@dataclass(frozen=True)
class Posterior:
    """Posterior of the weights.

    Attributes
    ----------
    weights : (m,)
        Mean of w times delta: multiplies whitened rows.
    R : (m, m)
        Upper triangle; the covariance of w is (R^T R)^-1.
    signal : (terms,)
        delta, the prior standard deviation of each term's local function (eV).
    column_signal : (m,)
        delta of each column's term.
    column_terms : (m,)
        Term of each column.
    """

    weights: np.ndarray
    R: np.ndarray
    signal: np.ndarray
    column_signal: np.ndarray
    column_terms: np.ndarray

    @classmethod
    def solve(
        cls,
        triangles: Triangles,
        noise: Mapping[str, float],
        signal: np.ndarray,
        column_terms: np.ndarray,
        leave_out: int | None = None,
        progress: Callable[[list], Iterable] = iter,
    ) -> Posterior:
        """Posterior by QR of all triangles except those of fold ``leave_out``; ``progress`` wraps their list."""
        signal = np.asarray(signal, dtype=float)
        column_signal = signal[column_terms]
        m = triangles.n_columns
        stack = np.zeros((m + 1, m + 1), order="F")
        stack[np.arange(m), np.arange(m)] = 1.0
        waiting: list[np.ndarray] = []
        for (group, fold), triangle in progress(list(triangles.items.items())):
            if fold == leave_out and leave_out is not None:
                continue
            R = triangle.reduce() / noise[group]
            R[:, :-1] *= column_signal
            if is_triangle(R):
                stack = fold_in(stack, R, triangular=True)
                continue
            waiting.append(R)
            if sum(map(len, waiting)) > m:  # small trapezoids together: each factorisation passes over the stack
                stack, waiting = fold_in(stack, np.vstack(waiting)), []
        if waiting:
            stack = fold_in(stack, np.vstack(waiting))
        R, z = stack[:m, :m], stack[:m, m]
        w = scipy.linalg.solve_triangular(R, z, check_finite=False)
        if not np.isfinite(w).all():
            raise NumericsError("the least-squares solution is not finite: labels or noise levels are out of range")
        return cls(column_signal * w, np.ascontiguousarray(R), signal, column_signal, np.asarray(column_terms))

    @classmethod
    def solve_normal_equations(
        cls,
        grams: Mapping[tuple[str, int], np.ndarray],
        noise: Mapping[str, float],
        signal: np.ndarray,
        column_terms: np.ndarray,
        leave_out: int | None = None,
    ) -> Posterior:
        """Posterior by Cholesky factorisation of Gram matrices R^T R.

        This is far cheaper than :meth:`solve` and keeps half the digits: enough for the search and for statistics.
        """
        signal = np.asarray(signal, dtype=float)
        column_signal = signal[column_terms]
        m = len(column_signal)
        H = np.zeros((m + 1, m + 1))
        for (group, fold), G in grams.items():
            if leave_out is None or fold != leave_out:
                H += G * noise[group] ** -2.0
        H[:m] *= column_signal[:, None]
        H[:, :m] *= column_signal
        precision, c = H[:m, :m], H[:m, m].copy()
        precision[np.arange(m), np.arange(m)] += 1.0
        R = scipy.linalg.cholesky(precision, check_finite=False)
        w = scipy.linalg.cho_solve((R, False), c, check_finite=False)
        return cls(column_signal * w, R, signal, column_signal, np.asarray(column_terms))

    def correction(self, triangles: Triangles, noise: Mapping[str, float]) -> np.ndarray:
        """Weights (m,) that this posterior gives to the errors e of another mean.

        :math:`\\delta (R^T R)^{-1} \\delta A^T \\Sigma^{-1} e`, from triangles of [A | e] of rows that are among those
        of the posterior.
        """
        c = np.zeros(len(self.weights))
        for (group, _), triangle in triangles.items.items():
            R = triangle.reduce() / noise[group]
            c += R[:, :-1].T @ R[:, -1]
        return self.column_signal * scipy.linalg.cho_solve((self.R, False), self.column_signal * c, check_finite=False)

    def mean(self, A: np.ndarray) -> np.ndarray:
        """Posterior mean of the functionals whose whitened rows are ``A`` (n, m)."""
        return A @ self.weights

    def explained(self, A: np.ndarray) -> np.ndarray:
        """Prior variances (n, terms) that the sparse points explain, ``|a_t|^2`` of the unit kernel of each term."""
        out = np.zeros((len(A), len(self.signal)))
        for t in range(len(self.signal)):
            part = A[:, self.column_terms == t]
            out[:, t] = np.einsum("nm,nm->n", part, part)
        return out

    def residual(self, A: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Nystrom residual variance (n,) of rows with unit prior variances ``prior`` (n, terms).

        Raises
        ------
        NumericsError
            If it comes out negative beyond rounding.
        """
        difference = prior - self.explained(A)
        # a variance that vanishes by symmetry is a sum of cancelling terms: judge it by the frame's largest
        scale = np.maximum(prior, 1e-6 * prior.max(axis=0, initial=1e-12))
        if np.any(difference < -RESIDUAL_ERROR * scale):
            worst = float((difference / scale).min())
            raise NumericsError(
                f"Nystrom residual of {worst:.2e} of the prior variance is negative beyond rounding: the sparse "
                "points' kernel matrix is too ill-conditioned; use fewer sparse points"
            )
        difference[difference < RESIDUAL_FLOOR * scale] = 0.0
        return difference @ self.signal**2

    def weight_variance(self, A: np.ndarray) -> np.ndarray:
        """``|R^-T delta a|^2`` (n,): the variance left in the weights."""
        half = self.half_rows(A)
        return np.einsum("mn,mn->n", half, half)

    def variance(self, A: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """Posterior variance (n,) of functionals with rows ``A`` and unit prior variances ``prior`` (n, terms)."""
        residual, weights = self.variances(A, prior)
        return residual + weights

    def variances(self, A: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of :meth:`variance`: Nystrom residual (n,) and variance left in the weights (n,)."""
        return self.residual(A, prior), self.weight_variance(A)

    def covariances(self, A: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of the joint posterior covariance (n, n) of the functionals with rows ``A``.

        Parameters
        ----------
        A : (n, m)
            Whitened rows.
        prior : (n, n, terms)
            Prior covariances of the unit kernels among the functionals.

        Returns
        -------
        residual, weights : (n, n)
            Covariances of the Nystrom residual, with :meth:`residual` on its diagonal, and of the weights.

        Raises
        ------
        NumericsError
            As :meth:`residual`.
        """
        n = len(A)
        diagonal = self.residual(A, np.einsum("nnt->nt", prior))
        residual = np.zeros((n, n))
        for t, signal in enumerate(self.signal):
            part = A[:, self.column_terms == t]
            residual += signal**2 * (prior[:, :, t] - part @ part.T)
        residual[np.diag_indices(n)] = diagonal
        # a variance counted as zero has no covariances, and rounding may not correlate two functionals beyond one
        bound = np.sqrt(np.outer(diagonal, diagonal))
        residual = np.clip(0.5 * (residual + residual.T), -bound, bound)
        half = self.half_rows(A)
        return residual, half.T @ half

    def half_rows(self, A: np.ndarray) -> np.ndarray:
        """R^-T delta a, (m, n): their products are the covariances that the weights leave."""
        return scipy.linalg.solve_triangular(
            self.R, (A * self.column_signal).T, trans="T", check_finite=False, overwrite_b=True
        )

    def sample_weights(self, n: int, rng: np.random.Generator, scale: float = 1.0) -> np.ndarray:
        """Samples (n, m) of the weights' posterior; their covariance is ``scale`` squared times that of the model."""
        normal = rng.normal(size=(len(self.weights), n))
        deviation = scipy.linalg.solve_triangular(self.R, normal, check_finite=False, overwrite_b=True)
        return self.weights + scale * self.column_signal * deviation.T

    def squared_error(self, triangle: Triangle) -> float:
        """Sum of squared residuals of all rows of a triangle: ||R [w; -1]||^2."""
        R = triangle.reduce()
        return float(np.sum((R[:, :-1] @ self.weights - R[:, -1]) ** 2))

    def summed_variances(self, triangle: Triangle) -> tuple[float, float]:
        """Sums over all rows of a triangle of the Nystrom residual and of the variance left in the weights."""
        R = triangle.reduce()[:, :-1]
        explained = np.bincount(self.column_terms, np.einsum("rm,rm->m", R, R), minlength=len(self.signal))
        residual = np.maximum(triangle.prior - explained, 0.0) @ self.signal**2
        return float(residual), float(self.weight_variance(R).sum())
