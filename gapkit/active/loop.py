"""The loop of active learning: explore, choose, label, learn. A run that was killed continues from disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np
from sklearn.base import clone

from gapkit.active.acquisition import Acquisition, Candidates, DOptimal
from gapkit.active.explorers import Explorer
from gapkit.active.labelling import LabelStore, frame_from_dict, frame_key, frame_to_dict, label_frames
from gapkit.checkpoints import differences
from gapkit.estimators.gap import GAP, load
from gapkit.exceptions import DataError, GapkitError, SettingsError
from gapkit.fingerprints import oracle_description, run_fingerprint
from gapkit.progress import progress_bar, report
from gapkit.safe_write import replacing
from gapkit.structures.labels import labelled_frames


@dataclass(frozen=True)
class Stop:
    """Criteria by which the loop ends; the first that holds counts.

    Attributes
    ----------
    generations
        Most generations.
    labels
        Most labels, those of the initial frames included; None: no limit.
    local_std
        It ends when no candidate has an atom whose local energy is less certain than this (eV); None: no such rule.
    """

    generations: int = 10
    labels: int | None = None
    local_std: float | None = None


@dataclass(frozen=True)
class Generation:
    """Record of one generation of the loop: a line of its log.

    Attributes
    ----------
    generation, labels, failures, candidates : int
        Labels and failures so far; candidates of this generation (0 for the initial fit).
    largest_std, mean_std : float or None
        Standard deviations of the candidates' local energies (eV), before this generation's labels: largest, and mean
        of each frame's largest.
    force_rmse, energy_rmse : float or None
        On the test frames, with this generation's labels: eV/A, meV/atom.
    refitted : bool
        Whether sparse points and levels were chosen anew; else the triangles were updated.
    seconds : float
    """

    generation: int
    labels: int
    failures: int
    candidates: int
    largest_std: float | None
    mean_std: float | None
    force_rmse: float | None
    energy_rmse: float | None
    refitted: bool
    seconds: float


@dataclass
class ActiveLearning:
    """An active-learning run in a folder of its own.

    Everything that cost something is on disk before the loop goes on: each label by itself, each generation's choice
    before it is labelled, each generation's model and log line. A run that was killed goes on from there, labels
    nothing twice, and chooses as it would have chosen: random numbers follow from ``random_state`` and the generation.

    Parameters
    ----------
    folder
        For labels, models and the log.
    gap
        An unfitted model.
    initial
        First frames; those without labels are labelled.
    explorer, acquisition
        Where candidates come from, and which are labelled.
    make_oracle
        Returns a new ASE calculator; see :func:`gapkit.active.label_frames`.
    batch
        Labels per generation.
    stop
        When to end.
    test
        Labelled frames to follow the error on; never learned from.
    workers, retries
        Worker processes of the oracle, and trials after a failure.
    refit_growth
        Sparse points and levels are chosen anew when there are this many times more frames than at the last fit; in
        between the triangles are updated. ``inf``: never.
    random_state
        Seed, a whole number of at least 0.
    settings
        JSON-ready: what else a run in this folder must not differ in (the command line passes its configuration).
        Initial frames and their labels, test frames, model, explorer, acquisition, batch, random_state, oracle and
        version are compared in any case.
    """

    folder: str | os.PathLike
    gap: GAP
    initial: Sequence[ase.Atoms]
    explorer: Explorer
    make_oracle: Callable[[], Any]
    acquisition: Acquisition = field(default_factory=DOptimal)
    batch: int = 5
    stop: Stop = field(default_factory=Stop)
    test: Sequence[ase.Atoms] | None = None
    workers: int = 1
    retries: int = 1
    refit_growth: float = 1.5
    random_state: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    progress: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1 or not self.refit_growth >= 1:
            raise SettingsError(
                f"batch must be at least 1 and refit_growth at least 1, not {self.batch} and {self.refit_growth}"
            )
        if not isinstance(self.random_state, int | np.integer) or self.random_state < 0:
            raise SettingsError(
                f"random_state must be a whole number of at least 0, not {self.random_state!r}: a run that continues "
                "draws the same numbers"
            )
        if not len(self.initial):
            raise SettingsError("active learning needs initial frames; give at least a few")
        self._unfitted = clone(self.gap)  # a model from a file has lost what "auto" meant
        self.root = Path(self.folder)
        self.store = LabelStore(self.root / "labels")

    # ---- state on disk

    def _read(self, name: str) -> Any:
        """A JSON file of the folder, or None."""
        path = self.root / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{path}: cannot be read ({error}); remove the folder to start again") from None

    def _write(self, name: str, table: Any) -> None:
        with replacing(self.root / name) as temporary:
            temporary.write_text(json.dumps(table, indent=1), encoding="utf-8")

    def _check_settings(self) -> None:
        run, before = self._fingerprint(), self._read("settings.json")
        if before is None:
            self._write("settings.json", run)
            return
        differ = differences(before if isinstance(before, dict) else {}, run)
        if differ:
            raise SettingsError(
                f"{self.root}: holds a run with other {', '.join(differ)}; use what it was made with, or another "
                f"folder (labels of the same oracle count there too: copy {self.store.folder.name})"
            )

    def _fingerprint(self) -> dict[str, Any]:
        """All that the course of the run depends on, but for its end."""
        gap = self._unfitted
        keys = (gap.energy_key, gap.forces_key, gap.virial_key)
        chosen = {
            name: getattr(self, name) for name in ("random_state", "batch", "refit_growth", "explorer", "acquisition")
        }
        model = {name: value for name, value in gap.get_params(deep=False).items() if name != "n_jobs"}
        settings = {**chosen, "model": model}
        settings |= {name: [settings.get(name), given] for name, given in self.settings.items()}
        frames = labelled_frames(list(self.initial), *keys, require_labels=False)
        run = run_fingerprint(frames, settings, oracle_description(self.make_oracle))
        if self.test:
            tests = run_fingerprint(labelled_frames(list(self.test), *keys, require_labels=False), {})
            run["test frames"] = [tests["frames"], tests["labels"]]
        return run

    def _baseline(self) -> Any:
        """Baseline that :func:`gapkit.load` must be given: a calculator that a model file cannot hold, else None."""
        kept = (
            self.gap.baseline is None
            or isinstance(self.gap.baseline, str | dict)
            or hasattr(self.gap.baseline, "settings")
        )
        return None if kept else self.gap.baseline

    # ---- the loop

    def run(self) -> list[Generation]:
        """Run the loop, or continue the run in the folder; return the log.

        The fitted model is then ``gap``, and in the folder as ``model-NNNN.gapkit``.

        Raises
        ------
        SettingsError
            For a folder that holds a run with other frames, labels, settings, oracle or version, with what differs.
        DataError
            Where the oracle failed for all initial frames, or a file of the folder was damaged.
        """
        self._check_settings()
        state = self._read("state.json")
        if state is None:
            state = self._first_fit()
        else:
            self.gap = load(self.root / state["model"], self._baseline())
        while not self._finished(state):
            following = self._generation(state)
            if following is None:
                break
            state = following
        return [Generation(**row) for row in state["log"]]

    def _finished(self, state: dict[str, Any]) -> bool:
        log = state["log"][-1]
        if log["generation"] >= self.stop.generations:
            return True
        return self.stop.labels is not None and log["labels"] >= self.stop.labels

    def _first_fit(self) -> dict[str, Any]:
        begin = time.perf_counter()
        with_labels = [a for a in self.initial if a.calc is not None]
        bare = [a for a in self.initial if a.calc is None]
        labelled = with_labels + self._labelled(bare, "initial frames")
        if not labelled:
            raise DataError("the oracle failed for all initial frames: " + str(self.store.failure(bare[0])))
        self.gap = clone(self._unfitted).fit(labelled)
        failures = len(bare) + len(with_labels) - len(labelled)
        return self._record(
            {"log": [], "fitted": len(labelled), "keys": []}, failures, None, True, begin, len(labelled)
        )

    def _generation(self, state: dict[str, Any]) -> dict[str, Any] | None:
        """One generation; None where there is nothing left to choose."""
        begin, number = time.perf_counter(), len(state["log"])
        choice = self._read(f"choice-{number:04d}.json")
        if choice is None:
            choice = self._choose(state, number)
            self._write(f"choice-{number:04d}.json", choice)
        frames = [frame_from_dict(f) for f in choice["frames"]]
        if not frames:
            return None
        added = self._labelled(frames, f"generation {number}")
        keys = state["keys"] + [frame_key(a) for a in frames]
        total = state["log"][-1]["labels"] + len(added)
        refit = total >= self.refit_growth * state["fitted"]
        if refit:
            self.gap = clone(self._unfitted).fit(self._all_labelled(keys))
        elif added:
            self.gap.update(added)
        state = {**state, "keys": keys, "fitted": total if refit else state["fitted"]}
        failures = state["log"][-1]["failures"] + len(frames) - len(added)
        return self._record(state, failures, choice, refit, begin, total)

    def _choose(self, state: dict[str, Any], number: int) -> dict[str, Any]:
        """Candidates, their standard deviations, and the chosen frames."""
        rng = np.random.default_rng([self.random_state, number])
        taken = set(state["keys"]) | {frame_key(a) for a in self.initial}
        frames = [a for a in self.explorer(self.gap, rng) if frame_key(a) not in taken]
        if not frames:
            return {"frames": [], "candidates": 0, "largest_std": None, "mean_std": None}
        candidates = Candidates.of(self.gap, frames)
        largest = candidates.largest_std
        table = {
            "candidates": len(frames),
            "largest_std": float(largest.max()),
            "mean_std": float(largest.mean()),
        }
        if self.stop.local_std is not None and largest.max() < self.stop.local_std:
            return {**table, "frames": []}
        most = self.batch
        if self.stop.labels is not None:
            most = min(most, self.stop.labels - state["log"][-1]["labels"])
        chosen = self.acquisition(candidates, most, rng)
        return {**table, "frames": [frame_to_dict(frames[k]) for k in chosen]}

    def _labelled(self, frames: Sequence[ase.Atoms], what: str) -> list[ase.Atoms]:
        with progress_bar(total=len(frames), desc=what, unit="label", show=self.progress) as progress:
            progress.update(sum(a in self.store for a in frames))
            return label_frames(frames, self.make_oracle, self.store, self.workers, self.retries, progress.update)

    def _all_labelled(self, keys: Sequence[str]) -> list[ase.Atoms]:
        """The initial frames and all chosen ones, as far as they have labels."""
        frames = [a if a.calc is not None else self.store.get(a) for a in self.initial]
        for number in range(1, 1 + len(list(self.root.glob("choice-*.json")))):
            choice = self._read(f"choice-{number:04d}.json") or {"frames": []}
            frames += [self.store.get(a) for a in map(frame_from_dict, choice["frames"]) if frame_key(a) in set(keys)]
        return [a for a in frames if a is not None]

    def _record(
        self,
        state: dict[str, Any],
        failures: int,
        choice: dict[str, Any] | None,
        refit: bool,
        begin: float,
        labels: int,
    ) -> dict[str, Any]:
        """Save the model and the log line; the state file comes last, so that it never names what is not there."""
        number = len(state["log"])
        summary = self.gap.evaluate(self.test, uncertainty=False).summary if self.test else {}
        row = Generation(
            number, labels, failures, choice["candidates"] if choice else 0,
            choice["largest_std"] if choice else None, choice["mean_std"] if choice else None,
            summary.get("force_rmse_ev_per_ang"), summary.get("energy_rmse_mev_per_atom"), refit,
            round(time.perf_counter() - begin, 2),
        )  # fmt: skip
        model = f"model-{number:04d}.gapkit"
        self.gap.save(self.root / model, updatable=True)
        state = {**state, "model": model, "log": [*state["log"], asdict(row)]}
        self._write("state.json", state)
        with replacing(self.root / "log.txt") as temporary:
            temporary.write_text(log_table([Generation(**r) for r in state["log"]]) + "\n", encoding="utf-8")
        for old in self.root.glob("model-*.gapkit"):
            if old.name != model:
                old.unlink()
        if self.progress:
            report(log_table([row], header=number == 0))
        return state


def log_table(rows: Sequence[Generation], header: bool = True) -> str:
    """The log as text, one line per generation."""
    head = (
        f"{'gen':>4} {'labels':>7} {'failed':>7} {'candidates':>11} {'max std':>9} {'mean std':>9} {'F RMSE':>9} "
        f"{'E RMSE':>9} {'fit':>7} {'s':>7}\n"
        f"{'':>4} {'':>7} {'':>7} {'':>11} {'eV':>9} {'eV':>9} {'eV/A':>9} {'meV/atom':>9} {'':>7} {'':>7}"
    )

    def cell(value: float | None, digits: int) -> str:
        return f"{'-':>9}" if value is None else f"{value:>9.{digits}f}"

    lines = [head] if header else []
    for r in rows:
        lines.append(
            f"{r.generation:>4} {r.labels:>7} {r.failures:>7} {r.candidates:>11} {cell(r.largest_std, 5)} "
            f"{cell(r.mean_std, 5)} {cell(r.force_rmse, 4)} {cell(r.energy_rmse, 2)} "
            f"{'new' if r.refitted else 'update':>7} {r.seconds:>7.1f}"
        )
    return "\n".join(lines)


def read_log(folder: str | os.PathLike) -> list[Generation]:
    """The log of a run in ``folder``.

    Raises
    ------
    GapkitError
        Where there is none.
    """
    path = Path(folder) / "state.json"
    if not path.is_file():
        raise GapkitError(f"{folder}: holds no active-learning run")
    return [Generation(**row) for row in json.loads(path.read_text(encoding="utf-8"))["log"]]
