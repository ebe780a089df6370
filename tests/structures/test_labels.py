"""Labels: where they are found, what they mean, what is refused."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st

from gapkit.exceptions import DataError
from gapkit.structures.labels import check_distances, check_structure, labelled_frames, voigt

# Six different components: any mistaken order shows.
COMPONENTS = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
MATRIX = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])


def silicon(**info):
    """Eight rattled atoms, periodic, volume 160.1 A^3."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(stdev=0.05, rng=np.random.default_rng(0))
    atoms.info.update(info)
    return atoms


def molecule(**info):
    """Two atoms that are not periodic."""
    return Atoms("H2", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 0.74]], info=info)


def with_results(atoms, **results):
    """``atoms`` with a calculator that holds these results."""
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def one(atoms, **keys):
    """The only labelled frame of ``atoms``."""
    (frame,) = labelled_frames([atoms], **keys)
    return frame


# ---- where labels are found


def test_results_of_the_calculator_give_all_labels():
    forces = np.arange(24.0).reshape(8, 3)
    frame = one(with_results(silicon(), energy=-34.0, forces=forces, stress=COMPONENTS))
    assert frame.energy == -34.0
    np.testing.assert_array_equal(frame.forces, forces)
    np.testing.assert_allclose(frame.virial, -frame.volume * COMPONENTS, rtol=1e-14)
    assert frame.n_atoms == 8
    assert frame.volume == pytest.approx(5.43**3)
    assert frame.atoms.calc is None


def test_results_win_over_info_and_a_named_key_wins_over_results():
    atoms = with_results(silicon(energy=-1.0, dft=-2.0), energy=-3.0, forces=np.full((8, 3), 3.0))
    atoms.arrays["forces"] = np.full((8, 3), 1.0)
    atoms.arrays["dft"] = np.full((8, 3), 2.0)
    frame = one(atoms)
    assert (frame.energy, frame.forces[0, 0]) == (-3.0, 3.0)
    frame = one(atoms, energy_key="dft", forces_key="dft")
    assert (frame.energy, frame.forces[0, 0]) == (-2.0, 2.0)


def test_info_and_arrays_are_read_without_calculator():
    atoms = silicon(energy=-1.0, virial=MATRIX)
    atoms.arrays["forces"] = np.full((8, 3), 0.5)
    frame = one(atoms)
    assert frame.energy == -1.0
    np.testing.assert_array_equal(frame.forces, np.full((8, 3), 0.5))
    np.testing.assert_array_equal(frame.virial, COMPONENTS)


def test_energy_is_preferred_and_free_energy_stands_in():
    assert one(with_results(silicon(), energy=-1.0, free_energy=-2.0)).energy == -1.0
    assert one(with_results(silicon(), free_energy=-2.0)).energy == -2.0


def test_a_named_key_that_a_reader_moved_into_the_results_is_found():
    atoms = with_results(silicon(), energy=-1.0, free_energy=-2.0, forces=np.ones((8, 3)), stress=COMPONENTS)
    frame = one(atoms, energy_key="free_energy", forces_key="forces", virial_key="stress")
    assert frame.energy == -2.0
    assert frame.forces is not None
    np.testing.assert_allclose(frame.virial, -frame.volume * COMPONENTS)


def test_a_named_key_missing_in_some_frames_leaves_them_without_that_label():
    a, b = silicon(dft=-1.0, energy=-5.0), silicon(energy=-5.0)
    frames = labelled_frames([a, b], energy_key="dft")
    assert [f.energy for f in frames] == [-1.0, None]


@pytest.mark.parametrize("label", ["energy", "forces", "virial"])
def test_a_named_key_missing_in_all_frames_is_an_error_that_lists_what_is_there(label):
    frames = [silicon(energy=-1.0, reference=-2.0)] * 2
    with pytest.raises(DataError, match=f"{label}_key 'dft' is in none of the 2 frames.*reference"):
        labelled_frames(frames, **{f"{label}_key": "dft"})
    assert labelled_frames(frames, **{f"{label}_key": "dft"}, require_labels=False)[0] is not None


def test_no_labels_at_all_is_an_error_unless_labels_are_optional():
    with pytest.raises(DataError, match=r"none of the 1 frames has labels; looked for energy.*forces.*virial"):
        labelled_frames([silicon()])
    frame = labelled_frames([silicon()], require_labels=False)[0]
    assert frame.energy is None
    assert frame.forces is None
    assert frame.virial is None


def test_types_trajectory_index_and_the_callers_frame():
    a, b = silicon(energy=1.0), silicon(energy=2.0, config_type="bulk", trajectory=7)
    b.set_constraint(FixAtoms([0]))
    frames = labelled_frames([a, b])
    assert [f.config_type for f in frames] == [None, "bulk"]
    assert [f.trajectory for f in frames] == [None, "7"]
    assert [f.index for f in frames] == [0, 1]
    frames[1].atoms.positions += 1.0
    assert not np.allclose(b.positions, frames[1].atoms.positions)


