"""Files and folders that commands write to, checked before the work that fills them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapkit.exceptions import GapkitError
from gapkit.plotting import check_picture
from gapkit.safe_write import check_target, make_folder, replacing, shown


def output_path(path: str) -> Path:
    """A path that can be written to, checked before the work that fills it."""
    folder = check_target(path).parent
    if not os.access(folder, os.W_OK):
        raise GapkitError(f"{shown(path)}: the folder {shown(folder)} cannot be written to; choose another")
    return Path(path)


def picture_path(path: str) -> Path:
    """:func:`output_path` of a picture, whose ending must name a format."""
    target = output_path(path)
    check_picture(path)
    return target


def output_folder(path: str) -> Path:
    """A folder that can be written to, made where it is missing."""
    return make_folder(path)


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    """Write a table as JSON; numbers that are not finite become null."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(_finite(table), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
