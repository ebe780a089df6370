"""Progress bars: one way to show them, for everything in the package that takes long.

On a terminal and in a notebook a stage has a bar with the share done and the remaining time. Anywhere else, in a log
file, it has one line when it is done.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tqdm import tqdm


class StageLine:
    """A stage of work in a log file: one line on stderr at its end, with the number of steps and the seconds.

    It takes the calls that a bar takes: iteration, ``update``, ``set_postfix_str``, ``close``, ``with``.
    """

    def __init__(self, steps: Iterable[Any] | None, desc: str, unit: str, total: float | None) -> None:
        self.steps, self.desc, self.unit, self.total = steps, desc, unit, total
        self.n: float = 0
        self.initial: float = 0
        self._begin: float | None = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        for step in self.steps or ():
            yield step
            self.n += 1
        self.close()

    def __enter__(self) -> StageLine:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def update(self, n: float | None = 1) -> None:
        """Count ``n`` more steps."""
        self.n += n or 0

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """Ignore intermediate results; a line does not show them."""

    def close(self) -> None:
        """Write the line, once."""
        if self._begin is None:
            return
        seconds, self._begin = time.monotonic() - self._begin, None
        plural = "" if self.n == 1 else "s"
        print(f"{self.desc or 'work'}: {self.n:g} {self.unit}{plural}, {seconds:.1f} s", file=sys.stderr, flush=True)


def progress_bar(
    steps: Iterable[Any] | None = None, desc: str = "", unit: str = "step", *, show: bool, total: float | None = None
) -> tqdm | StageLine:
    """A bar with the share done and the remaining time, on stderr, which vanishes at the end.

    Nothing is written where ``show`` is false. Where stderr is neither a terminal nor a notebook there is one line at
    the end instead: a log file holds no bars.

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
    if show and not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return StageLine(steps, desc, unit, total)
    return tqdm(steps, desc=desc, unit=unit, total=total, disable=not show, leave=False)


def quiet(maker: Callable[..., Any]) -> Callable[..., Any]:
    """Maker of progress bars like ``maker``, without output, for a small fit inside another."""
    return lambda *args, **settings: maker(*args, **{**settings, "show": False})


def report(text: str) -> None:
    """Print a line above the bars that are shown."""
    tqdm.write(text)
