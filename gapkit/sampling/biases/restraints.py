"""Biases: energies that depend on collective variables, added to that of a structure or of many copies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.biases.contract import CollectiveVariable
from gapkit.sampling.biases.geometry import Box, finite_positions, wrapped


class BiasValues(NamedTuple):
    """Biases of R copies.

    energy (R,; eV), forces (R, n, 3; eV/A), virial (R, 3, 3; eV: minus the derivative by a strain), and values (R, d)
    of the d collective variables, in the order of the biases.
    """

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    values: np.ndarray


class Bias(ABC):
    """Energy V(s) of d collective variables s."""

    @property
    @abstractmethod
    def variables(self) -> tuple[CollectiveVariable, ...]:
        """Collective variables."""

    @property
    def copies(self) -> int | None:
        """Number of copies that the bias has parameters for; None: any number."""
        return None

    @abstractmethod
    def _potential(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies (R,) and slopes (R, d) at the values (R, d)."""

    def potential(self, s: Any) -> tuple[np.ndarray, np.ndarray]:
        """Energies (R,; eV) and slopes (R, d; eV by the unit of s) at values (R, d), or (R,) of a single variable.

        For a bias that has a centre for each copy, R is the number of copies.

        Raises
        ------
        DataError
            For another shape, or values that are not finite.
        SettingsError
            For another number of copies.
        """
        values = np.asarray(s, dtype=float)
        d = len(self.variables)
        values = values[:, None] if values.ndim == 1 and d == 1 else values
        if values.ndim != 2 or values.shape[1] != d:
            raise DataError(f"values must have the shape (R, {d}), not {np.shape(s)}")
        if not np.isfinite(values).all():
            raise DataError(f"copy {np.argwhere(~np.isfinite(values))[0][0]}: a collective variable is not finite")
        if self.copies not in (None, len(values)):
            raise SettingsError(
                f"{type(self).__name__} has {self.copies} centres for {len(values)} copies; take window(k) for one"
            )
        return self._potential(values)

    def window(self, copy: int) -> Self:
        """The bias of one copy: the same for all, unless a class has parameters for each."""
        return self

    def check(self, atoms: int) -> None:
        """Raise SettingsError where a structure of ``atoms`` atoms lacks an atom of a variable."""
        for variable in self.variables:
            variable.check(atoms)

    def evaluate(self, positions: Any, cell: Any = None, pbc: Any = None) -> BiasValues:
        """Energy, forces and virial of copies (R, n, 3), or of one structure (n, 3) with R = 1; see :func:`total_bias`.

        With variables of a centroid positions are (R, P, n, 3), or (P, n, 3) for one, and forces (R, P, n, 3).
        """
        return total_bias([self], positions, cell, pbc)


def total_bias(biases: Sequence[Bias], positions: Any, cell: Any = None, pbc: Any = None) -> BiasValues:
    """Sum of biases for copies of a structure.

    Parameters
    ----------
    biases
        At least one, all of variables of positions or all of centroids.
    positions : (R, n, 3) or (n, 3), with centroids (R, P, n, 3) or (P, n, 3)
        Positions (A).
    cell, pbc
        Cell vectors (A) and periodic directions that all copies share.

    Raises
    ------
    DataError
        For positions of another shape, or that are not finite; outside of a table.
    SettingsError
        Where an atom is not there, or the number of copies is not that of the centres.
    NumericsError
        Where a variable is not defined.
    """
    axes = {variable.axes for bias in biases for variable in bias.variables}
    if len(axes) != 1:
        raise SettingsError("biases of centroids and of positions cannot be added; or there is no bias at all")
    x, box = finite_positions(positions, axes.pop()), Box(cell, pbc)
    energy, gradient, strain = np.zeros(len(x)), np.zeros(x.shape), np.zeros((len(x), 3, 3))
    values = []
    for bias in biases:
        bias.check(x.shape[-2])
        found = [variable.evaluate(x, box) for variable in bias.variables]
        s = np.stack([f.value for f in found], axis=1)
        bias_energy, slope = bias.potential(s)
        energy += bias_energy
        for k, f in enumerate(found):
            gradient += slope[:, k].reshape(-1, *[1] * (x.ndim - 1)) * f.gradient
            strain += slope[:, k, None, None] * f.strain
        values.append(s)
    return BiasValues(energy, -gradient, -strain, np.concatenate(values, axis=1))


