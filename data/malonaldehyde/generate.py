"""Malonaldehyde with GFN2-xTB: proton transfer between its two tautomers, and the rotamers of the enol, all relaxed.

Run from the root of the repository, with an interpreter that has gapkit and tblite::

    python -m data.malonaldehyde.generate all

``explored``: training frames, chosen by active learning that starts from one minimum. Chemistry gives first guesses
alone: the mirror image of the minimum, and rigid rotations of the hydroxyl and the aldehyde group. In each round a
potential is fitted to the labels so far. It relaxes the minima, finds the paths between them, and its most uncertain
frames are labelled. No frame is taken from a path or saddle of GFN2-xTB. ``paths``: frames for tests, along GFN2-xTB's
own relaxed paths. Lengths in A, energies in eV, angles in degrees.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

import gapkit
from gapkit.apps.kinetics.malonaldehyde import STEPS, mirrored
from gapkit.exceptions import GapkitError
from gapkit.oracles import oracle
from gapkit.sampling.paths.finding import find_path
from gapkit.sampling.paths.path import Path as ReactionPath
from gapkit.sampling.paths.path import PathSettings
from gapkit.sampling.paths.rigid import aligned
from gapkit.sampling.relaxation import RelaxationSettings, relax_many

from ..labelling import labelled, main, nearest_distance
from ..molecules.generate import malonaldehyde

FOLDER = Path(__file__).parent
PARTS = ("explored", "paths")
LEVEL = "GFN2-xTB (tblite)"
SEED = [20261201, 210]
#: torsions: four atoms of O C C C O H(C) H(C) H(C) H(O), and those that turn
TORSIONS = {"hydroxyl": ((2, 1, 0, 8), [8]), "aldehyde": ((1, 2, 3, 4), [4, 7])}
#: minima by the angles of both torsions
WELLS = {"chelate": (0, 0), "open_aldehyde": (0, 180), "open_hydroxyl": (180, 0), "open": (180, 180)}
#: torsion that turns in each step of the network; the proton transfer has none
TURNS = {
    "proton_transfer": "",
    "aldehyde_of_chelate": "aldehyde",
    "hydroxyl_of_chelate": "hydroxyl",
    "hydroxyl": "hydroxyl",
    "aldehyde": "aldehyde",
}
ROUNDS = 8
#: frames that a step may ask for in a round
MOST = 3
#: barriers (eV) above this are taken for faults of a young potential
HIGHEST = 1.2
CLOSEST = 0.8  # A: frames with nearer atoms are not labelled
STRONGEST = 25.0  # eV/A: nor those with larger forces


def label(atoms: Atoms) -> Atoms:
    """Energy and forces by GFN2-xTB."""
    bare = atoms.copy()
    bare.calc = oracle("gfn2")
    out = labelled(atoms, energy=bare.get_potential_energy(), forces=bare.get_forces())
    out.info["level_of_theory"] = LEVEL
    return out


def frame(atoms: Atoms, part: str, kind: str, trajectory: str, **info) -> Atoms:
    """A bare copy with its bookkeeping."""
    out = Atoms(atoms.symbols, positions=atoms.positions - atoms.positions.mean(axis=0))
    split = "train" if part == "explored" else "test"
    out.info.update(part=part, config_type=kind, trajectory=f"{part}-{trajectory}", split=split, **info)
    return out


def turned(atoms: Atoms, torsion: str, angle: float) -> Atoms:
    """Copy with a group turned rigidly to an angle."""
    out = atoms.copy()
    chain, group = TORSIONS[torsion]
    out.set_dihedral(*chain, angle, indices=group)
    return out


def well_of(atoms: Atoms) -> str:
    """Name of the minimum whose torsions are the nearest."""
    cosines = [np.cos(np.radians(atoms.get_dihedral(*chain))) for chain, _ in TORSIONS.values()]
    return min(WELLS, key=lambda name: float(np.abs(np.cos(np.radians(WELLS[name])) - cosines).sum()))


def rattled(atoms: Atoms, std: float, rng: np.random.Generator) -> Atoms:
    """Copy with Gaussian displacements of a standard deviation."""
    out = atoms.copy()
    out.positions += rng.normal(scale=std, size=(len(out), 3))
    return out


def rotation(wells: dict[str, Atoms], step: str, n: int) -> list[Atoms] | None:
    """``n`` frames between the minima of a step: rotations of both, mixed. None for the proton transfer."""
    (first, last), torsion = STEPS[step], TURNS[step]
    if not torsion:
        return None
    begin, end = wells[first], wells[last].copy()
    end.positions = aligned(end.positions, begin.positions)
    angle = begin.get_dihedral(*TORSIONS[torsion][0])
    out = []
    for x in np.linspace(0, 1, n + 2)[1:-1]:
        both = [turned(atoms, torsion, angle + 180 * x) for atoms in (begin, end)]
        out.append(Atoms(begin.symbols, (1 - x) * both[0].positions + x * both[1].positions))
    return out


def search(wells: dict[str, Atoms], step: str, calculator, n: int = 5) -> ReactionPath:
    """Path of a step on a calculator's surface."""
    first, last = STEPS[step]
    final = mirrored(wells[first]) if last == f"{first}'" else wells[last]
    settings = PathSettings(images=n, fmax=0.03, steps=150, longest_step=0.1)
    return find_path(wells[first], final, calculator, settings, start=rotation(wells, step, n))


