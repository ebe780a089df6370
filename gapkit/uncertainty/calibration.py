r"""Calibration: noise and scales of predicted standard deviations, from held-out errors.

A posterior variance has two parts: the Nystrom residual rho, which grows where no sparse point is near, and the
variance omega left in the weights. The search for levels fixes only ratios of noise and signal: a common factor
:math:`\lambda^2` changes every variance and no mean. And the mean of this approximation does not know of rho, so the
signal that suits the mean can make rho far too large where sparse points are few. Hence two factors, from the
held-out forces (energies where there are none):

.. math::
    a = \min\Big(\lambda_0^2, \frac{\mathrm{MSE}}{2 \bar\rho}\Big), \quad
    \lambda^2 = \frac{\mathrm{MSE} - a \bar\rho}{\sigma^2 + \bar\omega}, \quad
    \lambda_0^2 = \frac{\mathrm{MSE}}{\sigma^2 + \bar\omega + \bar\rho}

so that the standardised errors have variance one; where the residual is small, a and :math:`\lambda^2` are one
number. Then each label kind's noise takes up what :math:`a\rho + \lambda^2\omega` leaves of its held-out error;
where that alone is larger than the error, both are shrunk by a factor of the kind's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gapkit.models.levels import HeldOutStatistics, Levels, kind_of

#: noise never falls below this share of the held-out root-mean-square error: posterior variances of a few strange
#: frames can alone make up the mean held-out error, which would leave ordinary frames with far too narrow error bars
NOISE_FLOOR = 0.5
#: largest share of the held-out squared error that the Nystrom residual may claim, where the mean has it
RESIDUAL_SHARE = 0.5
#: and where it is that of a sparse twin, which the mean does not have
EXACT_SHARE = 0.02


@dataclass(frozen=True)
class GroupCalibration:
    """Factors that turn the two parts of a posterior variance into the variance of a new label.

    ``residual_scale * residual + weight_scale * weight_variance + noise**2``.

    Attributes
    ----------
    noise : float
        Standard deviation of label noise and model misfit: eV per square root of atoms (energy, virial), eV/A.
    residual_scale, weight_scale : float
        Factors a and lambda^2.
    held_out_rmse : float
        Root-mean-square held-out error that they were set by; nan where there was none.
    """

    noise: float
    residual_scale: float
    weight_scale: float
    held_out_rmse: float = float("nan")

    def latent(self, residual: np.ndarray, weight_variance: np.ndarray) -> np.ndarray:
        """Variance of the function, without noise."""
        return self.residual_scale * residual + self.weight_scale * weight_variance


@dataclass(frozen=True)
class Calibration:
    """Calibration of all noise groups."""

    groups: dict[str, GroupCalibration]
    residual_scale: float
    weight_scale: float

    def of(self, kind: str, config_type: str | None = None) -> GroupCalibration:
        """Calibration of a label kind and config_type.

        An unknown config_type, or one without levels of its own, uses the kind's general group; where every
        config_type has its own, the one with the largest noise. A kind without labels has no noise.
        """
        if config_type is not None and f"{kind}:{config_type}" in self.groups:
            return self.groups[f"{kind}:{config_type}"]
        if kind in self.groups:
            return self.groups[kind]
        of_kind = [c for g, c in self.groups.items() if kind_of(g) == kind]
        return (
            max(of_kind, key=lambda c: c.noise)
            if of_kind
            else GroupCalibration(0.0, self.residual_scale, self.weight_scale)
        )

    def scaled(self, factor: float) -> Calibration:
        """All variances times one factor."""
        groups = {
            name: GroupCalibration(
                float(np.sqrt(factor)) * g.noise, factor * g.residual_scale, factor * g.weight_scale, g.held_out_rmse
            )
            for name, g in self.groups.items()
        }
        return Calibration(groups, factor * self.residual_scale, factor * self.weight_scale)


def calibrate(
    levels: Levels, held_out: Mapping[str, HeldOutStatistics], residual_share: float = RESIDUAL_SHARE
) -> Calibration:
    """Calibration from held-out statistics; the levels of the fit as they are where a group has none.

    ``residual_share``: the largest share of the held-out squared error that the Nystrom residual may claim.
    """
    reference = next((k for k in ("forces", "energy", "virial") if any(kind_of(g) == k for g in held_out)), None)
    residual_scale = weight_scale = 1.0
    if reference is not None:
        of_kind = {g: s for g, s in held_out.items() if kind_of(g) == reference}
        error = sum(s.n_rows * s.squared_error for s in of_kind.values())
        rho = sum(s.n_rows * s.residual for s in of_kind.values())
        rest = sum(s.n_rows * (s.weight_variance + levels.noise[g] ** 2) for g, s in of_kind.items())
        if error > 0:
            residual_scale = error / (rho + rest)
            if residual_scale * rho > residual_share * error:
                residual_scale = residual_share * error / rho
            weight_scale = (error - residual_scale * rho) / rest
    groups = {}
    for group, noise in levels.noise.items():
        if group not in held_out:
            groups[group] = GroupCalibration(float(np.sqrt(weight_scale)) * noise, residual_scale, weight_scale)
            continue
        s = held_out[group]
        latent = residual_scale * s.residual + weight_scale * s.weight_variance
        floor = NOISE_FLOOR**2 * s.squared_error
        shrink = 1.0 if latent <= s.squared_error - floor else (s.squared_error - floor) / latent
        left = max(s.squared_error - shrink * latent, 1e-30)
        groups[group] = GroupCalibration(
            float(np.sqrt(left)),
            float(shrink * residual_scale),
            float(shrink * weight_scale),
            float(np.sqrt(s.squared_error)),
        )
    return Calibration(groups, float(residual_scale), float(weight_scale))
