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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from gapkit.exceptions import NumericsError
from gapkit.fitting.mean import ErrorsByKind
from gapkit.fitting.training_set import TrainingSet
from gapkit.kernels import DotProduct
from gapkit.models.basis import SparseBasis
from gapkit.models.exact_gp import held_out_objective, minimum_downwards, solve_exact
from gapkit.models.levels import HeldOutStatistics, Levels, kind_of
from gapkit.models.observations import ISOLATED, Targets, group_name
from gapkit.models.terms import Term
from gapkit.numerics.label_covariances import covariances
from gapkit.numerics.lower_panels import LowerPanels
from gapkit.numerics.memory import memory_limit
from gapkit.numerics.threads import blas_threads, map_blocks
from gapkit.structures.structure import Structure
from gapkit.uncertainty.calibration import EXACT_SHARE

#: most labels, and most multiplications and additions, of a fit that chooses the exact mean by itself
MOST_LABELS, MOST_FLOPS = 30_000, 1e14
#: the factor on all noise levels is searched on so many labels at most, about: fewer labels want more noise, and on a
#: third of 300 ethanols the factor came out five times too large. Up to ``EVERY_FOLD`` of them every fold is judged
SEARCH_LABELS, EVERY_FOLD = 9000, 3000
#: directions of projected features, about, in estimates of cost
DIRECTIONS = 700
#: frames described between two steps of the progress bar
BATCH = 32
#: least factor on the noise levels (a sparse model's noise also holds what its sparse points cannot express), the step
#: of its logarithm in which a minimum is looked for, and solutions for it, about
LEAST_FACTOR, FACTOR_STEP, FACTOR_TRIALS = 1 / 32, float(np.log(2.0)), 5
#: factors on the noise, each twice the one before, that are tried where rounding makes a covariance singular
STEPS_UP = 6


