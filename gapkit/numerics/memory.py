"""Memory that this process may use: of the machine, of its control groups, and by its resource limits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # pragma: no cover - systems without POSIX limits
    resource = None  # type: ignore[assignment]


@dataclass(frozen=True)
class MemoryLimit:
    """A bound of a process's memory.

    Attributes
    ----------
    size : float
        Bytes.
    source : str
        Name of the bound, for a message.
    """

    size: float
    source: str


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The least bound of this process's memory; None where the system does not say.

    Looked at are the physical memory, the memory limits of the process's control groups (versions 1 and 2, and of the
    groups above them), and the limits of its address space and data (``ulimit -v``, ``ulimit -d``).

    Parameters
    ----------
    root
        Folder that holds ``proc`` and ``sys``.
    """
    return min((*_of_machine(), *_of_groups(root), *_of_process()), key=lambda limit: limit.size, default=None)


def _of_machine() -> Iterator[MemoryLimit]:
    try:
        yield MemoryLimit(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine has")
    except (AttributeError, ValueError, OSError):
        return


def _of_process() -> Iterator[MemoryLimit]:
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        kind = getattr(resource, name, None)
        if kind is not None:
            soft = resource.getrlimit(kind)[0]
            if soft not in (resource.RLIM_INFINITY, -1):
                yield MemoryLimit(float(soft), "the limit of this process (ulimit) allows")


def _of_groups(root: Path) -> Iterator[MemoryLimit]:
    """Limits of the control groups of this process, and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            places, name = (mounts, mounts / "unified"), "memory.max"
        elif "memory" in controllers.split(","):
            places, name = (mounts / controllers, mounts / "memory"), "memory.limit_in_bytes"
        else:
            continue
        for mount in places:
            # in a container the path is often that on its host, of which only the top is to be seen
            group = mount / path.strip("/")
            for folder in (group, *group.parents):
                size = _number(folder / name)
                if size is not None:
                    yield MemoryLimit(size, "the control group of this process allows")
                if folder == mount:
                    break


def _number(path: Path) -> float | None:
    """The number in a file; None for ``max`` and where there is no file."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return float(text) if text.isdecimal() else None
