"""Collective variables: closed forms, invariance, finite differences, ASE as oracle, errors."""

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import find_mic
from hypothesis import given
from hypothesis import strategies as st

from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.sampling.biases import (
    Angle,
    Centroid,
    Combination,
    Coordination,
    Distance,
    DistanceDifference,
    Torsion,
)
from gapkit.sampling.biases.geometry import Box, wrapped
from tests.numerical import VOIGT, central_difference, random_cluster, random_rotation, skewed_crystal

VARIABLES = [
    Distance(1, 3),
    DistanceDifference(0, 2, 2, 4),
    DistanceDifference(0, 1, 3, 4),
    Angle(2, 0, 3),
    Torsion(3, 1, 0, 4),
    Coordination((0, 2), (1, 2, 3, 4), r_0=1.9),
    Coordination((1,), (0, 4), r_0=2.5, power=9),
    Combination((Distance(0, 1), Angle(1, 2, 3), Coordination((4,), (0, 1), r_0=2.0)), (1.0, -0.5, 2.0)),
]
NAMES = [type(v).__name__ for v in VARIABLES]
SKEWED = np.array([[6.1, 0.2, 0.1], [1.9, 6.4, -0.3], [-1.5, 1.7, 6.8]])


def frames(count, seed=0):
    """Positions (R, 5, 3) of copies of five atoms, none close to another or in a line."""
    rng = np.random.default_rng(seed)
    return np.array([random_cluster("CHOFN", rng).positions for _ in range(count)])


every = pytest.mark.parametrize("variable", VARIABLES, ids=NAMES)


def test_values_by_hand():
    """A chain 0-1-2-3 with right angles and a torsion of 60 degrees (clockwise, seen from 1 to 2)."""
    half = np.sqrt(3) / 2
    x = np.array([[2.0, 0, 0], [0, 0, 0], [0, 0, 1.5], [0.5, half, 1.5]])
    assert Distance(0, 1).value(x) == 2
    assert DistanceDifference(0, 1, 2, 1).value(x) == 0.5
    assert Angle(0, 1, 2).value(x) == pytest.approx(np.pi / 2)
    assert Torsion(0, 1, 2, 3).value(x) == pytest.approx(np.pi / 3)
    assert Torsion(3, 2, 1, 0).value(x) == pytest.approx(np.pi / 3), "read from the other end"
    assert Coordination((0, 1), (2,), r_0=1.5, power=4).value(x) == pytest.approx(0.5 + 1 / (1 + (2.5 / 1.5) ** 4))
    assert Coordination((0, 1), (0, 1), r_0=2.0).value(x) == 1, "each counts the other, none itself"
    assert Combination((Distance(0, 1), Distance(1, 2)), (2.0, -1.0)).value(x) == 2.5


def test_a_rational_switching_function_with_twice_the_power_below():
    """(1 - x^n) / (1 - x^2n) of Iannuzzi, Laio and Parrinello."""
    for r in (0.3, 1.1, 2.7):
        x = np.array([[0, 0, 0], [0, r, 0.0]])
        ratio = (1 - (r / 2) ** 6) / (1 - (r / 2) ** 12)
        assert Coordination((0,), (1,), r_0=2.0).value(x) == pytest.approx(ratio)


@every
def test_gradient_is_the_derivative_of_the_value(variable):
    x = frames(3)
    gradient = variable.gradient(x)
    assert gradient.shape == x.shape and np.abs(gradient[:, variable.atoms]).max(axis=(0, 2)).min() > 0.05
    for atom in range(5):
        for axis in range(3):
            step = np.zeros((5, 3))
            step[atom, axis] = 1.0
            numeric = central_difference(lambda h, step=step: variable.value(x + h * step), 1e-3)
            np.testing.assert_allclose(gradient[:, atom, axis], numeric, atol=1e-8)


