r"""Barriers of adatom hops from the descriptors of three sites: initial state, transition state, final state.

A barrier is split as in Van der Ven, Ceder, Asta and Tepesch, Phys. Rev. B 64, 184307 (2001), eq. 18,

.. math:: E_{i \to j} = K_{ij} + \tfrac12 \Delta_{ij}, \qquad K_{ij} = K_{ji}, \quad \Delta_{ij} = -\Delta_{ji} ,

into the half sum K of the forward and the reverse barrier and the change of energy. Where the frames of the two minima
carry energies, :math:`\Delta` is their difference, so that forward and reverse barriers differ by it exactly; elsewhere
it is the difference of one learned function of the site (:mod:`gapkit.apps.growth.site_energies`).

K is learned from features that do not change when the hop is reversed: the larger and the smaller of the site
descriptors (:mod:`gapkit.apps.growth.sites`) of the two minima, those of the transition state, and three properties of
the metal, each scaled to unit variance over the training hops. Two regressors of K stand behind one contract: a
Gaussian process, and kernel ridge regression with the power function of its kernel (Wendland, Scattered Data
Approximation (2005), ch. 11) as the shape of its error.

Standard deviations s of both parts are calibrated within ``fit``, at fixed hyperparameters, on hops left out in several
ways: in random folds, which ask about places like those of the training; in a few large clusters of features; and by
class of environment (terrace, step, kink, attachment, clusters of adatoms), which ask about places unlike them. With
the share u = s / signal of the prior standard deviation, the calibrated one is

.. math:: \sigma(s) = s\, e^{a + b \ln u},

a and b by the greatest Gaussian likelihood of the left-out errors (each way of leaving out counts the same), u kept
within the range seen. A length scale learned among known places is too bold beyond them: b says by how much. Intervals
use the quantile of the standardised errors of folds or clusters, of the way which asks for more (split conformal
prediction with normalised scores: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, J. Am. Stat. Assoc. 113, 1094
(2018)), so that no Gaussian tail is assumed.

A class of environment that is not in the training hops may be worse than an error law says that was fitted to all
classes together. Its standard deviations are multiplied by

.. math:: f = \sqrt{1 + 1/k}\, \max_c z_c, \qquad f \ge 1,

:math:`z_c` the root mean square of the standardised errors of class c of the k classes, left out as a whole: the new
class is taken for one like the worst of those known, with the allowance for one more draw from k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from gapkit.apps.growth.barrier_parts import BarrierPart, reversed_features, site_pairs, symmetric_features
from gapkit.apps.growth.hops import Hop, clusters_by_name, environment_class, folds_by_name, resting_transition
from gapkit.apps.growth.site_energies import SiteEnergyProcess
from gapkit.apps.growth.sites import SurfaceSites, bond_length
from gapkit.estimators.calibrated_regressors import CalibratedRegressor, EvidenceProcess, GroupedRegressor
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.uncertainty.held_out import HeldOut

#: cohesive energy (eV per atom) and bulk modulus (GPa) of fcc metals: Kittel, Introduction to Solid State Physics, 8th
#: ed. (2005), ch. 3, tables 1 and 3
METALS = {
    "Al": (3.39, 72.2),
    "Ni": (4.44, 186.0),
    "Cu": (3.49, 137.0),
    "Pd": (3.89, 180.8),
    "Ag": (2.95, 100.7),
    "Pt": (5.84, 278.3),
    "Au": (3.81, 173.2),
}


@dataclass(frozen=True)
class BarrierPrediction:
    """Barriers of hops, all (n,) and in eV.

    Attributes
    ----------
    barrier, std
        Mean, and calibrated standard deviation of a new label.
    lower, upper
        Ends of the interval that holds a new label with probability ``level``.
    level : float
    """

    barrier: np.ndarray
    std: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float


_DISAGREEMENT = 0.01  # eV between the barriers of a hop and the energies of its minima


class SurfaceBarrierModel(CalibratedRegressor):
    """Barriers of attachment and hops from site descriptors, with calibrated errors.

    Parameters
    ----------
    regressor : GroupedRegressor, optional
        Regressor of the half sums: :class:`gapkit.estimators.calibrated_regressors.EvidenceProcess` (default) or
        :class:`gapkit.estimators.calibrated_regressors.LeftOutRidge`.
    sites : transformer, optional
        Transformer from frames to site descriptors; :class:`gapkit.apps.growth.sites.SurfaceSites` by default.
    known_transition : bool
        Whether features are taken at the hop's own transition state; else at
        :func:`gapkit.apps.growth.hops.resting_transition`, which needs the minima alone.
    known_energies : bool
        Whether forward and reverse barriers differ by the energies of the minima where the frames carry them; else the
        difference is predicted.
    metals : mapping, optional
        Cohesive energy (eV) and bulk modulus (GPa) by chemical symbol, beyond :data:`METALS`.
    folds, clusters : int
        Parts of the calibration: random folds, and clusters of features (few and large ones ask for bold
        extrapolation; 0 leaves this way out).
    classes : bool
        Whether each class of environment (:func:`gapkit.apps.growth.hops.environment_class`) is left out as a whole
        too, and error bars of classes that are not in the training are widened. Without classes and clusters only
        places like those of the training are vouched for.
    random_state : int, RandomState or None
        Deals hops to folds and starts the clusters.

    Attributes
    ----------
    symmetric_, change_ : BarrierPart
        Half sum of forward and reverse barrier, and change of energy.
    classes_ : tuple of str
        Classes of environment of the training hops.
    unseen_factor_ : float
        Factor on the standard deviations of hops of other classes.
    errors_ : (ways, n)
        Prediction minus label of the training barriers, left out in each way, with predicted changes of energy.
    scores_ : (ways, n)
        Sorted absolute errors of folds and clusters, in units of the calibrated standard deviation.
    """

    def __init__(
        self,
        regressor: GroupedRegressor | None = None,
        sites: Any = None,
        known_transition: bool = True,
        known_energies: bool = True,
        metals: Mapping[str, tuple[float, float]] | None = None,
        folds: int = 5,
        clusters: int = 3,
        classes: bool = True,
        random_state=None,
    ) -> None:
        self.regressor = regressor
        self.sites = sites
        self.known_transition = known_transition
        self.known_energies = known_energies
        self.metals = metals
        self.folds = folds
        self.clusters = clusters
        self.classes = classes
        self.random_state = random_state

    def features(self, hops: Sequence[Hop], progress: bool = False) -> np.ndarray:
        """Features (n, f) of hops before scaling; every frame is described once."""
        sites = self.sites if self.sites is not None else SurfaceSites()
        frames: dict[int, ase.Atoms] = {}
        middles: dict[frozenset[int], ase.Atoms] = {}
        for hop in hops:
            ends = frozenset((id(hop.initial), id(hop.final)))
            if ends not in middles:
                middles[ends] = self._transition(hop)
            for atoms in (hop.initial, hop.final, middles[ends]):
                frames[id(atoms)] = atoms
        rows = {
            key: sites.transform([atoms])[0] for key, atoms in progress_bar(frames.items(), desc="sites", show=progress)
        }
        return np.array(
            [
                np.concatenate(
                    [
                        rows[id(h.initial)],
                        rows[id(middles[frozenset((id(h.initial), id(h.final)))])],
                        rows[id(h.final)],
                        self._metal(h),
                    ]
                )
                for h in hops
            ]
        )

    def _transition(self, hop: Hop) -> ase.Atoms:
        if not self.known_transition:
            return resting_transition(hop.initial, hop.final)
        if hop.transition is None:
            raise DataError(f"hop {hop.name!r} has no transition state: give it, or use known_transition=False")
        return hop.transition

    def _metal(self, hop: Hop) -> tuple[float, float, float]:
        known = {**METALS, **(self.metals or {})}
        if hop.metal not in known:
            raise DataError(
                f"hop {hop.name!r}: no properties of {hop.metal}; give them as metals={{{hop.metal!r}: ...}}"
            )
        return (*known[hop.metal], bond_length(hop.initial))

    def fit(self, hops: Sequence[Hop], y=None, features: np.ndarray | None = None) -> SurfaceBarrierModel:
        """Learn from hops with known barriers of both directions, and calibrate. A hop and its reverse, where both are
        given, count once.

        Parameters
        ----------
        hops
            Training hops.
        y : (n, 2), optional
            Barriers and reverse barriers (eV); those of the hops by default.
        features : (n, f), optional
            Result of :meth:`features` for these hops, where it is known already.

        Raises
        ------
        DataError
            For a barrier that is not finite, barriers that contradict the energies of the minima, or fewer names of
            hops than folds.
        """
        self._check_settings()
        labels = self._labels(hops, y)
        X = self.features(hops) if features is None else np.asarray(features, dtype=float)
        moves = _distinct_moves(hops)
        forward, X, labels = [hops[k] for k in moves], X[moves], labels[moves]
        names = np.array([h.name for h in forward])
        if len(np.unique(names)) < max(self.folds, self.clusters):
            raise DataError(
                f"{len(np.unique(names))} names of hops are too few for {self.folds} folds and {self.clusters} clusters"
            )
        S = symmetric_features(X)
        kinds = np.array([environment_class(h) for h in forward])
        self.classes_ = tuple(str(k) for k in np.unique(kinds))
        ways = self._ways_of_leaving_out(forward, S, kinds)
        regressor = self.regressor if self.regressor is not None else EvidenceProcess()
        n_interval_ways = len(ways) - self._leaves_classes_out
        self.symmetric_ = BarrierPart().fit(S, labels.mean(axis=1), names, ways, regressor, n_interval_ways)
        change = labels[:, 0] - labels[:, 1]
        self.change_ = BarrierPart().fit(
            np.concatenate([site_pairs(X), site_pairs(reversed_features(X))]),
            np.concatenate([change, -change]),
            np.tile(names, 2),
            [np.tile(way, 2) for way in ways],
            SiteEnergyProcess(),
            n_interval_ways,
        )
        half = np.tile(self.symmetric_.errors_, 2)
        self.errors_ = half + 0.5 * self.change_.errors_
        stds = np.hypot(np.tile(self.symmetric_.stds_, 2), 0.5 * self.change_.stds_)
        z = np.abs(self.errors_) / stds
        self.scores_ = np.sort(z[:n_interval_ways], axis=1)
        self.unseen_factor_ = 1.0
        if self._leaves_classes_out:
            half_z = self.symmetric_.errors_[-1] / self.symmetric_.stds_[-1]
            self.unseen_factor_ = max(_unseen_factor(half_z, kinds), _unseen_factor(z[-1], np.tile(kinds, 2)))
        return self

    @property
    def _leaves_classes_out(self) -> bool:
        return self.classes and len(self.classes_) > 1

    def _check_settings(self) -> None:
        if not isinstance(self.folds, int) or self.folds < 2:
            raise SettingsError(f"folds must be an integer of at least 2, not {self.folds!r}")
        if not isinstance(self.clusters, int) or self.clusters < 0 or self.clusters == 1:
            raise SettingsError(f"clusters must be 0 or an integer of at least 2, not {self.clusters!r}")

    @staticmethod
    def _labels(hops: Sequence[Hop], y: Any) -> np.ndarray:
        """Barriers of both directions (n, 2), checked."""
        labels = np.array([(h.barrier, h.reverse_barrier) for h in hops] if y is None else y, dtype=float)
        if labels.shape != (len(hops), 2):
            raise DataError(f"y must hold a barrier and a reverse barrier for each hop, not the shape {labels.shape}")
        for index, (hop, (there, back)) in enumerate(zip(hops, labels, strict=True)):
            if not np.isfinite([there, back]).all():
                raise DataError(
                    f"hop {index} ({hop.name!r}) has no finite barrier and reverse barrier: remove it, or give y"
                )
            if abs(there - back - hop.energy_change) > _DISAGREEMENT:  # never so where a frame has no energy
                raise DataError(
                    f"hop {index} ({hop.name!r}): barriers differ by {there - back:.3f} eV, the energies of its minima "
                    f"by {hop.energy_change:.3f} eV; if they are of different methods, remove the calculators"
                )
        return labels

    def _ways_of_leaving_out(self, hops: Sequence[Hop], S: np.ndarray, kinds: np.ndarray) -> list[np.ndarray]:
        """Groups (n,) of each way of leaving out: random folds, clusters of features, classes of environment."""
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        ways = [folds_by_name(hops, self.folds, rng)]
        if self.clusters:
            spread = S.std(axis=0)
            ways.append(clusters_by_name(hops, S / np.where(spread > 0, spread, 1.0), self.clusters, rng))
        return [*ways, kinds] if self._leaves_classes_out else ways

    def _predicted_hops(
        self, hops: Sequence[Hop], features: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means (n,), calibrated standard deviations (n,), and whether the change of energy is known (n,)."""
        check_is_fitted(self, "symmetric_")
        X = self.features(hops) if features is None else np.asarray(features, dtype=float)
        half, half_std = self.symmetric_.predict(symmetric_features(X))
        change, change_std = self.change_.predict(site_pairs(X))
        known = self._known_changes(hops, len(X))
        told = np.isfinite(known)
        std = np.where(told, half_std, np.hypot(half_std, 0.5 * change_std))
        return half + 0.5 * np.where(told, known, change), std * self._widening(hops, len(X)), told

    def _widening(self, hops: Sequence[Hop], n: int) -> np.ndarray:
        """Factors (n,) on standard deviations: above 1 for classes of environment that are not in the training."""
        if self.unseen_factor_ == 1.0:
            return np.ones(n)
        return np.array([1.0 if environment_class(h) in self.classes_ else self.unseen_factor_ for h in hops])

    def _known_changes(self, hops: Sequence[Hop], n: int) -> np.ndarray:
        """Changes of energy (n,) by the frames (eV); nan where they are to be predicted."""
        return np.array([h.energy_change for h in hops]) if self.known_energies else np.full(n, np.nan)

    def predict(self, hops: Sequence[Hop], return_std: bool = False, features: np.ndarray | None = None):
        """Barriers (n,) in eV and, on request, the standard deviations (n,) of new labels."""
        mean, std, _ = self._predicted_hops(hops, features)
        return (mean, std) if return_std else mean

    def predict_interval(
        self, hops: Sequence[Hop], level: float = 0.9, features: np.ndarray | None = None
    ) -> BarrierPrediction:
        """Barriers with the interval that holds a new label with probability ``level``."""
        if not 0 < level < 1:
            raise SettingsError(f"level must lie between 0 and 1, not {level}")
        mean, std, told = self._predicted_hops(hops, features)
        half = np.where(told, self.symmetric_.half_width(std, level), self._half_width(std, level))
        return BarrierPrediction(mean, std, mean - half, mean + half, level)

    def sample(
        self,
        hops: Sequence[Hop],
        n_samples: int,
        random_state: int | np.random.Generator | None = None,
        features: np.ndarray | None = None,
    ) -> np.ndarray:
        """Barriers (n_samples, n) in eV drawn jointly from the calibrated posterior of the function: hops in like
        places err alike, and a hop and its reverse have opposite changes of energy in every draw."""
        check_is_fitted(self, "symmetric_")
        X = self.features(hops) if features is None else np.asarray(features, dtype=float)
        widening, rng = self._widening(hops, len(X)), generator_of(random_state)
        half = self.symmetric_.sample(symmetric_features(X), n_samples, rng, widening)
        change = self.change_.sample(site_pairs(X), n_samples, rng, widening)
        known = self._known_changes(hops, len(X))
        return half + 0.5 * np.where(np.isfinite(known), known, change)


