"""Intervals that hold a new label with a promised probability: conformal scores times standard deviations."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.potential.potential import Potential
from gapkit.structures.labels import cell_volume


def half_widths(
    potential: Potential, atoms: ase.Atoms, level: float, by_frame: bool, context: str = "frame"
) -> dict[str, Any]:
    """Half-widths of the intervals for a frame's labels: ``energy`` (eV), ``forces`` (n, 3), ``stress`` (6,).

    None where there were no calibration labels of that kind, or no cell volume. ``level`` and ``by_frame`` as in
    :class:`gapkit.uncertainty.recalibration.SplitConformal`.

    Raises
    ------
    SettingsError
        Where error bars are those of ``fit``: a promise needs frames that were not fitted to.
    DataError
        For a level that the calibration frames cannot promise.
    """
    found = potential.errors.recalibration
    if found is None or not found.conformal:
        raise SettingsError("intervals need a calibration split: call recalibrate(frames) first")
    structure = potential.structure(atoms, context)
    n, volume = structure.n_atoms, cell_volume(atoms)
    parts = potential.variance_parts(structure, derivatives=True)

    def width(kind: str) -> np.ndarray | None:
        if kind not in found.interval_models:
            return None
        std = np.sqrt(found.interval_models[kind].variance(*parts.of_labels(kind, n)))
        return found.conformal[kind].factor(level, by_frame) * std

    energy, forces = width("energy"), width("forces")
    virial = None if volume is None else width("virial")  # a frame without a volume asks nothing of virial labels
    return {
        "energy": None if energy is None else float(np.sqrt(n) * energy[0]),
        "forces": None if forces is None else forces.reshape(n, 3),
        "stress": None if virial is None else np.sqrt(n) * virial / volume,
    }
