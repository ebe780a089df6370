"""Energy surfaces of two coordinates on which searches for saddles are tried, with their gradients.

One atom at (x, y, 0) stands for the two coordinates; :class:`PlaneSurface` is its calculator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes

#: from two coordinates to a value and its gradient (2,)
Surface = Callable[[float, float], tuple[float, np.ndarray]]

#: parameters A, a, b, c, x0, y0 of Mueller and Brown's four Gaussians
_GAUSSIANS = np.array(
    [
        (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
        (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
        (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
        (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
    ]
)


def mueller_brown(x: float, y: float) -> tuple[float, np.ndarray]:
    """Surface of Mueller and Brown, Theor. Chim. Acta 53, 75 (1979), and its gradient, in hundredths of their unit.

    It has three minima and two saddles.

    Examples
    --------
    >>> energy, gradient = mueller_brown(-0.558223634633, 1.441725841805)
    >>> round(energy, 6), bool(np.abs(gradient).max() < 1e-8)
    (-1.466995, True)
    """
    A, a, b, c, x0, y0 = _GAUSSIANS.T
    u, v = x - x0, y - y0
    terms = 0.01 * A * np.exp(a * u * u + b * u * v + c * v * v)
    return float(terms.sum()), np.array([terms @ (2 * a * u + b * v), terms @ (b * u + 2 * c * v)])


def leps_oscillator(r: float, x: float) -> tuple[float, np.ndarray]:
    r"""Collinear exchange of an atom between two that are held, coupled to an oscillator, and its gradient (eV, A).

    Model II of Jonsson, Mills and Jacobsen, in Classical and Quantum Dynamics in Condensed Phase Simulations (World
    Scientific, 1998), appendix: the London-Eyring-Polanyi-Sato (LEPS) potential of the atoms A, B and C with
    :math:`r_{AC} = 3.742` held, plus :math:`2 k_c (r - (r_{AC}/2 - x/c))^2`.

    Parameters
    ----------
    r
        Distance of A and B.
    x
        Coordinate of the oscillator.

    Examples
    --------
    >>> energy, gradient = leps_oscillator(0.742, 1.3)
    >>> step = 1e-5
    >>> slope = (leps_oscillator(0.742 + step, 1.3)[0] - leps_oscillator(0.742 - step, 1.3)[0]) / (2 * step)
    >>> bool(abs(slope - gradient[0]) < 1e-7)
    True
    """
    held, k, coupling = 3.742, 0.2025, 1.154
    depths, shares = (4.746, 4.746, 3.445), (1.05, 1.80, 1.05)
    terms = [_pair(d, one) for d, one in zip(depths, (r, held - r, held), strict=True)]
    q, dq, j, dj = (np.array([t[i] for t in terms]) / shares for i in range(4))
    sign = np.array([1.0, -1.0, 0.0])  # derivatives of the distances by r
    root = np.sqrt(j @ j - j[0] * j[1] - j[1] * j[2] - j[0] * j[2])
    slope = (2 * j - (j.sum() - j)) @ (sign * dj) / (2 * root)
    stretch = r - held / 2 + x / coupling
    energy = q.sum() - root + 2 * k * stretch**2
    return float(energy), np.array([dq @ sign - slope + 4 * k * stretch, 4 * k * stretch / coupling])


def _pair(depth: float, r: float) -> tuple[float, float, float, float]:
    """Coulomb and exchange integrals of a pair, each with its derivative (eV, eV/A)."""
    alpha, r0 = 1.942, 0.742
    e = np.exp(-alpha * (r - r0))
    coulomb, exchange = 0.5 * depth * (1.5 * e**2 - e), 0.25 * depth * (e**2 - 6 * e)
    return coulomb, -0.5 * alpha * depth * (3 * e**2 - e), exchange, -0.25 * alpha * depth * (2 * e**2 - 6 * e)


class PlaneSurface(Calculator):
    """ASE calculator of one atom whose x and y (A) are the coordinates of a surface; nothing acts along z.

    Parameters
    ----------
    surface
        Value (eV) and gradient (2,) at two coordinates.

    Examples
    --------
    >>> atom = plane_atom(0.6, 0.0)
    >>> atom.calc = PlaneSurface(mueller_brown)
    >>> round(atom.get_potential_energy(), 3)
    -1.067
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - the name and form that ASE asks for

    def __init__(self, surface: Surface) -> None:
        super().__init__()
        self.surface = surface

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, gradient = self.surface(*self.atoms.positions[0, :2])
        self.results = {"energy": energy, "forces": -np.array([[*gradient, 0.0]])}


def plane_atom(x: float, y: float) -> ase.Atoms:
    """One atom at (x, y, 0)."""
    return ase.Atoms("H", [[x, y, 0.0]])
