r"""Labels of a fracture potential: the energy that the rupture of one bond releases, and the stress around it before.

A cluster (a crack under a K-field, or a crystal under strain) is relaxed at a load. A bond is then opened in small
steps, everything else relaxed at each, until it is ``opened`` bond lengths long, where the atoms no longer attract each
other; a bond that goes on by itself is let go. The driving force for its rupture is the energy released,

.. math:: \Phi = E(\text{intact}) - \min_{\Delta \ge \Delta_{open}} E(\Delta) ,

at a rim that stays: negative where rupture costs energy. Of a long crack it is :math:`(G - 2\gamma) A` with the energy
release rate G and the area A of a bond, so that :math:`\Phi = 0` is Griffith's threshold; rupture without help from
outside needs :math:`\Phi_c > 0`, what the lattice traps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.apps.fracture.clusters import Cluster, RimLoad
from gapkit.descriptors.stress import (
    INVARIANTS,
    STRESS_FLOOR,
    atomic_stresses,
    averaged_stress,
    stress_invariants,
    tractions,
)
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.sampling.relaxation import Relaxed, relax


@dataclass(frozen=True)
class BondStress:
    """Descriptors of a bond: invariants of the averaged stress around its middle, and the tractions across it.

    Attributes
    ----------
    radii : tuple of float, A
        Radii of the averages; tractions are of the first. Two radii tell a crack's stress, which falls with the
        distance, from a homogeneous one.
    invariants : tuple of str
        Names from ``gapkit.descriptors.stress.INVARIANTS``. By default two: the ratios among them (triaxiality, Lode
        angle) hardly change with the load and were found to spoil crack systems not trained on.
    floor : float, eV/A^3
        See :mod:`gapkit.descriptors.stress`.
    volume : float, A^3
        Per atom, where it is known from the crystal: quicker than Voronoi cells, and the same at a crack's faces. By
        default (0) Voronoi cells.
    """

    radii: tuple[float, ...] = (5.0, 8.0)
    invariants: tuple[str, ...] = ("hydrostatic", "von_mises")
    floor: float = STRESS_FLOOR
    volume: float = 0.0

    def __post_init__(self) -> None:
        if len(self.radii) == 0 or min(self.radii) <= 0:
            raise SettingsError(f"radii must be positive lengths (A), not {self.radii}")
        unknown = set(self.invariants) - set(INVARIANTS)
        if unknown:
            raise SettingsError(f"no invariant is called {sorted(unknown)}: choose among {INVARIANTS}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the descriptors."""
        invariants = tuple(f"{name}_{radius:g}A" for radius in self.radii for name in self.invariants)
        return (*invariants, "normal_traction", "shear_traction")

    def of_stress(self, averages: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Descriptors (n, f) of averaged stresses (n_radii, n, 6) in eV/A^3 and bond directions (n, 3)."""
        chosen = [INVARIANTS.index(name) for name in self.invariants]
        invariants = [stress_invariants(a, self.floor)[:, chosen] for a in averages]
        return np.concatenate([*invariants, tractions(averages[0], normals)], axis=1)

    def of_bonds(
        self, atoms: ase.Atoms, middles: np.ndarray, directions: np.ndarray, stresses: np.ndarray | None = None
    ) -> np.ndarray:
        """Descriptors (n, f) of bonds with these middles (n, 3) in A and directions (n, 3) in a frame.

        ``stresses`` (n_atoms, 6) as for :func:`gapkit.descriptors.stress.atomic_stresses`; the calculator's by default.
        """
        known = np.full(len(atoms), self.volume) if self.volume > 0 else None
        sigma, volumes = atomic_stresses(atoms, stresses, known)
        averages = [averaged_stress(atoms, sigma, volumes, middles, radius) for radius in self.radii]
        return self.of_stress(np.array(averages), directions)


@dataclass(frozen=True)
class Rupture:
    """A bond opened quasi-statically.

    Attributes
    ----------
    opening : (k,) A
        Opening from the intact to the open bond.
    energy : (k,) eV
        Relative to the intact one.
    force : (k,) eV/A
        Derivative of the energy by the opening.
    driving : float, eV
        Energy released by rupture; see the module's text.
    positions : (n, 3) A
        With the bond open.
    other_bonds : int
        Bonds that broke with it.
    """

    opening: np.ndarray
    energy: np.ndarray
    force: np.ndarray
    driving: float
    positions: np.ndarray
    other_bonds: int

    @property
    def barrier(self) -> float:
        """Highest energy on the way (eV)."""
        return float(self.energy.max())


def open_bond(
    cluster: Cluster, intact: Relaxed, bond: int, opened: float = 1.6, step: float = 0.7, fmax: float = 5e-3
) -> Rupture:
    """Open one bond of a relaxed cluster at a fixed rim.

    Parameters
    ----------
    bond
        Index into ``cluster.bonds``; both atoms must be free.
    opened
        Opening (bond lengths) at which the bond counts as broken: beyond the range of attraction.
    step
        Step of the opening (A).

    Raises
    ------
    SettingsError
        For a bond that is open already, or in the rim.
    """
    direction = cluster.opening_direction(bond)
    if not np.isclose(direction @ direction, 2.0):
        raise SettingsError(f"bond {bond} has an atom in the rigid rim: choose one inside")
    start, end = cluster.opening(intact.positions, bond), opened * cluster.material.bond
    if start >= end:
        raise SettingsError(f"bond {bond} is open already ({start:.2f} A)")
    n = max(1, int(np.ceil((end - start) / step)))
    path = np.linspace(start, end, n + 1)
    energies, forces, x = [intact.energy], [0.0], intact.positions
    for change in np.diff(path):
        moved = x.copy()
        moved[cluster.free] += 0.5 * change * direction.reshape(-1, 3)
        state = relax(cluster.frame(moved), cluster.springs, direction, fmax=fmax)
        x = state.positions
        energies.append(state.energy)
        forces.append(state.force)
    open_energy = energies[-1]
    if forces[-1] < 0:  # it goes on by itself
        free = relax(cluster.frame(x), cluster.springs, fmax=fmax)
        if cluster.opening(free.positions, bond) > end:
            open_energy, x = free.energy, free.positions
    other_bonds = cluster.broken(x) & ~cluster.broken(intact.positions)
    other_bonds[bond] = False
    return Rupture(
        path,
        np.array(energies) - intact.energy,
        np.array(forces),
        intact.energy - open_energy,
        x,
        int(other_bonds.sum()),
    )


@dataclass(frozen=True)
class BondLabels:
    """Labelled bonds; arrays over bonds (n,).

    Attributes
    ----------
    X : (n, f)
        Descriptors, see :class:`BondStress`.
    driving : (n,) eV
        Label.
    barrier : (n,) eV
        Highest energy on the way to rupture, 0 where there is none.
    system, history : (n,) str
        Crack system, or "strained"; loading history, of which a crack system has several.
    k, mode : (n,) float
        Size of the stress intensity (eV/A^(5/2)) and mode angle ``atan2(kII, kI)`` (rad); 0 for strained cells.
    tip : (n,) bool
        Whether the bond is the first intact one of a crack.
    names : tuple of str
        Columns of X.
    """

    X: np.ndarray
    driving: np.ndarray
    barrier: np.ndarray
    system: np.ndarray
    history: np.ndarray
    k: np.ndarray
    mode: np.ndarray
    tip: np.ndarray
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.driving)

    @property
    def home(self) -> np.ndarray:
        """Crack system (n,) that a bond belongs to, that of its cluster for strained crystals."""
        return np.array([h.removeprefix("strained ").split(" ")[0] for h in self.history])

    @property
    def load_case(self) -> np.ndarray:
        """Crack system with the size of the mode angle (n,), or "strained": shear of either sign is one case, since in
        some crack systems the two are mirror images."""
        modes = np.round(np.abs(np.degrees(self.mode)), 1)
        kinds = np.where(self.system == "strained", "strained", modes.astype(str))
        return np.array([f"{h} {kind}" for h, kind in zip(self.home, kinds, strict=True)])

    @classmethod
    def of_rows(cls, rows: Sequence[tuple], names: tuple[str, ...]) -> BondLabels:
        """Labelled bonds from one tuple of the columns' values for each."""
        columns = {name: np.array(c) for name, c in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
        return cls(**columns, names=names)

    def part(self, mask: np.ndarray) -> BondLabels:
        """Labelled bonds of the given rows."""
        return BondLabels(**{name: getattr(self, name)[mask] for name in COLUMNS}, names=self.names)

    @classmethod
    def joined(cls, parts: Sequence[BondLabels]) -> BondLabels:
        """All bonds of several sets."""
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
        return cls(**columns, names=parts[0].names)


#: arrays of labelled bonds, in the order of their fields
COLUMNS = ("X", "driving", "barrier", "system", "history", "k", "mode", "tip")


@dataclass(frozen=True)
class LoadingHistory:
    """A crack whose tip bond is the one at the origin, loaded quasi-statically up to rupture and down to healing.

    Attributes
    ----------
    cluster : Cluster
    mode : float, rad
        ``atan2(kII, kI)``.
    loads : tuple of RimLoad
        Increasing.
    states : tuple of Relaxed
        With the tip bond intact, and the one behind it broken.
    rupture : (2,) float or None
        Sizes of the stress intensity (eV/A^(5/2)) between which the tip bond broke by itself on the way up.
    healing : (2,) float or None
        Between which the broken tip bond healed by itself on the way down.
    broke : int
        The bond that broke; another one than the tip bond where the crack turns.
    name : str
    """

    cluster: Cluster
    mode: float
    loads: tuple[RimLoad, ...]
    states: tuple[Relaxed, ...]
    rupture: tuple[float, float] | None
    healing: tuple[float, float] | None
    broke: int
    name: str = ""

    @property
    def k_plus(self) -> float:
        """Stress intensity (eV/A^(5/2)) of rupture by itself, the middle of its bracket; infinite where it was not
        found."""
        return float(np.mean(self.rupture)) if self.rupture else np.inf

    @property
    def tip_broke(self) -> bool:
        """Whether the bond that broke was the tip bond."""
        return self.broke == self.cluster.tip_bond(self.states[0].positions)

    @property
    def k_minus(self) -> float:
        """Stress intensity of healing by itself; 0 where it was not found."""
        return float(np.mean(self.healing)) if self.healing else 0.0


def load_both_ways(
    cluster: Cluster,
    start: RimLoad,
    factor: float = 1.03,
    largest: float = 2.5,
    heal: bool = True,
    name: str = "",
    progress: bool = False,
) -> LoadingHistory:
    """Change the K-field of a load by a factor, again and again, up until the tip bond breaks and down until the bond
    behind it heals; then, with the tip bond broken, down until it heals.

    Parameters
    ----------
    start
        First load, at which the crack is trapped (Griffith's will do); its ratio of modes and its strain stay.
    factor
        Between loads, above 1: the resolution of the loads of rupture and healing.
    largest
        Loads from ``start / largest`` to ``start * largest`` are tried.
    heal
        Whether the load of healing is wanted.

    Raises
    ------
    DataError
        Where the crack does not stay at the origin at the first load.
    """
    if not factor > 1:
        raise SettingsError(f"factor must be above 1, not {factor}")
    state = cluster.relaxed(start)
    tip = cluster.tip_bond(state.positions)
    if abs(cluster.bond_middles[tip, 0]) > 0.5 * cluster.advance:
        raise DataError(f"at the load {start} the crack does not stay at the origin: start between healing and rupture")
    broken = cluster.broken(state.positions)

    def march(load: RimLoad, state: Relaxed, ratio: float):
        """Loads and states up to the first at which bonds break or heal; that load and state, or None."""
        before = cluster.broken(state.positions)
        loads: list[RimLoad] = []
        states: list[Relaxed] = []
        while 1.0 / largest <= load.k * ratio / start.k <= largest:
            new = load * ratio
            after = cluster.relaxed(new, state.positions, load)
            if np.any(cluster.broken(after.positions) != before):
                return loads, states, (load.k, new.k), after
            loads.append(new)
            states.append(after)
            load, state = new, after
            bar.update()
        return loads, states, None, state

    with progress_bar(desc=name, show=progress) as bar:
        up, up_states, rupture, after = march(start, state, factor)
        broke = tip
        if rupture:
            fresh = np.flatnonzero(cluster.broken(after.positions) & ~broken)
            broke = int(tip if tip in fresh or len(fresh) == 0 else fresh[0])
        down, down_states, _, _ = march(start, state, 1.0 / factor)
        healing = None
        if heal:
            highest, last = (up[-1], up_states[-1]) if up else (start, state)
            cut = open_bond(cluster, last, tip)
            freed = relax(cluster.frame(cut.positions), cluster.springs)
            if cluster.broken(freed.positions)[tip]:
                _, _, healing, _ = march(highest, freed, 1.0 / factor)
    return LoadingHistory(
        cluster,
        float(np.arctan2(start.kII, start.kI)),
        (*down[::-1], start, *up),
        (*down_states[::-1], state, *up_states),
        rupture,
        healing[::-1] if healing else None,
        broke,
        name,
    )


def bonds_near_tip(cluster: Cluster, positions: np.ndarray, reach: float, most: int) -> np.ndarray:
    """Intact free bonds nearest to the tip bond, the tip bond first; of those that lie behind each other along the
    front, one."""
    tip = cluster.tip_bond(positions)
    away = np.linalg.norm((cluster.bond_middles - cluster.bond_middles[tip])[:, :2], axis=1)
    free = np.isin(cluster.bonds, cluster.free).all(axis=1)
    ahead = cluster.bond_middles[:, 0] > cluster.bond_middles[tip, 0] - 0.1
    candidates = np.flatnonzero(free & ~cluster.broken(positions) & (away < reach) & ahead)
    candidates = candidates[np.argsort(away[candidates], kind="stable")]
    places = np.round(cluster.bond_middles[candidates, :2], 2)
    turned = np.round(np.abs(cluster.bond_vectors[candidates] @ [1.0, 0.0, 0.0]), 2)
    _, first = np.unique(np.column_stack([places, turned]), axis=0, return_index=True)
    return candidates[np.sort(first)][:most]


def bonds_descriptors(cluster: Cluster, positions: np.ndarray, bonds: np.ndarray, stress: BondStress) -> np.ndarray:
    """Descriptors (n, f) of bonds of a cluster."""
    i, j = cluster.bonds[bonds].T
    vectors = positions[j] - positions[i] + cluster.bond_shifts[bonds]
    return stress.of_bonds(cluster.frame(positions), positions[i] + 0.5 * vectors, vectors)


def label_history(
    history: LoadingHistory,
    stress: BondStress | None = None,
    every: int = 3,
    reach: float = 3.6,
    most: int = 3,
    progress: bool = False,
) -> BondLabels:
    """Labels of the bonds around the tip at every ``every``-th load of a history, the last included.

    Parameters
    ----------
    reach, most
        Bonds whose middles are within ``reach`` (A) of the tip bond's, at most so many, the tip bond first.
    """
    cluster, rows = history.cluster, []
    stress = stress or BondStress(volume=cluster.material.volume)
    chosen = range(len(history.loads) - 1, -1, -every)
    for k in progress_bar(list(chosen), desc=history.name, show=progress):
        state, load = history.states[k], history.loads[k]
        bonds = bonds_near_tip(cluster, state.positions, reach, most)
        X = bonds_descriptors(cluster, state.positions, bonds, stress)
        for n, b in enumerate(bonds):
            cut = open_bond(cluster, state, int(b))
            if cut.other_bonds:  # not the rupture of one bond
                continue
            rows.append(
                (X[n], cut.driving, cut.barrier, cluster.system.name, history.name, load.k, history.mode, n == 0)
            )
    return BondLabels.of_rows(rows, stress.names)


def label_strained(
    cluster: Cluster, strains: Sequence[tuple[float, ...]], stress: BondStress | None = None, name: str = "strained"
) -> BondLabels:
    """Labels of the bond at the origin of a crystal without a crack, under homogeneous strains (Voigt; xx, yy, xy).

    A strain at which bonds break without help has no label.
    """
    stress = stress or BondStress(volume=cluster.material.volume)
    plane = cluster.plane_bonds
    bond = int(plane[np.argmin(np.abs(cluster.bond_middles[plane, 0]))])
    rows = []
    for strain in strains:
        xx, yy, zz, yz, xz, xy = strain
        state = cluster.relaxed(RimLoad(strain=(xx, yy, zz, yz, xz, xy)))
        if cluster.broken(state.positions).any():
            continue
        cut = open_bond(cluster, state, bond)
        if cut.other_bonds:
            continue
        X = bonds_descriptors(cluster, state.positions, np.array([bond]), stress)[0]
        rows.append((X, cut.driving, cut.barrier, "strained", name, 0.0, 0.0, False))
    if not rows:
        raise DataError("bonds break without help at all of these strains: give smaller ones")
    return BondLabels.of_rows(rows, stress.names)
