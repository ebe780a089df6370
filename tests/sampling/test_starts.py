"""Starting structures of replicas: what may differ, and which coordinates are fixed."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms, FixBondLength, FixCartesian, FixedPlane

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.starts import fixed_coordinates, same_structure


def water(**changes) -> Atoms:
    atoms = molecule("H2O")
    for name, value in changes.items():
        getattr(atoms, f"set_{name}")(value)
    return atoms


def ion(**info) -> Atoms:
    atoms = water()
    atoms.info.update(info)
    return atoms


def test_positions_and_velocities_may_differ():
    other = water(velocities=np.ones((3, 3)))
    other.rattle(0.1, seed=0)
    other.info["energy"] = -3.0
    same_structure([water(), other])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (water()[[1, 0, 2]], "frame 1: the atoms of frame 0 in another order; a permutation fits"),
        (molecule("H2O2"), "frame 1: composition H2O2, that of frame 0 is H2O"),
        (Atoms("OHF"), "frame 1: composition HFO"),
        (water(cell=[9, 9, 9]), "frame 1: other cell than frame 0"),
        (water(cell=[9, 9, 9], pbc=True), "frame 1: other periodic directions, cell than frame 0"),
        (water(masses=[16, 2, 2]), "frame 1: other masses"),
        (water(initial_charges=[-1, 0, 0]), "frame 1: other initial charges"),
        (water(initial_magnetic_moments=[1, 0, 0]), "frame 1: other initial magnetic moments"),
        (ion(charge=1), "frame 1: other charge in atoms.info than frame 0"),
        (ion(charge=0, spin=3), "frame 1: other charge in atoms.info, spin in atoms.info than frame 0"),
        (water(constraint=FixAtoms([1])), "frame 1: other constraints than frame 0"),
        (water(positions=np.full((3, 3), np.nan)), "frame 1: a position or momentum is not finite"),
        (water(masses=[0.0, 1, 1]), "frame 1: a mass is not positive"),
        (Atoms(), "frame 1: has no atoms"),
    ],
)
def test_what_else_differs_is_named_with_the_frame(other, words):
    with pytest.raises(DataError, match=words):
        same_structure([water(), other])


def test_no_frames_are_refused():
    with pytest.raises(DataError, match="no frames"):
        same_structure([])


def test_fixed_coordinates_are_those_of_constraints_and_mask_together():
    atoms = water(constraint=[FixAtoms([0]), FixCartesian(2, mask=(True, False, False))])
    mask = np.zeros((3, 3), dtype=bool)
    mask[1, 1] = True
    expected = np.array([[True] * 3, [False, True, False], [True, False, False]])
    np.testing.assert_array_equal(fixed_coordinates(atoms, mask), expected)
    np.testing.assert_array_equal(fixed_coordinates(water(), np.array([False, True, False]))[:, 2], [0, 1, 0])
    assert not fixed_coordinates(water()).any()


@pytest.mark.parametrize("constraint", [FixBondLength(0, 1), FixedPlane(0, (0, 0, 1))])
def test_other_constraints_are_refused_by_name(constraint):
    with pytest.raises(SettingsError, match=f"frame 0: constraint {type(constraint).__name__} is not provided for"):
        fixed_coordinates(water(constraint=constraint))
    with pytest.raises(SettingsError, match="frame 1: constraint"):
        same_structure([water(), water(constraint=constraint)])


@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.zeros(2, dtype=bool), np.zeros((3, 2), dtype=bool), [0, 2]])
def test_a_mask_of_another_kind_is_refused(mask):
    with pytest.raises(SettingsError, match=r"fixed must be a mask of true and false of the shape \(3, 3\)"):
        fixed_coordinates(water(), mask)
