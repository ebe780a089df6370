"""Cutting frames into folds so that near-copies stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: differences of coordinates below this share of the largest are rounding: frames and gaps are equal
EQUAL = 1e-6


def cluster_folds(
    fingerprints: np.ndarray, strata: Sequence[str], trajectories: Sequence[str | None], n_folds: int
) -> np.ndarray:
    """Fold of each frame, from the content of the frames and not from their order.

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
    order = sorted(groups, key=lambda g: (-len(g), tuple(float(f"{x:.7g}") for x in fingerprints[g].mean(axis=0)[:8])))
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

    Each cut goes through the widest gap of the middle half, so that near-copies are not separated. Of gaps that are
    equal but for rounding it is the one nearest to the middle.
    """
    if len(members) <= largest:
        return [members]
    centred = fingerprints[members] - fingerprints[members].mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    coordinate = centred @ directions[0]
    # the sign of a singular vector is arbitrary: the member farthest out is on the positive side, the first of equals
    far = np.abs(coordinate)
    if coordinate[np.argmax(far > (1 - EQUAL) * far.max())] < 0:
        coordinate = -coordinate
    ranked = np.argsort(_stepwise(coordinate), kind="stable")
    order = members[ranked]
    low, high = max(1, len(order) // 4), max(2, len(order) - len(order) // 4)
    gaps = np.diff(coordinate[ranked])[low - 1 : high - 1]
    middle = np.abs(np.arange(low, high) - 0.5 * len(order))
    widest = gaps >= gaps.max() - EQUAL * far.max()
    half = low + int(np.flatnonzero(widest)[np.argmin(middle[widest])])
    return _bisect(fingerprints, order[:half], largest) + _bisect(fingerprints, order[half:], largest)


def _stepwise(coordinate: np.ndarray) -> np.ndarray:
    """Ranks (n,) of coordinates, where those that differ by rounding share one and keep the order of the members."""
    ranked = np.argsort(coordinate, kind="stable")
    steps = np.diff(coordinate[ranked]) > EQUAL * np.abs(coordinate).max()
    ranks = np.empty(len(coordinate), dtype=np.int64)
    ranks[ranked] = np.concatenate([[0], np.cumsum(steps)])
    return ranks
