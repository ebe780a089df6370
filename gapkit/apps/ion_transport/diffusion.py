"""Diffusion constants of ions from their displacements: single ions (tracer) and all together (collective).

The estimate is a slope by generalised least squares in each of several blocks of the runs. Its error bar comes from the
scatter of the blocks, which also holds where ions are correlated or hops are rare, unlike the covariance of independent
Brownian ions, which only gives the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from gapkit.apps.ion_transport.displacements import mean_square_displacements, slope_weights
from gapkit.apps.ion_transport.trajectories import REFERENCES, IonTrajectory
from gapkit.exceptions import DataError, SettingsError
from gapkit.settings import Settings

#: cm^2/s of one A^2/fs
CM2_PER_S = 0.1
_LAGS = 16
_FEWEST_LAGS = 3
#: slopes at short and long lags may differ by so many standard deviations of their difference
_STRAIGHT = 2.5
#: or by this share of the slope
_ALIKE = 0.03
#: an exponent of displacements this close to 1 counts as diffusive however small its error bar
_EXPONENT = 0.02
#: an exponent known no better than this says nothing
_UNKNOWN = 0.5


@dataclass(frozen=True)
class DiffusionSettings(Settings):
    """Statistics of displacements.

    Attributes
    ----------
    species : str
        Chemical symbol of the ion.
    reference : str
        Frame of reference of displacements: auto, framework, centre_of_mass or none
        (:meth:`gapkit.apps.ion_transport.trajectories.IonTrajectory.ions`).
    blocks : int
        Least number of blocks that all runs together are cut into, at least 3.
    longest_lag : float
        Longest lag as a share of a block.
    first_time : float or None, fs
        Shortest lag; None: chosen as the first from which on displacements grow linearly.
    hop_length : float, A
        Length of a hop; an ion whose mean position stays within half of it has not hopped.
    """

    species: str = "Li"
    reference: str = "auto"
    blocks: int = 8
    longest_lag: float = 0.5
    first_time: float | None = None
    hop_length: float = 2.0

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if self.reference not in REFERENCES:
            raise SettingsError(f"reference must be one of {', '.join(REFERENCES)}, not {self.reference!r}")
        if self.blocks < 3:
            raise SettingsError(f"blocks must be at least 3 for an error bar, not {self.blocks}")
        if not 0 < self.longest_lag <= 0.5:
            raise SettingsError(f"longest_lag must be above 0 and at most 0.5 of a block, not {self.longest_lag}")
        if self.first_time is not None and not 0 < self.first_time < np.inf:
            raise SettingsError(f"first_time must be positive and finite (fs), not {self.first_time}")
        if not 0 < self.hop_length < np.inf:
            raise SettingsError(f"hop_length must be positive and finite (A), not {self.hop_length}")


@dataclass(frozen=True)
class DiffusionEstimate:
    """Diffusion constant from mean-square displacements.

    Attributes
    ----------
    value, value_std : float, A^2/fs
        Diffusion constant and the standard deviation of its statistical error. Without a hop the value is 0.
    degrees_of_freedom : int
        Degrees of freedom of ``value_std``: number of blocks less one.
    upper : float, A^2/fs
        Value that the diffusion constant stays below with a probability of 95 %.
    resolved : bool
        Whether the lower end of the 90 % interval is above zero, and an ion has hopped.
    brownian_std : float, A^2/fs
        Standard deviation for independent Brownian ions of this diffusion constant; far below ``value_std`` where ions
        move together or hops are rare.
    lags : (L,) fs
        Lags of the window.
    msd, msd_std : (L,) A^2
        Mean-square displacements and their standard deviations; of the collective displacement divided by the number of
        ions.
    intercept : float, A^2
        Part of the displacements that does not grow: vibrations.
    exponent, exponent_std : float
        Slope of ln(msd(t) - msd(t_0)) by ln(t - t_0), with t_0 the first lag: 1 for diffusion. Subtracting removes the
        vibrations, which pull the slope of ln msd below 1. nan where displacements do not grow.
    block_values : (B,) A^2/fs
        Diffusion constants of the blocks.
    """

    value: float
    value_std: float
    degrees_of_freedom: int
    upper: float
    resolved: bool
    brownian_std: float
    lags: np.ndarray
    msd: np.ndarray
    msd_std: np.ndarray
    intercept: float
    exponent: float
    exponent_std: float
    block_values: np.ndarray

    @property
    def diffusive(self) -> bool:
        """Whether the exponent is known to half a unit, and agrees with 1 in its 95 % interval or to 0.02."""
        return is_diffusive(self.exponent, self.exponent_std, self.degrees_of_freedom)

    @property
    def cm2_per_s(self) -> float:
        """Diffusion constant in cm^2/s."""
        return CM2_PER_S * self.value

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval (A^2/fs) that holds the diffusion constant with the probability ``level``, by Student's t.

        Its lower end is at least 0. Where no ion has hopped it reaches from 0 to ``upper``.

        Raises
        ------
        SettingsError
            For a level that is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise SettingsError(f"level must be between 0 and 1, not {level}")
        if not len(self.block_values):
            return 0.0, self.upper * np.log(1 - level) / np.log(0.05)
        half = float(stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)) * self.value_std
        return max(self.value - half, 0.0), max(self.value + half, 0.0)

    def __str__(self) -> str:
        if not self.resolved:
            return f"below {CM2_PER_S * self.upper:.2e} cm^2/s (95 %)"
        text = f"{self.cm2_per_s:.3e} +- {CM2_PER_S * self.value_std:.1e} cm^2/s"
        if not self.diffusive:
            text += f", not diffusive: exponent {self.exponent:.2f} +- {self.exponent_std:.2f}"
        return text


@dataclass(frozen=True)
class Diffusion:
    """Diffusion of one species of ions.

    Attributes
    ----------
    tracer : DiffusionEstimate
        By single ions.
    collective : DiffusionEstimate
        By the sum of all displacements, as conductivity has it: the mean square of that sum over 6 n t. In the frame
        of the framework it is that of the charge, if all charge is carried by this species.
    haven, haven_std : float or None
        Haven ratio tracer / collective, and its standard deviation by leaving out one block at a time; None where one
        of the two is not resolved.
    haven_interval : (2,) or None
        Its 90 % interval, which is symmetric in the logarithm.
    hops : int
        Moves of mean positions over quarters of blocks beyond half a hop length: about so many hops have happened, or
        more where they are faster than a quarter of a block.
    n_ions : int
    time : float, fs
        Length of all runs together.
    """

    tracer: DiffusionEstimate
    collective: DiffusionEstimate
    haven: float | None
    haven_std: float | None
    haven_interval: tuple[float, float] | None
    hops: int
    n_ions: int
    time: float


def diffusion(trajectory: IonTrajectory, settings: DiffusionSettings | None = None) -> Diffusion:
    """Diffusion constants of one species in one or more independent runs.

    Raises
    ------
    DataError
        For runs too short to be cut into blocks with at least three lags; where no atom is of the species.

    Examples
    --------
    >>> from gapkit.apps.ion_transport.toys import brownian_ions
    >>> walk = brownian_ions(diffusion=1e-4, n_ions=8, frames=400, frame_time=100.0, random_state=0)
    >>> found = diffusion(walk, DiffusionSettings(species="Li", reference="none"))
    >>> print(found.tracer)
    1.022e-05 +- 3.3e-07 cm^2/s
    """
    s = settings or DiffusionSettings()
    ions = trajectory.ions(s.species, s.reference)
    pieces = _blocks(ions, s.blocks)
    dt = trajectory.frame_time
    hops = _hops(ions, pieces.shape[1] // 4, s.hop_length)
    total = len(ions) * trajectory.time
    lags = _window(pieces, s, dt)
    tracer = _estimate(pieces, lags, dt)
    collective = _estimate(pieces.sum(axis=2, keepdims=True) / np.sqrt(pieces.shape[2]), lags, dt)
    if not hops:
        tracer = _without_hops(tracer, s.hop_length, ions.shape[2] * total)
        collective = _without_hops(collective, s.hop_length, ions.shape[2] * total)
    haven, haven_std, haven_interval = _haven(tracer, collective)
    return Diffusion(tracer, collective, haven, haven_std, haven_interval, hops, ions.shape[2], total)


def _blocks(ions: np.ndarray, fewest: int) -> np.ndarray:
    """Positions (B, F, k, 3) of blocks of one length, which do not overlap; a rest is left out."""
    R, T = ions.shape[:2]
    each = -(-fewest // R)
    length = T // each
    if length < 8:
        raise DataError(f"{R} runs of {T} frames make no {each} blocks of 8 frames each: record more, or fewer blocks")
    return ions[:, : each * length].reshape(R * each, length, *ions.shape[2:])


def _window(pieces: np.ndarray, s: DiffusionSettings, dt: float) -> np.ndarray:
    """Lags (L,) in frames, evenly spread on a logarithmic axis, from the first on after which growth is linear.

    Unless that is the shortest lag it is doubled: a motion that is forgotten exponentially, and is just not seen any
    more, then leaves the square of its share. Where growth is never linear the lags span the last factor of four.
    """
    last = max(int(pieces.shape[1] * s.longest_lag), _FEWEST_LAGS)
    if s.first_time is not None:
        first = max(round(s.first_time / dt), 1)
        if last - first + 1 < _FEWEST_LAGS:
            raise DataError(
                f"lags from {first * dt:g} to {last * dt:g} fs are fewer than {_FEWEST_LAGS}: take longer runs, fewer "
                "blocks, or a shorter first_time"
            )
        return _spread(first, last)
    windows = [_spread(first, last) for first in _spread(1, max(last // 4, 1))]
    every = np.unique(np.concatenate(windows))
    msd = np.array([mean_square_displacements(piece, every) for piece in pieces])
    for lags in windows:
        if _is_straight(msd[:, np.isin(every, lags)], lags, pieces.shape[1]):
            return lags if lags[0] == 1 else _spread(min(2 * int(lags[0]), max(last // 3, 1)), last)
    return windows[-1]


def _is_straight(msd: np.ndarray, lags: np.ndarray, frames: int) -> bool:
    """Whether the best slope of displacements (B, L), mostly that of short lags, is the slope of the longer ones."""
    upper = lags >= np.sqrt(lags[0] * lags[-1])
    if upper.sum() < 2:
        return True
    best, _, _ = slope_weights(frames, lags)
    contrast = best.copy()
    away = lags[upper] - lags[upper].mean()
    contrast[upper] -= away / (away**2).sum()
    difference = msd @ contrast
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    allowed = max(_STRAIGHT * error, _ALIKE * abs(float((msd @ best).mean())))
    return bool(abs(difference.mean()) <= allowed)


def _spread(first: int, last: int) -> np.ndarray:
    """Whole numbers from ``first`` to ``last``, at most sixteen, evenly spread on a logarithmic axis."""
    return np.unique(np.geomspace(first, last, _LAGS).round().astype(int))


def _hops(ions: np.ndarray, window: int, hop_length: float) -> int:
    """Moves of mean positions over windows of time beyond half a hop length, each from where the last one ended."""
    R, T, k, _ = ions.shape
    windows = T // window
    mean = ions[:, : windows * window].reshape(R, windows, window, k, 3).mean(axis=2)
    place, hops = mean[:, 0].copy(), 0
    for later in np.swapaxes(mean, 0, 1)[1:]:
        moved = np.linalg.norm(later - place, axis=-1) > hop_length / 2
        place[moved] = later[moved]
        hops += int(moved.sum())
    return hops


def is_diffusive(exponent: float, std: float, degrees_of_freedom: int) -> bool:
    """Whether an exponent of displacements is known to half a unit, and agrees with 1 (95 % interval, or to 0.02)."""
    half = float(stats.t.ppf(0.975, degrees_of_freedom)) * std
    return bool(np.isfinite(exponent) and half < _UNKNOWN and abs(exponent - 1) <= max(half, _EXPONENT))


def _exponent(msd: np.ndarray, lags: np.ndarray) -> tuple[float, float]:
    """Exponent of growth beyond the first lag, from the displacements (B, L) of blocks, and its jackknife error."""
    rise, x = msd[:, 1:] - msd[:, :1], np.log(lags[1:] - lags[0])
    mean = rise.mean(axis=0)
    left_out = (rise.sum(axis=0) - rise) / (len(rise) - 1)
    if (mean <= 0).any() or (left_out <= 0).any() or len(x) < 2:
        return float("nan"), float("nan")
    contrast = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    values = np.log(left_out) @ contrast
    return float(np.log(mean) @ contrast), _jackknife(values)


def _jackknife(left_out: np.ndarray) -> float:
    """Standard deviation from the values (B,) with one block left out each (Efron, Ann. Stat. 7, 1 (1979))."""
    B = len(left_out)
    return float(np.sqrt((B - 1) / B * ((left_out - left_out.mean()) ** 2).sum()))


def _estimate(pieces: np.ndarray, lags: np.ndarray, dt: float) -> DiffusionEstimate:
    """Estimate from blocks (B, F, k, 3) by displacements over ``lags`` frames."""
    B, frames, k, _ = pieces.shape
    msd = np.array([mean_square_displacements(piece, lags) for piece in pieces])
    slope, intercept, variance = slope_weights(frames, lags)
    level, rate = float((msd @ intercept).mean()), float((msd @ slope).mean())
    if rate > 0 and level > 0:  # vibrations of variance level / 6 in each direction, steps of variance rate / 3
        slope, intercept, variance = slope_weights(frames, lags, level / 2 / rate)
    values = msd @ slope / (6 * dt)
    value, std = float(values.mean()), float(values.std(ddof=1) / np.sqrt(B))
    exponent, exponent_std = _exponent(msd, lags)
    reach = float(stats.t.ppf(0.95, B - 1)) * std
    return DiffusionEstimate(
        value=value,
        value_std=std,
        degrees_of_freedom=B - 1,
        upper=max(value + reach, reach),
        resolved=value > reach,
        brownian_std=abs(value) * float(np.sqrt(variance / (3 * k * B))),
        lags=lags * dt,
        msd=msd.mean(axis=0),
        msd_std=msd.std(axis=0, ddof=1) / np.sqrt(B),
        intercept=float((msd @ intercept).mean()),
        exponent=exponent,
        exponent_std=exponent_std,
        block_values=values,
    )


def _without_hops(found: DiffusionEstimate, hop_length: float, ion_time: float) -> DiffusionEstimate:
    """Estimate for ions none of which has hopped in ``ion_time`` (fs times ions): a bound.

    The posterior of a rate without an event in a time t is exp(-rate t) t; 95 % of it are below -ln(0.05) / t. A hop
    length a with the rate makes the diffusion constant a^2 rate / 6.
    """
    unit = hop_length**2 / 6 / ion_time
    return DiffusionEstimate(
        value=0.0,
        value_std=unit,
        degrees_of_freedom=found.degrees_of_freedom,
        upper=float(-np.log(0.05)) * unit,
        resolved=False,
        brownian_std=0.0,
        lags=found.lags,
        msd=found.msd,
        msd_std=found.msd_std,
        intercept=found.intercept,
        exponent=found.exponent,
        exponent_std=found.exponent_std,
        block_values=np.empty(0),
    )


def _haven(
    tracer: DiffusionEstimate, collective: DiffusionEstimate
) -> tuple[float | None, float | None, tuple[float, float] | None]:
    """Haven ratio, its standard deviation and 90 % interval by a jackknife of its logarithm."""
    if not (tracer.resolved and collective.resolved):
        return None, None, None
    single, together = tracer.block_values, collective.block_values
    left = np.array([(v.sum() - v) / (len(v) - 1) for v in (single, together)])
    if (left <= 0).any():
        return None, None, None
    std = _jackknife(np.log(left[0] / left[1]))
    ratio = tracer.value / collective.value
    factor = float(np.exp(stats.t.ppf(0.95, len(single) - 1) * std))
    return ratio, ratio * std, (ratio / factor, ratio * factor)
