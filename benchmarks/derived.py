"""Properties derived from a model beside those of the reference data (docs/ACCURACY.md).

    python benchmarks/derived.py silicon MODEL TRAIN.xyz
    python benchmarks/derived.py curves MODEL CURVE.xyz [CURVE.xyz ...]

``silicon``: lattice constant and clamped-ion C11, C12, C44 from the stresses of the Elastic frames (cubic
64-atom cells strained along one Voigt direction each), by label and by the model on the same frames;
the model's own lattice constant, relaxed elastic constants and the relaxed energy of a vacancy in 64 atoms, with its
standard deviation. ``curves``: error of energies along scans (normal modes, a bond pulled apart, dimers), each relative
to its lowest reference energy, and the deviation that the model states.
"""

from __future__ import annotations

import argparse

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

import gapkit
from gapkit.structures.files import read_frames

GPA = units.GPa


def moduli(frames: list[Atoms], stresses: np.ndarray) -> dict[str, float]:
    """a0 (A), C11, C12, C44 (GPa) from one-directional strains of a cubic cell and their stresses (n, 6) in eV/A^3.

    Stress against strain is a cubic polynomial along each direction; the constants are its slopes at zero strain.
    """
    side = float(np.median([np.median(np.diag(a.cell.array)) for a in frames]))
    normal: list[list[float]] = []
    shear: list[list[float]] = []
    for atoms, stress in zip(frames, stresses, strict=True):
        F = atoms.cell.array / side
        strain = 0.5 * (F + F.T) - np.eye(3)
        voigt = np.array([strain[0, 0], strain[1, 1], strain[2, 2], *(2 * strain[[1, 0, 0], [2, 2, 1]])])
        k = int(np.argmax(np.abs(voigt)))
        if np.abs(np.delete(voigt, k)).max() > 0.01:
            continue
        if k < 3:
            across = [i for i in range(3) if i != k]
            normal.append([voigt[k], stress[k], stress[across].mean()])
        else:
            shear.append([voigt[k], stress[k]])
    along, turned = np.array(normal), np.array(shear)
    c11, c12 = (np.polyfit(along[:, 0], along[:, c], 3) for c in (1, 2))
    c44 = np.polyfit(turned[:, 0], turned[:, 1], 3)
    pressure = -(c11[-1] + 2 * c12[-1]) / 3
    a0 = side / 2 * (1 + pressure / (c11[-2] + 2 * c12[-2]))
    return {"a0": a0, "C11": c11[-2] / GPA, "C12": c12[-2] / GPA, "C44 clamped": c44[-2] / GPA}


def own_constants(gap: gapkit.GAP) -> dict[str, float]:
    """The model's own a0, relaxed elastic constants by central differences of 0.4 %, and the vacancy's energy."""
    atoms = bulk("Si", "diamond", a=5.45, cubic=True)
    atoms.calc = gap.calculator()
    BFGS(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=1e-4, steps=200)
    h, columns = 0.004, {}
    for k, e in ((0, np.diag([1.0, 0.0, 0.0])), (3, np.array([[0, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]))):
        stress = []
        for sign in (1, -1):
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * h * e), scale_atoms=True)
            strained.calc = gap.calculator()
            BFGS(strained, logfile=None).run(fmax=1e-4, steps=200)
            stress.append(strained.get_stress())
        columns[k] = (stress[0] - stress[1]) / (2 * h) / GPA
    crystal = atoms * (2, 2, 2)
    vacancy = crystal.copy()
    del vacancy[0]
    vacancy.rattle(0.02, seed=0)
    vacancy.calc = gap.calculator()
    BFGS(vacancy, logfile=None).run(fmax=0.005, steps=500)
    formation = gap.joint_energies([vacancy, crystal]).combination([1.0, -63 / 64])
    return {
        "a0": atoms.cell.array[0, 0], "C11": columns[0][0], "C12": columns[0][1], "C44 relaxed": columns[3][3],
        "vacancy": formation.value, "vacancy std": formation.std,
    }  # fmt: skip


def silicon(gap: gapkit.GAP, paths: list[str]) -> None:
    """Elastic frames by label and by model, then what the model says by itself."""
    frames = [a for a in read_frames(*paths) if a.info.get("config_type") == "Elastic"]
    reference = moduli(frames, np.array([a.get_stress() for a in frames]))
    model = moduli(frames, np.array(gap.predict(frames).stress))
    print(f"{len(frames)} elastic frames (a0 in A, moduli in GPa)\n{'':<14}{'reference':>12}{'model':>12}")
    for name, value in reference.items():
        print(f"{name:<14}{value:>12.4f}{model[name]:>12.4f}")
    own = own_constants(gap)
    print("the model by itself: " + ", ".join(f"{k} {v:.4f}" for k, v in own.items() if not k.startswith("vacancy")))
    print(f"vacancy, relaxed in 64 atoms: {own['vacancy']:.3f} +- {own['vacancy std']:.3f} eV")


def curves(gap: gapkit.GAP, paths: list[str]) -> None:
    """Energies along scans, config_type by config_type, relative to the frame of lowest reference energy."""
    print(f"{'scan':<34}{'frames':>7}{'range':>9}{'MAE':>9}{'largest':>9}{'std':>9}   eV")
    for path in paths:
        frames = read_frames(path)
        for name in sorted({str(a.info.get("config_type")) for a in frames}):
            mine = [a for a in frames if str(a.info.get("config_type")) == name]
            energy = np.array([a.get_potential_energy() for a in mine])
            p = gap.predict(mine, uncertainty=True)
            lowest = int(np.argmin(energy))
            error = (np.array(p.energy) - p.energy[lowest]) - (energy - energy[lowest])
            label = f"{path.rsplit('/', 1)[-1]} {name}"
            print(
                f"{label:<34.34}{len(mine):>7}{np.ptp(energy):>9.3f}{np.abs(error).mean():>9.4f}"
                f"{np.abs(error).max():>9.4f}{np.median(p.energy_std):>9.4f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("silicon", "curves"))
    parser.add_argument("model")
    parser.add_argument("data", nargs="+")
    o = parser.parse_args()
    gap = gapkit.load(o.model)
    (silicon if o.what == "silicon" else curves)(gap, o.data)


if __name__ == "__main__":
    main()
