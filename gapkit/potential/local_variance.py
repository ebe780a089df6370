r"""Variance of local energies at the speed of dynamics: a quadratic form of low rank, chosen at the end of a fit.

With whitened rows a = (pair columns, columns of the atom's own SOAP block), the calibrated variance of the function is

.. math:: v = c_r \big(\delta^2 k(x, x) + \rho_{pair}\big) - a^T W a, \qquad
          W = c_r \,\mathrm{diag}(0, \delta^2) - c_w \,\delta (R^T R)^{-1} \delta

(``uncertainty.calibration`` for the factors, ``models.posterior`` for R). Eigenvectors split W into a positive and a
negative part, :math:`W = B_+^T B_+ - B_-^T B_-`. Of :math:`B_+ a`, whose covariance over training environments is
known from a sample, only the leading principal components are kept, as many as keep the standard deviation of a new
label within ``ERROR`` of the exact one. What is dropped is positive, so the variance can only come out too large:
the farther from the data, the more. The result is one matrix C of r rows with

.. math:: v = c_r \big(\delta^2 k(x, x) + \rho_{pair}\big) - \sum_j s_j (C k)_j^2, \qquad s_j = \pm 1

for k, the kernel values that the prediction of the mean has at hand. The residual of the pair term is bounded
(Cauchy and Schwarz) by the square of the sum over pairs of :math:`w(r) \sqrt{\rho(r)}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.linalg

from gapkit.descriptors import Descriptor, PairDistance
from gapkit.descriptors.base import Channel, Sums, smooth_cutoff
from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_block import SparseBlock
from gapkit.numerics.chains import pair_kernel_sums
from gapkit.numerics.radial import hermite_table, in_octets
from gapkit.structures.structure import Structure
from gapkit.uncertainty.calibration import Calibration

#: root-mean-square relative error of the standard deviation of a new label, over environments not used to choose; most
#: of it comes from a few strange environments, whose variance comes out too large
ERROR = 0.15
#: most components: they cost half as much as energies and forces do
LARGEST_RANK = 320
#: share of the variance, on average, that dropping directions of negative weight may cost
WORTHWHILE = 1e-4
#: grid points of the table of pair kernels
TABLE_POINTS = 1000
#: environments that the rank is chosen by
SAMPLE = 4000


@dataclass(frozen=True)
class LocalForm:
    """The quadratic form of one SOAP block.

    Attributes
    ----------
    soap : (r, m)
        Part of C that acts on kernel values with the block's sparse points.
    pair : (r, q)
        Part that acts on the sums of pair kernels (all pair blocks, in order).
    signs : (r,)
        s.
    """

    soap: np.ndarray
    pair: np.ndarray
    signs: np.ndarray


def supports(basis: SparseBasis) -> bool:
    """Whether a form can be made: for one SOAP term with a dot-product kernel, and pair terms."""
    soap = {b.term for b in basis.blocks if b.descriptor.carries_forms}
    other_blocks = [b for b in basis.blocks if b.term not in soap]
    return (
        len(soap) == 1
        and all(b.descriptor.of_pairs for b in other_blocks)
        and not any(b.kernel.centred for b in basis.blocks if b.term in soap)
    )


def choose_forms(
    basis: SparseBasis,
    posterior: Posterior,
    calibration: Calibration,
    structures: Sequence[Structure],
    progress: Callable[..., Iterable[Structure]] | None = None,
) -> dict[int, LocalForm]:
    """Forms by index of SOAP block, from the environments of a sample of training frames.

    Empty where the model is of another kind. A block of which the sample holds no environment gets no form.
    ``progress`` makes a progress bar of the frames; None: without one.
    """
    if not supports(basis):
        return {}
    rows: dict[int, list[np.ndarray]] = {}
    pair_columns = _pair_columns(basis)
    stride = max(1, sum(s.n_atoms for s in structures) // SAMPLE)
    passed = dict.fromkeys((k for k, _ in _soap_blocks(basis)), 0)
    for s in structures if progress is None else progress(structures, desc="fast error bars", unit="frame"):
        K = basis.local_rows(s).K
        for k, b in _soap_blocks(basis):
            centres = np.flatnonzero(s.numbers == b.channel[0])
            picked = centres[-passed[k] % stride :: stride]
            passed[k] += len(centres)
            if len(picked):
                columns = np.r_[pair_columns, np.arange(b.columns.start, b.columns.stop)]
                rows.setdefault(k, []).append(K[np.ix_(picked, columns)])
    # whitened unit rows for all columns at once: (R^T R)^-1 in the basis of the rows
    covariance = scipy.linalg.cho_solve((posterior.R, False), np.diag(posterior.column_signal), check_finite=False)
    covariance *= posterior.column_signal[:, None]
    return {
        k: _form(basis, k, np.vstack(parts), covariance, posterior, calibration) for k, parts in sorted(rows.items())
    }


def _form(basis, k, K, covariance, posterior, calibration) -> LocalForm:
    block = basis.blocks[k]
    energy = calibration.of("energy")
    pair_columns = _pair_columns(basis)
    q = len(pair_columns)
    columns = np.r_[pair_columns, np.arange(block.columns.start, block.columns.stop)]
    factor = np.zeros((len(columns), len(columns)))
    begin = 0
    for b in [b for b in basis.blocks if b.descriptor.of_pairs] + [block]:
        end = begin + len(b.points)
        factor[begin:end, begin:end] = b.factor
        begin = end
    A = scipy.linalg.solve_triangular(factor, K.T, lower=True, check_finite=False).T
    W = -energy.weight_scale * covariance[np.ix_(columns, columns)]
    signal2 = posterior.signal[block.term] ** 2
    W[np.arange(q, len(columns)), np.arange(q, len(columns))] += energy.residual_scale * signal2
    values, vectors = scipy.linalg.eigh(W, check_finite=False)
    positive, negative = values > 0, values < 0
    up = vectors[:, positive] * np.sqrt(values[positive])
    down = vectors[:, negative] * np.sqrt(-values[negative])
    exact = energy.residual_scale * signal2 + np.einsum("nk,nk->n", A @ down, A @ down)
    b = A @ up
    exact = np.maximum(exact - np.einsum("nk,nk->n", b, b), 0.0) + energy.noise**2
    # judged on environments that the components have not seen
    kept = np.cumsum((b[1::2] @ _components(b[::2])) ** 2, axis=1)
    whole = np.einsum("nk,nk->n", b[1::2], b[1::2])
    dropped = whole[:, None] - np.column_stack([np.zeros(len(kept)), kept])  # column r: with the first r kept
    rank = _rank(exact[1::2], np.maximum(dropped, 0.0))
    rows = np.vstack([(up @ _components(b)[:, :rank]).T, _worthwhile(down, A, exact)])
    C = scipy.linalg.solve_triangular(factor, rows.T, lower=True, trans="T", check_finite=False).T
    signs = np.ones(len(C))
    signs[rank:] = -1.0
    return LocalForm(np.ascontiguousarray(C[:, q:]), np.ascontiguousarray(C[:, :q]), signs)


def _components(b: np.ndarray) -> np.ndarray:
    """The ``LARGEST_RANK`` first principal components (not centred) of the rows of ``b``, as columns."""
    k = b.shape[1]
    leading = [max(0, k - LARGEST_RANK), k - 1]
    return scipy.linalg.eigh(b.T @ b, check_finite=False, subset_by_index=leading)[1][:, ::-1]


def _rank(exact: np.ndarray, dropped: np.ndarray) -> int:
    """Fewest components, in steps of eight, that keep the standard deviation within ``ERROR`` (root mean square).

    No more than ``LARGEST_RANK``, however large the error then is: it is on the safe side.
    """
    full = min(dropped.shape[1] - 1, LARGEST_RANK)
    if not len(exact):
        return full
    for rank in range(8, full, 8):
        error = np.sqrt(1 + dropped[:, rank] / exact) - 1
        if np.sqrt(np.mean(error**2)) <= ERROR:
            return rank
    return full


def _worthwhile(down: np.ndarray, A: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Rows of the negative part that matter; the others would add no more than ``WORTHWHILE`` of the variance."""
    share = np.mean((A @ down) ** 2 / exact[:, None], axis=0)
    order = np.argsort(share)
    keep = np.cumsum(share[order]) > WORTHWHILE
    return down[:, order[keep]].T


