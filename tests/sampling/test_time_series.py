"""Statistics of time series by hand."""

import numpy as np
import pytest

from gapkit.sampling.time_series import statistical_inefficiency


def test_inefficiency_by_hand():
    """2, 1, 0, -1, -2 has the variance 2, C_1 = (4 / 4) / 2 and C_2 = (-1 / 3) / 2, where the sum ends at
    1 + 2 (1 - 1 / 5) C_1. Mean and unit play no part."""
    series = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
    assert statistical_inefficiency(series) == pytest.approx(1.8)
    assert statistical_inefficiency(300.0 + 7.0 * series) == pytest.approx(1.8)


@pytest.mark.parametrize("series", [np.full(5, 3.0), np.tile([1.0, -1.0], 4)], ids=["constant", "alternating"])
def test_inefficiency_is_at_least_one(series):
    assert statistical_inefficiency(series) == 1.0
