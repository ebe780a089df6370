"""Small frames and models that several files of tests share: copper by ASE's effective-medium theory (EMT)."""

from __future__ import annotations

import os

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import settings
from threadpoolctl import threadpool_limits

import gapkit

if "PYTEST_XDIST_WORKER" in os.environ:  # as many threads as cores in each of several workers wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    threadpool_limits(int(os.environ["OMP_NUM_THREADS"]))

# the first call of a kernel compiles it, and a test that passes today must pass tomorrow
settings.register_profile("gapkit", deadline=None, derandomize=True)
settings.load_profile("gapkit")


def label(atoms: Atoms) -> Atoms:
    """The frame with EMT's energy, forces and (periodic frames) stress as ASE results."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.any():
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def copper_frames(n: int, seed: int) -> list[Atoms]:
    """Strained and rattled cells of four or eight atoms, and every fourth a cluster of five."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        if k % 4 == 3:
            atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (2, 1, 1)
            atoms = Atoms("Cu5", positions=atoms.positions[[0, 1, 2, 3, 5]])
            atoms.info["config_type"] = "cluster"
        else:
            atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * ((1, 1, 1) if k % 2 else (2, 1, 1))
            strain = np.eye(3) + rng.uniform(-0.04, 0.04, size=(3, 3))
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            atoms.info["config_type"] = "bulk"
        atoms.positions += rng.normal(scale=0.12, size=atoms.positions.shape)
        frames.append(label(atoms))
    return frames


def small_gap(**changes) -> gapkit.GAP:
    """Pair and SOAP terms of 10 and 20 sparse points, three folds: fits in about a second."""
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=4.0), gapkit.SquaredExponential(0.7), n_sparse=10),
        gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(3), n_sparse=20),
    ]
    return gapkit.GAP(**{"terms": terms, "folds": 3, "random_state": 0, **changes})


@pytest.fixture(scope="session")
def train() -> list[Atoms]:
    """Twelve labelled frames; not to be changed by a test."""
    return copper_frames(12, seed=1)


@pytest.fixture(scope="session")
def held_out() -> list[Atoms]:
    """Six other labelled frames; not to be changed by a test."""
    return copper_frames(6, seed=2)


@pytest.fixture(scope="session")
def gap(train) -> gapkit.GAP:
    """A model of ``train``; not to be fitted or updated by a test."""
    return small_gap().fit(train)


@pytest.fixture(scope="session")
def model_file(gap, tmp_path_factory):
    """``gap`` on disk; not to be changed by a test."""
    path = tmp_path_factory.mktemp("model") / "cu.gapkit"
    gap.save(path)
    return path
