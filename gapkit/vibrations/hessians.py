"""Hessians: second derivatives of the energy by positions, from central differences of forces."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from gapkit.checkpoints import Checkpoint, stoppable
from gapkit.checks import check_count, check_positive
from gapkit.exceptions import DataError, GapkitWarning, NumericsError, SettingsError
from gapkit.fingerprints import described
from gapkit.progress import progress_bar
from gapkit.sampling.batches import batch_forces
from gapkit.structures.labels import check_structure
from gapkit.vibrations.rigid_motions import impose_sum_rule

#: displacement (A) of the central differences
STEP = 0.002
#: atoms in one call of the calculator: copies are evaluated in groups, so that memory does not grow with their number
ATOMS_AT_ONCE = 20_000
#: a warning is given where the asymmetry exceeds this part of the largest element, and this value (eV/A^2)
_ASYMMETRIC, _ASYMMETRIC_AT_LEAST = 0.05, 0.05


@dataclass(frozen=True, eq=False)
class Hessian:
    """Second derivatives of the energy by the coordinates of the atoms that move.

    Attributes
    ----------
    matrix : (3 m, 3 m) eV/A^2
        Symmetric; atom ``indices[i]``, component c stands in row 3 i + c.
    indices : (m,) int
        Atoms that move, in increasing order; the others are held.
    atoms : ase.Atoms
        The structure, without calculator and constraints.
    energy : float, eV
        Energy of the structure.
    forces : (n, 3) eV/A
        Forces of the structure.
    step : float, A
        Displacement of the central differences.
    asymmetry : float, eV/A^2
        Largest difference of an element from its mirror image, before the matrix was made symmetric. For forces that
        are derivatives of an energy the asymmetry is rounding or convergence noise of forces, divided by the step,
        and the difference of two errors of order step^2.
    step_error : float or None, eV/A^2
        Largest estimated error of an element by the finite step (of the plain differences, before extrapolation);
        None without extrapolation.
    """

    matrix: np.ndarray
    indices: np.ndarray
    atoms: Atoms
    energy: float
    forces: np.ndarray
    step: float
    asymmetry: float
    step_error: float | None = None

    @property
    def complete(self) -> bool:
        """Whether every atom moves."""
        return len(self.indices) == len(self.atoms)

    @property
    def largest_force(self) -> float:
        """Largest force (eV/A) on an atom that moves."""
        return float(np.linalg.norm(self.forces[self.indices], axis=1).max())

    @property
    def sum_rule_error(self) -> float | None:
        """Largest violation of the acoustic sum rule (eV/A^2); None where atoms are held, which break the rule."""
        if not self.complete:
            return None
        return float(np.abs(self.matrix.reshape(len(self.matrix), -1, 3).sum(axis=1)).max())

    def with_sum_rule(self) -> Hessian:
        """The Hessian after :func:`~gapkit.vibrations.rigid_motions.impose_sum_rule`.

        Raises
        ------
        SettingsError
            Where atoms are held.
        """
        if not self.complete:
            raise SettingsError("the acoustic sum rule needs all atoms, and some are held here")
        return replace(self, matrix=impose_sum_rule(self.matrix))


def atoms_that_move(atoms: Atoms, indices: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Indices (m,) of the atoms to be displaced: ``indices``, or all that no ``FixAtoms`` constraint holds.

    Raises
    ------
    SettingsError
        For indices that repeat, are no atoms, or are held by a constraint; where every atom is held; for constraints
        other than ``FixAtoms``.
    """
    held = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise SettingsError(
                f"a constraint of the kind {type(constraint).__name__} has no Hessian here: remove it from the atoms; "
                "atoms are held by FixAtoms or left out of indices"
            )
        held[constraint.index] = True
    if indices is None:
        if held.all():
            raise SettingsError("every atom is held by FixAtoms: nothing can vibrate; release some atoms")
        return np.flatnonzero(~held)
    chosen = np.asarray(indices)
    if chosen.dtype == bool and chosen.shape == held.shape:
        chosen = np.flatnonzero(chosen)
    if chosen.ndim != 1 or len(chosen) == 0 or not np.issubdtype(chosen.dtype, np.integer):
        raise SettingsError(f"indices must be a list of at least one atom, not {indices!r:.80}")
    outside = (chosen < -len(atoms)) | (chosen >= len(atoms))
    if outside.any():
        raise SettingsError(f"indices: there is no atom {chosen[outside][0]} among {len(atoms)}")
    chosen = chosen % len(atoms)
    if len(np.unique(chosen)) < len(chosen):
        raise SettingsError("indices: an atom is named twice")
    if held[chosen].any():
        raise SettingsError(
            f"indices: atom {chosen[held[chosen]][0]} is held by FixAtoms; leave it out, or remove the constraint"
        )
    return np.sort(chosen)


