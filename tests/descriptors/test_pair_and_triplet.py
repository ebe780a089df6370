"""Pair distance and triplet: values by brute force, derivatives by finite differences."""

import itertools

import numpy as np
import pytest
from ase.neighborlist import neighbor_list

from gapkit.descriptors import PairDistance, Triplet
from gapkit.descriptors.base import smooth_cutoff
from gapkit.exceptions import SettingsError
from gapkit.structures.structure import Structure
from gapkit.testing import check_descriptor
from tests.numerical import random_cluster, skewed_crystal

RNG = np.random.default_rng(5)
FRAMES = [random_cluster("SiOSiOC", RNG), skewed_crystal("SiOSi", RNG)]
DESCRIPTORS = [PairDistance(r_cut=3.6, cutoff_width=0.8), Triplet(r_cut=3.4, cutoff_width=0.8)]


def batch_of(descriptor, frame, channel, **kwargs):
    return descriptor.environments(Structure(frame, descriptor.r_cut), channel, **kwargs)


def rows(table):
    """Rows in an order of their own, so that two lists can be compared."""
    return table[np.lexsort(np.round(table.T, 9))]


@pytest.mark.parametrize("frame", FRAMES, ids=["cluster", "small skewed cell"])
def test_pairs_by_ase_neighbour_list(frame):
    descriptor = DESCRIPTORS[0].for_species([6, 8, 14])
    i, j, d = neighbor_list("ijd", frame, 3.6)
    z = frame.numbers
    seen = 0
    for a, b in descriptor.channels:
        batch = batch_of(descriptor, frame, (a, b))
        mine = ((z[i] == a) & (z[j] == b)) | ((z[i] == b) & (z[j] == a))
        weight = 0.5 * smooth_cutoff(d[mine], 3.6, 0.8)[0]
        expected = rows(np.column_stack([d[mine], weight, i[mine]]))
        np.testing.assert_allclose(
            rows(np.column_stack([batch.x[:, 0], batch.weight, batch.atom])), expected, atol=1e-9
        )
        seen += len(batch)
    assert seen == len(d) > 0


@pytest.mark.parametrize("frame", FRAMES, ids=["cluster", "small skewed cell"])
def test_triplets_by_ase_neighbour_list(frame):
    descriptor = DESCRIPTORS[1].for_species([6, 8, 14])
    i, j, D = neighbor_list("ijD", frame, 3.4)
    z = frame.numbers
    for channel in descriptor.channels:
        expected = []
        for a in range(len(frame)):
            for p, q in itertools.combinations(np.flatnonzero(i == a), 2):
                if (z[a], *sorted((z[j[p]], z[j[q]]))) == channel:
                    r1, r2 = np.linalg.norm(D[p]), np.linalg.norm(D[q])
                    w = smooth_cutoff(r1, 3.4, 0.8)[0] * smooth_cutoff(r2, 3.4, 0.8)[0]
                    expected.append([r1 + r2, (r1 - r2) ** 2, np.linalg.norm(D[p] - D[q]), w, a])
        batch = batch_of(descriptor, frame, channel)
        assert len(batch) == len(expected)
        if expected:
            got = np.column_stack([batch.x, batch.weight, batch.atom])
            np.testing.assert_allclose(rows(got), rows(np.array(expected)), atol=1e-8)


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=["pair", "triplet"])
def test_derivatives_equal_finite_differences(descriptor):
    """And all else that models ask of a descriptor."""
    check_descriptor(descriptor, FRAMES)


def test_cutoff_is_smooth_and_ends():
    r = np.array([2.0, 2.8, 3.2, 3.6, 4.0])
    value, slope = smooth_cutoff(r, 3.6, 0.8)
    np.testing.assert_allclose(value, [1, 1, 0.5, 0, 0], atol=1e-14)
    np.testing.assert_allclose(slope, [0, 0, -30 / 16 / 0.8, 0, 0], atol=1e-12)


@pytest.mark.parametrize("kind", [PairDistance, Triplet])
@pytest.mark.parametrize("r_cut", [0.1, -1.0, np.inf, np.nan])
def test_cutoffs_that_cannot_work_are_refused(kind, r_cut):
    with pytest.raises(SettingsError, match="r_cut"):
        kind(r_cut=r_cut)
