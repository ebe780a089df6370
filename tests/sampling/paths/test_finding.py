"""Paths from end to end: barriers in closed form, the Mueller-Brown surface, ASE's bands, molecules, periodic cells."""

import signal

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.mep import NEB
from ase.optimize import FIRE

from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.sampling.paths import PathSettings, SaddleSettings, descend, find_path, refine_saddle
from gapkit.sampling.paths.modes import curvature_matrix, lowest_modes
from gapkit.sampling.paths.rigid import aligned, rigid_modes
from gapkit.sampling.relaxation import RelaxationSettings
from tests.numerical import random_rotation
from tests.sampling.surfaces import CoupledDoubleWell, MullerBrown, Surface

IN_A_FIELD = PathSettings(align=False, saddle=SaddleSettings(fmax=1e-5), ends=RelaxationSettings(fmax=1e-5))


def adatom(metal="Al", on_top="Au") -> tuple[Atoms, Atoms]:
    """An adatom in two neighbouring hollows of a small slab with a fixed bottom."""
    initial = fcc100(metal, size=(2, 2, 3), vacuum=8.0)
    add_adsorbate(initial, on_top, 1.7, "hollow")
    initial.set_constraint(FixAtoms(mask=initial.get_tags() > 1))
    final = initial.copy()
    final.positions[-1, 0] += initial.cell[0, 0] / 2
    return initial, final


# exact answers
def test_barrier_saddle_and_curvatures_of_a_coupled_double_well():
    well = CoupledDoubleWell(batches=True)
    start, end = well.minimum(-1.0), well.minimum(1.0)
    start.rattle(0.05, seed=1)
    path = find_path(start, end, well, IN_A_FIELD)
    assert path.converged and path.connects == (True, True) and path.notes == ()
    assert path.barrier_forward == pytest.approx(well.h, abs=1e-8)
    assert path.barrier_backward == pytest.approx(well.h, abs=1e-8)
    assert path.reaction_energy == pytest.approx(0.0, abs=1e-8)
    np.testing.assert_allclose(path.saddle.atoms.positions, [[0, 0, 0], well.o], atol=1e-5)
    np.testing.assert_allclose(path.saddle.curvatures, [-4 * well.h / well.a**2, *5 * [well.k]], atol=1e-3)
    assert path.curvature == path.saddle.curvatures[0] and path.saddle.negative == 1
    np.testing.assert_allclose(path.saddle.mode, [[1, 0, 0], [0, 0, 0]], atol=1e-4)
    for side, minimum in zip((-1.0, 1.0), path.minima, strict=True):
        np.testing.assert_allclose(minimum.positions, well.minimum(side).positions, atol=1e-4)
    # one batch for all images, and one for each step elsewhere
    assert sum(well.sizes) == path.evaluations and well.sizes.count(7) == path.iterations
    high, low = path.curve().extrema()
    assert len(high) == 1 and len(low) == 0
    assert path.curve().energy(high[0]) == pytest.approx(well.h, abs=1e-3)


@pytest.mark.parametrize("dense_limit", [40, 0])
def test_barrier_and_saddle_of_mueller_and_brown(dense_limit):
    settings = PathSettings(
        align=False, saddle=SaddleSettings(fmax=1e-5, displacement=1e-3, dense_limit=dense_limit),
        ends=RelaxationSettings(fmax=1e-6),
    )  # fmt: skip
    (reactant, low), (middle, high) = MullerBrown.reactant, MullerBrown.middle
    path = find_path(MullerBrown.at(reactant), MullerBrown.at(middle), MullerBrown(), settings)
    assert path.converged and path.connects == (True, True)
    assert path.barrier_forward == pytest.approx(MullerBrown.saddle[1] - low, abs=1e-6)
    assert path.barrier_backward == pytest.approx(MullerBrown.saddle[1] - high, abs=1e-6)
    np.testing.assert_allclose(path.saddle.atoms.positions[0, :2], MullerBrown.saddle[0], atol=1e-6)
    assert path.saddle.negative == 1 and path.saddle.curvatures[1] == pytest.approx(0.0, abs=1e-6)  # along z


def test_stationary_points_of_mueller_and_brown_are_stationary():
    for point, energy in (
        MullerBrown.reactant, MullerBrown.middle, MullerBrown.product, MullerBrown.saddle, MullerBrown.second_saddle,
    ):  # fmt: skip
        value, gradient = MullerBrown().value(np.array([[*point, 0.0]]))
        assert value == pytest.approx(energy, abs=1e-11)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-9)


