"""The cure: surface frames are added where the model is least certain, and the dimers of Si(100) are watched.

An acquisition is any callable ``choose(gap, frames, n, rng)`` that returns the places of the next frames to label, best
first. :func:`largest_std` and :func:`at_random` are here; a strategy of ``gapkit.active`` fits with a lambda::

    lambda gap, frames, n, rng: DOptimal()(Candidates.of(gap, frames), n, rng)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
from sklearn.base import clone

from gapkit.apps.transferability.run import DomainSettings, run_domain
from gapkit.apps.transferability.si100 import FACES, DimersResult, DimersSettings, run_dimers
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.settings import Settings

Acquisition = Callable[[GAP, Sequence[ase.Atoms], int, np.random.Generator], Sequence[int]]


def largest_std(gap: GAP, frames: Sequence[ase.Atoms], n: int, rng: np.random.Generator) -> list[int]:
    """Frames with the largest standard deviation of a local energy of any atom, without noise."""
    p = gap.potential_
    names = [f"candidate {k}" for k in range(len(frames))]
    largest = [std.max() for std in p.local_std_many(frames, include_noise=False, names=names)]
    return [int(k) for k in np.argsort(-np.array(largest), kind="stable")[:n]]


def at_random(gap: GAP, frames: Sequence[ase.Atoms], n: int, rng: np.random.Generator) -> list[int]:
    """Frames chosen at random, as a reference for strategies."""
    return [int(k) for k in rng.permutation(len(frames))[:n]]


@dataclass(frozen=True)
class LearningSettings(Settings):
    """Settings of the addition of labels.

    Attributes
    ----------
    sizes : tuple of int
        Numbers of added frames at which the model is fitted and judged, rising; the first may be zero.
    refit : bool
        Fit anew at each size (new sparse points, new levels); else ``gap.update``, with both frozen.
    slab : DimersSettings
        Slabs of the dimers.
    """

    sizes: tuple[int, ...] = (0, 2, 5, 10, 20, 30)
    refit: bool = True
    slab: DimersSettings = field(default_factory=DimersSettings)

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        steps = np.diff(np.array(self.sizes))
        if not len(self.sizes) or min(self.sizes) < 0 or (steps <= 0).any():
            raise SettingsError(f"sizes must be rising numbers of frames, not {self.sizes!r}")


@dataclass(frozen=True)
class LearningStep:
    """A model with some frames added, and how it fares.

    Attributes
    ----------
    chosen : tuple of int
        Places in the pool of all frames added so far.
    study : DimersResult or None
        Faces relaxed by this model; None where it found no minimum.
    at_reference : DimersResult
        This model's energies of the reference's own geometries.
    energy_rmse, force_rmse : float
        On the test frames: eV/atom, eV/A.
    energy_std : float
        Root mean square of the predicted standard deviations of the test energies (eV/atom).
    z : float
        Root mean square of the test energies' errors in predicted standard deviations.
    surface_std : float
        Largest standard deviation of a local energy among the reference slabs (eV), without noise.
    distance : float
        Largest kernel distance of an atom of the reference slabs to the nearest training environment.
    """

    chosen: tuple[int, ...]
    study: DimersResult | None
    at_reference: DimersResult
    energy_rmse: float
    force_rmse: float
    energy_std: float
    z: float
    surface_std: float
    distance: float


@dataclass(frozen=True)
class LearningResult:
    """Result of :func:`run_learning`: the steps of one strategy.

    Attributes
    ----------
    settings : LearningSettings
    name : str
        Name of the strategy.
    steps : tuple of LearningStep
    reference : DimersResult
        Result that is to be reproduced.
    final : GAP
        The last model.
    """

    settings: LearningSettings
    name: str
    steps: tuple[LearningStep, ...]
    reference: DimersResult
    final: GAP

    @property
    def n_added(self) -> np.ndarray:
        """Frames added at each step."""
        return np.array([len(s.chosen) for s in self.steps])

    def gains(self, face: str = "buckled", initial: str = "unreconstructed") -> tuple[np.ndarray, np.ndarray]:
        """Energy per dimer and its standard deviation (eV) at each step; nan where there was no minimum."""
        found = [s.study.gain(face, initial) if s.study else None for s in self.steps]
        value = np.array([g.value if g else np.nan for g in found])
        return value, np.array([g.std if g else np.nan for g in found])

    def errors(self, face: str = "buckled", initial: str = "unreconstructed") -> np.ndarray:
        """Errors of :meth:`gains` (eV per dimer)."""
        return self.gains(face, initial)[0] - self.reference.gain(face, initial).value

    def __str__(self) -> str:
        lines = [
            f"{self.name}\n{'added':>5} {'buckled (eV/dimer)':>20} {'error meV':>9} {'angle':>6} {'length':>7} "
            f"{'test meV/atom':>13} {'std':>6} {'z':>5} {'eV/A':>6} {'local std':>9} {'distance':>8}"
        ]
        value, std = self.gains()
        error = 1e3 * self.errors()
        for k, step in enumerate(self.steps):
            d = step.study.geometry("buckled") if step.study else None
            angle, length = (d.buckling, d.length) if d else (np.nan, np.nan)
            test = f"{1e3 * step.energy_rmse:>13.1f} {1e3 * step.energy_std:>6.1f} {step.z:>5.2f}"
            lines.append(
                f"{len(step.chosen):>5} {value[k]:>10.3f} +- {std[k]:<6.3f} {error[k]:>9.1f} {angle:>6.1f} "
                f"{length:>7.3f} {test} {step.force_rmse:>6.3f} {1e3 * step.surface_std:>9.1f} {step.distance:>8.3f}"
            )
        return "\n".join(lines)


def run_learning(
    gap: GAP,
    training: Sequence[ase.Atoms],
    pool: Sequence[ase.Atoms],
    test: Sequence[ase.Atoms],
    reference: DimersResult,
    choose: Acquisition = largest_std,
    settings: LearningSettings | None = None,
    *,
    name: str = "largest std",
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> LearningResult:
    """Add frames of ``pool`` to ``training`` as ``choose`` says, fit, and compare with reference surfaces.

    Parameters
    ----------
    gap
        Settings of the model (cloned for every fit); one already fitted to ``training`` serves as the model without
        added frames.
    training, pool, test
        Labelled frames: known from the start, to choose from, and to judge by.
    reference
        Dimers by the method of the labels (:func:`gapkit.apps.transferability.si100.reference_study`).

    name
        Name of the strategy, for tables and pictures.
    random_state
        Seed of the acquisition.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        Where the pool is smaller than the largest of ``sizes``.
    """
    s = settings or LearningSettings()
    training, pool, test = list(training), list(pool), list(test)
    if len(pool) < max(s.sizes):
        raise DataError(f"the pool has {len(pool)} frames: not enough for {max(s.sizes)} to be added")
    rng = generator_of(random_state)
    model = gap if hasattr(gap, "potential_") else clone(gap).fit(training)
    if not s.refit and model is gap:
        model = clone(gap).fit(training)  # update would change the caller's model
    chosen: list[int] = []
    steps = []
    for size in progress_bar(s.sizes, desc=name, unit="fit", show=progress):
        left = [k for k in range(len(pool)) if k not in set(chosen)]
        if size > len(chosen):
            places = choose(model, [pool[k] for k in left], size - len(chosen), rng)
            fresh = [left[k] for k in places]
            chosen += fresh
            if s.refit:
                model = clone(gap).fit(training + [pool[k] for k in chosen])
            else:
                model.update([pool[k] for k in fresh])
        steps.append(
            _evaluated_step(model, training + [pool[k] for k in chosen], tuple(chosen), test, reference, s.slab)
        )
    return LearningResult(s, name, tuple(steps), reference, model)


def _evaluated_step(
    model: GAP,
    known: Sequence[ase.Atoms],
    chosen: tuple[int, ...],
    test: Sequence[ase.Atoms],
    reference: DimersResult,
    slab: DimersSettings,
) -> LearningStep:
    try:
        study = run_dimers(model, slab)
    except NumericsError:
        study = None
    sizes = np.array([len(a) for a in test])
    p = model.predict(test, uncertainty="energy")
    error = (p.energy - [a.get_potential_energy() for a in test]) / sizes
    force = np.concatenate([(f - a.get_forces()).ravel() for f, a in zip(p.forces, test, strict=True)])
    slabs = [reference.frames[face] for face in FACES]
    report = run_domain(model, known, slabs, DomainSettings(map_environments=0))
    return LearningStep(
        chosen=chosen,
        study=study,
        at_reference=run_dimers(model, slab, frames=reference.frames),
        energy_rmse=float(np.sqrt(np.mean(error**2))),
        force_rmse=float(np.sqrt(np.mean(force**2))),
        energy_std=float(np.sqrt(np.mean((p.energy_std / sizes) ** 2))),
        z=float(np.sqrt(np.mean((error * sizes / p.energy_std) ** 2))),
        surface_std=float(report.std.max()),
        distance=float(report.distance.max()),
    )
