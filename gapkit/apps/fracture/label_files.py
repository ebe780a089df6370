"""Finished cracks of a run in a file: a run that was killed labels none of them again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gapkit.apps.fracture.bond_labels import COLUMNS, BondLabels, BondStress, LoadingHistory
from gapkit.apps.fracture.clusters import Cluster, RimLoad
from gapkit.apps.fracture.crystals import Material
from gapkit.checkpoints import Checkpoint
from gapkit.exceptions import DataError
from gapkit.fingerprints import described, run_fingerprint
from gapkit.safe_write import check_target, shown
from gapkit.sampling.relaxation import Relaxed
from gapkit.settings import Settings


class LabelFile:
    """Loading histories and labelled bonds of the cracks and crystals that are finished, by their names.

    Parameters
    ----------
    path
        File that keeps them; None: nothing is kept.
    material, settings, stress
        Input of the run; a file of another run is refused.

    Raises
    ------
    SettingsError
        For a file of another run, with what differs.
    DataError
        For a file that is no complete checkpoint, or that cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike | None, material: Material, settings: Settings, stress: BondStress
    ) -> None:
        self._checkpoint: Checkpoint | None = None
        self._arrays: dict[str, np.ndarray] = {}
        if path is None:
            return
        check_target(path, DataError)
        crystal = {name: value for name, value in vars(material).items() if name != "calculator"}
        oracle = {"calculator": described(material.calculator)}
        run = run_fingerprint([], {**settings.as_dict(), "material": crystal, "stress": stress}, oracle)
        self._checkpoint = Checkpoint(path, {"kind": "fracture", **run})
        self._arrays = self._checkpoint.load() or {}

    def labels(self, name: str) -> BondLabels | None:
        """Labelled bonds of a crack or strained crystal; None where it is not finished."""
        found = self._part(f"{name}/labels/")
        if not found:
            return None
        try:
            columns = {c: found[c] for c in COLUMNS}
            return BondLabels(**columns, names=tuple(map(str, found["names"])))
        except KeyError as error:
            raise self._damaged(error) from None

    def history(self, name: str, cluster: Cluster) -> LoadingHistory | None:
        """Loading history of a crack; None where it is not finished."""
        found = self._part(f"{name}/history/")
        if not found:
            return None
        try:
            loads = tuple(RimLoad(float(k[0]), float(k[1]), tuple(map(float, k[2:]))) for k in found["loads"])  # type: ignore[arg-type]
            numbers = zip(found["energies"], found["forces"], found["evaluations"], found["positions"], strict=True)
            states = tuple(Relaxed(x, float(e), float(f), int(n)) for e, f, n, x in numbers)
            ends = [tuple(map(float, found[k])) or None for k in ("rupture", "healing")]
            mode = float(found["mode"])
            return LoadingHistory(cluster, mode, loads, states, ends[0], ends[1], int(found["broke"]), name)  # type: ignore[arg-type]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise self._damaged(error) from None

    def keep(self, name: str, labels: BondLabels, history: LoadingHistory | None = None) -> None:
        """Keep the labels of a crack with its loading history, or those of a strained crystal, which has none."""
        if self._checkpoint is None:
            return
        columns = {c: getattr(labels, c) for c in COLUMNS} | {"names": np.array(labels.names)}
        self._arrays |= {f"{name}/labels/{c}": array for c, array in columns.items()}
        if history is not None:
            self._arrays |= {f"{name}/history/{k}": array for k, array in _arrays_of(history).items()}
        self._checkpoint.save(self._arrays)

    def _part(self, begin: str) -> Mapping[str, np.ndarray]:
        return {k.removeprefix(begin): array for k, array in self._arrays.items() if k.startswith(begin)}

    def _damaged(self, error: Exception) -> DataError:
        assert self._checkpoint is not None
        return DataError(f"{shown(self._checkpoint.path)}: not a checkpoint of fracture ({error}); remove it")


def _arrays_of(history: LoadingHistory) -> dict[str, Any]:
    """A loading history as arrays, without its cluster."""
    loads = [asdict(load) for load in history.loads]
    return {
        "mode": np.array(history.mode),
        "loads": np.array([(k["kI"], k["kII"], *k["strain"]) for k in loads]),
        "positions": np.array([s.positions for s in history.states]),
        "energies": np.array([s.energy for s in history.states]),
        "forces": np.array([s.force for s in history.states]),
        "evaluations": np.array([s.evaluations for s in history.states]),
        "rupture": np.array(history.rupture or ()),
        "healing": np.array(history.healing or ()),
        "broke": np.array(history.broke),
    }
