"""Labels that are not what they seem: what is read all the same, what is left out, and what is said."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from gapkit.exceptions import GapkitWarning
from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames
from gapkit.structures.placeholders import placeholder_forces, symmetric_atoms
from gapkit.structures.suspicions import warn_of_labels
from tests.conftest import copper_frames


def with_results(atoms, **results):
    frame = atoms.copy()
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def said(frames, **keys):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_labels(frames, labelled_frames(frames, **keys), tuple(keys.values()))
    assert all(issubclass(w.category, GapkitWarning) for w in caught)
    return [str(w.message) for w in caught]


# ---- the energy that forces are derivatives of


def test_the_free_energy_is_read_where_any_frame_has_forces_or_a_stress():
    atoms = bulk("Cu")
    both = with_results(atoms, energy=-1.0, free_energy=-1.1)
    for more in ({"forces": np.zeros((1, 3))}, {"stress": np.zeros(6)}):
        other = with_results(atoms, energy=-2.0, free_energy=-2.1, **more)
        assert [f.energy for f in labelled_frames([both, other])] == [-1.1, -2.1]
    assert labelled_frames([both, both])[0].energy == -1.0
    assert labelled_frames([with_results(atoms, free_energy=-3.0)])[0].energy == -3.0
    forces_alone = with_results(atoms, energy=-4.0, forces=np.zeros((1, 3)))
    assert labelled_frames([forces_alone])[0].energy == -4.0


def test_a_named_energy_stays_the_one_that_was_named():
    frame = with_results(bulk("Cu"), energy=-1.0, free_energy=-1.1, forces=np.zeros((1, 3)))
    assert labelled_frames([frame], energy_key="energy")[0].energy == -1.0


# ---- names


def written(atoms, lattice, properties, force):
    def row(numbers):
        return " ".join(f"{x:.8f}" for x in np.ravel(numbers))

    head = f'{lattice}="{row(atoms.cell.array)}" {properties}=species:S:1:pos:R:3:{force}:R:3'
    lines = [str(len(atoms)), f"energy={atoms.get_potential_energy():.8f} {head}"]
    return "\n".join(lines + [f"{s} {row(p)} {row(f)}" for s, p, f in zip(
        atoms.symbols, atoms.positions, atoms.get_forces(), strict=True)]) + "\n"  # fmt: skip


@pytest.mark.parametrize("words", [("lattice", "properties", "force"), ("LATTICE", "Properties", "forces")])
def test_keys_of_extended_xyz_in_other_capitals_are_read(tmp_path, words):
    frames = copper_frames(3, seed=1)
    (tmp_path / "odd.xyz").write_text("".join(written(a, *words) for a in frames))
    found = read_frames(tmp_path / "odd.xyz")
    for one, other, given in zip(labelled_frames(found), labelled_frames(frames), frames, strict=True):
        assert one.atoms.pbc.all()
        np.testing.assert_allclose(one.atoms.cell, given.cell, atol=1e-7)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-7)
        assert one.energy == pytest.approx(other.energy, abs=1e-7)
    assert not set(found[0].info) & {"lattice", "properties", "LATTICE"}


def test_a_value_that_looks_like_a_key_is_left_alone(tmp_path):
    text = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 note="see lattice" my_lattice=4\nCu 0 0 0\n'
    (tmp_path / "usual.xyz").write_text(text)
    (frame,) = read_frames(tmp_path / "usual.xyz")
    assert frame.info["note"] == "see lattice" and frame.info["my_lattice"] == 4


def test_virials_under_their_plural_are_read():
    frame = bulk("Cu")
    frame.info.update(energy=-1.0, virials=np.eye(3))
    assert labelled_frames([frame])[0].virial.tolist() == [1, 1, 1, 0, 0, 0]


def test_labels_under_other_names_are_named():
    frames = copper_frames(3, seed=1)
    for atoms in frames[1:]:
        atoms.arrays["REF_forces"] = atoms.calc.results.pop("forces")
        atoms.info["dft_virial"] = -atoms.get_volume() * atoms.calc.results.pop("stress")
        atoms.info["Energy"] = atoms.calc.results.pop("energy")
        atoms.info["kinetic_energy"] = 1.0
        atoms.set_momenta(np.ones((len(atoms), 3)))
    sentences = said(frames)
    assert len(sentences) == 3
    for name, key in (("REF_forces", "forces_key"), ("dft_virial", "virial_key"), ("Energy", "energy_key")):
        (mine,) = [s for s in sentences if repr(name) in s]
        assert mine.startswith("2 of 3 frames") and f"{key}={name!r}" in mine
    assert said(copper_frames(3, seed=1)) == []


def test_a_name_that_the_user_gave_is_not_warned_of():
    frames = copper_frames(3, seed=1)
    for atoms in frames[1:]:
        atoms.arrays["my_forces"] = atoms.calc.results.pop("forces")
    assert said(frames, forces_key="my_forces") == []


def test_levels_of_theory_are_named_where_there_are_two():
    frames = [*copper_frames(3, seed=1), *copper_frames(1, seed=2)]
    for atoms, name in zip(frames, ("PBE", "PBE", "SCAN", "SCAN"), strict=True):
        atoms.info["level_of_theory"] = name
    (sentence,) = said(frames)
    assert "'PBE' (2 frames" in sentence and "'SCAN' (2 frames" in sentence
    for atoms in frames:
        atoms.info["level_of_theory"] = "PBE"
    assert said(frames) == []
    cluster = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.2]])
    cluster.info["level_of_theory"] = "PBE, one k-point"
    assert said([*frames, with_results(cluster, energy=-1.0)]) == []


# ---- zeros that stand for no force


def test_zero_forces_of_rattled_frames_are_no_labels():
    frames = copper_frames(3, seed=1)
    frames[1].calc.results["forces"] = np.zeros((len(frames[1]), 3))
    found = labelled_frames(frames)
    assert found[1].forces is None and found[1].energy is not None
    assert found[1].placeholders == len(frames[1]) and found[0].placeholders == 0
    (sentence,) = said(frames)
    assert f"{len(frames[1])} atoms of 1 of 3 frames (the first: frame 1)" in sentence


def test_zero_forces_of_some_atoms_are_no_labels():
    (frame,) = copper_frames(1, seed=1)
    frame.calc.results["forces"][:2] = 0.0
    (found,) = labelled_frames([frame])
    assert found.placeholders == 2 and found.held[:2].all() and not found.held[2:].any()


def test_zeros_under_a_constraint_are_not_named():
    (frame,) = copper_frames(1, seed=1)
    frame.set_constraint(FixAtoms([0, 1]))
    frame.calc.results["forces"][:2] = 0.0
    (found,) = labelled_frames([frame])
    assert found.placeholders == 0 and found.held[:2].all()


@pytest.mark.parametrize("atoms", [
    bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.6, cubic=True), bulk("Si", cubic=True),
    bulk("Cu", cubic=True) * (2, 1, 1), Atoms("He2", positions=[[0, 0, 0], [0, 0, 9.0]]), Atoms("Ar"),
    Atoms("CO2", positions=[[0, 0, 0], [0, 0, 1.16], [0, 0, -1.16]])[:1],
], ids=str)  # fmt: skip
def test_forces_that_symmetry_makes_vanish_are_labels(atoms):
    assert symmetric_atoms(atoms).all()
    assert not placeholder_forces(atoms, np.zeros((len(atoms), 3))).any()


def test_atoms_of_a_surface_are_not_symmetric():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6)
    assert symmetric_atoms(slab).reshape(3, -1).all(axis=1).tolist() == [False, True, False]


def test_a_zero_among_forces_of_few_digits_is_a_small_force():
    (frame,) = copper_frames(1, seed=1)
    forces = np.round(frame.get_forces(), 2)
    forces[0] = 0.0
    assert not placeholder_forces(frame, forces).any()
    forces[1] += 1e-4
    assert placeholder_forces(frame, forces)[0]
