"""Vibrations: Hessians, normal modes, thermochemistry, phonons."""

from gapkit.vibrations.crystals import Phonons, phonons
from gapkit.vibrations.harmonic import Oscillators, QuasiRRHO, oscillators
from gapkit.vibrations.hessians import Hessian, given_hessian, hessian
from gapkit.vibrations.modes import NormalModes, normal_modes
from gapkit.vibrations.rigid_motions import impose_sum_rule
from gapkit.vibrations.thermochemistry import (
    HarmonicThermochemistry,
    IdealGas,
    harmonic_thermochemistry,
    ideal_gas,
)

__all__ = [
    "HarmonicThermochemistry",
    "Hessian",
    "IdealGas",
    "NormalModes",
    "Oscillators",
    "Phonons",
    "QuasiRRHO",
    "given_hessian",
    "harmonic_thermochemistry",
    "hessian",
    "ideal_gas",
    "impose_sum_rule",
    "normal_modes",
    "oscillators",
    "phonons",
]
