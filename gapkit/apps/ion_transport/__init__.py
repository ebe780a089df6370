"""Ion transport: barriers along periodic paths, diffusion by dynamics or by hops on site graphs, conductivity."""

from gapkit.apps.ion_transport.barrier_profile import PeriodicBarrier
from gapkit.apps.ion_transport.hops import run_hops
from gapkit.apps.ion_transport.run import TransportSettings, run_transport
from gapkit.apps.ion_transport.site_graphs import SiteGraph
from gapkit.apps.ion_transport.trajectories import IonTrajectory

__all__ = [
    "IonTrajectory",
    "PeriodicBarrier",
    "SiteGraph",
    "TransportSettings",
    "run_hops",
    "run_transport",
]
