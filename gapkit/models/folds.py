"""Cutting frames into folds so that near-copies stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def cluster_folds(
    fingerprints: np.ndarray, strata: Sequence[str], trajectories: Sequence[str | None], n_folds: int
) -> np.ndarray:
    """Fold of each frame, from what the frames are, not from their order.

    Frames that name a trajectory stay together. The others are cut, within their stratum (config_type and
    composition), into leaves of similar frames by repeated bisection along the principal direction of their
    fingerprints; whole leaves and trajectories are dealt to the folds, the largest first, so that neighbouring frames
    of a molecular-dynamics run mostly share a fold.

    Parameters
    ----------
    fingerprints : (n, f)
        A vector per frame that is near for near-copies (mean descriptor).
    strata : (n,)
        Label of each frame's stratum.
    trajectories : (n,)
        Name of each frame's trajectory, or None.
    n_folds
        Number of folds; fewer are made where there are fewer groups.

    Returns
    -------
    folds : (n,) int
    """
    groups: list[np.ndarray] = []
    named = np.array([t is not None for t in trajectories])
    for name in sorted({t for t in trajectories if t is not None}):
        groups.append(np.array([k for k, t in enumerate(trajectories) if t == name]))
    labels = np.array([str(s) for s in strata])
    for stratum in sorted(set(labels)):
        members = np.flatnonzero((labels == stratum) & ~named)
        if len(members):
            largest = max(1, int(np.ceil(len(members) / (2 * n_folds))))
            groups.extend(_bisect(fingerprints, members, largest))
    n_folds = max(1, min(n_folds, len(groups)))
    folds = np.empty(len(labels), dtype=np.int64)
    # per stratum and fold, frames dealt so far: balance each stratum first, then the whole
    strata_index = {s: k for k, s in enumerate(sorted(set(labels)))}
    dealt = np.zeros((len(strata_index), n_folds))
    order = sorted(groups, key=lambda g: (-len(g), tuple(np.round(fingerprints[g].mean(axis=0)[:8], 9))))
    for group in order:
        row = strata_index[labels[group[0]]]
        load = dealt[row] + 1e-3 * dealt.sum(axis=0)
        fold = int(np.argmin(load))
        folds[group] = fold
        for k in group:
            dealt[strata_index[labels[k]], fold] += 1
    return folds


def _bisect(fingerprints: np.ndarray, members: np.ndarray, largest: int) -> list[np.ndarray]:
    """Leaves of at most ``largest`` members, by bisection along the leading principal direction.

    Each cut goes through the widest gap of the middle half, so that near-copies are not separated.
    """
    if len(members) <= largest:
        return [members]
    centred = fingerprints[members] - fingerprints[members].mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    coordinate = centred @ directions[0]
    # the sign of a singular vector is arbitrary: fix it by the skew of the coordinates
    if np.sum(coordinate**3) < 0:
        coordinate = -coordinate
    ranked = np.argsort(coordinate, kind="stable")
    order = members[ranked]
    low, high = max(1, len(order) // 4), max(2, len(order) - len(order) // 4)
    half = low + int(np.argmax(np.diff(coordinate[ranked])[low - 1 : high - 1]))
    return _bisect(fingerprints, order[:half], largest) + _bisect(fingerprints, order[half:], largest)
