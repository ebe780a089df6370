r"""Error of Vineyard's prefactor from the posterior of the potential.

With the curvatures :math:`\kappa` of the mass-weighted modes, :math:`\ln \nu^* = \tfrac12 \sum_{min} \ln \kappa_k -
\tfrac12 \sum_{saddle}' \ln \kappa_k - \ln 2\pi` (Vineyard, J. Phys. Chem. Solids 3, 121 (1957), eq. 7; the sum over the
saddle leaves out the mode along the path). To first order in the errors of the Hessians

.. math:: \delta \ln \nu^* = \frac12 \sum_k \frac{u_k^T\,\delta H_{min}\,u_k}{\kappa_k}
    - \frac12 \sum_k{}' \frac{u_k^T\,\delta H_{saddle}\,u_k}{\kappa_k}, \qquad u_k = M^{-1/2} e_k,

a linear combination of second differences of energies along the modes, and so of rows of the design matrix: the
variance that the data leave in it is a quadratic form of the posterior. The error model of energies turns such a
variance into that of an error; curvatures have a factor of their own.
"""

from __future__ import annotations

import ase
import numpy as np

from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.vibrations import NormalModes

#: error of a curvature over the standard deviation that the error law of energies gives it: root mean square over 27
#: left-out hops of copper and nickel (benchmarks/barriers.py)
CURVATURE = 2.6
#: largest displacement of an atom (A) in the second differences
STEP = 0.02


def log_prefactor_std(gap: GAP, minimum: NormalModes, saddle: NormalModes) -> float:
    """Standard deviation of the logarithm of Vineyard's prefactor.

    What no sparse point explains is left out, because it is small where a point is in the domain.

    Parameters
    ----------
    gap
        The fitted model that both were found with.
    minimum, saddle
        Modes of the minimum and of the saddle.

    Raises
    ------
    DataError
        For a minimum with imaginary modes, or a saddle without exactly one.
    """
    if minimum.n_imaginary or saddle.n_imaginary != 1:
        raise DataError(
            f"a prefactor needs a minimum and a saddle with one imaginary mode, not {minimum.n_imaginary} and "
            f"{saddle.n_imaginary} imaginary modes: relax and refine them"
        )
    potential = gap.potential_
    factors = []
    joint = gap.joint_energies([minimum.atoms, saddle.atoms])
    with limited_threads(potential.n_jobs), blas_threads(thread_count()):
        rows = [_log_curvatures(gap, modes) for modes in (minimum, saddle)]
        combination, points = rows[0][0] - rows[1][0], [r[1] for r in rows]
        A = potential.basis.whiten(np.vstack([combination, *points]))
        variance = potential.posterior.weight_variance(A)
    factors = joint.std**2 / variance[1:]
    return float(CURVATURE * np.sqrt(factors.max() * variance[0]))


def _log_curvatures(gap: GAP, modes: NormalModes) -> tuple[np.ndarray, np.ndarray]:
    """Row (m,) of half the sum of ln kappa over the real modes, to first order, and the row of the energy."""
    basis = gap.potential_.basis

    def row(atoms: ase.Atoms) -> np.ndarray:
        return basis.rows(basis.structure(atoms), derivatives=False, prior=False).K[0]

    here = row(modes.atoms)
    total = np.zeros_like(here)
    stiffness = modes.force_constants  # those of displacements of unit length
    for k in np.flatnonzero(~modes.imaginary).tolist():
        length = STEP / np.linalg.norm(modes.displacements[k], axis=1).max()
        second = (row(modes.displaced(k, STEP)) - 2 * here + row(modes.displaced(k, -STEP))) / length**2
        total += 0.5 * second / stiffness[k]
    return total, here
