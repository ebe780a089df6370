"""The pair list with a skin: the pairs of a fresh search, found seldom."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from gapkit.structures.neighbours import neighbours
from gapkit.structures.verlet_list import VerletList
from tests.numerical import skewed_crystal, strained

R_CUT, SKIN = 4.0, 0.6


def same_pairs(mine, fresh):
    np.testing.assert_array_equal(mine.first, fresh.first)
    for pairs in (mine, fresh):
        assert np.all(np.diff(pairs.i) >= 0)
    a = np.lexsort((*np.round(mine.vectors, 6).T, mine.j, mine.i))
    b = np.lexsort((*np.round(fresh.vectors, 6).T, fresh.j, fresh.i))
    np.testing.assert_array_equal(mine.j[a], fresh.j[b])
    np.testing.assert_allclose(mine.vectors[a], fresh.vectors[b], atol=1e-12)
    np.testing.assert_allclose(mine.distances[a], fresh.distances[b], atol=1e-12)


def systems():
    rng = np.random.default_rng(3)
    return {
        "crystal": bulk("Si", cubic=True) * (2, 2, 1),
        "small skewed cell": skewed_crystal("SiOSi", rng),
        "slab": fcc111("Cu", (2, 2, 3), vacuum=6.0),
        "molecule": molecule("CH3CH2OH"),
        "molecule in a singular cell": Atoms("Ar3", positions=np.eye(3) * 3, cell=[[4, 0, 0], [4, 0, 0], [0, 0, 4]]),
        "one atom": Atoms("Ar"),
        "one periodic atom": bulk("Cu"),
    }


@pytest.mark.parametrize("name", systems())
def test_pairs_equal_those_of_a_fresh_search_along_a_walk(name):
    atoms = systems()[name]
    rng = np.random.default_rng(0)
    kept = VerletList(R_CUT, SKIN)
    for _ in range(40):
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        same_pairs(kept.pairs(atoms), neighbours(atoms, R_CUT))
    assert 1 <= kept.n_searches < 20


def test_pairs_stay_right_while_the_cell_breathes():
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.rattle(0.05, seed=0)
    kept = VerletList(R_CUT, SKIN)
    for step in np.linspace(0, 0.3, 31):
        moved = strained(strained(atoms, 0, -step), 4, 0.5 * step)
        same_pairs(kept.pairs(moved), neighbours(moved, R_CUT))
    assert 2 <= kept.n_searches < 16


def test_nothing_of_another_frame_stays():
    kept = VerletList(R_CUT, SKIN)
    first = bulk("Si", cubic=True)
    for other in (first, first.copy()[:7], bulk("Ge", cubic=True), Atoms(first, pbc=(True, True, False)), first):
        same_pairs(kept.pairs(other), neighbours(other, R_CUT))


def test_wrapped_atoms_are_found_again():
    atoms = bulk("Si", cubic=True)
    kept = VerletList(R_CUT, SKIN)
    kept.pairs(atoms)
    atoms.positions += 1.0
    same_pairs(kept.pairs(atoms), neighbours(atoms, R_CUT))
    atoms.wrap()
    same_pairs(kept.pairs(atoms), neighbours(atoms, R_CUT))


def test_a_search_happens_exactly_when_a_pair_might_have_come_in():
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [R_CUT + SKIN + 1e-6, 0, 0]])
    kept = VerletList(R_CUT, SKIN)
    assert len(kept.pairs(atoms).j) == 0
    atoms.positions[1, 0] -= 0.49 * SKIN  # alone it may move by half of the skin
    assert len(kept.pairs(atoms).j) == 0
    assert kept.n_searches == 1
    atoms.positions[1, 0] -= 0.52 * SKIN
    assert len(kept.pairs(atoms).j) == 2
    assert kept.n_searches == 2
    without = VerletList(R_CUT, 0.0)
    without.pairs(atoms)
    without.pairs(atoms)
    assert without.n_searches == 2


@pytest.mark.parametrize("spoil", ["cell", "positions"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_frame_that_is_not_finite_is_not_served(spoil, value):
    atoms = bulk("Si", cubic=True)
    kept = VerletList(R_CUT, SKIN)
    kept.pairs(atoms)
    assert kept.serves(atoms)
    getattr(atoms, spoil)[0, 0] = value
    assert not kept.serves(atoms)


def test_two_atoms_that_approach_each_other_use_the_skin_twice_as_fast():
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [R_CUT + SKIN + 1e-6, 0, 0]])
    kept = VerletList(R_CUT, SKIN)
    assert len(kept.pairs(atoms).j) == 0
    atoms.positions[:, 0] += [0.55 * SKIN, -0.55 * SKIN]
    assert len(neighbours(atoms, R_CUT).j) == 2
    assert len(kept.pairs(atoms).j) == 2
    assert kept.n_searches == 2
