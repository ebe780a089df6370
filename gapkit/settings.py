"""Settings of a question: frozen dataclasses that check themselves, and go to JSON and back."""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields
from numbers import Integral, Real
from typing import Any, Self

from gapkit.exceptions import SettingsError


class Settings:
    """Base of frozen dataclasses of settings.

    Every field has a default. Its value is checked against its annotation when an object is made: whole numbers become
    floats where a float is asked for, lists become tuples. A subclass adds in :meth:`check` what its values must obey.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Walk(Settings):
    ...     steps: int = 10
    ...     sizes: tuple[float, ...] = (1.0, 2.0)
    >>> Walk.from_json(Walk(sizes=[1, 3]).to_json())
    Walk(steps=10, sizes=(1.0, 3.0))
    """

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _fitting(field.name, value, hints[field.name]))
        self.check()

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""

    def as_dict(self) -> dict[str, Any]:
        """Names and values; nested settings as tables."""
        return asdict(self)  # type: ignore[call-overload]

    def to_json(self) -> str:
        """The settings as text."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Settings from names and values; those that are missing keep their defaults.

        Raises
        ------
        SettingsError
            For an unknown name, or a value that cannot work.
        """
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        unknown = sorted(set(table) - set(known))
        if unknown:
            raise SettingsError(f"unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
        return cls(**table)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Settings from :meth:`to_json`; raises as :meth:`from_dict`, and for text that is no JSON table."""
        try:
            table = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"settings cannot be read as JSON ({error})") from None
        if not isinstance(table, dict):
            raise SettingsError(f"settings must be a table of names and values, not {table!r:.80}")
        return cls.from_dict(table)


def _fitting(name: str, value: Any, kind: Any) -> Any:
    """The value as the annotation ``kind`` wants it; SettingsError where it cannot be."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (kind,) = [a for a in arguments if a is not type(None)]
        return _fitting(name, value, kind)
    if origin is tuple:
        value = value.tolist() if hasattr(value, "tolist") else value  # an array
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{name} must be a list, not {value!r}")
        return tuple(_fitting(name, v, arguments[0]) for v in value)
    if isinstance(kind, type) and issubclass(kind, Settings):
        return kind.from_dict(value) if isinstance(value, Mapping) else _instance(name, value, kind, "a table")
    if kind is bool:
        return _instance(name, value, bool, "true or false")
    if kind is int:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return int(value)
        raise SettingsError(f"{name} must be a whole number, not {value!r}")
    if kind is float:
        if isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value):
            return float(value)
        raise SettingsError(f"{name} must be a number, not {value!r}")
    if kind is str:
        return _instance(name, value, str, "a text")
    raise TypeError(f"settings of the kind {kind} are not provided for")


def _instance(name: str, value: Any, kind: type, words: str) -> Any:
    if not isinstance(value, kind):
        raise SettingsError(f"{name} must be {words}, not {value!r}")
    return value
