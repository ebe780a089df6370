"""Reading of configuration files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gapkit.exceptions import SettingsError


def read_toml(path: str | Path, known: Iterable[str]) -> dict[str, Any]:
    """The table of a TOML file, with keys beyond ``known`` refused.

    Raises
    ------
    SettingsError
        Naming the file and what is wrong with it.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML ({error})") from None
    known = tuple(known)
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"{path}: unknown keys {', '.join(unknown)}; known: {', '.join(known)}")
    return table
