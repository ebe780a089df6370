"""Choices before the fit that last digits must not make: the order of frames, their folds, the first sparse points."""

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.fitting.candidates import Reservoir, _choose
from gapkit.fitting.training_set import in_order, training_set
from gapkit.model_selection.last_digits import noisy_copies
from gapkit.models.folds import cluster_folds
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames


def strained_crystals():
    """A crystal strained along each axis and sheared in each plane: equal sizes and energies but for last digits."""
    frames = []
    for k in range(6):
        strain = np.eye(3)
        if k < 3:
            strain[k, k] += 0.02
        else:
            strain[k % 3, (k + 1) % 3] += 0.02
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def places(frames):
    data = in_order(training_set(labelled_frames(frames, None, None, None, True), "auto", None))
    return [frame.index for frame in data.frames]


@pytest.mark.parametrize("seed", range(5))
def test_noise_permutes_no_frames(seed):
    frames = [*copper_frames(12, seed=3), *strained_crystals()]
    assert places(noisy_copies(frames, gapkit.GAP(), np.random.default_rng(seed))) == places(frames)


def test_the_order_given_does_not_matter():
    frames = [*copper_frames(12, seed=3), *strained_crystals()]
    shuffled = np.random.default_rng(0).permutation(len(frames))
    assert [shuffled[k] for k in places([frames[k] for k in shuffled])] == places(frames)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_no_frame_to_another_fold(seed):
    """Scans at equal steps, to both sides alike, and copies: gaps, skews and coordinates all tie."""
    rng = np.random.default_rng(0)
    steps = np.repeat(np.linspace(-1.0, 1.0, 21), 2)
    scan = steps[:, None] * rng.normal(size=8) + rng.normal(size=8)
    strata, trajectories = ["a"] * len(scan), [None] * len(scan)
    noisy = scan * (1 + 1e-12 * np.random.default_rng(seed).normal(size=scan.shape))
    before, after = (cluster_folds(x, strata, trajectories, 4) for x in (scan, noisy))
    np.testing.assert_array_equal(before, after)
    assert len(set(before.tolist())) == 4
    assert np.all(before[::2] == before[1::2])  # copies share a fold


@pytest.mark.parametrize("seed", range(3))
def test_noise_chooses_no_points(seed):
    """Distances of pairs: a smooth kernel has no more than two dozen directions above rounding."""
    term = gapkit.Term(gapkit.PairDistance(r_cut=6.0), gapkit.SquaredExponential(0.6), n_sparse=30)
    x = np.random.default_rng(1).uniform(2.0, 6.0, size=(4000, 1))
    noisy = x * (1 + 1e-12 * np.random.default_rng(seed).normal(size=x.shape))
    before, after = (chosen(points, term) for points in (x, noisy))
    np.testing.assert_allclose(after, before, rtol=1e-9)
    assert 10 < len(before) < 30


def chosen(points, term):
    reservoir = Reservoir(len(points), np.random.default_rng(0))
    reservoir.add(points)
    return _choose({"": reservoir}, term, term.n_sparse, np.random.default_rng(0))
