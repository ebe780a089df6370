"""The fitted potential: everything needed to predict, and nothing of how it was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from gapkit.descriptors import SOAP
from gapkit.descriptors.soap_predictor import SoapPredictor
from gapkit.exceptions import NumericsError, SettingsError, SpeciesError
from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.terms import Term
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.baseline import baseline_labels
from gapkit.potential.domain import Domain, Excess
from gapkit.potential.local_variance import LocalForm, LocalVariance
from gapkit.structures.labels import cell_volume, check_distances
from gapkit.structures.neighbours import Structure, VerletList
from gapkit.structures.plausibility import check_contacts, check_extent
from gapkit.structures.reference_energies import ReferenceEnergies
from gapkit.uncertainty.calibration import Calibration
from gapkit.uncertainty.label_errors import LabelErrors
from gapkit.uncertainty.variance_parts import VarianceParts

#: atoms whose local-energy rows are held at a time
CHUNK = 1024
#: a variance of a local energy never falls below this share of the frame's largest: rounding of a difference
LEAST_VARIANCE = 1e-6


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
        Minus the strain derivative of each atom's own local energy (eV); sums to the virial, the baseline's share
        equally divided.
    local_variance : (n,) or None
        Calibrated variance of the function at each local energy (eV^2), without noise, where it was asked for.
    """

    energy: float
    forces: np.ndarray
    virial: np.ndarray | None
    stress: np.ndarray | None
    local_energy: np.ndarray
    atomic_virials: np.ndarray
    local_variance: np.ndarray | None = None


@dataclass(frozen=True)
class Spread:
    """Predictive standard deviations for one frame, in the units of :class:`Evaluation`; None where not asked for."""

    energy: float
    local_energy: np.ndarray
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None


