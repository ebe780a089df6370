"""A hundredth of ``benchmarks/random_frames.py``, and that it sees what it is there for."""

import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gapkit
from gapkit.exceptions import DataError
from gapkit.uncertainty.label_errors import FittedErrors
from tests import random_frames
from tests.random_frames import KINDS_OF_FRAMES, ask, frame, isolated, judged, material, model_to_ask, tiny_fit


def program():
    """The module of the benchmark."""
    path = Path(__file__).parent.parent / "benchmarks" / "random_frames.py"
    spec = importlib.util.spec_from_file_location("benchmark_random_frames", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_hundredth_of_the_random_frames_and_fits(capsys):
    assert program().main(["--frames", "1000", "--fits", "20", "--seed", "1"]) == 0, capsys.readouterr().out
    assert "no failure" in capsys.readouterr().out


@pytest.fixture(scope="module")
def model():
    return model_to_ask("crystals")


def test_numbers_name_the_same_frames_and_fits_again(model, tmp_path):
    assert [ask(model, 3, k) for k in range(4)] == [ask(model, 3, k) for k in range(4)]
    assert [ask(model, 3, k) for k in range(4)] != [ask(model, 4, k) for k in range(4)]
    assert tiny_fit(3, 1, tmp_path) == tiny_fit(3, 1, tmp_path)


def test_every_kind_of_frame_is_made_and_ordinary_ones_are_labelled():
    rng = np.random.default_rng(0)
    sizes = []
    for kind in KINDS_OF_FRAMES * 4:
        of = material(rng)
        made, atoms = frame(rng, of, kind)
        sizes.append(len(atoms))
        assert made == kind
        if kind in ("crystal", "left-handed", "wire", "slab"):
            results = of.labels(atoms)
            assert results is not None and np.isfinite(results["forces"]).all(), kind
    assert max(sizes) > 40 and max(sizes) <= 60 and 1 in sizes


def test_labels_are_in_the_units_of_the_material():
    rng = np.random.default_rng(1)
    of = next(m for m in (material(rng, scaled=True) for _ in range(100)) if m.name == "emt" and m.scale != 1.0)
    plain = random_frames.Material(of.name, of.symbol, of.distance, of.calculator)
    atoms = frame(rng, of, "crystal")[1]
    for key, value in plain.labels(atoms).items():
        np.testing.assert_allclose(of.labels(atoms)[key], of.scale * np.asarray(value))


def test_a_prediction_is_judged(model, monkeypatch):
    of, gap = model
    atoms = frame(np.random.default_rng(2), of, "crystal")[1]
    truth = of.labels(atoms)
    fine = judged(gap, atoms, truth)
    assert fine["verdict"] == "predicted" and 0 < fine["wide"] <= 1 and max(fine["forces"]) < 30
    p = gap.predict([atoms], uncertainty=True)
    wrong = {**truth, "energy": p.energy[0] + 50 * p.energy_std[0]}
    assert judged(gap, atoms, wrong)["energy"] == [pytest.approx(50.0)]

    def upside_down(self, kind, parts, config_type=None, include_noise=True):
        return 1 / (1e-6 + parts.weights)

    monkeypatch.setattr(FittedErrors, "variance", upside_down)
    assert "times that of the prior" in judged(gap, atoms, truth)["verdict"]
    monkeypatch.undo()

    def lost(self, kind, parts, config_type=None, include_noise=True):
        return np.full(parts.weights.shape, np.nan)

    monkeypatch.setattr(FittedErrors, "variance", lost)
    assert judged(gap, atoms, truth)["verdict"] == "energy_std is not finite"


@pytest.mark.parametrize("message", ["two\nlines", "x" * 601, ""])
def test_an_error_that_cannot_be_read_is_no_answer(model, monkeypatch, message):
    class Unreadable(DataError):
        def __str__(self):
            return message

    def predict(self, frames, uncertainty=False):
        raise error

    monkeypatch.setattr(gapkit.GAP, "predict", predict)
    (of, gap), error = model, Unreadable("")
    assert judged(gap, of.crystal(), None)["verdict"].startswith("refused in ")
    error = DataError("one line")
    assert judged(gap, of.crystal(), None)["verdict"] == "refused"


def test_a_process_that_ends_hangs_or_eats_memory_costs_one_number():
    def work(number):
        if number == 1:
            os._exit(3)
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 4:
            time.sleep(60)
        if number == 5:
            np.ones(10**9)
        if number == 6:
            raise ValueError("six")
        return {"verdict": "predicted", "number": number}

    found = {number: answer["verdict"] for number, answer, _ in isolated(work, range(8), seconds=2, memory=1e9)}
    assert found[1] == "ended by code 3"
    assert found[2] == "ended by signal 9"
    assert found[4] == "hung"
    assert found[5].startswith("MemoryError")
    assert found[6].startswith("ValueError: six at test_random_frames.py")
    assert [found[k] for k in (0, 3, 7)] == ["predicted"] * 3