def test_a_minimum_on_the_way_and_a_saddle_that_leads_elsewhere_are_said():
    ends = MullerBrown.at(MullerBrown.reactant[0]), MullerBrown.at(MullerBrown.product[0])
    path = find_path(*ends, MullerBrown(), PathSettings(images=15, align=False, same=0.05))
    assert path.barrier_forward == pytest.approx(MullerBrown.saddle[1] - MullerBrown.reactant[1], abs=1e-5)
    assert path.connects == (True, False)
    assert any("minimum of its own at" in note for note in path.notes)
    away = MullerBrown.middle[1] - MullerBrown.product[1]
    assert any(f"does not end in the final frame: atom 0 is 0.80 A away, at {away:+.3f} eV" in n for n in path.notes)
    assert "to the final frame: NO" in str(path) and "note: " in str(path)


def test_lowest_modes_of_a_matrix_are_its_lowest_eigenpairs():
    rng = np.random.default_rng(2)
    H = rng.normal(size=(60, 60))
    H = H + H.T
    exact, vectors = np.linalg.eigh(H)
    values, found, residuals = lowest_modes(lambda v: H @ v, rng.normal(size=60), 2, 1e-6, 60)
    np.testing.assert_allclose(values, exact[:2], atol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(found * vectors.T[:2], axis=1)), 1.0, atol=1e-8)
    assert residuals.max() < 1e-6
    loose, _, errors = lowest_modes(lambda v: H @ v, rng.normal(size=60), 2, 0.5, 60)
    for value, error in zip(loose, errors, strict=True):
        assert np.abs(exact - value).min() <= error
    u = vectors.T[0]
    assert lowest_modes(None, u, 1, 1e-6, 60, first=H @ u)[0] == pytest.approx(exact[:1])


def test_the_hessian_is_that_of_the_closed_form_with_rigid_modes_left_out():
    well, x = CoupledDoubleWell(), np.array([[0.3, 0.1, -0.2], [0.4, 2.5, 0.3]])
    inside = well.batch_forces if hasattr(well, "batch_forces") else well._batch_forces
    evaluate = inside(None)
    H = curvature_matrix(evaluate, x, np.arange(2), 1e-4, np.zeros((0, 6)))
    apart = x[1] - well.o - well.c * 0.09
    exact = np.zeros((6, 6))
    exact[[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]] = well.k
    curved = -4 * well.h / well.a**2 * (1 - 3 * 0.09 / well.a**2)
    exact[0, 0] = curved + 4 * well.k * 0.09 * (well.c @ well.c) - 2 * well.k * (well.c @ apart)
    exact[0, 3:] = exact[3:, 0] = -2 * well.k * 0.3 * well.c
    np.testing.assert_allclose(H, exact, atol=1e-6)
    modes = rigid_modes(x, np.arange(2), np.zeros(3, bool))
    projected = curvature_matrix(evaluate, x, np.arange(2), 1e-4, modes)
    np.testing.assert_allclose(projected @ modes.T, 0.0, atol=1e-12)
    P = np.eye(6) - modes.T @ modes
    np.testing.assert_allclose(projected, P @ exact @ P, atol=1e-6)


# another library
@pytest.mark.parametrize(("metal", "on_top", "method"), [("Al", "Au", "improvedtangent"), ("Cu", "Pt", "aseneb")])
def test_the_barrier_of_an_adatom_is_that_of_ase(metal, on_top, method):
    initial, final = adatom(metal, on_top)
    path = find_path(initial, final, EMT(), PathSettings(images=3))
    assert path.converged and path.connects == (True, True)
    ends = [path.images[0].copy(), path.images[-1].copy()]
    images = [ends[0], *(ends[0].copy() for _ in range(3)), ends[1]]
    for image in images:
        image.calc = EMT()
    neb = NEB(images, climb=True, method=method)
    neb.interpolate()
    FIRE(neb, logfile=None).run(fmax=0.01, steps=500)
    energies = [image.get_potential_energy() for image in images]
    assert path.barrier_forward == pytest.approx(max(energies) - energies[0], abs=1e-4)
    assert path.barrier_backward == pytest.approx(max(energies) - energies[-1], abs=1e-4)
    np.testing.assert_allclose(path.saddle.atoms.positions, images[2].positions, atol=0.02)
    for image in path.images:
        np.testing.assert_array_equal(image.positions[:8], initial.positions[:8])
        assert image.constraints and np.isfinite(image.get_potential_energy())


