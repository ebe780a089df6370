"""Finite differences and random structures: one oracle for all tests, that of ``gapkit.testing``."""

from gapkit.testing.finite_differences import VOIGT, central_difference, displaced, strained
from gapkit.testing.frames import random_cluster, random_rotation, skewed_crystal

__all__ = [
    "VOIGT",
    "central_difference",
    "displaced",
    "random_cluster",
    "random_rotation",
    "skewed_crystal",
    "strained",
]
