r"""Identities that hold among the numbers of a model file, whoever wrote it.

With L the factor of the kernel matrix of the sparse points, :math:`L L^T = K_{mm} + \text{jitter}`, whitened weights w,
their signal :math:`\delta` and the posterior's triangle R (``gapkit.models.posterior``):

.. math::
    (K_{mm} + \text{jitter})\, \alpha = L w, \qquad (L u, Z u) = c, \qquad R\, (w / \delta) = z, \qquad
    R^T R = 1 + \sum_g \delta R_g^T R_g \delta / \sigma_g^2 \succeq 1

The first holds where the mean is that of the sparse points Z; c, for fixed vectors u, and z are in files from format 4;
the sum can be made where the triangles of the rows are in the file. Matrices are compared by their products with a few
fixed vectors, at the cost of reading them. Each function raises ValueError where an identity does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.linalg

from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_block import JITTERS, SparseBlock
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.numerics.threads import blas_threads

#: rounding of a product with a vector, of the sum of the absolute values of its parts
ROUNDING = 1e-10
#: of the factor times the weights, where the factor was made again on another machine: K_mm has a condition number of
#: 1e8, so that rounding of 1e-16 is 1e-8 of the factor
ROUNDING_OF_FACTOR = 1e-7
#: by which a unit vector, or a variance in units of the prior's, may be too long
UNIT = 1e-8
#: vectors that matrices are multiplied by, and steps of a power iteration
PROBES, POWER_STEPS = 2, 4


def check_terms(terms: Sequence[Term], stored: Sequence[Mapping[str, Any]]) -> None:
    """The settings of the terms made are those of the file: no default stands in for a missing one."""
    for k, (term, given) in enumerate(zip(terms, stored, strict=True)):
        made, wanted = (json.loads(json.dumps(dict(t))) for t in (term.settings(), given))
        if wanted.get("selection") == "custom":
            made["selection"] = "custom"
        for key in sorted({*made, *wanted}):
            if key not in wanted:
                raise ValueError(f"term {k} has no {key!r:.40}")
            if key not in made or json.dumps(made[key]) != json.dumps(wanted[key]):
                raise ValueError(f"term {k} cannot have {key!r:.40} = {wanted[key]!r:.40}")


def check_points(block: SparseBlock, name: str) -> None:
    """Sparse points lie where environments can: unit vectors, or distances within the cutoff."""
    if block.descriptor.of_atoms and not block.kernel.centred:
        square = np.einsum("md,md->m", block.points, block.points)
        if square.max(initial=0.0) > 1 + UNIT or (block.directions is None and square.min(initial=1.0) < 1 - UNIT):
            raise ValueError(f"the sparse points of {name} are no unit vectors")
    span = block.descriptor.feature_range
    if span is not None:
        low, high = block.kernel.scale(np.array(span)[:, None]).ravel()
        if block.points.min(initial=low) < low or block.points.max(initial=high) > high * (1 + UNIT):
            raise ValueError(f"the sparse points of {name} are beyond the cutoff")


def check_jitter(block: SparseBlock, name: str) -> None:
    """The jitter is one that a fit may add to the diagonal of the kernel matrix."""
    scale = float(block.kernel.diagonal_of_scaled(block.points).max(initial=0.0))
    if not any(abs(block.jitter - relative * scale) <= 1e-6 * relative * scale for relative in JITTERS):
        raise ValueError(f"the jitter of {name} is {block.jitter:.10g}, not one of those that a fit adds")


def check_factor(block: SparseBlock, name: str) -> None:
    """A factor from a file is that of the kernel matrix of the points: ``L L^T = K_mm + jitter``."""
    L, v = block.factor, _probes(len(block.points))
    with np.errstate(all="ignore"), blas_threads(1):
        whole = block.kernel.of_scaled(block.points) @ v + block.jitter * v
        size = np.abs(L) @ (np.abs(L).T @ np.abs(v))
        _compare(L @ (L.T @ v), whole, ROUNDING * size, f"the factor of {name} is not that of its sparse points")


def sums_of(basis: SparseBasis, of: Callable[[np.ndarray], np.ndarray] = np.asarray) -> np.ndarray:
    """L u and Z u for fixed vectors u, block by block, of factors L and sparse points Z: (2, m).

    ``of`` = ``np.abs``: the sums of the absolute values, which rounding is a share of.
    """
    with blas_threads(1):
        parts = [[of(A) @ of(_probes(A.shape[1])[:, 0]) for A in (b.factor, b.points)] for b in basis.blocks]
    return np.array([np.concatenate(rows) for rows in zip(*parts, strict=True)])


def check_sums(basis: SparseBasis, stored: np.ndarray) -> None:
    """Sparse points and factors are those of the fit, as far as :func:`sums_of` can tell."""
    made, sizes = sums_of(basis), sums_of(basis, np.abs)
    reason = "the sparse points are not those whose kernel matrix was factorised"
    _compare(made[0], stored[0], ROUNDING_OF_FACTOR * sizes[0], reason)
    _compare(made[1], stored[1], ROUNDING * sizes[1], reason)


def check_weights(basis: SparseBasis, alpha: np.ndarray, weights: np.ndarray) -> None:
    """The weights of the sparse points are those of the posterior, ``(K_mm + jitter) alpha = L w``."""
    for k, block in enumerate(basis.blocks):
        L, a, w = block.factor, alpha[block.columns], weights[block.columns]
        with np.errstate(all="ignore"), blas_threads(1):
            size = np.abs(L)
            allowed = ROUNDING_OF_FACTOR * (size @ np.abs(w)) + 1e-3 * ROUNDING * (size @ (size.T @ np.abs(a)))
            _compare(L @ (L.T @ a), L @ w, allowed, f"alpha of block {k} is not that of the posterior's weights")


def check_posterior(posterior: Posterior, z: np.ndarray | None) -> None:
    """No variance is larger than the prior's: ``R^T R >= 1``; and ``R (w / delta) = z``, where z is in the file."""
    R = posterior.R
    if np.abs(R.diagonal()).min(initial=np.inf) < 1 - UNIT:
        raise ValueError("the posterior R has a diagonal element below one")
    with np.errstate(all="ignore"), blas_threads(1):
        if z is not None:
            v = posterior.weights / posterior.column_signal
            _compare(R @ v, z, ROUNDING * (np.abs(R) @ np.abs(v)), "the weights are not those of the posterior R and z")
        v = _probes(len(R))[:, 0]
        for _ in range(POWER_STEPS):
            v /= np.linalg.norm(v)
            half = scipy.linalg.solve_triangular(R, v, trans="T", check_finite=False)
            if not np.linalg.norm(half) <= 1 + UNIT:
                raise ValueError("the posterior R gives a variance above the prior's")
            v = scipy.linalg.solve_triangular(R, half, check_finite=False)


