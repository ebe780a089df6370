"""Derivatives that symmetry fixes and forces that a constraint holds are no evidence."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian

import gapkit
from gapkit.exceptions import DataError, GapkitWarning
from gapkit.models.observations import FIXED, Targets, observations
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, label, small_gap


def places(atoms, terms=None):
    """Places of the labels that have rows, by label kind."""
    gap = small_gap() if terms is None else small_gap(terms=terms)
    basis = gap.fit(copper_frames(8, 1)).potential_.basis
    n = len(atoms)
    targets = Targets(1.0, np.zeros((n, 3)), np.zeros(6) if atoms.pbc.all() else None, n)
    rows = basis.rows(basis.structure(atoms))
    return {o.group: (o.places, len(o.K), len(o.y), len(o.prior)) for o in observations(targets, rows)}


def test_a_perfect_crystal_has_no_forces_and_no_shear_to_learn_from():
    atoms = bulk("Cu", cubic=True)
    atoms.positions = np.round(atoms.positions + 0.1234567891, 8)  # as a file keeps them
    found = places(atoms)
    assert "forces" not in found
    kept, *sizes = found["virial"]
    np.testing.assert_array_equal(kept, [0, 1, 2])
    assert sizes == [3, 3, 3]


def test_a_planar_molecule_has_no_forces_out_of_its_plane():
    atoms = Atoms("Cu3", [[0, 0, 0], [2.4, 0.1, 0], [1.0, 2.2, 0]])
    kept, *_ = places(atoms)["forces"]
    np.testing.assert_array_equal(kept, [0, 1, 3, 4, 6, 7])


def test_small_displacements_are_learned_from():
    atoms = bulk("Cu", cubic=True)
    atoms.positions += np.random.default_rng(0).normal(size=(4, 3)) * 1e-3
    kept, *_ = places(atoms)["forces"]
    assert len(kept) == 12
    assert 0 < FIXED < 1e-8


def crystals(n):
    return [label(bulk("Cu", cubic=True, a=a)) for a in np.linspace(3.4, 3.9, n)]


def test_perfect_crystals_change_no_noise_level_and_no_error_bar_of_forces():
    """Frames whose forces vanish by symmetry are as good as frames without forces."""
    frames = copper_frames(12, 1)
    bare = crystals(10)
    for atoms in bare:
        del atoms.calc.results["forces"]
    fits = [small_gap(folds=3).fit([*frames, *more]) for more in (crystals(10), bare)]
    with_forces, without = (gap.potential_ for gap in fits)
    assert with_forces.noise_levels["forces"] == pytest.approx(without.noise_levels["forces"], rel=1e-3)
    models = [p.errors.recalibration.models["forces"] for p in (with_forces, without)]
    assert models[0].n == models[1].n
    assert models[0].floor == pytest.approx(models[1].floor, rel=1e-3)


def test_forces_that_all_vanish_by_symmetry_do_not_promise_exact_forces():
    gap = small_gap().fit(crystals(17))
    test = copper_frames(3, 2)[:3]
    p = gap.predict(test, uncertainty=True)
    for atoms, forces, std in zip(test, p.forces, p.forces_std, strict=True):
        error = np.sqrt(np.mean((forces - atoms.get_forces()) ** 2))
        assert np.sqrt(np.mean(std**2)) > 0.05 * error


def test_frames_that_tell_nothing_are_refused():
    frames = crystals(5)
    for atoms in frames:
        atoms.calc.results = {"forces": atoms.get_forces()}
    with pytest.raises(DataError, match="vanish by symmetry.*add energies"):
        small_gap(e0={"Cu": 0.0}).fit(frames)


def test_an_exact_mean_counts_no_errors_out_of_a_molecule_s_plane():
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(14):
        atoms = Atoms("Cu3", [[0, 0, 0], [2.4, 0.1, 0], [1.0, 2.2, 0]])
        atoms.positions[:, :2] += rng.normal(size=(3, 2)) * 0.1
        frames.append(label(atoms))
    soap = gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(2), n_sparse=20)
    gap = small_gap(terms=[small_gap().terms[0], soap], exact=True).fit(frames)
    assert gap.potential_.errors.recalibration.models["forces"].n == 14 * 6


def held_slabs(n, constraint):
    """Rattled slabs, and the same with forces of zero where ``constraint`` holds."""
    rng = np.random.default_rng(0)
    free, held = [], []
    for _ in range(n):
        atoms = fcc111("Cu", (2, 2, 3), vacuum=5)
        atoms.positions += rng.normal(size=atoms.positions.shape) * 0.1
        atoms = label(atoms)
        free.append(atoms)
        copy = atoms.copy()
        copy.set_constraint(constraint)
        copy.calc = SinglePointCalculator(copy, energy=atoms.get_potential_energy(), forces=copy_forces(atoms, copy))
        held.append(copy)
    return free, held


def copy_forces(atoms, constrained):
    forces = atoms.get_forces().copy()
    for c in constrained.constraints:
        c.adjust_forces(constrained, forces)
    return forces


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [(FixAtoms(range(4)), range(12)), (FixCartesian(5, [True, False, True]), [15, 17])],
)
def test_zeros_under_a_constraint_are_no_labels(constraint, expected):
    free, held = held_slabs(2, constraint)
    frame = labelled_frames(held)[0]
    np.testing.assert_array_equal(np.flatnonzero(~frame.force_labels), list(expected))
    assert labelled_frames(free)[0].held is None
    for atoms, like in zip(held, free, strict=True):  # a program that kept the forces of held atoms
        atoms.calc.results["forces"] = like.get_forces()
    assert labelled_frames(held)[0].held is None


def test_a_frame_whose_atoms_are_all_held_has_no_forces():
    atoms = label(molecule("H2"))
    atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)))
    frame = labelled_frames([atoms])[0]
    assert (frame.forces, frame.held) == (None, None)


def test_held_atoms_do_not_spoil_the_forces_of_others():
    free, held = held_slabs(12, FixAtoms(range(4)))
    moving = slice(4, None)
    test, _ = held_slabs(15, FixAtoms(range(4)))
    test = test[12:]
    wrong = [a.copy() for a in held]
    for atoms, like in zip(wrong, held, strict=True):
        atoms.set_constraint()
        atoms.calc = SinglePointCalculator(atoms, **like.calc.results)

    def error(frames):
        p = small_gap(screen=False).fit(frames).predict(test)
        return np.sqrt(
            np.mean([(f[moving] - a.get_forces()[moving]) ** 2 for f, a in zip(p.forces, test, strict=True)])
        )

    known = error(held)
    assert known < 3 * error(free)  # there are fewer labels
    with pytest.warns(GapkitWarning, match="on 48 atoms of 12 of 12 frames .* placeholders"):
        assert error(wrong) == pytest.approx(known, rel=1e-6)  # zeros without a constraint are no labels either


def test_evaluate_and_recalibration_do_not_count_held_forces():
    free, held = held_slabs(8, FixAtoms(range(4)))
    gap = small_gap().fit(copper_frames(12, 1))
    report = gap.evaluate(held)
    assert len(report.forces["reference"]) == len(report.forces["std"]) == 8 * 24
    reference = np.concatenate([a.get_forces()[4:].ravel() for a in free])
    np.testing.assert_allclose(report.forces["reference"], reference)
    error = np.concatenate([f[4:].ravel() for f in gap.predict(held).forces]) - reference
    assert report.summary["force_rmse_ev_per_ang"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert gap.recalibrate(held).potential_.errors.recalibration.models["forces"].n == 8 * 24
