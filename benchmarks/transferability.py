"""A potential of bulk silicon meets its surface and unseen phases: what it says, what is true, and what helps.

    python benchmarks/transferability.py [domain] [dimers] [random] [phases] [--pictures FOLDER] [--sparse N]

Without a name all four. Training set: the bulk frames alone; surface frames come from the training split of
``data/silicon_surface``, errors from its other splits and from ``relaxed.xyz`` (the three faces of Si(100) 2x1 by DFT).
``--sparse`` fixes the number of sparse points (default: as the terms say).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import gapkit
from gapkit import datasets
from gapkit.active import DOptimal
from gapkit.active.acquisition import Candidates
from gapkit.apps.transferability.environments import environments
from gapkit.apps.transferability.learning import LearningSettings, at_random, largest_std, run_learning
from gapkit.apps.transferability.phases import PhasesSettings, run_phases
from gapkit.apps.transferability.pictures import domain_figure, learning_figure
from gapkit.apps.transferability.run import DomainSettings, run_domain
from gapkit.apps.transferability.si100 import FACES, reference_study, run_dimers

SIZES = (0, 2, 5, 10, 15, 20, 25, 30)
FAMILIES = (
    "beta_tin", "bc8", "simple_hexagonal", "fcc", "bcc", "vacancy_15 + vacancy_31", "md_2500 + quenched",
    "close_contact",
)  # fmt: skip


def d_optimal(gap, frames, n, rng):
    """Frames whose local energies together tell most about the weights."""
    return DOptimal()(Candidates.of(gap, frames), n, rng)


def domain(gap: gapkit.GAP, bulk: list, surface: list, folder: Path | None) -> None:
    """Surface frames and held-out bulk frames as the bulk model sees them, by config_type."""
    frames = datasets.load_silicon("test") + surface
    known = environments(gap, bulk)
    report = run_domain(gap, known, frames, DomainSettings(map_environments=0))
    error = gap.predict(frames).energy - [a.get_potential_energy() for a in frames]
    sizes = np.array([len(a) for a in frames])
    print(f"limits: distance {report.distance_limit:.3f}, std of a local energy {1e3 * report.std_limit:.1f} meV")
    kinds = [a.info["config_type"] for a in frames]
    for name in dict.fromkeys(kinds):
        mine = np.array([k for k, kind in enumerate(kinds) if kind == name])
        atoms = np.isin(report.new.frame, mine)
        far = [report.least_known(k) for k in mine]
        neighbours = [report.nearest_to(k)[2] for k in far]
        rmse = 1e3 * np.sqrt(np.mean((error[mine] / sizes[mine]) ** 2))
        std = 1e3 * np.sqrt(np.mean((report.energy_std[mine] / sizes[mine]) ** 2))
        z = np.sqrt(np.mean((error[mine] / report.energy_std[mine]) ** 2))
        print(
            f"{name:18s} {len(mine):3d} frames  error {rmse:6.1f}  std {std:6.1f} meV/atom  rms z {z:4.2f}  farthest "
            f"atoms at {report.distance[far].mean():.3f}, near {max(set(neighbours), key=neighbours.count):12s} local "
            f"std {1e3 * report.std[atoms].max():5.1f} meV  unfamiliar {100 * report.unfamiliar[atoms].mean():3.0f} %"
        )
    if folder:
        shown = [a for a in frames if a.info["config_type"] in ("md_2500", "md_300", "vacancy_15", "si100_2x1")]
        part = run_domain(gap, known, shown, random_state=0)
        domain_figure(part, folder / "domain.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", help="domain, dimers, random, phases")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--sparse", type=int)
    arguments = parser.parse_args()
    what = set(arguments.what) or {"domain", "dimers", "random", "phases"}
    settings = {"sparse": arguments.sparse} if arguments.sparse else {}
    begin = time.process_time()
    bulk, pool = datasets.load_silicon("train"), datasets.load_silicon_surface("train")
    test = datasets.load_silicon_surface("calibration") + datasets.load_silicon_surface("test")
    reference = reference_study(datasets.load_silicon_surface("relaxed"))
    print(f"{len(bulk)} bulk frames, {len(pool)} surface frames to choose from, {len(test)} to judge by")
    gap = gapkit.GAP(random_state=0, **settings).fit(bulk)
    print(f"fitted to bulk alone: {time.process_time() - begin:.0f} s of processor time")
    if "domain" in what:
        domain(gap, bulk, pool + test, arguments.pictures)
    if what & {"dimers", "random"}:
        print(f"reference\n{reference}")
    if "dimers" in what:
        print(f"bulk alone, at the reference's geometries\n{run_dimers(gap, frames=reference.frames)}")
        curves = []
        for name, choose in (("D-optimal", d_optimal), ("largest std", largest_std)):
            steps = LearningSettings(sizes=SIZES)
            curves.append(run_learning(gap, bulk, pool, test, reference, choose, steps, name=name, random_state=0))
            print(curves[-1])
        print(f"D-optimal, last model\n{run_dimers(curves[0].final)}")
        if arguments.pictures:
            learning_figure(curves, arguments.pictures / "dimers.png")
    if "random" in what:
        ends = []
        for seed in range(3):
            steps = LearningSettings(sizes=(0, 10, 30))
            curve = run_learning(
                gap, bulk, pool, test, reference, at_random, steps, name=f"random {seed}", random_state=seed
            )
            print(curve)
            ends.append(curve)
        if arguments.pictures:
            learning_figure(ends, arguments.pictures / "random.png")
    if "phases" in what:
        reference_frame = min(
            (a for a in bulk if a.info["config_type"] == "diamond_strain"),
            key=lambda a: a.get_potential_energy() / len(a),
        )
        result = run_phases(gap, bulk, datasets.load_silicon(), reference_frame, PhasesSettings(FAMILIES))
        print(result)
        z = np.array([np.sqrt(np.mean(r.z**2)) for r in result.transfers])
        print(f"rms z over the {len(z)} families: {np.sqrt(np.mean(z**2)):.2f}")
    print(f"{time.process_time() - begin:.0f} s of processor time; faces: {', '.join(FACES)}")


if __name__ == "__main__":
    main()
