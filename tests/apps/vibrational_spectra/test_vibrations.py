"""Vibrations with error bars: closed forms, diagnosis of Hessians, covariance of their elements, the command."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.vibrations import Vibrations

import gapkit
from gapkit.apps.vibrational_spectra import (
    VibrationsSettings,
    compare_hessians,
    duschinsky,
    hessian_errors,
    run_vibrations,
)
from gapkit.apps.vibrational_spectra.pictures import vibrations_figure
from gapkit.apps.vibrational_spectra.toys import chain_frequencies, chain_hessian, morse_frequency, turned_modes
from gapkit.cli.main import main
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.relaxation import RelaxationSettings, relax_many
from gapkit.structures.files import write_frames
from gapkit.vibrations import given_hessian, hessian, normal_modes
from tests.conftest import label


def relaxed(atoms, fmax=1e-5):
    return relax_many([atoms], EMT(), RelaxationSettings(fmax=fmax), strict=True)[0].atoms


@pytest.fixture(scope="module")
def cluster():
    """Copper tetrahedron with a fifth atom on a face, at its minimum by EMT."""
    x = [[0, 0, 0], [1.8, 1.8, 0], [1.8, 0, 1.8], [0, 1.8, 1.8], [2.4, 2.4, 2.4]]
    return relaxed(Atoms("Cu5", positions=x))


@pytest.fixture(scope="module")
def gap(cluster):
    """A potential of thermal frames of the cluster."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(40):
        frame = cluster.copy()
        frame.positions += rng.normal(scale=0.08, size=frame.positions.shape)
        frames.append(label(frame))
    return gapkit.GAP(e0={"Cu": 0.0}, random_state=0).fit(frames)


@pytest.fixture(scope="module")
def found(gap, cluster):
    return run_vibrations(gap, cluster, EMT())


@pytest.fixture(scope="module")
def modes(cluster):
    return normal_modes(hessian(cluster, EMT()))


def test_two_masses_on_springs_have_their_closed_form():
    found = normal_modes(chain_hessian(10.0, 2.0, 12.0), project=False).frequencies[:2]
    np.testing.assert_allclose(found, chain_frequencies(10.0, 2.0, 12.0), rtol=1e-10)


def test_a_morse_diatomic_has_its_harmonic_frequency():
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.75]])
    rho0, depth = 1.5, 4.5
    calculator = MorsePotential(epsilon=depth, r0=0.75, rho0=rho0, rcut1=8.0, rcut2=10.0)
    nu = normal_modes(hessian(atoms, calculator, step=1e-3, extrapolate=True)).frequencies[-1]
    assert nu == pytest.approx(morse_frequency(depth, rho0 / 0.75, tuple(atoms.get_masses())), rel=1e-6)


def test_a_common_factor_is_a_scale_and_no_mixing(modes):
    H = hessian(modes.atoms, EMT())
    found = compare_hessians(modes, given_hessian(modes.atoms, 0.96 * H.matrix))
    assert found.scale == pytest.approx(0.96, abs=1e-10)
    assert found.mixing_share < 1e-12
    np.testing.assert_allclose(found.frequencies, np.sqrt(0.96) * found.reference, rtol=1e-8)
    np.testing.assert_allclose(found.mixing, 0, atol=1e-6)
    assert all(scale == pytest.approx(0.96) for scale in found.band_scales().values())


def test_a_table_of_frequencies_sees_nothing_of_modes_that_are_turned(modes):
    """Two modes turned by 10 degrees: every frequency is exact, and nearly all of the error is mixing."""
    found = compare_hessians(modes, turned_modes(modes, 2, 8, 10.0))
    np.testing.assert_allclose(found.frequencies, found.reference, atol=1e-5)
    assert found.mixing_share > 0.9
    assert np.abs(found.scaling).max() > 1
    np.testing.assert_allclose(found.scaling, -found.mixing, atol=1e-5)
    assert np.max(found.overlap**2, axis=1).min() == pytest.approx(np.cos(np.radians(10)) ** 2, abs=1e-8)
    with pytest.raises(SettingsError, match="two different modes"):
        turned_modes(modes, 2, 2, 10.0)


