"""Models of several kinds that tests of predictions share: copper and silver by ASE's effective-medium theory (EMT)."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

import gapkit
from gapkit.potential.potential import Potential
from tests.conftest import label

NOISE = {"energy": 0.005, "forces": 0.05, "virial": 0.05}


def alloys(n: int, seed: int) -> list[Atoms]:
    """Rattled and strained cells of four or eight atoms, and every third a cluster; both species in each."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True, a=3.8) * ((1, 1, 1) if k % 2 else (1, 1, 2))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.03, size=(3, 3))), scale_atoms=True)
        if k % 3 == 2:
            atoms = Atoms(atoms[: int(rng.integers(3, 6))], pbc=False, cell=np.zeros((3, 3)))
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.symbols[rng.random(len(atoms)) < 0.4] = "Ag"
        atoms.symbols[0] = "Ag"
        atoms.info["config_type"] = "crystal" if atoms.pbc.any() else "cluster"
        frames.append(label(atoms))
    return frames


def many_terms() -> list[gapkit.Term]:
    """Pairs, triplets, SOAP of powers one, two and four, and another SOAP on projected directions."""
    soap, coarse = gapkit.SOAP(r_cut=4.2, n_max=4, l_max=3), gapkit.SOAP(r_cut=3.6, n_max=4, l_max=2)
    return [
        gapkit.Term(gapkit.PairDistance(4.5), gapkit.SquaredExponential(0.6), 10, signal=0.3),
        gapkit.Term(gapkit.Triplet(3.3, 0.6), gapkit.SquaredExponential((0.8, 1.0, 0.8)), 20, signal=0.1),
        gapkit.Term(soap, gapkit.DotProduct(1), 20, signal=0.5),
        gapkit.Term(soap, gapkit.DotProduct(2), 20, signal=0.5),
        gapkit.Term(soap, gapkit.DotProduct(4), 20, signal=0.5),
        gapkit.Term(coarse, gapkit.DotProduct(3), 20, signal=0.2, projection=12),
    ]


def fitted(terms: list[gapkit.Term], frames: list[Atoms], **changes) -> Potential:
    """The potential of a quick fit: no level is searched for."""
    fixed = {
        "e0": {"Cu": 3.5, "Ag": 3.0, "H": 3.2, "C": 3.5, "O": 4.6},
        "noise_levels": NOISE,
        "folds": 3,
        "exact": False,
    }
    return gapkit.GAP(**{"terms": terms, "random_state": 0, **fixed, **changes}).fit(frames).potential_


@pytest.fixture(scope="session")
def potentials() -> dict[str, Potential]:
    """Potentials by name; not to be changed by a test."""
    frames = alloys(18, seed=1)
    soap = gapkit.SOAP(r_cut=4.2, n_max=4, l_max=3)
    pair = gapkit.Term(gapkit.PairDistance(4.2), gapkit.SquaredExponential(0.6), 10, signal=0.3)
    rng = np.random.default_rng(3)
    molecules = [molecule("CH3OH") for _ in range(12)]
    for atoms in molecules:
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
    squared = gapkit.Term(soap, gapkit.SquaredExponential(0.5), 20, signal=0.5)
    exact = [gapkit.Term(gapkit.SOAP(r_cut=3.5, n_max=4, l_max=3), gapkit.DotProduct(2), 15, signal=5.0)]
    return {
        "many terms": fitted(many_terms(), frames, baseline="zbl"),
        "plain": fitted([pair, gapkit.Term(soap, gapkit.DotProduct(3), 40, signal=0.5)], frames),
        "squared exponential": fitted([pair, squared], frames),
        "exact mean": fitted(exact, [label(atoms) for atoms in molecules], exact=True),
    }
