"""Materials failure: the load at which a bond breaks, and the path of a crack, with error bars."""

from gapkit.apps.fracture.fracture_potential import FracturePotential
from gapkit.apps.fracture.propagation import PropagationSettings, run_propagation
from gapkit.apps.fracture.run import FractureResult, FractureSettings, run_fracture

__all__ = [
    "FracturePotential",
    "FractureResult",
    "FractureSettings",
    "PropagationSettings",
    "run_fracture",
    "run_propagation",
]
