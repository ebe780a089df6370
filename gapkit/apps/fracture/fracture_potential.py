r"""A fracture potential: the driving force for bond rupture from the stress around the bond, with error bars.

Kernel ridge regression gives the mean; the sparse Gaussian process with the same kernel gives the variance
(:class:`gapkit.estimators.calibrated_regressors.LeftOutProcess`). The length scale and the ridge are those under which
groups left out (loading histories, crack systems) are most probable; the ratio of their errors to their standard
deviations sets a factor on all standard deviations.

A crack advances where :math:`\Phi > \Phi_c`. The critical value belongs to the material: :meth:`set_critical` takes it
from places where bonds did rupture, and its error bar from their scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.optimize import brentq
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, validate_data

from gapkit.estimators.calibrated_regressors import CalibratedRegressor, LeftOutProcess
from gapkit.estimators.error_scales import ConstantFactor
from gapkit.exceptions import DataError, SettingsError
from gapkit.randomness import generator_of
from gapkit.uncertainty.held_out import HeldOut


class FracturePotential(CalibratedRegressor):
    """Driving force for bond rupture from stress descriptors: kernel ridge regression and a sparse Gaussian process.

    Parameters
    ----------
    n_sparse : int
        Largest number of sparse points of the Gaussian process.
    random_state : int, RandomState or None
        Seed of the choice of sparse points.

    Attributes
    ----------
    critical_, critical_std_, critical_error_ : float, eV
        Critical value, its scatter from bond to bond, and the standard error of the mean; 0, 0, 0 (Griffith's
        threshold) until :meth:`set_critical`.
    """

    law = ConstantFactor

    def __init__(self, n_sparse: int = 500, random_state: Any = None) -> None:
        self.n_sparse = n_sparse
        self.random_state = random_state

    def fit(self, X, y, groups=None) -> FracturePotential:
        """Learn from labelled bonds.

        Parameters
        ----------
        X : (n, f)
            Descriptors.
        y : (n,)
            Driving forces (eV).
        groups : (n,), optional
            Rows that are left out together where settings and error bars are chosen: loading histories, or crack
            systems. Without groups ten contiguous blocks of rows stand for them.

        Raises
        ------
        DataError
            For fewer than two groups.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if groups is None:
            groups = np.arange(len(y)) * min(10, len(y)) // len(y)
        groups = np.asarray(groups)
        if len(groups) != len(y):
            raise DataError(f"{len(groups)} groups for {len(y)} rows")
        if len(np.unique(groups)) < 2:
            raise DataError("all rows are of one group: error bars need at least two")
        self._learn(LeftOutProcess(self.n_sparse, self.random_state), self._standardise(X), y, groups, [groups])
        self.critical_ = self.critical_std_ = self.critical_error_ = 0.0
        return self

    @property
    def _process(self) -> LeftOutProcess:
        """The regressor, of which :meth:`fit` makes no other."""
        return cast(LeftOutProcess, self.regressor_)

    def predict(self, X, return_std: bool = False):
        """Driving forces (n,) in eV and, on request, the standard deviations (n,) of new labels."""
        check_is_fitted(self)
        Z = self._scaled(validate_data(self, X, dtype=np.float64, reset=False))
        if return_std:
            return self._predicted(Z)
        return self._process.ridge_.predict(Z) + self.mean_

    def sample(self, X, n_samples: int, random_state: int | np.random.Generator | None = None) -> np.ndarray:
        """Driving forces (n_samples, n) in eV, drawn jointly from the calibrated posterior of the function: rows that
        are alike err alike."""
        check_is_fitted(self)
        return self._sampled(self._scaled(X), n_samples, generator_of(random_state))

    def draw(self, random_state: int | np.random.Generator | None = None) -> Callable[[np.ndarray], np.ndarray]:
        """One driving force from the calibrated posterior, as a function of descriptors (n, f) that may be asked again
        and again; what the sparse points do not explain (the Nystrom residual) is left out."""
        check_is_fitted(self)
        departure = self._process.draw(generator_of(random_state))
        law = cast(ConstantFactor, self.error_law_)

        def drive(X: np.ndarray) -> np.ndarray:
            return self.predict(X) + law.value * departure(self._scaled(X))

        return drive

    def set_critical(self, X) -> FracturePotential:
        """Critical value from the descriptors (e, f) of bonds at the point of rupture.

        Raises
        ------
        DataError
            For fewer than two ruptures: one has no scatter.
        """
        values = self.predict(X)
        if len(values) < 2:
            raise DataError("at least two ruptures are needed: one has no scatter")
        self.critical_ = float(values.mean())
        self.critical_std_ = float(values.std(ddof=1))
        self.critical_error_ = self.critical_std_ / np.sqrt(len(values))
        return self


