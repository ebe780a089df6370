"""Errors of labels: those of held-out labels, and the two strategies for the variance of a new label's error.

A strategy is a field of the potential. :class:`StatedErrors` takes the variances of the fit's levels as
:mod:`gapkit.uncertainty.calibration` scaled them; :class:`FittedErrors` takes those of error models that were fitted to
errors of labels (:mod:`gapkit.uncertainty.recalibration`), and the stated ones for label kinds without a model.

Units: energies and virials are divided by the square root of the number of atoms, as in the fit, so that their
variances are per atom (eV^2); variances of forces are in (eV/A)^2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gapkit.exceptions import DataError
from gapkit.uncertainty.calibration import Calibration
from gapkit.uncertainty.recalibration import Recalibration
from gapkit.uncertainty.variance_parts import VarianceParts

#: label kinds; forces first: their error model says what to expect of the others
KINDS = ("forces", "energy", "virial")

#: errors of labels, and the parts of their posterior variances: (error, residual, weights, hidden), of one shape
Labels = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FrameErrors:
    """Errors of one frame's labels by kind, with the parts of their posterior variances.

    ``kinds`` maps a label kind to (error, residual, weights, hidden), arrays of one shape.
    """

    kinds: dict[str, Labels]

    @classmethod
    def of(
        cls,
        n: int,
        parts: VarianceParts,
        energy: float | None,
        forces: np.ndarray | None,
        virial: np.ndarray | None,
    ) -> FrameErrors:
        """Errors of a frame of ``n`` atoms, given in eV and eV/A, with the parts of their variances.

        None and NaN stand where there is no label."""
        kinds = {}
        for kind, error, scale in (("energy", energy, n**0.5), ("forces", forces, 1.0), ("virial", virial, n**0.5)):
            if error is not None:
                labels = np.isfinite(np.ravel(error))
                if labels.any():
                    of_kind = parts.of_labels(kind, n)
                    kinds[kind] = (np.ravel(error)[labels] / scale, *(part[labels] for part in of_kind))
        return cls(kinds)


def pooled(errors: Sequence[FrameErrors], pick: Iterable[int], kind: str) -> Labels:
    """(error, residual, weights, hidden) of all labels of one kind, of those errors that ``pick`` names.

    Raises
    ------
    DataError
        Where there is none.
    """
    parts = [errors[k].kinds[kind] for k in pick if kind in errors[k].kinds]
    if not parts:
        raise DataError(f"no calibration frame has a label of kind {kind}")
    error, residual, weights, hidden = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return error, residual, weights, hidden


class LabelErrors(Protocol):
    """Contract of a strategy for the error bars of new labels.

    Attributes
    ----------
    calibration : Calibration
        Noise and scales of the function's variances; local energies, for which there are no labels, have no other.
    recalibration : Recalibration or None
        Error models and conformal scores, where there are any.
    """

    @property
    def calibration(self) -> Calibration: ...

    @property
    def recalibration(self) -> Recalibration | None: ...

    def has_model(self, kind: str) -> bool:
        """Whether the variance of this label kind comes from an error model."""

    def variance(
        self, kind: str, parts: VarianceParts, config_type: str | None = None, include_noise: bool = True
    ) -> np.ndarray:
        """Variances (k,) of labels of one kind from the ``parts`` (k,) of their posterior variances.

        ``include_noise``: of new labels (function, label noise and misfit); else of the function alone.
        """

    def variance_ratio(self, kind: str, parts: VarianceParts, config_type: str | None = None) -> np.ndarray:
        """Factors (k,) from the function's variances that the levels state to those of this strategy."""


@dataclass(frozen=True)
class StatedErrors:
    """Variances as the levels of the fit state them: ``a residual + lambda^2 weights + noise^2``."""

    calibration: Calibration

    @property
    def recalibration(self) -> None:
        """None, because stated variances have no error models."""
        return None

    def has_model(self, kind: str) -> bool:
        """See :class:`LabelErrors`."""
        return False

    def variance(
        self, kind: str, parts: VarianceParts, config_type: str | None = None, include_noise: bool = True
    ) -> np.ndarray:
        """See :class:`LabelErrors`."""
        group = self.calibration.of(kind, config_type)
        return group.latent(parts.residual, parts.weights) + (group.noise**2 if include_noise else 0.0)

    def variance_ratio(self, kind: str, parts: VarianceParts, config_type: str | None = None) -> np.ndarray:
        """See :class:`LabelErrors`; ones."""
        return np.ones_like(parts.weights)


@dataclass(frozen=True)
class FittedErrors:
    """Variances of error models that were fitted to errors of labels.

    The variance of the function alone is the stated one, but never larger than the part of the label's variance that
    follows the posterior variance. Of an exact mean it is that part itself: the levels describe the sparse model beside
    it, which knows less.

    Attributes
    ----------
    calibration : Calibration
        Variances of label kinds without a model.
    recalibration : Recalibration
        The error models.
    exact : bool
        Whether the mean is an exact one.
    """

    calibration: Calibration
    recalibration: Recalibration
    exact: bool = False

    def has_model(self, kind: str) -> bool:
        """See :class:`LabelErrors`."""
        return kind in self.recalibration.models

    def variance(
        self, kind: str, parts: VarianceParts, config_type: str | None = None, include_noise: bool = True
    ) -> np.ndarray:
        """See :class:`LabelErrors`."""
        stated = StatedErrors(self.calibration).variance(kind, parts, config_type, include_noise)
        if not self.has_model(kind):
            return stated
        model = self.recalibration.models[kind]
        if include_noise:
            return model.variance(*parts)
        rise = model.rise(*parts)
        # levels state nothing of a kind that had no labels, and of an exact mean they describe another model
        return rise if self.exact or model.n == 0 else np.minimum(rise, stated)

    def variance_ratio(self, kind: str, parts: VarianceParts, config_type: str | None = None) -> np.ndarray:
        """See :class:`LabelErrors`; ones but for an exact mean."""
        if not self.exact or not self.has_model(kind):
            return np.ones_like(parts.weights)
        latent = self.calibration.of(kind, config_type).latent(parts.residual, parts.weights)
        rise = self.recalibration.models[kind].rise(*parts)
        return np.divide(rise, latent, out=np.ones_like(latent), where=latent > 0)
