"""Kernels: small immutable objects; value, slope and curvature of one scalar argument each."""

from gapkit.kernels.base import Kernel
from gapkit.kernels.dot_product import DotProduct
from gapkit.kernels.stationary import SquaredExponential

__all__ = ["DotProduct", "Kernel", "SquaredExponential"]
