"""Triplets: a central atom and two of its neighbours."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gapkit.descriptors.base import (
    Channel,
    Descriptor,
    EnvironmentBatch,
    KernelSum,
    Sums,
    check_cutoff,
    check_width,
    smooth_cutoff,
)
from gapkit.exceptions import DataError
from gapkit.numerics.chains import add_triplet_prediction, triplet_columns, triplet_list
from gapkit.structures.labels import SAME_SPOT
from gapkit.structures.structure import Structure


class Triplet(Descriptor):
    r"""Three-body descriptor: one environment per central atom i and unordered pair of its neighbours j, k.

    Features (r_ij + r_ik (A), (r_ij - r_ik)^2 (A^2), r_jk (A)), symmetric in j and k (Bartok and Csanyi, Int. J.
    Quantum Chem. 115, 1051 (2015), eq. 22); weight f_cut(r_ij) f_cut(r_ik). The atom i owns the energy. The cost
    grows as the square of the number of neighbours, and the cost of exact prior variances as the square of the number
    of triplets. Choose a cutoff at the first shells.

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

    name = "triplet"
    species: tuple[int, ...] = ()

    def __init__(self, r_cut: float = 3.5, cutoff_width: float = 1.0) -> None:
        self.r_cut = check_cutoff(r_cut)
        self.cutoff_width = check_width(cutoff_width, self.r_cut)

    def for_species(self, species: Iterable[int]) -> Triplet:
        described = copy.copy(self)
        described.species = tuple(sorted(int(z) for z in species))
        return described

    def n_features(self, channel: Channel) -> int:
        return 3

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels (Z_i, Z_j, Z_k) with Z_j <= Z_k: the central atom, then its two neighbours."""
        s = self.species
        return tuple((c, a, b) for c in s for k, a in enumerate(s) for b in s[k:])

    def environments(
        self, structure: Structure, channel: Channel, derivatives: bool = True, atoms: np.ndarray | None = None
    ) -> EnvironmentBatch:
        pairs = structure.pairs(self.r_cut)
        first, second, weight, slope = self._triplets(structure, channel, atoms)
        x, w, start, target, J, dweight = triplet_columns(
            first, second, pairs.i, pairs.j, pairs.vectors, pairs.distances, weight, slope, structure.n_atoms,
            derivatives,
        )  # fmt: skip
        return EnvironmentBatch(x, w, pairs.i[first], start, target, J, dweight)

    def _triplets(self, structure: Structure, channel: Channel, atoms: np.ndarray | None) -> tuple[np.ndarray, ...]:
        """The pairs (i, j) and (i, k) of each triplet; and of each pair the cutoff function and its slope (1/A)."""
        pairs = structure.pairs(self.r_cut)
        centres = structure.centres_of(channel[0], atoms)
        first, second = triplet_list(centres, pairs.first, structure.numbers[pairs.j], channel[1], channel[2])
        return first, second, *smooth_cutoff(pairs.distances, self.r_cut, self.cutoff_width)

    def add_prediction(
        self, structure: Structure, channel: Channel, predictor: Sequence[KernelSum], sums: Sums
    ) -> None:
        """Add this channel's mean prediction to ``sums``, by the vectors of the pairs: no Jacobian is stored.

        Raises
        ------
        DataError
            For two neighbours of an atom on one spot, which in a domain may be ghosts that no pair list tells of.
        """
        pairs = structure.pairs(self.r_cut)
        first, second, weight, slope = self._triplets(structure, channel, None)
        lists = first, second, pairs.i, pairs.j, pairs.vectors, pairs.distances
        x = triplet_columns(*lists, weight, slope, structure.n_atoms, False)[0]
        if len(x) and x[:, 2].min() < SAME_SPOT:
            e = int(np.argmin(x[:, 2]))
            raise DataError(
                f"atoms {pairs.j[first[e]]} and {pairs.j[second[e]]}, neighbours of atom {pairs.i[first[e]]}, are "
                f"{x[e, 2]:.2g} A apart, on one spot; remove the duplicate atom or repair the frame"
            )
        one = np.ones((1, 3))
        for s in predictor:
            g, by_feature = s.values_and_slopes(x)
            by_feature = by_feature if s.directions is None else by_feature @ s.directions
            add_triplet_prediction(
                *lists, weight, slope, g, by_feature * s.kernel.scale(one), sums.local, sums.gradient, sums.strain
            )

    def settings(self) -> dict[str, Any]:
        return {"name": "triplet", "r_cut": self.r_cut, "cutoff_width": self.cutoff_width}
