"""Molecules with pyscf: torsion, proton transfer, thermal snapshots, water clusters, dissociation curves.

Run from the root of the repository, with an interpreter that has gapkit, pyscf and tblite::

    python -m data.molecules.generate frames|label|collect|verify

Geometries are explored with GFN2-xTB; every frame says its level of theory. Closed-shell molecules: PBE (for
malonaldehyde PBE0), def2-SVP, density fitting. Dissociation curves: the energy and forces are those of CASSCF (in H2
with all orbitals active, which is FCI); ``info`` has the restricted and unrestricted Hartree-Fock energies beside it
(``energy_rhf``, ``energy_uhf``, eV). Lengths in A, energies in eV, temperatures in K.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixInternals
from ase.md.langevin import Langevin
from ase.optimize import BFGS

from gapkit.oracles import oracle

from ..labelling import interleave, labelled, main

FOLDER = Path(__file__).parent
PARTS = ("ethanol", "malonaldehyde", "butane", "water", "H2", "N2", "HF")
# orbitals and electrons of CASSCF (H2: all orbitals of def2-SVP), and the atomic orbitals that it starts from
ACTIVE = {"H2": (10, 2), "N2": (6, 6), "HF": (2, 2)}
VALENCE = {"N2": ["N 2p"], "HF": ["F 2pz", "H 1s"]}
STRETCHED = {"N2": 1.3}  # A: bond length from which the active orbitals are followed
TIMESTEP_FS = 0.5
DENSITY_FUNCTIONAL = {"malonaldehyde": "pbe0"}


# --- labels -------------------------------------------------------------------------------------------------------


def label(atoms: Atoms) -> Atoms:
    """Energy and forces at the level of theory of the frame's part."""
    part = atoms.info["part"]
    if part in ACTIVE:
        return multireference(atoms, *ACTIVE[part])
    functional = DENSITY_FUNCTIONAL.get(part, "pbe")
    bare = atoms.copy()
    bare.calc = oracle("pyscf-pbe", xc=functional)
    forces = bare.get_forces()
    out = labelled(atoms, energy=bare.get_potential_energy(), forces=forces)
    out.info["level_of_theory"] = f"{functional.upper()}/def2-SVP density fitting (pyscf)"
    return out


def multireference(atoms: Atoms, n_orbitals: int, n_electrons: int) -> Atoms:
    """CASSCF energy and forces, active space from atomic valence orbitals; Hartree-Fock energies beside them."""
    from pyscf import gto, mcscf, scf
    from pyscf.mcscf import avas

    molecule_ = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
        basis="def2-svp",
        verbose=0,
    )
    restricted = scf.RHF(molecule_).run(conv_tol=1e-11)
    unrestricted = broken_symmetry(restricted)
    starts = [restricted.mo_coeff]
    if n_orbitals < molecule_.nao:
        found, _, valence = avas.avas(restricted, VALENCE[atoms.info["part"]], threshold=0.5)
        natural = mcscf.addons.make_natural_orbitals(unrestricted)[1]
        starts = [valence, natural] if found == n_orbitals else [natural]
        if atoms.info["part"] in STRETCHED:
            starts.append(from_stretched(atoms, molecule_, n_orbitals, n_electrons))
    runs = []
    for orbitals in starts:
        attempt = mcscf.CASSCF(restricted, n_orbitals, n_electrons)
        attempt.fix_spin_(ss=0)
        attempt.conv_tol = 1e-10
        attempt.max_cycle_macro = 200
        attempt.kernel(orbitals)
        runs.append(attempt)
    active = min(runs, key=lambda run: run.e_tot)
    if not active.converged:
        raise RuntimeError("CASSCF did not converge")
    forces = -active.nuc_grad_method().kernel() * units.Hartree / units.Bohr
    out = labelled(atoms, energy=active.e_tot * units.Hartree, forces=forces)
    whole = n_orbitals == molecule_.nao
    out.info.update(
        level_of_theory=("FCI" if whole else f"CASSCF({n_electrons},{n_orbitals})") + "/def2-SVP (pyscf)",
        energy_rhf=restricted.e_tot * units.Hartree,
        energy_uhf=unrestricted.e_tot * units.Hartree,
    )
    return out


