"""Predictions of labels that a model had not seen, with their standard deviations and intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """Labels and predictions of rows that a model was not fitted to; arrays (n,) in the unit of the labels.

    Attributes
    ----------
    label, predicted, std : (n,)
        Labels, predictions, and predicted standard deviations of new labels.
    group : (n,) or None
        Name of the group that was left out together with each row.
    lower, upper : (n,) or None
        Ends of the interval that is to hold the label.
    level : float or None
        Probability that the interval was made for.
    """

    label: np.ndarray
    predicted: np.ndarray
    std: np.ndarray
    group: np.ndarray | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None
    level: float | None = None

    @property
    def error(self) -> np.ndarray:
        """Predicted minus label (n,)."""
        return self.predicted - self.label

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(self.error)))

    @property
    def rmse(self) -> float:
        """Root-mean-square error."""
        return float(np.sqrt(np.mean(self.error**2)))

    @property
    def r2(self) -> float:
        """Share of the labels' variance that is explained."""
        return float(1.0 - np.sum(self.error**2) / np.sum((self.label - self.label.mean()) ** 2))

    @property
    def z_rms(self) -> float:
        """Root mean square of error over standard deviation; 1 is honest."""
        return float(np.sqrt(np.mean((self.error / self.std) ** 2)))

    @property
    def coverage(self) -> float:
        """Share of labels inside their interval; nan where there are no intervals."""
        if self.lower is None or self.upper is None:
            return float("nan")
        return float(np.mean((self.lower <= self.label) & (self.label <= self.upper)))

    def part(self, mask: np.ndarray) -> HeldOut:
        """Predictions of the given rows."""
        group, lower, upper = (a if a is None else a[mask] for a in (self.group, self.lower, self.upper))
        return HeldOut(self.label[mask], self.predicted[mask], self.std[mask], group, lower, upper, self.level)
