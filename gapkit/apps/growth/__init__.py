"""Surface science and growth: from barriers of single hops to the roughness of a growing surface, with error bars."""

from gapkit.apps.growth.barrier_model import SurfaceBarrierModel
from gapkit.apps.growth.run import SurfaceGrowthResult, SurfaceGrowthSettings, run_surface_growth
from gapkit.apps.growth.simulation import GrowthSettings, run_growth

__all__ = [
    "GrowthSettings",
    "SurfaceBarrierModel",
    "SurfaceGrowthResult",
    "SurfaceGrowthSettings",
    "run_growth",
    "run_surface_growth",
]
