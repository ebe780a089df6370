"""Normal modes: closed forms, what is projected out, invariances, isotopes, saddle points, ASE as oracle."""

import dataclasses
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixCartesian
from ase.optimize import BFGS
from ase.vibrations import Vibrations
from hypothesis import given, settings

from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.vibrations import given_hessian, hessian, normal_modes
from gapkit.vibrations.rigid_motions import project_out, rotations, shape_of_molecule, translations
from tests.numerical import random_rotation
from tests.vibrations.springs import Quadratic, carbon_dioxide, relaxed_network

#: radians per fs of one cm^-1
WAVES_PER_FS = 2 * np.pi * 299792458.0 * 100 * 1e-15
#: cm^-1 of an angular frequency of one (eV / amu)^(1/2) / A, in SI units from the constants of nature (CODATA 2014)
UNIT = np.sqrt(1.6021766208e-19 / 1.660539040e-27) * 1e10 / (2 * np.pi * 299792458.0 * 100)
WATER = relaxed_network("OHH", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
NETWORK = relaxed_network("COHNF", np.random.default_rng(4).normal(scale=1.3, size=(5, 3)))
BLOCKS = hessian(NETWORK, extrapolate=True)


def relaxed(atoms, fmax=1e-5):
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=fmax)
    return atoms


def test_a_diatomic_spring_has_the_frequency_of_its_reduced_mass():
    atoms = relaxed_network("CO", [[0, 0, 0], [0.4, 0.5, 0.9]])
    (m1, m2), k = atoms.get_masses(), atoms.calc.k[0, 1]
    modes = normal_modes(hessian(atoms))
    mu = m1 * m2 / (m1 + m2)
    np.testing.assert_allclose(modes.frequencies, [UNIT * np.sqrt(k / mu)], rtol=1e-6)
    np.testing.assert_allclose(modes.energies, modes.frequencies * units.invcm)
    assert modes.kind == "linear" and modes.n_imaginary == 0 and not modes.imaginary.any()
    # a displacement of unit length divides between the atoms by the inverse masses
    d = modes.displacements[0]
    np.testing.assert_allclose(np.linalg.norm(d, axis=1), np.array([m2, m1]) / np.hypot(m1, m2))
    np.testing.assert_allclose(modes.atom_shares[0], np.array([m2, m1]) / (m1 + m2))
    np.testing.assert_allclose(modes.reduced_masses, [m1 * m2 * (m1 + m2) / (m1**2 + m2**2)])


