"""A fit that needs more memory than there is is refused before its long work, unless the user allows it."""

import pytest

from gapkit.exceptions import SettingsError
from gapkit.fitting import plan, stages
from gapkit.numerics.memory import MemoryLimit
from tests.conftest import small_gap


@pytest.fixture
def little(monkeypatch):
    """A machine with 0.2 GB: less than any fit needs."""
    monkeypatch.setattr(plan, "memory_limit", lambda: MemoryLimit(2e8, "this machine has"))


def test_a_fit_beyond_the_memory_is_refused_before_the_work(train, little, monkeypatch):
    monkeypatch.setattr(stages, "accumulate_rows", None)
    message = r"needs about 0.\d+ GB, more than this machine has \(0.2 GB\); use fewer sparse points, .* sparse=15, or"
    with pytest.raises(SettingsError, match=message):
        small_gap().fit(train)


@pytest.mark.parametrize("memory", [1, 0.5, float("inf")])
def test_a_fit_that_is_allowed_more_is_made(train, little, memory):
    small_gap().fit(train, memory=memory)


def test_a_fit_that_is_allowed_less_is_refused(train):
    with pytest.raises(SettingsError, match=r"more than memory= allows \(0.1 GB\)"):
        small_gap().fit(train, memory=0.1)


def test_more_folds_than_frames_need_no_more_memory(train):
    small_gap(folds=10**9).fit(train, memory=1.0)


def test_where_the_system_does_not_say_nothing_is_refused(train, monkeypatch):
    monkeypatch.setattr(plan, "memory_limit", lambda: None)
    small_gap().fit(train)


def test_an_exact_mean_is_refused_with_its_own_remedy():
    with pytest.raises(SettingsError, match=r"use exact=False, or try all the same with fit\(memory=2.02\)"):
        plan.check_memory(2.0, 100, True, 1.0)
    plan.check_memory(2.0, 100, True, 2.0)


@pytest.mark.parametrize("memory", [0, -1.0, "1", True, float("nan")])
def test_memory_must_be_a_positive_number(train, memory):
    with pytest.raises(SettingsError, match="memory must be a positive number"):
        small_gap().fit(train, memory=memory)
