"""Statistics of time series."""

from __future__ import annotations

import numpy as np


def statistical_inefficiency(series: np.ndarray) -> float:
    """Steps between independent samples, 1 + 2 sum_t (1 - t/T) C_t with C the autocorrelation up to its first zero.

    At least 1. Chodera, Swope, Pitera, Seok, Dill, J. Chem. Theory Comput. 3, 26 (2007).

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(1).normal(size=20000)
    >>> slow = np.convolve(noise, np.ones(10) / 10, mode="valid")  # each value shares nine of ten with the next
    >>> bool(statistical_inefficiency(noise) < 1.2), bool(9 < statistical_inefficiency(slow) < 11)
    (True, True)
    """
    x = np.asarray(series, dtype=float)
    x = x - x.mean()
    variance = float(x @ x) / len(x)
    if variance <= 0:
        return 1.0
    g = 1.0
    for lag in range(1, len(x) - 1):
        correlation = float(x[:-lag] @ x[lag:]) / ((len(x) - lag) * variance)
        if correlation <= 0:
            break
        g += 2 * correlation * (1 - lag / len(x))
    return max(g, 1.0)
