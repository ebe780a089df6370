"""Hops of point defects: kinds and frames against crystallography, diffusion against closed forms and an oracle."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.geometry import get_distances

import gapkit
from gapkit.apps.ion_transport.hop_frames import interstitial_hops, vacancy_hops
from gapkit.apps.ion_transport.hops import HopsSettings, infinite_correlation_factor, run_hops
from gapkit.apps.ion_transport.pictures import hops_figure
from gapkit.apps.kinetics import BarrierSettings, run_barrier
from gapkit.apps.kinetics.rates import RatePosterior
from gapkit.exceptions import DataError, SettingsError

T = np.array([500.0, 700.0, 900.0])
A = 4.05


def aluminium(n=2):
    return bulk("Al", cubic=True, a=A) * (n, n, n)


def titanium():
    return bulk("Ti") * (4, 4, 3)


def given(barrier, barrier_std=0.02, ln_prefactor_std=0.3, temperature=T):
    """A barrier with a prefactor of 5 THz and these errors, in the place of a search's result."""
    ln_rate = np.log(5e12) - barrier / (units.kB * temperature)
    rates = RatePosterior(temperature, ln_rate, barrier, barrier_std, ln_prefactor_std, 0.0, np.ones(len(temperature)))
    return SimpleNamespace(forward=barrier, forward_std=barrier_std, rates=rates, in_domain=True)


def searched(*barriers):
    """A search that gives these barriers one after the other."""
    rest = iter(barriers)
    return lambda gap, initial, final, *, progress=False: next(rest)


def moved(hop):
    return np.flatnonzero(np.linalg.norm(hop.final.positions - hop.initial.positions, axis=1) > 1e-9)


def shortest(atoms):
    return atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)].min()


@pytest.mark.parametrize(
    ("crystal", "species", "shells", "numbers"),
    [
        (bulk("Al", cubic=True) * (2, 2, 2), "Al", 1, [12]),
        (bulk("Fe", cubic=True) * (3, 3, 3), "Fe", 2, [8, 6]),
        (bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (3, 3, 3), "Na", 2, [12, 6]),
        (titanium(), "Ti", 2, [6, 6, 6]),  # out of plane, in plane, second shell
        (bulk("Si", cubic=True) * (2, 2, 2), "Si", 2, [4, 12]),
    ],
    ids=["fcc", "bcc", "rocksalt", "hcp", "diamond"],
)
def test_a_vacancy_has_as_many_kinds_of_hops_as_the_crystal_has_kinds_of_neighbours(crystal, species, shells, numbers):
    network = vacancy_hops(crystal, species, shells)
    assert [hop.per_site for hop in network.kinds] == numbers
    assert len(network.sites) == crystal.get_chemical_symbols().count(species)
    lengths = np.linalg.norm(network.displacement, axis=1)
    np.testing.assert_allclose(lengths, [network.kinds[k].distance for k in network.kind])


def test_turned_shifted_and_shuffled_crystals_have_the_same_kinds():
    crystal = titanium()
    crystal.rotate(33.0, (1, 2, 3), rotate_cell=True)
    crystal = crystal[np.random.default_rng(0).permutation(len(crystal))]
    crystal.positions += 0.37
    assert [hop.per_site for hop in vacancy_hops(crystal, "Ti", 2).kinds] == [6, 6, 6]


def test_another_species_nearby_makes_a_kind_of_its_own():
    crystal = aluminium(3)
    crystal.symbols[0] = "Cu"
    network = vacancy_hops(crystal, "Al")
    assert len(network.kinds) > 1
    assert {(j, i) for i, j in zip(network.start, network.end, strict=True)} == set(
        zip(network.start, network.end, strict=True)
    )


def test_every_hop_has_its_way_back():
    """Sites in a row, 1 and 1.5 A apart: the middle one is the nearest of both others, and has one nearest itself."""
    crystal = Atoms("Fe", cell=[10, 10, 10], pbc=True)
    network = interstitial_hops(crystal, "H", np.array([[2.0, 5, 5], [3, 5, 5], [4.5, 5, 5]]))
    pairs = sorted(zip(network.start.tolist(), network.end.tolist(), strict=True))
    assert pairs == [(0, 1), (1, 0), (1, 2), (2, 1)]


