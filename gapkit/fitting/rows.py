"""Triangles of all frames: rows are made a batch at a time, whitened, reduced and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gapkit.exceptions import DataError
from gapkit.fitting.level_choice import EnergySample
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.leave_one_out import KeptRows
from gapkit.models.levels import kind_of
from gapkit.models.observations import Observations, Targets, observations
from gapkit.models.triangles import Triangles
from gapkit.numerics.threads import blas_threads, map_blocks
from gapkit.structures.structure import Structure

#: labels per batch of rows at most: enough for the matrix products, and no more memory for many sparse points
LARGEST_BATCH = 4000


def accumulate_rows(
    triangles: Triangles,
    data: TrainingSet,
    basis: SparseBasis,
    folds: np.ndarray,
    separate_groups: Sequence[str],
    n_threads: int,
    progress_bar: Callable[..., Any],
    sample: EnergySample | KeptRows | None = None,
    variances: bool = True,
) -> TrainingSet:
    """Make, whiten and reduce the rows of all frames, a batch at a time; ``sample`` keeps some rows.

    Without ``variances`` the prior variances of the rows are left out (zero): held-out errors do not need them.

    Returns
    -------
    TrainingSet
        The same, where forces that are fixed by symmetry count as no labels.

    Raises
    ------
    DataError
        Where every label is fixed by symmetry.
    """
    learned = list(data.targets)

    def frame_rows(n: int):
        targets = data.targets[n]
        structure = Structure(data.frames[n].atoms, basis.r_cut)
        rows = basis.rows(structure, derivatives=targets.derivatives, prior=variances)
        return list(observations(targets, rows, separate_groups, variances))

    progress = progress_bar(total=len(data.frames), desc="covariances", unit="frame")
    for batch in _batches(data.targets, min(max(2000, basis.n_columns), LARGEST_BATCH)):
        made = map_blocks(frame_rows, batch, n_threads)
        flat = [(n, o) for n, per_frame in zip(batch, made, strict=True) for o in per_frame]
        progress.update(len(batch))
        for n, per_frame in zip(batch, made, strict=True):
            learned[n] = _without_fixed(learned[n], per_frame)
        if not flat:
            continue  # all labels of these frames are fixed by symmetry
        with blas_threads(n_threads, basis.n_columns):
            A = basis.whiten(np.vstack([o.K for _, o in flat]))
            begin = 0
            for n, o in flat:
                part = A[begin : begin + len(o.y)]
                begin += len(o.y)
                log_scale = len(o.y) * float(np.log(o.scale))
                triangles.update(part, o.y, o.prior, o.group, int(folds[n]), log_scale)
                if sample is not None:
                    sample.offer(o, part, int(folds[n]), n)
    progress.close()
    if not triangles.items:
        raise DataError(
            "no label tells anything: all forces and stresses vanish by symmetry; add energies, or frames whose atoms "
            "are displaced"
        )
    return replace(data, targets=tuple(learned))


def _without_fixed(targets: Targets, seen: Sequence[Observations]) -> Targets:
    """Targets whose ``held`` names every force component of which no row was made."""
    if targets.forces is None or targets.isolated:
        return targets
    places = [o.places for o in seen if kind_of(o.group) == "forces" and o.places is not None]
    held = np.ones(targets.forces.size, dtype=bool)
    held[np.concatenate([np.zeros(0, dtype=np.int64), *places])] = False
    return replace(targets, held=held.reshape(-1, 3)) if held.any() else targets


def _batches(targets: Sequence[Targets], rows: int) -> Iterator[list[int]]:
    """Consecutive frames with about ``rows`` labels together."""
    batch: list[int] = []
    held = 0
    for n, t in enumerate(targets):
        batch.append(n)
        held += 3 * t.n_atoms + 7
        if held >= rows:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
