"""Calculators that are right pass the check; each of many faults fails it with a message that names the fault."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms

import gapkit
from gapkit.exceptions import SettingsError
from gapkit.testing import check_calculator
from gapkit.testing.finite_differences import central_difference, settled_difference
from tests.testing import toys


@pytest.mark.filterwarnings("ignore::gapkit.exceptions.OutOfDomainWarning")  # the frames of the check are its own
@pytest.mark.parametrize(("uncertainty", "skin"), [(None, 0.7), ("local", 0.0), ("full", 0.3)])
def test_a_fitted_model_passes(gap, uncertainty, skin):
    report = check_calculator(gap.calculator(uncertainty, skin=skin))
    assert {"forces", "stress", "sum of energies", "sum of stresses", "batch_forces"} <= set(report.passed)
    assert not report.left_out


@pytest.mark.parametrize(
    "calculator", [gapkit.ZBL(r_cut=3.4, cutoff_width=2.0), toys.Repulsion(), toys.LittleNoise()],
    ids=["ZBL", "toy", "noise of 1e-7 eV"],
)  # fmt: skip
def test_calculators_that_refuse_bad_frames_pass(calculator):
    tolerance = 1e-3 if isinstance(calculator, toys.Noisy) else 1e-5
    report = check_calculator(calculator, tolerance=tolerance)
    assert "results after an error" in report.passed
    assert all(check.largest is None or check.largest <= check.allowed for check in report.checks)


@pytest.mark.parametrize(
    "calculator",
    [EMT(), LennardJones(sigma=2.3, epsilon=0.1, rc=6.0, smooth=True), MorsePotential(r0=2.6, epsilon=0.5, rho0=3.0)],
    ids=["EMT", "Lennard-Jones", "Morse"],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_calculators_of_ase_pass_but_take_positions_that_are_no_numbers(calculator):
    report = check_calculator(calculator, refuses_nan=False, coordinates=3)
    assert report.left_out["a position that is not a number"] == "refuses_nan=False"
    assert {"forces", "stress", "the frame after an error"} <= set(report.passed)
    with pytest.raises(AssertionError, match="a position that is not a number: .*no error, but an energy of"):
        check_calculator(calculator, Atoms("Cu3", positions=[[0, 0, 0], [2.3, 0, 0], [0, 2.4, 0.4]]))


FAULTS = [
    (toys.NoFreeEnergy, "results: free_energy is not among the implemented properties .*it is the energy"),
    (toys.WrongShape, r"results: .*forces has the shape \(12,\), not \(4, 3\)"),
    (toys.Wraps, "results: .*the calculator changes the frame it is given. Work on a copy"),
    (toys.ForgetsCell, "earlier frames: .*Results must follow"),
    (toys.ForgetsPositions, "earlier frames: .*Results must follow from the frame alone"),
    (toys.OneBuffer, "arrays given out: .*change when another frame is calculated. Make new arrays"),
    (toys.NoCopies, "arrays given out: .*when a user changes the forces that were given out"),
    (toys.EnergiesOff, "sum of energies: frame 0 .crystal., energy: energies sum to .*, energy is"),
    (toys.DoubleForces, "forces: frame 0 .crystal., [xyz] component of the force on atom .*Look at sign and factor"),
    (toys.FreeEnergyOff, "forces: .*give the free energy, whose derivatives forces are"),
    (toys.OneForceOff, "forces: .*component of the force"),
    (toys.PressureSign, "stress: frame 0 .crystal., stress component xx: .*Look at sign .tension positive."),
    (
        toys.ShearOfEngineers,
        "stress: frame 0 .crystal., stress component (yz|xz|xy): .*factors of the shear components",
    ),
    (toys.ForcesAfterEnergy, "one property alone: frame 0 .crystal., asked first for forces"),
    (toys.KeepsTheFrame, "atoms moved in place: forces of every frame stay the same .*Keep a copy"),
    (toys.StressesOff, "sum of stresses: frame 0 .crystal., stress: stresses sum to"),
    (toys.EnergiesByIndex, "order of atoms: frame 0 .crystal., energies.*must not depend on the numbering"),
    (toys.Oblong, "rotation: frame 0 .crystal., energy: .*must turn with the frame"),
    (toys.PerCell, "supercell: frame 0 .crystal., energy"),
    (toys.Outside, "sum of forces: .*sum to zero"),
    (toys.NoImages, "atoms in other cells: .*list that knows the images"),
    (toys.FirstOfBatch, "batch_forces: frame 0 .crystal., copy 1, energy"),
    (toys.TakesNan, "a position that is not a number: .*Raise an error"),
    (toys.KeepsResults, r"results after an error: .*results hold \['energ.*Set self.results = \{\}"),
    (toys.Trips, "the frame after an error: .*energy.*Keep no list"),
    (toys.Noisy, "forces: .*finite differences of the energy with steps .* differ by .*The energy is noisy or jumps"),
]


@pytest.mark.parametrize(("kind", "message"), FAULTS, ids=[kind.__name__ for kind, _ in FAULTS])
def test_each_fault_is_found_and_named(kind, message):
    with pytest.raises(AssertionError, match=f"^{kind.__name__}, ({message})"):
        check_calculator(kind())


def test_frames_of_the_user_are_taken_without_their_constraints_and_left_as_they_are():
    slab = fcc100("Cu", (2, 2, 2), vacuum=6.0)
    slab.rattle(0.1, seed=3)
    slab.set_constraint(FixAtoms([0, 1]))
    before = slab.copy()
    report = check_calculator(toys.Repulsion(), slab, coordinates=3)
    assert slab == before and slab.calc is None and len(slab.constraints) == 1
    assert "stress" in report.passed
    cluster = Atoms("Cu2", positions=[[0, 0, 0], [0.3, 0.4, 2.1]])
    assert check_calculator(toys.Repulsion(), [cluster]).left_out["stress"].startswith("no frame is periodic")


def test_frames_at_rest_are_no_proof():
    with pytest.raises(AssertionError, match="earlier frames: the results of every frame with an atom moved"):
        check_calculator(toys.Repulsion(), Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 9.0]]))
    atoms = bulk("Cu", cubic=True)
    with pytest.raises(AssertionError, match="forces: the energy changes with no position that was tried"):
        check_calculator(toys.Repulsion(), atoms)


def test_small_forces_of_a_nearly_perfect_crystal_are_no_fault(gap):
    atoms = bulk("Cu", cubic=True)
    atoms.positions[0, 0] += 1e-4
    assert check_calculator(gap.calculator(), atoms)["forces"].largest < 1e-5


def test_the_error_of_a_difference_is_that_of_the_noise():
    rng = np.random.default_rng(0)
    value, error = settled_difference(lambda x: np.sin(x) + 1e-6 * rng.normal())
    assert 1e-6 < error < 1e-3
    assert abs(value - 1.0) < 10 * error
    assert central_difference(lambda x: x**3 - x, 0.1) == pytest.approx(-1.0, abs=1e-13)
    # a long step is as good as a short one for a straight line
    assert settled_difference(lambda x: 3.0 * x, enough=1.0)[0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"calculator": EMT}, "must be an ASE calculator, constructed"),
        ({"calculator": 3}, "must be an ASE calculator"),
        ({"frames": []}, "at least one frame"),
        ({"tolerance": np.nan}, "tolerance must be a positive number"),
        ({"coordinates": 0}, "coordinates must be a whole number"),
        ({"coordinates": True}, "coordinates must be a whole number"),
    ],
)
def test_settings_that_cannot_work_are_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        check_calculator(**{"calculator": EMT(), **given})
