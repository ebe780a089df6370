"""From labelled frames to a fitted potential: the way of the data, one function per stage."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.fitting.candidates import choose_sparse_points, choose_terms, gather_pool
from gapkit.fitting.domain_limits import domain_sample, measured_domain
from gapkit.fitting.exact_mean import LabelCovariances, suits, within_reach
from gapkit.fitting.level_choice import choose_levels, kept_rows, own_groups
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.out_of_fold import OutOfFold
from gapkit.fitting.plan import plan_line
from gapkit.fitting.pruning import account_without, without_terms
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.screening import screened
from gapkit.fitting.shape_choice import Shape, choose_shape, worthwhile
from gapkit.fitting.training_ranges import training_domain
from gapkit.fitting.training_set import (
    ALWAYS,
    TrainingSet,
    assign_folds,
    describe_training,
    in_order,
    training_set,
    updated_description,
)
from gapkit.models.levels import Levels, held_out_statistics, kind_of
from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.local_variance import LocalForm, choose_forms
from gapkit.potential.potential import Potential
from gapkit.progress import progress_bar, report
from gapkit.structures.labels import LabelledFrame
from gapkit.structures.structure import Structure
from gapkit.uncertainty.calibration import EXACT_SHARE, calibrate
from gapkit.uncertainty.label_errors import FittedErrors, LabelErrors, StatedErrors

#: beyond this many sparse points the cheap form of local variances would cost more than the fit
LARGEST_FORM = 4000


@dataclass(frozen=True)
class Fit:
    """A fitted potential and what ``update`` needs to go on from it."""

    potential: Potential
    triangles: Triangles
    levels: Levels
    folds: np.ndarray


def fit_potential(
    frames: Sequence[LabelledFrame],
    terms: Any = "auto",
    baseline: Any = None,
    e0: Any = "auto",
    noise: Any = "auto",
    sparse: Any = "auto",
    exact: bool | str = "auto",
    n_folds: int = 5,
    n_jobs: int | None = None,
    random_state: Any = None,
    progress: bool = False,
    screen: bool = True,
) -> Fit:
    """Fit a potential to labelled frames; see ``gapkit.GAP`` for the parameters."""
    with limited_threads(n_jobs):
        return _fit(frames, terms, baseline, e0, noise, sparse, exact, n_folds, n_jobs, random_state, progress, screen)


def _fit(frames, terms, baseline, e0, noise, sparse, exact, n_folds, n_jobs, random_state, progress, screen) -> Fit:
    rng = np.random.default_rng(random_state)
    n_threads = thread_count()
    given = NoiseSettings.parse(noise)
    bar = partial(progress_bar, show=progress)
    data = in_order(training_set(frames, e0, baseline))
    untouched = all(isinstance(setting, str) and setting == "auto" for setting in (terms, sparse))
    if exact == "auto":
        exact = untouched and within_reach(data)
    terms = choose_terms(terms, data, sparse, bool(exact))
    data, left_out = screened(data, terms, e0, n_threads, bar) if screen else (data, ())
    shapes: list[Shape] = []
    if untouched and not exact and n_folds > 1 and worthwhile(data):
        terms, shapes = choose_shape(terms, data, given, n_folds, n_threads, bar)
    if exact and not suits(terms):
        raise SettingsError("exact=True needs one SOAP term, with the kernel DotProduct(2)")
    pool = gather_pool(data, terms, rng, bar)
    basis = choose_sparse_points(pool, terms, rng, bar)
    folds = assign_folds(data, pool.fingerprints, n_folds)
    del pool
    own = own_groups(data, given)
    plan = plan_line(data, basis, n_folds, n_threads, bool(exact), len(own))
    if progress:
        report(plan)
    triangles = Triangles(basis.n_columns, len(terms))
    sample = kept_rows(given, basis, data)
    accumulate_rows(triangles, data, basis, folds, own, n_threads, bar, sample)
    with blas_threads(n_threads):
        levels, account = choose_levels(triangles, basis, data, terms, given, bar, sample)
        gone, account = account["vanished"], account_without(account, terms)
        account["shapes"] = [[str(s), s.score] for s in shapes if np.isfinite(s.score)]
        if gone:
            basis, triangles, levels, terms = without_terms(basis, triangles, levels, terms, gone)
        posterior = Posterior.solve(
            triangles,
            levels.noise,
            levels.signal,
            basis.column_terms(),
            progress=lambda items: bar(items, desc="solve", unit="triangle"),
        )
    mean = None
    if exact and suits(terms):
        mean = LabelCovariances(data, basis, own, bar, n_threads).mean(levels, folds, n_threads)
    with blas_threads(n_threads):
        held_out, out_of_fold = {}, OutOfFold(data, basis, folds, bar, mean)
        if len(triangles.folds) > 1:
            held_out = held_out_statistics(triangles, basis.column_terms(), levels, out_of_fold.judge)
        elif n_folds > 1:
            warnings.warn(
                "all frames fall into one fold, so nothing can be held out: levels are starting values and error "
                "bars are not calibrated; add frames of other trajectories",
                GapkitWarning,
                stacklevel=4,
            )
        if mean is not None:
            known = {g: s for g, s in held_out.items() if g in mean.held_out}
            held_out |= {g: replace(s, squared_error=mean.held_out[g] ** 2) for g, s in known.items()}
            account = account | {"exact_noise_factor": mean.noise_factor}
        calibration = calibrate(levels, held_out) if mean is None else calibrate(levels, held_out, EXACT_SHARE)
        recalibration = out_of_fold.recalibration() if out_of_fold.errors else None
        errors: LabelErrors = StatedErrors(calibration)
        if recalibration is not None:
            calibration = out_of_fold.consistent(calibration, recalibration)
            errors = FittedErrors(calibration, recalibration, exact=bool(mean is not None and mean.extra))
        potential = Potential(
            terms=terms,
            basis=basis,
            posterior=posterior,
            alpha=basis.unwhiten(posterior.weights) if mean is None else mean.alpha,
            extra={} if mean is None else mean.extra,
            reference=data.reference,
            baseline=baseline,
            errors=errors,
            species=data.species,
            noise_levels=dict(levels.noise),
            metadata={
                **describe_training(data, basis, levels, calibration, n_folds),
                "levels": account,
                "domain": training_domain(data.frames),
                "screened": [label.as_dict() for label in left_out],
            },
            n_jobs=n_jobs,
        )
        typical = domain_sample(data)
        structures = [Structure(atoms, basis.r_cut) for atoms in typical]
        potential = replace(potential, local_forms=local_forms(potential, structures))
        potential = replace(potential, domain=measured_domain(potential, data, out_of_fold, structures))
    return Fit(potential, triangles, levels, folds)


def local_forms(potential: Potential, sample: Sequence[Structure]) -> dict[int, LocalForm]:
    """Forms for cheap variances of local energies, from the same sample; none for a model of very many points."""
    if potential.basis.n_columns > LARGEST_FORM:
        return {}
    return choose_forms(potential.basis, potential.posterior, potential.calibration, sample)


def errors_of(potential: Potential, data: TrainingSet) -> TrainingSet:
    """The frames with label minus prediction as what is to be explained."""
    targets = []
    names = [f"frame {frame.index}" for frame in data.frames]
    predictions = potential.evaluate_many([frame.atoms for frame in data.frames], where=names)
    for frame, t, p in zip(data.frames, data.targets, predictions, strict=True):
        energy = None if frame.energy is None else frame.energy - p.energy
        forces = None if frame.forces is None else frame.forces - p.forces
        virial = None if frame.virial is None or p.virial is None else frame.virial - p.virial
        targets.append(replace(t, energy=energy, forces=forces, virial=virial))
    return replace(data, targets=tuple(targets))


def update_fit(fit: Fit, frames: Sequence[LabelledFrame], n_jobs: int | None = None, progress: bool = False) -> Fit:
    """Add checked frames with everything but the weights frozen: equal to a refit with the same levels, to rounding.

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
    own = sorted(g for g in fit.levels.noise if ":" in g)
    added = Triangles(potential.basis.n_columns, potential.basis.n_terms)
    bar = partial(progress_bar, show=progress)
    accumulate_rows(added, data, potential.basis, new, own, n_threads, bar)
    levels = _levels_with(fit.levels, added.groups)
    with blas_threads(n_threads):
        triangles = fit.triangles.merge(added)
        posterior = Posterior.solve(triangles, levels.noise, levels.signal, potential.basis.column_terms())
    weights = posterior.weights
    if potential.extra:
        errors = Triangles(potential.basis.n_columns, potential.basis.n_terms)
        accumulate_rows(errors, errors_of(potential, data), potential.basis, new, own, n_threads, bar)
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