def test_forces_are_the_raw_ones_under_constraints():
    atoms = silicon()
    atoms.set_constraint(FixAtoms(range(8)))
    frame = one(with_results(atoms, forces=np.ones((8, 3))))
    np.testing.assert_array_equal(frame.forces, np.ones((8, 3)))


def test_labels_of_a_live_calculator_are_taken_once_computed_and_only_for_this_structure():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    assert labelled_frames([atoms], require_labels=False)[0].energy is None
    energy = atoms.get_potential_energy()
    assert one(atoms).energy == energy
    atoms.positions[0, 0] += 0.1
    with pytest.raises(DataError, match=r"frame 0: .*another structure.*positions"):
        labelled_frames([atoms])


def test_one_structure_stands_for_a_list_of_one():
    assert len(labelled_frames(silicon(energy=1.0))) == 1
    assert len(labelled_frames(silicon(energy=float(i)) for i in range(3))) == 3


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ("train.xyz", "got str; read a file with ase.io.read"),
        (3, "got int"),
        (None, "got NoneType"),
        ([], "got an empty one"),
        ([molecule(energy=1.0), "x"], "frame 1: expected ase.Atoms, got str"),
        ([[molecule(energy=1.0)]], "frame 0: expected ase.Atoms, got list"),
    ],
)
def test_what_is_not_a_list_of_structures_is_refused(frames, message):
    with pytest.raises(DataError, match=message):
        labelled_frames(frames)


# ---- virials and stresses

finite = st.floats(-50.0, 50.0)


@given(components=st.lists(finite, min_size=6, max_size=6), rotate=st.booleans())
def test_every_format_of_one_virial_gives_the_same_six_components(components, rotate):
    xx, yy, zz, yz, xz, xy = components
    matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    volume = silicon().cell.volume
    formats = {"6": np.array(components), "9": matrix.ravel(), "3x3": matrix}
    for value in formats.values():
        np.testing.assert_array_equal(one(silicon(virial=value)).virial, components)
        np.testing.assert_allclose(one(silicon(stress=-value / volume)).virial, components, rtol=1e-13, atol=1e-13)
        np.testing.assert_array_equal(voigt(value.tolist(), "frame 0", "virial"), components)


def test_the_order_is_that_of_ase():
    from ase.stress import full_3x3_to_voigt_6_stress

    np.testing.assert_array_equal(voigt(MATRIX, "frame 0", "virial"), COMPONENTS)
    np.testing.assert_array_equal(voigt(MATRIX, "frame 0", "virial"), full_3x3_to_voigt_6_stress(MATRIX))


def test_the_sign_is_that_of_ase():
    """Compressed copper pushes outwards: negative stress in ASE, positive virial."""
    atoms = bulk("Cu", a=3.4, cubic=True)
    atoms.calc = EMT()
    atoms.get_stress()
    virial = one(atoms).virial
    assert (virial[:3] > 1.0).all()
    # dE/d(strain) = stress * volume = -virial
    energies = []
    for strain in (-1e-4, 1e-4):
        strained = bulk("Cu", a=3.4, cubic=True)
        strained.set_cell(strained.cell * np.array([1.0 + strain, 1.0, 1.0]), scale_atoms=True)
        strained.calc = EMT()
        energies.append(strained.get_potential_energy())
    assert virial[0] == pytest.approx(-(energies[1] - energies[0]) / 2e-4, rel=1e-4)


def test_a_named_virial_key_is_a_virial_and_a_key_called_stress_a_stress():
    atoms = silicon(REF_virial=MATRIX, REF_Stress=MATRIX, virial=100 * MATRIX)
    np.testing.assert_array_equal(one(atoms, virial_key="REF_virial").virial, COMPONENTS)
    frame = one(atoms, virial_key="REF_Stress")
    np.testing.assert_allclose(frame.virial, -frame.volume * COMPONENTS)


def test_stress_and_virial_that_agree_are_accepted_and_that_disagree_refused():
    volume = silicon().cell.volume
    good = silicon(virial=MATRIX, stress=-MATRIX / volume * (1.0 + 5e-4))
    np.testing.assert_array_equal(one(good).virial, COMPONENTS)
    wrong_sign = silicon(virial=MATRIX, stress=MATRIX / volume)
    slightly_off = silicon(virial=MATRIX, stress=-MATRIX / volume * (1.0 + 3e-3))
    in_results = with_results(silicon(virial=MATRIX), stress=COMPONENTS)
    for bad in (wrong_sign, slightly_off, in_results):
        with pytest.raises(DataError, match=r"frame 1: 'virial' and 'stress' disagree.*virial_key"):
            labelled_frames([good, bad])
        np.testing.assert_array_equal(one(bad, virial_key="virial").virial, COMPONENTS)


