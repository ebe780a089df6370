"""Metrics, recalibration and conformal intervals on errors whose distribution is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

import gapkit
from gapkit.exceptions import DataError, SettingsError
from gapkit.fitting.recalibrate import frame_errors
from gapkit.structures.labels import labelled_frames
from gapkit.uncertainty import metrics
from gapkit.uncertainty.calibration import GroupCalibration
from gapkit.uncertainty.label_errors import FittedErrors
from gapkit.uncertainty.recalibration import POWER, ErrorModel, Recalibration, SplitConformal, power_of
from tests.conftest import copper_frames, small_gap

RNG = np.random.default_rng(0)
STD = np.exp(RNG.normal(size=20_000))
ERROR = STD * RNG.normal(size=STD.size)


# ---- metrics


def test_perfect_error_bars_have_perfect_numbers():
    s = metrics.CalibrationSummary.of(ERROR, STD)
    n = STD.size
    assert abs(s.z_std - 1) < 4 / np.sqrt(2 * n)
    assert abs(s.within_one_sigma - 0.6827) < 4 * np.sqrt(0.68 * 0.32 / n)
    assert s.miscalibration_area < 0.01
    assert s.calibration_error < 0.05
    assert s.sharpness == pytest.approx(np.sqrt(np.mean(STD**2)))
    assert s.negative_log_likelihood == pytest.approx(-np.mean(norm.logpdf(ERROR, scale=STD)), rel=1e-12)
    assert s.rank_correlation == pytest.approx(metrics.rank_correlation_ceiling(STD, RNG), abs=0.02)
    assert set(s.as_dict()) >= {"n", "z_std", "rmse"}


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_wrong_widths_show_in_every_number(factor):
    s = metrics.CalibrationSummary.of(ERROR, factor * STD)
    good = metrics.CalibrationSummary.of(ERROR, STD)
    assert s.z_std == pytest.approx(good.z_std / factor)
    assert s.calibration_error == pytest.approx(abs(1 / factor - 1), abs=0.06)
    assert s.miscalibration_area > 0.1
    assert s.negative_log_likelihood > good.negative_log_likelihood + 0.1
    nominal, inside = metrics.reliability_curve(ERROR, factor * STD)
    np.testing.assert_allclose(inside, 2 * norm.cdf(factor * norm.ppf(0.5 + nominal / 2)) - 1, atol=0.015)


def test_the_area_of_useless_error_bars_is_one_half():
    assert metrics.miscalibration_area(np.full(99, 1.0), np.full(99, 1e-9)) == pytest.approx(0.5, abs=0.01)
    assert metrics.miscalibration_area(np.full(99, 1e-9), np.full(99, 1.0)) == pytest.approx(0.5, abs=0.01)


def test_deciles_and_groups():
    predicted, seen = metrics.deciles(ERROR, STD)
    assert len(predicted) == 10 and np.all(np.diff(predicted) > 0)
    np.testing.assert_allclose(seen, predicted, rtol=0.15)
    assert metrics.deciles([1.0, 2.0], [1.0, 1.0]).shape == (2, 2)
    table = metrics.grouped_summary([1.0, -1.0, 4.0], [1.0, 1.0, 2.0], ["a", "a", "b"])
    assert (table["a"].z_std, table["b"].z_std, table["all"].n) == (1.0, 2.0, 3)
    text = metrics.summaries_table(table)
    assert [line.split()[0] for line in text.splitlines()] == ["group", "a", "b", "all"]
    with pytest.raises(DataError, match="one group per error"):
        metrics.grouped_summary([1.0], [1.0], ["a", "b"])


def test_out_of_domain_is_a_probability():
    assert metrics.out_of_domain_auroc([1, 2], [3, 4]) == 1
    assert metrics.out_of_domain_auroc([3, 4], [1, 2]) == 0
    assert metrics.out_of_domain_auroc([1, 3], [2, 4]) == 0.75
    with pytest.raises(DataError, match="at least one"):
        metrics.out_of_domain_auroc([], [1])


def test_the_cluster_bootstrap_knows_that_copies_tell_nothing():
    x = RNG.normal(size=40)
    copies, clusters = np.repeat(x, 50), np.repeat(np.arange(40), 50)
    low, high = metrics.cluster_bootstrap(np.mean, [copies], clusters, np.random.default_rng(0))
    assert (high - low) / (2 * 1.96 * x.std() / np.sqrt(40)) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("error", "std", "match"),
    [
        ([], [], "at least one"),
        ([1.0], [1.0, 2.0], "as many errors"),
        ([np.nan, 1.0], [1.0, 1.0], "error 0 is not finite"),
        ([1.0, 1.0], [1.0, 0.0], "standard deviation 1 is 0.0"),
        ([1.0], [np.inf], "standard deviation 0 is inf"),
    ],
)
def test_what_cannot_be_judged_is_named(error, std, match):
    with pytest.raises(DataError, match=match):
        metrics.CalibrationSummary.of(error, std)
    with pytest.raises(DataError, match="between 0 and 1"):
        metrics.reliability_curve([1.0], [1.0], [1.5])


# ---- the error model


def made_up(n, floor, factor, power, rng):
    omega = np.exp(rng.normal(scale=2, size=n)) * 1e-4
    rho = 1e-3 * rng.uniform(0.5, 1.5, size=n)
    variance = floor + factor * (omega / 1e-4) ** power
    return np.sqrt(variance) * rng.normal(size=n), rho, omega, variance


def test_the_likelihood_finds_the_truth():
    error, rho, omega, variance = made_up(20_000, 1e-3, 4e-3, 0.7, np.random.default_rng(1))
    model = ErrorModel.fit(error, rho, omega)
    assert model.power == pytest.approx(0.7, abs=0.05)
    ratio = model.variance(rho, omega) / variance  # the residual blurs the smallest omegas
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert np.quantile(np.abs(ratio - 1), 0.9) < 0.15


def test_a_few_labels_are_enough_and_the_variance_is_above_its_floor():
    error, rho, omega, _ = made_up(10, 1e-3, 4e-3, 0.7, np.random.default_rng(2))
    model = ErrorModel.fit(error, rho, omega)
    assert 0.3 < model.power < 1.5
    assert np.all(model.variance(np.zeros(3), np.zeros(3)) == model.floor) and model.floor > 0
    grid = model.variance(np.full(50, 1e-3), np.logspace(-8, 2, 50))
    assert np.all(np.diff(grid) > 0)
    far = model.variance(np.array([1e-3, 10.0]), np.full(2, 1e-4))
    assert far[1] > 10 * far[0]  # far from all sparse points the residual takes over
    with pytest.raises(DataError, match="at least 8 labels"):
        ErrorModel.fit(error[:7], rho[:7], omega[:7])
    with pytest.raises(DataError, match="at least 8 labels"):
        ErrorModel.fit(np.zeros(20), np.ones(20), np.ones(20))


def test_few_labels_keep_to_the_power_of_forces():
    error, rho, omega, _ = made_up(40, 1e-5, 4e-3, 1.0, np.random.default_rng(4))
    low, high = (ErrorModel.fit(error, rho, omega, power=power) for power in (0.5, 1.4))
    assert high.power > low.power + 0.1
    many, rho, omega, _ = made_up(20_000, 1e-5, 4e-3, 1.0, np.random.default_rng(5))
    low, high = (ErrorModel.fit(many, rho, omega, power=power) for power in (0.5, 1.4))
    assert high.power == pytest.approx(low.power, abs=0.01)
    assert power_of({"forces": high}) == high.power and power_of({"energy": high}) == POWER


def test_what_projections_hide_counts_in_full_beyond_what_calibration_labels_have():
    error, rho, omega, variance = made_up(20_000, 1e-3, 4e-3, 0.7, np.random.default_rng(6))
    hidden = 1e-4 * np.random.default_rng(7).uniform(size=len(omega))
    model = ErrorModel.fit(error, rho, omega, hidden)
    assert model.hidden_limit == pytest.approx(0.99e-4, rel=0.01)
    ratio = model.variance(rho, omega, hidden) / variance
    assert np.median(ratio) == pytest.approx(1, abs=0.03) and np.quantile(np.abs(ratio - 1), 0.9) < 0.15
    inside, outside = model.variance(1e-3, 1e-4, 0.9e-4), model.variance(1e-3, 1e-4, 1.0)
    assert inside == model.variance(1e-3, 1e-4)
    # as if the weights knew as little
    assert outside == pytest.approx(model.variance(1e-3, 1.0 + 1e-4 - model.hidden_limit)) and outside > 100 * inside
    stated = ErrorModel.stated(GroupCalibration(noise=0.01, residual_scale=0.3, weight_scale=2.0))
    assert stated.variance(1e-3, 1e-4, 1.0) == stated.variance(1e-3, 1e-4)


def test_the_joint_form_of_an_error_model_has_its_variances_on_the_diagonal():
    """With p = 1 and c = v_0 = 1 the rise of a variance is v itself, per atom."""
    rng, sizes = np.random.default_rng(0), np.array([4, 8, 2])
    model = ErrorModel(0.0, 1.0, 1.0, 1.0, 0.3, 0.0, 10, hidden_limit=0.2)
    residual, weights, hidden = (M @ M.T for M in rng.normal(size=(3, 3, 3)))
    joint = model.joint(residual, weights, hidden, sizes)
    parts = (np.diagonal(M) / sizes for M in (residual, weights, hidden))
    np.testing.assert_allclose(np.diagonal(joint) / sizes, model.rise(*parts), rtol=1e-12)
    assert np.linalg.eigvalsh(joint).min() > 0
    assert np.any(np.diagonal(hidden) > 0.2 * sizes)
    plain = replace(model, hidden_limit=None).joint(residual, weights, hidden, sizes)
    np.testing.assert_allclose(plain, weights + 0.3 * residual, rtol=1e-12)


def test_labels_fixed_by_symmetry_play_no_part():
    error, rho, omega, _ = made_up(500, 1e-3, 4e-3, 0.7, np.random.default_rng(3))
    zeros = np.zeros(500)
    with_zeros = ErrorModel.fit(np.r_[error, zeros], np.r_[rho, zeros], np.r_[omega, zeros])
    assert with_zeros == ErrorModel.fit(error, rho, omega)
    assert not with_zeros.has_error(zeros, zeros).any()
    assert with_zeros.has_error(rho, omega).all()


def test_one_scale_makes_the_mean_square_of_z_one():
    error, rho, omega, _ = made_up(300, 1e-3, 4e-3, 0.7, np.random.default_rng(4))
    group = GroupCalibration(noise=0.01, residual_scale=0.3, weight_scale=2.0)
    model = ErrorModel.stated(group).rescaled(error, rho, omega)
    stated = group.latent(rho, omega) + group.noise**2
    ratio = model.variance(rho, omega) / stated
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)
    assert np.mean(error**2 / model.variance(rho, omega)) == pytest.approx(1, rel=1e-12)


# ---- conformal


@pytest.mark.parametrize("level", [0.85, 0.87])
def test_conformal_coverage_is_exact_over_calibration_sets(level):
    """Mean over random calibration sets of n: ceil((n + 1) level)/(n + 1), whatever the distribution."""
    rng, n = np.random.default_rng(5), 19
    hits = []
    for _ in range(4000):
        scores = SplitConformal.fit(rng.standard_cauchy(n), np.ones(n), n)
        hits.append(abs(rng.standard_cauchy()) <= scores.factor(level))
    expected = np.ceil((n + 1) * level) / (n + 1)
    assert abs(np.mean(hits) - expected) < 4 * np.sqrt(expected * (1 - expected) / len(hits))


def test_conformal_refuses_what_it_cannot_promise():
    few = SplitConformal.fit(np.arange(1.0, 10.0), np.ones(9), 3)
    assert few.factor(0.9) == 9.0
    assert few.factor(0.5) == 5.0
    assert few.factor(0.5, by_frame=True) == 7.0  # 0.5 * 4/3 of ten is 6.67
    with pytest.raises(DataError, match="cannot promise a coverage of 95.0%"):
        few.factor(0.95)
    with pytest.raises(DataError, match="cannot promise"):
        few.factor(0.9, by_frame=True)
    with pytest.raises(DataError, match="between 0 and 1"):
        few.factor(1.0)


# ---- on a potential


@pytest.fixture(scope="module")
def recalibrated(train):
    return small_gap().fit(train).recalibrate(copper_frames(32, seed=3), random_state=0)


def test_recalibration_changes_what_labels_are_said_to_do_and_nothing_else(gap, recalibrated, held_out):
    before, after = gap.predict(held_out, True), recalibrated.predict(held_out, True)
    np.testing.assert_array_equal(before.energy, after.energy)
    np.testing.assert_array_equal(before.forces[0], after.forces[0])
    np.testing.assert_array_equal(before.local_energy_std[0], after.local_energy_std[0])
    assert np.abs(before.forces_std[0] / after.forces_std[0] - 1).max() > 0.05
    for g, labels in ((gap, before), (recalibrated, after)):
        function = g.predict(held_out, True, include_noise=False)
        assert all(np.all(f < label) for f, label in zip(function.forces_std, labels.forces_std, strict=True))


def test_standard_deviations_are_those_of_the_error_model(recalibrated, held_out):
    p = recalibrated.predict(held_out, True)
    models = recalibrated.potential_.errors.recalibration.models
    for k, frame in enumerate(labelled_frames(held_out, None, None, None, True)):
        kinds = frame_errors(recalibrated.potential_, frame, recalibrated.potential_.evaluate(frame.atoms)).kinds
        root = np.sqrt(frame.n_atoms)
        std = {kind: np.sqrt(models[kind].variance(*parts)) for kind, (_, *parts) in kinds.items()}
        np.testing.assert_allclose(p.energy_std[k], root * std["energy"][0], rtol=1e-10)
        np.testing.assert_allclose(p.forces_std[k].ravel(), std["forces"], rtol=1e-10)
        if "virial" in std:
            np.testing.assert_allclose(p.stress_std[k], root * std["virial"] / frame.volume, rtol=1e-10)


def test_recalibrated_z_scores_on_other_frames(recalibrated):
    summary = recalibrated.evaluate(copper_frames(24, seed=8)).summary
    assert 0.7 < summary["force_z_std"] < 1.4
    assert 0.5 < summary["energy_z_std"] < 2.0


def test_intervals_cover_and_need_a_calibration(gap, recalibrated):
    frames = copper_frames(24, seed=9)
    widths, p = recalibrated.intervals(frames), recalibrated.predict(frames)
    inside = np.concatenate(
        [(np.abs(f - a.get_forces()) <= w["forces"]).ravel() for f, a, w in zip(p.forces, frames, widths, strict=True)]
    )
    assert 0.8 < inside.mean() < 0.98
    narrower = recalibrated.intervals(frames[:1], level=0.5)[0]["forces"]
    assert np.all(narrower < widths[0]["forces"])
    assert np.all(recalibrated.intervals(frames[:1], 0.85, by_frame=True)[0]["energy"] > 0)
    with pytest.raises(SettingsError, match="call recalibrate"):
        gap.intervals(frames)


def test_half_widths_are_scores_times_standard_deviations(recalibrated, held_out):
    """q sigma of each label kind: energies and virials are scored per square root of atoms, stresses are virials over
    the volume."""
    found = recalibrated.potential_.errors.recalibration
    seen = set()
    for frame in labelled_frames(held_out, None, None, None, True):
        widths = recalibrated.intervals([frame.atoms], level=0.5)[0]
        root = np.sqrt(frame.n_atoms)
        for kind, (_, *parts) in frame_errors(
            recalibrated.potential_, frame, recalibrated.potential_.evaluate(frame.atoms)
        ).kinds.items():
            q, std = found.conformal[kind].factor(0.5), np.sqrt(found.interval_models[kind].variance(*parts))
            if kind == "virial":
                np.testing.assert_allclose(widths["stress"], root * q * std / frame.volume, rtol=1e-9)
            elif kind == "energy":
                np.testing.assert_allclose(widths["energy"], root * q * std[0], rtol=1e-9)
            else:
                np.testing.assert_allclose(widths["forces"].ravel(), q * std, rtol=1e-9)
            seen.add(kind)
    assert seen == {"energy", "forces", "virial"}


def test_no_label_sets_a_standard_deviation_and_gives_a_score(recalibrated):
    """The two halves of the calibration frames have all labels once."""
    found = recalibrated.potential_.errors.recalibration
    assert set(found.conformal) == {"energy", "forces", "virial"}
    for kind, conformal in found.conformal.items():
        assert found.interval_models[kind].n + len(conformal.scores) == found.models[kind].n
    assert found.conformal["forces"].n_frames == found.n_frames // 2


def test_a_recalibrated_model_is_saved_updated_and_used_by_its_calculator(recalibrated, held_out, tmp_path):
    recalibrated.save(tmp_path / "m.gapkit", updatable=True)
    again = gapkit.load(tmp_path / "m.gapkit")
    assert isinstance(again.potential_.errors, FittedErrors)
    assert again.potential_.errors.recalibration == recalibrated.potential_.errors.recalibration
    np.testing.assert_allclose(
        again.predict(held_out, True).forces_std[0], recalibrated.predict(held_out, True).forces_std[0], rtol=1e-10
    )
    again.update(held_out[:2])
    assert again.potential_.errors.recalibration == recalibrated.potential_.errors.recalibration
    atoms = held_out[3].copy()
    atoms.calc = recalibrated.calculator(uncertainty="full")
    atoms.get_potential_energy()
    np.testing.assert_allclose(
        atoms.calc.results["forces_std"], recalibrated.predict([atoms], True).forces_std[0], rtol=1e-10
    )
    joint = recalibrated.joint_energies(held_out)
    np.testing.assert_allclose(joint.std, recalibrated.predict(held_out, "energy").energy_std, rtol=1e-8)


def test_one_scale_per_kind(train, held_out):
    gap = small_gap().fit(train)
    before = gap.predict(held_out, True)
    after = gap.recalibrate(copper_frames(12, seed=3), method="scale", random_state=0).predict(held_out, True)
    for one, two in ((before.energy_std, after.energy_std), (before.forces_std[0], after.forces_std[0])):
        ratio = two / one
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-6)
    with pytest.raises(SettingsError, match="method must be"):
        gap.recalibrate(held_out, method="magic")
    with pytest.raises(DataError, match="at least 2 labelled frames"):
        gap.recalibrate(held_out[:1])


def test_a_recalibration_survives_json(recalibrated):
    import json

    found = recalibrated.potential_.errors.recalibration
    assert Recalibration.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_the_calibration_picture_is_drawn(tmp_path):
    from gapkit.plotting import calibration_figure

    calibration_figure(ERROR[:500], STD[:500], tmp_path / "c.png", "eV/A", "made up")
    assert (tmp_path / "c.png").stat().st_size > 10_000
    with pytest.raises(DataError, match="not positive"):
        calibration_figure([1.0], [0.0], tmp_path / "d.png")
    assert not (tmp_path / "d.png").exists()
