"""Collective variables of other collective variables: linear combinations, variables of a ring polymer's centroid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import ClassVar

import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.sampling.biases.contract import CollectiveVariable, Evaluation
from gapkit.sampling.biases.geometry import Box


@dataclass(frozen=True)
class Combination(CollectiveVariable):
    """Linear combination sum_k w_k s_k of variables that are not periodic.

    Raises
    ------
    SettingsError
        For periodic variables, other numbers of weights, or weights that are not finite.

    Examples
    --------
    >>> from gapkit.sampling.biases.variables import Distance
    >>> mean = Combination((Distance(0, 1), Distance(0, 2)), (0.5, 0.5))
    >>> mean.value(np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]))
    1.5
    """

    variables: tuple[CollectiveVariable, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.variables, Sequence) or not self.variables:
            raise SettingsError(f"Combination: variables must be a tuple of at least one, not {self.variables!r}")
        for variable in self.variables:
            if not isinstance(variable, CollectiveVariable) or variable.axes != 2:
                raise SettingsError(f"Combination: {variable!r} is no collective variable of one structure")
            if variable.period is not None:
                raise SettingsError(f"Combination: {variable} is periodic; a combination of it is not defined")
        weights = tuple(self.weights)
        if len(weights) != len(self.variables):
            raise SettingsError(f"Combination: {len(weights)} weights for {len(self.variables)} variables")
        if not all(isinstance(w, Real) and np.isfinite(w) for w in weights):
            raise SettingsError(f"Combination: weights must be finite numbers, not {weights}")
        object.__setattr__(self, "variables", tuple(self.variables))
        object.__setattr__(self, "weights", tuple(float(w) for w in weights))

    @cached_property
    def atoms(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(sorted({a for variable in self.variables for a in variable.atoms}))

    def evaluate(self, positions: np.ndarray, box: Box) -> Evaluation:
        parts = [variable.evaluate(positions, box) for variable in self.variables]
        return Evaluation(*(np.tensordot(self.weights, [part[k] for part in parts], axes=1) for k in range(3)))

    def _hessian(self, positions: np.ndarray, box: Box) -> np.ndarray:
        k = len(self.atoms)
        total = np.zeros((len(positions), k, 3, k, 3))
        for w, variable in zip(self.weights, self.variables, strict=True):
            at = np.searchsorted(self.atoms, variable.atoms)
            # two arrays of indices with a slice between them come first in the result
            total[:, at[:, None], :, at[None, :]] += w * variable._hessian(positions, box).transpose(1, 3, 0, 2, 4)
        return total


@dataclass(frozen=True)
class Centroid(CollectiveVariable):
    """Variable of the centroid of a ring polymer: of the mean of positions over its beads.

    Positions are (P, n, 3) for P beads, or (R, P, n, 3). Gradients have the same shape: each bead takes 1/P of the
    centroid's. Beads must be unwrapped: those of an atom in one place, not spread over images of a cell.

    Examples
    --------
    >>> from gapkit.sampling.biases.variables import Distance
    >>> beads = np.zeros((4, 2, 3))
    >>> beads[:, 1, 0] = [1.0, 2.0, 3.0, 4.0]
    >>> Centroid(Distance(0, 1)).value(beads), Centroid(Distance(0, 1)).gradient(beads)[0, 1].tolist()
    (2.5, [0.25, 0.0, 0.0])
    """

    variable: CollectiveVariable
    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not isinstance(self.variable, CollectiveVariable) or self.variable.axes != 2:
            raise SettingsError(f"Centroid: {self.variable!r} is no collective variable of one structure")

    @property
    def span(self) -> tuple[float, float] | None:  # type: ignore[override]
        """Values that the variable can have."""
        return self.variable.span

    @property
    def period(self) -> float | None:  # type: ignore[override]
        """Period of the variable."""
        return self.variable.period

    @property
    def atoms(self) -> tuple[int, ...]:
        return self.variable.atoms

    def evaluate(self, positions: np.ndarray, box: Box) -> Evaluation:
        beads = positions.shape[1]
        value, gradient, strain = self.variable.evaluate(positions.mean(axis=1), box)
        return Evaluation(value, np.repeat(gradient[:, None] / beads, beads, axis=1), strain)

    def _hessian(self, positions: np.ndarray, box: Box) -> np.ndarray:
        """Second derivatives (R, k, 3, k, 3) by the atoms of any two beads, 1/P^2 of the centroid's."""
        return self.variable._hessian(positions.mean(axis=1), box) / positions.shape[1] ** 2
