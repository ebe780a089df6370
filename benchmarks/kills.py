"""SIGKILL at random moments of long runs: what is on disk stays whole, and the runs go on to an equal result.

    OMP_NUM_THREADS=1 python benchmarks/kills.py [--n 100] [--seed 0] [CASE ...]

Cases: fit (with a checkpoint), tune, active, md, growth, fracture; all of them by default. Each is a tiny system whose
run takes seconds. It is run once in peace, then in child processes that are killed, again and again until ``--n`` of
them were, and each time it is complete its result is compared with that of the run in peace, and it begins anew.

After every kill the file of results is the old one or a whole new one, and every file of state can be read. At every
end the result is the same to the last bit, no step that a file of state held was made again (a label, a trial, a stage,
a crack), and the folder holds the same files as in peace: no remains. Exit code 1 where that fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.build import bulk
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

import gapkit
from gapkit.active import labelling
from gapkit.apps.fracture import run as fracture
from gapkit.apps.fracture.cleaving_silicon import CleavingSilicon
from gapkit.apps.growth import simulation
from gapkit.apps.growth.lattice_barriers import COUNTS, LatticeBarriers
from gapkit.cli import active, fit, md, outputs  # noqa: F401  loaded before processes are forked
from gapkit.cli.main import main
from gapkit.fitting import decisions, shape_choice
from gapkit.model_selection import Candidate, tuning
from gapkit.sampling import md_files
from tests.conftest import copper_frames, small_gap

ACTIVE = """
folder = "run"
initial = "first.xyz"
batch = 2
workers = 0
random_state = 3
[model]
folds = 3
random_state = 0
[[model.terms]]
name = "soap"
r_cut = 4.0
n_max = 3
l_max = 2
n_sparse = 20
[oracle]
name = "emt"
[explorer]
kind = "pool"
frames = "pool.xyz"
[stop]
generations = 4
"""
#: what takes back the changes of a case to modules
UNDO: list[Callable[[], None]] = []
#: a child that is left alone for so long (s) hangs
LONGEST = 120.0
#: list of the steps that a run has finished, one line each
STEPS = "steps.log"


def archive(path: Path) -> dict[str, bytes]:
    """Content of a model file, without the times at which it was written."""
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def arrays(path: Path) -> dict[str, bytes]:
    """Content of a file of NumPy's arrays, all of it read."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].tobytes() for name in file.files}


def change(module: Any, name: str, value: Any) -> None:
    """Give a name of a module another value, until the case is done."""
    real = getattr(module, name)
    UNDO.append(lambda: setattr(module, name, real))
    setattr(module, name, value)


def after(module: Any, name: str, step: Callable[..., str]) -> None:
    """Note a step each time that a function of a module is done; ``step`` makes its name from the arguments."""
    real = getattr(module, name)

    def noted(*arguments: Any, **keywords: Any) -> Any:
        result = real(*arguments, **keywords)
        with open(STEPS, "a") as file:
            file.write(f"{step(*arguments, **keywords)}\n")
        return result

    change(module, name, noted)


class Case:
    """One kind of run.

    :meth:`prepare` writes its inputs into the working folder, :meth:`run` is what the children do, and
    :meth:`states` and :meth:`result` read what is there.
    """

    #: files of results, which are old or new and whole
    written: tuple[str, ...] = ()

    def prepare(self) -> None:
        """Write inputs, and the old files that a run will replace."""

    def run(self) -> None:
        """Run, or go on."""
        raise NotImplementedError

    def states(self) -> None:
        """Read every file of state; an exception where one is damaged."""

    def result(self) -> Any:
        """What must be equal at the end."""
        raise NotImplementedError


