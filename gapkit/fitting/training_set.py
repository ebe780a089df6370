"""The training set: checked frames, and the targets of the model for each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from gapkit.exceptions import DataError
from gapkit.models.basis import SparseBasis
from gapkit.models.folds import cluster_folds
from gapkit.models.levels import Levels
from gapkit.models.observations import Targets
from gapkit.potential.baseline import baseline_labels
from gapkit.structures.labels import LabelledFrame
from gapkit.structures.reference_energies import ReferenceEnergies, reference_energies
from gapkit.uncertainty.calibration import Calibration

#: largest energy (eV) that a fit takes
LARGEST_ENERGY = 1e100
#: fold of rows that are never held out
ALWAYS = -1


@dataclass(frozen=True)
class TrainingSet:
    """Checked frames with the targets of the model for each."""

    frames: tuple[LabelledFrame, ...]
    targets: tuple[Targets, ...]
    reference: ReferenceEnergies
    species: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Number of labels."""
        return sum(t.n_rows for t in self.targets)


def training_set(
    frames: Sequence[LabelledFrame],
    e0: Any,
    baseline: Any,
    known: tuple[tuple[int, ...], ReferenceEnergies] | None = None,
) -> TrainingSet:
    """Subtract reference energies and baseline.

    ``known`` gives species and reference energies of an existing model; else they follow from the frames. A species
    seen only as an isolated atom is left out.
    """
    usable = [f for f in frames if f.energy is not None or f.forces is not None or f.virial is not None]
    if known is None:
        bonded = [f for f in usable if not f.is_isolated_atom]
        if not bonded:
            raise DataError("all labelled frames are isolated atoms: there is nothing to learn; add bonded frames")
        _refuse_absurd(usable)
        species = tuple(sorted({int(z) for f in bonded for z in f.atoms.numbers}))
        reference = reference_energies(frames, species, e0)
    else:
        species, reference = known
    kept, targets = [], []
    for frame in usable:
        if frame.is_isolated_atom and (int(frame.atoms.numbers[0]) not in species or frame.energy is None):
            continue
        kept.append(frame)
        targets.append(_targets(frame, reference, baseline))
    return TrainingSet(tuple(kept), tuple(targets), reference, species)


def _refuse_absurd(frames: Sequence[LabelledFrame]) -> None:
    """Refuse energies whose squares are beyond all numbers: reference energies by least squares would be too."""
    for frame in frames:
        if frame.energy is not None and abs(frame.energy) > LARGEST_ENERGY:
            raise DataError(
                f"frame {frame.index}: the energy {frame.energy:g} eV is beyond {LARGEST_ENERGY:g} eV; remove the frame"
            )


def _targets(frame: LabelledFrame, reference: ReferenceEnergies, baseline: Any) -> Targets:
    energy, forces, virial = frame.energy, frame.forces, frame.virial
    if energy is not None:
        energy = energy - reference.of(frame.atoms.numbers)
    if baseline is not None:
        base = baseline_labels(baseline, frame.atoms, f"frame {frame.index}", stress=virial is not None)
        energy = None if energy is None else energy - base["energy"]
        forces = None if forces is None else forces - base["forces"]
        virial = None if virial is None else virial - base["virial"]
    return Targets(energy, forces, virial, frame.n_atoms, frame.config_type, frame.is_isolated_atom, frame.held)


def assign_folds(data: TrainingSet, fingerprints: np.ndarray, n_folds: int) -> np.ndarray:
    """Fold of each frame; isolated atoms are never held out."""
    folds = np.full(len(data.frames), ALWAYS)
    index = np.array([k for k, t in enumerate(data.targets) if not t.isolated], dtype=np.int64)
    strata = [f"{data.frames[k].config_type}|{data.frames[k].atoms.get_chemical_formula()}" for k in index]
    folds[index] = cluster_folds(fingerprints[index], strata, [data.frames[k].trajectory for k in index], n_folds)
    return folds


