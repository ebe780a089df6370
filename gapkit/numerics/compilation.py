"""A word before the half minute in which kernels are compiled for the first time on a machine."""

from __future__ import annotations

import warnings
from pathlib import Path

from gapkit.exceptions import CompilationWarning
from gapkit.numerics import soap_frames

_said = False


def compiled_before() -> bool:
    """Whether the largest kernel lies compiled on disk; compiled code is kept there across processes."""
    folder = soap_frames.energies_and_pair_gradients.stats.cache_path
    return bool(folder) and any(Path(folder).glob("soap_frames.energies_and_pair_gradients*.nbi"))


def announce_compilation() -> None:
    """Warn, once in a process, where kernels have to be compiled first."""
    global _said
    if not _said and not compiled_before():
        warnings.warn(
            "the first run compiles the numerical kernels (about half a minute); later runs find them on disk",
            CompilationWarning,
            stacklevel=3,
        )
    _said = True
