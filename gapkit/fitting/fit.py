"""Fit of a potential to labelled frames, and its update when frames are added."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gapkit.exceptions import DataError
from gapkit.fitting import stages
from gapkit.fitting.decisions import Decisions
from gapkit.fitting.plan import checked_memory
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.screening import Findings
from gapkit.fitting.settings import FitSettings
from gapkit.fitting.training_set import ALWAYS, TrainingSet, in_order, training_set, updated_description
from gapkit.models.levels import Levels, kind_of
from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.potential import Potential
from gapkit.progress import progress_bar
from gapkit.structures.labels import LabelledFrame


@dataclass(frozen=True)
class Fit:
    """Fitted potential, with the state from which ``update`` continues and the findings about the labels."""

    potential: Potential
    triangles: Triangles
    levels: Levels
    folds: np.ndarray
    findings: Findings = field(default_factory=Findings)

    @classmethod
    def of_potential(cls, potential: Potential) -> Fit:
        """A fit without triangles, of a potential that was loaded without them: it can be saved, not updated."""
        empty = Triangles(potential.basis.n_columns, potential.basis.n_terms)
        levels = Levels(dict(potential.noise_levels), potential.posterior.signal)
        return cls(potential, empty, levels, np.zeros(0, dtype=np.int64))


def fit_potential(
    frames: Sequence[LabelledFrame],
    settings: FitSettings,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
    memory: float | None = None,
) -> Fit:
    """Fit a potential to labelled frames; see ``gapkit.GAP`` for the settings, and its ``fit`` for the rest."""
    memory, decisions = checked_memory(memory), Decisions.of_fit(checkpoint, frames, settings)
    with limited_threads(settings.n_jobs):
        work = stages.Work(thread_count(), partial(progress_bar, show=progress), progress, decisions, memory)
        with blas_threads(work.n_threads):
            data = in_order(training_set(frames, settings.e0, settings.baseline))
            settings = decisions.settled(settings, stages.wants_exact(data, settings))
            checked = stages.screen(data, settings, work)
            made = stages.design(checked.data, settings, work)
        with blas_threads(work.n_threads, made.basis.n_columns):
            rows = stages.accumulate(checked.data, made, settings, work)
            found, learned = stages.find(made, rows, settings, work), rows.data
            del rows  # those of a model whose terms all stay are those of ``found``; of another, they are not needed
            solution = stages.solve(learned, found, work)
            evaluation = stages.evaluate_folds(learned, found, solution, settings, work)
            potential = stages.assemble(checked, found, solution, evaluation, settings, work)
        return Fit(potential, found.triangles, found.levels, made.folds, checked.findings)


def errors_of(potential: Potential, data: TrainingSet) -> TrainingSet:
    """Training set whose targets are the errors of a prediction, label minus prediction."""
    targets = []
    names = [f"frame {frame.index}" for frame in data.frames]
    predictions = potential.evaluate_many([frame.atoms for frame in data.frames], context=names)
    for frame, t, p in zip(data.frames, data.targets, predictions, strict=True):
        energy = None if frame.energy is None else frame.energy - p.energy
        forces = None if frame.forces is None else frame.forces - p.forces
        virial = None if frame.virial is None or p.virial is None else frame.virial - p.virial
        targets.append(replace(t, energy=energy, forces=forces, virial=virial))
    return replace(data, targets=tuple(targets))


def update_fit(fit: Fit, frames: Sequence[LabelledFrame], n_jobs: int | None = None, progress: bool = False) -> Fit:
    """Add checked frames with everything but the weights frozen; equals a refit with the same levels, but for rounding.

    Calibration and domain limit are frozen too. New frames are dealt to the folds in turn.
    """
    with limited_threads(n_jobs):
        return _update(fit, frames, progress)


def _update(fit: Fit, frames: Sequence[LabelledFrame], progress: bool) -> Fit:
    potential = fit.potential
    data = training_set(frames, None, potential.baseline, known=(potential.species, potential.reference))
    n_threads = thread_count()
    n_folds = max(1, len(fit.triangles.folds))
    begin = len(fit.folds)
    new = np.array(
        [ALWAYS if t.isolated else (begin + k) % n_folds for k, t in enumerate(data.targets)], dtype=np.int64
    )
    separate_groups = sorted(g for g in fit.levels.noise if ":" in g)
    added = Triangles(potential.basis.n_columns, potential.basis.n_terms)
    shown = partial(progress_bar, show=progress)
    accumulate_rows(added, data, potential.basis, new, separate_groups, n_threads, shown)
    levels = _levels_with(fit.levels, added.groups)
    with blas_threads(n_threads):
        triangles = fit.triangles.merge(added)
        posterior = Posterior.solve(triangles, levels.noise, levels.signal, potential.basis.column_terms())
    weights = posterior.weights
    if potential.extra:
        errors = Triangles(potential.basis.n_columns, potential.basis.n_terms)
        accumulate_rows(errors, errors_of(potential, data), potential.basis, new, separate_groups, n_threads, shown)
        weights = posterior.correction(errors, levels.noise)
    with blas_threads(n_threads):
        alpha = potential.basis.unwhiten(weights)
        changed = replace(
            potential,
            posterior=posterior,
            alpha=potential.alpha + alpha if potential.extra else alpha,
            noise_levels=dict(levels.noise),
            metadata=updated_description(potential.metadata, data),
            local_forms={},  # of the old posterior; without them variances of local energies are exact, and slower
        )
    return Fit(changed, triangles, levels, np.concatenate([fit.folds, new]))


def _levels_with(levels: Levels, groups: Iterable[str]) -> Levels:
    """Levels that have these noise groups too: those of a config_type that no training frame had take the largest noise
    of their label kind, as predictions do (``Calibration.of``)."""
    noise = dict(levels.noise)
    for group in groups:
        known = [s for g, s in levels.noise.items() if kind_of(g) == kind_of(group)]
        if not known:
            raise DataError(
                f"the new frames have labels of kind {kind_of(group)}, which the model was not fitted to: fit again"
            )
        noise.setdefault(group, max(known))
    return replace(levels, noise=noise)