def test_frames_of_a_vacancy_hop_move_one_atom_into_the_vacancy():
    (hop,) = vacancy_hops(aluminium(), "Al").kinds
    assert len(hop.initial) == len(hop.final) == 31
    (atom,) = moved(hop)
    assert np.linalg.norm((hop.final.positions - hop.initial.positions)[atom]) == pytest.approx(A / np.sqrt(2))
    assert shortest(hop.final) == pytest.approx(A / np.sqrt(2))
    assert "charge" not in hop.initial.info


def test_the_user_chooses_the_charge_and_the_partner_of_a_vacancy():
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    partner = int(np.flatnonzero(crystal.numbers == 17)[0])
    (hop,) = vacancy_hops(crystal, "Na", without=[partner]).kinds
    assert hop.initial.get_chemical_formula() == "Cl31Na31"
    (atom,) = moved(hop)
    ends = np.array([hop.initial.positions[atom], hop.final.positions[atom]])
    _, apart = get_distances([crystal.positions[partner]], ends, crystal.cell, True)
    assert apart.min() > 6.0  # of the six shells in the cell (2.82 to 9.35 A) none of the two nearest
    (charged,) = vacancy_hops(crystal, "Na", charge=-1.0).kinds
    assert charged.initial.info["charge"] == charged.final.info["charge"] == -1.0
    with pytest.raises(SettingsError, match="without names atoms"):
        vacancy_hops(crystal, "Na", without=[64])


def test_an_interstitial_in_bcc_diffuses_by_the_closed_form():
    """D = a^2 k / 6, k the rate of each of four hops of a / 2 (Wert and Zener, Phys. Rev. 76, 1169 (1949))."""
    crystal = bulk("Fe", cubic=True, a=2.87) * (3, 3, 3)
    middles = crystal.get_scaled_positions()[:, None] + np.eye(3) / 6
    network = interstitial_hops(crystal, "C", middles.reshape(-1, 3) @ crystal.cell.array)
    (hop,) = network.kinds
    assert hop.per_site == 4 and hop.distance == pytest.approx(2.87 / 2)
    assert hop.initial.symbols[-1] == "C" and moved(hop).tolist() == [54]
    found = run_hops(None, network, search=searched(given(0.8)))
    rate = 1e-15 * np.exp(found.barriers[0].rates.ln_rate)
    np.testing.assert_allclose(found.tracer, 2.87**2 * rate / 6, rtol=1e-9)
    np.testing.assert_allclose(found.tensor, found.defect[:, None, None] * np.eye(3), atol=1e-9 * found.defect.max())
    assert np.all(found.statistical_error == 0)


def test_an_interstitialcy_pushes_an_atom_of_the_crystal_on():
    """Octahedral sites on both sides of an atom, in a row with it: second shell of these sites, a apart."""
    crystal = aluminium(3)
    network = interstitial_hops(
        crystal, "Al", crystal.positions + np.array([A / 2, 0, 0]), shells=2, interstitialcy=True
    )
    hop = network.kinds[1]
    assert hop.distance == pytest.approx(A) and hop.per_site == 6
    pushed, added = moved(hop)
    assert added == len(crystal)
    np.testing.assert_allclose(hop.final.positions[added], hop.initial.positions[pushed], atol=1e-9)
    assert np.linalg.norm(hop.final.positions[pushed] - hop.initial.positions[pushed]) == pytest.approx(A / 2)
    way = hop.final.positions[pushed] - hop.initial.positions[added]  # the defect's step is twice that of each atom
    np.testing.assert_allclose(np.abs(way).max(), A)
    with pytest.raises(SettingsError, match="give correlation_factor"):
        run_hops(None, network, search=searched(given(0.5), given(0.5)))


