"""Growth models with known answers, with which ``tests/apps/growth/test_simulation.py`` compares the event loop."""

from __future__ import annotations

import numpy as np
from ase.units import kB
from scipy.special import gammaln

from gapkit.apps.growth.lattice_barriers import COUNTS, LatticeBarriers


def no_hops(leaving: float = np.inf) -> LatticeBarriers:
    """Barriers of independent columns: atoms stay, or leave at the cost of ``leaving`` (eV)."""
    return LatticeBarriers(np.full(len(COUNTS), np.inf), 0.0, 0.0, leaving)


def poisson_layers(coverage: float, n: int) -> np.ndarray:
    """Share (n,) of columns of height 0 to n - 1 after random deposition of ``coverage`` layers: Poisson's law.

    Examples
    --------
    >>> poisson_layers(1.0, 3).round(4).tolist()
    [0.3679, 0.3679, 0.1839]
    """
    k = np.arange(n)
    return np.exp(k * np.log(coverage) - coverage - gammaln(k + 1))


def random_deposition_roughness(coverage: float) -> float:
    """Roughness (layers) of random deposition: the standard deviation of Poisson's law (Barabasi and Stanley, Fractal
    Concepts in Surface Growth (1995), eq. 4.5)."""
    return float(np.sqrt(coverage))


def bare_share(flux: float, leaving_rate: float) -> float:
    """Share of bare columns where atoms arrive at ``flux`` and leave one by one at ``leaving_rate`` (1/s): the
    stationary state of a birth and death chain, ``1 - flux / leaving_rate``; a column is bare or covered."""
    return 1.0 - flux / leaving_rate


def bound_share(size: int, bond: float, second_bond: float, temperature: float) -> float:
    """Probability that two adatoms on a bare periodic field are nearest neighbours in a layer: bound or free, by
    Boltzmann's law over the 2 N bound pairs, the 2 N second neighbours, the other pairs of the N (N - 1) / 2, and the N
    states with one atom on top of the other. Bonds in eV, temperature in K."""
    n = size**2
    bound = 2 * n * np.exp(bond / (kB * temperature))
    second = 2 * n * np.exp(second_bond / (kB * temperature))
    return float(bound / (bound + second + n * (n - 1) / 2 - 4 * n + n))


def diffusion_constant(barrier: float, temperature: float, prefactor: float) -> float:
    """Tracer diffusion constant (columns squared per second) of one adatom that hops to its four neighbours:
    ``<r^2> = 4 D t`` with D the rate of one hop.

    Examples
    --------
    >>> round(diffusion_constant(barrier=0.5, temperature=300.0, prefactor=1e13))
    39844
    """
    return float(prefactor * np.exp(-barrier / (kB * temperature)))