@dataclass(frozen=True)
class Potential:
    """Sparse Gaussian-process potential.

    Attributes
    ----------
    terms, basis, posterior
        Settings, sparse functionals, and the posterior of their weights.
    alpha : (m,)
        Weights of the unwhitened functionals (eV).
    reference : ReferenceEnergies
    baseline
        ASE calculator or None.
    errors : LabelErrors
        Strategy for the error bars of labels (``gapkit.uncertainty.label_errors``).
    species : tuple of int
        Atomic numbers that the model was trained on.
    domain : Domain
        Largest variances among the training frames.
    noise_levels : dict
        Noise levels by noise group that the posterior was solved with (eV per square root of atoms, eV/A).
    metadata : dict
        Description of the model, JSON-ready: training set, settings, held-out errors. No number that is predicted
        depends on it.
    n_jobs : int or None
        Threads; None: what the environment allows.
    local_forms : dict
        Forms that make variances of local energies cheap (``gapkit.potential.local_variance``); may be empty.
    extra : dict
        By index of block, points (k, d) and weights (k,) that the mean has beyond its sparse functionals: those of an
        exact mean (``gapkit.fitting.exact_mean``). Empty for a sparse model.
    """

    terms: tuple[Term, ...]
    basis: SparseBasis
    posterior: Posterior
    alpha: np.ndarray
    reference: ReferenceEnergies
    baseline: Any
    errors: LabelErrors
    species: tuple[int, ...]
    domain: Domain = field(default_factory=Domain)
    noise_levels: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    n_jobs: int | None = None
    local_forms: dict[int, LocalForm] = field(default_factory=dict)
    extra: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def r_cut(self) -> float:
        """Longest cutoff (A)."""
        return self.basis.r_cut

    @property
    def calibration(self) -> Calibration:
        """Noise and scales of the function's variances, by noise group."""
        return self.errors.calibration

    @cached_property
    def _predictors(self) -> list:
        return self.basis.predictors(self.alpha, self.extra)

    @cached_property
    def _local_variance(self) -> LocalVariance:
        signal = self.posterior.signal
        return LocalVariance(self.basis, self.alpha, signal, self.calibration, self._predictors, self.local_forms)

    def describe_passes(self) -> list[str]:
        """How each SOAP channel is evaluated: directions, and whether sparse points are summed over."""
        lines = []
        for descriptor, channel, parts in self._predictors:
            for part in parts if isinstance(descriptor, SOAP) else ():
                if not isinstance(part, SoapPredictor):
                    continue
                d, f = len(part.directions), len(part.mean)
                where = f"{d} of {f} directions" if d else f"all {f} features"
                how = "one matrix" if part.collapsed else f"a sum over {len(part.coefficients[3])} sparse points"
                lines.append(
                    f"around {chemical_symbols[channel[0]]}: {how} on {where}, {part.n_products} products per atom"
                )
        ranks = {len(form.signs) for form in self.local_forms.values()}
        if ranks:
            lines.append(f"variance of local energies: forms of rank {', '.join(map(str, sorted(ranks)))}")
        return lines

    def has_fast_local_variance(self, numbers: np.ndarray) -> bool:
        """Whether :meth:`evaluate` can give variances of local energies for these atomic numbers."""
        return bool(self.local_forms) and self._local_variance.serves(numbers)

    def check(self, atoms: ase.Atoms, where: str = "frame") -> None:
        """All that :meth:`structure` checks, at the cost of one short pair list."""
        check_contacts(atoms, where)
        self._check_species(atoms, where)

    def structure(self, atoms: ase.Atoms, where: str = "frame", pairs: VerletList | None = None) -> Structure:
        """The checked frame with its pair lists, taken from ``pairs`` if given.

        Raises
        ------
        SpeciesError, DataError
            An atom of a species that the model was not trained on; see ``gapkit.structures.labels`` and
            ``gapkit.structures.plausibility`` for the others.
        """
        if pairs is None or not pairs.serves(atoms):  # else it was checked when the pairs were searched
            check_extent(atoms, where)
            self._check_species(atoms, where)
        structure = Structure(atoms, self.r_cut, None if pairs is None else pairs.pairs(atoms))
        found = structure.pairs(self.r_cut)
        check_distances(found.distances, found.i, found.j, where)
        return structure

    def _check_species(self, atoms: ase.Atoms, where: str) -> None:
        unknown = np.flatnonzero(~np.isin(atoms.numbers, self.species))
        if len(unknown):
            symbol = chemical_symbols[atoms.numbers[unknown[0]]]
            known = ", ".join(chemical_symbols[z] for z in self.species)
            raise SpeciesError(
                f"{where}: atom {unknown[0]} is {symbol}, a species that the model was not trained on ({known}); "
                f"add frames with {symbol} to the training set"
            )

    def evaluate(
        self,
        atoms: ase.Atoms,
        where: str = "frame",
        structure: Structure | None = None,
        local_variance: bool = False,
    ) -> Evaluation:
        """Energy, forces and virial of one frame; on request variances of local energies, by :attr:`local_forms`.

        Raises
        ------
        NumericsError
            Where one of them is not finite.
        SettingsError
            For variances of a model without forms (:meth:`has_fast_local_variance`). And what :meth:`structure` raises,
            if no ``structure`` is given.
        """
        structure = structure or self.structure(atoms, where)
        if local_variance and not self.has_fast_local_variance(structure.numbers):
            raise SettingsError(f"{where}: this model has no form for it; ask has_fast_local_variance, or local_spread")
        n = structure.n_atoms
        local, gradient, strain = np.zeros(n), np.zeros((n, 3)), np.zeros((n, 6))
        with limited_threads(self.n_jobs):
            fast = self._local_variance if local_variance else None
            others, variance = fast.begin(structure) if fast is not None else (None, None)
            for descriptor, channel, predictor in self._predictors:
                extra = ()
                if fast is not None and isinstance(descriptor, SOAP) and (structure.numbers == channel[0]).any():
                    extra = (fast.spread(channel), others, variance)
                descriptor.add_prediction(structure, channel, predictor, local, gradient, strain, *extra)
        forces, atomic_virials = -gradient, -strain
        local += np.array([self.reference.values[z] for z in structure.numbers.tolist()])
        volume = cell_volume(atoms)
        if self.baseline is not None:
            base = baseline_labels(self.baseline, atoms, where, stress=volume is not None)
            local += base["energies"]
            forces += base["forces"]
            if base["virial"] is not None:
                atomic_virials += base["virial"] / n
        if not (np.isfinite(local).all() and np.isfinite(forces).all() and np.isfinite(atomic_virials).all()):
            raise NumericsError(
                f"{where}: the potential gives an energy or force that is not finite; atoms are far too close"
            )
        virial = atomic_virials.sum(axis=0) if volume is not None else None
        stress = None if virial is None or volume is None else -virial / volume
        if variance is not None:
            variance = np.maximum(variance, LEAST_VARIANCE * variance.max(initial=0.0))
        return Evaluation(float(local.sum()), forces, virial, stress, local, atomic_virials, variance)

    def spread(
        self,
        atoms: ase.Atoms,
        where: str = "frame",
        structure: Structure | None = None,
        noise: bool = True,
        forces: bool = True,
        config_type: str | None = None,
        parts: VarianceParts | None = None,
    ) -> Spread:
        """Predictive standard deviations of one frame.

        ``noise=True`` predicts a new label: function plus label noise and model misfit; ``noise=False`` the function
        alone. ``forces`` also asks for those of forces and stress, at the cost of a training row per component.
        The noise is that of the frame's config_type where it has levels of its own. ``parts``: what
        :meth:`variance_parts` gave for this frame, where it is known already.
        """
        structure = structure or self.structure(atoms, where)
        parts = parts if parts is not None else self.variance_parts(structure, forces)
        n = structure.n_atoms

        def std(kind: str) -> np.ndarray:
            return np.sqrt(self.errors.variance(kind, parts.of_labels(kind, n), config_type, noise))

        total = float(np.sqrt(n) * std("energy")[0])
        local = self.local_spread(structure, noise, config_type)
        if not forces:
            return Spread(total, local)
        volume = cell_volume(atoms)
        stress = None if volume is None else np.sqrt(n) * std("virial") / volume
        return Spread(total, local, std("forces").reshape(n, 3), stress)

    def variance_parts(self, structure: Structure, derivatives: bool) -> VarianceParts:
        """The parts of the posterior variances (rows,) of a frame's energy and, on request, of its derivatives."""
        with limited_threads(self.n_jobs), blas_threads(thread_count()):
            rows = self.basis.rows(structure, derivatives=derivatives, hidden=True)
            return VarianceParts.of_rows(self.posterior, self.basis.whiten(rows.K), rows)

    def local_spread(self, structure: Structure, noise: bool = True, config_type: str | None = None) -> np.ndarray:
        """Standard deviations (n,) of local energies (eV), alone: the cheap uncertainty for dynamics."""
        energy = self.calibration.of("energy", config_type)
        variance = np.empty(structure.n_atoms)
        with limited_threads(self.n_jobs), blas_threads(thread_count()):
            for begin in range(0, structure.n_atoms, CHUNK):
                atoms = np.arange(begin, min(begin + CHUNK, structure.n_atoms))
                rows = self.basis.local_rows(structure, atoms)
                parts = self.posterior.variances(self.basis.whiten(rows.K), rows.prior)
                variance[atoms] = energy.latent(*parts)
        return self.with_noise(variance, noise, config_type)

    def with_noise(self, variance: np.ndarray, noise: bool, config_type: str | None = None) -> np.ndarray:
        """Standard deviations (eV) of local energies from the variance of the function, with the noise if asked for."""
        return np.sqrt(variance + self._local_noise(noise, config_type) ** 2)

    def domain_limit(self, noise: bool = True) -> float:
        """Standard deviation of a local energy (eV) beyond which an environment counts as out of domain.

        One and a half times the largest among a sample of training environments; see :class:`Domain`.
        """
        return self.domain.local_limit(self._local_noise(noise))

    def domain_excess(
        self, structure: Structure, local_std: np.ndarray, noise: bool, parts: VarianceParts | None = None
    ) -> Excess:
        """Distance of a frame from the domain of the training frames: above 1 it is out.

        Parameters
        ----------
        local_std : (n,)
            Standard deviations of local energies (eV), with or without ``noise``.
        parts
            Result of :meth:`variance_parts` for this frame, where it is known already.
        """
        energy = None
        if self.domain.energy_variance is not None:
            parts = parts if parts is not None else self.variance_parts(structure, derivatives=False)
            energy = float((parts.weights[0] + parts.hidden[0]) / structure.n_atoms)
        return self.domain.excess(local_std, self._local_noise(noise), energy)

    def _local_noise(self, noise: bool, config_type: str | None = None) -> float:
        return self.calibration.of("energy", config_type).noise if noise else 0.0
