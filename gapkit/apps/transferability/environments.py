"""Atoms as a potential sees them: features, standard deviations, kernel distances, and a map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.potential.potential import Potential
from gapkit.progress import progress_bar

#: rows of kernel values held at a time
CHUNK = 512
#: fewest environments that a map can be drawn of
LEAST_MAPPED = 3


@dataclass(frozen=True)
class Environments:
    """Atoms of some frames as a potential sees them.

    Attributes
    ----------
    frame, atom, number : (n,)
        Index of the frame, of the atom in it, and atomic number.
    config_type, trajectory : (n,)
        Names from the frame; "" and "frame k" where it has none.
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


def environments(gap: GAP, frames: Sequence[ase.Atoms], progress: bool = False) -> Environments:
    """Features and standard deviations of all atoms of ``frames``.

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
    std = potential.local_spreads(frames, noise=False)
    watched = progress_bar(frames, desc="environments", unit="frame", show=progress)
    for index, atoms in enumerate(watched):
        structure = potential.structure(atoms, f"frame {index}")
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
    blocks = [b for b in potential.basis.blocks if b.descriptor.of_atoms and b.channel == (number,)]
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
    most: int = 1000,
    random_state: int | np.random.Generator | None = None,
) -> DomainMap:
    """Kernel PCA (Schoelkopf, Smola and Mueller, Neural Comput. 10, 1299 (1998)) of a sample of both sets.

    The axes are those of the sample: a map of other frames is another map.

    Parameters
    ----------
    number
        Atomic number of the species; the most frequent one of ``new`` by default.
    most
        At most this many training environments, and as many new ones, are drawn.
    random_state
        Seed of the choice of environments.

    Raises
    ------
    DataError
        For fewer than three environments.
    """
    from sklearn.decomposition import KernelPCA

    number = Counter(new.number.tolist()).most_common(1)[0][0] if number is None else number
    rng = np.random.default_rng(random_state)
    places, parts = [], []
    for known in (training, new):
        there = known.rows(number)
        chosen = np.arange(len(there))
        if len(there) > most:
            chosen = np.sort(rng.choice(len(there), most, replace=False))
        places.append(there[chosen])
        if len(there):
            parts.append([x[chosen] for x in known.features[number]])
    if sum(map(len, places)) < LEAST_MAPPED:
        raise DataError(f"a map needs at least {LEAST_MAPPED} environments of atomic number {number}")
    features = [np.vstack(x) for x in zip(*parts, strict=True)]
    K = kernel(gap, number, features, features)
    pca = KernelPCA(n_components=2, kernel="precomputed", random_state=0)
    xy = pca.fit_transform(K)
    xy *= np.sign(xy[np.argmax(np.abs(xy), axis=0), [0, 1]])  # signs are arbitrary: the longest arm points up
    total = np.trace(K) - K.sum() / len(K)
    n = len(places[0])
    explained = pca.eigenvalues_ / total if total > 1e-12 * len(K) else np.zeros(2)  # all alike: nothing to explain
    known_place, new_place = places
    return DomainMap(int(number), xy[:n], xy[n:], known_place, new_place, explained)
