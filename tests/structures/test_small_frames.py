"""Pairs of small frames by trying every image: against a search in NumPy and ASE; and which frames are plain."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from gapkit.exceptions import DataError, SpeciesError
from gapkit.potential.checked_structures import CheckedStructures
from gapkit.structures import neighbours as module
from gapkit.structures import small_frames
from gapkit.structures.neighbours import FrameArrays, neighbours, neighbours_of_frames
from gapkit.structures.plausibility import check_extent
from tests.structures.pair_lists import both_ends_see_opposite_vectors, every_image, same_pairs

SILICON = np.zeros(119, dtype=bool)
SILICON[14] = True


def small_pairs(atoms, r_cut):
    """The pairs, found by no other search."""
    pairs, found = module._small_pairs(FrameArrays.of([atoms]), r_cut)
    assert found.tolist() == [True]
    return pairs


def random_frame(seed):
    """One to four atoms, some outside the cell, in cells that may be tiny, thin, skewed or left-handed."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(1.6, 6.0, size=3)) + rng.normal(scale=0.4, size=(3, 3))
    shape = seed % 5
    if shape == 1:  # skewed: the second vector goes along the first several times
        cell[1] += int(rng.integers(-6, 7)) * cell[0]
        cell[2] += int(rng.integers(-3, 4)) * cell[1]
    if shape == 2:  # thin
        cell[int(rng.integers(3))] *= 0.4
    if shape == 3:
        cell = cell[[1, 0, 2]]
    n = int(rng.integers(1, 5))
    pbc = np.array([bool(seed & 1), bool(seed & 2), bool(seed & 4)])
    scaled = rng.uniform(-2, 3, size=(n, 3)) if shape != 4 else rng.random((n, 3))
    return Atoms(f"Si{n}", positions=scaled @ cell, cell=cell, pbc=pbc), float(rng.uniform(1.5, 5.5))


@pytest.mark.parametrize("seed", range(80))
def test_every_image_is_found_once(seed):
    """0 to 3 periodic directions, in each of which vectors that are not periodic are there all the same."""
    atoms, r_cut = random_frame(seed)
    pairs = small_pairs(atoms, r_cut)
    same_pairs(pairs, *map(np.array, zip(*every_image(atoms, r_cut), strict=True))) if len(pairs.i) else None
    assert len(pairs.i) == len(every_image(atoms, r_cut))
    both_ends_see_opposite_vectors(pairs)


@pytest.mark.parametrize("seed", range(0, 80, 3))
def test_ase_and_the_search_for_large_frames_find_the_same(seed):
    atoms, r_cut = random_frame(seed)
    pairs = small_pairs(atoms, r_cut)
    i, j, vectors, _ = neighbor_list("ijDd", atoms, r_cut)
    same_pairs(pairs, i, j, vectors)
    large = module._search_large(atoms, r_cut)
    same_pairs(pairs, large.i, large.j, large.vectors)


@given(st.integers(0, 2**32), st.floats(0.6, 7.0), st.floats(-8, 8), st.floats(0.6, 3.0))
def test_any_cell_shape(seed, r_cut, shear, height):
    rng = np.random.default_rng(seed)
    cell = np.array([[height, 0, 0], [shear, 2.0, 0], [shear, -shear, 2.5]]) @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    n = int(rng.integers(1, 3))
    positions = rng.uniform(-20, 20, size=(n, 3))
    atoms = Atoms(f"Si{n}", positions=positions, cell=cell, pbc=rng.random(3) < 0.7)
    pairs, found = module._small_pairs(FrameArrays.of([atoms]), r_cut)
    if not found[0]:
        return
    expected = [(i, j, v) for i, j, v in every_image(atoms, r_cut + 1e-6) if not abs(np.linalg.norm(v) - r_cut) < 1e-7]
    inside = [p for p in expected if np.linalg.norm(p[2]) < r_cut]
    clear = np.abs(pairs.distances - r_cut) > 1e-7  # what is on the cutoff may be in or out
    assert Counter(zip(pairs.i[clear].tolist(), pairs.j[clear].tolist(), strict=True)) == Counter(
        (i, j) for i, j, _ in inside
    )
    assert np.isclose(pairs.distances[clear].sum(), sum(np.linalg.norm(v) for _, _, v in inside))
    both_ends_see_opposite_vectors(pairs)


