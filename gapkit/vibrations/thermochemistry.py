r"""Thermochemistry from normal modes: harmonic solids and adsorbates, ideal gases of rigid molecules.

An ideal gas (McQuarrie, Statistical Mechanics (1976), chapters 5, 6 and 8) adds to the vibrations, per molecule,
translation, :math:`S = k_B [5/2 + \ln (2\pi M k_B T/h^2)^{3/2} k_B T/p]`; classical rotation,
:math:`S = k_B [1 + \ln (8\pi^2 I k_B T/h^2\sigma)]` of a linear molecule and
:math:`S = k_B [3/2 + \ln \sqrt{\pi I_1 I_2 I_3} (8\pi^2 k_B T/h^2)^{3/2}/\sigma]` of another,
:math:`\sigma` the symmetry number; and :math:`k_B \ln g` of a ground state of multiplicity g. Classical rotation holds
well above the rotational temperature: 88 K of H2, 40 K or less where there are heavier atoms.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from ase import units

from gapkit.checks import check_all_positive, check_count
from gapkit.exceptions import DataError, SettingsError
from gapkit.vibrations.harmonic import Oscillators, QuasiRRHO, oscillators
from gapkit.vibrations.modes import NormalModes, check_kind
from gapkit.vibrations.rigid_motions import principal_axes

#: one atmosphere in Pa
ATMOSPHERE = 101325.0


@dataclass(frozen=True, eq=False)
class HarmonicThermochemistry:
    """Thermodynamic functions of a structure in the harmonic approximation, of the shape of the temperature.

    Attributes
    ----------
    temperature : K
    potential_energy : eV
        Energy of the structure, part of all energies below.
    zero_point_energy : eV
        Sum of half the quanta, without the potential energy.
    internal_energy : eV
    heat_capacity : eV/K
        At constant volume.
    entropy : eV/K
    free_energy : eV
        Helmholtz free energy.
    """

    temperature: np.ndarray
    potential_energy: float
    zero_point_energy: np.ndarray
    internal_energy: np.ndarray
    heat_capacity: np.ndarray
    entropy: np.ndarray
    free_energy: np.ndarray

    def __str__(self) -> str:
        return _table(self)


@dataclass(frozen=True, eq=False)
class IdealGas:
    """Thermodynamic functions of an ideal gas, per molecule, of the common shape of temperature and pressure.

    Attributes
    ----------
    temperature : K
    pressure : Pa
    potential_energy : eV
        Energy of the molecule, part of all energies below.
    zero_point_energy : eV
        Sum of half the quanta, without the potential energy.
    internal_energy : eV
    enthalpy : eV
        Internal energy plus k_B T.
    heat_capacity : eV/K
        At constant pressure.
    entropy : eV/K
        Sum of the four below.
    gibbs_energy : eV
        Enthalpy minus T times entropy: the chemical potential.
    translational_entropy, rotational_entropy, vibrational_entropy, electronic_entropy : eV/K
    """

    temperature: np.ndarray
    pressure: np.ndarray
    potential_energy: float
    zero_point_energy: np.ndarray
    internal_energy: np.ndarray
    enthalpy: np.ndarray
    heat_capacity: np.ndarray
    entropy: np.ndarray
    gibbs_energy: np.ndarray
    translational_entropy: np.ndarray
    rotational_entropy: np.ndarray
    vibrational_entropy: np.ndarray
    electronic_entropy: np.ndarray

    def __str__(self) -> str:
        return _table(self)


def harmonic_thermochemistry(
    modes: NormalModes,
    temperature: float | np.ndarray,
    *,
    classical: bool = False,
    n_imaginary: int = 0,
    soft: QuasiRRHO | None = None,
) -> HarmonicThermochemistry:
    """Thermodynamic functions where all modes are vibrations, as of a crystal's cell or an adsorbate.

    Parameters
    ----------
    modes
        Normal modes.
    temperature : float or array, K
    classical
        Whether oscillators are classical.
    n_imaginary
        Number of imaginary modes that the structure must have: 1 for a saddle point. They are left out, as transition
        state theory asks.
    soft
        Treatment of the entropy of soft modes; default: none, all are harmonic.

    Raises
    ------
    SettingsError
        For a temperature that is not positive, and other parameters that cannot work.
    DataError
        For another number of imaginary modes.

    Examples
    --------
    >>> from ase import Atoms
    >>> from gapkit.vibrations import given_hessian, normal_modes
    >>> nitrogen = Atoms("N2", [[0, 0, 0], [0, 0, 1.1]])
    >>> spring = 140.0 * np.kron([[1, -1], [-1, 1]], np.diag([0, 0, 1]))
    >>> stretch = normal_modes(given_hessian(nitrogen, spring))
    >>> round(float(harmonic_thermochemistry(stretch, 300.0).free_energy), 3)
    0.145
    """
    found = _vibrations(modes, temperature, classical, n_imaginary, soft)
    return HarmonicThermochemistry(
        found.temperature,
        modes.energy,
        found.zero_point_energy,
        modes.energy + found.internal_energy,
        found.heat_capacity,
        found.entropy,
        modes.energy + found.free_energy,
    )


def ideal_gas(
    modes: NormalModes,
    temperature: float | np.ndarray,
    pressure: float | np.ndarray = ATMOSPHERE,
    *,
    symmetry_number: int,
    multiplicity: int = 1,
    n_imaginary: int = 0,
    soft: QuasiRRHO | None = None,
) -> IdealGas:
    """Thermodynamic functions of an ideal gas of rigid rotors with quantum vibrations.

    Parameters
    ----------
    modes
        Normal modes of a free molecule or atom.
    temperature : float or array, K
    pressure : float or array, Pa
        Default: one atmosphere.
    symmetry_number
        Number of rotations that leave the molecule as it is: 1 for CO, 2 for N2 and H2O, 3 for NH3, 12 for CH4; 1 for
        an atom.
    multiplicity
        Degeneracy 2 S + 1 of the electronic ground state: 1 for a singlet, 3 for O2.
    n_imaginary
        Number of imaginary modes that the structure must have, as in :func:`harmonic_thermochemistry`.
    soft
        Treatment of the entropy of soft modes; default: none, all are harmonic.

    Raises
    ------
    SettingsError
        For a temperature or pressure that is not positive, and other parameters that cannot work.
    DataError
        For modes that are not those of a free molecule, and another number of imaginary modes.

    Examples
    --------
    >>> from ase import Atoms
    >>> from gapkit.vibrations import given_hessian, normal_modes
    >>> argon = normal_modes(given_hessian(Atoms("Ar"), np.zeros((3, 3))))
    >>> gas = ideal_gas(argon, 298.15, 1e5, symmetry_number=1)
    >>> round(float(gas.entropy / (units.J / units._Nav)), 2)  # J/(mol K)
    154.85
    """
    check_kind(modes)
    sigma, g = check_count("symmetry_number", symmetry_number), check_count("multiplicity", multiplicity)
    T, p = np.broadcast_arrays(
        check_all_positive("temperature", temperature, "K"), check_all_positive("pressure", pressure, "Pa")
    )
    if modes.kind == "atom" and sigma != 1:
        raise SettingsError(f"the symmetry number of an atom is 1, not {sigma}")
    found = _vibrations(modes, T, False, n_imaginary, soft)
    kT = units.kB * T
    moments = principal_axes(modes.atoms.positions, modes.masses)[0]
    turning = {"atom": 0, "linear": 2, "nonlinear": 3}[modes.kind]
    moved, turned = translational_entropy(float(modes.masses.sum()), T, p), np.zeros(T.shape)
    if turning:
        turned = rotational_entropy(moments[3 - turning :], T, sigma)
    electronic = np.full(T.shape, units.kB * np.log(g))
    U = modes.energy + found.internal_energy + 0.5 * (3 + turning) * kT
    S = moved + turned + found.entropy + electronic
    return IdealGas(
        temperature=T,
        pressure=p,
        potential_energy=modes.energy,
        zero_point_energy=found.zero_point_energy,
        internal_energy=U,
        enthalpy=U + kT,
        heat_capacity=found.heat_capacity + 0.5 * (5 + turning) * units.kB,
        entropy=S,
        gibbs_energy=U + kT - T * S,
        translational_entropy=moved,
        rotational_entropy=turned,
        vibrational_entropy=found.entropy,
        electronic_entropy=electronic,
    )


def translational_entropy(mass: float, temperature: np.ndarray, pressure: np.ndarray) -> np.ndarray:
    """Entropy (eV/K) of translation of a molecule of ``mass`` (amu) at ``temperature`` (K) and ``pressure`` (Pa).

    Sackur (1911), Tetrode (1912).
    """
    kT = units._k * temperature
    per_volume = (2 * np.pi * mass * units._amu * kT / units._hplanck**2) ** 1.5
    return units.kB * (2.5 + np.log(per_volume * kT / pressure))


def rotational_entropy(moments: np.ndarray, temperature: np.ndarray, symmetry_number: int) -> np.ndarray:
    """Entropy (eV/K) of a classical rigid rotor.

    Parameters
    ----------
    moments : (2,) or (3,) amu A^2
        Moments of inertia of a linear molecule across its axis, or the principal ones of another.
    temperature : array, K
    symmetry_number
        Number of rotations that leave the molecule as it is.
    """
    inertia = np.asarray(moments) * units._amu * 1e-20
    ratios = 8 * np.pi**2 * units._k * np.asarray(temperature)[..., None] * inertia / units._hplanck**2
    states = np.sqrt(np.prod(ratios, axis=-1)) * (np.sqrt(np.pi) if len(inertia) == 3 else 1.0) / symmetry_number
    return units.kB * (0.5 * len(inertia) + np.log(states))


def _vibrations(
    modes: NormalModes, temperature: float | np.ndarray, classical: bool, n_imaginary: int, soft: QuasiRRHO | None
) -> Oscillators:
    expected = check_count("n_imaginary", n_imaginary, least=0)
    if modes.n_imaginary != expected:
        raise DataError(
            f"the structure has {modes.n_imaginary} imaginary modes, not {expected}; relax it along them "
            "(NormalModes.displaced), or set n_imaginary for a saddle point"
        )
    return oscillators(modes.energies[~modes.imaginary], temperature, classical=classical, soft=soft)


def _table(result: HarmonicThermochemistry | IdealGas) -> str:
    """One line a field; one column a temperature."""
    units_of = {"temperature": "K", "pressure": "Pa", "heat_capacity": "eV/K"}
    lines = []
    for field in fields(result):
        unit = units_of.get(field.name, "eV/K" if "entropy" in field.name else "eV")
        digits = {"K": ".2f", "Pa": ".6g", "eV": ".6f", "eV/K": ".8f"}[unit]
        values = np.atleast_1d(getattr(result, field.name))
        name = f"{field.name.replace('_', ' ')} ({unit})"
        lines.append(f"{name:32s}" + " ".join(f"{v:>14{digits}}" for v in values.ravel()))
    return "\n".join(lines)
