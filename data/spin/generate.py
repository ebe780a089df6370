"""Spin states with pyscf: methylene (CASSCF) and the hexaaqua complex of iron(II) (UB3LYP).

Run from the root of the repository, with an interpreter that has pyscf::

    python -m data.spin.generate frames|label|collect|verify

Each geometry is labelled in both spin states, two frames with the same ``info["pair"]``. ``info`` has ``charge`` (e),
``spin_state`` ("low" or "high"), ``unpaired`` (electrons) and, after labelling, ``s_squared`` (<S^2>, hbar^2). Lengths
in A, energies in eV.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units

from ..labelling import interleave, labelled, main

FOLDER = Path(__file__).parent
PARTS = ("methylene", "iron_hexaaqua")
BASIS = "def2-svp"
#: converged density of the last frame, by unpaired electrons: a start for the next
_LAST_DENSITY: dict = {}
UNPAIRED = {"methylene": {"low": 0, "high": 2}, "iron_hexaaqua": {"low": 0, "high": 4}}


def label(atoms: Atoms) -> Atoms:
    """Energy, forces and <S^2> of one frame in its spin state."""
    from pyscf import gto

    part, unpaired = atoms.info["part"], int(atoms.info["unpaired"])
    structure = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
        basis=BASIS,
        charge=int(atoms.info["charge"]),
        spin=unpaired,
        verbose=0,
    )
    if part == "methylene":
        solver = methylene_solver(structure)
        s_squared = solver.fcisolver.spin_square(solver.ci, solver.ncas, solver.nelecas)[0]
        level, gradient = "CASSCF(6,6)/def2-SVP (pyscf)", solver.nuc_grad_method()
    else:
        solver = iron_solver(structure)
        s_squared = solver.spin_square()[0] if unpaired else 0.0
        level = f"{'U' if unpaired else 'R'}B3LYP/def2-SVP density fitting (pyscf)"
        gradient = solver.nuc_grad_method()
        gradient.grid_response = True
    if not solver.converged:
        raise RuntimeError("the self-consistent field did not converge")
    forces = -gradient.kernel() * units.Hartree / units.Bohr
    out = labelled(atoms, energy=solver.e_tot * units.Hartree, forces=forces)
    out.info.update(level_of_theory=level, s_squared=round(float(s_squared), 6))
    return out


def iron_solver(structure):
    """Converged UB3LYP of the complex; of the quintet the lowest of three places for its sixth d electron.

    A coarse grid finds the state, from the density of the last frame in this spin state where there is one; a fine grid
    finishes, for the quintet by second-order steps. The closed shell of the singlet (<S^2> = 0) is solved restricted:
    the same energy and forces in half the time.
    """
    from pyscf import dft

    def prepared(level, tolerance):
        solver = (dft.UKS if structure.spin else dft.RKS)(structure, xc="b3lyp").density_fit()
        solver.grids.level = level
        solver.conv_tol = tolerance
        solver.max_cycle = 200
        return solver

    def solve(density, level, tolerance):
        solver = prepared(level, tolerance)
        solver.kernel(dm0=density)
        return solver

    if not structure.spin:
        coarse = solve(_LAST_DENSITY.get(0), 0, 1e-6)
        solver = solve(coarse.make_rdm1(), 3, 1e-8)
    else:
        coarse = solve(_LAST_DENSITY.get(structure.spin), 0, 1e-5)
        hole = coarse.nelec[1] - 1  # the highest of the minority spin, in one of three nearly equal orbitals
        for other in (hole + 1, hole + 2):
            occupation = coarse.mo_occ.copy()
            occupation[1, [hole, other]] = 0.0, 1.0
            swapped = solve(coarse.make_rdm1(coarse.mo_coeff, occupation), 0, 1e-5)
            if swapped.converged and swapped.e_tot < coarse.e_tot - 1e-5:
                coarse = swapped
        solver = prepared(3, 1e-10).newton()  # nearly equal orbitals mix slowly under DIIS
        solver.gen_response = coarse.gen_response  # second derivatives only steer: the coarse grid will do
        solver.kernel(coarse.mo_coeff, coarse.mo_occ)
    _LAST_DENSITY[structure.spin] = solver.make_rdm1()
    return solver


def methylene_solver(structure):
    """Converged full-valence CASSCF(6,6): the lowest of three starts (triplet, atoms, RHF)."""
    from pyscf import mcscf, scf
    from pyscf.mcscf import avas

    def solve(electrons, orbitals):
        solver = mcscf.CASSCF(reference, 6, electrons)
        half = (electrons[0] - electrons[1]) / 2
        solver.fix_spin_(ss=half * (half + 1))
        solver.conv_tol = 1e-10
        solver.max_cycle_macro = 200
        solver.kernel(orbitals)
        return solver

    triplet = structure.copy()
    triplet.spin = 2
    triplet.build()
    reference = scf.ROHF(triplet).run(conv_tol=1e-11)
    valence = avas.avas(reference, ["C 2s", "C 2p", "H 1s"], threshold=0.1)[2]
    high = solve((4, 2), valence)
    if structure.spin:
        return high
    paired = triplet.copy()
    paired.spin = 0
    paired.build()
    starts = high.mo_coeff, valence, scf.RHF(paired).run(conv_tol=1e-11).mo_coeff
    return min((solve((3, 3), start) for start in starts), key=lambda solver: solver.e_tot)


def frame(atoms: Atoms, part: str, kind: str, number: int, state: str, split: str) -> Atoms:
    """A bare copy with its bookkeeping; both states of a geometry share ``pair``."""
    out = Atoms(atoms.symbols, positions=atoms.positions)
    pair = f"{part}-{kind}-{number}"
    out.info.update(
        part=part,
        config_type=f"{part}_{kind}",
        trajectory=pair,
        pair=pair,
        split=split,
        spin_state=state,
        unpaired=UNPAIRED[part][state],
        charge=2 if part == "iron_hexaaqua" else 0,
    )
    return out


def both_states(geometries: list[Atoms], part: str, kind: str) -> list[Atoms]:
    """Every geometry in both states; of seven geometries five train, one calibrates, one tests."""
    splits = {2: "calibration", 5: "test"}
    return [
        frame(atoms, part, kind, i, state, splits.get(i % 7, "train"))
        for i, atoms in enumerate(geometries)
        for state in ("low", "high")
    ]


def methylene(bond: float, angle: float) -> Atoms:
    """CH2 with both bonds alike (A) and an H-C-H angle (degrees)."""
    half = np.radians(angle) / 2
    sides = [(bond * np.sin(half), 0, bond * np.cos(half)), (-bond * np.sin(half), 0, bond * np.cos(half))]
    return Atoms("CH2", positions=[(0, 0, 0), *sides])


def iron_hexaaqua(bond: float, split: float = 0.0) -> Atoms:
    """[Fe(H2O)6]2+, T_h: waters in the coordinate planes, Fe-O distances ``bond`` (A); by ``split`` shorter along x and
    longer along z."""
    atoms = Atoms("Fe", positions=[(0, 0, 0)])
    for axis in range(3):
        for sign in (1, -1):
            outward, across = np.eye(3)[axis] * sign, np.eye(3)[(axis + 1) % 3]
            for symbol, along, side in (("O", 0.0, 0.0), ("H", 0.59, 0.78), ("H", 0.59, -0.78)):
                distance = bond + (axis - 1) * split + along
                atoms += Atoms(symbol, positions=[outward * distance + across * side])
    return atoms


def frames() -> list[Atoms]:
    """Methylene: bending and stretching grid, random distortions. Iron: breathing, bending by random distortions."""
    rng = np.random.default_rng([20261122, 300])
    bends = [methylene(1.09, angle) for angle in (100, 135, 80, 120, 160, 90, 110, 145, 175)]
    stretches = [methylene(bond, 115) for bond in (0.95, 1.25, 1.45, 1.05, 1.7)]
    random = []
    for _ in range(21):
        atoms = methylene(rng.uniform(low=1.0, high=1.3), rng.uniform(low=85, high=165))
        atoms.rattle(rng=rng, stdev=0.05)
        random.append(atoms)
    bonds = (2.12, 2.0, 2.2, 1.9, 2.05, 2.3, 2.15, 1.95, 2.1)
    # with all bonds alike three quintets have one energy and different forces (Jahn and Teller): a label of chance
    breathing = [iron_hexaaqua(bond, split=0.03) for bond in bonds]
    bending = []
    for _ in range(56):
        atoms = iron_hexaaqua(rng.uniform(low=1.95, high=2.2))
        atoms.rattle(rng=rng, stdev=0.05)
        bending.append(atoms)
    return interleave(
        {
            "bend": both_states(bends, "methylene", "bend"),
            "stretch": both_states(stretches, "methylene", "stretch"),
            "random": both_states(random, "methylene", "random"),
            "breathing": both_states(breathing, "iron_hexaaqua", "breathing"),
            "bending": both_states(bending, "iron_hexaaqua", "random"),
        },
        start={"breathing": 1.0, "bending": 1.0},  # costly: after all of methylene
    )


if __name__ == "__main__":
    main(FOLDER, frames=frames, label=label, splits=PARTS, split_key="part")