def _unseen_factor(z: np.ndarray, kinds: np.ndarray) -> float:
    """Factor on standard deviations of an unknown class, from the standardised errors (n,) of classes (n,) left out."""
    known = np.unique(kinds)
    worst = max(float(np.sqrt(np.mean(z[kinds == kind] ** 2))) for kind in known)
    return max(1.0, worst * np.sqrt(1.0 + 1.0 / len(known)))


def _distinct_moves(hops: Sequence[Hop]) -> list[int]:
    """Indices of the hops, without reverses of hops that come earlier."""
    first: dict[frozenset[int], int] = {}
    for index, hop in enumerate(hops):
        first.setdefault(frozenset((id(hop.initial), id(hop.final))), index)
    return list(first.values())


def leave_out(
    model: SurfaceBarrierModel,
    hops: Sequence[Hop],
    groups: np.ndarray,
    level: float = 0.9,
    progress: bool = False,
    features: np.ndarray | None = None,
) -> HeldOut:
    """Predictions of each group of hops by a model that was fitted to all others.

    Parameters
    ----------
    groups : (n,)
        For example folds (:func:`gapkit.apps.growth.hops.folds_by_name`) or classes of environment.
    features : (n, f), optional
        Result of :meth:`SurfaceBarrierModel.features` for these hops, where it is known already.
    """
    groups = np.asarray(groups)
    X = model.features(hops, progress) if features is None else features
    columns = np.empty((4, len(hops)))
    for group in progress_bar(np.unique(groups), desc="left out", show=progress):
        out = np.flatnonzero(groups == group).tolist()
        rest = np.flatnonzero(groups != group).tolist()
        fitted = clone(model).fit([hops[k] for k in rest], features=X[rest])
        p = fitted.predict_interval([hops[k] for k in out], level, features=X[out])
        columns[:, out] = p.barrier, p.std, p.lower, p.upper
    label = np.array([h.barrier for h in hops])
    return HeldOut(label, columns[0], columns[1], groups, columns[2], columns[3], level)
