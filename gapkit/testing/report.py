"""Checks that were made, how far numbers differed, and the error for the first that failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np


@dataclass(frozen=True)
class Check:
    """One check that passed, or was left out.

    Attributes
    ----------
    name : str
    largest : float or None
        Largest difference, in units of the largest number of its kind; None where nothing is measured.
    allowed : float or None
        Difference up to which the check passes, in the same units.
    left_out : str
        Reason why the check was not made; empty where it was.
    """

    name: str
    largest: float | None = None
    allowed: float | None = None
    left_out: str = ""


@dataclass(frozen=True)
class CheckReport:
    """All checks of one descriptor or calculator; ``str()`` gives a table.

    Attributes
    ----------
    subject : str
        Name of the class that was checked.
    checks : tuple of Check
    """

    subject: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> tuple[str, ...]:
        """Names of the checks that were made."""
        return tuple(c.name for c in self.checks if not c.left_out)

    @property
    def left_out(self) -> dict[str, str]:
        """Reasons by name of the checks that were not made."""
        return {c.name: c.left_out for c in self.checks if c.left_out}

    def __getitem__(self, name: str) -> Check:
        return next(c for c in self.checks if c.name == name)

    def __str__(self) -> str:
        width = max(len(c.name) for c in self.checks)
        lines = [f"{self.subject} passes {len(self.passed)} checks", f"{'':{width}}  largest difference  allowed"]
        for c in self.checks:
            if c.left_out:
                lines.append(f"{c.name:{width}}  left out: {c.left_out}")
            elif c.largest is None:
                lines.append(f"{c.name:{width}}  {'passed':>18}")
            else:
                lines.append(f"{c.name:{width}}  {c.largest:18.1e}  {c.allowed:7.0e}")
        return "\n".join(lines)


class Checks:
    """Collector of the checks of one ``subject``, which raises for the first that fails."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self._found: dict[str, Check] = {}

    def close(
        self,
        check: str,
        got: Any,
        expected: Any,
        allowed: float,
        context: str | Callable[[tuple[int, ...]], str],
        remedy: str,
        scale: float = 0.0,
        words: tuple[str, str] = ("found", "expected"),
        noise: Any = 0.0,
    ) -> None:
        """Ask that two arrays agree.

        Parameters
        ----------
        allowed
            Difference allowed, in units of the largest absolute number of both arrays or, if larger, of ``scale``.
        context
            Place that the message names; a function of the index of the worst number, or a text.
        remedy
            Advice for the message.
        words
            Names of the two arrays, for the message.
        noise
            Further difference allowed, in the units of the arrays.

        Raises
        ------
        AssertionError
            Where they do not agree, with the worst place.
        """
        got, expected = np.asarray(got, dtype=float), np.asarray(expected, dtype=float)
        if got.shape != expected.shape:
            at = context if isinstance(context, str) else "arrays"
            self.fail(check, f"{at}: {words[0]} an array of shape {got.shape}, {words[1]} {expected.shape}", remedy)
        if not got.size:
            return
        difference = np.abs(got - expected)
        unit = max(scale, float(np.max(np.abs(expected))), float(np.max(np.abs(got[np.isfinite(got)]), initial=0.0)))
        unit = unit or 1.0
        excess = difference - noise
        worst = np.unravel_index(int(np.argmax(np.where(np.isfinite(excess), excess, np.inf))), got.shape)
        largest = float(excess[worst] / unit)
        if not largest <= allowed:
            place = context if isinstance(context, str) else context(tuple(int(k) for k in worst))
            self.fail(
                check,
                f"{place}: {words[0]} {got[worst]:.8g}, {words[1]} {expected[worst]:.8g}; the difference of "
                f"{difference[worst]:.2g} is more than the {allowed * unit:.2g} allowed",
                remedy,
            )
        self._note(check, max(largest, 0.0), allowed)

    def holds(self, check: str, condition: Any, what: str, remedy: str) -> None:
        """Ask that ``condition`` is true; else raise an AssertionError that says ``what`` and the ``remedy``."""
        if not condition:
            self.fail(check, what, remedy)
        self._note(check, None, None)

    def leave_out(self, check: str, reason: str) -> None:
        """Note a check that cannot be made."""
        self._found.setdefault(check, Check(check, left_out=reason))

    def fail(self, check: str, what: str, remedy: str) -> NoReturn:
        """Raise the AssertionError of a check."""
        first = remedy.split()[0]
        remedy = remedy if set(first) & set("_.(") else remedy[0].upper() + remedy[1:]
        raise AssertionError(f"{self.subject}, {check}: {what}. {remedy}.")

    def report(self) -> CheckReport:
        """Report of all checks up to this moment."""
        return CheckReport(self.subject, tuple(self._found.values()))

    def _note(self, check: str, largest: float | None, allowed: float | None) -> None:
        old = self._found.get(check)
        first = old is None or bool(old.left_out) or old.largest is None
        if first or (largest is not None and largest > (old.largest if old and old.largest else 0.0)):
            self._found[check] = Check(check, largest, allowed)
