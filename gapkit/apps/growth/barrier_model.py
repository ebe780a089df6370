r"""Barriers of adatom hops from the descriptors of three sites: initial state, transition state, final state.

The features of a hop are the site descriptors of its three states (``gapkit.apps.growth.sites``) and three properties
of the metal; each is scaled to unit variance over the training hops. Two regressors stand behind one contract: a
Gaussian process, and kernel ridge regression with the power function of its kernel (Wendland, Scattered Data
Approximation (2005), ch. 11) as the shape of its error.

Their standard deviations s are calibrated within ``fit``, at fixed hyperparameters, on hops left out in two ways: in
random folds, which ask about places like those of the training, and in a few large clusters of features, which ask
about places unlike them. With the share u = s / signal of the prior standard deviation, the calibrated one is

.. math:: \sigma(s) = s\, e^{a + b \ln u},

a and b by the greatest Gaussian likelihood of the left-out errors (each way of leaving out counts the same), u kept
within the range seen. A length scale learned among known places is too bold beyond them: b says by how much. Intervals
use the quantile of the standardised errors, of that way of leaving out which asks for more (split conformal prediction
with normalised scores: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, J. Am. Stat. Assoc. 113, 1094 (2018)), so that
no Gaussian tail is assumed.
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

from gapkit.apps.growth.hops import Hop, clusters_by_name, folds_by_name, resting_transition
from gapkit.apps.growth.sites import SurfaceSites, bond_length
from gapkit.estimators.calibrated_regressors import CalibratedRegressor, EvidenceProcess, GroupedRegressor
from gapkit.estimators.error_scales import PowerLaw
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
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


class SurfaceBarrierModel(CalibratedRegressor):
    """Barriers of attachment and hops from site descriptors, with calibrated errors.

    Parameters
    ----------
    regressor : GroupedRegressor, optional
        :class:`gapkit.estimators.calibrated_regressors.EvidenceProcess` (default) or
        :class:`gapkit.estimators.calibrated_regressors.LeftOutRidge`.
    sites : transformer, optional
        Transformer from frames to site descriptors; :class:`gapkit.apps.growth.sites.SurfaceSites` by default.
    known_transition : bool
        Whether features are taken at the hop's own transition state; else at
        :func:`gapkit.apps.growth.hops.resting_transition`, which needs the minima alone.
    metals : mapping, optional
        Cohesive energy (eV) and bulk modulus (GPa) by chemical symbol, beyond :data:`METALS`.
    folds, clusters : int
        Parts of the calibration: random folds, and clusters of features (few and large ones ask for bold
        extrapolation). Without clusters (0) only places like those of the training are vouched for.
    random_state : int, RandomState or None
        Deals hops to folds and starts the clusters.
    """

    law = PowerLaw

    def __init__(
        self,
        regressor: GroupedRegressor | None = None,
        sites: Any = None,
        known_transition: bool = True,
        metals: Mapping[str, tuple[float, float]] | None = None,
        folds: int = 5,
        clusters: int = 3,
        random_state=None,
    ) -> None:
        self.regressor = regressor
        self.sites = sites
        self.known_transition = known_transition
        self.metals = metals
        self.folds = folds
        self.clusters = clusters
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
        """Learn from hops with known barriers, and calibrate.

        Parameters
        ----------
        hops
            Training hops.
        y : (n,), optional
            Barriers (eV); those of the hops by default.
        features : (n, f), optional
            Result of :meth:`features` for these hops, where it is known already.

        Raises
        ------
        DataError
            For a barrier that is not finite, or fewer names of hops than folds.
        """
        if not isinstance(self.folds, int) or self.folds < 2:
            raise SettingsError(f"folds must be an integer of at least 2, not {self.folds!r}")
        y = np.array([h.barrier for h in hops] if y is None else y, dtype=float)
        if not np.all(np.isfinite(y)):
            bad = int(np.flatnonzero(~np.isfinite(y))[0])
            raise DataError(f"hop {bad} ({hops[bad].name!r}) has no finite barrier: remove it, or give y")
        if not isinstance(self.clusters, int) or self.clusters < 0 or self.clusters == 1:
            raise SettingsError(f"clusters must be 0 or an integer of at least 2, not {self.clusters!r}")
        names = np.array([h.name for h in hops])
        if len(np.unique(names)) < max(self.folds, self.clusters):
            raise DataError(
                f"{len(np.unique(names))} names of hops are too few for {self.folds} folds and {self.clusters} clusters"
            )
        X = self.features(hops) if features is None else np.asarray(features, dtype=float)
        Z = self._standardise(X)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        ways = [folds_by_name(hops, self.folds, rng)]
        if self.clusters:
            ways.append(clusters_by_name(hops, Z, self.clusters, rng))
        self._learn(self.regressor if self.regressor is not None else EvidenceProcess(), Z, y, names, ways)
        return self

    def _rows(self, hops: Sequence[Hop], features: np.ndarray | None) -> np.ndarray:
        check_is_fitted(self)
        return self._scaled(self.features(hops) if features is None else features)

    def predict(self, hops: Sequence[Hop], return_std: bool = False, features: np.ndarray | None = None):
        """Barriers (n,) in eV and, on request, the standard deviations (n,) of new labels."""
        mean, std = self._predicted(self._rows(hops, features))
        return (mean, std) if return_std else mean

    def predict_interval(
        self, hops: Sequence[Hop], level: float = 0.9, features: np.ndarray | None = None
    ) -> BarrierPrediction:
        """Barriers with the interval that holds a new label with probability ``level``."""
        if not 0 < level < 1:
            raise SettingsError(f"level must lie between 0 and 1, not {level}")
        mean, std = self._predicted(self._rows(hops, features))
        half = self._half_width(std, level)
        return BarrierPrediction(mean, std, mean - half, mean + half, level)

    def sample(
        self,
        hops: Sequence[Hop],
        n_samples: int,
        rng: np.random.Generator,
        features: np.ndarray | None = None,
    ) -> np.ndarray:
        """Barriers (n_samples, n) in eV drawn jointly from the calibrated posterior of the function: hops in like
        places err alike."""
        return self._sampled(self._rows(hops, features), n_samples, rng)


def leave_out(
    model: SurfaceBarrierModel, hops: Sequence[Hop], groups: np.ndarray, level: float = 0.9, progress: bool = False
) -> HeldOut:
    """Predictions of each group of hops by a model that was fitted to all others.

    Parameters
    ----------
    groups : (n,)
        For example folds (:func:`gapkit.apps.growth.hops.folds_by_name`) or site classes.
    """
    groups = np.asarray(groups)
    X = model.features(hops, progress)
    columns = np.empty((4, len(hops)))
    for group in progress_bar(np.unique(groups), desc="left out", show=progress):
        out = np.flatnonzero(groups == group).tolist()
        rest = np.flatnonzero(groups != group).tolist()
        fitted = clone(model).fit([hops[k] for k in rest], features=X[rest])
        p = fitted.predict_interval([hops[k] for k in out], level, features=X[out])
        columns[:, out] = p.barrier, p.std, p.lower, p.upper
    label = np.array([h.barrier for h in hops])
    return HeldOut(label, columns[0], columns[1], groups, columns[2], columns[3], level)
