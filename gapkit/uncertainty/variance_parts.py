"""The parts of a frame's posterior variances, and which of them belong to which label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gapkit.models.basis import FrameRows
from gapkit.models.posterior import Posterior


class VarianceParts(NamedTuple):
    """Parts of posterior variances, one of each for every row: a frame's energy, its derivatives by positions and by
    strain (eV^2, in units of the derivative).

    Attributes
    ----------
    residual : (rows,)
        Nystrom residual: what no sparse point explains.
    weights : (rows,)
        Left in the weights of the sparse points by the training data.
    hidden : (rows,)
        The part of the residual that the projection of features hides: prior variance of functions that no training
        frame had a say in, because none had features along those directions.
    """

    residual: np.ndarray
    weights: np.ndarray
    hidden: np.ndarray

    @classmethod
    def of_rows(cls, posterior: Posterior, A: np.ndarray, rows: FrameRows) -> VarianceParts:
        """Parts from whitened rows ``A`` and their prior variances, hidden ones included."""
        return cls(*posterior.variances(A, rows.prior), rows.hidden @ posterior.signal**2)

    def split(self, sizes: Sequence[int]) -> list[VarianceParts]:
        """Parts of consecutive rows, so many each."""
        ends = np.cumsum(sizes)[:-1]
        return [VarianceParts(*arrays) for arrays in zip(*(np.split(part, ends) for part in self), strict=True)]

    def of_labels(self, kind: str, n_atoms: int) -> VarianceParts:
        """Parts for the labels of one kind, ``energy``, ``forces`` or ``virial``; energies and virials per atom."""
        end = 1 + 3 * n_atoms
        rows = {"energy": slice(0, 1), "forces": slice(1, end), "virial": slice(end, None)}[kind]
        per = 1 if kind == "forces" else n_atoms
        return VarianceParts(*(part[rows] / per for part in self))
