"""Noise levels that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapkit.exceptions import SettingsError


@dataclass(frozen=True)
class NoiseSettings:
    """Noise levels that the user gives: by kind, and by config_type and kind.

    ``"auto"`` levels are searched. Units: ``energy`` and ``virial`` eV per square root of atoms, ``forces`` eV/A.
    """

    by_kind: dict[str, float]
    by_config: dict[str, dict[str, float]]

    @classmethod
    def parse(cls, noise: Any) -> NoiseSettings:
        """From ``"auto"`` or ``{"energy": 0.001, "forces": 0.1, "config_types": {"liquid": {"forces": 0.3}}}``."""
        if noise is None or (isinstance(noise, str) and noise == "auto"):
            return cls({}, {})
        if not isinstance(noise, Mapping):
            raise SettingsError(f"noise must be 'auto' or a table of standard deviations, not {noise!r}")
        table = dict(noise)
        by_config = {str(c): cls._levels(v) for c, v in dict(table.pop("config_types", {})).items()}
        return cls(cls._levels(table), by_config)

    @staticmethod
    def _levels(table: Mapping[str, Any]) -> dict[str, float]:
        levels = {}
        for kind, value in table.items():
            if kind not in ("energy", "forces", "virial"):
                raise SettingsError(f"noise has levels for energy, forces and virial, not for {kind!r}")
            if isinstance(value, str) and value == "auto":
                continue
            if not (np.isscalar(value) and np.isfinite(value) and float(value) > 0):
                raise SettingsError(f"noise of {kind!r} must be a positive number or 'auto', not {value!r}")
            levels[kind] = float(value)
        return levels

    def given(self, group: str) -> float | None:
        """The level given for a noise group, or None."""
        kind, _, config = group.partition(":")
        if config and kind in self.by_config.get(config, {}):
            return self.by_config[config][kind]
        return self.by_kind.get(kind)
