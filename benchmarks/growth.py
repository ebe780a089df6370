"""Barrier models on hops they have not seen, and the speed of growth.

    python benchmarks/growth.py [barriers] [classes] [nucleation] [lattice] [exact] [speed] [uncertainty]

Without arguments all seven: left-out errors and coverage on the bundled hops (10 folds, two random cuts; site classes
left out); errors by class of environment, with classes, cluster shapes and metals left out; island densities; lattice
environments against hops of the set; the event loop against exact answers; events per second on one core; uncertain
barriers to roughness and growth rate.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import numpy as np
from scipy.stats import chi2, chisquare

from gapkit.apps.growth import toys
from gapkit.apps.growth.barrier_model import SurfaceBarrierModel, leave_out
from gapkit.apps.growth.hops import (
    Hop,
    contacts,
    environment_class,
    folds_by_name,
    hops_from_frames,
    site_class,
    surface_class,
)
from gapkit.apps.growth.islands import island_sizes
from gapkit.apps.growth.lattice import PATCH
from gapkit.apps.growth.lattice_barriers import REVERSE, LatticeGeometry, barriers_from_model
from gapkit.apps.growth.run import SurfaceGrowthSettings, run_surface_growth
from gapkit.apps.growth.simulation import GrowthSettings, Surface, run_growth
from gapkit.apps.growth.sites import SoapSites
from gapkit.datasets import load_surface_barriers
from gapkit.estimators.calibrated_regressors import LeftOutRidge
from gapkit.uncertainty.held_out import HeldOut

MODELS = {
    "GP": SurfaceBarrierModel(random_state=0),
    "GP, predicted energies": SurfaceBarrierModel(known_energies=False, random_state=0),
    "KRR": SurfaceBarrierModel(LeftOutRidge(), random_state=0),
    "GP, minima alone": SurfaceBarrierModel(known_transition=False, random_state=0),
    "KRR, minima alone": SurfaceBarrierModel(LeftOutRidge(), known_transition=False, random_state=0),
    "GP, SOAP": SurfaceBarrierModel(sites=SoapSites(), random_state=0),
}


def line(name: str, held: HeldOut) -> str:
    return (
        f"{name:28s} {len(held.label):4d} hops  MAE {1e3 * held.mae:5.1f} meV  RMSE {1e3 * held.rmse:5.1f}  "
        f"90 % intervals cover {100 * held.coverage:4.1f} %  mean std {1e3 * held.std.mean():5.1f} meV"
    )


def barriers(hops: list[Hop]) -> None:
    """Hops left out at random, then whole classes."""
    for name, model in MODELS.items():
        X = model.features(hops)
        cuts = [leave_out(model, hops, folds_by_name(hops, 10, np.random.default_rng(s)), features=X) for s in (0, 1)]
        for seed, held in enumerate(cuts):
            print(line(f"{name}, random cut {seed}", held))
        if name not in ("GP", "KRR"):
            continue
        random = cuts[0]
        for kind, of in (("site", site_class), ("slab", surface_class)):
            groups = np.array([of(h) for h in hops])
            unseen = leave_out(model, hops, groups, features=X)
            for group in np.unique(groups):
                mine, same = unseen.part(groups == group), random.part(groups == group)
                print(line(f"  unseen {kind} class {group}", mine))
                print(
                    f"{'':30s}std over that of random cuts: {mine.std.mean() / random.std.mean():.2f} (all hops), "
                    f"{mine.std.mean() / same.std.mean():.2f} (the same hops)"
                )


def by_class(name: str, held: HeldOut, kinds: np.ndarray) -> None:
    """One line for each class of environment and one for all hops."""
    for kind in [*np.unique(kinds), "all"]:
        part = held if kind == "all" else held.part(kinds == kind)
        z = np.abs((part.predicted - part.label) / part.std)
        print(
            f"{name:44s} {kind:10s} {len(z):4d} hops  MAE {1e3 * part.mae:5.1f} meV  rms z {part.z_rms:.2f}  "
            f"largest {z.max():.1f}  90 % intervals cover {100 * part.coverage:3.0f} %  "
            f"mean std {1e3 * part.std.mean():5.1f} meV"
        )


def classes(hops: list[Hop]) -> None:
    """Errors by class of environment: hops left out at random, by class, by shape of the cluster, by metal."""
    kinds = np.array([environment_class(h) for h in hops])
    X = SurfaceBarrierModel().features(hops)
    shapes = np.array([surface_class(h) if k == "cluster" else k for h, k in zip(hops, kinds, strict=True)])
    for known in (True, False):
        model = SurfaceBarrierModel(known_energies=known, random_state=0)
        energies = "known" if known else "predicted"
        for seed in (0, 1):
            held = leave_out(model, hops, folds_by_name(hops, 10, np.random.default_rng(seed)), features=X)
            by_class(f"energies {energies}, random cut {seed}", held, kinds)
        groups = {"class": kinds, "class or cluster shape": shapes, "metal": np.array([h.metal for h in hops])}
        for name, group in groups.items():
            by_class(f"energies {energies}, {name} left out", leave_out(model, hops, group, features=X), shapes)


def nucleation(hops: list[Hop]) -> None:
    """Islands of copper at 0.15 layers by barriers from all hops, and from those without a cluster; five runs each."""
    flat = next(h for h in hops if h.metal == "Cu" and h.surface == "flat100")
    single = [h for h in hops if environment_class(h) != "cluster"]
    for name, known in (("no clusters", single), ("all hops", hops)):
        made = barriers_from_model(
            SurfaceBarrierModel(random_state=0).fit(known), LatticeGeometry.from_hop(flat), step_edge=0.1
        )
        print(f"{name}: lateral bonds {made.mean.bond:.3f} and {made.mean.second_bond:.3f} eV")
        for temperature in (260.0, 300.0):
            settings = GrowthSettings(96, temperature, 3e4, 0.15 / 3e4, n_records=2, keep_heights=True)
            barriers = made.mean.slowed(temperature)
            grown = [run_growth(barriers, settings, random_state=seed).heights[-1] for seed in range(5)]
            density = 1e3 * np.array([np.sum(island_sizes(h) > 1) for h in grown]) / settings.size**2
            error = density.std(ddof=1) / np.sqrt(len(density))
            print(f"  {temperature:.0f} K: {density.mean():.2f} +- {error:.2f} islands in 1,000 sites")


def lattice(hops: list[Hop]) -> None:
    """Free hop, hop along a step, attachment to it and detachment, and the hop off a dimer, on ideal lattice sites,
    against the set's labels."""
    bit = {p: 1 << k for k, p in enumerate(PATCH)}
    along = sum(bit[a, 1] for a in (-1, 0, 1, 2))
    attach = sum(bit[2, b] for b in (-1, 0, 1))
    ends = {(4, 4): 0, (5, 5): along, (4, 5): attach, (5, 4): int(REVERSE[attach])}
    model = SurfaceBarrierModel(random_state=0).fit(hops)
    rows = []
    for metal in sorted({h.metal for h in hops}):
        flat = next(h for h in hops if h.metal == metal and h.surface == "flat100")
        geometry = LatticeGeometry.from_hop(flat)
        made = barriers_from_model(model, geometry)
        step = [h for h in hops if h.metal == metal and h.surface == "step100"]
        for (before, after), code in ends.items():
            known = (
                [flat]
                if code == 0
                else [h for h in step if (contacts(h.initial), contacts(h.final)) == (before, after)]
            )
            mean, std = model.predict([geometry.hop(code)], return_std=True)
            rows += [(metal, code, h.barrier, mean[0], std[0], made.mean.barriers[code]) for h in known[:1]]
        dimer = [h.barrier for h in hops if h.metal == metal and h.surface == "dimer100" and contacts(h.initial) == 5]
        mean, std = model.predict([geometry.hop(bit[-1, 0])], return_std=True)
        rows += [(metal, bit[-1, 0], b, mean[0], std[0], made.mean.barriers[bit[-1, 0]]) for b in sorted(dimer)[-1:]]
    label, mean, std, table = np.array([r[2:] for r in rows], dtype=float).T
    print(f"{len(rows)} hops of the set on ideal lattice sites (a model that has seen their relaxed frames):")
    z = np.sqrt(np.mean(((mean - label) / std) ** 2))
    print(f"  model: MAE {1e3 * np.abs(mean - label).mean():.0f} meV, rms z {z:.2f}")
    print(f"  with energies in detailed balance: MAE {1e3 * np.abs(table - label).mean():.0f} meV")