def check_triangles(triangles: Triangles, posterior: Posterior, noise: Mapping[str, float]) -> None:
    """The posterior is that of the rows: ``R^T R = 1 + sum_g delta R_g^T R_g delta / sigma_g^2``, and its weights."""
    m = triangles.n_columns
    delta, R = posterior.column_signal, posterior.R
    v = np.column_stack([_probes(m), posterior.weights / delta])
    found, size = v.copy(), np.abs(v)
    right, size_right = np.zeros(m), np.zeros(m)
    with np.errstate(all="ignore"), blas_threads(1):
        for (group, fold), t in triangles.items.items():
            if t.R.ndim != 2 or t.R.shape[1] != m + 1 or len(t.R) > m + 1:
                raise ValueError(f"the triangle of {group}, fold {fold}, has the shape {t.R.shape}")
            A, y = t.R[:, :-1] / noise[group], t.R[:, -1] / noise[group]
            left = delta[:, None] * (A.T @ (A @ (delta[:, None] * v)))
            found += left
            absolute = np.abs(A).T
            size += delta[:, None] * (absolute @ (absolute.T @ (delta[:, None] * np.abs(v))))
            right += delta * (A.T @ y)
            size_right += delta * (absolute @ np.abs(y))
        square = R.T @ (R @ v)
        size += np.abs(R).T @ (np.abs(R) @ np.abs(v))
        _compare(square, found, ROUNDING * size, "the posterior R is not that of the triangles")
        allowed = ROUNDING * (size[:, -1] + size_right)
        _compare(square[:, -1], right, allowed, "the weights are not those of the triangles")


def check_orthonormal(points: np.ndarray, name: str) -> None:
    """The points of an exact mean are orthonormal: ``E E^T = 1`` for points E (k, d)."""
    v = _probes(len(points))
    with np.errstate(all="ignore"), blas_threads(1):
        _compare(
            points @ (points.T @ v), v, np.full(v.shape, UNIT), f"the further points of {name} are not orthonormal"
        )


def _probes(n: int) -> np.ndarray:
    """Fixed vectors (n, probes), none of whose elements is small; a formula, so that no library can change them."""
    phase = np.arange(n)[:, None] * (1.0 + np.sqrt([2.0, 3.0][:PROBES]))
    return np.where(np.sin(phase) < 0, -1.0, 1.0) * (1.0 + 0.5 * np.sin(3.0 * phase))


def _compare(found: np.ndarray, wanted: np.ndarray, allowed: np.ndarray, reason: str) -> None:
    """Raise ValueError with the ``reason`` where two arrays differ by more than is ``allowed``, or are not finite."""
    if not np.all(np.abs(found - wanted) <= allowed):
        raise ValueError(reason)
