r"""Baselines: what is subtracted from the labels before the fit and added after it.

Any ASE calculator serves. :class:`ZBL` is the screened nuclear repulsion of Ziegler, Biersack and Littmark, The
Stopping and Range of Ions in Solids (1985):

.. math::
    V(r) = \frac{e^2}{4\pi\epsilon_0} \frac{Z_i Z_j}{r} \phi(r/a), \quad
    a = \frac{0.8854\, a_0}{Z_i^{0.23} + Z_j^{0.23}}, \quad
    \phi(x) = 0.1818 e^{-3.2 x} + 0.5099 e^{-0.9423 x} + 0.2802 e^{-0.4029 x} + 0.02817 e^{-0.2016 x}

times a smooth cutoff.
"""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Bohr, Hartree

from gapkit.descriptors.base import check_cutoff, smooth_cutoff
from gapkit.exceptions import GapkitError, SettingsError
from gapkit.structures.labels import cell_volume
from gapkit.structures.neighbours import neighbours

_AMPLITUDE = np.array([0.1818, 0.5099, 0.2802, 0.02817])
_DECAY = np.array([3.2, 0.9423, 0.4029, 0.2016])


class ZBL(Calculator):
    """ZBL repulsion as an ASE calculator: energy (eV), forces (eV/A), stress (eV/A^3) and local energies.

    Parameters
    ----------
    r_cut
        Cutoff (A).
    cutoff_width
        Length over which the energy goes to zero (A).
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012

    def __init__(self, r_cut: float = 2.0, cutoff_width: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.r_cut = check_cutoff(r_cut)
        self.cutoff_width = float(cutoff_width)

    def settings(self) -> dict[str, Any]:
        """JSON-ready description for model files."""
        return {"name": "zbl", "r_cut": self.r_cut, "cutoff_width": self.cutoff_width}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms
        pairs = neighbours(frame, self.r_cut)
        z = frame.numbers.astype(float)
        r = pairs.distances
        zi, zj = z[pairs.i], z[pairs.j]
        length = 0.8854 * Bohr / (zi**0.23 + zj**0.23)
        screened = _AMPLITUDE[:, None] * np.exp(-_DECAY[:, None] * r / length)
        phi = screened.sum(axis=0)
        dphi = -(_DECAY[:, None] * screened).sum(axis=0) / length
        coulomb = Hartree * Bohr * zi * zj / r
        cut, dcut = smooth_cutoff(r, self.r_cut, self.cutoff_width)
        energy = 0.5 * coulomb * phi * cut
        slope = 0.5 * coulomb * (-phi * cut / r + dphi * cut + phi * dcut)
        pull = (slope / r)[:, None] * pairs.vectors
        n = len(frame)
        gradient = np.zeros((n, 3))
        np.add.at(gradient, pairs.j, pull)
        np.add.at(gradient, pairs.i, -pull)
        local = np.bincount(pairs.i, energy, minlength=n)
        self.results = {
            "energy": float(local.sum()),
            "free_energy": float(local.sum()),
            "forces": -gradient,
            "energies": local,
        }
        volume = cell_volume(frame)
        if volume is not None:
            strain = pairs.vectors.T @ pull
            self.results["stress"] = strain[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / volume


def baseline_calculator(baseline: Any) -> Calculator | None:
    """None, ``"zbl"``, a table ``{"name": "zbl", ...}`` or an ASE calculator."""
    if baseline is None or (hasattr(baseline, "get_potential_energy") and hasattr(baseline, "get_property")):
        return baseline
    settings = {"name": baseline} if isinstance(baseline, str) else dict(baseline)
    name = settings.pop("name", None)
    if name != "zbl":
        raise SettingsError(f"baseline must be None, 'zbl' or an ASE calculator, not {name!r}")
    return ZBL(**settings)


def baseline_labels(calculator: Any, atoms: ase.Atoms, where: str, stress: bool) -> dict[str, Any]:
    """Energy, forces and (where asked) virial of the baseline for one frame.

    Returns ``energy`` (eV), ``forces`` (n, 3), ``virial`` (6,) or None, ``energies`` (n,): the baseline's own local
    energies, or its energy shared equally where it has none.
    """
    frame = atoms.copy()
    frame.calc = calculator
    try:
        energy, forces = float(frame.get_potential_energy()), np.array(frame.get_forces())
        virial = None
        volume = cell_volume(frame)
        if stress and volume is not None:
            virial = -np.array(frame.get_stress()) * volume
    except GapkitError:
        raise
    except Exception as error:
        raise GapkitError(
            f"{where}: the baseline calculator failed ({type(error).__name__}: {error}); remove the frame, or use "
            "a baseline that covers its species and labels"
        ) from error
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise GapkitError(f"{where}: the baseline gives an energy or force that is not finite; remove the frame")
    local = calculator.results.get("energies") if hasattr(calculator, "results") else None
    if local is None:
        local = np.full(len(frame), energy / len(frame))
    return {"energy": energy, "forces": forces, "virial": virial, "energies": np.array(local)}
