"""Generators of unlabelled frames for training and for active learning: each yields ``ase.Atoms``, each has a seed.

Frames carry ``config_type`` (the generator) and ``trajectory`` (frames that share it are not independent) in ``info``.
"""

from gapkit.generation.defects import interstitials, surfaces, vacancies
from gapkit.generation.displacements import cell_strains, normal_mode_displacements, random_displacements
from gapkit.generation.dynamics import constrained_distances, thermal_snapshots
from gapkit.generation.scans import dimer_scan, neighbour_scan

__all__ = [
    "cell_strains",
    "constrained_distances",
    "dimer_scan",
    "interstitials",
    "neighbour_scan",
    "normal_mode_displacements",
    "random_displacements",
    "surfaces",
    "thermal_snapshots",
    "vacancies",
]
