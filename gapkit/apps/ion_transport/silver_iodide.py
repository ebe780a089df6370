"""Silver iodide by a published pair potential: the superionic alpha phase as a model whose truth is live.

The form is that of Vashishta and Rahman (Phys. Rev. Lett. 40, 1337 (1978)) and of Parrinello, Rahman and Vashishta
(Phys. Rev. Lett. 50, 1073 (1983)). The parameters are those of Shimojo and Kobayashi (J. Phys. Soc. Jpn. 60, 3725
(1991)), as Bitrian and Trullas use them (J. Phys. Chem. B 112, 1718 (2008)):

    phi(r) = q_i q_j e^2 / r + H / r^n - P / r^4 - C / r^6

Those authors sum the Coulomb part by Ewald's method. Here it is damped, and the whole pair function is shifted so that
it and its force end at the cutoff (Fennell and Gezelter, J. Chem. Phys. 124, 234104 (2006), eq. 18). The result is a
short-range model of the same kind, with diffusion constants of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import minkowski_reduce
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import Bohr, Hartree
from numba import njit

from gapkit.exceptions import DataError, SettingsError, SpeciesError
from gapkit.randomness import generator_of

#: lattice constant of the alpha phase (A) at about 520 K (Cava, Reidinger, Wuensch, Solid State Commun. 24, 411 (1977))
LATTICE_CONSTANT = 5.07
#: charge of the ions (e), silver positive
CHARGE = 0.5815
#: n, H (eV A^n), P (eV A^4), C (eV A^6) of the pairs Ag-Ag, Ag-I, I-I
PARAMETERS = ((11, 0.16, 0.0, 0.0), (9, 1310.0, 14.9, 0.0), (7, 5328.0, 29.8, 84.5))
_COULOMB = Hartree * Bohr


@njit(cache=True, nogil=True)
def pair_function(r, n, h, p, c, charges, damping):
    """Energy (eV) and its slope (eV/A) of a pair at the distance r (A), before the shift; ``charges`` in eV A."""
    inverse = 1.0 / r
    second = inverse * inverse
    fourth = second * second
    steep = h * inverse**n
    screened = charges * math.erfc(damping * r) * inverse
    gauss = charges * 2.0 * damping / math.sqrt(math.pi) * math.exp(-((damping * r) ** 2))
    energy = steep - p * fourth - c * fourth * second + screened
    slope = -n * steep * inverse + 4.0 * p * fourth * inverse + 6.0 * c * fourth * second * inverse
    return energy, slope - screened * inverse - gauss * inverse


@njit(cache=True, nogil=True)
def pair_sums(positions, iodine, cell, inverse_cell, table, cutoff, damping, forces, virial):
    """Energy (eV) of one frame; writes forces (n, 3) and the virial sum f r^T (3, 3; eV).

    ``table`` (3, 7) holds n, H, P, C, charges (eV A), and value and slope at the cutoff of each kind of pair. Images
    are the nearest ones, which holds while the cutoff is within half of the cell's heights.
    """
    forces[:] = 0.0
    virial[:] = 0.0
    energy = 0.0
    d = np.empty(3)
    for i in range(len(positions)):
        for j in range(i):
            for c in range(3):
                d[c] = positions[i, c] - positions[j, c]
            for k in range(3):
                turns = d[0] * inverse_cell[0, k] + d[1] * inverse_cell[1, k] + d[2] * inverse_cell[2, k]
                whole = math.floor(turns + 0.5)
                for c in range(3):
                    d[c] -= whole * cell[k, c]
            square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
            if square >= cutoff * cutoff:
                continue
            r = math.sqrt(square)
            row = table[iodine[i] + iodine[j]]
            value, slope = pair_function(r, row[0], row[1], row[2], row[3], row[4], damping)
            energy += value - row[5] - (r - cutoff) * row[6]
            pull = -(slope - row[6]) / r
            for a in range(3):
                f = pull * d[a]
                forces[i, a] += f
                forces[j, a] -= f
                for b in range(3):
                    virial[a, b] += f * d[b]
    return energy


class SilverIodide(Calculator):
    """ASE calculator of the pair potential of silver iodide (see the module).

    Parameters
    ----------
    cutoff
        End of all pair functions (A); at most half of the smallest distance between opposite faces of the reduced cell.
    damping
        Of the Coulomb part (1/A).

    Raises
    ------
    SettingsError
        For numbers that cannot work.

    Examples
    --------
    >>> atoms = alpha_silver_iodide(3, random_state=0)
    >>> atoms.calc = SilverIodide(cutoff=7.5)
    >>> len(atoms), bool(abs(atoms.get_forces().sum()) < 1e-10)
    (108, True)
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, cutoff: float = 7.5, damping: float = 0.25) -> None:
        super().__init__()
        if not 0 < cutoff < np.inf or not 0 <= damping < np.inf:
            raise SettingsError(f"cutoff must be positive and damping not negative, not {cutoff} and {damping}")
        self.cutoff, self.damping = float(cutoff), float(damping)
        rows = []
        for (n, h, p, c), sign in zip(PARAMETERS, (1, -1, 1), strict=True):
            charges = sign * CHARGE**2 * _COULOMB
            rows.append([n, h, p, c, charges, *pair_function(self.cutoff, n, h, p, c, charges, self.damping)])
        self._table = np.array(rows, dtype=float)

    def _frame(self, atoms: ase.Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which atoms are iodine (0 or 1), the reduced cell and its inverse; checked."""
        strange = sorted({a.symbol for a in atoms} - {"Ag", "I"})
        if strange:
            raise SpeciesError(f"the potential knows Ag and I, not {', '.join(strange)}")
        if not np.isfinite(atoms.positions).all():
            raise DataError(f"atom {np.argwhere(~np.isfinite(atoms.positions))[0][0]}: a position is not finite")
        cell = np.ascontiguousarray(atoms.cell.complete()[:])
        if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) < 1e-9:
            raise DataError("the cell has no volume: give three vectors that are not in one plane")
        cell = np.ascontiguousarray(minkowski_reduce(cell, atoms.pbc)[0])  # where nearest images come by rounding
        inverse = np.ascontiguousarray(np.linalg.inv(cell) * atoms.pbc)  # no images along open directions
        half = 0.5 / max(float(np.linalg.norm(inverse, axis=0).max()), 1e-300)
        if self.cutoff > half + 1e-9:
            raise DataError(
                f"the cutoff of {self.cutoff:g} A is beyond half of the cell's smallest height, {half:.3f} A: take a "
                "larger cell, or a shorter cutoff"
            )
        return (atoms.numbers == 53).astype(np.int64), cell, inverse

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Energy (eV), forces (eV/A) and stress (eV/A^3); see ASE."""
        super().calculate(atoms, properties, system_changes)
        iodine, cell, inverse = self._frame(self.atoms)
        forces, virial = np.empty((len(iodine), 3)), np.empty((3, 3))
        x = np.ascontiguousarray(self.atoms.positions)
        energy = pair_sums(x, iodine, cell, inverse, self._table, self.cutoff, self.damping, forces, virial)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if self.atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / -abs(np.linalg.det(cell)))

    def batch_forces(self, atoms: ase.Atoms) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Function from positions (R, n, 3) to energies (R,) and forces (R, n, 3) of copies of ``atoms``."""
        iodine, cell, inverse = self._frame(atoms)

        def evaluate(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            x = np.ascontiguousarray(positions, dtype=float)
            energies, forces, virial = np.empty(len(x)), np.empty(x.shape), np.empty((3, 3))
            for r in range(len(x)):
                energies[r] = pair_sums(
                    x[r], iodine, cell, inverse, self._table, self.cutoff, self.damping, forces[r], virial
                )
            return energies, forces

        return evaluate


def alpha_silver_iodide(
    repeat: int = 3, ordered: bool = False, random_state: int | np.random.Generator | None = None
) -> ase.Atoms:
    """Supercell of alpha-AgI: iodine on a body-centred cubic lattice, silver on tetrahedral sites.

    Parameters
    ----------
    repeat
        Cubic cells along each axis; each has two formula units.
    ordered
        Whether silver stands on the two same sites of each cell, and else on random sites at least 0.45 lattice
        constants apart: dynamics that begins in the ordered crystal at a low temperature may stay there.

    Raises
    ------
    SettingsError
        For a number of cells below 1.

    Examples
    --------
    >>> alpha_silver_iodide(2, ordered=True).get_chemical_formula()
    'Ag16I16'
    """
    if repeat < 1:
        raise SettingsError(f"repeat must be at least 1, not {repeat}")
    corners = np.array([[i, j, k] for i in range(repeat) for j in range(repeat) for k in range(repeat)], dtype=float)
    iodine = (corners[:, None] + np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])).reshape(-1, 3)
    quarter = [[0.5, 0.25, 0.0], [0.5, 0.75, 0.0]]
    sites = np.array([np.roll(site, axis) for site in quarter for axis in range(3)])
    if ordered:
        silver = (corners[:, None] + sites[[0, 3]]).reshape(-1, 3)
    else:
        rng = generator_of(random_state)
        silver = _apart((corners[:, None] + sites).reshape(-1, 3), 2 * len(corners), repeat, rng)
    a = LATTICE_CONSTANT
    symbols = f"Ag{len(silver)}I{len(iodine)}"
    return ase.Atoms(symbols, a * np.vstack([silver, iodine]), cell=np.full(3, a * repeat), pbc=True)


def _apart(sites: np.ndarray, number: int, repeat: int, rng: np.random.Generator) -> np.ndarray:
    """Random choice of sites (number, 3) in lattice constants, no two nearer than 0.45; neighbours are 0.354 apart."""
    for _ in range(1000):
        free = np.ones(len(sites), dtype=bool)
        chosen: list[np.ndarray] = []
        while free.any() and len(chosen) < number:
            pick = sites[rng.choice(np.flatnonzero(free))]
            chosen.append(pick)
            apart = (sites - pick + repeat / 2) % repeat - repeat / 2
            free &= np.linalg.norm(apart, axis=1) > 0.45
        if len(chosen) == number:
            return np.array(chosen)
    raise DataError("no random choice of silver sites was found; start from the ordered crystal")
