"""Restraints, walls and tables: closed forms, finite differences, and the distributions that they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, RectBivariateSpline

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.biases import (
    Angle,
    Centroid,
    Distance,
    Harmonic,
    Table,
    Torsion,
    Walls,
    total_bias,
)
from gapkit.sampling.time_series import mean_estimate
from tests.numerical import VOIGT, central_difference
from tests.sampling.biases.test_variables import SKEWED, frames

PHI = np.linspace(-np.pi, np.pi, 36, endpoint=False)
R = np.linspace(0.5, 6.0, 30)
BIASES = [
    Harmonic(Distance(0, 1), 1.5, 3.0),
    Harmonic(Torsion(0, 1, 2, 3), (3.0, -3.0, 1.0), (1.0, 2.0, 3.0)),
    Walls(Distance(1, 3), 2.0, upper=1.5),
    Walls(Angle(1, 3, 4), 2.0, lower=2.8, upper=3.0),
    Walls(Torsion(1, 0, 3, 4), 2.0, lower=3.0, upper=3.5),
    Table((Torsion(0, 1, 2, 3),), (PHI,), 0.3 * np.cos(2 * PHI + 0.4)),
    Table((Torsion(0, 1, 2, 3), Distance(1, 4)), (PHI, R), 0.3 * np.sin(PHI)[:, None] / R),
]


def test_harmonic_by_hand():
    energy, slope = Harmonic(Distance(0, 1), 2.0, 3.0).potential(np.array([2.0, 2.5, 1.0]))
    assert energy.tolist() == [0, 0.375, 1.5]
    assert slope[:, 0].tolist() == [0, 1.5, -3]


def test_harmonic_takes_the_short_way_round():
    energy, slope = Harmonic(Torsion(0, 1, 2, 3), 3.0, 2.0).potential(np.array([-3.0]))
    away = 2 * np.pi - 6
    assert energy[0] == pytest.approx(away**2)
    assert slope[0, 0] == pytest.approx(2 * away)


def test_every_copy_has_its_own_centre():
    windows = Harmonic(Distance(0, 1), centre=np.array([1.0, 2.0, 3.0]), k=(1.0, 2.0, 4.0))
    assert windows.copies == 3
    energy, slope = windows.potential(np.full(3, 2.5))
    assert energy.tolist() == [1.125, 0.25, 0.5]
    assert slope[:, 0].tolist() == [1.5, 1.0, -2.0]
    x = frames(3)
    together = windows.evaluate(x)
    for k in range(3):
        one = windows.window(k)
        assert one.copies is None
        alone = one.evaluate(x[k])
        assert alone.energy[0] == pytest.approx(together.energy[k])
        np.testing.assert_allclose(alone.forces[0], together.forces[k], atol=1e-14)


def test_walls_by_hand():
    between = Walls(Distance(0, 1), k=2.0, lower=1.0, upper=2.0)
    energy, slope = between.potential(np.array([0.5, 1.0, 1.5, 2.0, 4.0]))
    assert energy.tolist() == [0.25, 0, 0, 0, 4]
    assert slope[:, 0].tolist() == [-1, 0, 0, 0, 4]
    assert Walls(Distance(0, 1), k=2.0, lower=1.0).potential(np.array([0.0, 9.0]))[0].tolist() == [1, 0]


def test_walls_of_a_torsion_push_to_the_nearer_one():
    """Allowed from 100 to 200 degrees, across the end of the range: at -90 degrees the way to 200 is 70 degrees."""
    lower, upper = np.radians([100, 200])
    walls = Walls(Torsion(0, 1, 2, 3), k=1.0, lower=lower, upper=upper)
    energy, slope = walls.potential(np.radians([150, -170, 90, -90, -29, -31]))
    distance = np.radians([0, 0, -10, 70, -129, 129])
    np.testing.assert_allclose(slope[:, 0], distance, atol=1e-12)
    np.testing.assert_allclose(energy, distance**2 / 2, atol=1e-12)


@pytest.mark.parametrize("bias", BIASES, ids=lambda b: f"{type(b).__name__}-{type(b.variables[0]).__name__}")
def test_forces_and_virial_are_derivatives_of_the_energy(bias):
    x = frames(3, seed=6)
    found = bias.evaluate(x, 2 * SKEWED, True)
    assert np.abs(found.forces).max() > 0.01
    assert found.values.shape == (3, len(bias.variables))
    np.testing.assert_allclose(found.forces.sum(axis=1), 0, atol=1e-10)
    for seed in range(3):
        step = np.random.default_rng(seed).normal(size=x.shape)
        numeric = central_difference(lambda h, d=step: bias.evaluate(x + h * d, 2 * SKEWED, True).energy, 1e-4)
        np.testing.assert_allclose(-np.sum(found.forces * step, axis=(1, 2)), numeric, atol=1e-7)
    for a, b in VOIGT:
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5

        def energy(h, strain=strain):
            deformation = np.eye(3) + h * strain
            return bias.evaluate(x @ deformation, 2 * SKEWED @ deformation, True).energy

        numeric = central_difference(energy, 1e-4)
        np.testing.assert_allclose(-found.virial[:, a, b], numeric, atol=1e-7)


def test_biases_add_up():
    x = frames(3)
    together = total_bias(BIASES, x)
    for name in ("energy", "forces", "virial"):
        parts = sum(getattr(b.evaluate(x), name) for b in BIASES)
        np.testing.assert_allclose(getattr(together, name), parts, atol=1e-12)
    assert together.values.shape == (3, 8)
    assert together.values[:, 0] == pytest.approx(Distance(0, 1).value(x))


def test_a_restraint_of_a_centroid_acts_on_every_bead():
    beads = np.stack([frames(4, seed=7), frames(4, seed=8)])
    bias = Harmonic(Centroid(Distance(0, 2)), (1.0, 2.0), 3.0)
    found = bias.evaluate(beads)
    assert found.forces.shape == beads.shape
    direct = Harmonic(Distance(0, 2), (1.0, 2.0), 3.0).evaluate(beads.mean(axis=1))
    np.testing.assert_allclose(found.energy, direct.energy)
    np.testing.assert_allclose(found.forces.sum(axis=1), direct.forces, atol=1e-12)
    assert np.ptp(found.forces, axis=1).max() == 0


def test_a_table_is_exact_where_a_cubic_spline_is():
    """Cubic polynomials, of one variable and of two, with their slopes."""
    s, t = np.linspace(0, 2, 7), np.linspace(-1, 1, 5)
    one = Table((Distance(0, 1),), (s,), s**3 - 2 * s)
    at = np.array([0.1, 0.77, 1.9, 2.0])
    energy, slope = one.potential(at)
    np.testing.assert_allclose(energy, at**3 - 2 * at, atol=1e-13)
    np.testing.assert_allclose(slope[:, 0], 3 * at**2 - 2, atol=1e-12)
    two = Table((Distance(0, 1), Angle(0, 1, 2)), (s, t), s[:, None] ** 3 * t**2 - t)
    pairs = np.array([[0.3, 0.2], [1.7, -0.9]])
    energy, slope = two.potential(pairs)
    np.testing.assert_allclose(energy, pairs[:, 0] ** 3 * pairs[:, 1] ** 2 - pairs[:, 1], atol=1e-13)
    np.testing.assert_allclose(slope[:, 0], 3 * pairs[:, 0] ** 2 * pairs[:, 1] ** 2, atol=1e-12)
    np.testing.assert_allclose(slope[:, 1], 2 * pairs[:, 0] ** 3 * pairs[:, 1] - 1, atol=1e-12)


def test_tables_are_splines_of_scipy():
    rng = np.random.default_rng(0)
    periodic = rng.normal(size=36)
    energy, slope = Table(Torsion(0, 1, 2, 3), (PHI,), periodic).potential(np.linspace(-9, 9, 50))
    theirs = CubicSpline(np.append(PHI, np.pi), np.append(periodic, periodic[0]), bc_type="periodic")
    np.testing.assert_allclose(energy, theirs(np.linspace(-9, 9, 50)), atol=1e-12)
    np.testing.assert_allclose(slope[:, 0], theirs(np.linspace(-9, 9, 50), 1), atol=1e-11)
    values = rng.normal(size=(30, 8))
    theta = np.linspace(0.1, 3, 8)
    at = np.stack([rng.uniform(0.5, 6, 20), rng.uniform(0.1, 3, 20)], axis=1)
    energy, slope = Table((Distance(0, 1), Angle(0, 1, 2)), (R, theta), values).potential(at)
    theirs = RectBivariateSpline(R, theta, values)
    np.testing.assert_allclose(energy, theirs.ev(*at.T), atol=1e-11)
    np.testing.assert_allclose(slope[:, 1], theirs.ev(*at.T, dy=1), atol=1e-10)


@given(st.floats(-20, 20), st.floats(0.6, 5.9))
def test_a_period_more_changes_nothing(phi, r):
    table = BIASES[-1]
    once = table.potential(np.array([[phi, r]]))
    again = table.potential(np.array([[phi + 2 * np.pi, r]]))
    np.testing.assert_allclose(again[0], once[0], atol=1e-12)
    np.testing.assert_allclose(again[1], once[1], atol=1e-12)


def test_a_table_ends_with_an_error_or_goes_on_with_its_slope():
    s = np.linspace(1, 2, 6)
    with pytest.raises(DataError, match=r"copy 1: Distance\(i=0, j=1\) = 2.5 is outside of the table.*ends at 1 and 2"):
        Table(Distance(0, 1), (s,), s**2).potential(np.array([1.5, 2.5]))
    energy, slope = Table(Distance(0, 1), (s,), s**2, extrapolate=True).potential(np.array([0.0, 2.5]))
    np.testing.assert_allclose(energy, [1 - 2, 4 + 2], atol=1e-12)
    np.testing.assert_allclose(slope[:, 0], [2, 4], atol=1e-12)


def test_beyond_the_edge_of_two_variables_energy_and_slope_are_continuous_and_agree():
    s, t = np.linspace(1, 2, 6), np.linspace(0, 1, 6)
    table = Table((Distance(0, 1), Angle(0, 1, 2)), (s, t), np.exp(s[:, None] * t), extrapolate=True)
    for point in ([2.4, 0.4], [0.2, 1.5], [2.5, -0.3], [1.5, 0.5]):
        at = np.array([point])
        slope = table.potential(at)[1][0]
        for k in range(2):
            step = np.eye(2)[k]
            numeric = central_difference(lambda h, at=at, step=step: table.potential(at + h * step)[0], 1e-4)
            assert slope[k] == pytest.approx(numeric[0], abs=1e-8)
    for edge in ([2.0, 0.4], [1.3, 1.0], [2.0, 1.0], [2.0, 1.7]):
        inner, outer = (table.potential(np.array([edge]) + h) for h in (-1e-9, 1e-9))
        np.testing.assert_allclose(inner[0], outer[0], atol=1e-7)
        np.testing.assert_allclose(inner[1], outer[1], atol=1e-6)


def test_free_atoms_under_restraints_have_the_distributions_of_theory():
    """Langevin dynamics (BAOAB) of a chain of four atoms that feel nothing but restraints: its probability is the
    product of r^2 for every distance, sin(theta) for every angle, and the Boltzmann factors, torsion included."""
    kT, friction, dt, copies = 0.1, 1.0, 0.1, 64
    chain = [Distance(0, 1), Distance(1, 2), Distance(2, 3), Angle(0, 1, 2), Angle(1, 2, 3), Torsion(0, 1, 2, 3)]
    centres, k = [1.5, 1.4, 1.6, 1.8, 1.2, 2.8], [5.0, 5.0, 5.0, 1.0, 1.0, 0.1]
    biases = [Harmonic(v, c, kk) for v, c, kk in zip(chain, centres, k, strict=True)]
    rng = np.random.default_rng(1)
    start = np.array([[1.46, -0.34, 0], [0, 0, 0], [0, 1.4, 0], [-1.4, 0.8, 0.5]])
    x = np.tile(start, (copies, 1, 1))
    v = rng.normal(size=x.shape, scale=np.sqrt(kT))
    decay = np.exp(-friction * dt)
    record = []
    force = total_bias(biases, x).forces
    for step in range(3000):
        v += dt / 2 * force
        x = x + dt / 2 * v
        v = decay * v + rng.normal(size=x.shape, scale=np.sqrt(kT * (1 - decay**2)))
        x = x + dt / 2 * v
        found = total_bias(biases, x)
        force = found.forces
        v += dt / 2 * force
        if step >= 500 and step % 5 == 0:
            record.append(found.values)
    samples = np.array(record)
    for n, variable in enumerate(chain):
        s = np.linspace(1e-3, np.pi - 1e-3, 4000) if n < 5 else centres[n] + np.linspace(-np.pi, np.pi, 4001)
        weight = np.exp(-k[n] / 2 * (s - centres[n]) ** 2 / kT) * (s**2 if n < 3 else np.sin(s) if n < 5 else 1)
        own = samples[:, :, n]
        if n == 5:
            own = centres[n] + (own - centres[n] + np.pi) % (2 * np.pi) - np.pi
        for power in (1, 2):
            exact = weight @ (s - centres[n]) ** power / weight.sum()
            estimate = mean_estimate(list((own.T - centres[n]) ** power))
            assert abs(estimate.value - exact) < 4 * estimate.value_std, (variable, power)
            assert estimate.value_std < 0.1 * np.sqrt(weight @ (s - centres[n]) ** 2 / weight.sum())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Harmonic(3, 1.0, 1.0), "3 is no collective variable"),
        (lambda: Harmonic(Distance(0, 1), np.nan, 1.0), "centre must be a finite number"),
        (lambda: Harmonic(Distance(0, 1), "a", 1.0), "centre must be a number"),
        (lambda: Harmonic(Distance(0, 1), (), 1.0), "centre must be"),
        (lambda: Harmonic(Distance(0, 1), 1.0, 0.0), "k must be above 0"),
        (lambda: Harmonic(Distance(0, 1), (1.0, 2.0), (1.0, 2.0, 3.0)), "2 centres but 3 force constants"),
        (lambda: Harmonic(Distance(0, 1), (1.0, 2.0), 1.0).window(2), "no copy 2 of 2"),
        (lambda: Walls(Distance(0, 1), 1.0), "give lower, upper, or both"),
        (lambda: Walls(Distance(0, 1), 1.0, lower=2.0, upper=1.0), "lower 2.0 is not below upper 1.0"),
        (lambda: Walls(Distance(0, 1), -1.0, lower=2.0), "k must be above 0"),
        (lambda: Walls(Distance(0, 1), 1.0, lower=np.inf), "lower must be a finite number"),
        (lambda: Walls(Torsion(0, 1, 2, 3), 1.0, lower=1.0), "give both lower and upper"),
        (lambda: Walls(Torsion(0, 1, 2, 3), 1.0, lower=-4.0, upper=4.0), "nothing of a period"),
        (lambda: Table((), (), 1.0), "one or two collective variables"),
        (lambda: Table(Distance(0, 1), (R,), R[1:]), r"energies \(29,\) do not fit"),
        (lambda: Table(Distance(0, 1), (R[::-1],), R), "ascending"),
        (lambda: Table(Distance(0, 1), R, R), r"grid must be a tuple of one array for each variable, such as"),
        (lambda: Table(Distance(0, 1), (R[:3],), R[:3]), "at least 4"),
        (lambda: Table(Distance(0, 1), (R,), np.where(R > 3, np.nan, R)), "is not finite"),
        (lambda: Table(Torsion(0, 1, 2, 3), (np.linspace(0, 2 * np.pi, 9),), np.zeros(9)), "leave out the last point"),
    ],
)
def test_biases_that_cannot_be(make, words):
    with pytest.raises(SettingsError, match=words):
        make()


def test_what_a_bias_refuses():
    x = frames(2)
    windows = Harmonic(Distance(0, 1), (1.0, 2.0, 3.0), 1.0)
    with pytest.raises(SettingsError, match="3 centres for 2 copies"):
        windows.evaluate(x)
    with pytest.raises(SettingsError, match="no atom 9 in a frame of 5"):
        Harmonic(Distance(0, 9), 1.0, 1.0).evaluate(x)
    with pytest.raises(DataError, match=r"shape \(R, 1\)"):
        windows.potential(np.ones((3, 2)))
    with pytest.raises(DataError, match="copy 1: a collective variable is not finite"):
        windows.potential(np.array([1.0, np.nan, 2.0]))
    with pytest.raises(SettingsError, match="centroids and of positions"):
        total_bias([windows, Harmonic(Centroid(Distance(0, 1)), 1.0, 1.0)], x)
    with pytest.raises(SettingsError, match="no bias at all"):
        total_bias([], x)


@pytest.mark.parametrize(
    "made",
    [
        lambda: Harmonic(Torsion(0, 1, 2, 3), 180.0, 1.0),
        lambda: Harmonic(Torsion(0, 1, 2, 3), (1.0, 60.0), 1.0),
        lambda: Harmonic(Angle(0, 1, 2), 104.5, 1.0),
        lambda: Walls(Angle(0, 1, 2), 1.0, upper=120.0),
    ],
)
def test_degrees_are_not_taken_for_radians(made):
    with pytest.raises(SettingsError, match=r"in radians .* give np.radians\((180|60|104.5|120)\)"):
        made()
