"""Atoms as descriptors see them: atomic numbers, pair lists, and the atoms whose environments count."""

from __future__ import annotations

import ase
import numpy as np

from gapkit.numerics.writeable import for_kernels
from gapkit.structures.neighbours import FrameArrays, Neighbours, neighbours, neighbours_of_frames


class Structure:
    """Atomic numbers and pair lists, the latter made once for the longest cutoff.

    A structure is one frame; or many frames that do not meet (:meth:`of_frames`), whose atoms are numbered through; or
    the atoms of a domain and the ghosts around them (:meth:`of_pairs`), of which only the ``centres`` have
    environments.

    Parameters
    ----------
    atoms
        The frame.
    r_cut
        Longest cutoff (A).
    pairs
        Its pair list, where it is known already.

    Attributes
    ----------
    numbers : (n_atoms,) int
    n_atoms : int
    """

    def __init__(self, atoms: ase.Atoms, r_cut: float, pairs: Neighbours | None = None) -> None:
        self._set(atoms.numbers, neighbours(atoms, r_cut) if pairs is None else pairs, None)

    def _set(self, numbers: np.ndarray, pairs: Neighbours, centres: np.ndarray | None) -> None:
        self.numbers = for_kernels(numbers, np.int64)
        self.n_atoms = len(self.numbers)
        self._centres = centres
        self._longest = pairs
        self._shorter: dict[float, Neighbours] = {}

    @classmethod
    def of_pairs(cls, numbers: np.ndarray, pairs: Neighbours, centres: np.ndarray | None = None) -> Structure:
        """Structure of atomic numbers (n,) and a pair list; with ``centres``, the list holds only their pairs."""
        structure = cls.__new__(cls)
        structure._set(numbers, pairs, centres)
        return structure

    @classmethod
    def of_frames(cls, frames: FrameArrays, r_cut: float) -> Structure:
        """All atoms of many frames, numbered through."""
        return cls.of_pairs(frames.numbers, neighbours_of_frames(frames, r_cut))

    def part(self, begin: int, end: int) -> Structure:
        """The atoms from ``begin`` to ``end``, which meet no others, as a structure of their own."""
        if begin == 0 and end == self.n_atoms:
            return self
        pairs = self._longest
        of_part = slice(pairs.first[begin], pairs.first[end])
        first = pairs.first[begin : end + 1] - pairs.first[begin]
        i, j = pairs.i[of_part] - begin, pairs.j[of_part] - begin
        part = Neighbours(end - begin, pairs.r_cut, first, i, j, pairs.vectors[of_part], pairs.distances[of_part])
        return Structure.of_pairs(self.numbers[begin:end], part)

    @property
    def centres(self) -> np.ndarray:
        """Atoms (k,) whose environments count, in rising order: all of them but for domains with ghosts."""
        return np.arange(self.n_atoms) if self._centres is None else self._centres

    def centres_of(self, number: int, atoms: np.ndarray | None = None) -> np.ndarray:
        """Atoms of this atomic number among ``atoms`` (default: the centres)."""
        if atoms is not None:
            atoms = np.asarray(atoms)
            return atoms[self.numbers[atoms] == number]
        if self._centres is None:
            return np.flatnonzero(self.numbers == number)
        return self._centres[self.numbers[self._centres] == number]

    def coordination(self) -> np.ndarray:
        """Sum (n,) over the neighbours of each centre of a weight that falls from one to zero at the cutoff, a cosine.

        Infinite for atoms that are no centres.
        """
        pairs = self._longest
        weight = 0.5 * (1.0 + np.cos(np.pi * pairs.distances / pairs.r_cut))
        found = np.bincount(pairs.i, weights=weight, minlength=self.n_atoms)
        if self._centres is not None:
            found[np.setdiff1d(np.arange(self.n_atoms), self._centres)] = np.inf
        return found

    def add_to_centres(self, values: np.ndarray, by_number: np.ndarray) -> None:
        """Add to ``values`` (n,) of each centre the entry of ``by_number`` for its atomic number."""
        if self._centres is None:
            values += by_number[self.numbers]
        else:
            values[self._centres] += by_number[self.numbers[self._centres]]

    def pairs(self, r_cut: float) -> Neighbours:
        """Pair list within ``r_cut`` (A), at most the cutoff that the structure was made with."""
        if r_cut == self._longest.r_cut:
            return self._longest
        if r_cut > self._longest.r_cut:
            raise ValueError(f"pair list made for {self._longest.r_cut} A cannot serve a cutoff of {r_cut} A")
        if r_cut not in self._shorter:
            self._shorter[r_cut] = self._longest.within(r_cut)
        return self._shorter[r_cut]
