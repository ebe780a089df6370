"""Conductivity from diffusion, and activation energies whose statistical and potential errors stand apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.units import _e, kB
from scipy import stats

from gapkit.apps.ion_transport.diffusion import DiffusionEstimate
from gapkit.checks import check_level
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.uncertainty.arrhenius import arrhenius_rows, fit_arrhenius

#: S/cm of one e^2 / (A fs eV): the unit of n q^2 D / (V k_B T)
S_PER_CM = _e / 1e-15 / 1e-8
#: least statistical error of ln D, so that no value has all the weight
_LEAST_ERROR = 1e-12
#: a part of the potential below this share of the statistical error is not told from zero
_HIDDEN = 0.2


@dataclass(frozen=True)
class Conductivity:
    """Ionic conductivity of one species at one temperature.

    Attributes
    ----------
    nernst_einstein, nernst_einstein_std : float, S/cm
        By the diffusion of single ions, as if they were independent.
    collective, collective_std : float, S/cm
        By the diffusion of the charge: Einstein's form of the Green-Kubo integral of the current.
    nernst_einstein_upper, collective_upper : float, S/cm
        Values that the conductivities stay below with a probability of 95 %.
    """

    nernst_einstein: float
    nernst_einstein_std: float
    collective: float
    collective_std: float
    nernst_einstein_upper: float
    collective_upper: float


def conductivity(
    tracer: DiffusionEstimate,
    collective: DiffusionEstimate,
    n_ions: int,
    charge: float,
    volume: float,
    temperature: float,
) -> Conductivity:
    """Conductivity by Nernst and Einstein, n q^2 D / (V k_B T), with the tracer's and the collective D.

    With the collective D it is exact for one kind of carriers in a framework at rest (Einstein's form of Green-Kubo;
    Allen and Tildesley, Computer Simulation of Liquids, 2nd ed. (2017), sec. 2.7). The ratio of the two is Haven's.

    Parameters
    ----------
    n_ions
        Ions in the cell.
    charge
        Charge of an ion (e).
    volume
        Of the cell (A^3).
    temperature
        K.

    Raises
    ------
    SettingsError
        For a volume or temperature that is not positive.

    Examples
    --------
    >>> round(nernst_einstein_factor(n_ions=10, charge=1.0, volume=1000.0, temperature=300.0) * 1e-4, 4)
    0.6197
    """
    factor = nernst_einstein_factor(n_ions, charge, volume, temperature)
    return Conductivity(
        nernst_einstein=factor * tracer.value,
        nernst_einstein_std=factor * tracer.value_std,
        collective=factor * collective.value,
        collective_std=factor * collective.value_std,
        nernst_einstein_upper=factor * tracer.upper,
        collective_upper=factor * collective.upper,
    )


def nernst_einstein_factor(n_ions: int, charge: float, volume: float, temperature: float) -> float:
    """Conductivity (S/cm) of a unit diffusion constant (A^2/fs); arguments as in :func:`conductivity`."""
    if not (0 < volume < np.inf and 0 < temperature < np.inf):
        raise SettingsError(f"volume and temperature must be positive, not {volume} and {temperature}")
    return S_PER_CM * n_ions * charge**2 / (volume * kB * temperature)


@dataclass(frozen=True)
class Arrhenius:
    """Straight line of ln D against 1/(k_B T), with two kinds of errors.

    Attributes
    ----------
    activation_energy, activation_energy_std : float, eV
        And the standard deviation of both kinds of errors together.
    statistical_std, potential_std : float, eV
        Parts of the latter: errors of finite runs, independent at each temperature; and those of the potential, which
        all temperatures share. nan: not known.
    log_prefactor, log_prefactor_std : float
        ln D_0 with D_0 in A^2/fs.
    covariance : (2, 2)
        Of ln D_0 and the activation energy (eV), both kinds of errors together.
    temperatures : (m,) K
        Those that the line goes through: where diffusion was resolved.
    degrees_of_freedom : float
        Of the statistical part (Welch and Satterthwaite).
    """

    activation_energy: float
    activation_energy_std: float
    statistical_std: float
    potential_std: float
    log_prefactor: float
    log_prefactor_std: float
    covariance: np.ndarray
    temperatures: np.ndarray
    degrees_of_freedom: float

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval (eV) that holds the activation energy with the probability ``level``, by Student's t."""
        check_level(level)
        half = float(stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)) * self.activation_energy_std
        return self.activation_energy - half, self.activation_energy + half

    def line(self, temperatures: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln D (D in A^2/fs) and its standard deviation on the line at ``temperatures`` (K)."""
        rows = arrhenius_rows(np.asarray(temperatures, dtype=float))
        value = rows @ np.array([self.log_prefactor, self.activation_energy])
        return value, np.sqrt(np.einsum("ti,ij,tj->t", rows, self.covariance, rows))

    def __str__(self) -> str:
        parts = f"statistical {self.statistical_std:.4f}"
        if self.potential_std > _HIDDEN * self.statistical_std:
            parts += f", potential {self.potential_std:.4f}"
        elif np.isfinite(self.potential_std):
            parts += ", potential: too small to be told from it"
        return f"activation energy {self.activation_energy:.4f} +- {self.activation_energy_std:.4f} eV ({parts})"


def arrhenius(
    temperatures: Sequence[float] | np.ndarray,
    estimates: Sequence[DiffusionEstimate],
    potential_covariance: np.ndarray | None = None,
) -> Arrhenius:
    """Activation energy by weighted least squares of ln D against 1/(k_B T).

    The weights are those of the statistical errors, which are independent. An error of the potential moves all
    temperatures together: an error of the barrier alone changes the activation energy and not the prefactor, which
    independent errors of the same size would not show. Temperatures at which diffusion was not resolved are left out
    with a warning: their bound has no logarithm.

    Parameters
    ----------
    temperatures : (m,) K
    estimates : (m,)
        Diffusion constants at the temperatures.
    potential_covariance : (m, m) or None
        Covariance of ln D between the temperatures that the potential's uncertainty makes.

    Raises
    ------
    DataError
        For fewer than two temperatures with resolved diffusion, or temperatures that are not positive and different.
    SettingsError
        For a covariance of another shape, or with a negative variance.
    """
    T = np.asarray(temperatures, dtype=float)
    if T.shape != (len(estimates),) or not (T > 0).all() or len(np.unique(T)) < len(T):
        raise DataError(f"temperatures must be positive, different, and {len(estimates)} in number, not {T.tolist()}")
    known = np.array([e.resolved for e in estimates], dtype=bool)
    if known.sum() < 2:
        raise DataError(
            f"diffusion is resolved at {known.sum()} of {len(T)} temperatures; an activation energy needs two: run "
            "longer, or at higher temperatures"
        )
    if not known.all():
        warnings.warn(
            f"no diffusion is resolved at {', '.join(f'{t:g}' for t in T[~known])} K: only a bound is known, and the "
            "activation energy is that of the other temperatures",
            GapkitWarning,
            stacklevel=2,
        )
    kept = [e for e, k in zip(estimates, known, strict=True) if k]
    error = np.array([e.value_std / e.value for e in kept])
    shared = None
    if potential_covariance is not None:
        given = np.asarray(potential_covariance, dtype=float)
        if given.shape != (len(T), len(T)) or (np.diagonal(given) < 0).any() or not np.isfinite(given).all():
            raise SettingsError(f"the covariance must be finite, ({len(T)}, {len(T)}), with variances of at least 0")
        shared = given[np.ix_(known, known)]
    line = fit_arrhenius(T[known], np.log([e.value for e in kept]), np.maximum(error, _LEAST_ERROR), shared)
    parts = line.weights[1] ** 2 * error**2
    freedom = parts.sum() ** 2 / (parts**2 / np.array([e.degrees_of_freedom for e in kept])).sum()
    return Arrhenius(
        activation_energy=line.activation_energy,
        activation_energy_std=line.activation_energy_std,
        statistical_std=float(np.sqrt(line.independent[1, 1])),
        potential_std=float("nan") if shared is None else float(np.sqrt(line.shared[1, 1])),
        log_prefactor=line.ln_prefactor,
        log_prefactor_std=line.ln_prefactor_std,
        covariance=line.covariance,
        temperatures=T[known],
        degrees_of_freedom=float(freedom),
    )


def potential_covariance(log_diffusion: np.ndarray, log_std: np.ndarray) -> np.ndarray:
    """Covariance (m, m) of ln D between temperatures due to the potential, from runs by draws of the potential.

    The covariance over the draws holds the statistical variances of the runs too, on its diagonal; they are subtracted,
    and negative eigenvalues that this leaves are set to zero (variance components; Searle, Casella, McCulloch, Variance
    Components (1992), sec. 3.6).

    Parameters
    ----------
    log_diffusion, log_std : (S, m)
        ln D of each draw and its statistical standard deviation.

    Raises
    ------
    DataError
        For fewer than three draws, or numbers that are not finite.

    Examples
    --------
    >>> draws = np.array([[0.0, 0.0], [0.2, 0.1], [-0.2, -0.1]])
    >>> potential_covariance(draws, np.zeros((3, 2))).round(3).tolist()
    [[0.04, 0.02], [0.02, 0.01]]
    """
    values, std = np.asarray(log_diffusion, dtype=float), np.asarray(log_std, dtype=float)
    if values.ndim != 2 or values.shape != std.shape or len(values) < 3:
        raise DataError(f"ln D and its errors must be (draws, temperatures) with at least 3 draws, not {values.shape}")
    if not (np.isfinite(values).all() and np.isfinite(std).all()):
        raise DataError("ln D of a draw is not finite: diffusion is not resolved there; run longer")
    whole = np.atleast_2d(np.cov(values, rowvar=False)) - np.diag((std**2).mean(axis=0))
    eigenvalues, vectors = np.linalg.eigh(whole)
    return (vectors * np.maximum(eigenvalues, 0.0)) @ vectors.T
