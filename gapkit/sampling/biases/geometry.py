"""Vectors between atoms in periodic cells, and differences of periodic quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.cell import Cell
from ase.geometry import find_mic

from gapkit.exceptions import DataError, SettingsError


def wrapped(difference: np.ndarray, period: float | None) -> np.ndarray:
    """Difference of two values of a variable, at most half a period in size; as it is where there is no period.

    Examples
    --------
    >>> wrapped(np.array([350.0, -10.0, 170.0]), 360.0)
    array([-10., -10., 170.])
    """
    return difference if period is None else difference - period * np.round(difference / period)


class Box:
    """Cell and periodic directions, with the shortest image of a vector.

    Parameters
    ----------
    cell : (3, 3) or ase.cell.Cell or None
        Cell vectors as rows (A); None for none.
    pbc : (3,) or bool or None
        Periodic directions; None for none.

    Raises
    ------
    SettingsError
        For a periodic direction without a cell vector, or periodic cell vectors that are not independent.

    Examples
    --------
    >>> Box(np.diag([10.0, 10.0, 10.0]), True).shortest(np.array([9.0, 0.0, 4.0]))
    array([-1.,  0.,  4.])
    """

    def __init__(self, cell: Any = None, pbc: Any = None) -> None:
        self.pbc = np.zeros(3, dtype=bool) if pbc is None else np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
        self.cell = Cell.new(np.zeros((3, 3)) if cell is None else cell)
        missing = np.flatnonzero(self.pbc & ~self.cell.any(1))
        if len(missing):
            raise SettingsError(
                f"direction {missing[0]} is periodic, but its cell vector is zero: set the cell, or pbc"
            )
        # images differ by periodic vectors alone: another one, which may be tilted, must not take part
        self.cell = Cell(self.cell.array * self.pbc[:, None])
        if np.linalg.matrix_rank(self.cell.array) < self.pbc.sum():
            raise SettingsError("the periodic cell vectors are not independent: the cell has no volume")
        self._complete = self.cell.complete().array
        self._inverse = np.linalg.inv(self._complete)
        products = self._complete @ self._complete.T
        size = float(np.abs(products).max())
        self._right_angled = bool(np.abs(products - np.diag(np.diag(products))).max() <= 1e-12 * size)
        #: distance of the closest lattice planes (A): no lattice vector is shorter
        self.height = float(np.min((1 / np.linalg.norm(self._inverse, axis=0))[self.pbc], initial=np.inf))

    def shortest(self, vectors: np.ndarray) -> np.ndarray:
        """Shortest periodic image of vectors (..., 3), as by ASE's ``mic=True``.

        ASE differs where a direction is not periodic and has a cell vector that is not orthogonal to the others: it
        misses shorter images there.
        """
        if not self.pbc.any():
            return vectors
        turns = np.round(vectors @ self._inverse) * self.pbc
        short = vectors - turns @ self._complete
        if self._right_angled:
            return short
        unsure = np.linalg.norm(short, axis=-1) > 0.5 * self.height  # below that no other image is shorter
        if unsure.any():
            short[unsure] = find_mic(short[unsure], self.cell, self.pbc)[0]
        return short


def finite_positions(positions: Any, axes: int) -> np.ndarray:
    """Positions with a leading axis for copies: (R, n, 3), or one more where ``axes`` is 3 (beads).

    Raises
    ------
    DataError
        For another shape, or a position that is not finite.
    """
    x = np.asarray(positions, dtype=float)
    if x.ndim == axes:
        x = x[None]
    if x.ndim != axes + 1 or x.shape[-1] != 3:
        shape = "(n, 3) or (R, n, 3)" if axes == 2 else "(P, n, 3) or (R, P, n, 3)"
        raise DataError(f"positions must have the shape {shape}, not {np.shape(positions)}")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        raise DataError(f"copy {bad[0][0]}: the position of atom {bad[0][-2]} is not finite")
    return x
