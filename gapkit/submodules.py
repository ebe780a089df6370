"""Modules of a package as its attributes, imported when they are first asked for."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType


def public_modules(path: Sequence[str]) -> list[str]:
    """Names of the modules and packages in the folders ``path`` of a package, without private ones."""
    return [found.name for found in pkgutil.iter_modules(path) if not found.name.startswith("_")]


def public_packages(path: Sequence[str]) -> list[str]:
    """Names of the packages in the folders ``path`` of a package, without private ones and single modules."""
    return [found.name for found in pkgutil.iter_modules(path) if found.ispkg and not found.name.startswith("_")]


def submodule(package: str, path: Sequence[str], name: str) -> ModuleType:
    """Module ``name`` of a package, imported.

    Raises
    ------
    AttributeError
        Where the package has no such module.
    """
    if name not in public_modules(path):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return import_module(f"{package}.{name}")
