"""Conventions that a file of labels may follow: units, signs, orders of components, quantities per atom or volume."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import units

#: orders of six components that codes write, as places of xx yy zz yz xz xy in the label
ORDERS = {
    "": (0, 1, 2, 3, 4, 5),
    "in the order xx yy zz xy yz zx (VASP)": (0, 1, 2, 4, 5, 3),
    "in the order xx yy zz xy xz yz (LAMMPS)": (0, 1, 2, 5, 4, 3),
    "in the order xx xy xz yy yz zz": (0, 3, 5, 4, 2, 1),
}
_HARTREE_PER_BOHR = units.Hartree / units.Bohr
_MOL = units.mol
#: what one unit of a label in another convention is in eV, eV/A, or eV/A^3
ENERGY_UNITS = {
    "Hartree": units.Hartree,
    "Rydberg": units.Rydberg,
    "kcal/mol": units.kcal / _MOL,
    "kJ/mol": units.kJ / _MOL,
    "meV": 1e-3,
}
FORCE_UNITS = {
    "Hartree/Bohr": _HARTREE_PER_BOHR,
    "Rydberg/Bohr": units.Rydberg / units.Bohr,
    "Hartree/A": units.Hartree,
    "eV/Bohr": 1.0 / units.Bohr,
    "kcal/mol/A": units.kcal / _MOL,
    "kJ/mol/A": units.kJ / _MOL,
    "kJ/mol/nm": units.kJ / _MOL / units.nm,
    "meV/A": 1e-3,
    "eV/A with positions in Bohr": units.Bohr,
}
STRESS_UNITS = {
    "": 1.0,
    "in GPa": units.GPa,
    "in kbar": 0.1 * units.GPa,
    "in bar": units.bar,
    "in Hartree/Bohr^3": units.Hartree / units.Bohr**3,
    "in Rydberg/Bohr^3": units.Rydberg / units.Bohr**3,
}


@dataclass(frozen=True)
class Convention:
    """Units, sign or order in which labels of a kind may be written.

    Attributes
    ----------
    kind : str
        ``energy``, ``forces`` or ``virial``.
    name : str
        In words.
    factor : float
        The label times this is in the units of gapkit.
    power : str
        ``atoms`` or ``volume`` where the label is to be multiplied by that, ``per_volume`` where divided; else empty.
    order : tuple of int
        Places of xx yy zz yz xz xy.
    """

    kind: str
    name: str
    factor: float
    power: str = ""
    order: tuple[int, ...] = ()

    def converted(self, labels: np.ndarray, n_atoms: np.ndarray, volume: np.ndarray) -> np.ndarray:
        """Labels (n, c) in the units, sign and order of gapkit, of frames with so many atoms (n,) and volumes (n,)."""
        y = self.factor * (labels[:, list(self.order)] if self.order else labels)
        times = {"": np.ones(len(y)), "atoms": n_atoms, "volume": volume, "per_volume": 1.0 / volume}
        return np.asarray(y * times[self.power][:, None])


def _conventions() -> tuple[Convention, ...]:
    """All conventions that are tried."""
    energies = [Convention("energy", f"energies in {name}", unit) for name, unit in ENERGY_UNITS.items()]
    energies += [Convention("energy", "energies per atom", 1.0, "atoms")]
    energies += [
        Convention("energy", f"energies per atom in {name}", ENERGY_UNITS[name], "atoms")
        for name in ("Hartree", "Rydberg")
    ]
    forces = [Convention("forces", "gradients instead of forces", -1.0)]
    for name, unit in FORCE_UNITS.items():
        forces.append(Convention("forces", f"forces in {name}", unit))
        if name.endswith("/Bohr"):
            forces.append(Convention("forces", f"gradients instead of forces, in {name}", -unit))
    virials = []
    signs = {"": 1.0, "of the other sign (compression positive)": -1.0}
    for (name, factor), (turned, sign), (order, places) in product(STRESS_UNITS.items(), signs.items(), ORDERS.items()):
        words = " ".join(word for word in (name, turned, order) if word)
        if words:
            virials.append(Convention("virial", f"stress {words}", sign * factor, "", places))
    virials += [
        Convention("virial", "virial that is a stress in eV/A^3", -1.0, "volume", ORDERS[""]),
        Convention("virial", "virial that is a stress in eV/A^3 of the other sign", 1.0, "volume", ORDERS[""]),
        Convention("virial", "stress that is a virial in eV", -1.0, "per_volume", ORDERS[""]),
        Convention("virial", "stress that is a virial in eV of the other sign", 1.0, "per_volume", ORDERS[""]),
    ]
    return (*energies, *forces, *virials)


#: labels as they are
USUAL = Convention("", "as they are", 1.0)
#: all conventions that are tried
CONVENTIONS = _conventions()
