"""Ranges that the training frames span: densities, distances, forces, within which a potential was tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gapkit.structures.labels import LabelledFrame
from gapkit.structures.neighbours import neighbours

#: neighbours are looked for up to this distance (A)
REACH = 6.5


def training_domain(frames: Sequence[LabelledFrame]) -> dict[str, Any]:
    """JSON-ready ranges over frames that are no isolated atoms, and the levels of theory that the frames name.

    Returns
    -------
    domain : dict
        ``nearest_neighbour``: least and largest distance (A) of an atom to its nearest neighbour, atoms without one
        within 6.5 A left out; ``density``: least and largest density (atoms/A^3) of frames with a cell volume;
        ``n_atoms``: least and largest number of atoms; ``level_of_theory``: sorted texts of that ``info`` entry.
        None where nothing is known.
    """
    bonded = [f for f in frames if not f.is_isolated_atom]
    nearest: list[float] = []
    for frame in bonded:
        pairs = neighbours(frame.atoms, REACH)
        distance = np.full(pairs.n_atoms, np.inf)
        np.minimum.at(distance, pairs.i, pairs.distances)
        distance = distance[np.isfinite(distance)]
        if len(distance):
            nearest += [float(distance.min()), float(distance.max())]
    density = [f.n_atoms / f.volume for f in bonded if f.volume]
    theory = {str(f.atoms.info["level_of_theory"]) for f in frames if f.atoms.info.get("level_of_theory")}
    return {
        "nearest_neighbour": _range(nearest),
        "density": _range(density),
        "n_atoms": _range([f.n_atoms for f in bonded]),
        "level_of_theory": sorted(theory) or None,
    }


def _range(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if len(values) else None
