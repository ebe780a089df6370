"""Predictive standard deviations of frames, by the posterior of the weights and a strategy for error bars."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.models.basis import FrameRows, SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.evaluation import StandardDeviations
from gapkit.structures.labels import cell_volume
from gapkit.structures.reference_energies import ReferenceEnergies
from gapkit.structures.structure import Structure
from gapkit.uncertainty.label_errors import LabelErrors
from gapkit.uncertainty.variance_parts import VarianceParts

#: atoms whose local-energy rows are held at a time
CHUNK = 1024
#: rows that share a solve with the sparse points' factors
ROWS = 2048


def batches(sizes: Sequence[int], most: int) -> Iterator[slice]:
    """Consecutive parts of a list whose ``sizes`` add up to ``most`` or less; a larger item is a part of its own.

    Examples
    --------
    >>> list(batches([2, 2, 5, 1], 4))
    [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """
    begin, total = 0, 0
    for k, size in enumerate(sizes):
        if k > begin and total + size > most:
            yield slice(begin, k)
            begin, total = k, 0
        total += size
    if begin < len(sizes):
        yield slice(begin, len(sizes))


@dataclass(frozen=True)
class PredictiveVariances:
    """Standard deviations of a potential's predictions.

    Attributes
    ----------
    basis, posterior, errors, n_jobs, reference
        Fields of the potential.
    """

    basis: SparseBasis
    posterior: Posterior
    errors: LabelErrors
    n_jobs: int | None
    reference: ReferenceEnergies

    def variance_parts(self, structures: Sequence[Structure], derivatives: bool) -> list[VarianceParts]:
        """Parts of the posterior variances (rows,) of each frame's energy and, on request, of its derivatives.

        Small frames share the solves with the sparse points' factors, so that rounding depends on their company: a
        variance is a difference, and its last digits are those of the prior variance.
        """
        sizes = [1 + (3 * s.n_atoms + 6 if derivatives else 0) for s in structures]
        found: list[VarianceParts] = []
        with limited_threads(self.n_jobs), blas_threads(thread_count()):
            for part in batches(sizes, ROWS):
                rows = FrameRows.joined(
                    [self.basis.rows(s, derivatives=derivatives, hidden=True) for s in structures[part]]
                )
                together = VarianceParts.of_rows(self.posterior, self.basis.whiten(rows.K), rows)
                found += together.split(sizes[part])
        return found

    def local_variances(
        self, structure: Structure, config_types: Sequence[str | None], begin: np.ndarray
    ) -> np.ndarray:
        """Variances (n,) of the function at local energies (eV^2), calibrated for each frame's config_type, and of
        reference energies where an atom is alone."""
        residual, weights = np.empty(structure.n_atoms), np.empty(structure.n_atoms)
        with limited_threads(self.n_jobs), blas_threads(thread_count()):
            for start in range(0, structure.n_atoms, CHUNK):
                atoms = np.arange(start, min(start + CHUNK, structure.n_atoms))
                rows = self.basis.local_rows(structure, atoms)
                residual[atoms], weights[atoms] = self.posterior.variances(self.basis.whiten(rows.K), rows.prior)
        found = np.concatenate(
            [
                self.errors.calibration.of("energy", config).latent(residual[a:b], weights[a:b])
                for config, a, b in zip(config_types, begin[:-1], begin[1:], strict=True)
            ]
        )
        return found + self.reference.alone_std(structure) ** 2

    def stds_of_parts(
        self,
        atoms: ase.Atoms,
        structure: Structure,
        parts: VarianceParts,
        local: np.ndarray,
        include_noise: bool,
        forces: bool,
        config_type: str | None,
    ) -> StandardDeviations:
        """Standard deviations for one frame from the ``parts`` of its variances and those of its local energies.

        The energy's includes variances of reference energies that nothing determines.
        """
        n = len(atoms)

        def std(kind: str) -> np.ndarray:
            return np.sqrt(self.errors.variance(kind, parts.of_labels(kind, n), config_type, include_noise))

        loadings = self.reference.loadings(structure)
        total = float(np.sqrt(n * std("energy")[0] ** 2 + loadings @ loadings))
        if not forces:
            return StandardDeviations(total, local)
        volume = cell_volume(atoms)
        stress = None if volume is None else np.sqrt(n) * std("virial") / volume
        return StandardDeviations(total, local, std("forces").reshape(n, 3), stress)

    def stds_of_frames(
        self, frames: Sequence[ase.Atoms], structure: Structure, begin: np.ndarray, include_noise: bool, forces: bool
    ) -> list[StandardDeviations]:
        """Standard deviations for each frame of a structure that holds them all, with the noise of its config_type.

        ``begin`` (frames + 1,): where each frame's atoms begin; ``include_noise``, ``forces``: as in
        ``Potential.standard_deviations``.
        """
        config_types = [atoms.info.get("config_type") for atoms in frames]
        variance = self.local_variances(structure, config_types, begin)
        singles = [structure.part(a, b) for a, b in itertools.pairwise(begin)]
        all_parts = self.variance_parts(singles, forces)
        local = [
            self.with_noise(variance[a:b], include_noise, c)
            for (a, b), c in zip(itertools.pairwise(begin), config_types, strict=True)
        ]
        items = zip(frames, singles, all_parts, local, config_types, strict=True)
        return [
            self.stds_of_parts(atoms, one, parts, std, include_noise, forces, c) for atoms, one, parts, std, c in items
        ]

    def with_noise(self, variance: np.ndarray, include_noise: bool, config_type: str | None = None) -> np.ndarray:
        """Standard deviations (eV) of local energies from the variance of the function, with the noise if asked for."""
        return np.sqrt(variance + self.local_noise(include_noise, config_type) ** 2)

    def local_noise(self, include_noise: bool, config_type: str | None = None) -> float:
        """Standard deviation (eV) of the noise of a local energy, where it is asked for; else 0."""
        return self.errors.calibration.of("energy", config_type).noise if include_noise else 0.0
