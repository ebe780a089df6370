"""Fracture in the continuum: fields against exact averages, learning against refits, growth against theory."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import beta

from gapkit.apps.fracture import continuum as fields
from gapkit.apps.fracture import toys
from gapkit.apps.fracture.crystals import matscipy_module
from gapkit.apps.fracture.fracture_potential import FracturePotential, critical_load, hold_out
from gapkit.apps.fracture.pictures import draw_arrest, draw_paths, draw_resistance, propagation_figure
from gapkit.apps.fracture.propagation import (
    Phases,
    PropagationSettings,
    Tip,
    TipDescriptors,
    grow_crack,
    resistance_curve,
    run_propagation,
)
from gapkit.exceptions import DataError, SettingsError
from gapkit.plotting import new_figure
from gapkit.randomness import seed_of

MATERIAL = toys.ToyMaterial()
STRAIGHT = PropagationSettings(step=10.0, max_turn=0.0)


@pytest.fixture(scope="module")
def data():
    return toys.griffith_crack_labels(MATERIAL)


@pytest.fixture(scope="module")
def potential(data):
    return FracturePotential().fit(*data).set_critical(toys.broken_pieces(MATERIAL))


@pytest.fixture(scope="module")
def tip():
    return TipDescriptors(MATERIAL.stress, MATERIAL.body.poisson)


# fields


def test_average_of_the_k_field_is_exact():
    """Radial and angular integrals by hand: 7/2 B(3/4, 7/2) / sqrt(2 pi R), and the mean over all angles."""
    R = 5.0
    front = 3.5 * beta(0.75, 3.5) / np.sqrt(2 * np.pi * R)
    mean, cross = 2 / np.pi, 0.8 / (2 * np.pi)
    expected = front * np.array([mean - cross, mean + cross])
    got = fields.averaged_field(fields.near_tip(1.0), R, 0.25)
    np.testing.assert_allclose(got[:2], expected, rtol=1e-4)
    assert got[2] == pytest.approx(0.25 * expected.sum(), rel=1e-4) and abs(got[5]) < 1e-12
    # off the tip: more points change nothing
    a, b = (fields.averaged_field(fields.near_tip(1.0, 0.4), R, 0.25, (2.0, 1.0), n) for n in (48, 96))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_k_field_is_matscipys_isotropic_one():
    r, theta = np.array([1.0, 2.0, 5.0]), np.array([0.3, -1.2, 2.5])
    crack = matscipy_module("fracture_mechanics.crack")
    xx, yy, xy = crack.isotropic_modeI_crack_tip_stress_field(1.3, r, theta)[:, [0, 1, 0], [0, 1, 1]].T
    got = fields.near_tip(1.3)(r * np.cos(theta), r * np.sin(theta))
    np.testing.assert_allclose(got, (xx, yy, xy), rtol=1e-10)


def test_a_finite_crack_has_the_k_field_at_its_tip_and_free_faces():
    a, yy, xy, xx = 500.0, 0.02, 0.01, 0.005
    exact = fields.griffith_crack(a, yy, xy, xx)
    near = fields.near_tip(yy * np.sqrt(np.pi * a), xy * np.sqrt(np.pi * a), xx - yy)
    theta = np.linspace(-3.0, 3.0, 9)
    x, y = 0.01 * np.cos(theta), 0.01 * np.sin(theta)
    np.testing.assert_allclose(exact(x, y), near(x, y), rtol=2e-2, atol=0.02)
    on_face = exact(np.array([-100.0, -400.0]), np.array([1e-9, 1e-9]))
    np.testing.assert_allclose(on_face[1:], 0.0, atol=1e-8)
    far = exact(np.array([3.0]), np.array([1e7]))
    np.testing.assert_allclose(np.ravel(far), [xx, yy, xy], rtol=1e-6)
    # equilibrium: d sxx/dx + d sxy/dy = 0
    h, p = 1e-3, (20.0, 7.0)
    dxx = exact(np.array([p[0] + h, p[0] - h]), np.full(2, p[1]))[0]
    dxy = exact(np.full(2, p[0]), np.array([p[1] + h, p[1] - h]))[2]
    assert (dxx[0] - dxx[1] + dxy[0] - dxy[1]) / (2 * h) == pytest.approx(0.0, abs=1e-10)


def test_kinks():
    assert fields.kink(0.0, 1.2, 0.3) == pytest.approx((1.2, 0.3))
    theta = np.linspace(-1.2, 1.2, 7)
    r = np.full(7, 1.0)
    xx, yy, xy = fields.near_tip(1.0, 0.4)(np.cos(theta), np.sin(theta))
    c, s = np.cos(theta), np.sin(theta)
    across = s**2 * xx + c**2 * yy - 2 * s * c * xy  # the stress on the kink's plane is what Cotterell and Rice take
    np.testing.assert_allclose(fields.kink(theta, 1.0, 0.4)[0] / np.sqrt(2 * np.pi * r), across, rtol=1e-12)
    assert fields.best_kink(1.0, 0.0) == pytest.approx(0.0, abs=1e-3)
    assert fields.best_kink(1.0, 0.3) < -0.3 and fields.best_kink(1.0, -0.3) > 0.3
    with pytest.raises(SettingsError, match="elastic body"):
        fields.Isotropic(-1.0)


# learning


def test_closed_form_left_out_errors_are_those_of_refits(data):
    X, y, groups = data
    model = FracturePotential().fit(X, y, groups)
    ridge = model.regressor_.ridge_
    out = groups == 1
    Z = (X - model.offset_) / model.scale_
    refit = type(ridge)(ridge.kernel_, ridge.alpha).fit(Z[~out], y[~out] - model.mean_)
    np.testing.assert_allclose(refit.predict(Z[out]) + model.mean_ - y[out], model.errors_[0][out], atol=1e-6)


def test_left_out_modes_are_predicted_with_honest_errors(data):
    held = hold_out(FracturePotential(), *data)
    assert held.r2 > 0.95
    assert 0.4 < held.z_rms < 2.5
    assert held.part(held.group == 1).rmse < 3 * held.rmse


def test_draws_have_the_mean_and_spread_of_the_prediction(potential, data):
    X = data[0][::40]
    mean, std = potential.predict(X, return_std=True)
    noise = potential.error_law_.value * potential.regressor_.process_.noise_
    function = np.sqrt(np.maximum(std**2 - noise**2, 0))
    rng = np.random.default_rng(0)
    drawn = np.array([potential.draw(rng)(X) for _ in range(400)])
    assert np.all(np.abs(drawn.mean(axis=0) - mean) < 4 * function / np.sqrt(400) + 1e-9)
    np.testing.assert_allclose(drawn.std(axis=0, ddof=1), function, rtol=0.2)
    joint = potential.sample(X, 400, rng)
    np.testing.assert_allclose(joint.std(axis=0, ddof=1), function, rtol=0.2)


def test_what_cannot_be_learned_is_said(data, potential, tip):
    X, y, _ = data
    with pytest.raises(DataError, match="one group"):
        FracturePotential().fit(X, y, np.zeros(len(y)))
    with pytest.raises(DataError, match="groups for"):
        FracturePotential().fit(X, y, np.zeros(3))
    with pytest.raises(DataError, match="two ruptures"):
        FracturePotential().fit(X, y).set_critical(X[:1])

    def pure(k):
        return tip(np.column_stack([k, 0 * k]), np.array([0, 1.0, 0]))

    with pytest.raises(DataError, match="below its critical"):
        critical_load(potential, pure, np.linspace(0.1, 0.3, 4))
    with pytest.raises(SettingsError, match="increasing"):
        critical_load(potential, pure, np.array([1.0, 0.5]))


# toys against theory


def test_critical_load_of_a_uniform_material_is_griffiths(potential, tip):
    """Trained on mixed modes of finite cracks, asked for the opening mode of an endless one."""

    def pure(k):
        return tip(np.column_stack([k, 0 * k]), np.array([0, 1.0, 0]))

    found = critical_load(potential, pure, np.linspace(0.5, 1.5, 11) * MATERIAL.griffith)
    assert found.std < 0.06 * MATERIAL.griffith
    assert abs(found.load - MATERIAL.griffith) < 2 * found.std


def test_growth_follows_an_exact_driving_force(tip):
    """With the exact label instead of the model the crack stops exactly where theory says, whatever the step."""
    body, edge = MATERIAL.body, 400.0
    beam = toys.DoubleCantilever(body)
    k_unit = tip([[1.0, 0.0, 0.0]], [0, 1.0, 0])[0, -2]

    def exact(X):  # the normal traction is proportional to kI
        return MATERIAL.driving(X[:, -2] / k_unit)

    phases = Phases((edge,), (0.0, MATERIAL.toughness * MATERIAL.area), (0.0, 0.0))
    for x, toughness in ((200.0, 1.0), (470.0, 1.0), (600.0, 2.0)):
        opening = beam.opening_for(toughness * MATERIAL.toughness, x)
        theory = beam.arrest(opening, (MATERIAL.toughness, 2 * MATERIAL.toughness), edge)
        for step in (3.0, 17.0):
            settings = PropagationSettings(step=step, max_turn=0.0)
            run = grow_crack(None, tip, beam.tip_load, [opening], settings, phases, exact)
            assert run.arrest_x[0] == pytest.approx(theory, abs=0.02 * step + 1e-9)
            assert np.all(run.excess > 0) and run.arrest[0] == pytest.approx(run.arrest_x[0])
    assert beam.arrest(beam.opening_for(MATERIAL.toughness, 470.0), (0.17, 0.34), edge) == edge


def test_arrest_in_two_phases_with_its_uncertainty(potential, tip):
    edge = 400.0
    beam = toys.DoubleCantilever(MATERIAL.body)
    tough = (MATERIAL.toughness, 2 * MATERIAL.toughness)
    phases = toys.two_phases(potential, MATERIAL, tough[1], edge)
    openings = [beam.opening_for(g, x) for g, x in ((tough[0], 150.0), (tough[0], 520.0), (tough[1], 560.0))]
    theory = [beam.arrest(o, tough, edge) for o in openings]
    assert theory == pytest.approx([150.0, edge, 560.0])
    settings = replace(STRAIGHT, n_samples=20)
    run = run_propagation(potential, tip, beam.tip_load, openings, settings, phases=phases, random_state=0)
    std = run.arrest_x_std
    assert len(str(run).splitlines()) == 5 and "400.00" in str(run)
    assert 1 < std[0] < 60 and std[1] == 0.0 and 1 < std[2] < 90
    assert run.share_at(edge)[1] == 1.0
    for k in (0, 2):
        assert abs(run.mean.arrest_x[k] - theory[k]) < 3 * std[k]
    # loads in one run: the crack never heals
    assert np.all(np.diff(run.mean.arrest_x) > 0)


def test_resistance_curve_steps_up_at_the_interface(potential, tip, tmp_path):
    phases = toys.two_phases(potential, MATERIAL, 1.5 * MATERIAL.toughness, 100.0)
    x, loads = np.array([0.0, 50.0, 99.0, 101.0, 300.0]), np.linspace(0.3, 1.6, 60) * MATERIAL.griffith
    curve = resistance_curve(potential, tip, x, loads, phases)
    expected = MATERIAL.griffith * np.sqrt([1, 1, 1, 1.5, 1.5])
    np.testing.assert_allclose(curve, expected, rtol=0.05)
    rng = np.random.default_rng(0)
    curves = np.array(
        [resistance_curve(potential, tip, x, loads, phases.draw(rng), potential.draw(rng)) for _ in range(5)]
    )
    figure, (axes,) = new_figure()
    draw_resistance(axes[0], x, curves, expected)
    figure.savefig(tmp_path / "r.png")
    assert resistance_curve(potential, tip, x[:1], loads[:5], phases)[0] == np.inf


def test_a_crack_under_shear_turns_towards_the_opening_mode(potential, tip, tmp_path):
    settings = PropagationSettings(step=10.0, max_turn=10.0, n_angles=21, max_length=200.0, n_samples=3)
    runs = []
    for ratio in (0.35, -0.35):
        load = toys.turning_load(ratio)
        runs.append(run_propagation(potential, tip, load, [1.6 * MATERIAL.griffith], settings, random_state=1))
        angle = np.mean(runs[-1].mean.angles[-8:])
        mode = np.arctan(ratio)
        theory = fields.best_kink(np.cos(mode), np.sin(mode))
        assert np.sign(angle) == np.sign(theory) and abs(angle - theory) < np.radians(4)
    # positive and negative shear mirror each other: the descriptors do not know the sign
    np.testing.assert_allclose(runs[0].mean.path, runs[1].mean.path * [1, -1], atol=1e-6)
    figure, (axes,) = new_figure()
    draw_paths(axes[0], [("+", runs[0]), ("-", runs[1])], [theory])
    figure.savefig(tmp_path / "p.png")
    beam = toys.DoubleCantilever(MATERIAL.body)
    openings = [beam.opening_for(MATERIAL.toughness, x) for x in (50.0, 100.0)]
    run = run_propagation(potential, tip, beam.tip_load, openings, replace(STRAIGHT, n_samples=3), random_state=0)
    draw_arrest(axes[0], np.array(openings), run, np.array([50.0, 100.0]), 400.0)
    propagation_figure(run, tmp_path / "arrest.png")
    assert (tmp_path / "arrest.png").stat().st_size > 10_000


def test_nothing_moves_below_the_threshold(potential, tip):
    still = grow_crack(potential, tip, toys.turning_load(0.0), [0.5 * MATERIAL.griffith])
    assert len(still.path) == 1 and still.arrest[0] == 0.0
    through = grow_crack(
        potential, tip, toys.turning_load(0.0), [1.5 * MATERIAL.griffith], PropagationSettings(max_length=50.0)
    )
    assert np.isinf(through.arrest[0]) and through.path[-1, 0] >= 45.0
    alone = run_propagation(potential, tip, toys.turning_load(0.0), [0.5 * MATERIAL.griffith])
    assert alone.samples == () and alone.arrest_x[0] == 0.0 and np.isnan(alone.arrest_x_std[0])
    with pytest.raises(SettingsError, match="no draws"):
        alone.share_at(0.0)


def test_a_generator_is_a_seed(data):
    """Fits take whole numbers as seeds; the questions of applications take generators too."""
    assert seed_of(np.random.default_rng(3)) == seed_of(np.random.default_rng(3)) != seed_of(np.random.default_rng(4))
    a, b = (FracturePotential(random_state=seed_of(np.random.default_rng(3))).fit(*data) for _ in range(2))
    np.testing.assert_array_equal(a.predict(data[0]), b.predict(data[0]))


@pytest.mark.parametrize(("angle", "x"), [(0.0, 0.0), (np.pi, -50.0)], ids=["to the right", "to the left"])
def test_a_crack_on_an_interface_meets_the_material_ahead_of_it(tip, angle, x):
    """A driving force of 2 eV on the interface between 1 eV (left) and 3 eV: the crack runs to the left alone."""
    run = grow_crack(
        None, tip, toys.turning_load(0.0), [MATERIAL.griffith], replace(STRAIGHT, max_length=50.0),
        Phases((0.0,), (1.0, 3.0), (0.0, 0.0)), lambda X: np.full(len(X), 2.0), Tip(angle=angle),
    )  # fmt: skip
    np.testing.assert_allclose(run.path[-1], [x, 0.0], atol=1e-9)
    np.testing.assert_allclose(run.excess, 1.0)
    assert run.arrest[0] == (0.0 if x == 0 else np.inf)


def test_settings_of_growth_are_checked():
    with pytest.raises(SettingsError, match="odd"):
        PropagationSettings(n_angles=4)
    with pytest.raises(SettingsError, match="positive"):
        PropagationSettings(step=0.0)
    with pytest.raises(SettingsError, match="p - 1 interfaces"):
        Phases((1.0,), (0.0,), (0.0,))
    with pytest.raises(SettingsError, match="increasing"):
        Phases((2.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    with pytest.raises(SettingsError, match="at least 2"):
        PropagationSettings(n_samples=1)
    assert Tip().grown == 0.0


class LinearDrive:
    """phi = 2 k - 3 with a standard deviation of 0.1 eV; critical value 1 +- 0.4 eV."""

    critical_, critical_std_ = 1.0, 0.4

    def predict(self, X, return_std=False):
        mean = 2.0 * X[:, 0] - 3.0
        return (mean, np.full(len(X), 0.1)) if return_std else mean


def test_error_bars_of_a_critical_load_are_those_of_the_driving_force_over_its_slope():
    found = critical_load(LinearDrive(), lambda k: np.asarray(k)[:, None], np.linspace(1.0, 3.0, 9))
    assert found.load == pytest.approx(2.0)
    assert found.model_std == pytest.approx(0.05)
    assert found.critical_std == pytest.approx(0.2)
    assert found.std == pytest.approx(np.hypot(0.05, 0.2))
