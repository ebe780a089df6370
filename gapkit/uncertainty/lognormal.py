r"""Log-normal quantities: rates whose logarithm has a Gaussian error, and the trouble with their mean.

An error of standard deviation :math:`\sigma` in a barrier makes the logarithm of the rate Gaussian with standard
deviation :math:`b = \sigma / k_B T`. The median of the rate is that of the mean barrier; its mean is larger by
:math:`\exp(b^2/2)` (Jensen's inequality; Aitchison and Brown, The Lognormal Distribution (1957), eq. 2.7).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from gapkit.exceptions import SettingsError

#: largest standard deviation of a logarithm whose mean is worth quoting: a third of the mean then rests on errors
#: beyond two standard deviations, where no error bar is known to be Gaussian
LARGEST_MEANINGFUL = 1.5


def mean_factor(log_std: float | np.ndarray) -> np.ndarray:
    """Ratio of the mean of a log-normal quantity to its median, exp(b^2/2).

    Parameters
    ----------
    log_std : float or array
        Standard deviation b of the natural logarithm.

    Examples
    --------
    >>> round(float(mean_factor(1.0)), 3)
    1.649
    """
    return np.exp(0.5 * _checked(log_std) ** 2)


def interval_factors(log_std: float | np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Factors from the median to both ends of the central interval that holds the share ``level``.

    Raises
    ------
    SettingsError
        For a level outside (0, 1), and a standard deviation that is negative or not finite.
    """
    if not 0 < level < 1:
        raise SettingsError(f"level must be between 0 and 1, not {level}")
    width = float(ndtri(0.5 * (1 + level))) * _checked(log_std)
    return np.exp(-width), np.exp(width)


def share_of_mean_in_tail(log_std: float | np.ndarray, z: float = 2.0) -> np.ndarray:
    """Share of the mean that comes from values more than ``z`` standard deviations above the median in the logarithm.

    The share is :math:`\\Phi(b - z)`; the share of the *probability* there is only :math:`\\Phi(-z)`.

    Examples
    --------
    >>> round(float(share_of_mean_in_tail(1.5)), 2)
    0.31
    """
    return ndtr(_checked(log_std) - z)


def draws_for_mean(log_std: float | np.ndarray, relative_error: float = 0.1) -> np.ndarray:
    """Number of independent draws whose average has this relative standard error, (exp(b^2) - 1) / error^2.

    Raises
    ------
    SettingsError
        For an error that is not positive.
    """
    if not relative_error > 0:
        raise SettingsError(f"relative_error must be positive, not {relative_error}")
    return np.expm1(_checked(log_std) ** 2) / relative_error**2


def capped_mean_factor(barrier: float, std: float, kT: float) -> float:
    r"""Mean of :math:`\exp(-\max(E, 0)/k_BT)` for a Gaussian barrier E, over the value at the mean barrier.

    A negative barrier makes no rate larger than its prefactor. With the cap the mean is

    .. math:: e^{b^2/2}\, \Phi\!\left(\frac{\mu - \sigma^2/k_BT}{\sigma}\right)
              + e^{\mu/k_BT}\, \Phi\!\left(-\frac{\mu}{\sigma}\right), \qquad b = \sigma/k_BT.

    Parameters
    ----------
    barrier, std, kT : float, eV
        Mean and standard deviation of the barrier, and the thermal energy.

    Raises
    ------
    SettingsError
        For a standard deviation or thermal energy that is not positive.
    """
    if not (std > 0 and kT > 0 and np.isfinite(barrier)):
        raise SettingsError(f"std and kT must be positive and the barrier finite, not {std}, {kT}, {barrier}")
    b = std / kT
    return float(np.exp(0.5 * b**2) * ndtr((barrier - std**2 / kT) / std) + np.exp(barrier / kT) * ndtr(-barrier / std))


def mean_is_meaningful(barrier: float | np.ndarray, std: float | np.ndarray, kT: float | np.ndarray) -> np.ndarray:
    r"""Whether the mean of a rate says anything about the rate.

    The mean is an average with the weight :math:`e^{-E/k_BT}`, under which the barrier is Gaussian with mean
    :math:`\mu - \sigma^2/k_BT`. It has a meaning while that mean barrier is positive and b is at most 1.5.

    Parameters
    ----------
    barrier, std, kT : float or array, eV
        Mean and standard deviation of the barrier, and the thermal energy.
    """
    mu, s, kT = np.broadcast_arrays(barrier, std, kT)
    return (s / kT <= LARGEST_MEANINGFUL) & (mu - s**2 / kT > 0)


def _checked(log_std: float | np.ndarray) -> np.ndarray:
    b = np.asarray(log_std, dtype=float)
    if not np.all(np.isfinite(b) & (b >= 0)):
        raise SettingsError(f"a standard deviation must be finite and not negative, not {log_std!r:.80}")
    return b
