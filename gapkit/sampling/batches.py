"""Energies and forces of many copies of one structure at once, for replicas, bands and Hessians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ase
import numpy as np

from gapkit.exceptions import NumericsError, SettingsError

#: from positions (R, n, 3; A) to energies (R,; eV) and forces (R, n, 3; eV/A)
BatchForces = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def batch_forces(atoms: ase.Atoms, calculator: Any = None) -> BatchForces:
    """Function that gives energies and forces of R copies of ``atoms`` at other positions, the cell being the same.

    A calculator with a method ``batch_forces(atoms)``, such as that of a gapkit potential, evaluates all copies in one
    pass; any other ASE calculator is called once for each copy. Constraints of ``atoms`` are not applied.

    Parameters
    ----------
    atoms
        Structure that gives atomic numbers, cell and periodic directions; it is left as it is.
    calculator
        ASE calculator; default: that of ``atoms``.

    Raises
    ------
    SettingsError
        Where there is no calculator, or something else; by the function, for positions of another shape.
    NumericsError
        By the function, for an energy or force that is not finite, with the copy's number.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ase.calculators.emt import EMT
    >>> water = molecule("H2O")
    >>> energies, forces = batch_forces(water, EMT())(np.array([water.positions, water.positions + 1.0]))
    >>> energies.shape, forces.shape, bool(np.isclose(*energies))
    ((2,), (2, 3, 3), True)
    """
    calculator = atoms.calc if calculator is None else calculator
    if calculator is None:
        raise SettingsError("no calculator: set atoms.calc, or give one")
    whole = getattr(calculator, "batch_forces", None)
    if isinstance(calculator, type) or (whole is None and not hasattr(calculator, "get_potential_energy")):
        raise SettingsError(f"{calculator!r:.200} is no ASE calculator: give an instance, such as EMT()")
    work = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    work.info, work.calc = dict(atoms.info), calculator
    if "initial_magmoms" in atoms.arrays:
        work.set_initial_magnetic_moments(atoms.get_initial_magnetic_moments())
    if "initial_charges" in atoms.arrays:
        work.set_initial_charges(atoms.get_initial_charges())
    shape = work.positions.shape
    inside = whole(work) if whole is not None else None

    def one_by_one(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energies, forces = np.empty(len(positions)), np.empty(positions.shape)
        for r, x in enumerate(positions):
            work.positions = x
            energies[r], forces[r] = work.get_potential_energy(), work.get_forces()
        return energies, forces

    def evaluate(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        positions = np.asarray(positions, dtype=float)
        if positions.ndim != 3 or positions.shape[1:] != shape:
            raise SettingsError(f"positions must have the shape (copies, {shape[0]}, 3), not {positions.shape}")
        energies, forces = (inside or one_by_one)(positions)
        finite = np.isfinite(energies) & np.isfinite(forces).all(axis=(1, 2))
        if not finite.all():
            raise NumericsError(f"copy {np.flatnonzero(~finite)[0]}: an energy or force is not finite")
        return energies, forces

    return evaluate
