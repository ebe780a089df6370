"""gapkit: kernel-based interatomic potentials with error bars.

``import gapkit`` is light: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "GAP": "gapkit.potential.gap",
    "load": "gapkit.potential.gap",
    "GAPCalculator": "gapkit.potential.calculator",
    "Term": "gapkit.models.terms",
    "SOAP": "gapkit.descriptors.soap",
    "PairDistance": "gapkit.descriptors.pair",
    "Triplet": "gapkit.descriptors.triplet",
    "DotProduct": "gapkit.kernels.dot_product",
    "SquaredExponential": "gapkit.kernels.stationary",
    "SparseGPRegressor": "gapkit.models.sparse_gp_regressor",
    "KernelRidgeRegressor": "gapkit.models.kernel_ridge",
    "ZBL": "gapkit.potential.baseline",
    "datasets": "gapkit.datasets",
    "model_selection": "gapkit.model_selection",
    "oracles": "gapkit.oracles",
    "propagate": "gapkit.propagation",
    "Committee": "gapkit.potential.committee",
    "generation": "gapkit.generation",
    "active": "gapkit.active",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gapkit' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return module if _HOME[name] == f"gapkit.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
