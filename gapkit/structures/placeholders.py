"""Zeros that stand for no force, from programs that computed none or held an atom without saying so."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from gapkit.structures.neighbours import neighbours

#: distance (A) within which the surroundings of an atom are compared with their mirror image: nearest neighbours, since
#: atoms out of the reach of a short-ranged potential have forces of exactly zero
SURROUNDINGS = 3.5
#: relative length of a sum of neighbours' directions below which symmetry may make the force on the atom vanish
SYMMETRIC = 1e-4
#: forces that are whole multiples of this (eV/A) have few digits: a zero among them may be a small force
COARSE = 1e-3


def placeholder_forces(atoms: Atoms, forces: np.ndarray) -> np.ndarray:
    """Atoms (N,) whose ``forces`` (N, 3) are exactly zero although nothing makes them so.

    A force of exactly zero is right where the surroundings of the atom are their own mirror image.

    Examples
    --------
    >>> from ase import Atoms
    >>> water = Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    >>> placeholder_forces(water, np.zeros((3, 3))).tolist()
    [True, True, True]
    >>> placeholder_forces(water, np.ones((3, 3))).any()
    np.False_
    """
    zero = np.all(forces == 0.0, axis=1)
    if not zero.any():
        return zero
    coarse = np.abs(forces / COARSE - np.round(forces / COARSE)).max() < 1e-6
    if coarse and not zero.all():
        return np.zeros(len(atoms), dtype=bool)
    zero &= ~symmetric_atoms(atoms)
    return zero


def symmetric_atoms(atoms: Atoms) -> np.ndarray:
    """Atoms (N,) whose nearest neighbours' directions add up to zero under two weights by distance and species.

    Where symmetry makes a force vanish, it makes any such sum vanish.
    """
    pairs = neighbours(atoms, SURROUNDINGS)
    distance = np.maximum(pairs.distances, 1e-6)
    fade = np.maximum(1.0 - (distance / SURROUNDINGS) ** 2, 0.0) ** 3
    symmetric = np.ones(len(atoms), dtype=bool)
    for power, of_species in ((1, 0.37), (4, 0.21)):
        weight = fade * (1.0 + of_species * np.sqrt(atoms.numbers[pairs.j])) / distance**power
        total, length = np.zeros((len(atoms), 3)), np.zeros(len(atoms))
        np.add.at(total, pairs.i, (weight / distance)[:, None] * pairs.vectors)
        np.add.at(length, pairs.i, weight)
        symmetric &= np.linalg.norm(total, axis=1) <= SYMMETRIC * length
    return symmetric
