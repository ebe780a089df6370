"""Mutated model files: bytes, members, values and types of the header, values, shapes and types of arrays.

A mutation is sealed in one of three ways. ``none``: the bytes of the file are changed and nothing else. ``seal``: the
SHA-256 at the end of the file is made anew, as by a program that knows the container only. ``digests``: those in the
header are made anew too, as by a program that knows the whole format; what is then wrong, only identities can tell.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gapkit
from gapkit.exceptions import ModelFileError
from gapkit.fitting.model_archive import LONGEST, SEAL, digests

#: largest difference, relative to the largest number of an array, of predictions that count as the same
SAME = 1e-9
#: places that are free by nature: with all digests made anew, another number there is the same kind of model with other
#: predictions, and no identity ties it to the rest. Everything else must be refused, or change nothing
FREE_BY_NATURE = (
    "reference.values",  # constants that are added
    "reference.alone",  # error bars of what no label tells: lone atoms, other compositions
    "reference.bonded",
    "reference.open",
    "terms.r_cut",  # the definition of a feature: the weights may be those of any
    "terms.cutoff_width",
    "terms.length_scale",
    "baseline",  # what is added to the model, and its cutoff
    "calibration",  # error bars: numbers that held-out labels gave
    "recalibration",
    "block*.directions",  # the part of the features that is seen
    "extra*.weights",  # an exact mean is what the labels gave, and they are not in the file
    "alpha",  # beside an exact mean
    "form*.soap",  # the quick variances of local energies, which are chosen by a sample of the training frames
    "form*.pair",
    "form*.signs",
)
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 13, 255, 10**6, 10**12, 10**400, 1.5, -0.5, 1e-300, 1e300, float("nan"),
    float("inf"), -float("inf"), "", "x", "x" * 10_000, "\ud800", "zbl", [], {}, [1], [[1]], {"a": 1}, "14", 14.0,
)  # fmt: skip
UNKNOWN = ("evil", "block99.points", "term0.evil", "extra0.points", "form0.soap", "triangle99")
ODD_NAMES = ("../../x.npy", "/etc/x.npy", "a\\x.npy", "é.npy", "x" * 5000 + ".npy", ".npy", "x/")
FACTORS = (1 + 1e-6, 1.01, -1.0, 1e3, 1e-3, 2.0)
TYPES = ("f4", "i8", "c16", "f2", "U5", "S3", "?", ">f8", "V8", "u1")


@dataclass(frozen=True)
class Mutation:
    """A mutated file.

    Attributes
    ----------
    kind, place : str
        What was done, and to which member or key.
    sealed : str
        ``none``, ``seal`` or ``digests``.
    data : bytes
        The file.
    """

    kind: str
    place: str
    sealed: str
    data: bytes

    @property
    def is_free(self) -> bool:
        """Whether other predictions are no wonder: all digests are right, and the place is free by nature."""
        place = "".join("*" if c.isdigit() else c for c in self.place)
        while "**" in place:
            place = place.replace("**", "*")
        return self.sealed == "digests" and any(place == f or place.startswith(f + ".") for f in FREE_BY_NATURE)


def sealed(data: bytes) -> bytes:
    """The file with the seal that its bytes ask for."""
    return data[:-SEAL] + hashlib.sha256(data[:-SEAL]).hexdigest().encode()


def npy(array: np.ndarray) -> bytes:
    """An array as a member."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return stream.getvalue()