@every
def test_hessian_is_the_derivative_of_the_gradient(variable):
    x = frames(3, seed=1)
    hessian = variable.hessian(x)
    atoms = list(variable.atoms)
    assert hessian.shape == (3, len(atoms), 3, len(atoms), 3) and np.abs(hessian).max() > 0.05
    np.testing.assert_allclose(hessian, hessian.transpose(0, 3, 4, 1, 2), atol=1e-12)
    for k, atom in enumerate(atoms):
        for axis in range(3):
            step = np.zeros((5, 3))
            step[atom, axis] = 1.0
            numeric = central_difference(lambda h, step=step: variable.gradient(x + h * step)[:, atoms], 1e-3)
            np.testing.assert_allclose(hessian[:, :, :, k, axis], numeric, atol=2e-7)


@every
def test_strain_derivative_is_that_of_atoms_and_cell(variable):
    x = np.array([np.random.default_rng(5).uniform(size=(5, 3)) @ SKEWED])[0]
    found = variable.strain_derivative(x, SKEWED, True)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert np.abs(found).max() > 0.05
    for a, b in VOIGT:
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5

        def value(h, strain=strain):
            deformation = np.eye(3) + h * strain
            return variable.value(x @ deformation, SKEWED @ deformation, True)

        assert found[a, b] == pytest.approx(central_difference(value, 1e-4), abs=1e-7)


@every
@given(seed=st.integers(0, 2**31))
def test_rotation_and_translation_change_nothing(variable, seed):
    rng = np.random.default_rng(seed)
    x = frames(1)[0]
    rotation, shift = random_rotation(rng), rng.uniform(-50, 50, size=3)
    assert variable.value(x @ rotation.T + shift) == pytest.approx(variable.value(x), abs=1e-10)
    np.testing.assert_allclose(variable.gradient(x @ rotation.T + shift), variable.gradient(x) @ rotation.T, atol=1e-9)


@every
@given(turns=st.lists(st.integers(-3, 3), min_size=15, max_size=15))
def test_any_image_of_an_atom_will_do(variable, turns):
    x = np.random.default_rng(5).uniform(size=(5, 3)) @ SKEWED
    moved = x + np.reshape(turns, (5, 3)) @ SKEWED
    assert variable.value(moved, SKEWED, True) == pytest.approx(variable.value(x, SKEWED, True), abs=1e-10)
    np.testing.assert_allclose(variable.gradient(moved, SKEWED, True), variable.gradient(x, SKEWED, True), atol=1e-9)


@every
def test_reflection_turns_only_the_torsion_round(variable):
    x = frames(1)[0]
    sign = -1 if isinstance(variable, Torsion) else 1
    assert variable.value(-x) == pytest.approx(sign * variable.value(x))


@every
def test_many_copies_are_one_by_one(variable):
    x = frames(4, seed=2)
    box = SKEWED, [True, False, True]
    np.testing.assert_allclose(variable.value(x, *box), [variable.value(one, *box) for one in x], rtol=1e-14)
    np.testing.assert_allclose(variable.gradient(x, *box), [variable.gradient(one, *box) for one in x], atol=1e-14)
    np.testing.assert_allclose(variable.hessian(x, *box), [variable.hessian(one, *box) for one in x], atol=1e-14)
    assert isinstance(variable.value(x[0]), float)
    assert variable.strain_derivative(x).shape == (4, 3, 3)


@pytest.mark.parametrize("pbc", [True, [True, False, True], False])
@pytest.mark.parametrize(
    "cell", [SKEWED, np.diag([5.0, 6.0, 7.0]), np.array([[4.0, 0, 0], [3.9, 2.0, 0], [0, 0, 9.0]])]
)
def test_ase_agrees(cell, pbc):
    """ASE is right where vectors of directions that are not periodic are orthogonal to the others, or zero."""
    rng = np.random.default_rng(3)
    lattice = cell * np.broadcast_to(pbc, 3)[:, None]
    for _ in range(20):
        atoms = Atoms("H5", positions=rng.uniform(-1, 2, size=(5, 3)) @ cell, cell=lattice, pbc=pbc)
        box = atoms.positions, cell, atoms.pbc
        assert Distance(0, 3).value(*box) == pytest.approx(atoms.get_distance(0, 3, mic=True), abs=1e-10)
        angle = np.degrees(Angle(0, 3, 1).value(*box))
        assert angle == pytest.approx(atoms.get_angle(0, 3, 1, mic=True), abs=1e-6)
        torsion = np.degrees(Torsion(0, 3, 1, 4).value(*box)) % 360
        assert wrapped(torsion - atoms.get_dihedral(0, 3, 1, 4, mic=True), 360) == pytest.approx(0, abs=1e-6)


