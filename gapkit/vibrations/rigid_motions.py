"""Motions of a structure as a whole: translations and rotations, and the projection on all other motions."""

from __future__ import annotations

import numpy as np

from gapkit.exceptions import DataError

#: a molecule is linear where no atom is farther than this (A) from the axis of least inertia
LINEAR_WITHIN = 0.02


def centred(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Positions (n, 3) about the centre of mass."""
    return positions - masses @ positions / masses.sum()


def principal_axes(positions: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal moments of inertia and their axes.

    Parameters
    ----------
    positions : (n, 3) A
    masses : (n,) amu

    Returns
    -------
    moments : (3,) amu A^2
        The smallest first.
    axes : (3, 3)
        Unit vectors in rows.
    """
    r = centred(positions, masses)
    tensor = np.einsum("a,ac,ac->", masses, r, r) * np.eye(3) - np.einsum("a,ac,ad->cd", masses, r, r)
    moments, axes = np.linalg.eigh(tensor)
    return np.maximum(moments, 0.0), axes.T


def shape_of_molecule(positions: np.ndarray, masses: np.ndarray) -> str:
    """``"atom"``, ``"linear"`` or ``"nonlinear"``.

    A molecule counts as linear where every atom is within 0.02 A of the axis of least inertia: a loosely relaxed
    linear molecule is not quite straight.

    Raises
    ------
    DataError
        For several atoms on one spot.

    Examples
    --------
    >>> shape_of_molecule(np.array([[0, 0, 0], [0, 0, 1.2], [0, 0, 2.4]]), np.array([16.0, 12.0, 16.0]))
    'linear'
    """
    if len(positions) == 1:
        return "atom"
    r = centred(positions, masses)
    if np.linalg.norm(r, axis=1).max() < LINEAR_WITHIN:
        raise DataError(f"all {len(positions)} atoms are on one spot; check the structure")
    axis = principal_axes(positions, masses)[1][0]
    away = np.linalg.norm(r - np.outer(r @ axis, axis), axis=1).max()
    return "linear" if away < LINEAR_WITHIN else "nonlinear"


def translations(masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted displacements (3 n, 3) of a translation along x, y and z."""
    return np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))


def rotations(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted displacements (3 n, r) of infinitesimal rotations about the principal axes.

    r is 0 for an atom, 2 for a linear molecule, 3 for any other. About the principal axis b, atom a moves along
    sqrt(m_a) b x r_a, r_a from the centre of mass; the squared length of all is the moment of inertia, and two axes
    give orthogonal displacements because the inertia tensor is diagonal (Wilson, Decius, Cross, Molecular Vibrations
    (1955), section 2-2).
    """
    shape = shape_of_molecule(positions, masses)
    if shape == "atom":
        return np.empty((3, 0))
    moments, axes = principal_axes(positions, masses)
    used = slice(1, 3) if shape == "linear" else slice(0, 3)
    moved = np.sqrt(masses)[None, :, None] * np.cross(axes[used, None], centred(positions, masses)[None])
    return (moved.reshape(len(moved), -1) / np.sqrt(moments[used])[:, None]).T


def complement(motions: np.ndarray) -> np.ndarray:
    """Orthonormal basis (k, k - r) of all directions orthogonal to the r columns of ``motions`` (k, r).

    Examples
    --------
    >>> complement(np.array([[1.0], [0.0], [0.0]])).shape
    (3, 2)
    """
    return np.linalg.qr(motions, mode="complete")[0][:, motions.shape[1] :]


def project_out(matrix: np.ndarray, motions: np.ndarray) -> np.ndarray:
    """Matrix P H P with P = 1 - Q Q^T, Q the orthonormal columns ``motions`` (k, r) of directions to be removed.

    P H P is the symmetric matrix nearest to H that has these directions as eigenvectors with eigenvalue zero,
    in the Frobenius norm.
    """
    half = matrix - (matrix @ motions) @ motions.T
    return half - motions @ (motions.T @ half)


def impose_sum_rule(matrix: np.ndarray) -> np.ndarray:
    """The symmetric matrix (3 n, 3 n) nearest to ``matrix`` that obeys the acoustic sum rule.

    The rule says that a translation of all atoms costs nothing: the 3 x 3 blocks of each row of atoms add to zero.

    Examples
    --------
    >>> rule = impose_sum_rule(np.diag(np.arange(1.0, 7.0)))
    >>> bool(abs(rule.reshape(6, 2, 3).sum(axis=1)).max() < 1e-14)
    True
    """
    found = project_out(matrix, translations(np.ones(len(matrix) // 3)))
    return 0.5 * (found + found.T)
