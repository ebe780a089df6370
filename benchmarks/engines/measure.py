"""Clocks, peak memory, and the linear algebra that runs."""

from __future__ import annotations

import contextlib
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info


def median_cost(call: Callable[[int], Any], repeats: int, warm_up: bool = True) -> dict[str, float]:
    """Medians of wall and processor time (s) of ``call(k)`` for k = 0, 1, ...; ``call(0)`` warms up."""
    if warm_up:
        call(0)
    wall, cpu = [], []
    for k in range(repeats):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        call(k + 1)
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - begin_cpu)
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu), "repeats": repeats}


def per_atom(cost: dict[str, float], n_atoms: int) -> dict[str, float]:
    """Times in us per atom."""
    return {"wall": 1e6 * cost["wall"] / n_atoms, "cpu": 1e6 * cost["cpu"] / n_atoms, "repeats": cost["repeats"]}


def resident() -> float:
    """Memory in use now (MB)."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Count the peak from here on (Linux; elsewhere the peak is the process's)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Largest memory in use so far, or since :func:`reset_peak` (MB)."""
    return _status("VmHWM")


def _status(key: str) -> float:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_above(call: Callable[[], Any]) -> float:
    """Memory (MB) that ``call`` takes at its peak above what was in use before."""
    reset_peak()
    before = resident()
    call()
    return max(peak() - before, 0.0)


def blas_kernels() -> str:
    """The linear-algebra libraries loaded, with the kernel each chose."""
    found = {
        f"{i['internal_api']} {i.get('version', '')} {i.get('architecture', '?')}"
        for i in threadpool_info()
        if i["user_api"] == "blas"
    }
    return ", ".join(sorted(found)) or "none seen"


def gemm_rate(rows: int, features: int, points: int, repeats: int = 30) -> float:
    """Best rate (GFLOP/s, processor time) of the product of (rows, features) and (features, points)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(rows, features)), rng.normal(size=(points, features))
    out = np.empty((rows, points))
    best = 0.0
    inner = max(1, round(2e9 / (2 * a.size * points)))
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(inner):
            np.dot(a, b.T, out)
        best = max(best, 2 * inner * a.size * points / (time.process_time() - begin))
    return best / 1e9


def product_rate(features: int, points: int) -> dict[str, float | str]:
    """What this process's linear algebra chose, and its rate in a model's matrix products."""
    return {"blas": blas_kernels(), "gflops": gemm_rate(128, features, points)}
