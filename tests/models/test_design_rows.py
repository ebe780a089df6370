"""Covariances of energies, forces and virials: each against finite differences of plainer ones."""

import itertools

import numpy as np
import pytest

from gapkit.descriptors import SOAP, PairDistance, Triplet
from gapkit.descriptors.base import Sums
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.basis import SparseBasis
from gapkit.models.terms import Term, term_from_settings
from gapkit.numerics import design_rows
from gapkit.numerics.threads import limited_threads, map_blocks, thread_count
from tests import systems
from tests.numerical import central_difference, displaced, strained


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(4)


def energy_rows(model, atoms):
    return model.basis.rows(model.basis.structure(atoms), derivatives=False).K[0]


def changes(atoms):
    """(row, function of a step that changes what the row derives by)."""
    n = len(atoms)
    moves = [(1 + 3 * a + x, lambda s, a=a, x=x: displaced(atoms, a, x, s)) for a in range(n) for x in range(3)]
    return moves + [(1 + 3 * n + v, lambda s, v=v: strained(atoms, v, s)) for v in range(6)]


@pytest.mark.parametrize("k", [0, 1], ids=["small skewed cell", "cluster"])
def test_derivative_rows_equal_finite_differences_of_the_energy_row(model, k):
    K = model.basis.rows(model.basis.structure(model.frames[k])).K
    for row, change in changes(model.frames[k]):
        numerical = central_difference(lambda s, change=change: energy_rows(model, change(s)), 2e-4)
        np.testing.assert_allclose(K[row], numerical, atol=3e-7)
    assert np.median(np.abs(K[1:]).max(axis=0)) > 1e-3


def covariance(model, first, second):
    """Prior covariance of two frames' energies per term, by explicit double sums over environments."""
    out = np.zeros(model.basis.n_terms)
    a, b = model.basis.structure(first), model.basis.structure(second)
    for block in model.basis.blocks:
        x = block.descriptor.environments(a, block.channel, derivatives=False)
        y = block.descriptor.environments(b, block.channel, derivatives=False)
        if len(x) and len(y):
            out[block.term] += x.weight @ block.kernel(x.x, y.x) @ y.weight
    return out


@pytest.mark.parametrize("k", [0, 1], ids=["small skewed cell", "cluster"])
def test_prior_variances_equal_mixed_finite_differences(model, k):
    prior = model.basis.rows(model.basis.structure(model.frames[k])).prior
    np.testing.assert_allclose(prior[0], covariance(model, model.frames[k], model.frames[k]), rtol=1e-10)
    h = 2e-3
    for row, change in changes(model.frames[k])[::2]:

        def mixed(h, change=change):
            plus, minus = change(h), change(-h)
            straight = covariance(model, plus, plus) + covariance(model, minus, minus)
            return (straight - 2 * covariance(model, plus, minus)) / (4 * h * h)

        richardson = (4 * mixed(h) - mixed(2 * h)) / 3
        np.testing.assert_allclose(prior[row], richardson, rtol=2e-4, atol=2e-5 * prior[1:].max())
    assert np.all(prior[1:].max(axis=0) > 1e-3)


def test_local_rows_sum_to_the_energy_row(model):
    for atoms in model.frames[:2]:
        structure = model.basis.structure(atoms)
        local = model.basis.local_rows(structure)
        np.testing.assert_allclose(local.K.sum(axis=0), model.basis.rows(structure, derivatives=False).K[0], rtol=1e-12)
        some = model.basis.local_rows(structure, np.array([2, 0]))
        np.testing.assert_allclose(some.K, local.K[[2, 0]], rtol=1e-12)
        np.testing.assert_allclose(some.prior, local.prior[[2, 0]], rtol=1e-12)


def test_forces_of_every_functional_sum_to_zero(model):
    for atoms in model.frames[:2]:
        K = model.basis.rows(model.basis.structure(atoms)).K[1 : 1 + 3 * len(atoms)]
        np.testing.assert_allclose(K.reshape(len(atoms), 3, -1).sum(axis=0), 0, atol=1e-11)


def test_direct_prediction_equals_rows_times_weights(model):
    """The adjoint route (no rows) and the row route are two ways to one number."""
    alpha = np.random.default_rng(0).normal(size=model.basis.n_columns)
    for atoms in model.frames:
        structure, n = model.basis.structure(atoms), len(atoms)
        sums = Sums.zeros(n)
        for descriptor, channel, predictor in model.basis.predictors(alpha):
            descriptor.add_prediction(structure, channel, predictor, sums)
        expected = model.basis.rows(structure).K @ alpha
        np.testing.assert_allclose(sums.local, model.basis.local_rows(structure).K @ alpha, rtol=1e-10)
        np.testing.assert_allclose(sums.gradient.ravel(), expected[1 : 1 + 3 * n], atol=1e-10)
        np.testing.assert_allclose(sums.strain.sum(axis=0), expected[1 + 3 * n :], atol=1e-9)


