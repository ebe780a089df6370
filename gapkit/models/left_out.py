r"""Errors of frames under the posterior of all others, from kept rows on few columns.

With rows A and targets y divided by their noise, :math:`H = \Lambda + \sum_f A_f^T A_f` and
:math:`P_f = A_f H^{-1} A_f^T`, the labels of frame f have under the posterior without f

.. math:: e_f = (1 - P_f)^{-1} (y_f - A_f u), \qquad V_f = (1 - P_f)^{-1} P_f

(Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 5.4.2, has the case of one row). A
label kind of a frame that is set aside has no part in any posterior, and its errors are judged all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gapkit.models.kind_posterior import Sums

#: a frame and one of its label kinds
Key = tuple[int, str]


@dataclass(frozen=True)
class KindRows:
    """Rows of one frame and label kind, divided by their noise.

    Attributes
    ----------
    A : (n, m)
    y : (n,)
    """

    A: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class KindErrors:
    """Errors y - mean (n,) of one frame and label kind, and their posterior variances (n,), in units of the noise."""

    error: np.ndarray
    variance: np.ndarray

    @property
    def standardised(self) -> float:
        """Root mean square of the errors over that of the posterior standard deviations with noise."""
        return float(np.sqrt(np.mean(self.error**2) / (1.0 + np.mean(self.variance))))


class LeftOutFrames:
    """Posteriors of the weights of few columns, each without one frame.

    Parameters
    ----------
    rows
        Rows by frame and label kind.
    precision : (m,)
        Prior precisions of the weights.
    """

    def __init__(self, rows: Mapping[Key, KindRows], precision: np.ndarray) -> None:
        self.rows = dict(rows)
        self.kinds: dict[int, list[str]] = {}
        for frame, kind in self.rows:
            self.kinds.setdefault(frame, []).append(kind)
        self._prior = np.diag(precision)
        self._H, self._c = self._prior.copy(), np.zeros(len(precision))
        for r in self.rows.values():
            self._H += r.A.T @ r.A
            self._c += r.A.T @ r.y

    def residuals(self, rounds: int, trust: float = 1.0) -> dict[Key, float]:
        """Root-mean-square residuals of a fit that few labels cannot bend: least sum of the residuals' norms.

        Each frame and label kind counts with its norm rather than the square of it, by least squares with weights that
        follow the residuals (Holland and Welsch, Commun. Stat. A 6, 813 (1977)); ``rounds`` of them. ``trust`` is the
        weight of labels beside the prior: a flexible model would follow the wrong ones.
        """
        H, c = self._prior + trust * (self._H - self._prior), trust * self._c
        for _ in range(rounds):
            u = scipy.linalg.cho_solve(
                scipy.linalg.cho_factor(H, lower=True, check_finite=False), c, check_finite=False
            )
            found = {key: float(np.sqrt(np.mean((r.y - r.A @ u) ** 2))) for key, r in self.rows.items()}
            typical: dict[str, float] = {}
            for kind in {kind for _, kind in self.rows}:
                typical[kind] = max(float(np.median([t for key, t in found.items() if key[1] == kind])), 1e-12)
            weight = {key: trust * min(1.0, typical[key[1]] / max(t, 1e-300)) for key, t in found.items()}
            H, c = self._prior.copy(), np.zeros_like(c)
            for key, r in self.rows.items():
                A = weight[key] * r.A
                H += A.T @ r.A
                c += A.T @ r.y
        return found

    def _equations(self, aside: Collection[Key]) -> tuple[np.ndarray, np.ndarray]:
        """H (m, m) and c (m,) without the rows that are set aside."""
        H, c = self._H.copy(), self._c.copy()
        for key in aside:
            r = self.rows[key]
            H -= r.A.T @ r.A
            c -= r.A.T @ r.y
        return H, c

    @property
    def precision(self) -> np.ndarray:
        """Prior precisions (m,)."""
        return np.diagonal(self._prior)

    def sums(self, kind: str, aside: Collection[int] = ()) -> Sums:
        """Sums over the rows of one label kind, without those of the frames ``aside``."""
        of_kind = [r for (frame, of), r in self.rows.items() if of == kind and frame not in aside]
        gram, moment = self._equations([(frame, of) for frame, of in self.rows if of != kind or frame in aside])
        y = np.concatenate([r.y for r in of_kind]) if of_kind else np.zeros(0)
        return Sums(gram - self._prior, moment, float(y @ y), len(y))

    def errors(self, aside: Collection[Key] = ()) -> dict[Key, KindErrors]:
        """Errors of every frame and label kind under the posterior without that frame and without ``aside``.

        Raises
        ------
        numpy.linalg.LinAlgError
            Where rounding makes the equations singular.
        """
        H, c = self._equations(aside)
        L = scipy.linalg.cholesky(H, lower=True, check_finite=False)
        u = scipy.linalg.cho_solve((L, True), c, check_finite=False)
        found = {}
        for frame, kinds in self.kinds.items():
            A = np.vstack([self.rows[frame, k].A for k in kinds])
            y = np.concatenate([self.rows[frame, k].y for k in kinds])
            sizes = [len(self.rows[frame, k].y) for k in kinds]
            known = np.repeat([0.0 if (frame, k) in aside else 1.0 for k in kinds], sizes)
            half = scipy.linalg.solve_triangular(L, A.T, lower=True, check_finite=False)
            P = half.T @ half
            both = np.linalg.solve(np.eye(len(y)) - P * known, np.column_stack([y - A @ u, P]))
            ends = np.cumsum(sizes)[:-1]
            error, variance = np.split(both[:, 0], ends), np.split(np.diagonal(both[:, 1:]), ends)
            found.update({(frame, k): KindErrors(e, v) for k, e, v in zip(kinds, error, variance, strict=True)})
        return found

    def errors_given(
        self, frame: int, given: Mapping[str, np.ndarray | slice], aside: Collection[Key] = ()
    ) -> dict[str, np.ndarray]:
        """Errors (n,) of the labels of ``frame`` by kind where only the rows ``given`` of that frame are known.

        ``given`` names rows by label kind; all other frames are known, but for ``aside``.
        """
        of_frame = {(frame, kind) for kind in self.kinds[frame]}
        H, c = self._equations({*aside, *of_frame})
        for kind, place in given.items():
            r = self.rows[frame, kind]
            H += r.A[place].T @ r.A[place]
            c += r.A[place].T @ r.y[place]
        u = scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, lower=True, check_finite=False), c, check_finite=False)
        return {kind: self.rows[frame, kind].y - self.rows[frame, kind].A @ u for kind in self.kinds[frame]}
