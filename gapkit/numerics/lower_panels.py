r"""A symmetric matrix of which only the lower triangle is kept, in panels of columns: half the memory.

Panel k holds the columns ``begin`` to ``end`` from row ``begin`` down. The Cholesky factorisation overwrites the panels
by those of L (Golub and Van Loan, Matrix Computations (2013), section 4.2.9, by blocks). By panels of our own too,
because LAPACK's factorisation in the OpenBLAS of SciPy 1.17 ends the process at 28,000 rows.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError

#: columns of a panel
WIDTH = 1024


class LowerPanels:
    """The lower triangle of a symmetric matrix of zeros (n, n), to be filled by :meth:`add`.

    Attributes
    ----------
    n : int
    panels : list of (begin, array)
        First column, and the entries (n - begin, columns) from row ``begin`` down, Fortran order. Entries above the
        diagonal have no meaning.
    """

    def __init__(self, n: int, width: int = WIDTH) -> None:
        self.n = n
        self.panels = [(b, np.zeros((n - b, min(width, n - b)), order="F")) for b in range(0, n, width)]

    @classmethod
    def of(cls, matrix: np.ndarray, width: int = WIDTH) -> LowerPanels:
        """The lower triangle of ``matrix`` (n, n)."""
        made = cls(len(matrix), width)
        for begin, panel in made.panels:
            panel[:] = matrix[begin:, begin : begin + panel.shape[1]]
        return made

    def copy(self) -> LowerPanels:
        """A copy that shares no memory."""
        made = LowerPanels(0)
        made.n, made.panels = self.n, [(b, p.copy(order="F")) for b, p in self.panels]
        return made

    def lower(self) -> np.ndarray:
        """The lower triangle as one array (n, n), zero above the diagonal."""
        whole = np.zeros((self.n, self.n), order="F")
        for begin, panel in self.panels:
            whole[begin:, begin : begin + panel.shape[1]] = np.tril(panel)
        return whole

    def add(self, row: int, column: int, block: np.ndarray) -> None:
        """Add ``block`` (r, c), whose first entry is at ``row`` and ``column``, with ``row`` no less than ``column``.

        The part of a block above the diagonal may be given; it has no meaning.
        """
        last = column + block.shape[1]
        for begin, panel in self.panels:
            low, high = max(begin, column), min(begin + panel.shape[1], last)
            if low < high:
                top = max(row, begin)  # rows above a panel are above the diagonal
                panel[top - begin : row - begin + len(block), low - begin : high - begin] += block[
                    top - row :, low - column : high - column
                ]

    def add_diagonal(self, values: np.ndarray) -> None:
        """Add ``values`` (n,) to the diagonal."""
        for begin, panel in self.panels:
            k = np.arange(panel.shape[1])
            panel[k, k] += values[begin : begin + len(k)]

    def cholesky(self) -> None:
        """Overwrite the matrix by its Cholesky factor L.

        Raises
        ------
        NumericsError
            Where it is not positive definite.
        """
        for k, (begin, panel) in enumerate(self.panels):
            width = panel.shape[1]
            corner, info = scipy.linalg.lapack.dpotrf(panel[:width], lower=1, clean=1)
            if info:
                raise NumericsError(f"the symmetric matrix of {self.n} rows is not positive definite")
            panel[:width] = corner
            below = panel[width:]
            if len(below):
                below[:] = scipy.linalg.solve_triangular(corner, below.T, lower=True, check_finite=False).T
            for start, later in self.panels[k + 1 :]:
                rows = below[start - begin - width :]
                later -= rows @ rows[: later.shape[1]].T

    def forward(self, y: np.ndarray, first: int = 0) -> np.ndarray:
        """L^-1 y for ``y`` (n,) or (n, k), after :meth:`cholesky`; rows before ``first``, where a panel begins or
        not, are zero."""
        z = np.array(y, dtype=float, order="F")
        for begin, panel in self.panels:
            width = panel.shape[1]
            if begin + width <= first:
                continue
            here = scipy.linalg.solve_triangular(
                panel[:width], z[begin : begin + width], lower=True, check_finite=False
            )
            z[begin : begin + width] = here
            z[begin + width :] -= panel[width:] @ here
        return z

    def solve(self, y: np.ndarray) -> np.ndarray:
        """(L L^T)^-1 y for ``y`` (n,) or (n, k), after :meth:`cholesky`."""
        z = self.forward(y)
        for begin, panel in reversed(self.panels):
            width = panel.shape[1]
            right = z[begin : begin + width] - panel[width:].T @ z[begin + width :]
            z[begin : begin + width] = scipy.linalg.solve_triangular(
                panel[:width], right, lower=True, trans="T", check_finite=False
            )
        return z

    def inverse_columns(self, begin: int, end: int) -> np.ndarray:
        """Columns ``begin`` to ``end`` of L^-1, from row ``begin`` down (n - begin, end - begin)."""
        unit = np.zeros((self.n, end - begin), order="F")
        unit[np.arange(begin, end), np.arange(end - begin)] = 1.0
        return self.forward(unit, begin)[begin:]

    def last_corner(self, size: int) -> np.ndarray:
        """The last ``size`` rows and columns of L, after :meth:`cholesky`."""
        corner, first = np.zeros((size, size), order="F"), self.n - size
        for begin, panel in self.panels:
            low = max(begin, first)
            if low < begin + panel.shape[1]:
                corner[low - first :, low - first : begin + panel.shape[1] - first] = panel[
                    low - begin :, low - begin :
                ]
        return np.tril(corner)
