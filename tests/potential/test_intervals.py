"""Intervals: which labels a frame asks for."""

from dataclasses import replace

import numpy as np
import pytest

from gapkit.exceptions import DataError
from gapkit.potential.intervals import half_widths
from gapkit.uncertainty.recalibration import SplitConformal
from tests.conftest import copper_frames, small_gap


@pytest.fixture(scope="module")
def recalibrated():
    return small_gap().fit(copper_frames(12, 1)).recalibrate(copper_frames(16, 7), random_state=0).potential_


def test_a_frame_without_a_volume_asks_nothing_of_virial_labels(recalibrated):
    """One virial score cannot promise a half: that is refused where stress is asked for, and only there."""
    bulk, cluster = copper_frames(4, 5)[0], copper_frames(4, 5)[3]
    known = recalibrated.errors.recalibration
    few = replace(known, conformal={**known.conformal, "virial": SplitConformal((1.0,), 1)})
    potential = replace(recalibrated, errors=replace(recalibrated.errors, recalibration=few))
    widths = half_widths(potential, cluster, 0.7, by_frame=False)
    assert widths["stress"] is None and widths["energy"] > 0 and widths["forces"].shape == (5, 3)
    with pytest.raises(DataError, match="cannot promise"):
        half_widths(potential, bulk, 0.7, by_frame=False)


def test_widths_are_scores_times_standard_deviations(recalibrated):
    frame = copper_frames(4, 5)[0]
    found = recalibrated.errors.recalibration
    parts = recalibrated.variance_parts(recalibrated.structure(frame), True).of_labels("energy", len(frame))
    std = np.sqrt(len(frame) * found.interval_models["energy"].variance(*parts)[0])
    width = half_widths(recalibrated, frame, 0.5, by_frame=False)["energy"]
    assert width == pytest.approx(found.conformal["energy"].factor(0.5, False) * std)
