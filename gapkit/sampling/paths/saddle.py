"""Saddle points: refinement along the lowest mode, proof by curvatures, and the way down on both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ase
import numpy as np

from gapkit.checkpoints import stoppable
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.sampling.batches import BatchForces, batch_forces
from gapkit.sampling.paths.band import QuasiNewton
from gapkit.sampling.paths.modes import curvature_matrix, curvature_product, fixed_modes, lowest_modes
from gapkit.sampling.paths.rigid import without
from gapkit.sampling.relaxation import RelaxationSettings, RelaxedFrame, free_atoms, relax_many, with_results
from gapkit.settings import Settings

#: curvature (eV/A^2) below which a mode counts as one that goes down; finite differences are no sharper
NEGATIVE = -1e-3
_PUSH = 0.1  # A, of the atom that moves most
_PUSHED_STEPS = 60  # iterations after which a push is given up


@dataclass(frozen=True)
class SaddleSettings(Settings):
    """Settings of :func:`refine_saddle`.

    Attributes
    ----------
    fmax : float
        Largest force on a free atom at the end (eV/A).
    steps : int
        Largest number of iterations.
    longest_step : float
        Longest step of an atom (A).
    displacement : float
        Step of the finite differences of forces (A).
    rotations : int
        Largest number of products of the Hessian with a vector per iteration, by which the lowest mode is improved.
    dense_limit : int
        Number of free atoms up to which the proof takes the whole Hessian (6 evaluations for each free atom, in one
        batch); beyond it the two lowest curvatures by Lanczos' method.
    pushes : int
        Number of times that a point with more than one negative curvature is left along the second of its modes, and
        the search repeated: bands between symmetric ends may lie on a ridge.
    align : bool
        Whether overall translation and rotation cost no energy, and are left out. False: atoms stand in an outer field.
    """

    fmax: float = 1e-3
    steps: int = 200
    longest_step: float = 0.1
    displacement: float = 0.01
    rotations: int = 6
    dense_limit: int = 40
    pushes: int = 2
    align: bool = True

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        for name in ("fmax", "longest_step", "displacement"):
            if not 0 < getattr(self, name) < np.inf:
                raise SettingsError(f"{name} must be positive and finite, not {getattr(self, name)}")
        for name in ("steps", "rotations"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("dense_limit", "pushes"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must not be negative, not {getattr(self, name)}")


@dataclass(frozen=True)
class Saddle:
    """A stationary point, with the curvatures that say whether it is a saddle of first order.

    Attributes
    ----------
    atoms : ase.Atoms
        With energy and forces.
    energy : float, eV
    largest_force : float, eV/A
        On a free atom.
    mode : (n, 3)
        Unit vector of the lowest curvature; zero on fixed atoms.
    curvatures : (c,) eV/A^2
        Lowest eigenvalues of the Hessian, rigid modes left out: all of them from the whole Hessian, or two.
    curvature_errors : (c,) eV/A^2
        Residual norms of the eigenvalues: zero from the whole Hessian.
    force_converged : bool
        Whether ``largest_force`` is below the limit.
    iterations, evaluations : int
    """

    atoms: ase.Atoms
    energy: float
    largest_force: float
    mode: np.ndarray
    curvatures: np.ndarray
    curvature_errors: np.ndarray
    force_converged: bool
    iterations: int
    evaluations: int

    @property
    def curvature(self) -> float:
        """Lowest curvature (eV/A^2)."""
        return float(self.curvatures[0])

    @property
    def negative(self) -> int:
        """Number of curvatures below -0.001 eV/A^2."""
        return int(np.sum(self.curvatures < NEGATIVE))

    @property
    def is_saddle(self) -> bool:
        """Whether the force vanishes and exactly one curvature is negative."""
        return self.force_converged and self.negative == 1

    def __str__(self) -> str:
        more = f", next {self.curvatures[1]:.3f}" if len(self.curvatures) > 1 else ""
        kind = "saddle of first order" if self.is_saddle else "no saddle of first order"
        if not self.force_converged:
            kind = "not converged"
        return (
            f"{kind}: {self.energy:.6f} eV, lowest curvature {self.curvature:.3f} eV/A^2{more}, {self.negative} "
            f"negative, largest force {self.largest_force:.2g} eV/A, {self.evaluations} evaluations"
        )


def refine_saddle(
    atoms: ase.Atoms,
    calculator: Any = None,
    settings: SaddleSettings | None = None,
    *,
    mode: np.ndarray | None = None,
    progress: bool = False,
) -> Saddle:
    """Saddle point near a frame, with the proof that exactly one curvature is negative.

    The force with its component along the lowest mode turned round is followed (Henkelman and Jonsson, J. Chem. Phys.
    111, 7010 (1999)), by L-BFGS (Kaestner and Sherwood, J. Chem. Phys. 128, 014106 (2008)). The mode comes from a few
    Lanczos steps on products of the Hessian with a vector, two evaluations each, that start from the mode of the
    iteration before.

    Parameters
    ----------
    atoms
        Frame near the saddle, such as the climbing image of a band; left as it is.
    calculator
        ASE calculator; default: that of ``atoms``.
    settings
        See :class:`SaddleSettings`.
    mode : (n, 3), optional
        Guess of the mode, such as the tangent of the band; default: a vector without symmetry, which costs more
        evaluations at the start.
    progress
        Whether a bar is shown.

    Raises
    ------
    SettingsError
        Without a calculator, for a constraint other than ``FixAtoms``, or where nothing can move.
    DataError
        For positions or a mode that cannot be used.
    NumericsError
        For an energy or force that is not finite.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from ase.calculators.emt import EMT
    >>> flat = molecule("NH3")
    >>> flat.positions[0, 2] = flat.positions[1, 2]
    >>> umbrella = np.zeros((4, 3))
    >>> umbrella[0, 2] = 1.0
    >>> found = refine_saddle(flat, EMT(), mode=umbrella)
    >>> found.force_converged
    True
    """
    settings = settings if settings is not None else SaddleSettings()
    if not np.isfinite(atoms.positions).all():
        raise DataError("the frame has a position that is not finite")
    free, evaluate = free_atoms(atoms), _Counted(batch_forces(atoms, calculator))
    start, x, iterations = _start(atoms, free, mode, settings.align), atoms.get_positions(), 0
    found: list[Saddle] = []
    with stoppable() as stop, progress_bar(desc="saddle", unit="step", show=progress, total=settings.steps) as bar:

        def each(largest: float) -> bool:
            bar.set_postfix_str(f"{largest:.3f} eV/A", refresh=False)
            bar.update()
            return stop.requested

        while True:
            left = min(settings.steps - iterations, _PUSHED_STEPS if found else settings.steps)
            x, energy, forces, largest, start, count = _follow(
                evaluate, x, free, atoms.pbc, start, settings, left, each
            )
            iterations += count
            values, vectors, errors = _curvatures(evaluate, x, free, atoms.pbc, settings, start)
            whole = np.zeros_like(x)
            whole[free] = (vectors[0] * np.sign(vectors[0] @ start or 1.0)).reshape(-1, 3)
            point = with_results(atoms, x, energy, forces)
            converged = bool(largest < settings.fmax)
            found.append(
                Saddle(point, float(energy), largest, whole, values, errors, converged, iterations, evaluate.count)
            )
            if not converged or found[-1].negative < 2 or len(found) > settings.pushes:
                break
            if iterations >= settings.steps or stop.requested:
                break
            aside = vectors[1].reshape(-1, 3)
            x = x.copy()
            x[free] += _PUSH * aside / np.linalg.norm(aside, axis=1).max()
    best = found[-1] if found[-1].is_saddle else found[0]  # a push that led nowhere is taken back
    return replace(best, iterations=iterations, evaluations=evaluate.count)


def _follow(evaluate, x, free, pbc, start, settings: SaddleSettings, steps: int, each):
    """Positions where the force vanishes and the lowest curvature is negative, or where the steps are used up.

    Returns positions, energy, forces, the largest force, the lowest mode (3 m,), and the number of iterations.
    """
    mover, before = QuasiNewton(settings.longest_step), -1.0
    for iteration in range(1, steps + 1):
        rigid = fixed_modes(x, free, pbc, settings.align)
        n = without(rigid, start)
        n /= np.linalg.norm(n)
        energy, forces, first = _three(evaluate, x, free, settings.displacement, n)
        f = without(rigid, forces[free].ravel())
        largest = float(np.linalg.norm(f.reshape(-1, 3), axis=1).max())
        product = curvature_product(evaluate, x, free, settings.displacement, rigid)
        values, vectors, _ = lowest_modes(product, n, 1, 0.05, settings.rotations, without(rigid, first))
        start, sign = vectors[0] * np.sign(vectors[0] @ n or 1.0), float(np.sign(values[0]))
        if each(largest) or (largest < settings.fmax and sign < 0) or iteration == steps:
            break
        if sign != before:
            mover.forget()
            before = sign
        along = (f @ start) * start
        effective = f - 2.0 * along if sign < 0 else _climb(-along, settings.longest_step)
        x = x.copy()
        x[free] += mover.step(x[free].reshape(1, -1), effective[None]).reshape(-1, 3)
    return x, energy, forces, largest, start, iteration


def descend(
    saddle: ase.Atoms,
    mode: np.ndarray,
    calculator: Any = None,
    settings: RelaxationSettings | None = None,
    *,
    push: float = 0.1,
    progress: bool = False,
) -> tuple[RelaxedFrame, RelaxedFrame]:
    """Minima on both sides of a saddle: the first against ``mode``, the second along it.

    Both frames relax in one batch (:func:`gapkit.sampling.relaxation.relax_many`), by steps of at most 0.1 A unless
    ``settings`` say otherwise. The way is not the path of steepest descent.

    Parameters
    ----------
    saddle
        Frame at the saddle.
    mode : (n, 3)
        Direction of negative curvature.
    calculator
        ASE calculator; default: that of ``saddle``.
    settings
        Settings of the relaxations; default: forces of 0.001 eV/A.
    push : float
        Displacement (A) along the mode of the atom that moves most, at the start.
    progress
        Whether a bar is shown.

    Raises
    ------
    SettingsError
        For a push that is not positive, or without a calculator.
    DataError
        For a mode of another shape, or zero.
    """
    settings = settings if settings is not None else RelaxationSettings(fmax=1e-3, longest_step=0.1)
    if not 0 < push < np.inf:
        raise SettingsError(f"push must be positive and finite (A), not {push}")
    calculator = saddle.calc if calculator is None else calculator
    mode = _checked_mode(saddle, mode)
    step = push * mode / np.linalg.norm(mode, axis=1).max()
    sides = []
    for sign in (-1.0, 1.0):
        side = saddle.copy()
        side.set_positions(saddle.positions + sign * step, apply_constraint=False)
        sides.append(side)
    back, forth = relax_many(sides, calculator, settings, progress=progress)
    return back, forth


class _Counted:
    """Energies and forces of copies, and how many were asked for."""

    def __init__(self, evaluate: BatchForces):
        self._evaluate, self.count = evaluate, 0

    def __call__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.count += len(positions)
        return self._evaluate(positions)


def _three(evaluate, x, free, displacement, n):
    """Energy and forces at x, and the product of the Hessian with the unit vector n, in one batch."""
    copies = np.repeat(x[None], 3, axis=0)
    step = displacement * n.reshape(-1, 3)
    copies[1, free] += step
    copies[2, free] -= step
    energies, forces = evaluate(copies)
    ends = forces[1:, free].reshape(2, -1)
    return energies[0], forces[0], (ends[1] - ends[0]) / (2.0 * displacement)


def _climb(force: np.ndarray, longest: float) -> np.ndarray:
    """A force that moves at least half of the longest step: slopes may be flat where no curvature is negative."""
    length = np.linalg.norm(force.reshape(-1, 3), axis=1).max()
    return force * max(1.0, 25.0 * longest / max(length, 1e-12))


def _curvatures(evaluate, x, free, pbc, settings, start):
    """Lowest curvatures, their modes and residual norms at a stationary point."""
    rigid = fixed_modes(x, free, pbc, settings.align)
    if len(free) <= settings.dense_limit:
        H = curvature_matrix(evaluate, x, free, settings.displacement, rigid)
        values, vectors = np.linalg.eigh(H + 1e6 * rigid.T @ rigid)
        kept = len(values) - len(rigid)
        return values[:kept], vectors.T[:kept], np.zeros(kept)
    product = curvature_product(evaluate, x, free, settings.displacement, rigid)
    # modes of other symmetries than the first vector's are found only from one without symmetry
    begin = without(rigid, start + 0.3 * _without_symmetry(len(start)))
    return lowest_modes(product, begin, 2, 0.02, 300)


def _without_symmetry(f: int) -> np.ndarray:
    v = np.sin(1.0 + np.arange(f) ** 2)
    return v / np.linalg.norm(v)


def _start(atoms: ase.Atoms, free: np.ndarray, mode: np.ndarray | None, align: bool) -> np.ndarray:
    rigid = fixed_modes(atoms.get_positions(), free, atoms.pbc, align)
    if len(rigid) >= 3 * len(free):
        raise SettingsError("nothing can move but the frame as a whole, or all atoms are fixed")
    given = _without_symmetry(3 * len(free)) if mode is None else _checked_mode(atoms, mode)[free].ravel()
    start = without(rigid, given)
    if np.linalg.norm(start) < 1e-6 * np.linalg.norm(given):
        raise DataError("the mode is an overall translation or rotation: give another")
    return start / np.linalg.norm(start)


def _checked_mode(atoms: ase.Atoms, mode: np.ndarray) -> np.ndarray:
    """The mode (n, 3), zero on fixed atoms."""
    mode = np.array(mode, dtype=float)
    if mode.shape != atoms.positions.shape or not np.isfinite(mode).all():
        raise DataError(f"the mode must be finite and of the shape {atoms.positions.shape}, not {mode.shape}")
    mode[np.setdiff1d(np.arange(len(atoms)), free_atoms(atoms))] = 0.0
    if not mode.any():
        raise DataError("the mode moves no free atom")
    return mode
