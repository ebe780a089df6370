r"""Symmetric matrices of which half is kept, in LAPACK's rectangular full packed format.

A triangle is folded into a rectangle, so that sums are sums of arrays of half the length, and a Cholesky factorisation
runs at the rate of whole matrices (Gustavson, Wasniewski, Dongarra, Langou, ACM Trans. Math. Softw. 37, 18 (2010)).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from gapkit.exceptions import NumericsError

#: which of the eight variants of the format: the lower triangle, not turned
FORM = {"transr": "N", "uplo": "L"}


def length(n: int) -> int:
    """Numbers of a packed matrix (n, n)."""
    return n * (n + 1) // 2


def pack(matrix: np.ndarray) -> np.ndarray:
    """The numbers (n (n + 1) / 2,) of a symmetric ``matrix`` (n, n)."""
    packed, info = lapack.dtrttf(np.asfortranarray(matrix), **FORM)
    if info != 0:
        raise NumericsError(f"a matrix of shape {matrix.shape} cannot be packed (trttf: {info})")
    return packed


def diagonal(n: int) -> np.ndarray:
    """Indices (n,) of the diagonal of a packed matrix (n, n)."""
    return np.argsort(-pack(np.diag(np.arange(n, 0.0, -1.0))), kind="stable")[:n]


def factorised(packed: np.ndarray, n: int) -> np.ndarray:
    """The Cholesky factor of a packed matrix (n, n), which is overwritten.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where the matrix is not positive definite to rounding.
    """
    factor, info = lapack.dpftrf(n, packed, overwrite_a=1, **FORM)
    if info != 0:
        raise np.linalg.LinAlgError(f"leading minor {info} of a packed matrix is not positive definite")
    return factor


def solve(factor: np.ndarray, b: np.ndarray) -> np.ndarray:
    """x (n,) with A x = ``b`` (n,), for the factor of a packed A."""
    x, info = lapack.dpftrs(len(b), factor, b, **FORM)
    if info != 0:
        raise NumericsError(f"the solution by a packed factor failed (pftrs: {info})")
    return np.asarray(x).reshape(len(b))
