"""Adatom hops on metal surfaces with effective-medium theory: a classical reference, cheap and smooth.

Run from the root of the repository::

    python -m data.surface_barriers.generate label      # about 90 minutes on one core; kill and resume as you like
    python -m data.surface_barriers.generate collect    # files, hashes, plot

For each metal and each surface (flat, stepped, kinked): hollow sites are the minima of the height at which a sphere
touches the substrate; an adatom is relaxed in each; neighbouring minima are joined by a nudged elastic band with a
climbing image (Henkelman, Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (2000)). Hops that differ by symmetry alone
are done once. Beside steps and kinks there are clusters on flat terraces: one, two, and four or five adatoms, next to
which the moving atom hops, so that both together are a dimer, a trimer, an island with its edges and corners. The
potential is that of Jacobsen, Stoltze and Norskov, Surf. Sci. 366, 394 (1996), as in ASE.

Lengths in A, energies in eV, forces in eV/A.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import ase.io
import numpy as np
from ase import Atom, Atoms
from ase.build import bulk, fcc100, fcc110, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.geometry import get_distances
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from scipy.optimize import minimize_scalar
from tqdm import tqdm

from ..labelling import labelled, plot_distributions, write_atomically, write_hashes

FOLDER = Path(__file__).parent
METALS = ("Cu", "Ni", "Pd", "Ag", "Pt", "Au", "Al")
LAYERS = 3  # complete layers, the lowest fixed
FORCE_TOLERANCE = 0.01  # largest force at a minimum; at a saddle three times as much
N_IMAGES = 5  # of a band, its two ends included
HOPS_PER_SURFACE = {
    "flat111": 1, "flat100": 1, "flat110": 1, "step111": 6, "step100": 5, "kink111": 9, "kink100": 9,
    "dimer100": 3, "dimer111": 3, "dimer110": 3, "trimer100": 4, "trimer111": 4, "trimer110": 3,
    "island100": 6, "island111": 5, "island110": 4,
}  # fmt: skip
#: cell in the plane, and the adatoms of a cluster without the moving one: steps along the close-packed row, and across
CLUSTERS = {
    "dimer100": ((5, 4), [(0, 0)]),
    "dimer111": ((5, 4), [(0, 0)]),
    "dimer110": ((3, 5), [(0, 0)]),
    "trimer100": ((5, 5), [(0, 0), (1, 0)]),
    "trimer111": ((6, 4), [(0, 0), (1, 0)]),
    "trimer110": ((3, 6), [(0, 0), (1, 0)]),
    "island100": ((6, 5), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]),
    "island111": ((5, 6), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]),
    "island110": ((4, 6), [(0, 0), (1, 0), (0, 1), (1, 1)]),
}
BESIDE = 1.5  # bonds within which an adatom is beside a cluster: a nearest or a second neighbour
#: bonds around a cluster within which hollows are searched, by face: two hops away
AROUND = {"111": 2.2, "100": 3.0, "110": 3.0}
STAYED = 0.35  # bonds that an atom of the cluster may move while the adatom is relaxed: less than to the next hollow
SMALLEST_BARRIER = 0.002  # eV: anything less is hardly two sites
LEVEL_OF_THEORY = "EMT (ASE), classical"


@cache
def lattice_constant(metal: str) -> float:
    """Lattice constant (A) at which the potential's fcc crystal has its lowest energy."""

    def energy(a: float) -> float:
        crystal = bulk(metal, "fcc", a=a)
        crystal.calc = EMT()
        return crystal.get_potential_energy()

    return float(minimize_scalar(energy, bounds=(3.3, 4.5), method="bounded", options={"xatol": 1e-6}).x)