def test_an_asymmetric_matrix_is_refused_and_rounding_averaged():
    asymmetric = MATRIX.copy()
    asymmetric[0, 1] += 0.1
    with pytest.raises(DataError, match=r"frame 0: 'virial' is not symmetric"):
        one(silicon(virial=asymmetric))
    with pytest.raises(DataError, match=r"frame 0: 'stress' is not symmetric"):
        one(silicon(stress=asymmetric.ravel()))
    rounded = MATRIX.copy()
    rounded[0, 1] += 2e-3
    np.testing.assert_allclose(one(silicon(virial=rounded)).virial, [1, 2, 3, 4, 5, 6.001])


@pytest.mark.parametrize("shape", [(), (5,), (9, 1), (3, 2), (2, 3, 3)])
def test_a_virial_of_another_shape_is_refused(shape):
    with pytest.raises(DataError, match=r"frame 0: 'virial' has shape .* 6 in the order"):
        one(silicon(virial=np.ones(shape)))


def test_a_stress_without_periodicity_is_refused_unless_zero():
    frame = one(molecule(energy=1.0, stress=np.zeros(6)))
    assert frame.virial is None
    assert frame.volume is None
    with pytest.raises(DataError, match=r"frame 0: 'stress' is not zero, but the frame is not periodic"):
        one(molecule(energy=1.0, stress=COMPONENTS))
    boxed = molecule(energy=1.0, stress=COMPONENTS)
    boxed.set_cell([10.0, 10.0, 10.0])
    with pytest.raises(DataError, match=r"frame 0: 'stress' is not zero, but the frame is not periodic"):
        one(boxed)


def test_the_virial_of_a_cluster_is_kept_and_zeros_are_a_placeholder():
    np.testing.assert_array_equal(one(molecule(virial=MATRIX)).virial, COMPONENTS)
    assert one(molecule(energy=1.0, virial=np.zeros(6))).virial is None
    np.testing.assert_array_equal(one(silicon(virial=np.zeros(6))).virial, np.zeros(6))


def test_the_stress_of_a_slab_needs_a_cell_with_a_volume():
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    assert list(slab.pbc) == [True, True, False]
    slab.info["stress"] = COMPONENTS
    frame = one(slab)
    np.testing.assert_allclose(frame.virial, -slab.cell.volume * COMPONENTS)
    slab.cell[2] = 0.0
    with pytest.raises(DataError, match=r"frame 0: 'stress' is not zero, but the cell has no volume"):
        one(slab)
    slab.info.update(stress=np.zeros(6), energy=1.0)
    frame = one(slab)
    assert frame.virial is None
    assert frame.volume is None


# ---- what is refused


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("label", ["energy", "forces", "virial", "stress"])
def test_labels_that_are_not_finite_are_refused(label, value):
    good, bad = silicon(energy=1.0), silicon(energy=1.0)
    if label == "energy":
        bad.info["energy"] = value
    elif label == "forces":
        bad.arrays["forces"] = np.zeros((8, 3))
        bad.arrays["forces"][3, 1] = value
    else:
        bad.info[label] = COMPONENTS.copy()
        bad.info[label][2] = value
    with pytest.raises(DataError, match=f"frame 1: '{label}' holds NaN or infinity"):
        labelled_frames([good, bad])


@pytest.mark.parametrize(
    ("forces", "entry"),
    [
        (np.array([["0.1", "x", "2"]]), "not numeric: '0.1';"),
        (np.array([[0.1, "x", None]], dtype=object), "not numeric: 'x';"),
        (np.array([[1j, 0, 0]]), r"not numeric: 1j;"),
        (np.array([[None, 0, 0]]), "not numeric: None;"),
        ([[1.0, 2.0], [3.0]], "has rows of different lengths;"),
        (np.array([[True, False, True]]), "not numeric: True;"),
    ],
)
def test_what_is_not_numeric_is_named_by_one_entry(forces, entry):
    atoms = Atoms("H")
    atoms.calc = SinglePointCalculator(atoms, energy=0.0)
    atoms.calc.results["forces"] = forces
    with pytest.raises(DataError, match=f"frame 0: 'forces' (is )?{entry}"):
        labelled_frames([atoms])


