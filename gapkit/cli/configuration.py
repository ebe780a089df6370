"""Configuration files, and options of the command line made from settings."""

from __future__ import annotations

import argparse
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from gapkit.exceptions import SettingsError
from gapkit.settings import Settings


def read_toml(path: str | Path, known: Iterable[str], renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The table of a TOML file, with keys beyond ``known`` refused; ``renamed``: new names by earlier ones.

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
    for earlier, now in (renamed or {}).items():
        if earlier in table:
            raise SettingsError(f"{path}: the key {earlier} is now called {now}: rename it")
    known = tuple(known)
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise SettingsError(f"{path}: unknown keys {', '.join(unknown)}; known: {', '.join(known)}")
    return table


def add_settings(
    parser: argparse.ArgumentParser,
    kind: type[Settings],
    options: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    skip: Iterable[str] = (),
) -> None:
    """Add an option for every setting, and ``--config`` for a file of settings.

    Parameters
    ----------
    kind
        Class of the settings; its docstring gives the help.
    options
        Names of options that are not ``--`` and the setting's name.
    defaults
        Values of the command where they are not those of the class.
    skip
        Settings that the command has options of its own for, or none. Nested settings are for files alone.
    """
    parser.add_argument("--config", metavar="FILE.toml", help="settings by name; options of the command come first")
    hints, texts = typing.get_type_hints(kind), described(kind)
    made = kind()
    for field in fields(kind):  # type: ignore[arg-type]
        wanted = _inner(hints[field.name])
        if field.name in skip or (isinstance(wanted, type) and issubclass(wanted, Settings)):
            continue
        default = (defaults or {}).get(field.name, getattr(made, field.name))
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        help_text = f"{texts.get(field.name, '')} (default {shown})".strip().replace("%", "%%")
        keywords: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": help_text}
        if wanted is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        elif typing.get_origin(wanted) is tuple:
            keywords |= {"nargs": "+", "type": typing.get_args(wanted)[0], "metavar": "VALUE"}
        else:
            keywords |= {"type": wanted, "metavar": "VALUE"}
        name = (options or {}).get(field.name, "--" + field.name.replace("_", "-"))
        parser.add_argument(name, **keywords)


def _inner(hint: Any) -> Any:
    """The type beside None in an optional one."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def settings_table(
    options: argparse.Namespace, kind: type[Settings], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Settings by name: those of the command line, else of the file, else the command's ``defaults``.

    Raises
    ------
    SettingsError
        Naming the file, where its settings cannot work by themselves.
    """
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    file = read_toml(options.config, names) if options.config else {}
    try:
        kind.from_dict({**(defaults or {}), **file})
    except SettingsError as error:
        raise SettingsError(f"{options.config}: {error}") from None
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    return {**(defaults or {}), **file, **given}


def described(kind: type[Settings]) -> dict[str, str]:
    """First sentence on every setting with its unit, from the docstrings ("Attributes") of the class and its bases."""
    entry = re.compile(r"^ {4}(\w+(?:, \w+)*) : ([^\n]*)\n((?: {8}[^\n]*\n)+)", re.MULTILINE)
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        for names, of_kind, body in entry.findall((base.__doc__ or "").partition("Attributes\n")[2]):
            first = re.split(r"[.;](?:\s|$)", " ".join(body.split()))[0]
            first = re.sub(r" \(:\w+:`[^`]*`\)|``", "", first)
            unit = of_kind.partition(", ")[2]
            found |= dict.fromkeys(names.split(", "), f"{first} ({unit})" if unit else first)
    return found
