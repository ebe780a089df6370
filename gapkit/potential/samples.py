"""Potentials drawn from the posterior: each is one function that the training data allow, with its own calculator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.models.basis import SparseBasis
from gapkit.models.cross_covariances import added_columns, extended_basis
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.calculator import GAPCalculator
from gapkit.potential.evaluation import Evaluation
from gapkit.potential.potential import Potential
from gapkit.structures.structure import Structure

#: largest number of environments whose residual is sampled
MOST_POINTS = 1500


@dataclass(frozen=True)
class SampledPotential:
    """One function drawn from the posterior of a potential.

    Attributes
    ----------
    potential
        Fitted potential with sampled weights; the error bars are those of the fitted one.
    """

    potential: Potential

    def evaluate(self, atoms: ase.Atoms) -> Evaluation:
        """Energy, forces and virial of one frame."""
        return self.potential.evaluate(atoms)

    def evaluate_many(self, frames: Sequence[ase.Atoms]) -> list[Evaluation]:
        """Energies, forces and virials of many frames, in one pass."""
        return self.potential.evaluate_many(frames)

    def calculator(self) -> GAPCalculator:
        """ASE calculator of this function."""
        return GAPCalculator(self.potential)


@dataclass(frozen=True)
class Sampler:
    """Draws from the posterior of one potential.

    Parameters
    ----------
    potential
        The fitted potential.
    basis
        Basis of the potential, or one that also spans environments where the Nystrom residual is to be sampled.
    kind
        Label kind whose calibration scales the samples: ``"energy"``, ``"forces"`` or ``"virial"``.
    scale
        A further factor on their variance: how much more of it an exact mean has at the frames that they are for
        (``LabelErrors.variance_ratio``) than on average over its training frames.
    """

    potential: Potential
    basis: SparseBasis
    kind: str = "energy"
    scale: float = 1.0

    @classmethod
    def of(
        cls,
        potential: Potential,
        frames: Sequence[ase.Atoms] = (),
        kind: str = "energy",
        most: int = MOST_POINTS,
        residual: bool = True,
    ) -> Sampler:
        """A sampler of functions for ``frames``, which carry the Nystrom residual at their environments, jointly, where
        ``residual`` is set."""
        if kind not in ("energy", "forces", "virial"):
            raise SettingsError(f"kind must be 'energy', 'forces' or 'virial', not {kind!r}")
        basis, scale = potential.basis, 1.0
        if len(frames):
            structures = [potential.structure(a, f"frame {k}") for k, a in enumerate(frames)]
            scale = _mean_variance_ratio(potential, structures, kind)
            if residual:
                with limited_threads(potential.n_jobs), blas_threads(thread_count()):
                    basis, _ = extended_basis(basis, structures, most)
        return cls(potential, basis, kind, scale)

    def weights(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Whitened weights (n, m) on the columns of ``basis``.

        Old columns: the posterior. New ones: the prior of the residual, which no training row constrains in this
        approximation.
        """
        scales = self.potential.calibration.of(self.kind)
        posterior = self.potential.posterior
        fresh = added_columns(self.potential.basis, self.basis)
        weights = np.empty((n, self.basis.n_columns))
        weights[:, ~fresh] = posterior.sample_weights(n, rng, np.sqrt(self.scale * scales.weight_scale))
        signal = posterior.signal[self.basis.column_terms()[fresh]]
        weights[:, fresh] = (
            np.sqrt(self.scale * scales.residual_scale) * signal * rng.normal(size=(n, int(fresh.sum())))
        )
        return weights

    def samples(self, n: int, rng: np.random.Generator) -> list[SampledPotential]:
        """List of ``n`` potentials, drawn independently."""
        if n < 1:
            raise SettingsError(f"the number of samples must be at least 1, not {n}")
        fresh = added_columns(self.potential.basis, self.basis)
        mean, centre = np.zeros(self.basis.n_columns), np.zeros(self.basis.n_columns)
        mean[~fresh], centre[~fresh] = self.potential.alpha, self.potential.posterior.weights
        alphas = [mean + self.basis.unwhiten(w - centre) for w in self.weights(n, rng)]
        references = [self.potential.reference.sampled(rng) for _ in alphas]
        return [
            SampledPotential(replace(self.potential, basis=self.basis, alpha=alpha, reference=reference))
            for alpha, reference in zip(alphas, references, strict=True)
        ]

    def variance(self, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
        """Variances of the energy and of its derivatives (rows,): the part in samples, and the whole of the model."""
        scales = self.potential.calibration.of(self.kind)
        posterior = self.potential.posterior
        with limited_threads(self.potential.n_jobs), blas_threads(thread_count()):
            rows = self.basis.rows(structure)
            A = self.basis.whiten(rows.K)
            fresh = added_columns(self.potential.basis, self.basis)
            residual, weights = posterior.variances(np.asfortranarray(A[:, ~fresh]), rows.prior)
        signal = posterior.signal[self.basis.column_terms()[fresh]]
        spanned = np.einsum("nm,m->n", A[:, fresh] ** 2, signal**2)
        carried = self.scale * (scales.residual_scale * spanned + scales.weight_scale * weights)
        return carried, np.maximum(self.scale * scales.latent(residual, weights), carried)


def _mean_variance_ratio(potential: Potential, structures: Sequence[Structure], kind: str) -> float:
    """Mean variance of the frames' labels of one kind by the potential's error model, over that by its levels."""
    if not potential.mean_points:
        return 1.0
    carried = stated = 0.0
    for structure in structures:
        n = structure.n_atoms
        parts = potential.variance_parts(structure, kind != "energy").of_labels(kind, n)
        per_atom = 1 if kind == "forces" else n
        latent = potential.calibration.of(kind).latent(parts.residual, parts.weights)
        carried += per_atom * float(latent @ potential.errors.variance_ratio(kind, parts))
        stated += per_atom * float(latent.sum())
    return carried / stated if stated > 0 else 1.0


def sampled_energies(
    potential: Potential, frames: Sequence[ase.Atoms], n: int, rng: np.random.Generator, residual: bool = True
) -> np.ndarray:
    """Energies (n, frames) of ``n`` draws (eV): one matrix product more than the mean.

    ``residual``: with the Nystrom residual, joint over the frames; it is drawn at their environments.
    """
    sampler = Sampler.of(potential, frames, residual=residual)
    structures = [potential.structure(a, f"frame {k}") for k, a in enumerate(frames)]
    weights = sampler.weights(n, rng)
    with limited_threads(potential.n_jobs), blas_threads(thread_count()):
        K = np.vstack([sampler.basis.rows(s, derivatives=False, prior=False).K for s in structures])
        A = sampler.basis.whiten(K)
    means = np.array([p.energy for p in potential.evaluate_many(frames)])
    fresh = added_columns(potential.basis, sampler.basis)
    centre = np.zeros(sampler.basis.n_columns)
    centre[~fresh] = potential.posterior.weights
    loadings = np.array([potential.reference.loadings(s) for s in structures])
    return means + (weights - centre) @ A.T + rng.normal(size=(n, loadings.shape[1])) @ loadings.T