def exact(hops: list[Hop]) -> None:
    """Waiting times of a million events, and detailed balance in the run itself, with copper's barriers."""
    model = SurfaceBarrierModel(random_state=0).fit(hops)
    flat = next(h for h in hops if h.metal == "Cu" and h.surface == "flat100")
    table = barriers_from_model(model, LatticeGeometry.from_hop(flat), step_edge=0.1).mean
    values = []
    for seed in range(5):
        surface = Surface.start(GrowthSettings(64, 350.0, 3e6), table, random_state=seed)
        waiting = np.zeros(1_000_000)
        surface.advance(np.inf, len(waiting), waiting)
        bins = np.minimum((-np.expm1(-waiting) * 50).astype(int), 49)
        values.append(chisquare(np.bincount(bins, minlength=50)).pvalue)
    print(f"waiting times of 1,000,000 events, five seeds: chi-square p {', '.join(f'{v:.3f}' for v in values)}")

    start = np.zeros((8, 8), dtype=int)
    start[2, 2] = start[5, 5] = 1
    shares, flows = [], Counter()
    for seed in range(10):
        surface = Surface.start(GrowthSettings(8, 600.0, 0.0), table, start, seed)
        stay, bound, before = 0.0, 0.0, None
        for _ in range(20_000):
            places = np.argwhere(surface.heights > 0)
            apart = np.abs((places[-1] - places[0] + 4) % 8 - 4)
            state = "stacked" if len(places) == 1 else f"{min(apart)} {max(apart)}"
            flows[before, state] += before is not None
            time_before = surface.time
            surface.advance(np.inf, 1)
            stay += surface.time - time_before
            bound += (surface.time - time_before) * (state == "0 1")
            before = state
        shares.append(bound / stay)
    print(
        f"two atoms, 600 K: neighbours {np.mean(shares):.4f} +- {np.std(shares, ddof=1) / np.sqrt(len(shares)):.4f} of "
        f"the time, Boltzmann {toys.bound_share(8, table.bond, table.second_bond, 600.0):.4f}"
    )
    pairs = [(n, flows[b, a]) for (a, b), n in flows.items() if None not in (a, b) and a < b and n + flows[b, a] > 50]
    z2 = sum((n - m) ** 2 / (n + m) for n, m in pairs)
    print(f"passages between {len(pairs)} pairs of states, there and back: chi-square p {chi2.sf(z2, len(pairs)):.3f}")


