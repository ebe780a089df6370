"""Leaving out terms whose signal vanished in the search for levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gapkit.models.basis import SparseBasis
from gapkit.models.levels import LevelObjective, Levels
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangle, Triangles

#: a term has vanished where its signal fell below this share of its start, and ...
VANISHED = 0.05
#: ... leaving it out changes the objective (a logarithm of errors) by less than this
HARMLESS = 1e-3


def vanished_terms(objective: LevelObjective, levels: Levels) -> tuple[int, ...]:
    """Free terms without which the objective is as good; never all terms that have columns, the strongest stays."""
    candidates = [t for t in objective.free_signal if levels.signal[t] < VANISHED * objective.start.signal[t]]
    candidates.sort(key=lambda t: levels.signal[t])
    dropped: list[int] = []
    signal = np.array(levels.signal, dtype=float)
    reference = _value(objective, levels)
    columns = set(objective.column_terms.tolist())
    for t in candidates:
        if columns <= {*dropped, t}:
            continue
        fainter = signal.copy()
        fainter[t] *= 1e-3
        if _value(objective, Levels(levels.noise, fainter)) < reference + HARMLESS:
            signal = fainter
            dropped.append(t)
    return tuple(sorted(dropped))


def _value(objective: LevelObjective, levels: Levels) -> float:
    """The objective without the prior of the levels, which would hold a signal up; inf where it cannot be solved."""
    try:
        return objective.evaluate(levels)[0]
    except np.linalg.LinAlgError:
        return float("inf")


def without_terms(
    basis: SparseBasis, triangles: Triangles, levels: Levels, terms: Sequence[Term], dropped: Sequence[int]
) -> tuple[SparseBasis, Triangles, Levels, tuple[Term, ...]]:
    """The model of the other terms: their columns of the triangles, exactly as if it had been made without these."""
    kept = [t for t in range(len(terms)) if t not in set(dropped)]
    columns = np.flatnonzero(np.isin(basis.column_terms(), kept))
    blocks = [replace(b, term=kept.index(b.term)) for b in basis.blocks if b.term in kept]
    selected = triangles.select(columns)
    fewer = Triangles(len(columns), len(kept))
    fewer.items = {key: Triangle(t.R, t.n_rows, t.log_scale, t.prior[kept]) for key, t in selected.items.items()}
    kept_levels = Levels(levels.noise, np.asarray(levels.signal)[kept], levels.objective)
    return SparseBasis.of_blocks(blocks, len(kept)), fewer, kept_levels, tuple(terms[t] for t in kept)


def summary_without(summary: dict[str, Any], terms: Sequence[Term]) -> dict[str, Any]:
    """Record of the levels for the terms that stay, renumbered; the others are named in ``dropped_terms``."""
    changed = dict(summary)
    dropped = changed.pop("vanished")
    kept = [t for t in range(len(terms)) if t not in dropped]
    if "signal_errors" in summary:
        errors = summary["signal_errors"]
        changed["signal_errors"] = {str(new): errors[str(old)] for new, old in enumerate(kept) if str(old) in errors}
    changed["dropped_terms"] = [_name(terms[t]) for t in dropped]
    return changed


def _name(term: Term) -> str:
    settings = term.settings()
    return f"{settings['name']} (r_cut {settings['r_cut']} A)"
