"""Statistics of time series: independent samples, equilibration, error bars of means, ratios and slopes, blocks.

Values of one run follow each other closely and are correlated. The number of independent values among T is T/g, with
the statistical inefficiency g = 1 + 2 sum_t C_t and C_t the autocorrelation at lag t. Error bars of any other quantity
are the business of :mod:`gapkit.sampling.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy import fft, stats

from gapkit.checks import check_level
from gapkit.exceptions import DataError, SettingsError

#: one run (T,), or several independent ones, which may be of different lengths
Series = np.ndarray | Sequence[float] | Sequence[np.ndarray] | Sequence[Sequence[float]]

_WINDOW = 5.0  # integrated autocorrelation times in the window of lags (Sokal)
_LONGEST = 1 / 3  # of the mean length of a run: the longest window of lags
_FEWEST = 4


@dataclass(frozen=True)
class Estimate:
    """Value with its standard deviation, from correlated samples.

    Attributes
    ----------
    value, value_std
        The estimate and the standard deviation of its error, in the unit of the quantity.
    independent
        Number of independent samples that carry the same information as the series.
    degrees_of_freedom
        Degrees of freedom of ``value_std``, which is itself an estimate.
    """

    value: float
    value_std: float
    independent: float
    degrees_of_freedom: float

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval that holds the true value with the probability ``level``, by Student's t.

        Raises
        ------
        SettingsError
            For a level that is not between 0 and 1.
        """
        check_level(level)
        half = float(stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)) * self.value_std
        return self.value - half, self.value + half

    def __str__(self) -> str:
        return f"{self.value:.6g} +- {self.value_std:.2g} ({self.independent:.0f} independent samples)"


@dataclass(frozen=True)
class Equilibration:
    """Part of a series that counts as equilibrated.

    Attributes
    ----------
    start
        First sample of the equilibrated part.
    inefficiency
        Statistical inefficiency of the equilibrated part.
    independent
        Number of independent samples in the equilibrated part.
    """

    start: int
    inefficiency: float
    independent: float


@dataclass(frozen=True)
class BlockAverages:
    """Standard deviation of the mean against the length of blocks whose averages count as independent.

    Attributes
    ----------
    length : (L,)
        Lengths of blocks: 1, 2, 4, ...
    blocks : (L,)
        Number of blocks of each length; a rest that fills no block is left out.
    mean_std : (L,)
        Standard deviation of the mean by blocks of each length: too small where blocks are correlated.
    mean_std_std : (L,)
        Standard deviation of ``mean_std``, for independent blocks.
    chosen
        Index of the shortest blocks with B^3 > 2 T (s_B / s_1)^4, where s_B is ``mean_std`` at the length B (Wolff,
        Comput. Phys. Commun. 156, 143 (2004); Lee et al., Phys. Rev. E 83, 066706 (2011)); None where the series is too
        short for it.
    """

    length: np.ndarray
    blocks: np.ndarray
    mean_std: np.ndarray
    mean_std_std: np.ndarray
    chosen: int | None


def statistical_inefficiency(series: np.ndarray) -> float:
    """Steps between independent samples, 1 + 2 sum_t (1 - t/T) C_t with C the autocorrelation up to its first zero.

    At least 1, and 1 for a constant series. Chodera, Swope, Pitera, Seok, Dill, J. Chem. Theory Comput. 3, 26 (2007).

    Raises
    ------
    DataError
        For values that are not finite, an empty series, or another shape than (T,).

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(1).normal(size=20000)
    >>> slow = np.convolve(noise, np.ones(10) / 10, mode="valid")  # each value shares nine of ten with the next
    >>> bool(statistical_inefficiency(noise) < 1.2), bool(9 < statistical_inefficiency(slow) < 11)
    (True, True)
    """
    return _inefficiency(_checked(series, "series"))