# invariance
def test_a_vacancy_hop_does_not_depend_on_where_the_final_cell_lies():
    cell = bulk("Cu", cubic=True) * (2, 2, 2)
    neighbour = int(np.argsort(cell.get_distances(0, range(len(cell)), mic=True))[1])
    initial, final = cell.copy(), cell.copy()
    final.positions[neighbour] = cell.positions[0]
    del initial[0], final[0]
    shifted = final.copy()
    shifted.positions += [0.3, 0.1, 5.0]
    shifted.wrap()
    settings = PathSettings(images=3, saddle=SaddleSettings(dense_limit=0))
    one, other = (find_path(initial, end, EMT(), settings) for end in (final, shifted))
    for path in (one, other):
        assert path.converged and path.connects == (True, True) and path.notes == ()
        steps = np.diff([image.positions for image in path.images], axis=0)
        assert np.abs(steps).max() < 1.0
        np.testing.assert_allclose(steps.mean(axis=1), 0.0, atol=1e-9)
    assert one.barrier_forward == pytest.approx(other.barrier_forward, abs=1e-5)
    assert one.saddle.negative == 1 and one.saddle.curvature_errors.max() < 0.02
    dense = refine_saddle(one.saddle.atoms, EMT(), mode=one.saddle.mode)
    np.testing.assert_allclose(one.saddle.curvatures, dense.curvatures[:2], atol=0.02)
    assert len(dense.curvatures) == 3 * 31 - 3


class Umbrella(Surface):
    """A pyramid of springs with a double well in the volume: inverts like ammonia, without regard to its pose.

    E = h (1 - (V / v)^2)^2 + k/2 sum (d - d0)^2 over six pairs; V, the triple product of the bonds, is 0 in the plane.
    """

    h, v, k = 0.3, 0.9, 8.0
    pairs = ((0, 1), (0, 2), (0, 3), (1, 2), (2, 3), (3, 1))
    d0 = (1.0, 1.0, 1.0, 1.6, 1.6, 1.6)

    def value(self, x):
        a, b, c = x[1] - x[0], x[2] - x[0], x[3] - x[0]
        volume = a @ np.cross(b, c)
        well = 1 - (volume / self.v) ** 2
        energy, gradient = self.h * well**2, np.zeros_like(x)
        slope = -4 * self.h * well * volume / self.v**2
        for atom, g in ((1, np.cross(b, c)), (2, np.cross(c, a)), (3, np.cross(a, b))):
            gradient[atom] += slope * g
            gradient[0] -= slope * g
        for (i, j), d0 in zip(self.pairs, self.d0, strict=True):
            r = x[j] - x[i]
            d = np.linalg.norm(r)
            energy += 0.5 * self.k * (d - d0) ** 2
            gradient[j] += self.k * (d - d0) * r / d
            gradient[i] -= self.k * (d - d0) * r / d
        return energy, gradient


def pyramid() -> Atoms:
    atoms = molecule("NH3")
    atoms.rattle(0.02, seed=1)
    return atoms


def test_a_molecule_that_turns_on_its_way_is_turned_back_and_does_not_drift():
    initial, final = pyramid(), pyramid()
    final.positions = aligned(final.positions * [1.0, 1.0, -1.0], initial.positions)
    path = find_path(initial, final, Umbrella(), PathSettings(saddle=SaddleSettings(fmax=1e-5)))
    turned = final.copy()
    turned.positions = final.positions @ random_rotation(np.random.default_rng(3)) + [3.0, 2.0, 1.0]
    other = find_path(initial, turned, Umbrella(), PathSettings(relax_ends=True, saddle=SaddleSettings(fmax=1e-5)))
    for found in (path, other):
        assert found.converged and found.connects == (True, True), str(found)
        centres = np.array([image.positions.mean(axis=0) for image in found.images])
        np.testing.assert_allclose(centres, centres[:1].repeat(9, axis=0), atol=1e-8)
        # the saddle is flat: three equal bonds in a plane, d by balance of bonds and edges, energy in closed form
        x = found.saddle.atoms.positions
        d = (1.0 + np.sqrt(3) * 1.6) / 4
        lengths = np.linalg.norm(x[1:] - x[0], axis=1)
        np.testing.assert_allclose(lengths, d, atol=1e-4)
        flat = Umbrella.h + 1.5 * Umbrella.k * ((d - 1.0) ** 2 + (np.sqrt(3) * d - 1.6) ** 2)
        assert found.saddle.energy == pytest.approx(flat, abs=1e-7)
        assert len(found.saddle.curvatures) == 6 and found.saddle.negative == 1
    assert path.barrier_forward == pytest.approx(other.barrier_forward, abs=1e-6)


