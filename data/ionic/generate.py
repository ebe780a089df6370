"""Ionic crystals, strained, rattled, and with a cation hopping into a vacancy: NaCl by GFN2-xTB, LiF by DFT.

Run from the root of the repository, with an interpreter that has gapkit, tblite and GPAW::

    python -m data.ionic.generate frames|label|collect|verify

NaCl: cells of 64 ions (62 with a Schottky pair), Brillouin zone at Gamma, ``arrays["charges"]`` the atomic charges of
the method (e). A semiempirical reference: right in its kind of interaction, not in every number. LiF, for which that
method fails: GPAW, PBE, plane waves up to 900 eV, cells of 8 ions (14 with a Schottky pair), 3 x 3 x 3 k-points,
formal charges; no stress, which is not converged at any affordable cutoff. Lengths in A, energies in eV.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from gapkit.oracles import oracle

from ..labelling import interleave, labelled, main

FOLDER = Path(__file__).parent
PARTS = ("NaCl", "LiF")  # GFN2-xTB gives LiF charges of 0.26 e and a pressure of 16 GPa at its true volume
LATTICE_CONSTANT = {"NaCl": 5.60, "LiF": 4.06}  # A
REPEAT = {"NaCl": 2, "LiF": 1}  # of the cubic cell
PLANE_WAVE_CUTOFF, K_POINTS = 900, (3, 3, 3)  # eV; of LiF
LEVEL_OF_THEORY = {"NaCl": "GFN2-xTB Gamma (tblite)", "LiF": "GPAW PBE PW900 k333"}


def label(atoms: Atoms) -> Atoms:
    """Energy, forces, stress (NaCl) and charges of one frame."""
    out = semiempirical(atoms) if atoms.info["part"] == "NaCl" else plane_waves(atoms)
    out.info["level_of_theory"] = LEVEL_OF_THEORY[atoms.info["part"]]
    return out


def semiempirical(atoms: Atoms) -> Atoms:
    """GFN2-xTB: energy, forces, stress, charges."""
    bare = atoms.copy()
    bare.calc = oracle("gfn2")
    out = labelled(atoms, energy=bare.get_potential_energy(), forces=bare.get_forces(), stress=bare.get_stress())
    out.set_array("charges", np.asarray(bare.calc.results["charges"]))
    return out


def plane_waves(atoms: Atoms) -> Atoms:
    """GPAW: energy and forces; formal charges."""
    from gpaw import GPAW, PW, FermiDirac

    bare = atoms.copy()
    bare.calc = GPAW(
        mode=PW(PLANE_WAVE_CUTOFF),
        xc="PBE",
        kpts={"size": K_POINTS},
        occupations=FermiDirac(0.01),
        convergence={"density": 1e-5},
        txt=None,
    )
    energy, forces = bare.get_potential_energy(force_consistent=True), bare.get_forces()
    out = labelled(atoms, energy=energy, forces=forces - forces.mean(axis=0))
    out.set_array("charges", np.where(atoms.symbols == "Li", 1.0, -1.0))
    return out


def frame(atoms: Atoms, salt: str, kind: str, trajectory: str, split: str) -> Atoms:
    """A bare copy with its bookkeeping."""
    out = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
    out.info.update(part=salt, config_type=f"{salt}_{kind}", trajectory=f"{salt}-{kind}-{trajectory}", split=split)
    return out


def split_of(index: int) -> str:
    """Of seven independent frames five train, one calibrates, one tests."""
    return {2: "calibration", 5: "test"}.get(index % 7, "train")


def crystal(salt: str, scale: float = 1.0) -> Atoms:
    """Rock salt, 64 ions (NaCl) or 8 (LiF), lattice constant scaled by ``scale``."""
    return bulk(salt, "rocksalt", a=LATTICE_CONSTANT[salt] * scale, cubic=True).repeat(REPEAT[salt])


def vacancy_crystal(salt: str) -> Atoms:
    """The crystal that a Schottky pair is taken from: 64 ions (NaCl) or 16 (LiF)."""
    return crystal(salt) if salt == "NaCl" else bulk(salt, "rocksalt", a=LATTICE_CONSTANT[salt]).repeat(2)


def vacancy_hops(salt: str, rng: np.random.Generator) -> list[Atoms]:
    """A Schottky pair far apart; a neighbouring cation moves along the straight line into the vacancy."""
    atoms = vacancy_crystal(salt)
    cations = np.flatnonzero(atoms.symbols == atoms.symbols[0])
    vacancy = int(cations[0])
    distances = atoms.get_distances(vacancy, range(len(atoms)), mic=True)
    anions = np.setdiff1d(np.arange(len(atoms)), cations)
    mover = int(min(cations[1:], key=lambda i: distances[i]))
    far = int(max(anions, key=lambda i: distances[i]))
    path = atoms.get_distance(mover, vacancy, mic=True, vector=True)
    out = []
    for fraction in (0.0, 0.5, 0.25, 0.375, 0.125):
        moved = atoms.copy()
        moved.positions[mover] += fraction * path
        del moved[[vacancy, far]]
        out.append(frame(moved, salt, "vacancy", "hop", "train"))
    for i in range(14):
        moved = atoms.copy()
        moved.positions[mover] += rng.uniform(low=0, high=0.6) * path
        moved.rattle(rng=rng, stdev=rng.uniform(low=0.03, high=0.12))
        del moved[[vacancy, far]]
        out.append(frame(moved, salt, "vacancy", f"random{i}", split_of(i)))
    return out


def salt_frames(salt: str, rng: np.random.Generator) -> dict[str, list[Atoms]]:
    """Scan of the lattice constant, random strains, rattled crystals, vacancy hops."""
    scan = [frame(crystal(salt, s), salt, "bulk", "volume", "train") for s in (1, 0.97, 1.03, 0.985, 1.015, 1.05)]
    strained, rattled = [], []
    for i in range(7):
        strain = rng.normal(scale=0.02, size=(3, 3))
        atoms = crystal(salt)
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        strained.append(frame(atoms, salt, "strained", str(i), split_of(i)))
    for i in range(21):
        atoms = crystal(salt, rng.uniform(low=0.97, high=1.04))
        atoms.rattle(rng=rng, stdev=rng.uniform(low=0.04, high=0.2))
        rattled.append(frame(atoms, salt, "rattled", str(i), split_of(i)))
    return {"bulk": scan, "strained": strained, "rattled": rattled, "vacancy": vacancy_hops(salt, rng)}


def frames() -> list[Atoms]:
    """The queue: any prefix is a balanced set."""
    families = {}
    for number, salt in enumerate(PARTS):
        for name, part in salt_frames(salt, np.random.default_rng([20261122, 400 + number])).items():
            families[f"{salt} {name}"] = part
    return interleave(families)


if __name__ == "__main__":
    main(FOLDER, frames=frames, label=label, splits=PARTS, split_key="part")
