"""Lowest curvatures of the energy and their modes, from finite differences of forces in batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gapkit.sampling.batches import BatchForces
from gapkit.sampling.paths.rigid import rigid_modes, without


def curvature_matrix(
    evaluate: BatchForces, positions: np.ndarray, free: np.ndarray, displacement: float, modes: np.ndarray
) -> np.ndarray:
    """Hessian (3 m, 3 m; eV/A^2) of the free atoms by central differences, all of them in one batch.

    Directions along ``modes`` (q, 3 m) are projected out.
    """
    f = 3 * len(free)
    x = np.repeat(positions[None], 2 * f, axis=0)
    steps = displacement * np.eye(f).reshape(f, len(free), 3)
    x[:f, free] += steps
    x[f:, free] -= steps
    forces = evaluate(x)[1][:, free].reshape(2, f, f)
    H = (forces[1] - forces[0]) / (2.0 * displacement)
    H = without(modes, without(modes, 0.5 * (H + H.T)).T)
    return 0.5 * (H + H.T)


def lowest_modes(
    product: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    count: int,
    tolerance: float,
    most: int,
    first: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest eigenvalues of a symmetric matrix by Lanczos' method with full orthogonalisation.

    Golub and Van Loan, Matrix Computations (4th ed., 2013), section 10.1.

    Parameters
    ----------
    product
        Matrix times vector (f,).
    start : (f,)
        First vector of the Krylov space: the guess of the lowest mode.
    count : int
        Number of eigenvalues wanted; fewer are found where the space is smaller.
    tolerance : float
        Largest residual norm of the pairs at the end.
    most : int
        Largest number of products.
    first : (f,), optional
        Product of the matrix with the unit vector along ``start``, where it is known already.

    Returns
    -------
    values : (count,)
        The lowest first.
    vectors : (count, f)
        Unit vectors.
    residuals : (count,)
        Norms of ``A v - value v``: an eigenvalue lies within that of each value.

    Examples
    --------
    >>> values, _, residuals = lowest_modes(lambda v: np.array([3.0, -1.0, 2.0]) * v, np.ones(3), 2, 1e-9, 3)
    >>> values.round(6).tolist(), bool(residuals.max() < 1e-6)
    ([-1.0, 2.0], True)
    """
    basis = [start / np.linalg.norm(start)]
    images: list[np.ndarray] = []
    while True:
        images.append(first if first is not None and not images else product(basis[-1]))
        V, W = np.array(basis), np.array(images)
        T = V @ W.T
        values, y = np.linalg.eigh(0.5 * (T + T.T))
        values, vectors = values[:count], y[:, :count].T @ V
        residuals = np.linalg.norm(y[:, :count].T @ W - values[:, None] * vectors, axis=1)
        if (len(values) == count and residuals.max() < tolerance) or len(basis) >= min(most, len(start)):
            break
        rest = images[-1]
        for _ in range(2):
            rest = rest - (V @ rest) @ V
        size = np.linalg.norm(rest)
        if size < 1e-10 * max(1.0, np.abs(values).max()):
            break
        basis.append(rest / size)
    return values, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), residuals


def curvature_product(
    evaluate: BatchForces, positions: np.ndarray, free: np.ndarray, displacement: float, modes: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Function that multiplies the Hessian at ``positions`` with a vector v (3 m,), by two evaluations in one batch.

    The two are ``displacement`` (A) times the unit vector before and after. Directions along ``modes`` (q, 3 m) are
    projected out.
    """

    def product(v: np.ndarray) -> np.ndarray:
        size = np.linalg.norm(v)
        step = (displacement / size) * v.reshape(-1, 3)
        x = np.repeat(positions[None], 2, axis=0)
        x[0, free] += step
        x[1, free] -= step
        forces = evaluate(x)[1][:, free].reshape(2, -1)
        return without(modes, (forces[1] - forces[0]) * (size / (2.0 * displacement)))

    return product


def fixed_modes(positions: np.ndarray, free: np.ndarray, pbc: np.ndarray, align: bool) -> np.ndarray:
    """Rigid modes (q, 3 m) that are projected out; none without ``align``."""
    return rigid_modes(positions, free, pbc) if align else np.zeros((0, 3 * len(free)))
