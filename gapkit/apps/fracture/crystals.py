"""Crystals that crack: crack systems, elastic constants, surface energies and the K-field, by matscipy's tools.

matscipy is optional (extra ``fracture``); it is imported here and nowhere else, when it is first needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.lattice.cubic import Diamond
from ase.units import Pascal, m

from gapkit.exceptions import GapkitError, SettingsError
from gapkit.sampling.relaxation import SpringNetwork, relax
from gapkit.structures.neighbours import neighbours

#: eV/A^(5/2) in one MPa m^(1/2)
MPA_SQRT_M = 1e6 * Pascal * np.sqrt(m)
#: eV/A^2 in one J/m^2
JOULE_PER_M2 = 1.0 / 16.02176634


def matscipy_module(name: str) -> Any:
    """A module of matscipy.

    Raises
    ------
    GapkitError
        Where it is not installed; the message says how to get it.
    """
    import importlib

    try:
        return importlib.import_module(f"matscipy.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matscipy":
            raise
        raise GapkitError("atomistic cracks need matscipy: pip install 'gapkit[fracture]'") from error


@dataclass(frozen=True)
class CrackSystem:
    """Plane and front of a crack in a cubic crystal; it runs along x, opens along y, and its front lies along z.

    Attributes
    ----------
    plane, front : (3,) int
        Miller indices, at right angles.
    """

    plane: tuple[int, int, int]
    front: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not any(self.plane) or not any(self.front) or np.dot(self.plane, self.front) != 0:
            raise SettingsError(f"plane {self.plane} and front {self.front} must be at right angles and not zero")

    @property
    def name(self) -> str:
        """Name of the crack system, such as ``(111)[1-10]``: crack plane, then crack front."""
        return f"({''.join(map(str, self.plane))})[{''.join(map(str, self.front))}]"

    @property
    def directions(self) -> list[list[int]]:
        """Miller indices of x, y and z."""
        x = np.cross(self.plane, self.front)
        x = x // np.gcd.reduce(x)
        return [list(map(int, v)) for v in (x, self.plane, self.front)]


#: the crack systems of diamond that cleave
SYSTEMS = {
    s.name: s
    for s in (
        CrackSystem((1, 1, 1), (1, -1, 0)),
        CrackSystem((1, 1, 1), (1, 1, -2)),
        CrackSystem((1, 1, 0), (0, 0, 1)),
        CrackSystem((1, 1, 0), (1, -1, 0)),
    )
}


@dataclass(frozen=True)
class Material:
    """Diamond crystal with the constants that continuum theory needs.

    Attributes
    ----------
    symbol : str
    a0 : float, A
        Lattice constant.
    C11, C12, C44 : float, eV/A^3
    calculator : ase Calculator
    """

    symbol: str
    a0: float
    C11: float
    C12: float
    C44: float
    calculator: Calculator

    @classmethod
    def measured(cls, calculator: Calculator, symbol: str = "Si", a0: float = 5.43) -> Material:
        """Lattice constant and elastic constants of a potential, by matscipy; ``a0`` (A) is where the search starts."""
        a0 = _lattice_constant(calculator, symbol, a0)
        crystal = bulk(symbol, "diamond", a=a0, cubic=True)
        crystal.calc = calculator
        from ase.optimize import BFGS

        measure = matscipy_module("elasticity").measure_triclinic_elastic_constants
        C = measure(crystal, delta=2e-3, optimizer=BFGS, fmax=1e-4)
        if C.ndim == 4:
            C = matscipy_module("elasticity").full_3x3x3x3_to_Voigt_6x6(C)
        return cls(
            symbol, a0, float(C[[0, 1, 2], [0, 1, 2]].mean()), float(C[[0, 0, 1], [1, 2, 2]].mean()),
            float(C[[3, 4, 5], [3, 4, 5]].mean()), calculator,
        )  # fmt: skip

    @property
    def bond(self) -> float:
        """Bond length (A)."""
        return float(np.sqrt(3.0) / 4.0 * self.a0)

    @property
    def volume(self) -> float:
        """Volume per atom (A^3)."""
        return self.a0**3 / 8.0

    def crystal(self, system: CrackSystem, size: tuple[int, int, int] = (1, 1, 1)) -> ase.Atoms:
        """Periodic crystal in the crack's axes, y = 0 being midway between two planes whose bonds are fewest."""
        atoms = Diamond(symbol=self.symbol, latticeconstant=self.a0, directions=system.directions, size=(1, 1, 1))
        atoms.positions[:, 1] -= _cleavage_height(atoms, self.bond)
        atoms.wrap()
        return atoms * size

    def k_field(self, system: CrackSystem) -> Any:
        """matscipy's anisotropic near-tip solution in plane strain (Sih, Paris and Irwin, Int. J. Fract. Mech. 1, 189
        (1965))."""
        crack = matscipy_module("fracture_mechanics.crack").CubicCrystalCrack
        return crack(system.plane, system.front, self.C11, self.C12, self.C44)

    def surface_energy(self, system: CrackSystem) -> float:
        """Energy (eV/A^2) of the relaxed, unreconstructed surface that the crack leaves."""
        return _surface_energy(self, system)

    def griffith(self, system: CrackSystem) -> float:
        """Critical stress intensity factor of Griffith (eV/A^(5/2)) in mode I: energy release rate 2 gamma."""
        return float(self.k_field(system).k1g(self.surface_energy(system)))


def _lattice_constant(calculator: Calculator, symbol: str, start: float) -> float:
    """Where the pressure of the diamond crystal vanishes (A), by the secant method."""

    def pressure(a):
        crystal = bulk(symbol, "diamond", a=a)
        crystal.calc = calculator
        return float(crystal.get_stress()[:3].mean())

    a, b = start, 1.002 * start
    pa, pb = pressure(a), pressure(b)
    for _ in range(30):
        if abs(pb) < 1e-7 or pa == pb:
            return b
        a, b, pa = b, b - pb * (b - a) / (pb - pa), pb
        pb = pressure(b)
    return b


def _cleavage_height(atoms: ase.Atoms, bond: float) -> float:
    """Height y (A) that the fewest bonds cross, midway between planes of atoms."""
    pairs = neighbours(atoms, 1.2 * bond)
    y = np.unique(np.round(atoms.positions[:, 1], 6))
    ends = np.append(y, y[0] + atoms.cell[1, 1])
    middles = 0.5 * (ends[1:] + ends[:-1])
    low = atoms.positions[pairs.i, 1]
    high = low + pairs.vectors[:, 1]
    crossed = []
    for h in middles:
        shifted = h - atoms.cell[1, 1] * np.array([-1, 0, 1])[:, None]
        crossed.append(int(np.sum((low < shifted) & (high > shifted))))
    wide = np.diff(ends)
    best = min(range(len(middles)), key=lambda k: (crossed[k], -round(float(wide[k]), 4)))
    return float(middles[best])


@lru_cache(maxsize=64)
def _surface_energy(material: Material, system: CrackSystem) -> float:
    cell = material.crystal(system)
    repeats = max(1, int(np.ceil(20.0 / cell.cell[1, 1])))
    slab = cell * (1, repeats, 1)
    slab.calc = material.calculator
    whole = slab.get_potential_energy()
    slab.cell[1, 1] += 20.0
    springs = SpringNetwork(slab, np.arange(len(slab)), 1.2 * material.bond)
    cut = relax(slab, springs, fmax=1e-3).energy
    return float((cut - whole) / (2.0 * slab.cell[0, 0] * slab.cell[2, 2]))
