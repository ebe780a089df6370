r"""Held-out error as an objective of noise and signal levels, by triangles alone.

With Gram matrices :math:`G_{gf} = R_{gf}^T R_{gf}` of group g and fold f, leaving fold f out means solving

.. math:: H_f u_f = \sum_g s_g (c_g - c_{gf}), \qquad H_f = \mathrm{diag}(\delta^{-2}) + \sum_g s_g (G_g - G_{gf}),
          \quad s_g = \sigma_g^{-2}

and the squared error on the rows of that fold is :math:`\|R_{gf}\,[u; -1]\|^2`. The objective is
:math:`\log L_{energy} + \log L_{forces}` over all folds: L of forces the root-mean-square error; L of energies the mean
absolute error per atom, :math:`L = \langle \sqrt{e^2 + \epsilon^2} \rangle`, where the energy rows are at hand, else
the root-mean-square error too. Squares would let the few frames that lie far from all others (surfaces among crystals)
decide the levels of all. Its gradient takes one more solve per fold: with :math:`v = H_f^{-1} \partial J/\partial u`,
:math:`\partial J/\partial \log s_g = -v \cdot s_g \sum_{h \neq f} R_{gh}^T R_{gh}\,[u; -1]` (the rows of A alone) and
:math:`\partial J/\partial \log \delta_t = 2 v_t \cdot \delta_t^{-2} u_t`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gapkit.models.levels import LevelObjective, Levels, kind_of
from gapkit.numerics import packed
from gapkit.numerics.threads import map_blocks

#: an absolute error is rounded off below this share of the spread of the energies per atom
ROUNDED = 3e-3


def rounding_of(energies: np.ndarray) -> float:
    """Error below which an absolute error is rounded off, from energies per atom (eV)."""
    return max(ROUNDED * float(np.std(energies)), 1e-12)


def rounded_absolute(error: np.ndarray, rounding: float) -> tuple[float, np.ndarray]:
    """Sum of sqrt(error^2 + rounding^2), and its slope by each error."""
    rounded = np.sqrt(error**2 + rounding**2)
    return float(rounded.sum()), error / rounded


def log_of_mean(total: float, n: int, power: float) -> tuple[float, float]:
    """power log(total / n), and its slope by the total; finite where the total vanishes."""
    total = max(total, 1e-20 * n)
    return float(power * np.log(total / n)), power / total


@dataclass(frozen=True)
class EnergyRows:
    """Energy rows of a sample of frames, per atom, kept as they are.

    Attributes
    ----------
    A : (n, m)
        Whitened.
    y : (n,)
        eV per atom.
    fold : (n,) int
    """

    A: np.ndarray
    y: np.ndarray
    fold: np.ndarray

    @property
    def rounding(self) -> float:
        """Error (eV per atom) below which an absolute error is rounded off."""
        return rounding_of(self.y)


@dataclass(frozen=True)
class OtherFolds:
    """Normal equations of the rows outside one fold, by group: A^T A, packed (groups, length); A^T y (groups, m)."""

    grams: np.ndarray
    products: np.ndarray


@dataclass(frozen=True)
class _Solved:
    """The fit without one fold: factor of H, weights (m,), and per label kind the loss on the fold and its slope."""

    factor: np.ndarray
    u: np.ndarray
    losses: dict[str, float]
    slopes: dict[str, np.ndarray]


@dataclass
class HeldOutError(LevelObjective):
    """Sum over label kinds of the logarithm of their held-out error.

    Parameters
    ----------
    kinds
        Label kinds whose held-out errors count; default: energy and forces, those that are there, else the virial.
    energies
        Energy rows for the mean absolute error of energies; None: root mean square, from the triangles.
    """

    kinds: tuple[str, ...] | None = None
    energies: EnergyRows | None = None
    scale_free: ClassVar[bool] = True
    _groups: tuple[str, ...] = field(init=False)
    _others: dict[int, OtherFolds] = field(init=False)
    _count: dict[str, int] = field(init=False)
    _diagonal: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        there = {kind_of(g) for g, f in self.triangles.items if f >= 0}
        if self.kinds is None:
            self.kinds = tuple(k for k in ("energy", "forces") if k in there) or tuple({"virial"} & there)
        self._groups = tuple(g for g in self.triangles.groups if g not in self.tied)
        self._others = self._of_other_folds()
        self._diagonal = packed.diagonal(self.triangles.n_columns)
        self._count = dict.fromkeys(self.kinds, 0)
        for (group, f), t in self.triangles.items.items():
            if f >= 0 and kind_of(group) in self._count:
                self._count[kind_of(group)] += t.n_rows

    def _of_other_folds(self) -> dict[int, OtherFolds]:
        """For every fold what the rows of all others say; rows of tied groups count as their leader's.

        Matrices of a whole model are large: half of each is kept.
        """
        m, folds = self.triangles.n_columns, self.triangles.folds
        place = {group: k for k, group in enumerate(self._groups)}
        other_folds = {
            f: OtherFolds(np.zeros((len(place), packed.length(m))), np.zeros((len(place), m))) for f in folds
        }
        for (group, fold), G in self.triangles.each_gram():
            G *= self.ratio(group) ** -2.0
            gram, k = packed.pack(G[:-1, :-1]), place[self.tied.get(group, group)]
            for f, o in other_folds.items():
                if f != fold:
                    o.grams[k] += gram
                    o.products[k] += G[:-1, -1]
        return other_folds

    def evaluate(self, levels: Levels) -> tuple[float, dict[str, float], np.ndarray]:
        """Value of the objective, and its slopes by the logarithms of the levels.

        Folds are shared among threads; the number of threads does not change the result.
        """
        inverse_signal2 = levels.signal[self.column_terms] ** -2.0
        folds = self.triangles.folds
        solved = map_blocks(lambda fold: self._solved(fold, levels, inverse_signal2), folds, self.n_threads)
        value, weight = 0.0, {}
        for kind in self._count:
            n, power = self._size(kind)
            add, weight[kind] = log_of_mean(sum(f.losses[kind] for f in solved), n, power)
            value += add
        noise_slopes = dict.fromkeys(levels.noise, 0.0)
        signal_slopes = np.zeros(len(levels.signal))
        misfits = self._misfits(np.column_stack([f.u for f in solved]))
        for k, f in enumerate(solved):
            v = packed.solve(f.factor, sum(weight[kind] * slope for kind, slope in f.slopes.items()))
            for g, misfit in misfits.items():
                noise_slopes[g] += 2 * levels.noise[g] ** -2.0 * float(v @ misfit[:, k])  # d log s = -2 d log sigma
            signal_slopes += 2 * np.bincount(self.column_terms, v * inverse_signal2 * f.u, minlength=len(signal_slopes))
        return float(value), noise_slopes, signal_slopes

    def _solved(self, fold: int, levels: Levels, inverse_signal2: np.ndarray) -> _Solved:
        """The fit to all folds but one, and its errors on that one."""
        s = np.array([levels.noise[g] ** -2.0 for g in self._groups])
        H, c = s @ self._others[fold].grams, s @ self._others[fold].products
        H[self._diagonal] += inverse_signal2
        factor = packed.factorised(H, len(c))
        u = packed.solve(factor, c)
        errors = {kind: self._loss(kind, fold, u) for kind in self._count}
        return _Solved(factor, u, {k: e[0] for k, e in errors.items()}, {k: e[1] for k, e in errors.items()})

    def _misfits(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Per free group A^T (A u - y) (m, folds) of the rows outside each fold, for its weights u (m, folds)."""
        extended = np.vstack([weights, np.full((1, weights.shape[1]), -1.0)])
        place = {fold: k for k, fold in enumerate(self.triangles.folds)}
        by_fold: dict[int, list[str]] = {}
        for group, fold in self.triangles.items:
            if self.tied.get(group, group) in self.free_noise:
                by_fold.setdefault(fold, []).append(group)

        def of_fold(fold: int) -> dict[str, np.ndarray]:
            found: dict[str, np.ndarray] = {}
            for group in by_fold[fold]:
                R = self.triangles.items[group, fold].reduce()
                product = self.ratio(group) ** -2.0 * (R[:, :-1].T @ (R @ extended))
                if fold in place:
                    product[:, place[fold]] = 0.0
                leader = self.tied.get(group, group)
                found[leader] = found[leader] + product if leader in found else product
            return found

        misfits = {g: np.zeros_like(weights) for g in self.free_noise}
        for found in map_blocks(of_fold, sorted(by_fold), self.n_threads):
            for leader, product in found.items():
                misfits[leader] += product
        return misfits

    def _size(self, kind: str) -> tuple[int, float]:
        """Number of labels in a kind's sum, and the power that makes its mean an error."""
        if kind == "energy" and self.energies is not None:
            return max(int(np.sum(self.energies.fold >= 0)), 1), 1.0
        return max(self._count[kind], 1), 0.5

    def _loss(self, kind: str, fold: int, u: np.ndarray) -> tuple[float, np.ndarray]:
        """A fold's sum of absolute or squared errors of one kind, and its slope by u (m,)."""
        if kind == "energy" and self.energies is not None:
            in_fold = self.energies.fold == fold
            A = self.energies.A[in_fold]
            error = A @ u - self.energies.y[in_fold]
            loss, by_error = rounded_absolute(error, self.energies.rounding)
            return loss, A.T @ by_error
        total, slope = 0.0, np.zeros_like(u)
        for (group, f), triangle in self.triangles.items.items():
            if f == fold and kind_of(group) == kind:
                R = triangle.reduce()
                error = R[:, :-1] @ u - R[:, -1]
                total += float(error @ error)
                slope += 2 * R[:, :-1].T @ error
        return total, slope