def test_whitening_makes_the_sparse_points_own_rows_orthonormal_in_the_prior(model):
    b = model.basis.blocks[-1]
    K_mm = b.kernel(b.points)
    A = np.linalg.solve(b.factor, K_mm).T
    np.testing.assert_allclose(A @ A.T, K_mm, atol=1e-9)
    alpha = np.random.default_rng(1).normal(size=model.basis.n_columns)
    K = model.basis.rows(model.basis.structure(model.frames[0])).K
    w = np.concatenate([c.factor.T @ alpha[c.columns] for c in model.basis.blocks])
    np.testing.assert_allclose(model.basis.whiten(K) @ w, K @ alpha, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(model.basis.unwhiten(w), alpha, rtol=1e-6)


def test_energy_variance_in_blocks_equals_the_dense_sum(model):
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(600, 3)), rng.normal(size=600)
    y, v = rng.normal(size=(40, 3)), rng.normal(size=40)
    kernel = model.basis.blocks[0].kernel
    xs, ys = np.ascontiguousarray(kernel.scale(x)), np.ascontiguousarray(kernel.scale(y))
    got = design_rows.energy_variance(xs, w, ys, v, kernel.function, kernel.parameter, kernel.centred)
    assert got == pytest.approx(w @ kernel(x, y) @ v, rel=1e-10)
    assert abs(got) > 1e-3


def test_blocks_of_work_keep_their_order_on_threads():
    assert map_blocks(lambda k: k * k, range(20), 2) == [k * k for k in range(20)]
    assert thread_count(1) == 1
    assert thread_count(-1) >= 1


def test_a_pool_inside_a_pool_does_not_stand_still():
    done = map_blocks(lambda k: sum(map_blocks(lambda j: j * k, range(4), 2)), range(4), 2)
    assert done == [0, 6, 12, 18]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_thread_limits_reach_what_is_called_inside(n_jobs, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    with limited_threads(n_jobs):
        assert thread_count() == n_jobs
        with limited_threads(None):
            assert thread_count() == n_jobs


PAIRS_OF_KINDS = list(
    itertools.product(
        [PairDistance(3.6, 0.8), Triplet(3.0, 0.8), SOAP(r_cut=3.8, n_max=3, l_max=2)],
        [DotProduct(2), SquaredExponential(0.9)],
    )
)


@pytest.mark.parametrize(("descriptor", "kernel"), PAIRS_OF_KINDS)
def test_any_descriptor_takes_any_kernel(model, descriptor, kernel):
    descriptor = descriptor.for_species([8, 14])
    structure = model.basis.structure(model.frames[0])
    chosen = []
    for channel in descriptor.channels:
        x = descriptor.environments(structure, channel, derivatives=False).x
        if len(x):
            chosen.append((0, descriptor, kernel, channel, x[:2]))
    basis = SparseBasis.build(chosen, 1)
    alpha, n = np.random.default_rng(0).normal(size=basis.n_columns), len(model.frames[0])
    structure = basis.structure(model.frames[0])
    sums = Sums.zeros(n)
    for descriptor, channel, predictor in basis.predictors(alpha):
        descriptor.add_prediction(structure, channel, predictor, sums)
    expected = basis.rows(structure).K @ alpha
    scale = np.abs(expected).max()
    assert sums.local.sum() == pytest.approx(expected[0], rel=1e-9)
    np.testing.assert_allclose(sums.gradient.ravel(), expected[1 : 1 + 3 * n], atol=1e-9 * scale)
    np.testing.assert_allclose(sums.strain.sum(axis=0), expected[1 + 3 * n :], atol=1e-9 * scale)
    assert term_from_settings(Term(descriptor, kernel).settings()).kernel == kernel


@pytest.mark.parametrize("length_scale", [0.1, 0.6, 3.0])
def test_a_grid_explains_the_whole_prior_of_a_pair_term(model, length_scale):
    """Against the double sum over pairs: energies, forces, strain, local energies."""
    pair = PairDistance(r_cut=4.0).for_species([8, 14])
    points = np.linspace(1.5, 3.5, 4)[:, None]
    kernel = SquaredExponential(length_scale)
    basis = SparseBasis.build([(0, pair, kernel, channel, points) for channel in pair.channels], 1)
    for atoms in model.frames:
        structure = basis.structure(atoms)
        found = basis.rows(structure).prior, basis.local_rows(structure).prior
        plain = SparseBasis.build([(0, pair, kernel, channel, points) for channel in pair.channels], 1)
        for b in plain.blocks:
            assert b.grid is not None
            b.__dict__["grid"] = None  # as a kernel without a grid: all pairs of pairs
        np.testing.assert_allclose(found[0], plain.rows(structure).prior, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(found[1], plain.local_rows(structure).prior, rtol=1e-11)
