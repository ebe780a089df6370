"""ASE calculators that several threads may use at once."""

from __future__ import annotations

import os
import threading
from typing import Any

from ase.calculators.calculator import Calculator


class OwnLock:
    """Reentrant lock of one object; a deep copy of it, a pickled one, and one in a forked process have their own.

    Examples
    --------
    >>> import copy
    >>> lock = OwnLock()
    >>> with lock, lock, copy.deepcopy(lock):
    ...     pass
    """

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    def __enter__(self) -> None:
        if self._process != os.getpid():  # a thread that is not here may hold the lock of the parent process
            self._renew()
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[OwnLock], tuple[()]]:
        return type(self), ()


class LockedCalculator(Calculator):
    """ASE calculator of which one thread at a time asks for a property, so that each gets that of its own frame.

    Between two calls of one thread another may use the calculator. A result that is not asked for through ASE's
    methods, such as ``results``, is that of the frame computed last.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.lock = OwnLock()
        super().__init__(**kwargs)

    def get_property(self, name: str, atoms: Any = None, allow_calculation: bool = True) -> Any:
        with self.lock:
            return super().get_property(name, atoms, allow_calculation)

    def calculate_properties(self, atoms: Any, properties: Any) -> Any:
        with self.lock:
            return super().calculate_properties(atoms, properties)

    def get_potential_energy(self, atoms: Any = None, force_consistent: bool = False) -> Any:
        with self.lock:
            return super().get_potential_energy(atoms, force_consistent)
