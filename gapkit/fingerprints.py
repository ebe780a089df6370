"""Fingerprints of long runs: all input that a result depends on, so that a run continues only its own state.

A fingerprint is a JSON-ready table with the entries ``frames`` (hash of the structures), ``labels`` (hash of what is
learned from them), ``settings``, ``version`` (of gapkit) and, where labels are computed, ``oracle``.
:func:`gapkit.checkpoints.differences` names the entries by which two of them differ.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
from ase import Atoms

from gapkit.structures.labels import LabelledFrame
from gapkit.version import __version__

#: parameters of calculators that say where files are kept, and not which labels come out
_PLACES = ("directory", "label", "prefix")
#: parameters of a fit that leave its result as it is, to rounding
_WITHOUT_EFFECT = ("n_jobs",)
#: longest list that is kept item by item; of a longer one the hash
_LONGEST = 50


def run_fingerprint(
    frames: Sequence[LabelledFrame], settings: Mapping[str, Any], oracle: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Fingerprint of a run on labelled frames.

    Parameters
    ----------
    frames
        Checked frames, in their order.
    settings
        Settings by name, described by :func:`described`; ``n_jobs`` is left out.
    oracle
        Description of the oracle (:func:`oracle_description`), where the run computes labels.
    """
    described_settings = {str(k): described(v) for k, v in settings.items() if k not in _WITHOUT_EFFECT}
    made = {
        "frames": _sha256(part for f in frames for part in _structure(f.atoms)),
        "labels": _sha256([*(part for f in frames for part in _labels(f)), _groups(frames)]),
        "settings": described_settings,
        "version": __version__,
    }
    return made if oracle is None else {**made, "oracle": oracle}


def oracle_description(make: Callable[[], Any]) -> dict[str, Any]:
    """Description of an oracle: the factory of its calculator, its class, and the parameters that it states.

    Folders in which a calculator works do not count. Of one that cannot be made only the maker is described.
    """
    made: dict[str, Any] = {"made by": described(make)}
    with suppress(Exception):  # an oracle is somebody else's program and raises what it likes
        made["calculator"] = described(make())
    return made


def described(value: Any) -> Any:
    """JSON-ready description of a value, equal for equal values also in another process.

    Arrays and frames become hashes, functions and classes their names. Objects are described by their method
    ``fingerprint()``, the fields of a dataclass, or what ``settings()``, ``get_params()`` or ASE's ``todict()`` states;
    of any other object its class alone is known.

    Examples
    --------
    >>> described((1, np.float64(0.5), None))
    [1, 0.5, None]
    >>> described(np.arange(3)) == described([0, 1, 2])
    False
    >>> described(partial(math.pow, 2.0))
    {'function': 'math.pow', 'arguments': [2.0], 'keywords': {}}
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, np.ndarray):
        return f"array {_sha256([value])}"
    if isinstance(value, Atoms):
        return f"frame {_sha256(_structure(value))}"
    if isinstance(value, Mapping):
        return {str(k): described(v) for k, v in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, set | frozenset):
        return sorted((described(v) for v in value), key=json.dumps)
    if isinstance(value, list | tuple):
        items = [described(v) for v in value]
        return items if len(items) <= _LONGEST else f"list {_sha256([json.dumps(items)])}"
    if isinstance(value, partial):
        arguments, keywords = described(value.args), described(value.keywords)
        return {"function": _name(value.func), "arguments": arguments, "keywords": keywords}
    if isinstance(value, np.random.Generator):
        return described(value.bit_generator.state)
    if isinstance(value, type) or callable(getattr(value, "__get__", None)):
        return _name(value)
    return {"class": _name(type(value)), **_stated(value)}


def _stated(value: Any) -> dict[str, Any]:
    """Parameters that an object states of itself."""
    if is_dataclass(value) and not hasattr(value, "fingerprint"):
        return {f.name: described(getattr(value, f.name)) for f in fields(value)}
    for name, keywords in (("fingerprint", {}), ("settings", {}), ("get_params", {"deep": False}), ("todict", {})):
        method = getattr(value, name, None)
        if callable(method):
            with suppress(Exception):  # of a class that is not ours
                table = method(**keywords)
                kept = {k: v for k, v in table.items() if k not in _PLACES} if isinstance(table, Mapping) else table
                return {"parameters": described(kept)}
    return {}


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _structure(atoms: Atoms) -> list[np.ndarray]:
    return [atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc]


def _labels(frame: LabelledFrame) -> list[Any]:
    """Labels of a frame, and the names that decide how they are used."""
    return [frame.energy, frame.forces, frame.virial, frame.held, frame.config_type]


def _groups(frames: Sequence[LabelledFrame]) -> np.ndarray:
    """Index (frames,) of the first frame of each frame's trajectory, or -1; names may differ between processes."""
    first: dict[str, int] = {}
    return np.array(
        [-1 if f.trajectory is None else first.setdefault(f.trajectory, k) for k, f in enumerate(frames)], dtype=int
    )


def _sha256(parts: Iterable[Any]) -> str:
    """Hash of arrays, numbers, texts and missing values, each with its kind and size."""
    digest = hashlib.sha256()
    for part in parts:
        if part is None or isinstance(part, str):
            kind, data = type(part).__name__, (part or "").encode()
        else:
            array = np.ascontiguousarray(part)
            kind, data = f"{array.dtype.str}{array.shape}", array.tobytes()
        digest.update(f"{kind} {len(data)} ".encode() + data)
    return digest.hexdigest()