def test_a_scale_by_least_squares_is_blind_to_soft_modes(modes):
    vectors, k = modes.eigenvectors.reshape(len(modes.frequencies), -1), len(modes.frequencies)
    soft = np.arange(k) < 3
    kappa = modes.angular_frequencies**2 * np.where(soft, 0.9, 1.0)
    root = np.sqrt(np.repeat(modes.masses, 3))
    found = compare_hessians(modes, given_hessian(modes.atoms, (vectors.T * kappa) @ vectors * np.outer(root, root)))
    assert found.scale == pytest.approx(1 - 0.1 * 3 / k, abs=1e-9)
    assert 1 - found.least_squares_scale < 0.3 * (1 - found.scale)


def test_near_degenerate_modes_are_compared_as_one_subspace():
    """Three springs of one stiffness: any rotation among the modes is the same Hessian."""
    atoms = Atoms("H", positions=[[0, 0, 0]])
    reference = normal_modes(given_hessian(atoms, np.diag([1.0, 1.0 + 1e-6, 4.0])), project=False)
    turned = compare_hessians(reference, turned_modes(reference, 0, 1, 40.0))
    assert np.max(turned.overlap**2, axis=1).min() < 0.7
    np.testing.assert_allclose(turned.subspace_overlap, 1, atol=1e-9)


def test_hessians_that_cannot_be_compared_are_refused(modes):
    H = hessian(modes.atoms, EMT())
    moved = modes.atoms.copy()
    moved.positions[0] += 0.01
    with pytest.raises(DataError, match="different geometries"):
        compare_hessians(modes, given_hessian(moved, H.matrix))
    with pytest.raises(DataError, match="different atoms"):
        compare_hessians(modes, given_hessian(Atoms("Cu4Ag", positions=modes.atoms.positions), H.matrix))
    with pytest.raises(DataError, match="held in the Hessian"):
        compare_hessians(modes, hessian(modes.atoms, EMT(), indices=[0, 1]))


def test_a_molecule_turned_and_shifted_has_the_same_normal_coordinates(modes):
    turned = modes.atoms.copy()
    turned.rotate(70, (1, 2, 3))
    turned.positions += 3.0
    found = duschinsky(modes, normal_modes(hessian(turned, EMT())))
    np.testing.assert_allclose(found.matrix @ found.matrix.T, np.eye(len(modes.frequencies)), atol=1e-5)
    np.testing.assert_allclose(found.shift, 0, atol=1e-6)
    assert found.distance < 1e-6


def test_the_shift_of_a_stretched_diatomic_is_its_reduced_mass_times_the_stretch():
    spring = 40.0 * np.kron([[1, -1], [-1, 1]], np.diag([0, 0, 1]))
    both = [normal_modes(given_hessian(Atoms("NO", positions=[[0, 0, 0], [0, 0, r]]), spring)) for r in (1.1, 1.2)]
    found = duschinsky(*both)
    nitrogen, oxygen = both[0].masses
    reduced = nitrogen * oxygen / (nitrogen + oxygen)
    assert abs(found.shift[0]) == pytest.approx(0.1 * np.sqrt(reduced), rel=1e-9)
    assert abs(found.matrix[0, 0]) == pytest.approx(1, abs=1e-9)


def test_covariances_of_all_elements_are_those_of_posterior_samples(gap, cluster):
    """400 draws of the function at one geometry, of no symmetry: all variances within 15 %, and the correlations."""
    frame = cluster.copy()
    frame.positions += np.random.default_rng(5).normal(scale=0.05, size=frame.positions.shape)
    modes = normal_modes(hessian(frame, gap.calculator()), force_limit=None)
    errors = hessian_errors(gap, modes)
    moves = (modes.eigenvectors / np.sqrt(modes.masses)[:, None]).reshape(len(modes.frequencies), -1)
    drawn = []
    for sample in gap.samples(400, random_state=0):
        K = moves @ hessian(frame, sample.calculator(), step=0.005).matrix @ moves.T
        drawn.append(K[errors.pairs[:, 0], errors.pairs[:, 1]])
    scale = gap.potential_.calibration.of("energy").weight_scale
    expected, got = scale * errors.covariance / errors.factor, np.cov(np.array(drawn).T)
    size = np.sqrt(np.diagonal(expected))
    np.testing.assert_allclose(np.sqrt(np.diagonal(got)), size, rtol=0.15)
    difference = (got - expected) / np.outer(size, size)
    assert np.abs(difference).max() < 0.3 and np.sqrt(np.mean(difference**2)) < 0.06
    assert np.abs(expected / np.outer(size, size) - np.eye(len(size))).max() > 0.3  # elements are correlated


