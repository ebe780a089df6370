r"""Distances between environments in closed form, and a bound that every standard deviation obeys.

With ``l_max = 0`` SOAP knows of an environment only how its density overlaps with n_max radial Gaussians
:math:`\phi_k(r) = e^{-\alpha_k r^2}`. Its kernel depends on the span of these functions alone: with the overlaps
:math:`b_k = \int \rho\, \phi_k`, the Gram matrix S and :math:`\langle b, b' \rangle = b^T S^{-1} b'`,

.. math:: k = \Big(\frac{\langle b, b' \rangle^2}{\langle b, b \rangle \langle b', b' \rangle}\Big)^\zeta

All integrals are those of two Gaussians, so that the distance of a scaled crystal from its origin is known without any
radial table, recursion or power spectrum.
"""

from __future__ import annotations

import ase
import numpy as np
from ase.neighborlist import neighbor_list

#: the Gaussians fall to this share at radii spread evenly from 1 A to the cutoff (dscribe's GTO basis)
THRESHOLD = 1e-3
INNERMOST = 1.0


def radial_overlaps(atoms: ase.Atoms, atom: int, r_cut: float, n_max: int, sigma: float) -> np.ndarray:
    """Overlaps (n_max,) of the smoothed density around an atom of an elemental frame with the radial Gaussians.

    The density is a Gaussian of width ``sigma`` (A) on the atom and on each neighbour within ``r_cut`` (A), weighted by
    ``1 + 2 (r/r_cut)^3 - 3 (r/r_cut)^2``.
    """
    i, distances = neighbor_list("id", atoms, r_cut)
    r = np.append(distances[i == atom], 0.0)
    weight = 1 + 2 * (r / r_cut) ** 3 - 3 * (r / r_cut) ** 2
    alpha, gamma = _exponents(r_cut, n_max), 1 / (2 * sigma**2)
    total = alpha[:, None] + gamma
    return ((np.pi / total) ** 1.5 * np.exp(-alpha[:, None] * gamma / total * r**2)) @ weight


def _exponents(r_cut: float, n_max: int) -> np.ndarray:
    return -np.log(THRESHOLD) / np.linspace(INNERMOST, r_cut, n_max) ** 2


def radial_distance(
    first: ase.Atoms, second: ase.Atoms, *, r_cut: float, n_max: int, sigma: float, zeta: int, atom: int = 0
) -> float:
    """Kernel distance between the environments of ``atom`` in two elemental frames, for SOAP with ``l_max = 0``."""
    a, b = (radial_overlaps(x, atom, r_cut, n_max, sigma) for x in (first, second))
    alpha = _exponents(r_cut, n_max)
    gram = (np.pi / (alpha[:, None] + alpha[None, :])) ** 1.5
    aa, bb, ab = (u @ np.linalg.solve(gram, v) for u, v in ((a, a), (b, b), (a, b)))
    return float(np.sqrt(max(2 - 2 * (ab**2 / (aa * bb)) ** zeta, 0.0)))


def std_ceiling(std: np.ndarray, distance: np.ndarray, prior_std: float) -> np.ndarray:
    r"""Largest standard deviation (eV) of an environment at a kernel ``distance`` from one whose own is ``std``.

    A posterior covariance is at most its prior, so :math:`\mathrm{sd}(f(x) - f(y)) \le \delta d(x, y)`, and standard
    deviations obey the triangle inequality. ``prior_std``: delta (eV), that of the local function. Exact for a process
    of one SOAP term, whose sparse approximation keeps the Nystrom residual.

    Examples
    --------
    >>> float(std_ceiling(0.01, distance=0.5, prior_std=0.2).round(3))
    0.11
    """
    return np.asarray(std) + prior_std * np.asarray(distance)
