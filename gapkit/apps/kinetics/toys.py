"""Systems with answers in closed form: a two-step mechanism, and a particle in a double well."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.apps.kinetics.rates import PLANCK


def two_step_mechanism(first: float = 0.7, second: float = 0.9, intermediate: float = -0.2) -> Mechanism:
    """Mechanism ``A + * <-> A*``, ``A* <-> B + *`` with the energies (eV) of both transition states and of ``A*``.

    Both gases have the energy zero.

    Examples
    --------
    >>> from gapkit.apps.kinetics import run_microkinetics
    >>> found = run_microkinetics(two_step_mechanism(), {"A": 1.0, "B": 0.0})
    >>> bool(abs(found.state.turnover / two_step_turnover(600.0, 1.0) - 1) < 1e-10)
    True
    """
    return Mechanism.from_dict(
        {
            "species": {
                "A": {"kind": "gas", "formula": "CO"},
                "B": {"kind": "gas", "formula": "CO"},
                "*": {"kind": "site"},
                "A*": {"kind": "surface", "formula": "CO", "energy": intermediate},
            },
            "reactions": {
                "adsorption": {"equation": "A + * <-> A*", "energy": first},
                "desorption": {"equation": "A* <-> B + *", "energy": second},
            },
            "observed": {"desorption": 1.0},
        }
    )


def two_step_turnover(
    temperature: float, activity: float, first: float = 0.7, second: float = 0.9, intermediate: float = -0.2
) -> float:
    r"""Turnover frequency (1/s) of :func:`two_step_mechanism` without product.

    With constants :math:`k_1 = (k_BT/h)e^{-E_1/k_BT}` and :math:`k_{-1}, k_2` from the intermediate, the coverage is
    :math:`k_1 a/(k_1 a + k_{-1} + k_2)` and the frequency :math:`k_2` times that.
    """
    kT = units.kB * temperature
    k1, k_back, k2 = (kT / PLANCK * np.exp(-e / kT) for e in (first, first - intermediate, second - intermediate))
    return float(k2 * k1 * activity / (k1 * activity + k_back + k2))


class DoubleWell(Calculator):
    r"""Atoms in independent double wells along x, harmonic along y and z.

    :math:`E = h\,(x^2/a^2 - 1)^2 + \tfrac12 k (y^2 + z^2)` per atom: minima at :math:`x = \pm a`, a barrier h,
    curvatures :math:`8h/a^2` at a minimum and :math:`-4h/a^2` at the saddle.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - the name and form that ASE asks for

    def __init__(self, height: float = 0.5, half_width: float = 1.0, stiffness: float = 2.0) -> None:
        super().__init__()
        self.height, self.half_width, self.stiffness = height, half_width, stiffness

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x, yz = self.atoms.positions[:, 0], self.atoms.positions[:, 1:]
        h, a = self.height, self.half_width
        well = x**2 / a**2 - 1
        forces = np.column_stack([-4 * h * well * x / a**2, -self.stiffness * yz])
        energy = float(np.sum(h * well**2) + 0.5 * self.stiffness * np.sum(yz**2))
        self.results = {"energy": energy, "forces": forces}

    def vineyard(self, mass: float, temperature: float) -> float:
        """Classical rate (1/s) of one atom of a mass (amu): nu e^(-h / k_B T), y and z being equal at both points."""
        omega = np.sqrt(8 * self.height / self.half_width**2 / mass)  # (eV/amu)^(1/2)/A
        frequency = omega * np.sqrt(units._e / units._amu) * 1e10 / (2 * np.pi)
        return float(frequency * np.exp(-self.height / (units.kB * temperature)))


def double_well_atom(symbol: str = "Ar", side: float = -1.0) -> ase.Atoms:
    """One atom at x = ``side`` (A)."""
    return ase.Atoms(symbol, [[side, 0.0, 0.0]])


def vacancy_hop(symbol: str, a: float, cells: int = 2) -> tuple[ase.Atoms, ase.Atoms]:
    """A vacancy in fcc of the lattice constant ``a`` (A), before and after a nearest neighbour has moved into it.

    Nothing is relaxed; the cubic cell has ``4 cells**3 - 1`` atoms.

    Examples
    --------
    >>> initial, final = vacancy_hop("Al", 4.0)
    >>> len(initial), float(round(np.abs(final.positions - initial.positions).max(), 3))
    (31, 2.0)
    """
    perfect = bulk(symbol, "fcc", a=a, cubic=True) * (cells, cells, cells)
    neighbour = int(np.argsort(perfect.get_distances(0, range(len(perfect)), mic=True))[1])
    initial, final = perfect.copy(), perfect.copy()
    final.positions[neighbour] += final.get_distance(neighbour, 0, mic=True, vector=True)
    del initial[0], final[0]
    return initial, final
