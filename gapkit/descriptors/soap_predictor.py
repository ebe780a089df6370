r"""The local energy of a SOAP environment as a function of its unit vector x, in the form that predicts fastest.

A kernel sum :math:`g(x) = \sum_m w_m (Ux \cdot z_m)^\zeta` with power one or two is a quadratic polynomial,

.. math:: g(x) = l \cdot x + x^T Q x, \qquad l = U^T \sum_m w_m z_m \ (\zeta = 1), \quad
          Q = U^T \Big(\sum_m w_m z_m z_m^T\Big) U \ (\zeta = 2)

whose cost does not depend on the number of sparse points; several such sums add up to one. Higher powers are summed
over the points.

Either form is taken about a point :math:`\bar x`, the mean of the sparse points: unit SOAP vectors lie in a narrow
cone, so products with them are nearly one, and their rounding, times large weights, is the noise of the energy.
With :math:`u = U(x - \bar x)`, :math:`\bar z = U\bar x`, only small numbers are multiplied:
:math:`Ux \cdot z_m = u \cdot (z_m - \bar z) + u \cdot \bar z + \bar z \cdot z_m` and
:math:`g = g(\bar x) + (l + 2 Q \bar x) \cdot u + u^T Q u`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gapkit.descriptors.base import KernelSum

_NO_DIRECTIONS = np.zeros((0, 0))
_NO_POLYNOMIAL = (0.0, np.zeros(0), np.zeros((0, 0)))
_NO_SUM = (np.zeros(0), np.zeros((0, 0)), np.zeros(0), np.zeros(0), 1)


@dataclass(frozen=True)
class VarianceForm:
    """Matrices by which a SOAP pass subtracts :math:`\\sum_j s_j (C_{soap} k + C_{pair} k_{pair})_j^2` from variances.

    Attributes
    ----------
    coefficients : tuple
        Coefficients as in :class:`SoapPredictor`, for the kernel values k in the pass's own coordinates u.
    soap, pair, signs
        (r, m), (r, q) and (r,); see ``gapkit.potential.local_variance``.
    """

    coefficients: tuple
    soap: np.ndarray
    pair: np.ndarray
    signs: np.ndarray

    @property
    def compiled_arguments(self) -> tuple:
        return self.coefficients, self.soap, self.pair, self.signs


NO_VARIANCE_FORM = VarianceForm(_NO_SUM, np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0))


@dataclass(frozen=True)
class SoapPredictor:
    """One function of the unit vector, as ``soap_frames.energies_and_pair_gradients`` takes it.

    Attributes
    ----------
    mean : (f,)
        The point that ``u`` is measured from.
    directions : (d, f)
        U; no rows for the identity.
    collapsed : bool
        Whether ``polynomial`` (constant, linear (d,), matrix (d, d)) is used, or ``coefficients`` (mean, offsets,
        products, weights, power).
    variance_form : VarianceForm
        Matrices for the variance of the local energy, where it is asked for; else empty.
    """

    mean: np.ndarray
    directions: np.ndarray
    collapsed: bool
    coefficients: tuple
    polynomial: tuple
    variance_form: VarianceForm = NO_VARIANCE_FORM

    def describe(self) -> str:
        """Directions, kind of sum, and cost."""
        d, f = len(self.directions), len(self.mean)
        where = f"{d} of {f} directions" if d else f"all {f} features"
        how = "one matrix" if self.collapsed else f"a sum over {len(self.coefficients[3])} sparse points"
        return f"{how} on {where}, {self.n_products} products per atom"

    @property
    def n_products(self) -> int:
        """Multiplications of the matrix products of one environment's energy and gradient."""
        d, f = len(self.directions), len(self.mean)
        width = d or f
        inner = width * width if self.collapsed else 2 * width * len(self.coefficients[3])
        return inner + 2 * d * f


def with_variance_form(
    predictor: SoapPredictor, s: KernelSum, soap: np.ndarray, pair: np.ndarray, signs: np.ndarray
) -> SoapPredictor:
    """Pass that predicts the mean of the one kernel sum ``s`` and subtracts the explained part from variances."""
    coefficients = predictor.coefficients
    if predictor.collapsed:
        lifted = s.directions is not None and len(predictor.directions) == 0
        points = s.points @ s.directions if lifted else s.points
        coefficients = _about_mean(points, s)
    return replace(predictor, variance_form=VarianceForm(coefficients, soap, pair, signs))


def predictors(sums: Sequence[KernelSum], n_features: int) -> tuple[SoapPredictor | KernelSum, ...]:
    """The fewest passes that give all of one channel's kernel sums.

    Sums of power one and two become one polynomial, those of higher powers one pass each. A sum that is no dot-product
    kernel is handed back as it is.
    """
    low = [s for s in sums if not s.kernel.centred and s.kernel.parameter <= 2]
    high = [_summed(s) for s in sums if not s.kernel.centred and s.kernel.parameter > 2]
    rest = [s for s in sums if s.kernel.centred]
    return (*([_collapsed(low, n_features)] if low else []), *high, *rest)


def _summed(s: KernelSum) -> SoapPredictor:
    coefficients = _about_mean(s.points, s)
    mean = coefficients[0]
    if s.directions is None:
        return SoapPredictor(mean, _NO_DIRECTIONS, False, coefficients, _NO_POLYNOMIAL)
    directions = np.ascontiguousarray(s.directions)
    return SoapPredictor(mean @ directions, directions, False, coefficients, _NO_POLYNOMIAL)


def _about_mean(points: np.ndarray, s: KernelSum) -> tuple:
    mean = points.mean(axis=0)
    offsets = np.ascontiguousarray(points - mean)
    return mean, offsets, points @ mean, np.ascontiguousarray(s.weights), s.kernel.parameter


def _collapsed(sums: Sequence[KernelSum], n_features: int) -> SoapPredictor:
    directions = sums[0].directions
    same = all(s.directions is directions for s in sums)
    d = n_features if directions is None else len(directions)
    if not same or 2 * n_features * d + d * d >= n_features**2:
        directions = None  # one full matrix costs less than going to a subspace and back
    d = n_features if directions is None else len(directions)
    mean, linear, matrix = np.zeros(d), np.zeros(d), np.zeros((d, d))
    for s in sums:
        inside = s.points if s.directions is directions else s.points @ s.directions
        middle = s.middle if s.directions is directions else s.middle @ s.directions
        mean += middle / len(sums)
        if s.kernel.parameter == 1:
            linear += s.weights @ inside
        else:
            matrix += (inside.T * s.weights) @ inside
    matrix = 0.5 * (matrix + matrix.T)
    product = matrix @ mean
    polynomial = (float(mean @ (linear + product)), linear + 2 * product, np.ascontiguousarray(matrix))
    if directions is None:
        return SoapPredictor(mean, _NO_DIRECTIONS, True, _NO_SUM, polynomial)
    directions = np.ascontiguousarray(directions)
    return SoapPredictor(mean @ directions, directions, True, _NO_SUM, polynomial)
