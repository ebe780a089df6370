"""Statistics of predictions of labels that a model had not seen, by hand."""

import numpy as np
import pytest

from gapkit.uncertainty.held_out import HeldOut

HELD = HeldOut(
    label=np.array([0.0, 1.0, 3.0]), predicted=np.array([0.1, 0.8, 3.4]), std=np.array([0.1, 0.1, 0.4]),
    group=np.array(["a", "a", "b"]), lower=np.array([-0.1, 0.7, 3.1]), upper=np.array([0.3, 0.9, 3.7]), level=0.9,
)  # fmt: skip


def test_statistics_by_hand():
    np.testing.assert_allclose(HELD.error, [0.1, -0.2, 0.4])
    assert HELD.mae == pytest.approx(0.7 / 3)
    assert HELD.rmse == pytest.approx(np.sqrt(0.21 / 3))
    assert HELD.z_rms == pytest.approx(np.sqrt((1 + 4 + 1) / 3))
    assert HELD.r2 == pytest.approx(1 - 0.21 / (16 / 9 + 1 / 9 + 25 / 9))
    assert HELD.coverage == pytest.approx(1 / 3)


def test_a_part_keeps_what_belongs_to_it():
    part = HELD.part(HELD.group == "a")
    assert part.level == 0.9 and list(part.group) == ["a", "a"]
    assert part.coverage == 0.5 and part.mae == pytest.approx(0.15)


def test_without_intervals_there_is_no_coverage():
    bare = HeldOut(HELD.label, HELD.predicted, HELD.std)
    assert np.isnan(bare.coverage) and bare.part(np.array([True, False, True])).group is None
