"""Arrows between modules point down the floors of docs/ARCHITECTURE.md, imports in functions and for types included."""

import ast
import configparser
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from gapkit import _HOME

ROOT = Path(__file__).parent.parent / "gapkit"
#: rooms by floor, the lowest first; a module imports from lower floors or from its own room
FLOORS = (
    {"exceptions", "submodules", "version"},
    {"safe_write", "kernel_cache", "settings", "checks", "randomness", "progress"},
    {"checkpoints"},
    {"numerics"},
    {"structures", "kernels", "datasets"},
    {"fingerprints"},
    {"descriptors"},
    {"models"},
    {"uncertainty"},
    {"potential"},
    {"fitting"},
    {"estimators"},
    {"sampling", "propagation", "plotting", "oracles", "testing"},
    {"vibrations"},
    {"generation"},
    {"active", "model_selection"},
    {"apps"},
    {"cli"},
    {"__main__", "__init__"},
)


def paths():
    return sorted(ROOT.rglob("*.py"))


def dotted(path: Path) -> str:
    """Name of the module in a file."""
    parts = ("gapkit", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in paths()}


def room(module: str) -> str:
    """Folder or file below gapkit/; of an application its own package."""
    parts = module.split(".")[1:]
    if not parts:
        return "__init__"
    return ".".join(parts[:2]) if parts[0] == "apps" and len(parts) > 1 else parts[0]


def floor(name: str) -> int:
    return next((k for k, rooms in enumerate(FLOORS) if name.split(".")[0] in rooms), -1)


def imports(tree: ast.AST):
    """(line, module) of every import of a module of gapkit, wherever it stands. A name of gapkit's own front stands for
    the module that it comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: write relative imports in full"
            inner = {f"{node.module}.{a.name}": a.name for a in node.names}
            front = _HOME if node.module == "gapkit" else {}
            named = [name if name in MODULES else front.get(last, node.module) for name, last in inner.items()]
        else:
            continue
        yield from ((node.lineno, name) for name in named if name.startswith("gapkit."))


@cache
def arrows() -> dict[str, list[tuple[int, str]]]:
    return {module: list(imports(ast.parse(path.read_text()))) for module, path in MODULES.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other (strongly connected components of more than one; Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1 or node in graph.get(node, ()):
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_arrow_runs_upward(module):
    here = room(module)
    assert floor(here) >= 0, f"{module}: say in tests/test_architecture.py on which floor it stands"
    for line, other in arrows()[module]:
        there = room(other)
        allowed = there == here or floor(there) < floor(here)
        assert allowed, f"{module}:{line} imports {other}, which is no lower floor and not its own room"


def test_no_circle_between_modules():
    assert circles({module: {other for _, other in found} for module, found in arrows().items()}) == []


def test_every_package_is_in_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT.parent / "setup.cfg")
    listed = config["options"]["packages"].split()
    there = [m for m, path in MODULES.items() if path.name == "__init__.py"]
    assert sorted(listed) == sorted([*there, "gapkit.data"])
    assert not [p for p in ROOT.rglob("*") if p.is_dir() and list(p.glob("*.py")) and not (p / "__init__.py").exists()]


def test_the_checks_see_what_they_are_for():
    """Local and type-only imports count; an application is a room of its own; a circle of three is found."""
    text = (
        "def f():\n    from gapkit.cli import main\n    import gapkit.models.basis\n    from gapkit import cli\n"
        "if TYPE_CHECKING:\n    from gapkit.apps.growth import toys\n    from gapkit.models.basis import SparseBasis\n"
        "from gapkit import GAP, propagate"
    )
    found = [name for _, name in imports(ast.parse(text))]
    assert sorted(found) == sorted(
        [
            "gapkit.cli.main",
            "gapkit.models.basis",
            "gapkit.cli",
            "gapkit.apps.growth.toys",
            "gapkit.models.basis",
            "gapkit.estimators.gap",
            "gapkit.propagation",
        ]
    )
    with pytest.raises(AssertionError, match="in full"):
        list(imports(ast.parse("from ..growth import toys")))
    assert room("gapkit.apps.growth.toys") == "apps.growth" != room("gapkit.apps.fracture")
    assert floor("apps.growth") == floor("apps.fracture") > floor("estimators")
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_drawers_and_no_module_without_a_docstring(module):
    path = MODULES[module]
    assert path.stem not in {"utils", "util", "tools", "misc", "common", "helpers"}
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_import_is_light():
    code = (
        "import sys, gapkit; print([m for m in ('numba', 'matplotlib', 'sklearn', 'ase', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
