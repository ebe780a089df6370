r"""Nudged elastic band: forces on images, and their optimisation with one batch of energies and forces an iteration.

Tangents are the improved ones of Henkelman and Jonsson, J. Chem. Phys. 113, 9978 (2000), eqs. 8 to 11; springs act
along them by the difference of the distances to both neighbours (eq. 12). The highest image climbs by the force whose
component along the tangent is turned round (Henkelman, Uberuaga and Jonsson, J. Chem. Phys. 113, 9901 (2000), eq. 5).

The band is optimised as one object by L-BFGS without line search (Sheppard, Terrell and Henkelman, J. Chem. Phys. 128,
134106 (2008)); forces on a band are no gradient, so that where it makes no headway FIRE takes over (Bitzek, Koskinen,
Gaehler, Moseler and Gumbsch, Phys. Rev. Lett. 97, 170201 (2006)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gapkit.sampling.batches import BatchForces
from gapkit.sampling.descent import FIRST_SCALE, MEMORY, shortened, two_loops
from gapkit.sampling.paths.rigid import rigid_modes, without

#: iterations without headway (a tenth of the largest force) after which FIRE takes over
PATIENCE = 60


def tangents(x: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Unit tangents (k, f) of the images between the ends of a band x (k + 2, f; A) with energies (k + 2,; eV).

    Examples
    --------
    >>> tangents(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0, 2.0]))
    array([[0., 1.]])
    """
    before, after = x[1:-1] - x[:-2], x[2:] - x[1:-1]
    down, up = energies[:-2] - energies[1:-1], energies[2:] - energies[1:-1]
    larger, smaller = np.maximum(abs(up), abs(down)), np.minimum(abs(up), abs(down))
    higher_after = energies[2:] > energies[:-2]
    weight_after = np.where(higher_after, larger, smaller)
    weight_before = np.where(higher_after, smaller, larger)
    even = larger == 0  # all three energies equal
    weight_after, weight_before = np.where(even, 1.0, weight_after), np.where(even, 1.0, weight_before)
    rising, falling = (up > 0) & (down < 0), (up < 0) & (down > 0)
    weight_after = np.where(rising, 1.0, np.where(falling, 0.0, weight_after))
    weight_before = np.where(rising, 0.0, np.where(falling, 1.0, weight_before))
    t = weight_after[:, None] * after + weight_before[:, None] * before
    return t / np.maximum(np.linalg.norm(t, axis=1, keepdims=True), 1e-300)


