"""Folder for compiled kernels: beside the package, else in the user's cache, else a temporary one."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from pathlib import Path

from gapkit.exceptions import GapkitWarning

_VARIABLE = "NUMBA_CACHE_DIR"
_REMEDY = f"set {_VARIABLE} to a folder that can be written to"


def ensure_kernel_cache(package: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Choose a temporary folder for compiled kernels where numba would find none that can be written to.

    Numba refuses to define a kernel then. The folder is the user's own, so that later processes find the kernels; where
    there is none either, kernels are compiled in every process anew. Both are said by a :class:`GapkitWarning`.

    Parameters
    ----------
    package
        Folder of the package.
    environment
        Variables of the process; ``NUMBA_CACHE_DIR`` is set.
    """
    if environment.get("NUMBA_CACHE_LOCATOR_CLASSES") or _has_cache(package, environment):
        return
    folder = _user_temporary_folder()
    if folder is None:
        _without_cache()
        warnings.warn(
            f"no folder for compiled kernels can be written to: every process compiles them anew; {_REMEDY}",
            GapkitWarning,
            stacklevel=3,
        )
        return
    environment[_VARIABLE] = str(folder)
    if "numba" in sys.modules:  # it has read the variable already
        sys.modules["numba"].config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    warnings.warn(
        f"compiled kernels are kept in the temporary folder {folder}, because neither the package's nor the user's "
        f"cache folder can be written to; {_REMEDY}",
        GapkitWarning,
        stacklevel=3,
    )


def _has_cache(package: Path, environment: MutableMapping[str, str]) -> bool:
    """Whether numba finds a folder that it can write to, in the order in which it looks."""
    chosen = environment.get(_VARIABLE)
    if chosen and _writable(Path(chosen)):
        return True
    if all(_writable(folder / "__pycache__") for folder in _folders(package)):
        return True
    home = Path(os.path.expanduser("~"))
    users = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return _writable(Path(environment.get("XDG_CACHE_HOME") or users) / "numba")


def _folders(package: Path) -> Iterable[Path]:
    """Folders that hold modules of the package."""
    return [Path(folder) for folder, _, files in os.walk(package) if any(name.endswith(".py") for name in files)]


def _writable(folder: Path) -> bool:
    """Whether a folder, or the nearest one above it that is there, can be written to."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _user_temporary_folder() -> Path | None:
    """A temporary folder that no other user can write to; None where none can be had."""
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"gapkit-kernels-{user}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        # compiled code is run: a folder that another user has made, or can change, would be theirs to fill
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022:
            return folder
        return Path(tempfile.mkdtemp(prefix="gapkit-kernels-"))
    return None


def _without_cache() -> None:
    """Let numba define kernels that are kept nowhere."""
    from numba.core.dispatcher import Dispatcher

    Dispatcher.enable_caching = lambda _: None  # type: ignore[method-assign,assignment]
