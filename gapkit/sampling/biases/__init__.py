"""Collective variables, restraints and tables of bias energies, and a calculator that adds them to any other."""

from gapkit.sampling.biases.calculator import Biased
from gapkit.sampling.biases.combinations import Centroid, Combination
from gapkit.sampling.biases.contract import CollectiveVariable
from gapkit.sampling.biases.restraints import Bias, BiasValues, Harmonic, Walls, total_bias
from gapkit.sampling.biases.tables import Table
from gapkit.sampling.biases.variables import (
    Angle,
    Coordination,
    Distance,
    DistanceDifference,
    Torsion,
)

__all__ = [
    "Angle",
    "Bias",
    "BiasValues",
    "Biased",
    "Centroid",
    "CollectiveVariable",
    "Combination",
    "Coordination",
    "Distance",
    "DistanceDifference",
    "Harmonic",
    "Table",
    "Torsion",
    "Walls",
    "total_bias",
]
