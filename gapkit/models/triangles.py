r"""Streaming QR: any number of rows in, one small triangle per noise group and fold out.

For each key (group, fold) the rows [A | y] seen so far are kept as the trapezoid R of their QR decomposition, at most
(m + 1) x (m + 1), because :math:`\|A w - y\|^2 = \|R\,[w; -1]\|^2` for every w. Rows wait in a buffer until there
are enough of them for the matrix products to be efficient; memory is O(keys m^2), whatever the number of rows.
Triangles merge in pairs (Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, A206 (2012)).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError

Key = tuple[str, int]
#: columns that are decomposed together when rows are folded into a triangle
PANEL = 64
#: largest number in a row: squares of larger ones, over noise, would overflow
LARGEST = 1e100


def triangle_of(rows: np.ndarray) -> np.ndarray:
    """R of the QR decomposition of ``rows`` (n, k), as (min(n, k), k).

    Examples
    --------
    The triangle knows the squared error of every weight vector:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> A, y, w = rng.normal(size=(50, 3)), rng.normal(size=50), rng.normal(size=3)
    >>> R = triangle_of(np.column_stack([A, y]))
    >>> R.shape, bool(np.isclose(np.sum((A @ w - y) ** 2), np.sum((R @ [*w, -1.0]) ** 2)))
    ((4, 4), True)
    """
    if len(rows) == 0:
        return rows
    _, r = scipy.linalg.qr(rows, mode="raw", check_finite=False, overwrite_a=True)
    return np.asarray(r[: rows.shape[1]])


def is_triangle(R: np.ndarray) -> bool:
    """Whether ``R``, made by one of these functions, is a whole triangle and not fewer rows, kept as they were."""
    return len(R) == R.shape[1] and not R[1:, 0].any()


def fold_in(triangle: np.ndarray, rows: np.ndarray, triangular: bool = False) -> np.ndarray:
    """R of the QR decomposition of a square ``triangle`` (k, k) over ``rows`` (n, k); both are overwritten.

    LAPACK's tpqrt leaves out the zeros of the triangle: 2 n k^2 operations, where the whole stack takes twice as many
    for n = k. ``triangular``: the rows, too, are zero below their diagonal, which makes it a third.
    """
    k, n = len(triangle), len(rows)
    if n == 0:
        return triangle
    zero_below = min(n, k) if triangular else 0
    r, _, _, info = scipy.linalg.lapack.dtpqrt(
        zero_below, min(PANEL, k), np.asfortranarray(triangle), np.asfortranarray(rows), overwrite_a=1, overwrite_b=1
    )
    if info != 0:
        raise NumericsError(f"the QR decomposition of {n} rows over a triangle of {k} failed (tpqrt: {info})")
    return np.asarray(r)


@dataclass
class Triangle:
    """Reduced form of all rows of one key (noise group and fold).

    Attributes
    ----------
    R : (r, m + 1)
        Trapezoid of [A | y], r <= m + 1.
    n_rows : int
    log_scale : float
        Sum of the logarithms of the factors that the rows were divided by.
    prior : (terms,)
        Per term, the sum of the rows' prior variances under the unit kernel, S = sum_n k(n, n).
    """

    R: np.ndarray
    n_rows: int = 0
    log_scale: float = 0.0
    prior: np.ndarray = field(default_factory=lambda: np.zeros(0))
    waiting: list[np.ndarray] = field(default_factory=list)
    n_waiting: int = 0

    def reduce(self) -> np.ndarray:
        """Fold the buffer into R."""
        if self.waiting:
            full = is_triangle(self.R)
            parts = self.waiting if full else [self.R, *self.waiting]
            stacked = np.empty((sum(map(len, parts)), self.R.shape[1]), order="F")
            begin = 0
            for rows in parts:
                stacked[begin : begin + len(rows)] = rows
                begin += len(rows)
            self.waiting, self.n_waiting = [], 0
            if full:
                self.R = fold_in(np.array(self.R, order="F"), stacked)
            else:
                self.R = triangle_of(stacked) if len(stacked) >= stacked.shape[1] else stacked
        return self.R


class Triangles:
    """Triangles of all noise groups and folds.

    Parameters
    ----------
    n_columns
        m, the number of whitened columns.
    n_terms
        Number of terms (prior variances are kept per term).
    """

    def __init__(self, n_columns: int, n_terms: int) -> None:
        self.n_columns = n_columns
        self.n_terms = n_terms
        self.items: dict[Key, Triangle] = {}

    def _triangle(self, key: Key) -> Triangle:
        if key not in self.items:
            self.items[key] = Triangle(np.zeros((0, self.n_columns + 1)), prior=np.zeros(self.n_terms))
        return self.items[key]

    def update(
        self,
        rows: np.ndarray,
        targets: np.ndarray,
        prior_variances: np.ndarray,
        group: str,
        fold: int,
        log_scale: float = 0.0,
    ) -> None:
        """Add whitened rows (n, m), targets (n,), and prior variances (n, terms), all divided by their row scale."""
        both = np.empty((len(rows), self.n_columns + 1))
        both[:, :-1] = rows
        both[:, -1] = targets
        if not np.isfinite(both).all():
            raise NumericsError(
                f"rows of noise group {group!r} are not finite: two atoms too close, or a baseline that failed"
            )
        if len(both) and max(both.max(), -both.min()) > LARGEST:
            raise NumericsError(
                f"rows of noise group {group!r} are beyond {LARGEST:.0e}, and their squares beyond all numbers: a "
                "label in other units, or two atoms too close; remove the frame"
            )
        triangle = self._triangle((group, fold))
        triangle.n_rows += len(rows)
        triangle.log_scale += log_scale
        triangle.prior = triangle.prior + prior_variances.sum(axis=0)
        triangle.waiting.append(both)
        triangle.n_waiting += len(rows)
        if triangle.n_waiting >= 2 * (self.n_columns + 1):
            triangle.reduce()

    def merge(self, other: Triangles) -> Triangles:
        """Triangles of the rows of both, as a new object; equal, but for rounding, to one made from all rows."""
        merged = Triangles(self.n_columns, self.n_terms)
        for part in (self, other):
            for key, t in part.items.items():
                here = merged._triangle(key)
                here.waiting.append(t.reduce())
                here.n_waiting += len(t.R)
                here.n_rows += t.n_rows
                here.log_scale += t.log_scale
                here.prior = here.prior + t.prior
        for t in merged.items.values():
            t.reduce()
        return merged

    def without(self, fold: int) -> Triangles:
        """The triangles of all other folds, which are shared and not copied."""
        rest = Triangles(self.n_columns, self.n_terms)
        rest.items = {key: triangle for key, triangle in self.items.items() if key[1] != fold}
        return rest

    def each_gram(self) -> Iterator[tuple[Key, np.ndarray]]:
        """Key and Gram matrix R^T R (m + 1, m + 1), one after the other."""
        for key, triangle in self.items.items():
            R = triangle.reduce()
            yield key, R.T @ R

    def grams(self) -> dict[Key, np.ndarray]:
        """Gram matrix R^T R (m + 1, m + 1) of every key."""
        return dict(self.each_gram())

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the noise groups."""
        return tuple(sorted({g for g, _ in self.items}))

    @property
    def folds(self) -> tuple[int, ...]:
        """Folds that may be left out (those that are not negative)."""
        return tuple(sorted({f for _, f in self.items if f >= 0}))

    def count(self, group: str) -> int:
        """Number of rows of a group."""
        return sum(t.n_rows for (g, _), t in self.items.items() if g == group)

    def select(self, columns: np.ndarray) -> Triangles:
        """The triangles of a model that has only these whitened columns (and the targets)."""
        smaller = Triangles(len(columns), self.n_terms)
        keep = np.append(columns, self.n_columns)
        for key, t in self.items.items():
            R = triangle_of(np.asfortranarray(t.reduce()[:, keep]))
            smaller.items[key] = Triangle(R, t.n_rows, t.log_scale, t.prior)
        return smaller
