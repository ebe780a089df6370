"""Frames and domains as a potential takes them: checked, with their pair lists."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.data import chemical_symbols

from gapkit.exceptions import DataError, SettingsError, SpeciesError
from gapkit.structures import small_frames
from gapkit.structures.labels import SAME_SPOT, check_distances
from gapkit.structures.neighbours import FrameArrays, Neighbours
from gapkit.structures.plausibility import check_contacts, check_extent
from gapkit.structures.structure import Structure
from gapkit.structures.verlet_list import VerletList


class CheckedStructures:
    """Maker of structures that a potential can compute.

    Parameters
    ----------
    species
        Atomic numbers that the potential was trained on.
    r_cut
        Cutoff of the pair lists (A).
    """

    def __init__(self, species: Sequence[int], r_cut: float) -> None:
        self.species = tuple(species)
        self.r_cut = r_cut
        #: whether a species is known, by atomic number
        self._known = np.zeros(len(chemical_symbols), dtype=np.bool_)
        self._known[list(species)] = True

    def check(self, atoms: ase.Atoms, context: str) -> None:
        """Check a frame as :meth:`of_frames` does, at the cost of one short pair list."""
        check_contacts(atoms, context)
        self._check_species(atoms.numbers, context)

    def of_frame(self, atoms: ase.Atoms, context: str, pairs: VerletList | None = None) -> Structure:
        """One frame, with the pair list of ``pairs`` if given; raises as :meth:`of_frames`."""
        if pairs is None:
            return self.of_frames(FrameArrays.of([atoms]), [context])
        if not pairs.serves(atoms):  # else it was checked when the pairs were searched
            self._look_closer(atoms, context)
        structure = Structure(atoms, self.r_cut, pairs.pairs(atoms))
        found = structure.pairs(self.r_cut)
        check_distances(found.distances, found.i, found.j, context)
        return structure

    def of_frames(self, frames: FrameArrays, context: Sequence[str]) -> Structure:
        """Many frames as one structure; ``context``: their names in messages.

        Raises
        ------
        SpeciesError, DataError
            An atom of a species that the model was not trained on; see ``gapkit.structures.labels`` and
            ``gapkit.structures.plausibility`` for the others.
        """
        self._look_at(frames, context)
        structure = Structure.of_frames(frames, self.r_cut)
        self._look_for_contacts(structure, frames.begin, context)
        return structure

    def of_copies(self, atoms: ase.Atoms, positions: np.ndarray, lists: Sequence[VerletList], number: int) -> Structure:
        """Copies of one frame at ``positions`` (R, n, 3), by the pair list of each (R) or, without, by a new search.

        ``number``: of the first copy, for messages. Raises as :meth:`of_frames`."""
        frames = FrameArrays.of_copies(atoms, positions)
        context = [f"copy {r}" for r in range(number, number + len(positions))]
        if not lists:
            return self.of_frames(frames, context)
        self._look_at(frames, context)
        singles = [kept.pairs(frames.frame(r)) for r, kept in zip(range(len(positions)), lists, strict=True)]
        structure = Structure.of_pairs(frames.numbers, Neighbours.joined(singles))
        self._look_for_contacts(structure, frames.begin, context)
        return structure

    def _look_at(self, frames: FrameArrays, context: Sequence[str]) -> None:
        """Check each frame; for most a quick look at its numbers is enough."""
        plain = np.empty(len(frames.cells), dtype=np.bool_)
        numbers, positions, begin, cells, pbc = frames
        small_frames.plain_frames(positions, numbers, self._known, begin, cells, pbc, plain)
        if not plain.all():
            for f in np.flatnonzero(~plain).tolist():
                self._look_closer(frames.frame(f), context[f])

    def _look_for_contacts(self, structure: Structure, begin: np.ndarray, context: Sequence[str]) -> None:
        pairs = structure.pairs(self.r_cut)
        if len(pairs.distances) and pairs.distances.min() < SAME_SPOT:
            for f, name in enumerate(context):
                part = slice(pairs.first[begin[f]], pairs.first[begin[f + 1]])
                check_distances(pairs.distances[part], pairs.i[part] - begin[f], pairs.j[part] - begin[f], name)

    def _look_closer(self, atoms: ase.Atoms, context: str) -> None:
        check_extent(atoms, context)
        self._check_species(atoms.numbers, context)

    def of_domain(self, numbers: np.ndarray, neighbours: Neighbours, centres: np.ndarray) -> Structure:
        """Owned atoms and ghosts with given neighbours: of the pairs those around the centres.

        Raises
        ------
        SettingsError
            For a pair list with a cutoff that is too short.
        DataError
            Atoms or centres that are not there, pairs that are not finite, two atoms on one spot.
        SpeciesError
            A species that the model was not trained on.
        """
        if neighbours.r_cut < self.r_cut:
            raise SettingsError(
                f"the pair list was made for {neighbours.r_cut} A, the potential needs {self.r_cut} A; search farther"
            )
        if numbers.shape != (neighbours.n_atoms,):
            raise DataError(f"{neighbours.n_atoms} atoms in the pair list, but atomic numbers {numbers.shape}")
        n = len(numbers)
        if centres.ndim != 1 or len(np.unique(centres)) != len(centres):
            raise DataError("centres must be a list of atoms, each once")
        if len(centres) and not (centres.dtype.kind in "iu" and centres.min() >= 0 and centres.max() < n):
            raise DataError(f"centres must be whole numbers from 0 to {n - 1}, the atoms of the domain")
        centres = np.sort(centres).astype(np.int64)
        pairs = neighbours.around(centres)
        if not np.isfinite(pairs.vectors).all():
            pair = int(np.argmin(np.isfinite(pairs.vectors).all(axis=1)))
            raise DataError(f"the vector from atom {pairs.i[pair]} to atom {pairs.j[pair]} is not finite")
        pairs = pairs.within(self.r_cut)
        self._check_species(numbers, "domain")
        check_distances(pairs.distances, pairs.i, pairs.j, "domain")
        return Structure.of_pairs(numbers, pairs, centres)

    def _check_species(self, numbers: np.ndarray, context: str) -> None:
        unknown = np.flatnonzero(~np.isin(numbers, self.species))
        if len(unknown):
            z = int(numbers[unknown[0]])
            symbol = chemical_symbols[z] if 0 < z < len(chemical_symbols) else f"of atomic number {z}"
            known = ", ".join(chemical_symbols[z] for z in self.species)
            raise SpeciesError(
                f"{context}: atom {unknown[0]} is {symbol}, a species that the model was not trained on ({known}); "
                f"add frames with {symbol} to the training set"
            )
