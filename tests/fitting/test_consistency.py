"""Units, signs and orders of labels: named where energies, forces and virials would belong together under them."""

import warnings
from functools import partial

import numpy as np
import pytest
from ase import units
from ase.build import molecule

import gapkit
from gapkit.datasets import load_silicon
from gapkit.exceptions import DataError, GapkitWarning
from gapkit.fitting.consistency import check_consistency
from gapkit.fitting.screening import findings
from gapkit.fitting.training_set import in_order, training_set
from gapkit.potential.baseline import ZBL
from gapkit.progress import progress_bar
from gapkit.structures.labels import labelled_frames
from tests.conftest import label
from tests.fitting.test_screening import TERMS, cells, copied

FRAMES = cells(12, 4)
CASES = {
    "forces in Hartree/Bohr": ("forces", lambda a, x: x * units.Bohr / units.Hartree),
    "forces in eV/Bohr": ("forces", lambda a, x: x * units.Bohr),
    "forces in kcal/mol/A": ("forces", lambda a, x: x * units.mol / units.kcal),
    "gradients instead of forces": ("forces", lambda a, x: -x),
    "gradients instead of forces, in Hartree/Bohr": ("forces", lambda a, x: -x * units.Bohr / units.Hartree),
    "energies in Hartree": ("energy", lambda a, x: x / units.Hartree),
    "energies in Rydberg": ("energy", lambda a, x: x / units.Rydberg),
    "energies in kJ/mol": ("energy", lambda a, x: x * units.mol / units.kJ),
    "energies per atom": ("energy", lambda a, x: x / len(a)),
    "stress in GPa": ("stress", lambda a, x: x / units.GPa),
    "stress in kbar of the other sign (compression positive)": ("stress", lambda a, x: -10 * x / units.GPa),
    "stress in the order xx yy zz xy yz zx (VASP)": ("stress", lambda a, x: x[[0, 1, 2, 5, 3, 4]]),
    "stress in the order xx yy zz xy xz yz (LAMMPS)": ("stress", lambda a, x: x[[0, 1, 2, 5, 4, 3]]),
    "stress that is a virial in eV": ("stress", lambda a, x: -x * a.get_volume()),
}


def judged(frames, baseline=None):
    """What is found of frames' labels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)  # compositions of one molecule do not fix reference energies
        data = in_order(training_set(labelled_frames(frames), "auto", baseline))
    terms = [t.with_descriptor(t.descriptor.for_species(data.species)) for t in TERMS]
    return findings(data, terms, 1, partial(progress_bar, show=False)).consistencies


def converted(what, change, frames=FRAMES):
    frames = copied(frames)
    for atoms in frames:
        atoms.calc.results[what] = change(atoms, atoms.calc.results[what])
    return frames


def named(found):
    return {name for c in found for name in c.conventions}


@pytest.mark.parametrize("name", CASES)
def test_a_convention_is_named(name):
    assert named(judged(converted(*CASES[name]))) == {name}


@pytest.mark.parametrize("name", [n for n, (what, _) in CASES.items() if what != "stress"])
def test_energies_and_forces_alone_tell_the_convention(name):
    frames = converted(*CASES[name])
    for atoms in frames:
        atoms.calc.results.pop("stress")
    assert named(judged(frames)) == {name}


def test_forces_and_stresses_without_energies_tell_the_units():
    frames = converted(*CASES["forces in Hartree/Bohr"])
    for atoms in frames:
        atoms.calc.results.pop("energy")
    assert named(judged(frames)) == {"forces in Hartree/Bohr"}


def test_energies_and_stresses_without_forces_tell_the_units():
    frames = converted(*CASES["energies in Hartree"])
    for atoms in frames:
        atoms.calc.results.pop("forces")
    assert named(judged(frames)) == {"energies in Hartree"}


def test_a_kind_of_which_too_few_are_left_without_a_frame_is_no_obstacle():
    frames = converted(*CASES["forces in Hartree/Bohr"], FRAMES[:9])
    for atoms in frames[4:]:
        atoms.calc.results.pop("stress")  # four are enough for a comparison, three are not
    found = judged(frames)
    assert [c.kind for c in found] == ["energy", "virial"]
    assert found[0].conventions == ("forces in Hartree/Bohr",)


def test_right_labels_have_slope_one_and_no_other_convention():
    found = judged(FRAMES)
    assert [c.kind for c in found] == ["energy", "virial"] and not named(found)
    assert found[1].slope == pytest.approx(1, abs=0.02) and found[1].left < 0.1


def test_right_labels_of_silicon_and_of_molecules_have_no_other_convention():
    assert not named(judged(load_silicon("test")))
    rng = np.random.default_rng(0)
    rattled = []
    for _ in range(20):
        atoms = molecule("C2H6")
        atoms.rattle(0.1, rng=rng)
        rattled.append(label(atoms))
    found = judged(rattled)
    assert len(found) == 1 and not named(found) and found[0].factor == 1.0


def test_energies_of_another_scale_are_said_without_a_name():
    found = judged(converted("energy", lambda a, x: 5 * x))
    assert not named(found) and 0.1 < found[0].factor < 0.4
    with pytest.warns(GapkitWarning, match="labels would belong there far better"):
        check_consistency(found)


def test_a_baseline_does_not_hide_the_units_of_energies():
    found = judged(converted(*CASES["energies in Hartree"]), ZBL())
    assert named(found) == {"energies in Hartree"}


def test_a_fit_is_refused_with_the_convention_and_the_remedy():
    frames = converted(*CASES["gradients instead of forces"])
    with pytest.raises(DataError, match=r"gradients instead of forces.*Convert them to eV, eV/A.*screen=False"):
        gapkit.GAP(TERMS, folds=2, random_state=0).fit(frames)


def test_screening_turned_off_lets_the_labels_pass():
    frames = converted(*CASES["stress in GPa"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)
        gap = gapkit.GAP(TERMS, folds=2, screen=False, random_state=0).fit(frames)
    assert not gap.label_report_.findings.consistencies and np.isfinite(gap.predict(frames[:1]).energy).all()
