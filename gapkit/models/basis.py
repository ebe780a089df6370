r"""The sparse functionals of a model and the covariances of frames with them.

A *term* is a descriptor with a kernel; each of its channels has its own sparse points, together the columns m of
:math:`K_{nm}`. Rows are whitened, :math:`A = K_{nm} L^{-T}` with :math:`L L^T = K_{mm} + \text{jitter}`, so that the
weights have the prior :math:`w \sim N(0, 1)`; :math:`K_{mm}` is block-diagonal over channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg

from gapkit.descriptors import Descriptor
from gapkit.descriptors.base import Channel, KernelSum, projected
from gapkit.kernels import Kernel
from gapkit.models import streamed_rows
from gapkit.models.sparse_block import SparseBlock, whiten, whitening_factor
from gapkit.numerics import design_rows
from gapkit.numerics.threads import blas_threads
from gapkit.structures.structure import Structure

#: least jitter of a potential: smaller ones let weights grow tenfold, and with them the rounding noise of energies, and
#: gain nothing (mlearn silicon: force MAE 0.0643 eV/A at 1e-13, 0.0641 at 1e-8)
POTENTIAL_JITTER = 1e-8


@dataclass(frozen=True)
class FrameRows:
    """Covariances of one frame: row 0 its energy, rows 1 to 3N + 6 the derivatives by positions and strain.

    Attributes
    ----------
    K : (rows, m)
        With the sparse functionals, not whitened.
    prior : (rows, terms)
        Prior variances of the unit kernels.
    hidden : (rows, terms)
        The part of them that the projection of features hides, where it was asked for; else zero.
    """

    K: np.ndarray
    prior: np.ndarray
    hidden: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[FrameRows]) -> FrameRows:
        """Rows of several frames, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.vstack(arrays) for arrays in zip(*((p.K, p.prior, p.hidden) for p in parts), strict=True)))