class Explorer:
    """Active learning of the network's minima and paths from one minimum.

    Parameters
    ----------
    start
        The minimum.
    rng
    """

    def __init__(self, start: Atoms, rng: np.random.Generator) -> None:
        self.rng = rng
        self.frames: list[Atoms] = []
        self.wells = {"chelate": start}
        self.wells["open_aldehyde"] = turned(start, "aldehyde", 180)
        self.wells["open_hydroxyl"] = turned(start, "hydroxyl", 180)
        self.wells["open"] = turned(self.wells["open_aldehyde"], "hydroxyl", 180)
        self.add(start, "minimum", "chelate", companions=8)
        for step, (first, last) in STEPS.items():
            between = rotation(self.wells, step, 3)
            if between is None:
                line = self.wells[first].positions, aligned(mirrored(start).positions, start.positions)
                between = [Atoms(start.symbols, (1 - x) * line[0] + x * line[1]) for x in (0.25, 0.5)]
            for guess in [*between, *([self.wells[last]] if last in self.wells else [])]:
                self.add(guess, "guess", step)

    def add(self, atoms: Atoms, kind: str, step: str, companions: int = 1, round: int = 0) -> None:
        """Label a frame and displaced copies of it, where they are plausible molecules."""
        for k in range(companions + 1):
            wanted = rattled(atoms, 0.04, self.rng) if k else atoms
            bare = frame(wanted, "explored", "displaced" if k else kind, f"{step}-{round}", round=round, step=step)
            if nearest_distance(bare) < CLOSEST:
                continue
            try:
                done = label(bare)
            except CalculationFailed:
                continue
            if np.abs(done.get_forces()).max() < STRONGEST:
                self.frames.append(done)

    def fit(self) -> gapkit.GAP:
        """Potential of all labels so far."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gapkit.exceptions.GapkitWarning)
            return gapkit.GAP(folds=3, screen=False, random_state=0).fit(self.frames)

    def relax(self, gap: gapkit.GAP, number: int) -> None:
        """Minima of the potential, where they keep their torsions; their labels are added."""
        names = list(self.wells)
        found = relax_many(
            [self.wells[n] for n in names], gap.calculator(), RelaxationSettings(fmax=2e-3, steps=200, longest_step=0.1)
        )
        for name, one in zip(names, found, strict=True):
            bare = Atoms(one.atoms.symbols, one.atoms.positions)
            if well_of(bare) == name and nearest_distance(bare) > CLOSEST:
                self.wells[name] = bare
            self.add(bare, "minimum", name, round=number)

    def round(self, number: int) -> dict[str, float]:
        """One round: fit, minima, paths, labels. Returns the barriers (eV) of the steps that have a saddle."""
        gap = self.fit()
        self.relax(gap, number)
        barriers = {}
        for step in STEPS:
            try:
                path = search(self.wells, step, gap.calculator())
            except GapkitError:
                images = rotation(self.wells, step, 5) or []
            else:
                images = list(path.images[1:-1])
                if path.saddle is not None and path.saddle.is_saddle and path.barrier_forward < HIGHEST:
                    barriers[step] = path.barrier_forward
                    self.add(path.saddle.atoms, "saddle", step, companions=2, round=number)
            images = [a for a in images if nearest_distance(a) > CLOSEST]
            if not images:
                continue
            std = np.asarray(gap.predict(images, uncertainty="energy").energy_std)
            for k in np.argsort(std)[::-1][:MOST]:
                if std[k] > 0.003:
                    self.add(images[k], "path", step, companions=0, round=number)
        return barriers


def explored(rng: np.random.Generator) -> list[Atoms]:
    """Training frames: rounds of active learning until two rounds agree in all barriers."""
    explorer = Explorer(minimum(), rng)
    before: dict[str, float] = {}
    for number in range(1, ROUNDS + 1):
        barriers = explorer.round(number)
        print(number, len(explorer.frames), {k: round(v, 4) for k, v in barriers.items()}, flush=True)
        if set(barriers) == set(before) == set(STEPS) and max(abs(barriers[k] - before[k]) for k in STEPS) < 1e-3:
            break
        before = barriers
    return explorer.frames


def minimum() -> Atoms:
    """GFN2-xTB's chelated minimum."""
    found = relax_many([malonaldehyde()], oracle("gfn2"), RelaxationSettings(fmax=1e-3))[0]
    return Atoms(found.atoms.symbols, found.atoms.positions)


def own_paths() -> list[Atoms]:
    """Test frames: minima, saddles and images of GFN2-xTB's own paths."""
    calculator = oracle("gfn2")
    start = minimum()
    wells = {"chelate": start}
    for name, angles in list(WELLS.items())[1:]:
        guess = start
        for torsion, angle in zip(TORSIONS, angles, strict=True):
            guess = turned(guess, torsion, angle) if angle else guess
        wells[name] = relax_many([guess], calculator, RelaxationSettings(fmax=1e-3, longest_step=0.1))[0].atoms
    out = [frame(atoms, "paths", "minimum", name, step=name) for name, atoms in wells.items()]
    for step in STEPS:
        path = search(wells, step, calculator, n=9)
        out += [frame(a, "paths", "path", step, step=step) for a in path.images[1:-1]]
        assert path.saddle is not None and path.saddle.is_saddle, step
        out.append(frame(path.saddle.atoms, "paths", "saddle", step, step=step))
    return out


def frames() -> list[Atoms]:
    """The queue: training frames, then test frames."""
    rng = np.random.default_rng(SEED)
    return list(itertools.chain(explored(rng), own_paths()))


if __name__ == "__main__":
    main(FOLDER, frames=frames, label=label, splits=PARTS, split_key="part")
