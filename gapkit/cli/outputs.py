"""Files and folders that commands write to, checked before the work that fills them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gapkit.exceptions import GapkitError
from gapkit.plotting import check_picture
from gapkit.safe_write import replacing


def output_path(path: str) -> Path:
    """A path that can be written to, checked before the work that fills it."""
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise GapkitError(f"{path}: the folder {folder} does not exist; make it first")
    if target.is_dir():
        raise GapkitError(f"{path}: is a folder; give the name of a file")
    if not os.access(folder, os.W_OK):
        raise GapkitError(f"{path}: the folder {folder} cannot be written to; choose another")
    return target


def picture_path(path: str) -> Path:
    """:func:`output_path` of a picture, whose ending must name a format."""
    target = output_path(path)
    check_picture(path)
    return target


def output_folder(path: str) -> Path:
    """A folder that can be written to, made where it is missing."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GapkitError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
    return folder


def write_json(path: Path, result: Any) -> None:
    """Numbers and texts of a result as JSON: fields and properties by name. Models and frames are left out."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(plain(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """JSON-ready copy of a value; numbers that are not finite become None, and so does what JSON has no word for."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value)]
        names += [n for n, p in vars(type(value)).items() if isinstance(p, property) and not n.startswith("_")]
        table = {name: plain(getattr(value, name)) for name in names}
        return {name: v for name, v in table.items() if v is not None}
    return None
