"""Reaction rates: barriers with error bars, rates over them, and what a network of reactions makes of their errors."""

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.apps.kinetics.run import (
    BarrierResult,
    BarrierSettings,
    MicrokineticsSettings,
    run_barrier,
    run_microkinetics,
)

__all__ = [
    "BarrierResult",
    "BarrierSettings",
    "Mechanism",
    "MicrokineticsSettings",
    "run_barrier",
    "run_microkinetics",
]
