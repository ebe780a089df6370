"""Account of saved time: its closed form, and a measurement with a clock that is known."""

import json

import numpy as np
import pytest
from ase.calculators.emt import EMT

import gapkit
from gapkit.apps.kinetics.speed_up import SpeedUp, duration, measure_speed_up
from gapkit.apps.kinetics.toys import vacancy_hop
from gapkit.exceptions import DataError, SettingsError


def test_at_the_break_even_number_of_calls_both_ways_take_the_same_time():
    account = SpeedUp(10.0, 0.5, 0.25, fit_seconds=90.0, labels=19, calls=1000)
    assert account.preparation == 280.0
    assert account.break_even == 30  # 280 / 9.5 = 29.5
    for calls, slower in ((29, True), (30, False)):
        there = SpeedUp(10.0, 0.5, 0.25, fit_seconds=90.0, labels=19, calls=calls)
        assert (there.by_potential() > there.by_reference) == slower
    exact = SpeedUp(10.0, 0.5, 0.25, fit_seconds=0.0, labels=19, calls=20)
    assert exact.break_even == 20 and exact.by_potential() == exact.by_reference == 200.0 and exact.gain() == 1.0


def test_gains_follow_from_all_that_is_counted():
    account = SpeedUp(10.0, 0.5, 0.25, fit_seconds=90.0, labels=19, calls=1000)
    assert account.by_reference == 10_000.0
    assert account.by_potential() == 780.0 and account.by_potential(batched=True) == 530.0
    assert account.ratio() == 20.0 and account.ratio(batched=True) == 40.0
    assert account.gain() == pytest.approx(10_000 / 780) and account.gain(batched=True) == pytest.approx(10_000 / 530)
    many = SpeedUp(10.0, 0.5, 0.25, fit_seconds=90.0, labels=19, calls=10**12)
    assert many.gain() == pytest.approx(many.ratio(), rel=1e-9)  # the preparation is paid once


def test_a_potential_that_is_slower_than_its_reference_never_pays():
    account = SpeedUp(0.5, 1.0, 0.25, fit_seconds=1.0, labels=4, calls=100)
    assert account.break_even is None and account.break_even_batched == 12
    assert "never faster" in str(account) and "break-even at 12 calls" in str(account)
    assert json.loads(account.to_json())["break_even"] is None


def test_the_account_says_months_and_seconds():
    account = SpeedUp(50.0, 2e-3, 4e-4, fit_seconds=30.0, labels=28, calls=200_000)
    text = str(account)
    assert "200,000 calls by the reference method: 3.8 months" in text
    assert "28 labels 23 min, fits 30 s" in text
    assert "not counted" in text
    assert json.loads(account.to_json())["gain"] == account.gain()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (5e-6, "5.0 us"),
        (0.25, "250 ms"),
        (1.088e-3, "1.1 ms"),
        (1.5, "1.5 s"),
        (119, "119 s"),
        (7200, "2.0 h"),
        (1e8, "3.2 years"),
    ],
)
def test_times_are_said_in_units_that_fit(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    "wrong",
    [{"reference_seconds": 0.0}, {"fit_seconds": -1.0}, {"labels": 2.5}, {"calls": 0}, {"batched_seconds": np.nan}],
)
def test_times_that_cannot_be_are_refused(wrong):
    good = {
        "reference_seconds": 1.0, "potential_seconds": 0.1, "batched_seconds": 0.1, "fit_seconds": 1.0, "labels": 3,
        "calls": 10,
    }  # fmt: skip
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SpeedUp(**{**good, **wrong})


class Slow(EMT):
    """An oracle that puts the clock forward by two seconds at each calculation."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def calculate(self, *arguments, **keywords):
        super().calculate(*arguments, **keywords)
        self.clock[0] += 2.0


def test_times_are_measured_by_the_given_clock():
    rng, now = np.random.default_rng(0), [0.0]
    frames = []
    for _ in range(4):
        atoms = vacancy_hop("Al", 3.994)[0]
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        frames.append(atoms)
    gap = gapkit.GAP(folds=2, random_state=0).fit(frames)

    def clock():
        now[0] += 0.01
        return now[0]

    found = measure_speed_up(
        gap, lambda: Slow(now), frames, labels=4, fit_seconds=3.0, calls=50, potential_calls=2, copies=4, clock=clock
    )
    assert found.reference_seconds == pytest.approx(2.01)  # energy and forces by one calculation
    assert found.potential_seconds == pytest.approx(0.01) and found.batched_seconds == pytest.approx(0.0025)
    assert found.labels == 4 and found.calls == 50
    with pytest.raises(DataError, match="no frames"):
        measure_speed_up(gap, EMT, [], labels=4, fit_seconds=3.0)