class SparseBasis:
    """All sparse functionals of a model.

    Parameters
    ----------
    blocks
        Sparse points, as made by :meth:`build`.
    n_terms
        Number of terms.
    """

    def __init__(self, blocks: Sequence[SparseBlock], n_terms: int) -> None:
        self.blocks = tuple(blocks)
        self.n_terms = n_terms
        self.n_columns = sum(len(b.points) for b in self.blocks)
        self.r_cut = max(b.descriptor.r_cut for b in self.blocks)

    @classmethod
    def build(
        cls,
        chosen: Sequence[tuple[int, Descriptor, Kernel, Channel, np.ndarray]],
        n_terms: int,
        jitter: float = POTENTIAL_JITTER,
        directions: Mapping[tuple[int, Channel], np.ndarray] | None = None,
    ) -> SparseBasis:
        """Basis of sparse blocks, one for each entry of ``chosen``.

        An entry is (term, descriptor, kernel, channel, features of the sparse points (m, f)). ``jitter`` is the least
        that is added to the diagonal of a block's kernel matrix.

        ``directions`` (d, f) by term and channel: orthonormal rows to project on, for dot-product kernels.
        """
        blocks = []
        for term, descriptor, kernel, channel, features in chosen:
            onto = (directions or {}).get((term, channel))
            points = np.ascontiguousarray(projected(kernel.scale(features), onto))
            with blas_threads(1):  # as ``factor_of`` does: threads round differently
                factor, added = whitening_factor(kernel.of_scaled(points), jitter)
            blocks.append(SparseBlock(term, descriptor, kernel, channel, points, factor, added, slice(0), onto))
        return cls.of_blocks(blocks, n_terms)

    @classmethod
    def of_blocks(cls, blocks: Iterable[SparseBlock], n_terms: int) -> SparseBasis:
        """Basis of the given blocks, with their columns numbered one block after the other."""
        numbered, begin = [], 0
        for block in blocks:
            numbered.append(replace(block, columns=slice(begin, begin + len(block.points))))
            begin += len(block.points)
        return cls(numbered, n_terms)

    def predictors(
        self, alpha: np.ndarray, mean_points: Mapping[int, tuple[np.ndarray, np.ndarray]] | None = None
    ) -> list[tuple[Descriptor, Channel, Any]]:
        """Descriptor, channel and predictor of the mean for the weights ``alpha`` (m,).

        ``mean_points``: by index of block, further points (k, d) and weights (k,) that are not sparse functionals.
        Terms with one and the same descriptor share a pass over the environments where their kernels allow it.
        """
        grouped: dict[tuple[str, Channel], list[tuple[Descriptor, KernelSum]]] = {}
        for k, b in enumerate(self.blocks):
            made = b.kernel_sum(alpha, (mean_points or {}).get(k))
            grouped.setdefault((json.dumps(b.descriptor.settings()), b.channel), []).append((b.descriptor, made))
        return [
            (group[0][0], channel, group[0][0].predictor([s for _, s in group]))
            for (_, channel), group in grouped.items()
        ]

    def column_terms(self) -> np.ndarray:
        """Term of each column: shape (m,)."""
        terms = np.empty(self.n_columns, dtype=np.int64)
        for b in self.blocks:
            terms[b.columns] = b.term
        return terms

    def leading_columns(self, n: int) -> np.ndarray:
        """Columns of the ``n`` first sparse points, shared among blocks in proportion.

        Because L is lower triangular these whitened columns are those of the model with fewer points, exactly.
        """
        share = min(1.0, n / self.n_columns)
        return np.concatenate(
            [np.arange(b.columns.start, b.columns.start + max(1, round(share * len(b.points)))) for b in self.blocks]
        )

    def structure(self, atoms) -> Structure:
        """The frame with its pair lists."""
        return Structure(atoms, self.r_cut)

    def rows(
        self,
        structure: Structure,
        derivatives: bool = True,
        prior: bool = True,
        hidden: bool | Mapping[int, np.ndarray] = False,
    ) -> FrameRows:
        """Covariances of a frame's energy, and of the derivatives by positions and strain.

        ``prior`` asks for prior variances, ``hidden`` also for the part of them that projections hide: those of the
        blocks, or projections on other directions (d, f), by number of the block.
        """
        n = 1 + (3 * structure.n_atoms + 6 if derivatives else 0)
        K = np.zeros((n, self.n_columns))
        variance, unseen = np.zeros((n, self.n_terms)), np.zeros((n, self.n_terms))
        for k, b in enumerate(self.blocks):
            seen_by = replace(b, directions=hidden.get(k)) if isinstance(hidden, Mapping) else b
            hides = bool(hidden) and seen_by.directions is not None
            if derivatives and b.descriptor.each_atom_alone and structure.n_atoms > streamed_rows.AT_ONCE:
                block_rows, add = np.zeros((n, len(b.points))), np.zeros(n)
                seen = np.zeros(n) if hides else None
                streamed_rows.add_streamed_rows(b, structure, block_rows, add if prior else None, seen, seen_by)
                K[:, b.columns] = block_rows
                variance[:, b.term] += add
                if seen is not None:
                    unseen[:, b.term] += np.maximum(add - seen, 0.0)
                continue
            batch = b.descriptor.frame_environments(structure, b.channel, derivatives)
            if len(batch) == 0:
                continue
            x, J = b.kernel.scale(batch.x), b.kernel.scale(batch.J)
            block_rows = np.zeros((n, len(b.points)))
            arguments = b.kernel_arguments()
            projected_x, projected_J = b.project(x), b.project(J)
            design_rows.add_rows(
                projected_x, batch.weight, batch.start, batch.target, projected_J, batch.dweight, b.points, *arguments,
                block_rows,
            )  # fmt: skip
            K[:, b.columns] = block_rows
            if prior and b.grid is not None:
                on_grid = np.zeros((n, len(b.grid)))
                design_rows.add_rows(
                    x, batch.weight, batch.start, batch.target, J, batch.dweight, b.grid, *arguments, on_grid
                )
                variance[:, b.term] += b.variances_from_grid(on_grid)
            elif prior:
                add, seen = np.zeros(n), np.zeros(n)
                shared = batch.weight, batch.start, batch.target
                design_rows.prior_variances(x, *shared, J, batch.dweight, *arguments, add)
                variance[:, b.term] += add
                if hides:
                    same_block = seen_by is b
                    seen_x = projected_x if same_block else seen_by.project(x)
                    seen_J = projected_J if same_block else seen_by.project(J)
                    design_rows.prior_variances(seen_x, *shared, seen_J, batch.dweight, *arguments, seen)
                    unseen[:, b.term] += np.maximum(add - seen, 0.0)
        return FrameRows(K, variance, unseen)

    def local_rows(self, structure: Structure, atoms: np.ndarray | None = None) -> FrameRows:
        """Covariances of the local energies of ``atoms`` (default: all): one row each."""
        atoms = np.arange(structure.n_atoms) if atoms is None else np.asarray(atoms)
        K = np.zeros((len(atoms), self.n_columns))
        variance = np.zeros((len(atoms), self.n_terms))
        place = np.full(structure.n_atoms, -1)
        place[atoms] = np.arange(len(atoms))
        for b in self.blocks:
            batch = b.descriptor.environments(structure, b.channel, derivatives=False, atoms=atoms)
            if len(batch) == 0:
                continue
            x, row = b.kernel.scale(batch.x), place[batch.atom]
            block_rows = np.zeros((len(atoms), len(b.points)))
            design_rows.add_local_rows(b.project(x), batch.weight, row, b.points, *b.kernel_arguments(), block_rows)
            K[:, b.columns] = block_rows
            if b.grid is not None:
                on_grid = np.zeros((len(atoms), len(b.grid)))
                design_rows.add_local_rows(x, batch.weight, row, b.grid, *b.kernel_arguments(), on_grid)
                variance[:, b.term] += b.variances_from_grid(on_grid)
            else:
                add = np.zeros(len(atoms))
                design_rows.local_variances(x, batch.weight, row, *b.kernel_arguments(), add)
                variance[:, b.term] += add
        return FrameRows(K, variance, np.zeros_like(variance))

    def whiten(self, K: np.ndarray) -> np.ndarray:
        """A = K L^-T, block by block: shape (rows, m), Fortran order."""
        A = np.empty(K.shape, order="F")
        for b in self.blocks:
            A[:, b.columns] = whiten(K[:, b.columns], b.factor)
        return A

    def unwhiten(self, w: np.ndarray) -> np.ndarray:
        """Weights of the sparse functionals, alpha = L^-T w."""
        alpha = np.empty_like(w)
        for b in self.blocks:
            alpha[b.columns] = scipy.linalg.solve_triangular(
                b.factor, w[b.columns], lower=True, trans="T", check_finite=False
            )
        return alpha
