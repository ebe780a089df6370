r"""Is this structure anything like the training set? Deviations, distances and a map, atom by atom.

Two questions are asked of every atom. What does the model itself say: the standard deviation of the local energy (of
the function, without noise). And what has it seen: the distance to the nearest training environment in the geometry
of its own kernel,

.. math:: d(x, y) = \sqrt{k(x, x) + k(y, y) - 2 k(x, y)}

(Schoelkopf and Smola, Learning with Kernels (2002), eq. 2.81), with k the unit kernel of the SOAP term (with several,
their mean weighted by prior variance), so that d has no unit and is at most :math:`\sqrt{2}`. The two belong together:
a posterior covariance is never above its prior, so no deviation exceeds that of a training environment by more than
the prior allows over that distance, :math:`\sigma(x) \le \sigma(y) + \delta\, d(x, y)`, for a model of one SOAP term.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.descriptors import SOAP
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.potential.potential import Potential

#: rows of kernel values held at a time
CHUNK = 512


@dataclass(frozen=True)
class DomainSettings:
    """How a domain is judged and drawn.

    Attributes
    ----------
    quantile : float
        Share of the training environments that lie within ``distance_limit``, each measured to the nearest one of
        another trajectory.
    map_environments : int
        At most this many training environments, and as many new ones, on the map.
    seed : int
        Of the choice of environments for the map.
    """

    quantile: float = 0.95
    map_environments: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise SettingsError(f"quantile must be between 0 and 1, not {self.quantile!r}")
        if self.map_environments < 3:
            raise SettingsError(f"map_environments must be at least 3, not {self.map_environments!r}")


@dataclass(frozen=True)
class Environments:
    """Atoms of some frames as a potential sees them.

    Attributes
    ----------
    frame, atom, number : (n,)
        Index of the frame, of the atom in it, and atomic number.
    config_type, trajectory : (n,)
        Of the frame; "" and "frame k" where it names none.
    std : (n,)
        Standard deviation of the local energy (eV), of the function alone.
    features : dict
        By atomic number: one (n_z, f) array per SOAP term, scaled by its kernel, rows in order of appearance.
    """

    frame: np.ndarray
    atom: np.ndarray
    number: np.ndarray
    config_type: np.ndarray
    trajectory: np.ndarray
    std: np.ndarray
    features: dict[int, tuple[np.ndarray, ...]]

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, number: int) -> np.ndarray:
        """Places of the environments around this species."""
        return np.flatnonzero(self.number == number)


def environments(gap: GAP, frames: Sequence[ase.Atoms]) -> Environments:
    """Features and deviations of all atoms of ``frames``.

    Raises
    ------
    SettingsError
        For a potential without a SOAP term.
    SpeciesError, DataError
        As :meth:`gapkit.GAP.predict`; DataError where there are no frames.
    """
    potential = gap.potential_
    frames = list(frames)
    if not frames:
        raise DataError("there are no frames; give at least one")
    blocks = {z: _soap_blocks(potential, z) for z in potential.species}
    features: dict[int, list[list[np.ndarray]]] = {z: [[] for _ in b] for z, b in blocks.items()}
    std = []
    for index, atoms in enumerate(frames):
        structure = potential.structure(atoms, f"frame {index}")
        std.append(potential.local_spread(structure, noise=False))
        for z in np.unique(structure.numbers).tolist():
            for part, block in zip(features[z], blocks[z], strict=True):
                x = block.descriptor.environments(structure, block.channel, derivatives=False).x
                part.append(block.kernel.scale(x))
    sizes = [len(a) for a in frames]
    config = [str(a.info.get("config_type", "")) for a in frames]
    trajectory = [str(a.info.get("trajectory", f"frame {k}")) for k, a in enumerate(frames)]
    return Environments(
        frame=np.repeat(np.arange(len(frames)), sizes),
        atom=np.concatenate([np.arange(n) for n in sizes]),
        number=np.concatenate([a.numbers for a in frames]),
        config_type=np.repeat(np.array(config), sizes),
        trajectory=np.repeat(np.array(trajectory), sizes),
        std=np.concatenate(std),
        features={z: tuple(np.vstack(part) for part in parts) for z, parts in features.items() if parts and parts[0]},
    )


def _soap_blocks(potential: Potential, number: int) -> list:
    blocks = [b for b in potential.basis.blocks if isinstance(b.descriptor, SOAP) and b.channel == (number,)]
    if not blocks:
        raise SettingsError("distances between environments need a SOAP term; this potential has none")
    return blocks


def kernel(gap: GAP, number: int, x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> np.ndarray:
    """Unit kernel (n, m) between environments of one species; ``x``, ``y``: one feature array per SOAP term."""
    blocks = _soap_blocks(gap.potential_, number)
    weight = np.array([gap.potential_.posterior.signal[b.term] ** 2 for b in blocks])
    weight /= weight.sum()
    return sum(w * b.kernel.of_scaled(p, q) for w, b, p, q in zip(weight, blocks, x, y, strict=True))


def nearest(gap: GAP, new: Environments, known: Environments, *, other_trajectory: bool = False):
    """Distance (n,) of each new environment to the nearest known one of its species, and the place (n,) of that.

    Where there is none the distance is sqrt(2) (a kernel of zero) and the place -1. ``other_trajectory`` leaves out
    known environments whose trajectory bears the same name. Rounding leaves 1e-8 for equal environments.
    """
    distance = np.full(len(new), np.sqrt(2.0))
    place = np.full(len(new), -1)
    for z in np.unique(new.number).tolist():
        there = known.rows(z)
        if not len(there):
            continue
        here = new.rows(z)
        for begin in range(0, len(here), CHUNK):
            part = slice(begin, begin + CHUNK)
            k = kernel(gap, z, [x[part] for x in new.features[z]], known.features[z])
            if other_trajectory:
                k[new.trajectory[here[part], None] == known.trajectory[None, there]] = -1.0
            best = np.argmax(k, axis=1)
            top = np.minimum(k[np.arange(len(k)), best], 1.0)  # k(x, x) = 1: unit vectors
            found = top >= 0
            distance[here[part]] = np.where(found, np.sqrt(2.0 - 2.0 * top), np.sqrt(2.0))
            place[here[part]] = np.where(found, there[best], -1)
    return distance, place


@dataclass(frozen=True)
class DomainMap:
    """Kernel principal components of training and new environments of one species together.

    Attributes
    ----------
    number : int
        Atomic number.
    training, new : (n, 2)
        Coordinates: dimensionless, in the metric of the kernel distance.
    training_place, new_place : (n,)
        Which environments these are.
    explained : (2,)
        Share of the variance along each axis; zero where all environments are alike.
    """

    number: int
    training: np.ndarray
    new: np.ndarray
    training_place: np.ndarray
    new_place: np.ndarray
    explained: np.ndarray


def domain_map(
    gap: GAP,
    training: Environments,
    new: Environments,
    number: int | None = None,
    settings: DomainSettings | None = None,
) -> DomainMap:
    """Kernel PCA (Schoelkopf, Smola and Mueller, Neural Comput. 10, 1299 (1998)) of a sample of both sets.

    ``number``: the species; the most frequent one of ``new`` by default. The axes are those of the sample: a map of
    other frames is another map.
    """
    from sklearn.decomposition import KernelPCA

    settings = settings or DomainSettings()
    number = Counter(new.number.tolist()).most_common(1)[0][0] if number is None else number
    rng = np.random.default_rng(settings.seed)
    places, parts = [], []
    for known in (training, new):
        there = known.rows(number)
        chosen = np.arange(len(there))
        if len(there) > settings.map_environments:
            chosen = np.sort(rng.choice(len(there), settings.map_environments, replace=False))
        places.append(there[chosen])
        if len(there):
            parts.append([x[chosen] for x in known.features[number]])
    if sum(map(len, places)) < 3:
        raise DataError(f"a map needs at least 3 environments of atomic number {number}")
    features = [np.vstack(x) for x in zip(*parts, strict=True)]
    K = kernel(gap, number, features, features)
    pca = KernelPCA(n_components=2, kernel="precomputed", random_state=settings.seed)
    xy = pca.fit_transform(K)
    xy *= np.sign(xy[np.argmax(np.abs(xy), axis=0), [0, 1]])  # signs are arbitrary: the longest arm points up
    total = np.trace(K) - K.sum() / len(K)
    n = len(places[0])
    explained = pca.eigenvalues_ / total if total > 1e-12 * len(K) else np.zeros(2)  # all alike: nothing to explain
    return DomainMap(int(number), xy[:n], xy[n:], *places, explained)


@dataclass(frozen=True)
class DomainReport:
    """What a potential knows of the atoms of some frames.

    Attributes
    ----------
    settings : DomainSettings
    training, new : Environments
        Of the training frames, and of the frames in question.
    std_limit : float
        Deviation of a local energy (eV) beyond which the potential itself calls an atom out of domain
        (:meth:`gapkit.potential.potential.Potential.domain_limit`, without noise).
    distance_limit : float
        Quantile of ``training_distance``.
    training_distance : (n_training,)
        Distance of each training environment to the nearest one of another trajectory.
    distance : (n,)
        Distance of each new environment to the nearest training environment.
    place : (n,)
        Which one that is (index into ``training``; -1: none of this species).
    energy_std : (n_frames,)
        Predicted standard deviation of each frame's energy as a new label (eV).
    """

    settings: DomainSettings
    training: Environments
    new: Environments
    std_limit: float
    distance_limit: float
    training_distance: np.ndarray
    distance: np.ndarray
    place: np.ndarray
    energy_std: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """Deviations (n,) of the local energies (eV)."""
        return self.new.std

    @property
    def std_ratio(self) -> np.ndarray:
        """Deviations (n,) in units of ``std_limit``."""
        return self.new.std / self.std_limit

    @property
    def std_rank(self) -> np.ndarray:
        """Share (n,) of the training environments whose deviation is smaller."""
        return np.searchsorted(np.sort(self.training.std), self.new.std) / len(self.training)

    @property
    def unfamiliar(self) -> np.ndarray:
        """Whether each atom (n,) is beyond ``distance_limit``, or beyond ``std_limit``."""
        return (self.distance > self.distance_limit) | (self.new.std > self.std_limit)

    def nearest_to(self, environment: int) -> tuple[int, int, str]:
        """Training frame, atom and config_type nearest to an environment; (-1, -1, "") where there is none."""
        at = self.place[environment]
        if at < 0:
            return -1, -1, ""
        known = self.training
        return int(known.frame[at]), int(known.atom[at]), str(known.config_type[at])

    def least_known(self, frame: int) -> int:
        """Place of the environment of ``frame`` that is farthest from the training set."""
        mine = np.flatnonzero(self.new.frame == frame)
        return int(mine[np.argmax(self.distance[mine])])

    def table(self) -> str:
        """One line per frame: its farthest atom, what that is nearest to, its least certain atom, atoms unfamiliar."""
        lines = [
            f"{'frame':>5} {'config_type':<16} {'atoms':>5} {'distance':>8} {'nearest training':<24} "
            f"{'std meV':>8} {'/limit':>6} {'unfamiliar':>10}"
        ]
        for frame in range(len(self.energy_std)):
            mine = np.flatnonzero(self.new.frame == frame)
            far = self.least_known(frame)
            where, atom, name = self.nearest_to(far)
            known = f"{name} {where}:{atom}" if where >= 0 else "none of this species"
            lines.append(
                f"{frame:>5} {self.new.config_type[far]!s:<16} {len(mine):>5} {self.distance[far]:>8.3f} {known:<24} "
                f"{1e3 * self.std[mine].max():>8.1f} {self.std_ratio[mine].max():>6.2f} "
                f"{int(self.unfamiliar[mine].sum()):>10}"
            )
        lines.append(
            f"limits: distance {self.distance_limit:.3f} ({100 * self.settings.quantile:g} % of the training "
            f"environments are nearer to another trajectory), std {1e3 * self.std_limit:.1f} meV"
        )
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def domain_report(
    gap: GAP,
    training: Sequence[ase.Atoms] | Environments,
    frames: Sequence[ase.Atoms],
    settings: DomainSettings | None = None,
) -> DomainReport:
    """Deviations and distances of every atom of ``frames``.

    Parameters
    ----------
    gap
        A fitted model with a SOAP term.
    training
        The frames that it was fitted to (a model file holds only sparse points), or their :func:`environments`, which
        saves time where many reports are asked of one model.
    frames
        The frames in question; labels are not needed.

    Raises
    ------
    SettingsError, SpeciesError, DataError
        As :func:`environments`.
    """
    settings = settings or DomainSettings()
    frames = list(frames)
    known = training if isinstance(training, Environments) else environments(gap, training)
    new = environments(gap, frames)
    own, at = nearest(gap, known, known, other_trajectory=True)
    inner = own[at >= 0]
    distance, place = nearest(gap, new, known)
    return DomainReport(
        settings=settings,
        training=known,
        new=new,
        std_limit=gap.potential_.domain_limit(noise=False),
        distance_limit=float(np.quantile(inner, settings.quantile)) if len(inner) else 0.0,
        training_distance=own,
        distance=distance,
        place=place,
        energy_std=gap.predict(frames, uncertainty="energy").energy_std,
    )
