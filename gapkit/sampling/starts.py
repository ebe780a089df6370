"""Starting structures of replicas: whether they are copies of one structure, and which coordinates are fixed."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.constraints import FixAtoms, FixCartesian

from gapkit.exceptions import DataError, SettingsError


def same_structure(frames: Sequence[ase.Atoms]) -> None:
    """Raise :class:`DataError` for frames that differ in more than positions and velocities, or cannot be moved.

    Examples
    --------
    >>> same_structure([ase.Atoms("HO"), ase.Atoms("OH")])
    Traceback (most recent call last):
        ...
    gapkit.exceptions.DataError: frame 1: the atoms of frame 0 in another order; a permutation fits: sort both, as by
    atoms[np.argsort(atoms.numbers, kind='stable')], and look whether equal atoms correspond
    """
    if not frames:
        raise DataError("no frames: give at least one starting structure")
    first = frames[0]
    for k, frame in enumerate(frames):
        if not len(frame):
            raise DataError(f"frame {k}: has no atoms")
        if not np.isfinite(frame.positions).all() or not np.isfinite(frame.get_momenta()).all():
            raise DataError(f"frame {k}: a position or momentum is not finite")
        if not (frame.get_masses() > 0).all():
            raise DataError(f"frame {k}: a mass is not positive; set masses")
        if sorted(frame.numbers) != sorted(first.numbers):
            raise DataError(
                f"frame {k}: composition {frame.get_chemical_formula()}, that of frame 0 is "
                f"{first.get_chemical_formula()}; replicas are copies of one structure"
            )
        if not np.array_equal(frame.numbers, first.numbers):
            raise DataError(
                f"frame {k}: the atoms of frame 0 in another order; a permutation fits: sort both, as by "
                "atoms[np.argsort(atoms.numbers, kind='stable')], and look whether equal atoms correspond"
            )
        differs = [
            name
            for name, same in (
                ("periodic directions", np.array_equal(frame.pbc, first.pbc)),
                ("cell", np.allclose(frame.cell.array, first.cell.array, rtol=0, atol=1e-8)),
                ("masses", np.array_equal(frame.get_masses(), first.get_masses())),
                ("initial charges", equal_arrays(frame, first, "initial_charges")),
                ("initial magnetic moments", equal_arrays(frame, first, "initial_magmoms")),
                ("charge in atoms.info", np.array_equal(frame.info.get("charge"), first.info.get("charge"))),
                ("spin in atoms.info", np.array_equal(frame.info.get("spin"), first.info.get("spin"))),
            )
            if not same
        ]
        if differs:
            raise DataError(
                f"frame {k}: other {', '.join(differs)} than frame 0; replicas differ in positions and velocities only"
            )
        if not np.array_equal(fixed_coordinates(frame, frame=k), fixed_coordinates(first)):
            raise DataError(f"frame {k}: other constraints than frame 0; set the same")


def equal_arrays(one: ase.Atoms, two: ase.Atoms, name: str) -> bool:
    """Whether both or neither have the array, with the same values."""
    a, b = one.arrays.get(name), two.arrays.get(name)
    return np.array_equal(a, b) if a is not None and b is not None else a is b


def fixed_coordinates(atoms: ase.Atoms, fixed: np.ndarray | None = None, *, frame: int = 0) -> np.ndarray:
    """Mask (n, 3) of the coordinates that do not move: those of ``fixed``, and of FixAtoms and FixCartesian.

    Parameters
    ----------
    atoms
        Frame with or without constraints.
    fixed
        Mask (n, 3), or (n,) for whole atoms.
    frame
        The frame's number, for messages.

    Raises
    ------
    SettingsError
        For another constraint, or a mask of another shape or type.

    Examples
    --------
    >>> atoms = ase.Atoms("HO", constraint=FixAtoms([0]))
    >>> fixed_coordinates(atoms, np.array([[False, False, False], [False, False, True]])).tolist()
    [[True, True, True], [False, False, True]]
    """
    held = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms | FixCartesian):
            raise SettingsError(
                f"frame {frame}: constraint {type(constraint).__name__} is not provided for; FixAtoms and FixCartesian "
                "are, and the mask 'fixed'"
            )
        kept = np.ones((len(atoms), 3))
        constraint.adjust_forces(atoms, kept)
        held |= kept == 0
    if fixed is None:
        return held
    mask = np.asarray(fixed)
    if mask.dtype != bool or mask.shape not in ((len(atoms),), held.shape):
        raise SettingsError(
            f"fixed must be a mask of true and false of the shape ({len(atoms)}, 3) or ({len(atoms)},), not of "
            f"{mask.dtype} {mask.shape}"
        )
    return held | (mask if mask.ndim == 2 else mask[:, None])
