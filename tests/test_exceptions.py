"""Texts of errors are one short line."""

import numpy as np
import pytest

from gapkit.checks import check_count, check_positive, is_number
from gapkit.exceptions import DataError, GapkitError, SettingsError
from tests.conftest import small_gap


def test_an_error_has_one_line_of_at_most_300_characters_and_keeps_its_remedy():
    text = str(DataError("frame 3: " + "a long story\n" * 100 + "; repair the frame"))
    assert len(text) <= 300
    assert "\n" not in text
    assert text.startswith("frame 3: a long story a long")
    assert text.endswith("; repair the frame")
    assert str(GapkitError("a short one: [1.0, 2.0]")) == "a short one: [1.0, 2.0]"


@pytest.mark.parametrize("array", [np.arange(30.0).reshape(10, 3), np.full((4, 6), np.nan), np.arange(5000) * 1e-7])
def test_no_error_prints_an_array(array):
    for text in (f"forces: {array!r} is wrong; repair it", f"forces: {array} is wrong; repair it"):
        said = str(DataError(text))
        assert said.startswith("forces: [...]")
        assert said.endswith(" is wrong; repair it")
        assert len(said) < 55
    assert str(DataError(f"x {array.tolist()!r} y")) == "x [...] y"


@pytest.mark.parametrize("folds", [1e20, 10**20, 10**400, float("nan"), True])
def test_folds_that_no_data_can_have_are_refused(folds, train):
    with pytest.raises(SettingsError, match="folds must be an integer of at least 1"):
        small_gap(folds=folds).fit(train)


def test_whole_numbers_beyond_all_bounds_are_refused():
    for wrong in (lambda: check_count("copies", 10**20), lambda: check_positive("step", 10**400)):
        with pytest.raises(SettingsError, match="must be"):
            wrong()
    assert not is_number(10**400)
