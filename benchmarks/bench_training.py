"""Training rows, whitening and triangles of silicon, for pytest-benchmark; see ``bench_prediction.py``."""

from __future__ import annotations

import numpy as np
import pytest
from speed import model, silicon

from gapkit import SOAP
from gapkit.models.triangles import Triangles


@pytest.fixture(scope="module")
def basis():
    """Basis of 500 sparse points."""
    return model(500, 8, 6, 5.0, 4)[0]


def test_descriptors(benchmark):
    soap = SOAP(species=["Si"], n_jobs=1).fit([])
    x = benchmark(soap.transform, [silicon(512)])
    assert x.shape[0] == 512


def test_design_rows(benchmark, basis):
    structure = basis.structure(silicon(64))
    rows = benchmark(basis.rows, structure)
    assert np.isfinite(rows.K).all()


def test_whitened_rows_into_triangle(benchmark, basis):
    K = np.random.default_rng(0).normal(size=(2000, basis.n_columns))
    y, prior = np.ones(len(K)), np.ones((len(K), 1))

    def reduce():
        triangles = Triangles(basis.n_columns, 1)
        triangles.update(basis.whiten(K), y, prior, "forces", 0, 0.0)
        return triangles.items["forces", 0].reduce()

    assert np.isfinite(benchmark(reduce)).all()