def substrate(metal: str, surface: str) -> Atoms:
    """Bare slab: close-packed rows run along x; steps come from a half layer, kinks from half an edge row of it."""
    a = lattice_constant(metal)
    kind, face = surface[:-3], surface[-3:]
    build = {"111": fcc111, "100": fcc100, "110": fcc110}[face]
    orthogonal = {"orthogonal": True} if face == "111" else {}
    if surface in CLUSTERS:
        slab = build(metal, size=(*CLUSTERS[surface][0], LAYERS), a=a, vacuum=8.0, **orthogonal)
    elif kind == "flat":
        slab = build(metal, size=(4, 4, LAYERS), a=a, vacuum=8.0, **orthogonal)
    else:
        slab = build(metal, size=(4, 6, LAYERS + 1), a=a, vacuum=8.0, **orthogonal)
        top = np.flatnonzero(slab.get_tags() == 1)
        rows = np.unique(np.round(slab.positions[top, 1], 3))
        remove = [i for i in top if slab.positions[i, 1] > rows[2] + 0.1]
        if kind == "kink":
            edge = [i for i in top if abs(slab.positions[i, 1] - rows[2]) < 0.1]
            remove += sorted(edge, key=lambda i: slab.positions[i, 0])[:2]
        del slab[remove]
    heights = np.unique(np.round(slab.positions[:, 2], 2))
    slab.set_constraint(FixAtoms(mask=slab.positions[:, 2] < heights[0] + 0.1))
    slab.pbc = (True, True, False)
    slab = relaxed(slab)
    return with_cluster(slab, surface) if surface in CLUSTERS else slab


def with_cluster(slab: Atoms, surface: str) -> Atoms:
    """The flat slab with the cluster of ``surface`` in its hollows, those of fcc stacking on (111), relaxed."""
    metal, face = slab.get_chemical_symbols()[0], surface[-3:]
    bond = lattice_constant(metal) / np.sqrt(2)
    row, across = {
        "100": (np.array([bond, 0.0]), np.array([0.0, bond])),
        "111": (np.array([bond, 0.0]), np.array([0.5 * bond, np.sqrt(0.75) * bond])),
        "110": (np.array([0.0, bond]), np.array([np.sqrt(2.0) * bond, 0.0])),
    }[face]
    steps = np.array(CLUSTERS[surface][1])
    places = hollow_sites(slab)
    if face == "111":
        second = slab.positions[slab.get_tags() == 2]
        over = [min(separation(slab, (*p[:2], 0.0), (*q[:2], 0.0)) for q in second) for p in places]
        places = places[np.array(over) > 0.3 * bond]
    middle = slab.cell.diagonal()[:2] / 2 - steps.mean(axis=0) @ [row, across]
    first = places[np.argmin(np.linalg.norm(places[:, :2] - middle, axis=1))]
    for i, j in steps:
        slab.append(Atom(metal, first + np.append(i * row + j * across, 0.0)))
    return relaxed(slab)


def cluster_of(slab: Atoms) -> np.ndarray:
    """Indices of the atoms of a cluster on a flat slab: layers have the tags 1, 2, ..., adatoms 0."""
    return np.flatnonzero(slab.get_tags() == 0)


def from_cluster(slab: Atoms, place: np.ndarray) -> float:
    """Distance (A) of a point from the nearest atom of the cluster; infinite where the slab has none."""
    return min((separation(slab, place, slab.positions[i]) for i in cluster_of(slab)), default=np.inf)


def relaxed(atoms: Atoms) -> Atoms:
    """The nearest minimum, with a calculator attached."""
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=FORCE_TOLERANCE, steps=400)
    return atoms


