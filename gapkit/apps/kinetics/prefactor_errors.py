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

from collections.abc import Sequence

import ase
import numpy as np
from ase import units

from gapkit.checks import check_positive
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
    rows = _rows(gap, [minimum, saddle], [None, None])
    return float(np.sqrt(np.array([1.0, -1.0]) @ _covariance(gap, [minimum, saddle], rows) @ np.array([1.0, -1.0])))


def vibrational_covariance(gap: GAP, modes: Sequence[NormalModes], temperature: float) -> np.ndarray:
    r"""Covariance (p, p) of the errors of vibrational free energies (eV^2) of several structures, quantum oscillators.

    :math:`\delta F = \sum_k \hbar\omega_k (\tfrac12 + n_k)\,\delta\kappa_k/2\kappa_k` over the real modes, n the mean
    number of quanta at the temperature (K); classical modes have :math:`k_B T` in place of the first factor.

    Parameters
    ----------
    gap
        The fitted model that the modes were found with.
    modes
        Of minima and saddles.
    temperature : float, K
    """
    kT = units.kB * check_positive("temperature", temperature, "K")
    quanta = [np.abs(m.energies) for m in modes]
    weights = [q * (0.5 + 1.0 / np.expm1(q / kT)) for q in quanta]
    return _covariance(gap, modes, _rows(gap, modes, weights))


def _covariance(gap: GAP, modes: Sequence[NormalModes], rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Covariance (p, p) of the functionals of ``rows``, each with the factor of its structure."""
    combined, here = rows
    basis, posterior = gap.potential_.basis, gap.potential_.posterior
    with limited_threads(gap.potential_.n_jobs), blas_threads(thread_count()):
        half = posterior.half_rows(basis.whiten(combined))
        variance = posterior.weight_variance(basis.whiten(here))
    factor = np.sqrt(np.max(gap.joint_energies([m.atoms for m in modes]).std ** 2 / variance))
    return CURVATURE**2 * factor**2 * (half.T @ half)


def _rows(
    gap: GAP, modes: Sequence[NormalModes], weights: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (p, m) of half the weighted sums of ln kappa over the real modes, to first order, and of the energies."""
    basis = gap.potential_.basis

    def row(atoms: ase.Atoms) -> np.ndarray:
        return basis.rows(basis.structure(atoms), derivatives=False, prior=False).K[0]

    combined, here = [], []
    for one, weight in zip(modes, weights, strict=True):
        at_rest = row(one.atoms)
        total = np.zeros_like(at_rest)
        stiffness = one.force_constants  # those of displacements of unit length
        for k in np.flatnonzero(~one.imaginary).tolist():
            length = STEP / np.linalg.norm(one.displacements[k], axis=1).max()
            second = (row(one.displaced(k, STEP)) - 2 * at_rest + row(one.displaced(k, -STEP))) / length**2
            total += (1.0 if weight is None else weight[k]) * 0.5 * second / stiffness[k]
        combined.append(total)
        here.append(at_rest)
    return np.array(combined), np.array(here)
