"""The two ends of a path: whether atoms correspond, and where the final frame lies beside the initial one."""

from __future__ import annotations

import itertools

import ase
import numpy as np
from ase.geometry import find_mic
from scipy.optimize import linear_sum_assignment

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.paths.rigid import aligned, rotation
from gapkit.sampling.relaxation import STATE_ARRAYS, STATE_INFO, free_atoms
from gapkit.sampling.starts import equal_arrays

#: sum of distances (A) that another order of equal atoms must save before a path is said to exchange atoms
_SAVING = 0.5
_TIE = 0.01  # A


def check_ends(initial: ase.Atoms, final: ase.Atoms) -> np.ndarray:
    """Free atoms (m,) of a path between two frames.

    Raises
    ------
    DataError
        For other cells, periodic directions, compositions, charges, spins or fixed atoms, fixed atoms at other places,
        positions that are not finite, and atoms in another order; then with the order that fits.
    SettingsError
        For constraints other than ``FixAtoms``.
    """
    for name, atoms in (("initial", initial), ("final", final)):
        if not np.isfinite(atoms.positions).all():
            raise DataError(f"the {name} frame: a position is not finite")
    if len(initial) == 0:
        raise DataError("the frames hold no atoms")
    if not np.array_equal(initial.pbc, final.pbc):
        raise DataError(
            f"the ends have periodic directions {initial.pbc.tolist()} and {final.pbc.tolist()}: make them equal"
        )
    vectors = initial.pbc
    apart = np.abs(initial.cell.array - final.cell.array)[vectors]
    if apart.max(initial=0.0) > 1e-6:
        raise DataError(
            f"the cells of the ends differ by up to {apart.max():.3g} A: a path is searched in one cell, so bring both "
            "ends to the same"
        )
    if not np.array_equal(np.sort(initial.numbers), np.sort(final.numbers)):
        raise DataError(
            f"the ends hold different atoms, {initial.get_chemical_formula()} and {final.get_chemical_formula()}"
        )
    if not np.array_equal(initial.numbers, final.numbers):
        order = matching_order(initial, final)
        moved = np.flatnonzero(order != np.arange(len(order)))
        raise DataError(
            f"the ends hold the same atoms in another order; use final[order] with order = {_shown(order, moved)}, "
            "which gapkit.sampling.paths.matching_order(initial, final) gives"
        )
    differs = [k for k in STATE_INFO if not np.array_equal(initial.info.get(k), final.info.get(k))]
    differs += [name for name in STATE_ARRAYS if not equal_arrays(initial, final, name)]
    if differs:
        raise DataError(f"the ends have other {', '.join(differs)}: a path has one electronic state, so set the same")
    free, other = free_atoms(initial), free_atoms(final)
    if not np.array_equal(free, other):
        odd = np.setxor1d(free, other)
        raise DataError(f"atoms fixed in one end only: {_list(odd)}; set the same FixAtoms on both")
    fixed = np.setdiff1d(np.arange(len(initial)), free)
    step = minimum_image(final.positions - initial.positions, initial)[fixed]
    distance = np.linalg.norm(step, axis=1)
    if distance.max(initial=0.0) > 1e-3:
        worst = fixed[distance.argmax()]
        raise DataError(f"atom {worst} is fixed, yet lies {distance.max():.3g} A apart in the two ends")
    if len(free) == 0:
        raise SettingsError("all atoms are fixed: free some")
    return free


def final_positions(initial: ase.Atoms, final: ase.Atoms, free: np.ndarray, align: bool) -> np.ndarray:
    """Positions (n, 3) of the final frame such that atoms go from those of the initial frame by the shortest way.

    Periodic images are the nearest ones. With ``align`` and no fixed atoms, overall translation is removed, and the
    rotation of a molecule (:func:`gapkit.sampling.paths.rigid.aligned`).
    """
    x0, x1 = initial.get_positions(), final.get_positions()
    whole = align and len(free) == len(initial)
    if not initial.pbc.any():
        return aligned(x1, x0) if whole else x1
    step = minimum_image(x1 - x0, initial)
    for _ in range(20 if whole else 0):
        step = step - step.mean(axis=0)
        nearer = minimum_image(step, initial)
        if np.allclose(nearer, step, atol=1e-9):
            break
        step = nearer
    return x0 + step


