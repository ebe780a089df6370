"""Generators of frames: seeded, named, and with the statistics that their docstrings state."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from scipy.stats import kstest

from gapkit import generation
from gapkit.exceptions import DataError, SettingsError
from gapkit.generation.displacements import hessian
from gapkit.sampling.time_series import statistical_inefficiency

CRYSTAL = bulk("Cu", cubic=True) * (2, 1, 1)
LARGER = bulk("Cu", cubic=True) * (2, 2, 2)
GENERATORS = {
    "random": lambda seed: generation.random_displacements(CRYSTAL, 0.1, 3, seed),
    "strain": lambda seed: generation.cell_strains(CRYSTAL, 0.03, 3, 0.02, seed),
    "modes": lambda seed: generation.normal_mode_displacements(CRYSTAL, EMT(), 300, 2, seed),
    "md": lambda seed: generation.thermal_snapshots(CRYSTAL, EMT(), 300, 2, 5, 2.0, 20, seed),
    "distance": lambda seed: generation.constrained_distances(
        LARGER, EMT(), (0, 1), [2.4, 2.7], 300, 2, 3, 2.0, 10, seed
    ),
    "vacancy": lambda seed: generation.vacancies(CRYSTAL, 2, (300, 900), None, random_state=seed),
    "hot vacancy": lambda seed: generation.vacancies(CRYSTAL, 1, (600,), EMT(), random_state=seed, equilibration=5),
    "interstitial": lambda seed: generation.interstitials(CRYSTAL, 2, random_state=seed),
    "surface": lambda seed: generation.surfaces(
        bulk("Cu", cubic=True), [(1, 0, 0), (1, 1, 1)], 2, 2, random_state=seed
    ),
    "neighbour": lambda seed: generation.neighbour_scan(CRYSTAL, [0.9, 0.7], 2, random_state=seed),
    "dimer": lambda seed: generation.dimer_scan(["Cu", "Au"], [1.5, 2.0]),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_frames_are_named_clean_and_repeatable(name):
    before = CRYSTAL.positions.copy()
    once, again = list(GENERATORS[name](7)), list(GENERATORS[name](7))
    assert len(once) >= 1
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        np.testing.assert_array_equal(a.cell.array, b.cell.array)
        assert a.calc is None and not a.constraints
        assert a.info["config_type"] and a.info["trajectory"]
        assert np.isfinite(a.positions).all()
    np.testing.assert_array_equal(CRYSTAL.positions, before)
    if name != "dimer":
        other = list(GENERATORS[name](8))
        assert any(not np.array_equal(a.positions, b.positions) for a, b in zip(once, other, strict=True))


def test_random_displacements_are_normal():
    frames = list(generation.random_displacements(CRYSTAL, 0.1, 200, 0))
    moves = np.concatenate([(f.positions - CRYSTAL.positions).ravel() for f in frames])
    assert kstest(moves / 0.1, "norm").pvalue > 1e-3
    assert len({f.info["trajectory"] for f in frames}) == 200


def test_strains_are_symmetric_and_bounded():
    inverse = np.linalg.inv(CRYSTAL.cell.array)
    for frame in generation.cell_strains(CRYSTAL, 0.05, 20, random_state=0):
        strain = inverse @ frame.cell.array - np.eye(3)
        np.testing.assert_allclose(strain, strain.T, atol=1e-12)
        assert 0.01 < np.abs(strain).max() <= 0.05
        np.testing.assert_allclose(frame.get_scaled_positions(), CRYSTAL.get_scaled_positions(), atol=1e-9)
    with pytest.raises(DataError, match="not periodic"):
        next(generation.cell_strains(molecule("H2O"), 0.1, 1))


def relaxed(atoms):
    atoms = atoms.copy()
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-4)
    return atoms


def test_normal_modes_hold_half_kt_each():
    """Mean harmonic energy: k_B T / 2 for each of the 3n - 3 vibrations; variance (k_B T)^2 / 2 each."""
    atoms, n, temperature = relaxed(CRYSTAL), 300, 40.0
    H = hessian(atoms, EMT())
    energies = []
    for frame in generation.normal_mode_displacements(atoms, EMT(), temperature, n, 0):
        u = (frame.positions - atoms.positions).ravel()
        energies.append(0.5 * u @ H @ u)
    kT, modes = units.kB * temperature, 3 * len(atoms) - 3
    z = (np.mean(energies) - 0.5 * modes * kT) / (kT * np.sqrt(modes / 2 / n))
    assert abs(z) < 4
    far = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 30]])
    with pytest.raises(DataError, match="relax it first"):
        next(generation.normal_mode_displacements(far, EMT(), 300, 1))


def test_statistical_inefficiency_of_an_autoregressive_series():
    """x_t = a x_(t-1) + noise has g = (1 + a)/(1 - a)."""
    rng, a = np.random.default_rng(0), 0.8
    x = np.zeros(100_000)
    for t in range(1, len(x)):
        x[t] = a * x[t - 1] + rng.normal()
    assert statistical_inefficiency(x) == pytest.approx((1 + a) / (1 - a), rel=0.15)
    assert statistical_inefficiency(np.ones(10)) == 1


def test_snapshots_have_the_temperature_and_are_apart():
    frames = list(generation.thermal_snapshots(relaxed(CRYSTAL), EMT(), 300, 4, None, 3.0, 200, 0))
    moves = [np.abs(b.positions - a.positions).max() for a, b in pairwise(frames)]
    assert min(moves) > 0.01
    assert len({f.info["trajectory"] for f in frames}) == 1  # one run: its frames belong together


def test_the_distance_is_held():
    for frame in GENERATORS["distance"](0):
        d = frame.get_distance(0, 1, mic=True)
        assert d == pytest.approx(frame.info["reaction_coordinate"], abs=1e-6)
    with pytest.raises(DataError, match="two different atoms"):
        next(generation.constrained_distances(CRYSTAL, EMT(), (1, 1), [2.0], 300, 1))


def test_defects_change_the_number_of_atoms():
    assert {len(f) for f in GENERATORS["vacancy"](0)} == {len(CRYSTAL) - 1}
    two = list(generation.vacancies(CRYSTAL, 1, n_vacancies=2, random_state=0))
    assert len(two[0]) == len(CRYSTAL) - 2
    for frame in GENERATORS["interstitial"](0):
        assert len(frame) == len(CRYSTAL) + 1
        nearest = np.delete(frame.get_distances(-1, range(len(frame)), mic=True), -1).min()
        assert nearest > 1.5  # the octahedral void is 1.8 A from its neighbours
    with pytest.raises(DataError, match="larger cell"):
        next(generation.vacancies(CRYSTAL[:1], 1))
    with pytest.raises(DataError, match="periodic in all"):
        next(generation.interstitials(molecule("H2O"), 1))


def test_surfaces_have_a_vacuum():
    for frame in GENERATORS["surface"](0):
        thickness = np.ptp(frame.positions[:, 2])
        assert frame.cell.array[2, 2] - thickness == pytest.approx(16, abs=1.0)
    with pytest.raises(SettingsError, match="Miller"):
        next(generation.surfaces(bulk("Cu", cubic=True), [(0, 0, 0)], 1))


def test_scans_go_where_they_say():
    dimers = list(generation.dimer_scan(["Cu", "Au", "Cu"], [1.5, 2.0], box=10))
    assert [(d.get_chemical_formula(), round(d.get_distance(0, 1), 6)) for d in dimers] == [
        ("Au2", 1.5), ("Au2", 2.0), ("AuCu", 1.5), ("AuCu", 2.0), ("Cu2", 1.5), ("Cu2", 2.0),
    ]  # fmt: skip
    a0 = CRYSTAL.get_distance(0, 1, mic=True)
    for frame in GENERATORS["neighbour"](0):
        atom = int(frame.info["trajectory"].rsplit("-", 1)[1])
        nearest = np.delete(frame.get_distances(atom, range(len(frame)), mic=True), atom).min()
        assert min(abs(nearest - f * a0) for f in (0.9, 0.7)) < 1e-9
    with pytest.raises(DataError, match="no neighbour"):
        next(generation.neighbour_scan(Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 30]]), [0.9]))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: generation.random_displacements(CRYSTAL, -1, 2), "std must be a positive"),
        (lambda: generation.random_displacements(CRYSTAL, 0.1, 0), "n must be an integer"),
        (lambda: generation.random_displacements(CRYSTAL, 0.1, 1, "seed"), "random_state"),
        (lambda: generation.thermal_snapshots(CRYSTAL, EMT(), float("nan"), 2), "temperature"),
        (lambda: generation.thermal_snapshots(CRYSTAL, EMT(), 300, 2, timestep=0), "timestep"),
        (lambda: generation.dimer_scan(["Cu"], [0.0]), "distance"),
    ],
)
def test_bad_numbers_are_named(make, match):
    with pytest.raises(SettingsError, match=match):
        next(make())
