"""Mean-square displacements, their covariance for Brownian motion, and the weights of the best slope.

Lags count frames. Units of length are the caller's.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gapkit.exceptions import SettingsError


def mean_square_displacements(positions: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """Mean-square displacements (L,) of particles with positions (T, k, 3), over all time origins.

    Examples
    --------
    >>> line = np.arange(5.0)[:, None, None] * np.array([1.0, 0.0, 0.0])
    >>> mean_square_displacements(line, np.array([1, 2])).tolist()
    [1.0, 4.0]
    """
    return np.array([((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean() for lag in lags])


@njit(cache=True, nogil=True)
def brownian_covariance(frames: int, lags: np.ndarray, noise: float) -> np.ndarray:
    """Covariance (L, L) of mean-square displacements in one dimension, averaged over time origins, of one walker.

    The walker is Brownian with unit variance per frame, and seen with errors of variance ``noise`` (vibrations).
    Displacements are normal, so that squares have twice the squared covariance (Qian, Sheetz, Elson, Biophys. J. 60,
    910 (1991), app. B, without errors; Michalet, Phys. Rev. E 82, 041914 (2010), app. A, with them).

    Parameters
    ----------
    frames
        Number of positions of the walker, more than the longest lag.
    lags : (L,) int
        Lags in frames.
    noise
        Variance of the errors in units of the variance of one step.
    """
    L = len(lags)
    out = np.empty((L, L))
    for a in range(L):
        n = lags[a]
        for b in range(a + 1):
            m = lags[b]
            total = 0.0
            for shift in range(-m, n + 1):  # the second displacement begins ``shift`` frames after the first
                pairs = min(frames - n, frames - m - shift) - max(0, -shift)
                if pairs <= 0:
                    continue
                shared = float(max(0, min(n, shift + m) - max(0, shift)))
                if shift == 0:
                    shared += noise
                if shift + m == n:
                    shared += noise
                if shift == n:
                    shared -= noise
                if shift == -m:
                    shared -= noise
                total += pairs * shared * shared
            out[a, b] = out[b, a] = 2.0 * total / ((frames - n) * (frames - m))
    return out


def slope_weights(frames: int, lags: np.ndarray, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights (L,) of mean-square displacements for slope and intercept by generalised least squares.

    With the covariance of :func:`brownian_covariance` the slope has the smallest variance among unbiased linear ones
    (Aitken, Proc. R. Soc. Edinb. 55, 42 (1936)); McCluskey, Coles, Morgan, J. Chem. Theory Comput. 21, 79 (2025), use
    the same estimator with a covariance that is approximated from the data. The intercept takes up vibrations.

    Returns
    -------
    slope, intercept : (L,)
        Weights.
    variance : float
        Variance of the slope for one walker in one dimension, in units of the squared variance of one step.

    Raises
    ------
    SettingsError
        For fewer than two lags, or lags that do not fit.
    """
    lags = np.asarray(lags, dtype=np.int64)
    if len(lags) < 2 or (np.diff(lags) <= 0).any() or lags[0] < 1 or lags[-1] >= frames:
        raise SettingsError(
            f"at least two rising lags between 1 and {frames - 1} frames are needed, not {lags.tolist()}"
        )
    covariance = brownian_covariance(frames, lags, noise)
    design = np.column_stack([lags, np.ones(len(lags))]).astype(float)
    white = np.linalg.solve(np.linalg.cholesky(covariance), np.column_stack([design, np.eye(len(lags))]))
    normal = np.linalg.inv(white[:, :2].T @ white[:, :2])
    weights = normal @ white[:, :2].T @ white[:, 2:]
    return weights[0], weights[1], float(normal[0, 0])
