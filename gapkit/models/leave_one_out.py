r"""Exact leave-one-frame-out error as an objective of noise and signal levels: the rows themselves are needed.

With :math:`H = \mathrm{diag}(\delta^{-2}) + A^T S A`, :math:`u = H^{-1} A^T S y` and, of the rows of frame f,
:math:`P = A_f H^{-1} A_f^T`, the errors of a fit without f on the labels of f are

.. math:: e_f = y_f - A_f u_{-f} = (1 - P S_f)^{-1} (y_f - A_f u), \qquad u_{-f} = u - H^{-1} A_f^T S_f e_f

by the identity of Woodbury (Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 5.4.2, has
the case of one row). Nothing is fitted again: all frames together cost about as much as H. The objective is that of
:mod:`gapkit.models.held_out` with a fold for each frame, and so are its slopes: with
:math:`v_{-f} = H_{-f}^{-1} \partial J/\partial u_{-f}`,

.. math:: \frac{\partial J}{\partial \log s_g} = -\sum_f v_{-f} \cdot s_g (G_g u - c_g)_{-f}, \qquad
          \frac{\partial J}{\partial \log \delta_t} = 2 \sum_f v_{-f,t} \cdot \delta_t^{-2} u_{-f,t}.

Neighbouring frames of a molecular-dynamics run are near-copies, which makes this error smaller than that of folds by
trajectory: the folds are the default, this is a choice (``noise_levels="leave_one_out"``).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import scipy.linalg

from gapkit.models.held_out import log_of_mean, rounded_absolute, rounding_of
from gapkit.models.levels import LevelObjective, Levels, kind_of
from gapkit.models.observations import Observations

#: rows of more bytes than this go to a scratch file
IN_MEMORY = 2_000_000_000


@dataclass
class KeptRows:
    """Whitened rows of all frames that can be left out, in memory or in a scratch file that the system removes.

    Parameters
    ----------
    columns : (m,) int
        Whitened columns that are kept.
    n_rows
        Number of rows that will be offered at most.
    """

    columns: np.ndarray
    n_rows: int
    #: a frame's parts: first row, end, noise group, what the rows were divided by
    frames: dict[int, list[tuple[int, int, str, float]]] = field(default_factory=dict)
    _end: int = 0

    def __post_init__(self) -> None:
        shape = (self.n_rows, len(self.columns) + 1)
        if 8 * shape[0] * shape[1] > IN_MEMORY:
            with tempfile.TemporaryFile(prefix="gapkit-rows-") as scratch:
                self.rows: np.ndarray = np.memmap(scratch, np.float64, "w+", shape=shape)
        else:
            self.rows = np.empty(shape)

    def offer(self, observed: Observations, A: np.ndarray, fold: int, frame: int) -> None:
        """Keep whitened rows ``A`` of ``frame``, unless they are of an isolated atom (fold below zero)."""
        if fold < 0:
            return
        end = self._end + len(A)
        self.rows[self._end : end, :-1] = A[:, self.columns]
        self.rows[self._end : end, -1] = observed.y
        self.frames.setdefault(frame, []).append((self._end, end, observed.group, observed.scale))
        self._end = end

    def select(self, columns: np.ndarray) -> KeptRows:
        """The rows of a model that has only these whitened columns, which must be among those kept."""
        if len(columns) == len(self.columns):
            return self
        smaller = KeptRows(columns, self.n_rows, self.frames, self._end)
        keep = np.append(np.searchsorted(self.columns, columns), len(self.columns))
        for parts in self.frames.values():
            begin, end = parts[0][0], parts[-1][1]
            smaller.rows[begin:end] = self.rows[begin:end][:, keep]
        return smaller

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, list[tuple[slice, str, float]]]]:
        """Per frame: rows (n, m), targets (n,), and parts (place among these rows, noise group, scale)."""
        for parts in self.frames.values():
            begin, end = parts[0][0], parts[-1][1]
            here = [(slice(first - begin, last - begin), group, scale) for first, last, group, scale in parts]
            yield self.rows[begin:end, :-1], self.rows[begin:end, -1], here

    @cached_property
    def rounding(self) -> float:
        """Energy error (eV per atom) below which an absolute error is rounded off."""
        return rounding_of(
            np.array([y[at][0] / scale for _, y, parts in self for at, g, scale in parts if kind_of(g) == "energy"])
        )


@dataclass
class LeaveOneOut(LevelObjective):
    """Log of the mean absolute energy error per atom plus log of the root-mean-square force error, each frame left out.

    Parameters
    ----------
    rows
        The rows that the triangles were made of.
    """

    rows: KeptRows | None = None
    needs_folds: ClassVar[bool] = False
    scale_free: ClassVar[bool] = True
    _total: dict = field(init=False)

    def __post_init__(self) -> None:
        self._total = {}
        for (group, _), G in self.triangles.grams().items():
            self._total[group] = self._total[group] + G if group in self._total else G

    def evaluate(self, levels: Levels) -> tuple[float, dict[str, float], np.ndarray]:
        """Value of the objective, and its slopes by the logarithms of the levels."""
        assert self.rows is not None
        there = {kind_of(g) for parts in self.rows.frames.values() for _, _, g, _ in parts}
        kinds = there & {"energy", "forces"} or there
        inverse_signal2 = levels.signal[self.column_terms] ** -2.0
        s = {g: levels.noise[g] ** -2.0 for g in self._total}
        both = sum(s[g] * G for g, G in self._total.items())
        H = both[:-1, :-1] + np.diag(inverse_signal2)
        L = scipy.linalg.cholesky(H, lower=True, check_finite=False)
        u = scipy.linalg.cho_solve((L, True), both[:-1, -1], check_finite=False)
        rounding = self.rows.rounding if "energy" in kinds else 0.0
        left = [_leave_out(A, y, parts, s, L, u, kinds, rounding) for A, y, parts in self.rows]
        value, weight = 0.0, {}
        for kind in kinds:
            n, power = sum(f.counts.get(kind, 0) for f in left), 1.0 if kind == "energy" else 0.5
            add, weight[kind] = log_of_mean(sum(f.losses.get(kind, 0.0) for f in left), n, power)
            value += add
        U = np.array([f.u for f in left])
        V = np.array([sum(weight[k] * v for k, v in f.v.items()) + np.zeros(len(u)) for f in left])
        noise_slopes = dict.fromkeys(self._total, 0.0)
        for g in self.free_noise:
            G = self._total[g]
            frame_terms = sum(
                weight[k] * share for f in left for (k, group), share in f.frame_terms.items() if group == g
            )
            noise_slopes[g] = 2 * s[g] * float(np.sum(V * (U @ G[:-1, :-1] - G[:-1, -1])) + frame_terms)
        by_column = 2 * np.sum(V * U, axis=0) * inverse_signal2
        return float(value), noise_slopes, np.bincount(self.column_terms, by_column, minlength=len(levels.signal))


@dataclass(frozen=True)
class _LeftOut:
    """One frame left out: losses and numbers of labels by kind, u without it, v by kind, and by kind and group what the
    frame's own rows have in the sum over all, (A v) . error."""

    losses: dict[str, float]
    counts: dict[str, int]
    u: np.ndarray
    v: dict[str, np.ndarray]
    frame_terms: dict[tuple[str, str], float]


