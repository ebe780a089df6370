"""The documentation: its examples run, its links lead somewhere, and no public name or option is left out."""

from __future__ import annotations

import argparse
import ast
import doctest
import importlib.util
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gapkit
from gapkit.cli.active import ACQUISITIONS
from gapkit.cli.fit import read_config
from gapkit.cli.main import COMMANDS, parser_for
from gapkit.oracles import ORACLES

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(?:#[^)\s]*)?(?=[)\s])")

#: what stands before the first block of pages that speak of the reader's own files and frames
PRELUDES = {
    "README.md": """
from ase.io import write
from gapkit.datasets import load_silicon
train = [a for a in load_silicon("train") if a.info["config_type"] in ("diamond_strain", "rattled")]
write("train.xyz", train[::2])
write("test.xyz", train[1::8])
""",
    "docs/UNCERTAINTY.md": """
from gapkit.datasets import load_silicon
frames = [a for a in load_silicon("train") if a.info["config_type"] in ("diamond_strain", "rattled", "vacancy_15")]
train, calibration_frames = frames[::2], frames[1::4]
initial, saddle = train[0], train[1]
vacancy_cell = next(a for a in frames if len(a) == 15)
bulk_cell = next(a for a in frames if len(a) == 8)
""",
    "data/README.md": "",
}
RECIPES = sorted(p for p in (DOCS / "howto").glob("*.md") if FENCE.search(p.read_text(encoding="utf-8")))
PAGES = [*PRELUDES, "docs/getting_started.md", *(p.relative_to(ROOT).as_posix() for p in RECIPES)]
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(gapkit.__path__, "gapkit.")
    if not m.name.startswith("gapkit.data.") and not m.name.endswith("__main__")
)


def with_examples() -> list[str]:
    """Modules that hold an example, found without importing them."""
    found = []
    for name in MODULES:
        origin = importlib.util.find_spec(name).origin
        if origin and ">>> " in Path(origin).read_text(encoding="utf-8"):
            found.append(name)
    return found


@pytest.mark.parametrize("name", with_examples())
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(FENCE.finditer(text))
    assert blocks
    namespace = {"__name__": "page"}
    exec(PRELUDES.get(page, ""), namespace)
    for block in blocks:
        line = text[: block.start()].count("\n") + 1  # so that a traceback names the line of the page
        exec(compile("\n" * line + block.group(1), page, "exec"), namespace)


def test_configuration_files_of_the_pages(tmp_path):
    found = [m.group(1) for p in RECIPES for m in TOML.finditer(p.read_text(encoding="utf-8"))]
    assert len(found) >= 2
    for text in found:
        (tmp_path / "settings.toml").write_text(text)
        assert read_config(str(tmp_path / "settings.toml"))


def test_a_wrong_example_is_seen(tmp_path):
    (tmp_path / "wrong_example.py").write_text('"""\n>>> 1 + 1\n3\n"""\n')
    code = "import doctest, wrong_example; print(doctest.testmod(wrong_example, report=False).failed)"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("1")


