"""Two strategies for the error bars of labels behind one contract, and a potential that asks nobody else."""

from dataclasses import replace

import numpy as np
import pytest

from gapkit.uncertainty.calibration import Calibration, GroupCalibration
from gapkit.uncertainty.label_errors import FittedErrors, StatedErrors
from gapkit.uncertainty.recalibration import ErrorModel, Recalibration
from gapkit.uncertainty.variance_parts import VarianceParts

RNG = np.random.default_rng(0)
PARTS = VarianceParts(RNG.uniform(0, 2, 40), RNG.uniform(0, 3, 40), RNG.uniform(0, 1, 40))
CALIBRATION = Calibration(
    {"energy": GroupCalibration(0.3, 0.5, 2.0), "forces": GroupCalibration(0.1, 0.4, 1.5),
     "forces:liquid": GroupCalibration(0.7, 0.4, 1.5)}, 1.0, 1.0,
)  # fmt: skip
#: variance 0.2 + 0.9 v^0.8 with v = weights + 0.1 residual + (hidden above 0.4)
MODEL = ErrorModel(0.2, 0.9, 0.8, 1.0, 0.1, 0.0, 100, 0.4)
FITTED = FittedErrors(CALIBRATION, Recalibration({"forces": MODEL}, {}, {}, 10))
RISE = 0.9 * (PARTS.weights + 0.1 * PARTS.residual + np.maximum(PARTS.hidden - 0.4, 0.0)) ** 0.8
LATENT = 0.4 * PARTS.residual + 1.5 * PARTS.weights


def test_stated_variances_are_those_of_the_levels():
    errors = StatedErrors(CALIBRATION)
    np.testing.assert_allclose(errors.variance("forces", PARTS, include_noise=False), LATENT)
    np.testing.assert_allclose(errors.variance("forces", PARTS), LATENT + 0.1**2)
    np.testing.assert_allclose(errors.variance("forces", PARTS, "liquid"), LATENT + 0.7**2)
    np.testing.assert_array_equal(errors.variance_ratio("forces", PARTS), np.ones(40))
    assert errors.recalibration is None and not errors.has_model("forces")


def test_fitted_variances_are_those_of_the_error_model():
    np.testing.assert_allclose(FITTED.variance("forces", PARTS), 0.2 + RISE)
    np.testing.assert_allclose(FITTED.variance("forces", PARTS, "liquid"), 0.2 + RISE)
    assert FITTED.has_model("forces") and not FITTED.has_model("energy")


def test_kinds_without_a_model_are_as_stated():
    np.testing.assert_array_equal(FITTED.variance("energy", PARTS), StatedErrors(CALIBRATION).variance("energy", PARTS))


def test_the_function_is_never_less_certain_than_stated_nor_than_the_model_bears_out():
    """The minimum of both, label by label; each of the two is the smaller one somewhere."""
    found = FITTED.variance("forces", PARTS, include_noise=False)
    np.testing.assert_allclose(found, np.minimum(RISE, LATENT))
    assert 0 < (RISE < LATENT).sum() < len(RISE)


def test_the_function_of_an_exact_mean_has_the_models_variance():
    exact = replace(FITTED, exact=True)
    np.testing.assert_allclose(exact.variance("forces", PARTS, include_noise=False), RISE)
    np.testing.assert_allclose(exact.variance_ratio("forces", PARTS) * LATENT, RISE)
    np.testing.assert_array_equal(exact.variance_ratio("energy", PARTS), np.ones(40))
    np.testing.assert_array_equal(FITTED.variance_ratio("forces", PARTS), np.ones(40))


def test_the_variance_ratio_is_that_to_the_levels_of_the_config_type():
    """Of an exact mean, ratio times stated variance is the model's: 0.4 rho + 1.5 omega, of liquids 0.8 rho + 0.5
    omega."""
    levels = {"forces": GroupCalibration(0.1, 0.4, 1.5), "forces:liquid": GroupCalibration(0.7, 0.8, 0.5)}
    exact = replace(FITTED, calibration=Calibration(levels, 1.0, 1.0), exact=True)
    liquid = 0.8 * PARTS.residual + 0.5 * PARTS.weights
    np.testing.assert_allclose(exact.variance_ratio("forces", PARTS) * LATENT, RISE)
    np.testing.assert_allclose(exact.variance_ratio("forces", PARTS, "liquid") * liquid, RISE)


def test_metadata_decides_nothing(gap, held_out):
    """A potential without its description predicts the same, error bars, domain and committee's levels included."""
    from gapkit.estimators.committee import frozen_levels

    bare = replace(gap.potential_, metadata={})
    for atoms in held_out:
        spreads = [
            p.standard_deviations(atoms, include_noise=noise) for p in (gap.potential_, bare) for noise in (True, False)
        ]
        for a, b in zip(spreads[:2], spreads[2:], strict=True):
            assert a.energy == b.energy
            np.testing.assert_array_equal(a.forces, b.forces)
            np.testing.assert_array_equal(a.local_energy, b.local_energy)
        structure = bare.structure(atoms)
        local = bare.local_std(structure, include_noise=False)
        assert bare.domain_excess(structure, local, False) == gap.potential_.domain_excess(structure, local, False)
    assert bare.domain_limit() == gap.potential_.domain_limit()
    levels = frozen_levels(gap, 0).noise_levels
    assert levels["forces"] == pytest.approx(gap.potential_.metadata["noise"]["forces"])
