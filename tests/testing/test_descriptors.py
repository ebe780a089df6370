"""Descriptors that are right pass the check; each of many faults fails it with a message that names the fault."""

import numpy as np
import pytest
from ase.build import bulk, molecule

import gapkit
from gapkit.exceptions import SettingsError
from gapkit.testing import CheckReport, check_descriptor
from tests.testing import toys


@pytest.mark.parametrize(
    "descriptor",
    [
        gapkit.PairDistance(r_cut=4.0),
        gapkit.PairDistance(r_cut=3.1, cutoff_width=0.4),
        gapkit.Triplet(r_cut=3.0),
        gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3),
        gapkit.SOAP(r_cut=4.5, n_max=5, l_max=4, compression="mu1nu1", cutoff_power=2),
        gapkit.SOAP(r_cut=3.5, n_max=3, l_max=2, sigma=0.4, compression="mu2", n_jobs=1),
        toys.Shells(),
    ],
    ids=["pair", "narrow pair", "triplet", "soap", "soap mu1nu1", "soap mu2", "toy"],
)
def test_descriptors_that_are_right_pass(descriptor):
    report = check_descriptor(descriptor)
    assert isinstance(report, CheckReport)
    assert report.subject == type(descriptor).__name__
    assert {"derivatives by positions", "derivatives by strain", "model file", "pickle"} <= set(report.passed)
    assert all(check.largest is None or check.largest <= check.allowed for check in report.checks)
    nine = "nine strain components"
    assert (nine in report.left_out) == isinstance(descriptor, toys.Shells) != (nine in report.passed)


FAULTS = [
    (toys.WrongSign, "derivatives by positions: frame 0 .cluster., channel .6,. C, environment .*, by the .* J is .*"
     "finite differences give .*Check sign, factor and target of J"),
    (toys.WrongTarget, "derivatives by positions: frame .* coordinate of atom"),
    (toys.ForgottenStrain, "derivatives by strain: frame .* by the strain component xx: J is 0, finite differences"),
    (toys.WholeShear, "derivatives by strain: frame .* by the strain component yz"),
    (toys.ForgottenWeight, "derivatives by positions: .*: dweight is -?0, finite differences .*in dweight"),
    (toys.AtomOff, r"some atoms: .*has one that belongs to atom \[2\].*name as atom the one that owns"),
    (toys.AtomBeyond, "shapes and types: .*: atom names .*, which is no centre of the structure"),
    (toys.Single, "shapes and types: .*: J is of float32, not float64. Make it with dtype=np.float64"),
    (toys.Transposed, "shapes and types: .*: J is not contiguous"),
    (toys.LonelyRows, "shapes and types: .*alone. Give rows for x, y and z of an atom"),
    (toys.NoneWhenEmpty, r"shapes and types: .*: x has the shape \(0, 0\), not \(0, 4\)"),
    (toys.NanAlone, "shapes and types: frame 7 .one atom alone.*: x is not finite at .0, 0."),
    (toys.Backwards, "some atoms: frame .*must give those of the whole"),
    (toys.IgnoresAtoms, r"some atoms: frame .*atoms=\[.*\].*has one that belongs to atom .*Take structure.centres_of"),
    (toys.AllCentres, "domains with ghosts: .*: environments around ghosts"),
    (toys.LongestList, "longer pair list: .*Take pairs with structure.pairs.self.r_cut."),
    (toys.Jump, "smooth at the cutoff: three atoms of .* the sum over environments jumps as a neighbour crosses r_cut"),
    (toys.Kink, "smooth at the cutoff: .*the derivative by positions jumps"),
    (toys.Oriented, "rotation: frame .*Features must not depend on the orientation"),
    (toys.ByIndex, "order of atoms: .*must not depend on the numbering of atoms"),
    (toys.Remembers, "asked again: .*Keep no arrays between calls"),
    (toys.ChangesItself, "species and channels: for_species changes a descriptor that was made by it before"),
    (toys.Unsorted, "species and channels: .*for the same species in another order. Sort the species"),
    (toys.TwiceTheFrame, "frame_environments: frame .* must sum to the same energy"),
    (toys.NotAlone, "each_atom_alone: .*or each_atom_alone False"),
    (toys.NoUnitVectors, "flags of the class: .*length of x: .*Normalise x"),
    (toys.NarrowRange, "flags of the class: .*Widen feature_range"),
    (toys.HalfDistances, "flags of the class: .*features of all pairs.*or leave of_pairs False"),
    (toys.Overwrites, "predictions are kernel sums: .*local energy of atom"),
    (toys.HalfGradient, "predictions are kernel sums: .*derivative of the energy by the position of atom"),
    (toys.WrongNine, "nine strain components: .*a local energy that turns with its atoms"),
    (toys.ForgetsASetting, "settings: .*Give .*every argument of the constructor"),
    (toys.SettingsOfArrays, "settings: .*cannot be written as JSON"),
    (toys.ForgetsArrays, "arrays: arrays are not those that were given to with_arrays"),
    (toys.OtherWithout, "without derivatives: .*Let features and weights be the same"),
    (toys.PerAtom, "supercell: .*must not depend on the choice of the cell"),
    (toys.CountsAtoms, "predictions of many frames: .*local energy of atom"),
    (toys.PredictsGhosts, "predictions of domains with ghosts: .*add_prediction must take structure.centres only"),
    (toys.LosesItsShape, "reshaped: reshaped gives a Shells .*same class for the same species"),
    (toys.PickledWithoutPower, "pickle: frame .*Keep all that the descriptor needs in plain attributes"),
    (toys.LosesItsPower, "deep copy: frame .*Keep all that the descriptor needs in plain attributes"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), FAULTS, ids=[kind.__name__ for kind, _ in FAULTS])
