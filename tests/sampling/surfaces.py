"""Energy surfaces with stationary points in closed form or to many digits, as ASE calculators."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from gapkit.apps.kinetics.surfaces import mueller_brown


class Surface(Calculator):
    """An energy of positions (n, 3) alone; counts calls, and knows batches where ``batches`` is set."""

    implemented_properties = ("energy", "forces")

    def __init__(self, batches: bool = False):
        super().__init__()
        self.sizes: list[int] = []
        if batches:
            self.batch_forces = self._batch_forces

    def value(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy and its gradient (n, 3)."""
        raise NotImplementedError

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, gradient = self.value(self.atoms.positions)
        self.results = {"energy": float(energy), "forces": -gradient}

    def _batch_forces(self, atoms):
        def evaluate(positions):
            self.sizes.append(len(positions))
            found = [self.value(x) for x in positions]
            return np.array([e for e, _ in found]), -np.array([g for _, g in found])

        return evaluate


class MullerBrown(Surface):
    """Mueller and Brown, Theor. Chim. Acta 53, 75 (1979), of the first atom's x and y (A), in hundredths of their unit.

    Stationary points to 12 digits, from Newton's method on the formula.
    """

    reactant = (-0.558223634633, 1.441725841805), -1.466995172100
    middle = (-0.050010822998, 0.466694104872), -0.807678181297
    product = (0.623499404931, 0.028037758529), -1.081667241169
    saddle = (-0.822001558733, 0.624312802815), -0.406648435087
    second_saddle = (0.212486582001, 0.292988325107), -0.722489401125

    def value(self, x):
        energy, gradient = mueller_brown(*x[0, :2])
        return energy, np.array([[*gradient, 0.0], *np.zeros((len(x) - 1, 3))])

    @staticmethod
    def at(point) -> Atoms:
        """An atom at a point (x, y)."""
        return Atoms("H", positions=[[*point, 0.0]])


class CoupledDoubleWell(Surface):
    r"""Double well along x of the first atom, which drags the second atom along (vector coupling).

    :math:`E = h (1 - (x/a)^2)^2 + k/2\,(y^2 + z^2) + k/2\,|r_2 - o - c\,x^2|^2`. Minima at :math:`x = \pm a`,
    :math:`r_2 = o + a^2 c`, of energy 0; saddle at x = 0, :math:`r_2 = o`, of energy h, where the Hessian is diagonal:
    :math:`-4 h / a^2` and k (five times).
    """

    h, a, k = 0.6, 1.1, 3.0
    c, o = np.array([0.5, -0.3, 0.4]), np.array([0.0, 3.0, 0.0])

    def value(self, x):
        p = x[0, 0]
        apart = x[1] - self.o - self.c * p**2
        well = 1.0 - (p / self.a) ** 2
        energy = self.h * well**2 + 0.5 * self.k * (x[0, 1] ** 2 + x[0, 2] ** 2 + apart @ apart)
        gradient = np.zeros_like(x)
        gradient[1] = self.k * apart
        gradient[0] = 0.0, self.k * x[0, 1], self.k * x[0, 2]
        gradient[0, 0] = -4.0 * self.h * well * p / self.a**2 - 2.0 * self.k * p * (self.c @ apart)
        return energy, gradient

    def minimum(self, side: float) -> Atoms:
        """The minimum at x = side a."""
        return Atoms("HHe", positions=[[side * self.a, 0.0, 0.0], self.o + self.a**2 * self.c])


class Quadratic(Surface):
    """E = (x - x*) H (x - x*) / 2 + e, with a positive definite H of a given spread."""

    def __init__(self, n: int, seed: int, batches: bool = False):
        super().__init__(batches)
        rng = np.random.default_rng(seed)
        q, _ = np.linalg.qr(rng.normal(size=(3 * n, 3 * n)))
        self.H = q @ np.diag(np.geomspace(0.5, 40.0, 3 * n)) @ q.T
        self.minimum, self.lowest = rng.normal(scale=2.0, size=(n, 3)), float(rng.normal())

    def value(self, x):
        d = (x - self.minimum).ravel()
        return self.lowest + 0.5 * d @ self.H @ d, (self.H @ d).reshape(x.shape)
