"""Contract of collective variables: values with exact derivatives, for many copies of a structure at once.

A variable is made of vectors v_q from one atom to another, each the shortest image in a periodic cell. It gives its
value s and the derivatives by these vectors; gradients, Hessians and strain derivatives follow by one chain rule.
Copies of a structure share one cell. In a cell whose smallest height is below twice a distance, the image changes as
atoms move, and the variable jumps there: keep distances below half the smallest height.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gapkit.exceptions import NumericsError, SettingsError
from gapkit.sampling.biases.geometry import Box, finite_positions


class Evaluation(NamedTuple):
    """Variable of R copies: value (R,), gradient (R, n, 3; by A), strain derivative (R, 3, 3)."""

    value: np.ndarray
    gradient: np.ndarray
    strain: np.ndarray


class CollectiveVariable(ABC):
    """Function s of the positions of a structure.

    ``period`` is the period of its values (None: not periodic). Positions are (n, 3; A) or (R, n, 3) for R copies, and
    results have the same leading axis or none.
    """

    period: ClassVar[float | None] = None
    #: values that a centre, a wall or a grid can have (None: any); angles are in radians
    span: ClassVar[tuple[float, float] | None] = None
    #: axes of the positions of one copy
    axes: ClassVar[int] = 2

    @property
    @abstractmethod
    def atoms(self) -> tuple[int, ...]:
        """Numbers of the atoms that the variable depends on, ascending."""

    @abstractmethod
    def evaluate(self, positions: np.ndarray, box: Box) -> Evaluation:
        """Values and first derivatives for copies (R, n, 3), whose positions are known to be finite."""

    @abstractmethod
    def _hessian(self, positions: np.ndarray, box: Box) -> np.ndarray:
        """Second derivatives (R, k, 3, k, 3) by the k atoms of ``atoms``."""

    def check_value(self, owner: str, value: float) -> None:
        """Raise SettingsError for a value of the variable that cannot be meant: an angle in degrees."""
        if self.span is not None and not self.span[0] <= value <= self.span[1]:
            raise SettingsError(
                f"{owner}: {value:g} is no value of {self}, which is in radians ({self.span[0]:.3g} to "
                f"{self.span[1]:.3g}); give np.radians({value:g}) for degrees"
            )

    def check(self, count: int) -> None:
        """Raise SettingsError where a structure of ``count`` atoms lacks an atom of the variable."""
        if self.atoms[-1] >= count:
            raise SettingsError(
                f"{self}: there is no atom {self.atoms[-1]} in a frame of {count} atoms (0 to {count - 1})"
            )

    def value(self, positions: Any, cell: Any = None, pbc: Any = None) -> float | np.ndarray:
        """Value of the variable: a number, or (R,).

        Raises
        ------
        SettingsError
            Where an atom is not there, or a periodic direction has no cell vector.
        DataError
            For positions of another shape, or that are not finite.
        NumericsError
            Where the variable is not defined, such as the torsion of three atoms in a line.
        """
        value = self.evaluate(self._copies(positions), Box(cell, pbc)).value
        return value if np.ndim(positions) > self.axes else float(value[0])

    def gradient(self, positions: Any, cell: Any = None, pbc: Any = None) -> np.ndarray:
        """Derivatives by all positions, in their shape; raises as :meth:`value`."""
        return self._like(positions, self.evaluate(self._copies(positions), Box(cell, pbc)).gradient)

    def strain_derivative(self, positions: Any, cell: Any = None, pbc: Any = None) -> np.ndarray:
        """Derivative (3, 3) or (R, 3, 3) by a strain of atoms and cell, sum_q v_q ds/dv_q; raises as :meth:`value`."""
        return self._like(positions, self.evaluate(self._copies(positions), Box(cell, pbc)).strain)

    def hessian(self, positions: Any, cell: Any = None, pbc: Any = None) -> np.ndarray:
        """Second derivatives (k, 3, k, 3) or (R, k, 3, k, 3) by the k atoms of ``atoms``; raises as :meth:`value`."""
        return self._like(positions, self._hessian(self._copies(positions), Box(cell, pbc)))

    def _copies(self, positions: Any) -> np.ndarray:
        x = finite_positions(positions, self.axes)
        self.check(x.shape[-2])
        return x

    def _like(self, positions: Any, result: np.ndarray) -> np.ndarray:
        return result if np.ndim(positions) > self.axes else result[0]


class OfVectors(CollectiveVariable):
    """Variable of vectors v_q from the first to the second atom of each pair."""

    @property
    @abstractmethod
    def pairs(self) -> Sequence[tuple[int, int]]:
        """Pairs of atoms (q, 2) that the variable depends on."""

    @abstractmethod
    def _function(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (R,) and derivatives (R, q, 3) from vectors (R, q, 3)."""

    @abstractmethod
    def _curvature(self, v: np.ndarray) -> np.ndarray:
        """Second derivatives (R, q, 3, q, 3) by the vectors."""

    @cached_property
    def _pairs(self) -> np.ndarray:
        return np.array(self.pairs)

    @cached_property
    def atoms(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(np.unique(self._pairs).tolist())

    @cached_property
    def _incidence(self) -> np.ndarray:
        """dv_q/dx_k (q, k): -1 at the first and 1 at the second atom."""
        q = np.arange(len(self._pairs))
        incidence = np.zeros((len(q), len(self.atoms)))
        incidence[q, np.searchsorted(self.atoms, self._pairs[:, 0])] = -1
        incidence[q, np.searchsorted(self.atoms, self._pairs[:, 1])] = 1
        return incidence

    def _take_atoms(self, *names: str) -> None:
        """Check the fields of these names, which must be different atoms, and make them whole numbers."""
        atoms = whole_atoms(type(self).__name__, [getattr(self, name) for name in names])
        for name, atom in zip(names, atoms, strict=True):
            object.__setattr__(self, name, atom)

    def _vectors(self, positions: np.ndarray, box: Box) -> np.ndarray:
        return box.shortest(positions[:, self._pairs[:, 1]] - positions[:, self._pairs[:, 0]])

    def evaluate(self, positions: np.ndarray, box: Box) -> Evaluation:
        v = self._vectors(positions, box)
        value, slope = self._function(v)
        gradient = np.zeros(positions.shape)
        gradient[:, self.atoms] = self._incidence.T @ slope
        return Evaluation(value, gradient, v.transpose(0, 2, 1) @ slope)

    def _hessian(self, positions: np.ndarray, box: Box) -> np.ndarray:
        curvature = self._curvature(self._vectors(positions, box))
        return np.einsum("qk,rqcpd,pl->rkcld", self._incidence, curvature, self._incidence, optimize=True)

    def _lengths(self, v: np.ndarray) -> np.ndarray:
        """Lengths (R, q) of vectors; NumericsError where two atoms coincide."""
        lengths = np.linalg.norm(v, axis=-1)
        if not lengths.all():
            r, q = np.argwhere(lengths == 0)[0]
            i, j = self.pairs[q]
            raise NumericsError(f"copy {r}: atoms {i} and {j} of {self} are at the same place")
        return lengths


def whole_atoms(name: str, atoms: Sequence[Any]) -> tuple[int, ...]:
    """``atoms`` as whole numbers; SettingsError for anything but the number of an atom, and for an atom twice."""
    for index in atoms:
        if not isinstance(index, Integral) or isinstance(index, bool):
            raise SettingsError(f"{name}: {index!r} is no number of an atom; atoms are counted from 0")
        if index < 0:
            raise SettingsError(f"{name}: atom {index} is negative; atoms are counted from 0")
    whole = tuple(int(a) for a in atoms)
    twice = [a for a in whole if whole.count(a) > 1]
    if twice:
        raise SettingsError(f"{name}: atom {twice[0]} stands twice in {whole}")
    return whole
