"""Error bars for anything that is computed with a calculator: recompute it with potentials drawn from the posterior."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from gapkit.checks import check_level
from gapkit.estimators.committee import Committee
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, GapkitError, GapkitWarning, SettingsError
from gapkit.potential.calculator import GAPCalculator
from gapkit.potential.potential import Potential
from gapkit.potential.samples import Sampler
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of

#: frames whose environments carry the residual: at most so many, evenly spread over those that f visited
MOST_FRAMES = 40
#: a warning is due where samples leave out more than this share of the variance of energies or forces
LEFT_OUT = 0.2
#: largest share of samples whose function may fail
MOST_FAILURES = 0.5


@dataclass(frozen=True)
class Propagated:
    """A computed quantity with its error bar.

    Attributes
    ----------
    value : array
        Value with the fitted potential.
    std : array
        Standard deviation over the samples.
    samples : (samples, ...)
        The quantity of each sampled potential.
    failures : tuple of str
        Errors that the function raised for samples that are missing.
    left_out : float
        Largest share of the model's variance, over the energies and forces that were used in the frames looked at,
        that samples do not carry; nan for a committee.
    """

    value: np.ndarray
    std: np.ndarray
    samples: np.ndarray
    failures: tuple[str, ...]
    left_out: float

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Central interval of the samples that holds the share ``level`` of them."""
        check_level(level)
        low, high = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


class RecordingCalculator(GAPCalculator):
    """The mean's calculator, which remembers the frames and properties that it was asked for."""

    def __init__(self, potential: Potential) -> None:
        super().__init__(potential)
        self.visited: list[ase.Atoms] = []
        self.asked_forces: list[bool] = []

    def get_property(self, name: str, atoms: Any = None, allow_calculation: bool = True) -> Any:
        result = super().get_property(name, atoms, allow_calculation)
        if name in ("forces", "stress", "stresses") and self.visited:
            self.asked_forces[-1] = True
        return result

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = ()) -> None:
        super().calculate(atoms, properties, system_changes)
        self.visited.append(self.atoms.copy())
        self.asked_forces.append(False)

    def batch_forces(self, atoms: ase.Atoms) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Function of the calculator for copies of ``atoms``; every copy counts as a visited frame."""
        evaluate = super().batch_forces(atoms)

        def recording(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = evaluate(positions)
            for moved in positions:
                frame = atoms.copy()
                frame.positions = moved
                self.visited.append(frame)
                self.asked_forces.append(True)
            return found

        return recording


def propagate(
    f: Callable[[Any], Any],
    gap: GAP | Committee,
    n_samples: int = 32,
    residual: bool = True,
    kind: str = "energy",
    random_state: int | None = None,
    progress: bool = False,
) -> Propagated:
    """Compute ``f(calculator)`` with the fitted potential and with ``n_samples`` potentials from its posterior.

    Parameters
    ----------
    f
        Takes an ASE calculator and returns a number or an array of numbers, of one shape. It must begin from the same
        structures each time it is called: copy what it changes.
    gap
        A fitted model, or a committee, whose members then take the place of samples.
    residual
        Whether samples carry the Nystrom residual, which the weights do not know: it is drawn jointly at the
        environments of the frames that ``f`` visits with the fitted potential.
    kind
        Label kind whose calibration scales the samples.
    progress
        Show a progress bar.

    Warns
    -----
    GapkitWarning
        Where samples leave out more than a fifth of the variance that the model states for an energy or a force that
        ``f`` used; where ``f`` failed for some samples.

    Raises
    ------
    SettingsError
        For fewer than two samples.
    DataError
        Where ``f`` returns something else than finite numbers of one shape, or fails for most samples.
    """
    if n_samples < 2:
        raise SettingsError(f"an error bar needs at least 2 samples, not {n_samples}")
    rng = generator_of(random_state)
    if isinstance(gap, Committee):
        value = _numbers(f(gap.gap.calculator()), None)
        drawn = gap.samples(min(n_samples, len(gap.members)), int(rng.integers(2**31)))
        left_out = float("nan")
    else:
        recorder = RecordingCalculator(gap.potential_)
        value = _numbers(f(recorder), None)
        sampler, left_out = _sampler(gap.potential_, recorder, residual, kind)
        drawn = sampler.samples(n_samples, rng)
    samples, failures = [], []
    for sample in progress_bar(drawn, desc="propagate", unit="sample", show=progress):
        try:
            samples.append(_numbers(f(sample.calculator()), value.shape))
        except (GapkitError, ArithmeticError, RuntimeError, np.linalg.LinAlgError) as error:
            failures.append(f"{type(error).__name__}: {error}")
    if len(samples) < 2 or len(failures) > MOST_FAILURES * len(drawn):
        raise DataError(f"the function failed for {len(failures)} of {len(drawn)} samples; the last: {failures[-1]}")
    if failures:
        warnings.warn(
            f"the function failed for {len(failures)} of {len(drawn)} samples ({failures[-1]}): the error bar is that "
            "of the others and may be too small",
            GapkitWarning,
            stacklevel=2,
        )
    stacked = np.array(samples)
    return Propagated(value, stacked.std(axis=0, ddof=1), stacked, tuple(failures), left_out)


def _numbers(result: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Numbers that ``f`` returned, checked to be finite and of the expected shape."""
    try:
        numbers = np.asarray(result, dtype=float)
    except (TypeError, ValueError):
        raise DataError(f"the function must return a number or an array of numbers, not {result!r:.80}") from None
    if not np.isfinite(numbers).all():
        raise DataError("the function returned something that is not finite")
    if shape is not None and numbers.shape != shape:
        raise DataError(f"the function returned an array of shape {numbers.shape}, and of {shape} before")
    return numbers


def _sampler(potential: Potential, recorder: RecordingCalculator, residual: bool, kind: str) -> tuple[Sampler, float]:
    """The sampler for what ``f`` visited, and the share of the variance that its samples leave out."""
    if not recorder.visited:
        raise DataError("the function did not use its calculator: set atoms.calc to what it is given")
    pick = np.unique(np.linspace(0, len(recorder.visited) - 1, MOST_FRAMES).round().astype(int))
    frames = [recorder.visited[k] for k in pick]
    sampler = Sampler.of(potential, frames, kind, residual=residual)
    worst = 0.0
    for k in np.unique(pick[np.linspace(0, len(pick) - 1, 4).round().astype(int)]):
        carried, stated = sampler.variance(potential.structure(recorder.visited[k]))
        worst = max(worst, left_out_share(carried[:1], stated[:1]))
        if recorder.asked_forces[k]:
            worst = max(worst, left_out_share(carried[1:-6], stated[1:-6]))
    if worst > LEFT_OUT:
        remedy = "add training frames like these" if residual else "ask for residual=True"
        warnings.warn(
            f"samples leave out {worst:.0%} of the variance that the model states (its Nystrom residual dominates): "
            f"the error bar is too small; {remedy}",
            GapkitWarning,
            stacklevel=3,
        )
    return sampler, worst


def left_out_share(carried: Sequence[float] | np.ndarray, stated: Sequence[float] | np.ndarray) -> float:
    """Missing share of the variances of several numbers, 1 - sum(carried) / sum(stated); 0 where all are zero."""
    total = float(np.sum(stated))
    return 0.0 if total <= 0 else max(0.0, 1.0 - float(np.sum(carried)) / total)
