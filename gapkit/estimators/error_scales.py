"""Laws from a regressor's standard deviations to calibrated ones, fitted to errors of rows left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from scipy.optimize import minimize


class ErrorScale(Protocol):
    """Contract of the laws from a regressor's standard deviations to calibrated ones."""

    @classmethod
    def fit(cls, errors: np.ndarray, stds: np.ndarray, signal: float) -> Self:
        """Law fitted to left-out errors (ways, n) and standard deviations (ways, n); ``signal``: the prior one."""

    def factor(self, std: np.ndarray) -> np.ndarray:
        """Factors (n,) on standard deviations (n,) of the regressor."""


@dataclass(frozen=True)
class ConstantFactor:
    """One factor for all standard deviations: the root mean square of the standardised left-out errors."""

    value: float

    @classmethod
    def fit(cls, errors: np.ndarray, stds: np.ndarray, signal: float) -> ConstantFactor:
        """See :class:`ErrorScale`."""
        return cls(float(np.sqrt(np.mean((errors / stds) ** 2))))

    def factor(self, std: np.ndarray) -> np.ndarray:
        """See :class:`ErrorScale`."""
        return np.full(np.shape(std), self.value)


@dataclass(frozen=True)
class PowerLaw:
    r"""A power law, :math:`\sigma(s) = s\, e^{a + b \ln u}` with the share u = s / signal of the prior.

    A length scale learned among known places is too bold beyond them: b says by how much.

    Attributes
    ----------
    a, b : float
    signal : float
        Prior standard deviation, in the unit of the labels.
    low, high : float
        Range of u that the law was fitted on; beyond it the factor stays as at its end.
    """

    a: float
    b: float
    signal: float
    low: float
    high: float

    @classmethod
    def fit(cls, errors: np.ndarray, stds: np.ndarray, signal: float) -> PowerLaw:
        """The law of the greatest Gaussian likelihood of the left-out errors (..., n).

        b is kept above -1/2, so that calibrated standard deviations rise with the regressor's.
        """
        u, z = stds / signal, errors / stds

        def loss(law: np.ndarray) -> float:
            log_factor = law[0] + law[1] * np.log(u)
            return float(np.mean(log_factor + 0.5 * z**2 * np.exp(-2 * log_factor)))

        a, b = minimize(loss, [0.0, 0.0], method="L-BFGS-B", bounds=[(-5.0, 5.0), (-0.5, 3.0)]).x
        return cls(float(a), float(b), signal, float(u.min()), float(u.max()))

    def factor(self, std: np.ndarray) -> np.ndarray:
        """See :class:`ErrorScale`."""
        return np.exp(self.a + self.b * np.log(np.clip(std / self.signal, self.low, self.high)))