def test_a_linear_triatomic_has_its_textbook_frequencies():
    """Stretches k/m_O and (k + 2c)/m_O (1 + 2 m_O/m_C); the bend, twice, 2c/m_O (1 + 2 m_O/m_C)."""
    k, c = 80.0, 6.0
    atoms, H = carbon_dioxide(k, c)
    mO, mC, _ = atoms.get_masses()[[0, 1, 2]]
    factor = (1 + 2 * mO / mC) / mO
    expected = UNIT * np.sqrt(sorted([k / mO, (k + 2 * c) * factor, 2 * c * factor, 2 * c * factor]))
    modes = normal_modes(given_hessian(atoms, H))
    np.testing.assert_allclose(modes.frequencies, expected, rtol=1e-8)
    assert modes.kind == "linear" and len(modes.removed) == 5
    # the symmetric stretch leaves carbon at rest; bends are across the axis
    symmetric = modes.eigenvectors[2]
    np.testing.assert_allclose(np.abs(symmetric[:, 2]), [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-9)
    np.testing.assert_allclose(modes.eigenvectors[:2, :, 2], 0, atol=1e-9)
    assert modes.reduced_masses[2] == pytest.approx(mO)
    assert modes.force_constants[2] == pytest.approx(k)


def test_an_atom_in_an_anisotropic_well_has_three_frequencies():
    k = np.array([0.5, 2.0, -1.0])
    atoms = Atoms("Ar", [[1.0, 2.0, 3.0]])
    second = hessian(atoms, Quadratic(np.diag(k), atoms.positions))
    modes = normal_modes(second, project=False)
    expected = np.sort(UNIT * np.sign(k) * np.sqrt(np.abs(k) / atoms.get_masses()))
    np.testing.assert_allclose(modes.frequencies, expected, rtol=1e-8)
    assert modes.imaginary.tolist() == [True, False, False] and modes.n_imaginary == 1
    assert not modes.soft.any()
    np.testing.assert_allclose(np.abs(modes.angular_frequencies) * units.fs, np.abs(modes.frequencies) * WAVES_PER_FS)
    np.testing.assert_allclose(modes.force_constants, np.sort(k))
    assert modes.kind == "external" and len(modes.removed) == 0
    with pytest.warns(GapkitWarning, match="translation of the whole structure .* project=False"):
        normal_modes(second)


@pytest.mark.parametrize(
    ("atoms", "kind", "removed"),
    [
        (Atoms("Ar"), "atom", 3),
        (Atoms("N2", [[0, 0, 0], [0.3, 0.4, 1.0]]), "linear", 5),
        (Atoms("CO2", [[0, 0, 0], [1, 1, 1], [-1, -1, -1]]), "linear", 5),
        (Atoms("CO2", [[0, 0.015, 0], [0, 0, 1.1], [0, 0, -1.1]]), "linear", 5),
        (Atoms("CO2", [[0, 0.06, 0], [0, 0, 1.1], [0, 0, -1.1]]), "nonlinear", 6),
        (molecule("H2O"), "nonlinear", 6),
        (molecule("CH4"), "nonlinear", 6),
        (molecule("C2H2"), "linear", 5),
        (bulk("Cu", cubic=True), "periodic", 3),
        (Atoms("H2O", molecule("H2O").positions, cell=[9, 9, 9], pbc=[True, False, False]), "periodic", 3),
    ],
)
def test_exactly_the_rigid_motions_are_removed(atoms, kind, removed):
    """A random Hessian, which knows of no invariance, has as many zeros after projection as there are motions."""
    size = 3 * len(atoms)
    K = np.random.default_rng(size).normal(size=(size, size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)
        modes = normal_modes(given_hessian(atoms, K))
    assert modes.kind == kind
    assert len(modes.removed) == removed and len(modes.frequencies) == size - removed
    m = atoms.get_masses()
    motions = translations(m)
    if kind != "periodic":
        motions = np.hstack([motions, rotations(atoms.positions, m)])
    np.testing.assert_allclose(motions.T @ motions, np.eye(removed), atol=1e-9)
    root = np.sqrt(np.repeat(m, 3))
    squared = np.linalg.eigvalsh(project_out(0.5 * (K + K.T) / np.outer(root, root), motions))
    assert (np.abs(squared) < 1e-12).sum() == removed
    kept = np.sort(squared[np.abs(squared) > 1e-12])
    np.testing.assert_allclose(modes.frequencies, UNIT * np.sign(kept) * np.sqrt(np.abs(kept)), rtol=1e-7)
    flat = modes.eigenvectors.reshape(len(modes.frequencies), size)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-9)
    np.testing.assert_allclose(flat @ motions, 0, atol=1e-9)


def test_modes_solve_the_generalised_eigenvalue_problem():
    modes = normal_modes(BLOCKS)
    m = np.repeat(modes.masses, 3)
    assert len(modes.frequencies) == 9 and modes.kind == "nonlinear"
    for e, nu, d, k in zip(
        modes.eigenvectors, modes.frequencies, modes.displacements, modes.force_constants, strict=True
    ):
        u = e.ravel() / np.sqrt(m)
        np.testing.assert_allclose(BLOCKS.matrix @ u, (nu / UNIT) ** 2 * m * u, atol=2e-6)
        assert e.flat[np.abs(e).argmax()] > 0
        assert np.linalg.norm(d) == pytest.approx(1)
        assert d.ravel() @ BLOCKS.matrix @ d.ravel() == pytest.approx(k, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_frequencies_do_not_change_when_the_molecule_is_turned_and_moved(seed, shift):
    R = random_rotation(np.random.default_rng(seed))
    for atoms in (WATER, carbon_dioxide()[0]):
        turned = atoms.copy()
        turned.positions = atoms.positions @ R.T + shift
        if atoms is WATER:
            turned.calc = WATER.calc
            before, after = (normal_modes(hessian(a, extrapolate=True)) for a in (WATER, turned))
        else:
            H, T = carbon_dioxide()[1], np.kron(np.eye(3), R)
            before, after = normal_modes(given_hessian(atoms, H)), normal_modes(given_hessian(turned, T @ H @ T.T))
        assert before.kind == after.kind
        np.testing.assert_allclose(after.frequencies, before.frequencies, rtol=1e-6)


def test_the_order_of_atoms_does_not_matter():
    order = np.array([3, 1, 4, 0, 2])
    rows = (3 * order[:, None] + np.arange(3)).ravel()
    permuted = normal_modes(given_hessian(NETWORK[order], BLOCKS.matrix[np.ix_(rows, rows)]))
    straight = normal_modes(given_hessian(NETWORK, BLOCKS.matrix))
    np.testing.assert_allclose(permuted.frequencies, straight.frequencies)
    np.testing.assert_allclose(np.abs(permuted.eigenvectors), np.abs(straight.eigenvectors[:, order]), atol=1e-7)


def test_isotopes_obey_the_product_rule():
    """Teller and Redlich: the product of ratios of frequencies follows from masses and moments of inertia alone."""
    second = given_hessian(NETWORK, hessian(NETWORK, extrapolate=True).with_sum_rule().matrix)
    m = NETWORK.get_masses()
    heavy = m * np.array([1.0, 1.1, 2.0, 1.0, 1.3])
    light, other = normal_modes(second), normal_modes(second, masses=heavy)
    moments = []
    for masses in (m, heavy):
        copy = NETWORK.copy()
        copy.set_masses(masses)
        moments.append(np.prod(copy.get_moments_of_inertia()))
    expected = np.prod(m / heavy) ** 1.5 * (heavy.sum() / m.sum()) ** 1.5 * np.sqrt(moments[1] / moments[0])
    assert np.prod(other.frequencies / light.frequencies) == pytest.approx(expected, rel=1e-6)
    assert expected < 0.8
    np.testing.assert_array_equal(other.masses, heavy)
    np.testing.assert_array_equal(other.atoms.get_masses(), heavy)
    marked = NETWORK.copy()
    marked.set_masses(heavy)
    np.testing.assert_array_equal(normal_modes(given_hessian(marked, second.matrix)).frequencies, other.frequencies)


def test_the_energy_along_a_mode_is_that_of_its_force_constant():
    modes = normal_modes(BLOCKS)
    for k in (0, -1):
        moved = modes.displaced(k, 1e-3)
        u = moved.positions - NETWORK.positions
        assert np.linalg.norm(u, axis=1).max() == pytest.approx(1e-3)
        np.testing.assert_allclose(modes.displaced(k, -1e-3).positions - NETWORK.positions, -u, atol=1e-12)
        moved.calc = NETWORK.calc
        expected = 0.5 * modes.force_constants[k] * (u**2).sum()
        assert moved.get_potential_energy() == pytest.approx(expected, rel=0.02)
    frames = modes.oscillation(2, 0.3, 8)
    np.testing.assert_allclose(frames[2].positions, modes.displaced(2, 0.3).positions)
    np.testing.assert_allclose(frames[0].positions, frames[4].positions)
    for mode in (9, -10, 1.0):
        with pytest.raises(SettingsError, match="no mode"):
            modes.displaced(mode, 0.1)


def test_held_atoms_leave_nothing_to_project_out():
    held = NETWORK.copy()
    held.set_constraint(FixAtoms([1, 3]))
    modes = normal_modes(hessian(held, NETWORK.calc))
    assert modes.kind == "held" and modes.eigenvectors.shape == (9, 5, 3)
    assert not modes.eigenvectors[:, [1, 3]].any()
    rows = np.array([0, 1, 2, 6, 7, 8, 12, 13, 14])
    root = np.sqrt(np.repeat(NETWORK.get_masses(), 3))
    squared = np.linalg.eigvalsh((BLOCKS.matrix / np.outer(root, root))[np.ix_(rows, rows)])
    expected = UNIT * np.sqrt(squared)
    np.testing.assert_allclose(modes.frequencies[1:], expected[1:], rtol=1e-5)
    assert max(modes.frequencies[0], expected[0]) < 1  # the turn about the axis of the two atoms that are held


def test_removed_motions_show_the_error_of_the_hessian():
    """At a stationary point rotations cost nothing; a compressed bond of two atoms pushes them: -F/r each."""
    assert np.abs(normal_modes(BLOCKS).removed).max() < 0.1
    pressed = relaxed_network("N2", [[0, 0, 0], [0, 0, 1.1]])
    pressed.positions[1, 2] = 1.0
    k, (m, _) = pressed.calc.k[0, 1], pressed.get_masses()
    with pytest.warns(GapkitWarning, match=r"no stationary point: the largest force is .* relax"):
        modes = normal_modes(hessian(pressed, extrapolate=True))
    assert modes.largest_force == pytest.approx(0.1 * k)
    expected = -UNIT * np.sqrt(0.1 * k / 1.0 * 2 / m)
    np.testing.assert_allclose(modes.removed, [0, 0, 0, expected, expected], rtol=1e-6, atol=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        normal_modes(hessian(pressed), force_limit=None)
        normal_modes(hessian(pressed), force_limit=10.0)


def test_a_saddle_point_has_one_imaginary_mode_which_leads_to_both_minima():
    """A copper atom half way between two hollow sites of copper (100)."""
    slab = fcc100("Cu", (2, 2, 2), vacuum=6.0)
    add_adsorbate(slab, "Cu", 1.8, "bridge")
    hold = [*range(8)]
    slab.set_constraint([FixAtoms(hold), FixCartesian(8, [True, True, False])])
    relaxed(slab)
    slab.set_constraint(FixAtoms(hold))
    modes = normal_modes(hessian(slab))
    assert modes.n_imaginary == 1 and modes.frequencies[0] < -30 and modes.frequencies[1] > 0
    assert "1 imaginary" in str(modes) and f"{-modes.frequencies[0]:.2f}i" in str(modes)
    ends = []
    for distance in (0.2, -0.2):
        end = modes.displaced(0, distance)
        end.set_constraint(FixAtoms(hold))
        ends.append(relaxed(end, 1e-3))
        assert end.get_potential_energy() < slab.get_potential_energy() - 0.1
        assert normal_modes(hessian(end)).n_imaginary == 0
    assert np.linalg.norm(ends[0].positions[8] - ends[1].positions[8]) > 2.0


def test_soft_modes_are_flagged_and_the_table_says_so():
    atoms, H = carbon_dioxide(80.0, 1e-4)
    modes = normal_modes(given_hessian(atoms, H))
    assert modes.soft.tolist() == [True, True, False, False]
    assert str(modes).count("  soft") == 2 and "linear molecule" in str(modes) and "CO2" in str(modes)
    assert not normal_modes(given_hessian(atoms, H), soft_limit=1.0).soft.any()
    assert "an atom" in str(normal_modes(given_hessian(Atoms("He"), np.zeros((3, 3)))))


@pytest.mark.parametrize("atoms", [Atoms("N2", [[0, 0, 0], [0, 0, 1.0]]), bulk("Cu", cubic=True), molecule("H2O")])
def test_ase_finds_the_same_frequencies(atoms, tmp_path):
    """ASE projects nothing out: its lowest modes are the removed motions, which mix with others as rounding allows."""
    relaxed(atoms)
    theirs = Vibrations(atoms, name=str(tmp_path / "vib"), delta=0.002)
    theirs.run()
    energies = theirs.get_energies()
    frequencies = (energies.real - energies.imag) / units.invcm
    modes = normal_modes(hessian(atoms, EMT(), step=0.002))
    kept = np.sort(frequencies)[np.argsort(np.abs(np.sort(frequencies)))[len(modes.removed) :]]
    np.testing.assert_allclose(modes.frequencies, np.sort(kept), rtol=1e-6)
    same = normal_modes(hessian(atoms, EMT(), step=0.002), project=False, soft_limit=1e3)
    strong = np.abs(same.frequencies) > 50
    assert strong.any()
    np.testing.assert_allclose(same.frequencies[strong], np.sort(frequencies)[strong], rtol=1e-9)


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        normal_modes(BLOCKS).kind = "atom"


def test_atoms_on_one_spot_have_no_shape():
    with pytest.raises(DataError, match="all 2 atoms are on one spot"):
        shape_of_molecule(np.zeros((2, 3)), np.ones(2))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"masses": [1.0, 2.0]}, "one value for each of 5 atoms"),
        ({"masses": [1.0, 0.0, 1.0, 1.0, 1.0]}, "mass of atom 1 is 0"),
        ({"masses": [1.0, 1.0, np.nan, 1.0, 1.0]}, "mass of atom 2 is nan"),
        ({"soft_limit": -1.0}, "soft_limit must be a positive"),
        ({"force_limit": 0.0}, "force_limit must be a positive"),
    ],
)
def test_parameters_that_cannot_work_are_refused(options, match):
    with pytest.raises(SettingsError, match=match):
        normal_modes(BLOCKS, **options)
