"""The command line names a linear-algebra kernel where OpenBLAS would take an old one."""

import os
import subprocess
import sys

import pytest

from gapkit.cli.processor import AVX512, choose_blas_kernel


def cpuinfo(tmp_path, vendor, flags):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {' '.join(sorted(flags))} sse\n")
    return path


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", AVX512, "SKYLAKEX"),
        ("AuthenticAMD", AVX512 - {"avx512vl"}, None),
        ("GenuineIntel", AVX512, None),
    ],
)
def test_only_amd_processors_with_the_instructions(tmp_path, vendor, flags, expected):
    environment = {}
    choose_blas_kernel(environment, cpuinfo(tmp_path, vendor, flags))
    assert environment.get("OPENBLAS_CORETYPE") == expected


def test_what_the_user_says_counts(tmp_path):
    environment = {"OPENBLAS_CORETYPE": "ZEN"}
    choose_blas_kernel(environment, cpuinfo(tmp_path, "AuthenticAMD", AVX512))
    assert environment["OPENBLAS_CORETYPE"] == "ZEN"


def test_other_systems_have_no_such_file(tmp_path):
    environment = {}
    choose_blas_kernel(environment, tmp_path / "absent")
    assert environment == {}


@pytest.mark.parametrize("first", ["", "import numpy;"])
def test_it_is_done_before_numpy_or_not_at_all(first):
    here = {}
    choose_blas_kernel(here)
    expected = None if first else here.get("OPENBLAS_CORETYPE")
    code = f"import os; {first} import gapkit.cli; print(os.environ.get('OPENBLAS_CORETYPE'))"
    clean = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert seen.stdout.strip() == str(expected)
