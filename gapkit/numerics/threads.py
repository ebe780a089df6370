"""Threads over blocks of work, with the linear algebra inside each kept to one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    import scipy.linalg.cython_blas  # noqa: F401  the library that compiled code calls must be loaded to be seen

    return ThreadpoolController()


_limit: ContextVar[int | None] = ContextVar("gapkit_threads", default=None)
_worker = threading.local()


def _mark_worker() -> None:
    _worker.inside = True


@contextmanager
def limited_threads(n_jobs: int | None) -> Iterator[None]:
    """Context in which ``thread_count(None)`` is ``n_jobs``; a ``n_jobs`` of None changes nothing."""
    token = _limit.set(n_jobs if n_jobs is not None else _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


@lru_cache(maxsize=4)
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """One pool per size and process: a forked child must not wait for its parent's threads."""
    return ThreadPoolExecutor(max_workers=n_threads, thread_name_prefix="gapkit", initializer=_mark_worker)


def thread_count(n_jobs: int | None = None) -> int:
    """Number of threads to use: ``n_jobs`` if given (-1 = all cores), else as many as the environment allows."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_jobs = n_jobs if n_jobs is not None else _limit.get()
    if n_jobs is None:
        limits = [os.environ.get(name, "") for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")]
        return max(1, min([available, *(int(s) for s in limits if s.isdigit() and int(s) > 0)]))
    return max(1, available + 1 + n_jobs if n_jobs < 0 else min(n_jobs, available))


#: rows of matrices below which a second thread of a linear-algebra library waits longer than it works
WORTH_THREADS = 1500


@contextmanager
def blas_threads(n: int, rows: int | None = None) -> Iterator[None]:
    """Limit the linear-algebra libraries to ``n`` threads; to one where matrices have few ``rows``."""
    with _controller().limit(limits=n if rows is None or rows >= WORTH_THREADS else 1, user_api="blas"):
        yield


def map_blocks(
    function: Callable[[Any], Any], blocks: Iterable[Any], n_threads: int, linear_algebra: bool = True
) -> list[Any]:
    """Results of ``function`` on each block, in order; the function must release the interpreter lock to gain.

    ``linear_algebra`` says whether the function calls a linear-algebra library, whose own threads are then held to one;
    that takes as long as the environments of a small frame.

    Inside a worker thread blocks run one after the other: a pool whose workers wait for its workers would stand still.
    """
    blocks = list(blocks)
    if getattr(_worker, "inside", False):
        return [function(block) for block in blocks]
    with blas_threads(1) if linear_algebra else nullcontext():
        if n_threads == 1 or len(blocks) < 2:
            return [function(block) for block in blocks]
        return list(_pool(n_threads, os.getpid()).map(function, blocks))
