"""The streaming posterior against dense Gaussian-process algebra, forces and virials included."""

import numpy as np
import pytest
from ase import Atoms

from gapkit.descriptors import SOAP
from gapkit.exceptions import NumericsError
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.basis import FrameRows, SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_block import whitening_factor
from gapkit.models.triangles import Triangles
from gapkit.structures.structure import Structure
from tests import systems

NOISE = {"energy": 0.02, "forces": 0.3, "virial": 0.5}
SIGNAL = np.array([0.7, 0.4, 1.5])


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(9)


def dense_rows(observations):
    """K (n, m), y (n,), noise variances (n,)."""
    K = np.vstack([o.K for _, o in observations])
    y = np.concatenate([o.y for _, o in observations])
    noise = np.concatenate([np.full(len(o.y), NOISE[o.group] ** 2) for _, o in observations])
    return K, y, noise


def dense_prior(basis):
    """Prior covariance of the sparse functionals of the unit kernels, jitter included."""
    K_mm = np.zeros((basis.n_columns, basis.n_columns))
    for b in basis.blocks:
        t = b.kernel.argument(b.points, b.points)
        own = np.exp(t) if b.kernel.centred else t**b.kernel.parameter
        K_mm[b.columns, b.columns] = own + b.jitter * np.eye(len(own))
    return K_mm


def dtc(model, observations, query):
    """Mean and variance of query rows by the textbook formulas (Quinonero-Candela and Rasmussen 2005, eq. 19).

    Q_ab = K_am K_mm^-1 K_mb; mean = Q_qn (Q_nn + noise)^-1 y, variance = k_qq - Q_qn (Q_nn + noise)^-1 Q_nq.
    """
    K_nm, y, noise = dense_rows(observations)
    delta2 = SIGNAL[model.terms] ** 2
    K_mm = dense_prior(model.basis) / delta2[:, None]  # block-diagonal: delta^2 per block
    Q_nn, Q_qn = K_nm @ np.linalg.solve(K_mm, K_nm.T), query.K @ np.linalg.solve(K_mm, K_nm.T)
    half = np.linalg.solve(Q_nn + np.diag(noise), np.column_stack([y, Q_qn.T]))
    prior = query.prior @ SIGNAL**2
    return Q_qn @ half[:, 0], prior - np.einsum("qn,nq->q", Q_qn, half[:, 1:])


def test_mean_and_variance_equal_the_dense_formula(model):
    posterior = Posterior.solve(model.triangles, NOISE, SIGNAL, model.terms)
    for atoms in (*model.frames[:2], *systems.frames(2, seed=77)):
        query = model.basis.rows(model.basis.structure(atoms))
        A = model.basis.whiten(query.K)
        mean, variance = dtc(model, model.observations, query)
        scale = np.abs(mean).max()
        np.testing.assert_allclose(posterior.mean(A), mean, rtol=1e-8, atol=1e-8 * scale)
        np.testing.assert_allclose(posterior.variance(A, query.prior), variance, rtol=1e-8, atol=1e-8 * variance.max())
        assert variance[1:].min() > 0  # forces and virials have variances of their own
        assert np.abs(mean[1:]).max() > 1e-2


def test_the_weights_of_functionals_give_the_same_mean(model):
    posterior = Posterior.solve(model.triangles, NOISE, SIGNAL, model.terms)
    query = model.basis.rows(model.basis.structure(model.frames[1]))
    np.testing.assert_allclose(
        query.K @ model.basis.unwhiten(posterior.weights),
        posterior.mean(model.basis.whiten(query.K)),
        rtol=1e-7,
        atol=1e-9,
    )


def test_normal_equations_agree_with_qr(model):
    by_qr = Posterior.solve(model.triangles, NOISE, SIGNAL, model.terms, leave_out=1)
    by_gram = Posterior.solve_normal_equations(model.triangles.grams(), NOISE, SIGNAL, model.terms, leave_out=1)
    np.testing.assert_allclose(by_gram.weights, by_qr.weights, rtol=1e-6, atol=1e-8)
    A = model.basis.whiten(model.basis.rows(model.basis.structure(model.frames[0])).K)
    np.testing.assert_allclose(by_gram.weight_variance(A), by_qr.weight_variance(A), rtol=1e-7)


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_held_out_error_from_triangles_equals_predicting_the_fold(model, fold):
    posterior = Posterior.solve(model.triangles, NOISE, SIGNAL, model.terms, leave_out=fold)
    kept = [(n, o) for n, o in model.observations if model.folds[n] != fold]
    for group in ("energy", "forces", "virial"):
        held = [o for n, o in model.observations if model.folds[n] == fold and o.group == group]
        if not held:
            continue
        prior = np.vstack([o.prior for o in held])
        query = FrameRows(np.vstack([o.K for o in held]), prior, np.zeros_like(prior))
        y = np.concatenate([o.y for o in held])
        mean, variance = dtc(model, kept, query)
        triangle = model.triangles.items[group, fold]
        assert posterior.squared_error(triangle) == pytest.approx(np.sum((mean - y) ** 2), rel=1e-8)
        assert sum(posterior.summed_variances(triangle)) == pytest.approx(variance.sum(), rel=1e-6)


