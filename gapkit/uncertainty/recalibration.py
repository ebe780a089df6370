r"""Standard deviations that follow the posterior variance, set by the errors of frames that the model has not seen.

One noise for all environments is too wide where the data are dense (ordered solids) and too narrow where they are
sparse (liquids, surfaces). The error left after a fit is mostly misfit, and its size follows the variance omega that
the data leave in the weights: within a narrow range of omega errors are close to normal, and their mean square is close
to a power of omega. Hence, for one kind of label,

.. math:: \mathrm{var} = \sigma_0^2 + c\, (v / v_0)^p, \qquad v = \omega + \kappa \rho + (h - h_0)_+

with the Nystrom residual rho given so small a weight kappa that it plays no part among the calibration frames, and
grows in where an environment is unlike all sparse points. h is the part of rho that the projection of features hides:
no label had a say in functions of those directions, so that it counts in full where it is beyond :math:`h_0`, what 99 %
of the calibration labels have: where a bond is broken or pressed together it is as large as the error
(docs/UNCERTAINTY.md). Beyond the largest v of the calibration labels a power below one would take more and more from a
variance that no error speaks against: there the variance grows as v.
:math:`\sigma_0, c, p` maximise the likelihood of the errors, with a weak prior on p and :math:`\sigma_0` for
calibration sets of a few dozen labels (energies). Forces are many and derivatives of the same function: their p is
where the prior on that of energies and virials is centred.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats

from gapkit.exceptions import DataError
from gapkit.uncertainty.calibration import GroupCalibration
from gapkit.uncertainty.metrics import z_scores

#: share of the Nystrom residual in v at a typical calibration label
RESIDUAL_SHARE = 0.02
#: the same of few frames: a new one has more often what no sparse point explains
FEW_RESIDUAL_SHARE = 0.1
#: share of the calibration labels among which what projections hide plays no part
WITHIN_HIDDEN = 0.99
#: prior of the power of forces: mean and standard deviation; and of log(sigma_0^2 / mean square error)
POWER, POWER_WIDTH = 0.9, 0.3
FLOOR, FLOOR_WIDTH = -3.0, 2.0
#: power allowed: none at all would lose what the variance knows, more than 1.5 would make rare environments absurd
POWERS = (0.1, 1.5)
#: a label whose variance is below this share of the largest is fixed by symmetry: there is no error to predict
SYMMETRY = 1e-9
#: below this number of labels the optimism of the fit is measured and made up for
FEW = 1000
#: with fewer frames than this to hold out, error bars say how little so few frames tell
FEW_FRAMES = 20
#: fewest labels that the three numbers can be set by
FEWEST = 8


@dataclass(frozen=True)
class ErrorModel:
    """Variance of a new label of one kind from the two parts of its posterior variance.

    Attributes
    ----------
    floor : float
        sigma_0^2, in the squared unit of the errors (energies and virials: per atom).
    factor : float
        c, in that unit: the variance at v = ``reference``.
    power : float
        p.
    reference : float
        Geometric mean of v over the calibration labels.
    residual_weight : float
        kappa.
    symmetry : float
        Posterior variances below it belong to labels that are fixed by symmetry.
    n : int
        Calibration labels.
    hidden_limit : float or None
        h_0; None where h does not count: where the levels of a fit state the variance.
    farthest : float or None
        Largest v of the calibration labels; None: not known, or p = 1. Beyond it a power below one has no say.
    """

    floor: float
    factor: float
    power: float
    reference: float
    residual_weight: float
    symmetry: float
    n: int
    hidden_limit: float | None = None
    farthest: float | None = None

    @classmethod
    def fit(
        cls,
        error: np.ndarray,
        residual: np.ndarray,
        weights: np.ndarray,
        hidden: np.ndarray | float = 0.0,
        power: float = POWER,
        n_frames: int | None = None,
        highest: float = POWERS[1],
        fewest: int = FEWEST,
    ) -> ErrorModel:
        """Error model fitted to errors by maximum likelihood with weak priors.

        Labels of one frame err together. Of fewer than ``FEW_FRAMES`` frames, labels count as ``n_frames / FEW_FRAMES``
        of a label, so that the priors have their say, and variances are wider by :func:`inflation`.

        Parameters
        ----------
        error, residual, weights : (n,)
            Errors of labels that were not fitted, and the two parts of their posterior variance.
        hidden : (n,)
            The part of ``residual`` that projections hide.
        power
            Mean of the prior on p.
        n_frames
            Frames that the labels are of; None: each is of another.
        highest
            Largest p; of fewer than ``FEW_FRAMES`` frames it is one.
        fewest
            Fewest labels that are enough.

        Raises
        ------
        DataError
            For too few labels whose errors are not fixed by symmetry, or errors that all vanish.
        """
        error, residual, weights = (np.asarray(x, dtype=float).ravel() for x in (error, residual, weights))
        hidden = np.broadcast_to(np.asarray(hidden, dtype=float).ravel(), error.shape)
        symmetry = SYMMETRY * float((residual + weights).max(initial=0.0))
        free = residual + weights > symmetry
        error, residual, weights, hidden = error[free], residual[free], weights[free], hidden[free]
        mean_square = float(np.mean(error**2)) if len(error) else 0.0
        if len(error) < fewest or not (np.isfinite(mean_square) and mean_square > 0):
            raise DataError(
                f"recalibration needs at least {fewest} labels of a kind with errors, not {len(error)}: add frames"
            )
        share = 1.0 if n_frames is None else min(1.0, n_frames / FEW_FRAMES)
        few = share < 1.0
        both = (residual > 0) & (weights > 0)
        # geometric means: a few environments far from all data would make an arithmetic one their own
        part = FEW_RESIDUAL_SHARE if few else RESIDUAL_SHARE
        kappa = part * np.exp(np.mean(np.log(weights[both] / residual[both]))) if both.any() else 0.0
        if few:
            kappa = min(float(kappa), 1.0)  # a few frames near sparse points of their own would make it any number
        limit = float(np.quantile(hidden, WITHIN_HIDDEN))
        v = np.maximum(weights + kappa * residual + np.maximum(hidden - limit, 0.0), symmetry)
        reference = float(np.exp(np.mean(np.log(v))))
        u, e2 = np.log(v / reference), error**2 / mean_square
        likely = partial(
            _most_likely,
            power=power,
            share=share,
            highest=min(1.0, highest) if few else highest,
        )
        floor, factor, found = likely(u, e2)
        widen = np.log(_optimism(u, e2, likely)) if FEWEST <= len(e2) < FEW else 0.0
        if n_frames is not None:
            widen = max(widen, float(np.log(inflation(n_frames))))
        floor, factor = floor + widen, factor + widen
        return cls(
            float(mean_square * np.exp(floor)), float(mean_square * np.exp(factor)), float(found), reference,
            float(kappa), symmetry, len(error), limit, float(v.max()),
        )  # fmt: skip

    @classmethod
    def borrowed(cls, known: Mapping[str, ErrorModel]) -> ErrorModel | None:
        """Variance of forces where no force was a label that tells anything: by the error model of virials, which are
        derivatives too, else of energies; None where there is neither.

        The ratio of label variance to posterior variance is taken over at equal posterior variance, in eV and A. That
        it may be another for forces counts as two frames do (:func:`inflation`). A kind without labels has no noise.
        """
        donor = known.get("virial", known.get("energy"))
        if donor is None:
            return None
        return replace(donor, floor=0.0, factor=inflation(2) * donor.factor, symmetry=0.0, n=0)

    @classmethod
    def stated(cls, group: GroupCalibration) -> ErrorModel:
        """The variance of a fit's levels, ``residual_scale * residual + weight_scale * weights + noise**2``: p = 1."""
        kappa = group.residual_scale / group.weight_scale
        return cls(group.noise**2, group.weight_scale, 1.0, 1.0, float(kappa), 0.0, 0)

    def rescaled(
        self,
        error: np.ndarray,
        residual: np.ndarray,
        weights: np.ndarray,
        hidden: np.ndarray | float = 0.0,
        n_frames: int = FEW_FRAMES,
    ) -> ErrorModel:
        """This model times one factor: the mean square of the standardised errors, wider by :func:`inflation` where
        they are of few frames.

        Raises
        ------
        DataError
            For errors that all vanish.
        """
        judged = self.has_error(residual, weights)
        std = np.sqrt(self.variance(residual, weights, hidden))
        factor = float(np.mean(z_scores(error[judged], std[judged]) ** 2))
        if not factor > 0:
            raise DataError("the errors of the calibration frames all vanish: give frames that were not fitted to")
        factor *= inflation(n_frames)
        return replace(self, floor=factor * self.floor, factor=factor * self.factor, n=int(judged.sum()))

    def variance(self, residual: np.ndarray, weights: np.ndarray, hidden: np.ndarray | float = 0.0) -> np.ndarray:
        """Variances of new labels, of the shape of ``residual`` and ``weights``; at least sigma_0^2."""
        return self.floor + self.rise(residual, weights, hidden)

    def rise(self, residual: np.ndarray, weights: np.ndarray, hidden: np.ndarray | float = 0.0) -> np.ndarray:
        """The part of :meth:`variance` that follows the posterior variance."""
        v = np.asarray(weights) + self.residual_weight * np.asarray(residual)
        if self.hidden_limit is not None:
            v = v + np.maximum(np.asarray(hidden) - self.hidden_limit, 0.0)
        v = np.maximum(v, 0.0) / self.reference
        if self.farthest is None or self.power >= 1:
            return np.asarray(self.factor * v**self.power)
        inside = np.minimum(v, self.farthest / self.reference)
        beyond = np.divide(v, inside, out=np.ones_like(v), where=inside > 0)
        return np.asarray(self.factor * inside**self.power * beyond)

    def joint(self, residual: np.ndarray, weights: np.ndarray, hidden: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Matrix (n, n) of v between energies, of which :meth:`rise` takes the diagonal; in eV^2, not per atom.

        Parameters
        ----------
        residual, weights, hidden : (n, n)
            Parts of the posterior covariance of the energies of n frames (eV^2).
        sizes : (n,)
            Numbers of atoms.
        """
        v = weights + self.residual_weight * residual
        if self.hidden_limit is None:
            return v
        own = np.diagonal(hidden)
        beyond = np.maximum(own - sizes * self.hidden_limit, 0.0)
        share = np.sqrt(np.divide(beyond, own, out=np.zeros_like(own), where=beyond > 0))
        return v + np.outer(share, share) * hidden

    def has_error(self, residual: np.ndarray, weights: np.ndarray, hidden: np.ndarray | float = 0.0) -> np.ndarray:
        """Whether an error bar can be tested on a label: not where the label is fixed by symmetry."""
        return np.asarray(residual) + np.asarray(weights) > self.symmetry


def power_of(models: Mapping[str, ErrorModel]) -> float:
    """Centre of the prior on the power of another label kind: the power of forces, where that is known."""
    return models["forces"].power if "forces" in models else POWER


def inflation(n_frames: int) -> float:
    r"""Factor on variances that are known from the errors of ``n_frames`` frames; one from ``FEW_FRAMES`` on.

    With a prior of the scale that is flat in its logarithm, a new error over the root mean square of n others has
    Student's t distribution with n degrees of freedom (Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), section
    3.2). The factor is :math:`(t_n / t_{20})^2`, of the quantiles that 95 % of absolute values are below.

    Examples
    --------
    >>> [round(inflation(n), 2) for n in (1, 2, 5, 20, 100)]
    [37.1, 4.25, 1.52, 1.0, 1.0]
    """
    degrees = np.array([max(1, min(n_frames, FEW_FRAMES)), FEW_FRAMES])
    few, enough = scipy.stats.t.ppf(0.975, degrees)
    return float((few / enough) ** 2)


def _most_likely(
    u: np.ndarray, e2: np.ndarray, power: float, share: float = 1.0, highest: float = POWERS[1]
) -> tuple[float, float, float]:
    """log floor, log factor and power that minimise the negative log posterior; ``u`` = log v, ``e2`` = error^2,
    ``power`` the mean of the prior, ``share`` what each label counts as, ``highest`` the largest power."""

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        floor, rise = np.exp(x[0]), np.exp(x[1] + x[2] * u)
        variance = floor + rise
        pull = 0.5 * share * (1.0 / variance - e2 / variance**2)
        value = 0.5 * share * float(np.sum(np.log(variance) + e2 / variance))
        gradient = np.array([np.sum(pull) * floor, pull @ rise, pull @ (rise * u)])
        away = np.array([(x[0] - FLOOR) / FLOOR_WIDTH, 0.0, (x[2] - power) / POWER_WIDTH])
        value += 0.5 * float(away @ away)
        return value, gradient + away / np.array([FLOOR_WIDTH, 1.0, POWER_WIDTH])

    result = scipy.optimize.minimize(
        objective,
        np.array([FLOOR, -0.5, min(power, highest)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-12, 2), (-12, 5), (POWERS[0], highest)],
    )
    return float(result.x[0]), float(result.x[1]), float(result.x[2])


def _optimism(
    u: np.ndarray, e2: np.ndarray, likely: Callable[[np.ndarray, np.ndarray], tuple], n_folds: int = 10
) -> float:
    """Mean of z^2 of labels that were left out of the fit of the error model; at least 1.

    Three numbers that were fitted to a few dozen labels are too sure of themselves.
    """
    fold = np.argsort(np.argsort(u, kind="stable"), kind="stable") % n_folds
    z2 = np.empty(len(e2))
    for k in range(n_folds):
        out = fold == k
        if out.any():
            floor, factor, found = likely(u[~out], e2[~out])
            z2[out] = e2[out] / (np.exp(floor) + np.exp(factor + found * u[out]))
    return max(1.0, float(np.mean(z2)))


@dataclass(frozen=True)
class SplitConformal:
    r"""Half-widths of prediction intervals, in units of a predicted standard deviation.

    With n scores :math:`|error| / std` of labels that neither the model nor the standard deviation was fitted to, the
    interval of half-width :math:`q \cdot std`, q the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest score, holds
    a new exchangeable label with probability between :math:`1 - \alpha` and :math:`1 - \alpha + 1/(n + 1)` (Vovk,
    Gammerman, Shafer, Algorithmic Learning in a Random World (2005); Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018)).
    Components of one frame are exchangeable only frame by frame: with K frames of equal size the guarantee for a
    component of a new frame is :math:`(1 - \alpha) K/(K + 1)` (after Lee, Barber, Willett, arXiv:2306.06342);
    ``by_frame`` raises the level by (K + 1)/K, so that it is :math:`1 - \alpha` again.

    Attributes
    ----------
    scores : tuple of float
        Sorted.
    n_frames : int
        K.
    """

    scores: tuple[float, ...]
    n_frames: int

    @classmethod
    def fit(cls, error: np.ndarray, std: np.ndarray, n_frames: int) -> SplitConformal:
        """Scores from errors and standard deviations (n,) of the labels of ``n_frames`` frames."""
        return cls(tuple(float(s) for s in np.sort(np.abs(z_scores(error, std)))), int(n_frames))

    def factor(self, level: float = 0.9, by_frame: bool = False) -> float:
        """q for intervals that hold a new label with probability ``level``.

        Raises
        ------
        DataError
            For a level that so few calibration labels (frames) cannot promise.

        Examples
        --------
        >>> import numpy as np
        >>> error = np.random.default_rng(0).normal(size=999)
        >>> conformal = SplitConformal.fit(error, np.ones(999), n_frames=999)
        >>> float(round(conformal.factor(0.9), 1))  # 1.64 for normal errors
        1.6
        """
        if not 0 < level < 1:
            raise DataError(f"level must be between 0 and 1, not {level}")
        wanted = level * (self.n_frames + 1) / self.n_frames if by_frame else level
        rank = int(np.ceil((len(self.scores) + 1) * wanted - 1e-9))
        if wanted > 1 or rank > len(self.scores):
            raise DataError(
                f"{len(self.scores)} calibration labels of {self.n_frames} frames cannot promise a coverage of "
                f"{level:.1%}: give more frames, or ask for less"
            )
        return self.scores[rank - 1]


@dataclass(frozen=True)
class Recalibration:
    """Error models and conformal scores of each label kind (``energy``, ``forces``, ``virial``).

    Attributes
    ----------
    models : dict
        Error models of all calibration frames, for standard deviations.
    interval_models : dict
        Error models of one half of them; conformal scores are in units of their standard deviations.
    conformal : dict
        Scores of the other half.
    n_frames : int
        Calibration frames.
    """

    models: dict[str, ErrorModel]
    interval_models: dict[str, ErrorModel]
    conformal: dict[str, SplitConformal]
    n_frames: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the error models and scores."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Recalibration:
        """Recalibration from the dictionary of :meth:`as_dict`."""
        return cls(
            {k: ErrorModel(**m) for k, m in table["models"].items()},
            {k: ErrorModel(**m) for k, m in table["interval_models"].items()},
            {k: SplitConformal(tuple(c["scores"]), c["n_frames"]) for k, c in table["conformal"].items()},
            table["n_frames"],
        )
