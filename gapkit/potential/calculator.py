"""The fitted potential as an ASE calculator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from gapkit.exceptions import OutOfDomainWarning, SettingsError
from gapkit.potential.model import Potential
from gapkit.structures.labels import cell_volume


class GAPCalculator(Calculator):
    """ASE calculator of a gapkit potential.

    Properties: ``energy`` and ``free_energy`` (eV), ``forces`` (eV/A), ``stress`` (eV/A^3, Voigt, tension positive;
    only for frames with a cell volume), ``energies`` (local, eV), ``stresses`` (n, 6; eV/A^3: the strain derivative of
    each atom's own local energy, divided by the cell volume, so that they sum to the stress). With uncertainties also
    ``energy_std``, ``energies_std``, ``forces_std``, ``stress_std`` in ``calc.results``.

    Parameters
    ----------
    potential
        The fitted potential.
    uncertainty
        ``None``; ``"local"``: standard deviations of local energies at each step, and a warning, once, when one leaves
        the domain of the training data; ``"full"``: those of energy, forces and stress too.
    noise
        Whether standard deviations predict a new label (function, noise and misfit) or the function alone.

    Raises
    ------
    SpeciesError, DataError, NumericsError
        By ``calculate``, for a frame that the potential cannot compute; no results are kept then.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies", "stresses"]  # noqa: RUF012

    def __init__(self, potential: Potential, uncertainty: str | None = None, noise: bool = True, **kwargs: Any) -> None:
        if uncertainty not in (None, "local", "full"):
            raise SettingsError(f"uncertainty must be None, 'local' or 'full', not {uncertainty!r}")
        super().__init__(**kwargs)
        self.potential = potential
        self.uncertainty = uncertainty
        self.noise = noise
        self._warned = False

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        self.results = {}  # nothing of an earlier frame may stay where this one fails
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms
        structure = self.potential.structure(frame)
        volume = cell_volume(frame)
        if volume is None and any(p in ("stress", "stresses") for p in properties):
            raise PropertyNotImplementedError("a frame without a cell volume has no stress")
        mean = self.potential.evaluate(frame, structure=structure)
        results = {
            "energy": mean.energy,
            "free_energy": mean.energy,
            "forces": mean.forces,
            "energies": mean.local_energy,
        }
        if volume is not None:
            results["stress"] = mean.stress
            results["stresses"] = -mean.atomic_virials / volume
        if self.uncertainty is not None:
            self._add_spread(frame, structure, results)
        self.results = results

    def _add_spread(self, frame, structure, results: dict[str, Any]) -> None:
        if self.uncertainty == "full":
            spread = self.potential.spread(frame, structure=structure, noise=self.noise)
            results["energy_std"] = spread.energy
            results["forces_std"] = spread.forces
            if spread.stress is not None:
                results["stress_std"] = spread.stress
            local = spread.local_energy
        else:
            local = self.potential.local_spread(structure, noise=self.noise)
        results["energies_std"] = local
        limit = self.potential.domain_limit(self.noise)
        worst = int(np.argmax(local))
        if local[worst] > limit and not self._warned:
            self._warned = True
            warnings.warn(
                f"atom {worst} is out of the domain of the training data: the standard deviation of its local energy, "
                f"{local[worst]:.3g} eV, is above {limit:.3g} eV; add frames like this one to the training set",
                OutOfDomainWarning,
                stacklevel=2,
            )
