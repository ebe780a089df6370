"""ASE calculator that adds biases to any other calculator."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from gapkit.exceptions import SettingsError
from gapkit.potential.locked_calculator import LockedCalculator
from gapkit.sampling.batches import BatchForces, batch_forces
from gapkit.sampling.biases.restraints import Bias, total_bias
from gapkit.structures.labels import cell_volume

_KNOWN = ("energy", "free_energy", "forces", "stress")
_PARTS = ("energies", "stresses")  # of atoms: they would not sum to the biased energy and stress


class Biased(LockedCalculator):
    """ASE calculator: any other one plus biases.

    Properties: ``energy``, ``free_energy``, ``forces`` and ``stress`` (with the virial of the biases) as far as the
    calculator has them. ``results`` also holds ``bias_energy`` (eV), ``unbiased_energy`` (eV), ``collective_variables``
    (d,; in the order of the biases), and further results of the calculator as they are, such as standard deviations.

    Parameters
    ----------
    calculator
        ASE calculator with energy and forces.
    biases
        Biases of the positions of a structure.

    Raises
    ------
    SettingsError
        For biases that are none, or those of centroids; by ``calculate`` and ``batch_forces``, where a structure lacks
        an atom of a bias, or the number of copies is not that of the centres.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ase.calculators.emt import EMT
    >>> from gapkit.sampling.biases import Distance, Harmonic
    >>> water = molecule("H2O")
    >>> water.calc = Biased(EMT(), [Harmonic(Distance(0, 1), centre=1.0, k=20.0)])
    >>> energy = water.get_potential_energy()
    >>> print(round(water.calc.results["bias_energy"], 4), np.round(water.calc.results["collective_variables"], 4))
    0.0099 [0.9686]
    """

    def __init__(self, calculator: Any, biases: Sequence[Bias], **kwargs: Any) -> None:
        given: tuple[Any, ...] = tuple(biases) if isinstance(biases, list | tuple) else (biases,)
        for bias in given:
            if not isinstance(bias, Bias):
                raise SettingsError(f"Biased: {bias!r} is no bias")
            if any(variable.axes != 2 for variable in bias.variables):
                raise SettingsError("Biased: a bias of a centroid acts on all beads, and an ASE structure has only one")
        if not given:
            raise SettingsError("Biased: give at least one bias")
        has = getattr(calculator, "implemented_properties", ())
        if isinstance(calculator, type) or "energy" not in has or "forces" not in has:
            raise SettingsError(f"Biased: {calculator!r} is no ASE calculator with energy and forces; give an instance")
        self.implemented_properties = [p for p in _KNOWN if p in has]
        super().__init__(**kwargs)
        self.calculator, self.biases = calculator, given

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        with getattr(self.calculator, "lock", nullcontext()):  # other biases may act on it in other threads
            self._calculate(atoms, properties, system_changes)

    def _calculate(self, atoms: ase.Atoms | None, properties: Sequence[str], system_changes: Sequence[str]) -> None:
        self.results = {}  # nothing of an earlier frame may stay where this one fails
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms
        bias = total_bias(self.biases, frame.positions, frame.cell, frame.pbc)
        wanted = {"energy", "forces", *properties} & set(self.implemented_properties)
        volume = cell_volume(frame)
        if "stress" in wanted and volume is None:
            raise PropertyNotImplementedError("a frame without a cell volume has no stress")
        found = {name: self.calculator.get_property(name, frame) for name in wanted}
        results = {k: v for k, v in self.calculator.results.items() if k not in (*_KNOWN, *_PARTS)}
        results["unbiased_energy"] = found["energy"]
        results["bias_energy"] = float(bias.energy[0])
        results["collective_variables"] = bias.values[0]
        results["energy"] = found["energy"] + float(bias.energy[0])
        results["forces"] = found["forces"] + bias.forces[0]
        if "free_energy" in self.implemented_properties:
            free = self.calculator.results.get("free_energy", found["energy"])
            results["free_energy"] = free + float(bias.energy[0])
        if "stress" in wanted:
            results["stress"] = found["stress"] - full_3x3_to_voigt_6_stress(bias.virial[0]) / volume
        self.results = results

    def batch_forces(self, atoms: ase.Atoms) -> BatchForces:
        """Function from positions (R, n, 3) to biased energies (R,) and forces (R, n, 3); see
        :func:`gapkit.sampling.batches.batch_forces`. A restraint with R centres has one for each copy."""
        inner = batch_forces(atoms, self.calculator)
        cell, pbc = atoms.cell.copy(), atoms.pbc.copy()
        for bias in self.biases:
            bias.check(len(atoms))

        def evaluate(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            bias = total_bias(self.biases, positions, cell, pbc)
            energies, forces = inner(positions)
            return energies + bias.energy, forces + bias.forces

        return evaluate
