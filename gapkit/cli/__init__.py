"""Command line, one module a command: quickstart, fit, evaluate, predict, info, md, active and the applications' own.

``gapkit.cli.main.COMMANDS`` lists them.
"""

import os
import sys

try:
    from gapkit.cli.processor import choose_blas_kernel

    if "numpy" not in sys.modules:  # too late otherwise: the library has chosen
        choose_blas_kernel(os.environ)

    from gapkit.cli.main import main
except KeyboardInterrupt:
    print("gapkit: error: interrupted", file=sys.stderr)
    sys.exit(130)

__all__ = ["main"]
