"""Levels: the objective by its definition, its gradient, and what the search does with hard cases."""

import numpy as np
import pytest

from gapkit.models.held_out import EnergyRows, HeldOutError
from gapkit.models.level_search import search_levels
from gapkit.models.levels import HeldOutStatistics, Levels, held_out_statistics
from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles
from gapkit.uncertainty.calibration import calibrate
from tests import systems

START = Levels({"energy": 0.05, "forces": 0.3, "virial": 0.5}, np.array([0.7, 0.4, 1.5]))
FREE = ("energy", "forces", "virial")


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(12)


def objective(model, kinds=("energy", "forces"), free_noise=FREE, free_signal=(0, 1, 2), energies=None):
    return HeldOutError(model.triangles, model.terms, START, free_noise, free_signal, kinds, energies)


def energy_rows(model):
    """Energies per atom of all frames that have one: a row is divided by the square root of atoms, twice."""
    mine = [(n, o) for n, o in model.observations if o.group == "energy"]
    A = model.basis.whiten(np.vstack([o.K / o.scale for _, o in mine]))
    return EnergyRows(A, np.array([o.y[0] / o.scale for _, o in mine]), np.array([model.folds[n] for n, _ in mine]))


def test_objective_is_half_the_log_of_the_held_out_mean_squares(model):
    squares = {"energy": 0.0, "forces": 0.0}
    counts = {"energy": 0, "forces": 0}
    for fold in range(3):
        posterior = Posterior.solve(model.triangles, START.noise, START.signal, model.terms, leave_out=fold)
        for kind in squares:
            triangle = model.triangles.items[kind, fold]
            squares[kind] += posterior.squared_error(triangle)
            counts[kind] += triangle.n_rows
    expected = sum(0.5 * np.log(squares[k] / counts[k]) for k in squares)
    f = objective(model)
    assert f(f.start_point)[0] == pytest.approx(expected, abs=1e-7)


def test_energies_count_by_mean_absolute_error_where_their_rows_are_at_hand(model):
    rows = energy_rows(model)
    absolute, squared, n_forces = 0.0, 0.0, 0
    for fold in range(3):
        posterior = Posterior.solve(model.triangles, START.noise, START.signal, model.terms, leave_out=fold)
        error = rows.A[rows.fold == fold] @ posterior.weights - rows.y[rows.fold == fold]
        absolute += np.sum(np.sqrt(error**2 + rows.rounding**2))
        squared += posterior.squared_error(model.triangles.items["forces", fold])
        n_forces += model.triangles.items["forces", fold].n_rows
    expected = np.log(absolute / len(rows.y)) + 0.5 * np.log(squared / n_forces)
    f = objective(model, energies=rows)
    assert f(f.start_point)[0] == pytest.approx(expected, abs=1e-7)
    assert rows.rounding == pytest.approx(0.003 * np.std(rows.y))


@pytest.mark.parametrize("kinds", [("energy", "forces"), ("forces",), ("virial",), None])
@pytest.mark.parametrize("energy_error", ["squared", "absolute"])
def test_gradient_equals_finite_differences(model, kinds, energy_error):
    f = objective(model, kinds, energies=energy_rows(model) if energy_error == "absolute" else None)
    x = f.start_point + np.random.default_rng(0).normal(scale=0.5, size=6)
    _, gradient = f(x)
    for k in range(6):
        step = np.zeros(6)
        step[k] = 1e-4
        numerical = (f(x + step)[0] - f(x - step)[0]) / 2e-4
        assert gradient[k] == pytest.approx(numerical, abs=1e-6)
    assert np.abs(gradient).max() > 1e-3


def test_search_lowers_the_objective_and_respects_bounds_and_fixed_levels(model):
    lower = {"energy": 0.04, "forces": 0.01, "virial": 0.01}
    f = objective(model)
    found = search_levels(f, lower)
    assert found.objective < f(f.start_point)[0] - 1e-3
    assert all(found.noise[g] >= 0.999 * lower[g] for g in FREE)
    only = search_levels(objective(model, free_noise=("forces",), free_signal=()), lower)
    assert only.noise["energy"] == START.noise["energy"]
    np.testing.assert_array_equal(only.signal, START.signal)
    assert only.noise["forces"] != START.noise["forces"]


def test_tied_groups_move_as_one(model):
    """Energies tied to virials: the value is that of the levels apart, the slope the sum of both slopes."""
    apart = objective(model, energies=energy_rows(model), kinds=("forces",))
    tied = HeldOutError(
        model.triangles, model.terms, START, ("forces", "virial"), (0, 1, 2), ("forces",), tied={"energy": "virial"}
    )
    x = tied.start_point + np.random.default_rng(1).normal(scale=0.5, size=5)
    levels = tied.levels(x)
    assert levels.noise["energy"] / levels.noise["virial"] == pytest.approx(
        START.noise["energy"] / START.noise["virial"]
    )
    value, noise, signal = tied.evaluate(levels)
    expected, by_noise, by_signal = apart.evaluate(levels)
    assert value == pytest.approx(expected, rel=1e-9)
    assert noise["virial"] == pytest.approx(by_noise["virial"] + by_noise["energy"], rel=1e-6)
    assert noise["forces"] == pytest.approx(by_noise["forces"], rel=1e-6)
    np.testing.assert_allclose(signal, by_signal, rtol=1e-6, atol=1e-9)


