r"""Barriers of all moves on the lattice of ``gapkit.apps.growth.lattice``, in detailed balance by construction.

A barrier is split as in Van der Ven, Ceder, Asta and Tepesch, Phys. Rev. B 64, 184307 (2001), eq. 18: a part K that is
the same both ways, and half the change of energy,

.. math:: E_{i \to j} = K_{ij} + \tfrac12 (H_j - H_i), \qquad
          H = -J_1 \sum_{\langle nn \rangle} 1 - J_2 \sum_{\langle nnn \rangle} 1 ,

with lateral bonds between nearest and second neighbours of a layer. H is a function of the state, so that rates
:math:`\nu e^{-E/k_BT}` obey detailed balance whatever K is. Where K is smaller than :math:`\tfrac12 |H_j - H_i|` it is
raised to it: no barrier is negative. From a barrier model, K is half the sum of the predicted forward and reverse
barriers of each distinct environment on a (100) terrace, and J_1, J_2 are the least-squares fit of H_j - H_i to their
difference, environments weighted by their share in a random layer of given coverage and by the model's variance. What
they leave, the ``misfit``, is the price of a pair energy for a metal, whose bonds weaken as they become more. Between
layers, K is the model's linear trend in the numbers of neighbours plus a given step-edge barrier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import ase
import numpy as np
from ase.units import kB

from gapkit.apps.growth.hops import Hop
from gapkit.apps.growth.lattice import N_BETWEEN, N_CODES, N_LEAVE, N_SAME, PATCH
from gapkit.apps.growth.sites import bond_length
from gapkit.exceptions import DataError, SettingsError
from gapkit.randomness import generator_of

_INDEX = {p: k for k, p in enumerate(PATCH)}
_BITS = (np.arange(N_SAME)[:, None] >> np.arange(10)) & 1  # (1024, 10)


def _neighbour_counts() -> np.ndarray:
    """n1, n2 of the atom before, m1, m2 after the hop: (1024, 4) for codes within a layer."""
    near_i = [(-1, 0), (0, -1), (0, 1)]
    near_j = [(2, 0), (1, -1), (1, 1)]
    far_i = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    far_j = [(0, -1), (0, 1), (2, -1), (2, 1)]
    return np.stack([_BITS[:, [_INDEX[p] for p in group]].sum(axis=1) for group in (near_i, far_i, near_j, far_j)], 1)


def _permuted(move) -> np.ndarray:
    """Codes (1024,) after the patch has been mapped by ``move(a, b)``."""
    order = [_INDEX[move(a, b)] for a, b in PATCH]
    return (_BITS << np.array(order)).sum(axis=1)


#: neighbours (n1, n2, m1, m2) of every code that hops: (1649, 4)
COUNTS = np.concatenate([_neighbour_counts(), np.stack(np.unravel_index(np.arange(N_BETWEEN), (5, 5, 5, 5)), 1)])
#: code of the hop back, and of the mirror image: (1024,)
REVERSE = _permuted(lambda a, b: (1 - a, b))
MIRROR = _permuted(lambda a, b: (a, -b))
#: the smaller of a code and its mirror image: 544 distinct environments
DISTINCT = np.minimum(np.arange(N_SAME), MIRROR)


@dataclass(frozen=True)
class LatticeBarriers:
    """Barriers of all moves.

    Attributes
    ----------
    symmetric : (1649,)
        K of hops within and between layers (eV); inf for hops that never happen.
    bond, second_bond : float
        J_1 and J_2 (eV), positive where neighbours attract.
    leaving : float
        Energy (eV) by which an atom without neighbours is bound; inf where atoms never leave.
    """

    symmetric: np.ndarray
    bond: float
    second_bond: float = 0.0
    leaving: float = np.inf

    def __post_init__(self) -> None:
        if np.shape(self.symmetric) != (N_SAME + N_BETWEEN,) or np.any(np.isnan(self.symmetric)):
            raise SettingsError(f"symmetric must hold {N_SAME + N_BETWEEN} numbers, none of them nan")
        if not np.isfinite([self.bond, self.second_bond]).all() or not self.leaving > -np.inf:
            raise SettingsError("bond and second_bond must be finite (eV), and leaving a number or inf")

    @property
    def change(self) -> np.ndarray:
        """H after less H before each hop: (1649,) eV."""
        n1, n2, m1, m2 = COUNTS.T
        return -self.bond * (m1 - n1) - self.second_bond * (m2 - n2)

    @property
    def barriers(self) -> np.ndarray:
        """Barriers (1674,) of all codes, leaving included (eV); none is negative."""
        half = 0.5 * self.change
        n1, n2 = np.unravel_index(np.arange(N_LEAVE), (5, 5))
        leaving = self.leaving + self.bond * n1 + self.second_bond * n2
        return np.concatenate([np.maximum(self.symmetric, np.abs(half)) + half, np.maximum(leaving, 0.0)])

    def slowed(self, temperature: float, ratio: float = 1e3) -> LatticeBarriers:
        """Barriers under which no move is more than ``ratio`` times faster than a free adatom's at ``temperature`` (K).

        Two states with next to no barrier between them flicker: a run spends its events on them, though they come to
        equilibrium long before anything else happens. Raising K, the same both ways, keeps detailed balance and leaves
        them faster than what matters (Chatterjee and Voter, J. Chem. Phys. 132, 194101 (2010), raise such barriers as
        a run goes on).
        """
        if not (temperature > 0 and ratio >= 1):
            raise SettingsError(f"temperature must be positive and ratio at least 1, not {temperature} and {ratio}")
        lowest = self.barriers[0] - kB * temperature * np.log(ratio)
        if not np.isfinite(lowest):
            return self  # free adatoms do not hop, or all moves are welcome
        return replace(self, symmetric=np.maximum(self.symmetric, max(lowest, 0.0) + 0.5 * np.abs(self.change)))

    def classes(self) -> tuple[np.ndarray, np.ndarray]:
        """Class (1674,) of each code, -1 for moves that never happen, and the barrier (eV) of each class."""
        barriers = np.round(self.barriers, 12)
        energies, of_code = np.unique(barriers, return_inverse=True)
        of_code = np.where(np.isfinite(barriers), of_code, -1).astype(np.int32)
        return of_code, energies[np.isfinite(energies)]


def bond_counting(
    terrace: float,
    bond: float,
    second_bond: float = 0.0,
    step_edge: float = 0.0,
    leaving: float = np.inf,
) -> LatticeBarriers:
    """Barriers ``terrace + n1 bond + n2 second_bond`` (eV) that depend on the initial site alone (Clarke and Vvedensky,
    Phys. Rev. Lett. 58, 2235 (1987)); hops between layers cost ``step_edge`` more. A toy whose answers are known.

    Examples
    --------
    >>> barriers = bond_counting(terrace=0.5, bond=0.2).barriers
    >>> float(barriers[0].round(3)), float(barriers[:1024].max().round(3))  # free adatom; three neighbours at the start
    (0.5, 1.1)
    """
    n1, n2, m1, m2 = COUNTS.T
    symmetric = terrace + 0.5 * bond * (n1 + m1) + 0.5 * second_bond * (n2 + m2)
    symmetric[N_SAME:] += step_edge
    return LatticeBarriers(symmetric, bond, second_bond, leaving)


@dataclass(frozen=True)
class LatticeGeometry:
    """Geometry of an fcc (100) terrace with an adatom.

    Attributes
    ----------
    metal : str
        Chemical symbol.
    bond : float
        Bond length of the crystal (A).
    hollow, bridge : float
        Heights of an adatom above the uppermost layer (A), in its hollow and in the bridge between two.
    spacing : float
        Distance of layers (A).
    """

    metal: str
    bond: float
    hollow: float
    bridge: float
    spacing: float

    @classmethod
    def from_hop(cls, hop: Hop) -> LatticeGeometry:
        """Geometry from a hop on a flat (100) terrace with a known transition state.

        Raises
        ------
        DataError
            For any other hop.
        """
        if hop.surface != "flat100" or hop.transition is None:
            raise DataError(
                f"hop {hop.name!r} on {hop.surface!r}: one on 'flat100' with its transition state is needed"
            )
        bond = bond_length(hop.initial)
        z = hop.initial.positions[:-1, 2]
        layers = np.sort(z).reshape(-1, 16).mean(axis=1) if len(z) % 16 == 0 else np.unique(np.round(z, 1))
        heights = [a.positions[-1, 2] - layers[-1] for a in (hop.initial, hop.transition)]
        return cls(hop.metal, bond, float(heights[0]), float(heights[1]), float(layers[-1] - layers[-2]))

    def hop(self, code: int) -> Hop:
        """Atoms of the hop of a code within a layer: three layers below, the patch's atoms around, and the adatom, all
        on lattice sites."""
        nx, ny = 8, 7
        points = []
        for layer in range(3):
            shift = 0.5 if layer % 2 == 0 else 0.0
            points += [(i + shift, j + shift, -layer * self.spacing / self.bond) for i in range(nx) for j in range(ny)]
        points += [
            (3 + a, 3 + b, self.spacing / self.bond) for (a, b), on in zip(PATCH, _BITS[code], strict=True) if on
        ]
        places = [(3.0, self.hollow), (3.5, self.bridge), (4.0, self.hollow)]
        frames = []
        for x, z in places:
            positions = np.array([*points, (x, 3.0, z / self.bond)]) * self.bond
            frame = ase.Atoms(numbers=[ase.data.atomic_numbers[self.metal]] * len(positions), positions=positions)
            frame.set_cell([nx * self.bond, ny * self.bond, 30.0])
            frame.pbc = (True, True, False)
            frame.info["bond_length"] = self.bond
            frames.append(frame)
        initial, transition, final = frames
        environment = "cluster" if code else "terrace"
        return Hop(initial, final, transition, name=f"code-{code}", surface="lattice100", environment=environment)


class HopModel(Protocol):
    """Contract of a barrier model, such as ``gapkit.apps.growth.barrier_model.SurfaceBarrierModel``."""

    def features(self, hops: list[Hop]) -> np.ndarray: ...

    def predict(self, hops: list[Hop], return_std: bool, features: np.ndarray) -> Any: ...

    def sample(self, hops: list[Hop], n_samples: int, rng: np.random.Generator, features: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class ModelBarriers:
    """Lattice barriers from a model.

    Attributes
    ----------
    mean : LatticeBarriers
        Barriers from the model's mean.
    samples : tuple of LatticeBarriers
        Barriers from joint draws.
    std : (1024,)
        Standard deviation (eV) of the predicted barriers of codes within a layer.
    misfit : float
        Root mean square (eV) of what J_1 and J_2 leave of the predicted differences of energy, weighted as in the fit.
    n_evaluations : int
        Environments that the model was evaluated for.
    """

    mean: LatticeBarriers
    samples: tuple[LatticeBarriers, ...]
    std: np.ndarray
    misfit: float
    n_evaluations: int


def barriers_from_model(
    model: HopModel,
    geometry: LatticeGeometry,
    n_samples: int = 0,
    random_state: int | np.random.Generator | None = None,
    step_edge: float = 0.0,
    leaving: float = np.inf,
    coverage: float = 0.2,
) -> ModelBarriers:
    """Lattice barriers from a barrier model, evaluated once for each distinct environment.

    Parameters
    ----------
    model
        Fitted model.
    geometry
        Lengths of the terrace.
    n_samples, random_state
        Number of joint draws, and their seed or generator; None: other draws each time.
    step_edge
        Cost of a hop between layers beyond the trend of hops within one (eV); the model knows no such hops.
    leaving
        Energy of an atom without neighbours below that of the vapour (eV); inf: atoms never leave.
    coverage
        Coverage of the random layer whose environments J_1 and J_2 fit best.
    """
    if not 0 < coverage < 1:
        raise SettingsError(f"coverage must lie between 0 and 1, not {coverage}")
    codes = np.unique(DISTINCT)
    where = np.searchsorted(codes, DISTINCT)
    hops = [geometry.hop(int(c)) for c in codes]
    features = model.features(hops)
    mean, std = model.predict(hops, return_std=True, features=features)
    draws = np.empty((0, len(hops)))
    if n_samples:
        draws = model.sample(hops, n_samples, generator_of(random_state), features=features)
    share = (coverage / (1.0 - coverage)) ** _BITS.sum(axis=1)
    weight = share / (std[where] ** 2 + std[where][REVERSE] ** 2)
    tables = [_table(b[where], weight, step_edge, leaving) for b in (mean, *draws)]
    table, misfit = tables[0]
    return ModelBarriers(table, tuple(t for t, _ in tables[1:]), std[where], misfit, len(hops))


def _table(forward: np.ndarray, weight: np.ndarray, step_edge: float, leaving: float) -> tuple[LatticeBarriers, float]:
    """Table from barriers (1024,) of codes within a layer, and the misfit of its energies (eV)."""
    n1, n2, m1, m2 = COUNTS[:N_SAME].T
    difference = forward - forward[REVERSE]
    root = np.sqrt(weight / weight.sum())
    design = -np.stack([m1 - n1, m2 - n2], 1)
    (bond, second), *_ = np.linalg.lstsq(root[:, None] * design, root * difference)
    misfit = float(np.sqrt(np.sum((root * (difference - design @ [bond, second])) ** 2)))
    same = 0.5 * (forward + forward[REVERSE])
    trend = np.stack([np.ones(N_SAME), n1 + m1, n2 + m2], 1)
    slopes, *_ = np.linalg.lstsq(root[:, None] * trend, root * same)
    n1, n2, m1, m2 = COUNTS[N_SAME:].T
    between = np.stack([np.ones(N_BETWEEN), n1 + m1, n2 + m2], 1) @ slopes + step_edge
    return LatticeBarriers(np.concatenate([same, between]), float(bond), float(second), leaving), misfit


assert len(COUNTS) + N_LEAVE == N_CODES
