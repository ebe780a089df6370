"""Pair-distance descriptor."""

from __future__ import annotations

import copy
import math
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
from gapkit.numerics import kernel_functions
from gapkit.numerics.chains import add_pair_prediction, pair_columns
from gapkit.structures.structure import Structure

#: grid points of a pair energy's table, at least, and per length scale: errors (h/theta)^4 / 128 of the weights in the
#: energy, (h/theta)^3 / 50 of weights over theta in the force: 1e-10 of them
TABLE_POINTS, POINTS_PER_SCALE = 4000, 500


class PairDistance(Descriptor):
    r"""Pair descriptor: one environment per pair of atoms, x = r_ij (A), with the weight f_cut(r_ij) / 2.

    Each pair is visited from both ends, so each atom owns half of the pair's energy.

    Parameters
    ----------
    r_cut
        Cutoff (A).
    cutoff_width
        Length over which the weight falls to zero (A).

    Examples
    --------
    >>> import gapkit
    >>> gapkit.PairDistance(r_cut=4.0).for_species([1, 8]).channels
    ((1, 1), (1, 8), (8, 8))
    """

    species: tuple[int, ...] = ()
    name = "pair"
    of_pairs = True

    def __init__(self, r_cut: float = 5.0, cutoff_width: float = 1.0) -> None:
        self.r_cut = check_cutoff(r_cut)
        self.cutoff_width = check_width(cutoff_width, self.r_cut)
        self.feature_range = (0.0, self.r_cut)

    def for_species(self, species: Iterable[int]) -> PairDistance:
        described = copy.copy(self)
        described.species = tuple(sorted(int(z) for z in species))
        return described

    def n_features(self, channel: Channel) -> int:
        return 1

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels: species pairs (Z, Z') with Z <= Z'."""
        return tuple((a, b) for k, a in enumerate(self.species) for b in self.species[k:])

    def environments(
        self, structure: Structure, channel: Channel, derivatives: bool = True, atoms: np.ndarray | None = None
    ) -> EnvironmentBatch:
        pairs = structure.pairs(self.r_cut)
        keep = self._of_channel(structure, channel)
        if atoms is not None:
            keep &= np.isin(pairs.i, atoms)
        return self._batch(structure, np.flatnonzero(keep), 0.5, derivatives)

    def frame_environments(self, structure: Structure, channel: Channel, derivatives: bool = True) -> EnvironmentBatch:
        """Environments with each pair once, at its whole weight: variances cost a quarter."""
        return self._batch(structure, self._once(structure, channel), 1.0, derivatives)

    def predictor(self, sums: Sequence[KernelSum]) -> tuple[np.ndarray, np.ndarray, float]:
        """The channel's pair energy (eV) before the cutoff on a grid: values, slopes times spacing, spacing (A)."""
        span = max(float(np.ptp(s.features(np.array([[0.0], [self.r_cut]])))) for s in sums)
        r = np.linspace(0.0, self.r_cut, max(TABLE_POINTS, math.ceil(POINTS_PER_SCALE * span)))
        value, slope = np.zeros_like(r), np.zeros_like(r)
        for s in sums:
            x, one = s.features(r[:, None]), s.features(np.ones((1, 1)))
            t = s.kernel.argument(x, s.points)
            k, dk = np.empty_like(t), np.empty_like(t)
            kernel_functions.apply(s.kernel.function, s.kernel.parameter, t, k, dk)
            value += k @ s.weights
            towards = s.points.T - (x if s.kernel.centred else 0.0)
            slope += (dk * towards) @ s.weights * one[0, 0]
        return value, slope * r[1], float(r[1])

    def add_prediction(self, structure: Structure, channel: Channel, predictor: Any, sums: Sums) -> None:
        """Add this channel's mean prediction (see the base class), from a table of the pair energy."""
        pairs = structure.pairs(self.r_cut)
        low, high = channel
        values, slopes, spacing = predictor
        add_pair_prediction(
            pairs.first, pairs.j, pairs.vectors, pairs.distances, structure.numbers, low, high, self.r_cut,
            self.cutoff_width, values, slopes, spacing, sums.local, sums.gradient, sums.strain,
        )  # fmt: skip

    def _once(self, structure: Structure, channel: Channel) -> np.ndarray:
        """Indices of the channel's pairs, each taken from one of its ends only."""
        pairs = structure.pairs(self.r_cut)
        x, y, z = pairs.vectors.T
        upward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
        once = (pairs.i < pairs.j) | ((pairs.i == pairs.j) & upward)
        return np.flatnonzero(once & self._of_channel(structure, channel))

    def _of_channel(self, structure: Structure, channel: Channel) -> np.ndarray:
        """Which pairs are of these species (p,)."""
        pairs = structure.pairs(self.r_cut)
        zi, zj = structure.numbers[pairs.i], structure.numbers[pairs.j]
        return (np.minimum(zi, zj) == channel[0]) & (np.maximum(zi, zj) == channel[1])

    def _batch(self, structure: Structure, index: np.ndarray, share: float, derivatives: bool) -> EnvironmentBatch:
        """Environments of the pairs ``index``, each with ``share`` of the cutoff function as its weight."""
        pairs = structure.pairs(self.r_cut)
        r = pairs.distances[index]
        weight, slope = smooth_cutoff(r, self.r_cut, self.cutoff_width)
        start, target, J, dweight = pair_columns(
            index, pairs.i, pairs.j, pairs.vectors, pairs.distances, share * slope, structure.n_atoms, derivatives
        )
        return EnvironmentBatch(r[:, None].copy(), share * weight, pairs.i[index], start, target, J, dweight)

    def settings(self) -> dict[str, Any]:
        return {"name": "pair", "r_cut": self.r_cut, "cutoff_width": self.cutoff_width}
