"""Mutated model files, each loaded and asked in a process of its own: none may end it, hang, or predict other numbers.

    python benchmarks/mutated_models.py --n 10000 [--seed 0] [--list]

Three models (sparse, updatable, exact mean over a baseline) are fitted to copper by effective-medium theory; the
mutations are those of ``tests/fitting/mutations.py``. A process may have 1 GB beyond its libraries, and 10 s. Exit code
1 where a file ended a process, hung it, raised anything but a ModelFileError of one line, or predicted numbers that
differ by more than 1e-9, unless all digests were made anew and the number is free by nature
(``mutations.FREE_BY_NATURE``).
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import gapkit
from tests.conftest import copper_frames, small_gap
from tests.fitting.mutations import Mutator, predictions, verdict

MEMORY, SECONDS = 10**9, 10


def exact_gap() -> gapkit.GAP:
    """An exact mean on projected features, over a baseline."""
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=4.0), gapkit.SquaredExponential(0.7), n_sparse=10),
        gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(2), n_sparse=20, projection=16),
    ]
    return small_gap(terms=terms, exact=True, baseline="zbl")


def in_child(path: Path, frames: list, expected: np.ndarray) -> tuple[str, float]:
    """The verdict on a file by a forked process, and the memory that it used beyond its parent's (MB)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = _mapped()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = verdict(path, frames, expected)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        os.write(write, f"{more} {found}".encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(write)
    ready = select.select([read], [], [], SECONDS)[0]
    answer = os.read(read, 4096).decode() if ready else ""
    os.close(read)
    if not ready:
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if answer:
        memory, found = answer.split(" ", 1)
        return found, float(memory)
    return ("hung" if not ready else f"ended by signal {os.WTERMSIG(status)}"), 0.0


def _mapped() -> int:
    """Address space that this process has (bytes): what its libraries took is no file's fault."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="list the places whose change passed, being free by nature")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, frames = copper_frames(12, seed=1), copper_frames(4, seed=2)[2:]
    counts: Counter[tuple[str, str]] = Counter()
    free: Counter[str] = Counter()
    failures, slowest, largest = [], 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_gap().fit(train).save(folder / "sparse")
        small_gap().fit(train).save(folder / "updatable", updatable=True)
        exact_gap().fit(train).save(folder / "exact")
        for k, model in enumerate(("sparse", "updatable", "exact")):
            expected = predictions(gapkit.load(folder / model), frames)
            mutator = iter(Mutator(folder / model, 3 * arguments.seed + k))
            for _ in range(-(-arguments.n // 3)):
                mutation = next(mutator)
                path = folder / "mutated"
                path.write_bytes(mutation.data)
                begin = time.monotonic()
                found, memory = in_child(path, frames, expected)
                slowest, largest = max(slowest, time.monotonic() - begin), max(largest, memory)
                counts[mutation.sealed, found.split(":")[0]] += 1
                if found == "different" and mutation.is_free:
                    free[mutation.place] += 1
                elif found not in ("refused", "same"):
                    failures.append(f"{model}: {mutation.kind} of {mutation.place}, sealed: {mutation.sealed}: {found}")
    print("| sealed | verdict | files |\n|---|---|---|")
    for (how, found), count in sorted(counts.items()):
        print(f"| {how} | {found} | {count} |")
    print(f"slowest {slowest:.1f} s, most memory {largest:.0f} MB")
    if arguments.list:
        print("free by nature:", ", ".join(f"{place} {count}" for place, count in sorted(free.items())))
    print("\n".join(failures) or "no failure")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
