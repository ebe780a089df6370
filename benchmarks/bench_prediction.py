"""Energy, forces and virials of silicon, for pytest-benchmark: regressions show against a saved run.

    pytest benchmarks/bench_*.py --benchmark-save=before
    pytest benchmarks/bench_*.py --benchmark-compare=before

Not part of the test suite: times are no right or wrong.
"""

from __future__ import annotations

import numpy as np
import pytest
from speed import model, silicon

from gapkit.descriptors.base import Sums
from gapkit.structures.structure import Structure


@pytest.fixture(scope="module", params=[4, 2], ids=["zeta 4", "zeta 2"])
def potential(request):
    """Basis and predictors of 500 sparse points."""
    basis, alpha = model(500, 8, 6, 5.0, request.param)
    return basis, basis.predictors(alpha)


@pytest.mark.parametrize("n_atoms", [8, 512])
def test_energy_forces_virial(benchmark, potential, n_atoms):
    basis, predictors = potential
    atoms = silicon(n_atoms)
    n = len(atoms)

    def evaluate():
        structure = basis.structure(atoms)
        sums = Sums.zeros(n)
        for descriptor, channel, predictor in predictors:
            descriptor.add_prediction(structure, channel, predictor, sums)
        return sums

    sums = benchmark(evaluate)
    assert np.isfinite(sums.local).all() and np.abs(sums.gradient).max() > 0


def test_pair_list(benchmark):
    atoms = silicon(512)
    structure = benchmark(Structure, atoms, 5.0)
    assert structure.n_atoms == 512
