"""Mechanisms from the stationary points of one potential: same constants as the rates, errors that belong together."""

import warnings

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

import gapkit
from gapkit.apps.kinetics import MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.from_frames import SaddleFrame, mechanism_from_frames
from gapkit.apps.kinetics.malonaldehyde import network
from gapkit.apps.kinetics.rates import ln_rates
from gapkit.apps.kinetics.steady_state import Conditions, Network, solve, steady_state
from gapkit.datasets import load_malonaldehyde
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.oracles import oracle
from gapkit.vibrations import hessian, normal_modes

T = 400.0
ENDS = ("open_hydroxyl", "open_hydroxyl'")
GIVEN = dict(zip(ENDS, (1.0, 0.0), strict=True))


@pytest.fixture(scope="module")
def hop():
    """Two hollows of Al(100) and the bridge between them."""
    first = fcc100("Al", size=(2, 2, 3), vacuum=8.0)
    add_adsorbate(first, "Au", 1.7, "hollow")
    first.set_constraint(FixAtoms(mask=first.get_tags() > 1))
    bridge, last = first.copy(), first.copy()
    bridge.positions[-1] += (first.cell[0, 0] / 4, 0.0, 0.25)
    last.positions[-1, 0] += first.cell[0, 0] / 2
    return {"left": first, "right": last}, {"hop": SaddleFrame("left", "right", bridge, 2.0)}


def test_constants_are_those_of_the_rates(hop):
    minima, saddles = hop
    minima = minima | {"third": minima["right"]}
    saddles = saddles | {"back": SaddleFrame("right", "third", saddles["hop"].atoms)}
    found = mechanism_from_frames(EMT(), minima, saddles, ["left", "third"], T)
    modes = [normal_modes(hessian(found.frames[k], EMT())) for k in (0, 3)]
    expected = ln_rates(modes[0], modes[1], T, statistics="quantum", degeneracy=2.0)[0]
    assert found.mechanism.ln_constants(T)[0][0] == pytest.approx(expected[0], abs=1e-9)
    assert found.covariance is None and found.in_domain


def test_frames_and_names_that_do_not_fit_are_refused(hop):
    minima, saddles = hop
    with pytest.raises(SettingsError, match="there are no minima middle"):
        mechanism_from_frames(EMT(), minima, saddles, ["middle"], T)
    with pytest.raises(DataError, match=r"TS:hop: the stationary point found lies .* give a frame nearer"):
        mechanism_from_frames(EMT(), minima, {"hop": SaddleFrame("left", "right", minima["left"])}, ["left"], T)
    far = minima["left"].copy()
    far.positions[-1, 0] += 0.4 * far.cell[0, 0]
    with pytest.raises(DataError, match="left: the stationary point found lies"):
        mechanism_from_frames(EMT(), minima | {"left": far}, saddles, ["left"], T)


@pytest.fixture(scope="module")
def frames():
    return load_malonaldehyde("explored")


@pytest.fixture(scope="module")
def gap(frames):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)
        return gapkit.GAP(folds=3, screen=False, random_state=0).fit([a for a in frames if a.info["round"] <= 2])


@pytest.fixture(scope="module")
def found(gap, frames):
    return mechanism_from_frames(gap, *network(frames), ENDS, T, {"proton_transfer": 1.0})


@pytest.fixture(scope="module")
def rate(found):
    settings = MicrokineticsSettings(temperature=T, n_samples=400)
    return run_microkinetics(found.mechanism, GIVEN, found.covariance, settings, random_state=0)


def test_both_tautomers_have_the_same_energies_and_errors(found):
    names, C = found.mechanism.parameters, found.covariance
    E = found.mechanism.energies
    for name in names:
        if name.endswith("'"):
            i, j = names.index(name), names.index(name[:-1])
            assert E[i] == pytest.approx(E[j], abs=1e-4)
            assert C[i, j] / np.sqrt(C[i, i] * C[j, j]) == pytest.approx(1.0, abs=1e-3)
    assert np.linalg.eigvalsh(C).min() > -1e-12
    assert found.in_domain
    assert "TS:proton_transfer" in str(found)


def test_a_rate_without_driving_force_vanishes(found):
    network_ = Network(found.mechanism, Conditions(T, dict.fromkeys(ENDS, 1.0)))
    state = solve(network_)
    assert abs(state.turnover) < 1e-3 * np.exp(state.ln_forward).min()


def test_rate_control_is_shared_by_two_routes_and_sums_to_one(rate):
    X = dict(zip([r.name for r in rate.mechanism.reactions], rate.rate_control, strict=True))
    assert sum(X.values()) == pytest.approx(1.0, abs=1e-6)
    for name in ("hydroxyl_of_chelate", "aldehyde"):
        assert 0.1 < X[name] < 0.4
        assert X[name] == pytest.approx(X[f"{name}'"], rel=0.01)
    assert X["proton_transfer"] < 1e-3


def test_propagated_errors_agree(rate):
    assert rate.failed == 0
    # (400 draws know a standard deviation to 3.5 %)
    assert rate.samples.std(ddof=1) == pytest.approx(rate.ln_turnover_std, rel=0.1)


def test_errors_of_the_function_belong_together(rate, found):
    """Minima and saddles of one molecule rise and fall together; a rate knows differences alone."""
    C = found.function_covariance
    assert np.sqrt(rate.slopes**2 @ np.diagonal(C)) > 2 * np.sqrt(rate.slopes @ C @ rate.slopes)


def test_a_label_of_the_mirror_image_is_worth_as_much(rate):
    worth = dict(zip(rate.mechanism.parameters, rate.information, strict=True))
    slopes = dict(zip(rate.mechanism.parameters, rate.slopes, strict=True))
    assert worth["open_hydroxyl"] > 0.2
    assert abs(slopes["open_hydroxyl'"]) < 1e-3 * abs(slopes["open_hydroxyl"])  # the rate does not depend on it
    assert worth["open_hydroxyl'"] == pytest.approx(worth["open_hydroxyl"], rel=0.02)


@pytest.mark.slow
def test_the_rate_is_that_of_the_reference_within_its_bar(rate, found, gap, frames):
    pytest.importorskip("tblite")
    theirs = mechanism_from_frames(oracle("gfn2"), *network(frames), ENDS, T, {"proton_transfer": 1.0})
    mine, truth = ([a.get_potential_energy() for a in f.frames] for f in (found, theirs))
    swapped = found.mechanism.energies + (np.array(truth) - truth[0]) - (np.array(mine) - mine[0])
    same_vibrations = np.log(steady_state(found.mechanism, Conditions(T, GIVEN), swapped).turnover)
    assert 1e-3 < abs(rate.ln_turnover - same_vibrations) < 3 * rate.ln_turnover_std
    # vibrations: wrong by 0.2 k_B T a state (root mean square, measured), which no covariance of energies knows
    whole = np.log(steady_state(theirs.mechanism, Conditions(T, GIVEN)).turnover)
    assert abs(rate.ln_turnover - whole) > 3 * rate.ln_turnover_std
    stated = mechanism_from_frames(gap, *network(frames), ENDS, T, {"proton_transfer": 1.0}, vibration_std=0.2)
    std = np.sqrt(rate.slopes @ stated.covariance @ rate.slopes)
    assert abs(rate.ln_turnover - whole) < 3 * std < 1.5


def test_missing_stationary_points_are_named(frames):
    with pytest.raises(DataError, match="no saddle hydroxyl"):
        network([a for a in frames if (a.info["config_type"], a.info["step"]) != ("saddle", "hydroxyl")])
