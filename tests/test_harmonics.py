"""Real spherical harmonics: closed forms, scipy, addition theorem, gradients."""

import numpy as np
import pytest
from numba import njit
from scipy.special import eval_legendre, sph_harm_y

from gapkit.numerics import harmonics

L_MAX = 12


@njit
def _evaluate(l_max, norm, directions, scratch, out):
    harmonics.harmonics(l_max, norm, directions, 0, True, scratch, out, 0)


def evaluate(vectors, l_max=L_MAX):
    """(8, lm) values and (8, lm, 3) tangential gradients at eight directions."""
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    n_lm = (l_max + 1) ** 2
    out = np.full(n_lm * harmonics.STRIDE, np.nan)
    scratch = np.full(harmonics.scratch_size(l_max), np.nan)
    _evaluate(l_max, harmonics.normalisation(l_max), np.ascontiguousarray(unit.T).ravel(), scratch, out)
    lanes = out.reshape(n_lm, 4, 8)
    values, gradients = lanes[:, 0].T, lanes[:, 1:].transpose(2, 0, 1)
    if l_max == 0:
        gradients = np.nan_to_num(gradients)
    return values, gradients


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).normal(size=(8, 3))


def test_closed_forms_of_low_degree():
    v = np.random.default_rng(2).normal(size=(8, 3))
    x, y, z = (v / np.linalg.norm(v, axis=1)[:, None]).T
    c1 = np.sqrt(3 / (4 * np.pi))
    expected = [np.full(8, np.sqrt(1 / (4 * np.pi))), c1 * y, c1 * z, c1 * x, np.sqrt(15 / (4 * np.pi)) * x * y]
    np.testing.assert_allclose(evaluate(v)[0][:, :5].T, expected, atol=1e-14)


def test_equal_scipy(vectors):
    r = np.linalg.norm(vectors, axis=1)
    theta, phi = np.arccos(vectors[:, 2] / r), np.arctan2(vectors[:, 1], vectors[:, 0])
    values = evaluate(vectors)[0]
    for l in range(L_MAX + 1):
        for m in range(-l, l + 1):
            y = sph_harm_y(l, abs(m), theta, phi) * (-1) ** m
            real = y.real if m == 0 else np.sqrt(2) * (y.real if m > 0 else y.imag)
            np.testing.assert_allclose(values[:, l * l + l + m], real, atol=1e-12)


def test_addition_theorem(vectors):
    values = evaluate(vectors)[0]
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    cosine = unit @ unit.T
    for l in range(L_MAX + 1):
        block = values[:, l * l : (l + 1) ** 2]
        np.testing.assert_allclose(block @ block.T, (2 * l + 1) / (4 * np.pi) * eval_legendre(l, cosine), atol=1e-12)


def test_gradient_equals_finite_differences(vectors):
    gradients = evaluate(vectors)[1]
    r = np.linalg.norm(vectors, axis=1)[:, None]
    h = 1e-3
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = h
        far = [evaluate(vectors + k * step)[0] for k in (-2, -1, 1, 2)]
        numerical = (8 * (far[2] - far[1]) - (far[3] - far[0])) / (12 * h)
        np.testing.assert_allclose(gradients[:, :, axis] / r, numerical, atol=2e-7)
    assert np.abs(gradients).max() > 1


def test_gradient_is_tangential(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    along = np.einsum("dka,da->dk", evaluate(vectors)[1], unit)
    np.testing.assert_allclose(along, 0, atol=1e-12)


@pytest.mark.parametrize("l_max", [0, 1, 2, 5])
def test_lower_degrees_do_not_depend_on_the_highest(vectors, l_max):
    np.testing.assert_array_equal(evaluate(vectors, l_max)[0], evaluate(vectors)[0][:, : (l_max + 1) ** 2])
