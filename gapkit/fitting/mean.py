"""The mean of a fit: the contract of the sparse and of the exact one, and the sparse one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from gapkit.models.basis import SparseBasis
from gapkit.models.levels import HeldOutStatistics
from gapkit.models.observations import Targets
from gapkit.uncertainty.calibration import RESIDUAL_SHARE

#: errors of one frame's energy (eV), forces (3n,) in eV/A, and virial (6,) in eV; None where there is no label
ErrorsByKind = tuple[float | None, np.ndarray | None, np.ndarray | None]


class Mean(Protocol):
    """Contract of the mean of a fit.

    Attributes
    ----------
    alpha : (m,)
        Weights of the unwhitened sparse functionals (eV).
    extra : dict
        By index of block, further points (k, d) and weights (k,).
    summary : dict
        JSON-ready entry of the model file about the mean.
    residual_share : float
        Largest share of the held-out squared error that the Nystrom residual may claim.
    is_exact : bool
        Whether it takes every label as a functional of its own, so that the sparse posterior describes another mean.
    """

    @property
    def alpha(self) -> np.ndarray: ...

    @property
    def extra(self) -> dict[int, tuple[np.ndarray, np.ndarray]]: ...

    @property
    def summary(self) -> dict[str, Any]: ...

    @property
    def residual_share(self) -> float: ...

    @property
    def is_exact(self) -> bool: ...

    def basis_of(self, basis: SparseBasis) -> SparseBasis:
        """The sparse functionals of the fit, with the features that the points of ``extra`` have."""

    def has_errors(self, n: int) -> bool:
        """Whether held-out frame ``n`` has out-of-fold errors."""

    def errors_of(self, n: int, targets: Targets, sparse: np.ndarray) -> ErrorsByKind | None:
        """Out-of-fold errors, prediction minus label, of frame ``n``; None where it was not held out.

        ``sparse`` (1,) or (3n + 7,): the mean of the sparse posterior that has not seen the frame, of its energy and of
        the derivatives by positions and strain.
        """

    def held_out_of(self, statistics: Mapping[str, HeldOutStatistics]) -> dict[str, HeldOutStatistics]:
        """Held-out statistics of the sparse model with the squared errors of this mean."""


@dataclass(frozen=True)
class SparseMean:
    """The mean of the sparse posterior itself.

    Attributes
    ----------
    alpha : (m,)
        Weights of the unwhitened functionals (eV).
    """

    alpha: np.ndarray
    extra: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    residual_share: ClassVar[float] = RESIDUAL_SHARE
    is_exact: ClassVar[bool] = False

    def basis_of(self, basis: SparseBasis) -> SparseBasis:
        """See :class:`Mean`."""
        return basis

    def has_errors(self, n: int) -> bool:
        """See :class:`Mean`."""
        return True

    def errors_of(self, n: int, targets: Targets, sparse: np.ndarray) -> ErrorsByKind:
        """See :class:`Mean`."""
        end = 1 + 3 * targets.n_atoms
        energy, forces, virial = targets.energy, targets.forces, targets.virial
        return (
            None if energy is None else float(sparse[0]) - energy,
            -sparse[1:end] - forces.ravel() if len(sparse) > 1 and forces is not None else None,
            -sparse[end:] - virial if len(sparse) > 1 and virial is not None else None,
        )

    def held_out_of(self, statistics: Mapping[str, HeldOutStatistics]) -> dict[str, HeldOutStatistics]:
        """See :class:`Mean`."""
        return dict(statistics)
