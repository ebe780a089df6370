"""Choosing sparse points from a pool of candidate environments: one small class per strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError, SettingsError
from gapkit.kernels import Kernel

#: share of the candidates beyond which the whole kernel matrix is factorised rather than columns made as needed
WHOLE_MATRIX = 0.15
#: relative difference of variances that is rounding
TIE = 1e-12
#: points by which a large pool is thinned
PILOT = 300


class Selection(Protocol):
    """Chooses at most ``n`` rows of ``candidates`` (c, f); returns their indices, best first."""

    def __call__(self, candidates: np.ndarray, kernel: Kernel, n: int, rng: np.random.Generator) -> np.ndarray: ...


def pivoted_cholesky(X: np.ndarray, kernel: Kernel, n: int, tolerance: float = 1e-10) -> tuple[np.ndarray, np.ndarray]:
    r"""Greedy variance: each step takes the candidate whose prior variance, given those taken, is largest.

    Harbrecht, Peters, Schneider, Appl. Numer. Math. 62, 428 (2012), algorithm 1. Kernel columns are made as needed,
    the memory is c x n.

    Returns
    -------
    indices : (k,) with k <= n
        Pivots, in order; fewer than ``n`` when the largest residual variance falls below ``tolerance`` times the
        largest prior variance.
    residual : (c,)
        Prior variance of each candidate that the chosen points leave.

    Examples
    --------
    >>> import numpy as np
    >>> from gapkit.kernels import SquaredExponential
    >>> X = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> indices, residual = pivoted_cholesky(X, SquaredExponential(1.0), n=2)
    >>> indices.tolist(), bool(residual.max() < 0.02)
    ([0, 3], True)
    """
    X = np.ascontiguousarray(X, dtype=np.float64)
    n = min(n, len(X))
    if n > WHOLE_MATRIX * len(X):
        return _pivoted_whole(X, kernel, n, tolerance)
    residual = kernel.diagonal(X).copy()
    floor = tolerance * residual.max(initial=0.0)
    columns = np.empty((n, len(X)))
    indices: list[int] = []
    for k in range(n):
        pivot = int(np.argmax(residual)) if k else _first_of_equals(residual)
        if residual[pivot] <= floor:
            break
        column = kernel(X, X[pivot : pivot + 1])[:, 0] - columns[:k, pivot] @ columns[:k]
        column /= np.sqrt(residual[pivot])
        columns[k] = column
        residual -= column**2
        residual[pivot] = 0.0
        np.maximum(residual, 0.0, out=residual)
        indices.append(pivot)
    return np.array(indices, dtype=np.int64), residual


def _first_of_equals(variance: np.ndarray) -> int:
    """The first of the candidates whose variance is largest but for rounding: unit vectors all tie, and last digits,
    which differ from machine to machine, must not choose the points."""
    return int(np.argmax(variance >= (1.0 - TIE) * variance.max(initial=0.0)))


def _pivoted_whole(X: np.ndarray, kernel: Kernel, n: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Pivots and residual variances from the whole kernel matrix, by LAPACK (pstrf): faster where ``n`` is near c."""
    K = kernel(X)
    diagonal = K.diagonal().copy()
    first = _first_of_equals(diagonal)
    K[first, first] *= 1.0 + TIE
    factor, pivots, rank, info = scipy.linalg.lapack.dpstrf(
        K.T, tol=tolerance * float(diagonal.max(initial=0.0)), lower=1, overwrite_a=1
    )
    if info < 0:
        raise NumericsError(f"pivoted Cholesky refused argument {-info}: features that are not finite")
    order, k = pivots - 1, min(n, int(rank))
    lower = np.tril(factor[:, :k])
    residual = diagonal
    residual[order] -= np.einsum("ck,ck->c", lower, lower)
    residual[order[:k]] = 0.0
    return order[:k].astype(np.int64), np.maximum(residual, 0.0)


