"""Barrier and prefactor of vacancy hops: models of forty frames against the oracle that labelled them.

    python benchmarks/vacancy_hops.py [--elements Al Cu] [--cutoffs 4.4 5.0 5.6] [--cells 2] [--seed 0] [--samples 16]

The oracle is effective-medium theory (EMT of ASE) in its own fcc lattice. Frames are made without the oracle's saddle:
dynamics of the cell with a vacancy at 500 and 900 K, frames rattled about the straight line of the hop, perfect cells
rattled and strained. A model is fitted by defaults, and with ``--cutoffs`` also by default terms of those cutoffs (A).
The barrier, and ln nu* by Vineyard, J. Phys. Chem. Solids 3, 121 (1957), of model and oracle follow from minimum and
saddle of each: nu* (THz) is the product of the frequencies at the minimum over that of the real ones at the saddle.
Standard deviations: of the barrier by ``energy_difference`` (label) and ``propagate`` (function), of ln nu* by
``propagate``. Aims: errors of ln nu* up to 0.7 and of the barrier up to 5 meV, abs(z) up to 2.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS

import gapkit
from gapkit.exceptions import GapkitWarning
from gapkit.fitting.candidates import choose_terms
from gapkit.fitting.training_set import in_order, training_set
from gapkit.sampling.paths import PathSettings, find_path
from gapkit.sampling.paths.saddle import SaddleSettings, refine_saddle
from gapkit.sampling.relaxation import RelaxationSettings, relax_many
from gapkit.structures.labels import labelled_frames
from gapkit.vibrations import hessian, normal_modes

#: frequencies of 1 THz in cm^-1
THZ = 33.35641
#: largest force (eV/A) at minima and saddles
FMAX = 1e-4


@dataclass(frozen=True)
class Hop:
    """A vacancy's hop: barrier (eV), ln of the prefactor in THz, and the two stationary points."""

    barrier: float
    ln_nu: float
    minimum: Atoms
    saddle: Atoms


def lattice(symbol: str, cells: int) -> Atoms:
    """Perfect cubic cell at the lattice constant of the oracle."""
    unit = bulk(symbol, cubic=True)
    unit.calc = EMT()
    BFGS(FrechetCellFilter(unit, hydrostatic_strain=True), logfile=None).run(fmax=1e-5, steps=200)
    unit.calc = None
    return unit * (cells, cells, cells)


def ends_of(perfect: Atoms) -> tuple[Atoms, Atoms]:
    """The vacancy before and after a nearest neighbour has moved into it."""
    neighbour = int(np.argsort(perfect.get_distances(0, range(len(perfect)), mic=True))[1])
    initial, final = perfect.copy(), perfect.copy()
    final.positions[neighbour] += final.get_distance(neighbour, 0, mic=True, vector=True)
    del initial[0], final[0]
    return initial, final


def labelled(atoms: Atoms) -> Atoms:
    """A copy with the oracle's energy, forces and stress."""
    made = atoms.copy()
    made.calc = EMT()
    made.get_stress()
    return made


def dynamics(start: Atoms, temperature: float, n: int, rng: np.random.Generator) -> list[Atoms]:
    """``n`` frames of Langevin dynamics, 0.2 ps apart, after 0.4 ps."""
    atoms = start.copy()
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=2 * temperature, rng=rng)
    run = Langevin(atoms, 4 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, fixcm=False, rng=rng)
    run.run(100)
    frames = []
    for _ in range(n):
        run.run(50)
        frames.append(labelled(atoms))
    return frames


def training_frames(perfect: Atoms, seed: int) -> list[Atoms]:
    """Forty labelled frames about a vacancy and its hop."""
    rng = np.random.default_rng(seed)
    initial, final = ends_of(perfect)
    frames = dynamics(initial, 500.0, 12, rng) + dynamics(initial, 900.0, 12, rng)
    for _ in range(8):
        share = rng.uniform(0.1, 0.9)
        between = initial.copy()
        between.positions += share * (final.positions - initial.positions) + rng.normal(
            scale=0.07, size=(len(initial), 3)
        )
        frames.append(labelled(between))
    for _ in range(4):
        rattled = perfect.copy()
        rattled.positions += rng.normal(scale=0.07, size=rattled.positions.shape)
        frames.append(labelled(rattled))
    for strain in (-0.02, -0.01, 0.0, 0.02):
        strained = perfect.copy()
        strained.set_cell(
            perfect.cell.array @ (np.eye(3) + strain * np.diag(rng.uniform(0.5, 1.5, size=3))), scale_atoms=True
        )
        frames.append(labelled(strained))
    return frames


