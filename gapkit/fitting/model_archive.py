"""The container of a model file: a sealed zip of one JSON header and NumPy arrays.

Members are ``header.json`` and one ``.npy`` per array. The last 64 bytes of the file, in the zip's comment, are the
SHA-256 of all bytes before them. From format 4 the header also holds a SHA-256 of itself and of every array. Before a
member is unpacked, the seal, the member's name, the way it is packed and the size that it states are judged; before the
numbers of an array are read, its shape and type. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from gapkit.exceptions import ModelFileError, SettingsError
from gapkit.safe_write import replacing

FORMAT = "gapkit-model"
FORMAT_VERSION = 4
#: formats that are read: in the first, metadata held error models, the domain and the noise levels; the first two have
#: the points of every exact mean, and every factor of sparse points; the first three have no digests
READABLE = (1, 2, 3, 4)
#: bytes of the seal at the end of a file: a SHA-256 in hexadecimal
SEAL = 64
HEADER = "header.json"
#: most characters of an error message, and of a path in it
LONGEST, LONGEST_PATH = 300, 120
#: a header, and all members of a file together, may be so large (bytes), and so many times larger than they are packed
FREE_HEADER, FREE_TOTAL, LARGEST_RATIO = 2**20, 2**24, 50
#: longest description of an array's shape and type (bytes)
LONGEST_DESCRIPTION = 10_000
#: arrays that may be stored column by column, as LAPACK left them: the order decides how it rounds when it goes on
BY_COLUMNS = re.compile(r"triangle\d+")
_ARRAY = re.compile(r"[A-Za-z_]\w{0,60}(\.\w{1,60})?\.npy", re.ASCII)


def refusal(path: Any, text: str) -> ModelFileError:
    """An error about the file at ``path``, of one line and at most ``LONGEST`` characters."""
    name, line = (" ".join("".join(c if c.isprintable() else " " for c in str(s)).split()) for s in (path, text))
    if len(name) > LONGEST_PATH:
        name = "..." + name[3 - LONGEST_PATH :]
    whole = f"{name}: {line}"
    return ModelFileError(whole if len(whole) <= LONGEST else whole[: LONGEST - 3] + "...")


# ---- writing


def write_archive(path: Path, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file under a temporary name in the same folder, and rename it when it is complete.

    Raises
    ------
    SettingsError
        For a header that JSON cannot hold.
    ModelFileError
        Where the folder cannot be written to.
    """
    arrays = {name: _in_order(name, array) for name, array in arrays.items()}
    try:
        plain = json.loads(json.dumps(header, allow_nan=True, default=_plain))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"a parameter of this model cannot be kept in a file: {error}") from None
    text = json.dumps({**plain, "digests": digests(plain, arrays)}, indent=1).encode()
    with replacing(path, ModelFileError) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(HEADER, text)
            for name, array in arrays.items():
                stream = io.BytesIO()
                np.lib.format.write_array(stream, array, allow_pickle=False)
                archive.writestr(f"{name}.npy", stream.getvalue())
            archive.comment = SEAL * b"0"
        with open(temporary, "rb+") as file:
            seal = _digest_of_file(file, temporary.stat().st_size - SEAL)
            file.seek(-SEAL, os.SEEK_END)
            file.write(seal)


