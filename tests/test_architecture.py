"""Arrows between modules point down the floors of docs/ARCHITECTURE.md, function-local imports included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gapkit"
FLOORS = {
    "exceptions": 0,
    "numerics": 1,
    "structures": 2,
    "datasets": 2,
    "kernels": 2,
    "descriptors": 2,
    "models": 3,
    "uncertainty": 4,
    "potential": 5,
    "plotting": 6,
    "sampling": 6,
    "oracles": 6,
    "apps": 7,
    "propagation": 6,
    "generation": 6,
    "active": 7,
    "model_selection": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 9,
}


def modules():
    return sorted(ROOT.rglob("*.py"))


def room(path):
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def imported_rooms(tree):
    """(line, room) of every import of gapkit in a module, wherever it stands."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "gapkit" else [f"gapkit.{a.name}" for a in node.names]
        for name in names:
            if name.startswith("gapkit."):
                yield node.lineno, name.split(".")[1]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_arrow_runs_upward(path):
    here = room(path)
    assert here in FLOORS, f"{path.name}: say in tests/test_architecture.py on which floor it stands"
    for line, other in imported_rooms(ast.parse(path.read_text())):
        allowed = other == here or FLOORS[other] < FLOORS[here]
        same_floor = FLOORS[other] == FLOORS[here] == 2 and (here, other) in {
            ("descriptors", "structures"),
            ("descriptors", "kernels"),
        }
        assert allowed or same_floor, f"{path.relative_to(ROOT)}:{line} imports gapkit.{other} from a higher floor"


def test_the_check_sees_local_imports():
    tree = ast.parse(
        "def f():\n    from gapkit.cli import main\n    import gapkit.models.basis\n    from gapkit import cli"
    )
    assert [r for _, r in imported_rooms(tree)] == ["cli", "models", "cli"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_drawers_and_no_module_without_a_docstring(path):
    assert path.stem not in {"utils", "util", "tools", "misc", "common", "helpers"}
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_import_is_light():
    code = (
        "import sys, gapkit; print([m for m in ('numba', 'matplotlib', 'sklearn', 'ase', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