def detect_equilibration(series: np.ndarray, candidates: int = 100) -> Equilibration:
    """Start of the equilibrated part: the sample from which on the number of independent samples is largest.

    Chodera, J. Chem. Theory Comput. 12, 1799 (2016). Every start is tried in series of up to ``candidates`` samples; in
    longer ones half of the candidates are equally spaced, and half lie geometrically towards the beginning, where short
    transients end. A slow drift through the whole series cannot be told from slow fluctuations: few independent samples
    are what shows it.

    Parameters
    ----------
    series : (T,)
        One run from its first step on.
    candidates
        Number of starts that are tried, each at the cost of one Fourier transform.

    Raises
    ------
    DataError
        For values that are not finite, fewer than four, or another shape than (T,).
    SettingsError
        For fewer than two candidates.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=2000)
    >>> found = detect_equilibration(noise + 30 * np.exp(-np.arange(2000) / 20))
    >>> bool(60 < found.start < 160), bool(found.independent > 1200)
    (True, True)
    """
    if not (isinstance(candidates, Integral) and candidates >= 2):
        raise SettingsError(f"candidates must be a whole number of at least 2, not {candidates!r}")
    x = _checked(series, "series", _FEWEST)
    last = len(x) - _FEWEST
    starts = np.arange(last + 1)
    if len(starts) > candidates:
        even = np.linspace(0, last, candidates - candidates // 2)
        starts = np.unique(np.concatenate([even, np.geomspace(1, last, candidates // 2)]).astype(int))
    best = Equilibration(0, 1.0, 0.0)
    for start in starts.tolist():
        rest = x[start:]
        g = float(len(rest)) if _is_constant(rest) else _inefficiency(rest)  # a constant tail is one sample
        if len(rest) / g > best.independent:
            best = Equilibration(start, g, len(rest) / g)
    return best


def block_averages(series: np.ndarray) -> BlockAverages:
    """Standard deviation of the mean from averages of blocks of 1, 2, 4, ... samples, down to two blocks.

    It rises with the length of the blocks to a plateau, which is the answer. Flyvbjerg, Petersen, J. Chem. Phys. 91,
    461 (1989), eqs. 20 to 28.

    Raises
    ------
    DataError
        For values that are not finite, fewer than four, or another shape than (T,).

    Examples
    --------
    >>> import numpy as np
    >>> blocks = block_averages(np.repeat(np.random.default_rng(0).normal(size=512), 8))
    >>> print(np.round(blocks.mean_std[:6], 3))
    [0.016 0.022 0.032 0.045 0.045 0.047]
    """
    x = _checked(series, "series", _FEWEST)
    total = len(x)
    lengths, counts, stds = [], [], []
    length = 1
    while len(x) >= 2:
        lengths.append(length)
        counts.append(len(x))
        stds.append(float(np.std(x, ddof=1)) / np.sqrt(len(x)))
        x = x[: len(x) // 2 * 2].reshape(-1, 2).mean(axis=1)
        length *= 2
    mean_std, blocks = np.array(stds), np.array(counts)
    enough = np.array(lengths, dtype=float) ** 3 * mean_std[0] ** 4 > 2 * total * mean_std**4
    return BlockAverages(
        length=np.array(lengths),
        blocks=blocks,
        mean_std=mean_std,
        mean_std_std=mean_std / np.sqrt(2 * (blocks - 1)),
        chosen=int(np.argmax(enough)) if enough.any() else None,
    )


def mean_estimate(series: Series) -> Estimate:
    """Mean of a series, or of several independent ones together, with its standard deviation.

    The variance of the mean is the sum of autocovariances over lags up to five integrated autocorrelation times (Sokal,
    in Functional Integration, Springer 1997), which are taken about the mean of all runs and corrected for the
    degree of freedom that this mean uses up (Wolff, Comput. Phys. Commun. 156, 143 (2004), eqs. 31, 49). With W lags
    it has N/(2 W + 1) degrees of freedom.
    Where runs disagree, correlations about the common mean do not decay, and the standard deviation grows accordingly.

    Intervals of 90 % hold the mean of an autoregressive series (phi from 0.5 to 0.97) in 89 to 92 % of runs of 50
    independent samples or more, and the mean of uncorrelated values in 91 to 93 % from 100 on. They fail for shorter
    series, and where a motion much slower than the window, or one that the series has not seen yet, makes part of the
    variance. Where the window would be longer than a third of a run, the series counts as one sample: its own standard
    deviation, one degree of freedom. Statistical inefficiencies below 1 (values that alternate) count as 1, so that
    such error bars are too large. A constant series has the standard deviation 0, and one sample.

    Parameters
    ----------
    series : (T,) or list of (T_r,)
        One run or several independent ones; a list of lists of numbers is several runs.

    Raises
    ------
    DataError
        For values that are not finite, fewer than four, or another shape; a matrix must be given as a list of runs.

    Examples
    --------
    >>> import numpy as np
    >>> runs = [np.random.default_rng(k).normal(loc=3.0, size=1000) for k in range(4)]
    >>> print(mean_estimate(runs))
    2.97845 +- 0.016 (4000 independent samples)
    """
    runs = replicas_of(series, "series")
    x = np.concatenate(runs)
    if _is_constant(x):
        return Estimate(float(x.mean()), 0.0, 1.0, 1.0)
    mean = float(x.mean())
    return _estimate(mean, [r - mean for r in runs])


def ratio_estimate(numerator: Series, denominator: Series) -> Estimate:
    """Ratio of two means, <a>/<b>, with its standard deviation; a and b are measured in the same runs.

    To first order its error is the mean of (a - R b)/<b>, whose autocorrelation is used as in :func:`mean_estimate`
    (Wolff, Comput. Phys. Commun. 156, 143 (2004), sec. 3.1). Its bias, of second order, is not removed.

    Parameters
    ----------
    numerator, denominator : (T,) or lists of (T_r,)
        Values of a and b in one run or several independent ones.

    Raises
    ------
    DataError
        As :func:`mean_estimate`; where lengths differ; for a denominator with the mean zero.

    Examples
    --------
    >>> import numpy as np
    >>> b = np.random.default_rng(0).uniform(1, 2, size=400)
    >>> print(ratio_estimate(3 * b, b))
    3 +- 0 (1 independent samples)
    """
    a, b = paired(numerator, denominator, ("numerator", "denominator"))
    below, above = np.concatenate(b), np.concatenate(a)
    mean = float(below.mean())
    if abs(mean) <= 1e-14 * np.abs(below).max():
        raise DataError("the mean of the denominator is zero: the ratio is not defined")
    ratio = float(above.mean()) / mean
    rests = [(u - ratio * v) / mean for u, v in zip(a, b, strict=True)]
    if _is_zero(np.concatenate(rests), abs(ratio)):
        return Estimate(ratio, 0.0, 1.0, 1.0)
    return _estimate(ratio, rests)


def slope_estimate(x: Series, y: Series) -> Estimate:
    """Slope of the line that fits y against x by least squares, with its standard deviation; x may be the time.

    Residuals e may be correlated: the error of the slope is the mean of N (x - <x>) e / sum (x - <x>)^2, whose
    autocorrelation is used as in :func:`mean_estimate` (Newey, West, Econometrica 55, 703 (1987), with the window of
    :func:`mean_estimate`). All runs share slope and intercept. Intervals of 90 % hold the slope against time of an
    autoregressive series in 88 to 90 % of runs of 100 independent samples or more, in 83 to 86 % of runs of 20.

    Parameters
    ----------
    x, y : (T,) or lists of (T_r,)
        Values in one run or several independent ones.

    Raises
    ------
    DataError
        As :func:`mean_estimate`; where lengths differ; for an x that is constant.

    Examples
    --------
    >>> import numpy as np
    >>> time = np.arange(500) * 0.5
    >>> drift = slope_estimate(time, 2e-3 * time + np.random.default_rng(0).normal(scale=0.1, size=500))
    >>> print(f"{drift.value:.5f} +- {drift.value_std:.5f}")
    0.00197 +- 0.00006
    """
    xs, ys = paired(x, y, ("x", "y"))
    u, v = np.concatenate(xs), np.concatenate(ys)
    if _is_constant(u):
        raise DataError("x is constant: the slope is not defined")
    middle, level = float(u.mean()), float(v.mean())
    spread = float(np.sum((u - middle) ** 2))
    slope = float((u - middle) @ (v - level)) / spread
    rests = [q - level - slope * (p - middle) for p, q in zip(xs, ys, strict=True)]
    if _is_zero(np.concatenate(rests), float(np.abs(v).max())):
        return Estimate(slope, 0.0, 1.0, 1.0)
    return _estimate(slope, [len(u) * (p - middle) * e / spread for p, e in zip(xs, rests, strict=True)])


def autocovariance(runs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Autocovariance of independent runs whose common mean is subtracted, pooled, and the number of pairs of each lag.

    Parameters
    ----------
    runs : list of (T_r,)
        Values minus the mean over all runs.

    Returns
    -------
    covariance, pairs : (max T_r,)
        Mean product of values at each lag, and the number of products.
    """
    longest = max(len(r) for r in runs)
    sums, pairs = np.zeros(longest), np.zeros(longest)
    for r in runs:
        size = fft.next_fast_len(2 * len(r), real=True)
        transform = fft.rfft(r, size)
        sums[: len(r)] += fft.irfft(transform * transform.conj(), size)[: len(r)]
        pairs[: len(r)] += len(r) - np.arange(len(r))
    return sums / pairs, pairs


def lag_window(correlation: np.ndarray, weights: np.ndarray) -> tuple[int | None, np.ndarray]:
    """Last lag of the window, and 1 + 2 sum_t w_t C_t up to each lag.

    The window ends at the first lag of at least five integrated autocorrelation times (half the sum), those being at
    least half a step (Sokal 1997); None where no lag is long enough.
    """
    terms = 2 * weights * correlation
    terms[0] = 1.0
    sums = np.cumsum(terms)
    enough = np.arange(len(sums)) >= _WINDOW * np.maximum(sums, 1.0) / 2
    return (int(np.argmax(enough)) if enough.any() else None), sums


def replicas_of(series: Series, name: str, fewest: int = _FEWEST) -> list[np.ndarray]:
    """Runs (T_r,) of a series, checked; ``fewest`` values together are asked for."""
    if isinstance(series, np.ndarray) and series.ndim == 2:
        raise DataError(f"{name} is a matrix {series.shape}: give several runs as a list, {name}=list(matrix)")
    several = isinstance(series, list | tuple) and len(series) > 0 and np.ndim(series[0]) > 0
    if not several:
        return [_checked(series, name, fewest)]
    runs = [_checked(r, f"run {k} of {name}") for k, r in enumerate(series)]
    total = sum(len(r) for r in runs)
    if total < fewest:
        raise DataError(f"{name} holds {total} values, at least {fewest} are needed")
    return runs


def paired(first: Series, second: Series, names: tuple[str, str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Runs of two quantities that were measured together."""
    a, b = replicas_of(first, names[0]), replicas_of(second, names[1])
    lengths = [len(r) for r in a], [len(r) for r in b]
    if lengths[0] != lengths[1]:
        raise DataError(f"{names[0]} and {names[1]} differ in length: {lengths[0]} and {lengths[1]}")
    return a, b


def _estimate(value: float, influences: list[np.ndarray]) -> Estimate:
    """Estimate whose error is the mean of ``influences``, which sum to zero over all runs."""
    total = sum(len(r) for r in influences)
    covariance, pairs = autocovariance(influences)
    window, sums = lag_window(covariance / covariance[0], pairs / total)
    if window is None or window > _LONGEST * total / len(influences):
        std = float(np.sqrt(covariance[0] * total / (total - 1)))
        return Estimate(value, std, 1.0, 1.0)
    used = (1 + 2 * float(np.sum(pairs[1 : window + 1])) / total) / total  # of the sum, by subtracting the mean
    g = max(float(sums[window]) / (1 - used), 1.0)
    g = max(g / (1 + g / total), 1.0)  # the variance of the values lacks that of the mean
    variance = float(covariance[0]) / (1 - g / total)
    return Estimate(value, float(np.sqrt(variance * g / total)), total / g, max(total / (2 * window + 1), 1.0))


def _inefficiency(x: np.ndarray) -> float:
    if len(x) < 2 or _is_constant(x):
        return 1.0
    covariance, _ = autocovariance([x - x.mean()])
    correlation = covariance[1:-1] / covariance[0]
    over = correlation <= 1e-12  # zero but for the rounding of the Fourier transform
    end = int(np.argmax(over)) if over.any() else len(correlation)
    lag = np.arange(1, end + 1)
    return max(1 + 2 * float(np.sum(correlation[:end] * (1 - lag / len(x)))), 1.0)


def _checked(series: Series, name: str, fewest: int = 1) -> np.ndarray:
    """``series`` as floats (T,)."""
    try:
        values = np.asarray(series)
        x = np.asarray(values.real, dtype=float)
    except (TypeError, ValueError):
        raise DataError(f"{name} must be numbers of shape (T,)") from None
    if np.iscomplexobj(values):
        raise DataError(f"{name} is complex: give its real part, imaginary part or modulus")
    if x.ndim != 1:
        raise DataError(f"{name} must have the shape (T,), not {x.shape}")
    if len(x) < fewest:
        raise DataError(f"{name} holds {len(x)} values, at least {fewest} are needed")
    bad = np.flatnonzero(~np.isfinite(x))
    if len(bad):
        raise DataError(f"{name} is not finite at step {bad[0]} ({x[bad[0]]})")
    return x


def _is_constant(x: np.ndarray) -> bool:
    """Whether values differ by no more than the rounding of their mean."""
    return bool(np.ptp(x) <= 4 * np.finfo(float).eps * np.abs(x).max())


def _is_zero(rests: np.ndarray, scale: float) -> bool:
    """Whether residuals are those of rounding; ``scale`` is the size of what was subtracted."""
    return bool(np.abs(rests).max() <= 1e-14 * scale)
