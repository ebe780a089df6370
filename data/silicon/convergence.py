"""How far the settings of the silicon sets are converged: k-points, cutoff and smearing on representative cells.

    python -m data.silicon.convergence        # some minutes; writes convergence.csv

Errors are those of the settings in use against a denser or larger one of the same kind: energy in meV/atom, largest
force component in eV/A, largest stress component in GPa.
"""

from __future__ import annotations

import csv

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from tqdm import tqdm

from .generate import A0, FOLDER, SETTINGS, cubic, high_pressure_cells

REFERENCE_DENSITY = 4.8


def cells() -> dict[str, Atoms]:
    """What the set holds, in small: the crystal, a rattled cell, two metals."""
    primitive = bulk("Si", "diamond", a=0.99 * A0)
    rattled = cubic()
    rattled.rattle(rng=np.random.default_rng(1), stdev=0.1)
    beta_tin = high_pressure_cells()["beta_tin"]
    beta_tin.rattle(rng=np.random.default_rng(3), stdev=0.08)
    return {
        "diamond, 2 atoms": primitive,
        "rattled, 8 atoms": rattled,
        "beta-tin, 4 atoms": beta_tin,
        "simple hexagonal, 1 atom": high_pressure_cells()["simple_hexagonal"],
    }


def compute(atoms: Atoms, *, density: float, cutoff: float, width: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy (eV/atom), forces (eV/A), stress (GPa) with the given settings."""
    from gpaw import GPAW, PW, FermiDirac

    atoms = atoms.copy()
    atoms.calc = GPAW(
        mode=PW(cutoff),
        xc=SETTINGS["xc"],
        kpts={"density": density, "even": True},
        occupations=FermiDirac(width),
        eigensolver="rmm-diis",
        convergence={"density": SETTINGS["density_convergence"]},
        txt=None,
    )
    energy = atoms.get_potential_energy(force_consistent=True) / len(atoms)
    return energy, atoms.get_forces(), atoms.get_stress() / units.GPa


def main() -> None:
    """Write the table."""
    used = {
        "density": SETTINGS["kpoint_density_angstrom"],
        "cutoff": SETTINGS["plane_wave_cutoff_ev"],
        "width": SETTINGS["fermi_width_ev"],
    }
    with (FOLDER / "convergence.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["cell", "compared", "energy_mev_per_atom", "force_ev_per_angstrom", "stress_gpa"])
        for name, atoms in tqdm(cells().items()):
            here = compute(atoms, **used)
            for what, change in (
                ("k density 3.2 - 4.8", {"density": REFERENCE_DENSITY}),
                ("cutoff 300 - 500 eV", {"cutoff": 500}),
            ):
                there = compute(atoms, **{**used, **change})
                table.writerow(
                    [
                        name,
                        what,
                        f"{1e3 * (here[0] - there[0]):.2f}",
                        f"{np.abs(here[1] - there[1]).max():.4f}",
                        f"{np.abs(here[2] - there[2]).max():.3f}",
                    ]
                )
                file.flush()


if __name__ == "__main__":
    main()
