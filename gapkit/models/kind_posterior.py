r"""Posterior of few weights from labels of some kinds, with noise and signal by evidence.

With rows A and targets y (n,) in units of an assumed noise, prior precisions :math:`\Lambda`, and the eigenvalues
:math:`\lambda` and eigenvectors V of :math:`\Lambda^{-1/2} A^T A \Lambda^{-1/2}`, the covariance of the targets is
:math:`s^2 (\tau + A \Lambda^{-1} A^T)`. The evidence is largest at :math:`s^2 = q(\tau) / n`, where

.. math:: q(\tau) = \frac{1}{\tau} \Big( y^T y - \sum_i \frac{b_i^2}{\lambda_i + \tau} \Big),
    \qquad b = V^T \Lambda^{-1/2} A^T y,

and at the :math:`\tau` that makes :math:`n \ln q + n \ln \tau + \sum_i \ln (1 + \lambda_i / \tau)` least (Rasmussen and
Williams, Gaussian Processes for Machine Learning (2006), equation 5.8, with the scale s profiled out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

#: ratios of noise to signal variance that are tried, in units of the mean eigenvalue
RATIOS = np.logspace(-12, 4, 65)


@dataclass(frozen=True)
class Sums:
    """Sums over rows A (n, m) and targets y (n,): A^T A, A^T y, y^T y, and n."""

    gram: np.ndarray
    moment: np.ndarray
    square: float
    n: int


@dataclass(frozen=True)
class Likely:
    """The largest evidence: its logarithm (up to a constant), and where it is.

    Attributes
    ----------
    log_evidence : float
    ratio : float
        Variance of the noise over that of the prior.
    scale : float
        Variance of the prior, in units of the prior's.
    """

    log_evidence: float
    ratio: float
    scale: float


class KindRegression:
    """Regression on rows whose targets may be scaled.

    Parameters
    ----------
    gram : (m, m)
        A^T A.
    n : int
        Number of labels.
    precision : (m,)
        Prior precisions.
    """

    def __init__(self, gram: np.ndarray, n: int, precision: np.ndarray) -> None:
        self.n = n
        self._root = 1.0 / np.sqrt(precision)
        eigenvalues, self._vectors = scipy.linalg.eigh(self._root[:, None] * gram * self._root, check_finite=False)
        self._eigenvalues = np.maximum(eigenvalues, 0.0)
        self._ratios = RATIOS * max(float(self._eigenvalues.mean()), 1e-300)
        self._logs = np.sum(np.log1p(self._eigenvalues / self._ratios[:, None]), axis=1)

    @classmethod
    def of(cls, sums: Sums, precision: np.ndarray) -> KindRegression:
        """Regression on the rows of ``sums``."""
        return cls(sums.gram, sums.n, precision)

    def most_likely(self, sums: Sums) -> KindPosterior:
        """Posterior of the weights for the targets of ``sums``, at the levels of the largest evidence."""
        return self.posterior(sums.moment, self.likely(sums.moment, sums.square))

    def _turned(self, moment: np.ndarray) -> np.ndarray:
        return np.asarray(self._vectors.T @ (self._root * moment))

    def likely(self, moment: np.ndarray, square: float) -> Likely:
        """The largest evidence of targets with A^T y = ``moment`` (m,) and y^T y = ``square``."""
        rest = square - np.sum(self._turned(moment) ** 2 / (self._eigenvalues + self._ratios[:, None]), axis=1)
        q = np.maximum(rest, 1e-12 * square + 1e-300) / self._ratios
        minus = self.n * np.log(q * self._ratios) + self._logs
        best = int(np.argmin(minus))
        return Likely(-0.5 * float(minus[best]), float(self._ratios[best]), float(q[best]) / self.n)

    def posterior(self, moment: np.ndarray, likely: Likely) -> KindPosterior:
        """Posterior of the weights for such targets and levels."""
        weights = self._vectors @ (self._turned(moment) / (self._eigenvalues + likely.ratio))
        scales = np.sqrt(likely.scale / (1.0 + self._eigenvalues / likely.ratio))
        return KindPosterior(self._root * weights, self._root[:, None] * self._vectors * scales)


@dataclass(frozen=True)
class KindPosterior:
    """Posterior of the weights (m,): mean, and a factor F (m, m) of the covariance F F^T."""

    weights: np.ndarray
    factor: np.ndarray

    def variances(self, A: np.ndarray) -> np.ndarray:
        """Posterior variances (r,) of functionals of the first columns, with rows ``A`` (r, m or fewer)."""
        return np.asarray(np.sum((A @ self.factor[: A.shape[1]]) ** 2, axis=1))
