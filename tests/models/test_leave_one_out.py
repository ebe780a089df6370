"""Exact leave-one-frame-out: equal to a fold for each frame, and to its finite differences."""

import numpy as np
import pytest

from gapkit.models import leave_one_out
from gapkit.models.held_out import EnergyRows, HeldOutError
from gapkit.models.leave_one_out import KeptRows, LeaveOneOut
from gapkit.models.level_search import search_levels
from gapkit.models.levels import Levels
from gapkit.models.observations import Observations
from tests import systems

START = Levels({"energy": 0.05, "forces": 0.3, "virial": 0.5}, np.array([0.7, 0.4, 1.5]))
FREE = ("energy", "forces", "virial")


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(8)


def kept(model, made, columns=None):
    columns = np.arange(model.basis.n_columns) if columns is None else columns
    rows = KeptRows(columns, sum(len(o.y) for _, o in made))
    for n, o in made:
        rows.offer(o, model.basis.whiten(o.K), n, n)
    return rows


def left_out(model, made, free_noise=FREE, free_signal=(0, 1, 2)):
    folds = np.arange(1 + max(n for n, _ in made))
    triangles = systems.triangles_of(model.basis, made, folds)
    return LeaveOneOut(triangles, model.terms, START, free_noise, free_signal, rows=kept(model, made))


def fold_each(model, made):
    """The same by refits: a fold for each frame, and no identity."""
    folds = np.arange(1 + max(n for n, _ in made))
    mine = [(n, o) for n, o in made if o.group == "energy"]
    A = model.basis.whiten(np.vstack([o.K / o.scale for _, o in mine]))
    energies = EnergyRows(A, np.array([o.y[0] / o.scale for _, o in mine]), np.array([n for n, _ in mine]))
    triangles = systems.triangles_of(model.basis, made, folds)
    return HeldOutError(triangles, model.terms, START, FREE, (0, 1, 2), energies=energies if mine else None)


@pytest.mark.parametrize("seed", range(3))
def test_equals_refits_without_each_frame(model, seed):
    made = model.observations
    x = np.log([0.05, 0.3, 0.5, 0.7, 0.4, 1.5]) + np.random.default_rng(seed).normal(scale=0.7, size=6)
    value, gradient = left_out(model, made)(x)
    expected, slopes = fold_each(model, made)(x)
    assert value == pytest.approx(expected, abs=1e-8)
    np.testing.assert_allclose(gradient, slopes, atol=1e-7)
    assert np.abs(slopes).min() > 1e-5  # every level matters


@pytest.mark.parametrize("missing", ["energy", "forces", "virial"])
def test_gradient_equals_finite_differences_whatever_label_kind_is_missing(model, missing):
    made = [(n, o) for n, o in model.observations if o.group != missing]
    f = left_out(model, made, tuple(g for g in FREE if g != missing))
    x = f.start_point + np.random.default_rng(1).normal(scale=0.5, size=5)
    _, gradient = f(x)
    for k in range(5):
        step = 1e-5 * np.eye(5)[k]
        assert gradient[k] == pytest.approx((f(x + step)[0] - f(x - step)[0]) / 2e-5, rel=1e-5, abs=1e-7)
    assert np.abs(gradient).max() > 1e-3


def test_a_scratch_file_holds_the_same_rows(model, monkeypatch):
    made = model.observations
    in_memory = left_out(model, made)
    monkeypatch.setattr(leave_one_out, "IN_MEMORY", 0)
    spilled = left_out(model, made)
    assert isinstance(spilled.rows.rows, np.memmap) and not isinstance(in_memory.rows.rows, np.memmap)
    assert spilled(spilled.start_point)[0] == in_memory(in_memory.start_point)[0]


def test_fewer_columns_are_those_of_a_smaller_model(model):
    made, columns = model.observations, np.arange(0, model.basis.n_columns, 2)
    selected = kept(model, made).select(columns)
    for (A, y, parts), (B, z, others) in zip(selected, kept(model, made, columns), strict=True):
        np.testing.assert_array_equal(A, B)
        np.testing.assert_array_equal(y, z)
        assert parts == others


def test_isolated_atoms_are_never_left_out(model):
    made = model.observations
    rows = kept(model, made)
    before = sum(len(y) for _, y, _ in rows)
    alone = Observations("isolated_atom", made[0][1].K[:1], np.zeros(1), np.zeros((1, 3)), 1.0)
    rows.offer(alone, model.basis.whiten(alone.K), -1, 99)
    assert sum(len(y) for _, y, _ in rows) == before and 99 not in rows.frames


def test_search_lowers_it_and_survives_one_frame_and_duplicated_frames(model):
    made = model.observations
    lower = dict.fromkeys(FREE, 1e-4)
    f = left_out(model, made)
    assert search_levels(f, lower).objective < f(f.start_point)[0] - 0.01
    one = left_out(model, [(n, o) for n, o in made if n == 0])
    assert np.isfinite(search_levels(one, lower).objective)
    twice = left_out(model, [*made, *((n + len(model.frames), o) for n, o in made)])
    found = search_levels(twice, lower)
    assert np.isfinite(found.objective) and all(found.noise[g] >= lower[g] * (1 - 1e-9) for g in FREE)
