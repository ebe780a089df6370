"""Biases given as a table on a grid of one or two collective variables, interpolated by cubic splines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.interpolate import NdBSpline, make_interp_spline

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.biases.contract import CollectiveVariable
from gapkit.sampling.biases.geometry import wrapped
from gapkit.sampling.biases.restraints import Bias

_FEWEST = 4  # points of a cubic spline


class Table(Bias):
    """Energy on a grid of one or two variables, with a (bi)cubic spline in between, whose derivatives are exact.

    The spline is the tensor product of cubic splines (de Boor, A Practical Guide to Splines, chs. IV, XVII): periodic
    for periodic variables, else without a knot next to the ends (not-a-knot). Energy, slope and curvature are
    continuous.

    Parameters
    ----------
    variables
        One or two collective variables.
    grid
        Values of each variable, ascending, at least four. Of a periodic variable one period without its last point:
        the first point is repeated there.
    energies : (g,) or (g_1, g_2)
        Energies on the grid (eV).
    extrapolate
        Rule outside the grid of a variable that is not periodic. False: DataError. True: the energy continues
        with the slope at the edge, so that the force is constant there and continuous at the edge.

    Raises
    ------
    SettingsError
        For a grid or table that cannot work.

    Examples
    --------
    >>> from gapkit.sampling.biases.variables import Torsion
    >>> phi = np.linspace(-np.pi, np.pi, 60, endpoint=False)
    >>> table = Table((Torsion(0, 1, 2, 3),), (phi,), np.cos(phi))
    >>> energy, slope = table.potential(np.array([np.pi / 2 + 4 * np.pi]))
    >>> print(np.round(energy, 5), np.round(slope, 5))
    [0.] [[-1.]]
    """

    def __init__(
        self,
        variables: Sequence[CollectiveVariable],
        grid: Sequence[Any],
        energies: Any,
        extrapolate: bool = False,
    ) -> None:
        variables = (variables,) if isinstance(variables, CollectiveVariable) else tuple(variables)
        if len(variables) not in (1, 2) or not all(isinstance(v, CollectiveVariable) for v in variables):
            raise SettingsError(f"Table: variables must be one or two collective variables, not {variables!r}")
        axes = [np.array(axis, dtype=float) for axis in grid]
        if any(axis.ndim != 1 for axis in axes):
            raise SettingsError("Table: grid must be a tuple of one array for each variable, such as (values,)")
        table = np.array(energies, dtype=float)
        if table.shape != tuple(len(a) for a in axes) or len(axes) != len(variables):
            raise SettingsError(
                f"Table: energies {table.shape} do not fit {len(variables)} variables with grids of "
                f"{[len(a) for a in axes]} points"
            )
        if not np.isfinite(table).all():
            raise SettingsError(
                f"Table: the energy at grid point {tuple(np.argwhere(~np.isfinite(table))[0])} is not finite"
            )
        knots = []
        for k, (variable, axis) in enumerate(zip(variables, axes, strict=True)):
            if len(axis) < _FEWEST or not (np.diff(axis) > 0).all() or not np.isfinite(axis).all():
                raise SettingsError(f"Table: the grid of {variable} must be at least {_FEWEST} ascending numbers")
            period = variable.period
            if period is not None:
                if axis[-1] - axis[0] >= period * (1 - 1e-9):
                    raise SettingsError(
                        f"Table: the grid of {variable} spans a period or more; leave out the last point, which is the "
                        "first again"
                    )
                axis = np.append(axis, axis[0] + period)
                table = np.concatenate([table, np.take(table, [0], axis=k)], axis=k)
                axes[k] = axis
            spline = make_interp_spline(axis, np.moveaxis(table, k, 0), bc_type=None if period is None else "periodic")
            knots.append(spline.t)
            table = np.moveaxis(spline.c, 0, k)
        self._variables, self._axes, self.extrapolate = variables, axes, bool(extrapolate)
        self._spline = NdBSpline(tuple(knots), np.ascontiguousarray(table), 3)

    @property
    def variables(self) -> tuple[CollectiveVariable, ...]:
        return self._variables

    def _potential(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at, beyond = np.empty(s.shape), np.zeros(s.shape)
        for k, (variable, axis) in enumerate(zip(self._variables, self._axes, strict=True)):
            low, high = axis[0], axis[-1]
            inside = s[:, k]
            if variable.period is not None:
                middle = (low + high) / 2
                inside = middle + wrapped(inside - middle, variable.period)
            at[:, k] = np.clip(inside, low, high)
            if variable.period is None:
                beyond[:, k] = inside - at[:, k]
                outside = np.flatnonzero(beyond[:, k])
                if len(outside) and not self.extrapolate:
                    raise DataError(
                        f"copy {outside[0]}: {variable} = {s[outside[0], k]:.6g} is outside of the table, which "
                        f"ends at {low:.6g} and {high:.6g}; add walls, or set extrapolate"
                    )
        # V(edge) + V'(edge) (s - edge); in two dimensions V is continuous only with the mixed derivative
        energy, slope = np.zeros(len(s)), np.zeros(s.shape)
        for order in product((0, 1), repeat=s.shape[1]):
            far = np.prod(beyond ** np.array(order), axis=1)
            if any(order) and not far.any():
                continue
            energy += self._spline(at, nu=order) * far
        for k in range(s.shape[1]):
            for order in product((0, 1), repeat=s.shape[1]):
                if order[k]:
                    rest = np.array(order)
                    rest[k] = 0
                    far = np.prod(beyond**rest, axis=1)
                    if far.any():
                        slope[:, k] += self._spline(at, nu=order) * far
        return energy, slope
