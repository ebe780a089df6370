"""Descriptors: frames in, feature vectors with exact derivatives out."""

from gapkit.descriptors.base import Descriptor, EnvironmentBatch
from gapkit.descriptors.pair import PairDistance
from gapkit.descriptors.soap import SOAP
from gapkit.descriptors.triplet import Triplet

__all__ = ["SOAP", "Descriptor", "EnvironmentBatch", "PairDistance", "Triplet"]
