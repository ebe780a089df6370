r"""Cylinders around a crack front, or around nothing, with a rigid rim at a continuum displacement.

A cluster is one period thick along the front. Atoms within ``radius`` of the tip are free, a rim twice the range of the
potential thick stays where linear elasticity puts it: :math:`u = u_K(K_I, K_II; x - \alpha) + \epsilon x` with the
K-field of the anisotropic crystal around a tip at :math:`x = \alpha` and a homogeneous strain (its xx and zz
parts lie along the crack and its front, so that they open nothing).

Loading is quasi-static: K changes by small steps, each relaxed from the last. :math:`K_+` is the first K at which the
intact tip bond breaks on the way up, :math:`K_-` the first at which a broken one heals on the way down: between them
the crack is trapped by the lattice (Thomson, Hsieh and Rana, J. Appl. Phys. 42, 3154 (1971)).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import ase
import numpy as np

from gapkit.apps.fracture.crystals import CrackSystem, Material
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.relaxation import Relaxed, SpringNetwork, relax
from gapkit.structures.neighbours import neighbours

_BROKEN = 1.35  # a bond is broken where it is longer than this many bond lengths


@dataclass(frozen=True)
class RimLoad:
    """Load on the rim of a cluster: stress intensity factors, and a homogeneous strain.

    Attributes
    ----------
    kI, kII : float, eV/A^(5/2)
        Stress intensity factors.
    strain : (6,) float
        Homogeneous strain (Voigt, engineering shear), on top.
    """

    kI: float = 0.0
    kII: float = 0.0
    strain: tuple[float, float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def __mul__(self, factor: float) -> RimLoad:
        """The K-field times a factor; the strain stays."""
        return replace(self, kI=self.kI * factor, kII=self.kII * factor)

    @property
    def k(self) -> float:
        """Size of the stress intensity, ``sqrt(kI^2 + kII^2)`` (eV/A^(5/2))."""
        return float(np.hypot(self.kI, self.kII))


class Cluster:
    """A cylinder of a crystal around a crack front.

    Parameters
    ----------
    material, system
        Crystal and crack.
    radius : float
        Radius of the free part (A).
    cutoff : float
        Range of the potential (A); the rim is twice as thick, since the bond angles of free atoms' neighbours count.
    tip : float
        Place alpha of the field's tip (A) relative to the bond at the origin. Zero is midway between the crack before
        and after this bond breaks: what a rigid rim does to the energy then cancels to first order in 1 / radius.
    """

    def __init__(
        self,
        material: Material,
        system: CrackSystem,
        radius: float = 16.0,
        cutoff: float = 3.8,
        tip: float = 0.0,
    ) -> None:
        if not radius > 2 * cutoff > 0:
            raise SettingsError(f"radius must be above twice the cutoff ({2 * cutoff} A), not {radius} A")
        self.material, self.system, self.radius = material, system, float(radius)
        cell = material.crystal(system)
        reach = radius + 2 * cutoff
        lengths = cell.cell.lengths()
        n = [2 * int(np.ceil((reach + lengths[k]) / lengths[k])) + 2 for k in range(2)]
        atoms = cell * (n[0], n[1], 1)
        atoms.positions[:, :2] -= 0.5 * np.array([n[0] * lengths[0], n[1] * lengths[1]])
        self.period = float(lengths[2])
        spots = _crossing_bonds(atoms, material.bond)
        self.advance = float(np.median(np.diff(spots)))  # A, from one bond of the plane to the next
        atoms.positions[:, 0] -= spots[np.argmin(np.abs(spots))]
        self.tip = float(tip)
        r = np.hypot(atoms.positions[:, 0], atoms.positions[:, 1])
        atoms = atoms[r < reach]
        r = r[r < reach]
        box = 2 * (reach + 10.0)
        atoms.set_cell([box, box, self.period])
        atoms.pbc = (False, False, True)
        atoms.calc = material.calculator
        self.reference: ase.Atoms = atoms
        self.free = np.flatnonzero(r < radius)
        pairs = neighbours(atoms, 1.2 * material.bond)
        up = pairs.i < pairs.j
        self.bonds = np.column_stack([pairs.i[up], pairs.j[up]])
        self.bond_vectors = pairs.vectors[up]
        self.bond_middles = atoms.positions[self.bonds[:, 0]] + 0.5 * self.bond_vectors
        self.bond_shifts = self.bond_vectors - (atoms.positions[self.bonds[:, 1]] - atoms.positions[self.bonds[:, 0]])
        self._field = material.k_field(system)

    @cached_property
    def springs(self) -> SpringNetwork:
        """Springs of the whole crystal; bonds across the crack plane are included and keep its faces coupled."""
        return SpringNetwork(self.reference, self.free, 1.2 * self.material.bond)

    def displacement(self, load: RimLoad) -> np.ndarray:
        """Continuum displacement (n, 3) in A of all atoms."""
        x, y = self.reference.positions[:, 0] - self.tip, self.reference.positions[:, 1]
        u = np.zeros((len(x), 3))
        if load.k > 0:
            ux, uy = self._field.displacements_from_cartesian_coordinates(x, y, load.kI, load.kII)
            u[:, 0], u[:, 1] = ux, uy
        e = np.asarray(load.strain)
        tensor = np.array([[e[0], e[5] / 2, e[4] / 2], [e[5] / 2, e[1], e[3] / 2], [e[4] / 2, e[3] / 2, e[2]]])
        if e[2] or e[3] or e[4]:
            raise SettingsError("a strain along the front would change the period: give xx, yy and xy parts only")
        return u + np.column_stack([x, y, np.zeros_like(x)]) @ tensor.T

    def frame(self, positions: np.ndarray) -> ase.Atoms:
        """The cluster with these positions (n, 3), with the calculator."""
        atoms = self.reference.copy()
        atoms.positions = positions
        atoms.calc = self.material.calculator
        return atoms

    def bond_lengths(self, positions: np.ndarray) -> np.ndarray:
        """Lengths (b,) in A of the crystal's bonds, broken ones included."""
        d = positions[self.bonds[:, 1]] - positions[self.bonds[:, 0]] + self.bond_shifts
        return np.linalg.norm(d, axis=1)

    def opening(self, positions: np.ndarray, bond: int) -> float:
        """Length (A) of a bond along its direction in the perfect crystal."""
        i, j = self.bonds[bond]
        direction = self.bond_vectors[bond] / np.linalg.norm(self.bond_vectors[bond])
        return float((positions[j] - positions[i] + self.bond_shifts[bond]) @ direction)

    def opening_direction(self, bond: int) -> np.ndarray:
        """Derivative (3 m,) of :meth:`opening` by the free atoms' coordinates, per A."""
        a = np.zeros((len(self.reference), 3))
        direction = self.bond_vectors[bond] / np.linalg.norm(self.bond_vectors[bond])
        i, j = self.bonds[bond]
        a[j] += direction
        a[i] -= direction
        return a[self.free].ravel()

    def broken(self, positions: np.ndarray) -> np.ndarray:
        """Which bonds (b,) are broken."""
        return self.bond_lengths(positions) > _BROKEN * self.material.bond

    @cached_property
    def plane_bonds(self) -> np.ndarray:
        """Bonds that cross the crack plane, by x."""
        across = np.flatnonzero(np.abs(self.bond_middles[:, 1]) < 1e-3)
        across = across[np.abs(self.bond_vectors[across, 1]) > 0.3]
        return across[np.argsort(self.bond_middles[across, 0], kind="stable")]

    def tip_bond(self, positions: np.ndarray) -> int:
        """The first intact bond of the crack plane, from behind.

        Raises
        ------
        DataError
            Where the crack has reached the rim.
        """
        plane = self.plane_bonds
        inside = np.abs(self.bond_middles[plane, 0]) < self.radius - 2.0 * self.advance
        for b, broken in zip(plane[inside], self.broken(positions)[plane[inside]], strict=True):
            if not broken:
                return int(b)
        raise DataError("all bonds of the crack plane are broken: the load is too high for a cluster of this radius")

    def tip_position(self, positions: np.ndarray) -> float:
        """Place x (A) midway between the last broken and the first intact bond; multiples of the advance from where the
        crack began."""
        return float(self.bond_middles[self.tip_bond(positions), 0] - 0.5 * self.advance)

    def relaxed(
        self,
        load: RimLoad,
        positions: np.ndarray | None = None,
        at: RimLoad | None = None,
        bond: int | None = None,
        fmax=5e-3,
    ) -> Relaxed:
        """Nearest minimum under a load.

        Parameters
        ----------
        positions : (n, 3), optional
            Where the search starts, of another load ``at``; by default the continuum field.
        bond : int, optional
            A bond whose opening stays as it is at the start.
        """
        u = self.displacement(load)
        if positions is None:
            start = self.reference.positions + u
        else:
            start = positions + (u - self.displacement(at) if at is not None else 0.0)
        rim = np.ones(len(start), dtype=bool)
        rim[self.free] = False
        start[rim] = self.reference.positions[rim] + u[rim]
        constraint = None if bond is None else self.opening_direction(bond)
        return relax(self.frame(start), self.springs, constraint, fmax=fmax)


def _crossing_bonds(atoms: ase.Atoms, bond: float) -> np.ndarray:
    """Sorted places x (A) of the bonds that cross y = 0."""
    pairs = neighbours(atoms, 1.2 * bond)
    low = atoms.positions[pairs.i]
    high = low + pairs.vectors
    across = (low[:, 1] < 0) & (high[:, 1] > 0)
    x = 0.5 * (low[across, 0] + high[across, 0])
    return np.unique(np.round(x, 4))