def test_exact_numbers_of_a_lattice():
    """Simple cubic shells: 6, 12, 8 and 6 neighbours within 2.01 lattice constants."""
    pairs = small_pairs(Atoms("Po", cell=np.eye(3), pbc=True), 2.01)
    distances, counts = np.unique(pairs.distances.round(6), return_counts=True)
    np.testing.assert_allclose(distances, np.sqrt([1, 2, 3, 4]), atol=1e-6)
    assert counts.tolist() == [6, 12, 8, 6]


def test_frames_of_one_call_do_not_meet_and_are_those_of_single_calls():
    frames = [random_frame(seed)[0] for seed in range(40)] + [molecule("CH3CH2OH"), Atoms("Si")]
    together = neighbours_of_frames(FrameArrays.of(frames), 4.0)
    begin = np.cumsum([0, *map(len, frames)])
    assert together.n_atoms == begin[-1]
    for k, atoms in enumerate(frames):
        alone = neighbours(atoms, 4.0)
        own = slice(together.first[begin[k]], together.first[begin[k + 1]])
        np.testing.assert_array_equal(together.i[own] - begin[k], alone.i)
        np.testing.assert_array_equal(together.j[own] - begin[k], alone.j)
        np.testing.assert_array_equal(together.vectors[own], alone.vectors)
        np.testing.assert_array_equal(together.distances[own], alone.distances)


def test_a_crowd_gets_more_room():
    """2,056 neighbours of each atom, where room is made for 64 at first."""
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0.4, 0.4, 0.4]], cell=np.eye(3), pbc=True)
    pairs = small_pairs(atoms, 6.24)
    assert len(pairs.i) > 2 * 4 * module.ROOM * 4
    same_pairs(pairs, *neighbor_list("ijD", atoms, 6.24))


def large_and_small_frames():
    rng = np.random.default_rng(0)
    thin = Atoms("Si3", rng.normal(size=(3, 3)), cell=[[0.5, 0, 0], [0.1, 0.5, 0], [0, 0.2, 0.5]], pbc=True)
    crystal = bulk("Si", cubic=True) * (3, 3, 3)
    crystal.positions += rng.normal(scale=0.1, size=crystal.positions.shape)
    cluster = Atoms("Si300", positions=rng.uniform(0, 18, size=(300, 3)))
    return [molecule("SiH4"), thin, cluster, bulk("Si"), crystal, fcc111("Al", (2, 2, 2), vacuum=5.0)]


def test_frames_that_need_too_many_trials_are_left_to_the_other_searches():
    frames = large_and_small_frames()
    r_cut = 5.0
    _, found = module._small_pairs(FrameArrays.of(frames), r_cut)
    assert found.tolist() == [True, False, False, True, False, True]
    together = neighbours_of_frames(FrameArrays.of(frames), r_cut)
    lists = [neighbor_list("ijD", atoms, r_cut) for atoms in frames]
    begin = np.cumsum([0, *map(len, frames)])
    i, j = (np.concatenate([one[k] + b for one, b in zip(lists, begin[:-1], strict=True)]) for k in (0, 1))
    same_pairs(together, i, j, np.vstack([one[2] for one in lists]))


def test_the_search_for_small_frames_is_not_asked_about_a_large_one_alone(monkeypatch):
    atoms = bulk("Si", cubic=True) * (2, 2, 3)
    assert len(atoms) > module.SMALL
    expected = neighbor_list("ijD", atoms, 3.0)
    monkeypatch.setattr(module, "_small_pairs", None)
    same_pairs(neighbours(atoms, 3.0), *expected)
    same_pairs(neighbours_of_frames(FrameArrays.of([atoms]), 3.0), *expected)


# -- frames that cannot be searched ----------------------------------------------------------------------------


