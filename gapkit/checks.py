"""Checks of numbers that users give."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from gapkit.exceptions import SettingsError

#: largest whole number that counts anything
LARGEST = 10**15


def _float(value: Any) -> float:
    """``value`` as a float; infinity for a whole number that is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def is_integer(value: Any) -> bool:
    """Whether ``value`` is a whole number, of Python or NumPy; truth values are none.

    Examples
    --------
    >>> is_integer(3), is_integer(3.0), is_integer(True)
    (True, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number, of Python or NumPy; truth values are none.

    Examples
    --------
    >>> is_number(0.5), is_number(float("nan")), is_number("0.5")
    (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and math.isfinite(_float(value))


def check_positive(name: str, value: Any, unit: str = "") -> float:
    """``value`` if it is a positive, finite number.

    Raises
    ------
    SettingsError
        Otherwise, naming it.

    Examples
    --------
    >>> check_positive("step", 1, "A")
    1.0
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < _float(value) < math.inf:
        raise SettingsError(f"{name} must be a positive number{f' ({unit})' if unit else ''}, not {value!r:.80}")
    return float(value)


def check_count(name: str, value: Any, least: int = 1) -> int:
    """``value`` if it is a whole number of at least ``least``, and at most 10^15.

    Raises
    ------
    SettingsError
        Otherwise, naming it.

    Examples
    --------
    >>> check_count("copies", 3)
    3
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}, not {value!r:.80}")
    if int(value) > LARGEST:
        raise SettingsError(f"{name} must be at most {LARGEST:.0e}, not {_float(value):.0e}")
    return int(value)


def check_level(level: Any) -> float:
    """``level`` if it is a probability that an interval can have: a number between 0 and 1.

    Raises
    ------
    SettingsError
        Otherwise.

    Examples
    --------
    >>> check_level(0.9)
    0.9
    """
    if not (is_number(level) and 0 < level < 1):
        raise SettingsError(f"level must be between 0 and 1, not {level!r:.80}")
    return float(level)


def check_all_positive(name: str, values: Any, unit: str) -> np.ndarray:
    """``values`` as an array of floats, if all are positive and finite.

    Raises
    ------
    SettingsError
        Otherwise, with the first that is not.

    Examples
    --------
    >>> check_all_positive("temperature", [100, 200], "K")
    array([100., 200.])
    """
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} must be a number ({unit}) or an array of numbers, not {values!r:.80}") from None
    bad = ~((array > 0) & np.isfinite(array))
    if bad.any():
        raise SettingsError(f"{name} must be positive and finite ({unit}), not {array[bad].flat[0]:g}")
    return array
