"""Bounds of a process's memory, from made control groups and from a limit that a child process sets itself."""

import os
import subprocess
import sys

import pytest

from gapkit.numerics.memory import memory_limit

GB = 10**9


def made(root, groups, files):
    """A root with ``proc/self/cgroup`` and files of control groups."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/job", {"job/memory.max": GB // 10}, GB // 10),
        ("0::/queue/job", {"queue/job/memory.max": "max", "queue/memory.max": GB // 20}, GB // 20),
        ("0::/", {"memory.max": GB // 10}, GB // 10),
        ("0::/on/the/host", {"memory.max": GB // 10}, GB // 10),
        ("9:cpu,memory:/job", {"cpu,memory/job/memory.limit_in_bytes": GB // 10}, GB // 10),
        ("3:cpu:/a\n9:memory:/a/b", {"memory/a/memory.limit_in_bytes": GB // 10}, GB // 10),
        ("9:memory:/a\n0::/a", {"memory/a/memory.limit_in_bytes": GB, "unified/a/memory.max": GB // 10}, GB // 10),
    ],
)
def test_the_control_group_bounds_the_memory(tmp_path, groups, files, expected):
    found = memory_limit(made(tmp_path, groups, files))
    assert found.size == expected
    assert "control group" in found.source


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/job", {"job/memory.max": "max"}),
        ("9:memory:/", {"memory/memory.limit_in_bytes": 9223372036854771712}),
        ("0::/job", {"other/memory.max": 1}),
        ("3:cpu:/job", {"job/memory.max": 1}),
        ("nonsense", {"memory.max": "x"}),
    ],
)
def test_without_a_limit_the_machine_bounds_it(tmp_path, groups, files):
    found = memory_limit(made(tmp_path, groups, files))
    assert found.size == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.source == "this machine has"


def test_the_limit_of_the_process_bounds_it():
    code = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (7 * 10**8, 7 * 10**8))\n"
    code += "from gapkit.numerics.memory import memory_limit; print(memory_limit())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "MemoryLimit(size=700000000.0, source='the limit of this process (ulimit) allows')\n"
