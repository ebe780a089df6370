r"""Joint covariance of the elements of a Hessian, in closed form.

With :math:`u_i = M^{-1/2} e_i` of the mass-weighted modes e_i, the element :math:`K_{ij} = u_i^T H u_j` is the slope of
the gradient along :math:`u_j`: the difference of two gradients, and linear in the weights of the potential. Its row in
the design matrix is the same difference of rows,
:math:`a_{ij} = [g_i(x + h u_j) - g_i(x - h u_j)]/2h`, so that the posterior of the weights gives the covariance of all
elements, those off the diagonal included, without samples. From it follow, to first order, the errors of frequencies,
:math:`\delta \nu_i / \nu_i = \delta K_{ii} / 2 \kappa_i`, and of every function of them.

The covariance is that of the weights, times the factor by which the error model of energies exceeds it there. It holds
at a fixed geometry: the motion of the minimum is not in it, nor what no sparse point explains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.vibrations import NormalModes

#: largest displacement of an atom (A) in the differences of gradients
STEP = 0.005
#: modes beyond which the matrix of all elements would be too large; k modes have k (k + 1) / 2 elements
MOST_MODES = 60


@dataclass(frozen=True)
class HessianErrors:
    """Errors of the elements of a Hessian between normal modes.

    Attributes
    ----------
    curvature : (k,)
        Curvatures kappa of the mass-weighted modes (eV/A^2/amu), negative where imaginary.
    pairs : (p, 2) int
        Modes i <= j of each element, p = k (k + 1) / 2.
    half : (m, p)
        Columns whose products are the covariances of the elements, ((eV/A^2/amu)^2), of the function's weights.
    factor : float
        Variance of an error over that of the weights.
    """

    curvature: np.ndarray
    pairs: np.ndarray
    half: np.ndarray
    factor: float

    @property
    def covariance(self) -> np.ndarray:
        """Covariance (p, p) of the errors of the elements ((eV/A^2/amu)^2)."""
        return self.factor * (self.half.T @ self.half)

    @property
    def diagonal(self) -> np.ndarray:
        """Places (k,) of the elements K_ii among ``pairs``."""
        return np.flatnonzero(self.pairs[:, 0] == self.pairs[:, 1])

    @property
    def relative_covariance(self) -> np.ndarray:
        """Covariance (k, k) of the relative errors of the frequencies, delta nu / nu = delta K_ii / 2 kappa_i."""
        half = self.half[:, self.diagonal] / (2 * self.curvature)
        return self.factor * (half.T @ half)

    @property
    def coupling_std(self) -> np.ndarray:
        """Standard deviations (k, k) of K_ij over the root of kappa_i kappa_j: the strength of mixing of two modes."""
        k = len(self.curvature)
        i, j = self.pairs.T
        std = np.sqrt(self.factor * np.sum(self.half**2, axis=0) / np.abs(self.curvature[i] * self.curvature[j]))
        table = np.zeros((k, k))
        table[i, j] = table[j, i] = std
        return table


def hessian_errors(gap: GAP, modes: NormalModes) -> HessianErrors:
    """Errors of the Hessian of a structure, between its own modes.

    Parameters
    ----------
    gap
        The fitted model that the modes are of.
    modes
        At most 60.

    Raises
    ------
    DataError
        For more modes, or none.
    """
    k = len(modes.frequencies)
    if not 0 < k <= MOST_MODES:
        raise DataError(
            f"errors of Hessians are for 1 to {MOST_MODES} modes, not {k}: hold atoms that hardly matter (FixAtoms)"
        )
    basis, posterior = gap.potential_.basis, gap.potential_.posterior
    moves = modes.eigenvectors / np.sqrt(modes.masses)[:, None]
    with limited_threads(gap.potential_.n_jobs), blas_threads(thread_count()):
        here = basis.rows(basis.structure(modes.atoms), derivatives=False, prior=False).K
        slopes = np.array([_slopes(gap, modes, moves, j) for j in range(k)])  # (j, i, columns)
        rows = 0.5 * (slopes + slopes.swapaxes(0, 1))
        pairs = np.argwhere(np.triu(np.ones((k, k), dtype=bool)))
        half = posterior.half_rows(basis.whiten(rows[pairs[:, 0], pairs[:, 1]]))
        variance = posterior.weight_variance(basis.whiten(here))[0]
    factor = float(gap.joint_energies([modes.atoms]).std[0] ** 2 / variance)
    return HessianErrors(np.sign(modes.frequencies) * modes.angular_frequencies**2, pairs, half, factor)


def _slopes(gap: GAP, modes: NormalModes, moves: np.ndarray, j: int) -> np.ndarray:
    """Rows (k, columns) of the slopes along move j of the gradient along each move."""
    basis, n = gap.potential_.basis, len(modes.atoms)
    length = STEP / np.linalg.norm(moves[j], axis=1).max()
    gradients = []
    for sign in (1, -1):
        moved = modes.atoms.copy()
        moved.positions += sign * length * moves[j]
        rows = basis.rows(basis.structure(moved), prior=False).K[1 : 1 + 3 * n]
        gradients.append(moves.reshape(len(moves), -1) @ rows)
    return (gradients[0] - gradients[1]) / (2 * length)
