"""Helpers of all generators: a clean copy of a structure, its names, and checks of numbers."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from gapkit.exceptions import SettingsError
from gapkit.structures.labels import check_structure


def fresh(atoms: Atoms, config_type: str, trajectory: str) -> Atoms:
    """A copy without calculator, constraints and labels, named."""
    check_structure(atoms, "the structure")
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.set_masses(atoms.get_masses())
    copy.info.update({"config_type": config_type, "trajectory": trajectory})
    return copy


def check_count(name: str, value: int) -> int:
    """``value`` if it is an integer of at least 1.

    Raises
    ------
    SettingsError
        Otherwise, naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise SettingsError(f"{name} must be an integer of at least 1, not {value!r}")
    return int(value)
