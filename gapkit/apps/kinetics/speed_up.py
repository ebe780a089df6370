"""Account of the time that a potential saves: its labels and its fit against the calls that it stands in for.

With t seconds for a call of the reference method, L labels, F seconds of fit and p seconds for a call of the potential,
n calls take n t by the reference method and L t + F + n p by the potential. Both are equal at the break-even number of
calls, (L t + F) / (t - p).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from gapkit.checks import check_count, check_positive
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError
from gapkit.randomness import generator_of
from gapkit.sampling.batches import batch_forces

_UNITS = (("years", 365.25 * 86400), ("months", 30.44 * 86400), ("days", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SMALL = (("ms", 1e-3), ("us", 1e-6))


@dataclass(frozen=True)
class SpeedUp:
    """Times of a number of calls by a reference method and by a potential.

    Attributes
    ----------
    reference_seconds : float
        Of one energy with forces by the reference method.
    potential_seconds, batched_seconds : float
        Of one energy with forces by the potential: one frame at a time, and one of many copies in a batch.
    fit_seconds : float
        Of all fits.
    labels : int
        Calls of the reference method that the potential needs: training frames, and whatever else was labelled for it.
    calls : int
        Energies with forces that the user wants.

    Raises
    ------
    SettingsError
        For times that are not positive (that of the fit may be zero), and numbers that are not whole.

    Examples
    --------
    >>> account = SpeedUp(100.0, 0.01, 0.001, fit_seconds=60.0, labels=50, calls=1_000_000)
    >>> account.break_even, round(account.gain(), 1)
    (51, 6640.1)
    """

    reference_seconds: float
    potential_seconds: float
    batched_seconds: float
    fit_seconds: float
    labels: int
    calls: int

    def __post_init__(self) -> None:
        for name in ("reference_seconds", "potential_seconds", "batched_seconds"):
            check_positive(name, getattr(self, name), "s")
        if self.fit_seconds != 0:
            check_positive("fit_seconds", self.fit_seconds, "s")
        check_count("labels", self.labels, 0)
        check_count("calls", self.calls)

    def seconds_of_a_call(self, batched: bool = False) -> float:
        """Seconds of a call of the potential."""
        return self.batched_seconds if batched else self.potential_seconds

    @property
    def preparation(self) -> float:
        """Seconds of labels and fits, before the first call of the potential."""
        return self.labels * self.reference_seconds + self.fit_seconds

    @property
    def by_reference(self) -> float:
        """Seconds of all calls by the reference method."""
        return self.calls * self.reference_seconds

    def by_potential(self, batched: bool = False) -> float:
        """Seconds of all calls by the potential, labels and fits included."""
        return self.preparation + self.calls * self.seconds_of_a_call(batched)

    def ratio(self, batched: bool = False) -> float:
        """Seconds of a call of the reference method over those of a call of the potential; nothing else is counted."""
        return self.reference_seconds / self.seconds_of_a_call(batched)

    def gain(self, batched: bool = False) -> float:
        """Time of all calls by the reference method over that by the potential, labels and fits included."""
        return self.by_reference / self.by_potential(batched)

    @property
    def break_even(self) -> int | None:
        """Smallest number of single calls from which on the potential is not slower; None: never."""
        return self._break_even(False)

    @property
    def break_even_batched(self) -> int | None:
        """Smallest number of calls in batches from which on the potential is not slower; None: never."""
        return self._break_even(True)

    def _break_even(self, batched: bool) -> int | None:
        saved = self.reference_seconds - self.seconds_of_a_call(batched)
        return max(1, math.ceil(self.preparation / saved - 1e-9)) if saved > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Numbers that were put in, and what follows from them, JSON-ready."""
        return {
            "reference_seconds": self.reference_seconds, "potential_seconds": self.potential_seconds,
            "batched_seconds": self.batched_seconds, "fit_seconds": self.fit_seconds, "labels": self.labels,
            "calls": self.calls, "preparation": self.preparation, "by_reference": self.by_reference,
            "by_potential": self.by_potential(), "by_potential_batched": self.by_potential(True),
            "ratio": self.ratio(), "ratio_batched": self.ratio(True),
            "gain": self.gain(), "gain_batched": self.gain(True),
            "break_even": self.break_even, "break_even_batched": self.break_even_batched,
        }  # fmt: skip

    def to_json(self) -> str:
        """The table of :meth:`to_dict` as text."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        lines = [
            f"one energy with forces: {duration(self.reference_seconds)} by the reference method",
            f"preparation: {self.labels} labels {duration(self.labels * self.reference_seconds)}, "
            f"fits {duration(self.fit_seconds)}",
            f"{self.calls:,} calls by the reference method: {duration(self.by_reference)}",
        ]
        for name, batched in (("one by one", False), ("in batches", True)):
            even = self._break_even(batched)
            lines.append(
                f"by the potential {name}: {duration(self.seconds_of_a_call(batched))} a call "
                f"({self.ratio(batched):,.3g} times as fast), in all {duration(self.by_potential(batched))} "
                f"({self.gain(batched):,.3g} times as fast), "
                + ("never faster" if even is None else f"break-even at {even:,} calls")
            )
        lines.append(
            "counted: the calls, labels and fits, one after the other on the same machine; not counted: tests, "
            "trials of settings, and the error of the potential"
        )
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time in words, in the largest unit of which it holds two (below minutes: one), with two digits.

    Examples
    --------
    >>> duration(0.0032), duration(50), duration(8e6), duration(0)
    ('3.2 ms', '50 s', '3.0 months', '0 s')
    """
    if seconds == 0:
        return "0 s"
    for name, length in _UNITS + _SMALL:
        count = seconds / length
        if count >= (2 if length > 1 else 1) or name == "us":
            return f"{count:,.0f} {name}" if count >= 10 else f"{count:.1f} {name}"
    raise AssertionError("the last unit takes every number")


