r"""Relaxation of a cluster with a rigid rim, and with one bond held open.

L-BFGS (Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4) that starts from the inverse of a spring
network P instead of the unit matrix, as preconditioned optimisers of atoms do (Packwood et al., J. Chem. Phys. 144,
164109 (2016)): the number of steps then hardly depends on the size. A linear constraint :math:`a\cdot u = c` (one
bond's opening) is kept exactly by projecting the step,
:math:`P^{-1} \to P^{-1} - P^{-1} a\, a^T P^{-1} / (a^T P^{-1} a)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu

from gapkit.exceptions import NumericsError, SettingsError
from gapkit.structures.neighbours import neighbours

_MEMORY = 20  # steps that L-BFGS remembers
_LONGEST_STEP = 0.15  # A, of any atom


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
        mine, both = i >= 0, (i >= 0) & (j >= 0)
        rows = np.concatenate([i[mine], i[both]])
        columns = np.concatenate([i[mine], j[both]])
        values = np.concatenate([blocks[mine], -blocks[both]])
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
        """``P^-1 g`` for g (3 m,)."""
        return self._factor.solve(gradient)


@dataclass(frozen=True)
class Relaxed:
    """A relaxed cluster.

    Attributes
    ----------
    positions : (n, 3) A
    energy : float, eV
        Of the whole frame; only differences at the same rim mean something.
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
    steps: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    damping = 1.0
    while True:
        projected = across(g)
        if np.abs(projected).max() < fmax or (stop is not None and stop(x)):
            force = 0.0 if a is None else float(a @ g / aa)
            return Relaxed(x, float(energy), force, calls)
        if calls >= max_evaluations:
            raise NumericsError(
                f"no minimum within {max_evaluations} evaluations: the largest force is {np.abs(projected).max():.2g} "
                "eV/A; allow more evaluations, or look at the frame"
            )
        d = _two_loops(projected, steps, changes, direction)
        if d @ projected > -1e-12 * np.linalg.norm(d) * np.linalg.norm(projected):
            steps, changes = [], []
            d = -direction(projected)
        d = d * (damping * min(1.0, _LONGEST_STEP / np.linalg.norm(d.reshape(-1, 3), axis=1).max()))
        trial = x.copy()
        trial[free] += d.reshape(-1, 3)
        new_energy, new_g = evaluate(trial)
        calls += 1
        # energies of a cluster carry rounding of 1e-9 eV: a step that small is judged by its slope alone
        if new_energy > energy + 1e-4 * (d @ projected) + 1e-8 and abs(d @ across(new_g)) > 0.5 * abs(d @ projected):
            damping *= 0.4
            if damping < 1e-4:
                steps, changes, damping = [], [], 0.1
            continue
        damping = min(1.0, 2.0 * damping)
        y = across(new_g) - projected
        if y @ d > 1e-10 * np.linalg.norm(y) * np.linalg.norm(d):
            steps, changes = [*steps, d][-_MEMORY:], [*changes, y][-_MEMORY:]
        x, energy, g = trial, new_energy, new_g


def _two_loops(g, steps, changes, direction) -> np.ndarray:
    """Minus the approximate inverse Hessian times g."""
    q, kept = g.copy(), []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        alpha = (s @ q) / (y @ s)
        q -= alpha * y
        kept.append(alpha)
    r = direction(q)
    for (s, y), alpha in zip(zip(steps, changes, strict=True), reversed(kept), strict=True):
        r += s * (alpha - (y @ r) / (y @ s))
    return -r
