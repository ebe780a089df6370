"""Random generators from the ``random_state`` that users give."""

from __future__ import annotations

from typing import Any

import numpy as np

from gapkit.exceptions import SettingsError


def seed_of(random_state: int | np.random.Generator | None) -> int:
    """Seed of a ``random_state``: the whole number itself, a number that a generator draws, or, for None, a new one.

    Examples
    --------
    >>> seed_of(5)
    5
    >>> seed_of(np.random.default_rng(0)) == seed_of(np.random.default_rng(0))
    True
    """
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(np.random.default_rng(random_state).integers(2**31))


def generator_of(random_state: Any) -> np.random.Generator:
    """A generator from a seed, None, or a generator.

    Raises
    ------
    SettingsError
        For anything else.
    """
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise SettingsError(
            f"random_state must be a seed of at least 0, a generator or None, not {random_state!r}"
        ) from None
