"""Labels that contradict all others: found whatever the fault, and no unusual frame with them."""

import warnings
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given, settings
from hypothesis import strategies as st

import gapkit
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.fitting.screening import screened
from gapkit.fitting.training_set import in_order, training_set
from gapkit.model_selection import model_card
from gapkit.progress import progress_bar
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, label, small_gap

TERMS = [
    gapkit.Term(gapkit.PairDistance(r_cut=4.5), gapkit.SquaredExponential(0.6), n_sparse=30),
    gapkit.Term(gapkit.SOAP(r_cut=4.5, n_max=5, l_max=4), gapkit.DotProduct(4), n_sparse=150),
]
FAULTS = {
    "forces x50": ("forces", lambda x, other: 50 * x),
    "gradients": ("forces", lambda x, other: -x),
    "forces in Hartree/Bohr": ("forces", lambda x, other: x / 51.42),
    "forces of another frame": ("forces", lambda x, other: other["forces"]),
    "forces of other atoms": ("forces", lambda x, other: x[::-1].copy()),
    "energy +20 eV": ("energy", lambda x, other: x + 20),
    "energy -0.3 eV": ("energy", lambda x, other: x - 0.3),
    "energy of another frame": ("energy", lambda x, other: other["energy"]),
    "stress in GPa": ("stress", lambda x, other: 160.2 * x),
    "stress of the wrong sign": ("stress", lambda x, other: -x),
    "stress of another frame": ("stress", lambda x, other: other["stress"]),
}


