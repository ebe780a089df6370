"""Barriers by an oracle: a search on a potential that learns its labels, against a band of the oracle itself.

    python benchmarks/active_barriers.py [--hops vacancy-Cu ...] [--fmax 0.02] [--seed 0] [--json FILE]

Both begin with the same ends, which are not relaxed, and the same number of images on the same interpolated path
(IDPP). The nudged elastic band is ASE's: both ends are relaxed by BFGS, then the band by BFGS, with a climbing image
below 0.3 eV/A, to the same largest force ``--fmax``. Calls of the oracle are counted in the same way, those of the ends
included. The true barrier comes from minima and saddle that are refined by the oracle to 1e-4 eV/A, which is not
counted. Molecules need tblite (GFN2-xTB); without it they are left out.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import ase
import numpy as np
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.mep import NEB
from ase.optimize import BFGS

from gapkit.apps.kinetics.active_barrier import ActiveBarrierSettings, run_active_barrier
from gapkit.apps.kinetics.toys import vacancy_hop
from gapkit.datasets import load_molecules, load_surface_barriers
from gapkit.exceptions import GapkitError, GapkitWarning
from gapkit.oracles import OracleNotInstalledError, oracle
from gapkit.sampling.paths import SaddleSettings, refine_saddle
from gapkit.sampling.paths.ends import final_positions
from gapkit.sampling.paths.interpolation import idpp, straight_line
from gapkit.sampling.relaxation import RelaxationSettings, free_atoms, relax_many

Ends = tuple[ase.Atoms, ase.Atoms]

HOPS = (
    "vacancy-Cu", "vacancy-Al", "vacancy-Pd", "vacancy-Ni",
    "surface-Cu-step", "surface-Ag-flat100", "surface-Pt-kink",
    "molecule-malonaldehyde", "molecule-ammonia", "molecule-ethanol",
)  # fmt: skip


class Counted(Calculator):
    """An oracle that counts its calls in a list that several calculators share."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - the name and form that ASE asks for

    def __init__(self, inner: Any, calls: list[int]) -> None:
        super().__init__()
        self.inner, self.calls = inner, calls

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Energy and forces by the oracle."""
        super().calculate(atoms, properties, system_changes)
        work = ase.Atoms(self.atoms.numbers, self.atoms.positions, cell=self.atoms.cell, pbc=self.atoms.pbc)
        work.calc = self.inner
        self.results = {"energy": work.get_potential_energy(), "forces": work.get_forces()}
        self.calls.append(1)


def lattice_constant(symbol: str) -> float:
    """Lattice constant (A) of fcc by EMT."""
    unit = bulk(symbol, cubic=True)
    unit.calc = EMT()
    BFGS(FrechetCellFilter(unit, hydrostatic_strain=True), logfile=None).run(fmax=1e-5, steps=200)
    return float(unit.cell[0, 0])


def surface_hop(metal: str, kind: str) -> Ends:
    """The first bundled hop of a kind, its ends displaced by 0.03 A, so that they must be relaxed."""
    frames = load_surface_barriers(metal)
    hops = [frames[k : k + 3] for k in range(0, len(frames), 3)]
    initial, _, final = next(
        h for h in hops if h[0].info["config_type"].startswith(kind) and h[0].info.get("motion", "hop") == "hop"
    )
    rng = np.random.default_rng(0)
    for atoms in (initial, final):
        atoms.calc = None
        free = free_atoms(atoms)
        atoms.positions[free] += rng.normal(scale=0.03, size=(len(free), 3))
    return initial, final


def proton_transfer() -> Ends:
    """Malonaldehyde before and after its proton has changed the oxygen, all other atoms as they were."""
    initial = load_molecules("malonaldehyde")[0].copy()
    oxygen = np.flatnonzero(initial.numbers == 8)
    hydrogen = np.flatnonzero(initial.numbers == 1)
    away = np.linalg.norm(initial.positions[hydrogen][:, None] - initial.positions[oxygen][None], axis=2)
    h, near = np.unravel_index(int(np.argmin(away)), away.shape)
    proton, far = hydrogen[h], oxygen[1 - near]
    final = initial.copy()
    way = initial.positions[proton] - initial.positions[far]
    final.positions[proton] = initial.positions[far] + way / np.linalg.norm(way)
    return initial, final


def inversion() -> Ends:
    """Ammonia and its mirror image."""
    initial = molecule("NH3")
    final = initial.copy()
    final.positions[0, 2] = 2 * final.positions[1, 2] - final.positions[0, 2]
    return initial, final


def torsion() -> Ends:
    """Ethanol, its hydroxyl group trans and gauche."""
    initial = molecule("CH3CH2OH")
    carbon, (o,) = np.flatnonzero(initial.numbers == 6), np.flatnonzero(initial.numbers == 8)
    near = carbon[np.argmin(initial.get_distances(o, carbon))]
    far = carbon[carbon != near][0]
    h = int(np.argmin(np.where(initial.numbers == 1, initial.get_all_distances()[o], np.inf)))
    final = initial.copy()
    final.rotate_dihedral(far, near, o, h, 120.0, mask=[int(k == h) for k in range(len(final))])
    return initial, final


def hop(name: str) -> tuple[Ends, Callable[[], Any]]:
    """Ends of a hop by its name, and what makes its oracle."""
    kind, _, rest = name.partition("-")
    if kind == "vacancy":
        return vacancy_hop(rest, lattice_constant(rest)), EMT
    if kind == "surface":
        return surface_hop(*rest.split("-")), EMT
    made = {"malonaldehyde": proton_transfer, "ammonia": inversion, "ethanol": torsion}[rest]()
    for atoms in made:
        atoms.calc = None
    oracle("gfn2")
    return made, partial(oracle, "gfn2")


def band(
    ends: Ends, make: Callable[[], Any], images: int, fmax: float
) -> tuple[float, int, ase.Atoms, np.ndarray, Ends]:
    """Barrier (eV), calls, highest image, tangent there, and relaxed ends by ASE's band on the oracle itself."""
    calls: list[int] = []
    relaxed = [atoms.copy() for atoms in ends]
    for atoms in relaxed:
        atoms.calc = Counted(make(), calls)
        BFGS(atoms, logfile=None).run(fmax=fmax, steps=500)
    initial, final = relaxed
    energies = [atoms.get_potential_energy() for atoms in relaxed]
    free = free_atoms(initial)
    x1 = final_positions(initial, final, free, True)
    line = idpp(initial, straight_line(initial.positions, x1, images), free, True)
    chain = [initial.copy() for _ in line]
    for atoms, x in zip(chain, line, strict=True):
        atoms.set_positions(x, apply_constraint=False)
        atoms.calc = Counted(make(), calls)
    for atoms, energy, end in zip((chain[0], chain[-1]), energies, relaxed, strict=True):
        atoms.calc = Counted(make(), [])  # labelled already, by the relaxation
        assert abs(atoms.get_potential_energy() - energy) < 1e-6, end
    rough = NEB(chain, method="improvedtangent", allow_shared_calculator=False)
    BFGS(rough, logfile=None).run(fmax=max(0.3, fmax), steps=500)
    climbing = NEB(chain, climb=True, method="improvedtangent", allow_shared_calculator=False)
    BFGS(climbing, logfile=None).run(fmax=fmax, steps=500)
    heights = [atoms.get_potential_energy() for atoms in chain]
    top = int(np.argmax(heights))
    tangent = chain[top + 1].positions - chain[top - 1].positions
    return heights[top] - energies[0], len(calls), chain[top], tangent, (initial, final)


