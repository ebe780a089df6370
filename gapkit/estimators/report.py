"""Errors and calibration of a potential on labelled frames."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gapkit.exceptions import DataError
from gapkit.potential.evaluation import Evaluation, Spread, uncertainty_kind
from gapkit.potential.potential import PASS, Potential
from gapkit.potential.spreads import batches
from gapkit.structures.labels import LabelledFrame


@dataclass
class Errors:
    """Errors of one set of frames; z is an error over its predicted standard deviation.

    Attributes
    ----------
    energy, energy_z : per frame, eV per atom, and dimensionless
    forces, forces_z : per component, eV/A
    virial : per component, eV per atom
    """

    n_frames: int = 0
    n_atoms: int = 0
    energy: list[float] = field(default_factory=list)
    energy_z: list[float] = field(default_factory=list)
    forces: list[np.ndarray] = field(default_factory=list)
    forces_z: list[np.ndarray] = field(default_factory=list)
    virial: list[np.ndarray] = field(default_factory=list)

    def add(self, frame: LabelledFrame, mean: Evaluation, spread: Spread | None) -> None:
        """Add the errors of one frame."""
        n = frame.n_atoms
        self.n_frames += 1
        self.n_atoms += n
        if frame.energy is not None:
            self.energy.append((mean.energy - frame.energy) / n)
            if spread is not None and spread.energy > 0:
                self.energy_z.append((mean.energy - frame.energy) / spread.energy)
        if frame.forces is not None:
            labels = frame.force_labels
            error = (mean.forces - frame.forces).ravel()[labels]
            self.forces.append(error)
            if spread is not None and spread.forces is not None:
                std = spread.forces.ravel()[labels]
                known = std > 0  # zero by symmetry, in a model that was fitted to no forces
                self.forces_z.append(error[known] / std[known])
        if frame.virial is not None and mean.virial is not None:
            self.virial.append((mean.virial - frame.virial) / n)

    def summary(self) -> dict[str, Any]:
        """Summary of the errors, by the names of the report's JSON; None where there are no labels."""
        forces = np.concatenate(self.forces) if self.forces else np.zeros(0)
        virial = np.concatenate(self.virial) if self.virial else np.zeros(0)
        energy = np.array(self.energy)
        forces_z = np.concatenate(self.forces_z) if self.forces_z else np.zeros(0)
        return {
            "n_frames": self.n_frames,
            "n_atoms": self.n_atoms,
            "energy_rmse_mev_per_atom": _rms(1e3 * energy),
            "energy_mae_mev_per_atom": _mae(1e3 * energy),
            "force_rmse_ev_per_ang": _rms(forces),
            "force_mae_ev_per_ang": _mae(forces),
            "virial_rmse_mev_per_atom": _rms(1e3 * virial),
            "energy_z_std": _rms(np.array(self.energy_z)),
            "force_z_std": _rms(forces_z),
        }


def _rms(x: np.ndarray) -> float | None:
    return float(np.sqrt(np.mean(x**2))) if len(x) else None


def _mae(x: np.ndarray) -> float | None:
    return float(np.mean(np.abs(x))) if len(x) else None


