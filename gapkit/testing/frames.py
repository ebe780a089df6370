"""Small frames that checks are made on: isolated, partly periodic, skewed, smaller than the cutoff."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii

from gapkit.structures.neighbours import Neighbours, neighbours
from gapkit.structures.structure import Structure


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A proper rotation matrix."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q if np.linalg.det(q) > 0 else -q


def random_cluster(symbols: str, rng: np.random.Generator, spacing: float = 1.3, box: float = 4.0) -> ase.Atoms:
    """Atoms in a box with no two closer than ``spacing`` (A), not periodic."""
    n = len(ase.Atoms(symbols))
    positions: list[np.ndarray] = []
    while len(positions) < n:
        p = rng.uniform(0, box, size=3)
        if all(np.linalg.norm(p - q) > spacing for q in positions):
            positions.append(p)
    return ase.Atoms(symbols, positions=positions)


def skewed_crystal(symbols: str, rng: np.random.Generator) -> ase.Atoms:
    """A small triclinic periodic cell, much smaller than usual cutoffs."""
    cell = np.array([[3.1, 0.2, 0.1], [0.9, 3.4, -0.3], [-0.5, 0.7, 3.8]])
    n = len(ase.Atoms(symbols))
    fractional = np.array([[0.02, 0.01, 0.05], [0.48, 0.52, 0.44], [0.1, 0.6, 0.8], [0.7, 0.15, 0.6]])[:n]
    return ase.Atoms(symbols, positions=(fractional + rng.uniform(-0.03, 0.03, (n, 3))) @ cell, cell=cell, pbc=True)


def small_frames(r_cut: float, rng: np.random.Generator) -> dict[str, ase.Atoms]:
    """Eight frames of one to five atoms of C, O and Si by name, in size proportional to a cutoff ``r_cut`` (A).

    Examples
    --------
    >>> import numpy as np
    >>> frames = small_frames(4.0, np.random.default_rng(0))
    >>> {name: str(atoms.symbols) for name, atoms in frames.items()}["slab"]
    'SiOC'
    """
    slab = skewed_crystal("SiOC", rng)
    slab.pbc = (True, True, False)
    wire = skewed_crystal("OSi", rng)
    wire.pbc = (False, False, True)
    wire.set_cell(np.diag([0.0, 0.0, 1.0]) @ wire.cell.array)
    sheared = skewed_crystal("OSi", rng)
    a, b, c = sheared.cell.array
    sheared.set_cell([a, b + 3 * a, c - 2 * b])
    frames = {
        "cluster": random_cluster("SiOSiOC", rng, box=3.5),
        "crystal smaller than the cutoff": skewed_crystal("SiOSi", rng),
        "slab": slab,
        "wire": wire,
        "very skewed crystal": sheared,
        "atoms on the z axis": ase.Atoms("SiOSi", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 1.7], [0.0, 0.0, 3.2]]),
        "one atom and its images": ase.Atoms("Si", cell=[[2.6, 0.1, 0.0], [0.3, 2.8, 0.2], [-0.2, 0.1, 2.5]], pbc=True),
        "one atom alone": ase.Atoms("C"),
    }
    scale = float(np.clip(r_cut / 4.0, 0.35, 2.5))
    for atoms in frames.values():
        atoms.set_cell(scale * atoms.cell.array)
        atoms.positions *= scale
    return frames


def metal_frames(species: Sequence[int], rng: np.random.Generator) -> dict[str, ase.Atoms]:
    """A crystal, a slab and a cluster of four and five atoms near the distances of the given species, by name."""
    numbers = [int(species[k % len(species)]) for k in range(5)]
    side = 2 * np.sqrt(2) * float(np.mean([covalent_radii[z] for z in numbers[:4]])) * 0.97
    corners = side * np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    cell = side * (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3)))
    crystal = ase.Atoms(numbers[:4], positions=corners, cell=cell, pbc=True)
    slab = ase.Atoms(numbers[:4], positions=corners, cell=cell, pbc=(True, True, False))
    cluster = ase.Atoms(numbers, positions=np.vstack([corners, [side, 0.0, 0.0]]))
    frames = {"crystal": crystal, "slab": slab, "cluster": cluster}
    for atoms in frames.values():
        atoms.positions += rng.normal(scale=0.02 * side, size=atoms.positions.shape)
    return frames


def frame_name(index: int, atoms: ase.Atoms, name: str | None = None) -> str:
    """Name of a frame in messages."""
    return f"frame {index} ({name or atoms.get_chemical_formula()})"


def channel_name(channel: Sequence[int]) -> str:
    """Name of a channel in messages.

    Examples
    --------
    >>> channel_name((8, 14))
    'channel (8, 14) O-Si'
    """
    known = [chemical_symbols[z] for z in channel if 0 < z < len(chemical_symbols)]
    return f"channel {tuple(channel)}" + (f" {'-'.join(known)}" if len(known) == len(channel) else "")


def domain(
    atoms: ase.Atoms, r_cut: float, centres: np.ndarray, rng: np.random.Generator
) -> tuple[Structure, np.ndarray]:
    """The given ``centres`` with ghosts for all that is around them, and the atom (k,) that each atom there is.

    Periodic images of centres are ghosts too. Atoms of the domain stand in a random order.
    """
    pairs = neighbours(atoms, r_cut).around(centres)
    image = np.zeros((len(pairs.j), 3), dtype=np.int64)
    if atoms.pbc.any():
        shift = pairs.vectors - (atoms.positions[pairs.j] - atoms.positions[pairs.i])
        image = np.rint(shift @ np.linalg.inv(atoms.cell.complete().array)).astype(np.int64)
    place: dict[tuple[int, ...], int] = {(int(a), 0, 0, 0): k for k, a in enumerate(centres)}
    there = [place.setdefault((int(a), *map(int, s)), len(place)) for a, s in zip(pairs.j, image, strict=True)]
    here = [place[int(a), 0, 0, 0] for a in pairs.i]
    owner = np.array([key[0] for key in place], dtype=np.int64)
    order = rng.permutation(len(owner))
    rank = np.argsort(order)
    i, j = rank[np.array(here, dtype=np.int64)], rank[np.array(there, dtype=np.int64)]
    owner = owner[order]
    found = Neighbours.of_pairs(len(owner), r_cut, i, j, pairs.vectors)
    return Structure.of_pairs(atoms.numbers[owner], found, np.sort(rank[: len(centres)])), owner
