"""Saddles on analytic surfaces and of vacancy hops, against searches that share nothing with the package's."""

import numpy as np
import pytest
import scipy.optimize
from ase.calculators.emt import EMT
from ase.mep import NEB
from ase.optimize import BFGS

from gapkit.apps.kinetics.surfaces import PlaneSurface, leps_oscillator, mueller_brown, plane_atom
from gapkit.apps.kinetics.toys import vacancy_hop
from gapkit.sampling.paths import PathSettings, SaddleSettings, find_path, refine_saddle
from gapkit.sampling.relaxation import RelaxationSettings

IN_A_FIELD = PathSettings(align=False, same=0.05, saddle=SaddleSettings(fmax=1e-4))

#: surface, starting points of a root of its gradient: initial minimum, saddle, final minimum
PATHS = {
    "mueller-brown, upper": (mueller_brown, (-0.6, 1.4), (-0.8, 0.6), (0.0, 0.5)),
    "mueller-brown, lower": (mueller_brown, (0.6, 0.0), (0.2, 0.3), (0.0, 0.5)),
    "leps": (leps_oscillator, (0.74, 1.3), (2.0, -0.2), (3.0, -1.3)),
}
#: lattice constants (A) of fcc by EMT
LATTICES = {"Cu": 3.58983, "Al": 3.99427, "Pd": 3.87874, "Ni": 3.48714}


def root(surface, start):
    """Point at which the gradient vanishes, its energy, and the number of negative curvatures, by scipy."""
    found = scipy.optimize.root(lambda p: surface(*p)[1], start, tol=1e-12)
    assert found.success
    h = 1e-5
    H = np.array([(surface(*(found.x + h * e))[1] - surface(*(found.x - h * e))[1]) / (2 * h) for e in np.eye(2)])
    return found.x, surface(*found.x)[0], int(np.sum(np.linalg.eigvalsh(H) < 0))


@pytest.mark.parametrize("surface", [mueller_brown, leps_oscillator])
def test_gradients_of_the_surfaces_are_slopes_of_their_energies(surface):
    rng = np.random.default_rng(1)
    for point in rng.uniform((0.4, -0.5), (1.2, 1.5), size=(20, 2)):
        slope = scipy.optimize.approx_fprime(point, lambda p: surface(*p)[0], 1e-7)
        np.testing.assert_allclose(surface(*point)[1], slope, atol=2e-5 * max(1.0, np.abs(slope).max()))


@pytest.mark.parametrize("name", PATHS)
def test_barriers_of_analytic_surfaces_are_those_of_roots_of_the_gradient(name):
    surface, *starts = PATHS[name]
    (initial, low, a), (saddle, top, b), (final, high, c) = (root(surface, s) for s in starts)
    assert (a, b, c) == (0, 1, 0)
    assert top > max(low, high) and np.linalg.norm(final - initial) > 0.3
    rng = np.random.default_rng(0)
    ends = [plane_atom(*(p + rng.normal(scale=0.05, size=2))) for p in (initial, final)]
    path = find_path(*ends, PlaneSurface(surface), IN_A_FIELD)
    assert path.converged and path.connects == (True, True)
    assert path.barrier_forward == pytest.approx(top - low, abs=1e-4)
    assert path.barrier_backward == pytest.approx(top - high, abs=1e-4)
    np.testing.assert_allclose(path.saddle.atoms.positions[0, :2], saddle, atol=1e-3)


@pytest.mark.parametrize("name", PATHS)
def test_a_saddle_is_refined_from_a_point_near_it(name):
    surface, _, start, _ = PATHS[name]
    saddle, energy, _ = root(surface, start)
    found = refine_saddle(
        plane_atom(saddle[0] + 0.06, saddle[1] - 0.04), PlaneSurface(surface), SaddleSettings(fmax=1e-4, align=False)
    )
    assert found.is_saddle
    assert found.energy == pytest.approx(energy, abs=1e-6)


def band_barrier(initial, final):
    """Barrier (eV) by ASE's band with a climbing image."""
    for end in (initial, final):
        end.calc = EMT()
        BFGS(end, logfile=None).run(fmax=1e-3, steps=300)
    images = [initial, *(initial.copy() for _ in range(3)), final]
    for image in images[1:-1]:
        image.calc = EMT()
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate("idpp")
    BFGS(band, logfile=None).run(fmax=5e-3, steps=300)
    return max(image.get_potential_energy() for image in images) - initial.get_potential_energy()


@pytest.mark.parametrize(("metal", "barrier"), [("Cu", 0.7916), ("Al", 0.3977), ("Pd", 0.8699), ("Ni", 1.1637)])
def test_vacancy_hops_are_those_of_a_band_of_ase(metal, barrier):
    ends = vacancy_hop(metal, LATTICES[metal])
    path = find_path(*ends, EMT(), PathSettings(images=3, ends=RelaxationSettings(fmax=1e-3)))
    assert path.converged and path.connects == (True, True)
    assert path.barrier_forward == pytest.approx(band_barrier(*ends), abs=1e-4)
    assert path.barrier_forward == pytest.approx(barrier, abs=1e-4)