@dataclass(frozen=True)
class Report:
    """Errors on labelled frames, overall and per config_type; prints as a table.

    Attributes
    ----------
    summary : dict
        Keys as in :meth:`Errors.summary`; ``*_z_std`` is the root mean square of error over predicted standard
        deviation, one for honest error bars.
    config_types : dict
        Reports by config_type.
    energy, forces : dict
        ``reference``, ``predicted`` and ``std`` arrays (energies in eV per atom), for plots.
    """

    summary: dict[str, Any]
    config_types: dict[str, dict[str, Any]]
    energy: dict[str, np.ndarray]
    forces: dict[str, np.ndarray]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the summary and, under ``config_types``, of each config_type's."""
        return {**self.summary, "config_types": self.config_types}

    def to_json(self) -> str:
        """JSON text of :meth:`as_dict`."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        header = (
            f"{'config_type':<18} {'frames':>6} {'E RMSE':>9} {'E MAE':>9} {'F RMSE':>9} {'F MAE':>9} "
            f"{'V RMSE':>9} {'E z':>6} {'F z':>6}\n"
            f"{'':<18} {'':>6} {'meV/atom':>9} {'meV/atom':>9} {'eV/A':>9} {'eV/A':>9} {'meV/atom':>9}"
        )
        rows = [header]
        tables = {**self.config_types, "all": self.summary} if len(self.config_types) > 1 else {"all": self.summary}
        for name, s in tables.items():
            rows.append(
                f"{name:<18.18} {s['n_frames']:>6} {_cell(s['energy_rmse_mev_per_atom'], 2)} "
                f"{_cell(s['energy_mae_mev_per_atom'], 2)} {_cell(s['force_rmse_ev_per_ang'], 4)} "
                f"{_cell(s['force_mae_ev_per_ang'], 4)} {_cell(s['virial_rmse_mev_per_atom'], 2)} "
                f"{_cell(s['energy_z_std'], 2, 6)} {_cell(s['force_z_std'], 2, 6)}"
            )
        return "\n".join(rows)


def _cell(value: float | None, digits: int, width: int = 9) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


def _evaluated(
    potential: Potential, frames: Sequence[LabelledFrame], uncertainty: str | None, progress_bar: Any
) -> Iterator[tuple[LabelledFrame, Evaluation]]:
    """Each frame with its prediction, by passes over many frames; forces' error bars where there are such labels."""
    progress = iter(progress_bar(frames))
    for part in batches([f.n_atoms for f in frames], PASS):
        found: dict[int, Evaluation] = {}
        for kind in {None: (None,), "full": ("energy", "full")}.get(uncertainty, ("energy",)):
            chosen = list(frames[part])
            if uncertainty == "full":
                chosen = [f for f in chosen if (kind == "full") == (f.forces is not None)]
            names = [f"frame {f.index}" for f in chosen]
            means = potential.evaluate_many([f.atoms for f in chosen], kind, context=names)
            found.update(zip(map(id, chosen), means, strict=True))
        for frame in frames[part]:
            next(progress)
            yield frame, found[id(frame)]
    for _ in progress:
        pass


def evaluate_frames(
    potential: Potential,
    frames: Sequence[LabelledFrame],
    uncertainty: bool | str | None = True,
    progress_bar: Any = iter,
) -> Report:
    """Errors of ``potential`` on labelled frames; those without any label are left out.

    Raises
    ------
    DataError
        For a frame that the potential cannot compute (before the first is computed), and where none has a label.
    """
    total = Errors()
    types: dict[str, Errors] = {}
    energy: dict[str, list] = {"reference": [], "predicted": [], "std": []}
    forces: dict[str, list] = {"reference": [], "predicted": [], "std": []}
    labelled = [f for f in frames if not (f.energy is None and f.forces is None and f.virial is None)]
    # of a species known by its isolated atom alone, nothing was learned that could be judged
    labelled = [f for f in labelled if not f.is_isolated_atom or int(f.atoms.numbers[0]) in potential.species]
    if not labelled:
        raise DataError("none of the frames has a label to compare with")
    for frame in labelled:
        potential.check(frame.atoms, f"frame {frame.index}")
    for frame, mean in _evaluated(potential, labelled, uncertainty_kind(uncertainty), progress_bar):
        spread = mean.spread
        for errors in (total, types.setdefault(frame.config_type or "none", Errors())):
            errors.add(frame, mean, spread)
        if frame.energy is not None:
            energy["reference"].append(frame.energy / frame.n_atoms)
            energy["predicted"].append(mean.energy / frame.n_atoms)
            energy["std"].append(np.nan if spread is None else spread.energy / frame.n_atoms)
        if frame.forces is not None:
            labels = frame.force_labels
            forces["reference"].append(frame.forces.ravel()[labels])
            forces["predicted"].append(mean.forces.ravel()[labels])
            std = None if spread is None else spread.forces
            forces["std"].append(np.full(labels.sum(), np.nan) if std is None else std.ravel()[labels])
    return Report(
        total.summary(),
        {name: errors.summary() for name, errors in sorted(types.items())},
        {k: np.array(v) for k, v in energy.items()},
        {k: np.concatenate(v) if v else np.zeros(0) for k, v in forces.items()},
    )
