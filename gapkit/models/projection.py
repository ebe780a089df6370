r"""Projection of features on fewer directions, chosen before the fit.

Unit SOAP vectors of one material lie close to a space of far fewer dimensions than they have entries. With orthonormal
rows U (d, f) a dot-product kernel becomes :math:`(Ux \cdot Ux')^\zeta`, whose matrix products cost d/f as much. Since
:math:`x \cdot x' = Ux \cdot Ux' + Vx \cdot Vx'`, V the complement, :math:`k - k_U` is itself a kernel (a sum of
products of kernels with positive coefficients), so what the projection hides has a prior variance of its own,
:math:`\delta^2 (k(x, x) - k_U(x, x)) \ge 0` for every functional. Prior variances are therefore those of the whole
features, and the Nystrom residual grows outside the chosen space.

U holds the leading eigenvectors of the second moment of the candidate environments (principal components without
centring, so that the mean direction is kept).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

#: ``"auto"`` keeps directions until the mean square of what it drops of a unit vector is below this
DROPPED = 1e-9
#: ``"auto"`` projects only where it keeps less than this share of the features: beyond, the detour costs what it saves
WORTHWHILE = 0.6


def principal_directions(candidates: np.ndarray, n: int | str) -> np.ndarray | None:
    """Orthonormal rows (d, f), most important first, or None where a projection would gain nothing.

    Parameters
    ----------
    candidates : (c, f)
        Unit feature vectors of training environments.
    n
        Number of directions, or ``"auto"``: as few as drop no more than ``DROPPED``, a multiple of eight.
    """
    n_features = candidates.shape[1]
    if n != "auto" and int(n) >= n_features:
        return None
    chosen = leading_directions(candidates, n)
    return None if n == "auto" and len(chosen) > WORTHWHILE * n_features else chosen


def leading_directions(candidates: np.ndarray, n: int | str) -> np.ndarray:
    """Orthonormal rows (d, f), whether a projection would gain anything or not: see :func:`principal_directions`."""
    c, n_features = candidates.shape
    few = c < n_features and (n == "auto" or int(n) <= c)
    if few:  # the eigenvectors of the smaller matrix of products give those of the moment
        values, vectors = scipy.linalg.eigh(candidates @ candidates.T / c, check_finite=False)
    else:
        values, vectors = scipy.linalg.eigh(candidates.T @ candidates / c, check_finite=False)
    if n == "auto":
        dropped = np.cumsum(np.maximum(values, 0.0))  # of all but the last k eigenvectors, ascending
        wanted = len(values) - int(np.searchsorted(dropped, DROPPED, side="right"))
        size = min(max(8, -(-wanted // 8) * 8), len(values))
    else:
        size = min(int(n), len(values))
    chosen = vectors[:, ::-1][:, :size].T
    if few:
        chosen = scipy.linalg.qr((chosen @ candidates).T, mode="economic", check_finite=False)[0].T
    # an eigenvector's sign is arbitrary: make it the same on every machine
    largest = np.argmax(np.abs(chosen), axis=1)
    return np.ascontiguousarray(chosen * np.sign(chosen[np.arange(len(chosen)), largest])[:, None])
