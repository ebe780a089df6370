"""Read-only arrays, such as joblib's memory maps, compile no kernel anew and change no number."""

import gc
from typing import NamedTuple

import joblib
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import gapkit
from gapkit.numerics.writeable import for_kernels, writeable
from gapkit.structures.structure import Structure
from tests.conftest import copper_frames, small_gap


def compiled():
    """Every kernel of gapkit with each signature that it was compiled for."""
    kernels = [k for k in gc.get_objects() if isinstance(k, Dispatcher) and k.py_func.__module__.startswith("gapkit")]
    return {(k.py_func.__module__, k.py_func.__name__, str(s)) for k in kernels for s in k.signatures}


def read_only(frames):
    """Copies whose arrays cannot be written to."""
    copies = [a.copy() for a in frames]
    for copy, atoms in zip(copies, frames, strict=True):
        copy.calc = atoms.calc
        copy.pbc.flags.writeable = copy.cell.array.flags.writeable = False
        for array in copy.arrays.values():
            array.flags.writeable = False
    return copies


def use(gap, frames):
    """Predictions of all kinds, alone and together, and by a calculator whose atoms move."""
    found = [p.energy for p in (gap.predict(frames, uncertainty=True), *(gap.predict([a]) for a in frames))]
    for atoms in frames:
        moving = atoms.copy()
        moving.calc = gap.calculator(uncertainty="local")
        found.append(moving.get_forces())
        moving.positions = moving.positions + 0.01
        found.append(moving.get_forces())
    return np.concatenate([np.ravel(f) for f in found])


@pytest.fixture(scope="module")
def frames():
    """Clusters, small cells, and a cell that is searched by bins."""
    small = copper_frames(5, seed=2)
    return [*small, small[0] * (2, 4, 4), small[1] * (3, 3, 3)]


@pytest.mark.parametrize("terms", ["small", "auto"])
def test_a_model_in_read_only_memory_compiles_nothing(train, frames, tmp_path, terms):
    gap = (small_gap() if terms == "small" else gapkit.GAP(folds=3)).fit(train)
    expected = use(gap, frames)
    joblib.dump(gap, tmp_path / "gap.joblib")
    before = compiled()
    loaded = joblib.load(tmp_path / "gap.joblib", mmap_mode="r")
    np.testing.assert_array_equal(use(loaded, frames), expected)
    loaded.update(copper_frames(2, seed=9))
    assert compiled() == before


def test_the_memory_of_the_posterior_stays_shared(gap, tmp_path):
    joblib.dump(gap, tmp_path / "gap.joblib")
    potential = joblib.load(tmp_path / "gap.joblib", mmap_mode="r").potential_
    assert isinstance(potential.posterior.R, np.memmap)
    assert type(potential.basis.blocks[0].points) is np.ndarray


def test_read_only_frames_compile_nothing(gap, train, frames):
    expected = use(gap, frames)
    gap.calculator().get_potential_energy(frames[0])
    before = compiled()
    np.testing.assert_array_equal(use(gap, read_only(frames)), expected)
    fitted = small_gap().fit(read_only(train))
    assert compiled() == before
    assert np.array_equal(fitted.potential_.alpha, gap.potential_.alpha)


def test_a_calculator_in_read_only_memory_keeps_its_pair_list(gap, frames, tmp_path):
    calculator, moving = gap.calculator(), frames[1].copy()
    moving.calc = calculator
    moving.get_forces()
    joblib.dump(calculator, tmp_path / "calculator.joblib")
    before = compiled()
    moving.calc = joblib.load(tmp_path / "calculator.joblib", mmap_mode="r")
    moving.positions += 0.001
    moving.get_forces()
    assert compiled() == before
    assert moving.calc._pairs.n_searches == calculator._pairs.n_searches == 1


class Pair(NamedTuple):
    one: np.ndarray
    two: int


def test_only_read_only_arrays_are_copied():
    frozen, free = np.arange(3.0), np.arange(3.0)
    frozen.flags.writeable = False
    structure = Structure.__new__(Structure)
    structure.numbers, structure.itself, structure.kept = frozen, structure, "text"
    value = {"list": [frozen, free], "tuple": (1, frozen), "named": Pair(frozen, 2), "same": (free,), "own": structure}
    same = value["same"]
    made = writeable(value)
    copy = made["list"][0]
    assert copy.flags.writeable
    assert np.array_equal(copy, frozen)
    assert made["list"][1] is free
    assert made["same"] is same
    assert made["tuple"][1] is made["named"].one is structure.numbers is copy
    assert isinstance(made["named"], Pair)
    assert structure.itself is structure


def test_arrays_for_kernels_are_contiguous_and_of_their_type():
    for array in (np.zeros((3, 3), order="F"), np.zeros((6, 3))[::2], np.zeros((3, 3), dtype=np.float32), [[1, 2]]):
        made = for_kernels(array, np.float64)
        assert made.flags.c_contiguous
        assert made.flags.writeable
        assert made.dtype == np.float64
