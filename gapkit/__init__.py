"""gapkit: kernel-based interatomic potentials with error bars.

A potential is fitted to frames, ``ase.Atoms`` with energies, forces and stresses, and used as an ASE calculator::

    gap = gapkit.GAP().fit(frames)
    atoms.calc = gap.calculator(uncertainty="local")

- Potentials: ``GAP``, ``load``, ``check_labels``, ``GAPCalculator``, ``propagate``, ``Committee``
- Terms of a potential: ``Term``; descriptors ``SOAP``, ``PairDistance``, ``Triplet``; kernels ``DotProduct``,
  ``SquaredExponential``; the baseline ``ZBL``
- Regression on feature matrices: ``SparseGPRegressor``, ``KernelRidgeRegressor``
- Frames and labels: ``datasets``, ``generation``, ``oracles``, ``active``
- Tests and tools: ``model_selection``, ``uncertainty``, ``plotting``, ``testing``
- Simulations and applications: ``sampling``, ``vibrations``, ``apps``

Units are eV, A, K and fs. Names and modules are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from gapkit.kernel_cache import ensure_kernel_cache
from gapkit.submodules import public_packages, submodule
from gapkit.version import __version__ as __version__

_HOME = {
    "GAP": "gapkit.estimators.gap",
    "load": "gapkit.estimators.gap",
    "check_labels": "gapkit.estimators.check_labels",
    "GAPCalculator": "gapkit.potential.calculator",
    "Term": "gapkit.models.terms",
    "SOAP": "gapkit.descriptors.soap",
    "PairDistance": "gapkit.descriptors.pair",
    "Triplet": "gapkit.descriptors.triplet",
    "DotProduct": "gapkit.kernels.dot_product",
    "SquaredExponential": "gapkit.kernels.stationary",
    "SparseGPRegressor": "gapkit.estimators.sparse_gp_regressor",
    "KernelRidgeRegressor": "gapkit.estimators.kernel_ridge",
    "ZBL": "gapkit.potential.baseline",
    "datasets": "gapkit.datasets",
    "model_selection": "gapkit.model_selection",
    "oracles": "gapkit.oracles",
    "propagate": "gapkit.propagation",
    "Committee": "gapkit.estimators.committee",
    "generation": "gapkit.generation",
    "active": "gapkit.active",
}

__all__ = sorted(_HOME)

ensure_kernel_cache(Path(__file__).parent)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        module = import_module(_HOME[name])
        return module if _HOME[name] == f"gapkit.{name}" else getattr(module, name)
    return submodule(__name__, __path__, name)


def __dir__() -> list[str]:
    return sorted({"__version__", "exceptions", "plotting", *__all__, *public_packages(__path__)})
