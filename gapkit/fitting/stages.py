"""The stages of a fit: each is a function of the results of earlier stages, with a named result."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gapkit.exceptions import GapkitWarning, SettingsError
from gapkit.fitting.candidates import choose_sparse_points, choose_terms, gather_pool
from gapkit.fitting.decisions import Decisions
from gapkit.fitting.domain_limits import domain_sample, measured_domain
from gapkit.fitting.exact_mean import LabelCovariances, is_affordable, supports_exact_mean
from gapkit.fitting.level_choice import EnergySample, choose_levels, kept_rows, separate_groups
from gapkit.fitting.lone_atoms import with_lone_atoms
from gapkit.fitting.mean import Mean, SparseMean
from gapkit.fitting.nested_levels import levels_by_fold, one_fold_of_few
from gapkit.fitting.out_of_fold import OutOfFold
from gapkit.fitting.plan import plan_line
from gapkit.fitting.pruning import summary_without, without_terms
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.screening import Findings, screened
from gapkit.fitting.settings import FitSettings
from gapkit.fitting.shape_choice import Shape, choose_shape, is_worth_comparing
from gapkit.fitting.shells import warn_of_touched_shells
from gapkit.fitting.training_ranges import training_domain
from gapkit.fitting.training_set import TrainingSet, assign_folds, describe_training
from gapkit.models.basis import SparseBasis
from gapkit.models.leave_one_out import KeptRows
from gapkit.models.levels import HeldOutSums, Levels, fold_posteriors
from gapkit.models.posterior import Posterior
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.potential.local_variance import LocalVariance, choose_forms
from gapkit.potential.potential import Potential
from gapkit.potential.spreads import Spreads
from gapkit.progress import report
from gapkit.structures.structure import Structure
from gapkit.uncertainty.calibration import calibrate
from gapkit.uncertainty.label_errors import FittedErrors, LabelErrors, StatedErrors
from gapkit.uncertainty.recalibration import inflation

#: beyond this many sparse points the cheap form of local variances would cost more than the fit
LARGEST_FORM = 4000
#: with fewer held-out energies than this a warning says that their error bars rest on little
FEWEST_ENERGIES = 10


@dataclass(frozen=True)
class Work:
    """Resources of a fit: threads, progress bars, and the store of decisions.

    Attributes
    ----------
    n_threads
        Threads.
    progress_bar, progress
        Makes progress bars; whether they are shown.
    decisions
        Decisions of earlier runs of the same fit.
    memory
        Memory (GB) that the fit may plan for; None: what there is.
    """

    n_threads: int
    progress_bar: Callable[..., Any]
    progress: bool = False
    decisions: Decisions = field(default_factory=Decisions)
    memory: float | None = None


@dataclass(frozen=True)
class Screened:
    """Training set without labels that contradict all others, and the findings about its labels."""

    data: TrainingSet
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True)
class Design:
    """Components of the model: terms, sparse functionals, folds, noise groups.

    Attributes
    ----------
    terms, basis
        Terms, and their sparse functionals.
    folds : (frames,) int
        Fold of each frame; negative ones are never held out.
    separate_groups : tuple of str
        Noise groups beyond one per label kind.
    exact : bool
        Whether the mean takes every label as a functional.
    shapes : tuple of Shape
        Shapes that were compared.
    """

    terms: tuple[Term, ...]
    basis: SparseBasis
    folds: np.ndarray
    separate_groups: tuple[str, ...]
    exact: bool
    shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True)
class Rows:
    """Reduced rows of all labels, and the few that the search for levels needs as they are.

    In the training set kept here, forces that are fixed by symmetry count as no labels.
    """

    data: TrainingSet
    triangles: Triangles
    sample: EnergySample | KeptRows


@dataclass(frozen=True)
class FoundLevels:
    """Levels, the model of those terms whose signal did not vanish, and the record of the search.

    ``by_fold``: of few frames, levels found without each fold, by which its errors are judged.
    """

    levels: Levels
    design: Design
    triangles: Triangles
    summary: dict[str, Any]
    by_fold: dict[int, Levels] = field(default_factory=dict)

    def mean_without(self, fold: int) -> Posterior | None:
        """The posterior without a fold under the levels that were found without it; None where there are none."""
        if fold not in self.by_fold:
            return None
        levels = self.by_fold[fold]
        columns = self.design.basis.column_terms()
        return Posterior.solve(self.triangles, levels.noise, levels.signal, columns, leave_out=fold)


@dataclass(frozen=True)
class Solution:
    """Posterior of the weights, and the mean."""

    posterior: Posterior
    mean: Mean


@dataclass(frozen=True)
class FoldEvaluation:
    """Strategy for error bars, and the out-of-fold errors that it was fitted to."""

    errors: LabelErrors
    out_of_fold: OutOfFold


def screen(data: TrainingSet, settings: FitSettings, work: Work) -> Screened:
    """Leave out labels that contradict all others, where that is asked for; a warning names them."""
    if not settings.screen:
        return Screened(data)
    known = work.decisions.screening(data, settings.e0)
    if known is not None:
        return Screened(*known)
    terms = choose_terms(settings.terms, data, settings.sparse, wants_exact(data, settings))
    checked = Screened(*screened(data, terms, settings.e0, work.n_threads, work.progress_bar))
    work.decisions.keep_screening(checked.findings)
    return checked


def wants_exact(data: TrainingSet, settings: FitSettings) -> bool:
    """Whether the mean is to take every label as a functional."""
    return settings.all_auto and is_affordable(data) if settings.exact == "auto" else bool(settings.exact)


def design(data: TrainingSet, settings: FitSettings, work: Work) -> Design:
    """Terms, sparse points and folds for a training set.

    Raises
    ------
    SettingsError
        Where an exact mean is asked for that the terms cannot have.
    """
    rng = np.random.default_rng(settings.random_state)
    exact = wants_exact(data, settings)
    terms = choose_terms(settings.terms, data, settings.sparse, exact)
    if not isinstance(settings.terms, str):
        warn_of_touched_shells(terms, [frame.atoms for frame in data.frames])
    shapes: list[Shape] = []
    if settings.all_auto and not exact and settings.n_folds > 1 and is_worth_comparing(data):
        terms, shapes = _shape(terms, data, settings, work)
    if exact and not supports_exact_mean(terms):
        raise SettingsError("exact=True needs one SOAP term, with the kernel DotProduct(2)")
    pool = gather_pool(data, terms, rng, work.progress_bar)
    basis = choose_sparse_points(pool, terms, rng, work.progress_bar)
    folds = assign_folds(data, pool.fingerprints, settings.n_folds)
    return Design(terms, basis, folds, separate_groups(data, settings.noise), exact, tuple(shapes))


def _shape(
    terms: tuple[Term, ...], data: TrainingSet, settings: FitSettings, work: Work
) -> tuple[tuple[Term, ...], list[Shape]]:
    """The terms with the best shape of SOAP, and what was tried."""
    known = work.decisions.shape(data.species)
    if known is not None:
        return known
    found = choose_shape(terms, data, settings.noise, settings.n_folds, work.n_threads, work.progress_bar)
    work.decisions.keep_shape(*found)
    return found


def accumulate(data: TrainingSet, made: Design, settings: FitSettings, work: Work) -> Rows:
    """Rows of all labels, reduced to triangles; memory and time are estimated before the long work.

    Raises
    ------
    SettingsError
        For a model that needs more memory than there is.
    """
    n_separate = len(made.separate_groups)
    plan = plan_line(data, made.basis, settings.n_folds, work.n_threads, made.exact, n_separate, work.memory)
    if work.progress:
        report(plan)
    triangles = Triangles(made.basis.n_columns, len(made.terms))
    sample = kept_rows(settings.noise, made.basis, data)
    learned = accumulate_rows(
        triangles, data, made.basis, made.folds, made.separate_groups, work.n_threads, work.progress_bar, sample
    )
    return Rows(learned, triangles, sample)


def find(made: Design, rows: Rows, settings: FitSettings, work: Work) -> FoundLevels:
    """Noise and signal levels; terms whose signal vanished leave the model."""
    basis, terms, triangles = made.basis, made.terms, rows.triangles
    known = work.decisions.levels(triangles.groups, len(terms))
    if known is None:
        given = settings.noise
        if one_fold_of_few(triangles, rows.data):
            given = replace(given, objective="evidence")
        known = choose_levels(triangles, basis, rows.data, terms, given, work.progress_bar, rows.sample, work.n_threads)
        work.decisions.keep_levels(*known)
    levels, summary = known
    dropped, summary = summary["vanished"], summary_without(summary, terms)
    summary["shapes"] = [[str(s), s.score] for s in made.shapes if np.isfinite(s.score)]
    if dropped:
        basis, triangles, levels, terms = without_terms(basis, triangles, levels, terms, dropped)
    by_fold = levels_by_fold(triangles, basis, rows.data, terms, settings.noise, levels, work.n_threads)
    return FoundLevels(levels, replace(made, basis=basis, terms=terms), triangles, summary, by_fold)


def solve(data: TrainingSet, found: FoundLevels, work: Work) -> Solution:
    """The posterior by QR of all triangles, and the mean."""
    made, levels = found.design, found.levels
    posterior = Posterior.solve(
        found.triangles,
        levels.noise,
        levels.signal,
        made.basis.column_terms(),
        progress=lambda items: work.progress_bar(items, desc="solving", unit="part"),
    )
    if made.exact and supports_exact_mean(made.terms):
        covariances = LabelCovariances(data, made.basis, made.separate_groups, work.progress_bar, work.n_threads)
        return Solution(posterior, covariances.mean(levels, made.folds, found.by_fold))
    return Solution(posterior, SparseMean(made.basis.unwhiten(posterior.weights)))


def evaluate_folds(
    data: TrainingSet, found: FoundLevels, solution: Solution, settings: FitSettings, work: Work
) -> FoldEvaluation:
    """Errors of each fold under the posterior of the others, and error bars fitted to them."""
    made, mean, sums = found.design, solution.mean, HeldOutSums()
    out_of_fold = OutOfFold(data, made.basis, made.terms, made.folds, work.progress_bar, mean)
    if len(found.triangles.folds) > 1:
        for fold, posterior in fold_posteriors(found.triangles, made.basis.column_terms(), found.levels):
            alone = found.mean_without(fold)
            sums.add(found.triangles, fold, posterior, alone)
            out_of_fold.evaluate_fold(fold, posterior, alone)
    elif settings.n_folds > 1:
        evident = "those of most evidence" if found.summary["objective"] == "evidence" else "starting values"
        warnings.warn(
            f"all frames fall into one fold, so nothing can be held out: levels are {evident} and error "
            "bars are not calibrated; add frames of other trajectories",
            GapkitWarning,
            stacklevel=5,
        )
    calibration = calibrate(found.levels, mean.held_out_of(sums.statistics()), mean.residual_share)
    if not out_of_fold.errors:
        n_frames = sum(not t.isolated for t in data.targets)
        searched = any(settings.noise.given(group) is None for group in found.triangles.groups)
        wider = inflation(n_frames) if searched and found.summary["objective"] == "evidence" else 1.0
        return FoldEvaluation(StatedErrors(calibration.scaled(wider)), out_of_fold)
    energies = sum("energy" in e.kinds for e in out_of_fold.errors)
    if 0 < energies < FEWEST_ENERGIES:
        warnings.warn(
            f"error bars of energies follow from {energies} held-out energies and can be wrong by large factors; add "
            f"frames until there are {FEWEST_ENERGIES}",
            GapkitWarning,
            stacklevel=5,
        )
    recalibration = out_of_fold.recalibration()
    calibration = out_of_fold.consistent(calibration, recalibration)
    errors = FittedErrors(calibration, recalibration, exact=bool(mean.extra))
    return FoldEvaluation(errors, out_of_fold)


def assemble(
    checked: Screened,
    found: FoundLevels,
    solution: Solution,
    evaluation: FoldEvaluation,
    settings: FitSettings,
    work: Work,
) -> Potential:
    """Potential made of the results of all stages, with a cheap form of its local variances and its domain."""
    data, made, mean, posterior = checked.data, found.design, solution.mean, solution.posterior
    basis = mean.basis_of(made.basis)
    sample = [Structure(atoms, basis.r_cut) for atoms in domain_sample(data)]
    few = basis.n_columns <= LARGEST_FORM
    forms = choose_forms(basis, posterior, evaluation.errors.calibration, sample, work.progress_bar) if few else {}
    reference = with_lone_atoms(data, sample, basis, posterior)
    spreads = Spreads(basis, posterior, evaluation.errors, settings.n_jobs, reference)
    predictors = basis.predictors(mean.alpha, mean.extra)
    cheap = LocalVariance(basis, mean.alpha, posterior.signal, evaluation.errors.calibration, predictors, forms)
    return Potential(
        terms=made.terms,
        basis=basis,
        posterior=posterior,
        alpha=mean.alpha,
        extra=mean.extra,
        reference=reference,
        baseline=settings.baseline,
        errors=evaluation.errors,
        species=data.species,
        domain=measured_domain(data, evaluation.out_of_fold, sample, spreads, cheap, work.progress_bar),
        noise_levels=dict(found.levels.noise),
        metadata={
            **describe_training(data, basis, found.levels, evaluation.errors.calibration, settings.n_folds),
            "levels": found.summary | mean.summary,
            "domain": training_domain(data.frames),
            "screened": [label.as_dict() for label in checked.findings.left_out],
        },
        n_jobs=settings.n_jobs,
        local_forms=forms,
    )
