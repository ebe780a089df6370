"""Springs, whose second derivatives are known in closed form."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator


class Springs(Calculator):
    """Springs between all pairs: E = sum k/2 (r - d)^2, k (n, n) in eV/A^2, d (n, n) in A."""

    implemented_properties = ("energy", "forces")

    def __init__(self, stiffness, lengths):
        super().__init__()
        self.k, self.d = np.asarray(stiffness, dtype=float), np.asarray(lengths, dtype=float)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        v = atoms.positions[:, None] - atoms.positions[None]
        r = np.linalg.norm(v, axis=-1) + np.eye(len(atoms))
        stretch = np.where(np.eye(len(atoms)), 0.0, r - self.d)
        forces = -(self.k * stretch / r)[..., None] * v
        self.results = {"energy": 0.25 * (self.k * stretch**2).sum(), "forces": forces.sum(axis=1)}

    def hessian(self, positions):
        """Second derivatives (3 n, 3 n)."""
        n = len(positions)
        H = np.zeros((n, 3, n, 3))
        for i in range(n):
            for j in range(n):
                if i != j:
                    v = positions[i] - positions[j]
                    r = np.linalg.norm(v)
                    along = np.outer(v, v) / r**2
                    block = self.k[i, j] * (along + (1 - self.d[i, j] / r) * (np.eye(3) - along))
                    H[i, :, i] += block
                    H[i, :, j] -= block
        return H.reshape(3 * n, 3 * n)


class Quadratic(Calculator):
    """E = u K u / 2 of the displacement u from given positions; forces are -K u, whether K is symmetric or not."""

    implemented_properties = ("energy", "forces")

    def __init__(self, K, reference):
        super().__init__()
        self.K, self.reference = np.asarray(K, dtype=float), np.array(reference)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        u = (atoms.positions - self.reference).ravel()
        self.results = {"energy": 0.5 * u @ self.K @ u, "forces": -(self.K @ u).reshape(-1, 3)}


class Together(Calculator):
    """A calculator that evaluates copies together, and remembers how many there were in each call."""

    implemented_properties = ("energy", "forces")

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, []

    def batch_forces(self, atoms):
        work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, calculator=self.inner)

        def evaluate(positions):
            self.calls.append(len(positions))
            energies, forces = [], []
            for x in positions:
                work.positions = x
                energies.append(work.get_potential_energy())
                forces.append(work.get_forces())
            return np.array(energies), np.array(forces)

        return evaluate


class CubicSprings(Calculator):
    """Simple cubic lattice of constant a: springs to six neighbours, ``along`` the bond and ``across`` (eV/A^2).

    The energy is quadratic in displacements from the sites, which are found from the positions. Each of N^3 sites of a
    periodic cube has one atom.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, a, along, across):
        super().__init__()
        self.a, self.along, self.across = a, along, across

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        site = np.rint(atoms.positions / self.a).astype(int)
        u = atoms.positions - self.a * site
        sizes = np.rint(atoms.cell.lengths() / self.a).astype(int)
        index = np.full(sizes, -1)
        index[tuple((site % sizes).T)] = np.arange(len(atoms))
        forces, energy = np.zeros_like(u), 0.0
        for axis in range(3):
            k = np.where(np.arange(3) == axis, self.along, self.across)
            other = index[tuple(((site + np.eye(3, dtype=int)[axis]) % sizes).T)]
            pull = k * (u[other] - u)
            energy += 0.5 * (pull * (u[other] - u)).sum()
            forces += pull
            np.add.at(forces, other, -pull)
        self.results = {"energy": energy, "forces": forces}

    def squared_frequencies(self, q, mass):
        """omega^2 (3,) of motion along x, y, z at the wave vector q (in reciprocal cells), one mass."""
        s = 4 * np.sin(np.pi * np.asarray(q)) ** 2 / mass
        return self.across * s.sum() + (self.along - self.across) * s


def relaxed_network(symbols, positions, stiffness=20.0):
    """Atoms at rest in springs of random stiffness between all pairs, and the calculator."""
    atoms = Atoms(symbols, positions)
    rng = np.random.default_rng(len(atoms))
    k = rng.uniform(0.5, 1.5, (len(atoms), len(atoms))) * stiffness
    d = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=-1)
    atoms.calc = Springs(0.5 * (k + k.T), d)
    return atoms


def carbon_dioxide(stretch=80.0, bend=6.0, length=1.16):
    """A linear O-C-O along z, and its Hessian: k/2 of each bond's change, and c/2 |r1 + r3 - 2 r2|^2."""
    atoms = Atoms("OCO", [[0, 0, -length], [0, 0, 0], [0, 0, length]])
    b = np.array([[1, -1, 0], [0, 1, -1]])
    c = np.array([[1, -2, 1]])
    return atoms, np.kron(stretch * b.T @ b, np.diag([0, 0, 1])) + np.kron(bend * c.T @ c, np.eye(3))
