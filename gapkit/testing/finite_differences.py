"""Finite differences of fourth order, by positions and by strain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ase
import numpy as np

#: Cartesian axes of the six components of the strain, in ASE's order xx yy zz yz xz xy
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
#: steps, in units of h, and coefficients, in units of 1/h, of the first derivative
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))


def central_difference(f: Callable[[float], Any], h: float) -> Any:
    """Derivative at 0 of a function ``f`` of one number, with an error of fourth order in the step ``h``.

    Examples
    --------
    >>> round(central_difference(lambda x: (1 + x) ** 4, h=0.1), 12)
    4.0
    """
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def settled_difference(
    f: Callable[[float], float], steps: Sequence[float] = (1e-3, 4e-3, 1.6e-2), enough: float = 0.0
) -> tuple[float, float]:
    """Derivative at 0 of a function that carries noise, and an estimate of the derivative's error.

    Fourth-order differences with two neighbouring ``steps`` differ by the noise over the step, where the step is small,
    and by higher derivatives where it is large. The pair of steps that agree best gives both numbers.

    Parameters
    ----------
    f
        Function of one number.
    steps
        Steps in rising order; the larger ones are used where the smaller ones disagree.
    enough
        Error with which the search for a better step ends.

    Examples
    --------
    >>> value, error = settled_difference(lambda x: (1 + x) ** 4)
    >>> round(value, 9), error < 1e-9
    (4.0, True)
    """
    best, error = np.nan, np.inf
    smaller = central_difference(f, steps[0])
    for step in steps[1:]:
        larger = central_difference(f, step)
        if abs(larger - smaller) < error:
            best, error = smaller, abs(larger - smaller)
        if error <= enough:
            break
        smaller = larger
    return float(best), float(error)


def refined_difference(
    difference: Callable[[float], np.ndarray | None], exact: np.ndarray, h: float, allowed: float
) -> np.ndarray | None:
    """Finite ``difference`` with the first of the steps h, h/10, h/100 that is within ``allowed`` of ``exact``.

    A cutoff function whose third derivative jumps leaves an error of second order in the step where a neighbour passes
    the jump; a wrong derivative is wrong with every step. Without a step that is good enough the last difference is
    returned, or None where there is none at all.
    """
    last = None
    for step in (h, 0.1 * h, 0.01 * h):
        found = difference(step)
        last = last if found is None else found
        if found is not None and np.abs(found - exact).max(initial=0.0) <= allowed:
            break
    return last


def displaced(atoms: ase.Atoms, atom: int, axis: int, step: float) -> ase.Atoms:
    """A copy with one coordinate moved by ``step`` (A)."""
    moved = atoms.copy()
    moved.positions[atom, axis] += step
    return moved


def moved_along(atoms: ase.Atoms, direction: np.ndarray, step: float) -> ase.Atoms:
    """A copy with all atoms moved by ``step`` times ``direction`` (n, 3; A)."""
    moved = atoms.copy()
    moved.positions += step * direction
    return moved


def strained(atoms: ase.Atoms, component: int, step: float) -> ase.Atoms:
    """A copy under a symmetric strain whose Voigt component is ``step``."""
    a, b = VOIGT[component]
    deformation = np.eye(3)
    deformation[a, b] += step / 2
    deformation[b, a] += step / 2
    moved = atoms.copy()
    moved.set_cell(atoms.cell.array @ deformation, scale_atoms=False)
    moved.positions = atoms.positions @ deformation
    return moved