@dataclass(frozen=True)
class GreedyVariance:
    """Pivoted Cholesky (:func:`pivoted_cholesky`), the default: deterministic, and it stops by itself.

    Attributes
    ----------
    tolerance : float
        No more points are taken once the largest prior variance that the chosen leave falls below this share of the
        largest prior variance: a stated residual instead of a number.
    largest : int
        Of more candidates than this, and than twice as many as there are points to choose, only those count that 300
        points leave the largest variance: the crowded middle of a large pool is thinned, rare environments all stay.
    """

    tolerance: float = 1e-10
    largest: int = 6000

    def __call__(self, candidates, kernel, n, rng):
        kept = np.arange(len(candidates))
        most = max(self.largest, 2 * n)
        if len(candidates) > most and n > PILOT:
            first, residual = pivoted_cholesky(candidates, kernel, PILOT, self.tolerance)
            residual[first] = np.inf
            kept = np.sort(np.argsort(-residual, kind="stable")[:most])
        return kept[pivoted_cholesky(candidates[kept], kernel, n, self.tolerance)[0]]


@dataclass(frozen=True)
class RandomPoints:
    """Uniformly random candidates."""

    def __call__(self, candidates, kernel, n, rng):
        return rng.permutation(len(candidates))[:n]


@dataclass(frozen=True)
class Leverage:
    """Random candidates with probability proportional to their ridge leverage score.

    Scores are the diagonal of :math:`K(K + c \\lambda)^{-1}` of the c candidates, lambda being ``ridge`` (Alaoui and
    Mahoney, NIPS 2015), from a Nystrom approximation on a random subset; without replacement, by exponential races.
    """

    ridge: float = 1e-4

    def __call__(self, candidates, kernel, n, rng):
        landmarks = candidates[rng.permutation(len(candidates))[: min(n, len(candidates))]]
        K_mm = kernel(landmarks)
        K_mm[np.diag_indices_from(K_mm)] += 1e-10 * np.trace(K_mm) / len(K_mm)
        A = scipy.linalg.solve_triangular(
            scipy.linalg.cholesky(K_mm, lower=True), kernel(landmarks, candidates), lower=True
        )
        H = A @ A.T / len(candidates)
        H[np.diag_indices_from(H)] += self.ridge
        B = scipy.linalg.solve_triangular(scipy.linalg.cholesky(H, lower=True), A, lower=True)
        score = np.einsum("mc,mc->c", B, B) + 1e-12
        return np.argsort(rng.exponential(size=len(candidates)) / score)[:n]


@dataclass(frozen=True)
class FarthestPoint:
    """Farthest point sampling in feature space, by scikit-matter."""

    def __call__(self, candidates, kernel, n, rng):
        from skmatter.sample_selection import FPS

        n = min(n, len(candidates))
        if n == len(candidates):
            return np.arange(n)
        start = int(rng.integers(len(candidates)))
        return np.asarray(FPS(n_to_select=n, initialize=start).fit(candidates).selected_idx_)


@dataclass(frozen=True)
class CUR:
    """CUR decomposition (Mahoney and Drineas, PNAS 106, 697 (2009)), by scikit-matter; not iterated, for speed."""

    def __call__(self, candidates, kernel, n, rng):
        from skmatter.sample_selection import CUR as SkmatterCUR

        n = min(n, len(candidates))
        if n == len(candidates):
            return np.arange(n)
        return np.asarray(SkmatterCUR(n_to_select=n, recompute_every=0).fit(candidates).selected_idx_)


SELECTIONS: dict[str, type] = {
    "greedy": GreedyVariance,
    "leverage": Leverage,
    "cur": CUR,
    "fps": FarthestPoint,
    "random": RandomPoints,
}


def selection(name: str | Selection) -> Selection:
    """The strategy of that name, or the object itself.

    Examples
    --------
    >>> selection("greedy")
    GreedyVariance(tolerance=1e-10, largest=6000)
    """
    if not isinstance(name, str):
        return name
    if name not in SELECTIONS:
        raise SettingsError(f"sparse selection must be one of {', '.join(SELECTIONS)}, not {name!r}")
    return SELECTIONS[name]()
