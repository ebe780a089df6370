"""Rows of frames so large that the derivatives of all their descriptors together would fill the memory.

Covariances with the sparse points add up over environments, a few at a time. A prior variance is a sum over pairs of
environments that depend on the same coordinate: those of a group of neighbouring atoms need the environments around
the group only, whose derivatives are made once more and kept only where they are by the group's coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gapkit.descriptors.base import EnvironmentBatch
from gapkit.models.sparse_block import SparseBlock
from gapkit.numerics import design_rows
from gapkit.structures.neighbours import Neighbours
from gapkit.structures.structure import Structure

#: frames of more atoms are streamed
AT_ONCE = 256
#: environments whose derivatives are held at a time, and atoms whose coordinates are treated together
ENVIRONMENTS, GROUP = 64, 128


def add_streamed_rows(
    block: SparseBlock,
    structure: Structure,
    rows: np.ndarray,
    variance: np.ndarray | None,
    projected: np.ndarray | None = None,
    seen_by: SparseBlock | None = None,
) -> None:
    """Add what ``block`` contributes to a frame's ``rows`` (1 + 3 n + 6, m) and, if asked for, to its prior variances
    and to those of the ``projected`` features (by the directions of ``seen_by``, or the block's own).

    For descriptors whose environments can be made for some atoms alone (``Descriptor.each_atom_alone``).
    """
    n, arguments = structure.n_atoms, block.kernel_arguments()
    strained = []
    for batch in _batches(block, structure, np.arange(n)):
        design_rows.add_rows(
            block.project(batch.x), batch.weight, batch.start, batch.target, block.project(batch.J), batch.dweight,
            block.points, *arguments, rows,
        )  # fmt: skip
        if variance is not None:
            strained.append(_only(batch, batch.target >= 3 * n))
    if variance is None or not strained:
        return
    wanted = [(variance, False)] + ([] if projected is None else [(projected, True)])
    for out, seen in wanted:
        _add_prior(_projected(strained, seen_by or block) if seen else strained, arguments, out)
    pairs = structure.pairs(block.descriptor.r_cut)
    for atoms in neighbouring_groups(pairs, GROUP):
        of_atoms = np.zeros(n + 2, dtype=bool)  # the strain counts as two more atoms
        of_atoms[atoms] = True
        around = np.unique(np.concatenate([atoms, *(pairs.j[pairs.first[a] : pairs.first[a + 1]] for a in atoms)]))
        parts = [_only(batch, of_atoms[batch.target // 3]) for batch in _batches(block, structure, around)]
        for out, seen in wanted if parts else ():
            group = np.zeros_like(out)
            _add_prior(_projected(parts, seen_by or block) if seen else parts, arguments, group)
            out[1:] += group[1:]


def _batches(block: SparseBlock, structure: Structure, atoms: np.ndarray) -> Iterator[EnvironmentBatch]:
    """Environments of ``atoms``, a few at a time, features scaled by the kernel."""
    for begin in range(0, len(atoms), ENVIRONMENTS):
        part = block.descriptor.environments(structure, block.channel, atoms=atoms[begin : begin + ENVIRONMENTS])
        if len(part):
            x, J = block.kernel.scale(part.x), block.kernel.scale(part.J)
            yield EnvironmentBatch(x, part.weight, part.atom, part.start, part.target, J, part.dweight)


def _only(batch: EnvironmentBatch, keep: np.ndarray) -> EnvironmentBatch:
    """The batch with only those rows of J."""
    before = np.concatenate([[0], np.cumsum(keep)])
    return EnvironmentBatch(
        batch.x, batch.weight, batch.atom, before[batch.start], batch.target[keep], batch.J[keep], batch.dweight[keep]
    )


def _projected(parts: Sequence[EnvironmentBatch], block: SparseBlock) -> list[EnvironmentBatch]:
    """The batches with features projected on the block's directions."""
    return [
        EnvironmentBatch(block.project(p.x), p.weight, p.atom, p.start, p.target, block.project(p.J), p.dweight)
        for p in parts
    ]


def _add_prior(parts: Sequence[EnvironmentBatch], arguments: tuple[int, int, bool], out: np.ndarray) -> None:
    """Prior variances of the environments of all ``parts`` together."""
    offsets = np.concatenate([[0], np.cumsum([len(p.target) for p in parts])])
    start = np.concatenate([p.start[:-1] + offset for p, offset in zip(parts, offsets, strict=False)] + [offsets[-1:]])
    x, weight, target, J, dweight = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "weight", "target", "J", "dweight")
    )
    design_rows.prior_variances(x, weight, start, target, J, dweight, *arguments, out)


def neighbouring_groups(pairs: Neighbours, size: int) -> Iterator[np.ndarray]:
    """All atoms in groups of at most ``size``, each grown from neighbour to neighbour so that it has few around it."""
    left = np.ones(pairs.n_atoms, dtype=bool)
    for seed in range(pairs.n_atoms):
        if not left[seed]:
            continue
        left[seed] = False
        group = [seed]
        grown = 0
        while grown < len(group) and len(group) < size:
            a = group[grown]
            near = pairs.j[pairs.first[a] : pairs.first[a + 1]]
            new = np.unique(near[left[near]])[: size - len(group)]
            left[new] = False
            group.extend(new.tolist())
            grown += 1
        yield np.array(group)
