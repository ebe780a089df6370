"""Thermochemistry: closed forms, derivatives, limits, ASE as oracle."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.thermochemistry import HarmonicThermo, IdealGasThermo, RRHOMode

from gapkit.exceptions import DataError, SettingsError
from gapkit.vibrations import (
    QuasiRRHO,
    given_hessian,
    harmonic_thermochemistry,
    hessian,
    ideal_gas,
    normal_modes,
    oscillators,
)
from tests.numerical import central_difference
from tests.vibrations.springs import carbon_dioxide, relaxed_network

QUANTA = np.array([0.003, 0.05, 0.21, 0.45])
T = np.array([50.0, 300.0, 1500.0])
WATER = relaxed_network("OHH", [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
MODES = {
    "nonlinear": normal_modes(hessian(WATER, extrapolate=True)),
    "linear": normal_modes(given_hessian(*carbon_dioxide(), energy=-22.0)),
    "monatomic": normal_modes(given_hessian(Atoms("Ar"), np.zeros((3, 3)), energy=-1.5)),
}


def test_the_sum_over_states_of_an_oscillator_gives_all_functions():
    """Levels (v + 1/2) epsilon, summed; heat capacity from the variance of the energy."""
    for T0 in T:
        levels = QUANTA * (np.arange(60_000)[:, None] + 0.5)
        weight = np.exp(-(levels - levels[0]) / (units.kB * T0))
        Z, beta = weight.sum(axis=0), 1 / (units.kB * T0)
        mean = (levels * weight).sum(axis=0) / Z
        variance = ((levels - mean) ** 2 * weight).sum(axis=0) / Z
        free = levels[0] - np.log(Z) / beta
        found = oscillators(QUANTA, T0)
        assert found.internal_energy == pytest.approx(mean.sum(), rel=1e-10)
        assert found.heat_capacity == pytest.approx(beta * variance.sum() / T0, rel=1e-9)
        assert found.free_energy == pytest.approx(free.sum(), rel=1e-10)
        assert found.entropy == pytest.approx((mean - free).sum() / T0, rel=1e-9)
        assert found.zero_point_energy == pytest.approx(0.5 * QUANTA.sum())


@pytest.mark.parametrize("classical", [False, True])
def test_entropy_and_heat_capacity_are_derivatives(classical):
    for T0 in T:
        S = -central_difference(
            lambda t, T0=T0: oscillators(QUANTA, T0 + t, classical=classical).free_energy, 0.02 * T0
        )
        C = central_difference(
            lambda t, T0=T0: oscillators(QUANTA, T0 + t, classical=classical).internal_energy, 0.02 * T0
        )
        found = oscillators(QUANTA, T0, classical=classical)
        assert found.entropy == pytest.approx(S, rel=1e-5) and abs(S) > 1e-5
        assert found.heat_capacity == pytest.approx(C, rel=1e-4) and C > 1e-5


def test_high_temperatures_are_classical_and_low_ones_have_the_zero_point_alone():
    """U - k_B T = epsilon^2 / 12 k_B T + ..., C/k_B = 1 - x^2/12 + ... (Wigner)."""
    hot = 1e6
    quantum, classical = oscillators(QUANTA, hot), oscillators(QUANTA, hot, classical=True)
    kT, x = units.kB * hot, QUANTA / (units.kB * hot)
    assert classical.internal_energy == pytest.approx(4 * kT) and classical.zero_point_energy == 0
    assert quantum.internal_energy - classical.internal_energy == pytest.approx((kT * x**2 / 12).sum(), rel=1e-4)
    assert quantum.free_energy - classical.free_energy == pytest.approx((kT * x**2 / 24).sum(), rel=1e-4)
    assert (classical.heat_capacity - quantum.heat_capacity) / units.kB == pytest.approx((x**2 / 12).sum(), rel=1e-4)
    assert classical.free_energy == pytest.approx(kT * np.log(x).sum())
    cold = oscillators(QUANTA, 0.01)
    assert cold.internal_energy == cold.free_energy == cold.zero_point_energy == pytest.approx(0.5 * QUANTA.sum())
    assert cold.entropy == cold.heat_capacity == 0


def test_shares_count_oscillators():
    once = oscillators(np.repeat(QUANTA, [1, 2, 0, 3]), T)
    counted = oscillators(QUANTA, T, shares=np.array([1, 2, 0, 3]))
    for name in ("internal_energy", "heat_capacity", "entropy", "free_energy", "zero_point_energy"):
        np.testing.assert_allclose(getattr(counted, name), getattr(once, name))


def test_functions_of_a_structure_are_those_of_its_modes_above_its_energy():
    modes = MODES["linear"]
    found = harmonic_thermochemistry(modes, T, classical=True)
    alone = oscillators(modes.energies, T, classical=True)
    assert found.potential_energy == -22.0
    np.testing.assert_allclose(found.internal_energy, alone.internal_energy - 22.0)
    np.testing.assert_allclose(found.free_energy, alone.free_energy - 22.0)
    np.testing.assert_allclose(found.free_energy, found.internal_energy - T * found.entropy)
    assert found.zero_point_energy.tolist() == [0, 0, 0]


@pytest.mark.parametrize("T0", T)
def test_ase_has_the_same_harmonic_functions(T0):
    modes = MODES["nonlinear"]
    theirs = HarmonicThermo(list(modes.energies), potentialenergy=modes.energy)
    found = harmonic_thermochemistry(modes, T0)
    assert found.internal_energy == pytest.approx(theirs.get_internal_energy(T0, verbose=False), rel=1e-9)
    assert found.entropy == pytest.approx(theirs.get_entropy(T0, verbose=False), rel=1e-9)
    assert found.free_energy == pytest.approx(theirs.get_helmholtz_energy(T0, verbose=False), rel=1e-9)
    assert found.zero_point_energy == pytest.approx(theirs.get_ZPE_correction(), rel=1e-9)


@pytest.mark.parametrize("T0", T)
@pytest.mark.parametrize(
    ("geometry", "sigma", "multiplicity"), [("nonlinear", 2, 2), ("linear", 2, 3), ("monatomic", 1, 1)]
)
def test_ase_has_the_same_ideal_gas(geometry, sigma, multiplicity, T0):
    modes, pressure = MODES[geometry], 2.5e4
    theirs = IdealGasThermo(
        list(modes.energies),
        geometry,
        potentialenergy=modes.energy,
        atoms=modes.atoms,
        symmetrynumber=sigma,
        spin=(multiplicity - 1) / 2,
    )
    gas = ideal_gas(modes, T0, pressure, symmetry_number=sigma, multiplicity=multiplicity)
    assert gas.internal_energy == pytest.approx(theirs.get_internal_energy(T0, verbose=False), rel=1e-9)
    assert gas.enthalpy == pytest.approx(theirs.get_enthalpy(T0, verbose=False), rel=1e-9)
    assert gas.entropy == pytest.approx(theirs.get_entropy(T0, pressure, verbose=False), rel=1e-9)
    assert gas.gibbs_energy == pytest.approx(theirs.get_gibbs_energy(T0, pressure, verbose=False), rel=1e-9)
    parts = gas.translational_entropy + gas.rotational_entropy + gas.vibrational_entropy + gas.electronic_entropy
    assert gas.entropy == pytest.approx(parts)
    assert gas.electronic_entropy == pytest.approx(units.kB * np.log(multiplicity))


@pytest.mark.parametrize("geometry", MODES)
def test_entropy_heat_capacity_and_volume_of_the_gas_are_derivatives_of_its_gibbs_energy(geometry):
    def gas(temperature, pressure):
        return ideal_gas(MODES[geometry], temperature, pressure, symmetry_number=1)

    for T0 in T:
        found = gas(T0, 1e5)
        S = -central_difference(lambda t, T0=T0: gas(T0 + t, 1e5).gibbs_energy, 0.01 * T0)
        C = central_difference(lambda t, T0=T0: gas(T0 + t, 1e5).enthalpy, 0.01 * T0)
        volume = central_difference(lambda p, T0=T0: gas(T0, 1e5 + p).gibbs_energy, 1e3)
        assert found.entropy == pytest.approx(S, rel=1e-6)
        assert found.heat_capacity == pytest.approx(C, rel=1e-5)
        assert volume == pytest.approx(units.kB * T0 / 1e5, rel=1e-6)


def test_temperatures_and_pressures_may_be_arrays():
    grid = ideal_gas(MODES["linear"], T[:, None], np.array([1e4, 1e5]), symmetry_number=2)
    assert grid.gibbs_energy.shape == grid.rotational_entropy.shape == grid.pressure.shape == (3, 2)
    one = ideal_gas(MODES["linear"], T[1], 1e5, symmetry_number=2)
    assert grid.gibbs_energy[1, 1] == pytest.approx(one.gibbs_energy)
    assert "gibbs energy (eV)" in str(one) and f"{one.gibbs_energy:.6f}" in str(one)
    assert str(harmonic_thermochemistry(MODES["linear"], T)).count("\n") == 6


@pytest.mark.parametrize("T0", T)
def test_ase_has_the_same_entropy_of_soft_modes(T0):
    soft = QuasiRRHO(reference=35.0, inertia=12.0)
    for quantum in QUANTA:
        theirs = RRHOMode(quantum, mean_inertia=12.0, tau=35.0).get_entropy(T0, contributions=False)
        assert oscillators([quantum], T0, soft=soft).entropy == pytest.approx(theirs, rel=1e-9)


def test_stiff_modes_stay_oscillators_and_soft_ones_become_rotors():
    """The entropy of an oscillator diverges as its frequency falls, that of a rotor of the moment B does not."""
    plain, soft = oscillators([0.4], 300.0), oscillators([0.4], 300.0, soft=QuasiRRHO())
    assert soft.entropy == pytest.approx(plain.entropy, abs=1e-7)
    B = QuasiRRHO().inertia * units._amu * 1e-20
    assert pytest.approx(1e-44) == B
    rotor = units.kB * (0.5 + 0.5 * np.log(8 * np.pi**3 * B * units._k * 300.0 / units._hplanck**2))
    assert oscillators([1e-9], 300.0, soft=QuasiRRHO()).entropy == pytest.approx(rotor, rel=1e-3)
    found = oscillators(QUANTA, 300.0, soft=QuasiRRHO())
    assert found.free_energy == pytest.approx(found.internal_energy - 300.0 * found.entropy)
    assert found.internal_energy == oscillators(QUANTA, 300.0).internal_energy
    for bad in ({"reference": 0.0}, {"inertia": -1.0}):
        with pytest.raises(SettingsError, match="must be a positive number"):
            QuasiRRHO(**bad)


def test_the_imaginary_mode_of_a_saddle_point_is_left_out_when_it_is_named():
    atoms, H = carbon_dioxide()
    H[1::3, 1::3] *= -1  # one of the two bends falls
    saddle = normal_modes(given_hessian(atoms, H))
    assert saddle.n_imaginary == 1
    with pytest.raises(DataError, match="has 1 imaginary modes, not 0"):
        harmonic_thermochemistry(saddle, 300.0)
    with pytest.raises(DataError, match="has 0 imaginary modes, not 1"):
        harmonic_thermochemistry(MODES["linear"], 300.0, n_imaginary=1)
    found = harmonic_thermochemistry(saddle, 300.0, n_imaginary=1)
    assert found.entropy == pytest.approx(oscillators(saddle.energies[1:], 300.0).entropy)
    gas = ideal_gas(saddle, 300.0, symmetry_number=2, n_imaginary=1)
    assert gas.vibrational_entropy == pytest.approx(found.entropy)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: oscillators(QUANTA, 0.0), "temperature must be positive"),
        (lambda: oscillators(QUANTA, [300.0, -1.0]), r"temperature must be positive and finite \(K\), not -1"),
        (lambda: oscillators(QUANTA, np.nan), "temperature must be positive"),
        (lambda: oscillators(QUANTA, "hot"), "temperature must be a number"),
        (lambda: oscillators([0.1, -0.1], 300.0), "energies must be positive"),
        (lambda: harmonic_thermochemistry(MODES["linear"], -5.0), "temperature must be positive"),
        (lambda: harmonic_thermochemistry(MODES["linear"], 300.0, n_imaginary=-1), "n_imaginary must be"),
        (lambda: ideal_gas(MODES["linear"], 0.0, symmetry_number=1), "temperature must be positive"),
        (lambda: ideal_gas(MODES["linear"], 300.0, 0.0, symmetry_number=1), "pressure must be positive"),
        (lambda: ideal_gas(MODES["linear"], 300.0, symmetry_number=0), "symmetry_number must be"),
        (lambda: ideal_gas(MODES["linear"], 300.0, symmetry_number=1, multiplicity=0.5), "multiplicity must be"),
        (lambda: ideal_gas(MODES["monatomic"], 300.0, symmetry_number=2), "symmetry number of an atom is 1"),
    ],
)
def test_parameters_that_cannot_work_are_refused(call, match):
    with pytest.raises(SettingsError, match=match):
        call()


def test_a_crystal_is_no_ideal_gas():
    crystal = normal_modes(given_hessian(bulk("Cu"), np.zeros((3, 3))))
    with pytest.raises(DataError, match="made of free molecules"):
        ideal_gas(crystal, 300.0, symmetry_number=1)
    field = normal_modes(given_hessian(molecule("H2"), np.eye(6)), project=False)
    with pytest.raises(DataError, match="nothing projected out"):
        ideal_gas(field, 300.0, symmetry_number=2)
