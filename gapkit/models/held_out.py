r"""Held-out error as an objective of noise and signal levels, by triangles alone.

With Gram matrices :math:`G_{gf} = R_{gf}^T R_{gf}` of group g and fold f, leaving fold f out means solving

.. math:: H_f u_f = \sum_g s_g (c_g - c_{gf}), \qquad H_f = \mathrm{diag}(\delta^{-2}) + \sum_g s_g (G_g - G_{gf}),
          \quad s_g = \sigma_g^{-2}

and the squared error on the rows of that fold is :math:`u^T G_{gf} u - 2 u^T c_{gf} + y^T y_{gf}`. The objective is
:math:`\log L_{energy} + \log L_{forces}` over all folds: L of forces the root-mean-square error; L of energies the mean
absolute error per atom, :math:`L = \langle \sqrt{e^2 + \epsilon^2} \rangle`, where the energy rows are at hand, else
the root-mean-square error too. Squares would let the few frames that lie far from all others (surfaces among crystals)
decide the levels of all. Its gradient takes one more solve per fold: with :math:`v = H^{-1} \partial J/\partial u`,
:math:`\partial J/\partial \log s_g = -v \cdot s_g (G_g u - c_g)` and
:math:`\partial J/\partial \log \delta_t = 2 v_t \cdot \delta_t^{-2} u_t`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy.linalg

from gapkit.models.levels import LevelObjective, Levels, kind_of
from gapkit.models.triangles import Key

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


def _weighted_sum(weights: dict[str, float], matrices: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of weights times matrices, in one array."""
    total = np.zeros_like(next(iter(matrices.values())))
    for name, matrix in matrices.items():
        total = scipy.linalg.blas.daxpy(matrix.ravel(), total.ravel(), a=weights[name]).reshape(matrix.shape)
    return total


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
    _gram: dict = field(init=False)
    _total: dict = field(init=False)
    _count: dict = field(init=False)

    def __post_init__(self) -> None:
        there = {kind_of(g) for g, f in self.triangles.items if f >= 0}
        if self.kinds is None:
            self.kinds = tuple(k for k in ("energy", "forces") if k in there) or tuple({"virial"} & there)
        self._gram, self._total = self._merged_grams(), {}
        for (group, _), G in self._gram.items():
            self._total[group] = self._total[group] + G if group in self._total else G
        self._count = dict.fromkeys(self.kinds, 0)
        for (group, f), t in self.triangles.items.items():
            if f >= 0 and kind_of(group) in self._count:
                self._count[kind_of(group)] += t.n_rows

    def _merged_grams(self) -> dict[Key, np.ndarray]:
        """Gram matrices of every group and fold, those of tied groups added to their leader's.

        Matrices of a whole model are large, and a sum of groups costs as much as one of them to read.
        """
        grams: dict[Key, np.ndarray] = {}
        for (group, fold), G in self.triangles.each_gram():
            key = self.tied.get(group, group), fold
            G *= self.ratio(group) ** -2.0
            if key in grams:
                grams[key] += G
            else:
                grams[key] = G
        return grams

    def evaluate(self, levels: Levels) -> tuple[float, dict[str, float], np.ndarray]:
        """Value and slopes."""
        inverse_signal2 = levels.signal[self.column_terms] ** -2.0
        s = {g: levels.noise[g] ** -2.0 for g in self._total}
        sums = dict.fromkeys(self._count, 0.0)
        whole = _weighted_sum(s, self._total)
        solved = []
        for fold in self.triangles.folds:
            held = {k[0]: G for k, G in self._gram.items() if k[1] == fold}
            both = whole - _weighted_sum(s, held)
            H, c = both[:-1, :-1], both[:-1, -1].copy()
            H[np.diag_indices_from(H)] += inverse_signal2
            factor = scipy.linalg.cho_factor(H, lower=True, overwrite_a=True, check_finite=False)
            u = scipy.linalg.cho_solve(factor, c, check_finite=False)
            slopes = {}
            for kind in sums:
                add, slopes[kind] = self._loss(kind, fold, held, u)
                sums[kind] += add
            solved.append((held, factor, u, slopes))
        value, weight = 0.0, {}
        for kind, total in sums.items():
            n, power = self._size(kind)
            add, weight[kind] = log_of_mean(total, n, power)
            value += add
        noise_slopes = dict.fromkeys(self._total, 0.0)
        signal_slopes = np.zeros(len(levels.signal))
        extended = np.column_stack([np.append(u, -1.0) for _, _, u, _ in solved])
        products = {g: self._total[g] @ extended for g in self.free_noise}  # of all folds in one pass
        for k, (held, factor, u, slopes) in enumerate(solved):
            v = scipy.linalg.cho_solve(factor, sum(weight[k] * slopes[k] for k in slopes), check_finite=False)
            for g in self.free_noise:
                product = products[g][:, k] - (held[g] @ extended[:, k] if g in held else 0.0)
                noise_slopes[g] += 2 * s[g] * float(v @ product[:-1])  # d log s = -2 d log sigma
            signal_slopes += 2 * np.bincount(self.column_terms, v * inverse_signal2 * u, minlength=len(signal_slopes))
        return float(value), noise_slopes, signal_slopes

    def _size(self, kind: str) -> tuple[int, float]:
        """Number of labels in a kind's sum, and the power that makes its mean an error."""
        if kind == "energy" and self.energies is not None:
            return max(int(np.sum(self.energies.fold >= 0)), 1), 1.0
        return max(self._count[kind], 1), 0.5

    def _loss(self, kind: str, fold: int, held: dict[str, np.ndarray], u: np.ndarray) -> tuple[float, np.ndarray]:
        """A fold's sum of absolute or squared errors of one kind, and its slope by u (m,)."""
        if kind == "energy" and self.energies is not None:
            mine = self.energies.fold == fold
            A, error = self.energies.A[mine], self.energies.A[mine] @ u - self.energies.y[mine]
            loss, by_error = rounded_absolute(error, self.energies.rounding)
            return loss, A.T @ by_error
        total, slope, extended = 0.0, np.zeros_like(u), np.append(u, -1.0)
        for g, G in held.items():
            if kind_of(g) == kind:
                product = G @ extended
                total += float(extended @ product)
                slope += 2 * product[:-1]
        return total, slope
