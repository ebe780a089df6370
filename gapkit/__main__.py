"""``python -m gapkit``: the command line."""

import sys

from gapkit.cli.main import main

sys.exit(main())
