"""Frames near a given structure, without dynamics: random and harmonic displacements, and strains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms, units

from gapkit import vibrations
from gapkit.checks import check_positive
from gapkit.exceptions import DataError, NumericsError
from gapkit.generation.frames import check_count, fresh
from gapkit.randomness import generator_of
from gapkit.vibrations.hessians import STEP

#: modes softer than this (cm^-1), and saddle directions, are not displaced
SOFTEST = 30.0


def random_displacements(
    atoms: Atoms, std: float, n: int, random_state: Any = None, name: str = "displacement"
) -> Iterator[Atoms]:
    """``n`` copies with every coordinate moved by normal noise of standard deviation ``std`` (A).

    Examples
    --------
    >>> from ase.build import bulk
    >>> from gapkit.generation import random_displacements
    >>> frames = list(random_displacements(bulk("Si", cubic=True), std=0.1, n=3, random_state=0))
    >>> len(frames), frames[0].info
    (3, {'config_type': 'displacement', 'trajectory': 'displacement-0'})
    """
    std, n, rng = check_positive("std", std, "A"), check_count("n", n), generator_of(random_state)
    for k in range(n):
        frame = fresh(atoms, "displacement", f"{name}-{k}")
        frame.positions += rng.normal(scale=std, size=frame.positions.shape)
        yield frame


def cell_strains(
    atoms: Atoms, largest: float, n: int, displacement: float = 0.0, random_state: Any = None, name: str = "strain"
) -> Iterator[Atoms]:
    """``n`` copies under random symmetric strains, each component uniform between plus and minus ``largest``.

    ``displacement``: standard deviation (A) of a random displacement on top.

    Raises
    ------
    DataError
        For a structure without a cell.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from gapkit.generation import cell_strains
    >>> strained = next(cell_strains(bulk("Si", a=5.43, cubic=True), largest=0.05, n=1, random_state=0))
    >>> bool(abs(strained.cell.lengths() / 5.43 - 1).max() < 0.06)
    True
    """
    largest, n, rng = check_positive("largest", largest), check_count("n", n), generator_of(random_state)
    if not atoms.pbc.any():
        raise DataError("a structure that is not periodic has no strain; give cell and pbc")
    for k in range(n):
        frame = fresh(atoms, "strain", f"{name}-{k}")
        noise = rng.uniform(-largest, largest, size=(3, 3))
        deformation = np.eye(3) + np.tril(noise) + np.tril(noise, -1).T
        frame.set_cell(frame.cell.array @ deformation, scale_atoms=True)
        if displacement:
            frame.positions += rng.normal(scale=check_positive("displacement", displacement, "A"), size=(len(frame), 3))
        yield frame


def hessian(atoms: Atoms, calculator: Any, step: float = STEP) -> np.ndarray:
    """Second derivatives (3 n, 3 n) of the energy (eV/A^2), by :func:`gapkit.vibrations.hessian` of all atoms."""
    return vibrations.hessian(fresh(atoms, "", ""), calculator, step=step).matrix


def normal_mode_displacements(
    atoms: Atoms, calculator: Any, temperature: float, n: int, random_state: Any = None, name: str = "normal-mode"
) -> Iterator[Atoms]:
    r"""``n`` frames of the classical harmonic crystal or molecule at ``temperature`` (K).

    With mass-weighted normal modes e_k of frequency omega_k, displacements are
    :math:`\sum_k z_k \sqrt{k_B T}/\omega_k\, e_k / \sqrt{m}`, z normal. Modes below 30 cm^-1 stay at rest, as do
    translations and rotations.

    Parameters
    ----------
    atoms
        A minimum of the calculator's energy.

    Raises
    ------
    DataError
        Where no mode is stiff enough, or forces are not finite.
    """
    temperature, n, rng = (
        check_positive("temperature", temperature, "K"),
        check_count("n", n),
        generator_of(random_state),
    )
    try:
        second = vibrations.hessian(fresh(atoms, "", ""), calculator)
    except NumericsError as error:
        raise DataError(f"no normal modes of this structure: {error}") from None
    modes = vibrations.normal_modes(second, force_limit=None)
    stiff = modes.frequencies > SOFTEST
    if not stiff.any():
        raise DataError("the structure has no vibration of positive frequency: relax it first")
    amplitude = np.sqrt(units.kB * temperature) / modes.angular_frequencies[stiff]
    root = np.sqrt(modes.masses)[:, None]
    for k in range(n):
        frame = fresh(atoms, "normal_mode", f"{name}-{k}")
        z = rng.normal(size=int(stiff.sum()))
        frame.positions += np.tensordot(amplitude * z, modes.eigenvectors[stiff], axes=1) / root
        yield frame
