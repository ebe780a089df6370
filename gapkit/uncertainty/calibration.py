r"""From held-out errors to the noise and scale that predicted standard deviations use.

A level search fixes ratios of noise and signal; a common factor changes every variance and no mean. The factor
lambda^2 is set so that held-out forces have standardised errors of variance one,
:math:`\lambda^2 (\sigma_F^2 + \bar v_F) = \mathrm{MSE}_F` (energies where there are no forces). Then each group's
noise takes up what its latent variance leaves of its held-out error,
:math:`\sigma_g^2 = \max(\mathrm{MSE}_g - \lambda^2 \bar v_g, \mathrm{floor})`; where the latent variance alone is larger
than the error, it is shrunk by a factor of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gapkit.models.levels import HeldOutStatistics, Levels, kind_of

#: noise never falls below this share of the held-out root-mean-square error
NOISE_FLOOR = 0.05


@dataclass(frozen=True)
class GroupCalibration:
    """What turns a latent variance into that of a new label: ``scale * variance + noise**2``.

    Attributes
    ----------
    noise : float
        Standard deviation of label noise and model misfit: eV per square root of atoms (energy, virial), eV/A.
    scale : float
        Factor on the posterior variance.
    held_out_rmse : float
        Root-mean-square held-out error that it was set by; nan where there was none.
    """

    noise: float
    scale: float
    held_out_rmse: float = float("nan")


@dataclass(frozen=True)
class Calibration:
    """Calibration of all noise groups."""

    groups: dict[str, GroupCalibration]
    scale: float

    def of(self, kind: str, config_type: str | None = None) -> GroupCalibration:
        """That of a label kind and config_type.

        An unknown config_type, or one without levels of its own, uses the kind's general group; where every
        config_type has its own, the one with the largest noise.
        """
        if config_type is not None and f"{kind}:{config_type}" in self.groups:
            return self.groups[f"{kind}:{config_type}"]
        if kind in self.groups:
            return self.groups[kind]
        own = [c for g, c in self.groups.items() if kind_of(g) == kind]
        return max(own, key=lambda c: c.noise) if own else GroupCalibration(0.0, self.scale)


def calibrate(levels: Levels, held_out: Mapping[str, HeldOutStatistics]) -> Calibration:
    """Calibration from held-out statistics; the levels of the fit as they are where a group has none."""
    reference = next((k for k in ("forces", "energy", "virial") if any(kind_of(g) == k for g in held_out)), None)
    scale = 1.0
    if reference is not None:
        mine = {g: s for g, s in held_out.items() if kind_of(g) == reference}
        error = sum(s.n_rows * s.squared_error for s in mine.values())
        expected = sum(s.n_rows * (s.variance + levels.noise[g] ** 2) for g, s in mine.items())
        scale = error / expected if error > 0 else 1.0
    groups = {}
    for group, noise in levels.noise.items():
        if group not in held_out:
            groups[group] = GroupCalibration(float(np.sqrt(scale)) * noise, scale)
            continue
        mse, variance = held_out[group].squared_error, held_out[group].variance
        floor = NOISE_FLOOR**2 * mse
        left = max(mse - scale * variance, floor)
        own_scale = scale if scale * variance <= mse - floor else max(mse - floor, 0.0) / variance
        groups[group] = GroupCalibration(float(np.sqrt(left)), float(own_scale), float(np.sqrt(mse)))
    return Calibration(groups, float(scale))