def test_labels_of_the_wrong_shape_or_type_are_refused():
    atoms = silicon(energy=1.0)
    atoms.arrays["forces"] = np.zeros((8, 2))
    with pytest.raises(DataError, match=r"frame 0: 'forces' has shape \(8, 2\).*\(8, 3\)"):
        one(atoms)
    with pytest.raises(DataError, match=r"frame 0: 'forces' has shape \(7, 3\)"):
        one(with_results(silicon(), forces=np.zeros((7, 3))))
    with pytest.raises(DataError, match=r"frame 0: 'energy' has shape \(2,\); give one number"):
        one(silicon(energy=[1.0, 2.0]))
    with pytest.raises(DataError, match=r"frame 0: 'energy' is not numeric: 'low'"):
        one(silicon(energy="low"))
    with pytest.raises(DataError, match=r"frame 0: 'energy' is not numeric"):
        one(silicon(energy=1.0 + 2.0j))
    assert one(silicon(energy=np.array([1.5]))).energy == 1.5
    assert one(silicon(energy=2)).energy == 2.0


def test_structures_that_cannot_be_computed_with_are_refused():
    def broken(change):
        atoms = silicon(energy=1.0)
        change(atoms)
        return atoms

    def set_position(atoms):
        atoms.positions[5, 2] = np.nan

    def set_cell(atoms):
        atoms.cell[1, 1] = np.inf

    def zero_vector(atoms):
        atoms.cell[1] = 0.0

    def flat_cell(atoms):
        atoms.cell[2] = atoms.cell[0] - 2.0 * atoms.cell[1]

    def flat_slab(atoms):
        atoms.pbc = [True, False, True]
        atoms.cell[2] = 2.0 * atoms.cell[0]

    def ghost(atoms):
        atoms.numbers[3] = 0

    def beyond(atoms):
        atoms.numbers[3] = 119

    for change, message in [
        (set_position, "the position of atom 5 is not finite"),
        (set_cell, "the cell is not finite"),
        (zero_vector, "direction 1 is periodic but its cell vector is zero"),
        (flat_cell, "linearly dependent"),
        (flat_slab, "linearly dependent"),
        (ghost, "atom 3 has atomic number 0"),
        (beyond, "atom 3 has atomic number 119"),
    ]:
        with pytest.raises(DataError, match=f"frame 1: .*{message}"):
            labelled_frames([silicon(energy=1.0), broken(change)])
    with pytest.raises(DataError, match=r"frame 1: it has no atoms"):
        labelled_frames([silicon(energy=1.0), Atoms()])


def test_sound_structures_of_every_periodicity_pass():
    for pbc in itertools.product([False, True], repeat=3):
        atoms = silicon()
        atoms.pbc = pbc
        for direction in np.flatnonzero(~np.array(pbc)):
            atoms.cell[direction] = 0.0
        check_structure(atoms, "frame 0")
    left_handed = silicon()
    left_handed.set_cell(-left_handed.cell.array)
    check_structure(left_handed, "frame 0")


def test_two_atoms_on_one_spot_are_named():
    i, j = np.array([0, 1, 4]), np.array([1, 2, 6])
    check_distances(np.array([2.0, 1.1e-3, 3.0]), i, j, "frame 2")
    check_distances(np.array([]), i[:0], j[:0], "frame 2")
    with pytest.raises(DataError, match=r"frame 2: atoms 4 and 6 are 0.0005 A apart"):
        check_distances(np.array([2.0, 3.0, 5e-4]), i, j, "frame 2")
    with pytest.raises(DataError, match=r"frame 2: atom 4 .*its own periodic image"):
        check_distances(np.array([2.0, 3.0, 0.0]), i, np.array([1, 2, 4]), "frame 2")


# ---- isolated atoms


def atom(edge, pbc=True, **info):
    """One atom in a cube."""
    return Atoms("Si", cell=[edge] * 3, pbc=pbc, info={"energy": -1.0, **info})


def test_which_frames_are_isolated_atoms():
    assert one(atom(3.0, pbc=False)).is_isolated_atom
    assert one(atom(12.0)).is_isolated_atom
    assert not one(atom(11.9)).is_isolated_atom
    assert one(atom(8.0, config_type="isolated_atom")).is_isolated_atom
    assert one(atom(8.0, config_type="IsolatedAtom")).is_isolated_atom
    assert not one(atom(8.0, config_type="bulk")).is_isolated_atom
    assert not one(molecule(energy=1.0, config_type="isolated_atom")).is_isolated_atom


def test_spacing_of_images_counts_periodic_directions_only_and_skewed_cells():
    assert one(Atoms("Si", cell=[20.0, 20.0, 3.0], pbc=[1, 1, 0], info={"energy": 1.0})).is_isolated_atom
    assert not one(Atoms("Si", cell=[20.0, 20.0, 3.0], pbc=[0, 0, 1], info={"energy": 1.0})).is_isolated_atom
    # Long vectors whose difference is short: the nearest image is 5 A away.
    skewed = Atoms("Si", cell=[[20.0, 0, 0], [20.0, 5.0, 0], [0, 0, 20.0]], pbc=True, info={"energy": 1.0})
    assert not one(skewed).is_isolated_atom