def _leave_out(A, y, parts, s, L, u, kinds, rounding) -> _LeftOut:
    """Leave out the frame of rows ``A``, targets ``y``; ``L`` is the factor and ``u`` the solution with it."""
    root = np.concatenate([np.full(at.stop - at.start, s[g] ** 0.5) for at, g, _ in parts])
    B = scipy.linalg.solve_triangular(L, A.T, lower=True, check_finite=False)
    kept = -root[:, None] * (B.T @ B) * root  # 1 - S^1/2 P S^1/2
    kept[np.diag_indices_from(kept)] += 1.0
    factor = scipy.linalg.cho_factor(kept, lower=True, check_finite=False)
    error = scipy.linalg.cho_solve(factor, root * (y - A @ u), check_finite=False) / root
    losses, counts, slopes = dict[str, float](), dict[str, int](), dict[str, np.ndarray]()
    for at, g, scale in parts:
        kind = kind_of(g)
        if kind in kinds:
            losses[kind], by_error = _loss(kind, error[at], scale, rounding)
            counts[kind] = at.stop - at.start
            slopes[kind] = np.zeros(len(y))
            slopes[kind][at] = by_error
    pulled = [root * scipy.linalg.cho_solve(factor, slope / root, check_finite=False) for slope in slopes.values()]
    moved = B @ np.column_stack([root**2 * error, *pulled])
    moved = scipy.linalg.solve_triangular(L, moved, lower=True, trans="T", check_finite=False).T
    v = dict(zip(slopes, -moved[1:], strict=True))
    frame_terms = {(kind, g): float((A[at] @ v[kind]) @ error[at]) for kind in v for at, g, _ in parts}
    return _LeftOut(losses, counts, u - moved[0], v, frame_terms)


def _loss(kind: str, error: np.ndarray, scale: float, rounding: float) -> tuple[float, np.ndarray]:
    """Sum of absolute energy errors per atom, or of squared errors, and its slope by each error."""
    if kind != "energy":
        return float(error @ error), 2 * error
    loss, slope = rounded_absolute(error / scale, rounding)
    return loss, slope / scale
