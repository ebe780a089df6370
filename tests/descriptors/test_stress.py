"""Stress descriptors: exact invariants, volumes that fill space, rotations, averages, other sources of stress."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from hypothesis import given
from hypothesis import strategies as st

from gapkit.descriptors.stress import (
    INVARIANTS,
    UNITS,
    StressDescriptors,
    atomic_stresses,
    averaged_stress,
    lammps_stresses,
    stress_invariants,
    tensors,
    tractions,
    voronoi_volumes,
    weight,
)
from gapkit.exceptions import DataError, SettingsError
from tests.numerical import VOIGT, random_rotation

SMALL = 1e-9  # a floor that hides nothing


def voigt(tensor):
    return (
        np.array([tensor[..., a, b] for a, b in VOIGT]).T
        if np.ndim(tensor) > 2
        else np.array([tensor[a, b] for a, b in VOIGT])
    )


def pair_potential():
    """A calculator that gives ``stresses``."""
    return LennardJones(sigma=2.3, epsilon=0.3, rc=6.0)


def copper(seed=0):
    """A rattled, skewed periodic cell with a calculator."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (2, 2, 2)
    atoms.set_cell(atoms.cell.array @ np.array([[1.02, 0.05, 0], [0, 1, 0.08], [0.03, 0, 0.98]]), scale_atoms=True)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.08, size=(len(atoms), 3))
    atoms.calc = pair_potential()
    return atoms


@pytest.mark.parametrize(
    ("stress", "expected"),
    [
        ((3.0, 0, 0, 0, 0, 0), (1.0, 3.0, 1 / 3, 0.0, 3.0)),  # pull along x
        ((0, 0, -3.0, 0, 0, 0), (-1.0, 3.0, -1 / 3, np.pi / 3, 0.0)),  # push along z
        ((0, 0, 0, 0, 0, 2.0), (0.0, 2.0 * np.sqrt(3), 0.0, np.pi / 6, 2.0)),  # shear
        ((1.0, 1.0, 4.0, 0, 0, 0), (2.0, 3.0, 2 / 3, 0.0, 4.0)),
    ],
)
def test_known_states(stress, expected):
    np.testing.assert_allclose(stress_invariants(np.array(stress), SMALL), expected, atol=2e-7)


def test_zero_and_hydrostatic_stress_are_finite():
    zero = stress_invariants(np.zeros(6))
    np.testing.assert_allclose(zero, [0, 0, 0, np.pi / 6, 0], atol=1e-12)
    pressed = stress_invariants(np.array([0.01, 0.01, 0.01, 0, 0, 0]), floor=1e-3)
    np.testing.assert_allclose(pressed, [0.01, 0, 10.0, np.pi / 6, 0.01], atol=1e-9)
    assert len(INVARIANTS) == 5 == len(UNITS)


@given(st.integers(0, 10_000))
def test_invariant_under_rotation(seed):
    rng = np.random.default_rng(seed)
    sigma = tensors(rng.normal(scale=0.1, size=6))
    normal, R = rng.normal(size=3), random_rotation(rng)
    np.testing.assert_allclose(
        stress_invariants(voigt(R @ sigma @ R.T)), stress_invariants(voigt(sigma)), atol=1e-7, rtol=1e-7
    )
    np.testing.assert_allclose(
        tractions(voigt(R @ sigma @ R.T), R @ normal), tractions(voigt(sigma), normal), atol=1e-12
    )


def test_principal_stresses_follow_from_three_invariants():
    """sigma_k = p + 2/3 q cos(theta - 2 pi (k - 1)/3): the invariants say all that a rotation leaves."""
    sigma = np.random.default_rng(3).normal(size=(20, 6))
    p, q, _, theta, largest = stress_invariants(sigma, SMALL).T
    expected = p[:, None] + 2 / 3 * q[:, None] * np.cos(theta[:, None] - 2 * np.pi / 3 * np.arange(3))
    np.testing.assert_allclose(np.sort(expected), np.linalg.eigvalsh(tensors(sigma)), atol=1e-7)
    np.testing.assert_allclose(largest, expected[:, 0], atol=1e-7)


def test_tractions_by_hand():
    stress = np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.5])
    np.testing.assert_allclose(tractions(stress, [0, 2.0, 0]), [2.0, 0.5])
    with pytest.raises(DataError, match="normal is zero"):
        tractions(stress, [0, 0, 0])


def test_volumes_fill_a_periodic_cell():
    atoms = copper()
    assert voronoi_volumes(atoms, largest=5.0).sum() == pytest.approx(atoms.get_volume(), rel=1e-9)
    one = bulk("Cu", "fcc", a=3.6)
    assert voronoi_volumes(one) == pytest.approx([3.6**3 / 4], rel=1e-9)


def test_volumes_at_a_surface_are_near_those_of_the_bulk_whatever_the_vacuum():
    volumes = [voronoi_volumes(fcc100("Cu", (3, 3, 5), a=3.6, vacuum=v, periodic=False)) for v in (5.0, 12.0)]
    np.testing.assert_allclose(*volumes)
    inner = 3.6**3 / 4
    layers = volumes[0].reshape(5, -1)
    np.testing.assert_allclose(layers[2], inner, rtol=1e-6)
    assert np.all((layers[[0, 4]] > 0.9 * inner) & (layers[[0, 4]] <= 1.3 * inner * (1 + 1e-9)))


