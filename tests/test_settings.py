"""Settings: what fits a field, what is refused, and the way to JSON and back."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from gapkit.exceptions import SettingsError
from gapkit.settings import Settings


@dataclass(frozen=True)
class Inner(Settings):
    """Settings within settings.

    Attributes
    ----------
    depth : float, A
        How deep.
    """

    depth: float = 1.0

    def check(self) -> None:
        if self.depth <= 0:
            raise SettingsError(f"depth must be positive (A), not {self.depth}")


@dataclass(frozen=True)
class Outer(Settings):
    """Settings of all kinds.

    Attributes
    ----------
    name : str
        Whose name.
    sizes : tuple of int
        How many; each one.
    limit : float or None
        How far (eV).
    loud : bool
        Whether it is heard.
    inner : Inner
        The rest.
    """

    name: str = "a"
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None
    loud: bool = False
    inner: Inner = field(default_factory=Inner)


def test_values_take_the_type_of_their_field():
    assert Outer(sizes=np.arange(3)).sizes == (0, 1, 2)
    found = Outer(sizes=[3, 4], limit=2, inner={"depth": 3})
    assert found == Outer("a", (3, 4), 2.0, False, Inner(3.0))
    assert isinstance(found.limit, float) and isinstance(found.sizes, tuple) and isinstance(found.inner, Inner)


@pytest.mark.parametrize(
    "settings",
    [Outer(), Outer("b", (5,), 0.1, True, Inner(0.25)), Outer(limit=float("inf"))],
    ids=["default", "b", "inf"],
)
def test_json_and_back(settings):
    assert Outer.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"name": 3}, "name must be a text"),
        ({"sizes": 3}, "sizes must be a list"),
        ({"sizes": [1.5]}, "sizes must be a whole number"),
        ({"sizes": [True]}, "sizes must be a whole number"),
        ({"limit": "much"}, "limit must be a number"),
        ({"limit": True}, "limit must be a number"),
        ({"limit": float("nan")}, "limit must be a number"),
        ({"loud": 1}, "loud must be true or false"),
        ({"inner": {"depth": -1}}, "depth must be positive"),
        ({"inner": {"width": 1}}, "unknown settings width; known: depth"),
        ({"inner": 5}, "inner must be a table"),
        ({"nmae": "b"}, "unknown settings nmae; known: name, sizes"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(bad, words):
    with pytest.raises(SettingsError, match=words):
        Outer.from_dict(bad)


@pytest.mark.parametrize("text", ["[1]", "{", "3"])
def test_what_is_no_table_is_refused(text):
    with pytest.raises(SettingsError, match="settings"):
        Outer.from_json(text)