def at_rest(atoms: Atoms) -> bool:
    """Whether a relaxation has reached its tolerance: atoms near the potential's cutoff may keep it from that."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max()) < FORCE_TOLERANCE


def hollow_sites(slab: Atoms) -> np.ndarray:
    """Positions (n, 3) at which a sphere of one bond length rests on the slab: minima of its height over the cell."""
    bond = lattice_constant(slab.get_chemical_symbols()[0]) / np.sqrt(2)
    upper = slab.positions[slab.positions[:, 2] > slab.positions[:, 2].max() - 2.2 * bond]
    lengths = slab.cell.lengths()[:2]
    n = np.round(lengths / 0.15).astype(int)
    grid = np.stack(
        np.meshgrid(*[np.arange(m) * length / m for m, length in zip(n, lengths, strict=True)], indexing="ij"),
        axis=-1,
    )
    height = np.full(n, -np.inf)
    for x, y, z in upper:
        apart = grid - (x, y)
        apart -= lengths * np.round(apart / lengths)
        below = bond**2 - (apart**2).sum(axis=-1)
        height = np.maximum(height, np.where(below > 0, z + np.sqrt(np.maximum(below, 0)), -np.inf))
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    lowest = np.all([height <= np.roll(height, s, axis=(0, 1)) for s in shifts], axis=0)
    places = np.argwhere(lowest)
    points = np.column_stack([grid[tuple(places.T)], height[tuple(places.T)]])
    return np.array([p for i, p in enumerate(points) if all(separation(slab, p, q) > 0.5 for q in points[:i])])


def distinct_region(slab: Atoms, surface: str, places: np.ndarray) -> np.ndarray:
    """Those hollows that stand for all others by translation: on a flat surface the ones around the middle of the cell,
    along a straight step two and a half bonds, around a cluster those two hops away and nearer (:data:`AROUND`), not on
    top of it, with kinks all of them."""
    bond = lattice_constant(slab.get_chemical_symbols()[0]) / np.sqrt(2)
    if surface.startswith("flat"):
        apart = np.linalg.norm(places[:, :2] - slab.cell.diagonal()[:2] / 2, axis=1)
        return places[apart < 1.5 * bond]
    if surface.startswith("step"):
        return places[places[:, 0] < 2.4 * bond]
    if surface in CLUSTERS:
        top = slab.positions[cluster_of(slab), 2].max() + 0.4 * bond
        return np.array([p for p in places if p[2] < top and from_cluster(slab, p) < AROUND[surface[-3:]] * bond])
    return places


def minima(slab: Atoms, surface: str) -> list[Atoms]:
    """The slab with an adatom (last atom) relaxed in each hollow, every site once."""
    found: list[Atoms] = []
    for place in distinct_region(slab, surface, hollow_sites(slab)):
        if any(separation(slab, place, other.positions[-1]) < 0.3 for other in found):
            continue
        atoms = slab.copy()
        atoms.append(Atom(slab.get_chemical_symbols()[0], place))
        atoms = relaxed(atoms)
        if not stayed(slab, atoms):
            continue
        if all(separation(slab, atoms.positions[-1], other.positions[-1]) > 0.3 for other in found):
            found.append(atoms)
    return found


def stayed(slab: Atoms, atoms: Atoms) -> bool:
    """Whether every atom of the cluster is still in the hollow in which it was without the adatom."""
    moved = [separation(slab, slab.positions[i], atoms.positions[i]) for i in cluster_of(slab)]
    return max(moved, default=0.0) < STAYED * lattice_constant(slab.get_chemical_symbols()[0]) / np.sqrt(2)


def separation(slab: Atoms, first: np.ndarray, second: np.ndarray) -> float:
    """Distance (A) of two points in the periodic cell of ``slab``."""
    return float(get_distances([first], [second], cell=slab.cell, pbc=slab.pbc)[1][0, 0])


def fingerprint(initial: Atoms, final: Atoms) -> np.ndarray:
    """What two hops that differ by symmetry alone share: energies (0.1 eV), sorted distances of the adatom (A)."""
    parts = []
    for atoms in (initial, final):
        distances = np.sort(atoms.get_distances(-1, range(len(atoms) - 1), mic=True))[:24]
        parts += [[10 * atoms.get_potential_energy()], distances]
    return np.concatenate(parts)


def hops(sites: list[Atoms]) -> Iterator[tuple[Atoms, Atoms]]:
    """Pairs of neighbouring minima (the higher one first), one of each symmetry class.

    Neighbours are closer than 1.3 bonds, with no third minimum on the way.
    """
    points = [s.positions[-1] for s in sites]
    n = len(sites)
    apart = np.array([[separation(sites[0], p, q) for q in points] for p in points])
    bond = lattice_constant(sites[0].get_chemical_symbols()[-1]) / np.sqrt(2)
    seen: list[np.ndarray] = []
    for i in range(n):
        for j in range(i + 1, n):
            between = [k for k in range(n) if k not in (i, j) and max(apart[i, k], apart[k, j]) < 0.9 * apart[i, j]]
            if apart[i, j] > 1.3 * bond or between:
                continue
            pair = sorted((sites[i], sites[j]), key=lambda s: -s.get_potential_energy())
            new = [fingerprint(*pair), fingerprint(*pair[::-1])]
            if all(np.abs(one - other).max() > 0.05 for one in new for other in seen):
                seen.append(new[0])
                yield pair[0], pair[1]


def saddle(initial: Atoms, final: Atoms) -> Atoms | None:
    """Climbing image of the band between two minima, or None where it does not converge to a true barrier."""
    ends = initial.copy(), final.copy()
    offset = ends[1].positions[-1] - ends[0].positions[-1]
    ends[1].positions[-1] -= initial.cell.lengths() * np.round(offset / initial.cell.lengths()) * initial.pbc
    images = [ends[0], *[ends[0].copy() for _ in range(N_IMAGES - 2)], ends[1]]
    for image in images:
        image.calc = EMT()
    band = NEB(images, k=1.0, climb=False, method="improvedtangent")
    band.interpolate()
    middle = images[N_IMAGES // 2].positions
    middle[-1, 2] += 0.3  # over the edge rather than through it
    FIRE(band, logfile=None).run(fmax=0.15, steps=60)
    band.climb = True
    if not FIRE(band, logfile=None).run(fmax=3 * FORCE_TOLERANCE, steps=250):
        return None
    energies = [image.get_potential_energy() for image in images]
    top = int(np.argmax(energies))
    return None if top in (0, N_IMAGES - 1) else images[top]


def coordination(atoms: Atoms) -> int:
    """Neighbours of the adatom within 1.2 bonds."""
    bond = lattice_constant(atoms.get_chemical_symbols()[-1]) / np.sqrt(2)
    return int((atoms.get_distances(-1, range(len(atoms) - 1), mic=True) < 1.2 * bond).sum())


def beside_first(slab: Atoms, pairs: list[tuple[Atoms, Atoms]], order: np.ndarray) -> list[int]:
    """Pairs that begin or end beside the cluster, in the given order, attachments and other hops by turns."""
    bond = lattice_constant(slab.get_chemical_symbols()[0]) / np.sqrt(2)
    kinds: dict[bool, list[int]] = {True: [], False: []}
    for index in order:
        pair = pairs[index]
        if min(from_cluster(slab, a.positions[-1]) for a in pair) < BESIDE * bond:
            kinds[coordination(pair[1]) > coordination(pair[0])].append(int(index))
    rank = {index: k for kind in kinds.values() for k, index in enumerate(kind)}
    return sorted(rank, key=lambda index: rank[index])


def label_surface(metal: str, surface: str) -> list[Atoms]:
    """Three labelled frames (initial, saddle, final) for every hop of one surface."""
    rng = np.random.default_rng([METALS.index(metal), list(HOPS_PER_SURFACE).index(surface)])
    slab = substrate(metal, surface)
    pairs = list(hops(minima(slab, surface)))
    order = rng.permutation(len(pairs))
    if surface in CLUSTERS:
        order = beside_first(slab, pairs, order)
    out: list[Atoms] = []
    for index in order:
        if len(out) == 3 * HOPS_PER_SURFACE[surface]:
            break
        initial, final = pairs[index]
        if surface in CLUSTERS and not (at_rest(initial) and at_rest(final)):
            continue
        top = saddle(initial, final)
        if top is None:
            continue
        neighbours = coordination(initial), coordination(final)
        low, high, end = (a.get_potential_energy() for a in (initial, top, final))
        for image, atoms in (("initial", initial), ("saddle", top), ("final", final)):
            frame = labelled(
                atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces(apply_constraint=False)
            )
            frame.info.update(
                config_type=surface,
                trajectory=f"{metal}-{surface}-{index}",
                site=f"{metal}-{surface}-{index}",
                image=image,
                motion="attachment" if neighbours[1] > neighbours[0] else "hop",
                barrier=high - low,
                reverse_barrier=high - end,
                level_of_theory=LEVEL_OF_THEORY,
            )
            out.append(frame)
    return out


def restore() -> None:
    """Write the work files of surfaces that stand in the collected files, where the work folder was lost; an empty one
    where the summary says that no hop was found."""
    summary = FOLDER / "summary.json"
    counts = json.loads(summary.read_text())["hops_by_surface"] if summary.exists() else {}
    for metal in METALS:
        collected = FOLDER / f"{metal}.xyz"
        frames = ase.io.read(collected, ":") if collected.exists() else []
        for surface in HOPS_PER_SURFACE:
            path = FOLDER / "work" / f"{metal}-{surface}.xyz"
            found = [a for a in frames if a.info["config_type"] == surface]
            known = found or counts.get(surface, {}).get(metal) == 0
            if known and not path.exists():
                write_atomically(path, found)


def label() -> None:
    """Every surface of every metal that has no file in the work folder yet."""
    restore()
    tasks = [(m, s) for s in HOPS_PER_SURFACE for m in METALS]
    for metal, surface in tqdm(tasks, unit="surface"):
        path = FOLDER / "work" / f"{metal}-{surface}.xyz"
        if not path.exists():
            write_atomically(path, label_surface(metal, surface))


def plot_barriers(parts: dict[str, list[Atoms]]) -> None:
    """Barrier against reverse barrier (eV) of every hop, by kind of surface."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(4.5, 3.6), layout="constrained")
    for kind in ("flat", "step", "kink", "dimer", "trimer", "island"):
        saddles = [
            a.info
            for part in parts.values()
            for a in part
            if a.info["image"] == "saddle" and a.info["config_type"].startswith(kind)
        ]
        axes.plot([i["barrier"] for i in saddles], [i["reverse_barrier"] for i in saddles], ".", label=kind)
    axes.set(xlabel="barrier (eV)", ylabel="reverse barrier (eV)")
    axes.legend()
    figure.savefig(FOLDER / "barriers.png", dpi=110)
    plt.close(figure)


def collect() -> None:
    """One file a metal, hashes, summary, and two plots: labels, barriers."""
    parts: dict[str, list[Atoms]] = {}
    for metal in METALS:
        paths = [FOLDER / "work" / f"{metal}-{surface}.xyz" for surface in HOPS_PER_SURFACE]
        found = [a for p in paths if p.exists() and p.stat().st_size for a in ase.io.read(p, ":")]
        parts[metal] = [a for a in found if a.info["barrier"] > SMALLEST_BARRIER]
        write_atomically(FOLDER / f"{metal}.xyz", parts[metal])
    counts = {
        s: {m: sum(a.info["config_type"] == s for a in f) // 3 for m, f in parts.items()} for s in HOPS_PER_SURFACE
    }
    total = sum(map(len, parts.values())) // 3
    (FOLDER / "summary.json").write_text(json.dumps({"hops": total, "hops_by_surface": counts}, indent=1) + "\n")
    write_hashes(FOLDER)
    plot_distributions(parts, FOLDER / "distributions.png")
    plot_barriers(parts)
    print(total, "hops")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="make the set surface_barriers")
    parser.add_argument("step", choices=("label", "collect"))
    {"label": label, "collect": collect}[parser.parse_args().step]()