@dataclass(frozen=True)
class Labels:
    """Labels of one frame, as rows of its raw covariances in the order energy, forces, virial.

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
    def of(cls, targets: Targets, separate_groups: Sequence[str]) -> Labels:
        """The labels of one frame, as :func:`gapkit.models.observations.observations` scales them."""
        root, n = np.sqrt(targets.n_atoms), targets.n_atoms
        rows, scale, y, groups = [], [], [], []

        def add(kind: str, index: np.ndarray, factor: float, values: np.ndarray) -> None:
            rows.append(index)
            scale.append(np.full(len(index), factor))
            y.append(values)
            groups.extend([kind] * len(index))

        if targets.energy is not None:
            kind = ISOLATED if targets.isolated else group_name("energy", targets.config_type, separate_groups)
            add(kind, np.array([0]), 1 / root, np.array([targets.energy / root]))
        if not targets.isolated and targets.forces is not None:
            kind = group_name("forces", targets.config_type, separate_groups)
            labels = np.flatnonzero(targets.force_labels)
            add(kind, 1 + labels, -1.0, targets.forces.ravel()[labels])
        if not targets.isolated and targets.virial is not None:
            kind = group_name("virial", targets.config_type, separate_groups)
            add(kind, np.arange(1 + 3 * n, 7 + 3 * n), -1 / root, targets.virial / root)
        return cls(np.concatenate(rows), np.concatenate(scale), np.concatenate(y), groups)

    @property
    def derivatives(self) -> bool:
        """Whether any of the labels is a derivative."""
        return bool(self.rows.max(initial=0) > 0)

    def places(self, target: np.ndarray) -> np.ndarray:
        """The label that is the derivative by each ``target``; -1 where there is none."""
        place = np.full(max(int(self.rows.max(initial=0)), 1 + int(target.max(initial=0))) + 1, -1)
        place[self.rows] = np.arange(len(self.rows))
        return place[1 + target]


@dataclass(frozen=True)
class ExactMean:
    """The mean of a fit on every label.

    Attributes
    ----------
    alpha : (m,)
        Weights of the sparse functionals: those of terms other than SOAP; zero for SOAP (eV).
    mean_points : dict
        Per SOAP block its (points (d, d), weights (d,)).
    basis : SparseBasis
        The sparse functionals, with features along the eigenvectors of Q where they are projected anyway: the points of
        ``mean_points`` are then the unit vectors.
    errors : dict
        Per held-out frame its out-of-fold errors of energy (eV), forces (3n,) in eV/A, and virial (6,) in eV; None or
        NaN where there is no label, or none that tells anything.
    noise_factor : float
        By which the levels' noise was multiplied.
    held_out : dict
        Out-of-fold root-mean-square error of each noise group.
    """

    alpha: np.ndarray
    mean_points: dict[int, tuple[np.ndarray, np.ndarray]]
    basis: SparseBasis
    errors: dict[int, tuple[float | None, np.ndarray | None, np.ndarray | None]]
    noise_factor: float
    held_out: dict[str, float]
    #: the residual of sparse points is that of a twin, which this mean does not have
    residual_share: ClassVar[float] = EXACT_SHARE
    is_exact: ClassVar[bool] = True

    @property
    def summary(self) -> dict[str, Any]:
        """JSON-ready entry of the model file about this mean."""
        return {"exact_noise_factor": self.noise_factor}

    def basis_of(self, basis: SparseBasis) -> SparseBasis:
        """See :class:`gapkit.fitting.mean.Mean`."""
        return self.basis

    def has_error(self, n: int) -> bool:
        """See :class:`gapkit.fitting.mean.Mean`."""
        return n in self.errors

    def errors_of(self, n: int, targets: Targets, sparse: np.ndarray) -> ErrorsByKind | None:
        """See :class:`gapkit.fitting.mean.Mean`."""
        return self.errors.get(n)

    def held_out_of(self, statistics: Mapping[str, HeldOutStatistics]) -> dict[str, HeldOutStatistics]:
        """See :class:`gapkit.fitting.mean.Mean`."""
        return {
            g: replace(s, squared_error=self.held_out[g] ** 2) if g in self.held_out else s
            for g, s in statistics.items()
        }


def supports_exact_mean(terms: Sequence[Term]) -> bool:
    """Whether an exact mean can be made of these terms: one SOAP term, of power two."""
    soap = [t for t in terms if t.descriptor.of_atoms]
    return len(soap) == 1 and isinstance(soap[0].kernel, DotProduct) and soap[0].kernel.zeta == 2


def is_affordable(data: TrainingSet) -> bool:
    """Whether the default fit takes the exact mean: for molecules and clusters, few enough for the memory."""
    if any(f.atoms.pbc.any() for f in data.frames):
        return False
    n = data.n_rows
    limit = memory_limit()
    memory = 8e9 if limit is None else limit.size  # a system that does not say is taken for a small one
    return n <= MOST_LABELS and _products(data) + n**3 <= MOST_FLOPS and 4.0 * n * n < 0.4 * memory


def _products(data: TrainingSet) -> float:
    """Products of the covariances of all labels, about: of derivatives on 300 directions."""
    atoms = np.array([t.n_atoms for t in data.targets], dtype=float)
    return float(np.sum(3 * atoms * atoms)) ** 2 * 300.0


def cost(data: TrainingSet) -> tuple[float, float]:
    """Memory (GB) and processor time (s), about, of an exact mean on ``DIRECTIONS`` directions per species."""
    atoms = np.array([t.n_atoms for t in data.targets], dtype=float)
    matrix = 0.5 * data.n_rows**2
    derivatives = DIRECTIONS * float(np.sum(3 * atoms * atoms))
    # derivatives go as the columns of the matrix come
    numbers = derivatives if derivatives > 2 * matrix else matrix + derivatives**2 / (4 * matrix)
    products = DIRECTIONS * data.n_rows**2 * float(np.mean(atoms))
    return 8e-9 * numbers, products / 1.5e10 + data.n_rows**3 / 1e11


class LabelCovariances:
    """Prior covariances of the labels of a training set under given signal levels.

    Parameters
    ----------
    data, basis
        Training set and sparse functionals (their directions; the points of terms other than SOAP).
    separate_groups
        Noise groups beyond one per label kind.
    """

    def __init__(
        self,
        data: TrainingSet,
        basis: SparseBasis,
        separate_groups: Sequence[str],
        progress: Callable[..., Any],
        n_threads: int = 1,
    ) -> None:
        self.data, self.basis, self.progress, self.n_threads = data, basis, progress, n_threads
        self.labels = [Labels.of(t, separate_groups) for t in data.targets]
        self.soap = {k: b for k, b in enumerate(basis.blocks) if b.descriptor.of_atoms}
        other_blocks = [b for k, b in enumerate(basis.blocks) if k not in self.soap]
        self.other_basis = SparseBasis.of_blocks(other_blocks, basis.n_terms) if other_blocks else None
        ranges = [np.arange(b.columns.start, b.columns.stop) for b in other_blocks]
        self.columns = np.concatenate([np.zeros(0, dtype=np.int64), *ranges])

    def whitened(self, n: int) -> np.ndarray:
        """Whitened rows of the labels of frame ``n`` in the terms other than SOAP (labels, columns)."""
        labels = self.labels[n]
        if self.other_basis is None:
            return np.zeros((len(labels.y), 0))
        rows = self.other_basis.rows(self._structure(n), labels.derivatives, prior=False)
        return self.other_basis.whiten(rows.K[labels.rows]) * labels.scale[:, None]

    def environments(self, n: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Features x (e, d) of frame ``n`` and their derivatives (labels, e, d) by the labels, for each SOAP block."""
        labels, structure, made = self.labels[n], self._structure(n), {}
        for k, b in self.soap.items():
            batch = b.descriptor.frame_environments(structure, b.channel, labels.derivatives)
            x = np.ascontiguousarray(b.project(b.kernel.scale(batch.x)))
            J = np.zeros((len(labels.y), *x.shape))
            J[labels.rows == 0] = x / b.kernel.parameter
            if labels.derivatives:
                place = labels.places(batch.target)
                owner = np.repeat(np.arange(len(x)), np.diff(batch.start))
                kept = place >= 0
                J[place[kept], owner[kept]] = b.project(b.kernel.scale(batch.J[kept]))
            J *= labels.scale[:, None, None]
            made[k] = x, J
        return made

    def _structure(self, n: int) -> Structure:
        return Structure(self.data.frames[n].atoms, self.basis.r_cut)

    def matrix(self, frames: Sequence[int], signal: np.ndarray) -> LowerPanels:
        """Covariance of all labels of ``frames``, one frame after the other.

        The derivatives of a frame are dropped when its columns are done: memory passes from them to the columns.
        """
        end = np.concatenate([[0], np.cumsum([len(self.labels[n].y) for n in frames])])
        described = list(self._each(self.environments, frames, "descriptors of labels"))
        K = LowerPanels(int(end[-1]))
        rows = np.vstack([self.whitened(n) for n in frames]) * signal[self.basis.column_terms()[self.columns]]
        for begin, panel in K.panels:
            panel += rows[begin:] @ rows[begin : begin + panel.shape[1]].T

        def fill(row: int, column: int) -> None:
            for k, b in self.soap.items():
                (x, J), (x2, J2) = described[row][k], described[column][k]
                K.add(end[row], end[column], signal[b.term] ** 2 * covariances(x, J, x2, J2, b.kernel.parameter))

        for column in self.progress(range(len(frames)), desc="covariances of labels", unit="frame"):
            map_blocks(partial(fill, column=column), range(column, len(frames)), self.n_threads)
            described[column] = {}
        return K

    def _targets(self, frames, levels, factor, folds):
        """Labels, noise variances, and folds."""
        y = np.concatenate([self.labels[n].y for n in frames])
        groups = [g for n in frames for g in self.labels[n].groups]
        follows = np.array([g != ISOLATED for g in groups])
        variance = np.array([levels.noise[g] ** 2 for g in groups]) * np.where(follows, factor**2, 1.0)
        fold = np.concatenate([np.full(len(self.labels[n].y), folds[n]) for n in frames])
        return y, variance, fold

    def searched(self, folds: np.ndarray) -> list[int]:
        """Frames by which the factor is searched, fold by fold: all of them, if they have few labels."""
        held = np.flatnonzero(folds >= 0)
        step = max(1, -(-sum(len(self.labels[n].y) for n in held) // SEARCH_LABELS))
        return _by_fold(np.concatenate([held[::step], np.flatnonzero(folds < 0)]), folds)

    def best_factor(self, K: LowerPanels, frames: Sequence[int], levels: Levels, folds: np.ndarray) -> float:
        """The factor on all noise levels (but that of isolated atoms) with the least out-of-fold error of ``frames``,
        whose covariance ``K`` is, from one downwards to ``LEAST_FACTOR``."""
        kinds = np.array([kind_of(g) for n in frames for g in self.labels[n].groups])
        bar = self.progress(total=FACTOR_TRIALS, desc="noise of the exact mean", unit="trial")

        def value(log_factor: float) -> float:
            y, noise, of_fold = self._targets(frames, levels, float(np.exp(log_factor)), folds)
            bar.update()
            try:
                return held_out_objective(solve_exact(K.copy(), y, noise, of_fold, EVERY_FOLD).errors, y, kinds)
            except NumericsError:
                return np.inf  # so little noise that rounding makes the covariance singular

        with blas_threads(self.n_threads):
            factor = float(np.exp(minimum_downwards(value, float(np.log(LEAST_FACTOR)), FACTOR_STEP)))
        bar.close()
        return factor

    def mean(self, levels: Levels, folds: np.ndarray, by_fold: Mapping[int, Levels] | None = None) -> ExactMean:
        """Search the factor, solve for all labels, and gather the mean.

        ``by_fold``: levels that were found without each fold, by which its errors are made.
        """
        frames, factor = self.searched(folds), 1.0
        K = self.matrix(frames, levels.signal)
        if len({f for f in folds if f >= 0}) > 1:
            factor = self.best_factor(K, frames, levels, folds)
        if len(frames) < len(folds):
            del K
            frames = _by_fold(np.arange(len(folds)), folds)
            K = self.matrix(frames, levels.signal)
        end = np.concatenate([[0], np.cumsum([len(self.labels[n].y) for n in frames])])
        with blas_threads(self.n_threads):
            solution = solve_exact(K, *self._targets(frames, levels, factor, folds))
        del K
        part_of = {n: slice(end[k], end[k + 1]) for k, n in enumerate(frames)}
        parts = [part_of[n] for n in range(len(frames))]
        Q, w = self._quadratic([solution.alpha[p] for p in parts])
        mean_points, blocks = {}, list(self.basis.blocks)
        for k, b in self.soap.items():
            values, vectors = np.linalg.eigh(levels.signal[b.term] ** 2 * Q[k])
            if b.directions is None:
                mean_points[k] = np.ascontiguousarray(vectors.T), values
            else:
                blocks[k], mean_points[k] = b.rotated(vectors), (np.eye(len(values)), values)
        alpha = np.zeros(self.basis.n_columns)
        if self.other_basis is not None:
            whitened = np.zeros(self.basis.n_columns)
            whitened[self.columns] = levels.signal[self.basis.column_terms()[self.columns]] ** 2 * w
            alpha = self.basis.unwhiten(whitened)
        held = {n: solution.errors[p] for n, p in enumerate(parts) if np.isfinite(solution.errors[p]).all()}
        for fold, alone in (by_fold or {}).items():
            held |= self._errors_alone(fold, alone, folds)
        errors = {n: self._errors(n, e) for n, e in held.items()}
        basis = SparseBasis.of_blocks(blocks, self.basis.n_terms)
        return ExactMean(alpha, mean_points, basis, errors, factor, self._held_out(held))

    def _errors_alone(self, fold: int, levels: Levels, folds: np.ndarray) -> dict[int, np.ndarray]:
        """Errors (labels,) by frame of one fold under levels that were found without it, as is the factor on their
        noise; empty where no doubling of the factor makes the covariance definite."""
        other_frames = [n for n in self.searched(folds) if folds[n] != fold]
        factor = 1.0
        if len({folds[n] for n in other_frames if folds[n] >= 0}) > 1:
            factor = self.best_factor(self.matrix(other_frames, levels.signal), other_frames, levels, folds)
        frames = _by_fold(np.arange(len(folds)), folds)
        end = np.concatenate([[0], np.cumsum([len(self.labels[n].y) for n in frames])])
        for larger in range(STEPS_UP):
            K, targets = self.matrix(frames, levels.signal), self._targets(frames, levels, factor * 2.0**larger, folds)
            try:
                with blas_threads(self.n_threads):
                    errors = solve_exact(K, *targets).errors
            except NumericsError:
                continue
            parts = {n: errors[end[k] : end[k + 1]] for k, n in enumerate(frames) if folds[n] == fold}
            return {n: e for n, e in parts.items() if np.isfinite(e).all()}
        return {}

    def _quadratic(self, alpha: Sequence[np.ndarray]) -> tuple[dict[int, np.ndarray], np.ndarray]:
        """Per SOAP block the symmetric matrix Q (d, d) over the signal variance, and the weights of the whitened
        columns of the other terms, for the weights ``alpha`` of every frame's labels."""
        Q = {k: np.zeros((b.points.shape[1],) * 2) for k, b in self.soap.items()}
        w = np.zeros(len(self.columns))

        def gather(n: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
            labels, structure, parts = self.labels[n], self._structure(n), {}
            weights = alpha[n] * labels.scale
            for k, b in self.soap.items():
                batch = b.descriptor.frame_environments(structure, b.channel, labels.derivatives)
                g = 0.5 * weights[labels.rows == 0].sum() * batch.x
                if labels.derivatives:
                    by_row = np.append(weights, 0.0)[labels.places(batch.target)]
                    for e, (low, high) in enumerate(pairwise(batch.start)):
                        g[e] += by_row[low:high] @ batch.J[low:high]
                x, g = b.project(b.kernel.scale(batch.x)), b.project(b.kernel.scale(g))
                parts[k] = x.T @ g
            return parts, self.whitened(n).T @ alpha[n]

        for parts, weights in self._each(gather, range(len(alpha)), "weights of the mean"):
            for k, part in parts.items():
                Q[k] += part
                Q[k] += part.T
            w += weights
        return Q, w

    def _each(self, function: Callable[[int], Any], frames: Sequence[int], desc: str) -> Iterator[Any]:
        """Results of ``function`` for each frame, in order, some at a time."""
        bar = self.progress(total=len(frames), desc=desc, unit="frame")
        for begin in range(0, len(frames), BATCH):
            batch = frames[begin : begin + BATCH]
            yield from map_blocks(function, batch, self.n_threads)
            bar.update(len(batch))
        bar.close()

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


def _by_fold(frames: np.ndarray, folds: np.ndarray) -> list[int]:
    """The frames fold by fold, those that are never held out first, as ``solve_exact`` takes their labels."""
    return frames[np.argsort(folds[frames], kind="stable")].tolist()
