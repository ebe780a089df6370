"""Folds: by content, not by order."""

import numpy as np

from gapkit.models.folds import cluster_folds


def frames(seed=0, n=60):
    """Fingerprints of twelve clusters of five near-copies each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(scale=5.0, size=(n // 5, 8))
    return np.repeat(centres, 5, axis=0) + rng.normal(scale=1e-3, size=(n, 8)), np.repeat(np.arange(n // 5), 5)


def test_near_copies_stay_together_mostly_and_folds_are_even():
    x, cluster = frames()
    folds = cluster_folds(x, ["a"] * 60, [None] * 60, 5)
    assert sorted(np.unique(folds)) == [0, 1, 2, 3, 4]
    assert np.bincount(folds).min() >= 6
    alone = np.mean([len(set(folds[cluster == c])) == 1 for c in range(12)])
    assert alone > 0.6


def test_order_of_frames_does_not_matter():
    x, _ = frames(1)
    order = np.random.default_rng(3).permutation(60)
    first = cluster_folds(x, ["a"] * 30 + ["b"] * 30, [None] * 60, 4)
    strata = np.array(["a"] * 30 + ["b"] * 30)[order]
    second = cluster_folds(x[order], strata, [None] * 60, 4)
    np.testing.assert_array_equal(first[order], second)


def test_trajectories_are_never_cut():
    x, _ = frames(2)
    names = [f"t{k // 7}" for k in range(42)] + [None] * 18
    folds = cluster_folds(x, ["a"] * 60, names, 5)
    for name in set(names[:42]):
        assert len({folds[k] for k in range(60) if names[k] == name}) == 1


def test_few_frames_make_few_folds():
    x = np.random.default_rng(0).normal(size=(3, 8))
    assert set(cluster_folds(x, ["a"] * 3, [None] * 3, 5)) == {0, 1, 2}
    assert set(cluster_folds(x[:1], ["a"], [None], 5)) == {0}