@pytest.mark.parametrize("pbc", [(False, False, False), (True, True, True), (False, True, False), (True, True, False)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("where", ["positions", "cell"])
def test_what_is_not_finite_ends_in_an_error_with_the_name_of_the_frame(where, value, pbc):
    sound = bulk("Si", cubic=True)
    spoilt = Atoms(sound, pbc=pbc)
    array = spoilt.positions if where == "positions" else spoilt.cell.array
    array[1, 1] = value
    with pytest.raises(DataError, match=r"^second: .*(not finite|from the origin|longer than)"):
        CheckedStructures([14], 4.0).of_frames(FrameArrays.of([sound, spoilt, sound]), ["first", "second", "third"])


@pytest.mark.parametrize(
    ("where", "value"), [("positions", np.nan), ("positions", 1e300), ("cell", np.nan), ("cell", np.inf)]
)
def test_the_search_leaves_out_what_is_not_finite_and_finds_the_rest(where, value):
    frames = [bulk("Si"), bulk("Si", cubic=True), bulk("Si")]
    getattr(frames[1], where)[0, 0] = value
    pairs, found = module._small_pairs(FrameArrays.of(frames), 4.0)
    assert found.tolist() == [True, False, True]
    alone = neighbours(frames[0], 4.0)
    assert np.diff(pairs.first).tolist() == [*np.diff(alone.first), *[0] * 8, *np.diff(alone.first)]
    np.testing.assert_array_equal(pairs.vectors, np.vstack([alone.vectors, alone.vectors]))


@pytest.mark.parametrize("pbc", [(True, False, False), (True, True, False), (True, True, True)])
@pytest.mark.parametrize("cell", [np.zeros((3, 3)), [[3.0, 0, 0], [3.0, 0, 0], [6.0, 0, 0]]])
def test_a_singular_cell_is_refused(cell, pbc):
    atoms = Atoms("Si", cell=cell, pbc=pbc)
    if pbc == (True, False, False) and np.any(cell):
        same_pairs(small_pairs(atoms, 4.0), [0, 0], [0, 0], [[3.0, 0, 0], [-3.0, 0, 0]])
    with pytest.raises(DataError, match="frame 0"):
        CheckedStructures([14], 4.0).of_frames(FrameArrays.of([atoms]), ["frame 0"])


def test_contacts_and_unknown_species_name_the_frame_and_its_own_atom():
    sound = bulk("Si", cubic=True)
    twice = sound + Atoms("Si", positions=[sound.positions[3] + [1e-5, 0, 0]])
    checked = CheckedStructures([14], 4.0)
    with pytest.raises(DataError, match=r"^b: atoms (3 and 8|8 and 3) are"):
        checked.of_frames(FrameArrays.of([sound, twice, sound]), "abc")
    other = sound.copy()
    other.symbols[5] = "Ge"
    with pytest.raises(SpeciesError, match=r"^c: atom 5 is Ge"):
        checked.of_frames(FrameArrays.of([sound, sound, other]), "abc")


# -- plain frames ----------------------------------------------------------------------------------------------


def plain(atoms, known=SILICON):
    frames = FrameArrays.of([atoms])
    out = np.empty(1, dtype=bool)
    small_frames.plain_frames(frames.positions, frames.numbers, known, frames.begin, frames.cells, frames.pbc, out)
    return bool(out[0])


def test_usual_frames_are_plain():
    slab = fcc111("Al", (2, 2, 3), vacuum=6.0)
    aluminium = np.arange(119) == 13
    assert plain(bulk("Si")) and plain(bulk("Si", cubic=True) * (3, 3, 3))
    assert plain(slab, aluminium) and plain(Atoms("Si"))
    assert plain(Atoms("Si2", positions=[[0, 0, 0], [2, 0, 0]], cell=[4, 0, 0], pbc=(True, False, False)))
    assert not plain(slab) and not plain(Atoms())


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("Si5", [[0, -499, -499], *[[0, 499, 499 - 3 * k] for k in range(4)]], cell=[5, 0, 0], pbc=(1, 0, 0)),
        Atoms("Si", cell=[[9e4, 9e4, 0], [0, 3, 0], [0, 0, 3]], pbc=True),
        Atoms("Si", cell=[[5, 0, 0], [0, 5, 0], [5, 0, 1e-4]], pbc=(True, True, False)),
        Atoms("Si", cell=[[5, 0, 0], [10, 0, 0], [0, 0, 5]], pbc=(True, False, False)),
        Atoms("Si", cell=[[5, 0, 0], [0, 1e-7, 0], [0, 0, 5]], pbc=(True, False, True)),
        Atoms("Si", cell=[0.4, 5, 5], pbc=True),
        Atoms("Si64", positions=np.arange(192.0).reshape(64, 3) % 1.7, cell=[1.8, 1.8, 1.8], pbc=True),
    ],
    ids=["wide", "long diagonal", "flat", "parallel", "short open vector", "short", "dense"],
)
def test_no_frame_is_plain_that_the_closer_look_refuses(atoms):
    with pytest.raises(DataError):
        check_extent(atoms, "frame")
    assert not plain(atoms)


