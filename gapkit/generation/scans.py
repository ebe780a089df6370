"""Frames that lead into the repulsive wall: dimers, and pairs of neighbours pushed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from ase import Atoms

from gapkit.checks import check_positive
from gapkit.exceptions import DataError
from gapkit.generation.frames import check_count, fresh
from gapkit.randomness import generator_of
from gapkit.structures.neighbours import neighbours


def dimer_scan(symbols: Sequence[str], distances: Sequence[float], box: float | None = None) -> Iterator[Atoms]:
    """Every pair of ``symbols`` at each of ``distances`` (A), isolated or in a periodic cube of edge ``box`` (A).

    Examples
    --------
    >>> from gapkit.generation import dimer_scan
    >>> [str(a.symbols) for a in dimer_scan(["Si", "O"], distances=[1.6])]
    ['O2', 'OSi', 'Si2']
    """
    for one, two in combinations_with_replacement(sorted(set(symbols)), 2):
        for distance in distances:
            d = check_positive("distance", float(distance), "A")
            dimer = Atoms([one, two], positions=[[0, 0, 0], [0, 0, d]])
            if box is not None:
                dimer.set_cell(np.full(3, check_positive("box", box, "A")))
                dimer.set_pbc(True)
                dimer.center()
            yield fresh(dimer, "dimer", f"dimer-{one}{two}")


def neighbour_scan(
    atoms: Atoms,
    factors: Sequence[float],
    n: int = 1,
    r_cut: float = 6.0,
    random_state: Any = None,
    name: str = "neighbour-scan",
) -> Iterator[Atoms]:
    """Frames in which one of ``n`` atoms has moved towards its nearest neighbour, to ``factors`` times their distance.

    Parameters
    ----------
    atoms
        A bonded structure.
    factors
        For example 0.95, 0.9, ... 0.6.
    r_cut
        How far to look for a neighbour (A).

    Raises
    ------
    DataError
        Where an atom has no neighbour within ``r_cut``.
    """
    n, rng = check_count("n", n), generator_of(random_state)
    factors = [check_positive("factor", float(f)) for f in factors]
    pairs = neighbours(atoms, check_positive("r_cut", r_cut, "A"))
    for atom in rng.permutation(len(atoms))[:n]:
        of_atom = np.flatnonzero(pairs.i == atom)
        if len(of_atom) == 0:
            raise DataError(f"atom {atom} has no neighbour within {r_cut} A: give a larger r_cut")
        vector = pairs.vectors[of_atom[np.argmin(pairs.distances[of_atom])]]
        for factor in factors:
            frame = fresh(atoms, "neighbour_scan", f"{name}-{atom}")
            frame.positions[atom] += (1 - factor) * vector
            yield frame
