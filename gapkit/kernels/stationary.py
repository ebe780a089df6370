"""Kernels of the distance between two feature vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.kernels.base import Kernel
from gapkit.numerics import kernel_functions


@dataclass(frozen=True)
class SquaredExponential(Kernel):
    r"""Squared exponential, :math:`k(x, x') = \exp(-\sum_f (x_f - x'_f)^2 / 2\theta_f^2)`.

    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eq. 4.9 and 5.1.

    Parameters
    ----------
    length_scale
        :math:`\theta`: one positive number, or one per feature, in the units of the features.

    Examples
    --------
    >>> import gapkit
    >>> import numpy as np
    >>> kernel = gapkit.SquaredExponential(length_scale=2.0)
    >>> kernel(np.array([[0.0]]), np.array([[0.0], [2.0]])).round(6)
    array([[1.      , 0.606531]])
    """

    length_scale: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        theta = np.atleast_1d(np.asarray(self.length_scale, dtype=float))
        if theta.ndim != 1 or not np.all(np.isfinite(theta)) or np.any(theta <= 0):
            raise SettingsError(f"length_scale must be positive and finite, not {self.length_scale!r}")
        if np.ndim(self.length_scale):
            object.__setattr__(self, "length_scale", tuple(float(s) for s in theta))

    @property
    def function(self) -> int:
        return kernel_functions.EXPONENTIAL

    @property
    def centred(self) -> bool:
        return True

    def scale(self, X: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.asarray(X, dtype=np.float64) / np.asarray(self.length_scale))

    def _unscale_gradient(self, gradient: np.ndarray) -> np.ndarray:
        return gradient / np.asarray(self.length_scale)
