"""The fitted potential: everything that a prediction needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols

from gapkit.descriptors.base import Sums
from gapkit.exceptions import NumericsError, SettingsError
from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.terms import Term
from gapkit.numerics.threads import limited_threads
from gapkit.numerics.writeable import writeable
from gapkit.potential.baseline import baseline_labels, is_local
from gapkit.potential.checked_structures import CheckedStructures
from gapkit.potential.domain import LONE_EXCESS, Domain, DomainExcess
from gapkit.potential.evaluation import CentresEvaluation, Evaluation, StandardDeviations, uncertainty_kind
from gapkit.potential.local_variance import LocalForm, LocalVariance
from gapkit.potential.predictive_variances import PredictiveVariances, batches
from gapkit.structures.labels import atoms_list, cell_volume
from gapkit.structures.neighbours import FrameArrays, Neighbours
from gapkit.structures.reference_energies import ReferenceEnergies
from gapkit.structures.structure import Structure
from gapkit.structures.verlet_list import VerletList
from gapkit.uncertainty.calibration import Calibration
from gapkit.uncertainty.label_errors import LabelErrors
from gapkit.uncertainty.variance_parts import VarianceParts

#: atoms that share a pass of :meth:`Potential.evaluate_many`, where there are so many
PASS = 4096
#: a variance of a local energy never falls below this share of the largest of the frame, or of a domain's centres:
#: rounding of a difference
LEAST_VARIANCE = 1e-6


def squared(x: np.ndarray) -> float:
    """Sum of the squares of an array: finite where all of its numbers are, and a tenth of the cost of asking each."""
    return float(np.vdot(x, x))


def at_least(variance: np.ndarray) -> np.ndarray:
    """Variances of one frame's local energies, the smallest ones raised to ``LEAST_VARIANCE`` of the largest."""
    return np.maximum(variance, LEAST_VARIANCE * variance.max(initial=0.0))


