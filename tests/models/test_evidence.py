"""The evidence and the held-out density: against dense Gaussian densities, finite differences, and hard cases."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gapkit.models.evidence import Evidence, HeldOutDensity, negative_log_density, row_sums
from gapkit.models.level_search import search_levels
from gapkit.models.levels import Levels
from gapkit.models.observations import ISOLATED
from gapkit.models.triangles import Triangles
from tests import systems

LEVELS = Levels({"energy": 0.05, "forces": 0.3, "virial": 0.5}, np.array([0.7, 0.4, 1.5]))
FREE = ("energy", "forces", "virial")
LOWER = dict.fromkeys(FREE, 1e-3)


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(9)


def dense_log_density(model, folds, levels=LEVELS):
    """Log density of the labels as given (not divided by row scales) in ``folds``, with the trace correction."""
    kept = [o for n, o in model.observations if model.folds[n] in folds]
    scale = np.concatenate([np.full(len(o.y), o.scale) for o in kept])
    A = model.basis.whiten(np.vstack([o.K for o in kept])) * scale[:, None] * levels.signal[model.terms]
    y = np.concatenate([o.y for o in kept]) * scale
    variance = (np.concatenate([np.full(len(o.y), levels.noise[o.group]) for o in kept]) * scale) ** 2
    prior = np.vstack([o.prior for o in kept]) @ levels.signal**2 * scale**2
    log_density = multivariate_normal(cov=A @ A.T + np.diag(variance)).logpdf(y)
    return log_density - 0.5 * np.sum((prior - np.einsum("nm,nm->n", A, A)) / variance)


def test_evidence_is_the_dense_density_with_the_trace_correction(model):
    value, _, _ = negative_log_density(row_sums(model.triangles), LEVELS, model.terms)
    assert value == pytest.approx(-dense_log_density(model, {0, 1, 2}), rel=1e-8)
    evidence = Evidence(model.triangles, model.terms, LEVELS, FREE, (0, 1, 2))
    assert evidence.n_labels == sum(len(o.y) for _, o in model.observations)
    assert evidence.evaluate(LEVELS)[0] * evidence.n_labels == pytest.approx(value)


def test_the_trace_correction_counts(model):
    sums = row_sums(model.triangles)
    explained = {g: np.bincount(model.terms, np.diag(p.gram)[:-1], minlength=3) for g, p in sums.items()}
    residual = sum(LEVELS.noise[g] ** -2 * (p.prior - explained[g]) @ LEVELS.signal**2 for g, p in sums.items())
    assert residual > 1.0


def test_held_out_density_is_that_of_each_fold_given_the_others(model):
    everything = dense_log_density(model, {0, 1, 2})
    folds = [everything - dense_log_density(model, {0, 1, 2} - {f}) for f in range(3)]
    labels = sum(len(o.y) for _, o in model.observations)
    value, _, _ = HeldOutDensity(model.triangles, model.terms, LEVELS, FREE, (0, 1, 2)).evaluate(LEVELS)
    assert value == pytest.approx(-sum(folds) / labels, rel=1e-8)


@pytest.mark.parametrize("objective", [Evidence, HeldOutDensity])
def test_gradient_equals_finite_differences(model, objective):
    f = objective(model.triangles, model.terms, LEVELS, FREE, (0, 1, 2))
    x = f.start_point + np.random.default_rng(0).normal(scale=0.4, size=6)
    _, gradient = f(x)
    for k in range(6):
        step = np.zeros(6)
        step[k] = 1e-4
        numerical = (f(x + step)[0] - f(x - step)[0]) / 2e-4
        assert gradient[k] == pytest.approx(numerical, rel=1e-6, abs=1e-7)
    assert np.abs(gradient).min() > 1e-4


@pytest.mark.parametrize("objective", [Evidence, HeldOutDensity])
def test_search_ends_where_the_gradient_vanishes(model, objective):
    f = objective(model.triangles, model.terms, LEVELS, FREE, (0, 1, 2))
    found = search_levels(f, LOWER, max_iterations=200)
    assert found.objective < f(f.start_point)[0] - 0.01
    _, gradient = f(f.point(found))
    assert np.abs(gradient).max() < 2e-3


def test_evidence_needs_no_folds_but_density_and_error_do(model):
    single = systems.triangles_of(model.basis, model.observations, np.zeros(len(model.frames)))
    assert search_levels(Evidence(single, model.terms, LEVELS, FREE, (0, 1, 2)), LOWER) is not LEVELS
    assert search_levels(HeldOutDensity(single, model.terms, LEVELS, FREE, (0, 1, 2)), LOWER) is LEVELS


@pytest.mark.parametrize("objective", [Evidence, HeldOutDensity])
@pytest.mark.parametrize("group", FREE)
def test_one_label_kind_alone_is_enough(model, objective, group):
    alone = Triangles(model.basis.n_columns, model.basis.n_terms)
    alone.items = {k: t for k, t in model.triangles.items.items() if k[0] == group}
    found = search_levels(objective(alone, model.terms, LEVELS, (group,), (0, 1, 2)), LOWER)
    assert np.isfinite(found.objective)
    assert found.noise[group] >= 0.999 * LOWER[group]


def test_one_frame_is_enough_for_the_evidence(model):
    one = systems.triangles_of(model.basis, [(n, o) for n, o in model.observations if n == 0], model.folds)
    levels = Levels({g: LEVELS.noise[g] for g in one.groups}, LEVELS.signal)
    found = search_levels(Evidence(one, model.terms, levels, one.groups, (0, 1, 2)), LOWER)
    assert np.isfinite(found.objective)


def test_duplicated_frames_leave_the_noise_above_its_bound_and_the_density_finite(model):
    twice = systems.triangles_of(model.basis, model.observations + model.observations, model.folds)
    for objective in (Evidence, HeldOutDensity):
        found = search_levels(objective(twice, model.terms, LEVELS, FREE, (0, 1, 2)), LOWER)
        assert np.isfinite(found.objective)
        assert all(found.noise[g] >= 0.999 * LOWER[g] for g in FREE)


def test_a_group_with_a_fixed_level_counts_and_stays(model):
    isolated = Triangles(model.basis.n_columns, model.basis.n_terms)
    isolated.items = dict(model.triangles.items)
    isolated.items[ISOLATED, -1] = model.triangles.items["energy", 0]
    start = Levels({**LEVELS.noise, ISOLATED: 0.02}, LEVELS.signal)
    found = search_levels(HeldOutDensity(isolated, model.terms, start, FREE, (0, 1, 2)), LOWER)
    assert found.noise[ISOLATED] == 0.02
    plain = HeldOutDensity(model.triangles, model.terms, LEVELS, FREE, (0, 1, 2)).evaluate(LEVELS)[0]
    assert HeldOutDensity(isolated, model.terms, start, FREE, (0, 1, 2)).evaluate(start)[0] != pytest.approx(plain)
