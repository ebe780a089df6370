"""Silicon for the benchmarks: crystals of any size, and labelled frames."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.io import read, write

#: Tersoff, Phys. Rev. B 38, 9902 (1988), table I, "Si(C)", in eV and A
TERSOFF = TersoffParameters(
    m=3.0, gamma=1.0, lambda3=0.0, c=1.0039e5, d=16.217, h=-0.59825, n=0.78734, beta=1.1e-6, lambda2=1.73222,
    B=471.18, R=2.85, D=0.15, lambda1=2.4799, A=1830.8,
)  # fmt: skip

#: repeats of the cubic cell of eight atoms
REPEATS = {8: (1, 1, 1), 64: (2, 2, 2), 512: (4, 4, 4), 1000: (5, 5, 5), 8000: (10, 10, 10), 100_000: (25, 25, 20)}


def crystal(n_atoms: int, seed: int = 0, amplitude: float = 0.1) -> Atoms:
    """Diamond silicon of exactly ``n_atoms`` (one of :data:`REPEATS`, or 2, 16), rattled by ``amplitude`` (A)."""
    if n_atoms in (2, 16):
        atoms = bulk("Si") * ((1, 1, 1) if n_atoms == 2 else (2, 2, 2))
    elif n_atoms in REPEATS:
        atoms = bulk("Si", cubic=True) * REPEATS[n_atoms]
    else:
        raise SystemExit(f"crystals of {sorted([2, 16, *REPEATS])} atoms can be made, not of {n_atoms}")
    atoms.rattle(amplitude, seed=seed)
    return atoms


def small_moves(atoms: Atoms, n: int, amplitude: float = 0.01) -> list[Atoms]:
    """``n`` frames near ``atoms``, as successive steps of dynamics are."""
    frames = []
    for k in range(n):
        moved = atoms.copy()
        moved.rattle(amplitude, seed=1000 + k)
        frames.append(moved)
    return frames


def made_frames(n_frames: int = 24) -> list[Atoms]:
    """Strained and rattled crystals of 64 atoms, labelled with the potential of :data:`TERSOFF`."""
    rng = np.random.default_rng(0)
    calculator = Tersoff({("Si", "Si", "Si"): TERSOFF})
    frames = []
    for _ in range(n_frames):
        atoms = bulk("Si", cubic=True) * (2, 2, 2)
        atoms.set_cell(atoms.cell * rng.uniform(0.95, 1.05), scale_atoms=True)
        atoms.rattle(rng.uniform(0.05, 0.25), rng=rng)
        atoms.calc = calculator
        frames.append(_plain(atoms))
    return frames


def labelled_frames(paths: Sequence[str]) -> list[Atoms]:
    """Frames of extended XYZ files with energies, forces and, where they have them, virials."""
    return [_plain(atoms) for path in paths for atoms in read(path, ":") if len(atoms) > 1]


def _plain(atoms: Atoms) -> Atoms:
    """A copy whose labels are ``energy``, ``forces`` and ``virial`` (eV) in info and arrays, known to every engine."""
    plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    plain.info["energy"] = float(atoms.get_potential_energy())
    plain.arrays["forces"] = atoms.get_forces()
    with contextlib.suppress(NotImplementedError, RuntimeError):
        plain.info["virial"] = -atoms.get_stress(voigt=False) * atoms.get_volume()
    return plain


def prepare(train: list[str], test: list[str], out: str, n_sparse: int) -> dict:
    """Write ``train.xyz``, ``test.xyz`` and ``sparse.txt`` (the environments, from 1, that are sparse points)."""
    frames = labelled_frames(train) if train else made_frames()
    held_out = labelled_frames(test) if test else frames[::5]
    if not test:
        frames = [atoms for k, atoms in enumerate(frames) if k % 5]
    n_atoms = sum(map(len, frames))
    if n_atoms < n_sparse:
        raise SystemExit(f"the training frames have {n_atoms} environments: too few for {n_sparse} sparse points")
    write(Path(out, "train.xyz"), frames, format="extxyz")
    write(Path(out, "test.xyz"), held_out, format="extxyz")
    chosen = np.sort(np.random.default_rng(0).choice(n_atoms, n_sparse, replace=False))
    np.savetxt(Path(out, "sparse.txt"), chosen + 1, fmt="%d")
    return {
        "frames": len(frames),
        "atoms": n_atoms,
        "test_frames": len(held_out),
        "virials": sum("virial" in a.info for a in frames),
        "e0": sum(a.info["energy"] for a in frames) / n_atoms,
        "source": ", ".join(Path(p).name for p in train) or "rattled crystals with Tersoff labels",
    }
