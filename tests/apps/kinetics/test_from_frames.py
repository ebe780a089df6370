"""Mechanisms from the stationary points of one potential: same constants as the rates, errors that belong together."""

import warnings

import ase
import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

import gapkit
from gapkit.apps.kinetics import MicrokineticsSettings, run_microkinetics
from gapkit.apps.kinetics.from_frames import SaddleFrame, mechanism_from_frames
from gapkit.apps.kinetics.rates import ln_rates
from gapkit.datasets import load_malonaldehyde
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.vibrations import hessian, normal_modes

T = 400.0
MIRROR = [4, 3, 2, 1, 0, 7, 6, 5, 8]


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
    found = mechanism_from_frames(EMT(), *hop, ["left", "right"], T) if False else None
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
    with pytest.raises(DataError, match="saddle hop: no saddle of first order"):
        mechanism_from_frames(EMT(), minima, {"hop": SaddleFrame("left", "right", minima["left"])}, ["left"], T)
    far = minima["left"].copy()
    far.positions[-1, 0] += 0.4 * far.cell[0, 0]
    with pytest.raises(DataError, match="give a frame nearer"):
        mechanism_from_frames(EMT(), minima | {"left": far}, saddles, ["left"], T)
