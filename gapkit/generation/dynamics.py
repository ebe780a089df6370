"""Frames from molecular dynamics: decorrelated thermal snapshots, and sampling at fixed values of a distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixBondLength
from ase.md.velocitydistribution import Stationary, thermalize_momenta

from gapkit.checks import check_positive
from gapkit.exceptions import DataError
from gapkit.generation.frames import check_count, fresh
from gapkit.randomness import generator_of
from gapkit.sampling.dynamics import langevin
from gapkit.sampling.time_series import statistical_inefficiency


def thermal_snapshots(
    atoms: Atoms,
    calculator: Any,
    temperature: float,
    n: int,
    spacing: int | None = None,
    timestep: float = 1.0,
    equilibration: int = 500,
    random_state: Any = None,
    name: str = "md",
) -> Iterator[Atoms]:
    """``n`` snapshots of Langevin dynamics at ``temperature`` (K).

    Parameters
    ----------
    spacing
        Steps between snapshots; None: the statistical inefficiency of the potential energy over the second half of the
        equilibration, so that snapshots are decorrelated.
    timestep
        fs.
    equilibration
        Steps before the first snapshot.
    """
    temperature, timestep = check_positive("temperature", temperature, "K"), check_positive("timestep", timestep, "fs")
    n, rng = check_count("n", n), generator_of(random_state)
    steps = check_count("equilibration", equilibration)
    moving = fresh(atoms, "md", name)
    yield from _snapshots(moving, calculator, temperature, n, spacing, timestep, steps, rng)


def constrained_distances(
    atoms: Atoms,
    calculator: Any,
    pair: tuple[int, int],
    distances: Sequence[float],
    temperature: float,
    n: int,
    spacing: int | None = None,
    timestep: float = 1.0,
    equilibration: int = 200,
    random_state: Any = None,
    name: str = "constrained",
) -> Iterator[Atoms]:
    """``n`` snapshots at each of ``distances`` (A) between the two atoms of ``pair``, which the dynamics holds fixed.

    Both atoms move to the wanted distance along their connecting line, and the rest then relaxes by dynamics.
    ``info["reaction_coordinate"]`` is the distance.

    Raises
    ------
    DataError
        For a pair that is not two different atoms.
    """
    temperature, timestep = check_positive("temperature", temperature, "K"), check_positive("timestep", timestep, "fs")
    n, rng = check_count("n", n), generator_of(random_state)
    steps = check_count("equilibration", equilibration)
    i, j = pair
    if i == j or not all(0 <= k < len(atoms) for k in pair):
        raise DataError(f"pair must be the numbers of two different atoms below {len(atoms)}, not {pair!r}")
    for distance in distances:
        distance = check_positive("distance", float(distance), "A")
        moving = fresh(atoms, "constrained", f"{name}-{distance:g}")
        moving.info["reaction_coordinate"] = distance
        moving.set_distance(i, j, distance, fix=0.5, mic=bool(moving.pbc.any()))
        moving.set_constraint(FixBondLength(i, j))
        yield from _snapshots(moving, calculator, temperature, n, spacing, timestep, steps, rng)


def _snapshots(
    moving: Atoms,
    calculator: Any,
    temperature: float,
    n: int,
    spacing: int | None,
    timestep: float,
    equilibration: int,
    rng: np.random.Generator,
) -> Iterator[Atoms]:
    moving.calc = calculator
    thermalize_momenta(moving, temperature, rng=rng)
    if not moving.constraints:
        Stationary(moving)
    dynamics = langevin(moving, temperature, timestep, rng)
    energies: list[float] = []
    dynamics.attach(lambda: energies.append(moving.get_potential_energy()), interval=1)
    dynamics.run(equilibration)
    if spacing is None:
        spacing = int(np.ceil(statistical_inefficiency(np.array(energies[len(energies) // 2 :]))))
    spacing = check_count("spacing", spacing)
    for k in range(n):
        dynamics.run(spacing if k else 1)
        if not np.isfinite(moving.positions).all():
            raise DataError(
                "the dynamics ran away: use a shorter time step, or a calculator that knows such structures"
            )
        frame = fresh(moving, moving.info["config_type"], moving.info["trajectory"])
        frame.info.update({k: v for k, v in moving.info.items() if k == "reaction_coordinate"})
        yield frame
