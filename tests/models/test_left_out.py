"""Errors of frames that are left out: equal to refits without them."""

import numpy as np
import pytest

from gapkit.models.left_out import KindRows, LeftOutFrames

PRECISION = np.array([0.5, 1.0, 2.0, 0.1])


def rows(seed=0, frames=6):
    rng = np.random.default_rng(seed)
    sizes = {"energy": 1, "forces": 6}
    return {
        (f, k): KindRows(rng.normal(size=(n, 4)), rng.normal(size=n)) for f in range(frames) for k, n in sizes.items()
    }


def refit(kept):
    """Posterior mean and covariance of the weights by dense algebra."""
    A, y = np.vstack([r.A for r in kept]), np.concatenate([r.y for r in kept])
    covariance = np.linalg.inv(np.diag(PRECISION) + A.T @ A)
    return covariance @ A.T @ y, covariance


@pytest.mark.parametrize("aside", [(), [(1, "forces")], [(0, "energy"), (0, "forces"), (3, "energy")]])
def test_errors_and_variances_are_those_of_a_refit_without_the_frame(aside):
    made = rows()
    found = LeftOutFrames(made, PRECISION).errors(aside)
    assert set(found) == set(made)
    for (frame, kind), e in found.items():
        mean, covariance = refit([r for key, r in made.items() if key[0] != frame and key not in aside])
        r = made[frame, kind]
        np.testing.assert_allclose(e.error, r.y - r.A @ mean, atol=1e-10)
        np.testing.assert_allclose(e.variance, np.einsum("nm,mk,nk->n", r.A, covariance, r.A), atol=1e-10)


def test_errors_given_some_labels_of_the_frame_are_those_of_a_refit_with_them():
    made = rows(1)
    found = LeftOutFrames(made, PRECISION).errors_given(2, {"forces": np.array([0, 4])}, [(3, "energy")])
    part = KindRows(made[2, "forces"].A[[0, 4]], made[2, "forces"].y[[0, 4]])
    mean, _ = refit([part, *(r for key, r in made.items() if key[0] != 2 and key != (3, "energy"))])
    for kind, error in found.items():
        np.testing.assert_allclose(error, made[2, kind].y - made[2, kind].A @ mean, atol=1e-10)


def test_the_robust_residuals_show_the_label_that_a_fit_by_squares_hides():
    rng = np.random.default_rng(2)
    truth = rng.normal(size=4)
    made = {(f, "energy"): KindRows(rng.normal(size=(1, 4)), np.zeros(1)) for f in range(12)}
    made = {key: KindRows(r.A, r.A @ truth) for key, r in made.items()}
    wrong = made[5, "energy"]
    made[5, "energy"] = KindRows(wrong.A, wrong.y + 1e4)
    model = LeftOutFrames(made, 1e-6 * PRECISION)
    plain, robust = model.residuals(1), model.residuals(30)
    others = [key for key in made if key[0] != 5]
    assert max(plain[key] for key in others) > 100
    assert max(robust[key] for key in others) < 1.0
    assert robust[5, "energy"] == pytest.approx(1e4, rel=1e-3)
