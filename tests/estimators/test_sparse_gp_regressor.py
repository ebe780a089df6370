"""Sparse Gaussian process regression: dense formulas, theorems, derivatives, scikit-learn's as oracle."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from gapkit.estimators.sparse_gp_regressor import (
    LengthScaleEvidence,
    LevelEvidence,
    SparseGPRegressor,
    collapsed_solution,
)
from gapkit.exceptions import NumericsError, SettingsError
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.sparse_block import whiten, whitening_factor

KERNELS = [SquaredExponential(1.2), SquaredExponential((0.9, 2.0, 1.3)), DotProduct(1), DotProduct(3)]
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=repr)
targets = pytest.mark.parametrize("n_targets", [None, 2])


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: more threads only wait for each other."""
    with threadpool_limits(1):
        yield


def data(n=40, n_targets=None, seed=0):
    """Features (n, 3) and targets (n,) or (n, k) with noise 0.1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + rng.normal(scale=0.1, size=n)
    if n_targets is None:
        return X, y
    return X, y[:, None] * np.arange(1.0, n_targets + 1) + rng.normal(scale=0.1, size=(n, n_targets))


def fitted(kernel, n_sparse=12, noise=0.3, signal=1.7, n_targets=None, n=40):
    """A model at given levels, and its data."""
    X, y = data(n, n_targets)
    return SparseGPRegressor(kernel, noise=noise, signal=signal, n_sparse=n_sparse).fit(X, y), X, y


def dense(model, X, X_new):
    """Q among training rows, between new and training rows, and the prior of new rows, by plain inversion."""
    kernel, points = model.kernel_, X[model.sparse_indices_]
    K_mm = kernel(points) + model.jitter_ * np.eye(len(points))
    inverse = np.linalg.inv(K_mm)
    K_nm, K_sm = kernel(X, points), kernel(X_new, points)
    delta2 = model.signal_**2
    return (
        delta2 * K_nm @ inverse @ K_nm.T,
        delta2 * K_sm @ inverse @ K_nm.T,
        delta2 * kernel(X_new),
    )


# Its own decorator hands over a generator, which pytest deprecates.
CHECKS = parametrize_with_checks([SparseGPRegressor(), SparseGPRegressor(kernel=DotProduct(1), n_sparse=20)])


# The checks cut max_iter to 5, and some count a warning as a failure.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


# ---- exact answers


def test_one_training_row_by_hand():
    """Prior 4, noise 1: mean 4/5 of y, function variance 4 - 16/5."""
    model = SparseGPRegressor(SquaredExponential(1.0), noise=1.0, signal=2.0).fit([[0.0]], [5.0])
    mean, std = model.predict([[0.0], [100.0]], return_std=True)
    np.testing.assert_allclose(mean, [4.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(std**2, [0.8 + 1.0, 4.0 + 1.0], rtol=1e-11)
    evidence = multivariate_normal.logpdf(5.0, 0.0, 5.0)
    assert model.log_marginal_likelihood_ == pytest.approx(evidence, rel=1e-11)


@every_kernel
@targets
def test_dense_formulas(kernel, n_targets):
    """Quinonero-Candela and Rasmussen (2005), eq. 20, with the full prior k** in the variance."""
    model, X, y = fitted(kernel, n_targets=n_targets)
    X_new = data(9, seed=1)[0]
    Q, Q_sn, prior = dense(model, X, X_new)
    gain = Q_sn @ np.linalg.inv(Q + 0.3**2 * np.eye(len(X)))
    mean, cov = model.predict(X_new, return_cov=True)
    np.testing.assert_allclose(mean, gain @ y, rtol=1e-8, atol=1e-8)
    expected = prior - gain @ Q_sn.T + 0.3**2 * np.eye(9)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(cov if n_targets is None else cov[:, :, 1], expected, atol=1e-8 * scale)


@every_kernel
@targets
def test_evidence_is_the_density_of_the_targets(kernel, n_targets):
    model, X, y = fitted(kernel, n_targets=n_targets)
    Q, _, _ = dense(model, X, X)
    density = multivariate_normal(np.zeros(len(X)), Q + 0.3**2 * np.eye(len(X)))
    assert model.log_marginal_likelihood_ == pytest.approx(np.sum(density.logpdf(y.T)), rel=1e-9)


@every_kernel
def test_nystrom_trace_is_the_unexplained_prior_variance(kernel):
    model, X, _ = fitted(kernel)
    Q, _, prior = dense(model, X, X)
    expected = np.trace(prior) - np.trace(Q)
    assert model.nystrom_trace_ == pytest.approx(expected, rel=1e-6, abs=1e-6 * np.trace(prior))
    if isinstance(kernel, SquaredExponential):
        assert model.nystrom_trace_ > 1.0


# ---- theorems


@pytest.mark.parametrize("kernel", KERNELS[:2], ids=repr)
def test_the_bound_of_titsias_lies_below_the_exact_evidence_and_rises_with_sparse_points(kernel):
    X, y = data()
    exact = multivariate_normal(np.zeros(40), 1.7**2 * kernel(X) + 0.3**2 * np.eye(40)).logpdf(y)
    bounds = []
    for n_sparse in (5, 10, 20, 40):
        model = fitted(kernel, n_sparse=n_sparse)[0]
        bounds.append(model.log_marginal_likelihood_ - model.nystrom_trace_ / (2.0 * 0.3**2))
    assert np.all(np.diff(bounds) > 0)
    assert bounds[-2] < exact
    assert bounds[-1] == pytest.approx(exact, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    noise=st.floats(1e-5, 10.0),
    signal=st.floats(1e-3, 1e3),
    length=st.floats(0.05, 20.0),
    n_sparse=st.integers(1, 40),
)
def test_variance_is_never_negative_and_never_above_the_prior(noise, signal, length, n_sparse):
    X, y = data()
    kernel = SquaredExponential(length)
    model = SparseGPRegressor(kernel, noise=noise, signal=signal, n_sparse=n_sparse).fit(X, y)
    for X_new in (X, data(seed=1)[0]):
        std = model.predict(X_new, return_std=True, include_noise=False)[1]
        assert np.isfinite(std).all()
        assert (std >= 0).all()
        assert (std <= signal * (1.0 + 1e-6)).all()
        total = model.predict(X_new, return_std=True)[1]
        np.testing.assert_allclose(total**2, std**2 + noise**2, rtol=1e-12)


def test_variance_at_a_training_row_is_near_the_noise_and_far_away_near_the_prior():
    model, X, y = fitted(SquaredExponential(1.2), n_sparse=40, noise=1e-3)
    mean, std = model.predict(X, return_std=True)
    assert (std**2 >= 1e-6).all()
    assert (std**2 <= 2.0 * 1e-6 * (1.0 + 1e-3)).all()  # the function's share is at most the noise
    np.testing.assert_allclose(mean, y, atol=0.01)
    mean, std = model.predict(X + 50.0, return_std=True)
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(std**2, 1.7**2 + 1e-6, rtol=1e-12)


def test_few_sparse_points_do_not_make_the_model_sure_of_itself():
    """Far from the only sparse point the variance is the prior, although there are training rows nearby."""
    X = np.array([[0.0], [10.0]])
    model = SparseGPRegressor(SquaredExponential(1.0), noise=0.1, signal=2.0, n_sparse=1).fit(X, [1.0, 1.0])
    (other,) = {0, 1} - set(model.sparse_indices_.tolist())
    std = model.predict(X, return_std=True, include_noise=False)[1]
    assert std[other] == pytest.approx(2.0, rel=1e-6)


def test_covariance_agrees_with_standard_deviations_and_is_positive():
    model, X, _ = fitted(SquaredExponential(1.2), n_targets=2)
    std = model.predict(X, return_std=True)[1]
    cov = model.predict(X, return_cov=True)[1]
    assert std.shape == (40, 2)
    assert cov.shape == (40, 40, 2)
    for k in range(2):
        np.testing.assert_allclose(np.diag(cov[:, :, k]), std[:, k] ** 2, rtol=1e-12)
        assert np.linalg.eigvalsh(cov[:, :, k])[0] >= 0.3**2 * (1 - 1e-9)


# ---- oracle: the full Gaussian process


@targets
def test_all_rows_as_sparse_points_give_the_full_gaussian_process_of_scikit_learn(n_targets):
    X, y = data(n_targets=n_targets)
    X_new = data(9, seed=1)[0]
    oracle = GaussianProcessRegressor(ConstantKernel(1.7**2) * RBF(1.2), alpha=0.3**2, optimizer=None).fit(X, y)
    model = fitted(SquaredExponential(1.2), n_sparse=40, n_targets=n_targets)[0]
    assert len(model.sparse_indices_) == 40
    assert model.nystrom_trace_ == 0.0  # rounding is cut off
    for kind in ("return_std", "return_cov"):
        for ours, theirs in zip(
            model.predict(X_new, include_noise=False, **{kind: True}),
            oracle.predict(X_new, **{kind: True}),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-8)
    assert model.log_marginal_likelihood_ == pytest.approx(oracle.log_marginal_likelihood(), rel=1e-8)


# ---- derivatives


@every_kernel
@targets
def test_gradient_against_finite_differences(kernel, n_targets):
    model, _, _ = fitted(kernel, n_targets=n_targets)
    X_new, h = data(7, seed=1)[0], 1e-5
    gradient = model.predict_gradient(X_new)
    assert gradient.shape == ((7, 3) if n_targets is None else (7, 2, 3))
    assert (np.abs(gradient) > 1e-3).mean() > 0.9
    for f in range(3):
        step = h * np.eye(3)[f]
        numerical = (model.predict(X_new + step) - model.predict(X_new - step)) / (2.0 * h)
        np.testing.assert_allclose(gradient[..., f], numerical, rtol=1e-6, atol=1e-6)


def check_evidence_gradient(evidence, x):
    """The gradient by each parameter, one at a time, none of them zero."""
    _, gradient = evidence(x)
    assert (np.abs(gradient) > 1e-2).all()
    h = 1e-5
    for i, step in enumerate(h * np.eye(len(x))):
        numerical = (evidence(x + step)[0] - evidence(x - step)[0]) / (2.0 * h)
        assert gradient[i] == pytest.approx(numerical, rel=1e-6, abs=1e-6)


@every_kernel
@targets
def test_level_evidence_is_the_evidence_and_has_the_right_gradient(kernel, n_targets):
    model, X, y = fitted(kernel, n_targets=n_targets)
    points = X[model.sparse_indices_]
    A = whiten(kernel(X, points), whitening_factor(kernel(points))[0])
    evidence = LevelEvidence.of(A, y.reshape(40, -1))
    assert evidence(np.log([0.3, 1.7]))[0] == pytest.approx(model.log_marginal_likelihood_, rel=1e-11)
    for levels in ([0.3, 1.7], [0.02, 0.1], [1.5, 3.0]):
        check_evidence_gradient(evidence, np.log(levels))


@targets
@pytest.mark.parametrize("parameters", [[0.3, 1.7, 1.2], [0.05, 0.4, 0.6], [1.0, 5.0, 2.5]])
def test_length_scale_evidence_is_the_evidence_and_has_the_right_gradient(n_targets, parameters):
    X, y = data(n_targets=n_targets)
    Y, points = y.reshape(40, -1), X[::4]
    evidence = LengthScaleEvidence(X, points, Y)
    noise, signal, length = parameters
    kernel = SquaredExponential(length)
    K_mm = kernel(points) + evidence.jitter * np.eye(10)
    Q = signal**2 * kernel(X, points) @ np.linalg.solve(K_mm, kernel(points, X))
    density = multivariate_normal(np.zeros(40), Q + noise**2 * np.eye(40))
    assert evidence(np.log(parameters))[0] == pytest.approx(np.sum(density.logpdf(Y.T)), rel=1e-9)
    check_evidence_gradient(evidence, np.log(parameters))


# ---- the search


def test_levels_are_a_maximum_of_the_evidence():
    X, y = data()
    kernel = SquaredExponential(1.2)
    best = SparseGPRegressor(kernel, n_sparse=15).fit(X, y)
    for noise, signal in [(1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98), (5.0, 1.0), (1.0, 0.1)]:
        other = SparseGPRegressor(kernel, noise=noise * best.noise_, signal=signal * best.signal_, n_sparse=15).fit(
            X, y
        )
        assert other.log_marginal_likelihood_ < best.log_marginal_likelihood_


def test_the_length_scale_is_a_maximum_of_the_evidence():
    X, y = data(80)
    best = SparseGPRegressor(n_sparse=30).fit(X, y)
    evidence = LengthScaleEvidence(X - X.mean(axis=0), best.sparse_points_, y[:, None])
    x = np.log([best.noise_, best.signal_, best.kernel_.length_scale])
    value, gradient = evidence(x)
    assert value == pytest.approx(best.log_marginal_likelihood_, abs=1e-3)
    assert np.abs(gradient).max() < 1e-2
    for factor in (0.25, 0.5, 0.9, 1.1, 2.0, 4.0):
        assert evidence(x + np.array([0.0, 0.0, np.log(factor)]))[0] < value


def test_levels_that_are_given_are_used():
    X, y = data()
    for fixed in ({"noise": 0.1}, {"signal": 0.7}):
        model = SparseGPRegressor(**fixed, n_sparse=15).fit(X, y)
        assert {name: getattr(model, f"{name}_") for name in fixed} == fixed
        # the others are the best for this one
        evidence = LengthScaleEvidence(X - X.mean(axis=0), model.sparse_points_, y[:, None])
        slope = evidence(np.log([model.noise_, model.signal_, model.kernel_.length_scale]))[1]
        held = 0 if "noise" in fixed else 1
        assert np.abs(slope[[1 - held, 2]]).max() < 1e-2
        assert np.abs(slope[held]) > 0.1
    # exp(log(0.1)) is not 0.1: what is given is kept to the last digit
    assert SparseGPRegressor(signal=0.1).fit(X, y).signal_ == 0.1
    kernel = SquaredExponential(1.2)
    model = SparseGPRegressor(kernel, noise=0.3, signal=2.5).fit(X, y)
    assert (model.kernel_, model.noise_, model.signal_) == (kernel, 0.3, 2.5)


def test_the_units_of_the_features_do_not_matter_to_a_dot_product():
    X, y = data()
    near, far = (SparseGPRegressor(DotProduct(3)).fit(s * X, y).predict(s * X) for s in (1.0, 100.0))
    np.testing.assert_allclose(far, near, atol=1e-4)


def test_noise_signal_and_length_scale_of_a_drawn_function_are_found():
    """The noise of n rows is known to 1 / sqrt(2 n): |z| < 4. Signal and length scale are known less well."""
    rng = np.random.default_rng(5)
    X = rng.uniform(-4.0, 4.0, size=(600, 1))
    K = SquaredExponential(0.5)(X) + 1e-10 * np.eye(600)
    y = 3.0 * np.linalg.cholesky(K) @ rng.normal(size=600) + rng.normal(scale=0.2, size=600)
    model = SparseGPRegressor(n_sparse=60).fit(X, y)
    assert abs(np.log(model.noise_ / 0.2)) * np.sqrt(2 * 600) < 4.0
    assert 0.4 < model.kernel_.length_scale < 0.6
    assert 1.5 < model.signal_ < 6.0


def test_errors_bars_hold_on_new_data():
    """z = error / std has mean square 1 on 400 new rows, standard error sqrt(2 / 400)."""
    X, y = data(400)
    model = SparseGPRegressor(n_sparse=100).fit(X, y)
    X_new, y_new = data(400, seed=1)
    mean, std = model.predict(X_new, return_std=True)
    z = (y_new - mean) / std
    assert abs(np.mean(z**2) - 1.0) < 4.0 * np.sqrt(2.0 / 400)
    assert model.score(X_new, y_new) > 0.95


def test_a_search_cut_short_says_so_and_a_finished_one_is_silent():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match=r"stopped after 1 iterations; increase max_iter"):
        SparseGPRegressor(max_iter=1).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert SparseGPRegressor().fit(X, y).n_iter_ >= 1


def test_targets_that_are_all_zero_give_zero():
    model = SparseGPRegressor().fit(data()[0], np.zeros(40))
    np.testing.assert_array_equal(model.predict(data()[0]), 0.0)


# ---- sparse points


def test_repeated_rows_are_not_taken_twice():
    X, y = data(20)
    model = SparseGPRegressor(SquaredExponential(1.2)).fit(np.vstack([X, X]), np.tile(y, 2))
    assert len(model.sparse_indices_) == 20


@pytest.mark.parametrize("selection", ["greedy", "random", "leverage"])
def test_sparse_points_are_training_rows_and_follow_the_seed(selection):
    X, y = data()

    def fit(seed):
        return SparseGPRegressor(SquaredExponential(1.2), n_sparse=10, selection=selection, random_state=seed).fit(X, y)

    model = fit(3)
    assert len(set(model.sparse_indices_.tolist())) == 10
    np.testing.assert_allclose(model.sparse_points_ + model.X_offset_, X[model.sparse_indices_])
    np.testing.assert_array_equal(model.predict(X), fit(3).predict(X))
    others = [set(fit(seed).sparse_indices_.tolist()) for seed in range(5)]
    assert (len({frozenset(o) for o in others}) == 1) == (selection == "greedy")


def test_features_far_from_the_origin_lose_no_digits():
    X, y = data()
    near = SparseGPRegressor(SquaredExponential(1.2), noise=0.3, signal=1.7).fit(X, y)
    far = SparseGPRegressor(SquaredExponential(1.2), noise=0.3, signal=1.7).fit(X + 1e6, y)
    for a, b in zip(far.predict(X + 1e6, return_std=True), near.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# ---- parameters


def test_kernels_survive_clone_and_pickle():
    X, y = data()
    model = SparseGPRegressor(SquaredExponential((0.5, 2.0, 1.3)), noise=0.1, n_sparse=7)
    assert clone(model).get_params() == model.get_params()
    model.fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    for a, b in zip(again.predict(X, return_std=True), model.predict(X, return_std=True), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"noise": 0.0}, r"noise must be a positive standard deviation or 'auto', not 0.0"),
        ({"noise": "low"}, r"noise must be"),
        ({"signal": -1.0}, r"signal must be a positive standard deviation or 'auto', not -1.0"),
        ({"signal": np.nan}, r"signal must be"),
        ({"signal": np.array([1.0, 2.0])}, r"signal must be"),
        ({"n_sparse": 0}, r"n_sparse must be an integer of at least 1, not 0"),
        ({"n_sparse": 10.5}, r"n_sparse must be"),
        ({"max_iter": 0}, r"max_iter must be"),
        ({"selection": "best"}, r"selection must be one of .*greedy"),
        ({"kernel": "rbf"}, r"kernel must be one of gapkit.kernels or None"),
        ({"kernel": SquaredExponential((1.0, 2.0))}, r"cannot take 3 features"),
    ],
)
def test_settings_that_cannot_work_are_refused(parameters, message):
    with pytest.raises(SettingsError, match=message):
        SparseGPRegressor(**parameters).fit(*data())


def test_a_kernel_that_vanishes_on_the_data_is_refused():
    with pytest.raises(SettingsError, match=r"is zero for all training rows"):
        SparseGPRegressor(DotProduct(2)).fit(np.zeros((5, 3)), np.arange(5.0))


def test_standard_deviations_or_covariances_not_both():
    model, X, _ = fitted(SquaredExponential(1.2))
    with pytest.raises(SettingsError, match=r"not both"):
        model.predict(X, return_std=True, return_cov=True)


def test_a_variance_that_cannot_be_is_an_error():
    model, X, _ = fitted(SquaredExponential(1.2))
    model._factor = 0.9 * model._factor
    with pytest.raises(NumericsError, match=r"negative beyond rounding"):
        model.predict(X, return_std=True)


def test_the_solution_minimises_the_penalised_misfit():
    """|y - delta A w|^2 / sigma^2 + |w|^2 has no gradient at w."""
    rng = np.random.default_rng(0)
    A, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    R, w, _ = collapsed_solution(A, Y, noise=0.3, signal=1.7)
    np.testing.assert_allclose((1.7 / 0.3**2) * A.T @ (Y - 1.7 * A @ w), w, atol=1e-9)
    np.testing.assert_allclose(R.T @ R, np.eye(4) + (1.7 / 0.3) ** 2 * A.T @ A, rtol=1e-12)
