"""Ctrl-C while modules are loaded ends a command with one line, as it does later."""

import subprocess
import sys

import pytest

PRESSED = """
import importlib.abc, runpy, sys

class Pressed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Pressed())
wanted, how = sys.argv[1:3]
sys.argv[1:] = ["md", "m.gapkit", "s.xyz"]
if how == "module":
    runpy.run_module("gapkit", run_name="__main__", alter_sys=True)
else:  # as the script does that pip makes
    from gapkit.cli import main
    sys.argv = ["gapkit", "md", "m.gapkit", "s.xyz"]
    sys.exit(main())
"""


@pytest.mark.parametrize("how", ["module", "script"])
@pytest.mark.parametrize("name", ["gapkit.cli.main", "gapkit.cli.md", "tqdm", "numpy", "gapkit.sampling.dynamics"])
def test_ctrl_c_during_an_import_prints_no_traceback(tmp_path, name, how):
    code = PRESSED.replace("if name == sys.argv[1]", f"if name == {name!r}")
    done = subprocess.run([sys.executable, "-c", code, name, how], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "gapkit: error: interrupted\n"
    assert done.returncode == 130
