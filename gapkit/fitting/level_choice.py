"""Noise and signal levels of a fit: the free ones, the start of the search, and its objective."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gapkit.fitting.default_terms import starting_levels
from gapkit.fitting.noise_settings import OBJECTIVES, NoiseSettings
from gapkit.fitting.pruning import vanished_terms
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.evidence import Evidence
from gapkit.models.held_out import EnergyRows, HeldOutError
from gapkit.models.leave_one_out import KeptRows, LeaveOneOut
from gapkit.models.level_search import search_levels
from gapkit.models.levels import PRIOR_WIDTH, LevelObjective, Levels, held_out_statistics, kind_of
from gapkit.models.observations import ISOLATED, ISOLATED_NOISE, Observations
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles

#: columns that the first, rough stage of the level search uses, with several starts, and the iterations of each; and
#: columns of the second stage
ROUGH_COLUMNS, ROUGH_ITERATIONS, SEARCH_COLUMNS = 300, 20, 800
#: most columns of the last stage, memory (bytes) of its Gram matrices, and how many times the columns of the second
#: stage make it worth its cost: levels of a whole model are not those of a third of it (docs/ACCURACY.md)
LAST_COLUMNS, LAST_BYTES, WORTH_LAST = 3000, 1e9, 1.5
#: iterations that a search takes, about: what a progress bar says of the remaining time
LEVEL_STEPS = 120
#: frames whose energy rows are kept as they are
ENERGY_SAMPLE = 4000
#: fewest labels of a single fold whose evidence chooses a handful of levels: of fewer, all may look like noise, or none
EVIDENCE_LABELS = 20
#: a config_type gets a virial noise of its own where it has this many frames with virials; at most so many of them do
OWN_VIRIAL_FRAMES, OWN_VIRIALS = 5, 12


def separate_groups(data: TrainingSet, given: NoiseSettings) -> tuple[str, ...]:
    """Noise groups beyond one per label kind: the config_types that the user names, and virials by config_type.

    Stresses of different calculations differ in quality far more than energies and forces do (plane-wave cutoffs,
    cells that change), so each config_type has a virial noise of its own unless the user gives one.
    """
    named = tuple(given.by_config)
    if "virial" in given.by_kind:
        return named
    count = Counter(t.config_type for t in data.targets if t.virial is not None and t.config_type is not None)
    enough = [c for c, n in count.most_common(OWN_VIRIALS) if n >= OWN_VIRIAL_FRAMES and c not in named]
    several = len({t.config_type for t in data.targets if t.virial is not None}) > 1
    return named + tuple(f"virial:{c}" for c in sorted(enough)) if several else named


@dataclass
class EnergySample:
    """Energy rows of at most ``ENERGY_SAMPLE`` frames, for the mean absolute held-out error.

    Attributes
    ----------
    columns : (m,) int
        Whitened columns that are kept.
    every : int
        Each so-many-th frame with an energy is kept.
    """

    columns: np.ndarray
    every: int
    seen: int = 0
    kept: list[tuple[np.ndarray, float, int]] = field(default_factory=list)

    @classmethod
    def of(cls, basis: SparseBasis, data: TrainingSet) -> EnergySample:
        """An empty sample for a fit."""
        n = sum(t.energy is not None and not t.isolated for t in data.targets)
        return cls(_searched(basis, LAST_COLUMNS), max(1, -(-n // ENERGY_SAMPLE)))

    def offer(self, observed: Observations, A: np.ndarray, fold: int, frame: int) -> None:
        """Whitened rows ``A`` of one frame; kept if they are of an energy that can be held out."""
        if kind_of(observed.group) != "energy" or fold < 0:
            return
        if self.seen % self.every == 0:
            # the row is divided by the square root of atoms, once: divided again, its error is per atom
            self.kept.append((A[0, self.columns] / observed.scale, float(observed.y[0]) / observed.scale, fold))
        self.seen += 1

    def rows(self) -> EnergyRows | None:
        """The sample, or None where there is nothing in it."""
        if not self.kept:
            return None
        A, y, fold = zip(*self.kept, strict=True)
        return EnergyRows(np.array(A), np.array(y), np.array(fold))


def _searched(basis: SparseBasis, n_columns: int) -> np.ndarray:
    """The whitened columns that a search on ``n_columns`` uses."""
    return basis.leading_columns(n_columns) if basis.n_columns > n_columns else np.arange(basis.n_columns)


def kept_rows(given: NoiseSettings, basis: SparseBasis, data: TrainingSet) -> EnergySample | KeptRows:
    """The empty store of the rows that the objective needs as they are: some energies, or all."""
    if OBJECTIVES[given.objective] is LeaveOneOut:
        return KeptRows(_searched(basis, SEARCH_COLUMNS), data.n_rows)
    return EnergySample.of(basis, data)


@dataclass(frozen=True)
class LevelSearch:
    """Levels that were found, the objectives of the first two stages, and lower bounds of the noise."""

    levels: Levels
    rough: LevelObjective
    final: LevelObjective
    lower: dict[str, float]


def find_levels(
    triangles: Triangles,
    basis: SparseBasis,
    data: TrainingSet,
    terms: Sequence[Term],
    given: NoiseSettings,
    progress: Callable[..., Any],
    sample: EnergySample | KeptRows | None = None,
    n_threads: int = 1,
) -> LevelSearch:
    """Levels of the least objective, on the leading columns of the model where it is large.

    The rough stage starts from several levels on few columns (whitened columns nest), the others from the best so far.
    """
    search = _Search(triangles, basis, data, terms, given, sample, n_threads)
    bar = progress(total=LEVEL_STEPS, desc="noise levels", unit="step")

    def report(value: float) -> None:
        bar.set_postfix_str(f"objective {value:.4f}")
        bar.update()

    rough = search.objective(ROUGH_COLUMNS)
    levels = search.roughly(rough, report)
    final = search.objective(SEARCH_COLUMNS)
    levels = search_levels(final, search.lower, [levels], callback=report)
    if isinstance(final, HeldOutError):
        tied = tied_groups(search.free_noise, final)
        most = last_columns(triangles, tied)
        if min(most, basis.n_columns) > WORTH_LAST * SEARCH_COLUMNS:
            levels = search_levels(search.objective(most, levels, tied), search.lower, callback=report)
    bar.total = bar.n
    bar.close()
    return LevelSearch(levels, rough, final, search.lower)


def rough_levels(
    triangles: Triangles,
    basis: SparseBasis,
    data: TrainingSet,
    terms: Sequence[Term],
    given: NoiseSettings,
    n_threads: int = 1,
) -> Levels:
    """Levels after the rough stage of :func:`find_levels` alone, from triangles; of one fold, those of most evidence,
    or the start where there are too few labels for that.

    Held-out error stands in for an objective that asks for rows frame by frame.
    """
    name = given.objective
    if len(triangles.folds) < 2 and enough_for_evidence(triangles):
        name = "evidence"
    elif OBJECTIVES[name] is LeaveOneOut:
        name = "held_out_error"
    search = _Search(triangles, basis, data, terms, replace(given, objective=name), None, n_threads)
    return search.roughly(search.objective(ROUGH_COLUMNS))


def enough_for_evidence(triangles: Triangles) -> bool:
    """Whether there are labels enough for the evidence to be about levels, and not about chance."""
    return sum(t.n_rows for t in triangles.items.values()) >= EVIDENCE_LABELS


class _Search:
    """Settings shared by the stages of a search: start, lower bounds, and which levels are free."""

    def __init__(
        self,
        triangles: Triangles,
        basis: SparseBasis,
        data: TrainingSet,
        terms: Sequence[Term],
        given: NoiseSettings,
        sample: EnergySample | KeptRows | None,
        n_threads: int,
    ) -> None:
        self.triangles, self.basis, self.sample, self.n_threads = triangles, basis, sample, n_threads
        self.make = OBJECTIVES[given.objective]
        start, self.lower = starting_levels(data.targets, terms, triangles.groups)
        fixed = {g: given.given(g) for g in triangles.groups}
        fixed[ISOLATED] = ISOLATED_NOISE
        noise = {g: level if fixed[g] is None else float(fixed[g] or 0.0) for g, level in start.noise.items()}
        self.start = Levels(noise, start.signal)
        self.free_noise = tuple(g for g in triangles.groups if fixed[g] is None)
        self.free_signal = tuple(k for k, t in enumerate(terms) if t.signal is None)

    def objective(
        self, n_columns: int, start: Levels | None = None, tied: Mapping[str, str] | None = None
    ) -> LevelObjective:
        """The objective on at most ``n_columns`` columns."""
        basis, tied = self.basis, tied or {}
        columns = _searched(basis, n_columns)
        smaller = self.triangles.select(columns) if basis.n_columns > n_columns else self.triangles
        free = tuple(g for g in self.free_noise if g not in tied)
        made = self.make(
            smaller, basis.column_terms()[columns], start or self.start, free, self.free_signal, tied=tied,
            n_threads=self.n_threads,
        )  # fmt: skip
        if isinstance(made, LeaveOneOut) and isinstance(self.sample, KeptRows):
            made.rows = self.sample.select(columns)
        if isinstance(made, HeldOutError) and isinstance(self.sample, EnergySample) and "energy" in (made.kinds or ()):
            rows = self.sample.rows()
            if rows is not None:
                made.energies = replace(rows, A=rows.A[:, np.searchsorted(self.sample.columns, columns)])
        return made

    def roughly(self, rough: LevelObjective, report: Callable[[float], None] | None = None) -> Levels:
        """The best end of a few short searches from several starts."""
        return search_levels(rough, self.lower, several_starts(self.start, rough), ROUGH_ITERATIONS, report)


def tied_groups(free_noise: Sequence[str], objective: HeldOutError) -> dict[str, str]:
    """Virial groups tied together in the last stage, by the one that stands for them; none where virials are tested.

    How much worse the virials of one config_type are than those of another is found on fewer columns as well, and one
    level in place of a dozen makes the last stage several times cheaper.
    """
    virials = [g for g in free_noise if kind_of(g) == "virial"]
    if not virials or "virial" in (objective.kinds or ()):
        return {}
    return dict.fromkeys(virials[1:], virials[0])


def last_columns(triangles: Triangles, tied: Mapping[str, str]) -> int:
    """Columns of the last stage: as many as the Gram matrices of its groups and folds leave memory for."""
    groups = {tied.get(group, group) for group, _ in triangles.items}
    matrices = len(groups) * (len(triangles.folds) + 1)  # of each half is kept
    return min(LAST_COLUMNS, int(np.sqrt(LAST_BYTES / (4 * max(matrices, 1)))))


def choose_levels(
    triangles: Triangles,
    basis: SparseBasis,
    data: TrainingSet,
    terms: Sequence[Term],
    given: NoiseSettings,
    progress: Callable[..., Any],
    sample: EnergySample | KeptRows | None = None,
    n_threads: int = 1,
) -> tuple[Levels, dict[str, Any]]:
    """Levels as :func:`find_levels` finds them, and the record of their search.

    Returns
    -------
    levels
    summary : dict
        JSON-ready: objective, log evidence per label, relative standard errors of the levels, held-out errors against
        the number of sparse points, and the terms whose signal vanished.
    """
    search = find_levels(triangles, basis, data, terms, given, progress, sample, n_threads)
    levels, rough, final = search.levels, search.rough, search.final
    summary = summary_of(levels, given.objective, final)
    if np.isfinite(levels.objective):
        near = search_levels(rough, search.lower, [levels], 10)  # the curvature is that of its own minimum
        errors = relative_errors(rough, near)
        n = len(rough.free_noise)
        summary["noise_errors"] = dict(zip(rough.free_noise, errors[:n], strict=True))
        summary["signal_errors"] = dict(zip(map(str, rough.free_signal), errors[n:], strict=True))
    if len(final.triangles.folds) > 1:
        summary["sparse_curve"] = sparse_curve(basis, levels, final)
    summary["vanished"] = list(vanished_terms(final, levels)) if np.isfinite(levels.objective) else []
    return levels, summary


def several_starts(start: Levels, objective: LevelObjective) -> list[Levels]:
    """The start, one with energies and virials trusted less, and one of smoother functions; only free levels move."""
    looser = {
        g: s * (5.0 if g in objective.free_noise and kind_of(g) != "forces" else 1.0) for g, s in start.noise.items()
    }
    smoother = np.array(start.signal, dtype=float)
    smoother[list(objective.free_signal)] *= 0.3
    return [start, Levels(looser, start.signal), Levels(start.noise, smoother)]


def summary_of(levels: Levels, name: str, searched: LevelObjective) -> dict[str, Any]:
    """JSON-ready record of the search for levels; the evidence is a diagnostic, whatever the objective."""
    try:
        log_evidence = -Evidence(searched.triangles, searched.column_terms, levels, (), ()).evaluate(levels)[0]
    except np.linalg.LinAlgError:
        log_evidence = float("nan")
    return {
        "objective": name,
        "log_evidence_per_label": float(log_evidence) if np.isfinite(log_evidence) else None,
    }


def relative_errors(objective: LevelObjective, levels: Levels, step: float = 0.05) -> list[float]:
    """Relative standard errors (of the logarithms) of the free levels from the objective's curvature at ``levels``.

    The objective counts as minus the log likelihood of one frame: labels of a frame share its misfit and are not
    independent. Held-out error does not depend on the common scale of all levels: where all are free, it is fixed.
    Along other directions that the objective does not curve along, the width of the prior is the error. The Hessian
    is the difference of gradients at ``step`` to both sides of the levels' logarithms.
    """
    x = objective.point(levels)
    items = objective.triangles.items
    frames = max(1, sum(t.n_rows for (g, fold), t in items.items() if fold >= 0 and kind_of(g) == "energy"))
    hessian = np.empty((len(x), len(x)))
    for k in range(len(x)):
        move = np.zeros(len(x))
        move[k] = step
        hessian[k] = (objective(x + move)[1] - objective(x - move)[1]) / (2 * step)
    values, vectors = np.linalg.eigh(frames * 0.5 * (hessian + hessian.T))
    precision = (vectors * np.maximum(values, PRIOR_WIDTH**-2)) @ vectors.T
    groups = set(objective.triangles.groups) - {ISOLATED}
    everything = groups <= set(objective.free_noise) and len(objective.free_signal) == len(levels.signal)
    if objective.scale_free and everything and len(x) > 1:
        precision += PRIOR_WIDTH**2 * np.full((len(x), len(x)), float(np.trace(precision)) / len(x))
    return [float(np.sqrt(v)) for v in np.diag(np.linalg.inv(precision))] if len(x) else []


def sparse_curve(basis: SparseBasis, levels: Levels, searched: LevelObjective) -> list[list[float | int | None]]:
    """[sparse points, energy, force] held-out root-mean-square errors (eV per square root of atoms, eV/A)."""
    curve: list[list[float | int | None]] = []
    m = searched.triangles.n_columns
    terms = searched.column_terms
    for share in (0.125, 0.25, 0.5, 1.0):
        # of every block its leading columns; a block's columns follow each other in the searched triangles too
        columns = np.arange(m)
        if share < 1.0:
            whole = _searched(basis, SEARCH_COLUMNS)
            columns = np.searchsorted(whole, basis.leading_columns(max(1, round(share * m))))
        statistics = held_out_statistics(searched.triangles.select(columns), terms[columns], levels)
        point: list[float | int | None] = [len(columns)]
        for kind in ("energy", "forces"):
            of_kind = [s for g, s in statistics.items() if kind_of(g) == kind]
            square = sum(s.n_rows * s.squared_error for s in of_kind)
            point.append(float(np.sqrt(square / sum(s.n_rows for s in of_kind))) if of_kind else None)
        curve.append(point)
    return curve
