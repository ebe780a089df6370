"""Progress bars: one way to show them, for everything in the package that takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(
    steps: Iterable[Any] | None = None, desc: str = "", unit: str = "step", *, show: bool, total: float | None = None
) -> tqdm:
    """A bar with the share done and the remaining time, on stderr, which vanishes at the end.

    Nothing is written where ``show`` is false, or where stderr is neither a terminal nor a notebook: a log file holds
    no bars.

    Parameters
    ----------
    steps
        Steps to iterate over; None: the caller advances the bar by ``update``.
    desc
        Name of the work.
    unit
        Name of one step.
    total
        Number of steps, where ``steps`` cannot say.

    Examples
    --------
    >>> list(progress_bar([1, 2], "count", show=False))
    [1, 2]
    """
    seen = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(steps, desc=desc, unit=unit, total=total, disable=not (show and seen), leave=False)


def report(text: str) -> None:
    """Print a line above the bars that are shown."""
    tqdm.write(text)