def from_stretched(atoms: Atoms, molecule_, n_orbitals: int, n_electrons: int) -> np.ndarray:
    """Start at a bond length where the solution is the lowest one beyond doubt, and follow it (orbitals projected).

    At short bonds the atoms' orbitals lead to a solution 0.6 eV above, which does not join the rest of the curve.
    """
    from pyscf import gto, mcscf, scf
    from pyscf.mcscf import avas

    vector = atoms.positions[1] - atoms.positions[0]
    longer = gto.M(
        atom=[
            (atoms.symbols[0], (0, 0, 0)),
            (atoms.symbols[1], STRETCHED[atoms.info["part"]] * vector / np.linalg.norm(vector)),
        ],
        basis="def2-svp",
        verbose=0,
    )
    restricted = scf.RHF(longer).run(conv_tol=1e-11)
    solver = mcscf.CASSCF(restricted, n_orbitals, n_electrons)
    solver.fix_spin_(ss=0)
    solver.kernel(avas.avas(restricted, VALENCE[atoms.info["part"]], threshold=0.5)[2])
    target = mcscf.CASSCF(scf.RHF(molecule_).run(conv_tol=1e-11), n_orbitals, n_electrons)
    return mcscf.project_init_guess(target, solver.mo_coeff, prev_mol=longer)


def broken_symmetry(restricted):
    """Lowest unrestricted Hartree-Fock solution of three guesses: restricted, opposite spins, mixed frontier."""
    from pyscf import scf

    def solve(density):
        return scf.UHF(restricted.mol).run(density, conv_tol=1e-11)

    plain = np.array(restricted.make_rdm1()) / 2
    orbitals, n_occupied = restricted.mo_coeff, restricted.mol.nelectron // 2
    mixed = []
    for sign in (1, -1):
        occupied = orbitals[:, :n_occupied].copy()
        occupied[:, -1] = (orbitals[:, n_occupied - 1] + sign * orbitals[:, n_occupied]) / np.sqrt(2)
        mixed.append(occupied @ occupied.T)
    guess = np.array(scf.UHF(restricted.mol).get_init_guess())
    start, stop = restricted.mol.aoslice_by_atom()[0][2:]
    guess[0][start:stop, start:stop] *= 1.5
    guess[1][start:stop, start:stop] *= 0.5
    solutions = [solve(np.array([plain, plain])), solve(guess), solve(np.array(mixed))]
    return min((s for s in solutions if s.converged), key=lambda s: s.e_tot)


# --- geometries -----------------------------------------------------------------------------------------------------


def frame(atoms: Atoms, part: str, kind: str, trajectory: str, split: str = "train", **info) -> Atoms:
    """A bare copy with its bookkeeping."""
    out = Atoms(atoms.symbols, positions=atoms.positions - atoms.positions.mean(axis=0))
    out.info.update(
        part=part, config_type=f"{part}_{kind}", trajectory=f"{part}-{kind}-{trajectory}", split=split, **info
    )
    return out


def relaxed(atoms: Atoms, *, constraint=None, fmax: float = 0.01) -> Atoms:
    """Nearest GFN2-xTB minimum, to a largest force of ``fmax`` (eV/A)."""
    atoms = atoms.copy()
    atoms.set_constraint(constraint)
    atoms.calc = oracle("gfn2")
    BFGS(atoms, logfile=None).run(fmax=fmax, steps=300)
    atoms.set_constraint()
    return atoms


def dynamics(atoms: Atoms, temperature: float, n_frames: int, rng: np.random.Generator) -> list[Atoms]:
    """Snapshots of Langevin dynamics with GFN2-xTB, 50 fs apart after a warm-up of 150 fs."""
    atoms = atoms.copy()
    atoms.calc = oracle("gfn2")
    widths = np.sqrt(atoms.get_masses() * units.kB * temperature)
    atoms.set_momenta(rng.normal(size=(len(atoms), 3)) * widths[:, None])
    engine = Langevin(
        atoms,
        TIMESTEP_FS * units.fs,
        temperature_K=temperature,
        friction=0.02 / units.fs,
        rng=rng,
        fixcm=False,
    )
    engine.run(int(150 / TIMESTEP_FS))
    out = []
    for _ in range(n_frames):
        engine.run(int(50 / TIMESTEP_FS))
        out.append(atoms.copy())
    return out


