"""Memory and time of a fit, estimated before the long work begins."""

from __future__ import annotations

from typing import Any

from gapkit.checks import is_number
from gapkit.exceptions import SettingsError
from gapkit.fitting.exact_mean import cost
from gapkit.fitting.level_choice import LAST_BYTES, LAST_COLUMNS, SEARCH_COLUMNS, WORTH_LAST
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.numerics.memory import MemoryLimit, memory_limit

#: evaluations of the objective that the last stage of the level search takes, about
LAST_EVALUATIONS = 30


def checked_memory(memory: Any) -> float | None:
    """Memory (GB) that a fit may plan for, if it is None or a positive number; infinity is one."""
    if memory is None or memory == float("inf") or (is_number(memory) and memory > 0):
        return memory
    raise SettingsError(f"memory must be a positive number (GB), or None for what there is, not {memory!r:.80}")


def check_memory(needed: float, m: int, exact: bool, memory: float | None = None) -> None:
    """Refuse a fit that needs more memory than it may have.

    Parameters
    ----------
    needed
        Memory (GB) that the fit needs, about.
    m
        Sparse points.
    exact
        Whether the mean is made of all labels, whose matrix then takes the most.
    memory
        Memory (GB) that it may have; None: :func:`gapkit.numerics.memory.memory_limit`.

    Raises
    ------
    SettingsError
        With the remedy.
    """
    limit = memory_limit() if memory is None else MemoryLimit(1e9 * memory, "memory= allows")
    if limit is None or needed <= 1e-9 * limit.size:
        return
    fewer = "exact=False" if exact else f"fewer sparse points, for example sparse={max(1, m // 2)}"
    raise SettingsError(
        f"the fit needs about {needed:.3g} GB, more than {limit.source} ({1e-9 * limit.size:.3g} GB); use {fewer}, or "
        f"try all the same with fit(memory={1.01 * needed:.3g}) or gapkit fit --memory {1.01 * needed:.3g}"
    )


def plan_line(
    data: TrainingSet,
    basis: SparseBasis,
    n_folds: int,
    n_threads: int,
    exact: bool = False,
    n_separate: int = 0,
    allowed: float | None = None,
) -> str:
    """One line before the long work: rows, sparse points, memory, time; ``n_separate`` noise groups beyond the kinds.

    A fit that needs more memory than ``allowed`` (GB; None: what there is) is refused (:func:`check_memory`).
    """
    m, n_folds = basis.n_columns, min(n_folds, len(data.frames))
    rows = data.n_rows
    kinds = sum(any(getattr(t, k) is not None for t in data.targets) for k in ("energy", "forces", "virial"))
    memory = max(planned_memory(rows, m, kinds * n_folds), search_memory(rows, m, kinds + n_separate, n_folds))
    more, longer = cost(data) if exact else (0.0, 0.0)
    memory += more
    check_memory(memory, m, more > 0.5 * memory, allowed)
    atoms = sum(t.n_atoms for t in data.targets)
    features = max(b.points.shape[1] for b in basis.blocks)
    columns = min(130.0, 3.0 * atoms / len(data.frames) + 6.0)
    per_channel = m / len({b.channel for b in basis.blocks if b.points.shape[1] == features})
    flops = atoms * 2.0 * columns * features * per_channel + 6.0 * rows * m * m + 12 * n_folds * m**3
    seconds = flops / (18e9 * n_threads) + 40 * n_folds * min(m, SEARCH_COLUMNS) ** 3 / 20e9 + 5
    if m > WORTH_LAST * SEARCH_COLUMNS:
        seconds += LAST_EVALUATIONS * n_folds * min(m, LAST_COLUMNS) ** 3 / 6e10
    seconds += longer / n_threads
    return (
        f"gapkit: {rows} labels of {len(data.frames)} frames ({atoms} atoms), {m} sparse points"
        f"{', the mean by every label' if exact else ''}, "
        f"about {memory:.1f} GB and {seconds:.0f} s"
    )


def planned_memory(rows: int, m: int, triangles: int) -> float:
    """Peak memory (GB), about, of a fit with m columns: triangles (at most as many rows as there are labels) with two
    copies on the way, and Gram matrices."""
    return 8e-9 * m * (3 * min(rows, triangles * m) + 9 * m) + 0.3


def search_memory(rows: int, m: int, groups: int, n_folds: int) -> float:
    """Memory (GB), about, of the last stage of the level search: triangles, Gram matrices, factors."""
    searched = min(m, LAST_COLUMNS)
    grams = min(LAST_BYTES, 4.0 * groups * (n_folds + 1) * searched**2)
    return 1e-9 * (8.0 * m * min(rows, groups * n_folds * m) + grams + 8.0 * (n_folds + 3) * searched**2) + 0.3
