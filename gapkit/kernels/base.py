"""Base class of every kernel: call, diagonal and gradient, written once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapkit.numerics import kernel_functions

#: rows of a kernel matrix whose slopes are held at a time
ROWS = 256


@dataclass(frozen=True)
class Kernel:
    r"""A positive-definite function :math:`k(x, x') = \phi(t(x, x'))` of two feature vectors.

    A subclass states which scalar function it uses (:attr:`function`, :attr:`parameter`), whether the argument
    ``t`` is a plain dot product or minus half a squared distance (:attr:`centred`), and how it scales its input
    (:meth:`scale`). Everything else follows here. See ``gapkit.numerics.kernel_functions`` for the formulas.
    """

    @property
    def function(self) -> int:
        """Number of the kernel's scalar function in ``gapkit.numerics.kernel_functions``."""
        raise NotImplementedError  # abstract

    @property
    def parameter(self) -> int:
        """Integer parameter of the scalar function (the power, for dot products)."""
        return 0

    @property
    def centred(self) -> bool:
        """Whether the kernel depends on ``t = -|x - x'|^2 / 2`` and not on ``t = x . x'``."""
        raise NotImplementedError  # abstract

    def scale(self, X: np.ndarray) -> np.ndarray:
        """Features (n, f) scaled for the argument ``t``: divided by length scales, where the kernel has any."""
        return np.ascontiguousarray(X, dtype=np.float64)

    def argument(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        """``t`` for all rows of scaled ``X`` (n, f) and ``Y`` (m, f): shape (n, m)."""
        t = X @ Y.T
        if self.centred:
            t -= 0.5 * np.einsum("nf,nf->n", X, X)[:, None]
            t -= 0.5 * np.einsum("mf,mf->m", Y, Y)[None, :]
            np.minimum(t, 0.0, out=t)
        return t

    def __call__(self, X: np.ndarray, Y: np.ndarray | None = None) -> np.ndarray:
        """Kernel matrix (n, m) between rows of ``X`` (n, f) and ``Y`` (m, f), or ``X`` and itself."""
        return self.of_scaled(self.scale(X), None if Y is None else self.scale(Y))

    def of_scaled(self, X: np.ndarray, Y: np.ndarray | None = None) -> np.ndarray:
        """Kernel matrix of features that are scaled already."""
        t = self.argument(X, X if Y is None else Y)
        if Y is None and self.centred:
            np.fill_diagonal(t, 0.0)
        slopes = np.empty((min(len(t), ROWS), t.shape[1]))  # not wanted: of some rows at a time
        for begin in range(0, len(t), ROWS):
            part = t[begin : begin + ROWS]
            kernel_functions.apply(self.function, self.parameter, part, part, slopes[: len(part)])
        return t

    def diagonal(self, X: np.ndarray) -> np.ndarray:
        """``k(x, x)`` for each row of ``X`` (n, f): shape (n,)."""
        return self.diagonal_of_scaled(self.scale(X))

    def diagonal_of_scaled(self, X: np.ndarray) -> np.ndarray:
        """:meth:`diagonal` of features that are scaled already."""
        t = np.zeros((len(X), 1)) if self.centred else np.einsum("nf,nf->n", X, X)[:, None]
        kernel_functions.apply(self.function, self.parameter, t, t, np.empty_like(t))
        return t[:, 0]

    def gradient(self, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
        r""":math:`\partial k(x, y)/\partial x` for all pairs: shape (n, m, f)."""
        Xs, Ys = self.scale(X), self.scale(Y)
        t = self.argument(Xs, Ys)
        dk = np.empty_like(t)
        kernel_functions.apply(self.function, self.parameter, t, t, dk)
        direction = Ys[None, :, :] - (Xs[:, None, :] if self.centred else 0.0)
        return dk[:, :, None] * self._unscale_gradient(direction)

    def _unscale_gradient(self, gradient: np.ndarray) -> np.ndarray:
        """Chain rule of :meth:`scale` for an array whose last axis is the feature axis."""
        return gradient
