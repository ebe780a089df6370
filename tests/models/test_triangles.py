"""Streaming QR: what the triangles keep is what the rows hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapkit.exceptions import NumericsError
from gapkit.models.triangles import Triangles, fold_in, is_triangle


def streamed(A, y, cuts, fold=0, group="forces"):
    t = Triangles(A.shape[1], 1)
    for part in np.split(np.arange(len(y)), cuts):
        if len(part):
            t.update(A[part], y[part], np.ones((len(part), 1)), group, fold, log_scale=0.5)
    return t


def gram(t, key=("forces", 0)):
    R = t.items[key].reduce()
    return R.T @ R


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 80), cuts=st.lists(st.integers(0, 80), max_size=5))
def test_gram_matrix_is_that_of_all_rows(seed, n, cuts):
    rng = np.random.default_rng(seed)
    A, y = rng.normal(size=(n, 6)), rng.normal(size=n)
    both = np.column_stack([A, y])
    t = streamed(A, y, sorted(min(c, n) for c in cuts))
    np.testing.assert_allclose(gram(t), both.T @ both, atol=1e-11)
    item = t.items["forces", 0]
    assert item.n_rows == n
    assert item.prior == pytest.approx([n])
    assert len(item.R) <= max(7, min(n, 7))


def test_memory_does_not_grow_with_rows():
    rng = np.random.default_rng(0)
    t = Triangles(8, 1)
    for _ in range(200):
        t.update(rng.normal(size=(5, 8)), rng.normal(size=5), np.ones((5, 1)), "forces", 0)
        item = t.items["forces", 0]
        assert item.n_waiting <= 2 * 9 + 5
        assert len(item.R) <= 9


def test_merge_equals_all_rows_in_one():
    rng = np.random.default_rng(1)
    A, y = rng.normal(size=(50, 6)), rng.normal(size=50)
    first, second = streamed(A[:20], y[:20], []), streamed(A[20:], y[20:], [10])
    second.update(A[:3], y[:3], np.ones((3, 1)), "energy", 1)
    merged = first.merge(second)
    np.testing.assert_allclose(gram(merged), gram(streamed(A, y, [])), atol=1e-11)
    assert merged.count("forces") == 50
    assert merged.groups == ("energy", "forces")
    assert merged.folds == (0, 1)
    assert first.count("forces") == 20  # untouched


def test_selecting_columns_equals_a_smaller_model():
    rng = np.random.default_rng(2)
    A, y = rng.normal(size=(40, 6)), rng.normal(size=40)
    columns = np.array([0, 2, 5])
    np.testing.assert_allclose(
        gram(streamed(A, y, [7]).select(columns)), gram(streamed(A[:, columns], y, [])), atol=1e-12
    )


def test_rows_that_are_not_finite_are_refused():
    t = Triangles(2, 1)
    with pytest.raises(NumericsError, match="forces"):
        t.update(np.array([[1.0, np.nan]]), np.zeros(1), np.ones((1, 1)), "forces", 0)


@pytest.mark.parametrize("value", [1e150, -1e150])
def test_numbers_whose_squares_overflow_are_refused(value):
    triangles = Triangles(2, 1)
    rows = np.ones((3, 2))
    with pytest.raises(NumericsError, match="remove the frame"):
        triangles.update(rows, np.array([1.0, value, 1.0]), np.ones((3, 1)), "energy", 0)


@pytest.mark.parametrize("triangular", [False, True])
@pytest.mark.parametrize("n", [0, 3, 7, 20])
def test_rows_folded_into_a_triangle_equal_one_decomposition(n, triangular):
    rng = np.random.default_rng(n)
    k = 7
    triangle, rows = np.triu(rng.normal(size=(k, k))), rng.normal(size=(n, k))
    if triangular:
        rows = np.triu(rows)
    expected = triangle.T @ triangle + rows.T @ rows
    R = fold_in(triangle.copy(), rows.copy(), triangular)
    np.testing.assert_allclose(R.T @ R, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(np.tril(R, -1), 0.0)
    assert is_triangle(R)


def test_as_many_rows_as_columns_are_decomposed_before_more_come():
    """A square that is no triangle must not be taken for one."""
    rng = np.random.default_rng(4)
    A, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    triangles = Triangles(4, 1)
    for part in (slice(0, 5), slice(5, 30)):
        triangles.update(A[part], y[part], np.zeros((len(y[part]), 1)), "energy", 0)
        triangles.items["energy", 0].reduce()
    both = np.column_stack([A, y])
    R = triangles.items["energy", 0].R
    np.testing.assert_allclose(R.T @ R, both.T @ both, rtol=1e-12, atol=1e-12)


def test_merged_triangles_keep_the_sum_of_log_scales():
    rng = np.random.default_rng(0)
    parts = []
    for scale in (0.5, 1.25):
        t = Triangles(3, 1)
        t.update(rng.normal(size=(5, 3)), rng.normal(size=5), np.ones((5, 1)), "energy", 0, log_scale=scale)
        parts.append(t)
    assert parts[0].merge(parts[1]).items["energy", 0].log_scale == pytest.approx(1.75)
