"""Hops of an adatom: initial and final minimum, transition state, barrier; from frames or from minima alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError
from sklearn.cluster import KMeans

from gapkit.apps.growth.sites import bond_length
from gapkit.exceptions import DataError
from gapkit.structures.neighbours import neighbours

#: neighbours of an adatom in the hollow of a bare terrace of an fcc crystal, by face
HOLLOW = {"111": 3, "100": 4, "110": 5}
#: neighbours beyond those of the hollow from which a site counts as a kink, by face
KINK = {"111": 3, "100": 2, "110": 2}
#: kinds of slabs, as in :func:`surface_class`, with a cluster of adatoms on a flat terrace, beside which an atom hops
CLUSTER_SLABS = ("dimer", "trimer", "island")
_CONTACT = 1.2  # bond lengths within which two atoms are neighbours
_RESTING = 0.98  # radius (bond lengths) of the sphere that rests on the substrate in a guessed transition state


@dataclass(frozen=True)
class Hop:
    """One move of one atom, the last of each frame.

    Attributes
    ----------
    initial, final : ase.Atoms
        Minima before and after, atoms in the same order.
    transition : ase.Atoms or None
        Saddle point, where it is known.
    barrier : float
        Energy of the saddle point above the initial state (eV); nan where it is not known.
    reverse_barrier : float
        Likewise above the final state (eV).
    name : str
        Shared by a hop and its reverse: what must stay together when a set is cut.
    surface : str
        Name that ends in the crystal face, such as "step111".
    environment : str
        Kind of environment; where it is empty, :func:`environment_class` finds it.
    """

    initial: ase.Atoms
    final: ase.Atoms
    transition: ase.Atoms | None = None
    barrier: float = float("nan")
    reverse_barrier: float = float("nan")
    name: str = ""
    surface: str = ""
    environment: str = ""

    @property
    def metal(self) -> str:
        """Chemical symbol of the atom that moves."""
        return self.initial.get_chemical_symbols()[-1]

    @property
    def energy_change(self) -> float:
        """Energy of the final less that of the initial minimum (eV) by the calculators of the two frames; nan where a
        frame has none, or one without energies."""
        if self.initial.calc is None or self.final.calc is None:
            return float("nan")
        try:
            return float(self.final.get_potential_energy() - self.initial.get_potential_energy())
        except PropertyNotImplementedError:  # a frame that was read with labels, but without an energy
            return float("nan")

    def reversed(self) -> Hop:
        """Reverse of the hop."""
        return replace(
            self,
            initial=self.final,
            final=self.initial,
            barrier=self.reverse_barrier,
            reverse_barrier=self.barrier,
        )


def hops_from_frames(frames: Iterable[ase.Atoms], both_directions: bool = True) -> list[Hop]:
    """Hops from frames like those of :func:`gapkit.datasets.load_surface_barriers`.

    Parameters
    ----------
    frames
        Frames whose ``info`` has ``site``, ``image`` ("initial", "saddle", "final"), ``barrier`` and
        ``reverse_barrier`` (eV), and ``config_type``.
    both_directions
        Whether each hop is followed by its reverse.

    Raises
    ------
    DataError
        Where a key is missing, or a hop lacks an end.
    """
    images: dict[str, dict[str, ase.Atoms]] = {}
    for index, atoms in enumerate(frames):
        missing = [k for k in ("site", "image", "barrier", "reverse_barrier", "config_type") if k not in atoms.info]
        if missing:
            raise DataError(f"frame {index}: info lacks {', '.join(missing)}; see load_surface_barriers")
        images.setdefault(str(atoms.info["site"]), {})[str(atoms.info["image"])] = atoms
    out = []
    for name, by_image in images.items():
        if not {"initial", "final"} <= set(by_image):
            raise DataError(f"hop {name}: frames of image 'initial' and 'final' are needed, not {sorted(by_image)}")
        info = by_image["initial"].info
        hop = Hop(
            by_image["initial"], by_image["final"], by_image.get("saddle"), float(info["barrier"]),
            float(info["reverse_barrier"]), name, str(info["config_type"]),
        )  # fmt: skip
        hop = replace(hop, environment=environment_class(hop))
        out += [hop, hop.reversed()] if both_directions else [hop]
    return out


def nearest_image(vectors: np.ndarray, atoms: ase.Atoms) -> np.ndarray:
    """Vectors (n, 3) in A, less the periodic translations of the frame that bring them nearest to zero (cells that are
    not very skewed)."""
    cell = atoms.cell.complete()
    return vectors - (np.round(vectors @ np.linalg.inv(cell)) * atoms.pbc) @ cell


def resting_transition(initial: ase.Atoms, final: ase.Atoms) -> ase.Atoms:
    """Guess of a transition state from its two minima: the substrate half-way, and the adatom half-way in the plane, at
    the height at which a sphere of 0.98 bond lengths rests on the substrate (normal along z).

    Raises
    ------
    DataError
        Where the two frames do not hold the same atoms, or nothing lies below the middle.
    """
    if not np.array_equal(initial.numbers, final.numbers):
        raise DataError("initial and final state must hold the same atoms in the same order")
    middle = initial.copy()
    middle.positions += 0.5 * nearest_image(final.positions - initial.positions, initial)
    radius = _RESTING * bond_length(initial)
    apart = nearest_image(middle.positions[:-1] - middle.positions[-1], middle)
    below = radius**2 - np.sum(apart[:, :2] ** 2, axis=1)
    if not np.any(below > 0):
        raise DataError("no atom lies below the middle of the hop: is the surface normal along z?")
    rise = apart[below > 0, 2] + np.sqrt(below[below > 0])
    middle.positions[-1, 2] += rise.max()
    return middle


def contacts(atoms: ase.Atoms) -> int:
    """Neighbours of the last atom within 1.2 bond lengths."""
    pairs = neighbours(atoms, _CONTACT * bond_length(atoms))
    return int(pairs.first[-1] - pairs.first[-2])


def site_class(hop: Hop) -> str:
    """ "terrace", "step" or "kink": by the neighbours that the better bound end of the hop has beyond those of a hollow
    of the bare terrace (:data:`HOLLOW`, :data:`KINK`).

    Raises
    ------
    DataError
        Where the hop's ``surface`` does not end in one of the faces.
    """
    face = hop.surface[-3:]
    if face not in HOLLOW:
        raise DataError(f"hop {hop.name!r}: surface {hop.surface!r} must end in one of {', '.join(HOLLOW)}")
    beyond = max(contacts(hop.initial), contacts(hop.final)) - HOLLOW[face]
    if beyond <= 0:
        return "terrace"
    return "kink" if beyond >= KINK[face] else "step"


def surface_class(hop: Hop) -> str:
    """Kind of the slab: "flat", "step", "kink", "dimer", "trimer" or "island", whatever the place of the hop on it."""
    return hop.surface[:-3]


def environment_class(hop: Hop) -> str:
    """Kind of environment that a model may know or not, the same for a hop and its reverse: the hop's own
    ``environment`` where it is given; "cluster" beside a cluster on a terrace; "attachment" where the two ends have
    different numbers of neighbours; else its :func:`site_class`, or "hop" where its surface names no face."""
    if hop.environment:
        return hop.environment
    if surface_class(hop) in CLUSTER_SLABS:
        return "cluster"
    if contacts(hop.initial) != contacts(hop.final):
        return "attachment"
    return site_class(hop) if hop.surface[-3:] in HOLLOW else "hop"


def folds_by_name(hops: Sequence[Hop], n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold (n,) of each hop; hops of one name share one, and the names are dealt out in random order."""
    names = sorted({h.name for h in hops})
    place = {name: k % n_folds for k, name in enumerate(rng.permutation(np.array(names, dtype=object)))}
    return np.array([place[h.name] for h in hops])


def clusters_by_name(
    hops: Sequence[Hop], features: np.ndarray, n_clusters: int, rng: np.random.Generator
) -> np.ndarray:
    """Cluster (n,) of each hop: k-means on the mean features (n, f) of all hops of a name."""
    names, index = np.unique([h.name for h in hops], return_inverse=True)
    means = np.array([features[index == k].mean(axis=0) for k in range(len(names))])
    return KMeans(n_clusters, n_init=5, random_state=int(rng.integers(2**31))).fit_predict(means)[index]
