"""Whoever waits for the compiler is told, once."""

import warnings
from types import SimpleNamespace

import pytest

import gapkit
from gapkit.exceptions import CompilationWarning
from gapkit.numerics import compilation, soap_frames
from tests.conftest import copper_frames, small_gap


def test_a_fit_that_must_compile_says_so_once(monkeypatch, tmp_path):
    monkeypatch.setattr(compilation, "_said", False)
    monkeypatch.setattr(compilation, "compiled_before", lambda: False)
    train = copper_frames(12, seed=0)
    with pytest.warns(CompilationWarning, match="half a minute") as caught:
        gap = small_gap().fit(train)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_gap().fit(train)
        gap.save(tmp_path / "m.gapkit")
        gapkit.load(tmp_path / "m.gapkit")


def test_kernels_that_were_compiled_are_found_on_disk(gap, monkeypatch, tmp_path):
    gap.predict(copper_frames(1, seed=0))
    assert compilation.compiled_before()
    elsewhere = SimpleNamespace(
        stats=SimpleNamespace(cache_path=str(tmp_path)), py_func=soap_frames.energies_and_pair_gradients.py_func
    )
    monkeypatch.setattr(soap_frames, "energies_and_pair_gradients", elsewhere)
    assert not compilation.compiled_before()
    (tmp_path / "soap_frames.energies_and_pair_gradients-1.py30.nbi").touch()  # of an older version of the kernel
    assert not compilation.compiled_before()
