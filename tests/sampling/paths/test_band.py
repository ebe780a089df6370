"""Bands: tangents and spring forces by the papers, optimisers of fields of forces, rigid modes, cubic pieces."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.mep import NEB

from gapkit.sampling.batches import batch_forces
from gapkit.sampling.paths import PathCurve, band
from gapkit.sampling.paths.band import Fire, QuasiNewton, band_forces, optimise_band, tangents
from gapkit.sampling.paths.rigid import aligned, rigid_modes, without
from tests.numerical import central_difference, random_rotation
from tests.sampling.surfaces import CoupledDoubleWell, MullerBrown, Quadratic


def random_band(seed: int, k: int = 5, f: int = 6):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(k + 2, f)), axis=0), rng.normal(size=k + 2), rng.normal(size=(k, f))


# exact answers
@pytest.mark.parametrize(
    ("energies", "expected"),
    [
        ((0.0, 1.0, 2.0), (0.0, 2.0)),  # rising: towards the image after
        ((2.0, 1.0, 0.0), (1.0, 0.0)),  # falling: from the image before
        ((0.0, 3.0, 1.0), (2.0, 2.0 * 3.0)),  # maximum, higher after: 2 before, 3 after
        ((1.0, 3.0, 0.0), (3.0, 2.0 * 2.0)),
        ((2.0, 0.0, 1.0), (2.0, 2.0 * 1.0)),  # minimum, higher before
        ((1.0, 1.0, 1.0), (1.0, 2.0)),
    ],
)
def test_tangents_are_those_of_equations_8_to_11(energies, expected):
    """From (0, 0) by (1, 0) to (1, 2): the pieces are (1, 0) and (0, 2)."""
    (t,) = tangents(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), np.array(energies))
    np.testing.assert_allclose(t, np.array(expected) / np.linalg.norm(expected), atol=1e-12)


def test_springs_pull_along_the_tangent_and_the_energy_across_it():
    x, energies, forces = random_band(1)
    t = tangents(x, energies)
    total, residual = band_forces(x, forces, t, 2.0, climbing=2)
    length = np.linalg.norm(np.diff(x, axis=0), axis=1)
    for k in range(5):
        along = forces[k] @ t[k]
        if k == 2:
            np.testing.assert_allclose(total[k], forces[k] - 2 * along * t[k], atol=1e-12)
            np.testing.assert_allclose(residual[k], total[k])
        else:
            assert total[k] @ t[k] == pytest.approx(2.0 * (length[k + 1] - length[k]))
            np.testing.assert_allclose(total[k] - (total[k] @ t[k]) * t[k], forces[k] - along * t[k], atol=1e-12)
            np.testing.assert_allclose(residual[k], forces[k] - along * t[k], atol=1e-12)


# another library
@pytest.mark.parametrize("climb", [False, True])
def test_forces_on_a_band_are_those_of_ase(climb):
    surface, rng = Quadratic(3, seed=2), np.random.default_rng(3)
    images = [Atoms("Ar3", positions=rng.normal(size=(3, 3))) for _ in range(6)]
    for image in images:
        image.calc = surface
    neb = NEB(images, k=0.7, climb=climb, method="improvedtangent", allow_shared_calculator=True)
    expected = neb.get_forces().reshape(4, -1)
    x = np.array([image.positions.ravel() for image in images])
    energies = np.array([surface.value(image.positions)[0] for image in images])
    forces = -np.array([surface.value(image.positions)[1].ravel() for image in images[1:-1]])
    top = int(np.argmax(energies[1:-1])) if climb else None
    np.testing.assert_allclose(band_forces(x, forces, tangents(x, energies), 0.7, top)[0], expected, atol=1e-10)
    assert np.abs(expected).max() > 0.1


# optimisers
@pytest.mark.parametrize("kind", [QuasiNewton, Fire])
def test_a_mover_brings_a_quadratic_to_its_minimum(kind):
    surface = Quadratic(2, seed=4)
    x, mover = surface.minimum.reshape(2, 3) + 0.5, kind(0.2)
    for _ in range(400):
        forces = -surface.value(x)[1]
        step = mover.step(x, forces)
        assert np.linalg.norm(step, axis=1).max() < 0.2 + 1e-12
        x = x + step
        if np.abs(forces).max() < 1e-6:
            break
    np.testing.assert_allclose(x, surface.minimum, atol=1e-5)


def muller_brown_band(**options):
    start, end = MullerBrown.at(MullerBrown.reactant[0]), MullerBrown.at(MullerBrown.middle[0])
    share = np.linspace(0, 1, 9)[:, None, None]
    line = (1 - share) * start.positions + share * end.positions
    ends = np.array([MullerBrown.reactant[1], MullerBrown.middle[1]])
    settings = {"fmax": 1e-3, "steps": 400, "modes": False, "spring": 1.0, "climb_below": 0.3} | options
    return optimise_band(line, ends, batch_forces(start, MullerBrown()), np.arange(1), start.pbc, **settings)


def test_the_climbing_image_comes_to_the_saddle():
    found = muller_brown_band()
    top = found.positions[1 + found.climbing]
    assert found.converged and found.residual.max() < 1e-3
    np.testing.assert_allclose(top[0, :2], MullerBrown.saddle[0], atol=2e-4)
    assert found.energies[found.climbing] == pytest.approx(MullerBrown.saddle[1], abs=1e-6)
    lengths = np.linalg.norm(np.diff(found.positions, axis=0), axis=(1, 2))
    assert lengths[:2].std() < 0.1 * lengths.mean()  # springs space the images on each side


def test_fire_takes_over_where_quasi_newton_makes_no_headway(monkeypatch):
    used = []
    monkeypatch.setattr(band, "PATIENCE", 0)
    monkeypatch.setattr(band, "Fire", lambda longest: used.append(1) or Fire(longest))
    found = muller_brown_band(steps=2000)
    assert used == [1]
    assert found.converged and found.energies[found.climbing] == pytest.approx(MullerBrown.saddle[1], abs=1e-6)


def test_a_band_that_starts_on_the_path_still_climbs():
    """Without coupling the straight line is the path, with no force across it; two of its images share the top."""
    well = CoupledDoubleWell()
    well.c = np.zeros(3)
    line = np.array([[[x, 0.0, 0.0], well.o] for x in np.linspace(-well.a, well.a, 6)])
    atoms = well.minimum(1.0)
    options = {"fmax": 1e-4, "steps": 100, "modes": False, "spring": 1.0}
    still = optimise_band(line, np.zeros(2), batch_forces(atoms, well), np.arange(2), atoms.pbc, **options)
    assert still.converged and still.iterations == 1
    climbed = optimise_band(
        line, np.zeros(2), batch_forces(atoms, well), np.arange(2), atoms.pbc, climb_below=0.3, **options
    )
    assert climbed.converged and climbed.energies.max() == pytest.approx(well.h, abs=1e-6)


def test_no_image_drifts_with_rigid_modes_left_out():
    """Neither under springs to images that stand aside, nor in a field."""
    well, rng = CoupledDoubleWell(), np.random.default_rng(0)
    line = np.linspace(well.minimum(-1.0).positions, well.minimum(1.0).positions, 6)
    line[1:-1] += rng.normal(scale=0.3, size=(4, 1, 3))
    atoms, none = well.minimum(1.0), lambda x: (np.arange(float(len(x))), np.zeros_like(x))
    options = {"fmax": 0.0, "steps": 4, "spring": 1.0}
    for evaluate in (batch_forces(atoms, well), none):
        for modes in (True, False):
            found = optimise_band(line, np.zeros(2), evaluate, np.arange(2), atoms.pbc, modes=modes, **options)
            drift = np.abs(found.positions.mean(axis=1) - line.mean(axis=1)).max()
            assert drift < 1e-9 if modes else drift > 1e-3
            assert np.abs(found.positions - line).max() > 1e-3


def test_a_band_that_does_not_climb_straddles_the_saddle():
    found = muller_brown_band(climb_below=None)
    assert found.converged and found.climbing is None
    assert found.energies.max() < MullerBrown.saddle[1] - 1e-5


def test_the_band_stops_when_it_is_told_to_and_says_so():
    told = []
    found = muller_brown_band(each=lambda force: told.append(force) or len(told) == 3)
    assert not found.converged and found.iterations == 3 and told[2] == pytest.approx(found.residual.max())
    assert not muller_brown_band(steps=2).converged


# rigid motion
@pytest.mark.parametrize(("name", "count"), [("H2O", 6), ("CO2", 5), ("N2", 5), ("H", 3)])
def test_rigid_modes_leave_distances_and_are_as_many_as_they_should(name, count):
    atoms = molecule(name) if name != "H" else Atoms("H")
    atoms.positions = atoms.positions @ random_rotation(np.random.default_rng(1)) + [5.0, -3.0, 1.0]
    n = len(atoms)
    modes = rigid_modes(atoms.positions, np.arange(n), atoms.pbc)
    np.testing.assert_allclose(modes @ modes.T, np.eye(count), atol=1e-10)
    for mode in modes:

        def distances(h, mode=mode):
            x = atoms.positions + h * mode.reshape(-1, 3)
            return np.linalg.norm(x[:, None] - x[None], axis=2).ravel()

        np.testing.assert_allclose(central_difference(distances, 1e-3), 0.0, atol=1e-8)
    assert len(rigid_modes(atoms.positions, np.arange(n), np.array([True, False, False]))) == 3
    assert len(rigid_modes(atoms.positions, np.arange(n - 1), atoms.pbc)) == 0
    v = np.random.default_rng(0).normal(size=(2, 3 * n))
    np.testing.assert_allclose(without(modes, v) @ modes.T, 0.0, atol=1e-12)


def test_alignment_undoes_a_rotation_but_no_reflection():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6, 3))
    np.testing.assert_allclose(aligned(x @ random_rotation(rng) + [1.0, 2.0, 3.0], x), x, atol=1e-10)
    mirrored = aligned(x * [1.0, 1.0, -1.0], x)
    assert np.abs(mirrored - x).max() > 0.1
    volume = np.linalg.det(x[1:4] - x[0])
    assert np.linalg.det(mirrored[1:4] - mirrored[0]) == pytest.approx(-volume)


# cubic pieces
def test_a_cubic_along_a_line_is_reproduced_with_its_extrema():
    """E = s^3 - 6 s^2 + 9 s has a maximum at 1 and a minimum at 3."""
    s = np.array([0.0, 0.7, 1.6, 2.2, 3.4, 4.0])
    way = np.array([[2.0, -1.0, 2.0], [0.0, 0.0, 0.0]]) / 3.0
    positions = s[:, None, None] * way
    slope = 3 * s**2 - 12 * s + 9
    curve = PathCurve(positions, s**3 - 6 * s**2 + 9 * s, -slope[:, None, None] * way)
    np.testing.assert_allclose(curve.coordinate, s, atol=1e-12)
    np.testing.assert_allclose(curve.slope, slope, atol=1e-12)
    fine = np.linspace(0, 4, 37)
    np.testing.assert_allclose(curve.energy(fine), fine**3 - 6 * fine**2 + 9 * fine, atol=1e-10)
    np.testing.assert_allclose(curve.positions(fine), fine[:, None, None] * way, atol=1e-12)
    high, low = curve.extrema()
    np.testing.assert_allclose(high, [1.0], atol=1e-9)
    np.testing.assert_allclose(low, [3.0], atol=1e-9)


def test_slopes_of_positions_are_those_of_parabolas_through_three_images():
    x = np.random.default_rng(1).normal(size=(5, 2, 3))
    curve = PathCurve(x, np.zeros(5), np.zeros((5, 2, 3)))
    s = curve.coordinate
    np.testing.assert_allclose(s, [0.0, *np.cumsum(np.linalg.norm(np.diff(x, axis=0), axis=(1, 2)))])
    for k in range(5):
        three = np.clip(k - 1, 0, 2) + np.arange(3)
        slope = [np.polyval(np.polyder(np.polyfit(s[three], y, 2)), s[k]) for y in x[three].reshape(3, 6).T]
        step = 1e-6 if k < 4 else -1e-6
        fitted = (curve.positions(s[k] + step) - curve.positions(s[k])) / step
        np.testing.assert_allclose(fitted.ravel(), slope, atol=1e-4)


def test_the_slope_of_the_curve_at_an_image_is_that_of_the_energy_along_it():
    surface = CoupledDoubleWell()
    p = np.array([-1.0, -0.6, -0.1, 0.3, 0.9])
    x = np.array([[[q, 0.1, 0.0], [q, 3.0 + q**2, 0.0]] for q in p])
    values = [surface.value(y) for y in x]
    curve = PathCurve(x, np.array([e for e, _ in values]), -np.array([g for _, g in values]))
    for k in range(1, 4):
        s = curve.coordinate[k]
        exact = central_difference(lambda h, s=s: surface.value(curve.positions(s + h))[0], 1e-5)
        fitted = central_difference(lambda h, s=s: curve.energy(s + h), 1e-5)
        assert exact == pytest.approx(curve.slope[k], abs=1e-5) and abs(exact) > 0.1
        assert fitted == pytest.approx(curve.slope[k], abs=1e-5)