def test_a_vacancy_in_fcc_diffuses_by_the_closed_form():
    """D_vacancy = a^2 k, and tracers c f of it with f = 0.78146 (Montet, Phys. Rev. B 7, 650 (1973))."""
    c = (1e-8, 1e-6, 1e-5)
    found = run_hops(None, vacancy_hops(aluminium(), "Al"), HopsSettings(concentration=c), search=searched(given(0.6)))
    rate = 1e-15 * np.exp(found.barriers[0].rates.ln_rate)
    np.testing.assert_allclose(found.defect, A**2 * rate, rtol=1e-9)
    np.testing.assert_allclose(found.tracer, np.array(c) * 0.78146 * A**2 * rate, rtol=1e-4)
    assert np.all(np.abs(found.correlation_factor - 0.78146) < 4 * found.correlation_factor_std)
    assert np.all(found.statistical_error < 1e-3)


def test_the_correlation_factor_of_vacancies_in_bcc_is_the_known_one():
    """0.72719 (Montet 1973)."""
    network = vacancy_hops(bulk("Fe", cubic=True) * (3, 3, 3), "Fe")
    f, error = infinite_correlation_factor(network, np.ones(1))
    assert f == pytest.approx(0.72719, abs=2e-4) and error < 1e-3
    with pytest.raises(DataError, match="Bravais"):
        infinite_correlation_factor(vacancy_hops(titanium(), "Ti"), np.ones(2))


def test_the_potentials_error_of_diffusion_is_that_of_the_rate_and_shared_by_temperatures():
    found = run_hops(None, vacancy_hops(aluminium(), "Al"), search=searched(given(0.6, 0.03, 0.4)))
    kT = units.kB * T
    np.testing.assert_allclose(found.potential_error, np.hypot(0.4, 0.03 / kT))
    np.testing.assert_allclose(found.shared_covariance[0, 2], 0.16 + 0.0009 / (kT[0] * kT[2]))
    line = found.arrhenius()
    assert line.activation_energy == pytest.approx(0.6, abs=1e-6)
    assert line.activation_energy_std == pytest.approx(0.03, rel=1e-3)
    low, high = found.interval(0.9)
    np.testing.assert_allclose(low * high, found.tracer**2)
    np.testing.assert_allclose(np.log(high / low), 2 * 1.644854 * found.potential_error, rtol=1e-3)


def test_two_kinds_of_hops_count_by_their_shares_of_the_trace():
    """In hcp the mean displacement of the hops from each site vanishes: D = sum n k d^2 / 6, as of independent hops."""
    network = vacancy_hops(titanium(), "Ti", 1)
    found = run_hops(
        None, network, HopsSettings(correlation_factor=0.78),
        search=searched(given(0.5, 0.02, 0.0), given(0.6, 0.05, 0.0)),
    )  # fmt: skip
    rates = 1e-15 * np.exp([b.rates.ln_rate for b in found.barriers])
    parts = np.array([hop.per_site * hop.distance**2 for hop in network.kinds])[:, None] * rates / 6
    np.testing.assert_allclose(found.defect, parts.sum(axis=0), rtol=1e-9)
    shares = parts / parts.sum(axis=0)
    np.testing.assert_allclose(found.potential_error, (0.02 * shares[0] + 0.05 * shares[1]) / (units.kB * T), rtol=1e-6)


def test_repeating_a_crystal_leaves_the_diffusion_of_its_defect():
    network = vacancy_hops(titanium(), "Ti", 1)
    rates = np.array([1.0, 2.0])
    larger = network.repeated(3)  # a shift to the wrong side is no other one where there are two cells
    assert len(larger.sites) == len(larger.crystal) == 27 * len(network.sites) and not larger.is_lattice
    np.testing.assert_allclose(larger.graph(rates).diffusion(), network.graph(rates).diffusion(), atol=1e-9)
    across = larger.sites[larger.start] + larger.displacement - larger.sites[larger.end]
    np.testing.assert_allclose(across @ np.linalg.inv(larger.crystal.cell.array) % 1.0 % (1 - 1e-9), 0, atol=1e-8)


