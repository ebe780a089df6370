"""Pair lists of frames of any size and cell, against the plain definition and ASE."""

import subprocess
import sys

import ase
import numpy as np
import pytest
from ase.build import bulk, fcc111
from ase.neighborlist import neighbor_list

from gapkit.exceptions import DataError
from gapkit.structures import neighbours as module
from gapkit.structures import occupied_bins
from gapkit.structures.neighbours import _bins, _search_large, neighbours
from tests.structures.pair_lists import both_ends_see_opposite_vectors, every_image, same_pairs


def are_all_pairs(pairs, atoms, r_cut):
    """Whether the list is the one of the plain definition."""
    expected = every_image(atoms, r_cut)
    assert len(pairs.i) == len(expected)
    if expected:
        same_pairs(pairs, *map(np.array, zip(*expected, strict=True)))
    both_ends_see_opposite_vectors(pairs)


@pytest.mark.parametrize("seed", range(60))
def test_both_ways_of_each_pair(seed, monkeypatch):
    """Small skewed cells with many images of one atom, any periodicity; cutoffs up to several cells."""
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * rng.uniform(1.5, 5) + 2 * np.eye(3)
    n, r_cut = int(rng.integers(1, 6)), float(rng.uniform(2, 7))
    atoms = ase.Atoms(f"Si{n}", scaled_positions=3 * rng.random((n, 3)) - 1, cell=cell, pbc=rng.random(3) < 0.7)
    are_all_pairs(neighbours(atoms, r_cut), atoms, r_cut)
    monkeypatch.setattr(occupied_bins, "ROOM", 1)
    are_all_pairs(_search_large(atoms, r_cut), atoms, r_cut)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("kept", ["all", "occupied"])
def test_bins_find_what_ase_finds(seed, n_threads, kept, monkeypatch):
    """Cells of three bins and more each way, skewed and left-handed ones too; atoms outside, on faces, and crowded."""
    rng = np.random.default_rng(seed)
    r_cut = float(rng.uniform(1.5, 3.0))
    cell = np.diag(rng.uniform(3.0, 6.0, size=3) * r_cut * [1, 1, rng.choice([-1, 1])])
    cell = cell + 0.15 * r_cut * rng.normal(size=(3, 3))
    n = 200
    scaled = rng.uniform(-1.5, 2.5, size=(n, 3))
    scaled[:20] = np.round(scaled[:20])
    scaled[20:120] = 0.5 + 0.05 * rng.normal(size=(100, 3))  # far denser than the average: no room at first
    atoms = ase.Atoms(f"Si{n}", scaled_positions=scaled, cell=cell, pbc=True)
    axes, periodic = occupied_bins.axes(atoms)
    bins = _bins(axes, r_cut)
    if bins.min() < 3:
        pytest.skip("the cell came out too thin")
    assert periodic == 3
    assert bins.prod() <= n  # so that the search asks for all bins
    monkeypatch.setattr(occupied_bins, "LEAST_PART", 10)
    if kept == "all":
        monkeypatch.setattr(occupied_bins, "search", None)
    else:
        monkeypatch.setattr(module, "_search_bins", None)
        monkeypatch.setattr(module, "_bins", lambda *_: np.zeros(3, dtype=int))
    same_pairs(neighbours(atoms, r_cut, n_threads), *neighbor_list("ijD", atoms, r_cut))


def clump(rng, n, width=6.0):
    """Positions (n, 3; A) of atoms in a cube, no two closer than 0.3 A."""
    positions = np.empty((0, 3))
    while len(positions) < n:
        new = rng.uniform(0, width, size=3)
        if not len(positions) or np.linalg.norm(positions - new, axis=1).min() > 0.3:
            positions = np.vstack([positions, new])
    return positions


