"""Steady states, rate control and propagated errors against closed forms and differences."""

from dataclasses import replace

import numpy as np
import pytest
from ase.units import kB

from gapkit.apps.kinetics import Mechanism, MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.mechanism import parse_equation
from gapkit.apps.kinetics.rate_control import independent_errors, sensitivity, value_of_information
from gapkit.apps.kinetics.steady_state import Conditions, Network, solve, steady_state, steady_states
from gapkit.apps.kinetics.toys import two_step_mechanism, two_step_turnover
from gapkit.exceptions import DataError, SettingsError

OXIDATION = {
    "species": {
        "CO": {"kind": "gas", "formula": "CO", "entropy": 0.0023},
        "O2": {"kind": "gas", "formula": "O2", "entropy": 0.0024},
        "CO2": {"kind": "gas", "formula": "CO2", "energy": -3.0, "entropy": 0.0025},
        "*": {"kind": "site"},
        "CO*": {"kind": "surface", "formula": "CO", "energy": -1.3, "entropy": 0.0005},
        "O*": {"kind": "surface", "formula": "O", "energy": -1.1, "entropy": 0.0002},
    },
    "reactions": {
        "co": {"equation": "CO + * <-> CO*", "sticking": 0.9, "area": 7.0, "mass": 28.0},
        "o2": {"equation": "O2 + 2 * <-> 2 O*", "energy": 0.1, "entropy": 0.0004},
        "co2": {"equation": "CO* + O* <-> CO2 + 2 *", "energy": -1.5, "entropy": 0.0007},
    },
}
GASES = {"CO": 0.3, "O2": 0.2, "CO2": 0.01}


@pytest.fixture(scope="module")
def oxidation():
    return Mechanism.from_dict(OXIDATION)


@pytest.mark.parametrize("T", [300.0, 600.0, 1200.0])
@pytest.mark.parametrize("activity", [1e-6, 1.0])
def test_the_two_step_mechanism_has_its_closed_form(T, activity):
    found = steady_state(two_step_mechanism(), Conditions(T, {"A": activity, "B": 0.0}))
    assert found.turnover == pytest.approx(two_step_turnover(T, activity), rel=1e-10)
    assert found.is_stable


def test_without_driving_force_nothing_turns_over():
    found = steady_state(two_step_mechanism(), Conditions(600.0, {"A": 0.5, "B": 0.5}))
    gross = np.exp(found.ln_forward[1])
    assert abs(found.turnover) < 1e-12 * gross
    theta = 0.5 * np.exp(0.2 / (kB * 600.0))
    assert found.amounts["A*"] == pytest.approx(theta / (1 + theta), rel=1e-10)


def test_constants_obey_detailed_balance(oxidation):
    forward, backward = oxidation.ln_constants(600.0)
    species = {s.name: s for s in oxidation.species}
    G = np.array([species[s.name].energy - 600.0 * species[s.name].entropy for s in oxidation.species])
    assert forward - backward == pytest.approx(-oxidation.changes() @ G / (kB * 600.0), abs=1e-10)


def test_the_steady_state_is_at_rest_and_fills_the_sites(oxidation):
    network = Network(oxidation, Conditions(600.0, GASES))
    found = solve(network)
    net = found.net_rates
    gross = np.exp(np.concatenate([found.ln_forward, found.ln_backward])).max()
    assert np.abs(network.S @ net).max() < 1e-13 * gross  # gross rates of adsorption are 1e7 times the net ones
    assert sum(found.amounts.values()) == pytest.approx(1.0, abs=1e-12)


def test_random_starts_end_in_one_state(oxidation):
    found = steady_states(oxidation, Conditions(600.0, GASES), 20, random_state=0)
    assert len(found) == 1
    assert found[0].turnover == pytest.approx(steady_state(oxidation, Conditions(600.0, GASES)).turnover, rel=1e-8)


def test_rate_control_sums_to_one_and_slopes_are_differences(oxidation):
    network = Network(oxidation, Conditions(600.0, GASES))
    state = solve(network)
    found = sensitivity(network, state)
    assert found.rate_control.sum() == pytest.approx(1.0, abs=1e-9)
    for i in range(len(oxidation.parameters)):
        step = np.zeros(len(oxidation.parameters))
        step[i] = 1e-4
        up, down = (np.log(solve(network, oxidation.energies + s * step, state.logarithms).turnover) for s in (1, -1))
        assert found.slopes[i] == pytest.approx((up - down) / 2e-4, rel=1e-5, abs=1e-6)
    warm, cold = (np.log(steady_state(oxidation, Conditions(600.0 + d, GASES)).turnover) for d in (0.05, -0.05))
    assert found.apparent_energy == pytest.approx((warm - cold) / 0.1 * kB * 600.0**2, rel=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_linear_and_sampled_errors_agree(oxidation, correlation):
    settings = MicrokineticsSettings(energy_std=0.05, correlation=correlation, n_samples=1500)
    found = run_microkinetics(oxidation, GASES, None, settings, random_state=0)
    # (1500 draws know a standard deviation to 1.8 %)
    assert found.samples.std(ddof=1) == pytest.approx(found.ln_turnover_std, rel=0.1)
    assert found.failed == 0
    low, high = found.interval(0.9)
    assert low < found.state.turnover < high
    assert "worth of one more number" in str(found)


def test_worth_of_a_number_is_the_variance_that_conditioning_removes():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(5, 5))
    C, g, noise = root @ root.T, rng.normal(size=5), 0.3
    found = value_of_information(g, C, noise)
    for i in range(5):
        unit = np.eye(5)[i]
        posterior = np.linalg.inv(np.linalg.inv(C) + np.outer(unit, unit) / noise**2)
        assert found[i] == pytest.approx(1 - (g @ posterior @ g) / (g @ C @ g), rel=1e-9)


