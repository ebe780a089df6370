"""Finite differences and random structures: one oracle for all tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def central_difference(f: Callable[[float], np.ndarray], h: float) -> np.ndarray:
    """Derivative of ``f`` at 0, fourth order in h."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def displaced(atoms: Atoms, atom: int, axis: int, step: float) -> Atoms:
    """A copy with one coordinate moved by ``step`` (A)."""
    moved = atoms.copy()
    moved.positions[atom, axis] += step
    return moved


def strained(atoms: Atoms, component: int, step: float) -> Atoms:
    """A copy under a symmetric strain whose Voigt component is ``step``."""
    a, b = VOIGT[component]
    deformation = np.eye(3)
    deformation[a, b] += step / 2
    deformation[b, a] += step / 2
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ deformation, scale_atoms=False)
    moved.positions = atoms.positions @ deformation
    return moved


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A proper rotation matrix."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q if np.linalg.det(q) > 0 else -q


def random_cluster(symbols: str, rng: np.random.Generator, spacing: float = 1.3, box: float = 4.0) -> Atoms:
    """Atoms in a box with no two closer than ``spacing`` (A), not periodic."""
    n = len(Atoms(symbols))
    positions: list[np.ndarray] = []
    while len(positions) < n:
        p = rng.uniform(0, box, size=3)
        if all(np.linalg.norm(p - q) > spacing for q in positions):
            positions.append(p)
    return Atoms(symbols, positions=positions)


def skewed_crystal(symbols: str, rng: np.random.Generator) -> Atoms:
    """A small triclinic periodic cell, much smaller than usual cutoffs."""
    cell = np.array([[3.1, 0.2, 0.1], [0.9, 3.4, -0.3], [-0.5, 0.7, 3.8]])
    n = len(Atoms(symbols))
    fractional = np.array([[0.02, 0.01, 0.05], [0.48, 0.52, 0.44], [0.1, 0.6, 0.8], [0.7, 0.15, 0.6]])[:n]
    return Atoms(symbols, positions=(fractional + rng.uniform(-0.03, 0.03, (n, 3))) @ cell, cell=cell, pbc=True)
