"""Warning before kernels are compiled for the first time on a machine, which takes half a minute."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from gapkit.exceptions import CompilationWarning
from gapkit.numerics import soap_frames

_said = False


def compiled_before() -> bool:
    """Whether the largest kernel lies compiled on disk; compiled code is kept there across processes."""
    kernel = soap_frames.energies_and_pair_gradients
    folder, line = kernel.stats.cache_path, kernel.py_func.__code__.co_firstlineno
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    source = Path(soap_frames.__file__).stat().st_mtime
    found = Path(folder).glob(f"soap_frames.{kernel.py_func.__name__}-{line}.{python}*.nbi") if folder else ()
    return any(index.stat().st_mtime >= source for index in found)


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