def _soap_blocks(basis: SparseBasis) -> list[tuple[int, SparseBlock]]:
    return [(k, b) for k, b in enumerate(basis.blocks) if b.descriptor.carries_forms]


def _pair_columns(basis: SparseBasis) -> np.ndarray:
    parts = [np.arange(b.columns.start, b.columns.stop) for b in basis.blocks if b.descriptor.of_pairs]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class PairTable:
    """Weighted kernels of one pair block with its sparse points, and the square root of the residual, on a grid."""

    block: SparseBlock
    table: np.ndarray
    inverse_spacing: float
    n_pad: int

    @classmethod
    def of(cls, block: SparseBlock) -> PairTable:
        d = cast(PairDistance, block.descriptor)
        r = np.linspace(0.0, d.r_cut, TABLE_POINTS)
        weight = 0.5 * smooth_cutoff(r, d.r_cut, d.cutoff_width)[0]
        x = block.kernel.scale(r[:, None])
        k = block.kernel.of_scaled(x, block.points)
        a = scipy.linalg.solve_triangular(block.factor, k.T, lower=True, check_finite=False)
        rest = np.maximum(block.kernel.diagonal(r[:, None]) - np.einsum("mn,mn->n", a, a), 0.0)
        value = np.column_stack([k, np.sqrt(rest)]) * weight[:, None]
        slope = np.gradient(value, r[1], axis=0, edge_order=2)
        slope[:, -1] = 0.0  # the square root has corners: a value between two grid points stays between theirs
        n_pad = -(-value.shape[1] // 8) * 8
        table = in_octets(hermite_table(value[:, None, :], slope[:, None, :], r[1], n_pad), 1, n_pad)
        return cls(block, table, 1 / r[1], n_pad)

    def sums(self, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
        """Sums over the pairs of each atom: kernels (n, m), and square roots of the residual (n,)."""
        pairs = structure.pairs(self.block.descriptor.r_cut)
        low, high = self.block.channel
        out = np.zeros((structure.n_atoms, self.n_pad))
        pair_kernel_sums(
            pairs.first, pairs.j, pairs.distances, structure.numbers, low, high, self.table, self.inverse_spacing,
            self.n_pad, out,
        )  # fmt: skip
        m = len(self.block.points)
        return out[:, :m], out[:, m]


class LocalVariance:
    """Calibrated latent variances of local energies, as the passes that predict the mean add them.

    Parameters
    ----------
    basis, alpha, signal, calibration
        Fields of the fitted potential.
    predictors
        ``basis.predictors(alpha)``.
    forms
        Result of :func:`choose_forms`.

    Attributes
    ----------
    passes : list of (Descriptor, channel, predictor)
        Passes of ``predictors`` with forms; they subtract the explained part from the variances of :meth:`begin`.
    """

    def __init__(
        self,
        basis: SparseBasis,
        alpha: np.ndarray,
        signal: np.ndarray,
        calibration: Calibration,
        predictors: Sequence[tuple[Descriptor, Channel, Any]],
        forms: dict[int, LocalForm],
    ) -> None:
        self.basis, self.forms = basis, forms
        self._scale = calibration.of("energy").residual_scale
        self._signal2 = np.asarray(signal) ** 2
        self._tables = [PairTable.of(b) for b in basis.blocks if b.descriptor.of_pairs]
        of_block = {basis.blocks[k].channel: k for k in forms}
        self._served = set(of_block)
        self.passes = []
        for descriptor, channel, predictor in predictors:
            k = of_block.get(channel) if descriptor.carries_forms else None
            if k is not None:
                made = basis.blocks[k].kernel_sum(alpha)
                predictor = descriptor.with_form(predictor, made, forms[k].soap, forms[k].pair, forms[k].signs)
            self.passes.append((descriptor, channel, predictor))

    def begin(self, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
        """Pair kernel sums (n, q) of the structure, and the variances (n,) before SOAP blocks subtract their part."""
        sums = [t.sums(structure) for t in self._tables]
        together = np.ascontiguousarray(np.hstack([s for s, _ in sums] or [np.zeros((structure.n_atoms, 0))]))
        variance = np.zeros(structure.n_atoms)
        for t, (_, root) in zip(self._tables, sums, strict=True):
            variance += self._signal2[t.block.term] * np.maximum(root, 0.0) ** 2
        for k in self.forms:
            block = self.basis.blocks[k]
            variance[structure.numbers == block.channel[0]] += self._signal2[block.term]
        return together, self._scale * variance

    def of(self, structure: Structure) -> np.ndarray:
        """Variances (n,) of the local energies of a structure that the forms serve (eV^2)."""
        sums = Sums.zeros(structure.n_atoms, 6, *self.begin(structure))
        for descriptor, channel, predictor in self.passes:
            descriptor.add_prediction(structure, channel, predictor, sums)
        return sums.variance

    def serves(self, numbers: np.ndarray) -> bool:
        """Whether all of these atomic numbers have a form."""
        return all((int(z),) in self._served for z in np.unique(numbers))
