"""Labels from an oracle in worker processes, each written to disk by the worker the moment it is known."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.calculators.singlepoint import SinglePointCalculator

from gapkit.checkpoints import differences
from gapkit.exceptions import DataError, SettingsError
from gapkit.fingerprints import oracle_description
from gapkit.potential.locked_calculator import LockedCalculator
from gapkit.safe_write import make_folder, replacing
from gapkit.structures.labels import cell_volume

#: forces beyond this (eV/A) are a failure of the reference method, or atoms on top of each other
LARGEST_FORCE = 1e3


def frame_key(atoms: ase.Atoms) -> str:
    """SHA-256 of numbers, positions (to 1e-9 A), cell and periodicity: the name of a frame's label."""
    digest = hashlib.sha256()
    for part in (atoms.numbers, np.round(atoms.positions, 9) + 0.0, np.round(atoms.cell.array, 9) + 0.0, atoms.pbc):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:32]


def frame_to_dict(atoms: ase.Atoms) -> dict[str, Any]:
    """JSON-ready dictionary of a frame, exact to the last digit."""
    names = {k: atoms.info[k] for k in ("config_type", "trajectory") if k in atoms.info}
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "info": {k: str(v) for k, v in names.items()},
    }


def frame_from_dict(table: dict[str, Any]) -> ase.Atoms:
    """Frame from a dictionary that :func:`frame_to_dict` made."""
    atoms = ase.Atoms(table["numbers"], positions=table["positions"], cell=table["cell"], pbc=table["pbc"])
    atoms.info.update(table["info"])
    return atoms


