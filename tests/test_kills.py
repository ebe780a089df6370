"""Long runs, killed at random moments (benchmarks/kills.py): files stay whole, and the runs go on to an equal end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent.parent / "benchmarks" / "kills.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("case", ["fit", "tune", "active", "md", "growth", "fracture"])
def test_a_run_that_is_killed_goes_on_to_an_equal_end(case):
    if case == "fracture":
        pytest.importorskip("matscipy")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), "--n", "3", "--seed", "5", case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    row = done.stdout.splitlines()[-1].split()
    assert row[0] == case
    kills, ends, equal, faults = (int(row[k]) for k in (2, 3, 4, -1))
    assert kills >= 3
    assert ends == equal >= 1
    assert faults == 0
