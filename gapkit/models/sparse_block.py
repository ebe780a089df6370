"""Sparse points of one channel, and the whitening of covariances with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.linalg

from gapkit.descriptors import Descriptor
from gapkit.descriptors.base import Channel, KernelSum, projected
from gapkit.exceptions import NumericsError
from gapkit.kernels import Kernel, SquaredExponential
from gapkit.numerics.threads import blas_threads

#: jitters tried, relative to the largest diagonal element of K_mm
JITTERS = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7)
LEAST_JITTER = 1e-13

#: spacing of a grid that stands for a kernel of one feature, in length scales, and its jitter
GRID_SPACING, GRID_JITTER = 0.3, 1e-14


def whitening_factor(K_mm: np.ndarray, smallest: float = LEAST_JITTER) -> tuple[np.ndarray, float]:
    """Lower Cholesky factor of ``K_mm + jitter``, and the jitter: as small as the factorisation allows.

    ``smallest``: no less than this share of the largest diagonal element.
    """
    scale = float(K_mm.diagonal().max(initial=0.0))
    for relative in (j for j in JITTERS if j >= smallest):
        shifted = K_mm.copy()
        shifted[np.diag_indices_from(shifted)] += relative * scale
        try:
            return scipy.linalg.cholesky(shifted, lower=True, check_finite=False), relative * scale
        except np.linalg.LinAlgError:
            continue
    raise NumericsError(
        f"the kernel matrix of {len(K_mm)} sparse points is not positive definite even with a jitter of "
        f"{JITTERS[-1]:g}: duplicated sparse points or features that are not finite; use fewer sparse points"
    )


def factor_of(points: np.ndarray, kernel: Kernel, jitter: float) -> np.ndarray:
    """The factor that :func:`whitening_factor` found for scaled ``points`` (m, d), from its jitter: bit for bit on one
    machine; elsewhere error bars move by about 1e-8 of themselves.

    Raises
    ------
    LinAlgError
        Where the kernel matrix with this jitter is not positive definite.
    """
    with blas_threads(1):
        K_mm = kernel.of_scaled(points)
        K_mm[np.diag_indices_from(K_mm)] += jitter
        return scipy.linalg.cholesky(K_mm, lower=True, check_finite=False)


def whiten(K: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """A = K L^-T for covariances ``K`` (n, m) with sparse points whose Cholesky factor L (m, m) is ``factor``."""
    return scipy.linalg.solve_triangular(factor, K.T, lower=True, check_finite=False).T


@dataclass(frozen=True)
class SparseBlock:
    """Sparse points of one channel of one term.

    Attributes
    ----------
    term : int
        Index of the term.
    points : (m, d)
        Features, scaled by the kernel and projected on ``directions``.
    factor : (m, m)
        L, lower.
    jitter : float
        Added to the diagonal of K_mm before the factorisation.
    columns : slice
        Place among all columns.
    directions : (d, f) or None
        Orthonormal rows that features are projected on; None: the identity. Prior variances are those of the whole
        features, so that what a projection hides is in the Nystrom residual.
    """

    term: int
    descriptor: Descriptor
    kernel: Kernel
    channel: Channel
    points: np.ndarray
    factor: np.ndarray
    jitter: float
    columns: slice
    directions: np.ndarray | None = None

    @cached_property
    def grid(self) -> np.ndarray | None:
        """Scaled features (g, 1) so dense that they explain the whole prior of a smooth kernel of one feature.

        Prior variances are then the squared lengths of whitened rows on the grid, at a cost that is linear in the
        number of environments, not quadratic. Spaced 0.3 length scales, two beyond either end, they leave 1e-13 of the
        variance of a value or a derivative (tests/models/test_design_rows.py). None for other descriptors and kernels.
        """
        span = self.descriptor.feature_range
        if span is None or not isinstance(self.kernel, SquaredExponential):
            return None
        low, high = self.kernel.scale(np.array(span)[:, None]).ravel()
        return np.arange(low - 2.0, high + 2.0 + GRID_SPACING, GRID_SPACING)[:, None]

    @cached_property
    def _grid_factor(self) -> np.ndarray:
        assert self.grid is not None
        return whitening_factor(self.kernel.of_scaled(self.grid), GRID_JITTER)[0]

    def variances_from_grid(self, rows: np.ndarray) -> np.ndarray:
        """Prior variances (n,) from covariances ``rows`` (n, g) with the grid."""
        a = scipy.linalg.solve_triangular(self._grid_factor, rows.T, lower=True, check_finite=False)
        return np.einsum("gn,gn->n", a, a)

    def project(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled features (n, f), or derivatives of them, on the directions: (n, d)."""
        return projected(scaled, self.directions)

    def rotated(self, rotation: np.ndarray) -> SparseBlock:
        """The block with projected features z replaced by ``rotation``^T z, for an orthogonal ``rotation`` (d, d).

        A dot-product kernel does not change but for rounding, nor does the factor.
        """
        if self.directions is None or self.kernel.centred:
            raise ValueError("only projected features of a dot-product kernel can be rotated")
        directions = np.ascontiguousarray(rotation.T @ self.directions)
        points = np.ascontiguousarray(self.points @ rotation)
        factor = factor_of(points, self.kernel, self.jitter)
        return replace(self, points=points, factor=factor, directions=directions)

    def kernel_sum(self, alpha: np.ndarray, extra: tuple[np.ndarray, np.ndarray] | None = None) -> KernelSum:
        """The block's function for the weights ``alpha`` (all columns; eV), and for ``extra`` points and weights."""
        weights_here = alpha[self.columns]
        if extra is None:
            return KernelSum(self.kernel, self.points, weights_here, self.directions)
        points, weights = extra
        if weights_here.any():
            points, weights = np.vstack([points, self.points]), np.concatenate([weights, weights_here])
        return KernelSum(self.kernel, points, weights, self.directions, self.points.mean(axis=0))

    def kernel_arguments(self) -> tuple[int, int, bool]:
        return self.kernel.function, self.kernel.parameter, self.kernel.centred