def band_forces(
    x: np.ndarray, forces: np.ndarray, tangent: np.ndarray, spring: float, climbing: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Forces on the images of a band, and the parts of them that vanish on a minimum-energy path, both (k, f; eV/A).

    Parameters
    ----------
    x : (k + 2, f)
        Images, the ends included (A).
    forces : (k, f)
        Minus the gradients of the energy (eV/A).
    tangent : (k, f)
        Unit tangents.
    spring : float
        Stiffness of the springs (eV/A^2).
    climbing : int or None
        Image that climbs, counted among the k; its whole force vanishes at the saddle.
    """
    length = np.linalg.norm(np.diff(x, axis=0), axis=1)
    along = np.sum(forces * tangent, axis=1)
    residual = forces - along[:, None] * tangent
    total = residual + spring * (length[1:] - length[:-1])[:, None] * tangent
    if climbing is not None:
        total[climbing] = residual[climbing] = residual[climbing] - along[climbing] * tangent[climbing]
    return total, residual


@dataclass(frozen=True)
class Band:
    """A band of images at the end of its optimisation.

    Attributes
    ----------
    positions : (k + 2, n, 3) A
        Images, the ends included.
    energies : (k,) eV
    forces : (k, n, 3) eV/A
    tangent : (k, n, 3)
        Unit tangents.
    residual : (k,) eV/A
        Largest force on an atom across the path; of the climbing image its whole force.
    climbing : int or None
        Image that climbs, counted among the k.
    converged : bool
    iterations : int
    """

    positions: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    tangent: np.ndarray
    residual: np.ndarray
    climbing: int | None
    converged: bool
    iterations: int


def optimise_band(
    positions: np.ndarray,
    end_energies: np.ndarray,
    evaluate: BatchForces,
    free: np.ndarray,
    pbc: np.ndarray,
    *,
    fmax: float,
    steps: int,
    modes: bool,
    spring: float,
    climb_below: float | None = None,
    longest_step: float = 0.2,
    each: Callable[[float], bool] | None = None,
) -> Band:
    """Optimise a band of images towards a minimum-energy path.

    Parameters
    ----------
    positions : (k + 2, n, 3)
        Images at the start, the ends included (A).
    end_energies : (2,)
        Energies of the ends (eV).
    evaluate
        Energies and forces of images.
    free : (m,) int
        Atoms that move.
    pbc : (3,) bool
        Periodic directions.
    fmax : float
        Largest force at the end (eV/A) across the path, and on the climbing image.
    steps : int
        Largest number of iterations.
    modes : bool
        Whether images neither translate nor rotate as a whole (:func:`gapkit.sampling.paths.rigid.rigid_modes`).
    spring : float
        eV/A^2.
    climb_below : float, optional
        Largest force (eV/A) below which the highest image starts to climb; default: it never climbs.
    longest_step : float
        Longest step of an atom (A).
    each
        Told the largest force of every iteration; True ends the optimisation.
    """
    full = np.array(positions)
    x = full[:, free].reshape(len(full), -1)
    mover: QuasiNewton | Fire = QuasiNewton(longest_step)
    energies = np.array([end_energies[0], *np.zeros(len(x) - 2), end_energies[1]])
    climbs, climbing, best, since = False, None, np.inf, 0
    for iteration in range(1, steps + 1):
        full[:, free] = x.reshape(len(full), -1, 3)
        energies[1:-1], all_forces = evaluate(full[1:-1])
        forces, tangent = all_forces[:, free].reshape(len(x) - 2, -1), tangents(x, energies)
        if modes:
            fixed = [rigid_modes(image, free, pbc) for image in full[1:-1]]
            forces = np.array([without(q, f) for q, f in zip(fixed, forces, strict=True)])
            tangent = np.array([without(q, t) for q, t in zip(fixed, tangent, strict=True)])
            tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-300)
        top = int(np.argmax(energies[1:-1]))
        inside = energies[1 + top] > max(energies[0], energies[-1])
        new = top if climbs and inside else None
        if new != climbing:
            climbing, best, since = new, np.inf, 0
            mover.forget()
        total, across = band_forces(x, forces, tangent, spring, climbing)
        residual = np.linalg.norm(across.reshape(len(across), -1, 3), axis=2).max(axis=1)
        largest = float(residual.max())
        wants_climb = climb_below is not None and not climbs
        converged = largest < fmax and not (wants_climb and inside)
        stop = each is not None and each(largest)
        if converged or stop or iteration == steps:
            break
        if wants_climb and largest < max(climb_below or 0.0, fmax):
            climbs = True  # this image's force is turned from the next iteration on
        best, since = (largest, 0) if largest < 0.9 * best else (best, since + 1)
        if since >= PATIENCE and isinstance(mover, QuasiNewton):
            mover, since = Fire(longest_step), 0
        x = x.copy()
        x[1:-1] += mover.step(x[1:-1], total)
    at = np.zeros((len(full) - 2, full.shape[1], 3))
    at[:, free] = tangent.reshape(len(at), -1, 3)
    return Band(full, energies[1:-1].copy(), all_forces, at, residual, climbing, bool(converged), iteration)


class QuasiNewton:
    """L-BFGS of a field of forces, without line search."""

    def __init__(self, longest_step: float):
        self.longest_step = longest_step
        self.forget()

    def forget(self) -> None:
        """Drop the memory of earlier steps."""
        self._steps: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def step(self, x: np.ndarray, forces: np.ndarray) -> np.ndarray:
        """Step of the images x (k, f) under ``forces`` (k, f)."""
        g = -forces.ravel()
        if self._last is not None:
            s, y = x.ravel() - self._last[0], g - self._last[1]
            if s @ y > 1e-3 * np.linalg.norm(s) * np.linalg.norm(y):
                self._steps, self._changes = [*self._steps, s][-MEMORY:], [*self._changes, y][-MEMORY:]
            else:
                self.forget()
        self._last = (x.ravel().copy(), g)
        d = two_loops(g, self._steps, self._changes, self._scaled)
        if d @ g > -1e-3 * np.linalg.norm(d) * np.linalg.norm(g):
            self._steps, self._changes = [], []
            d = -FIRST_SCALE * g
        return shortened(d, self.longest_step).reshape(x.shape)

    def _scaled(self, q: np.ndarray) -> np.ndarray:
        if not self._steps:
            return FIRST_SCALE * q
        s, y = self._steps[-1], self._changes[-1]
        return (s @ y) / (y @ y) * q


class Fire:
    """FIRE with the parameters of its paper; times in units in which atoms have mass 1."""

    def __init__(self, longest_step: float):
        self.longest_step = longest_step
        self.forget()

    def forget(self) -> None:
        """Set the velocities to zero."""
        self._v: np.ndarray | None = None
        self._dt, self._mixing, self._downhill = 0.1, 0.1, 0

    def step(self, x: np.ndarray, forces: np.ndarray) -> np.ndarray:
        """Step of the images x (k, f) under ``forces`` (k, f)."""
        v = np.zeros_like(forces) if self._v is None else self._v
        if np.sum(v * forces) > 0:
            v = (1 - self._mixing) * v + self._mixing * forces * (np.linalg.norm(v) / np.linalg.norm(forces))
            self._downhill += 1
            if self._downhill > 5:
                self._dt, self._mixing = min(1.1 * self._dt, 1.0), 0.99 * self._mixing
        else:
            v = np.zeros_like(forces)
            self._dt, self._mixing, self._downhill = 0.5 * self._dt, 0.1, 0
        self._v = v + self._dt * forces
        return shortened((self._dt * self._v).ravel(), self.longest_step).reshape(x.shape)