def test_forces_of_a_turned_end_are_turned_with_it():
    """Without relaxation the last image has the forces of the frame given, seen from the initial pose."""
    initial, final = pyramid(), pyramid()
    final.positions[0] += [0.1, 0.0, 0.6]
    final.positions = final.positions @ random_rotation(np.random.default_rng(5))
    path = find_path(initial, final, Umbrella(), PathSettings(relax_ends=False, refine=False, steps=1, same=0.01))
    last = path.images[-1]
    np.testing.assert_allclose(last.get_forces(), -Umbrella().value(last.positions)[1], atol=1e-8)
    assert np.abs(last.get_forces()).max() > 0.1 and not path.ends_converged and not path.converged


def test_the_path_backwards_is_the_same_path():
    there, back = find_path(*adatom(), EMT()), find_path(*adatom()[::-1], EMT())
    assert there.barrier_forward == pytest.approx(back.barrier_backward, abs=1e-5)
    np.testing.assert_allclose(there.saddle.mode, -back.saddle.mode, atol=0.02)
    assert there.saddle.mode[-1, 0] > 0.5


# saddle and descent alone
class Ridge(Surface):
    """E = (1 - x^2)^2 + (1 - y^2)^2 + z^2: second order at the origin, first order at (0, +-1) and (+-1, 0)."""

    def value(self, x):
        p, q, r = x[0]
        energy = (1 - p * p) ** 2 + (1 - q * q) ** 2 + r * r
        return energy, np.array([[-4 * p * (1 - p * p), -4 * q * (1 - q * q), 2 * r]])


def test_a_point_of_second_order_is_left_unless_forbidden():
    top = Atoms("H", positions=[[1e-4, 0.0, 0.1]])
    mode = np.array([[1.0, 0.1, 0.0]])
    kept = refine_saddle(top, Ridge(), SaddleSettings(align=False, pushes=0), mode=mode)
    assert kept.force_converged and kept.negative == 2 and not kept.is_saddle
    assert "no saddle of first order" in str(kept) and "2 negative" in str(kept)
    left = refine_saddle(top, Ridge(), SaddleSettings(align=False), mode=mode)
    assert left.is_saddle and left.energy == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(left.curvatures, [-4.0, 2.0, 8.0], atol=0.01)


def test_a_saddle_is_found_without_a_mode_and_from_where_no_curvature_is_negative():
    well = CoupledDoubleWell()
    start = well.minimum(1.0)
    start.positions[0, 0] -= 0.2
    found = refine_saddle(start, well, SaddleSettings(align=False))
    assert found.is_saddle and found.energy == pytest.approx(well.h, abs=1e-5)
    short = refine_saddle(start, well, SaddleSettings(align=False, steps=2))
    assert not short.is_saddle and short.iterations == 2 and str(short).startswith("not converged")


def test_the_way_down_leads_to_both_minima_in_the_order_of_the_mode():
    well = CoupledDoubleWell(batches=True)
    saddle = well.minimum(1.0)
    saddle.positions[:] = [[0.0, 0.0, 0.0], well.o]
    saddle.calc = well
    mode = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    back, forth = descend(saddle, mode)
    np.testing.assert_allclose(back.atoms.positions, well.minimum(1.0).positions, atol=1e-3)
    np.testing.assert_allclose(forth.atoms.positions, well.minimum(-1.0).positions, atol=1e-3)
    assert max(well.sizes) == 2


# what is said, and refused
def test_a_path_without_a_maximum_has_no_saddle():
    """From the shoulder of a well to its bottom, the ends not being relaxed."""
    well = CoupledDoubleWell()
    start, end = well.minimum(1.0), well.minimum(1.0)
    start.positions[0, 0] = 0.4
    start.positions[1] = well.o + 0.16 * well.c
    path = find_path(start, end, well, PathSettings(align=False, relax_ends=False))
    assert path.saddle is None and path.connects is None and path.minima is None and path.curvature is None
    assert path.barrier_forward == 0.0 and path.barrier_backward == pytest.approx(-path.reaction_energy)
    assert any("no image lies above the ends" in note for note in path.notes) and not path.converged


def test_ends_that_are_one_minimum_are_refused():
    well = CoupledDoubleWell()
    start, end = well.minimum(1.0), well.minimum(1.0)
    end.positions[0, 0] -= 0.3
    with pytest.raises(DataError, match="the two ends relax to the same minimum"):
        find_path(start, end, well, IN_A_FIELD)
    moved = molecule("NH3")
    moved.rotate(50, "x")
    with pytest.raises(DataError, match="are the same frame.*overall motion left out; align=False"):
        find_path(molecule("NH3"), moved, Umbrella(), PathSettings(relax_ends=False))


