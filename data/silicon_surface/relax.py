"""Si(100) relaxed by density-functional theory: unreconstructed, with symmetric and with buckled 2x1 dimers.

Run from the root of the repository, with an interpreter that has GPAW and matscipy::

    python -m data.silicon_surface.relax          # kill and resume as you like; writes relaxed.xyz at the end

The slab, the code and the settings are those of the set: the same 2x1 cell (so the same k-points) for all three, both
faces alike by inversion, the two middle layers fixed as in the crystal. Lengths in A, energies in eV, forces in eV/A.

Every step is a label of its own, kept in ``work/relaxations/<name>.xyz``: a second run repeats the optimiser's steps
with the labels that it finds there, so that it goes on where the first was killed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from ..labelling import write_atomically, write_hashes
from ..silicon.generate import frame, label, stillinger_weber
from .generate import Slab, dimerised

FOLDER = Path(__file__).parent
NAMES = ("unreconstructed", "symmetric", "buckled")
FORCE_MAX = 0.02  # eV/A, per free atom
MAX_STEP = 0.1  # A
SOFTEST = 3.0  # eV/A^2: least curvature of the first Hessian


class Symmetry:
    """What a relaxation keeps: both faces alike by inversion, and symmetries of one face.

    The slab as a whole has fewer symmetries than its faces: of eight layers, the dimers above and below are a quarter
    of a cell apart, so that a mirror of one is none of the other. Fields are averaged over the upper half.

    Parameters
    ----------
    slab
        The ideal slab, which fixes what each operation does with each atom.
    names
        Which of "across" (mirror across the long axis, in the middle of the dimer), "along" (mirror in the plane of the
        dimer) and "half" (translation by half the long axis).
    """

    def __init__(self, slab: Slab, names: tuple[str, ...]):
        self.slab = slab
        half = slab.atoms[slab.upper]
        first, second = half.positions[slab.top()]
        axis = int(np.argmax(half.cell.lengths()[:2]))
        self.operations = []
        for name in names:
            signs, images = np.ones(3), half.copy()
            if name == "across":
                signs[axis] = -1
                images.positions = (first + second) / 2 + signs * (half.positions - (first + second) / 2)
            elif name == "along":
                signs[1 - axis] = -1
                images.positions = first + signs * (half.positions - first)
            else:
                images.positions += half.cell[axis] / 2
            apart = (images + half).get_all_distances(mic=True)[: len(half), len(half) :]
            if apart.min(axis=1).max() > 1e-6:
                raise ValueError(f"the face has no symmetry of the kind {name!r}")
            self.operations.append((apart.argmin(axis=1), signs))

    def average(self, field: np.ndarray) -> np.ndarray:
        """``field`` (n_atoms, 3) projected on what keeps the symmetries."""
        upper, lower = self.slab.upper, self.slab.lower
        half = (field[upper] - field[lower]) / 2
        for image, signs in self.operations:
            turned = np.empty_like(half)
            turned[image] = signs * half
            half = (half + turned) / 2
        out = np.zeros_like(field)
        out[upper], out[lower] = half, -half
        return out


SYMMETRIES = {
    "unreconstructed": ("half", "across", "along"),
    "symmetric": ("across", "along"),
    "buckled": ("along",),
}


class KeptLabels(Calculator):
    """Labels of the set, read from ``path`` where this geometry has one (1e-6 A), else calculated and added to it."""

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, path: Path, symmetry: Symmetry):
        super().__init__()
        self.path, self.symmetry = path, symmetry
        self.kept = ase.io.read(path, ":") if path.exists() else []

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Energy, and forces along the directions that keep the symmetry."""
        super().calculate(atoms, properties, system_changes)
        same = [k for k in self.kept if np.allclose(k.positions, atoms.positions, rtol=0, atol=1e-6)]
        if not same:
            start = time.process_time()
            done = label(frame(atoms, "si100_2x1", self.path.stem, "relaxed"))
            done.info["cpu_s"] = round(time.process_time() - start, 1)
            self.kept.append(done)
            write_atomically(self.path, self.kept)
            same = [done]
        energy = same[0].get_potential_energy()
        self.results = {
            "energy": energy, "free_energy": energy, "forces": self.symmetry.average(same[0].get_forces())
        }  # fmt: skip


