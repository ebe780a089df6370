"""Files and folders that commands write to, checked before the work that fills them."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from gapkit.exceptions import GapkitError
from gapkit.plotting import check_picture
from gapkit.safe_write import check_target, make_folder, replacing, shown


class Result(Protocol):
    """Result of an application, which prints as a table."""

    def to_dict(self) -> dict[str, Any]:
        """The numbers, JSON-ready."""


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


def add_result_outputs(parser: argparse.ArgumentParser, pictured: str) -> None:
    """Add ``--plot`` and ``--json``, the files of :func:`result_paths`."""
    parser.add_argument("--plot", metavar="FILE", help=f"{pictured} (.png, .pdf, .svg)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")


def result_paths(options: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Files for the numbers and for the picture, where they were asked for."""
    numbers = output_path(options.json) if options.json else None
    return numbers, picture_path(options.plot) if options.plot else None


def show_result(result: Result, paths: tuple[Path | None, Path | None], figure: Callable[[Any, Path], None]) -> None:
    """Print a result, and write its numbers and its picture to the :func:`result_paths`."""
    numbers, picture = paths
    print(result)
    if numbers:
        write_json(numbers, result.to_dict())
        print(f"written: {numbers}")
    if picture:
        figure(result, picture)
        print(f"picture: {picture}")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
