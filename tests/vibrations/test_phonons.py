"""Phonons: dispersion in closed form, normal modes of the supercell, sums over states, phonopy's numbers."""

import sys
import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from gapkit.exceptions import DataError, GapkitError, GapkitWarning, NumericsError, SettingsError
from gapkit.vibrations import hessian, normal_modes, oscillators, phonons
from tests.vibrations.springs import CubicSprings, Together

A = 3.0
CUBIC = Atoms("Cu", cell=[A, A, A], pbc=True)
SPRINGS = CubicSprings(A, 4.0, 1.0)
#: cm^-1 of an angular frequency of one (eV / amu)^(1/2) / A
UNIT = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
LATTICE = phonons(CUBIC, SPRINGS, 4)
COPPER = phonons(bulk("Cu", a=3.61), EMT(), 3, force_limit=None)


def test_the_lattice_of_springs_has_its_textbook_dispersion():
    """Along (q, 0, 0): omega = 2 (k/m)^(1/2) |sin(pi q)|, with k along the bond once and across it twice."""
    mass = CUBIC.get_masses()[0]
    q = np.array([[0, 0, 0], [0.1, 0, 0], [0.5, 0, 0], [0.21, -0.37, 0.44]])
    expected = [UNIT * np.sqrt(np.sort(SPRINGS.squared_frequencies(point, mass))) for point in q]
    np.testing.assert_allclose(LATTICE.frequencies(q), expected, rtol=1e-7, atol=1e-3)
    assert expected[1][2] == pytest.approx(UNIT * 2 * np.sqrt(4.0 / mass) * np.sin(np.pi / 10))
    assert LATTICE.n_displacements == 1 and LATTICE.largest_force < 1e-12


def test_alternating_masses_open_the_gap_of_a_diatomic_chain():
    """Along the chain: m1 m2 w^2 = k (m1 + m2) -+ k [(m1 + m2)^2 - 4 m1 m2 sin^2(pi q)]^(1/2), two atoms a cell."""
    cell = Atoms("Cu2", [[0, 0, 0], [A, 0, 0]], cell=[2 * A, A, A], pbc=True)
    m1, m2 = 20.0, 70.0
    cell.set_masses([m1, m2])
    found = phonons(cell, SPRINGS, (2, 3, 3))
    assert found.atoms.get_masses().tolist() == [m1, m2]
    for q in (0.2, 0.5):
        root = np.sqrt((m1 + m2) ** 2 - 4 * m1 * m2 * np.sin(np.pi * q) ** 2)
        expected = UNIT * np.sqrt([k * (m1 + m2 + s * root) / (m1 * m2) for k in (1.0, 1.0, 4.0) for s in (-1, 1)])
        np.testing.assert_allclose(found.frequencies([[q, 0, 0]])[0], np.sort(expected), rtol=1e-7)


def test_the_mesh_has_the_frequencies_of_the_supercell_at_the_zone_centre():
    """Born and von Karman: normal modes of a 3 x 3 x 3 supercell are those of the 27 wave vectors of its mesh."""
    cell = bulk("Cu", a=3.61)
    large = make_supercell(cell, 3 * np.eye(3, dtype=int))
    modes = normal_modes(hessian(large, EMT(), step=0.01))
    mesh = COPPER.mesh((3, 3, 3))
    counts = np.rint(mesh.weights * 27).astype(int)
    assert counts.sum() == 27
    expected = np.sort(np.repeat(mesh.frequencies, counts, axis=0).ravel())
    np.testing.assert_allclose(np.sort([*modes.frequencies, 0, 0, 0]), expected, rtol=1e-4, atol=0.05)


def test_supercells_are_evaluated_together_and_in_groups():
    crystal = Atoms("Cu3", [[0, 0, 0], [1.8, 1.8, 0.1], [1.9, 0.1, 1.8]], cell=[3.7, 3.8, 3.9], pbc=True)
    whole, few = Together(EMT()), Together(EMT())
    with pytest.warns(GapkitWarning, match="no stationary point: the largest force"):
        once = phonons(crystal, whole, 2)
    again = phonons(crystal, few, 2, copies=5, force_limit=None)
    assert whole.calls == [once.n_displacements + 1] and once.n_displacements > 8
    assert max(few.calls) == 5 and sum(few.calls) == sum(whole.calls)
    np.testing.assert_array_equal(once.force_constants, again.force_constants)


def test_forces_of_the_undisplaced_crystal_are_subtracted():
    class Pushed(CubicSprings):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results["forces"] = self.results["forces"] + [0.3, -0.2, 0.1]

    with pytest.warns(GapkitWarning, match="largest force is 0.37"):
        found = phonons(CUBIC, Pushed(A, 4.0, 1.0), 4, sum_rule=False)
    np.testing.assert_allclose(found.force_constants, LATTICE.force_constants, atol=1e-9)


