r"""The mean by the Gaussian process on every label, for small cells and molecules.

Sparse points span what the energies of single environments can teach. A force is another functional of the same
function, and labels of small frames outnumber environments threefold: of 100 frames of ethanol the mean that takes
every force and energy as a functional has half the error of that of all environments (docs/ACCURACY.md). Its cost grows
with the cube of the number of labels and the square of the number of frames, so it is for thousands of labels.

With a kernel of power two the mean stays small, whatever the number of labels: a derivative of
:math:`(x \cdot x_e)^2` by theta is :math:`x^T (x_e J^T + J x_e^T) x`, so that all labels together are one symmetric
matrix per channel,

.. math:: Q = \delta^2 \sum_e \Big[ a_e\, x_e x_e^T + x_e g_e^T + g_e x_e^T \Big], \qquad
          g_e = \sum_\theta \alpha_\theta J_{e\theta},

with alpha of :mod:`gapkit.models.exact_gp`; its eigenvectors and eigenvalues are kept as points and weights. Other
terms (pairs) enter through their sparse points.

Error bars are those of the sparse model with the same kernel and levels, which knows less: its posterior variance is an
upper bound, and their size follows the out-of-fold errors of the exact mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapkit.fitting.training_set import TrainingSet
from gapkit.kernels import DotProduct
from gapkit.models.basis import SparseBasis
from gapkit.models.exact_gp import ExactSolution, solve_exact
from gapkit.models.levels import Levels, kind_of
from gapkit.models.observations import ISOLATED, Targets, group_name, informative
from gapkit.models.terms import Term
from gapkit.numerics.label_covariances import block_row
from gapkit.numerics.threads import blas_threads, map_blocks, physical_memory
from gapkit.structures.structure import Structure

#: most labels, and most multiplications and additions, of a fit that chooses the exact mean by itself
MOST_LABELS, MOST_FLOPS = 30_000, 1e14
#: the factor on all noise levels is searched on so many labels, about
SEARCH_LABELS = 3000
#: frames described between two steps of the progress bar
BATCH = 32
#: factors tried: a sparse model's noise also holds what its sparse points cannot express
FACTORS = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125)


@dataclass(frozen=True)
class Labels:
    """What is asked of one frame: rows of its raw covariances, in the order energy, forces, virial.

    Attributes
    ----------
    rows : (n,) int
        0 the energy; 1 + k the derivative by position or strain component k.
    scale : (n,)
        Factors: energies and virials per square root of atoms, forces and virials minus the derivative.
    y : (n,)
    groups : list of str
        Noise group of each.
    """

    rows: np.ndarray
    scale: np.ndarray
    y: np.ndarray
    groups: list[str]

    @classmethod
    def of(cls, targets: Targets, own_groups: Sequence[str]) -> Labels:
        """The labels of one frame, as :func:`gapkit.models.observations.observations` scales them."""
        root, n = np.sqrt(targets.n_atoms), targets.n_atoms
        rows, scale, y, groups = [], [], [], []

        def add(kind: str, index: np.ndarray, factor: float, values: np.ndarray) -> None:
            rows.append(index)
            scale.append(np.full(len(index), factor))
            y.append(values)
            groups.extend([kind] * len(index))

        if targets.energy is not None:
            kind = ISOLATED if targets.isolated else group_name("energy", targets.config_type, own_groups)
            add(kind, np.array([0]), 1 / root, np.array([targets.energy / root]))
        if not targets.isolated and targets.forces is not None:
            kind = group_name("forces", targets.config_type, own_groups)
            labels = np.flatnonzero(targets.force_labels)
            add(kind, 1 + labels, -1.0, targets.forces.ravel()[labels])
        if not targets.isolated and targets.virial is not None:
            kind = group_name("virial", targets.config_type, own_groups)
            add(kind, np.arange(1 + 3 * n, 7 + 3 * n), -1 / root, targets.virial / root)
        return cls(np.concatenate(rows), np.concatenate(scale), np.concatenate(y), groups)

    def only(self, which: np.ndarray) -> Labels:
        """These labels alone: ``which`` (n,) bool."""
        groups = [g for g, kept in zip(self.groups, which, strict=True) if kept]
        return Labels(self.rows[which], self.scale[which], self.y[which], groups)


@dataclass(frozen=True)
class ExactMean:
    """The mean of a fit on every label.

    Attributes
    ----------
    alpha : (m,)
        Weights of the sparse functionals: those of terms other than SOAP; zero for SOAP (eV).
    extra : dict
        Per SOAP block its (points (d, d), weights (d,)).
    errors : dict
        Per held-out frame its out-of-fold errors of energy (eV), forces (3n,) in eV/A, and virial (6,) in eV; None or
        NaN where there is no label, or none that tells anything.
    noise_factor : float
        By which the levels' noise was multiplied.
    held_out : dict
        Out-of-fold root-mean-square error of each noise group.
    """

    alpha: np.ndarray
    extra: dict[int, tuple[np.ndarray, np.ndarray]]
    errors: dict[int, tuple[float | None, np.ndarray | None, np.ndarray | None]]
    noise_factor: float
    held_out: dict[str, float]


def suits(terms: Sequence[Term]) -> bool:
    """Whether an exact mean can be made of these terms: one SOAP term, of power two."""
    soap = [t for t in terms if t.descriptor.of_atoms]
    return len(soap) == 1 and isinstance(soap[0].kernel, DotProduct) and soap[0].kernel.zeta == 2


def within_reach(data: TrainingSet) -> bool:
    """Whether the default fit takes the exact mean: molecules and clusters, few enough of them, memory for them."""
    if any(f.atoms.pbc.any() for f in data.frames):
        return False
    n = data.n_rows
    memory = physical_memory() or 8e9  # a system that does not say is taken for a small one
    return n <= MOST_LABELS and _products(data) + n**3 <= MOST_FLOPS and 8.0 * n * n < 0.4 * memory


def _products(data: TrainingSet) -> float:
    """Products of the covariances of all labels, about: of derivatives on 300 directions."""
    atoms = np.array([t.n_atoms for t in data.targets], dtype=float)
    return float(np.sum(3 * atoms * atoms)) ** 2 * 300.0


def cost(data: TrainingSet) -> tuple[float, float]:
    """Memory (GB) and processor time (s), about, of an exact mean."""
    atoms = np.array([t.n_atoms for t in data.targets], dtype=float)
    memory = 8e-9 * (1.2 * data.n_rows**2 + 300.0 * np.sum(3 * atoms * atoms))
    return memory, _products(data) / 4e10 + data.n_rows**3 / 1.5e11


class LabelCovariances:
    """Prior covariances of the labels of a training set under given signal levels.

    Parameters
    ----------
    data, basis
        Training set and sparse functionals (their directions; the points of terms other than SOAP).
    own_groups
        Noise groups beyond one per label kind.
    """

    def __init__(
        self,
        data: TrainingSet,
        basis: SparseBasis,
        own_groups: Sequence[str],
        bar: Callable[..., Any],
        n_threads: int = 1,
    ) -> None:
        self.data, self.basis, self.bar = data, basis, bar
        self.labels = [Labels.of(t, own_groups) for t in data.targets]
        self.soap = {k: b for k, b in enumerate(basis.blocks) if b.descriptor.of_atoms}
        self.others = [k for k in range(len(basis.blocks)) if k not in self.soap]
        self.other_basis = (
            SparseBasis.of_blocks([basis.blocks[k] for k in self.others], basis.n_terms) if self.others else None
        )
        self.columns = np.concatenate(
            [np.arange(basis.blocks[k].columns.start, basis.blocks[k].columns.stop) for k in self.others] or [[]]
        ).astype(np.int64)
        progress = bar(total=len(data.frames), desc="environments", unit="frame")
        described = []
        for begin in range(0, len(data.frames), BATCH):
            batch = range(begin, min(begin + BATCH, len(data.frames)))
            described += map_blocks(self._described, batch, n_threads)
            progress.update(len(batch))
        progress.close()
        self.whitened = [d[0] for d in described]
        self.environments = {k: [d[1][k] for d in described] for k in self.soap}
        for n in range(len(self.labels)):
            free = self._informative(n)
            if not free.all():
                self.labels[n], self.whitened[n] = self.labels[n].only(free), self.whitened[n][free]

    def _informative(self, n: int) -> np.ndarray:
        """Which labels of frame ``n`` are not fixed by symmetry, by their prior variances."""
        labels, end = self.labels[n], 1 + 3 * self.data.targets[n].n_atoms
        if labels.rows.max(initial=0) == 0:
            return np.ones(len(labels.rows), dtype=bool)
        raw = np.zeros((6 + end, 6 + end))
        place = np.array([0, 6 + end])
        for k, b in self.soap.items():
            block_row(0, *_gathered([self.environments[k][n]]), place, b.kernel.zeta, raw)
        scale = np.where(labels.rows >= end, self.data.targets[n].n_atoms, 1.0)
        others = np.sum((self.whitened[n] / labels.scale[:, None]) ** 2, axis=1)
        prior = np.diagonal(raw)[labels.rows] + others
        return (labels.rows == 0) | informative((prior / scale**2)[:, None])

    def _described(self, n: int) -> tuple[np.ndarray, dict[int, tuple]]:
        """Whitened rows of the other terms, and the environments of every SOAP block of frame ``n``."""
        targets, labels = self.data.targets[n], self.labels[n]
        structure = Structure(self.data.frames[n].atoms, self.basis.r_cut)
        derivatives = bool(labels.rows.max(initial=0) > 0)
        if self.other_basis is None:
            whitened = np.zeros((len(labels.y), 0))
        else:
            K = self.other_basis.rows(structure, derivatives, prior=False).K[labels.rows]
            whitened = self.other_basis.whiten(K) * labels.scale[:, None]
        asked = np.isin(np.arange(7 + 3 * targets.n_atoms), labels.rows)
        environments = {}
        for k, b in self.soap.items():
            batch = b.descriptor.frame_environments(structure, b.channel, derivatives)
            x = np.ascontiguousarray(b.project(b.kernel.scale(batch.x)))
            if not derivatives:
                empty = np.zeros(0, dtype=np.int64)
                environments[k] = x, np.zeros((0, x.shape[1])), np.zeros(len(x), dtype=np.int64), empty
                continue
            kept = asked[1 + batch.target]
            J = np.ascontiguousarray(b.project(b.kernel.scale(batch.J))[kept])
            owner = np.repeat(np.arange(len(x)), np.diff(batch.start))
            counts = np.bincount(owner[kept], minlength=len(x)).astype(np.int64)
            environments[k] = x, J, counts, batch.target[kept].astype(np.int64)
        return whitened, environments

    def matrix(self, frames: Sequence[int], signal: np.ndarray, n_threads: int) -> np.ndarray:
        """Lower triangle of the covariance of all labels of ``frames`` (n, n), Fortran order."""
        sizes = [len(self.labels[n].y) for n in frames]
        end = np.concatenate([[0], np.cumsum(sizes)])
        raw_sizes = [7 + 3 * self.data.targets[n].n_atoms for n in frames]
        place = np.concatenate([[0], np.cumsum(raw_sizes)]).astype(np.int64)
        gathered = {k: _gathered([e[n] for n in frames]) for k, e in self.environments.items()}
        kept = np.concatenate([place[k] + self.labels[n].rows for k, n in enumerate(frames)])
        scale = np.concatenate([self.labels[n].scale for n in frames])
        A = np.vstack([self.whitened[n] for n in frames]) * signal[self.basis.column_terms()[self.columns]]
        K = np.zeros((end[-1], end[-1]), order="F")
        progress = self.bar(total=len(frames), desc="label covariances", unit="frame")

        def fill(k: int) -> None:
            raw = np.zeros((raw_sizes[k], place[k + 1]))
            for block, arrays in gathered.items():
                b = self.soap[block]
                mine = np.zeros_like(raw)
                block_row(k, *arrays, place, b.kernel.zeta, mine)
                raw += signal[b.term] ** 2 * mine
            rows, columns = slice(end[k], end[k + 1]), slice(0, end[k + 1])
            part = raw[self.labels[frames[k]].rows][:, kept[columns]]
            K[rows, columns] = part * scale[rows, None] * scale[columns] + A[rows] @ A[columns].T
            progress.update()

        map_blocks(fill, range(len(frames)), n_threads)
        progress.close()
        return K

    def solve(
        self, frames: Sequence[int], levels: Levels, factor: float, folds: np.ndarray, n_threads: int
    ) -> ExactSolution:
        """The solution for the labels of ``frames`` with all noise levels (but that of isolated atoms) times
        ``factor``."""
        K = self.matrix(frames, levels.signal, n_threads)
        with blas_threads(n_threads):
            return solve_exact(K, *self._targets(frames, levels, factor, folds))

    def _targets(self, frames, levels, factor, folds):
        noise = {g: s if g == ISOLATED else factor * s for g, s in levels.noise.items()}
        y = np.concatenate([self.labels[n].y for n in frames])
        variance = np.array([noise[g] ** 2 for n in frames for g in self.labels[n].groups])
        return y, variance, np.concatenate([np.full(len(self.labels[n].y), folds[n]) for n in frames])

    def best_factor(self, levels: Levels, folds: np.ndarray, n_threads: int) -> float:
        """The factor on all noise levels with the least out-of-fold error in a sample of frames."""
        held = np.flatnonzero(folds >= 0)
        per_frame = sum(len(self.labels[n].y) for n in held) / len(held)
        step = max(1, round(len(held) * per_frame / SEARCH_LABELS))
        frames = [*held[::step], *np.flatnonzero(folds < 0)]
        K = self.matrix(frames, levels.signal, n_threads)
        kinds = np.array([kind_of(g) for n in frames for g in self.labels[n].groups])
        best = (np.inf, 1.0)
        with blas_threads(n_threads):
            for factor in FACTORS:
                errors = solve_exact(K.copy(order="F"), *self._targets(frames, levels, factor, folds)).errors
                counted = [np.abs(errors[(kinds == k) & np.isfinite(errors)]) for k in ("energy", "forces")]
                counted = [e for e in counted if len(e)] or [np.abs(errors[np.isfinite(errors)])]
                value = sum(float(np.log(max(e.mean(), 1e-300))) for e in counted)
                if value > best[0]:
                    break
                best = (value, factor)
        return best[1]

    def mean(self, levels: Levels, folds: np.ndarray, n_threads: int) -> ExactMean:
        """Search the factor, solve for all labels, and gather the mean."""
        factor = self.best_factor(levels, folds, n_threads) if len({f for f in folds if f >= 0}) > 1 else 1.0
        frames = np.argsort(folds, kind="stable").tolist()  # the last fold at the end, see ``solve_exact``
        solution = self.solve(frames, levels, factor, folds, n_threads)
        end = np.concatenate([[0], np.cumsum([len(self.labels[n].y) for n in frames])])
        part_of = {n: slice(end[k], end[k + 1]) for k, n in enumerate(frames)}
        parts = [part_of[n] for n in range(len(frames))]
        weights = [solution.alpha[p] * lab.scale for p, lab in zip(parts, self.labels, strict=True)]
        extra = {}
        for k, b in self.soap.items():
            Q = np.zeros((b.points.shape[1],) * 2)
            for w, lab, (x, J, counts, target) in zip(weights, self.labels, self.environments[k], strict=True):
                if len(x) == 0:
                    continue
                by_row = np.zeros(1 + max(int(lab.rows.max()), int(target.max(initial=-1)) + 1))
                by_row[lab.rows] = w
                g = np.zeros_like(x)
                np.add.at(g, np.repeat(np.arange(len(x)), counts), by_row[1 + target, None] * J)
                Q += by_row[0] * x.T @ x + x.T @ g + g.T @ x
            values, vectors = np.linalg.eigh(0.5 * levels.signal[b.term] ** 2 * (Q + Q.T))
            extra[k] = np.ascontiguousarray(vectors.T), values
        alpha = np.zeros(self.basis.n_columns)
        if self.other_basis is not None:
            w = np.zeros(self.basis.n_columns)
            variance = levels.signal[self.basis.column_terms()[self.columns]] ** 2
            w[self.columns] = variance * sum(a.T @ solution.alpha[p] for a, p in zip(self.whitened, parts, strict=True))
            alpha = self.basis.unwhiten(w)
        held = {n: solution.errors[p] for n, p in enumerate(parts) if np.isfinite(solution.errors[p]).all()}
        errors = {n: self._errors(n, e) for n, e in held.items()}
        return ExactMean(alpha, extra, errors, factor, self._held_out(held))

    def _errors(self, n: int, errors: np.ndarray) -> tuple[float | None, np.ndarray | None, np.ndarray | None]:
        n_atoms, rows = self.data.targets[n].n_atoms, self.labels[n].rows
        every = np.full(7 + 3 * n_atoms, np.nan)
        every[rows] = errors
        every[0] *= np.sqrt(n_atoms)
        every[1 + 3 * n_atoms :] *= np.sqrt(n_atoms)
        energy, forces, virial = every[0], every[1 : 1 + 3 * n_atoms], every[1 + 3 * n_atoms :]
        return (
            float(energy) if np.isfinite(energy) else None,
            forces if np.isfinite(forces).any() else None,
            virial if np.isfinite(virial).any() else None,
        )

    def _held_out(self, held: dict[int, np.ndarray]) -> dict[str, float]:
        if not held:
            return {}
        groups = np.array([g for n in held for g in self.labels[n].groups])
        errors = np.concatenate(list(held.values()))
        return {str(g): float(np.sqrt(np.mean(errors[groups == g] ** 2))) for g in np.unique(groups)}


def _gathered(environments: Sequence[tuple]) -> tuple[np.ndarray, ...]:
    """X, J, first, start, target of all frames, as ``block_row`` takes them."""
    x, J, counts, target = zip(*environments, strict=True)
    first = np.concatenate([[0], np.cumsum([len(v) for v in x])]).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return np.vstack(x), np.vstack(J), first, start, np.concatenate(target)
