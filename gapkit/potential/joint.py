"""Energies of several frames with the covariance of their errors: the error of a difference is not the sum of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.exceptions import DataError
from gapkit.models.cross_covariances import energy_covariances, split_energy_covariances
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.potential import Potential
from gapkit.structures.structure import Structure


@dataclass(frozen=True)
class Difference:
    """A linear combination of energies and its standard deviation (eV)."""

    value: float
    std: float


@dataclass(frozen=True)
class JointEnergies:
    """Predicted energies of several frames and the covariance of their errors.

    Attributes
    ----------
    energy : (n,)
        eV.
    covariance : (n, n)
        eV^2; of new labels with noise, else of the function alone.
    residual_share : (n,)
        Share of the Nystrom residual in each variance of the function: near one, no sparse point is near.
    """

    energy: np.ndarray
    covariance: np.ndarray
    residual_share: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Standard deviations (n,) of the energies (eV)."""
        return np.sqrt(np.diagonal(self.covariance))

    def combination(self, coefficients: Sequence[float] | np.ndarray) -> Difference:
        """Linear combination sum_n c_n E_n with its standard deviation sqrt(c C c) (eV).

        Examples
        --------
        >>> import numpy as np
        >>> joint = JointEnergies(np.array([1.0, 1.5]), np.array([[0.04, 0.03], [0.03, 0.04]]), np.zeros(2))
        >>> difference = joint.combination([-1, 1])
        >>> difference.value, round(difference.std, 4)  # two independent errors would give 0.2828
        (0.5, 0.1414)
        """
        c = np.asarray(coefficients, dtype=float)
        if c.shape != self.energy.shape or not np.isfinite(c).all():
            raise DataError(f"give one finite coefficient per frame ({len(self.energy)}), not {coefficients!r:.80}")
        return Difference(float(c @ self.energy), float(np.sqrt(max(c @ self.covariance @ c, 0.0))))

    def difference(self, final: int, initial: int) -> Difference:
        """Difference E[final] - E[initial] with its standard deviation (eV)."""
        c = np.zeros(len(self.energy))
        c[final] += 1.0
        c[initial] -= 1.0
        return self.combination(c)


def joint_energies(potential: Potential, frames: Sequence[ase.Atoms], include_noise: bool = True) -> JointEnergies:
    r"""Energies of ``frames`` with their joint error.

    The function's covariance is :math:`a \rho + \lambda^2 \omega`, each factor that of the frame's energy group, with
    the prior's cross kernel in rho, as samples of the function have it (``predict`` says less of a frame where its
    error model does); that of an exact mean has the variances of its error model. A new label's error is mostly what
    the model cannot express of a frame. Held-out errors of differences of energies have, like those of energies, a mean
    square in proportion to the posterior variance of the difference (docs/apps/kinetics.md has the measurement). With T
    the standard deviations of new labels and V the covariance from which the error model takes variances
    (:meth:`gapkit.uncertainty.recalibration.ErrorModel.joint`; without an error model the function's), the covariance
    is :math:`T_i T_j\,\mathrm{corr}(V)_{ij}\,\mathrm{corr}(\rho)_{ij}`, positive semidefinite by Schur's theorem.
    The second correlation counts where sparse points are few: two frames share what no sparse point explains only as
    far as it is the same in both. The difference of a frame with itself has no error. Reference energies that nothing
    determines (:mod:`gapkit.structures.reference_energies`) add their covariance.

    Raises
    ------
    SpeciesError, DataError, NumericsError
        As the potential's ``structure`` and ``evaluate``, naming the frame.
    """
    frames = list(frames)
    if not frames:
        raise DataError("there are no frames; give at least one")
    structures = [potential.structure(atoms, f"frame {k}") for k, atoms in enumerate(frames)]
    energy = np.array([p.energy for p in potential.evaluate_many(frames)])
    recalibration = potential.errors.recalibration
    model = recalibration.models.get("energy") if include_noise and recalibration is not None else None
    with limited_threads(potential.n_jobs), blas_threads(thread_count()):
        K = np.vstack([potential.basis.rows(s, derivatives=False, prior=False).K for s in structures])
        prior, hidden = (
            (energy_covariances(potential.basis, structures), None)
            if model is None
            else split_energy_covariances(potential.basis, structures)
        )
        residual, weights = potential.posterior.covariances(potential.basis.whiten(K), prior)
    config_types = [_config_type(a) for a in frames]
    groups = [potential.calibration.of("energy", name) for name in config_types]
    ratio = _variance_ratios(potential, structures, config_types)
    by_residual = np.sqrt([g.residual_scale for g in groups] * ratio)
    by_weights = np.sqrt([g.weight_scale for g in groups] * ratio)
    stated = residual * np.outer(by_residual, by_residual)
    covariance = stated + weights * np.outer(by_weights, by_weights)
    variance = np.diagonal(covariance).copy()
    share = np.divide(np.diagonal(stated), variance, out=np.zeros_like(variance), where=variance > 0)
    loadings = np.array([potential.reference.loadings(s) for s in structures])
    if include_noise:
        sigma = np.array([g.noise * np.sqrt(len(a)) for g, a in zip(groups, frames, strict=True)])
        std = np.sqrt(variance + sigma**2)
        if model is not None and hidden is not None:
            both = zip(frames, structures, strict=True)
            std = np.array([potential.standard_deviations(a, structure=s, forces=False).energy for a, s in both])
            std = np.sqrt(std**2 - np.sum(loadings**2, axis=1))
            sizes, unseen = np.array([len(a) for a in frames]), hidden @ potential.posterior.signal**2
            covariance = model.joint(residual, weights, unseen, sizes)
        covariance = np.outer(std, std) * _correlation(covariance) * _correlation(residual)
    return JointEnergies(energy, covariance + loadings @ loadings.T, share)


def _variance_ratios(
    potential: Potential, structures: Sequence[Structure], config_types: Sequence[str | None]
) -> np.ndarray:
    """Factor on the stated variance of every frame's energy (``LabelErrors.variance_ratio``)."""
    if not potential.mean_points:
        return np.ones(len(structures))
    parts = [potential.variance_parts(s, derivatives=False).of_labels("energy", s.n_atoms) for s in structures]
    return np.concatenate(
        [potential.errors.variance_ratio("energy", p, name) for p, name in zip(parts, config_types, strict=True)]
    )


def _config_type(atoms: ase.Atoms) -> str | None:
    name = atoms.info.get("config_type")
    return None if name is None else str(name)


def _correlation(covariance: np.ndarray) -> np.ndarray:
    """Correlation matrix; ones on the diagonal also where a variance is zero."""
    std = np.sqrt(np.diagonal(covariance))
    product = np.outer(std, std)
    correlation = np.divide(covariance, product, out=np.zeros_like(covariance), where=product > 0)
    np.fill_diagonal(correlation, 1.0)
    return np.clip(correlation, -1.0, 1.0)
