"""Real spherical harmonics: closed forms, scipy, addition theorem, gradients."""

import numpy as np
import pytest
from numba import njit
from scipy.special import eval_legendre, sph_harm_y

from gapkit.numerics import harmonics

L_MAX = 12


@njit
def _evaluate(l_max, factors, directions, out):
    harmonics.harmonics(l_max, factors, directions, 0, out, 0)


def evaluate(vectors, l_max=L_MAX):
    """Values (8, lm) at eight directions."""
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    out = np.full(8 * (l_max + 1) ** 2, np.nan)
    _evaluate(l_max, harmonics.recursion(l_max), np.ascontiguousarray(unit.T).ravel(), out)
    return out.reshape(-1, 8).T


def gradients_of_solid_harmonics(vectors, l_max=L_MAX):
    """Gradients (8, lm, 3) of r^l Y_lm on the unit sphere, by the ladder from values of lower degree."""
    values, (source, factor) = evaluate(vectors, l_max), harmonics.ladder(l_max)
    out = np.zeros((8, (l_max + 1) ** 2, 3))
    for lm, (sources, factors) in enumerate(zip(source.reshape(-1, 5), factor.reshape(-1, 5), strict=True)):
        for axis, k in ((0, 0), (0, 1), (1, 2), (1, 3), (2, 4)):
            out[:, sources[k], axis] += factors[k] * values[:, lm]
    return out


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(size=(8, 3))


def test_closed_forms_of_low_degree():
    v = np.random.default_rng(2).normal(size=(8, 3))
    x, y, z = (v / np.linalg.norm(v, axis=1)[:, None]).T
    c1 = np.sqrt(3 / (4 * np.pi))
    expected = [np.full(8, np.sqrt(1 / (4 * np.pi))), c1 * y, c1 * z, c1 * x, np.sqrt(15 / (4 * np.pi)) * x * y]
    np.testing.assert_allclose(evaluate(v)[:, :5].T, expected, atol=1e-14)


def test_equal_scipy(vectors):
    r = np.linalg.norm(vectors, axis=1)
    theta, phi = np.arccos(vectors[:, 2] / r), np.arctan2(vectors[:, 1], vectors[:, 0])
    values = evaluate(vectors)
    for l in range(L_MAX + 1):
        for m in range(-l, l + 1):
            y = sph_harm_y(l, abs(m), theta, phi) * (-1) ** m
            real = y.real if m == 0 else np.sqrt(2) * (y.real if m > 0 else y.imag)
            np.testing.assert_allclose(values[:, l * l + l + m], real, atol=1e-12)


def test_addition_theorem(vectors):
    values = evaluate(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    cosine = unit @ unit.T
    for l in range(L_MAX + 1):
        block = values[:, l * l : (l + 1) ** 2]
        np.testing.assert_allclose(block @ block.T, (2 * l + 1) / (4 * np.pi) * eval_legendre(l, cosine), atol=1e-12)


def test_gradient_by_the_ladder_equals_finite_differences(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    gradients = gradients_of_solid_harmonics(vectors)
    degree = np.repeat(np.arange(L_MAX + 1), 2 * np.arange(L_MAX + 1) + 1)
    h = 1e-3
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = h
        moved = [unit + k * step for k in (-2, -1, 1, 2)]
        far = [evaluate(v) * np.linalg.norm(v, axis=1)[:, None] ** degree for v in moved]
        numerical = (8 * (far[2] - far[1]) - (far[3] - far[0])) / (12 * h)
        np.testing.assert_allclose(gradients[:, :, axis], numerical, atol=2e-7)
    assert np.abs(gradients).max() > 1


def test_gradient_of_a_homogeneous_polynomial(vectors):
    """Euler: r . grad S_lm = l S_lm."""
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    degree = np.repeat(np.arange(L_MAX + 1), 2 * np.arange(L_MAX + 1) + 1)
    along = np.einsum("dka,da->dk", gradients_of_solid_harmonics(vectors), unit)
    np.testing.assert_allclose(along, degree * evaluate(vectors), atol=1e-12)


@pytest.mark.parametrize("l_max", [0, 2, 5])
def test_coefficients_led_down_are_those_of_the_gradients(vectors, l_max):
    n_lm = (l_max + 1) ** 2
    q, out = np.random.default_rng(3).normal(size=(n_lm, 8)), np.zeros((n_lm, 4, 8))
    source, factor = harmonics.ladder(l_max)
    harmonics.lower_degree(q.ravel(), 0, l_max, source, factor, out.reshape(-1), 0)
    values = evaluate(vectors, l_max)
    expected = np.einsum("kn,dka->dan", q, gradients_of_solid_harmonics(vectors, l_max))
    np.testing.assert_allclose(np.einsum("dk,kan->dan", values, out[:, 1:]), expected, atol=1e-12)
    np.testing.assert_array_equal(out[:, 0], q)


@pytest.mark.parametrize("l_max", [0, 1, 2, 5])
def test_lower_degrees_do_not_depend_on_the_highest(vectors, l_max):
    np.testing.assert_array_equal(evaluate(vectors, l_max), evaluate(vectors)[:, : (l_max + 1) ** 2])
