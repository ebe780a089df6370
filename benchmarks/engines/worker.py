"""One task of one engine in this process: ``python -m engines.worker JOB.json`` writes the answer beside the job."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    module = importlib.import_module(f"engines.{job['engine']}")
    answer = getattr(module, job["task"])(**job["arguments"])
    path.with_suffix(".answer").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