class Fit(Case):
    """``gapkit fit --checkpoint``: default terms, a label to be left out, the choice of shape."""

    written = ("m.gapkit",)

    def prepare(self) -> None:
        frames = copper_frames(24, seed=3)
        frames[5].calc.results["energy"] += 20.0
        ase.io.write("train.xyz", frames, format="extxyz")
        Path("c.toml").write_text("folds = 3\n")
        small_gap().fit(copper_frames(8, seed=1)).save("m.gapkit")
        change(shape_choice, "FEWEST_LABELS", 100)
        change(shape_choice, "PILOT_SPARSE", 60)
        after(decisions.Decisions, "keep", lambda _, stage, table: stage)

    def run(self) -> None:
        command("fit", "train.xyz", "-o", "m.gapkit", "--config", "c.toml", "--checkpoint", "fit.npz", "--quiet")

    def states(self) -> None:
        gapkit.load("m.gapkit")
        if os.path.exists("fit.npz"):
            arrays(Path("fit.npz"))

    def result(self) -> Any:
        return archive(Path("m.gapkit")), json.loads(np.load("fit.npz")["state_decisions"].item())["levels"]


class Tune(Case):
    """``gapkit.model_selection.tune`` over three shapes in three rounds, and its model."""

    written = ("m.gapkit",)

    def prepare(self) -> None:
        self.frames = copper_frames(16, seed=3)
        pair, soap = (t.settings() for t in small_gap().terms)
        self.choices = [Candidate(f"{r} A", (pair, {**soap, "r_cut": r})) for r in (3.5, 4.0, 4.5)]
        small_gap().fit(copper_frames(8, seed=1)).save("m.gapkit")
        after(tuning, "_write_state", lambda state, run, known: "{} {}".format(*list(known)[-1]))

    def run(self) -> None:
        gap, _ = tuning.tune(small_gap(), self.frames, 60.0, self.choices, "tune.json")
        gap.save("m.gapkit")

    def states(self) -> None:
        gapkit.load("m.gapkit")
        if os.path.exists("tune.json"):
            json.loads(Path("tune.json").read_text())

    def result(self) -> Any:
        trials = json.loads(Path("tune.json").read_text())["trials"]
        return archive(Path("m.gapkit")), [{k: v for k, v in t.items() if k != "seconds"} for t in trials]


class Active(Case):
    """``gapkit active``: four generations from a pool, labels in the same process."""

    def prepare(self) -> None:
        bare = [a.copy() for a in copper_frames(24, seed=5)]
        ase.io.write("first.xyz", bare[:4], format="extxyz")
        ase.io.write("pool.xyz", bare, format="extxyz")
        Path("c.toml").write_text(ACTIVE)
        after(labelling, "_label", lambda folder, frame, *_: labelling.frame_key(labelling.frame_from_dict(frame)))

    def run(self) -> None:
        learning = active.build("c.toml", progress=False)
        learning.run()

    def states(self) -> None:
        for path in Path("run").rglob("[!.]*.json"):
            json.loads(path.read_text())
        state = Path("run/state.json")
        if state.exists():
            gapkit.load(Path("run") / json.loads(state.read_text())["model"])

    def result(self) -> Any:
        state = json.loads(Path("run/state.json").read_text())
        log = [{k: v for k, v in row.items() if k != "seconds"} for row in state["log"]]
        choices = [path.read_text() for path in sorted(Path("run").glob("choice-*.json"))]
        return log, state["keys"], choices, archive(Path("run") / state["model"])


class MolecularDynamics(Case):
    """``gapkit md --restart``: a thermostat, a state saved every few hundredths of a second."""

    def prepare(self) -> None:
        small_gap().fit(copper_frames(16, seed=1)).save("m.gapkit")
        ase.io.write("start.xyz", bulk("Cu", cubic=True) * (2, 2, 2))
        change(md_files, "SAVE_EVERY", 0.03)

    def run(self) -> None:
        command("md", "m.gapkit", "start.xyz", "-o", "run.xyz", "--restart", "--steps", "600", "--every", "5",
                "--ensemble", "nvt", "--temperature", "200", "--no-uncertainty")  # fmt: skip

    def states(self) -> None:
        state = Path("run.xyz.restart")
        if state.exists():  # what the state counts is there; a frame that a kill cut off may stand behind it
            with np.load(state) as file:
                size, frames = int(file["state_size"]), int(file["state_frames"])
            Path("../counted.xyz").write_bytes(Path("run.xyz").read_bytes()[:size])
            found = len(ase.io.read("../counted.xyz", ":"))
            if found != frames:
                raise ValueError(f"{found} frames where the state counts {frames}")

    def result(self) -> Any:
        return Path("run.xyz").read_bytes(), arrays(Path("run.xyz.restart"))