def test_the_shortest_image_of_vectors_in_a_small_skewed_cell_is_that_of_ase():
    cell = skewed_crystal("SiC", np.random.default_rng(0)).cell
    vectors = np.random.default_rng(4).uniform(-9, 9, size=(200, 3))
    theirs = find_mic(vectors, cell, True)[0]
    ours = Box(cell, True).shortest(vectors)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1), atol=1e-10)
    assert (np.linalg.norm(ours, axis=1) > Box(cell, True).height / 2).any(), "both ways are used"


def test_wrapped_differences():
    assert wrapped(np.array([3.5, -3.5, 0.2]), 2 * np.pi) == pytest.approx([3.5 - 2 * np.pi, 2 * np.pi - 3.5, 0.2])
    assert wrapped(np.array([3.5]), None).tolist() == [3.5]


def test_a_centroid_is_the_variable_of_the_mean_and_shares_its_gradient_out():
    beads = np.stack([frames(6, seed=3), frames(6, seed=4)])
    for variable in VARIABLES:
        centroid = Centroid(variable)
        assert centroid.period == variable.period
        mean = beads.mean(axis=1)
        np.testing.assert_allclose(centroid.value(beads), variable.value(mean), rtol=1e-12)
        assert centroid.value(beads[0]) == pytest.approx(variable.value(mean[0]))
        gradient = centroid.gradient(beads)
        assert gradient.shape == beads.shape
        direction = np.random.default_rng(5).normal(size=beads.shape)
        numeric = central_difference(lambda h, c=centroid, d=direction: c.value(beads + h * d), 1e-3)
        assert np.sum(gradient * direction, axis=(1, 2, 3)) == pytest.approx(numeric, abs=1e-7)
        np.testing.assert_allclose(centroid.hessian(beads), variable.hessian(mean) / 36, atol=1e-14)


def test_gradients_stay_finite_where_atoms_are_in_a_line():
    straight = np.array([[0.0, 0, 0], [1, 0, 0], [2.5, 0, 0], [2.5, 1, 0]])
    assert Angle(0, 1, 2).value(straight) == pytest.approx(np.pi)
    assert not Angle(0, 1, 2).gradient(straight).any()
    for tiny in (1e-14, 1e-9, 1e-5):
        bent = straight + np.array([[0, tiny, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
        gradient = Angle(0, 1, 2).gradient(bent)
        assert np.isfinite(gradient).all() and np.linalg.norm(gradient[0]) <= 1 + 1e-9
    with pytest.raises(NumericsError, match=r"copy 0: the atoms of Angle.*in a line, where the Hessian"):
        Angle(0, 1, 2).hessian(straight)
    with pytest.raises(NumericsError, match=r"copy 1: atoms 0, 1, 2 of Torsion.*in a line"):
        Torsion(0, 1, 2, 3).value(np.array([frames(1)[0][:4], straight]))
    with pytest.raises(NumericsError, match=r"copy 0: atoms 1, 2, 0 of Torsion.*in a line"):
        Torsion(3, 1, 2, 0).gradient(straight)


def test_atoms_at_the_same_place():
    x = np.zeros((3, 3))
    x[2] = 1.0
    with pytest.raises(NumericsError, match=r"copy 0: atoms 0 and 1 of Distance\(i=0, j=1\) are at the same place"):
        Distance(0, 1).value(x)
    with pytest.raises(NumericsError, match="atoms 1 and 0 of Angle"):
        Angle(0, 1, 2).gradient(x)
    both = Coordination((0,), (1, 2), r_0=1.0)
    assert both.value(x) == pytest.approx(1 + 1 / 28)
    assert np.isfinite(both.gradient(x)).all() and np.isfinite(both.hessian(x)).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distance(1, 1), r"Distance: atom 1 stands twice in \(1, 1\)"),
        (lambda: Distance(-1, 2), "Distance: atom -1 is negative"),
        (lambda: Distance(0, 1.5), "1.5 is no number of an atom"),
        (lambda: Distance(0, True), "True is no number of an atom"),
        (lambda: Angle(0, 1, 0), "Angle: atom 0 stands twice"),
        (lambda: Torsion(0, 1, 2, 1), "Torsion: atom 1 stands twice"),
        (lambda: DistanceDifference(0, 1, 2, 2), "DistanceDifference: atom 2 stands twice"),
        (lambda: Coordination((), (1,), 2.0), "centres must be a tuple of at least one"),
        (lambda: Coordination((0,), 1, 2.0), "neighbours must be a tuple"),
        (lambda: Coordination((0,), (0,), 2.0), "the only centre is the only neighbour"),
        (lambda: Coordination((0,), (1, 1), 2.0), "atom 1 stands twice"),
        (lambda: Coordination((0,), (1,), 0.0), "r_0 must be a distance above 0"),
        (lambda: Coordination((0,), (1,), 2.0, power=3), "power must be a whole number from 4"),
        (lambda: Combination((), ()), "at least one"),
        (lambda: Combination((Torsion(0, 1, 2, 3),), (1.0,)), "periodic"),
        (lambda: Combination((Distance(0, 1),), (1.0, 2.0)), "2 weights for 1 variables"),
        (lambda: Combination((Distance(0, 1),), (np.nan,)), "finite"),
        (lambda: Combination((3,), (1.0,)), "no collective variable"),
        (lambda: Centroid(Centroid(Distance(0, 1))), "no collective variable of one structure"),
    ],
)
def test_variables_that_cannot_be(make, words):
    with pytest.raises(SettingsError, match=words):
        make()


