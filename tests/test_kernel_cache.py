"""Compiled kernels have a place where neither the package nor the home folder can be written to."""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

import gapkit
from gapkit import kernel_cache
from gapkit.exceptions import GapkitWarning
from gapkit.kernel_cache import ensure_kernel_cache


@pytest.fixture
def package(tmp_path):
    (tmp_path / "package" / "numerics").mkdir(parents=True)
    (tmp_path / "package" / "numerics" / "soap.py").touch()
    return tmp_path / "package"


@pytest.fixture
def written_to(monkeypatch):
    """Folders that can be written to, by the beginning of their paths; numba is left as it is."""
    folders = []
    monkeypatch.setattr(kernel_cache, "_writable", lambda path: any(str(path).startswith(f) for f in folders))
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    return folders


@pytest.mark.parametrize("place", ["package", "home", "xdg", "given"])
def test_a_place_that_numba_finds_by_itself_is_left_to_it(package, written_to, monkeypatch, place):
    monkeypatch.setenv("HOME", "/home/somebody")
    environment = {"XDG_CACHE_HOME": "/xdg"} if place == "xdg" else {}
    environment |= {"NUMBA_CACHE_DIR": "/given"} if place == "given" else {}
    written_to.append({"package": str(package), "home": "/home/somebody", "xdg": "/xdg", "given": "/given"}[place])
    before = dict(environment)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ensure_kernel_cache(package, environment)
    assert environment == before


def test_without_one_the_users_own_temporary_folder_is_taken_and_said(package, written_to, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {"NUMBA_CACHE_DIR": "/proc/none"}
    with pytest.warns(GapkitWarning, match="temporary folder .* set NUMBA_CACHE_DIR"):
        ensure_kernel_cache(package, environment)
    folder = Path(environment["NUMBA_CACHE_DIR"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    again = {}
    with pytest.warns(GapkitWarning):
        ensure_kernel_cache(package, again)
    assert again == environment  # kernels of an earlier process are found


@pytest.mark.parametrize("kind", ["a folder that others can write to", "a link", "a file"])
def test_a_temporary_folder_that_others_could_fill_is_not_trusted(package, written_to, monkeypatch, tmp_path, kind):
    """Code that lies there would be run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"gapkit-kernels-{os.geteuid()}"
    if kind == "a link":
        (tmp_path / "theirs").mkdir()
        planted.symlink_to("theirs")
    elif kind == "a file":
        planted.touch()
    else:
        planted.mkdir()
        planted.chmod(0o777)
    environment = {}
    with pytest.warns(GapkitWarning):
        ensure_kernel_cache(package, environment)
    folder = Path(environment["NUMBA_CACHE_DIR"])
    assert folder != planted
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700


LOCKED_OUT = """
import os, sys, tempfile, warnings
import concurrent.futures.thread, numba, scipy.linalg, ase.geometry, threadpoolctl
numba.njit(lambda n, k: k // n if k < 0 else 0)(4, -1)  # all that lies in the home folder of the superuser is loaded
os.environ.pop("NUMBA_CACHE_DIR", None), os.environ.pop("XDG_CACHE_HOME", None)
os.environ["HOME"] = "/nonexistent"
sys.dont_write_bytecode = True
if sys.argv[2] == "none":
    def none(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")
    tempfile.gettempdir = tempfile.mkdtemp = none
else:
    tempfile.tempdir = sys.argv[2]
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.path.insert(0, sys.argv[1])
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    from gapkit.numerics import threads
    from gapkit.structures import occupied_bins
print(occupied_bins._image(-1, 4), occupied_bins._image.stats.cache_path, [str(w.message)[:30] for w in said])
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser can become another")
@pytest.mark.parametrize("temporary", ["folder", "none"])
def test_a_user_who_can_write_nowhere_imports_and_computes(tmp_path, temporary):
    """A copy of the package that belongs to another user, no home folder, and a temporary folder or none."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        copied = Path(root) / "gapkit"
        for path in Path(gapkit.__file__).parent.rglob("*.py"):
            target = copied / path.relative_to(Path(gapkit.__file__).parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
        (Path(root) / "tmp").mkdir()
        (Path(root) / "tmp").chmod(0o777)
        place = str(Path(root) / "tmp") if temporary == "folder" else "none"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-c", LOCKED_OUT, root, place], capture_output=True, text=True, env=environment, cwd=root
        )
        assert done.stderr == ""
        if temporary == "folder":
            assert done.stdout.startswith(f"-1 {root}/tmp/gapkit-kernels-65534/")
            assert done.stdout.endswith("['compiled kernels are kept in t']\n")
            assert list((Path(root) / "tmp").glob("*/*/*.nbi"))
        else:
            assert done.stdout == "-1 None ['no folder for compiled kernels']\n"
