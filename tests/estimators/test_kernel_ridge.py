"""Kernel ridge regression: its defining equation, derivatives, and scikit-learn's as oracle."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

from gapkit.estimators import kernel_ridge
from gapkit.estimators.kernel_ridge import KernelRidgeRegressor
from gapkit.exceptions import NumericsError, SettingsError
from gapkit.kernels import DotProduct, SquaredExponential

KERNELS = [SquaredExponential(0.8), SquaredExponential((0.5, 2.0, 1.3)), DotProduct(1), DotProduct(3)]


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices: more threads only wait for each other."""
    with threadpool_limits(1):
        yield


def data(n=30, n_targets=None, seed=0):
    """Features (n, 3) and targets (n,) or (n, k) with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + rng.normal(scale=0.05, size=n)
    if n_targets is None:
        return X, y
    return X, y[:, None] * np.arange(1.0, n_targets + 1) + rng.normal(size=(n, n_targets))


# Its own decorator hands over a generator, which pytest deprecates.
CHECKS = parametrize_with_checks([KernelRidgeRegressor(), KernelRidgeRegressor(kernel=DotProduct(1), alpha=0.1)])


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def test_one_training_row_by_hand():
    """c = y / (1 + alpha), f(x) = c exp(-x^2 / 2)."""
    model = KernelRidgeRegressor(alpha=0.25).fit([[0.0]], [5.0])
    np.testing.assert_allclose(model.dual_coef_, [4.0])
    np.testing.assert_allclose(model.predict([[0.0], [2.0]]), [4.0, 4.0 * np.exp(-2.0)])


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("n_targets", [None, 2])
def test_defining_equation(kernel, n_targets):
    X, y = data(n_targets=n_targets)
    model = KernelRidgeRegressor(kernel, alpha=0.01).fit(X, y)
    np.testing.assert_allclose(kernel(X) @ model.dual_coef_ + 0.01 * model.dual_coef_, y, atol=1e-9)
    np.testing.assert_allclose(model.predict(X), y - 0.01 * model.dual_coef_, atol=1e-9)


@pytest.mark.parametrize("n_targets", [None, 2])
def test_against_scikit_learn(n_targets):
    X, y = data(n_targets=n_targets)
    X_new = data(seed=1)[0]
    rbf = KernelRidge(kernel="rbf", gamma=1.0 / (2.0 * 0.8**2), alpha=0.02).fit(X, y)
    ours = KernelRidgeRegressor(SquaredExponential(0.8), alpha=0.02).fit(X, y)
    np.testing.assert_allclose(ours.predict(X_new), rbf.predict(X_new), rtol=1e-9, atol=1e-10)
    poly = KernelRidge(kernel="poly", degree=3, gamma=1.0, coef0=0.0, alpha=0.02).fit(X, y)
    ours = KernelRidgeRegressor(DotProduct(3), alpha=0.02).fit(X, y)
    np.testing.assert_allclose(ours.predict(X_new), poly.predict(X_new), rtol=1e-7, atol=1e-8)


def test_default_kernel_is_the_unit_squared_exponential():
    X, y = data()
    model = KernelRidgeRegressor().fit(X, y)
    assert model.kernel_ == SquaredExponential(length_scale=1.0)
    assert model.kernel is None
    same = KernelRidgeRegressor(SquaredExponential(1.0), alpha=1e-3).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), same.predict(X))


def test_a_small_ridge_interpolates():
    X, y = data()
    model = KernelRidgeRegressor(SquaredExponential(0.5), alpha=0.0).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-9)


def test_features_far_from_the_origin_lose_no_digits():
    X, y = data()
    near = KernelRidgeRegressor().fit(X, y).predict(X)
    far = KernelRidgeRegressor().fit(X + 1e6, y).predict(X + 1e6)
    np.testing.assert_allclose(far, near, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("n_targets", [None, 2])
def test_gradient_against_finite_differences(kernel, n_targets):
    X, y = data(n_targets=n_targets)
    model = KernelRidgeRegressor(kernel, alpha=0.01).fit(X, y)
    X_new, h = data(7, seed=1)[0], 1e-5
    gradient = model.predict_gradient(X_new)
    assert gradient.shape == ((7, 3) if n_targets is None else (7, 2, 3))
    assert (np.abs(gradient) > 1e-3).mean() > 0.9
    for f in range(3):
        step = h * np.eye(3)[f]
        numerical = (model.predict(X_new + step) - model.predict(X_new - step)) / (2.0 * h)
        np.testing.assert_allclose(gradient[..., f], numerical, rtol=1e-6, atol=1e-6)


def test_gradients_in_small_blocks_are_the_same(monkeypatch):
    X, y = data()
    model = KernelRidgeRegressor().fit(X, y)
    whole = model.predict_gradient(X)
    monkeypatch.setattr(kernel_ridge, "_GRADIENT_BLOCK", 4 * X.size)
    np.testing.assert_allclose(model.predict_gradient(X), whole, rtol=1e-12)


def test_kernels_survive_clone_pickle_and_search():
    X, y = data()
    model = KernelRidgeRegressor(SquaredExponential((0.5, 2.0, 1.3)), alpha=0.1)
    assert clone(model).get_params() == model.get_params()
    fitted = model.fit(X, y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    kernels = [SquaredExponential(s) for s in (0.01, 1.0, 100.0)]
    search = GridSearchCV(KernelRidgeRegressor(), {"kernel": kernels, "alpha": [1e-2, 1e-1]}).fit(X, y)
    assert search.best_params_["kernel"] == SquaredExponential(1.0)


def test_a_failed_factorisation_names_the_remedy():
    X = np.vstack([data(5)[0]] * 2)
    with pytest.raises(NumericsError, match=r"10 rows .* alpha = 0: .*increase alpha, remove repeated rows"):
        KernelRidgeRegressor(DotProduct(1), alpha=0.0).fit(X, np.arange(10.0))


@pytest.mark.parametrize("alpha", [-1e-3, np.nan, np.inf, "auto", None, True])
def test_a_ridge_that_cannot_work_is_refused(alpha):
    with pytest.raises(SettingsError, match=r"alpha must be a number that is positive or zero"):
        KernelRidgeRegressor(alpha=alpha).fit(*data())


def test_a_kernel_that_cannot_work_is_refused():
    with pytest.raises(SettingsError, match=r"kernel must be one of gapkit.kernels or None, not 'rbf'"):
        KernelRidgeRegressor(kernel="rbf").fit(*data())
    with pytest.raises(SettingsError, match=r"cannot take 3 features: give one length scale, or one per"):
        KernelRidgeRegressor(kernel=SquaredExponential((1.0, 2.0))).fit(*data())