@dataclass(frozen=True)
class CriticalLoad:
    """Load at which a fracture potential reaches its critical value.

    Attributes
    ----------
    load : float
        In the units of the loads that were tried.
    model_std, critical_std : float
        Standard deviations of the load due to the potential, and due to the scatter of its critical value.
    """

    load: float
    model_std: float
    critical_std: float

    @property
    def std(self) -> float:
        """Standard deviation of the load, from the potential and the critical value together."""
        return float(np.hypot(self.model_std, self.critical_std))


def critical_load(
    potential: FracturePotential,
    descriptors: Callable[[np.ndarray], np.ndarray],
    loads: np.ndarray,
    critical: float | None = None,
    critical_std: float | None = None,
) -> CriticalLoad:
    """First load at which the driving force reaches the critical value, and its error bar.

    Parameters
    ----------
    descriptors
        Takes loads (k,), gives descriptors (k, f) of the tip.
    loads : (k,)
        Increasing; between two of them the descriptors are asked for again.
    critical, critical_std : float, optional
        eV; the potential's own by default.

    Raises
    ------
    DataError
        Where the critical value is not reached within ``loads``.
    """
    loads = np.asarray(loads, dtype=float)
    if loads.ndim != 1 or len(loads) < 2 or not np.all(np.diff(loads) > 0):
        raise SettingsError("loads must be at least two increasing numbers")
    critical = potential.critical_ if critical is None else float(critical)
    scatter = potential.critical_std_ if critical_std is None else float(critical_std)

    def excess(load: float) -> float:
        return float(potential.predict(descriptors(np.array([load])))[0] - critical)

    above = potential.predict(descriptors(loads)) > critical
    if above.all() or not above.any():
        raise DataError(
            f"the driving force is {'above' if above.all() else 'below'} its critical value {critical:.3g} eV "
            f"at all loads from {loads[0]:.3g} to {loads[-1]:.3g}: widen the range"
        )
    k = int(np.argmax(above))
    if k == 0:
        raise DataError(f"the driving force is above its critical value {critical:.3g} eV at the lowest load")
    found = brentq(excess, loads[k - 1], loads[k], xtol=1e-10 * loads[-1])
    h = 0.01 * found
    slope = (excess(found + h) - excess(found - h)) / (2.0 * h)
    std = potential.predict(descriptors(np.array([found])), return_std=True)[1][0]
    return CriticalLoad(float(found), float(std / abs(slope)), float(scatter / abs(slope)))


def hold_out(
    potential: FracturePotential, X: np.ndarray, y: np.ndarray, groups: np.ndarray, inner: np.ndarray | None = None
) -> HeldOut:
    """Predictions of each group by a potential fitted, settings and error bars included, to all others.

    Parameters
    ----------
    groups : (n,)
        Left out one by one.
    inner : (n,), optional
        Groups within a fit; ``groups`` by default.
    """
    X, y, groups = np.asarray(X), np.asarray(y), np.asarray(groups)
    inner = groups if inner is None else np.asarray(inner)
    mean, std = np.empty(len(y)), np.empty(len(y))
    for g in np.unique(groups):
        out = groups == g
        mean[out], std[out] = clone(potential).fit(X[~out], y[~out], inner[~out]).predict(X[out], return_std=True)
    return HeldOut(y, mean, std, groups)
