r"""Relaxation: of many frames at once, and of a cluster with a rigid rim where one bond is held open.

Frames (:func:`relax_many`) each have their own L-BFGS (:mod:`gapkit.sampling.descent`) and share one batch of energies
and forces at every step.

A cluster (:func:`relax`) starts from the inverse of a spring network P instead of the unit matrix, as preconditioned
optimisers of atoms do (Packwood et al., J. Chem. Phys. 144, 164109 (2016)): the number of steps then hardly depends on
the size. A linear constraint :math:`a\cdot u = c` (one bond's opening) is kept exactly by projecting the step,
:math:`P^{-1} \to P^{-1} - P^{-1} a\, a^T P^{-1} / (a^T P^{-1} a)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from gapkit.checkpoints import stoppable
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.progress import progress_bar
from gapkit.sampling.batches import BatchForces, batch_forces
from gapkit.sampling.descent import Descent
from gapkit.settings import Settings
from gapkit.structures.neighbours import neighbours

#: arrays of a frame that belong to its electronic state
STATE_ARRAYS = ("initial_magmoms", "initial_charges")
#: entries of ``atoms.info`` that belong to it
STATE_INFO = ("charge", "spin")


class SpringNetwork:
    """Springs along and across the bonds of a reference frame; atoms outside ``free`` are clamped.

    Parameters
    ----------
    atoms
        Reference frame.
    free : (m,) int
        Atoms that move.
    bond : float
        Longest bond (A) that gets a spring.
    along, across : float
        Stiffness (eV/A^2); their ratio is that of bond stretching to bond bending.
    """

    def __init__(self, atoms: ase.Atoms, free: np.ndarray, bond: float, along: float = 10.0, across: float = 1.5):
        self.free = np.asarray(free)
        place = np.full(len(atoms), -1)
        place[self.free] = np.arange(len(self.free))
        pairs = neighbours(atoms, bond)
        u = pairs.vectors / pairs.distances[:, None]
        blocks = across * np.eye(3) + (along - across) * u[:, :, None] * u[:, None, :]
        i, j = place[pairs.i], place[pairs.j]
        is_free, both = i >= 0, (i >= 0) & (j >= 0)
        rows = np.concatenate([i[is_free], i[both]])
        columns = np.concatenate([i[is_free], j[both]])
        values = np.concatenate([blocks[is_free], -blocks[both]])
        axes = np.arange(3)
        n = 3 * len(self.free)
        matrix = coo_matrix(
            (
                values.ravel(),
                (
                    np.broadcast_to(3 * rows[:, None, None] + axes[:, None], values.shape).ravel(),
                    np.broadcast_to(3 * columns[:, None, None] + axes, values.shape).ravel(),
                ),
            ),
            shape=(n, n),
        ).tocsc()
        matrix += 0.05 * coo_matrix((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n)).tocsc()
        self._factor = splu(matrix)

    def solve(self, gradient: np.ndarray) -> np.ndarray:
        """Solution ``P^-1 g`` for g (3 m,)."""
        return self._factor.solve(gradient)


@dataclass(frozen=True)
class Relaxed:
    """A relaxed cluster.

    Attributes
    ----------
    positions : (n, 3) A
    energy : float, eV
        Energy of the whole frame; only differences at the same rim mean something.
    force : float, eV/A
        Derivative of the energy by the held opening; 0 without a constraint.
    evaluations : int
        Calls of the calculator.
    """

    positions: np.ndarray
    energy: float
    force: float
    evaluations: int


def relax(
    atoms: ase.Atoms,
    springs: SpringNetwork,
    constraint: np.ndarray | None = None,
    fmax: float = 5e-3,
    max_evaluations: int = 600,
    stop=None,
) -> Relaxed:
    """Nearest minimum of the energy over the free atoms.

    Parameters
    ----------
    atoms
        Frame with a calculator, at the start; left as it is.
    constraint : (3 m,), optional
        Direction a, over the free atoms' coordinates, along which nothing moves.
    fmax : float
        Largest force on a free atom at the end (eV/A), the constraint's own left out.
    max_evaluations : int
        Calls of the calculator that are allowed.
    stop : callable, optional
        Asked with the positions at every accepted step; True ends the search early.

    Raises
    ------
    NumericsError
        Where the allowed calls do not suffice.
    SettingsError
        Where the frame has no calculator.
    """
    if atoms.calc is None:
        raise SettingsError("the frame has no calculator: set atoms.calc")
    work, free = atoms.copy(), springs.free
    work.calc = atoms.calc
    a = constraint
    if a is not None:
        Pa = springs.solve(a)
        aPa, aa = float(a @ Pa), float(a @ a)

    def direction(q: np.ndarray) -> np.ndarray:
        z = springs.solve(q)
        return z if a is None else z - Pa * (a @ z / aPa)

    def evaluate(positions):
        work.positions = positions
        g = -work.get_forces()[free].ravel()
        return work.get_potential_energy(), g

    def across(g):
        return g if a is None else g - a * (a @ g / aa)

    x, (energy, g), calls = atoms.positions.copy(), evaluate(atoms.positions), 1
    descent = Descent(x[free], energy, g, direction, across)
    while True:
        projected = descent.projected
        if np.abs(projected).max() < fmax or (stop is not None and stop(x)):
            force = 0.0 if a is None else float(a @ descent.gradient / aa)
            return Relaxed(x, float(descent.energy), force, calls)
        if calls >= max_evaluations:
            raise NumericsError(
                f"no minimum within {max_evaluations} evaluations: the largest force is {np.abs(projected).max():.2g} "
                "eV/A; allow more evaluations, or look at the frame"
            )
        trial = x.copy()
        trial[free] = descent.trial()
        calls += 1
        if descent.tell(*evaluate(trial)):
            x = trial


@dataclass(frozen=True)
class RelaxationSettings(Settings):
    """Settings of :func:`relax_many`.

    Attributes
    ----------
    fmax : float
        Largest force on a free atom at the end (eV/A; Euclidean norm, as in ASE).
    steps : int
        Evaluations of energy and forces that each frame is allowed, that of the start included.
    longest_step : float
        Longest step of an atom (A).
    """

    fmax: float = 0.01
    steps: int = 500
    longest_step: float = 0.2

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not 0 < self.fmax < np.inf:
            raise SettingsError(f"fmax must be positive and finite (eV/A), not {self.fmax}")
        if self.steps < 1:
            raise SettingsError(f"steps must be at least 1, not {self.steps}")
        if not 0 < self.longest_step < np.inf:
            raise SettingsError(f"longest_step must be positive and finite (A), not {self.longest_step}")


@dataclass(frozen=True)
class RelaxedFrame:
    """A frame at the end of its relaxation.

    Attributes
    ----------
    atoms : ase.Atoms
        Copy of the frame at the last accepted positions, with energy and forces.
    energy : float, eV
    largest_force : float, eV/A
        On a free atom.
    converged : bool
        Whether ``largest_force`` is below the limit.
    evaluations : int
        Evaluations of energy and forces.
    message : str
        Reason where the frame did not converge, else empty.
    """

    atoms: ase.Atoms
    energy: float
    largest_force: float
    converged: bool
    evaluations: int
    message: str = ""

    def __str__(self) -> str:
        end = "converged" if self.converged else f"not converged: {self.message}"
        return f"{self.energy:.6f} eV, {self.largest_force:.2g} eV/A, {self.evaluations} evaluations, {end}"


def free_atoms(atoms: ase.Atoms) -> np.ndarray:
    """Numbers (m,) of the atoms that no ``FixAtoms`` holds.

    Raises
    ------
    SettingsError
        For a constraint of another kind.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> water.set_constraint(FixAtoms([0]))
    >>> free_atoms(water).tolist()
    [1, 2]
    """
    free = np.ones(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise SettingsError(f"a constraint {type(constraint).__name__} is not provided for: use FixAtoms alone")
        free[constraint.index] = False
    return np.flatnonzero(free)


def with_results(atoms: ase.Atoms, positions: np.ndarray, energy: float, forces: np.ndarray) -> ase.Atoms:
    """Copy of ``atoms`` at other positions (n, 3; A), with its energy (eV) and forces (n, 3; eV/A)."""
    copy = atoms.copy()
    copy.set_positions(positions, apply_constraint=False)
    copy.calc = SinglePointCalculator(copy, energy=float(energy), forces=np.array(forces))
    return copy


class _Frame:
    """One frame of :func:`relax_many`: its minimisation, and how it ends."""

    def __init__(self, atoms: ase.Atoms, settings: RelaxationSettings):
        self.atoms, self.settings = atoms, settings
        self.free = free_atoms(atoms)
        self.positions = atoms.get_positions()
        self.forces = np.zeros_like(self.positions)
        self.descent: Descent | None = None
        self.evaluations, self.message = 0, ""

    @property
    def largest_force(self) -> float:
        return float(np.linalg.norm(self.forces[self.free], axis=1).max(initial=0.0))

    @property
    def converged(self) -> bool:
        return self.descent is not None and self.largest_force < self.settings.fmax

    @property
    def active(self) -> bool:
        return not self.message and not self.converged

    def asked(self) -> np.ndarray:
        """Positions (n, 3) of the next evaluation."""
        x = self.positions.copy()
        if self.descent is not None:
            x[self.free] = self.descent.trial()
        return x

    def tell(self, x: np.ndarray, energy: float, forces: np.ndarray, why: str = "") -> None:
        """Take an evaluation at ``x``; ``why`` it has no finite result."""
        self.evaluations += 1
        gradient = -forces[self.free].ravel()
        if self.descent is None:
            if why:
                self.message = f"no energy at the start ({why})"
                return
            self.descent = Descent(x[self.free], energy, gradient, longest_step=self.settings.longest_step)
            self.forces = forces
        elif self.descent.tell(energy, gradient):
            self.positions, self.forces = x, forces
        if self.evaluations >= self.settings.steps and not self.converged:
            self.message = f"the largest force is {self.largest_force:.2g} eV/A after {self.evaluations} evaluations"

    def result(self) -> RelaxedFrame:
        if self.descent is None:
            return RelaxedFrame(self.atoms.copy(), np.inf, np.inf, False, self.evaluations, self.message)
        atoms = with_results(self.atoms, self.positions, self.descent.energy, self.forces)
        energy, force = float(self.descent.energy), self.largest_force
        return RelaxedFrame(atoms, energy, force, self.converged, self.evaluations, self.message)


def relax_many(
    frames: Sequence[ase.Atoms],
    calculator: Any = None,
    settings: RelaxationSettings | None = None,
    *,
    progress: bool = False,
    strict: bool = False,
) -> list[RelaxedFrame]:
    """Nearest minima of the energies of many frames at fixed cells, with one batch of forces at every step.

    Each frame has its own L-BFGS. Frames of the same atomic numbers, cell and periodic directions (and the same initial
    charges and magnetic moments, and ``charge`` and ``spin`` in ``atoms.info``) share one batch; a frame that converges
    leaves it. Atoms held by ``FixAtoms`` do not move. The result of a frame does not depend on the other frames. Ctrl-C
    ends the relaxation with the frames as they are.

    Parameters
    ----------
    frames
        Starting structures; they are left as they are.
    calculator
        ASE calculator of all frames; default: that of each frame. Frames with different calculators share no batch.
    settings
        Limits; see :class:`RelaxationSettings`.
    progress
        Whether a bar shows how many frames are done.
    strict
        Whether a frame that does not converge is an error.

    Returns
    -------
    list of RelaxedFrame
        In the order of ``frames``.

    Raises
    ------
    SettingsError
        Where a frame has no calculator, or a constraint other than ``FixAtoms``.
    DataError
        For positions that are not finite, with the frame's number; for frames that are no list.
    NumericsError
        If ``strict``, for frames that did not converge, with their numbers.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ase.calculators.emt import EMT
    >>> start = [molecule("N2"), molecule("N2")]
    >>> start[1].rattle(0.1, seed=1)
    >>> found = relax_many(start, EMT(), RelaxationSettings(fmax=1e-3))
    >>> [f.converged for f in found], bool(abs(found[0].energy - found[1].energy) < 1e-5)
    ([True, True], True)
    """
    settings = settings if settings is not None else RelaxationSettings()
    if isinstance(frames, ase.Atoms):
        raise DataError("frames must be a list of frames: give [atoms] for one")
    states = []
    for k, atoms in enumerate(frames):
        if not np.isfinite(atoms.positions).all():
            raise DataError(f"frame {k}: a position is not finite")
        if calculator is None and atoms.calc is None:
            raise SettingsError(f"frame {k} has no calculator: set atoms.calc, or give one")
        try:
            states.append(_Frame(atoms, settings))
        except SettingsError as error:
            raise SettingsError(f"frame {k}: {error}") from None
    groups: dict[Any, list[_Frame]] = {}
    for state in states:
        groups.setdefault(_kind(state.atoms, calculator), []).append(state)
    with stoppable() as stop, progress_bar(desc="relax", unit="frame", show=progress, total=len(states)) as bar:
        for group in groups.values():
            evaluate = batch_forces(group[0].atoms, calculator)
            active = group
            while active and not stop.requested:
                asked = np.array([state.asked() for state in active])
                for state, x, answer in zip(active, asked, _answers(evaluate, asked), strict=True):
                    state.tell(x, *answer)
                before, active = len(active), [state for state in active if state.active]
                bar.update(before - len(active))
            for state in active:
                state.message = "interrupted"
    found = [state.result() for state in states]
    failed = [k for k, result in enumerate(found) if not result.converged]
    if strict and failed:
        shown = ", ".join(map(str, failed[:20])) + (", ..." if len(failed) > 20 else "")
        raise NumericsError(f"not relaxed: frames {shown}; of frame {failed[0]}, {found[failed[0]].message}")
    return found


def _kind(atoms: ase.Atoms, calculator: Any) -> Any:
    """Key of the frames that one batch can hold."""
    key: list[Any] = [a.tobytes() for a in (atoms.numbers, atoms.cell.array, atoms.pbc)]
    key += [atoms.arrays[name].tolist() if name in atoms.arrays else None for name in STATE_ARRAYS]
    key += [atoms.info.get(name) for name in STATE_INFO]
    return repr(key), id(atoms.calc) if calculator is None else None


def _answers(evaluate: BatchForces, asked: np.ndarray) -> list[tuple[float, np.ndarray, str]]:
    """Energy, forces, and the reason where they are not finite, at each of the positions (R, n, 3)."""
    try:
        return [(float(e), f, "") for e, f in zip(*evaluate(asked), strict=True)]
    except NumericsError as error:
        if len(asked) == 1:
            return [(np.inf, np.zeros_like(asked[0]), str(error))]
    return [answer for x in asked for answer in _answers(evaluate, x[None])]
