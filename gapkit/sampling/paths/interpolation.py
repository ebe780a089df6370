"""Starting images of a path: on a straight line, or by image-dependent pair potentials (IDPP)."""

from __future__ import annotations

import ase
import numpy as np

from gapkit.sampling.batches import BatchForces
from gapkit.sampling.paths.band import optimise_band
from gapkit.structures.neighbours import neighbours

#: distance (A) on the straight line below which a pair has a term in the pair potentials; its weight goes as d^-4
PAIR_CUTOFF = 5.0


def straight_line(start: np.ndarray, end: np.ndarray, images: int) -> np.ndarray:
    """Positions (images + 2, n, 3) in equal steps from ``start`` to ``end``, both (n, 3) and included."""
    share = np.linspace(0.0, 1.0, images + 2)[:, None, None]
    return (1.0 - share) * start + share * end


def idpp(atoms: ase.Atoms, line: np.ndarray, free: np.ndarray, modes: bool, fmax: float = 0.1, steps: int = 200):
    r"""Images whose distances between atoms change as evenly as they can.

    The band on the surfaces of Smidstrup, Pedersen, Stokbro and Jonsson, J. Chem. Phys. 140, 214106 (2014), eqs. 5 and
    6: for the image k,

    .. math:: S_k = \sum_{i<j} d_{ij}^{-4} (d^k_{ij} - d_{ij})^2,

    with :math:`d^k` the linear interpolation of the distances in the two ends. Pairs are those that are closer than
    :data:`PAIR_CUTOFF` in an image of the straight line, each periodic image a pair of its own, which follows
    the atoms.

    Parameters
    ----------
    atoms
        Frame that gives numbers, cell and periodic directions.
    line : (k + 2, n, 3)
        Straight line (A).
    free : (m,) int
        Atoms that move.
    modes : bool
        Whether images may not translate and rotate as a whole.
    fmax : float
        Largest force at the end, in the units of S_k.
    steps : int
        Largest number of iterations; images that have not converged are a start all the same.

    Returns
    -------
    (k + 2, n, 3)
    """
    line = separated(line, atoms, free)
    evaluate = pair_potentials(atoms, line, free)
    if evaluate is None:
        return line
    band = optimise_band(line, np.zeros(2), evaluate, free, atoms.pbc, fmax=fmax, steps=steps, modes=modes, spring=0.1)
    return band.positions


def separated(line: np.ndarray, atoms: ase.Atoms, free: np.ndarray, least: float = 0.3) -> np.ndarray:
    """The images of a line, with a nudge to free atoms that all but meet on it.

    Two atoms that change places meet on a straight line, where no force says which way around to go. They are moved
    apart across their motion by half of ``least`` (A) each, always in the same direction.
    """
    line = line.copy()
    for image in line[1:-1]:
        close = neighbours(ase.Atoms(atoms.numbers, image, cell=atoms.cell, pbc=atoms.pbc), least)
        for i, j in zip(close.i, close.j, strict=True):
            if i >= j:
                continue
            way = line[-1, i] - line[0, i] - line[-1, j] + line[0, j]
            across = np.cross(way, np.eye(3)[np.argmin(np.abs(way))])
            across /= max(np.linalg.norm(across), 1e-12)
            for atom, sign in ((i, 0.5), (j, -0.5)):
                if atom in free:
                    image[atom] += sign * least * across
    return line


def pair_potentials(atoms: ase.Atoms, line: np.ndarray, free: np.ndarray) -> BatchForces | None:
    """Values (k,) and minus gradients (k, n, 3) of S_k at positions (k, n, 3) of the images between the ends.

    None where no pair is close enough to have a term.
    """
    n, images = len(atoms), len(line) - 2
    terms: set[tuple[int, ...]] = set()
    inverse = np.linalg.inv(atoms.cell.complete().array)
    for image in line:
        pairs = neighbours(ase.Atoms(atoms.numbers, image, cell=atoms.cell, pbc=atoms.pbc), PAIR_CUTOFF)
        shift = np.rint((pairs.vectors - image[pairs.j] + image[pairs.i]) @ inverse).astype(int)
        once = pairs.i < pairs.j
        terms.update(map(tuple, np.column_stack([pairs.i, pairs.j, shift])[once].tolist()))
    moving = set(free.tolist())
    table = np.array(sorted(t for t in terms if t[0] in moving or t[1] in moving), dtype=np.intp)
    if not len(table):
        return None
    i, j, shift = table[:, 0], table[:, 1], table[:, 2:] @ atoms.cell.complete().array
    first, last = (np.linalg.norm(x[j] - x[i] + shift, axis=1) for x in (line[0], line[-1]))
    share = np.linspace(0.0, 1.0, images + 2)[1:-1, None]
    target = (1.0 - share) * first + share * last

    def evaluate(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r = positions[:, j] - positions[:, i] + shift
        d = np.maximum(np.linalg.norm(r, axis=2), 1e-3)
        miss = d - target
        values = np.sum(miss**2 / d**4, axis=1)
        slope = 2.0 * miss / d**4 - 4.0 * miss**2 / d**5
        pull = (slope / d)[:, :, None] * r
        forces = np.zeros((len(positions), n, 3))
        for k in range(len(positions)):
            np.add.at(forces[k], i, pull[k])
            np.add.at(forces[k], j, -pull[k])
        return values, forces

    return evaluate
