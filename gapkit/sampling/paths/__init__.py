"""Minimum-energy paths: nudged elastic bands in batches, saddles with their proof, and the way down to the minima."""

from gapkit.sampling.paths.band import Band, optimise_band
from gapkit.sampling.paths.curve import PathCurve
from gapkit.sampling.paths.ends import matching_order
from gapkit.sampling.paths.finding import find_path
from gapkit.sampling.paths.path import Path, PathSettings
from gapkit.sampling.paths.saddle import Saddle, SaddleSettings, descend, refine_saddle

__all__ = [
    "Band",
    "Path",
    "PathCurve",
    "PathSettings",
    "Saddle",
    "SaddleSettings",
    "descend",
    "find_path",
    "matching_order",
    "optimise_band",
    "refine_saddle",
]
