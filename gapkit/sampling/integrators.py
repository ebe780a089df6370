"""Steps of molecular dynamics as functions on arrays: velocity Verlet, and Langevin dynamics by the splitting BAOAB.

Arrays have any shape that the forces accept, such as (replicas, atoms, 3). Units are any set in which mass times
velocity squared is an energy; ASE's are eV, A, atomic mass units, and A sqrt(amu / eV) for times. A coordinate with an
inverse mass of zero is fixed: no force and no noise moves it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gapkit.sampling.batches import BatchForces

#: free motion: from positions, velocities and a time to positions and velocities
Drift = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
#: positions, velocities, energies, forces
Moved = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def free_drift(positions: np.ndarray, velocities: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Motion of particles without forces during ``time``: positions grow by velocity times time.

    Examples
    --------
    >>> free_drift(np.array([1.0]), np.array([2.0]), 0.5)
    (array([2.]), array([2.]))
    """
    return positions + time * velocities, velocities


def velocity_verlet_step(
    positions: np.ndarray,
    velocities: np.ndarray,
    forces: np.ndarray,
    *,
    dt: float,
    inverse_masses: np.ndarray | float,
    evaluate: BatchForces,
    drift: Drift = free_drift,
) -> Moved:
    """Step of Newtonian dynamics by velocity Verlet: half a kick, the drift, half a kick with the new forces.

    Swope, Andersen, Berens, Wilson, J. Chem. Phys. 76, 637 (1982).

    Parameters
    ----------
    positions, velocities, forces
        State at the beginning of the step; ``forces`` are those of ``positions``.
    dt
        Length of the step.
    inverse_masses
        Inverse masses in a shape that fits ``velocities``; zero: the coordinate is fixed.
    evaluate
        Function from positions to energies and forces; called once.
    drift
        Motion between the kicks; another than free motion splits a harmonic part off, such as the springs of a ring
        polymer.

    Returns
    -------
    positions, velocities, energies, forces
        State at the end of the step, in arrays of its own.

    Examples
    --------
    >>> def spring(x):
    ...     return x**2 / 2, -x
    >>> x, v, energy, force = velocity_verlet_step(
    ...     np.array([1.0]), np.array([0.0]), np.array([-1.0]), dt=0.1, inverse_masses=1.0, evaluate=spring
    ... )
    >>> x, v.round(5)
    (array([0.995]), array([-0.09975]))
    """
    half = 0.5 * dt * inverse_masses
    positions, velocities = drift(positions, velocities + half * forces, dt)
    energies, forces = evaluate(positions)
    return positions, velocities + half * forces, energies, forces


def baoab_step(
    positions: np.ndarray,
    velocities: np.ndarray,
    forces: np.ndarray,
    *,
    dt: float,
    inverse_masses: np.ndarray | float,
    evaluate: BatchForces,
    damping: np.ndarray | float,
    noise: np.ndarray | float,
    drift: Drift = free_drift,
) -> Moved:
    """Step of Langevin dynamics by the splitting BAOAB: half a kick (B), half a drift (A), the thermostat (O), A, B.

    The thermostat is the exact solution ``v -> damping * v + noise`` of the Ornstein-Uhlenbeck process during ``dt``;
    :func:`thermostat` gives both. The distribution of positions is exact for harmonic forces at every stable step;
    the variance of velocities is then kT/m (1 - (omega dt)^2 / 4). Leimkuhler, Matthews, Appl. Math. Res. Express
    2013, 34 (2013); J. Chem. Phys. 138, 174102 (2013).

    Parameters
    ----------
    damping
        Factor of the velocities, exp(-friction dt).
    noise
        Random velocities of the variance kT (1 - damping^2) / m, fresh in each step.
    positions, velocities, forces, dt, inverse_masses, evaluate, drift
        Arguments of :func:`velocity_verlet_step`; the drift is called twice, for half the step each.

    Returns
    -------
    positions, velocities, energies, forces
        State at the end of the step, in arrays of its own.

    Examples
    --------
    >>> def free(x):
    ...     return np.zeros(1), np.zeros(1)
    >>> x, v, _, _ = baoab_step(
    ...     np.array([0.0]), np.array([1.0]), np.array([0.0]),
    ...     dt=1.0, inverse_masses=1.0, evaluate=free, damping=0.5, noise=0.0,
    ... )
    >>> x, v
    (array([0.75]), array([0.5]))
    """
    half = 0.5 * dt * inverse_masses
    positions, velocities = drift(positions, velocities + half * forces, 0.5 * dt)
    positions, velocities = drift(positions, damping * velocities + noise, 0.5 * dt)
    energies, forces = evaluate(positions)
    return positions, velocities + half * forces, energies, forces


def thermostat(dt: float, friction: float, kT: float, inverse_masses: np.ndarray) -> tuple[float, np.ndarray]:
    """Damping c = exp(-friction dt) and standard deviations sqrt(kT (1 - c^2) / m) of the noise of :func:`baoab_step`.

    Examples
    --------
    >>> damping, noise_std = thermostat(1.0, np.log(2.0), 3.0, np.array([1.0, 0.0]))
    >>> round(damping, 12), noise_std
    (0.5, array([1.5, 0. ]))
    """
    return float(np.exp(-friction * dt)), np.sqrt(kT * -np.expm1(-2 * friction * dt) * inverse_masses)


def thermal_velocities(kT: float, inverse_masses: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Velocities of the Maxwell-Boltzmann distribution from standard normal numbers; fixed coordinates are at rest.

    Examples
    --------
    >>> thermal_velocities(2.0, np.array([2.0, 0.0]), np.array([1.5, 1.5]))
    array([3., 0.])
    """
    return np.sqrt(kT * inverse_masses) * normals


def kinetic_energies(velocities: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Kinetic energy of each replica (R,) from velocities (R, n, 3) and masses (n,).

    Examples
    --------
    >>> kinetic_energies(np.ones((2, 1, 3)), np.array([4.0]))
    array([6., 6.])
    """
    # rows of one replica each: the order of the sum must not depend on the number of replicas
    return 0.5 * (velocities**2 * masses[:, None]).reshape(len(velocities), -1).sum(axis=1)
