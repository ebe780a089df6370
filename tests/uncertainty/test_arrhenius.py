"""Arrhenius laws with shared and independent errors."""

import numpy as np
import pytest
from ase.units import kB

from gapkit.exceptions import DataError
from gapkit.uncertainty.arrhenius import fit_arrhenius

T = np.linspace(400.0, 800.0, 9)
X = np.column_stack([np.ones(9), -1 / (kB * T)])


def test_an_exact_law_is_found():
    fit = fit_arrhenius(T, X @ [29.0, 0.7])
    assert fit.ln_prefactor == pytest.approx(29.0, abs=1e-10)
    assert fit.activation_energy == pytest.approx(0.7, abs=1e-12)


def test_an_error_of_the_barrier_moves_the_activation_energy_alone():
    shared = fit_arrhenius(T, X @ [29.0, 0.7], shared_covariance=np.outer(0.05 * X[:, 1], 0.05 * X[:, 1]))
    assert shared.activation_energy_std == pytest.approx(0.05, rel=1e-9)
    assert shared.ln_prefactor_std < 1e-6
    # the same errors taken as independent: the wrong answer that shared errors avoid
    apart = fit_arrhenius(T, X @ [29.0, 0.7], independent_std=-0.05 * X[:, 1])
    assert apart.ln_prefactor_std > 1.4
    assert apart.activation_energy_std > 0.07


def test_stated_covariances_are_those_of_repeated_fits():
    rng = np.random.default_rng(1)
    std = np.linspace(0.1, 0.3, 9)
    shared = 0.04 + 0.01 * np.outer(X[:, 1], X[:, 1]) / 100
    root = np.linalg.cholesky(shared + 1e-12 * np.eye(9))
    fits = []
    for _ in range(4000):
        y = X @ [29.0, 0.7] + std * rng.normal(size=9) + root @ rng.normal(size=9)
        fit = fit_arrhenius(T, y, std, shared)
        fits.append([fit.ln_prefactor, fit.activation_energy])
    found = np.cov(np.array(fits).T)
    scale = np.sqrt(np.outer(np.diagonal(fit.covariance), np.diagonal(fit.covariance)))
    assert np.abs((found - fit.covariance) / scale).max() < 4 * np.sqrt(2 / 4000)


def test_one_temperature_is_no_law():
    with pytest.raises(DataError, match="two temperatures"):
        fit_arrhenius(np.array([300.0, 300.0]), np.zeros(2))
    with pytest.raises(DataError, match="shared_covariance"):
        fit_arrhenius(T, np.zeros(9), shared_covariance=np.eye(3))
