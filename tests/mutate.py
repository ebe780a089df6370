"""Deliberate faults, one at a time, in a copy of the repository: do the tests catch them?

``python tests/mutate.py`` tries all faults of mutations.toml, ``python tests/mutate.py 3 conformal`` the third and
those with this word in their names. Exit code 1: a fault lived, could not be put in, or could not be judged.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAULTS = tomllib.loads((ROOT / "tests" / "mutations.toml").read_text(encoding="utf-8"))["fault"]
CACHES = ("__pycache__", ".*cache", ".git", ".hypothesis")


def copy_tree(folder: Path) -> None:
    """The tracked files (all files, where git does not know them), and what Numba has compiled of them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*CACHES), dirs_exist_ok=True)
        paths = []
    else:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    for path in [*paths, *ROOT.glob("gapkit/**/__pycache__/*.nb[ic]")]:
        if path.is_file():
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)  # with its time, by which Numba knows its sources


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Python in the copy, whose package comes before any that is installed."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def pytest_code(folder: Path, tests: Sequence[str]) -> int:
    """Exit code of pytest: 0 where all pass, 1 where one fails, others where it could not run."""
    try:
        return python(folder, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests).returncode
    except subprocess.TimeoutExpired:
        return 124


def verdict(folder: Path, fault: dict) -> str:
    """ "caught", "LIVED", or the reason for neither; the copy is then as it was."""
    path = folder / fault["file"]
    whole = path.read_text(encoding="utf-8")
    if whole.count(fault["old"]) != 1:
        return f"NOT PUT IN: the text to replace occurs {whole.count(fault['old'])} times in {fault['file']}"
    times, compiled = path.stat(), path.parent / "__pycache__"
    with tempfile.TemporaryDirectory() as aside:
        if compiled.exists():
            shutil.move(compiled, aside)
        if "numerics" in fault["file"]:  # callers elsewhere have the machine code of what they call in their caches
            for cache in folder.glob("gapkit/**/__pycache__/*.nb[ic]"):
                cache.unlink()
        path.write_text(whole.replace(fault["old"], fault["new"]), encoding="utf-8")
        code = pytest_code(folder, fault["tests"])
        path.write_text(whole, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(compiled, ignore_errors=True)
        if (Path(aside) / "__pycache__").exists():
            shutil.move(Path(aside) / "__pycache__", compiled)
    return {0: "LIVED", 1: "caught"}.get(code, f"NOT JUDGED: pytest ended with code {code}")


def mutate(faults: Sequence[dict]) -> Iterator[tuple[str, str, float]]:
    """Name, verdict and seconds of each fault; first those of the tests without any."""
    with tempfile.TemporaryDirectory(prefix="gapkit-faults-") as name:
        folder = Path(name).resolve()
        copy_tree(folder)
        where = Path(python(folder, "-c", "import gapkit; print(gapkit.__file__)").stdout.strip())
        if not where.is_relative_to(folder):
            raise RuntimeError(f"the tests would judge {where}, not the copy in {folder}")
        begin = time.perf_counter()
        code = pytest_code(folder, sorted({t for f in faults for t in f["tests"]}))
        yield (
            "no fault",
            "passed" if code == 0 else f"FAILED: pytest ended with code {code}",
            time.perf_counter() - begin,
        )
        for fault in faults if code == 0 else ():
            begin = time.perf_counter()
            yield fault["name"], verdict(folder, fault), time.perf_counter() - begin


def chosen(words: Sequence[str]) -> list[dict]:
    """Faults by number (from 1) or by a word of their names; all of them without words."""
    return [f for k, f in enumerate(FAULTS, 1) if not words or str(k) in words or any(w in f["name"] for w in words)]


def main(words: Sequence[str]) -> int:
    good = bool(chosen(words))
    for name, found, seconds in mutate(chosen(words)) if good else ():
        print(f"{seconds:6.1f} s  {found:8s}  {name}", flush=True)
        good &= found in ("passed", "caught")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