@pytest.mark.parametrize("pbc", [(1, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1), (0, 0, 0)])
@pytest.mark.parametrize("wide", [50.0, 2000.0, 9e4])
@pytest.mark.parametrize("thin", [0.9, 5.0])
def test_sparse_cells_of_more_atoms_than_are_tried_one_by_one(pbc, wide, thin):
    """A few atoms together and a few far away, in cells far larger than they are in one, two or three directions."""
    rng = np.random.default_rng(int(wide + 10 * thin))
    n = module.SMALL + 6
    for cell in ([wide, wide, thin], [wide, thin, thin], [wide, wide, wide]):
        positions = clump(rng, n)
        positions[:3] += rng.uniform(-1, 1, size=(3, 3)) * np.minimum(cell, np.where(pbc, 1e5, 500.0))
        atoms = ase.Atoms(f"Si{n}", positions=positions, cell=cell, pbc=pbc)
        are_all_pairs(neighbours(atoms, 2.6), atoms, 2.6)


@pytest.mark.parametrize("wide", [2e3, 9e4])
def test_a_sparse_cell_costs_what_its_atoms_cost(wide):
    """Memory of the number of atoms, not of the volume: in a process of its own, with little room."""
    code = (
        "import resource\nimport ase, numpy as np\nfrom ase.build import bulk\n"
        "from gapkit.structures.neighbours import neighbours\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "atoms = bulk('Si', cubic=True) * (8, 8, 8)\n"
        f"atoms.set_cell([{wide}] * 3, scale_atoms=False)\n"
        "expected = len(neighbours(ase.Atoms(atoms.numbers, atoms.positions), 3.0).i)\n"
        "for pbc in ((1, 1, 1), (1, 1, 0), (1, 0, 0)):\n"
        "    atoms.pbc = pbc\n"
        "    assert len(neighbours(atoms, 3.0).i) == expected\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300).stderr == b""


@pytest.mark.parametrize("r_cut", [2.5, 5.5])
def test_large_skewed_open_and_thin_frames(r_cut):
    rng = np.random.default_rng(3)
    slab = fcc111("Al", (6, 6, 4), vacuum=12.0)
    skewed = bulk("Si") * (5, 5, 5)
    skewed.set_cell([[1, 0, 0], [3, 1, 0], [-2, 1, 1]] @ skewed.cell.array)
    wire = bulk("Cu", cubic=True) * (6, 2, 2)
    wire.pbc = (1, 0, 0)
    sheared = bulk("Cu", cubic=True) * (4, 4, 2)
    sheared.cell[1, 0] += 9.0
    sheared.pbc = (1, 1, 0)
    for atoms in (slab, skewed, wire, sheared):
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.positions += rng.integers(-2, 3, size=(len(atoms), 3)) * atoms.pbc @ atoms.cell.array
        pairs = neighbours(atoms, r_cut)
        same_pairs(pairs, *neighbor_list("ijD", atoms, r_cut))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_numbers_that_no_search_can_use_end_in_an_error(value, pbc):
    for array in ("positions", "cell"):
        atoms = bulk("Si", cubic=True) * (3, 3, 3)
        atoms.pbc = pbc
        getattr(atoms, array)[0, 1] = value
        if array == "cell" and not any(pbc):
            assert np.isfinite(neighbours(atoms, 3.0).distances).all()
            continue
        with pytest.raises(DataError, match="is not a finite number below 1e\\+09 A; repair the frame"):
            neighbours(atoms, 3.0)


@pytest.mark.parametrize("pbc", [(1, 1, 0), (1, 1, 1)])
def test_cells_without_a_volume_and_cells_too_thin_are_refused(pbc):
    atoms = bulk("Si", cubic=True) * (3, 3, 3)
    atoms.pbc = pbc
    atoms.cell[1] = 2 * atoms.cell[0]
    with pytest.raises(DataError, match=r"lie in one plane or line|too thin|so thin"):
        neighbours(atoms, 3.0)
    atoms.cell[1] = [0, 1e-7, 0]
    with pytest.raises(DataError, match="so thin .* repair the cell"):
        neighbours(atoms, 3.0)