def test_each_fault_is_found_and_named(kind, message):
    settings = {"power": 4.0} if kind in (toys.ForgetsASetting, toys.LosesItsPower, toys.PickledWithoutPower) else {}
    with pytest.raises(AssertionError, match=f"^{kind.__name__}, ({message})"):
        check_descriptor(kind(r_cut=4.0, **settings))


def test_a_descriptor_without_a_name_or_nine_components_passes_and_the_report_says_so():
    report = check_descriptor(toys.Nameless(), [molecule("CO"), molecule("H2O")])
    assert "has no name" in report.left_out["model file"]
    assert "a fitted model" in report.passed
    faultless = check_descriptor(toys.Faultless(), [molecule("CO")])
    assert "no name" in faultless.left_out["a fitted model"]
    refusing = check_descriptor(toys.RefusesNine(3.0), [molecule("CO"), molecule("H2O")])
    assert "SettingsError" in refusing.left_out["nine strain components"]
    assert "predictions are kernel sums" in refusing.passed


def test_frames_and_kernel_of_the_user_are_taken():
    frames = [bulk("Cu", cubic=True), molecule("CO")]
    frames[0].rattle(0.1, seed=1)
    report = check_descriptor(toys.Shells(3.0), frames, kernel=gapkit.SquaredExponential(2.0), random_state=5)
    assert report["prior variances"].largest < 1e-5
    with pytest.raises(AssertionError, match="derivatives by positions: frame 0 .Cu4., channel"):
        check_descriptor(toys.WrongSign(3.0), frames)


def test_frames_that_try_nothing_are_no_proof():
    with pytest.raises(AssertionError, match="no environment of any frame changes with the positions"):
        check_descriptor(toys.Shells(3.0), [molecule("H2", positions=[[0, 0, 0], [0, 0, 9.0]])])


def test_the_report_is_a_table_and_frozen():
    report = check_descriptor(toys.Shells(3.0), [molecule("CO")], random_state=np.random.default_rng(1))
    lines = str(report).splitlines()
    assert lines[0] == f"Shells passes {len(report.passed)} checks"
    assert len(lines) == 2 + len(report.checks)
    assert any("left out: refused by SettingsError" in line for line in lines)
    with pytest.raises(AttributeError):
        report.subject = "x"


def test_one_seed_gives_one_report():
    frames = [molecule("CO"), molecule("H2O")]
    one, two = (str(check_descriptor(toys.Shells(3.0), frames, random_state=2)) for _ in range(2))
    assert one == two != str(check_descriptor(toys.Shells(3.0), frames, random_state=3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"descriptor": toys.Shells}, "must be a gapkit.descriptors.Descriptor, constructed"),
        ({"frames": []}, "at least one frame"),
        ({"tolerance": 0.0}, "tolerance must be a positive number"),
        ({"tolerance": "small"}, "tolerance must be a positive number"),
    ],
)
def test_settings_that_cannot_work_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        check_descriptor(**{"descriptor": toys.Shells(), **given})
