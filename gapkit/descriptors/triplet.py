"""Triplets: a central atom and two of its neighbours."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from gapkit.descriptors.base import Channel, Descriptor, EnvironmentBatch, check_cutoff, check_width, smooth_cutoff
from gapkit.numerics.chains import triplet_columns, triplet_list
from gapkit.structures.neighbours import Structure


class Triplet(Descriptor):
    r"""One environment per central atom i and unordered pair of its neighbours j, k.

    Features (r_ij + r_ik (A), (r_ij - r_ik)^2 (A^2), r_jk (A)), symmetric in j and k (Bartok and Csanyi, Int. J.
    Quantum Chem. 115, 1051 (2015), eq. 22); weight f_cut(r_ij) f_cut(r_ik). The atom i owns the energy. Costs grow
    as the square of the number of neighbours, those of exact prior variances as the square of the number of
    triplets: keep the cutoff to the first shells.

    Parameters
    ----------
    r_cut
        Cutoff of r_ij and r_ik (A).
    cutoff_width
        Length over which the weight falls to zero (A).

    Examples
    --------
    >>> import gapkit
    >>> gapkit.Triplet(r_cut=3.0).for_species([14]).channels
    ((14, 14, 14),)
    """

    species: tuple[int, ...] = ()

    def __init__(self, r_cut: float = 3.5, cutoff_width: float = 1.0) -> None:
        self.r_cut = check_cutoff(r_cut)
        self.cutoff_width = check_width(cutoff_width, self.r_cut)

    def for_species(self, species: Iterable[int]) -> Triplet:
        described = copy.copy(self)
        described.species = tuple(sorted(int(z) for z in species))
        return described

    @property
    def channels(self) -> tuple[Channel, ...]:
        """(Z_i, Z_j, Z_k) with Z_j <= Z_k."""
        s = self.species
        return tuple((c, a, b) for c in s for k, a in enumerate(s) for b in s[k:])

    def environments(
        self, structure: Structure, channel: Channel, derivatives: bool = True, atoms: np.ndarray | None = None
    ) -> EnvironmentBatch:
        pairs = structure.pairs(self.r_cut)
        centres = np.arange(structure.n_atoms) if atoms is None else np.asarray(atoms)
        centres = centres[structure.numbers[centres] == channel[0]]
        first, second = triplet_list(centres, pairs.first, structure.numbers[pairs.j], channel[1], channel[2])
        weight, slope = smooth_cutoff(pairs.distances, self.r_cut, self.cutoff_width)
        x, w, start, target, J, dweight = triplet_columns(
            first, second, pairs.i, pairs.j, pairs.vectors, pairs.distances, weight, slope, structure.n_atoms,
            derivatives,
        )  # fmt: skip
        return EnvironmentBatch(x, w, pairs.i[first], start, target, J, dweight)

    def settings(self) -> dict[str, Any]:
        return {"name": "triplet", "r_cut": self.r_cut, "cutoff_width": self.cutoff_width}
