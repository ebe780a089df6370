"""The linear-algebra kernel of the command line's own process, chosen before NumPy is loaded."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from pathlib import Path

#: what OpenBLAS's kernels for AVX-512 need
AVX512 = {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"}


def choose_blas_kernel(environment: MutableMapping[str, str], cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Name the AVX-512 kernels to OpenBLAS on AMD processors that have them, unless the user named some.

    OpenBLAS takes newer ones for a Haswell where it does not know the model, at 60 % of the speed. Other systems and
    processors are left alone.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    amd = re.search(r"^vendor_id\s*:\s*AuthenticAMD", text, re.MULTILINE)
    if amd and flags and set(flags.group(1).split()) >= AVX512:
        environment.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")