def test_frequencies_are_those_of_ase_on_the_same_calculator(gap, found, tmp_path):
    atoms = found.modes.atoms.copy()
    atoms.calc = gap.calculator()
    theirs = Vibrations(atoms, name=str(tmp_path / "v"), delta=0.002)
    theirs.run()
    nu = theirs.get_frequencies()
    np.testing.assert_allclose(found.frequencies, np.sort(nu.real)[-len(found.frequencies) :], atol=0.1)
    assert found.step_error < 0.2 and found.rigid < 5


def test_errors_beside_the_reference_are_as_large_as_stated(found):
    error = found.diagnosis.frequencies - found.diagnosis.reference
    z = error / found.frequencies_std[found.diagnosis.assignment]
    assert 0.3 < np.sqrt(np.mean(z**2)) < 3
    assert np.abs(error).max() < 10
    assert found.samples.size == 0
    assert 0 < found.zero_point_energy_std < 0.1 * found.zero_point_energy
    assert found.errors.coupling_std.shape == (9, 9)


@pytest.mark.filterwarnings("ignore:samples leave out")  # 40 frames of one cluster leave much to the residual
def test_drawn_potentials_relax_anew_and_scatter_about_the_frequencies(gap, cluster, found):
    settings = VibrationsSettings(n_samples=6)
    drawn = run_vibrations(gap, cluster, None, settings, random_state=1)
    assert drawn.samples.shape == (6, len(found.frequencies)) and drawn.diagnosis is None
    assert np.all(np.abs(drawn.samples.mean(axis=0) - found.frequencies) < 10)
    assert np.all(drawn.samples.std(axis=0) > 0)
    assert "std of samples" in str(drawn)
    again = run_vibrations(gap, cluster, None, settings, random_state=1)
    np.testing.assert_array_equal(again.samples, drawn.samples)


def test_energies_of_vibrations_have_the_errors_of_scaled_frequencies(found):
    """With all frequencies off by one relative error e the zero-point energy is off by e times itself."""
    relative = found.errors.relative_covariance
    together = np.ones_like(relative)
    quanta = found.modes.energies
    assert 0.5 * np.sqrt(quanta @ together @ quanta) == pytest.approx(found.zero_point_energy)
    assert found.zero_point_energy_std == pytest.approx(0.5 * np.sqrt(quanta @ relative @ quanta))
    assert found.free_energy_std > found.zero_point_energy_std  # classical modes: kT each


def test_a_structure_that_is_no_minimum_is_named_by_its_mode(gap):
    with pytest.raises(DataError, match="no vibrations"):
        run_vibrations(gap, Atoms("Cu", positions=[[0, 0, 0]]))
    many = normal_modes(given_hessian(molecule("C60"), np.eye(180)), project=False)
    with pytest.raises(DataError, match="1 to 60 modes"):
        hessian_errors(gap, many)


def test_the_command_writes_numbers_and_picture(gap, cluster, found, tmp_path, capsys):
    model, frame = tmp_path / "m.gapkit", tmp_path / "c.xyz"
    gap.save(model)
    write_frames(frame, [cluster])
    out, picture = tmp_path / "v.json", tmp_path / "v.png"
    arguments = ["--reference", "emt", "--quiet", "--json", str(out), "--plot", str(picture)]
    assert main(["vibrations", str(model), str(frame), *arguments]) == 0
    written = json.loads(out.read_text())
    np.testing.assert_allclose(written["frequencies"], found.frequencies, rtol=1e-6)
    assert len(written["diagnosis"]["scaling"]) == len(found.frequencies)
    assert picture.stat().st_size > 5000
    assert "mix modes" in capsys.readouterr().out
    vibrations_figure(found, tmp_path / "w.svg")