def minimum_image(vectors: np.ndarray, atoms: ase.Atoms) -> np.ndarray:
    """The shortest of the periodic images of vectors (n, 3; A); a vector that is as short to 0.01 A stays itself."""
    if not np.any(atoms.pbc) or not len(vectors):
        return vectors
    # find_mic takes a tilted vector of a direction that is not periodic for one of a lattice: leave it out
    shortest, length = find_mic(vectors, atoms.cell.array * atoms.pbc[:, None], atoms.pbc)
    stays = np.linalg.norm(vectors, axis=1) < length + _TIE
    return np.where(stays[:, None], vectors, shortest)


def matching_order(initial: ase.Atoms, final: ase.Atoms) -> np.ndarray:
    """Order (n,) with which the atoms of ``final[order]`` are those of ``initial``, at the least sum of distances.

    Atoms of each species are assigned by the Hungarian method (Kuhn, Nav. Res. Logist. Q. 2, 83 (1955)) on distances to
    the nearest periodic image; a molecule is turned onto the other first, from several starting orientations, with
    assignment and alignment in turn.

    Raises
    ------
    DataError
        For frames that do not hold the same atoms.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> matching_order(water, water[[1, 0, 2]]).tolist()
    [1, 0, 2]
    """
    if not np.array_equal(np.sort(initial.numbers), np.sort(final.numbers)):
        raise DataError(
            f"the frames hold different atoms, {initial.get_chemical_formula()} and {final.get_chemical_formula()}"
        )
    if initial.pbc.any() or len(free_atoms(initial)) < len(initial) or len(initial) == 1:
        return _assigned(initial, final, final.positions)[0]
    x0, x1 = initial.positions - initial.positions.mean(axis=0), final.positions - final.positions.mean(axis=0)
    best, least = np.arange(len(initial)), np.inf
    for start in _orientations(x0, x1):
        x, order, cost = start, None, np.inf
        for _ in range(20):
            new, cost = _assigned(initial, final, x + initial.positions.mean(axis=0))
            if order is not None and np.array_equal(new, order):
                break
            order = new
            x = x1 @ rotation(x1[order], x0)
        if cost < least - 1e-9:
            best, least = new, cost
    return best


def exchanged_atoms(initial: ase.Atoms, positions: np.ndarray) -> np.ndarray:
    """Atoms (k,) that would move less in another order of equal atoms, ``positions`` (n, 3; A) being the final ones.

    Empty unless the other order saves 0.5 A of the sum of distances.
    """
    final = ase.Atoms(initial.numbers, positions, cell=initial.cell, pbc=initial.pbc)
    order, cost = _assigned(initial, final, positions)
    as_given = np.linalg.norm(minimum_image(positions - initial.positions, initial), axis=1).sum()
    return np.flatnonzero(order != np.arange(len(order))) if cost < as_given - _SAVING else np.zeros(0, dtype=int)


def _orientations(x0: np.ndarray, x1: np.ndarray) -> list[np.ndarray]:
    """x1 as it lies, and with its principal axes on those of x0 in the 24 ways that are rotations."""
    axes0, axes1 = (np.linalg.svd(x, full_matrices=True)[2] for x in (x0, x1))
    starts = [x1]
    for axes, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3)):
        turn = axes1[list(axes)].T @ np.diag(signs) @ axes0
        if np.linalg.det(turn) > 0:
            starts.append(x1 @ turn)
    return starts


def _assigned(initial: ase.Atoms, final: ase.Atoms, positions: np.ndarray) -> tuple[np.ndarray, float]:
    """Order and sum of distances (A) of the best assignment within each species."""
    order, cost = np.arange(len(initial)), 0.0
    for number in np.unique(initial.numbers):
        here, there = np.flatnonzero(initial.numbers == number), np.flatnonzero(final.numbers == number)
        vectors = positions[there][None] - initial.positions[here][:, None]
        distance = np.linalg.norm(minimum_image(vectors.reshape(-1, 3), initial), axis=1).reshape(len(here), -1)
        rows, columns = linear_sum_assignment(distance)
        order[here[rows]] = there[columns]
        cost += float(distance[rows, columns].sum())
    return order, cost


def _list(numbers: np.ndarray) -> str:
    return ", ".join(map(str, numbers[:12])) + (", ..." if len(numbers) > 12 else "")


def _shown(order: np.ndarray, moved: np.ndarray) -> str:
    """The order as a list, or where that is long the first places that are not the identity's."""
    if len(order) <= 20:
        return str(order.tolist())
    pairs = ", ".join(f"order[{k}] = {order[k]}" for k in moved[:12])
    return f"the identity but for {pairs}" + (", ..." if len(moved) > 12 else "")
