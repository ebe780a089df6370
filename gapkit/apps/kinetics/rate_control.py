r"""Sensitivity of a turnover frequency: degrees of rate control, propagated errors, and the value of one more number.

The degree of rate control of reaction j is :math:`X_j = \partial\ln r/\partial\ln k_j` with both of its constants
scaled together, so that no equilibrium moves (Campbell, J. Catal. 204, 520 (2001)); the degrees sum to one. With the
slopes :math:`g_i = \partial\ln r/\partial E_i` by the energies, errors of covariance C give :math:`\ln r` the variance
:math:`g^T C g`. One more measurement of energy i, of noise n, takes :math:`(Cg)_i^2/(C_{ii} + n^2)` off it (conditional
variance of Gaussian variables: Rasmussen and Williams, Gaussian Processes (2006), eq. A.6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.apps.kinetics.steady_state import Network, SteadyState, solve
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.progress import progress_bar


@dataclass(frozen=True)
class Sensitivity:
    """Derivatives of the logarithm of a turnover frequency.

    Attributes
    ----------
    rate_control : (r,)
        Degrees of rate control of the reactions; they sum to one.
    slopes : (p,) 1/eV
        Derivatives by the energies of species and transition states.
    apparent_energy : float, eV
        Apparent activation energy k_B T^2 d ln r / dT at fixed activities.
    """

    rate_control: np.ndarray
    slopes: np.ndarray
    apparent_energy: float


def sensitivity(network: Network, state: SteadyState) -> Sensitivity:
    """Derivatives at a steady state, by implicit differentiation of its equations.

    Raises
    ------
    DataError
        Where the turnover frequency is not positive: its logarithm has no derivative.
    """
    if not state.turnover > 0:
        raise DataError(
            f"the turnover frequency is {state.turnover:.3g} 1/s: the observed reactions run backwards or are in "
            "equilibrium; observe others, or change the activities"
        )
    u, n = state.logarithms, len(state.ln_forward)
    ln_k = (state.ln_forward - network.orders_forward.T @ u, state.ln_backward - network.orders_backward.T @ u)
    _, J, by_constants = network.residual(u, ln_k, network.replaced(u))
    du = -np.linalg.solve(J, by_constants)
    gross = np.concatenate([np.exp(state.ln_forward), -np.exp(state.ln_backward)])
    weighted = np.concatenate([network.weights, network.weights]) * gross
    orders = np.concatenate([network.orders_forward, network.orders_backward], axis=1)
    by_constant = (weighted + (orders @ weighted) @ du) / state.turnover
    forward, backward = by_constant[:n], by_constant[n:]
    T = network.conditions.temperature
    slopes_f, slopes_b = network.mechanism.constant_slopes(T)
    by_temperature = network.mechanism.temperature_slopes(T)
    apparent = units.kB * T**2 * float(forward @ by_temperature[0] + backward @ by_temperature[1])
    return Sensitivity(forward + backward, forward @ slopes_f + backward @ slopes_b, apparent)


def value_of_information(slopes: np.ndarray, covariance: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Share (p,) of the variance of ln r that one more measurement of each energy removes.

    Parameters
    ----------
    slopes : (p,) 1/eV
    covariance : (p, p) eV^2
        Of the errors of the energies.
    noise : float, eV
        Standard deviation of the error of the measurement.

    Raises
    ------
    DataError
        For a covariance of another shape, or none.
    SettingsError
        For a negative noise.

    Examples
    --------
    >>> slopes = np.array([1.0, 0.0])
    >>> correlated = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> value_of_information(slopes, correlated).round(2)
    array([1.  , 0.81])
    """
    C = checked_covariance(covariance, len(slopes))
    if not 0 <= noise < np.inf:
        raise SettingsError(f"noise must be finite and not negative (eV), not {noise}")
    gain = C @ slopes
    total = float(slopes @ gain)
    label_variance = np.diagonal(C) + noise**2
    return np.divide(
        gain**2, label_variance * total, out=np.zeros(len(slopes)), where=(label_variance > 0) & (total > 0)
    )


def sampled(
    network: Network, state: SteadyState, covariance: np.ndarray, n: int, rng: np.random.Generator, progress: bool
) -> tuple[np.ndarray, int]:
    """Logarithms of the turnover frequencies of ``n`` draws of the energies, and the number of draws without one.

    Raises
    ------
    NumericsError
        Where more than half of the draws have none.
    """
    draws = rng.multivariate_normal(network.mechanism.energies, covariance, size=n, method="eigh", check_valid="ignore")
    found, failed = [], 0
    for drawn in progress_bar(draws, desc="microkinetics", unit="draw", show=progress):
        try:
            turnover = solve(network, drawn, state.logarithms).turnover
        except NumericsError:
            turnover = 0.0
        if turnover > 0:
            found.append(np.log(turnover))
        else:
            failed += 1
    if failed > n / 2:
        raise NumericsError(f"{failed} of {n} draws have no forward turnover: the errors of the energies are too large")
    return np.array(found), failed


def checked_covariance(covariance: np.ndarray, n: int) -> np.ndarray:
    """Covariance (n, n) if it is finite, symmetric and without negative eigenvalues.

    Raises
    ------
    DataError
        Otherwise.
    """
    C = np.asarray(covariance, dtype=float)
    if C.shape != (n, n) or not np.isfinite(C).all():
        raise DataError(
            f"the covariance must be a finite matrix of the shape {(n, n)}, one row an energy, not {C.shape}"
        )
    size = float(np.abs(C).max(initial=0.0))
    if np.abs(C - C.T).max(initial=0.0) > 1e-9 * size or np.linalg.eigvalsh(0.5 * (C + C.T)).min() < -1e-9 * size:
        raise DataError("the covariance is not symmetric and positive semidefinite")
    return 0.5 * (C + C.T)


def independent_errors(mechanism: Mechanism, std: float, correlation: float = 0.0) -> np.ndarray:
    """Covariance (p, p) of energies whose errors have one standard deviation (eV) and correlation.

    Gases, fixed species and empty sites, which set the zero of energies, have no error.

    Raises
    ------
    SettingsError
        For a negative standard deviation, or a correlation outside [0, 1].
    """
    if not 0 <= std < np.inf or not 0 <= correlation <= 1:
        raise SettingsError(f"std must not be negative and correlation lie in [0, 1], not {std} and {correlation}")
    kinds = {s.name: s.kind for s in mechanism.species}
    uncertain = np.array([kinds.get(name, "surface") in ("surface", "well") for name in mechanism.parameters], float)
    return std**2 * np.outer(uncertain, uncertain) * (correlation + (1 - correlation) * np.eye(len(uncertain)))
