"""Growth of a (100) surface of one metal from hops with known barriers, error bars included, in one call.

The barrier model has an error of its own; growth by draws of the barriers carries it to roughness and growth rate. The
chance of a single run is another kind of scatter, and stands apart from it in the result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gapkit.apps.growth.barrier_model import SurfaceBarrierModel
from gapkit.apps.growth.ensemble import GrowthEnsemble, grow_ensemble
from gapkit.apps.growth.hops import Hop
from gapkit.apps.growth.lattice_barriers import LatticeGeometry, ModelBarriers, barriers_from_model
from gapkit.apps.growth.simulation import GrowthResult, GrowthSettings, run_growth
from gapkit.exceptions import DataError, SettingsError
from gapkit.randomness import seed_of


@dataclass(frozen=True)
class SurfaceGrowthSettings(GrowthSettings):
    """Metal, barriers and error bars of a grown surface; settings of the growth itself: :class:`GrowthSettings`.

    Attributes
    ----------
    metal : str
        Chemical symbol.
    n_samples : int
        Draws of the barriers for the error bars, at least 2; 0: the mean barriers alone, without error bars.
    n_replicas : int
        Runs with each draw.
    step_edge : float, eV
        Cost of a hop between layers beyond the trend of hops within one.
    leaving : float or None, eV
        Energy of an atom without neighbours below that of the vapour; None: atoms never leave.
    fastest : float or None
        Rate that moves are slowed to, in units of a free adatom's hop
        (:meth:`gapkit.apps.growth.lattice_barriers.LatticeBarriers.slowed`); None leaves them as the model has them.
    """

    metal: str = "Cu"
    n_samples: int = 0
    n_replicas: int = 2
    step_edge: float = 0.1
    leaving: float | None = None
    fastest: float | None = 1e3

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        super().check()
        if self.n_samples < 0 or self.n_samples == 1 or self.n_replicas < 2:
            raise SettingsError(
                "n_samples must be 0 or at least 2, and n_replicas at least 2, not "
                f"{self.n_samples} and {self.n_replicas}"
            )
        if self.fastest is not None and self.fastest < 1:
            raise SettingsError(f"fastest must be at least 1, not {self.fastest}")

    @property
    def growth(self) -> GrowthSettings:
        """Settings of the growth itself."""
        return GrowthSettings(**{f.name: getattr(self, f.name) for f in fields(GrowthSettings)})


@dataclass(frozen=True)
class SurfaceGrowthResult:
    """Grown surface, with the barrier model and the barriers that it was grown by.

    Attributes
    ----------
    settings : SurfaceGrowthSettings
    model : SurfaceBarrierModel
        Fitted to all hops.
    barriers : ModelBarriers
        Barriers of the lattice (eV).
    growth : GrowthResult
        By the model's mean barriers.
    ensemble : GrowthEnsemble or None
        By draws of the barriers.
    """

    settings: SurfaceGrowthSettings
    model: SurfaceBarrierModel
    barriers: ModelBarriers
    growth: GrowthResult
    ensemble: GrowthEnsemble | None

    def _quantity(self, name: str) -> tuple[float, float, float]:
        """Value, standard deviation due to the barriers, and due to chance in one run; nan where not known."""
        if self.ensemble is None:
            value = self.growth.growth_rate if name == "growth_rate" else float(self.growth.roughness[-1])
            return value, float("nan"), float("nan")
        values = self.ensemble.growth_rate if name == "growth_rate" else self.ensemble.roughness[:, :, -1]
        value, barriers, chance = (float(v) for v in self.ensemble.variance_components(values))
        return value, barriers, chance

    @property
    def terrace_barrier(self) -> float:
        """Barrier of a free adatom on a terrace (eV)."""
        return float(self.barriers.mean.barriers[0])

    @property
    def terrace_barrier_std(self) -> float:
        """Calibrated standard deviation of that barrier as a new label (eV)."""
        return float(self.barriers.std[0])

    @property
    def roughness(self) -> float:
        """Roughness at the end (layers); mean of the ensemble where there is one."""
        return self._quantity("roughness")[0]

    @property
    def roughness_std(self) -> float:
        """Standard deviation of the roughness due to uncertain barriers (layers); nan without an ensemble."""
        return self._quantity("roughness")[1]

    @property
    def growth_rate(self) -> float:
        """Growth rate (layers per second); mean of the ensemble where there is one."""
        return self._quantity("growth_rate")[0]

    @property
    def growth_rate_std(self) -> float:
        """Standard deviation of the growth rate due to uncertain barriers (layers/s); nan without an ensemble."""
        return self._quantity("growth_rate")[1]

    def to_dict(self) -> dict[str, Any]:
        """Settings, quantities with their error bars, and the record of the growth, JSON-ready."""
        mean, grown = self.barriers.mean, self.growth
        values = ("terrace_barrier", "roughness", "growth_rate")
        record = ("time", "mean_height", "roughness", "step_density", "adatoms", "events")
        return {
            "settings": self.settings.as_dict(),
            **{name: getattr(self, name) for value in values for name in (value, f"{value}_std")},
            "bond": mean.bond,
            "second_bond": mean.second_bond,
            "misfit": self.barriers.misfit,
            "growth": {name: getattr(grown, name).tolist() for name in record},
        }

    def __str__(self) -> str:
        mean, grown = self.barriers.mean, self.growth
        lines = [
            f"barrier of a free adatom {self.terrace_barrier:.3f} +- {self.terrace_barrier_std:.3f} eV, "
            f"lateral bonds {mean.bond:.3f} and {mean.second_bond:.3f} eV (misfit {self.barriers.misfit:.3f} eV), "
            f"{self.barriers.n_evaluations} environments",
            f"{grown.events[-1]} events in {grown.time[-1]:.4g} s: growth rate {grown.growth_rate:.4g} layers/s, "
            f"roughness {grown.roughness[-1]:.3f} layers",
        ]
        if self.ensemble is not None:
            for name, label in (("roughness", "roughness (layers)"), ("growth_rate", "growth rate (layers/s)")):
                value, barriers, chance = self._quantity(name)
                lines.append(f"{label}: {value:.4g} +- {barriers:.2g} (barriers) +- {chance:.2g} (chance in one run)")
        return "\n".join(lines)


def run_surface_growth(
    hops: Sequence[Hop],
    settings: SurfaceGrowthSettings | None = None,
    *,
    model: SurfaceBarrierModel | None = None,
    checkpoint: str | os.PathLike | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> SurfaceGrowthResult:
    """Fit a barrier model to hops, take the lattice's barriers from it, and grow.

    Parameters
    ----------
    hops
        Hops with barriers; among them one on a flat (100) terrace of the metal with its transition state, which gives
        the lengths of the lattice.
    model
        Model to be fitted; the default one otherwise.
    checkpoint
        See :func:`gapkit.apps.growth.simulation.run_growth`; of the run with the mean barriers.
    random_state
        Seed of the model's folds, of the draws of the barriers, and of all runs.
    progress
        Whether to show progress bars.

    Raises
    ------
    DataError
        Where no such hop on a flat terrace is there.
    """
    s = settings or SurfaceGrowthSettings()
    flat = [h for h in hops if h.metal == s.metal and h.surface == "flat100" and h.transition is not None]
    if not flat:
        raise DataError(f"no hop on 'flat100' of {s.metal} with its transition state: it gives the lattice its lengths")
    seed = seed_of(random_state)
    model = (model if model is not None else SurfaceBarrierModel(random_state=seed)).fit(hops)
    barriers = barriers_from_model(
        model, LatticeGeometry.from_hop(flat[0]), s.n_samples, np.random.default_rng(seed), step_edge=s.step_edge,
        leaving=np.inf if s.leaving is None else s.leaving,
    )  # fmt: skip
    fastest = np.inf if s.fastest is None else s.fastest
    grown = run_growth(
        barriers.mean.slowed(s.temperature, fastest), s.growth, checkpoint=checkpoint,
        random_state=None if random_state is None else seed, progress=progress,
    )  # fmt: skip
    ensemble = None
    if s.n_samples:
        draws = [b.slowed(s.temperature, fastest) for b in barriers.samples]
        ensemble = grow_ensemble(draws, s.growth, s.n_replicas, random_state=seed, progress=progress)
    return SurfaceGrowthResult(s, model, barriers, grown, ensemble)
