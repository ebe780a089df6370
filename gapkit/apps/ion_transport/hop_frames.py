"""Hops of point defects in a crystal: pairs of sites, the different kinds among them, and frames of both ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.apps.ion_transport.site_graphs import SiteGraph
from gapkit.checks import check_count
from gapkit.exceptions import DataError, SettingsError
from gapkit.structures.neighbours import Neighbours, neighbours

#: distances (A) of one shell lie closer to each other than this
_SHELL_GAP = 0.1
#: radius (A) about the middle of a hop, beyond half of its length, within which atoms tell kinds of hops apart
_SURROUNDINGS = 3.5
#: width (A) of the smeared distances that describe the surroundings of a hop
_WIDTH = 0.4
#: relative difference of two descriptions up to which hops are of one kind
_ALIKE = 1e-3


@dataclass(frozen=True)
class Hop:
    """One kind of hop of a defect.

    Attributes
    ----------
    initial, final : ase.Atoms
        Frames with the defect before and after the hop, not relaxed; atoms keep their order.
    distance : float, A
        Length of the defect's step.
    per_site : float
        Number of hops of this kind that leave a site, mean over the sites.
    """

    initial: ase.Atoms
    final: ase.Atoms
    distance: float
    per_site: float


@dataclass(frozen=True)
class HopNetwork:
    """All hops of one defect in a periodic crystal.

    Attributes
    ----------
    defect : str
        ``"vacancy"``, ``"interstitial"`` or ``"interstitialcy"``.
    species : str
        Chemical symbol of the atoms that move.
    crystal : ase.Atoms
        The perfect crystal.
    sites : (s, 3) A
        Places of the defect.
    kinds : tuple of Hop
        One for each kind of hop.
    start, end, kind : (h,) int
        Sites and kind of each hop, sorted by site and then in one order of the displacements.
    displacement : (h, 3) A
    """

    defect: str
    species: str
    crystal: ase.Atoms
    sites: np.ndarray
    kinds: tuple[Hop, ...]
    start: np.ndarray
    end: np.ndarray
    kind: np.ndarray
    displacement: np.ndarray

    def graph(self, rates: Sequence[float] | np.ndarray) -> SiteGraph:
        """Site graph of the defect with one rate (1/fs) for each kind of hop."""
        values = np.asarray(rates, dtype=float)
        if values.shape != (len(self.kinds),):
            raise DataError(f"give {len(self.kinds)} rates, one for each kind of hop, not {values.shape}")
        return SiteGraph(len(self.sites), self.start, self.end, self.displacement, values[self.kind])

    @property
    def is_lattice(self) -> bool:
        """Whether the same hops leave every site: the sites form a Bravais lattice."""
        z, rest = divmod(len(self.start), len(self.sites))
        if rest or (self.start != np.repeat(np.arange(len(self.sites)), z)).any():
            return False
        vectors, kinds = self.displacement.reshape(-1, z, 3), self.kind.reshape(-1, z)
        return bool(np.abs(vectors - vectors[0]).max() < _SHELL_GAP and (kinds == kinds[0]).all())

    def repeated(self, n: int) -> HopNetwork:
        """Network in a crystal repeated ``n`` times along each axis; frames are left as they are."""
        shifts = np.array(list(np.ndindex(n, n, n)))
        cell = self.crystal.cell.array
        inside = np.linalg.solve(cell.T, (self.sites[self.start] + self.displacement - self.sites[self.end]).T).T
        across = np.rint(inside).astype(int)
        s = len(self.sites)
        ends = (shifts[:, None] + across) % n
        images = np.ravel_multi_index(tuple(np.moveaxis(ends, -1, 0)), (n, n, n))
        return HopNetwork(
            self.defect, self.species, self.crystal * (n, n, n),
            (self.sites[None] + (shifts @ cell)[:, None]).reshape(-1, 3), self.kinds,
            (s * np.arange(n**3)[:, None] + self.start).ravel(), (s * images + self.end).ravel(),
            np.tile(self.kind, n**3), np.tile(self.displacement, (n**3, 1)),
        )  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{self.defect} of {self.species}: {len(self.sites)} sites, kinds of hops: {len(self.kinds)}"]
        lines += [f"  {hop.distance:.3f} A, {hop.per_site:g} from a site" for hop in self.kinds]
        return "\n".join(lines)


def vacancy_hops(
    crystal: ase.Atoms,
    species: str,
    shells: int = 1,
    *,
    charge: float | None = None,
    without: Sequence[int] = (),
) -> HopNetwork:
    """Hops of an atom into a neighbouring vacancy of its own sublattice.

    The charge of the cell is the user's choice. Without ``charge`` and ``without`` the frames lack one atom, and
    nothing else is changed; this suits metals.

    Parameters
    ----------
    crystal
        Perfect crystal, periodic in all directions, large enough to hold the defect.
    species
        Chemical symbol of the atoms that move.
    shells
        Shells of neighbours of the same species to which the vacancy hops.
    charge : float, e, optional
        ``info["charge"]`` of the frames, for methods that add a compensating background.
    without
        Atoms of the crystal that are taken out of all frames too, such as a partner of opposite charge. Of the hops of
        a kind the one farthest from them is taken.

    Raises
    ------
    DataError
        For a crystal that is not periodic, has fewer than two atoms of the species, or is too small for the hops.
    SettingsError
        For atoms in ``without`` that do not exist.

    Examples
    --------
    >>> from ase.build import bulk
    >>> print(vacancy_hops(bulk("Al", cubic=True) * (2, 2, 2), "Al"))
    vacancy of Al: 32 sites, kinds of hops: 1
      2.864 A, 12 from a site
    """
    atoms = _periodic(crystal)
    absent = _existing(without, atoms)
    at = np.setdiff1d(np.flatnonzero(np.array(atoms.get_chemical_symbols()) == species), absent)
    if len(at) < 2:
        raise DataError(f"the crystal holds {len(at)} atoms of {species} that can move; a vacancy needs two")
    sites = atoms.positions[at]
    start, end, vectors = _pairs(atoms, sites, shells)

    def frames(h: int) -> tuple[ase.Atoms, ase.Atoms]:
        initial, final = _prepared(atoms, charge), _prepared(atoms, charge)
        # the vacancy goes from start to end, so that the atom at the end goes to the start
        final.positions[at[end[h]]] -= vectors[h]
        keep = np.setdiff1d(np.arange(len(atoms)), [*absent, at[start[h]]])
        return initial[keep], final[keep]

    return _network("vacancy", species, atoms, sites, (start, end, vectors), frames, absent)


def interstitial_hops(
    crystal: ase.Atoms,
    species: str,
    sites: np.ndarray,
    shells: int = 1,
    *,
    interstitialcy: bool = False,
    charge: float | None = None,
) -> HopNetwork:
    """Hops of an added atom from one interstitial site to the next.

    In an interstitialcy hop the added atom takes the place of an atom of its species that stands nearest to the middle
    of the two sites; that atom goes on to the second site.

    Parameters
    ----------
    crystal
        Perfect crystal, periodic in all directions.
    species
        Chemical symbol of the added atom.
    sites : (s, 3) A
        All interstitial sites of the cell.
    shells
        Shells of neighbouring sites to which the atom hops.
    interstitialcy
        Whether hops push an atom of the crystal on.
    charge : float, e, optional
        ``info["charge"]`` of the frames.

    Raises
    ------
    DataError
        For a crystal that is not periodic or too small, sites that coincide with atoms or each other, and
        interstitialcy hops without an atom of the species between the sites.

    Examples
    --------
    >>> from ase.build import bulk
    >>> crystal = bulk("Fe", cubic=True) * (3, 3, 3)
    >>> edges = np.eye(3) * 0.5 / 3  # from an atom to the middles of three edges: the octahedral sites
    >>> sites = (crystal.get_scaled_positions()[:, None] + edges).reshape(-1, 3) @ crystal.cell.array
    >>> print(interstitial_hops(crystal, "C", sites))
    interstitial of C: 162 sites, kinds of hops: 1
      1.435 A, 4 from a site
    """
    atoms = _periodic(crystal)
    places = np.asarray(sites, dtype=float)
    if places.ndim != 2 or places.shape[1] != 3 or not len(places) or not np.isfinite(places).all():
        raise DataError(f"sites must be finite numbers of the shape (sites, 3), not {places.shape}")
    _, images = _images(atoms, atoms.positions, 1.0)
    inside = atoms.cell.scaled_positions(places) % 1.0 @ atoms.cell.array
    gap = np.linalg.norm(images - inside[:, None], axis=2).min(axis=1)
    if gap.min() < 0.5:
        worst = int(gap.argmin())
        raise DataError(f"interstitial site {worst} lies {gap[worst]:.2f} A from an atom; give sites between the atoms")
    start, end, vectors = _pairs(atoms, inside, shells)

    def frames(h: int) -> tuple[ase.Atoms, ase.Atoms]:
        initial, final = _prepared(atoms, charge), _prepared(atoms, charge)
        first, last = inside[start[h]], inside[start[h]] + vectors[h]
        initial.append(ase.Atom(species, first))
        if not interstitialcy:
            final.append(ase.Atom(species, last))
            return initial, final
        middle = 0.5 * (first + last)
        index, images = _images(atoms, atoms.positions, float(np.linalg.norm(vectors[h])) + 1.0)
        distance = np.linalg.norm(images - middle, axis=1)
        distance[np.array(atoms.get_chemical_symbols())[index] != species] = np.inf
        near = int(np.argmin(distance))
        if not distance[near] < np.linalg.norm(vectors[h]):
            raise DataError(f"no atom of {species} stands between two sites that are neighbours: not an interstitialcy")
        final.append(ase.Atom(species, images[near]))
        final.positions[index[near]] += last - images[near]
        return initial, final

    name = "interstitialcy" if interstitialcy else "interstitial"
    return _network(name, species, atoms, inside, (start, end, vectors), frames, np.empty(0, dtype=int))


def _periodic(crystal: ase.Atoms) -> ase.Atoms:
    """A copy of the crystal without calculator and velocities."""
    if not crystal.pbc.all():
        raise DataError("hops need a crystal that is periodic in all directions")
    atoms = crystal.copy()
    atoms.calc = None
    return atoms


def _existing(without: Sequence[int], atoms: ase.Atoms) -> np.ndarray:
    absent = np.unique(np.asarray(without, dtype=int))
    if len(absent) and (absent.min() < 0 or absent.max() >= len(atoms)):
        raise SettingsError(f"without names atoms from 0 to {len(atoms) - 1}, not {absent.tolist()}")
    return absent


def _prepared(atoms: ase.Atoms, charge: float | None) -> ase.Atoms:
    frame = atoms.copy()
    if charge is not None:
        frame.info["charge"] = charge
    return frame


def _pairs(atoms: ase.Atoms, sites: np.ndarray, shells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts, ends and vectors of hops to the nearest shells, in one order of vectors at each site."""
    n = check_count("shells", shells)
    points = ase.Atoms(f"H{len(sites)}", positions=sites, cell=atoms.cell, pbc=True)
    widest = 0.5 * min(1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0))
    pairs = neighbours(points, widest + _SHELL_GAP)
    chosen = np.zeros(len(pairs.i), dtype=bool)
    for site in range(len(sites)):
        mine = np.arange(pairs.first[site], pairs.first[site + 1])
        order = mine[np.argsort(pairs.distances[mine])]
        shell = np.cumsum(np.r_[1, np.diff(pairs.distances[order]) > _SHELL_GAP]) if len(order) else np.empty(0)
        near = order[shell <= n]
        if not len(near) or shell[-1] < n or pairs.distances[near].max() > widest - _SHELL_GAP:
            raise DataError(
                f"the cell is too small for hops to {n} shells: a hop must be shorter than half of the cell "
                f"({widest:.2f} A); repeat the crystal"
            )
        chosen[near] = True
    # a hop from a deeper site to a shallow shell needs its way back
    ways = {(i, j): v for i, j, v in _each(pairs, chosen)}
    chosen |= np.array(
        [(j, i) in ways and np.abs(ways[j, i] + v).max() < _SHELL_GAP for i, j, v in _each(pairs)], dtype=bool
    )
    i, j, v = pairs.i[chosen], pairs.j[chosen], pairs.vectors[chosen]
    x, y, z = np.rint(v / _SHELL_GAP).T
    order = np.lexsort((z, y, x, i))
    return i[order], j[order], v[order]


