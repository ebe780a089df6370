"""Error bars inside ``fit``: errors of each fold under a posterior that has not seen it."""

import warnings

import numpy as np
import pytest

import gapkit
from gapkit.exceptions import GapkitWarning
from gapkit.fitting import stages
from gapkit.fitting.out_of_fold import OutOfFold
from gapkit.uncertainty.label_errors import FittedErrors, pooled
from gapkit.uncertainty.recalibration import ErrorModel
from tests.conftest import copper_frames, small_gap


@pytest.fixture(scope="module")
def seen():
    """The out-of-fold errors of a small fit to frames enough, the fit, and its frames."""
    kept = []

    class Keeping(OutOfFold):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(self)

    frames = copper_frames(24, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "OutOfFold", Keeping)
        gap = small_gap().fit(frames)
    return kept[0], gap, frames


def test_errors_are_those_of_a_fit_without_the_fold(seen):
    """The same weights come out of a solution by QR of the other folds' triangles, and the same variances."""
    from gapkit.models.posterior import Posterior

    out_of_fold, gap, _ = seen
    fit = gap._fit
    order = [n for f in fit.triangles.folds for n in out_of_fold.sample if fit.folds[n] == f]
    for place, n in enumerate(order[:4]):
        levels, basis = fit.levels, gap.potential_.basis
        rest = Posterior.solve(fit.triangles, levels.noise, levels.signal, basis.column_terms(), leave_out=fit.folds[n])
        structure = gap.potential_.structure(out_of_fold.data.frames[n].atoms)
        rows = basis.rows(structure, hidden=True)
        A = basis.whiten(rows.K)
        targets = out_of_fold.data.targets[n]
        residual, weights = rest.variances(A, rows.prior)
        error, rho, omega, hidden = out_of_fold.errors[place].kinds["forces"]
        np.testing.assert_allclose(error, -(A @ rest.weights)[1:-6] - targets.forces.ravel(), atol=1e-6)
        np.testing.assert_allclose(rho, residual[1:-6], rtol=1e-6)
        np.testing.assert_allclose(omega, weights[1:-6], rtol=1e-5)
        np.testing.assert_allclose(hidden, (rows.hidden @ rest.signal**2)[1:-6], rtol=1e-12)
        error, rho, omega, _ = out_of_fold.errors[place].kinds["energy"]
        root = np.sqrt(targets.n_atoms)
        assert error[0] == pytest.approx(((A @ rest.weights)[0] - targets.energy) / root, abs=1e-6)
        assert (rho[0], omega[0]) == pytest.approx((residual[0] / root**2, weights[0] / root**2), rel=1e-5)


def test_the_models_are_fitted_to_these_errors(seen):
    out_of_fold, gap, _ = seen
    models = gap.potential_.errors.recalibration.models
    assert set(models) == {"energy", "forces", "virial"}
    error, *parts = pooled(out_of_fold.errors, range(len(out_of_fold.errors)), "forces")
    z = error / np.sqrt(models["forces"].variance(*parts))
    assert 0.7 < np.std(z[models["forces"].testable(*parts)]) < 1.2


def test_energies_expect_the_power_of_forces(seen):
    out_of_fold, gap, _ = seen
    models = gap.potential_.errors.recalibration.models
    labels = pooled(out_of_fold.errors, range(len(out_of_fold.errors)), "energy")
    assert models["energy"] == ErrorModel.fit(*labels, power=models["forces"].power)
    assert models["energy"] != ErrorModel.fit(*labels)


@pytest.mark.filterwarnings("default:error bars of energies follow from:gapkit.exceptions.GapkitWarning")
def test_few_energies_are_said_to_carry_little():
    with pytest.warns(GapkitWarning, match="follow from 6 held-out energies .* until there are 10"):
        small_gap().fit(copper_frames(6, seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_gap().fit(copper_frames(12, seed=1))


def test_a_sample_keeps_the_cost_bounded(seen, monkeypatch):
    out_of_fold, gap, _ = seen
    monkeypatch.setattr("gapkit.fitting.out_of_fold.LABELS", 100)
    monkeypatch.setattr("gapkit.fitting.out_of_fold.ENERGIES", 4)
    terms = gap.potential_.terms
    small = OutOfFold(
        out_of_fold.data, out_of_fold.basis, terms, gap._fit.folds, out_of_fold.progress_bar, out_of_fold.mean
    )
    whole = [n for n, both in small.sample.items() if both]
    assert sum(out_of_fold.data.targets[n].n_rows for n in whole) <= 150
    assert 0 < sum(not both for both in small.sample.values()) <= 4


def test_error_bars_of_fit_survive_the_file_and_promise_no_intervals(seen, tmp_path):
    _, gap, frames = seen
    gap.save(tmp_path / "m.gapkit")
    again = gapkit.load(tmp_path / "m.gapkit")
    assert isinstance(again.potential_.errors, FittedErrors)
    one, two = gap.predict(frames[:2], True), again.predict(frames[:2], True)
    np.testing.assert_array_equal(one.forces_std[0], two.forces_std[0])
    with pytest.raises(gapkit.exceptions.SettingsError, match="calibration split"):
        again.intervals(frames[:2])
