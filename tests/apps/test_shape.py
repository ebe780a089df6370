"""One shape for all applications: settings, one function, result, figure, toy, page and command of every question.

A question is a public function ``run_x`` of a package below ``gapkit.apps``, in whichever module it stands.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from pathlib import Path

import pytest

import gapkit.apps
from gapkit.cli.configuration import described
from gapkit.cli.main import COMMANDS
from gapkit.exceptions import SettingsError
from gapkit.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(m.name for m in pkgutil.iter_modules(gapkit.apps.__path__) if m.ispkg)


def modules(package: str):
    found = importlib.import_module(f"gapkit.apps.{package}")
    return [importlib.import_module(f"{found.__name__}.{m.name}") for m in pkgutil.iter_modules(found.__path__)]


def questions():
    """(package, x, module, function) of every ``run_x``."""
    for package in PACKAGES:
        for module in modules(package):
            for name, value in vars(module).items():
                if name.startswith("run_") and inspect.isfunction(value) and value.__module__ == module.__name__:
                    yield package, name.removeprefix("run_"), module, value


QUESTIONS = list(questions())
each_question = pytest.mark.parametrize(
    ("package", "x", "module", "run"), QUESTIONS, ids=[f"{p}-{x}" for p, x, *_ in QUESTIONS]
)


def camel(x: str) -> str:
    return "".join(word.capitalize() for word in x.split("_"))


def attributes(kind: type) -> dict[str, str]:
    """Entries of the section "Attributes" of a docstring and of its bases': name to what stands behind the colon."""
    found = {}
    for base in kind.__mro__:
        text = (base.__doc__ or "").partition("Attributes\n")[2]
        for names, rest in re.findall(r"^ {4}(\w+(?:, \w+)*)(?: : ([^\n]*))?\n", text, re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), rest)
    return found


def test_every_application_has_a_question():
    assert {p for p, *_ in QUESTIONS} == set(PACKAGES)
    loose = [m.name for m in pkgutil.iter_modules(gapkit.apps.__path__) if not m.ispkg]
    assert loose == [], "modules beside the packages of gapkit/apps"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_its_files_and_three_to_six_names(package):
    folder = ROOT / "gapkit" / "apps" / package
    for name in ("run.py", "toys.py", "pictures.py"):
        assert (folder / name).is_file(), f"{package} has no {name}"
    front = importlib.import_module(f"gapkit.apps.{package}")
    assert 3 <= len(front.__all__) <= 6 and front.__all__ == sorted(front.__all__)
    assert all(hasattr(front, name) for name in front.__all__)
    assert any(name.startswith("run_") for name in front.__all__)
    assert (ROOT / "docs" / "apps" / f"{package}.md").is_file()
    assert any(module.__name__.endswith(".run") for p, _, module, _ in QUESTIONS if p == package)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_toy_has_an_example(package):
    toys = importlib.import_module(f"gapkit.apps.{package}.toys")
    own = [v for v in vars(toys).values() if getattr(v, "__module__", None) == toys.__name__]
    assert any(">>>" in (v.__doc__ or "") for v in own)


@each_question
def test_settings_are_frozen_check_themselves_and_go_to_json_and_back(package, x, module, run):
    kind = getattr(module, f"{camel(x)}Settings")
    settings = kind()
    assert is_dataclass(kind) and issubclass(kind, Settings)
    assert kind.from_json(settings.to_json()) == settings
    assert kind(**json.loads(json.dumps(settings.as_dict()))) == settings
    first = fields(kind)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(settings, first, None)
    with pytest.raises(SettingsError, match="unknown settings"):
        kind.from_dict({"no_such_setting": 1})
    for field in fields(kind):
        with pytest.raises(SettingsError, match=field.name):
            replace(settings, **{field.name: object()})
    assert set(described(kind)) >= {f.name for f in fields(kind)}, "a setting without a word in the docstring"


@each_question
def test_a_question_is_asked_in_one_way(package, x, module, run):
    signature = inspect.signature(run)
    names = list(signature.parameters)
    positional = [n for n, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional[-1] == "settings" and signature.parameters["settings"].default is None
    for name, default in (("random_state", None), ("progress", False)):
        parameter = signature.parameters[name]
        assert parameter.kind is parameter.KEYWORD_ONLY and parameter.default is default, name
    assert names[-2:] == ["random_state", "progress"]
    assert signature.parameters["random_state"].annotation == "int | np.random.Generator | None"
    page = (ROOT / "docs" / "apps" / f"{package}.md").read_text()
    assert f"`run_{x}`" in page or f"run_{x}(" in page, f"docs/apps/{package}.md does not name run_{x}"
    assert signature.return_annotation == f"{camel(x)}Result"
    assert "Parameters" in run.__doc__ and "random_state" in run.__doc__


@each_question
def test_a_result_says_its_units_prints_and_has_a_value_for_every_error_bar(package, x, module, run):
    kind = getattr(module, f"{camel(x)}Result")
    assert is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert "__str__" in vars(kind), f"{kind.__name__} has no table"
    said, names = attributes(kind), [f.name for f in fields(kind)]
    assert set(names) <= set(said), f"fields without a word in the docstring: {set(names) - set(said)}"
    assert "settings" in names
    public = set(names) | {n for n, v in vars(kind).items() if isinstance(v, property)}
    for name in public:
        if name.endswith("_std"):
            assert name.removesuffix("_std") in public, f"{kind.__name__}.{name} has no value beside it"


@each_question
def test_a_question_has_a_figure(package, x, module, run):
    pictures = importlib.import_module(f"gapkit.apps.{package}.pictures")
    parameters = list(inspect.signature(getattr(pictures, f"{x}_figure")).parameters)
    assert parameters[:2] == ["result", "path"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_a_command_with_options_from_its_settings(package):
    front = f"gapkit.apps.{package}."
    found = []
    for command in COMMANDS:
        tree = ast.parse((ROOT / "gapkit" / "cli" / f"{command}.py").read_text())
        imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
        calls = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        if any(m.startswith(front) for m in imported) and "add_settings" in calls:
            found.append(command)
    assert found, f"no command of the command line asks a question of {package}"
