"""Options made from settings: the command line comes before the file, the file before the defaults."""

import argparse
import json

import pytest

from gapkit.cli.configuration import add_settings, described, read_toml, settings_table
from gapkit.cli.outputs import write_json
from gapkit.exceptions import SettingsError
from tests.test_settings import Inner, Outer

DEFAULTS = {"sizes": (7, 8)}


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_settings(parser, Outer, {"limit": "--far"}, DEFAULTS)
    return parser.parse_args(list(arguments))


def made(*arguments: str) -> Outer:
    options = parse(*arguments)
    return Outer.from_dict(settings_table(options, Outer, DEFAULTS))


def test_options_come_before_the_file_and_the_file_before_defaults(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('name = "file"\nlimit = 3\n[inner]\ndepth = 2\n')
    assert made() == Outer(sizes=(7, 8))
    assert made("--config", str(file)) == Outer("file", (7, 8), 3.0, inner=Inner(2.0))
    found = made("--config", str(file), "--name", "line", "--sizes", "1", "2", "3", "--far", "0.5", "--loud")
    assert found == Outer("line", (1, 2, 3), 0.5, True, Inner(2.0))
    assert made("--no-loud").loud is False


@pytest.mark.parametrize(
    ("text", "words"),
    [("nmae = 1", "unknown keys nmae"), ("name = 1", "name must be a text"), ("[inner]\ndepth = -2", "depth must be"),
     ("name = ", "cannot be read as TOML")],
)  # fmt: skip
def test_what_is_wrong_with_a_file_names_the_file(tmp_path, text, words):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"settings.toml: .*{words}"):
        made("--config", str(file))


def test_help_says_what_the_docstring_says():
    assert described(Outer) == {
        "name": "Whose name", "sizes": "How many", "limit": "How far (eV)", "loud": "Whether it is heard",
        "inner": "The rest",
    }  # fmt: skip
    assert described(Inner) == {"depth": "How deep (A)"}
    parser = argparse.ArgumentParser()
    add_settings(parser, Outer, defaults=DEFAULTS)
    text = " ".join(parser.format_help().split())
    assert "How many (default 7 8)" in text and "--inner" not in text


def test_an_option_that_does_not_fit_does_not_blame_the_file(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("limit = 3")
    options = parse("--config", str(file))
    options.name = 5
    with pytest.raises(SettingsError, match="^name must be a text"):
        Outer.from_dict(settings_table(options, Outer))


def test_numbers_that_json_lacks_are_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1, float("inf")], "c": {"d": 2.5}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [1, None], "c": {"d": 2.5}}


def test_the_old_name_of_a_key_is_refused_with_its_present_name(tmp_path):
    file = tmp_path / "fit.toml"
    file.write_text('noise = "auto"\n')
    with pytest.raises(SettingsError, match="fit.toml: the key noise is now called noise_levels"):
        read_toml(file, ("noise_levels",), {"noise": "noise_levels"})
