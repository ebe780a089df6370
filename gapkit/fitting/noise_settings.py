"""Noise levels that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gapkit.checks import is_number
from gapkit.exceptions import SettingsError
from gapkit.models.evidence import Evidence, HeldOutDensity
from gapkit.models.held_out import HeldOutError
from gapkit.models.leave_one_out import LeaveOneOut
from gapkit.models.levels import LevelObjective

#: what a search for levels may minimise, by the name that ``noise_levels`` takes
OBJECTIVES: dict[str, type[LevelObjective]] = {
    "held_out_error": HeldOutError,
    "held_out_density": HeldOutDensity,
    "leave_one_out": LeaveOneOut,
    "evidence": Evidence,
}

#: bounds of the levels that a user may give: beyond them nothing can be computed
SMALLEST, LARGEST = 1e-10, 1e10


@dataclass(frozen=True)
class NoiseSettings:
    """Noise levels that the user gives: by kind, and by config_type and kind; and how the others are found.

    ``"auto"`` levels are searched. Units: ``energy`` and ``virial`` eV per square root of atoms, ``forces`` eV/A.
    ``objective`` is a name in ``OBJECTIVES``.
    """

    by_kind: Mapping[str, float] = field(default_factory=dict)
    by_config: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    objective: str = "held_out_error"

    @classmethod
    def parse(cls, noise: Any) -> NoiseSettings:
        """Settings from ``"auto"``, the name of an objective, or a table.

        Such as ``{"energy": 0.001, "forces": 0.1, "config_types": {"liquid": {"forces": 0.3}}, "objective":
        "evidence"}``.
        """
        if noise is None or (isinstance(noise, str) and noise == "auto"):
            return cls()
        if isinstance(noise, str) and noise in OBJECTIVES:
            return cls(objective=noise)
        if not isinstance(noise, Mapping):
            raise SettingsError(
                f"noise_levels must be 'auto' or a table of standard deviations or one of {', '.join(OBJECTIVES)}, "
                f"not {noise!r:.80}"
            )
        table = dict(noise)
        objective = table.pop("objective", "held_out_error")
        if not isinstance(objective, str) or objective not in OBJECTIVES:
            raise SettingsError(f"noise_levels: objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
        by_config = table.pop("config_types", {})
        if not isinstance(by_config, Mapping) or not all(isinstance(v, Mapping) for v in by_config.values()):
            raise SettingsError(
                f"noise_levels: config_types must be a table of tables of levels, not {by_config!r:.80}"
            )
        return cls(cls._levels(table), {str(c): cls._levels(v) for c, v in by_config.items()}, objective)

    @staticmethod
    def _levels(table: Mapping[str, Any]) -> dict[str, float]:
        levels = {}
        for kind, value in table.items():
            if kind not in ("energy", "forces", "virial"):
                raise SettingsError(f"noise_levels is for energy, forces and virial, not for {kind!r}")
            if isinstance(value, str) and value == "auto":
                continue
            if not (is_number(value) and SMALLEST <= value <= LARGEST):
                raise SettingsError(
                    f"noise of {kind!r} must be 'auto' or a positive number from {SMALLEST:g} to {LARGEST:g}, "
                    f"not {value!r}"
                )
            levels[kind] = float(value)
        return levels

    def given(self, group: str) -> float | None:
        """The level given for a noise group, or None."""
        kind, _, config = group.partition(":")
        if config and kind in self.by_config.get(config, {}):
            return self.by_config[config][kind]
        return self.by_kind.get(kind)