class Growth(Case):
    """``run_growth`` with a checkpoint, and its numbers as JSON."""

    written = ("growth.json",)

    def prepare(self) -> None:
        self.barriers = LatticeBarriers(np.full(len(COUNTS), 0.45), 0.15, 0.0, np.inf)
        self.settings = simulation.GrowthSettings(
            size=48, temperature=350.0, flux=3e4, duration=1.5 / 3e4, n_records=40, keep_heights=True
        )
        Path("growth.json").write_text("{}\n")

    def run(self) -> None:
        grown = simulation.run_growth(self.barriers, self.settings, checkpoint="growth.npz", random_state=3)
        names = ("time", "mean_height", "roughness", "step_density", "adatoms", "events")
        outputs.write_json(Path("growth.json"), {name: getattr(grown, name).tolist() for name in names})

    def states(self) -> None:
        json.loads(Path("growth.json").read_text())
        if os.path.exists("growth.npz"):
            simulation.Surface.load("growth.npz")

    def result(self) -> Any:
        return Path("growth.json").read_bytes(), arrays(Path("growth.npz"))


class Fracture(Case):
    """``run_fracture`` with a checkpoint, and its numbers as JSON."""

    written = ("fracture.json",)

    def prepare(self) -> None:
        from gapkit.apps.fracture.crystals import Material

        self.material = Material.measured(CleavingSilicon())
        self.settings = fracture.FractureSettings(
            systems=("(111)[1-10]", "(110)[001]"), modes=(0.0, 0.2), radius=9.0, factor=1.06, strains=(0.04,)
        )
        Path("fracture.json").write_text("{}\n")
        after(fracture.LabelFile, "keep", lambda _, name, *__: name)

    def run(self) -> None:
        result = fracture.run_fracture(self.material, self.settings, checkpoint="cracks.npz", random_state=0)
        outputs.write_json(Path("fracture.json"), result.to_dict())

    def states(self) -> None:
        json.loads(Path("fracture.json").read_text())
        if os.path.exists("cracks.npz"):
            arrays(Path("cracks.npz"))

    def result(self) -> Any:
        return Path("fracture.json").read_bytes(), arrays(Path("cracks.npz"))


CASES: dict[str, type[Case]] = {
    "fit": Fit, "tune": Tune, "active": Active, "md": MolecularDynamics, "growth": Growth, "fracture": Fracture,
}  # fmt: skip


def command(*arguments: str) -> None:
    """A command of ``gapkit``; an exception where it fails."""
    code = main(list(arguments))
    if code:
        raise RuntimeError(f"gapkit {arguments[0]} ended with {code}")


def child(case: Case, folder: Path) -> int:
    """Process that runs the case in a folder; what it prints goes to a file beside the folder."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.chdir(folder)
        with open("../child.log", "a") as log, redirect_stdout(log), redirect_stderr(log):
            case.run()
        code = 0
    except BaseException as error:  # whatever it is, the process must end here
        with suppress(OSError):
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def ended(pid: int, seconds: float | None = None) -> int | None:
    """Exit code of a child, negative after a signal; None where it still runs after so many seconds."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, 0 if end is None else os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            return None
        time.sleep(0.002)


