"""CO oxidation from literature: its numbers follow from the cited relations, and Cantera finds the same turnover."""

import numpy as np
import pytest
from ase.units import kB

from gapkit.apps.kinetics import MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.literature import load_mechanism
from gapkit.apps.kinetics.rates import PLANCK
from gapkit.apps.kinetics.steady_state import Conditions, steady_state
from gapkit.exceptions import SettingsError

GASES = {"CO": 0.67, "O2": 0.33, "CO2": 0.01}  # bar
TEMPERATURES = (450.0, 500.0, 550.0, 600.0, 650.0, 700.0)
# J/kmol of one eV; by the gas constant, because ASE has k_B of CODATA 2014 and Cantera that of 2018: 3e-7 of 2 eV are
# 1e-5 of a turnover
EV = 8314.46261815324 / kB


@pytest.fixture(scope="module")
def oxidation():
    return load_mechanism("co_oxidation")


def test_energies_follow_from_the_cited_relations(oxidation):
    E = dict(zip(oxidation.parameters, oxidation.energies, strict=True))
    assert E["CO*"] == pytest.approx(1.70 - 2.74)
    assert E["O*"] == pytest.approx(1.62 - 5.42 / 2)
    assert E["O2*"] == pytest.approx(0.89 * E["O*"] + 0.17)
    assert E["TS:o2_dissociation"] == pytest.approx(1.39 * E["O*"] + 1.56)
    assert E["TS:co_oxidation"] == pytest.approx(0.70 * (E["CO*"] + E["O*"]) + 0.02)
    joule = 96485.33  # per mol of one eV
    assert E["CO2"] == pytest.approx((110.53 - 393.51) * 1e3 / joule, abs=1e-5)
    entropies = {s.name: s.entropy * joule for s in oxidation.species if s.kind == "gas"}
    assert entropies == pytest.approx({"CO": 197.660, "O2": 205.152, "CO2": 213.785}, rel=1e-5)
    assert oxidation.reactions[0].area == pytest.approx(np.sqrt(3) / 4 * 3.92**2, rel=1e-4)


def test_co_blocks_the_cold_surface_and_leaves_the_hot_one(oxidation):
    found = [
        run_microkinetics(oxidation, GASES, None, MicrokineticsSettings(temperature=T, energy_std=0.1))
        for T in TEMPERATURES
    ]
    blocked = [r.state.amounts["CO*"] for r in found]
    assert blocked[0] > 0.9 and blocked[-1] < 0.01
    assert np.all(np.diff(blocked) < 0)
    assert np.all(np.diff([r.ln_turnover for r in found]) > 0)
    for r in found:
        assert r.state.is_stable
        assert r.rate_control.sum() == pytest.approx(1.0, abs=1e-6)
        assert r.rate_control[2] > 0.99  # dissociation of O2
    # two empty sites for O2 cost two CO molecules on the cold surface: their enthalpy is in the apparent energy
    barrier = found[0].mechanism.energies[-2]
    theta = blocked[0]
    assert found[0].apparent_energy == pytest.approx(barrier + 2 * 1.04 * theta, abs=0.1)


def test_an_unknown_mechanism_is_refused():
    with pytest.raises(SettingsError, match="choose one of co_oxidation"):
        load_mechanism("ammonia")


def in_cantera(mechanism, T):
    """The mechanism as a Cantera input at a temperature.

    Matched by hand: one site has the area of the adsorption reactions (site density). Gases have the standard pressure
    1 bar (Cantera's own is one atmosphere, which lowers the turnover by 1.3 %), surface species that of full coverage.
    Heat capacities are zero, so that enthalpies and entropies are those of the file. Sticking coefficients have no
    Motz-Wise correction. A constant per pair of sites is divided by the site density.
    """
    density = 1.0 / (mechanism.reactions[0].area * 1e-20 * 6.02214076e26)  # kmol/m^2
    name = {s.name: s.name.replace("*", "_X") if s.name != "*" else "X" for s in mechanism.species}
    composition = {s.name: dict(s.composition or {}) for s in mechanism.species}

    def species(s):
        atoms = ", ".join(f"{k}: {v}" for k, v in composition[s.name].items())
        return (
            f"- {{name: {name[s.name]}, composition: {{{atoms}}}, thermo: {{model: constant-cp, "
            f"reference-pressure: 1.0e+05, T0: 298.15, "
            f"h0: {s.energy * EV!r}, s0: {s.entropy * EV!r}, cp0: 0.0}}}}"
        )

    lines = ["units: {length: m, quantity: kmol, time: s, energy: J}", "phases:"]
    gases = [s for s in mechanism.species if s.kind == "gas"]
    held = [s for s in mechanism.species if s.kind != "gas"]
    lines += [
        f"- {{name: gas, thermo: ideal-gas, elements: [C, O], species: [{', '.join(name[s.name] for s in gases)}], "
        "state: {T: 600.0, P: 1.0e+05}}",
        f"- {{name: surf, thermo: ideal-surface, elements: [C, O], species: [{', '.join(name[s.name] for s in held)}], "
        f"kinetics: surface, reactions: all, adjacent-phases: [gas], site-density: {density!r}, state: {{T: 600.0}}}}",
        "species:",
        *(species(s) for s in mechanism.species),
        "reactions:",
    ]
    energy = dict(zip(mechanism.parameters, mechanism.energies, strict=True))
    for r in mechanism.reactions:
        equation = " <=> ".join(
            " + ".join(f"{n} {name[k]}" for k, n in side.items()) for side in (r.reactants, r.products)
        )
        if r.is_adsorption:
            rate = f"sticking-coefficient: {{A: {r.sticking}, b: 0, Ea: 0}}, Motz-Wise: false"
        else:
            before = sum(n * energy[k] for k, n in r.reactants.items())
            A = kB / PLANCK / density ** (sum(r.reactants.values()) - 1)
            rate = f"rate-constant: {{A: {A!r}, b: 1, Ea: {float(r.energy - before) * EV!r}}}"
        lines.append(f"- {{equation: {equation}, {rate}}}")
    return "\n".join(lines), density


@pytest.mark.parametrize("T", TEMPERATURES)
def test_cantera_finds_the_same_steady_state(oxidation, T):
    cantera = pytest.importorskip("cantera")
    text, density = in_cantera(oxidation, T)
    gas = cantera.Solution(yaml=text, name="gas")
    surface = cantera.Interface(yaml=text, name="surf", adjacent=[gas])
    total = sum(GASES.values())
    gas.TPX = T, total * 1e5, {k: v / total for k, v in GASES.items()}
    surface.TP = T, total * 1e5
    surface.coverages = {"X": 1.0}
    surface.advance_coverages(1e4, rtol=1e-11, atol=1e-20)
    turnover = surface.get_net_production_rates("gas")[gas.species_index("CO2")] / density
    found = steady_state(oxidation, Conditions(T, GASES))
    assert turnover == pytest.approx(found.turnover, rel=1e-6)
    theirs = dict(zip(surface.species_names, surface.coverages, strict=True))
    names = {"*": "X", "CO*": "CO_X", "O*": "O_X", "O2*": "O2_X"}
    assert {k: theirs[v] for k, v in names.items()} == pytest.approx(found.amounts, rel=1e-6)
    # the bonds of CO to the surface are in both equilibrium constants
    backward = surface.reverse_rate_constants[0] / (kB * T / PLANCK)
    assert np.log(backward) == pytest.approx(oxidation.ln_constants(T)[1][0] - np.log(kB * T / PLANCK), abs=1e-6)