def cells(n, seed, spread=0.1):
    """Strained and rattled cells of eight copper atoms."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu") * (2, 2, 2)
        strain = np.eye(3) * (1 + rng.uniform(-0.03, 0.03)) + rng.normal(size=(3, 3)) * 0.01
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += rng.normal(size=(8, 3)) * spread * rng.uniform(0.3, 1)
        frames.append(label(atoms))
    return frames


FRAMES = cells(24, 0)


def copied(frames):
    """Frames whose labels may be changed."""
    copies = [f.copy() for f in frames]
    for copy, frame in zip(copies, frames, strict=True):
        copy.calc = SinglePointCalculator(copy, **{k: np.copy(v) for k, v in frame.calc.results.items()})
    return copies


def with_fault(frames, k, name):
    frames = copied(frames)
    what, change = FAULTS[name]
    other = frames[(k + 7) % len(frames)].calc.results
    frames[k].calc.results[what] = change(frames[k].calc.results[what], other)
    return frames


def judge(frames, terms=TERMS):
    """What is screened of frames, as (frame, label kind), and the training set that is left."""
    data = in_order(training_set(labelled_frames(frames), "auto", None))
    terms = [t.with_descriptor(t.descriptor.for_species(data.species)) for t in terms]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        left, found = screened(data, terms, "auto", 1, partial(progress_bar, show=False))
    named = found.left_out
    assert len([w for w in said if issubclass(w.category, GapkitWarning)]) == bool(named)
    return {(s.frame, s.kind) for s in named}, left


@settings(max_examples=20)
@given(st.integers(0, 23), st.sampled_from(sorted(FAULTS)))
def test_any_fault_of_any_frame_is_found_and_nothing_else(k, name):
    what = FAULTS[name][0]
    assert judge(with_fault(FRAMES, k, name))[0] == {(k, "virial" if what == "stress" else what)}


def test_two_frames_with_faults_do_not_hide_each_other():
    frames = with_fault(with_fault(FRAMES, 3, "forces x50"), 17, "energy +20 eV")
    assert judge(frames)[0] == {(3, "forces"), (17, "energy")}


def test_all_labels_of_another_frame_are_found():
    frames = FRAMES
    for name in ("forces of another frame", "energy of another frame", "stress of another frame"):
        frames = with_fault(frames, 6, name)
    assert judge(frames)[0] == {(6, "forces"), (6, "energy"), (6, "virial")}


def compressed():
    atoms = bulk("Cu", a=3.3) * (2, 2, 2)
    atoms.positions += np.random.default_rng(1).normal(size=(8, 3)) * 0.15
    return label(atoms)


def slab():
    atoms = bulk("Cu", cubic=True) * (1, 1, 3)
    atoms.center(6, axis=2)
    atoms.positions += np.random.default_rng(2).normal(size=atoms.positions.shape) * 0.1
    return label(atoms)


UNUSUAL = {
    "short dimer": label(Atoms("Cu2", [[0, 0, 0], [0, 0, 1.7]])),
    "compressed": compressed(),
    "only surface": slab(),
    "liquid": cells(1, 9, spread=0.6)[0],
    "isolated atom": label(Atoms("Cu")),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_one_unusual_frame_stays(name):
    found, left = judge([*FRAMES, UNUSUAL[name]])
    assert found == set()
    assert len(left.frames) == 25


@pytest.mark.parametrize("name", ["forces x50", "energy +20 eV"])
def test_a_fault_beside_an_unusual_frame_is_found(name):
    assert judge(with_fault([*FRAMES, compressed()], 2, name))[0] == {(2, FAULTS[name][0])}


def test_families_with_very_different_forces_stay():
    quiet = cells(20, 3, spread=0.002)
    for frames, hot in ((quiet, cells(6, 4)), (quiet, cells(2, 4))):
        for atoms in hot:
            atoms.info["config_type"] = "hot"
        assert judge([*frames, *hot])[0] == set()


def test_of_few_frames_nothing_is_judged():
    assert judge(with_fault(FRAMES[:6], 2, "energy +20 eV"))[0] == set()


def test_an_isolated_atom_is_never_judged():
    atom = label(Atoms("Cu"))
    atom.calc.results["energy"] += 100.0
    assert judge([*FRAMES, atom])[0] == set()


def test_the_order_of_frames_does_not_matter():
    frames = with_fault(FRAMES, 3, "energy -0.3 eV")
    order = np.random.default_rng(0).permutation(24)
    (found,) = judge([frames[k] for k in order])[0]
    assert order[found[0]] == 3


def test_reference_energies_and_targets_forget_the_wrong_energy():
    _, left = judge(with_fault(FRAMES, 5, "energy +20 eV"))
    clean = in_order(training_set(labelled_frames([f for k, f in enumerate(FRAMES) if k != 5]), "auto", None))
    assert left.reference.values[29] == pytest.approx(clean.reference.values[29], abs=1e-10)
    known = [t.energy for t in left.targets if t.energy is not None]
    np.testing.assert_allclose(sorted(known), sorted(t.energy for t in clean.targets), atol=1e-9)
    assert len(left.frames) == 24  # the frame keeps its forces


def test_the_label_and_the_expectation_are_those_of_the_user():
    frames = with_fault(FRAMES, 5, "energy +20 eV")
    with pytest.warns(GapkitWarning, match=r"frame 5, energy: .* eV, expected .* eV.*screen=False"):
        gap = small_gap().fit(frames)
    (named,) = gap.potential_.metadata["screened"]
    assert named["label"] == pytest.approx(frames[5].get_potential_energy())
    assert named["expected"] == pytest.approx(FRAMES[5].get_potential_energy(), abs=0.1)


def errors(gap, test):
    p = gap.predict(test, uncertainty=True)
    f = np.concatenate([(a - b.get_forces()).ravel() for a, b in zip(p.forces, test, strict=True)])
    e = p.energy - [a.get_potential_energy() for a in test]
    return np.array([np.sqrt(np.mean(x**2)) for x in (f, np.concatenate([s.ravel() for s in p.forces_std]), e)])


@pytest.mark.parametrize("name", ["forces x50", "energy +20 eV", "stress in GPa"])
def test_errors_and_error_bars_of_the_rest_are_those_without_the_frame(name):
    frames, test = copied(FRAMES), cells(6, 1)
    with pytest.warns(GapkitWarning, match="frame 5"):
        found = errors(small_gap().fit(with_fault(frames, 5, name)), test)
    without = errors(small_gap().fit([f for k, f in enumerate(frames) if k != 5]), test)
    assert np.all(found < 2 * without)
    assert np.all(without < 2 * found)


def test_a_saved_model_says_what_was_left_out_and_that_it_was_asked_to(tmp_path):
    frames = with_fault(copper_frames(24, 1), 4, "forces x50")
    with pytest.warns(GapkitWarning, match="frame 4, forces"):
        gap = small_gap().fit(frames)
    gap.save(tmp_path / "a.model")
    again = gapkit.load(tmp_path / "a.model")
    assert "contradicts all others: frame 4, forces" in again.describe()
    assert "frame 4, forces" in model_card(again)
    assert again.screen is True


def test_screening_can_be_turned_off(tmp_path):
    frames = with_fault(copper_frames(24, 1), 4, "forces x50")
    gap = small_gap(screen=False).fit(frames)  # a warning would be an error
    assert gap.potential_.metadata["screened"] == []
    gap.save(tmp_path / "a.model")
    assert gapkit.load(tmp_path / "a.model").screen is False
    with pytest.raises(SettingsError, match="screen must be True or False"):
        small_gap(screen="yes").fit(frames)


def test_a_fit_of_frames_without_faults_is_the_same_with_and_without_screening():
    frames = copper_frames(16, 1)
    with_it, without = small_gap().fit(frames), small_gap(screen=False).fit(frames)
    np.testing.assert_array_equal(with_it.potential_.alpha, without.potential_.alpha)


@pytest.mark.parametrize("what", ["energy", "forces", "stress"])
def test_labels_whose_squares_overflow_are_not_judged(what):
    frames = copied(FRAMES)
    frames[3].calc.results[what] = frames[3].calc.results[what] * 1e200
    data = in_order(training_set(labelled_frames(frames), {"Cu": 0.0}, None)) if what != "energy" else None
    if data is None:
        with pytest.raises(DataError, match="frame 3"):
            training_set(labelled_frames(frames), {"Cu": 0.0}, None)
        return
    _, found = screened(data, TERMS, {"Cu": 0.0}, 1, partial(progress_bar, show=False))
    assert not found.left_out and not found.scores
