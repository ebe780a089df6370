"""Predictions of a potential: for one frame, and for the centres of a domain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapkit.exceptions import SettingsError

#: kinds of uncertainty that can be asked for, cheapest first
UNCERTAINTIES = ("local", "energy", "full")


def uncertainty_kind(uncertainty: bool | str | None) -> str | None:
    """Kind of uncertainty that is asked for: None, ``"local"``, ``"energy"`` or ``"full"``.

    ``"local"`` stands for standard deviations of local energies, ``"energy"`` also for those of energies, ``"full"``
    also for those of forces and stresses. True means ``"full"``, False means None.

    Raises
    ------
    SettingsError
        For anything else.

    Examples
    --------
    >>> uncertainty_kind(True), uncertainty_kind("local"), uncertainty_kind(False)
    ('full', 'local', None)
    """
    if uncertainty is None or uncertainty is False:
        return None
    if uncertainty is True:
        return "full"
    if isinstance(uncertainty, str) and uncertainty in UNCERTAINTIES:
        return uncertainty
    raise SettingsError(f"uncertainty must be None, 'local', 'energy', 'full' or a bool, not {uncertainty!r}")


@dataclass(frozen=True)
class StandardDeviations:
    """Predictive standard deviations for one frame, in the units of :class:`Evaluation`; None where not asked for."""

    energy: float
    local_energy: np.ndarray
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """Mean prediction for one frame.

    Attributes
    ----------
    energy : float
        eV, reference energies and baseline included.
    forces : (n, 3)
        eV/A.
    virial : (6,) or None
        Minus the strain derivative of the energy (eV, Voigt xx yy zz yz xz xy); None without a cell volume.
    stress : (6,) or None
        eV/A^3, tension positive.
    local_energy : (n,)
        eV; sums to the energy.
    atomic_virials : (n, 6)
        Minus the strain derivative of each atom's own local energy (eV); sums to the virial. The share of a baseline
        that is no sum over environments is divided equally.
    local_variance : (n,) or None
        Calibrated variance of the function at each local energy (eV^2), without noise, where it was asked for.
    std : StandardDeviations or None
        Standard deviations, where they were asked for.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray | None
    stress: np.ndarray | None
    local_energy: np.ndarray
    atomic_virials: np.ndarray
    local_variance: np.ndarray | None = None
    std: StandardDeviations | None = None


@dataclass(frozen=True)
class CentresEvaluation:
    """Mean prediction for the environments of some atoms, the centres of a domain, with ghosts around them.

    Attributes
    ----------
    local_energy : (k,)
        eV, of each centre.
    gradient : (n, 3)
        Derivative of the sum of these local energies by the position of every atom, ghosts included (eV/A).
    atomic_virials : (k, 6) or (k, 9)
        Minus the strain derivative of each centre's local energy (eV): six components in Voigt order xx yy zz yz xz
        xy, or nine, row by row of the sum over neighbours of -r_c dE/dr_d, which is symmetric up to rounding: a local
        energy does not change when its environment turns.
    local_variance : (k,) or None
        Variances as in :class:`Evaluation`.
    """

    local_energy: np.ndarray
    gradient: np.ndarray
    atomic_virials: np.ndarray
    local_variance: np.ndarray | None = None

    @property
    def energy(self) -> float:
        """Sum of the local energies (eV): the share of this domain."""
        return float(self.local_energy.sum())

    @property
    def forces(self) -> np.ndarray:
        """This domain's share of the forces on all atoms (n, 3; eV/A): add them up over domains, ghosts to owners."""
        return -self.gradient