def test_atoms_that_change_places_are_warned_of_and_noted():
    initial = fcc100("Al", (3, 3, 2), vacuum=8.0)
    add_adsorbate(initial, "Al", 1.7, "hollow")
    initial.set_constraint(FixAtoms(mask=initial.get_tags() > 1))
    final = initial.copy()
    final.positions[[9, 18]] = initial.positions[[18, 9]]
    with pytest.warns(GapkitWarning, match="another order of equal atoms is nearer: atoms 9, 18 change places"):
        path = find_path(initial, final, EMT(), PathSettings(relax_ends=False, steps=1, refine=False))
    assert "another order" in path.notes[0]


def test_a_band_that_is_cut_short_can_be_continued_from_its_images():
    cut = find_path(*adatom(), EMT(), PathSettings(steps=3, refine=False))
    assert not cut.band_converged and any("the band did not converge" in note for note in cut.notes)
    on = find_path(*adatom(), EMT(), start=cut.images[1:-1])
    whole = find_path(*adatom(), EMT())
    assert on.converged and on.iterations < whole.iterations
    assert on.barrier_forward == pytest.approx(whole.barrier_forward, abs=1e-5)
    wrapped = [image.copy() for image in cut.images[1:-1]]
    for image in wrapped:
        image.set_positions(image.positions + image.cell[0], apply_constraint=False)
        image.wrap()
    again = find_path(*adatom(), EMT(), start=wrapped)
    assert again.iterations == on.iterations
    with pytest.raises(DataError, match="image 1 to start from"):
        find_path(*adatom(), EMT(), start=[cut.images[1], molecule("N2")])
    with pytest.raises(DataError, match="no images to start from"):
        find_path(*adatom(), EMT(), start=[])


class Interrupted(EMT):
    """EMT with a Ctrl-C at one of its calls."""

    def __init__(self, at: int):
        super().__init__()
        self.at, self.calls = at, 0

    def calculate(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(signal.SIGINT)
        super().calculate(*args, **kwargs)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.7, 0.9, 0.97])
def test_ctrl_c_at_any_stage_ends_the_search_there(share):
    settings = PathSettings(images=3)
    calls = find_path(*adatom(), EMT(), settings).evaluations
    calculator = Interrupted(int(share * calls))
    path = find_path(*adatom(), calculator, settings)
    assert path.interrupted and path.minima is None and path.connects is None
    assert calculator.calls < calculator.at + 60  # a Hessian that has begun is completed, in one batch
    if share == 0.02:
        assert path.iterations == 1 and not path.ends_converged and path.saddle is None


def test_ctrl_c_ends_the_search_with_the_path_as_it_is():
    path = find_path(*adatom(), Interrupted(60))
    assert path.interrupted and not path.converged and path.saddle is None and len(path.images) == 9
    assert "interrupted; " in str(path)


def test_settings_and_arguments_that_cannot_work_are_refused():
    with pytest.raises(SettingsError, match=r"no calculator: set initial\.calc"):
        find_path(*adatom())
    for wrong in ({"images": 0}, {"fmax": 0.0}, {"spring": -1.0}, {"steps": 0}, {"same": np.inf}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            PathSettings(**wrong)
    for wrong in ({"displacement": 0.0}, {"rotations": 0}, {"dense_limit": -1}, {"pushes": -1}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            SaddleSettings(**wrong)
    settings = PathSettings(images=3, saddle={"fmax": 0.01}, ends={"steps": 7})
    assert PathSettings.from_json(settings.to_json()) == settings and settings.saddle.fmax == 0.01
    assert settings.saddle_settings.align and not PathSettings(align=False).saddle_settings.align
    saddle = adatom()[0]
    for mode, words in ((np.zeros((13, 3)), "moves no free atom"), (np.ones((2, 3)), r"of the shape \(13, 3\)")):
        with pytest.raises(DataError, match=words):
            descend(saddle, mode, EMT())
        with pytest.raises(DataError, match=words):
            refine_saddle(saddle, EMT(), mode=mode)
    with pytest.raises(SettingsError, match="push must be positive"):
        descend(saddle, np.ones((13, 3)), EMT(), push=0.0)
    with pytest.raises(DataError, match="overall translation or rotation"):
        refine_saddle(molecule("NH3"), EMT(), mode=np.ones((4, 3)))
    with pytest.raises(SettingsError, match="nothing can move"):
        refine_saddle(Atoms("H"), MullerBrown())
