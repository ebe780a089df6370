r"""Arrhenius law fitted to logarithms of rates or diffusion coefficients whose errors are shared between temperatures.

:math:`\ln k = \ln A - E_a / k_B T`. One potential serves all temperatures, so its error moves all values together:
a barrier that is wrong by :math:`\epsilon` moves :math:`E_a` by :math:`\epsilon` and :math:`\ln A` not at all. Errors
taken as independent give another answer, and the wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

from gapkit.checks import check_all_positive
from gapkit.exceptions import DataError


@dataclass(frozen=True)
class Arrhenius:
    """Arrhenius law with the covariances of its two numbers, by kind of error.

    Attributes
    ----------
    ln_prefactor : float
        Logarithm of the prefactor, in the unit of the values.
    activation_energy : float, eV
    shared, independent : (2, 2)
        Covariance of (ln_prefactor, activation_energy) from errors that all temperatures share, and from errors of
        each value by itself.
    scatter : float
        Standard deviation of the values about the line, beyond two degrees of freedom; nan for two temperatures.
    """

    ln_prefactor: float
    activation_energy: float
    shared: np.ndarray
    independent: np.ndarray
    scatter: float

    @property
    def covariance(self) -> np.ndarray:
        """Covariance (2, 2) of (ln_prefactor, activation_energy) from both kinds of error."""
        return self.shared + self.independent

    @property
    def ln_prefactor_std(self) -> float:
        """Standard deviation of ``ln_prefactor``."""
        return float(np.sqrt(max(self.covariance[0, 0], 0.0)))

    @property
    def activation_energy_std(self) -> float:
        """Standard deviation of the activation energy (eV)."""
        return float(np.sqrt(max(self.covariance[1, 1], 0.0)))

    def ln_value(self, temperature: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logarithm of the value at temperatures (K), and its standard deviation."""
        X = _design(check_all_positive("temperature", temperature, "K"))
        theta = np.array([self.ln_prefactor, self.activation_energy])
        variance = np.einsum("...i,ij,...j->...", X, self.covariance, X)
        return X @ theta, np.sqrt(np.maximum(variance, 0.0))


def fit_arrhenius(
    temperature: np.ndarray,
    ln_values: np.ndarray,
    independent_std: np.ndarray | None = None,
    shared_covariance: np.ndarray | None = None,
) -> Arrhenius:
    r"""Arrhenius law by weighted least squares, with the covariance that the stated errors give it.

    The estimate :math:`\hat\theta = P y` with :math:`P = (X^T W X)^{-1} X^T W` weighs the values by their independent
    errors alone; its covariance is :math:`P (\Sigma_\mathrm{shared} + \Sigma_\mathrm{independent}) P^T` (Seber and
    Lee, Linear Regression Analysis (2003), section 3.10). Weights from the full covariance would be singular where
    nearly all of the error is shared.

    Parameters
    ----------
    temperature : (n,) K
    ln_values : (n,)
        Natural logarithms of the values.
    independent_std : (n,), optional
        Standard deviations of errors of each value by itself, such as statistical ones.
    shared_covariance : (n, n), optional
        Covariance of errors that the values share, such as those of the potential.

    Raises
    ------
    DataError
        For fewer than two different temperatures, values that are not finite, or errors of another shape.
    SettingsError
        For a temperature that is not positive.

    Examples
    --------
    >>> T = np.linspace(400.0, 800.0, 9)
    >>> kT = units.kB * T
    >>> barrier_error = np.outer(0.05 / kT, 0.05 / kT)
    >>> fit = fit_arrhenius(T, 30.0 - 0.6 / kT, shared_covariance=barrier_error)
    >>> round(fit.activation_energy, 3), round(fit.activation_energy_std, 3), round(fit.ln_prefactor_std, 3)
    (0.6, 0.05, 0.0)
    """
    T = np.atleast_1d(check_all_positive("temperature", temperature, "K"))
    y = np.atleast_1d(np.asarray(ln_values, dtype=float))
    if len(np.unique(T)) < 2:
        raise DataError("an Arrhenius law needs values at two temperatures or more")
    if y.shape != T.shape or not np.isfinite(y).all():
        raise DataError(f"ln_values must be {len(T)} finite numbers, one a temperature")
    n = len(T)
    s = np.zeros(n) if independent_std is None else np.asarray(independent_std, dtype=float)
    C = np.zeros((n, n)) if shared_covariance is None else np.asarray(shared_covariance, dtype=float)
    if s.shape != (n,) or not np.all(np.isfinite(s) & (s >= 0)):
        raise DataError(f"independent_std must be {n} finite numbers that are not negative")
    if C.shape != (n, n) or not np.isfinite(C).all():
        raise DataError(f"shared_covariance must be a finite matrix of the shape {(n, n)}, not {C.shape}")
    X = _design(T)
    w = 1.0 / s if np.all(s > 0) else np.ones(n)
    P = np.linalg.pinv(X * w[:, None]) * w
    theta = P @ y
    residual = y - X @ theta
    scatter = float(np.sqrt(residual @ residual / (n - 2))) if n > 2 else float("nan")
    return Arrhenius(float(theta[0]), float(theta[1]), P @ C @ P.T, (P * s**2) @ P.T, scatter)


def _design(temperature: np.ndarray) -> np.ndarray:
    """Rows (1, -1/k_B T)."""
    inverse = 1.0 / (units.kB * temperature)
    return np.stack([np.ones_like(inverse), -inverse], axis=-1)