def measure_speed_up(
    gap: GAP,
    make_oracle: Callable[[], Any],
    frames: Sequence[ase.Atoms],
    *,
    labels: int,
    fit_seconds: float,
    calls: int = 1_000_000,
    reference_calls: int = 3,
    potential_calls: int = 20,
    copies: int = 64,
    clock: Callable[[], float] = time.perf_counter,
    random_state: int | np.random.Generator | None = None,
) -> SpeedUp:
    """Account of a fitted potential and its reference method, from times that are measured here.

    Each call is made at positions displaced by 0.02 A, so that nothing is known beforehand. The first call of each
    kind, which may compile, does not count; the median is taken of the others.

    Parameters
    ----------
    gap
        A fitted model.
    make_oracle
        Returns a new ASE calculator. One calculator makes all calls, and may start from its last electronic state.
    frames
        Frames of the kind that is computed later; they are taken in turn, the first one for batches.
    labels
        Calls of the reference method that the potential needed.
    fit_seconds : float
        Of all its fits, by the same clock.
    calls
        Energies with forces that are wanted.
    reference_calls, potential_calls
        Calls that are timed.
    copies
        Frames in a batch.
    clock
        Seconds: of the wall, or ``time.process_time`` for those of this process on all its threads, which do not
        count a reference method in a process of its own.
    random_state
        Seed of the displacements.

    Raises
    ------
    DataError
        Without frames.
    SettingsError
        For numbers that cannot work.
    """
    if not len(frames):
        raise DataError("no frames to measure: give some of the kind that is computed later")
    for name, value in (("reference_calls", reference_calls), ("potential_calls", potential_calls), ("copies", copies)):
        check_count(name, value)
    rng = generator_of(random_state)
    whole = batch_forces(frames[0], gap.calculator())

    def batch() -> None:
        whole(frames[0].positions + rng.normal(scale=0.02, size=(copies, len(frames[0]), 3)))

    return SpeedUp(
        reference_seconds=_timed(_single(make_oracle(), frames, rng), reference_calls, clock),
        potential_seconds=_timed(_single(gap.calculator(), frames, rng), potential_calls, clock),
        batched_seconds=_timed(batch, max(1, potential_calls // copies), clock) / copies,
        fit_seconds=fit_seconds,
        labels=labels,
        calls=calls,
    )


def _single(calculator: Any, frames: Sequence[ase.Atoms], rng: np.random.Generator) -> Callable[[], None]:
    """Function that computes the next frame, displaced."""
    count = 0

    def call() -> None:
        nonlocal count
        atoms = frames[count % len(frames)].copy()
        count += 1
        atoms.set_positions(atoms.positions + rng.normal(scale=0.02, size=atoms.positions.shape))
        atoms.calc = calculator
        atoms.get_potential_energy()
        atoms.get_forces()

    return call


def _timed(call: Callable[[], None], repeats: int, clock: Callable[[], float]) -> float:
    """Median of the seconds of some calls, after one that does not count."""
    call()
    spent = []
    for _ in range(repeats):
        begin = clock()
        call()
        spent.append(clock() - begin)
    return float(np.median(spent))