def starts(given: Path | None = None) -> tuple[dict[str, Atoms], Slab]:
    """Geometries to start from, and the ideal slab.

    The dimers of the set, from Stillinger-Weber; or the frames of the file ``given``, by ``info["reconstruction"]``: a
    potential that knows the surface gets nearer. Only displacements of the upper half are taken from it.
    """
    symmetric, buckled, slab = dimerised()
    moves = {"unreconstructed": np.zeros_like(symmetric), "symmetric": symmetric, "buckled": buckled}
    for atoms in ase.io.read(given, ":") if given else ():
        moves[atoms.info["reconstruction"]] = moves_to(slab, atoms)
    return {name: slab.displaced(m) for name, m in moves.items()}, slab


def moves_to(slab: Slab, atoms: Atoms) -> np.ndarray:
    """Displacements (n_upper, 3) that take the upper half of ``slab`` to that of ``atoms``, by layers and places.

    The frames share the cell; a translation in the plane is found from the layers that do not move.
    """
    ideal = slab.atoms
    for shift in ideal.positions - atoms.positions[np.argmin(np.abs(atoms.positions[:, 2] - slab.centre[2]))]:
        images = atoms.copy()
        images.positions += [shift[0], shift[1], 0.0]
        vectors = (ideal + images).get_all_distances(mic=True, vector=True)[: len(ideal), len(ideal) :]
        apart = np.linalg.norm(vectors, axis=2)
        nearest = apart.argmin(axis=1)
        if len(set(nearest)) == len(ideal) and apart.min(axis=1).max() < 1.2:
            return vectors[slab.upper, nearest[slab.upper]]
    raise ValueError("a frame to start from is no slab of this kind")


def first_hessian(atoms: Atoms, step: float = 0.01) -> np.ndarray:
    """Second derivatives (3 n_atoms, 3 n_atoms), eV/A^2, of Stillinger-Weber at ``atoms``, made positive definite."""
    probe = atoms.copy()
    probe.calc = stillinger_weber()
    rows = []
    for i in range(len(atoms)):
        for c in range(3):
            ends = []
            for sign in (1, -1):
                probe.positions[i, c] += sign * step
                ends.append(-probe.get_forces().ravel())
                probe.positions[i, c] -= sign * step
            rows.append((ends[0] - ends[1]) / (2 * step))
    hessian = np.array(rows)
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    return (vectors * np.maximum(np.abs(values), SOFTEST)) @ vectors.T


def relaxed(name: str, atoms: Atoms, slab: Slab, work: Path) -> Atoms:
    """``atoms`` with its outer layers relaxed until no force exceeds ``FORCE_MAX``: the last label of the run."""
    symmetry = Symmetry(slab, SYMMETRIES[name])
    calculator = KeptLabels(work / f"{name}.xyz", symmetry)
    ideal = slab.atoms.positions
    atoms = atoms.copy()
    atoms.positions = ideal + symmetry.average(atoms.positions - ideal)
    hessian = first_hessian(atoms)
    heights = np.abs(atoms.positions[:, 2] - slab.centre[2])
    atoms.set_constraint(FixAtoms(mask=heights < 1.0))
    atoms.calc = calculator
    optimiser = BFGS(atoms, maxstep=MAX_STEP)
    optimiser.H0 = hessian
    if not optimiser.run(fmax=FORCE_MAX, steps=60):
        raise RuntimeError(f"{name}: forces above {FORCE_MAX} eV/A after 60 steps")
    energy = atoms.get_potential_energy()
    found = [k for k in calculator.kept if k.get_potential_energy() == energy]
    return found[-1]


def main() -> None:
    """Relax the three slabs (or those named), write ``relaxed.xyz`` and the hashes once all are done."""
    parser = argparse.ArgumentParser(description="relax Si(100) 2x1 by density-functional theory")
    parser.add_argument("names", nargs="*", default=NAMES, help=f"which of {', '.join(NAMES)}")
    parser.add_argument("--start", type=Path, help="extxyz of geometries to start from, with info['reconstruction']")
    arguments = parser.parse_args()
    names = arguments.names
    begun, slab = starts(arguments.start)
    done = {}
    for name in names:
        done[name] = relaxed(name, begun[name], slab, FOLDER / "work" / "relaxations")
    if set(done) != set(NAMES):
        return
    frames = []
    for name in NAMES:
        out = done[name]
        out.info.pop("cpu_s", None)
        out.info.update(config_type="si100_2x1", trajectory=f"si100_2x1-relaxed_{name}", reconstruction=name)
        frames.append(out)
    write_atomically(FOLDER / "relaxed.xyz", frames)
    write_hashes(FOLDER)
    first = frames[0].get_potential_energy()
    for out in frames:  # two dimers in a cell: one on each face
        gain = (out.get_potential_energy() - first) / 2
        print(f"{out.info['reconstruction']:>16} {gain:9.4f} eV per dimer")


if __name__ == "__main__":
    main()
