"""The fitted potential as an ASE calculator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError, all_changes

from gapkit.exceptions import OutOfDomainWarning, SettingsError
from gapkit.potential.evaluation import uncertainty_kind
from gapkit.potential.locked_calculator import LockedCalculator, OwnLock
from gapkit.potential.potential import Potential
from gapkit.structures.labels import cell_volume
from gapkit.structures.neighbours import SMALL
from gapkit.structures.verlet_list import VerletList

#: properties that a calculator has besides its others, by the kind of uncertainty
_UNCERTAIN = {
    "local": ("energies_std", "domain_excess"),
    "energy": ("energies_std", "domain_excess", "energy_std"),
    "full": ("energies_std", "domain_excess", "energy_std", "forces_std", "stress_std"),
}


class GAPCalculator(LockedCalculator):
    """ASE calculator of a gapkit potential, which threads may share (:class:`LockedCalculator`).

    Properties: ``energy`` and ``free_energy`` (eV), ``forces`` (eV/A), ``stress`` (eV/A^3, Voigt, tension positive;
    only for frames with a cell volume), ``energies`` (local, eV), ``stresses`` (n, 6; eV/A^3: the strain derivative of
    each atom's own local energy, divided by the cell volume, so that they sum to the stress). With uncertainties also
    ``energy_std``, ``energies_std``, ``forces_std``, ``stress_std`` in ``calc.results``, and ``domain_excess``: above 1
    the frame is out of the domain of the training data (:mod:`gapkit.potential.domain`).

    Parameters
    ----------
    potential
        The fitted potential.
    uncertainty
        ``None``; ``"local"``: standard deviations of local energies at each step, and a warning, once, when the
        frame leaves the domain of the training data; by a quadratic form of low rank where the model allows one (1 to
        5 % too large for most environments like the training data's, 15 % in the root mean square; see
        ``gapkit.potential.local_variance``); ``"energy"``: exact ones, and that of the energy; ``"full"`` or True:
        those of forces and stress too. Standard deviations are properties as others: ``get_property("forces_std")``.
    include_noise
        Whether standard deviations predict a new label (function, noise and misfit) or the function alone.
    skin
        Extra reach of the pair list (A), which is searched anew only when atoms have moved so far that a pair from
        outside may have come within the cutoff. Results do not depend on it but for rounding; 0 searches every time.

    Raises
    ------
    SpeciesError, DataError, NumericsError
        By ``calculate``, for a frame that the potential cannot compute; no results are kept then.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress", "energies", "stresses"]  # noqa: RUF012

    def __init__(
        self,
        potential: Potential,
        uncertainty: bool | str | None = None,
        include_noise: bool = True,
        skin: float = 0.7,
        **kwargs: Any,
    ) -> None:
        if not (isinstance(skin, Real) and 0 <= skin < np.inf):
            raise SettingsError(f"skin must be a finite distance of at least 0 A, not {skin!r}")
        self.potential: Potential = potential
        self.uncertainty: str | None = uncertainty_kind(uncertainty)
        self.include_noise: bool = include_noise
        self.skin: float = skin
        self._warned: bool = False
        self._pairs: VerletList = VerletList(potential.r_cut, skin)
        super().__init__(**kwargs)
        self.implemented_properties = [*type(self).implemented_properties, *_UNCERTAIN.get(self.uncertainty or "", ())]

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint of the model whose labels these are, for :func:`gapkit.fingerprints.described`."""
        return self.potential.fingerprint()

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        with self.lock:
            self._calculate(atoms, properties, system_changes)

    def _calculate(self, atoms, properties, system_changes) -> None:
        self.results = {}  # nothing of an earlier frame may stay where this one fails
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms
        structure = self.potential.structure(frame, pairs=self._pairs)
        volume = cell_volume(frame)
        if volume is None and any(p in ("stress", "stresses") for p in properties):
            raise PropertyNotImplementedError("a frame without a cell volume has no stress")
        fast = self.uncertainty == "local" and self.potential.has_fast_local_variance(structure.numbers)
        mean = self.potential.evaluate(frame, structure=structure, local_variance=fast)
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
            self._add_standard_deviations(frame, structure, mean.local_variance, results)
        self.results = results

    def batch_forces(self, atoms: Atoms) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Function from positions (R, n, 3; A) of R copies to energies (R,; eV) and forces (R, n, 3; eV/A).

        All copies are evaluated in one pass. Pair lists are kept, one for each copy, where searching them takes long.
        """
        frame = atoms.copy()
        kept: list[VerletList] = []
        lock = OwnLock()

        def evaluate(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            if len(frame) <= SMALL or self.skin == 0:
                return self.potential.evaluate_copies(frame, positions)
            with lock:
                if len(kept) != len(positions):
                    kept[:] = [VerletList(self.potential.r_cut, self.skin) for _ in range(len(positions))]
                return self.potential.evaluate_copies(frame, positions, kept)

        return evaluate

    def _add_standard_deviations(self, frame, structure, local_variance, results: dict[str, Any]) -> None:
        parts = None
        if self.uncertainty in ("energy", "full"):
            full = self.uncertainty == "full"
            parts = self.potential.variance_parts(structure, derivatives=full)
            std = self.potential.standard_deviations(
                frame, structure=structure, include_noise=self.include_noise, forces=full, parts=parts
            )
            results["energy_std"] = std.energy
            if std.forces is not None:
                results["forces_std"] = std.forces
            if std.stress is not None:
                results["stress_std"] = std.stress
            local = std.local_energy
        elif local_variance is not None:
            local = self.potential.with_noise(local_variance, self.include_noise)
        else:
            local = self.potential.local_std(structure, include_noise=self.include_noise)
        results["energies_std"] = local
        beyond = self.potential.domain_excess(structure, local, self.include_noise, parts)
        results["domain_excess"] = beyond.ratio
        if beyond.ratio > 1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"this frame is out of the domain of the training data: {beyond.reason}; add frames like this one to "
                "the training set",
                OutOfDomainWarning,
                stacklevel=2,
            )