def test_crystals_and_settings_that_cannot_work_are_refused_with_a_remedy():
    with pytest.raises(DataError, match="repeat the crystal"):
        vacancy_hops(bulk("Al", cubic=True), "Al")
    with pytest.raises(DataError, match="holds 0 atoms of Cu"):
        vacancy_hops(aluminium(), "Cu")
    flat = aluminium()
    flat.pbc = (True, True, False)
    with pytest.raises(DataError, match="periodic in all directions"):
        vacancy_hops(flat, "Al")
    with pytest.raises(DataError, match=r"interstitial site 0 lies 0\.00 A"):
        interstitial_hops(aluminium(), "Al", aluminium().positions)
    with pytest.raises(DataError, match="shape"):
        interstitial_hops(aluminium(), "Al", np.zeros(3))
    with pytest.raises(SettingsError, match="concentration"):
        HopsSettings(concentration=(0.0,))
    with pytest.raises(SettingsError, match="correlation_factor"):
        HopsSettings(correlation_factor=-1.0)
    network, hcp = vacancy_hops(aluminium(), "Al"), vacancy_hops(titanium(), "Ti")
    with pytest.raises(SettingsError, match="one for each of 3 temperatures"):
        run_hops(None, network, HopsSettings(concentration=(0.1, 0.2)), search=searched(given(0.5)))
    with pytest.raises(DataError, match="2 rates"):
        hcp.graph([1.0])
    with pytest.raises(SettingsError, match="no Bravais lattice"):
        run_hops(None, hcp, search=searched(given(0.5)))
    other = given(0.5, temperature=T + 1)
    with pytest.raises(DataError, match="different temperatures"):
        run_hops(None, hcp, HopsSettings(correlation_factor=0.78), search=searched(given(0.5), other))

    def none(gap, initial, final, *, progress=False):
        raise DataError("no saddle")

    with pytest.raises(DataError, match=r"hop 0 \(2\.864 A\): no saddle"):
        run_hops(None, network, search=none)


@pytest.fixture(scope="module")
def aluminium_hops():
    """Hops in aluminium by a potential of EMT frames about the vacancy, none of them from a search."""
    rng = np.random.default_rng(0)
    network = vacancy_hops(bulk("Al", cubic=True, a=3.994) * (2, 2, 2), "Al")
    hop = network.kinds[0]
    frames = []
    for k in range(20):
        frame = hop.initial.copy()
        frame.positions += (0.0 if k < 8 else rng.uniform(0.1, 0.9)) * (hop.final.positions - hop.initial.positions)
        frame.positions += rng.normal(scale=0.08, size=frame.positions.shape)
        frame.calc = EMT()
        frame.get_potential_energy()
        frames.append(frame)
    gap = gapkit.GAP(random_state=0).fit(frames)
    settings = BarrierSettings(images=3, statistics="classical", temperatures=(600.0, 800.0))
    return run_hops(gap, network, HopsSettings(concentration=(1e-4,)), search=partial(run_barrier, settings=settings))


def test_diffusion_in_aluminium_is_the_oracles_within_its_error(aluminium_hops):
    """EMT: barrier 0.398 eV, prefactor 13 THz (ln nu* 2.58; benchmarks/vacancy_hops.py)."""
    found = aluminium_hops
    rate = 1e-3 * np.exp(2.58 - 0.3977 / (units.kB * found.temperature))
    z = np.log(found.tracer / (1e-4 * 0.78146 * 3.994**2 * rate)) / found.potential_error
    assert np.all(np.abs(z) < 3)
    assert found.barriers[0].in_domain and np.all(found.potential_error < 1.0)


def test_a_result_prints_goes_to_json_and_is_drawn(aluminium_hops, tmp_path):
    text = str(aluminium_hops)
    assert "vacancy of Al" in text and "600.0" in text and "potential, statistical" in text
    table = json.loads(json.dumps(aluminium_hops.to_dict()))
    assert table["hops"][0]["per_site"] == 12 and table["tracer_low"][0] < table["tracer"][0] < table["tracer_high"][0]
    hops_figure(aluminium_hops, tmp_path / "hops.png")
    assert (tmp_path / "hops.png").stat().st_size > 1000