def names(folder: Path) -> set[str]:
    """Names of all files below a folder, but for the log of steps."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {STEPS}


class Trial:
    """Kills of one case; the counts of what was seen, and the faults."""

    def __init__(self, name: str, root: Path, seed: int) -> None:
        self.name, self.root, self.rng = name, root, random.Random(f"{name} {seed}")
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.inputs, self.peace, self.killed = root / "inputs", root / "peace", root / "killed"
        self.inputs.mkdir(parents=True)
        self.case = CASES[name]()
        with _inside(self.inputs):
            self.case.prepare()
        self.old = {name: (self.inputs / name).read_bytes() for name in self.case.written}
        self.seconds = 0.0
        for _ in range(2):  # the first compiles what is not compiled yet
            self.begin(self.peace)
            start = time.monotonic()
            if ended(child(self.case, self.peace)) != 0:
                raise SystemExit(f"{name}: the run in peace failed: {(root / 'child.log').read_text()[-500:]}")
            self.seconds = time.monotonic() - start
        with _inside(self.peace):
            self.expected = self.case.result()

    def begin(self, folder: Path) -> None:
        """A folder with nothing but the inputs."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.inputs, folder)

    def kill(self, n: int) -> None:
        """Kill until there were ``n`` kills, and let the run come to its end."""
        self.begin(self.killed)
        since = 0
        while self.seen["kills"] < n or since:
            pid = child(self.case, self.killed)
            peace = self.seen["kills"] >= n
            code = ended(pid, LONGEST if peace else self.rng.uniform(0, 1.05) ** 2 * self.seconds)
            if code is None:
                os.kill(pid, signal.SIGKILL)
                code = ended(pid)
                if peace:
                    self.faults.append(f"it did not end within {LONGEST} s")
                    return
            if code == -signal.SIGKILL:
                since += 1
                self.seen["kills"] += 1
                self.look()
            elif code:
                self.faults.append(f"exit code {code} after {since} kills")
                self.begin(self.killed)
                since = 0
            else:
                self.complete()
                self.begin(self.killed)
                since = 0

    def look(self) -> None:
        """After a kill: results are old or new and whole, states can be read."""
        with _inside(self.killed):
            try:
                self.case.states()
            except Exception as error:  # any is a fault
                self.faults.append(f"after a kill: {type(error).__name__}: {error}")
            for name, old in self.old.items():
                if Path(name).read_bytes() == old:
                    self.seen["old file"] += 1
                else:
                    self.seen["new file"] += 1
        self.seen["temporary files after a kill"] += sum(".gapkit-" in name for name in names(self.killed))

    def complete(self) -> None:
        """At an end: the result of the run in peace, the same files, no step made twice."""
        self.seen["ends"] += 1
        with _inside(self.killed):
            if self.case.result() == self.expected:
                self.seen["equal"] += 1
            else:
                self.faults.append("the result differs")
        more = names(self.killed) ^ names(self.peace)
        if more:
            self.faults.append(f"remains, or missing files: {sorted(more)}")
        steps = (self.killed / STEPS).read_text().split("\n") if (self.killed / STEPS).exists() else []
        twice = [step for step, count in Counter(filter(None, steps)).items() if count > 1]
        self.seen["steps"] += len(set(filter(None, steps)))
        if twice:
            self.faults.append(f"made twice: {twice}")

    def __str__(self) -> str:
        s = self.seen
        return (
            f"{self.name:<9} {self.seconds:>6.2f} {s['kills']:>6} {s['ends']:>5} {s['equal']:>6} {s['old file']:>5} "
            f"{s['new file']:>5} {s['temporary files after a kill']:>6} {s['steps']:>6} {len(self.faults):>7}"
        )


class _inside:
    """The working folder of a block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.before = os.getcwd()
        os.chdir(self.folder)

    def __exit__(self, *_: Any) -> None:
        os.chdir(self.before)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], default=[], metavar="CASE")
    parser.add_argument("--n", type=int, default=100, help="kills of each case")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


def run(options: argparse.Namespace) -> int:
    """Exit code: 1 where anything failed."""
    warnings.simplefilter("ignore")
    tqdm.set_lock(threading.RLock())  # its usual lock is shared by forked processes, and a killed one keeps it
    print(f"{'case':<9} {'s':>6} {'kills':>6} {'ends':>5} {'equal':>6} {'old':>5} {'new':>5} {'temp':>6} {'steps':>6} "
          f"{'faults':>7}", flush=True)  # fmt: skip
    failed = False
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory() as root:
            try:
                trial = Trial(name, Path(root), options.seed)
                trial.kill(options.n)
            finally:
                while UNDO:
                    UNDO.pop()()
        print(trial, flush=True)
        for fault, count in Counter(trial.faults).items():
            print(f"    {count} times: {fault}", flush=True)
        failed |= bool(trial.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(run(arguments()))