def ln_prefactor(minimum: Atoms, saddle: Atoms, calculator: Any) -> float:
    """ln of Vineyard's prefactor in THz."""
    logs = []
    for atoms, imaginary in ((minimum, 0), (saddle, 1)):
        modes = normal_modes(hessian(atoms, calculator))
        real = modes.frequencies[~modes.imaginary] / THZ
        if modes.n_imaginary != imaginary:
            raise ArithmeticError(f"{modes.n_imaginary} imaginary modes instead of {imaginary}")
        logs.append(np.log(real).sum())
    return float(logs[0] - logs[1])


def hop_near(minimum: Atoms, saddle: Atoms, calculator: Any) -> Hop:
    """The hop by stationary points near these."""
    (relaxed,) = relax_many([minimum], calculator, RelaxationSettings(fmax=FMAX), strict=True)
    low = relaxed.atoms
    found = refine_saddle(saddle, calculator, SaddleSettings(fmax=FMAX))
    return Hop(found.energy - low.get_potential_energy(), ln_prefactor(low, found.atoms, calculator), low, found.atoms)


def hop(ends: tuple[Atoms, Atoms], calculator: Any) -> Hop:
    """The hop between these ends."""
    path = find_path(*ends, calculator, PathSettings(images=3))
    if path.saddle is None:
        raise ArithmeticError("no saddle was found")
    return hop_near(path.images[0], path.saddle.atoms, calculator)


def with_cutoff(frames: Sequence[Atoms], r_cut: float) -> list[gapkit.Term]:
    """Default terms of these frames with another cutoff (A) of SOAP."""
    data = in_order(training_set(labelled_frames(frames), "auto", None))
    terms = choose_terms("auto", data)
    return [t.with_descriptor(gapkit.SOAP(r_cut=r_cut)) if t.descriptor.of_atoms else t for t in terms]


def compare(name: str, gap: gapkit.GAP, ends: tuple[Atoms, Atoms], truth: Hop, samples: int, begin: float) -> None:
    """One line: errors, standard deviations and z of a model."""
    cost = time.process_time() - begin
    soap = next(t.descriptor for t in gap.potential_.terms if t.descriptor.of_atoms)
    mine = hop(ends, gap.calculator())
    label = gap.energy_difference(mine.saddle, mine.minimum).std

    def again(calculator: Any) -> list[float]:
        found = hop_near(mine.minimum, mine.saddle, calculator)
        return [found.barrier, found.ln_nu]

    spread = np.full(2, np.nan)
    if samples:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GapkitWarning)
            spread = gapkit.propagate(again, gap, samples, random_state=0).std
    error = 1e3 * (mine.barrier - truth.barrier), mine.ln_nu - truth.ln_nu
    held = gap.potential_.metadata["held_out_rmse"]
    print(
        f"{name:<10}{soap.r_cut:>6.2f}{cost:>7.0f}{1e3 * held['energy']:>8.3f}{1e3 * held['forces']:>8.2f}"
        f"{error[0]:>9.2f}{1e3 * label:>8.2f}{1e3 * spread[0]:>8.2f}{error[0] / (1e3 * label):>7.1f}"
        f"{error[1]:>9.3f}{spread[1]:>8.3f}{error[1] / spread[1]:>7.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", nargs="+", default=["Al", "Cu"])
    parser.add_argument("--cutoffs", nargs="*", type=float, default=[], help="cutoffs (A) beside the default fit")
    parser.add_argument("--cells", type=int, default=2, help="cubic cells along each direction")
    parser.add_argument("--seed", type=int, default=0, help="of the frames")
    parser.add_argument("--samples", type=int, default=16, help="potentials from the posterior; 0: none")
    parser.add_argument("--no-default", action="store_true", help="leave out the default fit")
    options = parser.parse_args()
    for symbol in options.elements:
        perfect = lattice(symbol, options.cells)
        ends = ends_of(perfect)
        frames = training_frames(perfect, options.seed)
        truth = hop(ends, EMT())
        a = perfect.cell[0, 0] / options.cells
        shells = ", ".join(f"{a * np.sqrt(k / 2):.3f}" for k in range(1, 9))
        print(
            f"{symbol}: a {a:.4f} A, shells {shells}; barrier {1e3 * truth.barrier:.1f} meV, ln nu* {truth.ln_nu:.3f}"
        )
        print(
            f"{'terms':<10}{'r_cut':>6}{'fit s':>7}{'out E':>8}{'out F':>8}{'dE meV':>9}{'label':>8}{'func':>8}{'z':>7}"
            f"{'d ln nu':>9}{'func':>8}{'z':>7}",
            flush=True,
        )
        for r_cut in options.cutoffs:
            begin = time.process_time()
            gap = gapkit.GAP(with_cutoff(frames, r_cut), random_state=0).fit(frames)
            compare("given", gap, ends, truth, options.samples, begin)
        if not options.no_default:
            begin = time.process_time()
            compare("default", gapkit.GAP(random_state=0).fit(frames), ends, truth, options.samples, begin)


if __name__ == "__main__":
    main()