def test_a_search_ends_at_the_minimum_wherever_it_began(model):
    lower = dict.fromkeys(FREE, 1e-3)
    f = objective(model, energies=energy_rows(model))
    elsewhere = Levels({g: s * 1.7 for g, s in START.noise.items()}, START.signal * np.array([0.6, 1.5, 0.8]))
    one, other = search_levels(f, lower), search_levels(f, lower, [elsewhere])
    assert other.objective == pytest.approx(one.objective, abs=1e-9)
    np.testing.assert_allclose([other.noise[g] for g in FREE], [one.noise[g] for g in FREE], rtol=1e-3)
    np.testing.assert_allclose(other.signal, one.signal, rtol=1e-3)


def test_the_mean_does_not_depend_on_the_common_scale(model):
    base = Posterior.solve(model.triangles, START.noise, START.signal, model.terms)
    scaled = Posterior.solve(model.triangles, {g: 3 * s for g, s in START.noise.items()}, 3 * START.signal, model.terms)
    np.testing.assert_allclose(scaled.weights, base.weights, rtol=1e-8, atol=1e-10)
    A = model.basis.whiten(model.basis.rows(model.basis.structure(model.frames[0])).K)
    np.testing.assert_allclose(scaled.weight_variance(A), 9 * base.weight_variance(A), rtol=1e-8)


@pytest.mark.parametrize("group", ["energy", "forces", "virial"])
def test_one_label_kind_alone_is_enough(model, group):
    alone = Triangles(model.basis.n_columns, model.basis.n_terms)
    alone.items = {k: t for k, t in model.triangles.items.items() if k[0] == group}
    found = search_levels(HeldOutError(alone, model.terms, START, (group,), (0, 1, 2)), {group: 1e-3})
    assert np.isfinite(found.objective)
    assert found.noise[group] != START.noise[group]


def test_one_fold_leaves_the_start_as_it_is(model):
    single = systems.triangles_of(model.basis, model.observations, np.zeros(len(model.frames)))
    assert search_levels(HeldOutError(single, model.terms, START, FREE, (0,)), dict.fromkeys(FREE, 1e-3)) is START


def test_of_several_starts_the_best_end_counts(model):
    lower = dict.fromkeys(FREE, 1e-3)
    poor = Levels(dict.fromkeys(FREE, 0.01), 20 * START.signal)
    f = HeldOutError(model.triangles, model.terms, poor, FREE, (0, 1, 2))
    alone = search_levels(f, lower, max_iterations=1)
    helped = search_levels(f, lower, [poor, START], max_iterations=1)
    assert helped.objective < alone.objective
    assert search_levels(f, lower, [START, poor], max_iterations=1).objective == helped.objective


def test_calibration_makes_held_out_forces_standard(model):
    held_out = held_out_statistics(model.triangles, model.terms, START)
    calibration = calibrate(START, held_out)
    for group, s in held_out.items():
        c = calibration.of(group)
        expected = c.latent(s.residual, s.weight_variance) + c.noise**2
        assert expected == pytest.approx(s.squared_error, rel=1e-6)
        assert c.noise > 0
    unknown = calibration.of("forces", "a config_type never seen")
    assert unknown == calibration.groups["forces"]


def test_noise_groups_of_a_config_type(model):
    made = systems.all_observations(
        model.basis, model.frames, systems.made_up_targets(model.frames), separate_groups=("cluster",)
    )
    triangles = systems.triangles_of(model.basis, made, model.folds)
    assert "forces:cluster" in triangles.groups
    assert triangles.count("forces") + triangles.count("forces:cluster") == model.triangles.count("forces")


def test_a_residual_that_the_fit_ignored_claims_at_most_half_of_the_error():
    levels = Levels({"forces": 0.1}, np.array([30.0]))
    held_out = {"forces": HeldOutStatistics(100, 0.04, residual=1000.0, weight_variance=0.005)}
    c = calibrate(levels, held_out).of("forces")
    assert c.residual_scale * 1000 == pytest.approx(0.02)
    assert c.weight_scale * (0.005 + 0.01) == pytest.approx(0.02)
    small = {"forces": HeldOutStatistics(100, 0.04, residual=0.001, weight_variance=0.005)}
    c = calibrate(levels, small).of("forces")
    assert c.residual_scale == pytest.approx(c.weight_scale)


def test_noise_takes_at_least_a_quarter_of_the_held_out_error():
    levels = Levels({"forces": 1e-4, "energy": 1e-4}, np.array([1.0]))
    held_out = {
        "forces": HeldOutStatistics(100, 0.04, residual=0.0, weight_variance=0.01),
        "energy": HeldOutStatistics(10, 0.01, residual=0.0, weight_variance=5.0),
    }
    for group, s in held_out.items():
        c = calibrate(levels, held_out).of(group)
        assert c.noise**2 == pytest.approx(0.25 * s.squared_error)
        assert c.latent(s.residual, s.weight_variance) == pytest.approx(0.75 * s.squared_error)