def hessian(
    atoms: Atoms,
    calculator: Any = None,
    *,
    step: float = STEP,
    indices: Sequence[int] | np.ndarray | None = None,
    extrapolate: bool = False,
    copies: int | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
) -> Hessian:
    r"""Hessian by central differences of forces, made symmetric.

    :math:`H_{jk} = -[F_k(x + h e_j) - F_k(x - h e_j)] / 2h`, with an error of order :math:`h^2`. With ``extrapolate``
    the differences with 2 h are made too: :math:`(4 H_h - H_{2h})/3` has an error of order :math:`h^4`, and
    :math:`|H_h - H_{2h}|/3` estimates the error of :math:`H_h` (Richardson, Phil. Trans. R. Soc. A 210, 307 (1911)).
    All copies with a displaced atom go to the calculator together, in groups of limited size.

    Parameters
    ----------
    atoms
        Structure; it is left as it is. Atoms of a ``FixAtoms`` constraint are held. The forces are those without
        constraints.
    calculator
        ASE calculator; default: that of ``atoms``.
    step : float
        Displacement h (A). A larger one suits forces with noise, whose part of the error is noise / h.
    indices
        Atoms that move; default: all that no constraint holds.
    extrapolate
        Whether to extrapolate, at twice the cost.
    copies
        Structures in one call of the calculator; default: 20,000 atoms' worth.
    progress
        Whether to show a bar.
    checkpoint
        File of the columns that are known, written after each call of the calculator: the same call goes on from
        there. Ctrl-C ends the work after a call of the calculator, as KeyboardInterrupt.

    Raises
    ------
    SettingsError
        For parameters that cannot work, constraints other than ``FixAtoms``, where there is no calculator, and for the
        checkpoint of another Hessian.
    DataError
        For a structure that cannot be computed.
    NumericsError
        For forces that are not finite, with the atoms that were displaced.

    Warns
    -----
    GapkitWarning
        Where the asymmetry is above 5 % of the largest element: forces are noisy, or no derivatives of an energy.

    Examples
    --------
    >>> from ase.calculators.emt import EMT
    >>> nitrogen = Atoms("N2", [[0, 0, 0], [0, 0, 1.0]])
    >>> second = hessian(nitrogen, EMT())
    >>> second.matrix.shape, second.sum_rule_error < 1e-3
    ((6, 6), True)
    """
    check_structure(atoms, "the structure")
    h, free = check_positive("step", step, "A"), atoms_that_move(atoms, indices)
    evaluate = batch_forces(atoms, calculator)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.set_masses(atoms.get_masses())
    multiples = np.array([1, 2] if extrapolate else [1])
    offsets = h * np.array([sign * m for m in multiples for sign in (1, -1)])
    at_once = check_count("copies", max(1, ATOMS_AT_ONCE // len(atoms)) if copies is None else copies)
    group, size = max(1, at_once // len(offsets)), 3 * len(free)
    try:
        energies, at_rest = evaluate(atoms.positions[None])
    except NumericsError:
        raise NumericsError("the energy or a force of the structure is not finite; check the structure") from None
    tables, begin = np.zeros((len(multiples), size, size)), 0
    kept = None
    if checkpoint is not None:
        forces_of = described(atoms.calc if calculator is None else calculator)
        kept = Checkpoint(checkpoint, {**_identity(atoms, free, offsets), "calculator": forces_of})
    state = None if kept is None else kept.load()
    if state is not None:
        tables, begin = state["tables"], int(state["columns"])
    total = size * len(offsets)
    with stoppable() as stop, progress_bar(desc="Hessian", unit="copy", show=progress, total=total) as bar:
        bar.update(begin * len(offsets))
        for start in range(begin, size, group):
            j = np.arange(start, min(start + group, size))
            moved = np.tile(atoms.positions, (len(j), len(offsets), 1, 1))
            moved[np.arange(len(j))[:, None], np.arange(len(offsets)), free[j // 3, None], j[:, None] % 3] += offsets
            try:
                _, forces = evaluate(moved.reshape(-1, len(atoms), 3))
            except NumericsError:
                raise NumericsError(
                    f"an energy or force is not finite where one of the atoms {free[j[0] // 3]} to {free[j[-1] // 3]} "
                    f"is displaced by {h:g} A; check the structure, or take another step"
                ) from None
            pairs = forces[:, free].reshape(len(j), len(multiples), 2, size)
            slopes = (pairs[:, :, 1] - pairs[:, :, 0]) / (2 * h * multiples[:, None])
            tables[:, j] = slopes.swapaxes(0, 1)
            bar.update(len(j) * len(offsets))
            if kept is not None:
                kept.save({"tables": tables, "columns": np.array(j[-1] + 1)})
            if stop.requested:
                raise KeyboardInterrupt(f"the Hessian was stopped after {j[-1] + 1} of {size} columns")
    error = None
    matrix = tables[0]
    if extrapolate:
        change = (tables[0] - tables[1]) / 3
        matrix, error = matrix + change, float(np.abs(0.5 * (change + change.T)).max())
    asymmetry = float(np.abs(matrix - matrix.T).max())
    if asymmetry > max(_ASYMMETRIC * np.abs(matrix).max(), _ASYMMETRIC_AT_LEAST):
        warnings.warn(
            f"the Hessian is asymmetric by {asymmetry:.2g} eV/A^2, its largest element is {np.abs(matrix).max():.2g}: "
            "forces are noisy or no derivatives of an energy; converge them better, or take a larger step",
            GapkitWarning,
            stacklevel=2,
        )
    return Hessian(0.5 * (matrix + matrix.T), free, bare, float(energies[0]), at_rest[0], h, asymmetry, error)


def _identity(atoms: Atoms, free: np.ndarray, offsets: np.ndarray) -> dict[str, Any]:
    """Description of a Hessian for its checkpoint, but for the calculator."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "atoms that move": free.tolist(),
        "displacements": offsets.tolist(),
    }


def given_hessian(
    atoms: Atoms,
    matrix: np.ndarray,
    *,
    energy: float = 0.0,
    forces: np.ndarray | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
) -> Hessian:
    """A :class:`Hessian` from a matrix that is known: analytic, from a file, from another program.

    Parameters
    ----------
    atoms
        Structure; atoms of a ``FixAtoms`` constraint are held.
    matrix : (3 m, 3 m) eV/A^2
        Made symmetric.
    energy : float
        Energy of the structure (eV).
    forces : (n, 3) eV/A
        Forces of the structure; default: none, as at a stationary point.
    indices
        Atoms that move, in increasing order; default: all that no constraint holds.

    Raises
    ------
    SettingsError, DataError
        As :func:`hessian`; for arrays of another shape or with values that are not finite.

    Examples
    --------
    >>> spring = 40.0 * np.kron([[1, -1], [-1, 1]], np.diag([0, 0, 1]))
    >>> given_hessian(Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]), spring).largest_force
    0.0
    """
    check_structure(atoms, "the structure")
    free = atoms_that_move(atoms, indices)
    if indices is not None and not np.array_equal(free, np.flatnonzero(indices) if _mask(indices) else indices):
        raise SettingsError("indices must be in increasing order, as rows of the matrix are")
    matrix, size = np.asarray(matrix, dtype=float), 3 * len(free)
    forces = np.zeros((len(atoms), 3)) if forces is None else np.array(forces, dtype=float)
    if matrix.shape != (size, size) or forces.shape != (len(atoms), 3):
        raise DataError(
            f"a Hessian of {len(free)} atoms that move has the shape ({size}, {size}), not {matrix.shape}; forces "
            f"have ({len(atoms)}, 3), not {forces.shape}"
        )
    if not (np.isfinite(matrix).all() and np.isfinite(forces).all() and np.isfinite(energy)):
        raise DataError("the Hessian, a force or the energy is not finite")
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.set_masses(atoms.get_masses())
    asymmetry = float(np.abs(matrix - matrix.T).max())
    return Hessian(0.5 * (matrix + matrix.T), free, bare, float(energy), forces, 0.0, asymmetry)


def _mask(indices: Any) -> bool:
    return np.asarray(indices).dtype == bool
