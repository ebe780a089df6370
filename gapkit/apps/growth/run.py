"""From hops with known barriers to a grown (100) surface of one metal, error bars included, in one call."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gapkit.apps.growth.barrier_model import SurfaceBarrierModel
from gapkit.apps.growth.ensemble import GrowthEnsemble, run_ensemble
from gapkit.apps.growth.hops import Hop
from gapkit.apps.growth.lattice_barriers import LatticeGeometry, ModelBarriers, barriers_from_model
from gapkit.apps.growth.simulation import GrowthResult, GrowthSettings, run_growth
from gapkit.exceptions import DataError


@dataclass(frozen=True)
class SurfaceGrowth:
    """A grown surface and what it rests on.

    Attributes
    ----------
    model : SurfaceBarrierModel
        Fitted to all hops.
    barriers : ModelBarriers
        Of the lattice (eV).
    result : GrowthResult
        With the model's mean barriers.
    ensemble : GrowthEnsemble or None
        With draws of the barriers.
    """

    model: SurfaceBarrierModel
    barriers: ModelBarriers
    result: GrowthResult
    ensemble: GrowthEnsemble | None

    def summary(self) -> str:
        """Barriers, roughness and growth rate with their uncertainties, as text."""
        mean, table, result = self.barriers.mean, self.barriers.mean.barriers, self.result
        lines = [
            f"barrier of a free adatom {table[0]:.3f} +- {self.barriers.std[0]:.3f} eV, "
            f"lateral bonds {mean.bond:.3f} and {mean.second_bond:.3f} eV (misfit {self.barriers.misfit:.3f} eV), "
            f"{self.barriers.n_evaluations} environments",
            f"{result.events[-1]} events in {result.time[-1]:.4g} s: growth rate {result.growth_rate:.4g} layers/s, "
            f"roughness {result.roughness[-1]:.3f} layers",
        ]
        if self.ensemble is not None:
            for name, values in (
                ("roughness (layers)", self.ensemble.roughness[:, :, -1]),
                ("growth rate (layers/s)", self.ensemble.growth_rate),
            ):
                value, barriers, chance = (float(v) for v in self.ensemble.spread(values))
                lines.append(f"{name}: {value:.4g} +- {barriers:.2g} (barriers) +- {chance:.2g} (chance in one run)")
        return "\n".join(lines)


def grow_surface(
    hops: Sequence[Hop],
    metal: str,
    settings: GrowthSettings,
    n_samples: int = 0,
    n_replicas: int = 2,
    step_edge: float = 0.1,
    leaving: float = np.inf,
    fastest: float = 1e3,
    model: SurfaceBarrierModel | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = False,
) -> SurfaceGrowth:
    """Fit a barrier model to hops, take the lattice's barriers from it, and grow.

    Parameters
    ----------
    hops
        Hops with barriers; among them one on a flat (100) terrace of ``metal`` with its transition state, which gives
        the lengths of the lattice.
    metal
        Chemical symbol.
    settings
        How the surface grows.
    n_samples, n_replicas
        Draws of the barriers, and runs with each; 0 samples: the mean barriers alone.
    step_edge, leaving
        See :func:`gapkit.apps.growth.lattice_barriers.barriers_from_model` (eV).
    fastest
        Moves are slowed to so many times the rate of a free adatom's hop
        (:meth:`gapkit.apps.growth.lattice_barriers.LatticeBarriers.slowed`); inf leaves them as the model has them.
    model
        Model to be fitted; the default one otherwise.
    checkpoint
        See :func:`gapkit.apps.growth.simulation.run_growth`.

    Raises
    ------
    DataError
        Where no such hop on a flat terrace is there.
    """
    flat = [h for h in hops if h.metal == metal and h.surface == "flat100" and h.transition is not None]
    if not flat:
        raise DataError(f"no hop on 'flat100' of {metal} with its transition state: it gives the lattice its lengths")
    model = (model if model is not None else SurfaceBarrierModel(random_state=settings.seed)).fit(hops)
    rng = np.random.default_rng(settings.seed)
    barriers = barriers_from_model(
        model, LatticeGeometry.from_hop(flat[0]), n_samples, rng, step_edge=step_edge, leaving=leaving
    )
    result = run_growth(settings, barriers.mean.slowed(settings.temperature, fastest), checkpoint, progress=progress)
    samples = [s.slowed(settings.temperature, fastest) for s in barriers.samples]
    ensemble = run_ensemble(settings, samples, n_replicas, progress) if n_samples else None
    return SurfaceGrowth(model, barriers, result, ensemble)
