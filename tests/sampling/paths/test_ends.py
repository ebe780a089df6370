"""Ends of a path and starting images: what is refused, periodic images, alignment, order of atoms, pair potentials."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.constraints import FixAtoms
from ase.mep.neb import IDPP
from hypothesis import given, settings
from hypothesis import strategies as st

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.paths.ends import check_ends, exchanged_atoms, final_positions, matching_order, minimum_image
from gapkit.sampling.paths.interpolation import idpp, pair_potentials, separated, straight_line
from gapkit.sampling.paths.rigid import aligned
from tests.numerical import central_difference, random_rotation


def slab() -> Atoms:
    atoms = fcc100("Al", (2, 2, 3), vacuum=8.0)
    add_adsorbate(atoms, "Au", 1.7, "hollow")
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() > 1))
    return atoms


# order of atoms
def test_the_order_that_fits_is_found_and_named_in_the_error():
    initial = molecule("CH3CH2OH")
    shuffle = np.random.default_rng(0).permutation(9)
    final = initial[shuffle]
    final.positions = final.positions @ random_rotation(np.random.default_rng(1)) + 2.0
    order = matching_order(initial, final)
    assert np.array_equal(final.numbers[order], initial.numbers)
    with pytest.raises(DataError, match=re.escape(f"in another order; use final[order] with order = {order.tolist()}")):
        check_ends(initial, final)
    again = final[order]
    assert np.array_equal(check_ends(initial, again), np.arange(9))
    np.testing.assert_allclose(final_positions(initial, again, np.arange(9), True), initial.positions, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_any_order_and_pose_of_a_molecule_without_symmetry_is_recognised(seed):
    rng = np.random.default_rng(seed)
    initial = Atoms("OCCNHHHH", positions=np.random.default_rng(7).normal(scale=2.0, size=(8, 3)))
    shuffle = rng.permutation(8)
    final = initial[shuffle]
    final.positions = final.positions @ random_rotation(rng) + rng.normal(size=3)
    assert np.array_equal(shuffle[matching_order(initial, final)], np.arange(8))


@pytest.mark.parametrize("seed", [0, 1, 5, 16, 17, 27])  # the last four need assignment and alignment in turn
def test_the_order_of_a_molecule_that_has_also_changed_its_shape_is_found(seed):
    """By the sum of distances after alignment, the true order does no better."""
    rng = np.random.default_rng(seed)
    initial = Atoms("Cu8", positions=rng.normal(scale=2.0, size=(8, 3)))
    shuffle = rng.permutation(8)
    final = initial[shuffle]
    final.positions = (final.positions + rng.normal(scale=0.7, size=(8, 3))) @ random_rotation(rng)

    def apart(order):
        return np.linalg.norm(aligned(final.positions[order], initial.positions) - initial.positions, axis=1).sum()

    assert apart(matching_order(initial, final)) < apart(np.argsort(shuffle)) + 1e-9


def test_the_order_of_a_crystal_goes_by_nearest_images():
    initial = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    shuffle = np.random.default_rng(3).permutation(8)
    final = initial[shuffle]
    final.positions += 0.1
    final.positions[2] += final.cell[0]
    assert np.array_equal(shuffle[matching_order(initial, final)], np.arange(8))
    long = initial.repeat((2, 2, 1))
    other = long[[*range(1, 32), 0]]
    with pytest.raises(
        DataError, match=r"order = the identity but for order\[0\] = 31, order\[1\] = 0, .*, \.\.\., whic"
    ):
        check_ends(long, other)


def test_atoms_that_change_places_are_seen_and_a_hop_is_none():
    initial = slab()
    hopped = initial.positions.copy()
    hopped[-1, 0] += initial.cell[0, 0] / 2
    assert exchanged_atoms(initial, hopped).tolist() == []
    swapped = initial.positions.copy()
    swapped[[8, 9]] = swapped[[9, 8]]
    assert exchanged_atoms(initial, swapped).tolist() == [8, 9]
    swapped[[8, 12]] = initial.positions[[12, 8]]  # aluminium and gold: no other order is possible
    swapped[9] = initial.positions[9]
    assert exchanged_atoms(initial, swapped).tolist() == []
    pair = Atoms("Cu2", positions=[[0.0, 0, 0], [1.0, 0, 0]])
    # the other order saves 0.2 A in the first, 0.8 A in the second
    assert exchanged_atoms(pair, np.array([[0.6, 0, 0], [0.5, 0, 0]])).tolist() == []
    assert exchanged_atoms(pair, np.array([[0.9, 0, 0], [0.5, 0, 0]])).tolist() == [0, 1]


# periodic images and overall motion
def test_atoms_go_the_shortest_way_through_the_cell():
    initial = bulk("Cu", cubic=True) * (2, 2, 2)
    initial.rattle(0.05, seed=1)
    final = initial.copy()
    final.positions[0] += [0.3, 0.0, 0.0]
    final.positions += [0.4, -0.2, 6.5]
    final.wrap()
    x = final_positions(initial, final, np.arange(32), True)
    expected = np.zeros((32, 3))
    expected[0, 0] = 0.3
    # 6.5 A are 6.5 - 7.22 A in the cell; the mean displacement is left out
    np.testing.assert_allclose(x - initial.positions, expected - expected.mean(axis=0), atol=1e-9)
    tie = initial.copy()
    for half in (0.5, -0.5):  # an atom half a cell away goes the way that is given
        tie.positions[0] = initial.positions[0] + half * initial.cell[0]
        np.testing.assert_array_equal(final_positions(initial, tie, np.arange(31), True), tie.positions)
    kept = final_positions(initial, final, np.arange(32), False) - initial.positions
    np.testing.assert_allclose(kept[1], [0.4, -0.2, 6.5 - 7.22], atol=1e-9)


def test_a_molecule_is_turned_unless_it_stands_in_a_field():
    initial = molecule("H2O")
    final = initial.copy()
    final.rotate(70, (1, 1, 0))
    final.positions += 4.0
    np.testing.assert_allclose(final_positions(initial, final, np.arange(3), True), initial.positions, atol=1e-9)
    np.testing.assert_array_equal(final_positions(initial, final, np.arange(3), False), final.positions)
    np.testing.assert_array_equal(final_positions(initial, final, np.arange(2), True), final.positions)


# what is refused
@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda a: a.set_pbc(False), DataError, "periodic directions"),
        (lambda a: a.set_cell(a.cell.array * 1.01), DataError, r"cells of the ends differ by up to 0\.0"),
        (lambda a: a.__delitem__(-1), DataError, "different atoms, Al12Au and Al12"),
        (lambda a: a.set_constraint(), DataError, "fixed in one end only: 0, 1, 2, 3, 4, 5, 6, 7"),
        (lambda a: a.positions.__setitem__(3, a.positions[3] + [0, 0, 0.2]), DataError, r"atom 3 is fixed.*0\.2 A"),
        (lambda a: a.positions.__setitem__((9, 1), np.inf), DataError, "the final frame: a position is not finite"),
    ],
)
def test_ends_between_which_there_is_no_path_are_refused(change, kind, words):
    initial, final = slab(), slab()
    assert check_ends(initial, final).tolist() == [8, 9, 10, 11, 12]
    change(final)
    with pytest.raises(kind, match=words):
        check_ends(initial, final)


def test_frames_without_free_atoms_are_refused():
    atoms = molecule("N2")
    atoms.set_constraint(FixAtoms([0, 1]))
    with pytest.raises(SettingsError, match="all atoms are fixed"):
        check_ends(atoms, atoms)
    with pytest.raises(DataError, match="no atoms"):
        check_ends(Atoms(), Atoms())
    with pytest.raises(DataError, match="different atoms"):
        matching_order(molecule("N2"), molecule("O2"))


def test_cells_may_differ_along_open_directions():
    initial, final = slab(), slab()
    final.cell[2, 2] += 3.0
    check_ends(initial, final)


# starting images
def test_pair_potentials_are_those_of_ase_for_a_molecule():
    atoms, other = molecule("CH3OH"), molecule("CH3OH")
    other.rattle(0.3, seed=2)
    line = straight_line(atoms.positions, other.positions, 3)
    np.testing.assert_allclose(line[2], (atoms.positions + other.positions) / 2)
    values, forces = pair_potentials(atoms, line, np.arange(6))(line[1:-1])
    d0, d1 = atoms.get_all_distances(), other.get_all_distances()
    for k in range(3):
        image = Atoms(atoms.numbers, line[1 + k])
        image.calc = IDPP(d0 + (k + 1) / 4 * (d1 - d0), mic=False)
        assert values[k] == pytest.approx(image.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(forces[k], image.get_forces(), atol=1e-12)
    assert np.abs(forces).max() > 1e-3


def test_forces_of_pair_potentials_are_slopes_of_their_values_in_a_small_cell():
    atoms = bulk("Cu", cubic=True)
    rng = np.random.default_rng(5)
    line = straight_line(atoms.positions, atoms.positions + rng.normal(scale=0.4, size=(4, 3)), 2)
    evaluate = pair_potentials(atoms, line, np.array([0, 1, 2, 3]))
    way = rng.normal(size=(2, 4, 3))
    slopes = central_difference(lambda h: evaluate(line[1:-1] + h * way)[0], 1e-3)
    np.testing.assert_allclose(-np.sum(evaluate(line[1:-1])[1] * way, axis=(1, 2)), slopes, rtol=1e-6)
    assert np.abs(slopes).min() > 1e-3


def test_images_keep_atoms_apart_where_the_straight_line_does_not():
    """A proton that turns round an oxygen atom: half way the straight line shortens the bond to 0.96 cos(60 deg)."""
    bond, half = 0.96, np.radians(60)
    ends = [np.array([[0.0, 0, 0], [bond * np.sin(a), bond * np.cos(a), 0], [0, -3.0, 0]]) for a in (-half, half)]
    atoms = Atoms("OHO", positions=ends[0])
    line = straight_line(*ends, 5)
    assert np.linalg.norm(line[3, 1] - line[3, 0]) == pytest.approx(0.48)
    images = idpp(atoms, line, np.array([1]), True)
    distances = np.linalg.norm(images[:, 1] - images[:, 0], axis=1)
    np.testing.assert_allclose(distances, bond, atol=0.05)
    np.testing.assert_array_equal(images[:, [0, 2]], line[:, [0, 2]])
    np.testing.assert_array_equal(images[[0, -1]], line[[0, -1]])


def test_atoms_that_meet_on_the_line_go_round_each_other():
    ends = [np.array([[0.0, 0, 0], [2.0, 0, 0]]), np.array([[2.0, 0, 0], [0.0, 0, 0]])]
    atoms = Atoms("Cu2", positions=ends[0])
    line = straight_line(*ends, 3)
    apart = separated(line, atoms, np.arange(2))
    assert np.linalg.norm(line[2, 0] - line[2, 1]) == 0.0
    assert np.linalg.norm(apart[2, 0] - apart[2, 1]) == pytest.approx(0.3)
    np.testing.assert_array_equal(apart[[0, 1, 3, 4]], line[[0, 1, 3, 4]])
    images = idpp(atoms, line, np.arange(2), False, fmax=1e-3, steps=500)
    assert np.linalg.norm(images[:, 0] - images[:, 1], axis=1).min() > 1.7


def test_frames_without_close_pairs_start_from_the_straight_line():
    atoms = Atoms("H", positions=[[0.0, 0, 0]])
    line = straight_line(atoms.positions, atoms.positions + 1.0, 3)
    np.testing.assert_array_equal(idpp(atoms, line, np.arange(1), False), line)


def test_ends_of_other_charge_or_spin_are_refused():
    initial, final = slab(), slab()
    initial.info["charge"], final.info["charge"] = 0, 1
    final.set_initial_magnetic_moments(np.ones(len(final)))
    with pytest.raises(DataError, match="other charge, initial_magmoms: a path has one electronic state"):
        check_ends(initial, final)
    other = slab()
    other.info["spin"] = 3
    with pytest.raises(DataError, match="other spin"):
        check_ends(slab(), other)


def test_a_tilted_vector_of_a_direction_that_is_not_periodic_plays_no_part():
    """ASE's find_mic takes it for one of a lattice, and misses shorter images."""
    atoms = Atoms("H", cell=[[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [9.0, -7.0, 2.0]], pbc=(True, True, False))
    vectors = np.random.default_rng(3).normal(scale=6.0, size=(50, 3))
    turns = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 2, [0]), axis=-1).reshape(-1, 3)
    nearest = np.linalg.norm(vectors[:, None] - turns @ atoms.cell.array, axis=-1).min(axis=1)
    assert (np.linalg.norm(minimum_image(vectors, atoms), axis=1) < nearest + 0.011).all()
