r"""The evidence, and the held-out log density that follows from it: objectives of a probability, by triangles alone.

The targets of the sparse model with the trace correction (Titsias, AISTATS 2009, eq. 9) have the log density bound

.. math:: \log p(y) = \log N\big(y;\, 0,\; A \delta^2 A^T + \Sigma\big)
          - \tfrac12 \sum_g s_g \sum_t \delta_t^2 (S_{gt} - \|R_{gt}\|_F^2), \qquad s_g = \sigma_g^{-2}

with A the whitened rows of unit kernels. By the determinant and inversion lemmas, with
:math:`H = \mathrm{diag}(\delta^{-2}) + \sum_g s_g G_g` and :math:`u = H^{-1} \sum_g s_g c_g`,

.. math:: -2 \log p(y) = n \log 2\pi + 2\,\ell - \sum_g n_g \log s_g + \log|H| + 2 \sum_m \log \delta_m
          + \sum_g s_g y_g^T y_g - u^T \textstyle\sum_g s_g c_g + \sum_g s_g T_g

where G, c and y'y come from the triangles' Gram matrices, :math:`T_g` is the inner sum above, n counts rows, and
:math:`\ell` is the sum of the logarithms of the row scales (rows were divided by them; the density is that of the
labels as given). Its slopes take one inverse:

.. math:: -2\, \partial \log p / \partial s_g = -n_g / s_g + \mathrm{tr}(H^{-1} G_g) + \|A_g u - y_g\|^2 + T_g

    -\partial \log p / \partial \log \delta_t = m_t - \delta_t^{-2} \big(\mathrm{tr}_t H^{-1} + |u_t|^2\big)
    + \delta_t^2 \textstyle\sum_g s_g (S_{gt} - \|R_{gt}\|_F^2)

The joint density of a fold's labels given all others is :math:`p(y) / p(y_{-f})`: two such terms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy.linalg

from gapkit.models.levels import LevelObjective, Levels
from gapkit.models.triangles import Triangles


@dataclass(frozen=True)
class RowSums:
    """Sums over the rows of one noise group, as the log evidence needs them.

    Attributes
    ----------
    gram : (m + 1, m + 1)
        [A | y]^T [A | y].
    n_rows : int
    log_scale : float
        Sum of the logarithms of the row scales.
    prior : (terms,)
        Sum of the rows' prior variances under the unit kernels, S.
    """

    gram: np.ndarray
    n_rows: int
    log_scale: float
    prior: np.ndarray

    def __add__(self, other: RowSums) -> RowSums:
        return RowSums(
            self.gram + other.gram,
            self.n_rows + other.n_rows,
            self.log_scale + other.log_scale,
            self.prior + other.prior,
        )


def row_sums(triangles: Triangles, leave_out: int | None = None) -> dict[str, RowSums]:
    """Sums of every noise group over all folds but ``leave_out``."""
    sums: dict[str, RowSums] = {}
    for (group, fold), t in triangles.items.items():
        if leave_out is not None and fold == leave_out:
            continue
        R = t.reduce()
        added = RowSums(R.T @ R, t.n_rows, t.log_scale, t.prior)
        sums[group] = sums[group] + added if group in sums else added
    return sums


def negative_log_density(
    sums: dict[str, RowSums], levels: Levels, column_terms: np.ndarray
) -> tuple[float, dict[str, float], np.ndarray]:
    """-log p(y) of the module's docstring, and its slopes by the logarithms of noise and signal levels.

    Returns
    -------
    value : float
    noise_slopes : dict
        By group.
    signal_slopes : (terms,)

    Raises
    ------
    numpy.linalg.LinAlgError
        Where rounding makes H singular.
    """
    signal = np.asarray(levels.signal, dtype=float)
    n_terms, m = len(signal), len(column_terms)
    inverse_signal2 = signal[column_terms] ** -2.0
    s = {g: levels.noise[g] ** -2.0 for g in sums}
    both = np.zeros((m + 1, m + 1))
    for g, part in sums.items():
        both += s[g] * part.gram
    H, c = both[:m, :m], both[:m, m].copy()
    H[np.diag_indices_from(H)] += inverse_signal2
    factor = scipy.linalg.cholesky(H, lower=True, check_finite=False)
    u = scipy.linalg.cho_solve((factor, True), c, check_finite=False)
    inverse = scipy.linalg.cho_solve((factor, True), np.eye(m), check_finite=False)
    extended = np.append(u, -1.0)
    per_term = np.bincount(column_terms, minlength=n_terms)
    twice = 2 * float(np.log(np.diag(factor)).sum()) + 2 * float(per_term @ np.log(signal)) + both[m, m] - float(u @ c)
    noise_slopes: dict[str, float] = {}
    trace_slope = np.zeros(n_terms)
    for g, part in sums.items():
        explained = np.bincount(column_terms, np.diag(part.gram)[:m], minlength=n_terms)
        missing = np.maximum(part.prior - explained, 0.0)  # below zero by rounding alone
        trace = float(missing @ signal**2)
        twice += part.n_rows * np.log(2 * np.pi / s[g]) + 2 * part.log_scale + s[g] * trace
        error = float(extended @ part.gram @ extended)
        spread = float(np.sum(inverse * part.gram[:m, :m]))
        noise_slopes[g] = part.n_rows - s[g] * (spread + error + trace)
        trace_slope += s[g] * missing
    from_rows = np.bincount(column_terms, inverse_signal2 * (np.diag(inverse) + u**2), minlength=n_terms)
    return 0.5 * twice, noise_slopes, per_term - from_rows + signal**2 * trace_slope


@dataclass
class Evidence(LevelObjective):
    """-log p(y) per label: the collapsed log marginal likelihood with the trace correction.

    Errors left after a fit are misfit of the model, correlated within a frame, while this density takes all noise to
    be independent; it then trades energies (one label a frame) for forces. A diagnostic more than a default.
    """

    _sums: dict[str, RowSums] = field(init=False)
    needs_folds: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._sums = row_sums(self.triangles)

    @property
    def n_labels(self) -> int:
        """Labels that the density is of."""
        return sum(part.n_rows for part in self._sums.values())

    def evaluate(self, levels: Levels) -> tuple[float, dict[str, float], np.ndarray]:
        """Value per label of the negative log evidence, and its slopes by the logarithms of the levels."""
        value, noise, signal = negative_log_density(self._sums, levels, self.column_terms)
        n = self.n_labels
        return value / n, {g: v / n for g, v in noise.items()}, signal / n


@dataclass
class HeldOutDensity(LevelObjective):
    """-log density per label of each fold's labels, jointly, given those of the other folds."""

    _sums: dict[str, RowSums] = field(init=False)
    _others: dict[int, dict[str, RowSums]] = field(init=False)

    def __post_init__(self) -> None:
        self._sums = row_sums(self.triangles)
        self._others = {f: row_sums(self.triangles, leave_out=f) for f in self.triangles.folds}

    def evaluate(self, levels: Levels) -> tuple[float, dict[str, float], np.ndarray]:
        """Value per held-out label of the negative log density, and its slopes by the logarithms of the levels."""
        value, noise, signal = negative_log_density(self._sums, levels, self.column_terms)
        folds = len(self._others)
        value, signal = folds * value, folds * signal
        noise = {g: folds * v for g, v in noise.items()}
        for sums in self._others.values():
            less, noise_less, signal_less = negative_log_density(sums, levels, self.column_terms)
            value, signal = value - less, signal - signal_less
            for g, v in noise_less.items():
                noise[g] -= v
        n = sum(t.n_rows for (_, fold), t in self.triangles.items.items() if fold >= 0)
        return value / n, {g: v / n for g, v in noise.items()}, signal / n