class StoredLabels(LockedCalculator):
    """Oracle with the stored labels of a pool of frames, to test strategies without cost."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, frames: Sequence[ase.Atoms]) -> None:
        super().__init__()
        self._known = {frame_key(a): a.calc.results for a in frames}

    def fingerprint(self) -> dict[str, Any]:
        """The stored labels, for :func:`gapkit.fingerprints.described`."""
        return self._known

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        key = frame_key(self.atoms)
        if key not in self._known:
            raise DataError("the frame is not in the pool whose labels are stored")
        self.results = dict(self._known[key])
        if "stress" in properties and "stress" not in self.results:
            raise PropertyNotImplementedError("the stored labels have no stress")


class LabelStore:
    """A folder of labels, one file per frame: there or not there, never half.

    Each label says which oracle made it.

    Oracles that work with files in ASE's way (``directory``) do so in ``runs/KEY-0`` below it, KEY being the frame's
    (:func:`frame_key`), and in ``runs/KEY-1`` and so on where they are asked again: no run sees the files of another.

    Parameters
    ----------
    folder
        Made if it does not exist.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = make_folder(folder, DataError)

    def path(self, atoms: ase.Atoms) -> Path:
        """The file of a frame's label."""
        return self.folder / f"{frame_key(atoms)}.json"

    def check_oracle(self, atoms: ase.Atoms, oracle: Mapping[str, Any]) -> None:
        """Raise :class:`SettingsError` where the label of a frame was made by another oracle; older ones do not say.

        ``oracle`` is a description by :func:`gapkit.fingerprints.oracle_description`.
        """
        before = self._table(atoms).get("oracle", oracle)
        differ = differences({"oracle": before}, {"oracle": oracle})
        if differ:
            raise SettingsError(
                f"{self.folder}: holds labels of another {', '.join(differ)}; give the oracle that they were made "
                "with, or another folder"
            )

    def _table(self, atoms: ase.Atoms) -> dict[str, Any]:
        """Content of the file of a frame's label."""
        path = self.path(atoms)
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path}: not a label ({error}); remove the file to label the frame again") from None

    @contextmanager
    def run_folder(self, atoms: ase.Atoms, chosen: str | os.PathLike = ".") -> Iterator[Path]:
        """A new folder for one run of an oracle on this frame; it stays unless the oracle has left it empty.

        It lies in ``runs`` of the store, or in the folder ``chosen`` for the oracle.
        """
        runs = make_folder(self.folder / "runs" if Path(chosen) == Path() else chosen, DataError).resolve()
        for number in itertools.count():
            folder = runs / f"{frame_key(atoms)}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            except OSError as error:
                raise DataError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from None
            break
        try:
            yield folder
        finally:
            for empty in (folder, runs):
                with suppress(OSError):
                    empty.rmdir()

    def __contains__(self, atoms: ase.Atoms) -> bool:
        return self.path(atoms).is_file()

    def get(self, atoms: ase.Atoms) -> ase.Atoms | None:
        """The labelled frame; None where the oracle failed.

        Raises
        ------
        DataError
            Where there is no label, or its file is not one.
        """
        table = self._table(atoms)
        if "failed" in table:
            return None
        try:
            labelled = frame_from_dict(table["frame"])
            labels = {k: np.array(v) if k != "energy" else float(v) for k, v in table["labels"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            where = self.path(atoms)
            raise DataError(f"{where}: not a label ({error}); remove the file to label the frame again") from None
        labelled.calc = SinglePointCalculator(labelled, **labels)
        return labelled

    def failure(self, atoms: ase.Atoms) -> str | None:
        """Reason for which the oracle failed for a frame; None where it did not."""
        return self._table(atoms).get("failed")


@dataclass(frozen=True)
class _Oracle:
    """Factory of calculators, and the description that is kept with each label."""

    make: Callable[[], Any]
    description: dict[str, Any]


def _label(
    folder: str, frame: dict[str, Any], make: Callable[[], Any], retries: int, oracle: Mapping[str, Any] | None = None
) -> None:
    """In a worker: label one frame and write the result, or the failure after so many retries.

    ``oracle`` is the description that is kept with the label.
    """
    store, atoms = LabelStore(folder), frame_from_dict(frame)
    result: dict[str, Any] = {}
    for _ in range(retries + 1):
        try:
            calculator = make()
            with store.run_folder(atoms, getattr(calculator, "directory", None) or ".") as run:
                if hasattr(calculator, "directory"):
                    calculator.directory = str(run)
                result = {"frame": frame, "labels": _compute(atoms, calculator)}
            break
        except Exception as error:  # an oracle is somebody else's program and raises what it likes
            result = {"frame": frame, "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    with replacing(store.path(atoms)) as temporary:
        temporary.write_text(json.dumps({**result, "oracle": oracle} if oracle else result), encoding="utf-8")


def _end_with_parent(parent: int) -> None:
    """In a worker: end when the parent has been killed, instead of waiting for work for ever."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _compute(atoms: ase.Atoms, calculator: Any) -> dict[str, Any]:
    """Energy, forces, and stress where the oracle has one, checked."""
    atoms = atoms.copy()
    atoms.calc = calculator
    labels: dict[str, Any] = {"energy": _consistent_energy(atoms), "forces": atoms.get_forces().tolist()}
    if cell_volume(atoms) is not None and atoms.pbc.all():
        with suppress(PropertyNotImplementedError, NotImplementedError):
            labels["stress"] = atoms.get_stress().tolist()
    if not all(np.isfinite(v).all() for v in labels.values()):
        raise DataError("the oracle gave a number that is not finite")
    if np.abs(labels["forces"]).max() > LARGEST_FORCE:
        raise DataError(f"the oracle gave a force above {LARGEST_FORCE:g} eV/A")
    return labels


def _consistent_energy(atoms: ase.Atoms) -> float:
    """The energy (eV) that the forces are derivatives of: with smeared electrons their free energy."""
    with suppress(PropertyNotImplementedError, NotImplementedError):
        return float(atoms.get_potential_energy(force_consistent=True))
    return float(atoms.get_potential_energy())


def label_frames(
    frames: Sequence[ase.Atoms],
    make: Callable[[], Any],
    store: LabelStore,
    workers: int = 1,
    retries: int = 1,
    on_label: Callable[[], Any] = lambda: None,
) -> list[ase.Atoms]:
    """Labelled frames, in order, without those for which the oracle failed; frames in ``store`` are not computed again.

    Parameters
    ----------
    make
        Returns a new ASE calculator, whose ``directory`` is then set to a folder of the label
        (:meth:`LabelStore.run_folder`); a function that a process can import, such as
        ``functools.partial(gapkit.oracles.oracle, "gfn2")``.
    workers
        Processes; 0: in this one.
    retries
        Further tries after a failure. A worker that dies counts as one.
    on_label
        Called as each label (or failure) is there.

    Raises
    ------
    SettingsError
        For a number of workers or retries that cannot work, and a store with labels of another oracle.
    """
    if workers < 0 or retries < 0:
        raise SettingsError(f"workers and retries must be at least 0, not {workers} and {retries}")
    oracle = _Oracle(make, oracle_description(make) if len(frames) else {})
    for atoms in frames:
        if atoms in store:
            store.check_oracle(atoms, oracle.description)
    waiting = list({frame_key(a): a for a in frames if a not in store}.values())
    if workers == 0:
        for atoms in waiting:
            _label(str(store.folder), frame_to_dict(atoms), make, retries, oracle.description)
            on_label()
    else:
        _in_processes(waiting, oracle, store, workers, retries, on_label)
    return [labelled for atoms in frames if (labelled := store.get(atoms)) is not None]


def _in_processes(
    waiting: list[ase.Atoms],
    oracle: _Oracle,
    store: LabelStore,
    workers: int,
    retries: int,
    on_label: Callable[[], Any],
) -> None:
    """Label in a pool; where a worker dies, in a new pool, and one frame at a time so that the culprit is known."""
    deaths: dict[str, int] = {}
    together = True
    while waiting:
        batch = waiting if together else waiting[:1]
        _one_pool(batch, oracle, store, workers, retries, on_label)
        left = [a for a in waiting if a not in store]
        if not together and left and left[0] is waiting[0]:
            key = frame_key(left[0])
            deaths[key] = deaths.get(key, 0) + 1
            if deaths[key] > retries:
                with replacing(store.path(left[0])) as temporary:
                    died = {"frame": frame_to_dict(left[0]), "failed": "the oracle's process died"}
                    died["oracle"] = oracle.description
                    temporary.write_text(json.dumps(died), encoding="utf-8")
                on_label()
                left = left[1:]
        together = together and len(left) == 0
        waiting = left


def _one_pool(
    batch: Sequence[ase.Atoms],
    oracle: _Oracle,
    store: LabelStore,
    workers: int,
    retries: int,
    on_label: Callable[[], Any],
) -> None:
    """One pool for a batch; returns early when it breaks."""
    context = multiprocessing.get_context("spawn")
    size = min(workers, len(batch))
    with ProcessPoolExecutor(size, context, _end_with_parent, (os.getpid(),)) as pool:
        work = (oracle.make, retries, oracle.description)
        jobs: list[Future] = [pool.submit(_label, str(store.folder), frame_to_dict(a), *work) for a in batch]
        for job in as_completed(jobs):
            try:
                job.result()
            except BrokenProcessPool:
                return
            on_label()