def test_full_gaussian_process_where_every_observation_is_a_sparse_functional():
    """Energies of one-atom cells are values of the local function: with all of them sparse points, DTC is exact."""
    cells = [Atoms("Si", cell=np.eye(3) * (2.2 + 0.1 * k) + 0.1 * k * np.eye(3, k=1), pbc=True) for k in range(7)]
    soap = SOAP(r_cut=4.0, n_max=4, l_max=3).for_species([14])
    kernel = DotProduct(4)
    x = np.vstack([soap.environments(Structure(a, 4.0), (14,), derivatives=False).x for a in cells])
    basis = SparseBasis.build([(0, soap, kernel, (14,), x[:6])], 1, jitter=1e-13)
    y = np.sin(np.arange(6.0))
    triangles = Triangles(6, 1)
    rows = np.vstack([basis.rows(basis.structure(a), derivatives=False).K for a in cells])
    triangles.update(basis.whiten(rows[:6]), y, np.ones((6, 1)), "energy", 0)
    posterior = Posterior.solve(triangles, {"energy": 0.1}, np.array([2.0]), basis.column_terms())
    K = 4 * kernel(x)
    noisy = np.linalg.inv(K[:6, :6] + 0.01 * np.eye(6))
    A = basis.whiten(rows)
    np.testing.assert_allclose(posterior.mean(A), K[:, :6] @ noisy @ y, rtol=1e-7)
    full = np.diag(K - K[:, :6] @ noisy @ K[:6])
    np.testing.assert_allclose(posterior.variance(A, np.ones((7, 1))), full, rtol=1e-6, atol=1e-9)


def test_squared_exponential_is_near_the_noise_at_data_and_near_the_prior_far_away():
    kernel = SquaredExponential(1.0)
    x = np.linspace(0, 4, 9)[:, None]
    L, _ = whitening_factor(kernel(x))
    triangles = Triangles(9, 1)
    triangles.update(np.linalg.solve(L, kernel(x)).T, np.sin(x[:, 0]), np.ones((9, 1)), "energy", 0)
    posterior = Posterior.solve(triangles, {"energy": 1e-3}, np.array([1.5]), np.zeros(9, dtype=int))
    query = np.array([[2.0], [60.0]])
    variance = posterior.variance(np.linalg.solve(L, kernel(x, query)).T, np.ones((2, 1)))
    assert 1e-7 < variance[0] < 2e-6
    assert variance[1] == pytest.approx(1.5**2, rel=1e-9)


def test_a_variance_is_never_negative_and_an_impossible_one_raises(model):
    posterior = Posterior.solve(model.triangles, NOISE, SIGNAL, model.terms)
    for atoms in systems.frames(6, seed=5):
        rows = model.basis.rows(model.basis.structure(atoms))
        assert posterior.variance(model.basis.whiten(rows.K), rows.prior).min() >= 0
    with pytest.raises(NumericsError, match="negative beyond rounding"):
        posterior.residual(model.basis.whiten(rows.K), 0.5 * rows.prior)


def test_jitter_is_reported_and_a_hopeless_matrix_raises():
    L, jitter = whitening_factor(np.ones((3, 3)))
    assert jitter > 0
    np.testing.assert_allclose(L @ L.T, np.ones((3, 3)) + jitter * np.eye(3), atol=1e-15)
    with pytest.raises(NumericsError, match="fewer sparse points"):
        whitening_factor(-np.eye(2))


def test_rounding_correlates_no_two_functionals_beyond_one_and_none_without_a_variance(model):
    """Rows of zeros leave the residual equal to the prior, here with covariances that rounding has made too large."""
    posterior = Posterior.solve(model.triangles, NOISE, SIGNAL, model.terms)
    prior = np.zeros((3, 3, 3))
    prior[:, :, 0] = [[0.0, 1e-9, -1e-9], [1e-9, 1.0, -1.0 - 1e-9], [-1e-9, -1.0 - 1e-9, 1.0]]
    residual, weights = posterior.covariances(np.zeros((3, model.basis.n_columns)), prior)
    np.testing.assert_array_equal(residual, SIGNAL[0] ** 2 * np.array([[0, 0, 0], [0, 1, -1], [0, -1, 1]]))
    np.testing.assert_array_equal(weights, 0.0)
