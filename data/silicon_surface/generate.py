"""Clean silicon surfaces with the code and settings of the bulk set, so that one potential can use both.

Run from the root of the repository, with an interpreter that has GPAW and matscipy::

    python -m data.silicon_surface.generate frames|label|collect|verify

Slabs have eight layers, no hydrogen and inversion symmetry: both faces are alike, the two middle layers are as in the
crystal. Frames are periodic in the plane of the surface only, so they carry no stress. Lengths in A.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import diamond100, diamond111
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from ..labelling import interleave, main
from ..silicon.generate import A0, frame, label, split_of, stillinger_weber

FOLDER = Path(__file__).parent
VACUUM = 4.5  # on each side, A
N_LAYERS = 8
DIMER_BOND = 2.35  # buckled dimer: bond (A) and height difference (A), Ramstad, Brocks and Kelly,
DIMER_BUCKLING = 0.75  # Phys. Rev. B 51, 14504 (1995)


def inverted(positions: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Image of ``positions`` (n, 3) by inversion at ``centre``."""
    return 2 * centre - positions


class Slab:
    """A slab and the pairing of its atoms by inversion, so that every displacement can be made on both faces."""

    def __init__(self, atoms: Atoms):
        self.atoms = atoms
        self.upper, self.lower, self.centre = self._pairs(atoms)

    @staticmethod
    def _pairs(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of the upper half, their partners below, and a centre of inversion."""
        heights = atoms.positions[:, 2]
        middle = (heights.max() + heights.min()) / 2
        upper = np.flatnonzero(heights > middle)
        for other in np.flatnonzero(heights < middle):
            centre = (atoms.positions[upper[0]] + atoms.positions[other]) / 2
            centre[2] = middle
            images = atoms.copy()
            images.positions = inverted(atoms.positions, centre)
            both = atoms + images
            apart = both.get_all_distances(mic=True)[: len(atoms), len(atoms) :]
            if (apart.min(axis=1) < 0.05).all():
                return upper, apart[upper].argmin(axis=1), centre
        raise ValueError("the slab has no inversion symmetry")

    def displaced(self, displacements: np.ndarray) -> Atoms:
        """Upper half moved by ``displacements`` (n_upper, 3), lower half by their inverse; two middle layers stay."""
        heights = np.abs(self.atoms.positions[self.upper, 2] - self.centre[2])
        free = heights > np.unique(np.round(heights, 2))[0] + 0.3
        moves = np.where(free[:, None], displacements, 0.0)
        out = self.atoms.copy()
        out.positions[self.upper] += moves
        out.positions[self.lower] -= moves
        return out

    def rattled(self, rng: np.random.Generator, stdev: float) -> Atoms:
        """Random displacements (A) of both faces alike."""
        return self.displaced(rng.normal(scale=stdev, size=(len(self.upper), 3)))

    def top(self) -> np.ndarray:
        """Indices within ``upper`` of the outermost layer."""
        heights = self.atoms.positions[self.upper, 2]
        return np.flatnonzero(heights > heights.max() - 0.3)


def si100(columns: int) -> Slab:
    """Unreconstructed Si(100), ``columns`` cells along the direction in which its atoms can form dimers."""
    along_x = diamond100("Si", size=(columns, 1, N_LAYERS), a=A0, vacuum=VACUUM)
    top = int(np.argmax(along_x.positions[:, 2]))
    along_x.pbc = (True, True, False)
    vectors = along_x.get_distances(top, range(len(along_x)), mic=True, vector=True)
    bonded = [v for v in vectors if 0.5 < np.linalg.norm(v) < 2.6]
    if bonded and abs(bonded[0][0]) > abs(bonded[0][1]):  # backbonds along x: dangling bonds along y
        along_x = diamond100("Si", size=(1, columns, N_LAYERS), a=A0, vacuum=VACUUM)
        along_x.pbc = (True, True, False)
    return Slab(along_x)


def si111() -> Slab:
    """Unreconstructed Si(111), one dangling bond per cell."""
    atoms = diamond111("Si", size=(1, 1, N_LAYERS + 2), a=A0, vacuum=VACUUM)
    del atoms[np.argsort(atoms.positions[:, 2])[[0, -1]]]  # the outermost layers would hang on a single bond
    atoms.center(vacuum=VACUUM, axis=2)
    atoms.pbc = (True, True, False)
    return Slab(atoms)


def dimerised() -> tuple[np.ndarray, np.ndarray, Slab]:
    """Displacements of the upper half that lead to symmetric and to buckled 2x1 dimers, and the slab they start from.

    Symmetric: the relaxed slab of the Stillinger-Weber potential. Buckled: bond and height difference of the literature
    on top of it.
    """
    slab = si100(2)
    first, second = slab.upper[slab.top()]
    axis = int(np.argmax(np.abs(slab.atoms.cell.lengths()[:2])))
    towards = np.zeros((len(slab.upper), 3))
    pair = slab.top()
    step = slab.atoms.positions[second] - slab.atoms.positions[first]
    towards[pair[0], axis], towards[pair[1], axis] = 0.5 * np.sign(step[axis]), -0.5 * np.sign(step[axis])
    start = slab.displaced(towards)
    start.calc = stillinger_weber()
    heights = np.abs(start.positions[:, 2] - slab.centre[2])
    start.set_constraint(FixAtoms(mask=heights < 1.0))
    BFGS(start, logfile=None).run(fmax=0.01, steps=300)
    symmetric = start.positions[slab.upper] - slab.atoms.positions[slab.upper]
    buckled = symmetric.copy()
    ends = start.positions[[first, second]]
    middle = ends.mean(axis=0)
    flat = np.sqrt(DIMER_BOND**2 - DIMER_BUCKLING**2)
    side = np.sign(ends[1, axis] - ends[0, axis])
    for sign, i in ((-1, 0), (1, 1)):
        goal = middle.copy()
        goal[axis] += sign * side * flat / 2
        goal[2] += sign * DIMER_BUCKLING / 2
        buckled[pair[i]] = goal - slab.atoms.positions[slab.upper[pair[i]]]
    return symmetric, buckled, slab


def relaxed_outwards(slab: Slab, change: float) -> Atoms:
    """Outermost layer moved along the normal by ``change`` (A)."""
    moves = np.zeros((len(slab.upper), 3))
    moves[slab.top(), 2] = change
    return slab.displaced(moves)


def si100_frames(rng: np.random.Generator) -> dict[str, list[Atoms]]:
    """1x1: a scan of the outermost spacing, rattled. 2x1: paths to symmetric and buckled dimers, rattled on the way."""
    flat = si100(1)
    single = [
        frame(relaxed_outwards(flat, d), "si100_1x1", "spacing", "train") for d in (0.0, -0.1, -0.2, 0.1, -0.3, 0.2)
    ]
    single += [
        frame(flat.rattled(rng, rng.uniform(low=0.05, high=0.2)), "si100_1x1", f"random{i}", split_of(i))
        for i in range(14)
    ]
    symmetric, buckled, slab = dimerised()
    path = [frame(slab.displaced(s * symmetric), "si100_2x1", "dimerise", "train") for s in (1.0, 0.5, 0.75, 0.25)]
    tilt = [
        frame(slab.displaced((1 - t) * symmetric + t * buckled), "si100_2x1", "buckle", "train")
        for t in (1.0, 0.5, 0.75, 0.25, 1.2)
    ]
    rattled = []
    for i in range(35):
        s, t = rng.uniform(low=0.3, high=1.1), rng.uniform(low=0.0, high=1.2)
        if i % 2:
            s = 1.0
        moves = s * symmetric + (t * (buckled - symmetric) if i % 2 else 0.0)
        moves = moves + rng.normal(scale=rng.uniform(low=0.03, high=0.15), size=moves.shape)
        rattled.append(frame(slab.displaced(moves), "si100_2x1", f"random{i}", split_of(i)))
    return {"si100_1x1": single, "path": path + tilt, "si100_2x1": rattled}


def si111_frames(rng: np.random.Generator) -> list[Atoms]:
    """A scan of the outermost spacing, rattled cells."""
    slab = si111()
    out = [frame(relaxed_outwards(slab, d), "si111_1x1", "spacing", "train") for d in (0.0, -0.15, 0.15, -0.3)]
    return out + [
        frame(slab.rattled(rng, rng.uniform(low=0.05, high=0.2)), "si111_1x1", f"random{i}", split_of(i))
        for i in range(14)
    ]


def frames() -> list[Atoms]:
    """The queue: any prefix is a balanced set."""
    families = si100_frames(np.random.default_rng([20261122, 100]))
    families["si111_1x1"] = si111_frames(np.random.default_rng([20261122, 101]))
    return interleave(families)


if __name__ == "__main__":
    main(FOLDER, frames=frames, label=label)