def thermal(
    atoms: Atoms,
    part: str,
    rng: np.random.Generator,
    *,
    n_trajectories: int,
    n_frames: int,
    temperatures: tuple[int, ...],
) -> list[Atoms]:
    """Independent trajectories; the fourth of each five is for calibration, the fifth for test."""
    out = []
    for i in range(n_trajectories):
        temperature = temperatures[i % len(temperatures)]
        split = {3: "calibration", 4: "test"}.get(i % 5, "train")
        out += [frame(s, part, f"md_{temperature}", str(i), split) for s in dynamics(atoms, temperature, n_frames, rng)]
    return out


def modes(atoms: Atoms, part: str, rng: np.random.Generator, *, n_frames: int) -> list[Atoms]:
    """Random displacements along all normal modes of GFN2-xTB, as at 600 K in the harmonic approximation."""
    atoms = atoms.copy()
    atoms.calc = oracle("gfn2")
    n, step = 3 * len(atoms), 0.005
    hessian = np.zeros((n, n))
    for i in range(n):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[i // 3, i % 3] += sign * step
            hessian[i] -= sign * moved.get_forces().ravel() / (2 * step)
    weights = 1 / np.sqrt(np.repeat(atoms.get_masses(), 3))
    squares, vectors = np.linalg.eigh((hessian + hessian.T) / 2 * np.outer(weights, weights))
    real = squares > 0.05  # leaves out translations and rotations
    out = []
    for i in range(n_frames):
        amplitudes = rng.normal(size=real.sum()) * np.sqrt(units.kB * 600 / squares[real])
        moved = atoms.copy()
        moved.positions += (weights * (vectors[:, real] @ amplitudes)).reshape(-1, 3)
        out.append(frame(moved, part, "modes", str(i), {3: "calibration", 4: "test"}.get(i % 5, "train")))
    return out


def malonaldehyde() -> Atoms:
    """Enol form, planar, built from bond lengths and angles; atoms: O C C C O H(C) H(C) H(C) H(O)."""
    positions = [
        (-1.28, 1.02, 0),
        (-1.21, -0.30, 0),
        (0.0, -0.98, 0),
        (1.22, -0.25, 0),
        (1.30, 0.98, 0),
        (-2.15, -0.86, 0),
        (0.0, -2.06, 0),
        (2.14, -0.86, 0),
        (-0.36, 1.37, 0),
    ]
    return relaxed(Atoms("OCCCOH4", positions=positions))


def proton_transfer(atoms: Atoms) -> list[Atoms]:
    """Proton moved along O...O in steps, the rest interpolated between the minimum and its mirror image."""
    order = [4, 3, 2, 1, 0, 7, 6, 5, 8]
    mirror = atoms.copy()
    mirror.positions = (atoms.positions * (-1, 1, 1))[order]
    best = None
    for angle in np.linspace(-20, 20, 161):
        turned = mirror.copy()
        turned.rotate(angle, "z", center="COM")
        shift = atoms.positions.mean(axis=0) - turned.positions.mean(axis=0)
        error = ((turned.positions + shift - atoms.positions)[:8] ** 2).sum()
        if best is None or error < best[0]:
            best = error, turned.positions + shift
    out = []
    for t in np.linspace(0, 1, 9):
        moved = atoms.copy()
        moved.positions = (1 - t) * atoms.positions + t * best[1]
        out.append(frame(moved, "malonaldehyde", "proton_transfer", "path", reaction_coordinate=round(float(t), 4)))
    return out


def torsion() -> tuple[Atoms, list[Atoms]]:
    """Butane: the anti minimum, and its relaxed scan of the C-C-C-C torsion (degrees in ``info["torsion"]``)."""
    start = relaxed(molecule("trans-butane"))
    carbons = np.flatnonzero(start.numbers == 6)
    chain = [int(carbons[0])]
    ends = [c for c in carbons if (start.get_distances(c, carbons) < 1.7).sum() == 2]
    chain = [int(ends[0])]
    while len(chain) < 4:
        chain.append(next(int(c) for c in carbons if int(c) not in chain and start.get_distance(chain[-1], c) < 1.7))
    rotating = [
        i
        for i in range(len(start))
        if i == chain[3] or (start.get_distance(chain[2], i) < 1.25) or (start.get_distance(chain[3], i) < 1.25)
    ]
    out = []
    for angle in range(180, -1, -15):
        twisted = start.copy()
        twisted.set_dihedral(*chain, angle, indices=rotating)
        fixed = FixInternals(dihedrals_deg=[[angle, chain]])
        out.append(frame(relaxed(twisted, constraint=fixed), "butane", "torsion", "scan", torsion=float(angle)))
    return start, out


def water(rng: np.random.Generator) -> list[Atoms]:
    """Dimer: a scan of the O-O distance; thermal snapshots of dimer, trimer and tetramer."""
    positions = [
        (0, 0, 0.1),
        (0.76, 0, -0.48),
        (-0.76, 0, -0.48),
        (0, 2.9, 0),
        (0, 1.93, 0.06),
        (0.2, 3.2, 0.9),
    ]
    dimer = relaxed(Atoms("OHHOHH", positions=positions))
    axis = dimer.positions[3] - dimer.positions[0]
    length = np.linalg.norm(axis)
    out = []
    for distance in (2.9, 2.5, 3.3, 2.7, 4.0, 3.1, 3.6, 5.0):
        moved = dimer.copy()
        moved.positions[3:] += axis / length * (distance - length)
        out.append(frame(moved, "water", "dimer_scan", "scan", distance=distance))
    out += [frame(relaxed(molecule("H2O")), "water", "monomer", "minimum")]
    for n in (2, 3, 4):
        ring = Atoms()
        for i in range(n):
            single = molecule("H2O")
            single.rotate(float(rng.uniform(low=0, high=360)), rng.normal(size=3), center="COM")
            angle = 2 * np.pi * i / n
            single.translate(np.array([np.cos(angle), np.sin(angle), 0]) * 1.5 / np.sin(np.pi / n))
            ring += single
        ring = relaxed(ring, fmax=0.05)
        for i in range(5):
            split = {3: "calibration", 4: "test"}.get(i, "train")
            out += [frame(s, "water", f"cluster_{n}", str(i), split) for s in dynamics(ring, 250, 2, rng)]
    return out


def dissociation(part: str, lengths: np.ndarray) -> list[Atoms]:
    """Diatomic along its bond; every third point from the second on is for test."""
    symbols = {"H2": "HH", "N2": "NN", "HF": "HF"}[part]
    return [
        frame(
            Atoms(symbols, positions=[(0, 0, 0), (0, 0, r)]),
            part,
            "curve",
            f"r{r:.3f}",
            "test" if i % 3 == 1 else "train",
            distance=float(r),
        )
        for i, r in enumerate(lengths)
    ]


def frames() -> list[Atoms]:
    """The queue: any prefix is a balanced set."""
    rng = np.random.default_rng([20261122, 200])
    ethanol = relaxed(molecule("CH3CH2OH"))
    enol = malonaldehyde()
    butane, scan = torsion()
    return interleave(
        {
            "ethanol": thermal(ethanol, "ethanol", rng, n_trajectories=10, n_frames=4, temperatures=(300, 600)),
            "proton": proton_transfer(enol),
            "modes": modes(enol, "malonaldehyde", rng, n_frames=20),
            "malonaldehyde": thermal(enol, "malonaldehyde", rng, n_trajectories=5, n_frames=4, temperatures=(300, 600)),
            "torsion": scan,
            "butane": thermal(butane, "butane", rng, n_trajectories=5, n_frames=5, temperatures=(300, 600)),
            "water": water(rng),
            "H2": dissociation("H2", np.round(np.geomspace(0.45, 5.0, 22), 3)),
            "N2": dissociation("N2", np.round(np.geomspace(0.85, 3.5, 22), 3)),
            "HF": dissociation("HF", np.round(np.geomspace(0.65, 4.5, 22), 3)),
        },
        start={"proton": 0.1, "modes": 0.2, "malonaldehyde": 0.2},
    )


if __name__ == "__main__":
    main(FOLDER, frames=frames, label=label, splits=PARTS, split_key="part")
