"""Every kernel through the same properties, then each against its formula."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gapkit.exceptions import SettingsError
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.numerics import kernel_functions

KERNELS = [
    DotProduct(zeta=1),
    DotProduct(zeta=2),
    DotProduct(zeta=4),
    SquaredExponential(length_scale=0.7),
    SquaredExponential(length_scale=(0.5, 2.0, 1.3)),
]
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=repr)
FUNCTIONS = [(kernel_functions.POWER, zeta) for zeta in (1, 2, 3, 4)] + [(kernel_functions.EXPONENTIAL, 0)]

features = st.integers(1, 8).flatmap(lambda n: arrays(float, (n, 3), elements=st.floats(-2.0, 2.0)))


def points(n, seed=0):
    """Points (n, 3) in general position."""
    return np.random.default_rng(seed).uniform(-1.5, 1.5, size=(n, 3))


# ---- exact answers and formulas


def test_dot_product_on_numbers_worked_by_hand():
    X = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    np.testing.assert_allclose(DotProduct(zeta=2)(X), [[196.0, 1.0], [1.0, 4.0]], rtol=1e-15)
    np.testing.assert_allclose(DotProduct(zeta=3)(X, X[:1])[:, 0], [2744.0, 1.0], rtol=1e-15)


def test_squared_exponential_on_numbers_worked_by_hand():
    X, Y = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 0.0, 4.0]])
    np.testing.assert_allclose(SquaredExponential(2.0)(X, Y), [[np.exp(-5.0 / 8.0)]], rtol=1e-14)
    kernel = SquaredExponential((3.0, 2.0, 0.5))
    np.testing.assert_allclose(kernel(X, Y), [[np.exp(-(1.0 + 4.0) / 2.0)]], rtol=1e-14)


def test_squared_exponential_is_its_formula():
    X, Y, theta = points(5), points(4, seed=1), np.array([0.5, 2.0, 1.3])
    expected = np.exp(-np.sum((X[:, None] - Y[None]) ** 2 / (2.0 * theta**2), axis=2))
    np.testing.assert_allclose(SquaredExponential(tuple(theta))(X, Y), expected, rtol=1e-12)


# ---- properties of every kernel


@every_kernel
@given(X=features)
def test_matrix_is_symmetric_and_positive_semidefinite(kernel, X):
    K = kernel(X)
    np.testing.assert_allclose(K, K.T, rtol=1e-13, atol=1e-13)
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] >= -1e-12 * max(1.0, eigenvalues[-1]) * len(X)


@every_kernel
@given(X=features, Y=features)
def test_arguments_can_be_swapped(kernel, X, Y):
    np.testing.assert_allclose(kernel(X, Y), kernel(Y, X).T, rtol=1e-12, atol=1e-13)


@every_kernel
@given(X=features)
def test_diagonal_is_that_of_the_matrix(kernel, X):
    np.testing.assert_allclose(kernel.diagonal(X), np.diag(kernel(X)), rtol=1e-13)


@every_kernel
@given(X=features)
def test_one_argument_is_twice_the_same(kernel, X):
    np.testing.assert_allclose(kernel(X), kernel(X, X), rtol=1e-12, atol=1e-13)


@every_kernel
def test_rows_are_independent(kernel):
    X, Y = points(6), points(4, seed=1)
    one_by_one = np.vstack([kernel(x[None], Y) for x in X])
    np.testing.assert_allclose(kernel(X, Y), one_by_one, rtol=1e-12)


@every_kernel
def test_gradient_against_finite_differences(kernel):
    X, Y, h = points(5), points(4, seed=1), 1e-5
    gradient = kernel.gradient(X, Y)
    assert gradient.shape == (5, 4, 3)
    assert (np.abs(gradient) > 1e-4).mean() > 0.7
    for f in range(3):
        step = h * np.eye(3)[f]
        numerical = (kernel(X + step, Y) - kernel(X - step, Y)) / (2.0 * h)
        np.testing.assert_allclose(gradient[:, :, f], numerical, rtol=1e-7, atol=1e-8)


@every_kernel
def test_input_is_left_alone(kernel):
    X, Y = points(5), points(4, seed=1)
    before = X.copy(), Y.copy()
    kernel(X, Y), kernel(X), kernel.diagonal(X), kernel.gradient(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


@every_kernel
def test_kernels_are_values(kernel):
    twin = pickle.loads(pickle.dumps(kernel))
    assert twin == kernel
    assert hash(twin) == hash(kernel)
    assert eval(repr(kernel)) == kernel  # what is printed can be typed
    assert sum(kernel == other for other in KERNELS) == 1
    with pytest.raises(AttributeError):
        kernel.zeta = 1


# ---- invariance


@given(X=features, shift=arrays(float, 3, elements=st.floats(-10.0, 10.0)))
def test_squared_exponential_does_not_change_with_the_origin(X, shift):
    kernel = SquaredExponential((0.5, 2.0, 1.3))
    np.testing.assert_allclose(kernel(X + shift), kernel(X), atol=1e-11)


@given(X=features)
def test_squared_exponential_lies_between_zero_and_one(X):
    K = SquaredExponential(0.3)(X, X)
    assert K.min() >= 0.0
    assert K.max() <= 1.0


def test_dot_product_does_not_change_with_the_axes():
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    X = points(5)
    np.testing.assert_allclose(DotProduct(3)(X @ rotation), DotProduct(3)(X), rtol=1e-12)


def test_length_scales_are_units_of_the_features():
    X, Y, theta = points(5), points(4, seed=1), np.array([0.5, 2.0, 1.3])
    np.testing.assert_allclose(
        SquaredExponential(tuple(theta))(X * theta, Y * theta), SquaredExponential(1.0)(X, Y), rtol=1e-12
    )


# ---- the scalar functions below


@pytest.mark.parametrize(("function", "parameter"), FUNCTIONS)
def test_slope_and_curvature_against_finite_differences(function, parameter):
    h = 1e-5
    for t in (-1.3, -0.4, 0.2, 0.9):
        rise = kernel_functions.value(function, parameter, t + h)
        rise -= kernel_functions.value(function, parameter, t - h)
        assert kernel_functions.slope(function, parameter, t) == pytest.approx(rise / (2 * h), rel=1e-8)
        bend = kernel_functions.slope(function, parameter, t + h)
        bend -= kernel_functions.slope(function, parameter, t - h)
        assert kernel_functions.curvature(function, parameter, t) == pytest.approx(bend / (2 * h), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(("function", "parameter"), FUNCTIONS)
@pytest.mark.parametrize("in_place", [False, True])
def test_apply_fills_value_and_slope_also_in_place(function, parameter, in_place):
    t = np.random.default_rng(0).normal(size=(3, 4))
    k = t.copy() if in_place else np.empty_like(t)
    dk = np.empty_like(t)
    kernel_functions.apply(function, parameter, k if in_place else t, k, dk)
    value, slope = np.vectorize(kernel_functions.value), np.vectorize(kernel_functions.slope)
    np.testing.assert_allclose(k, value(function, parameter, t), rtol=1e-14)
    np.testing.assert_allclose(dk, slope(function, parameter, t), rtol=1e-14)


# ---- what is refused


@pytest.mark.parametrize("zeta", [0, -1, 1.5])
def test_a_power_that_cannot_work_is_refused(zeta):
    with pytest.raises(SettingsError, match=r"zeta must be an integer of at least 1"):
        DotProduct(zeta=zeta)


@pytest.mark.parametrize("length_scale", [0.0, -1.0, np.nan, np.inf, (1.0, 0.0), [[1.0]]])
def test_a_length_scale_that_cannot_work_is_refused(length_scale):
    with pytest.raises(SettingsError, match=r"length_scale must be positive and finite"):
        SquaredExponential(length_scale=length_scale)