def test_atoms_without_volume_are_an_error():
    with pytest.raises(DataError, match="give volumes"):
        voronoi_volumes(Atoms("Cu6", positions=np.random.default_rng(0).normal(size=(6, 3)) * [1, 1, 0]))
    with pytest.raises(DataError, match="closed"):
        voronoi_volumes(Atoms("Cu5", positions=np.vstack([np.eye(3), -np.ones((1, 3)), np.zeros((1, 3)) + 3.0])))
    with pytest.raises(SettingsError, match="at least 1"):
        voronoi_volumes(copper(), largest=0.5)


def test_volume_average_of_the_local_stress_is_the_stress():
    atoms = copper()
    sigma, volumes = atomic_stresses(atoms)
    np.testing.assert_allclose(volumes @ sigma / volumes.sum(), atoms.get_stress(), atol=1e-10)


def test_gapkits_own_stresses(gap, held_out):
    atoms = next(a for a in held_out if a.pbc.all()).copy()
    atoms.calc = gap.calculator()
    sigma, volumes = atomic_stresses(atoms)
    np.testing.assert_allclose(volumes @ sigma / volumes.sum(), atoms.get_stress(), atol=1e-9)


def test_homogeneous_stress_is_seen_everywhere():
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * 3
    atoms.set_cell(atoms.cell.array * [1.03, 1.0, 0.98], scale_atoms=True)
    atoms.calc = pair_potential()
    sigma, volumes = atomic_stresses(atoms)
    centres = np.random.default_rng(1).uniform(0, 10, size=(5, 3))
    np.testing.assert_allclose(
        averaged_stress(atoms, sigma, volumes, centres, 4.0), np.tile(atoms.get_stress(), (5, 1)), atol=1e-9
    )


def test_average_by_hand_and_across_the_cell():
    atoms = Atoms("Cu2", positions=[[0.5, 0, 0], [9.0, 0, 0]], cell=[10, 10, 10], pbc=True)
    sigma, volumes = np.array([[1.0, 0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0, 0]]), np.array([10.0, 30.0])
    a, b = weight(0.5, 3.0) * 10, weight(1.0, 3.0) * 30  # the second atom's image at -1
    expected = [a / (a + b), 2 * b / (a + b), 0, 0, 0, 0]
    np.testing.assert_allclose(averaged_stress(atoms, sigma, volumes, [[0, 0, 0]], 3.0)[0], expected)
    with pytest.raises(DataError, match="larger radius"):
        averaged_stress(atoms, sigma, volumes, [[5.0, 5.0, 5.0]], 3.0)


def test_average_is_smooth_as_an_atom_leaves():
    def value(x):
        atoms = Atoms("Cu2", positions=[[0, 0, 0], [x, 0, 0]])
        return averaged_stress(atoms, np.array([[1.0] + [0] * 5, [9.0] + [0] * 5]), np.ones(2), [[0, 0, 0]], 3.0)[0, 0]

    h = 1e-5
    inside, outside = (value(3.0 - h) - value(3.0 - 2 * h)) / h, (value(3.0 + 2 * h) - value(3.0 + h)) / h
    assert abs(inside) < 1e-3 and outside == 0.0
    assert value(1.0) > value(2.0) > value(2.9) > 1.0  # and it is not the same everywhere


def test_descriptors_of_frames_do_not_turn():
    atoms = copper()
    model = StressDescriptors(radii=(3.0, 5.0)).fit([atoms])
    R = random_rotation(np.random.default_rng(5))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ R.T)
    turned.positions = atoms.positions @ R.T
    turned.calc = pair_potential()
    rows = model.transform([atoms])
    assert rows.shape == (len(atoms), 10) and np.ptp(rows[:, 0]) > 1e-4
    np.testing.assert_allclose(model.transform([turned]), rows, atol=1e-6)
    assert list(model.get_feature_names_out())[5] == "hydrostatic_5A"


def test_lammps_order_sign_and_units():
    atoms = Atoms("Cu", cell=[2.0, 2.0, 2.0], pbc=True)
    per_atom = np.arange(1.0, 7.0)[None] * 1e4  # bar A^3: xx yy zz xy xz yz
    stresses = lammps_stresses(per_atom, atoms)
    np.testing.assert_allclose(stresses[0] * 160.21766 * 8, np.array([1, 2, 3, 6, 5, 4]), rtol=1e-6)  # GPa A^3
    np.testing.assert_allclose(lammps_stresses(per_atom, atoms, "real"), 1.01325 * stresses, rtol=1e-12)
    with pytest.raises(SettingsError, match="metal"):
        lammps_stresses(per_atom, atoms, "lj")
    with pytest.raises(DataError, match="shape"):
        lammps_stresses(per_atom[0], atoms)


def test_what_is_missing_is_named():
    atoms = copper()
    with pytest.raises(DataError, match="shape"):
        atomic_stresses(atoms, np.zeros((3, 6)))
    with pytest.raises(DataError, match="positive"):
        atomic_stresses(atoms, np.zeros((len(atoms), 6)), np.zeros(len(atoms)))
    atoms.calc = EMT()
    with pytest.raises(DataError, match="EMT gives no atomic stresses"):
        atomic_stresses(atoms)
    atoms.calc = None
    with pytest.raises(DataError, match="no calculator"):
        atomic_stresses(atoms)
    with pytest.raises(DataError, match="not finite"):
        stress_invariants(np.full(6, np.nan))
    with pytest.raises(DataError, match="6 components"):
        stress_invariants(np.zeros(5))
    with pytest.raises(SettingsError, match="floor"):
        stress_invariants(np.zeros(6), floor=0.0)
