"""Bulk silicon with GPAW: PBE, plane waves, one k-point density, force-consistent energies.

Run from the root of the repository, with an interpreter that has GPAW and matscipy::

    python -m data.silicon.generate frames      # geometries: seconds, seeded
    python -m data.silicon.generate label       # hours; kill and resume as you like
    python -m data.silicon.generate collect     # split files, hashes, summary, plot (any time)
    python -m data.silicon.generate verify      # ten random frames again, compared with what is stored

Geometries are explored with the Stillinger-Weber potential (Stillinger and Weber, Phys. Rev. B 31, 5262 (1985));
labels are density-functional theory. Lengths in A, energies in eV, temperatures in K.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.md.langevin import Langevin

from ..labelling import interleave, labelled, main, round_robin

FOLDER = Path(__file__).parent
SETTINGS = json.loads((FOLDER / "settings.json").read_text())
SPLITS = ("train", "calibration", "test", "finite_difference")
A0 = 5.47  # lattice constant of PBE silicon, A
TIMESTEP_FS = 2.0


# --- labels -------------------------------------------------------------------------------------------------------


def label(atoms: Atoms) -> Atoms:
    """DFT labels of one frame: free energy (forces derive from it), forces, and stress if all axes are periodic.

    Where no axis is periodic the calculation is spin-polarised, at Gamma, in the given box, with a tenth of the
    smearing: 0.1 eV would spread the two p electrons of the atom over three orbitals (0.13 eV). The orbitals are found
    with RMM-DIIS; where that does not converge, with Davidson and a more cautious density mixer. What is left of a net
    force is spread evenly over the atoms.
    """
    try:
        return _labels(atoms, eigensolver="rmm-diis")
    except Exception as error:
        if type(error).__name__ != "KohnShamConvergenceError":
            raise
    return _labels(atoms, eigensolver="davidson", mixer={"backend": "pulay", "beta": 0.03, "nmaxold": 8})


def _labels(atoms: Atoms, **settings) -> Atoms:
    from gpaw import GPAW, PW, FermiDirac

    bare = atoms.copy()
    periodic = bool(atoms.pbc.any())
    width = SETTINGS["fermi_width_ev" if periodic else "fermi_width_isolated_ev"]
    if periodic:
        settings["kpts"] = {"size": kpoint_grid(atoms)}
    else:
        settings["spinpol"] = True
        settings["hund"] = len(atoms) == 1
        bare.set_initial_magnetic_moments([1.0] * len(atoms))
    bare.pbc = True
    bare.calc = GPAW(
        mode=PW(SETTINGS["plane_wave_cutoff_ev"]),
        xc=SETTINGS["xc"],
        occupations=FermiDirac(width),
        convergence={"density": SETTINGS["density_convergence"]},
        maxiter=120,
        txt=None,
        **settings,
    )
    energy = bare.get_potential_energy(force_consistent=True)
    forces = bare.get_forces()
    if np.linalg.norm(forces.sum(axis=0)) > 0.05 * np.sqrt(len(atoms)):
        raise ValueError(f"net force {forces.sum(axis=0)} eV/A")
    out = labelled(
        atoms,
        energy=energy,
        forces=forces - forces.mean(axis=0),
        stress=bare.get_stress() if atoms.pbc.all() else None,
    )
    out.info["level_of_theory"] = SETTINGS["level_of_theory"] if periodic else SETTINGS["level_of_theory_isolated"]
    return out


def kpoint_grid(atoms: Atoms) -> list[int]:
    """Monkhorst-Pack grid: even along periodic axes, at least the density in the settings (A); else one point."""
    reciprocal = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    wanted = np.ceil(SETTINGS["kpoint_density_angstrom"] * reciprocal - 1e-9).astype(int)
    return [int(n + n % 2) if axis else 1 for n, axis in zip(wanted, atoms.pbc, strict=True)]


# --- geometries -----------------------------------------------------------------------------------------------------


def frame(atoms: Atoms, config_type: str, trajectory: str, split: str) -> Atoms:
    """A bare copy with its bookkeeping."""
    out = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.info.update(config_type=config_type, trajectory=f"{config_type}-{trajectory}", split=split)
    return out


def split_of(index: int) -> str:
    """Split of the ``index``-th independent trajectory of a family: 5 of 7 train, 1 calibration, 1 test."""
    return {2: "calibration", 5: "test"}.get(index % 7, "train")


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """``atoms`` with its cell deformed by ``1 + strain`` (3, 3)."""
    out = atoms.copy()
    out.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
    return out


def random_strain(rng: np.random.Generator, *, volume: float, shear: float) -> np.ndarray:
    """Symmetric strain: volume change within +-``volume`` (relative), deviatoric parts of deviation ``shear``."""
    deviator = rng.normal(scale=shear, size=(3, 3))
    deviator = (deviator + deviator.T) / 2
    deviator -= np.eye(3) * np.trace(deviator) / 3
    return deviator + np.eye(3) * ((1 + rng.uniform(low=-volume, high=volume)) ** (1 / 3) - 1)


def cubic(*, repeat: tuple[int, int, int] = (1, 1, 1), a: float = A0) -> Atoms:
    """Conventional diamond cell, 8 atoms, repeated."""
    return bulk("Si", "diamond", a=a, cubic=True).repeat(repeat)


def diamond_strain(rng: np.random.Generator) -> list[Atoms]:
    """Two-atom cells: a scan of volume, a scan of shear with relaxed and clamped sublattice, random strains."""
    primitive = bulk("Si", "diamond", a=A0)
    out = [
        frame(strained(primitive, np.eye(3) * ((1 + v) ** (1 / 3) - 1)), "diamond_strain", "volume", "train")
        for v in (0.0, -0.08, 0.08, -0.04, 0.04, -0.02, 0.02, -0.06, 0.06)
    ]
    for size in (0.03, -0.03, 0.015, -0.015):
        shear = np.zeros((3, 3))
        shear[1, 2] = shear[2, 1] = size
        out.append(frame(strained(primitive, shear), "diamond_strain", "shear", "train"))
        axial = np.diag([size, -size / 2, -size / 2])
        out.append(frame(strained(primitive, axial), "diamond_strain", "axial", "train"))
    for i in range(28):
        atoms = strained(primitive, random_strain(rng, volume=0.08, shear=0.03))
        atoms.rattle(rng=rng, stdev=rng.uniform(low=0.0, high=0.15))
        out.append(frame(atoms, "diamond_strain", f"random{i}", split_of(i)))
    return out


def rattled(rng: np.random.Generator) -> list[Atoms]:
    """Eight-atom cells, strained at random, atoms displaced by 0.03 to 0.30 A."""
    out = []
    for i in range(49):
        atoms = strained(cubic(), random_strain(rng, volume=0.08, shear=0.02))
        atoms.rattle(rng=rng, stdev=0.03 * 10 ** rng.uniform())
        out.append(frame(atoms, "rattled", str(i), split_of(i)))
    return out


def stillinger_weber():
    """The calculator that explores: silicon of Stillinger and Weber (1985)."""
    from matscipy.calculators.manybody import Manybody
    from matscipy.calculators.manybody.explicit_forms import StillingerWeber
    from matscipy.calculators.manybody.explicit_forms.stillinger_weber import (
        Stillinger_Weber_PRB_31_5262_Si as parameters,
    )

    return Manybody(**StillingerWeber(parameters))


def dynamics(
    atoms: Atoms,
    temperature: float,
    *,
    n_frames: int,
    apart_fs: float,
    rng: np.random.Generator,
    melt: bool = False,
    warm_up_fs: float = 500.0,
) -> list[Atoms]:
    """Snapshots of Langevin dynamics at ``temperature`` (K), ``apart_fs`` apart, after a warm-up.

    ``melt``: one picosecond at 4,500 K come first.
    """
    atoms = atoms.copy()
    atoms.calc = stillinger_weber()
    widths = np.sqrt(atoms.get_masses() * units.kB * 2 * temperature)  # half of it soon is potential energy
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * widths[:, None])
    engine = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=temperature,
        friction=0.02 / units.fs,
        rng=rng,
        fixcm=False,
    )
    if melt:
        engine.set_temperature(temperature_K=4500)
        engine.run(int(1000 / TIMESTEP_FS))
        engine.set_temperature(temperature_K=temperature)
    engine.run(int(warm_up_fs / TIMESTEP_FS))
    out = []
    for _ in range(n_frames):
        engine.run(int(apart_fs / TIMESTEP_FS))
        out.append(atoms.copy())
        out[-1].wrap()
    return out


def molecular_dynamics(
    rng: np.random.Generator,
    temperature: int,
    *,
    repeat: tuple[int, int, int],
    n_trajectories: int,
    n_frames: int,
) -> list[Atoms]:
    """Trajectories of 8 (or 16) atoms, each in a cell of its own; at 2,500 K the liquid, which is denser."""
    melt = temperature > 2000
    out = []
    for i in range(n_trajectories):
        volume = rng.uniform(low=-0.17, high=0.02) if melt else rng.uniform(low=-0.05, high=0.05)
        atoms = strained(
            cubic(repeat=repeat),
            random_strain(rng, volume=0.0, shear=0.01) + np.eye(3) * ((1 + volume) ** (1 / 3) - 1),
        )
        snapshots = dynamics(atoms, temperature, n_frames=n_frames, apart_fs=250, rng=rng, melt=melt)
        out += [frame(s, f"md_{temperature}", f"{len(s)}-{i}", split_of(i)) for s in snapshots]
    return out


def quenched(rng: np.random.Generator) -> list[Atoms]:
    """Melts of 8 and 16 atoms cooled to 300 K within a picosecond: distorted networks."""
    out = []
    for i in range(14):
        atoms = cubic(repeat=(1 + i % 2, 1, 1), a=A0 * (1 + rng.uniform(low=-0.03, high=0.01)))
        snapshots = dynamics(atoms, 300, n_frames=1, apart_fs=100, rng=rng, melt=True, warm_up_fs=900)
        out += [frame(s, "quenched", str(i), split_of(i)) for s in snapshots]
    return out


def vacancies(
    rng: np.random.Generator, *, repeat: tuple[int, int, int], n_trajectories: int, n_frames: int
) -> list[Atoms]:
    """One atom missing from 16 (or 32): the ideal vacancy, and dynamics at 300 and 1,000 K."""
    ideal = cubic(repeat=repeat)
    del ideal[0]
    size = len(ideal)
    out = [frame(ideal, f"vacancy_{size}", "ideal", "train")]
    for i in range(n_trajectories):
        atoms = strained(ideal, random_strain(rng, volume=0.03, shear=0.005))
        snapshots = dynamics(atoms, (300, 1000)[i % 2], n_frames=n_frames, apart_fs=250, rng=rng)
        out += [frame(s, f"vacancy_{size}", str(i), split_of(i)) for s in snapshots]
    return out


def high_pressure_cells() -> dict[str, Atoms]:
    """Small cells of the dense phases near their own equilibrium volumes.

    Beta-tin: Jamieson, Science 139, 762 (1963). bc8: Kasper and Richards, Acta Cryst. 17, 752 (1964).
    """
    tetragonal = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.25], [0.5, 0, 0.75]])
    beta_tin = Atoms("Si4", cell=[4.81, 4.81, 2.65], scaled_positions=tetragonal, pbc=True)
    hexagonal = Atoms("Si", cell=[[2.65, 0, 0], [-1.325, 2.65 * np.sqrt(3) / 2, 0], [0, 0, 2.49]], pbc=True)
    return {
        "beta_tin": beta_tin,
        "simple_hexagonal": hexagonal,
        "bc8": bc8(),
        "fcc": bulk("Si", "fcc", a=3.89),
        "bcc": bulk("Si", "bcc", a=3.10),
    }


def bc8(a: float = 6.64, x: float = 0.1003) -> Atoms:
    """Primitive cell of bc8, Ia-3 (206), sites 16c at (x, x, x), 8 atoms."""
    signs = [(x, x, x), (-x + 0.5, -x, x + 0.5), (-x, x + 0.5, -x + 0.5), (x + 0.5, -x + 0.5, -x)]
    sites = [np.array(s) * sign for s, sign in product(signs, (1, -1))]
    cell = a / 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])
    atoms = Atoms("Si8", positions=np.array(sites) * a, cell=cell, pbc=True)
    atoms.wrap()
    return atoms


def high_pressure(rng: np.random.Generator) -> list[Atoms]:
    """Each dense phase: a scan of volume, then independent rattled and strained cells of 4 to 8 atoms."""
    out = []
    for name, atoms in high_pressure_cells().items():
        for v in (0.0, -0.12, 0.08, -0.06):
            scaled = strained(atoms, np.eye(3) * ((1 + v) ** (1 / 3) - 1))
            out.append(frame(scaled, name, "volume", "train"))
        multiply = np.diag([1, 1, 1] if len(atoms) > 3 else [2, 2, 1])
        for i in range(6):
            cell = strained(make_supercell(atoms, multiply), random_strain(rng, volume=0.10, shear=0.02))
            cell.rattle(rng=rng, stdev=rng.uniform(low=0.03, high=0.2))
            out.append(frame(cell, name, f"random{i}", split_of(i)))
    return out


def close_contacts(rng: np.random.Generator) -> list[Atoms]:
    """Eight-atom cells in which one bond is pushed to 1.5 to 2.1 A."""
    out = []
    for i in range(14):
        atoms = cubic()
        atoms.rattle(rng=rng, stdev=0.08)
        target = rng.uniform(low=1.5, high=2.1)
        distances = atoms.get_distances(0, range(1, 8), mic=True)
        partner = 1 + int(np.argmin(distances))
        atoms.set_distance(0, partner, target, fix=0.5, mic=True)
        out.append(frame(atoms, "close_contact", str(i), split_of(i)))
    return out


def clusters(rng: np.random.Generator) -> list[Atoms]:
    """Isolated dimers along a scan (train) and trimers, free of periodicity, spin-polarised."""
    box = np.array([11.0, 11.5, 12.0])
    out = []
    for d in (2.25, 1.7, 2.6, 2.0, 3.2, 1.85, 2.9, 3.7, 2.4, 4.5):
        out.append(
            frame(
                Atoms("Si2", positions=box / 2 + [[0, 0, -d / 2], [0, 0, d / 2]], cell=box),
                "dimer",
                "scan",
                "train",
            )
        )
    for i in range(7):
        first, second = rng.uniform(low=2.0, high=2.9, size=2)
        angle = np.radians(rng.uniform(low=55, high=150))
        corner = np.array([[0, 0, 0], [first, 0, 0], [second * np.cos(angle), second * np.sin(angle), 0]])
        atoms = Atoms("Si3", positions=corner, cell=box)
        atoms.center()
        out.append(frame(atoms, "trimer", str(i), split_of(i)))
    return out


def finite_differences(rng: np.random.Generator) -> list[Atoms]:
    """A rattled cell, one atom moved by +-0.01 A, and its neighbour pair of strained cells (+-0.2 %): checks of labels.

    Frame ``middle`` holds the labels to be checked; ``info["direction"]`` is the unit displacement of atom 0.
    """
    middle = cubic()
    middle.rattle(rng=rng, stdev=0.1)
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    out = [frame(middle, "finite_difference", "middle", "finite_difference")]
    for sign in (1, -1):
        atoms = middle.copy()
        atoms.positions[0] += sign * 0.01 * direction
        out.append(frame(atoms, "finite_difference", "moved", "finite_difference"))
        out[-1].info["step"] = sign * 0.01
    for sign in (1, -1):
        shear = np.zeros((3, 3))
        shear[0, 1] = shear[1, 0] = sign * 0.002
        out.append(frame(strained(middle, shear), "finite_difference", "sheared", "finite_difference"))
        out[-1].info["step"] = sign * 0.002
    for atoms in out:
        atoms.info["direction"] = direction
    return out


def isolated_atom() -> list[Atoms]:
    """One atom in an orthorhombic box."""
    atoms = Atoms("Si", positions=[[5.5, 5.75, 6.0]], cell=[11.0, 11.5, 12.0])
    return [frame(atoms, "isolated_atom", "0", "train")]


def frames() -> list[Atoms]:
    """The queue, ordered so that any prefix is a balanced set; cheap families first, 31-atom cells last."""

    def rng(stream: int) -> np.random.Generator:
        return np.random.default_rng([20261122, stream])

    families = {
        "diamond_strain": diamond_strain(rng(0)),
        "rattled": rattled(rng(1)),
        "quenched": quenched(rng(2)),
        "vacancy_15": vacancies(rng(3), repeat=(2, 1, 1), n_trajectories=7, n_frames=3),
        "vacancy_31": vacancies(rng(4), repeat=(2, 2, 1), n_trajectories=7, n_frames=2),
        "high_pressure": round_robin(high_pressure(rng(5)), rng=rng(6)),
        "close_contact": close_contacts(rng(7)),
        "clusters": clusters(rng(8)),
    }
    for i, temperature in enumerate((300, 1000, 1500, 2500)):
        small = molecular_dynamics(rng(10 + i), temperature, repeat=(1, 1, 1), n_trajectories=7, n_frames=4)
        large = molecular_dynamics(rng(20 + i), temperature, repeat=(2, 1, 1), n_trajectories=7, n_frames=2)
        families[f"md_{temperature}_8"] = round_robin(small, rng=rng(30 + i))
        families[f"md_{temperature}_16"] = round_robin(large, rng=rng(40 + i))
    late = {name: 0.15 for name in families if name.endswith("_16")}
    queue = interleave(families, start={**late, "vacancy_15": 0.05, "vacancy_31": 0.5})
    head = isolated_atom() + finite_differences(rng(9))
    return head + queue


if __name__ == "__main__":
    main(FOLDER, frames=frames, label=label, splits=SPLITS)