def markdown() -> dict[str, str]:
    """Text by file: the Markdown of the repository, that of notebooks included; not what the site's build makes."""
    files = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("data/**/README.md")]
    files += [p for folder in ("howto", "apps", "reference", "tutorials") for p in (DOCS / folder).glob("*.md")]
    files += [*ROOT.glob("benchmarks/*.md"), *ROOT.glob("notebooks/*.md")]
    texts = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in files}
    for p in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(p.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        texts[p.relative_to(ROOT).as_posix()] = text
    return texts


def test_relative_links_lead_somewhere():
    links = 0
    for file, text in markdown().items():
        for link in LINK.finditer(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
            target = (ROOT / file).parent / link.group(1)
            assert target.exists(), f"{file} links to {link.group(1)}, which is not there"
            links += 1
    assert links > 50


def documented() -> set[object]:
    """Classes and functions that the reference pages show."""
    found: set[object] = set()
    for page in (DOCS / "reference").glob("*.md"):
        for kind, name in re.findall(r"^\.\. auto(\w+):: (\S+)", page.read_text(), re.MULTILINE):
            if kind == "module":
                own = vars(importlib.import_module(name)).values()
                real = [o for o in own if inspect.isclass(o) or inspect.isfunction(o)]
                found.update(o for o in real if o.__module__ == name)
            else:
                home, _, own = name.rpartition(".")
                found.add(getattr(importlib.import_module(home), own))
    return found


def test_every_public_name_is_in_the_reference():
    shown = documented()
    for package in (
        "gapkit",
        "gapkit.active",
        "gapkit.generation",
        "gapkit.model_selection",
        "gapkit.kernels",
        "gapkit.testing",
        "gapkit.vibrations",
    ):
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            assert inspect.ismodule(thing) or thing in shown, f"{package}.{name} is on no page of docs/reference"


def test_every_command_and_option_is_on_the_page():
    text = (DOCS / "howto" / "command_line.md").read_text()
    sections = dict(re.findall(r"^## gapkit (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(COMMANDS)
    for name in COMMANDS:
        (commands,) = [a for a in parser_for(name)._actions if isinstance(a, argparse._SubParsersAction)]
        for action in commands.choices[name]._actions:
            for option in action.option_strings:
                if option.startswith("--") and option != "--help":
                    assert f"`{option}`" in sections[name], f"{name} {option}"


def test_every_acquisition_and_oracle_is_on_the_page():
    text = (DOCS / "howto" / "command_line.md").read_text()
    for name in (*ACQUISITIONS, *ORACLES):
        assert f"`{name}`" in text, name


def test_numbers_of_the_readme_are_those_of_the_pages_that_measure_them():
    table = re.search(r"^## Measured\n(.*?)^## ", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL).group(1)
    measured = "\n".join(
        (ROOT / p).read_text() for p in ("benchmarks/README.md", "docs/ACCURACY.md", "docs/UNCERTAINTY.md")
    )
    number_like = r"\d+(?:,\d{3})*(?:\.\d+)?"
    known = set(re.findall(number_like, measured))
    numbers = [n for n in re.findall(number_like, table) if "." in n or len(n) > 2]
    assert len(numbers) > 20
    for number in numbers:
        assert number in known, f"{number} of README.md stands in none of the pages that it is taken from"


#: first words of a docstring that leave its object unnamed
HEADLESS = re.compile(r"(?:That|Those|Of|From|As|The same|What)\b")
#: "deviation" without "standard" before it; the name of an attribute on a line of its own is no prose
DEVIATION = re.compile(r"(?<!standard )\bdeviations?\b(?!`)", re.IGNORECASE)
ATTRIBUTE = re.compile(r"^\s*\w+(?: :.*)?$", re.MULTILINE)


def docstrings() -> Iterator[tuple[str, str]]:
    """Place and text of the docstrings of public modules, classes, functions and methods of gapkit."""

    def walk(node: ast.AST, place: str) -> Iterator[tuple[str, str]]:
        text = ast.get_docstring(node)
        if text:
            yield place, text
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
                yield from walk(child, f"{place} {child.name}")

    for file in sorted((ROOT / "gapkit").rglob("*.py")):
        yield from walk(ast.parse(file.read_text(encoding="utf-8")), file.relative_to(ROOT).as_posix())


def bare_deviations(text: str) -> list[str]:
    """Places in prose where "deviation" stands without "standard"; code, formulas and names do not count."""
    text = re.sub(r"^```.*?^```|`[^`]+`", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\s+", " ", ATTRIBUTE.sub("", text))
    return [text[max(m.start() - 60, 0) : m.end()] for m in DEVIATION.finditer(text)]


def test_first_sentences_of_docstrings_name_their_object():
    found = dict(docstrings())
    assert len(found) > 1000
    headless = [f"{place}: {text.splitlines()[0]}" for place, text in found.items() if HEADLESS.match(text)]
    assert not headless, "begin with the noun (docs/STYLE.md):\n" + "\n".join(headless)


def test_a_deviation_is_a_standard_deviation():
    texts = {file: text for file, text in markdown().items() if file not in ("CHANGELOG.md", "docs/STYLE.md")}
    texts = {file: text for file, text in texts.items() if not file.endswith(".ipynb")} | dict(docstrings())
    bare = [f"{place}: {found}" for place, text in texts.items() for found in bare_deviations(text)]
    assert not bare, 'write "standard deviation" or "uncertainty" (docs/STYLE.md):\n' + "\n".join(bare)


def test_words_that_are_refused_are_seen():
    assert HEADLESS.match("That of one frame.")
    assert HEADLESS.match("The same as text.")
    assert not HEADLESS.match("Offset of the mean.")
    assert bare_deviations("the largest deviation of an energy")
    assert bare_deviations("the standard\nerror and its deviation")
    assert not bare_deviations("the standard\ndeviation of an energy, `deviations`")
