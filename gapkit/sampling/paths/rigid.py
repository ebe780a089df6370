"""Overall translation and rotation: modes that a force cannot have, and the alignment of one frame to another."""

from __future__ import annotations

import numpy as np


def rigid_modes(positions: np.ndarray, free: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Orthonormal modes (q, 3 m) of the free atoms that leave the energy of a frame without outer fields unchanged.

    Three translations where no atom is fixed, and the rotations (three, two of a linear molecule, none of an atom)
    where no direction is periodic either.

    Parameters
    ----------
    positions : (n, 3)
        A.
    free : (m,) int
        Atoms that move.
    pbc : (3,) bool
        Periodic directions.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    >>> len(rigid_modes(x, np.arange(2), np.zeros(3, bool))), len(rigid_modes(x, np.arange(2), np.ones(3, bool)))
    (5, 3)
    """
    n = len(positions)
    if len(free) < n:
        return np.zeros((0, 3 * len(free)))
    modes = np.tile(np.eye(3), n)
    if not np.any(pbc):
        arms = positions - positions.mean(axis=0)
        modes = np.vstack([modes, [np.cross(axis, arms).ravel() for axis in np.eye(3)]])
    modes /= max(1.0, np.abs(modes).max())
    _, s, rows = np.linalg.svd(modes, full_matrices=False)
    return rows[s > 1e-6 * s[0]]


def without(modes: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The vectors v (..., 3 m) less their components along orthonormal ``modes`` (q, 3 m)."""
    return v - (v @ modes.T) @ modes


def aligned(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Positions (n, 3), turned and shifted so that the sum of squared distances to ``reference`` (n, 3) is least.

    Kabsch, Acta Cryst. A 32, 922 (1976); the turn is a proper rotation.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    >>> turned = x @ np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + 3.0
    >>> bool(np.allclose(aligned(turned, x), x))
    True
    """
    centre, goal = positions.mean(axis=0), reference.mean(axis=0)
    return (positions - centre) @ rotation(positions - centre, reference - goal) + goal


def rotation(arms: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Matrix R (3, 3) of the proper rotation that brings ``arms @ R`` closest to ``reference``, both (n, 3)."""
    u, _, vt = np.linalg.svd(arms.T @ reference)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