def digests(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """SHA-256, in hexadecimal, of a header without its digests, and of every array with its shape."""
    rest = {key: value for key, value in header.items() if key != "digests"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    of_arrays = {}
    for name, array in arrays.items():
        digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
        of_arrays[name] = digest.hexdigest()
    return {"header": hashlib.sha256(canonical).hexdigest(), "arrays": of_arrays}


def _in_order(name: str, array: np.ndarray) -> np.ndarray:
    """The array as it is written: row by row, but for those that LAPACK left column by column."""
    array = np.asarray(array)
    return array if BY_COLUMNS.fullmatch(name) else np.ascontiguousarray(array)


def _plain(value: Any) -> Any:
    """NumPy numbers as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r:.80} is not a number, a word or a table of them")


def _digest_of_file(file: IO[bytes], n_bytes: int) -> bytes:
    """SHA-256, in hexadecimal, of the first ``n_bytes`` of an open file."""
    digest = hashlib.sha256()
    file.seek(0)
    while n_bytes > 0:
        block = file.read(min(n_bytes, 1 << 20))
        if not block:
            break
        digest.update(block)
        n_bytes -= len(block)
    return digest.hexdigest().encode()


# ---- reading


def read_archive(path: Path, newest: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file whose seal, sizes, types and digests are right.

    Parameters
    ----------
    path
        The file.
    newest
        Version of gapkit that reads ``FORMAT_VERSION``, for the message about a file of a newer format.

    Raises
    ------
    ModelFileError
        For a file that is missing, truncated, altered, of a newer format, no model, or larger than it may be.
    """
    try:
        if not path.is_file():
            raise refusal(path, "no such model file")
        with open(path, "rb") as file:
            return _read(path, file, newest)
    except ModelFileError:
        raise
    except PermissionError:
        raise refusal(path, "no permission to read it") from None
    except Exception as error:  # zipfile, its decompressors and NumPy's reader raise whatever they like
        raise damaged(path, f"{type(error).__name__}: {error}") from None


def damaged(path: Any, why: str = "") -> ModelFileError:
    """The error about a file whose bytes are not those that were saved."""
    because = f" ({why})" if why else ""
    return refusal(
        path, f"this model file is truncated or altered; restore it from a copy or fit the model again{because}"
    )


def _read(path: Path, file: IO[bytes], newest: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    start = file.read(4)
    sealed = _digest_of_file(file, path.stat().st_size - SEAL) == file.read(SEAL)
    if start[:2] != b"PK":
        raise refusal(path, "not a gapkit model")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if HEADER not in archive.namelist():
            raise refusal(path, "not a gapkit model (it has no header)")
        if not sealed:
            raise damaged(path)
        _check_members(members, path.stat().st_size)
        header = _parsed(_bytes_of(archive, archive.getinfo(HEADER)))
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise refusal(path, "not a gapkit model")
        found = header.get("format_version")
        if type(found) is int and found > FORMAT_VERSION:
            raise refusal(
                path,
                f"model format {found:.3g} is newer than {FORMAT_VERSION}, which {newest} reads; install a newer "
                "gapkit",
            )
        if type(found) is not int or found not in READABLE:
            raise damaged(path, "it has no format version")
        arrays = {m.filename.removesuffix(".npy"): _array(archive, m) for m in members if m.filename != HEADER}
    if found >= 4:
        _check_digests(header, arrays)
    return header, arrays


def _check_members(members: list[zipfile.ZipInfo], n_bytes: int) -> None:
    """Raise ValueError for members that are not to be unpacked."""
    names = [m.filename for m in members]
    if len(set(names)) < len(names):
        raise ValueError(f"the member {max(names, key=names.count)!r:.80} stands twice")
    for m in members:
        if m.filename != HEADER and not _ARRAY.fullmatch(m.filename):
            raise ValueError(f"the member {m.filename!r:.80} is unknown")
        if m.flag_bits & 1 or m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"the member {m.filename!r} is packed in an unknown way")
        if m.filename == HEADER and m.file_size > FREE_HEADER + LARGEST_RATIO * m.compress_size:
            raise ValueError(f"the header would unpack {m.compress_size} bytes to {m.file_size}")
    total = sum(m.file_size for m in members)
    if total > FREE_TOTAL + LARGEST_RATIO * n_bytes:
        raise ValueError(f"the {n_bytes} bytes of the file would unpack to {total}")


def _bytes_of(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, no more than it states."""
    with archive.open(member) as stream:
        data = stream.read(member.file_size)
    if len(data) != member.file_size:
        raise ValueError(f"the member {member.filename} has {len(data)} bytes, not {member.file_size}")
    return data


def _parsed(text: bytes) -> Any:
    """A JSON text; ValueError for a key that stands twice in a table."""

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {max(keys, key=keys.count)!r:.80} stands twice in the header")
        return made

    return json.loads(text.decode("utf-8"), object_pairs_hook=table)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array of a member, whose shape, type and order are judged before its numbers are read."""
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"the array {name} is of an unknown format")
        shape, by_columns, dtype = readers[version](stream, max_header_size=LONGEST_DESCRIPTION)
        if dtype.str != ("<i8" if name == "folds" else "<f8"):
            raise ValueError(f"the array {name} is of the type {dtype.str!r:.40}")
        if any(type(n) is not int or n < 0 for n in shape) or len(shape) > 2:
            raise ValueError(f"the array {name} has the shape {shape!r:.40}")
        if by_columns and len(shape) > 1 and not BY_COLUMNS.fullmatch(name):
            raise ValueError(f"the array {name} is stored column by column")
        left = math.prod(shape) * dtype.itemsize
        if left != member.file_size - stream.tell():
            raise ValueError(f"the array {name} has not the number of bytes that its shape asks for")
        flat = np.empty(math.prod(shape), dtype=dtype)
        into = flat.data.cast("B") if left else memoryview(b"")
        done = 0
        while done < left:
            block = stream.read(min(1 << 20, left - done))
            if not block:
                raise ValueError(f"the array {name} ends too early")
            into[done : done + len(block)] = block
            done += len(block)
    return flat.reshape(shape, order="F" if by_columns else "C")


def _check_digests(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError for a header or an array that is not the one that was saved."""
    stated, found = header.get("digests"), digests(header, arrays)
    if not isinstance(stated, dict) or set(stated) != {"header", "arrays"} or not isinstance(stated["arrays"], dict):
        raise ValueError("the header has no digests")
    if stated["header"] != found["header"]:
        raise ValueError("the header is not the one that was saved")
    for name in sorted({*stated["arrays"], *arrays}):
        if stated["arrays"].get(name) != found["arrays"].get(name):
            raise ValueError(f"the array {name!r:.80} is not the one that was saved")
