"""Diffusion on periodic graphs of sites: exactly from the rates, and by kinetic Monte Carlo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu, spsolve

from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.randomness import generator_of


@dataclass(frozen=True)
class SiteGraph:
    """Hops of one walker between the sites of a periodic cell.

    Attributes
    ----------
    n_sites : int
    start, end : (h,) int
        Sites of each hop, in one direction; the way back is a hop of its own.
    displacement : (h, 3) A
        Vector of each hop, across faces of the cell where it leaves it.
    rate : (h,) 1/fs
        Rates, all positive.
    """

    n_sites: int
    start: np.ndarray
    end: np.ndarray
    displacement: np.ndarray
    rate: np.ndarray

    def __post_init__(self) -> None:
        h = len(self.rate)
        if self.n_sites < 1 or h < 1:
            raise DataError(f"a site graph needs sites and hops, not {self.n_sites} and {h}")
        if np.shape(self.start) != (h,) or np.shape(self.end) != (h,) or np.shape(self.displacement) != (h, 3):
            raise DataError(f"{h} rates need as many starts, ends and displacements (h, 3)")
        for name in ("start", "end"):
            sites = getattr(self, name)
            if sites.min() < 0 or sites.max() >= self.n_sites:
                raise DataError(f"{name} of a hop is no site from 0 to {self.n_sites - 1}")
        if not (np.isfinite(self.rate).all() and (self.rate > 0).all() and np.isfinite(self.displacement).all()):
            raise DataError("rates must be positive and finite, and displacements finite: leave out what never happens")

    def occupation(self) -> np.ndarray:
        """Stationary probabilities (n_sites,) of the walker.

        Raises
        ------
        DataError
            Where not every site can be reached from every other one.
        """
        pieces, _ = csgraph.connected_components(self._generator(), directed=True, connection="strong")
        if pieces > 1:
            raise DataError(f"the sites fall into {pieces} groups without a way there and back: treat them apart")
        if self.n_sites == 1:
            return np.ones(1)
        balance = self._generator().T.tocsc()
        rest = spsolve(balance[:-1, :-1], -balance[:-1, -1].toarray().ravel())
        found = np.r_[np.atleast_1d(rest), 1.0]
        if not np.isfinite(found).all() or found.min() < -1e-9 * found.max():
            raise NumericsError("stationary probabilities came out negative: rates span too many orders of magnitude")
        return found / found.sum()

    def _generator(self) -> sparse.csr_matrix:
        """Matrix (n, n) of the rates from row to column, with rows that sum to zero."""
        n = self.n_sites
        matrix = sparse.coo_matrix((self.rate, (self.start, self.end)), shape=(n, n)).tocsr()
        return (matrix - sparse.diags(np.asarray(matrix.sum(axis=1)).ravel())).tocsr()

    def drift(self) -> np.ndarray:
        """Mean velocity (3; A/fs); zero where hops obey detailed balance without a field."""
        return (self.occupation()[self.start] * self.rate) @ self.displacement

    def diffusion(self) -> np.ndarray:
        """Exact diffusion tensor (3, 3; A^2/fs) of the walker at long times.

        With g that solves sum_j k_ij (d_ij + g_j - g_i) = v for every site, position plus g is v t and a martingale, so
        that D = 1/2 sum_ij p_i k_ij (d_ij + g_j - g_i)(d_ij + g_j - g_i)^T (Kipnis, Varadhan, Commun. Math. Phys. 104,
        1 (1986); the correction for correlated hops of Allnatt and Lidiard, Atomic Transport in Solids (1993), ch. 6,
        in another form). The part of D from uncorrelated hops has g = 0.

        Raises
        ------
        DataError
            Where not every site can be reached from every other one.

        Examples
        --------
        >>> chain = SiteGraph(1, np.zeros(2, int), np.zeros(2, int), np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.ones(2))
        >>> chain.diffusion()[0].tolist()
        [1.0, 0.0, 0.0]
        """
        probability = self.occupation()
        flow = probability[self.start] * self.rate
        force = np.zeros((self.n_sites, 3))
        np.add.at(force, self.start, self.rate[:, None] * self.displacement)
        corrector = np.zeros((self.n_sites, 3))
        if self.n_sites > 1:
            rest = flow @ self.displacement - force
            corrector[:-1] = splu(self._generator().tocsc()[:-1, :-1]).solve(rest[:-1])
        step = self.displacement + corrector[self.end] - corrector[self.start]
        return 0.5 * np.einsum("h,ha,hb->ab", flow, step, step)

    def uncorrelated_diffusion(self) -> np.ndarray:
        """Diffusion tensor (3, 3; A^2/fs) if each hop were independent of the last: 1/2 sum p_i k_ij d_ij d_ij^T."""
        flow = self.occupation()[self.start] * self.rate
        return 0.5 * np.einsum("h,ha,hb->ab", flow, self.displacement, self.displacement)

    def walk(
        self,
        times: np.ndarray,
        n_walkers: int = 100,
        random_state: int | np.random.Generator | None = None,
    ) -> np.ndarray:
        """Positions (T, n_walkers, 3; A) of independent walkers at ``times`` (fs), from stationary sites.

        Kinetic Monte Carlo (Bortz, Kalos, Lebowitz, J. Comput. Phys. 17, 10 (1975)), in compiled code.

        Raises
        ------
        SettingsError
            For times that do not rise from at least 0, or no walker.
        """
        times = _rising(times)
        if n_walkers < 1:
            raise SettingsError(f"n_walkers must be at least 1, not {n_walkers}")
        rng = generator_of(random_state)
        first = rng.choice(self.n_sites, size=n_walkers, p=self.occupation())
        order = np.argsort(self.start, kind="stable")
        begin = np.searchsorted(self.start[order], np.arange(self.n_sites + 1))
        cumulative = np.cumsum(self.rate[order])
        cumulative -= np.r_[0.0, cumulative][begin[self.start[order]]]
        return _walks(
            times, first, begin, self.end[order].astype(np.int64), np.ascontiguousarray(self.displacement[order]),
            cumulative, rng,
        )  # fmt: skip


def _rising(times: np.ndarray) -> np.ndarray:
    """Times (T,), checked to rise from at least 0."""
    found = np.ascontiguousarray(times, dtype=float)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all() or found[0] < 0 or (np.diff(found) <= 0).any():
        raise SettingsError("times must be finite and rise from at least 0")
    return found


@njit(cache=True, nogil=True)
def _walks(times, first, begin, end, displacement, cumulative, rng):
    """See :meth:`SiteGraph.walk`; hops are sorted by their start, ``cumulative`` are sums of rates of one start."""
    out = np.empty((len(times), len(first), 3))
    for w in range(len(first)):
        site, now, k = first[w], 0.0, 0
        x = np.zeros(3)
        while k < len(times):
            low, high = begin[site], begin[site + 1]
            total = cumulative[high - 1]
            now += rng.exponential() / total
            while k < len(times) and times[k] < now:
                out[k, w] = x
                k += 1
            hop = low + np.searchsorted(cumulative[low:high], rng.random() * total, side="right")
            hop = min(hop, high - 1)
            x += displacement[hop]
            site = end[hop]
    return out


def lattice_graph(shape: tuple[int, int, int], vectors: np.ndarray, cell: np.ndarray, rate: float = 1.0) -> SiteGraph:
    """Graph of a Bravais lattice with periodic boundaries.

    Parameters
    ----------
    shape
        Number of primitive cells along each axis.
    vectors : (z, 3) int
        Hops in units of the primitive vectors.
    cell : (3, 3) A
        Primitive vectors, row by row.
    rate
        Of each hop (1/fs).
    """
    size = np.asarray(shape)
    sites = np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"), axis=-1).reshape(-1, 3)
    ends = (sites[:, None] + vectors) % size
    start = np.repeat(np.arange(len(sites)), len(vectors))
    return SiteGraph(
        n_sites=len(sites),
        start=start,
        end=np.ravel_multi_index(ends.reshape(-1, 3).T, shape),
        displacement=np.tile(vectors @ cell, (len(sites), 1)).astype(float),
        rate=np.full(len(start), float(rate)),
    )


#: primitive vectors of the face-centred cubic lattice of lattice constant 1, and hops to the twelve neighbours
FCC_CELL = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
FCC_HOPS = np.array(
    [v for v in np.ndindex(3, 3, 3) if abs(np.linalg.norm((np.array(v) - 1) @ FCC_CELL) - np.sqrt(0.5)) < 1e-9]
) - 1  # fmt: skip


def tracer_vacancy_graph(lattice: SiteGraph) -> SiteGraph:
    """Graph of the pair of one tracer atom and one vacancy on a lattice; its walker is the tracer.

    A state is the place of the vacancy relative to the tracer. A hop of the vacancy moves it to another place; a hop
    into the tracer exchanges the two, which moves the tracer along the hop and the vacancy to the opposite place.

    Parameters
    ----------
    lattice
        Bravais lattice from :func:`lattice_graph`, with hops along every vector and its opposite.
    """
    z = len(lattice.rate) // lattice.n_sites
    ends, vectors = lattice.end.reshape(-1, z), lattice.displacement[:z]
    opposite = np.array([int(np.argmin(np.linalg.norm(vectors + v, axis=1))) for v in vectors])
    start, end, moved = [], [], []
    for site in range(1, lattice.n_sites):  # site 0 is the tracer
        for k in range(z):
            exchange = ends[site, k] == 0
            start.append(site)
            end.append(ends[0, k] if exchange else ends[site, k])
            moved.append(vectors[opposite[k]] if exchange else np.zeros(3))
    return SiteGraph(
        lattice.n_sites - 1, np.array(start) - 1, np.array(end) - 1, np.array(moved),
        np.tile(lattice.rate[:z], lattice.n_sites - 1),
    )  # fmt: skip


def tracer_correlation_factor(lattice: SiteGraph) -> float:
    """Correlation factor of tracer diffusion by one vacancy on a periodic lattice, exactly.

    The diffusion constant over that of uncorrelated hops: 0.78146 for the infinite face-centred cubic lattice (Montet,
    Phys. Rev. B 7, 650 (1973)); a periodic lattice of N sites differs by a term in 1/N.

    Examples
    --------
    >>> round(tracer_correlation_factor(lattice_graph((4, 4, 4), FCC_HOPS, FCC_CELL)), 4)
    0.7992
    """
    pair = tracer_vacancy_graph(lattice)
    return float(np.trace(pair.diffusion()) / np.trace(pair.uncorrelated_diffusion()))


@dataclass(frozen=True)
class VacancyWalk:
    """Kinetic Monte Carlo of one vacancy on a lattice full of labelled atoms.

    Attributes
    ----------
    time : float
        Length of each run (fs).
    correlation_factor, correlation_factor_std : float
        Tracer correlation factor, and its standard deviation over runs.
    tracer_diffusion : (R,) A^2/fs
        Diffusion constants of the atoms in each run.
    """

    time: float
    correlation_factor: float
    correlation_factor_std: float
    tracer_diffusion: np.ndarray


def vacancy_walk(
    lattice: SiteGraph, hops: int, n_runs: int = 8, random_state: int | np.random.Generator | None = None
) -> VacancyWalk:
    """Walk one vacancy through a lattice, and measure how far the atoms get.

    Parameters
    ----------
    lattice
        Lattice whose hops have one rate, with equally many hops from each site.
    hops
        Hops of the vacancy in each run.

    Raises
    ------
    SettingsError
        For a lattice of several rates; for fewer than one hop or two runs.
    """
    z = len(lattice.rate) // lattice.n_sites
    if (
        np.ptp(lattice.rate) > 1e-12 * lattice.rate[0]
        or (lattice.start != np.repeat(np.arange(lattice.n_sites), z)).any()
    ):
        raise SettingsError("the vacancy walks on lattices of one rate, with equally many hops from each site")
    if hops < 1 or n_runs < 2:
        raise SettingsError(f"hops must be at least 1 and n_runs at least 2, not {hops} and {n_runs}")
    rng = generator_of(random_state)
    ends, vectors = lattice.end.reshape(-1, z), np.ascontiguousarray(lattice.displacement[:z])
    squares = np.array([_vacancy(ends, vectors, hops, rng) for _ in range(n_runs)])
    length = float((vectors[0] ** 2).sum())
    factor = squares / (hops * length)  # each hop of the vacancy is one of an atom
    time = hops / (z * float(lattice.rate[0]))
    return VacancyWalk(
        time=time,
        correlation_factor=float(factor.mean()),
        correlation_factor_std=float(factor.std(ddof=1) / np.sqrt(n_runs)),
        tracer_diffusion=squares / (lattice.n_sites - 1) / (6 * time),
    )


@njit(cache=True, nogil=True)
def _vacancy(ends, vectors, hops, rng):
    """Sum over atoms of their squared displacements after some hops of the vacancy, which begins at site 0."""
    n, z = ends.shape
    atom = np.arange(n) - 1
    x = np.zeros((n - 1, 3))
    vacancy = 0
    for _ in range(hops):
        k = int(rng.random() * z)
        site = ends[vacancy, k]
        x[atom[site]] -= vectors[k]
        atom[vacancy] = atom[site]
        atom[site] = -1
        vacancy = site
    return (x**2).sum()
