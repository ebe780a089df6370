"""Random generators from what users give."""

import numpy as np
import pytest

from gapkit.exceptions import SettingsError
from gapkit.randomness import generator_of, seed_of


def test_a_seed_a_generator_and_none_give_generators():
    assert generator_of(3).random() == np.random.default_rng(3).random()
    rng = np.random.default_rng(0)
    assert generator_of(rng) is rng
    assert generator_of(None).random() != generator_of(None).random()


@pytest.mark.parametrize("wrong", ["zero", -1, 0.5])
def test_anything_else_is_refused(wrong):
    with pytest.raises(SettingsError, match="random_state must be a seed of at least 0, a generator or None"):
        generator_of(wrong)


def test_the_seed_of_a_generator_follows_from_its_state():
    assert seed_of(7) == 7
    assert seed_of(np.random.default_rng(3)) == seed_of(np.random.default_rng(3)) != seed_of(np.random.default_rng(4))
    with pytest.raises(SettingsError, match="random_state must be"):
        seed_of("zero")
