r"""Thermodynamics of independent harmonic oscillators in closed form.

With :math:`\varepsilon = \hbar\omega` and :math:`x = \varepsilon/k_B T`, per oscillator and with the zero-point energy
(McQuarrie, Statistical Mechanics (1976), section 6-3):
:math:`U = \varepsilon/2 + \varepsilon/(e^x - 1)`, :math:`C = k_B x^2 e^x/(e^x - 1)^2`,
:math:`S = k_B [x/(e^x - 1) - \ln(1 - e^{-x})]`, :math:`F = \varepsilon/2 + k_B T \ln(1 - e^{-x})`.
The classical limits are :math:`U = k_B T`, :math:`C = k_B`, :math:`S = k_B (1 - \ln x)`, :math:`F = k_B T \ln x`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

from gapkit.checks import check_all_positive, check_positive

#: moment of inertia (amu A^2) that the entropy of a rotor approaches for soft modes; 1e-44 kg m^2 (Grimme 2012)
ROTOR_INERTIA = 1e-44 / (units._amu * 1e-20)


@dataclass(frozen=True, eq=False)
class Oscillators:
    """Thermodynamic functions of independent oscillators, summed over them.

    Each has the shape of the temperature.

    Attributes
    ----------
    temperature : K
    zero_point_energy : eV
        Half a quantum each; zero of classical oscillators.
    internal_energy : eV
        With the zero-point energy, from the bottom of the well.
    heat_capacity : eV/K
        At constant volume.
    entropy : eV/K
    free_energy : eV
        Helmholtz free energy U - T S.
    """

    temperature: np.ndarray
    zero_point_energy: np.ndarray
    internal_energy: np.ndarray
    heat_capacity: np.ndarray
    entropy: np.ndarray
    free_energy: np.ndarray


@dataclass(frozen=True)
class QuasiRRHO:
    r"""Entropy of soft modes between that of an oscillator and that of a free rotor.

    :math:`S = w S_{oscillator} + (1 - w) S_{rotor}` with :math:`w = 1/[1 + (\omega_0/\omega)^4]` (Grimme, Chem. Eur. J.
    18, 9955 (2012), equations 7 and 8). The rotor has the moment :math:`\mu' = \mu B/(\mu + B)`,
    :math:`\mu = \hbar/2\omega`, and the entropy :math:`k_B [1/2 + \ln\sqrt{8\pi^3 \mu' k_B T/h^2}]` (equations 4 to
    6). The internal energy stays that of the oscillator, so that S is no longer exactly -dF/dT.

    Attributes
    ----------
    reference : float, cm^-1
        Wavenumber omega_0 where both have half the weight.
    inertia : float, amu A^2
        Moment B; the paper's is 1e-44 kg m^2, another choice is the mean of the molecule's principal moments.

    Raises
    ------
    SettingsError
        For values that are not positive.
    """

    reference: float = 100.0
    inertia: float = ROTOR_INERTIA

    def __post_init__(self) -> None:
        check_positive("reference", self.reference, "cm^-1")
        check_positive("inertia", self.inertia, "amu A^2")

    def entropy(self, energies: np.ndarray, temperature: np.ndarray, harmonic: np.ndarray) -> np.ndarray:
        """Entropy (eV/K) of modes of quanta ``energies`` (eV), whose harmonic entropy is ``harmonic``."""
        share = 1 / (1 + (self.reference * units.invcm / energies) ** 4)
        hbar = units._hbar
        mu = hbar**2 / (2 * energies * units._e)  # kg m^2
        bound = self.inertia * units._amu * 1e-20
        moment = mu * bound / (mu + bound)
        rotor = 0.5 + 0.5 * np.log(2 * np.pi * moment * units._k * temperature / hbar**2)
        return share * harmonic + (1 - share) * units.kB * rotor


def oscillators(
    energies: np.ndarray,
    temperature: float | np.ndarray,
    *,
    classical: bool = False,
    soft: QuasiRRHO | None = None,
    shares: np.ndarray | None = None,
) -> Oscillators:
    """Thermodynamic functions of harmonic oscillators.

    Parameters
    ----------
    energies : (k,) eV
        Quanta hbar omega, all positive.
    temperature : float or array, K
    classical
        Whether oscillators are classical: no zero-point energy, k_B T each.
    soft
        Treatment of the entropy of soft modes; default: none, all are harmonic.
    shares : (k,)
        Number of oscillators of each energy; default: one.

    Raises
    ------
    SettingsError
        For an energy or temperature that is not positive.

    Examples
    --------
    >>> quantum = oscillators(np.array([0.2]), 300.0)
    >>> round(float(quantum.free_energy), 4), round(float(quantum.heat_capacity / units.kB), 4)
    (0.1, 0.0262)
    """
    quanta = check_all_positive("energies", energies, "eV").reshape(-1)
    T = check_all_positive("temperature", temperature, "K")
    t = T[..., None]
    kT = units.kB * t
    x = quanta / kT
    if classical:
        zero, U, C = np.zeros_like(x), np.broadcast_to(kT, x.shape), np.full_like(x, units.kB)
        S = units.kB * (1 - np.log(x))
    else:
        zero = np.broadcast_to(0.5 * quanta, x.shape)
        empty = -np.expm1(-x)  # 1 - e^-x
        filled = np.exp(-x) / empty
        U, C = zero + quanta * filled, units.kB * x**2 * filled / empty
        S = units.kB * (x * filled - np.log(empty))
    if soft is not None:
        S = soft.entropy(quanta, t, S)
    counts = np.ones(len(quanta)) if shares is None else np.asarray(shares, dtype=float)
    return Oscillators(T, *(part @ counts for part in (zero, U, C, S, U - t * S)))
