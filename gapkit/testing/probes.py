r"""Probes: sums over environments that do not depend on their order, with derivatives.

For random smooth functions :math:`\phi_k`, :math:`\sum_e w_e \phi_k(x_e)` over the environments e of each atom tell
two lists of environments apart whatever order they have, and vary smoothly while environments appear and vanish at the
cutoff. :math:`\phi_0 = 1` sums the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapkit.descriptors import EnvironmentBatch
from gapkit.testing.finite_differences import VOIGT


@dataclass(frozen=True)
class AtomSums:
    """Sums of k functions over the environments of one structure of n atoms.

    Attributes
    ----------
    value : (n, k)
        By the atom that owns the environments.
    gradient : (n, 3, k)
        Derivative of the sum over all environments by positions (1/A).
    strain : (n, 6, k)
        Derivative of each atom's own sum by the strain.
    """

    value: np.ndarray
    gradient: np.ndarray
    strain: np.ndarray

    def rotated(self, rotation: np.ndarray) -> AtomSums:
        """The sums of a structure whose position vectors are multiplied by ``rotation`` (3, 3)."""
        tensor = np.empty((len(self.value), 3, 3, self.value.shape[1]))
        for v, (a, b) in enumerate(VOIGT):
            tensor[:, a, b] = tensor[:, b, a] = self.strain[:, v]
        tensor = np.einsum("ca,db,nabk->ncdk", rotation, rotation, tensor)
        strain = np.stack([tensor[:, a, b] for a, b in VOIGT], axis=1)
        return AtomSums(self.value, np.einsum("ca,nak->nck", rotation, self.gradient), strain)

    def of(self, atoms: np.ndarray) -> AtomSums:
        """The sums of the given atoms."""
        return AtomSums(self.value[atoms], self.gradient[atoms], self.strain[atoms])


def atom_sums(batch: EnvironmentBatch, n_atoms: int, phi: np.ndarray, dphi: np.ndarray) -> AtomSums:
    """Sums of functions ``phi`` (e, k) with derivatives ``dphi`` (e, f, k) by the features, by the chain rule."""
    k = phi.shape[1]
    value, gradient, strain = np.zeros((n_atoms, k)), np.zeros((3 * n_atoms, k)), np.zeros((n_atoms, 6, k))
    np.add.at(value, batch.atom, batch.weight[:, None] * phi)
    owner = np.repeat(np.arange(len(batch)), np.diff(batch.start))
    change = batch.dweight[:, None] * phi[owner]
    change += batch.weight[owner, None] * np.einsum("cf,cfk->ck", batch.J, dphi[owner])
    position = batch.target < 3 * n_atoms
    np.add.at(gradient, batch.target[position], change[position])
    rest = ~position
    np.add.at(strain, (batch.atom[owner[rest]], batch.target[rest] - 3 * n_atoms), change[rest])
    return AtomSums(value, gradient.reshape(n_atoms, 3, k), strain)


@dataclass(frozen=True)
class Probes:
    """Random functions cos(u x + b) of the features of one channel; the first is 1.

    Attributes
    ----------
    u : (f, k)
    b : (k,)
    """

    u: np.ndarray
    b: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, n: int, rng: np.random.Generator) -> Probes:
        """``n`` probes for features that vary as the rows of ``x`` (e, f) do."""
        largest = float(np.abs(x).max(initial=0.0)) or 1.0
        spread = np.maximum(x.std(axis=0) if len(x) else 0.0, 0.1 * largest) * np.ones(x.shape[1])
        u = rng.normal(size=(x.shape[1], n)) / spread[:, None] / np.sqrt(x.shape[1])
        b = rng.uniform(0, 2 * np.pi, size=n)
        u[:, 0], b[0] = 0.0, 0.0
        return cls(u, b)

    def __call__(self, batch: EnvironmentBatch, n_atoms: int) -> AtomSums:
        """Sums over the environments of a batch, derivatives included."""
        argument = batch.x @ self.u + self.b
        return atom_sums(batch, n_atoms, np.cos(argument), -np.sin(argument)[:, None, :] * self.u)