def test_the_sum_rule_takes_away_what_holds_every_atom_in_its_place():
    class Pinned(CubicSprings):
        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            away = self.atoms.positions - self.a * np.rint(self.atoms.positions / self.a)
            self.results["forces"] = self.results["forces"] - 0.3 * away

    raw = phonons(CUBIC, Pinned(A, 4.0, 1.0), 4, sum_rule=False)
    expected = UNIT * np.sqrt(0.3 / CUBIC.get_masses()[0])
    np.testing.assert_allclose(raw.frequencies([[0, 0, 0]]), [[expected] * 3], rtol=1e-7)
    rule = phonons(CUBIC, Pinned(A, 4.0, 1.0), 4)
    np.testing.assert_allclose(rule.frequencies([[0, 0, 0]]), 0, atol=1e-3)
    np.testing.assert_allclose(rule.force_constants.sum(axis=1), 0, atol=1e-10)


def test_the_density_of_states_has_all_modes_and_the_trace_of_the_force_constants():
    """The integral is 3 n; the mean of nu^2 is the trace of on-site force constants over the mass, plus the width."""
    at, width = np.linspace(-100, 500, 3001), 4.0
    density = LATTICE.density_of_states(at, (8, 8, 8), width)
    step = at[1] - at[0]
    assert density.sum() * step == pytest.approx(3)
    mass = CUBIC.get_masses()[0]
    squares = UNIT**2 * 3 * 2 * (4.0 + 1.0 + 1.0) / mass
    assert (density * at**2).sum() * step == pytest.approx(squares + 3 * width**2, rel=1e-6)


@pytest.mark.parametrize("mesh", [(4, 4, 4), (5, 5, 5)])
@pytest.mark.parametrize("classical", [False, True])
def test_phonopy_has_the_same_thermal_properties(mesh, classical):
    found = COPPER.thermochemistry(np.array([100.0, 300.0]), mesh, classical=classical)
    COPPER.phonopy.run_mesh(mesh, is_gamma_center=True)
    theirs = COPPER.phonopy.run_thermal_properties(
        temperatures=[100.0, 300.0], classical=classical, exclude_gamma_acoustic=True
    )
    mole = units.kJ / units.mol
    np.testing.assert_allclose(found.free_energy / mole, theirs.free_energy, rtol=1e-4)
    np.testing.assert_allclose(found.entropy / mole * 1e3, theirs.entropy, rtol=1e-4)
    np.testing.assert_allclose(found.heat_capacity / mole * 1e3, theirs.heat_capacity, rtol=1e-4)


def test_thermal_functions_are_means_over_the_zone():
    mass = CUBIC.get_masses()[0]
    points = np.array(np.meshgrid(*[np.arange(4) / 4] * 3)).reshape(3, -1).T
    squared = np.concatenate([SPRINGS.squared_frequencies(q, mass) for q in points[1:]])
    expected = oscillators(UNIT * units.invcm * np.sqrt(squared), 200.0)
    found = LATTICE.thermochemistry(200.0, (4, 4, 4))
    assert found.free_energy == pytest.approx(expected.free_energy / 64, rel=1e-6)
    assert found.zero_point_energy == pytest.approx(expected.zero_point_energy / 64, rel=1e-6)


def test_an_unstable_crystal_has_negative_wavenumbers_and_no_thermochemistry():
    unstable = phonons(CUBIC, CubicSprings(A, 4.0, -0.5), 4)
    assert unstable.frequencies([[0.5, 0, 0]]).min() < -10
    with pytest.raises(NumericsError, match="frequencies are imaginary"):
        unstable.thermochemistry(300.0, (4, 4, 4))


def test_a_missing_phonopy_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(GapkitError, match=r"gapkit\[phonons\]"):
        phonons(CUBIC, SPRINGS)


def held():
    atoms = CUBIC.copy()
    atoms.set_constraint(FixAtoms([0]))
    return atoms


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: phonons(Atoms("Cu", cell=[3, 3, 3], pbc=[1, 1, 0]), SPRINGS), DataError, "periodic in all"),
        (lambda: phonons(held(), SPRINGS), DataError, "constraints"),
        (lambda: phonons(CUBIC), SettingsError, "no calculator"),
        (lambda: phonons(CUBIC, SPRINGS, (2, 2)), SettingsError, "supercell must be three"),
        (lambda: phonons(CUBIC, SPRINGS, (2, 2, 0)), SettingsError, "supercell must be a whole number"),
        (lambda: phonons(CUBIC, SPRINGS, 2.0), SettingsError, "supercell must be three"),
        (lambda: phonons(CUBIC, SPRINGS, distance=-0.1), SettingsError, "distance must be a positive"),
        (lambda: phonons(CUBIC, SPRINGS, copies=0), SettingsError, "copies must be"),
        (lambda: phonons(CUBIC, SPRINGS, symprec=0), SettingsError, "symprec must be"),
        (lambda: LATTICE.frequencies([[0, 0]]), SettingsError, "q must be wave vectors"),
        (lambda: LATTICE.frequencies([[0, 0, np.nan]]), SettingsError, "q must be wave vectors"),
        (lambda: LATTICE.mesh(3), SettingsError, "mesh must be three"),
        (lambda: LATTICE.density_of_states(np.zeros(2), width=0), SettingsError, "width must be"),
        (lambda: LATTICE.thermochemistry(0.0), SettingsError, "temperature must be positive"),
        (lambda: phonons(CUBIC, CubicSprings(A, np.nan, 1.0)), NumericsError, "not finite"),
    ],
)
def test_what_cannot_work_is_refused(call, error, match):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=match):
            call()