lengths = st.one_of(st.just(0.0), st.floats(-8, 8), st.floats(-300, 300), st.floats(-2e5, 2e5), st.floats(-1e-3, 1e-3))
rare = st.sampled_from([np.nan, np.inf, -np.inf, 1e200, 1e6])
vectors = st.lists(st.lists(st.one_of(*[lengths] * 9, rare), min_size=3, max_size=3), min_size=3, max_size=3)


@given(
    vectors,
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.lists(lengths, min_size=3, max_size=3), min_size=1, max_size=6),
    st.one_of(st.just(14), st.sampled_from([0, -1, 118, 119, 500, 32])),
)
def test_plain_is_no_frame_that_the_closer_look_refuses(cell, pbc, positions, number):
    numbers = [14] * (len(positions) - 1) + [number]
    atoms = Atoms(numbers=numbers, positions=positions, pbc=pbc)
    atoms.cell.array[:] = cell
    if plain(atoms):
        check_extent(atoms, "frame")
        assert number == 14


def near_the_limits(seed):
    """Thin, flat, dense, long or wide frames, in turn; vectors that are not periodic are there too."""
    rng = np.random.default_rng(seed)
    kind = seed % 4
    cell = np.diag(rng.uniform(0.3, 2.0, size=3) if kind < 2 else rng.uniform(2, 6, size=3))
    cell[1] += rng.uniform(-2, 2) * cell[0]
    cell[2] += rng.uniform(-1, 1) * cell[1]
    if kind == 1:  # nearly, or wholly, a combination of the others
        cell[int(rng.integers(3))] = rng.integers(-2, 3, size=3) @ cell + rng.choice([0, 1e-9, 1e-4, 0.1]) * rng.random(
            3
        )
    if kind == 2:
        cell[int(rng.integers(3))] = rng.uniform(2e4, 1.2e5) * rng.choice([-1, 1, 1, 0], size=3)
    n = int(rng.integers(1, 9))
    positions = rng.normal(size=(n, 3))
    if kind == 3:  # one atom at one corner of a box, the others at the opposite one
        positions += rng.uniform(100, 600) * np.where(np.arange(n)[:, None] > 0, 1, -1)
    return Atoms(f"Si{n}", positions=positions, cell=cell, pbc=rng.random(3) < 0.6)


@given(st.integers(0, 2**32))
def test_a_plain_cell_near_the_limits_passes_the_closer_look(seed):
    for k in range(20):
        atoms = near_the_limits(seed + k)
        if plain(atoms):
            check_extent(atoms, "frame")


def test_near_the_limits_some_frames_are_plain():
    assert 0.1 < np.mean([plain(near_the_limits(seed)) for seed in range(1000)]) < 0.6


# -- arrays of any kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read-only", "Fortran order", "strided", "other types"])
def test_arrays_of_any_layout_serve(kind):
    usual = bulk("Si", cubic=True)
    usual.positions += 0.1 * np.random.default_rng(0).normal(size=(8, 3))
    atoms = usual.copy()
    positions, numbers = usual.positions, usual.numbers
    if kind == "Fortran order":
        positions = np.asfortranarray(positions)
    elif kind == "strided":
        positions, numbers = np.repeat(positions, 2, axis=0)[::2], np.repeat(numbers, 2)[::2]
    elif kind == "other types":
        positions, numbers = positions.astype(">f8"), numbers.astype(np.int16)
    atoms.arrays["positions"], atoms.arrays["numbers"] = positions, numbers
    if kind == "read-only":
        for array in (atoms.arrays["positions"], atoms.arrays["numbers"], atoms.cell.array, atoms.pbc):
            array.setflags(write=False)
    checked = CheckedStructures([14], 4.0)
    for frames in ([atoms], [atoms, usual]):
        found = checked.of_frames(FrameArrays.of(frames), ["a", "b"][: len(frames)]).pairs(4.0)
        expected = checked.of_frames(FrameArrays.of([usual] * len(frames)), ["a", "b"][: len(frames)]).pairs(4.0)
        np.testing.assert_array_equal(found.j, expected.j)
        np.testing.assert_array_equal(found.vectors, expected.vectors)
    atoms.arrays["positions"] = np.where(np.eye(8, 3), np.nan, usual.positions)
    with pytest.raises(DataError, match="not finite"):
        checked.of_frames(FrameArrays.of([atoms]), ["a"])