def passes(frames: Sequence[ase.Atoms], names: Sequence[str] | None) -> Iterator[tuple[list[ase.Atoms], list[str]]]:
    """Frames that share a pass, and their names in messages: those of ``names``, or ``frame 0`` and so on."""
    frames = atoms_list(frames, may_be_empty=True)
    names = [f"frame {k}" for k in range(len(frames))] if names is None else list(names)
    for part in batches([len(atoms) for atoms in frames], PASS):
        yield frames[part], names[part]


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
    mean_points : dict
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
    mean_points: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def fingerprint(self) -> dict[str, Any]:
        """Fingerprint by which predictions of two models are told apart (:func:`gapkit.fingerprints.described`)."""
        return {"trained on": self.metadata.get("training_hash"), "weights": self.alpha, "e0": self.reference.values}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle; kernels need what lies in read-only memory as a copy, the posterior does not go to them."""
        posterior = state["posterior"]
        vars(self).update(writeable(state, {id(posterior): (posterior, posterior)}))

    @cached_property
    def r_cut(self) -> float:
        """Longest cutoff (A), that of a local baseline included."""
        return max(self.basis.r_cut, self.baseline.r_cut if self._local_baseline else 0.0)

    @property
    def calibration(self) -> Calibration:
        """Noise and scales of the function's variances, by noise group."""
        return self.errors.calibration

    @cached_property
    def _predictors(self) -> list:
        return self.basis.predictors(self.alpha, self.mean_points)

    @cached_property
    def _local_variance(self) -> LocalVariance:
        signal = self.posterior.signal
        return LocalVariance(self.basis, self.alpha, signal, self.calibration, self._predictors, self.local_forms)

    def describe_passes(self) -> list[str]:
        """Lines on the evaluation of each SOAP channel: directions, and whether sparse points are summed over."""
        lines = []
        for descriptor, channel, predictor in self._predictors:
            lines += descriptor.describe_predictor(channel, predictor)
        ranks = {len(form.signs) for form in self.local_forms.values()}
        if ranks:
            lines.append(f"variance of local energies: forms of rank {', '.join(map(str, sorted(ranks)))}")
        return lines

    def has_fast_local_variance(self, numbers: np.ndarray) -> bool:
        """Whether :meth:`evaluate` can give variances of local energies for these atomic numbers."""
        return bool(self.local_forms) and self._local_variance.serves(numbers)

    def check(self, atoms: ase.Atoms, context: str = "frame") -> None:
        """Check a frame as :meth:`structure` does, at the cost of one short pair list."""
        self._structures.check(atoms, context)

    @cached_property
    def _variances(self) -> PredictiveVariances:
        return PredictiveVariances(self.basis, self.posterior, self.errors, self.n_jobs, self.reference)

    @cached_property
    def _structures(self) -> CheckedStructures:
        return CheckedStructures(self.species, self.r_cut)

    def structure(self, atoms: ase.Atoms, context: str = "frame", pairs: VerletList | None = None) -> Structure:
        """The checked frame with its pair lists, taken from ``pairs`` if given.

        Raises
        ------
        SpeciesError, DataError
            An atom of a species that the model was not trained on; see ``gapkit.structures.labels`` and
            ``gapkit.structures.plausibility`` for the others.
        """
        return self._structures.of_frame(atoms, context, pairs)

    @cached_property
    def _local_baseline(self) -> bool:
        return is_local(self.baseline)

    @cached_property
    def _reference(self) -> np.ndarray:
        """Reference energies (eV) by atomic number; zero where there is none."""
        energies = np.zeros(len(chemical_symbols))
        energies[list(self.reference.values)] = list(self.reference.values.values())
        return energies

    def sums(self, structure: Structure, components: int = 6, local_variance: bool = False) -> Sums:
        """Sums over the environments of a structure: the one way in which this potential is evaluated.

        Local energies, their gradient by all atoms, the strain derivative (6 or 9 ``components``) and, on request, the
        variance of each local energy (:attr:`local_forms`). Reference energies and a local baseline are included; other
        baselines are not.

        Raises
        ------
        SettingsError
            For variances of a model without forms, see :meth:`has_fast_local_variance`.
        """
        if local_variance and not self.has_fast_local_variance(structure.numbers):
            raise SettingsError("this model has no form for it; ask has_fast_local_variance, or local_std")
        with limited_threads(self.n_jobs):
            if local_variance:
                sums = Sums.zeros(structure.n_atoms, components, *self._local_variance.begin(structure))
            else:
                sums = Sums.zeros(structure.n_atoms, components)
            for descriptor, channel, predictor in self._local_variance.passes if local_variance else self._predictors:
                descriptor.add_prediction(structure, channel, predictor, sums)
            if self._local_baseline:
                self.baseline.add_prediction(structure, sums)
        structure.add_to_centres(sums.local, self._reference)
        for z, shift in self.reference.shift.items():
            sums.local[(structure.coordination() == 0) & (structure.numbers == z)] += shift
        if local_variance:
            sums.variance[:] += self.reference.alone_std(structure) ** 2
        return sums

    def evaluate(
        self,
        atoms: ase.Atoms,
        context: str = "frame",
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
        structure = structure or self._structures.of_frame(atoms, context)
        return self._evaluations([atoms], [context], structure, local_variance)[0]

    def evaluate_many(
        self,
        frames: Sequence[ase.Atoms],
        uncertainty: bool | str | None = None,
        include_noise: bool = True,
        names: Sequence[str] | None = None,
    ) -> list[Evaluation]:
        """Energies, forces and virials of many frames, in one pass over all of their environments.

        Frames may be periodic or not, and of different sizes and species; atoms of different frames do not meet. A
        pass holds about 4,096 atoms, so that memory does not grow with the number of frames.

        Parameters
        ----------
        frames
            Frames; ``info["config_type"]`` chooses the noise of their labels.
        uncertainty
            None; ``"local"``: variances of local energies; ``"energy"``: standard deviations of energies and local
            energies; ``"full"``: of forces and stresses too (:attr:`Evaluation.std`).
        include_noise
            Whether a standard deviation predicts a new label (function, label noise and misfit) or the function alone.
        names
            Names of the frames in messages; default: ``frame 0`` and so on.

        Raises
        ------
        SettingsError
            For an unknown ``uncertainty``.
        SpeciesError, DataError, NumericsError
            As :meth:`structure` and :meth:`evaluate`, with the frame's name.
        """
        uncertainty = uncertainty_kind(uncertainty)
        found: list[Evaluation] = []
        for part, part_names in passes(frames, names):
            found += self._pass(part, part_names, uncertainty, include_noise)
        return found

    def _pass(
        self, frames: list[ase.Atoms], names: list[str], uncertainty: str | None, include_noise: bool
    ) -> list[Evaluation]:
        structure = self._structures.of_frames(FrameArrays.of(frames), names)
        fast = uncertainty == "local" and self.has_fast_local_variance(structure.numbers)
        if uncertainty == "local" and self.local_forms and not fast:
            served = np.array([self.has_fast_local_variance(atoms.numbers) for atoms in frames])
            if served.any():  # whether a frame's variances are fast ones is its own affair
                return self._apart(served, frames, names)
        means = self._evaluations(frames, names, structure, fast)
        if uncertainty is None or fast:
            return means
        begin = np.cumsum([0, *(len(atoms) for atoms in frames)])
        if uncertainty == "local":
            variance = self._variances.local_variances(structure, [None] * len(frames), begin)
            return [
                replace(m, local_variance=variance[a:b]) for m, a, b in zip(means, begin[:-1], begin[1:], strict=True)
            ]
        stds = self._variances.stds_of_frames(frames, structure, begin, include_noise, uncertainty == "full")
        return [replace(m, std=s) for m, s in zip(means, stds, strict=True)]

    def _apart(self, served: np.ndarray, frames: list[ase.Atoms], names: list[str]) -> list[Evaluation]:
        """:meth:`_pass` for local variances of the frames with forms and of those without, in the order given."""
        order = np.argsort(served, kind="stable")
        found: list[Evaluation] = []
        for part in np.split(order, [np.count_nonzero(~served)]):
            found += self._pass([frames[k] for k in part], [names[k] for k in part], "local", False)
        return [found[k] for k in np.argsort(order)]

    def _evaluations(
        self, frames: Sequence[ase.Atoms], names: Sequence[str], structure: Structure, local_variance: bool
    ) -> list[Evaluation]:
        """One evaluation per frame, of a structure that holds them all."""
        sums = self.sums(structure, 6, local_variance)
        local, forces, virials = sums.local, np.negative(sums.gradient), np.negative(sums.strain)
        found, begin = [], 0
        for atoms, name in zip(frames, names, strict=True):
            end = begin + len(atoms)
            energies, frame_forces, frame_virials = local[begin:end], forces[begin:end], virials[begin:end]
            volume = cell_volume(atoms)
            if self.baseline is not None and not self._local_baseline:
                base = baseline_labels(self.baseline, atoms, name, stress=volume is not None)
                energies += base["energies"]
                frame_forces += base["forces"]
                if base["virial"] is not None:
                    frame_virials += base["virial"] / len(atoms)
            energy = float(energies.sum())
            if not math.isfinite(energy + squared(frame_forces) + squared(frame_virials)):
                raise NumericsError(
                    f"{name}: the potential gives an energy or force that is not finite; atoms are far too close"
                )
            virial = frame_virials.sum(axis=0) if volume is not None else None
            stress = None if virial is None or volume is None else -virial / volume
            variance = at_least(sums.variance[begin:end]) if local_variance else None
            found.append(Evaluation(energy, frame_forces, virial, stress, energies, frame_virials, variance))
            begin = end
        return found

    def evaluate_copies(
        self, atoms: ase.Atoms, positions: np.ndarray, lists: Sequence[VerletList] = ()
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies (R,) in eV and forces (R, n, 3) in eV/A of copies of ``atoms`` at ``positions`` (R, n, 3).

        Equal to :meth:`evaluate_many` of the copies as frames, without an object for each: for replicas, images of
        a band, displacements. ``lists``: a pair list for each copy, where lists are kept; else pairs are searched.
        Raises as :meth:`evaluate_many`; messages call the copies ``copy 0`` and so on.
        """
        energies, forces = np.empty(len(positions)), np.empty(np.shape(positions))
        for part in batches([len(atoms)] * len(positions), PASS):
            copies = positions[part]
            sums = self.sums(self._structures.of_copies(atoms, copies, lists[part], part.start))
            energies[part] = sums.local.reshape(len(copies), -1).sum(axis=1)
            forces[part] = -sums.gradient.reshape(copies.shape)
            if self.baseline is not None and not self._local_baseline:
                for r, x in enumerate(copies, part.start):
                    moved = atoms.copy()  # with charges, moments and whatever else a baseline asks for
                    moved.positions = x
                    base = baseline_labels(self.baseline, moved, f"copy {r}", stress=False)
                    energies[r] += base["energy"]
                    forces[r] += base["forces"]
        finite = np.isfinite(energies) & np.isfinite(forces).all(axis=(1, 2))
        if not finite.all():
            raise NumericsError(
                f"copy {int(np.argmin(finite))}: the potential gives an energy or force that is not finite; atoms are "
                "far too close"
            )
        return energies, forces

    def evaluate_centres(
        self,
        numbers: np.ndarray,
        neighbours: Neighbours,
        centres: np.ndarray,
        components: int = 6,
        local_variance: bool = False,
    ) -> CentresEvaluation:
        """Local energies of given centres with given neighbours, for engines that divide space among processes.

        The sums over domains whose centres are all atoms, each once, are those of :meth:`evaluate`; a domain's
        gradient by a ghost belongs to the atom that the ghost is a copy of.

        Parameters
        ----------
        numbers : (n,)
            Atomic numbers of all atoms of the domain, ghosts included.
        neighbours : Neighbours
            Pairs of at least the centres, within the potential's cutoff or a longer one
            (:meth:`gapkit.structures.neighbours.Neighbours.of_pairs` makes it from an engine's list). Pairs around
            other atoms are not used.
        centres : (k,)
            Atoms whose environments count.
        components
            Components of each centre's virial: 6 or 9.
        local_variance
            Whether variances of the local energies are asked for.

        Raises
        ------
        SettingsError
            For a baseline that is no sum over environments; other components than 6 or 9, or 9 of a descriptor that
            gives six; a pair list with a cutoff that is too short; variances of a model without forms.
        DataError
            Atoms or centres that are not there, pairs that are not finite, two atoms on one spot.
        SpeciesError
            A species that the model was not trained on.
        NumericsError
            An energy or force that is not finite.
        """
        if self.baseline is not None and not self._local_baseline:
            raise SettingsError(
                f"the baseline {type(self.baseline).__name__} is no sum over environments and cannot be evaluated for "
                "the centres of a domain; fit with baseline=None or 'zbl', or give the baseline a cutoff r_cut and an "
                "add_prediction(structure, sums) of its own"
            )
        if components not in (6, 9):
            raise SettingsError(f"components must be 6 or 9, not {components!r}")
        structure = self._structures.of_domain(np.asarray(numbers), neighbours, np.asarray(centres))
        centres = structure.centres
        sums = self.sums(structure, components, local_variance)
        if not math.isfinite(squared(sums.local) + squared(sums.gradient) + squared(sums.strain)):
            raise NumericsError("the potential gives an energy or force that is not finite; atoms are far too close")
        variance = at_least(sums.variance[centres]) if local_variance else None
        return CentresEvaluation(sums.local[centres], sums.gradient, -sums.strain[centres], variance)

    def standard_deviations(
        self,
        atoms: ase.Atoms,
        context: str = "frame",
        structure: Structure | None = None,
        include_noise: bool = True,
        forces: bool = True,
        config_type: str | None = None,
        parts: VarianceParts | None = None,
    ) -> StandardDeviations:
        """Predictive standard deviations of one frame.

        With ``include_noise`` they are those of a new label: function, label noise and model misfit; without it, those
        of the function alone. ``forces`` also asks for those of forces and stress, at the cost of a training row per
        component. The noise is that of the frame's config_type where it has levels of its own. ``parts``: what
        :meth:`variance_parts` gave for this frame, where it is known already.
        """
        structure = structure or self.structure(atoms, context)
        parts = parts if parts is not None else self.variance_parts(structure, forces)
        local = self.local_std(structure, include_noise, config_type)
        return self._variances.stds_of_parts(atoms, structure, parts, local, include_noise, forces, config_type)

    def variance_parts(self, structure: Structure, derivatives: bool) -> VarianceParts:
        """The parts of the posterior variances (rows,) of a frame's energy and, on request, of its derivatives."""
        return self._variances.variance_parts([structure], derivatives)[0]

    def local_std(self, structure: Structure, include_noise: bool = True, config_type: str | None = None) -> np.ndarray:
        """Standard deviations (n,) of local energies (eV), alone: the cheap uncertainty for dynamics."""
        variance = self._variances.local_variances(structure, [config_type], np.array([0, structure.n_atoms]))
        return self.with_noise(variance, include_noise, config_type)

    def local_std_many(
        self, frames: Sequence[ase.Atoms], include_noise: bool = True, names: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """:meth:`local_std` of many frames, in passes over all of their atoms; ``names`` as in
        :meth:`evaluate_many`."""
        found: list[np.ndarray] = []
        for part, part_names in passes(frames, names):
            frame_arrays = FrameArrays.of(part)
            std = self.local_std(self._structures.of_frames(frame_arrays, part_names), include_noise)
            found += np.split(std, frame_arrays.begin[1:-1])
        return found

    def with_noise(self, variance: np.ndarray, include_noise: bool, config_type: str | None = None) -> np.ndarray:
        """Standard deviations (eV) of local energies from the variance of the function, with the noise if asked for."""
        return self._variances.with_noise(variance, include_noise, config_type)

    def domain_limit(self, include_noise: bool = True) -> float:
        """Standard deviation of a local energy (eV) beyond which an environment counts as out of domain.

        One and a half times the largest among a sample of training environments; see :class:`Domain`.
        """
        return self.domain.local_limit(self._variances.local_noise(include_noise))

    def domain_excess(
        self, structure: Structure, local_std: np.ndarray, include_noise: bool, parts: VarianceParts | None = None
    ) -> DomainExcess:
        """Distance of a frame from the domain of the training frames: above 1 it is out.

        Parameters
        ----------
        local_std : (n,)
            Standard deviations of local energies (eV), with or without ``include_noise``.
        parts
            Result of :meth:`variance_parts` for this frame, where it is known already.
        """
        energy = None
        if self.domain.energy_variance is not None:
            parts = parts if parts is not None else self.variance_parts(structure, derivatives=False)
            energy = float((parts.weights[0] + parts.hidden[0]) / structure.n_atoms)
        found = self.domain.excess(local_std, self._variances.local_noise(include_noise), energy)
        alone = np.flatnonzero(self.reference.alone_std(structure))
        if len(alone) and found.ratio < LONE_EXCESS:
            return DomainExcess(
                LONE_EXCESS,
                f"atom {alone[0]} has no neighbour within the cutoff, or few, and no isolated "
                f"{chemical_symbols[structure.numbers[alone[0]]]} was in the training frames",
            )
        return found
