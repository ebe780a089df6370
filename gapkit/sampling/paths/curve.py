"""Energies and positions between the images of a path, by cubic pieces."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicHermiteSpline


class PathCurve:
    """Cubic pieces through images and their energies, with the slopes that forces give.

    Positions have at each image the slope of the parabola through it and its neighbours; the slope of the energy is
    minus the force times that of the positions, so that both belong to one curve.

    Parameters
    ----------
    positions : (k, n, 3)
        Images (A); a fixed atom at the same place in all.
    energies : (k,)
        eV.
    forces : (k, n, 3)
        eV/A.

    Attributes
    ----------
    coordinate : (k,) A
        Length of the straight pieces up to each image.
    slope : (k,) eV/A
        Slope of the energy at the images.

    Examples
    --------
    >>> x = np.zeros((3, 1, 3))
    >>> x[:, 0, 0] = 0.0, 1.0, 2.0
    >>> curve = PathCurve(x, x[:, 0, 0] ** 3, -3.0 * x**2)
    >>> float(curve.energy(1.5).round(6))
    3.375
    """

    def __init__(self, positions: np.ndarray, energies: np.ndarray, forces: np.ndarray):
        flat = positions.reshape(len(positions), -1)
        length = np.linalg.norm(np.diff(flat, axis=0), axis=1)
        self.coordinate = np.concatenate([[0.0], np.cumsum(np.maximum(length, 1e-9))])
        way = np.gradient(flat, self.coordinate, axis=0, edge_order=2 if len(flat) > 2 else 1)
        self.slope = -np.sum(forces.reshape(len(flat), -1) * way, axis=1)
        self._shape = positions.shape[1:]
        self._energy = CubicHermiteSpline(self.coordinate, energies, self.slope)
        self._positions = CubicHermiteSpline(self.coordinate, flat, way)

    def energy(self, coordinate: float | np.ndarray) -> np.ndarray:
        """Energy (eV) at places along the path (A)."""
        return self._energy(coordinate)

    def positions(self, coordinate: float | np.ndarray) -> np.ndarray:
        """Positions (..., n, 3; A) at places along the path (A)."""
        return self._positions(coordinate).reshape((*np.shape(coordinate), *self._shape))

    def extrema(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (A) of the maxima, and those of the minima, of the energy between the ends, in order."""
        places = self._energy.derivative().roots(extrapolate=False)
        places = np.unique(places[np.isfinite(places)])
        inner = places[(places > self.coordinate[0] + 1e-9) & (places < self.coordinate[-1] - 1e-9)]
        bend = self._energy.derivative(2)(inner)
        return inner[bend < 0], inner[bend > 0]
