"""Frames with one geometry and different labels: found by their mean descriptors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from gapkit.fitting.training_set import TrainingSet
from gapkit.structures.neighbours import neighbours

#: distance of mean descriptors, over their length, below which two frames have one geometry: displacements of 1e-4 A
SAME = 1e-4
#: energies per atom (eV) and forces (eV/A, and share of their size) that differ by more are not those of one geometry
ENERGY, FORCES, SHARE = 2e-3, 0.02, 0.02
#: reach (A) within which distances are compared, and the largest difference of equal ones
REACH, APART = 6.0, 2e-3
#: pairs that are looked at, at most
PAIRS = 100_000


@dataclass(frozen=True)
class Alike:
    """Two frames of one geometry whose labels differ.

    Attributes
    ----------
    frames : (int, int)
        Positions in the list that the user gave.
    energy : float or None
        Difference of the energies per atom (eV); None where they are equal or unknown.
    forces : float or None
        Root-mean-square difference of the sorted lengths of the forces (eV/A); None where equal or unknown.
    """

    frames: tuple[int, int]
    energy: float | None
    forces: float | None

    def __str__(self) -> str:
        parts = []
        if self.energy is not None:
            parts.append(f"energies by {1e3 * self.energy:.3g} meV/atom")
        if self.forces is not None:
            parts.append(f"forces by {self.forces:.3g} eV/A")
        return f"frames {self.frames[0]} and {self.frames[1]} differ in {' and '.join(parts)}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the two frames."""
        return asdict(self) | {"frames": list(self.frames)}


def alike(data: TrainingSet, fingerprints: np.ndarray) -> tuple[Alike, ...]:
    """Pairs of frames with one geometry, within the cutoff of the descriptor, and different labels.

    Parameters
    ----------
    data
        Training set.
    fingerprints : (frames, features)
        Mean descriptors.
    """
    kinds: dict[str, list[int]] = {}
    for k, frame in enumerate(data.frames):
        if not data.targets[k].isolated:
            kinds.setdefault(f"{frame.atoms.get_chemical_formula()} {frame.atoms.pbc}", []).append(k)
    found, known = [], _Distances(data)
    for places in kinds.values():
        x = fingerprints[places]
        length = float(np.median(np.linalg.norm(x, axis=1)))
        pairs = cKDTree(x).query_pairs(SAME * max(length, 1e-300), output_type="ndarray")
        for a, b in pairs[np.lexsort(pairs.T[::-1])][:PAIRS]:
            one, other = sorted((places[a], places[b]), key=lambda k: data.frames[k].index)
            differ = _different(data, one, other)
            if differ is not None and known.equal(one, other):
                found.append(differ)
    return tuple(sorted(found, key=lambda pair: pair.frames))


class _Distances:
    """Distances between the atoms of frames, which a descriptor of short reach need not see."""

    def __init__(self, data: TrainingSet) -> None:
        self._data = data
        self._known: dict[int, np.ndarray] = {}

    def equal(self, a: int, b: int) -> bool:
        """Whether two frames have the same distances."""
        one, other = self._of(a), self._of(b)
        return len(one) == len(other) and bool(np.all(np.abs(one - other) < APART))

    def _of(self, k: int) -> np.ndarray:
        if k not in self._known:
            distances = np.sort(neighbours(self._data.frames[k].atoms, REACH).distances)
            self._known[k] = distances[distances < REACH - APART]
        return self._known[k]


def _different(data: TrainingSet, a: int, b: int) -> Alike | None:
    one, other = data.frames[a], data.frames[b]
    energy = forces = None
    if one.energy is not None and other.energy is not None:
        difference = abs(one.energy - other.energy) / one.n_atoms
        energy = difference if difference > ENERGY else None
    if one.forces is not None and other.forces is not None and one.held is None and other.held is None:
        lengths = [np.sort(np.linalg.norm(f.forces, axis=1)) for f in (one, other) if f.forces is not None]
        difference = float(np.sqrt(np.mean((lengths[0] - lengths[1]) ** 2)))
        size = float(np.sqrt(np.mean(lengths[0] ** 2 + lengths[1] ** 2)))
        forces = difference if difference > FORCES + SHARE * size else None
    return None if energy is None and forces is None else Alike((one.index, other.index), energy, forces)