def true_barrier(ends: Ends, top: ase.Atoms, tangent: np.ndarray, make: Callable[[], Any]) -> float:
    """Barrier (eV) of the oracle by minima and saddle to 1e-4 eV/A."""
    low = relax_many([ends[0]], make(), RelaxationSettings(fmax=1e-4, steps=2000), strict=True)[0]
    saddle = refine_saddle(top, make(), SaddleSettings(fmax=1e-4), mode=tangent)
    if not saddle.is_saddle:
        raise ArithmeticError(f"the band's highest image is not near a saddle: {saddle}")
    return saddle.energy - low.energy


def compare(name: str, fmax: float, seed: int) -> dict[str, Any]:
    """One hop both ways."""
    ends, make = hop(name)
    settings = ActiveBarrierSettings(fmax=fmax)
    by_band, calls, *top, relaxed = band(ends, make, settings.images, fmax)
    truth = true_barrier(relaxed, *top, make)
    begin = time.process_time()
    found = run_active_barrier(make, *ends, settings, random_state=seed)
    return {
        "hop": name, "atoms": len(ends[0]), "truth": truth, "band": by_band, "band_calls": calls,
        "forward": found.forward, "std": found.forward_std, "calls": found.calls, "converged": found.converged,
        "connects": found.path.connects, "seconds": time.process_time() - begin,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hops", nargs="+", default=HOPS, metavar="NAME", help="some of " + ", ".join(HOPS))
    parser.add_argument("--fmax", type=float, default=0.02, help="largest force at the end (eV/A)")
    parser.add_argument("--seed", type=int, default=0, help="of the displacements")
    parser.add_argument("--json", metavar="FILE", help="write the numbers there")
    options = parser.parse_args()
    warnings.simplefilter("ignore", GapkitWarning)
    columns = "barrier (eV) | band: calls | error (meV) | active: calls | share | error (meV) | stated (meV) |"
    print(f"| hop | atoms | {columns}")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    for name in options.hops:
        try:
            r = compare(name, options.fmax, options.seed)
        except OracleNotInstalledError as error:
            print(f"{name}: {error}", flush=True)
            continue
        except (GapkitError, ArithmeticError) as error:
            print(f"| {name} | {error} |", flush=True)
            continue
        results.append(r)
        wrong = [1e3 * (r[key] - r["truth"]) for key in ("band", "forward")]
        connected = r["converged"] and r["connects"] == (True, True)
        ending = "" if connected else f" not converged or connected: {r['connects']}"
        print(
            f"| {name} | {r['atoms']} | {r['truth']:.4f} | {r['band_calls']} | {wrong[0]:.2f} | {r['calls']} | "
            f"{r['calls'] / r['band_calls']:.2f} | {wrong[1]:.3f} | {1e3 * r['std']:.2f} |{ending}",
            flush=True,
        )
    if results:
        share = sum(r["calls"] for r in results) / sum(r["band_calls"] for r in results)
        largest = max(r["calls"] / r["band_calls"] for r in results)
        worst = 1e3 * max(abs(r["forward"] - r["truth"]) for r in results)
        print(
            f"{len(results)} hops: {share:.2f} of the calls in all, {largest:.2f} at most; largest error "
            f"{worst:.2f} meV, largest stated {1e3 * max(r['std'] for r in results):.2f} meV; "
            f"{sum(r['seconds'] for r in results):.0f} s of the processor for all potentials and labels"
        )
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
