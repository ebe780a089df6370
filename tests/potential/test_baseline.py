"""Baselines: ZBL's formula and derivatives; any ASE calculator; what a fit does with one."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import _e, _eps0

import gapkit
from gapkit.exceptions import DataError, GapkitError, SettingsError
from gapkit.potential.baseline import baseline_calculator, baseline_labels
from tests.conftest import copper_frames, small_gap
from tests.numerical import central_difference, displaced, skewed_crystal, strained


def screened(z1, z2, r):
    """Ziegler, Biersack, Littmark (1985), from the constants of nature; Bohr radius 0.529177 A."""
    a = 0.8854 * 0.529177210903 / (z1**0.23 + z2**0.23)
    x = r / a
    phi = (
        0.1818 * np.exp(-3.2 * x)
        + 0.5099 * np.exp(-0.9423 * x)
        + 0.2802 * np.exp(-0.4029 * x)
        + 0.02817 * np.exp(-0.2016 * x)
    )
    return z1 * z2 * _e / (4 * np.pi * _eps0) * 1e10 / r * phi


def energy(atoms, calculator):
    atoms = atoms.copy()
    atoms.calc = calculator
    return atoms.get_potential_energy()


@pytest.mark.parametrize(("pair", "r"), [("SiSi", 0.4), ("SiSi", 0.99), ("OU", 0.7), ("HH", 0.2)])
def test_energy_of_a_pair_inside_the_cutoff_is_the_formula(pair, r):
    atoms = Atoms(pair, positions=[[1, 1, 1], [1, 1, 1 + r]])
    z1, z2 = atoms.numbers.astype(float)
    # digits: ASE's units are of another CODATA year
    assert energy(atoms, gapkit.ZBL(r_cut=2.0, cutoff_width=1.0)) == pytest.approx(screened(z1, z2, r), rel=1e-6)


def test_the_switch_halves_the_energy_in_its_middle_and_ends_at_the_cutoff():
    zbl = gapkit.ZBL(r_cut=2.0, cutoff_width=0.6)

    def pair(r):
        return energy(Atoms("Si2", positions=[[0, 0, 0], [r, 0, 0]]), zbl)

    assert pair(1.7) == pytest.approx(0.5 * screened(14.0, 14.0, 1.7), rel=1e-6)
    assert pair(2.0 - 1e-4) == pytest.approx(0.0, abs=1e-9)
    assert pair(2.0) == pair(3.0) == 0.0


def test_local_energies_share_each_pair_equally():
    atoms = Atoms("SiO", positions=[[0, 0, 0], [1.0, 0, 0]])
    atoms.calc = gapkit.ZBL()
    np.testing.assert_allclose(atoms.get_potential_energies(), atoms.get_potential_energy() / 2, rtol=1e-14)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


@pytest.mark.parametrize("pbc", [True, (True, False, True), False], ids=["periodic", "slab", "cluster"])
def test_forces_and_stress_are_derivatives(pbc):
    atoms = skewed_crystal("SiOSi", np.random.default_rng(0))
    atoms.pbc = pbc
    zbl = gapkit.ZBL(r_cut=3.3, cutoff_width=2.0)
    atoms.calc = zbl
    forces = atoms.get_forces()
    numerical = np.array(
        [
            [-central_difference(lambda h: energy(displaced(atoms, a, x, h), zbl), 1e-3) for x in range(3)]  # noqa: B023
            for a in range(len(atoms))
        ]
    )
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(forces, numerical, rtol=0, atol=1e-7 * np.abs(forces).max())
    if not atoms.pbc.any():
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
        return
    stress = atoms.get_stress()
    numerical = [
        central_difference(lambda h: energy(strained(atoms, v, h), zbl), 5e-4) / atoms.get_volume()  # noqa: B023
        for v in range(6)
    ]
    assert np.abs(stress).min() > 1e-4
    np.testing.assert_allclose(stress, numerical, rtol=0, atol=1e-7 * np.abs(stress).max())


def test_zbl_refuses_atoms_on_one_spot_and_bad_lengths():
    with pytest.raises(DataError, match="atoms 0 and 1 are .* on one spot"):
        energy(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-7]]), gapkit.ZBL())
    for settings in ({"r_cut": 0.0}, {"r_cut": np.nan}, {"r_cut": "2"}, {"cutoff_width": -1.0}, {"cutoff_width": 2.1}):
        with pytest.raises(SettingsError):
            gapkit.ZBL(**settings)


def test_names_of_baselines():
    assert baseline_calculator(None) is None
    emt = EMT()
    assert baseline_calculator(emt) is emt
    assert isinstance(baseline_calculator("zbl"), gapkit.ZBL)
    again = baseline_calculator(gapkit.ZBL(2.5, 0.7).settings())
    assert (again.r_cut, again.cutoff_width) == (2.5, 0.7)


def test_labels_of_a_baseline_are_the_calculators():
    atoms = copper_frames(1, seed=4)[0]
    labels = baseline_labels(EMT(), atoms, "frame 0", stress=True)
    assert labels["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(labels["forces"], atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(labels["virial"], -atoms.get_stress() * atoms.get_volume(), atol=1e-12)
    assert labels["energies"].sum() == pytest.approx(labels["energy"], abs=1e-10)
    assert baseline_labels(EMT(), atoms, "frame 0", stress=False)["virial"] is None


class Broken(EMT):
    """Gives what it is told to give."""

    given: dict = {}  # noqa: RUF012

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results.update(self.given)


@pytest.mark.parametrize(
    "given", [{"energy": np.nan}, {"forces": np.full((8, 3), np.inf)}, {"stress": np.full(6, np.nan)}]
)
def test_a_baseline_that_is_not_finite_is_an_error(given):
    calculator = Broken()
    calculator.given = given
    with pytest.raises(GapkitError, match="frame 3: the baseline calculator Broken gives .* not finite; remove"):
        baseline_labels(calculator, copper_frames(1, seed=4)[0], "frame 3", stress=True)


def test_a_virial_without_a_volume_is_an_error():
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.4]], cell=[[3, 0, 0], [0, 3, 0], [0, 3, 0]], pbc=(1, 1, 0))
    with pytest.raises(DataError, match="^frame 0: it has a virial, but its cell has no volume.*remove the virial"):
        baseline_labels(gapkit.ZBL(), atoms, "frame 0", stress=True)


def test_local_energies_that_do_not_sum_are_not_used():
    calculator = Broken()
    calculator.given = {"energies": np.ones(8)}
    labels = baseline_labels(calculator, copper_frames(1, seed=4)[0], "frame 0", stress=False)
    np.testing.assert_allclose(labels["energies"], labels["energy"] / 8)


def test_a_baseline_that_fails_names_frame_and_reason(train):
    from ase.calculators.calculator import Calculator

    class NoForces(Calculator):
        implemented_properties = ["energy"]  # noqa: RUF012

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results = {"energy": 0.0}

    with pytest.raises(GapkitError, match="^frame 0: the baseline calculator NoForces failed .*; remove the frame"):
        small_gap(baseline=NoForces()).fit(train)


@pytest.mark.parametrize("baseline", [EMT(), {"name": "zbl", "r_cut": 3.4, "cutoff_width": 2.0}], ids=["EMT", "zbl"])
def test_a_fit_learns_the_difference(train, held_out, baseline):
    """Labels plus a baseline, fitted on that baseline, give the plain model plus the baseline.

    All levels are given: a search ends within its own tolerance of the minimum, not at the same digits.
    """
    terms = [replace(term, signal=signal) for term, signal in zip(small_gap().terms, (2.0, 20.0), strict=True)]
    noise = {"energy": 0.01, "forces": 0.1, "virial": 0.1}
    calculator = baseline_calculator(baseline)
    raised = []
    for atoms in train:
        base = baseline_labels(calculator, atoms, "", stress=atoms.pbc.any())
        raised.append(atoms.copy())
        results = {
            "energy": atoms.get_potential_energy() + base["energy"],
            "forces": atoms.get_forces() + base["forces"],
        }
        if atoms.pbc.any():
            results["stress"] = atoms.get_stress() - base["virial"] / atoms.get_volume()
        raised[-1].calc = SinglePointCalculator(raised[-1], **results)
    fixed = {"terms": terms, "noise_levels": noise, "e0": {"Cu": 0.3}}
    plain = small_gap(**fixed).fit(train).predict(held_out, uncertainty=True)
    above = small_gap(**fixed, baseline=baseline).fit(raised).predict(held_out, uncertainty=True)
    for n, atoms in enumerate(held_out):
        base = baseline_labels(calculator, atoms, "", stress=atoms.pbc.any())
        assert above.energy[n] == pytest.approx(plain.energy[n] + base["energy"], abs=1e-7)
        assert above.local_energy[n].sum() == pytest.approx(above.energy[n], abs=1e-10)
        np.testing.assert_allclose(above.forces[n], plain.forces[n] + base["forces"], atol=1e-7)
        if atoms.pbc.any():
            expected = plain.stress[n] - base["virial"] / atoms.get_volume()
            np.testing.assert_allclose(above.stress[n], expected, atol=1e-8)
    np.testing.assert_allclose(above.energy_std, plain.energy_std, rtol=1e-6)


def test_with_the_reference_itself_as_baseline_nothing_is_left(train, held_out):
    gap = small_gap(baseline=EMT(), e0={"Cu": 0.0}).fit(train)
    np.testing.assert_allclose(gap.predict(held_out).energy, [a.get_potential_energy() for a in held_out], atol=1e-6)


def test_periodic_images_count():
    atoms = bulk("Si", a=2.6)
    small = energy(atoms, gapkit.ZBL())
    assert energy(atoms * (2, 2, 2), gapkit.ZBL()) == pytest.approx(8 * small, rel=1e-12)
    assert small > 0