def _each(pairs: Neighbours, chosen: np.ndarray | slice = slice(None)) -> Iterator[tuple[int, int, np.ndarray]]:
    """Start, end and vector of each pair, or of the chosen ones."""
    return zip(pairs.i[chosen].tolist(), pairs.j[chosen].tolist(), pairs.vectors[chosen], strict=True)


def _images(atoms: ase.Atoms, points: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and positions (A) of all periodic images of points that lie within ``reach`` (A) of the cell."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    counts = np.ceil(reach / heights).astype(int) + 1
    shifts = (np.array(list(np.ndindex(*(2 * counts + 1)))) - counts) @ atoms.cell.array
    return np.tile(np.arange(len(points)), len(shifts)), (shifts[:, None] + points).reshape(-1, 3)


def _network(
    defect: str,
    species: str,
    atoms: ase.Atoms,
    sites: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    frames: Callable[[int], tuple[ase.Atoms, ase.Atoms]],
    absent: np.ndarray,
) -> HopNetwork:
    """The network, with frames of one hop of each kind: of those, the one farthest from atoms that are absent."""
    start, end, vectors = pairs
    kind, distinct = _kinds(atoms, sites[start], vectors)
    far = np.zeros(len(start))
    if len(absent):
        _, images = _images(atoms, atoms.positions[absent], 0.5 * float(atoms.cell.lengths().max()))
        middle = sites[start] + 0.5 * vectors
        far = np.linalg.norm(images - middle[:, None], axis=2).min(axis=1)
    found = []
    for k in range(distinct):
        of_kind = np.flatnonzero(kind == k)
        h = int(of_kind[np.argmax(far[of_kind])])
        initial, final = frames(h)
        found.append(Hop(initial, final, float(np.linalg.norm(vectors[h])), len(of_kind) / len(sites)))
    return HopNetwork(defect, species, atoms, sites, tuple(found), start, end, kind, vectors)


def _kinds(atoms: ase.Atoms, starts: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, int]:
    """Kind (h,) of each hop, and the number of kinds: hops whose surroundings have the same distances are alike.

    The distances of the atoms around a hop from its start and from its end are smeared, so that no atom at the edge of
    the surroundings and no order of the atoms makes a difference.
    """
    length = float(np.linalg.norm(vectors, axis=1).max())
    index, images = _images(atoms, atoms.positions, length + _SURROUNDINGS)
    grid = np.arange(0.0, length + _SURROUNDINGS, _WIDTH)
    species = np.unique(atoms.numbers)
    kind = np.empty(len(starts), dtype=int)
    known: list[np.ndarray] = []
    for h, (begin, step) in enumerate(zip(starts, vectors, strict=True)):
        reach = 0.5 * float(np.linalg.norm(step)) + _SURROUNDINGS
        from_middle = np.linalg.norm(images - begin - 0.5 * step, axis=1)
        near = np.flatnonzero(from_middle < reach)
        weight = (1.0 - (from_middle[near] / reach) ** 2) ** 2
        first, last = (
            np.exp(-0.5 * ((np.linalg.norm(images[near] - x, axis=1)[:, None] - grid) / _WIDTH) ** 2)
            for x in (begin, begin + step)
        )
        numbers = atoms.numbers[index[near]]
        parts = [np.einsum("a,ag,ah->gh", weight * (numbers == z), first, last) for z in species]
        seen = np.r_[np.linalg.norm(step), np.ravel(parts)]
        alike = [k for k, one in enumerate(known) if np.linalg.norm(seen - one) < _ALIKE * np.linalg.norm(one)]
        kind[h] = alike[0] if alike else len(known)
        if not alike:
            known.append(seen)
    by_length = np.argsort(np.round([one[0] for one in known], 3), kind="stable")
    return np.argsort(by_length)[kind], len(known)
