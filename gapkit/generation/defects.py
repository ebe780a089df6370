"""Frames with point defects and surfaces, at a range of temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atom, Atoms
from ase.build import surface
from ase.geometry import get_distances

from gapkit.checks import check_positive
from gapkit.exceptions import DataError, SettingsError
from gapkit.generation.displacements import random_displacements
from gapkit.generation.dynamics import thermal_snapshots
from gapkit.generation.frames import check_count, fresh
from gapkit.randomness import generator_of

#: random points tried for the place of an interstitial
TRIALS = 500


def vacancies(
    atoms: Atoms,
    n: int,
    temperatures: Sequence[float] = (300.0,),
    calculator: Any = None,
    displacement: float = 0.05,
    n_vacancies: int = 1,
    random_state: Any = None,
    name: str = "vacancy",
    **dynamics: Any,
) -> Iterator[Atoms]:
    """Frames with ``n_vacancies`` vacancies: ``n`` per temperature (K), each from a separate run.

    Parameters
    ----------
    calculator
        Runs the dynamics at each temperature; None: random displacements of ``displacement`` (A), which is scaled by
        the square root of the temperature over 300 K.
    dynamics
        Keywords of :func:`gapkit.generation.thermal_snapshots`, such as ``timestep`` and ``equilibration``.

    Raises
    ------
    DataError
        For a structure with too few atoms.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from gapkit.generation import vacancies
    >>> [len(a) for a in vacancies(bulk("Si", cubic=True), n=2, temperatures=(300, 600), random_state=0)]
    [7, 7, 7, 7]
    """
    n_vacancies, rng = check_count("n_vacancies", n_vacancies), generator_of(random_state)
    if len(atoms) <= n_vacancies:
        raise DataError(f"{n_vacancies} atoms cannot be taken from a structure of {len(atoms)}; give a larger cell")

    def defect() -> Atoms:
        keep = np.sort(rng.permutation(len(atoms))[n_vacancies:])
        return atoms[keep]

    yield from _at_temperatures(defect, "vacancy", n, temperatures, calculator, displacement, rng, name, dynamics)


def interstitials(
    atoms: Atoms,
    n: int,
    symbol: str | None = None,
    temperatures: Sequence[float] = (300.0,),
    calculator: Any = None,
    displacement: float = 0.05,
    random_state: Any = None,
    name: str = "interstitial",
    **dynamics: Any,
) -> Iterator[Atoms]:
    """Frames with one additional atom in a wide void: ``n`` per temperature (K), made like :func:`vacancies`.

    ``symbol``: that of the added atom; None: that of a random atom. The place is the best of a handful of random
    points, by the distance to the nearest atom; a new one for every frame.

    Raises
    ------
    DataError
        For a structure that is not periodic.
    """
    if not atoms.pbc.all():
        raise DataError("an interstitial needs a structure that is periodic in all directions")
    rng = generator_of(random_state)

    def defect() -> Atoms:
        points = rng.uniform(size=(TRIALS, 3)) @ atoms.cell.array
        _, distances = get_distances(points, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        widest = np.argsort(distances.min(axis=1))[-5:]
        wider = atoms.copy()
        species = symbol or str(rng.choice(atoms.get_chemical_symbols()))
        wider.append(Atom(species, points[rng.choice(widest)]))
        return wider

    yield from _at_temperatures(defect, "interstitial", n, temperatures, calculator, displacement, rng, name, dynamics)


def surfaces(
    bulk: Atoms,
    indices: Sequence[tuple[int, int, int]],
    n: int,
    layers: int = 4,
    vacuum: float = 8.0,
    repeat: tuple[int, int] = (1, 1),
    temperatures: Sequence[float] = (300.0,),
    calculator: Any = None,
    displacement: float = 0.05,
    random_state: Any = None,
    name: str = "surface",
    **dynamics: Any,
) -> Iterator[Atoms]:
    """``n`` frames per temperature (K) of a slab for each of the Miller ``indices``; else as :func:`vacancies`.

    Parameters
    ----------
    bulk
        Conventional cell of the crystal.
    layers
        Repeats of the cell normal to the surface.
    vacuum
        Above and below the slab (A).
    repeat
        In the plane of the surface.

    Raises
    ------
    SettingsError
        For indices that name no plane.
    """
    rng = generator_of(random_state)
    layers, vacuum = check_count("layers", layers), check_positive("vacuum", vacuum, "A")
    for miller in indices:
        if len(miller) != 3 or not any(miller):
            raise SettingsError(f"Miller indices are three integers, not all zero; got {miller!r}")
        slab = surface(bulk, tuple(int(i) for i in miller), layers, vacuum=vacuum, periodic=True) * (*repeat, 1)
        label = f"{name}-{''.join(str(i) for i in miller)}"
        yield from _at_temperatures(
            slab.copy, "surface", n, temperatures, calculator, displacement, rng, label, dynamics
        )


def _at_temperatures(
    defect: Any,
    config_type: str,
    n: int,
    temperatures: Sequence[float],
    calculator: Any,
    displacement: float,
    rng: np.random.Generator,
    name: str,
    dynamics: dict[str, Any],
) -> Iterator[Atoms]:
    """``n`` structures from ``defect()`` per temperature: displaced, or the end of a run of their own."""
    n = check_count("n", n)
    for temperature in temperatures:
        temperature = check_positive("temperature", float(temperature), "K")
        for k in range(n):
            label = f"{name}-{temperature:g}K-{k}"
            if calculator is None:
                std = check_positive("displacement", displacement, "A") * np.sqrt(temperature / 300.0)
                frame = next(iter(random_displacements(defect(), std, 1, rng)))
            else:
                frame = next(
                    iter(thermal_snapshots(defect(), calculator, temperature, 1, 1, random_state=rng, **dynamics))
                )
            yield fresh(frame, config_type, label)