def test_an_energy_without_rate_control_can_be_worth_most():
    """With correlated errors degrees of rate control rank wrongly."""
    g, C = np.array([1.0, -1.0, 0.0]), np.array([[1.0, 0.2, 0.7], [0.2, 1.0, -0.3], [0.7, -0.3, 1.0]])
    assert np.argmax(value_of_information(g, C)) == 2


def test_errors_belong_to_intermediates_and_transition_states(oxidation):
    C = independent_errors(oxidation, 0.1, 0.5)
    named = dict(zip(oxidation.parameters, np.diagonal(C), strict=True))
    assert named["CO"] == named["*"] == 0
    assert named["CO*"] == named["TS:o2"] == pytest.approx(0.01)


def changed(**reactions):
    return OXIDATION | {"reactions": OXIDATION["reactions"] | reactions}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (changed(bad={"equation": "CO* + O* <-> CO2 + *", "energy": 0.1}), "does not balance in sites"),
        (
            changed(bad={"equation": "CO* + * <-> CO2 + 2 *", "energy": 0.1}),
            "does not balance in atoms: CO becomes CO2",
        ),
        (changed(bad={"equation": "CO* <-> X*", "energy": 0.1}), "unknown species X"),
        (changed(bad={"equation": "CO* O*", "energy": 0.1}), "cannot read the reaction"),
        (changed(bad={"equation": "O2 + * <-> O2*"}), "give the energy"),
        (OXIDATION | {"observed": {"x": 1}}, "observed reactions that do not exist"),
        (OXIDATION | {"oops": {}}, "unknown tables oops"),
    ],
)
def test_a_mechanism_that_cannot_be_is_refused(table, words):
    with pytest.raises(DataError, match=words):
        Mechanism.from_dict(table)


def test_a_closed_part_of_the_network_is_refused():
    closed = {
        "species": {"A": {"kind": "well"}, "B": {"kind": "well"}},
        "reactions": {"r": {"equation": "A <-> B", "energy": 0.5}},
    }
    with pytest.raises(DataError, match="closed"):
        Mechanism.from_dict(closed)


def test_wells_between_fixed_ends_carry_a_current():
    """A chain of conformers: the current is the difference of activities over the sum of resistances."""
    chain = Mechanism.from_dict(
        {
            "species": {"A": {"kind": "fixed"}, "W": {"kind": "well", "energy": 0.1}, "B": {"kind": "fixed"}},
            "reactions": {
                "first": {"equation": "A <-> W", "energy": 0.5},
                "second": {"equation": "W <-> B", "energy": 0.6},
            },
        }
    )
    found = steady_state(chain, Conditions(500.0, {"A": 1.0, "B": 0.2}))
    kT = kB * 500.0
    resistance = sum(np.exp(e / kT) for e in (0.5, 0.6)) / (kT / 4.135667696e-15)
    assert found.turnover == pytest.approx(0.8 / resistance, rel=1e-8)


def test_conditions_that_do_not_fit_are_refused(oxidation):
    with pytest.raises(SettingsError, match=r"pressures \(bar\) are missing: O2, CO2"):
        steady_state(oxidation, Conditions(600.0, {"CO": 1.0}))
    with pytest.raises(SettingsError, match="which have none"):
        steady_state(oxidation, Conditions(600.0, GASES | {"N2": 1.0}))
    with pytest.raises(DataError, match="run backwards"):
        run_microkinetics(two_step_mechanism(), {"A": 0.0, "B": 1.0})
    with pytest.raises(DataError, match="covariance"):
        run_microkinetics(oxidation, GASES, np.eye(2))


def test_equations_are_read():
    assert parse_equation("CO + 2 * -> CO** + X") == ({"CO": 1, "*": 2}, {"CO**": 1, "X": 1})
    assert parse_equation("O* + O* = O2 + 2 *") == ({"O*": 2}, {"O2": 1, "*": 2})


def test_a_file_is_read(tmp_path, oxidation):
    path = tmp_path / "m.toml"
    path.write_text(
        '[species]\nA = {kind="fixed"}\nW = {kind="well"}\n[reactions]\nr = {equation="A <-> W", energy=0.3}\n'
    )
    assert Mechanism.from_file(path).parameters == ["A", "W", "TS:r"]
    path.write_text("[species")
    with pytest.raises(DataError, match="not a TOML file"):
        Mechanism.from_file(path)
    assert replace(oxidation, observed={"co": 1.0}).observed == {"co": 1.0}
