r"""Errors that a barrier has because its two stationary points are those of the model, not of the reference.

At a stationary point of the model the reference has a force f, the model's force error. With the Hessian H, the
reference's own stationary point lies :math:`-\tfrac12 f^T H^{-1} f` away in energy, to second order. The stated
covariance S of force errors gives this energy the mean :math:`-\tfrac12 \mathrm{tr}(H^{-1}S)` and, for Gaussian errors,
the variance :math:`\tfrac12 \mathrm{tr}(H^{-1}S\,H^{-1}S)` (Mathai and Provost, Quadratic Forms in Random Variables
(1992), section 3.2b). Errors of different components are taken as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.estimators.gap import GAP
from gapkit.vibrations import Hessian

#: curvatures (eV/A^2) below this size say nothing of where a stationary point is
SOFTEST = 0.05


@dataclass(frozen=True)
class PointMotion:
    """Energy by which the reference's stationary point differs from its energy at the model's.

    Attributes
    ----------
    shift, shift_std : float, eV
        Mean and standard deviation.
    largest_move : float, A
        Largest standard deviation of the displacement along a mode.
    """

    shift: float
    shift_std: float
    largest_move: float


def point_motion(hessian: Hessian, forces_std: np.ndarray) -> PointMotion:
    """Motion of a stationary point under the stated errors of forces.

    Parameters
    ----------
    hessian
        At the point.
    forces_std : (n, 3) eV/A
        Standard deviations of the forces of all atoms, as new labels.
    """
    variance = np.asarray(forces_std)[hessian.indices].ravel() ** 2
    curvature, modes = np.linalg.eigh(hessian.matrix)
    along = (modes**2).T @ variance
    kept = np.abs(curvature) > SOFTEST
    curvature, along, modes = curvature[kept], along[kept], modes[:, kept]
    inverse = (modes / curvature) @ modes.T
    both = inverse * variance
    return PointMotion(
        float(-0.5 * np.sum(along / curvature)),
        float(np.sqrt(0.5 * np.sum(both * both.T))),
        float(np.sqrt(np.max(along / curvature**2, initial=0.0))),
    )


def errors_of_points(
    gap: GAP, points: Sequence[ase.Atoms], hessians: Sequence[Hessian]
) -> tuple[list[PointMotion], np.ndarray]:
    """Motion of stationary points of a potential under its stated errors of forces, and their domain excess (p,)."""
    predicted = gap.predict(points, uncertainty="full")
    assert predicted.forces_std is not None and predicted.local_energy_std is not None
    motion = [point_motion(h, s) for h, s in zip(hessians, predicted.forces_std, strict=True) if s is not None]
    potential = gap.potential_
    excess = [
        potential.domain_excess(potential.structure(atoms), std, True).ratio
        for atoms, std in zip(points, predicted.local_energy_std, strict=True)
    ]
    return motion, np.array(excess)


def residual_shift(hessian: Hessian, forces: np.ndarray) -> tuple[float, float]:
    r"""Energy of the reference's stationary point less its energy at a frame that it has labelled, with its error (eV).

    The label's force f at the frame is small, and the stationary point lies :math:`-\tfrac12 f^T H^{-1} f` away in
    energy, to second order. The Hessian is the model's, so the error is stated as large as the shift itself without
    its signs, :math:`\tfrac12 \sum_k (f \cdot v_k)^2 / |\lambda_k|` over the modes v_k, with curvatures of at least
    :data:`SOFTEST`.

    Parameters
    ----------
    hessian
        Of the model, at the frame.
    forces : (n, 3) eV/A
        Label of the reference at the frame.

    Examples
    --------
    >>> import ase
    >>> from gapkit.vibrations import given_hessian
    >>> spring = given_hessian(ase.Atoms("H"), np.diag([2.0, 4.0, -1.0]))
    >>> residual_shift(spring, np.array([[0.2, 0.0, 0.1]]))
    (-0.005000000000000001, 0.015000000000000003)
    """
    curvature, modes = np.linalg.eigh(hessian.matrix)
    squared = (modes.T @ np.asarray(forces)[hessian.indices].ravel()) ** 2
    kept = np.abs(curvature) > SOFTEST
    shift = -0.5 * np.sum(squared[kept] / curvature[kept])
    return float(shift), float(0.5 * np.sum(squared / np.maximum(np.abs(curvature), SOFTEST)))
