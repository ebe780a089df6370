"""Many small frames at once: what a batch costs beside single calls, and beside its environments alone.

    python benchmarks/batches.py [--repeats 15] [--only molecules crystals calls replicas hessian]

Fits small models of the reference sets (half a minute): silicon with pairs and SOAP (300 sparse points, 5 A), ethanol
and malonaldehyde with the exact mean (three species, 2,100 features). Every ratio is of two minima of repeats that
take turns in one run, on one thread and in processor time, so that a busy machine spoils neither side alone.

The cost of an environment is that of one call for a large frame, pair list included, over its atoms: a crystal of 512
silicon atoms, or 64 of the same molecules 15 A apart. A single call's overhead is its time beyond those of its atoms.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator

import gapkit
import gapkit.potential.calculator
from gapkit.datasets import load_molecules, load_silicon
from gapkit.potential.potential import Potential
from gapkit.sampling.batches import batch_forces
from gapkit.sampling.replicas import ReplicaSettings, run_replicas
from gapkit.vibrations.hessians import hessian


@dataclass
class Row:
    """One line of the table; ``asked``: largest value that counts as good, or None."""

    what: str
    value: float
    asked: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        asked = "" if self.asked is None else f"{self.asked:g}{self.unit}"
        met = "" if self.asked is None else ("yes" if self.value <= self.asked else "no")
        return f"| {self.what} | {self.value:.3g}{self.unit} | {asked} | {met} |"


def shortest(repeats: int, in_a_row: int = 1, **works: Callable[[], object]) -> dict[str, float]:
    """Least processor time of each work (s), the works taking turns, each done so many times in a row.

    All are done once before, so that nothing is compiled then.
    """
    for work in works.values():
        work()
    best = dict.fromkeys(works, np.inf)
    for _ in range(repeats):
        for name, work in works.items():
            for _ in range(in_a_row):
                begin = time.process_time()
                work()
                best[name] = min(best[name], time.process_time() - begin)
    return best


class Models:
    """Potentials, fitted when first asked for; no level is searched for."""

    @cached_property
    def silicon(self) -> Potential:
        terms = [
            gapkit.Term(gapkit.PairDistance(5.0), gapkit.SquaredExponential(0.8), 15, signal=0.05),
            gapkit.Term(gapkit.SOAP(r_cut=5.0), gapkit.DotProduct(4), 300, signal=0.8),
        ]
        noise = {"energy": 0.003, "forces": 0.08, "virial": 0.05}
        return fitted(terms, load_silicon("train")[::4], noise, exact=False)

    def exact_mean(self, name: str) -> Potential:
        terms = [gapkit.Term(gapkit.SOAP(r_cut=4.0), gapkit.DotProduct(2), 100, signal=0.8)]
        return fitted(terms, load_molecules(name)[::8], {"energy": 0.003, "forces": 0.08}, exact=True)

    @cached_property
    def ethanol(self) -> Potential:
        return self.exact_mean("ethanol")

    @cached_property
    def malonaldehyde(self) -> Potential:
        return self.exact_mean("malonaldehyde")


def fitted(terms: list, frames: list[Atoms], noise: dict[str, float], exact: bool) -> Potential:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gapkit.GAP(terms, noise_levels=noise, exact=exact, n_jobs=1, random_state=0).fit(frames).potential_


def shaken(atoms: Atoms, copies: int, seed: int = 0) -> list[Atoms]:
    """Copies of a frame, each atom moved by 0.05 A in each direction (standard deviation)."""
    rng = np.random.default_rng(seed)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return [Atoms(bare, positions=bare.positions + rng.normal(scale=0.05, size=(len(bare), 3))) for _ in range(copies)]


def far_apart(molecules: list[Atoms]) -> Atoms:
    """Molecules as one frame, on a grid of 15 A."""
    whole = Atoms()
    for k, atoms in enumerate(molecules):
        moved = atoms.copy()
        moved.positions += 15.0 * np.array([k % 4, k // 4 % 4, k // 16])
        whole += moved
    return whole


def butanol() -> Atoms:
    """Fifteen atoms: butane with OH in the place of one hydrogen of its end."""
    butane = load_molecules("butane")[0]
    carbon = int(np.flatnonzero(butane.numbers == 6)[0])
    apart = butane.positions - butane.positions[carbon]
    bonds = np.where((butane.numbers == 1), np.linalg.norm(apart, axis=1), np.inf)
    hydrogen = int(np.argmin(bonds))
    along = apart[hydrogen] / bonds[hydrogen]
    across = np.cross(along, [0.3, 0.5, 0.8])
    oxygen = butane.positions[carbon] + 1.43 * along
    end = oxygen + 0.3 * along + 0.91 * across / np.linalg.norm(across)
    return Atoms(
        [*butane.numbers[np.arange(14) != hydrogen], 8, 1],
        np.vstack([np.delete(butane.positions, hydrogen, axis=0), oxygen, end]),
    )


def batch_of(p: Potential, frames: list[Atoms], large: Atoms, repeats: int) -> tuple[float, float]:
    """Time of a batch over that of single calls, and over that of as many environments of a large frame."""
    best = shortest(
        repeats,
        single=lambda: [p.evaluate(atoms) for atoms in frames],
        batch=lambda: p.evaluate_many(frames),
        large=lambda: p.evaluate(large),
    )
    environments = sum(map(len, frames))
    return best["batch"] / best["single"], best["batch"] / (best["large"] / len(large) * environments)


def molecules(models: Models, repeats: int) -> list[Row]:
    rows = []
    cases = (
        ("malonaldehyde", models.malonaldehyde, load_molecules("malonaldehyde")[0], 0.30),
        ("butanol", models.ethanol, butanol(), 0.40),
    )
    for name, p, atoms, asked in cases:
        large = far_apart(shaken(atoms, 64, seed=1))
        few = -(-100 // len(atoms))
        features = p.basis.blocks[0].descriptor.n_features(p.basis.blocks[0].channel)
        single, own = batch_of(p, shaken(atoms, 32), large, repeats)
        what = f"32 {name}s ({len(atoms)} atoms, {features} features): batch"
        rows += [Row(f"{what} / one by one", single, asked), Row(f"{what} / environments alone", own, 1.3)]
        own = batch_of(p, shaken(atoms, few), large, repeats)[1]
        rows.append(Row(f"{few} {name}s: batch / environments alone", own, 1.3))
    return rows


def crystals(models: Models, repeats: int) -> list[Row]:
    p = models.silicon
    cell = bulk("Si", cubic=True)
    (large,) = shaken(cell * (4, 4, 4), 1)
    rows = []
    for copies in (13, 32):
        single, own = batch_of(p, shaken(cell, copies), large, repeats)
        rows += [
            Row(f"{copies} cells of 8 silicon atoms: batch / one by one", single),
            Row(f"{copies} cells of 8 silicon atoms: batch / environments alone", own, 1.3),
        ]
    for repeat, copies in (((2, 2, 2), 2), ((2, 2, 2), 12), ((3, 3, 2), 12)):
        frame = cell * repeat
        images = [np.array([a.positions for a in shaken(frame, copies, seed=k)]) for k in (0, 1)]
        band = batch_forces(frame, gapkit.potential.calculator.GAPCalculator(p))
        best = shortest(
            repeats, band=lambda b=band, x=images: [b(x[0]), b(x[1])], large=lambda: p.evaluate(large)
        )  # two sets of positions, so that no call repeats the one before
        own = best["band"] / 2 / (best["large"] / len(large) * copies * len(frame))
        rows.append(Row(f"{copies} images of {len(frame)} silicon atoms: forces / environments alone", own, 1.3))
    return rows


def calls(models: Models, repeats: int) -> list[Row]:
    p = models.silicon
    (large,) = shaken(bulk("Si", cubic=True) * (4, 4, 4), 1)
    cells = [bulk("Si"), bulk("Si") * (2, 1, 1), bulk("Si", cubic=True), bulk("Si", cubic=True) * (2, 1, 1)]
    rows = []
    for cell in cells:
        (atoms,) = shaken(cell, 1)
        # in a row: a call that follows on another one finds the model in the caches, as in dynamics
        best = shortest(repeats, 10, one=lambda a=atoms: p.evaluate(a), large=lambda: p.evaluate(large))
        beyond = 1e3 * (best["one"] - best["large"] / len(large) * len(atoms))
        rows.append(Row(f"one call for {len(atoms)} silicon atoms: beyond their environments", beyond, 0.06, " ms"))
    return rows


def replicas(models: Models, repeats: int) -> list[Row]:
    p, atoms = models.ethanol, load_molecules("ethanol")[0]
    n, copies, steps = len(atoms), 100, 20
    large = far_apart(shaken(atoms, 64, seed=1))
    calculator = gapkit.potential.calculator.GAPCalculator(p)
    settings = ReplicaSettings(n_replicas=copies, steps=steps, temperature=100.0, timestep=0.5)
    nothing = np.zeros(copies), np.zeros((copies, n, 3))
    free = replace(settings, steps=10 * steps)
    best = shortest(
        max(3, repeats // 3),
        real=lambda: run_replicas(atoms, calculator, settings, random_state=0),
        free=lambda: run_replicas(atoms, lambda x: nothing, free, random_state=0),
        large=lambda: p.evaluate(large),
    )
    step = best["real"] / (steps + 1)  # forces are asked for once more than there are steps
    own = step / (best["large"] / len(large) * copies * n)
    share = 100 * best["free"] / free.steps / step
    return [
        Row(f"{copies} replicas of ethanol: a step / environments alone", own, 1.5),
        Row(f"{copies} replicas of ethanol: share of the integrator", share, 5, " %"),
    ]


class OneByOne(Calculator):
    """A calculator that knows of no batches."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.inner = gapkit.potential.calculator.GAPCalculator(potential)

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:
        super().calculate(atoms, properties, system_changes)
        self.inner.calculate(self.atoms, properties, system_changes)
        self.results = {"energy": self.inner.results["energy"], "forces": self.inner.results["forces"]}


def hessians(models: Models, repeats: int) -> list[Row]:
    rows = []
    for name, p, atoms in (
        ("ethanol", models.ethanol, load_molecules("ethanol")[0]),
        ("8 silicon atoms", models.silicon, shaken(bulk("Si", cubic=True), 1)[0]),
    ):
        atoms = Atoms(atoms, calculator=None)
        together, single = gapkit.potential.calculator.GAPCalculator(p), OneByOne(p)
        best = shortest(
            max(3, repeats // 3),
            batch=lambda a=atoms, c=together: hessian(a, c),
            single=lambda a=atoms, c=single: hessian(a, c),
        )
        rows.append(Row(f"Hessian of {name}: batch / one by one", best["batch"] / best["single"]))
    return rows


PARTS = {"molecules": molecules, "crystals": crystals, "calls": calls, "replicas": replicas, "hessian": hessians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    o = parser.parse_args()
    models = Models()
    print("| what | measured | asked | met |\n|---|---|---|---|", flush=True)
    for name in o.only:
        for row in PARTS[name](models, o.repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main()
