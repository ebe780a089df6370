"""Block bootstrap: standard deviations of any quantity that is computed from correlated series."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral

import numpy as np

from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.randomness import seed_of
from gapkit.sampling.time_series import Estimate, Series, autocovariance, lag_window, mean_estimate, replicas_of

#: from a length T, a length of blocks and a generator to indices (T,)
Blocks = Callable[[int, int, np.random.Generator], np.ndarray]


def stationary_blocks(total: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (T,) of a resampled series of blocks of random length, geometric with the mean ``block``.

    The series is closed to a ring. Politis, Romano, J. Am. Stat. Assoc. 89, 1303 (1994).

    Examples
    --------
    >>> stationary_blocks(8, 4, np.random.default_rng(0)).shape
    (8,)
    """
    new = rng.random(size=total) < 1 / block
    first = np.maximum.accumulate(np.where(new, np.arange(total), 0))  # step 0 starts one in any case
    starts = rng.integers(total, size=total)
    return (starts[first] + np.arange(total) - first) % total


def moving_blocks(total: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (T,) of a resampled series of blocks of one length, which overlap and never run over the end.

    Kuensch, Ann. Stat. 17, 1217 (1989).

    Examples
    --------
    >>> np.unique(np.diff(moving_blocks(6, 6, np.random.default_rng(0)))).tolist()
    [1]
    """
    block = min(block, total)
    starts = rng.integers(total - block + 1, size=-(-total // block))
    return (starts[:, None] + np.arange(block)).ravel()[:total]


def block_length(series: Series) -> int:
    """Length of blocks of least mean square error of the variance of the mean, (G^2 T / g^2)^(1/3), at least 1.

    ``g = sum_t C_t`` and ``G = sum_t |t| C_t`` over lags of both signs, up to the window of
    :func:`~gapkit.sampling.time_series.mean_estimate`. Politis, White, Econom. Rev. 23, 53 (2004), eq. 9, for
    :func:`stationary_blocks`. Never longer than a quarter of the mean length of a run.

    Parameters
    ----------
    series : (T,) or list of (T_r,)
        One run or several independent ones.

    Raises
    ------
    DataError
        As :func:`~gapkit.sampling.time_series.mean_estimate`.

    Examples
    --------
    >>> block_length(np.ones(100))
    1
    """
    runs = replicas_of(series, "series")
    x = np.concatenate(runs)
    total, longest = len(x), max(len(x) // len(runs) // 4, 1)
    if np.ptp(x) <= 4 * np.finfo(float).eps * np.abs(x).max():
        return 1
    covariance, pairs = autocovariance([r - x.mean() for r in runs])
    correlation = covariance / covariance[0]
    window, sums = lag_window(correlation, pairs / total)
    if window is None:
        return longest
    lags = np.arange(window + 1)
    ratio = 2 * float(np.sum(lags * correlation[: window + 1])) / max(float(sums[window]), 1.0)
    return int(np.clip(np.ceil((ratio**2 * total) ** (1 / 3)), 1, longest))


def bootstrap_estimate(
    statistic: Callable[..., float],
    *series: Series,
    block: int | None = None,
    draws: int = 500,
    blocks: Blocks = stationary_blocks,
    random_state: int | np.random.Generator | None = None,
) -> Estimate:
    """Value of a statistic of one or more series, with its standard deviation over resampled series.

    All series of a run are resampled together, each run by itself, so that correlations between the series, and in
    time within a block, stay. Correlations across blocks are lost, and standard deviations come out too small: that of
    the mean of an autoregressive series (phi = 0.9) by 15 % with 50 independent samples, 11 % with 100, 5 % with 300.
    For means, ratios and slopes the estimates of :mod:`gapkit.sampling.time_series` correct for that, and are faster.

    Parameters
    ----------
    statistic
        Function from arrays (N,), one for each series and all runs of a series one after the other, to a number, such
        as ``numpy.mean``, ``numpy.var`` or ``lambda a, b: a.mean() / b.mean()``.
    series : (T,) or lists of (T_r,)
        Values in one run or several independent ones.
    block
        Length of blocks in samples; default: the largest :func:`block_length` of the series.
    draws
        Number of resampled series.
    blocks
        :func:`stationary_blocks` or :func:`moving_blocks`.
    random_state
        Seed or generator.

    Returns
    -------
    Estimate
        With the value of the statistic on the series themselves, the least number of independent samples of all series,
        and as many degrees of freedom as there are blocks, less one.

    Raises
    ------
    DataError
        For values that are not finite, fewer than four, or series of different lengths.
    SettingsError
        For a block or number of draws that cannot work.
    NumericsError
        Where the statistic of a series is not a finite number.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(scale=2.0, size=2000)
    >>> print(bootstrap_estimate(np.var, x, random_state=0))  # 4 +- sqrt(2 / 2000) 4
    4.00158 +- 0.12 (1961 independent samples)
    """
    if not series:
        raise SettingsError("no series: give at least one after the statistic")
    if not (isinstance(draws, Integral) and draws >= 20):
        raise SettingsError(f"draws must be a whole number of at least 20, not {draws!r}")
    runs = [replicas_of(s, f"series {k}") for k, s in enumerate(series)]
    lengths = [len(r) for r in runs[0]]
    for k, replicas in enumerate(runs):
        if [len(r) for r in replicas] != lengths:
            raise DataError(f"series {k} has runs of {[len(r) for r in replicas]} values, series 0 of {lengths}")
    if block is None:
        block = max(block_length(s) for s in series)
    if not (isinstance(block, Integral) and 1 <= block <= min(lengths)):
        raise SettingsError(f"block must be a whole number from 1 to {min(lengths)} (the shortest run), not {block!r}")
    whole = [np.concatenate(replicas) for replicas in runs]
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    rng = np.random.default_rng(seed_of(random_state))
    value = _number(statistic(*whole), "the series as given")
    sample = np.empty(draws)
    for d in range(draws):
        chosen = np.concatenate([b + blocks(n, block, rng) for b, n in zip(begins, lengths, strict=True)])
        sample[d] = _number(statistic(*(w[chosen] for w in whole)), f"draw {d}")
    independent = min(mean_estimate(s).independent for s in series)
    return Estimate(value, float(np.std(sample, ddof=1)), independent, max(len(whole[0]) / block - 1, 1.0))


def _number(value: float, context: str) -> float:
    if np.ndim(value) or not np.isfinite(value):
        raise NumericsError(f"the statistic of {context} is no finite number but {value!r:.80}")
    return float(value)