def test_structures_that_do_not_fit():
    x = frames(1)[0]
    with pytest.raises(
        SettingsError, match=r"Distance\(i=0, j=9\): there is no atom 9 in a frame of 5 atoms \(0 to 4\)"
    ):
        Distance(0, 9).value(x)
    with pytest.raises(SettingsError, match="no atom 5 in a frame of 5"):
        Distance(0, 5).value(x)
    with pytest.raises(DataError, match=r"shape \(n, 3\) or \(R, n, 3\), not \(5,\)"):
        Distance(0, 1).value(x[:, 0])
    with pytest.raises(DataError, match=r"shape \(P, n, 3\) or \(R, P, n, 3\), not \(5, 3\)"):
        Centroid(Distance(0, 1)).value(x)
    broken = np.array([x, x])
    broken[1, 3, 2] = np.nan
    with pytest.raises(DataError, match="copy 1: the position of atom 3 is not finite"):
        Distance(0, 1).value(broken)
    with pytest.raises(SettingsError, match="direction 0 is periodic, but its cell vector is zero"):
        Distance(0, 1).value(x, None, True)
    with pytest.raises(SettingsError, match=r"smallest height, 4.000 A, is not above twice r_0"):
        Coordination((0,), (1,), r_0=2.0).value(x, 4 * np.eye(3), True)
    with pytest.raises(SettingsError, match="not independent: the cell has no volume"):
        Distance(0, 1).value(x, [[3, 0, 0], [3, 0, 0], [0, 0, 3]], True)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, False), (False, False, False)])
def test_a_tilted_vector_of_a_direction_that_is_not_periodic_plays_no_part(pbc):
    """The shortest image by brute force; a cell without volume is one where no direction is periodic."""
    vectors = np.random.default_rng(3).normal(scale=6.0, size=(50, 3))
    cell = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [9.0, -7.0, 2.0]])
    turns = np.stack(np.meshgrid(*[np.arange(-9, 10) if p else [0] for p in pbc]), axis=-1).reshape(-1, 3)
    nearest = np.linalg.norm(vectors[:, None] - turns @ cell, axis=-1).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(Box(cell, pbc).shortest(vectors), axis=-1), nearest, atol=1e-12)
    flat = cell * [1.0, 1.0, 0.0]
    nearest = np.linalg.norm(vectors[:, None] - turns @ flat, axis=-1).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(Box(flat, pbc).shortest(vectors), axis=-1), nearest, atol=1e-12)
