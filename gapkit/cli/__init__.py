"""Command line: ``gapkit quickstart | fit | evaluate | predict | info | md | active``."""

import os
import sys

from gapkit.cli.processor import choose_blas_kernel

if "numpy" not in sys.modules:  # too late otherwise: the library has chosen
    choose_blas_kernel(os.environ)

from gapkit.cli.main import main

__all__ = ["main"]
