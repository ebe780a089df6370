"""Radial functions: quadrature, interpolation error, behaviour at the cutoff."""

import numpy as np
import pytest
from numba import njit
from scipy.integrate import quad
from scipy.special import ive

from gapkit.descriptors import SOAP
from gapkit.numerics import radial


@njit
def _interpolate(table, inverse_spacing, n_series, r, f, df):
    radial.interpolate(table, inverse_spacing, n_series, r, f, df, 0)


def interpolated(basis, r):
    f, df = np.zeros((basis.l_max + 1) * basis.n_pad), np.zeros((basis.l_max + 1) * basis.n_pad)
    table = radial.in_octets(basis.table, basis.l_max + 1, basis.n_pad)
    _interpolate(table, basis.inverse_spacing, (basis.l_max + 1) * basis.n_pad // 8, r, f, df)
    return tuple(
        x.reshape(-1, basis.l_max + 1, 8).transpose(1, 0, 2).reshape(basis.l_max + 1, -1)[:, : basis.n_max]
        for x in (f, df)
    )


@pytest.fixture(scope="module")
def soap():
    return SOAP(species=["Si"], r_cut=5.0, n_max=8, l_max=6).fit([])


def test_radial_function_equals_quadrature(soap):
    """f_nl(R) Y_lm is the projection of a Gaussian at R on g_nl Y_lm (spherical Bessel form of the angular part)."""
    oracle, eta, R = soap.to_dscribe(), 1 / (2 * 0.5**2), 2.35
    value, _ = radial.gto_radial_functions(oracle._alphas, oracle._betas, 0.5, [R])
    for l in (0, 3, 6):
        for n in (0, 4):

            def integrand(r, l=l, n=n):
                g = sum(
                    b * r**l * np.exp(-a * r * r) for a, b in zip(oracle._alphas[l], oracle._betas[l, n], strict=True)
                )
                x = 2 * eta * r * R
                bessel = ive(l + 0.5, x) * np.sqrt(np.pi / (2 * x))
                return 4 * np.pi * r * r * g * np.exp(-eta * (r - R) ** 2) * bessel

            expected = quad(integrand, 1e-9, 15, epsabs=1e-12, limit=200)[0]
            assert value[0, l, n] == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_interpolation_error_is_below_the_stated_bound(soap):
    """1e-10 of the largest value, as gapkit.descriptors.soap.TABLE_POINTS states."""
    oracle = soap.to_dscribe()
    r = np.random.default_rng(0).uniform(0.5, 4.999, size=400)
    value, slope = radial.gto_radial_functions(oracle._alphas, oracle._betas, 0.5, r)
    weight, weight_slope = radial.cutoff_weight(r, 5.0, 1)
    exact = value * weight[:, None, None]
    exact_slope = slope * weight[:, None, None] + value * weight_slope[:, None, None]
    got = [interpolated(soap.basis_, x) for x in r]
    assert np.abs(np.array([g[0] for g in got]) - exact).max() < 1e-10 * np.abs(exact).max()
    assert np.abs(np.array([g[1] for g in got]) - exact_slope).max() < 1e-6 * np.abs(exact_slope).max()


def test_slope_is_the_exact_derivative_of_the_interpolant(soap):
    for r in (1.2345, 2.0, 4.4):
        h = 1e-5
        difference = (interpolated(soap.basis_, r + h)[0] - interpolated(soap.basis_, r - h)[0]) / (2 * h)
        slope = interpolated(soap.basis_, r)[1]
        np.testing.assert_allclose(slope, difference, atol=1e-8 * np.abs(slope).max() + 1e-8)


@pytest.mark.parametrize("power", [1, 2])
def test_value_and_slope_vanish_at_the_cutoff(power):
    basis = SOAP(species=["Si"], r_cut=4.0, n_max=6, l_max=4, cutoff_power=power).fit([]).basis_
    near, slope = interpolated(basis, 4.0 - 1e-9)
    assert np.abs(near).max() < 1e-12
    assert np.abs(slope).max() < 1e-6
    further, _ = interpolated(basis, 3.5)
    assert np.abs(further).max() > 1e-5


def test_weight_formula_and_its_derivative():
    r = np.linspace(0, 5.5, 50)
    w, dw = radial.cutoff_weight(r, 5.0, 2)
    x = r / 5.0
    np.testing.assert_allclose(w, np.where(x < 1, (1 + 2 * x**3 - 3 * x**2) ** 2, 0), atol=1e-15)
    h = 1e-6
    inner = r < 4.9
    difference = (radial.cutoff_weight(r + h, 5.0, 2)[0] - radial.cutoff_weight(r - h, 5.0, 2)[0]) / (2 * h)
    np.testing.assert_allclose(dw[inner][1:], difference[inner][1:], atol=1e-9)
