"""Noise and signal levels of a fit: which are free, where the search starts, and what it is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gapkit.models.basis import SparseBasis
from gapkit.models.evidence import Evidence
from gapkit.models.held_out import EnergyRows, HeldOutError
from gapkit.models.level_search import search_levels
from gapkit.models.levels import UNSOLVABLE, LevelObjective, Levels, kind_of
from gapkit.models.observations import ISOLATED, ISOLATED_NOISE, Observations
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.potential.defaults import starting_levels
from gapkit.potential.noise_settings import OBJECTIVES, NoiseSettings
from gapkit.potential.training_set import TrainingSet

#: largest number of columns that the level search uses, and that its first, rough stage with several starts uses
SEARCH_COLUMNS, ROUGH_COLUMNS = 800, 300
#: frames whose energy rows are kept as they are
ENERGY_SAMPLE = 4000
#: a config_type gets a virial noise of its own where it has this many frames with virials; at most so many of them do
OWN_VIRIAL_FRAMES, OWN_VIRIALS = 5, 12


def own_groups(data: TrainingSet, given: NoiseSettings) -> tuple[str, ...]:
    """Noise groups beyond one per label kind: the config_types that the user names, and virials by config_type.

    Stresses of different calculations differ in quality far more than energies and forces do (plane-wave cutoffs,
    cells that change), so each config_type has a virial noise of its own unless the user gives one.
    """
    own = tuple(given.by_config)
    if "virial" in given.by_kind:
        return own
    count = Counter(t.config_type for t in data.targets if t.virial is not None and t.config_type is not None)
    enough = [c for c, n in count.most_common(OWN_VIRIALS) if n >= OWN_VIRIAL_FRAMES and c not in own]
    several = len({t.config_type for t in data.targets if t.virial is not None}) > 1
    return own + tuple(f"virial:{c}" for c in sorted(enough)) if several else own


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
        columns = np.arange(basis.n_columns)
        if basis.n_columns > SEARCH_COLUMNS:
            columns = basis.leading_columns(SEARCH_COLUMNS)
        return cls(columns, max(1, -(-n // ENERGY_SAMPLE)))

    def offer(self, observed: Observations, A: np.ndarray, fold: int) -> None:
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


def choose_levels(
    triangles: Triangles,
    basis: SparseBasis,
    data: TrainingSet,
    terms: Sequence[Term],
    given: NoiseSettings,
    bar: Callable[..., Any],
    sample: EnergySample | None = None,
) -> tuple[Levels, dict[str, Any]]:
    """Levels of the least objective, on the leading columns of the model where it is large, and what is known of them.

    The rough stage starts from several levels on few columns (whitened columns nest), the last stage from the best.

    Returns
    -------
    levels
    account : dict
        JSON-ready: objective, its value, log evidence per label, and the relative standard errors of the levels.
    """
    start, lower = starting_levels(data.targets, terms, triangles.groups)
    fixed = {g: given.given(g) for g in triangles.groups}
    fixed[ISOLATED] = ISOLATED_NOISE
    noise = {g: level if fixed[g] is None else float(fixed[g] or 0.0) for g, level in start.noise.items()}
    start = Levels(noise, start.signal)
    free_noise = tuple(g for g in triangles.groups if fixed[g] is None)
    free_signal = tuple(k for k, t in enumerate(terms) if t.signal is None)
    progress = bar(desc="levels", unit="step")

    def report(value: float) -> None:
        progress.set_postfix_str(f"objective {value:.4f}")
        progress.update()

    def objective(n_columns: int) -> LevelObjective:
        columns = np.arange(basis.n_columns)
        smaller = triangles
        if basis.n_columns > n_columns:
            columns = basis.leading_columns(n_columns)
            smaller = triangles.select(columns)
        made = OBJECTIVES[given.objective](smaller, basis.column_terms()[columns], start, free_noise, free_signal)
        rows = sample.rows() if sample is not None else None
        if isinstance(made, HeldOutError) and rows is not None and "energy" in (made.kinds or ()):
            made.energies = replace(rows, A=rows.A[:, np.searchsorted(sample.columns, columns)])
        return made

    rough = objective(ROUGH_COLUMNS)
    levels = search_levels(rough, lower, _starts(start, rough), 20, report)
    final = objective(SEARCH_COLUMNS)
    levels = search_levels(final, lower, [levels], callback=report)
    progress.close()
    return levels, account_of(levels, given.objective, final, rough)


def _starts(start: Levels, objective: LevelObjective) -> list[Levels]:
    """The start, one with energies and virials trusted less, and one of smoother functions; only free levels move."""
    looser = {
        g: s * (5.0 if g in objective.free_noise and kind_of(g) != "forces" else 1.0) for g, s in start.noise.items()
    }
    smoother = np.array(start.signal, dtype=float)
    smoother[list(objective.free_signal)] *= 0.3
    return [start, Levels(looser, start.signal), Levels(start.noise, smoother)]


def account_of(levels: Levels, name: str, final: LevelObjective, rough: LevelObjective) -> dict[str, Any]:
    """What the model file says of its levels."""
    evidence = Evidence(final.triangles, final.column_terms, levels, (), ())
    try:
        log_evidence = -evidence.evaluate(levels)[0]
    except np.linalg.LinAlgError:
        log_evidence = float("nan")
    account: dict[str, Any] = {
        "objective": name,
        "log_evidence_per_label": log_evidence if np.isfinite(log_evidence) else None,
    }
    if np.isfinite(levels.objective):
        errors = relative_errors(rough, levels)
        n_noise = len(rough.free_noise)
        account["noise_errors"] = dict(zip(rough.free_noise, errors[:n_noise], strict=True))
        account["signal_errors"] = dict(zip(map(str, rough.free_signal), errors[n_noise:], strict=True))
    return account


def relative_errors(objective: LevelObjective, levels: Levels, step: float = 0.05) -> list[float | None]:
    """Relative standard errors of the free levels from the objective's curvature; None where it is not convex.

    The objective counts as minus the log likelihood of one frame: labels of a frame share its misfit and are not
    independent. The Hessian is the difference of gradients at ``step`` to both sides of the levels' logarithms.
    """
    x = objective.point(levels)
    frames = max(
        1, sum(t.n_rows for (g, f), t in objective.triangles.items.items() if f >= 0 and kind_of(g) == "energy")
    )
    hessian = np.empty((len(x), len(x)))
    for k in range(len(x)):
        move = np.zeros(len(x))
        move[k] = step
        (above, up), (below, down) = objective(x + move), objective(x - move)
        if max(above, below) >= UNSOLVABLE:
            return [None] * len(x)
        hessian[k] = (up - down) / (2 * step)
    hessian = 0.5 * (hessian + hessian.T)
    values, vectors = np.linalg.eigh(hessian)
    # directions that the objective does not curve along are known to the width of the prior alone
    variance = vectors**2 @ (1 / np.maximum(frames * values, 1e-4)) if len(x) else np.zeros(0)
    return [float(np.sqrt(v)) for v in variance]