@dataclass(frozen=True)
class Harmonic(Bias):
    """Harmonic restraint k/2 (s - s_0)^2; of a periodic variable the difference is the shortest.

    Half a period away from the centre the force of a periodic variable turns round.

    Parameters
    ----------
    variable
        Collective variable.
    centre
        Centre s_0, or a tuple of centres (R,), one for each copy (windows of umbrella sampling).
    k
        Force constant (eV by the square of the variable's unit), or a tuple (R,).

    Raises
    ------
    SettingsError
        For centres or force constants that cannot work.

    Examples
    --------
    >>> from gapkit.sampling.biases.variables import Distance
    >>> windows = Harmonic(Distance(0, 1), centre=(1.0, 1.5), k=4.0)
    >>> windows.potential(np.array([1.0, 1.0]))[0].tolist()
    [0.0, 0.5]
    >>> windows.window(1).centre
    1.5
    """

    variable: CollectiveVariable
    centre: float | tuple[float, ...]
    k: float | tuple[float, ...]

    def __post_init__(self) -> None:
        _check_variable("Harmonic", self.variable)
        for name in ("centre", "k"):
            object.__setattr__(self, name, _numbers("Harmonic", name, getattr(self, name)))
        for centre in np.atleast_1d(self.centre).tolist():
            self.variable.check_value("Harmonic: centre", centre)
        if np.any(np.asarray(self.k) <= 0):
            raise SettingsError(f"Harmonic: k must be above 0, not {self.k}")
        sizes = {len(v) for v in (self.centre, self.k) if isinstance(v, tuple)}
        if len(sizes) > 1:
            raise SettingsError(f"Harmonic: {len(self.centre)} centres but {len(self.k)} force constants")  # type: ignore[arg-type]

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        return (self.variable,)

    @property
    def copies(self) -> int | None:
        """Number of centres or force constants; None for single ones."""
        return next((len(v) for v in (self.centre, self.k) if isinstance(v, tuple)), None)

    def window(self, copy: int) -> Self:
        """The restraint of one copy."""
        count = self.copies
        if count is not None and not 0 <= copy < count:
            raise SettingsError(f"Harmonic: there is no copy {copy} of {count} (0 to {count - 1})")
        one = [v[copy] if isinstance(v, tuple) else v for v in (self.centre, self.k)]
        return type(self)(self.variable, *one)

    def _potential(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = np.asarray(self.k)
        away = wrapped(s[:, 0] - np.asarray(self.centre), self.variable.period)
        return k / 2 * away**2, (k * away)[:, None]


@dataclass(frozen=True)
class Walls(Bias):
    """Half-harmonic walls: k/2 (s - lower)^2 below ``lower``, k/2 (s - upper)^2 above ``upper``, 0 between them.

    A periodic variable needs both walls, so that every value outside belongs to the nearer one; half a period
    away from the middle the force turns round.

    Parameters
    ----------
    variable
        Collective variable.
    k
        Force constant (eV by the square of the variable's unit).
    lower, upper
        Values of the walls; at least one.

    Raises
    ------
    SettingsError
        For walls or a force constant that cannot work.

    Examples
    --------
    >>> from gapkit.sampling.biases.variables import Distance
    >>> Walls(Distance(0, 1), k=2.0, upper=3.0).potential(np.array([1.0, 3.5]))[1].tolist()
    [[0.0], [1.0]]
    """

    variable: CollectiveVariable
    k: float
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        _check_variable("Walls", self.variable)
        for name in ("k", "lower", "upper"):
            value = getattr(self, name)
            if value is None and name != "k":
                continue
            if not (isinstance(value, Real) and np.isfinite(float(value))):
                raise SettingsError(f"Walls: {name} must be a finite number, not {value!r}")
            object.__setattr__(self, name, float(value))
            if name != "k":
                self.variable.check_value(f"Walls: {name}", float(value))
        if self.k <= 0:
            raise SettingsError(f"Walls: k must be above 0, not {self.k}")
        if self.lower is None and self.upper is None:
            raise SettingsError("Walls: give lower, upper, or both")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise SettingsError(f"Walls: lower {self.lower} is not below upper {self.upper}")
        period = self.variable.period
        if period is not None:
            if self.lower is None or self.upper is None:
                raise SettingsError(f"Walls: {self.variable} is periodic: give both lower and upper")
            if self.upper - self.lower >= period:
                raise SettingsError(
                    f"Walls: lower {self.lower} and upper {self.upper} leave nothing of a period outside"
                )

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        return (self.variable,)

    def _potential(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lower = -np.inf if self.lower is None else self.lower
        upper = np.inf if self.upper is None else self.upper
        at = s[:, 0]
        if self.variable.period is not None:
            at = (lower + upper) / 2 + wrapped(at - (lower + upper) / 2, self.variable.period)
        beyond = np.maximum(at - upper, 0) + np.minimum(at - lower, 0)
        return self.k / 2 * beyond**2, (self.k * beyond)[:, None]


def _check_variable(name: str, variable: Any) -> None:
    if not isinstance(variable, CollectiveVariable):
        raise SettingsError(f"{name}: {variable!r} is no collective variable")


def _numbers(owner: str, name: str, value: Any) -> float | tuple[float, ...]:
    """A number, or a tuple of numbers; SettingsError for anything else."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise SettingsError(f"{owner}: {name} must be a number or a tuple of numbers, not {value!r}") from None
    if array.ndim > 1 or array.size == 0 or not np.isfinite(array).all():
        raise SettingsError(f"{owner}: {name} must be a finite number or a tuple of such, not {value!r}")
    return tuple(array.tolist()) if array.ndim else float(array)
