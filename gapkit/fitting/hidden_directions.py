"""Directions of projections that are chosen without the frames of one fold.

Directions are chosen so that training frames have next to nothing outside them. What a projection hides of a held-out
frame would then look far smaller than what it hides of a new one, and new frames would look strange: fits to two dozen
frames gave error bars of energies fifty times too wide. Directions of the other frames judge held-out ones instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gapkit.fitting.candidates import POOL, POOL_BYTES
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.projection import leading_directions
from gapkit.models.terms import Term
from gapkit.structures.structure import Structure


class LeftOutDirections:
    """Directions of every projected block, without the frames of one fold.

    Parameters
    ----------
    data, basis, terms
        Training set, sparse functionals and terms of the fit.
    folds : (frames,) int
        Fold of each frame; negative ones are never held out.
    """

    def __init__(self, data: TrainingSet, basis: SparseBasis, terms: Sequence[Term], folds: np.ndarray) -> None:
        self.sizes = {k: terms[b.term].projection for k, b in enumerate(basis.blocks) if b.directions is not None}
        self.features: dict[int, np.ndarray] = {}
        self.folds: dict[int, np.ndarray] = {}
        for k in self.sizes:
            block = basis.blocks[k]
            atoms = sum(int(np.count_nonzero(f.atoms.numbers == block.channel[0])) for f in data.frames)
            most = min(POOL, POOL_BYTES // (8 * block.directions.shape[1]))  # type: ignore[union-attr]
            kept = range(0, len(data.frames), max(1, -(-atoms // most)))
            parts = [self._of_frame(data, block, n) for n in kept]
            self.features[k] = np.vstack(parts)
            self.folds[k] = np.repeat([folds[n] for n in kept], [len(p) for p in parts])

    @staticmethod
    def _of_frame(data: TrainingSet, block, n: int) -> np.ndarray:
        structure = Structure(data.frames[n].atoms, block.descriptor.r_cut)
        return block.kernel.scale(block.descriptor.environments(structure, block.channel, derivatives=False).x)

    def without(self, fold: int) -> dict[int, np.ndarray]:
        """Directions (d, f) by number of the block; those of all frames where the others have no environment."""
        found = {}
        for k, features in self.features.items():
            other_folds = features[self.folds[k] != fold]
            found[k] = leading_directions(other_folds if len(other_folds) else features, self.sizes[k] or "auto")
        return found
