"""Random generators from the ``random_state`` that users give: a seed, a generator, or None."""

from __future__ import annotations

import numpy as np

from gapkit.exceptions import SettingsError


def generator_of(random_state: int | np.random.Generator | None) -> np.random.Generator:
    """Generator of a ``random_state``: the generator itself, that of a seed, or, for None, a new one.

    Raises
    ------
    SettingsError
        For anything else.

    Examples
    --------
    >>> float(generator_of(0).random()) == float(np.random.default_rng(0).random())
    True
    """
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError):
        raise SettingsError(
            f"random_state must be a seed of at least 0, a generator or None, not {random_state!r}"
        ) from None


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
    return int(generator_of(random_state).integers(2**31))
