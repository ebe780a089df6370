"""The shape of the kernel by successive halving on held-out error, within a budget of time, resumable after a kill.

Jamieson and Talwalkar, AISTATS 2016: all candidates are judged on a quarter of the frames with a quarter of the sparse
points, the best 40 % on half, and of those again on all. A candidate's score is the held-out error over the folds of
its own fit; noise and signal levels are searched in each. No test frame takes part.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.base import clone

from gapkit.checkpoints import differences
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, GapkitWarning, NumericsError, SettingsError
from gapkit.fingerprints import run_fingerprint
from gapkit.fitting.default_terms import default_terms
from gapkit.model_selection.learning_curves import nested_subsets
from gapkit.models.levels import kind_of
from gapkit.models.terms import Term, term_from_settings
from gapkit.safe_write import replacing
from gapkit.structures.labels import LabelledFrame, labelled_frames

#: share of frames and of sparse points in each round; the survivors of a round are this share of its candidates
ROUNDS, SURVIVORS = (0.25, 0.5, 1.0), 0.4
#: what is varied about the default: factors of the cutoff, (n_max, l_max), sigma (A), zeta
CUTOFFS, RESOLUTIONS, WIDTHS, POWERS = (1.0, 0.85, 1.1), ((8, 6), (10, 8)), (0.5, 0.4), (4, 2)


@dataclass(frozen=True)
class Candidate:
    """Terms of a model, as tables of settings (``Term.settings``), and a name for tables."""

    name: str
    terms: tuple[Mapping[str, Any], ...]

    def made(self, share: float = 1.0) -> list[Term]:
        """The terms, with this share of the sparse points of all but pair terms."""
        made = [term_from_settings(t) for t in self.terms]
        return [t if t.descriptor.of_pairs else replace(t, n_sparse=max(20, round(share * t.n_sparse))) for t in made]

    @property
    def key(self) -> str:
        """Short name of the candidate, made from its settings."""
        return hashlib.sha256(json.dumps(self.terms, sort_keys=True, default=dict).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """Result of one candidate in one round.

    Attributes
    ----------
    score : float
        Sum of the logarithms of the held-out root-mean-square errors of energies and forces; inf for a failed fit.
    energy, force : float or None
        These errors: meV per square root of atoms, and eV/A.
    seconds : float
    """

    candidate: str
    key: str
    round: int
    score: float
    energy: float | None
    force: float | None
    seconds: float


@dataclass
class Tuning:
    """Result of a search over settings; prints as a table.

    Attributes
    ----------
    trials : list of Trial
    best : Candidate
        Candidate of the least score in the last finished round.
    complete : bool
        Whether all rounds fitted into the budget.
    """

    best: Candidate
    trials: list[Trial] = field(default_factory=list)
    complete: bool = False

    def __str__(self) -> str:
        lines = [f"{'round':>5} {'candidate':<40} {'score':>9} {'energy':>9} {'force':>9} {'time':>7}"]
        lines.append(f"{'':>5} {'':<40} {'':>9} {'meV':>9} {'eV/A':>9} {'s':>7}")
        for t in sorted(self.trials, key=lambda t: (t.round, t.score)):
            energy = "-" if t.energy is None else f"{t.energy:.3f}"
            force = "-" if t.force is None else f"{t.force:.4f}"
            lines.append(
                f"{t.round + 1:>5} {t.candidate:<40.40} {t.score:>9.4f} {energy:>9} {force:>9} {t.seconds:>7.1f}"
            )
        return "\n".join([*lines, f"best: {self.best.name}{'' if self.complete else ' (budget spent before the end)'}"])


def bonded_frames(frames: Sequence[Atoms]) -> list[Atoms]:
    """Frames that are no isolated atoms."""
    return [a for a in frames if len(a) > 1 or a.pbc.any()]


def _sample_terms(frames: Sequence[Atoms], gap: GAP, fast: bool) -> tuple[Term, ...]:
    bonded = bonded_frames(frames)
    if not bonded:
        raise DataError("all frames are isolated atoms: there is nothing to learn; add bonded frames")
    labelled = _labelled(frames, gap)
    n_labels = sum(
        (f.energy is not None) + (f.forces is not None) * 3 * f.n_atoms + (f.virial is not None) * 6 for f in labelled
    )
    species = {int(z) for a in bonded for z in a.numbers}
    return default_terms(bonded[:: max(1, len(bonded) // 200)], n_labels, len(species), fast)


def _labelled(frames: Sequence[Atoms], gap: GAP) -> list[LabelledFrame]:
    return labelled_frames(list(frames), gap.energy_key, gap.forces_key, gap.virial_key, require_labels=False)


def fast_terms(frames: Sequence[Atoms], gap: GAP | None = None) -> tuple[Term, ...]:
    """Terms of a fit in seconds: a coarser SOAP with few sparse points (``gapkit fit --fast``)."""
    return _sample_terms(frames, gap if gap is not None else GAP(), fast=True)


def candidates(frames: Sequence[Atoms], gap: GAP | None = None) -> list[Candidate]:
    """Candidates of a search: the default terms, then variations of cutoff, resolution, density width and zeta."""
    pair, soap = _sample_terms(frames, gap if gap is not None else GAP(), fast=False)
    made = []
    settings = soap.settings()
    first = (1.0, (settings["n_max"], settings["l_max"]), settings["sigma"], settings["zeta"])
    grid = [first, *(c for c in itertools.product(CUTOFFS, RESOLUTIONS, WIDTHS, POWERS) if c != first)]
    # fewest changes from the default first: what a small budget reaches is the likeliest
    grid.sort(key=lambda c: sum(a != b for a, b in zip(c, first, strict=True)))
    for factor, (n_max, l_max), sigma, zeta in grid:
        r_cut = round(factor * settings["r_cut"], 1)
        changed = {**settings, "r_cut": r_cut, "n_max": n_max, "l_max": l_max, "sigma": sigma, "zeta": zeta}
        name = f"r_cut {r_cut} n_max {n_max} l_max {l_max} sigma {sigma} zeta {zeta}"
        made.append(Candidate(name, (pair.settings(), changed)))
    return made


def tune(
    gap: GAP,
    frames: Sequence[Atoms],
    minutes: float = 10.0,
    choices: Sequence[Candidate] | None = None,
    state: str | os.PathLike | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> tuple[GAP, Tuning]:
    """Search over kernel shapes, then fit the best to all frames.

    Parameters
    ----------
    gap
        Everything but the terms; it stays as it is.
    minutes
        Time after which no further candidate is begun; the final fit comes on top. A round that the budget cuts
        short does not count.
    choices
        Candidates; default: :func:`candidates`.
    state
        File in which finished trials are kept (JSON): a search that was killed goes on from it. Trials of other
        candidates in it do not count. Those of other frames, labels, parameters or versions do not either, are replaced
        by new ones, and a warning says what differs.
    callback
        Called with every finished trial, those of ``state`` excepted.

    Returns
    -------
    gap
        A clone fitted with the best terms.
    tuning
        Table of what was tried.
    """
    if not (np.isfinite(minutes) and minutes > 0):
        raise SettingsError(f"a budget must be a positive number of minutes, not {minutes!r}")
    frames = list(frames)
    left = list(candidates(frames, gap) if choices is None else choices)
    if not left:
        raise SettingsError("give at least one candidate")
    run = _fingerprint(gap, frames) if state is not None else {}
    known = _read_state(state, run)
    tuning, end = Tuning(best=left[0]), time.monotonic() + 60 * minutes
    isolated = [len(a) == 1 and not a.pbc.any() for a in frames]
    labels = [None if alone else str(a.info.get("config_type")) for a, alone in zip(frames, isolated, strict=True)]
    n = sum(not alone for alone in isolated)
    subsets = nested_subsets(labels, [max(2, round(share * n)) for share in ROUNDS])
    for number, (share, subset) in enumerate(zip(ROUNDS, subsets, strict=True)):
        scored: list[tuple[float, int]] = []
        for place, candidate in enumerate(left):
            trial = known.get((candidate.key, number))
            if trial is None:
                if time.monotonic() >= end and (number, place) != (0, 0):
                    return clone(gap).set_params(terms=tuning.best.made()).fit(frames), tuning
                trial = _evaluate(gap, candidate, number, share, [frames[k] for k in subset])
                known[candidate.key, number] = trial
                _write_state(state, run, known)
                if callback is not None:
                    callback(trial)
            tuning.trials.append(trial)
            scored.append((trial.score, place))
        scored.sort()
        tuning.best = left[scored[0][1]]
        left = [left[place] for _, place in scored[: max(1, round(SURVIVORS * len(left)))]]
        if len(left) == 1:
            break
    tuning.complete = True
    return clone(gap).set_params(terms=tuning.best.made()).fit(frames), tuning


def _evaluate(gap: GAP, candidate: Candidate, number: int, share: float, frames: list[Atoms]) -> Trial:
    """Fit a candidate and score it by the held-out errors of its own folds."""
    begin = time.monotonic()
    try:
        model = clone(gap).set_params(terms=candidate.made(share)).fit(frames)
        energy, force = (held_out_error(model, kind) for kind in ("energy", "forces"))
    except NumericsError:
        energy = force = None
    known = [error for error in (energy, force) if error is not None]
    score = float(np.sum(np.log(known))) if known else float("inf")
    return Trial(
        candidate.name, candidate.key, number, score, None if energy is None else 1e3 * energy, force,
        time.monotonic() - begin,
    )  # fmt: skip


def held_out_error(gap: GAP, kind: str) -> float | None:
    """Held-out root-mean-square error of a label kind over all its noise groups; None where nothing was held out.

    eV per square root of atoms (energy, virial), eV/A (forces).
    """
    groups = gap.potential_.calibration.groups
    of_kind = {g: c.held_out_rmse for g, c in groups.items() if kind_of(g) == kind and np.isfinite(c.held_out_rmse)}
    if not of_kind:
        return None
    fit = gap._fit
    weight = {g: 1 if fit is None else fit.triangles.count(g) for g in of_kind}
    return float(np.sqrt(sum(weight[g] * of_kind[g] ** 2 for g in of_kind) / sum(weight.values())))


def _fingerprint(gap: GAP, frames: Sequence[Atoms]) -> dict[str, Any]:
    """All that the score of a candidate depends on, but for the candidate."""
    settings = {name: value for name, value in gap.get_params(deep=False).items() if name != "terms"}
    return run_fingerprint(_labelled(frames, gap), settings)


def _read_state(state: str | os.PathLike | None, run: Mapping[str, Any]) -> dict[tuple[str, int], Trial]:
    """Finished trials of an earlier search with the same frames, labels and parameters."""
    if state is None or not Path(state).is_file():
        return {}
    try:
        table = json.loads(Path(state).read_text(encoding="utf-8"))
        trials = [Trial(**t) for t in table["trials"]]
        differ = differences(dict(table.get("run", {})), run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SettingsError(f"{state}: is no record of a search; remove it or name another file") from None
    if differ:
        warnings.warn(
            f"{state}: its trials do not count, because they were made with other {', '.join(differ)}; they are made "
            "again and replaced: to keep them, give another file",
            GapkitWarning,
            stacklevel=3,
        )
        return {}
    return {(t.key, t.round): t for t in trials}


def _write_state(
    state: str | os.PathLike | None, run: Mapping[str, Any], known: Mapping[tuple[str, int], Trial]
) -> None:
    if state is None:
        return
    table = {"run": run, "trials": [asdict(t) for t in known.values()]}
    with replacing(state) as temporary:
        temporary.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
