"""What one bad frame does to the rest: errors and error bars beside those of the fit without the frame.

    python benchmarks/bad_frame.py [--frames 24] [--bad 5] [--unscreened]

Strained, rattled copper cells of eight atoms with labels by ASE's EMT. Each line is a fit with one fault in one frame;
the last columns are the factors to the fit without that frame, which should be within two. ``--unscreened`` adds the
same fits with ``screen=False``.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.exceptions import GapkitWarning

#: label and what a fault makes of it, from the label and the labels of another frame
FAULTS = {
    "forces x50": ("forces", lambda x, other: 50 * x),
    "forces x1.2": ("forces", lambda x, other: 1.2 * x),
    "gradients": ("forces", lambda x, other: -x),
    "forces of another frame": ("forces", lambda x, other: other["forces"]),
    "energy +20 eV": ("energy", lambda x, other: x + 20),
    "energy +0.1 eV": ("energy", lambda x, other: x + 0.1),
    "energy in Hartree": ("energy", lambda x, other: x / 27.2114),
    "stress in GPa": ("stress", lambda x, other: 160.2177 * x),
    "stress of the wrong sign": ("stress", lambda x, other: -x),
}


def copper(n: int, seed: int) -> list[Atoms]:
    """Labelled cells."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu") * (2, 2, 2)
        strain = np.eye(3) * (1 + rng.uniform(-0.03, 0.05)) + rng.normal(size=(3, 3)) * 0.01
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.12 * rng.uniform(0.3, 1), rng=rng)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def measure(frames: list[Atoms], test: list[Atoms], screen: bool) -> tuple[np.ndarray, int, float]:
    """Root-mean-square energy error and median error bar (meV/atom), the same of forces (eV/A); labels left out;
    processor time (s)."""
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)
        gap = gapkit.GAP(screen=screen, random_state=0).fit(frames)
    spent = time.process_time() - begin
    p = gap.predict(test, uncertainty=True)
    per_atom = np.array([1e3 / len(a) for a in test])
    energies = (p.energy - [a.get_potential_energy() for a in test]) * per_atom
    forces = np.concatenate([(f - a.get_forces()).ravel() for f, a in zip(p.forces, test, strict=True)])
    assert p.energy_std is not None and p.forces_std is not None
    bars = np.concatenate([s.ravel() for s in p.forces_std if s is not None])
    rms = [float(np.sqrt(np.mean(x**2))) for x in (energies, forces)]
    # of error bars the median: their mean square is that of the one test frame that is least like the others
    typical = [float(np.median(x)) for x in (p.energy_std * per_atom, bars)]
    values = np.array([rms[0], typical[0], rms[1], typical[1]])
    return values, len(gap.potential_.metadata["screened"]), spent


def spoiled(frames: list[Atoms], bad: int, fault: str) -> list[Atoms]:
    """The frames, one of them with a fault."""
    changed = frames[bad].copy()
    what, change = FAULTS[fault]
    labels = dict(frames[bad].calc.results)
    labels[what] = change(labels[what], frames[(bad + 7) % len(frames)].calc.results)
    changed.calc = SinglePointCalculator(changed, **labels)
    return [*frames[:bad], changed, *frames[bad + 1 :]]


def line(name: str, values: np.ndarray, left_out: int, spent: float, without: np.ndarray) -> str:
    """A row of the table."""
    numbers = " ".join(f"{v:>10.4g}" for v in values)
    factors = " ".join(f"{f:>6.2f}" for f in values / without)
    return f"{name:<34} {numbers} {left_out:>9} {spent:>7.1f}   {factors}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--bad", type=int, default=5)
    parser.add_argument("--unscreened", action="store_true")
    options = parser.parse_args()
    frames, test = copper(options.frames, 0), copper(16, 1)
    print(
        f"{'fault':<34} {'E error':>10} {'E std':>10} {'F error':>10} {'F std':>10} {'left out':>9} {'time':>7} factors"
    )
    print(f"{'':<34} {'meV/atom':>10} {'meV/atom':>10} {'eV/A':>10} {'eV/A':>10} {'labels':>9} {'s':>7}")
    rest = [a for k, a in enumerate(frames) if k != options.bad]
    without, *account = measure(rest, test, True)
    print(line("without the frame", without, *account, without))
    print(line("no fault", *measure(frames, test, True), without), flush=True)
    for fault in FAULTS:
        wrong = spoiled(frames, options.bad, fault)
        print(line(fault, *measure(wrong, test, True), without), flush=True)
        if options.unscreened:
            print(line(f"{fault}, screen=False", *measure(wrong, test, False), without), flush=True)


if __name__ == "__main__":
    main()