def _sha256(parts: Sequence[Any]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        if part is not None:
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.digest()


def _structure(frame: LabelledFrame) -> list[Any]:
    return [frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array, frame.atoms.pbc]


def _labels(frame: LabelledFrame) -> list[Any]:
    return [frame.energy if frame.energy is not None else np.nan, frame.forces, frame.virial]


#: significant digits that are kept of what frames are ordered by: the last ones must not permute them; and a factor
#: that takes the round numbers of made frames off the edge where digits are rounded up or down
ORDER_DIGITS, OFF_EDGE = 7, np.pi
#: a quadratic form that tells axes and planes apart
ORIENTED = np.array([[1.0, 0.3, 0.2], [0.3, 0.7, 0.1], [0.2, 0.1, 0.4]])


def _place(frame: LabelledFrame) -> tuple:
    """Key of a frame's place in the order of a fit: what it is made of, its size, its labels; last digits come last."""
    atoms, cell = frame.atoms, frame.atoms.cell.array
    spread = atoms.positions - atoms.positions.mean(axis=0)
    extent = float(np.sum(spread**2) + np.sum(cell**2))
    # equal crystals that are strained along different axes have equal sizes and energies
    turned = float(np.sum((spread @ ORIENTED) * spread) + np.sum((cell @ ORIENTED) * cell))
    skew = float(np.sum((spread @ (1.0, 0.7, 0.4)) ** 3))
    energy = frame.energy if frame.energy is not None else 0.0
    with np.errstate(over="ignore"):  # forces that no fit can take are refused later, by name
        forces = float(np.sum(frame.forces**2)) if frame.forces is not None else 0.0
    coarse = tuple(float(f"{OFF_EDGE * value:.{ORDER_DIGITS}g}") for value in (extent, turned, skew, energy, forces))
    names = (str(frame.config_type), str(frame.trajectory), bool(atoms.pbc.any()))
    return (len(atoms), tuple(sorted(atoms.numbers.tolist())), *coarse, *names, extent, turned, skew)


def in_order(data: TrainingSet) -> TrainingSet:
    """Frames in an order of their content, so that a fit does not depend on the order they were given in.

    The order follows from physical numbers without their last digits, so that noise of 1e-12 does not permute frames:
    which of two equally good sparse points comes first, and with it the fit, would be chance.
    """
    order = sorted(range(len(data.frames)), key=lambda k: _place(data.frames[k]))
    return replace(data, frames=tuple(data.frames[k] for k in order), targets=tuple(data.targets[k] for k in order))


def training_hash(frames: Sequence[LabelledFrame]) -> str:
    """SHA-256 of all structures and labels, in the order given."""
    return hashlib.sha256(b"".join(_sha256(_structure(f) + _labels(f)) for f in frames)).hexdigest()


def describe_training(
    data: TrainingSet, basis: SparseBasis, levels: Levels, calibration: Calibration, n_folds: int
) -> dict[str, Any]:
    """JSON-ready description of the training set, the levels and the held-out errors."""
    return {
        "n_frames": len(data.frames),
        "n_atoms": int(sum(f.n_atoms for f in data.frames)),
        "n_labels": data.n_rows,
        "species": [chemical_symbols[z] for z in data.species],
        "config_types": config_types(data),
        "training_hash": training_hash(data.frames),
        "n_sparse": basis.n_columns,
        "folds": n_folds,
        "noise": dict(levels.noise),
        "signal": [float(s) for s in levels.signal],
        "objective": None if np.isnan(levels.objective) else levels.objective,
        "held_out_rmse": {g: c.held_out_rmse for g, c in calibration.groups.items() if np.isfinite(c.held_out_rmse)},
    }


def config_types(data: TrainingSet) -> dict[str, int]:
    """Number of frames of each config_type."""
    names = [f.config_type or "none" for f in data.frames]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def updated_description(metadata: dict[str, Any], added: TrainingSet) -> dict[str, Any]:
    """Description of a training set to which frames were added, with a hash of the old hash and the new frames."""
    changed = dict(metadata)
    changed["n_frames"] += len(added.frames)
    changed["n_atoms"] += int(sum(f.n_atoms for f in added.frames))
    changed["n_labels"] += added.n_rows
    changed["config_types"] = dict(metadata["config_types"])
    for name, count in config_types(added).items():
        changed["config_types"][name] = changed["config_types"].get(name, 0) + count
    both = metadata["training_hash"] + training_hash(added.frames)
    changed["training_hash"] = hashlib.sha256(both.encode()).hexdigest()
    changed["updates"] = metadata.get("updates", 0) + 1
    return changed
