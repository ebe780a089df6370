r"""Vibrations with known answers: coupled oscillators, a Morse diatomic, and modes that are turned into each other."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from gapkit.checks import check_positive
from gapkit.exceptions import SettingsError
from gapkit.vibrations import Hessian, NormalModes, given_hessian
from gapkit.vibrations.modes import wavenumbers


def chain_frequencies(stiffness: float, coupling: float, mass: float) -> np.ndarray:
    """Frequencies (cm^-1) of two equal masses (amu), each on a spring ``stiffness`` (eV/A^2) to a wall and on a spring
    ``coupling`` to the other: omega^2 = k / m and (k + 2 c) / m.

    Examples
    --------
    >>> chain_frequencies(10.0, 2.0, 1.0).round(2)
    array([1649.04, 1951.17])
    """
    for name, value in (("stiffness", stiffness), ("mass", mass)):
        check_positive(name, value, "")
    return wavenumbers(np.array([stiffness, stiffness + 2 * coupling]) / mass)


def chain_hessian(stiffness: float, coupling: float, mass: float) -> Hessian:
    """Hessian of the two masses of :func:`chain_frequencies`, which move along x alone and are held in y and z by
    springs ten times as stiff."""
    atoms = Atoms("H2", positions=[[0, 0, 0], [2.0, 0, 0]], masses=[mass, mass])
    matrix = 10 * stiffness * np.eye(6)
    matrix[0, 0] = matrix[3, 3] = stiffness + coupling
    matrix[0, 3] = matrix[3, 0] = -coupling
    return given_hessian(atoms, matrix)


def morse_frequency(depth: float, a: float, masses: tuple[float, float]) -> float:
    """Harmonic frequency (cm^-1) of a diatomic in D (1 - exp(-a (r - r_0)))^2: omega^2 = 2 D a^2 / mu.

    Parameters
    ----------
    depth, a : float, eV and 1/A
    masses : amu

    Examples
    --------
    >>> round(morse_frequency(4.75, 1.94, (1.00794, 1.00794)), 1)  # H2, by its depth and width
    4392.3
    """
    first, second = (check_positive("mass", m, "amu") for m in masses)
    reduced = first * second / (first + second)
    return float(
        wavenumbers(
            np.array([2 * check_positive("depth", depth, "eV") * check_positive("a", a, "1/A") ** 2 / reduced])
        )[0]
    )


def turned_modes(modes: NormalModes, first: int, second: int, degrees: float) -> Hessian:
    """Hessian with the frequencies of ``modes``, and two of its modes turned into each other.

    No table of frequencies shows the error.

    Raises
    ------
    SettingsError
        For modes that are not there.
    """
    k = len(modes.frequencies)
    if not (0 <= first < k and 0 <= second < k and first != second):
        raise SettingsError(f"give two different modes of 0 to {k - 1}, not {first} and {second}")
    vectors = modes.eigenvectors.reshape(k, -1).copy()
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    vectors[[first, second]] = turn @ vectors[[first, second]]
    kappa = np.sign(modes.frequencies) * modes.angular_frequencies**2
    root = np.sqrt(np.repeat(modes.masses, 3))
    return given_hessian(modes.atoms, (vectors.T * kappa) @ vectors * np.outer(root, root), energy=modes.energy)