def speed(hops: list[Hop]) -> None:
    """Events per second, copper, model barriers; processor time, so that other work does not count."""
    model = SurfaceBarrierModel(random_state=0).fit(hops)
    flat = next(h for h in hops if h.metal == "Cu" and h.surface == "flat100")
    made = barriers_from_model(model, LatticeGeometry.from_hop(flat), step_edge=0.1)
    for size, layers in ((64, 0.3), (128, 0.3), (512, 0.05), (512, 0.3)):
        surface = Surface.start(GrowthSettings(size, 350.0, 3e6), made.mean, random_state=0)
        surface.advance(layers / 3e6)
        begin, wall = time.process_time(), time.perf_counter()
        done = surface.advance(np.inf, 1_000_000)
        begin, wall = time.process_time() - begin, time.perf_counter() - wall
        print(
            f"{size} x {size}, {layers} layers: {done / begin:,.0f} events per processor second, "
            f"{done / wall:,.0f} per second of the clock, {len(surface.rates)} classes of rates"
        )


def uncertainty(hops: list[Hop]) -> None:
    """Barriers' uncertainty in roughness and, with atoms that leave, in growth rate: copper, from all hops and
    without those at copper's own (100) steps."""
    settings = SurfaceGrowthSettings(48, 350.0, 1e5, 5e-6, n_records=10, n_samples=8, leaving=0.55)
    blind = [h for h in hops if h.surface not in ("step100", "kink100") or h.metal != "Cu"]
    for name, known in (("all hops", hops), ("no copper (100) steps", blind)):
        grown = run_surface_growth(known, settings, random_state=0)
        print(f"{name}\n{grown}")


def main() -> None:
    hops = hops_from_frames(load_surface_barriers())
    parts = {
        part.__name__: part for part in (barriers, classes, nucleation, lattice, exact, speed, uncertainty)
    }  # fmt: skip
    for name in sys.argv[1:] or parts:
        parts[name](hops)


if __name__ == "__main__":
    main()
