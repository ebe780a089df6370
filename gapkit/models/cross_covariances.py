"""Prior covariances among the energies of several frames, and bases that also span the environments of given frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.linalg

from gapkit.exceptions import NumericsError
from gapkit.models.basis import SparseBasis
from gapkit.models.sparse_block import SparseBlock
from gapkit.numerics import design_rows
from gapkit.structures.structure import Structure

#: environments whose unit residual variance is below this share of the kernel's diagonal are spanned well enough
SPANNED = 1e-9


def energy_covariances(basis: SparseBasis, structures: Sequence[Structure]) -> np.ndarray:
    """Prior covariances (n, n, terms) of the unit kernels between the energies of ``structures``.

    Per term, sum_e sum_e' w_e w_e' k(x_e, x_e') over the environments of the two frames.
    """
    covariances = np.zeros((len(structures), len(structures), basis.n_terms))
    for b in basis.blocks:
        covariances[:, :, b.term] += _sums(b, _features(b, structures))
    return covariances


def split_energy_covariances(basis: SparseBasis, structures: Sequence[Structure]) -> tuple[np.ndarray, np.ndarray]:
    """:func:`energy_covariances`, and the part of them (n, n, terms) that the projections of the blocks hide.

    The second is the covariance of functions of the whole features less that of functions of the projected ones; a
    positive semidefinite matrix, because the one kernel of features x is (x . x')^p, the other (P x . P x')^p.
    """
    whole = np.zeros((len(structures), len(structures), basis.n_terms))
    hidden = np.zeros_like(whole)
    for b in basis.blocks:
        features = _features(b, structures)
        sums = _sums(b, features)
        whole[:, :, b.term] += sums
        if b.directions is not None:
            hidden[:, :, b.term] += sums - _sums(b, [(b.project(x), w) for x, w in features])
    return whole, hidden


def _features(block: SparseBlock, structures: Sequence[Structure]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scaled features (e, f) and weights (e,) of each structure's environments."""
    batches = [block.descriptor.frame_environments(s, block.channel, derivatives=False) for s in structures]
    return [(block.kernel.scale(batch.x), batch.weight) for batch in batches]


def _sums(block: SparseBlock, features: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Sums (n, n) of the kernel over the environments of two frames each."""
    sums = np.zeros((len(features), len(features)))
    for i, (x, w) in enumerate(features):
        for j, (y, v) in enumerate(features[i:], i):
            if len(x) and len(y):
                sums[i, j] = sums[j, i] = design_rows.energy_variance(x, w, y, v, *block.kernel_arguments())
    return sums


def extended_basis(basis: SparseBasis, structures: Sequence[Structure], most: int = 2000) -> tuple[SparseBasis, int]:
    r"""The basis with further sparse points among the environments of ``structures``, and how many were added.

    With :math:`K_{mm} = L L^T` and new points u, :math:`a_u = L^{-1} k_u`, the factor grows by the rows
    :math:`[a_u^T, C]`, :math:`C C^T = k_{uu} - a_u^T a_u`: old whitened columns stay as they are, and the new ones span
    what the Nystrom residual holds at these environments. Points are taken by pivoted Cholesky, frame after frame.

    Parameters
    ----------
    most
        Largest number of points to add, over all blocks.
    """
    blocks, added = [], 0
    for b in basis.blocks:
        grown = b
        for s in structures:
            x = b.project(b.kernel.scale(b.descriptor.environments(s, b.channel, derivatives=False).x))
            grown = _with_points(grown, x, most - added - (len(grown.points) - len(b.points)))
        added += len(grown.points) - len(b.points)
        blocks.append(grown)
    return SparseBasis.of_blocks(blocks, basis.n_terms), added


def added_columns(old: SparseBasis, new: SparseBasis) -> np.ndarray:
    """Booleans (m,) of the columns that an extended basis ``new`` has beyond those of ``old``."""
    fresh = np.zeros(new.n_columns, dtype=bool)
    for a, b in zip(old.blocks, new.blocks, strict=True):
        fresh[b.columns.start + len(a.points) : b.columns.stop] = True
    return fresh


def _with_points(block: SparseBlock, x: np.ndarray, most: int) -> SparseBlock:
    """The block with at most ``most`` further points among the scaled features ``x`` (e, f)."""
    if len(x) == 0 or most <= 0:
        return block
    prior = block.kernel.diagonal_of_scaled(x)
    floor = SPANNED * prior.max()
    a = scipy.linalg.solve_triangular(
        block.factor, block.kernel.of_scaled(block.points, x), lower=True, check_finite=False
    )
    residual = prior - np.einsum("me,me->e", a, a)
    # many environments of one frame are near-copies, and most are spanned already
    candidates = np.flatnonzero(residual > floor)
    candidates = candidates[np.argsort(-residual[candidates], kind="stable")][: 4 * most]
    if len(candidates) == 0:
        return block
    left = block.kernel.of_scaled(x[candidates], x[candidates]) - a[:, candidates].T @ a[:, candidates]
    _, pivots, rank, info = scipy.linalg.lapack.dpstrf(left, tol=floor, lower=True)
    if info < 0:
        raise NumericsError("the kernel matrix of the frames' environments cannot be factorised")
    order = (pivots - 1)[: min(rank, most)]
    chosen = candidates[order]
    corner = left[np.ix_(order, order)]
    corner[np.diag_indices_from(corner)] += 0.1 * floor  # rounding
    m, u = len(block.points), len(chosen)
    factor = np.zeros((m + u, m + u), order="F")
    factor[:m, :m] = block.factor
    factor[m:, :m] = a[:, chosen].T
    factor[m:, m:] = scipy.linalg.cholesky(corner, lower=True, check_finite=False)
    return replace(block, points=np.ascontiguousarray(np.vstack([block.points, x[chosen]])), factor=factor)
