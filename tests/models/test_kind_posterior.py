"""Evidence and posterior of a regression whose targets are scaled: equal to dense formulas."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gapkit.models.kind_posterior import KindRegression

RNG = np.random.default_rng(3)
A, Y = RNG.normal(size=(30, 8)), RNG.normal(size=30)
PRECISION = RNG.uniform(0.5, 3, size=8)


def covariance(ratio, scale):
    return scale * (ratio * np.eye(30) + A @ np.diag(1 / PRECISION) @ A.T)


def regression():
    return KindRegression(A.T @ A, 30, PRECISION)


def test_the_evidence_is_that_of_the_dense_covariance_up_to_a_constant():
    y, other = Y, A @ RNG.normal(size=8) + 0.1 * RNG.normal(size=30)
    found, dense = [], []
    for target in (y, other):
        likely = regression().likely(A.T @ target, float(target @ target))
        found.append(likely.log_evidence)
        dense.append(multivariate_normal(cov=covariance(likely.ratio, likely.scale)).logpdf(target))
    assert found[1] - found[0] == pytest.approx(dense[1] - dense[0], abs=1e-8)


def test_no_other_ratio_or_scale_has_more_evidence():
    target = A @ RNG.normal(size=8) + 0.1 * RNG.normal(size=30)
    likely = regression().likely(A.T @ target, float(target @ target))
    best = multivariate_normal(cov=covariance(likely.ratio, likely.scale)).logpdf(target)
    for ratio, scale in ((2, 1), (0.5, 1), (1, 1.3), (1, 0.7)):
        other = multivariate_normal(cov=covariance(ratio * likely.ratio, scale * likely.scale)).logpdf(target)
        assert other < best


def test_the_posterior_is_that_of_dense_regression():
    r = regression()
    likely = r.likely(A.T @ Y, float(Y @ Y))
    posterior = r.posterior(A.T @ Y, likely)
    H = np.diag(PRECISION) + A.T @ A / likely.ratio
    np.testing.assert_allclose(posterior.weights, np.linalg.solve(H, A.T @ Y / likely.ratio), rtol=1e-9)
    variance = likely.scale * np.einsum("ri,ij,rj->r", A, np.linalg.inv(H), A)
    np.testing.assert_allclose(posterior.variances(A), variance, rtol=1e-9)
    np.testing.assert_allclose(
        posterior.variances(A[:, :3]),
        likely.scale * np.einsum("ri,ij,rj->r", A[:, :3], np.linalg.inv(H)[:3, :3], A[:, :3]),
        rtol=1e-9,
    )
