"""Arrays as compiled kernels take them: contiguous, and writeable although kernels only read most of them.

For read-only arrays, such as memory maps that joblib gives to its workers, numba compiles every kernel anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def for_kernels(array: Any, dtype: Any) -> np.ndarray:
    """The array itself where it is contiguous, writeable and of this type; else a copy.

    Examples
    --------
    >>> one = np.zeros(2)
    >>> for_kernels(one, np.float64) is one
    True
    >>> one.flags.writeable = False
    >>> for_kernels(one, np.float64).flags.writeable
    True
    """
    made = np.ascontiguousarray(array, dtype=dtype)
    return made if made.flags.writeable else made.copy()


def writeable(value: Any, known: dict[int, Any] | None = None) -> Any:
    """A value whose read-only arrays are replaced by copies, also in containers and in objects of gapkit (in place).

    For objects that have just been unpickled. ``known`` holds what was seen, by identity.
    """
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)][1]
    made = value
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            made = np.array(value)
    elif isinstance(value, tuple):
        items = [writeable(v, known) for v in value]
        if any(a is not b for a, b in zip(items, value, strict=True)):
            made = type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    elif isinstance(value, dict):
        value.update({k: writeable(v, known) for k, v in value.items()})
    elif isinstance(value, list):
        value[:] = [writeable(v, known) for v in value]
    elif type(value).__module__.split(".")[0] == "gapkit" and hasattr(value, "__dict__"):
        known[id(value)] = value, value  # before what it holds, which may hold it
        vars(value).update({k: writeable(v, known) for k, v in vars(value).items()})
    known[id(value)] = value, made  # the value too: an identity is free for others once its object is gone
    return made
