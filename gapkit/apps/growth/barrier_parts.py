"""Two parts of a hop's barrier, half sum and change of energy: their features and their calibrated regressors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.utils.validation import check_is_fitted

from gapkit.estimators.calibrated_regressors import CalibratedRegressor, GroupedRegressor
from gapkit.estimators.error_scales import PowerLaw

_N_METAL = 3  # properties of the metal, the last features of a hop


class BarrierPart(CalibratedRegressor):
    """Calibrated regressor of one part of a barrier: the half sum K of both directions, or the change of energy."""

    law = PowerLaw

    def fit(
        self,
        X: np.ndarray,
        y: np.ndarray,
        groups: np.ndarray,
        ways: Sequence[np.ndarray],
        regressor: GroupedRegressor,
        n_interval_ways: int,
    ) -> BarrierPart:
        """Learn from features (n, f) and labels (n,), and calibrate on each of the ``ways`` of leaving out; intervals
        use the scores of the first ``n_interval_ways`` of them."""
        self._learn(regressor, self._standardise(X), y, groups, ways)
        self.scores_ = self.scores_[:n_interval_ways]
        return self

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means (n,) and calibrated standard deviations (n,) of new labels."""
        check_is_fitted(self)
        return self._predicted(self._scaled(X))

    def sample(self, X: np.ndarray, n_samples: int, rng: np.random.Generator, widening: np.ndarray) -> np.ndarray:
        """Values (n_samples, n) drawn jointly from the calibrated posterior, their standard deviations times the
        factors ``widening`` (n,)."""
        check_is_fitted(self)
        Z = self._scaled(X)
        mean = self._predicted(Z)[0]
        return mean + widening * (self._sampled(Z, n_samples, rng) - mean)

    def half_width(self, std: np.ndarray, level: float) -> np.ndarray:
        """Half-widths (n,) of intervals that hold a new label with probability ``level``."""
        return self._half_width(std, level)


def _site_parts(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors (n, d) of initial, transition and final state, and properties of the metal (n, 3), of features."""
    sites, metal = X[:, :-_N_METAL], X[:, -_N_METAL:]
    initial, transition, final = np.split(sites, 3, axis=1)
    return initial, transition, final, metal


def symmetric_features(X: np.ndarray) -> np.ndarray:
    """Features (n, f) that a hop and its reverse share, from those of hops (n, f): the larger and the smaller of the
    descriptors of the minima, the transition state, and the metal."""
    initial, transition, final, metal = _site_parts(X)
    return np.concatenate([np.maximum(initial, final), np.minimum(initial, final), transition, metal], axis=1)


def reversed_features(X: np.ndarray) -> np.ndarray:
    """Features (n, f) of the reverse hops."""
    initial, transition, final, metal = _site_parts(X)
    return np.concatenate([final, transition, initial, metal], axis=1)


def site_pairs(X: np.ndarray) -> np.ndarray:
    """Features (n, 2 (d + 3)) of the initial and of the final site, each with the metal."""
    initial, _, final, metal = _site_parts(X)
    return np.concatenate([initial, metal, final, metal], axis=1)