def packed(members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A sealed file of these members, which may stand twice."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression, compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that stands twice
        for name, data in members:
            archive.writestr(name, data)
        archive.comment = SEAL * b"0"
    return sealed(stream.getvalue())


def paths(value: Any, here: tuple = ()) -> Iterator[tuple]:
    """Paths to every value of a header, of long lists to the first few."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*here, key)
        yield from paths(inner, (*here, key))


class Mutator:
    """Random mutations of one model file.

    Parameters
    ----------
    path
        A file of the newest format.
    seed
        Seed of the choices.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.source = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            self.members = [(name, archive.read(name)) for name in archive.namelist()]
        self.header = json.loads(dict(self.members)["header.json"])
        self.arrays = {n.removesuffix(".npy"): np.load(io.BytesIO(d)) for n, d in self.members if n.endswith(".npy")}
        self.rng = random.Random(seed)
        self.paths = list(paths({k: v for k, v in self.header.items() if k != "metadata"}))
        self.paths += [("metadata", *p) for p in paths(self.header["metadata"])]

    def __iter__(self) -> Iterator[Mutation]:
        kinds: tuple[Callable[[], Mutation], ...] = (
            self._bytes, self._header_value, self._header_value, self._header_key, self._element, self._element,
            self._values, self._shape, self._type, self._members,
        )  # fmt: skip
        while True:
            yield self.rng.choice(kinds)()

    def _file(self, header: Any = None, arrays: dict[str, Any] | None = None, more=(), drop=()) -> tuple[str, bytes]:
        """How a changed file is sealed, and the file."""
        how = self.rng.choice(["seal", "digests", "digests"])
        changed = {**self.arrays, **(arrays or {})}
        changed = {name: a for name, a in changed.items() if name not in drop}
        header = copy.deepcopy(self.header) if header is None else header
        if how == "digests":
            try:
                header = {**header, "digests": digests(header, changed)}
            except (TypeError, ValueError):
                how = "seal"
        data = json.dumps(header).encode()
        members = [("header.json", data), *((f"{name}.npy", npy(a)) for name, a in changed.items())]
        return how, packed([*(m for m in members if m[0] not in drop), *more])

    def _bytes(self) -> Mutation:
        data, kind = bytearray(self.source), self.rng.choice(["flip", "truncate", "delete", "insert", "overwrite"])
        at, n = self.rng.randrange(len(data) - SEAL), self.rng.choice([1, 2, 100, 4000])
        if self.rng.random() < 0.4:  # the directory, where sizes and names stand
            at = len(data) - SEAL - self.rng.randrange(1, 2000)
        if kind == "flip":
            data[at] ^= 1 << self.rng.randrange(8)
        elif kind == "truncate":
            del data[at:]
        elif kind == "delete":
            del data[at : at + n]
        else:
            data[at : at + (n if kind == "overwrite" else 0)] = self.rng.randbytes(n)
        how = self.rng.choice(["none", "seal"])
        if how == "seal":
            data = bytearray(sealed(bytes(data) if len(data) >= SEAL else bytes(SEAL)))
        return Mutation(f"bytes: {kind}", str(at), how, bytes(data))

    def _changed(self, path: tuple, change: Callable[[Any], Any]) -> dict[str, Any]:
        header = copy.deepcopy(self.header)
        inner = header
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = change(inner[path[-1]])
        return header

    def _header_value(self) -> Mutation:
        path = self.rng.choice(self.paths)

        def change(value: Any) -> Any:
            if isinstance(value, int | float) and not isinstance(value, bool) and self.rng.random() < 0.7:
                return type(value)(value * self.rng.choice(FACTORS)) if np.isfinite(value) else 1.0
            return self.rng.choice(VALUES)

        return Mutation("header: value", dotted(path), *self._file(self._changed(path, change)))

    def _header_key(self) -> Mutation:
        path, header = self.rng.choice(self.paths), copy.deepcopy(self.header)
        inner = header
        for key in path[:-1]:
            inner = inner[key]
        kind = self.rng.choice(["removed", "unknown", "twice"])
        if kind == "removed":
            del inner[path[-1]]
        elif kind == "unknown" and isinstance(inner, dict):
            inner["unheard_of"] = self.rng.choice(VALUES)
        else:
            text = json.dumps(header)[:-1] + ', "signal": [9.0, 9.0]}'
            return Mutation("header: key twice", "signal", "seal", packed([("header.json", text.encode()), *self.rest]))
        return Mutation(f"header: key {kind}", dotted(path), *self._file(header))

    @property
    def rest(self) -> list[tuple[str, bytes]]:
        """All members but the header."""
        return [m for m in self.members if m[0] != "header.json"]

    def _element(self) -> Mutation:
        name = self.rng.choice(sorted(self.arrays))
        array = self.arrays[name].copy()
        if array.size:
            at = self.rng.randrange(array.size)
            x = array.flat[at]
            new = self.rng.choice([x * 1.001, -x, 0, 1e10, 1e-310, 1e200, x + 1e-3, 2 * x, np.nan, np.inf])
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                array.flat[at] = new if array.dtype.kind == "f" or (np.isfinite(new) and abs(new) < 1e18) else -5
        return Mutation("array: element", name, *self._file(arrays={name: array}))

    def _values(self) -> Mutation:
        name = self.rng.choice(sorted(self.arrays))
        a, order = self.arrays[name], np.random.default_rng(self.rng.randrange(2**32))
        with np.errstate(all="ignore"):
            kinds = {
                "zero": a * 0, "1.01": (a * 1.01).astype(a.dtype), "negative": -a, "huge": np.full_like(a, 10**15),
                "shuffled": order.permutation(a.ravel()).reshape(a.shape), "rows": order.permutation(a),
                "noise": (a + 1e-4 * order.normal(size=a.shape)).astype(a.dtype),
            }  # fmt: skip
        kind = self.rng.choice(sorted(kinds))
        return Mutation(f"array: values {kind}", name, *self._file(arrays={name: kinds[kind]}))

    def _shape(self) -> Mutation:
        name = self.rng.choice(sorted(self.arrays))
        a = self.arrays[name]
        kinds = {
            "turned": a.T.copy(), "flat": a.ravel(), "twice": np.concatenate([a, a]), "less": a[:-1], "empty": a[:0],
            "number": a.ravel()[0] if a.size else a, "deep": a[None], "one": a.ravel()[:1], "narrow": a[..., :-1],
            "by columns": np.asfortranarray(a), "row": np.atleast_2d(a), "wide": np.concatenate([a, a], axis=-1),
        }  # fmt: skip
        kind = self.rng.choice(sorted(kinds))
        return Mutation(f"array: shape {kind}", name, *self._file(arrays={name: kinds[kind]}))

    def _type(self) -> Mutation:
        name, kind = self.rng.choice(sorted(self.arrays)), self.rng.choice(TYPES)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                changed = self.arrays[name].astype(kind)
            except (TypeError, ValueError):
                changed = self.arrays[name].astype("f4")
        return Mutation(f"array: type {kind}", name, *self._file(arrays={name: changed}))

    def _members(self) -> Mutation:
        a, b = self.rng.sample(sorted(self.arrays), 2)
        kind = self.rng.choice(["removed", "swapped", "copied", "unknown", "twice", "odd name", "bomb"])
        if kind == "removed":
            return Mutation("members: removed", a, *self._file(drop=(a,)))
        if kind == "swapped":
            return Mutation("members: swapped", a, *self._file(arrays={a: self.arrays[b], b: self.arrays[a]}))
        if kind == "copied":
            return Mutation("members: copied", a, *self._file(arrays={a: self.arrays[b]}))
        if kind == "unknown":
            name = self.rng.choice(
                ["evil", "block99.points", "term0.evil", "extra0.points", "form0.soap", "triangle99"]
            )
            return Mutation("members: unknown", f"new {name}", *self._file(arrays={name: np.ones(3)}))
        if kind == "twice":
            more = [(f"{a}.npy", npy(self.arrays[a] * 1.01))]
            return Mutation("members: twice", a, "seal", packed([*self.members, *more]))
        if kind == "odd name":
            name = self.rng.choice(
                ["../../x.npy", "/etc/x.npy", "a\\x.npy", "é.npy", "x" * 5000 + ".npy", ".npy", "x/"]
            )
            return Mutation("members: odd name", name[:20], "seal", packed([*self.members, (name, npy(np.ones(3)))]))
        wide = json.dumps(self.header)[:-1].encode() + b" " * 30_000_000 + b"}"
        members = [("header.json", wide), *self.rest]
        return Mutation("members: bomb", "header", "seal", packed(members, zipfile.ZIP_DEFLATED))


def dotted(path: tuple) -> str:
    """A path without the places in lists: ``terms.r_cut``."""
    return ".".join(str(key) for key in path if isinstance(key, str))


def predictions(gap: gapkit.GAP, frames) -> np.ndarray:
    """Every number that a model predicts for the frames: means, error bars of new labels and of the function, samples,
    variances of local energies and the limit of the domain."""
    parts: list[Any] = []
    for noise in (True, False):
        p = gap.predict(frames, uncertainty=True, include_noise=noise)
        for found in (p.energy, p.forces, p.stress, p.local_energy, p.energy_std, p.forces_std, p.stress_std):
            parts += [np.ravel(x) for x in found if x is not None]
        parts += [np.ravel(x) for x in p.local_energy_std]
    parts += [e.local_variance for e in gap.potential_.evaluate_many(frames, uncertainty="local")]
    parts += [np.ravel(s.calculator().get_potential_energy(frames[0])) for s in gap.samples(2, random_state=0)]
    return np.concatenate(parts)


def verdict(path: Path, frames, expected: np.ndarray) -> str:
    """``refused``, ``same``, ``different``, or what went wrong at load or later."""
    try:
        gap = gapkit.load(path)
    except ModelFileError as error:
        message = str(error)
        return "refused" if len(message) <= LONGEST and message.isprintable() else f"bad message: {message[:100]!r}"
    except Exception as error:
        return f"load raised {type(error).__name__}: {error!s:.100}"
    try:
        with np.errstate(all="ignore"):
            found = predictions(gap, frames)
        gap.describe()
    except Exception as error:
        return f"predict raised {type(error).__name__}: {error!s:.100}"
    if found.shape != expected.shape or not np.isfinite(found).all():
        return "predictions are not finite"
    return "same" if np.all(np.abs(found - expected) <= SAME * np.maximum(1.0, np.abs(expected))) else "different"
