"""Measures what gapkit says about its own errors: calibration, out-of-domain detection, active learning, updates.

    python benchmarks/uncertainty.py calibration FRAMES.xyz [MORE.xyz ...] [--always ISOLATED.xyz] [--splits 7]
    python benchmarks/uncertainty.py domain FRAMES.xyz ... --coordination 4 --bond 2.85
    python benchmarks/uncertainty.py pool FRAMES.xyz [--seeds 5] [--generations 10] [--batch 5]
    python benchmarks/uncertainty.py live [--seeds 5] [--generations 10] [--batch 4] [--rare 0.1]
    python benchmarks/uncertainty.py update FRAMES.xyz [--frames 1000] [--sparse 1000]
    python benchmarks/uncertainty.py negative FRAMES.xyz [--queries 1000000]

``calibration``: random splits of all frames into 60 % training, 20 % calibration and 20 % test, and the last two the
other way round with the same fit; errors of all test frames are pooled, intervals are cluster bootstraps over frames.
Components that vanish by symmetry (posterior variance zero) are left out of the shares and counted. ``domain``: a model
of the bulk solid alone (more than 80 % of the atoms with the given coordination, no surface or vacancy) against
surfaces and the liquid (fewer than half). ``pool``: force error on a held-out fifth against the number of labels, for
each strategy, with levels from a fit to every n-th frame.
``live``: copper with the oracle (EMT) in the loop; each generation explores 60 new frames, displaced crystals but for a
share of vacancies, interstitials and slabs, and the test frames are of all four kinds alike.
Measured numbers: docs/UNCERTAINTY.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from functools import partial

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
import gapkit.exceptions
from gapkit import generation
from gapkit.active import (
    ActiveLearning,
    DOptimal,
    GeneratorExplorer,
    MaximumVariance,
    PoolExplorer,
    RandomChoice,
    Stop,
    StoredLabels,
    VarianceReduction,
)
from gapkit.estimators.committee import frozen_levels
from gapkit.fitting.recalibrate import frame_errors
from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames
from gapkit.structures.neighbours import neighbours
from gapkit.uncertainty import metrics


def frames_with_calculators(*paths):
    """Frames whose labels are ASE results, whatever the file calls them."""
    out = []
    for f in labelled_frames(read_frames(*paths), None, None, None, True):
        atoms = f.atoms.copy()
        labels = {"energy": f.energy, "forces": f.forces}
        atoms.calc = SinglePointCalculator(atoms, **{k: v for k, v in labels.items() if v is not None})
        out.append(atoms)
    return out


def calibration(o) -> None:
    frames = read_frames(*o.frames)
    always = read_frames(*o.always) if o.always else []
    pooled = {
        k: {n: [] for n in ("error", "std", "stated", "half", "frame", "type", "judged")} for k in ("energy", "forces")
    }
    count = 0
    for split in range(o.splits):
        order = np.random.default_rng(100 + split).permutation(len(frames))[: o.most]
        a, b = int(0.6 * len(order)), int(0.8 * len(order))
        train, one, two = ([frames[k] for k in part] for part in (order[:a], order[a:b], order[b:]))
        gap = gapkit.GAP(random_state=0).fit(train + always)
        for cal, test in ((one, two), (two, one)):
            gap.recalibrate(cal, method=o.method, random_state=split)
            for f in labelled_frames(test, None, None, None, True):
                for kind, labels in frame_errors(gap.potential_, f).kinds.items():
                    if kind in pooled:
                        for name, values in judgement(gap.potential_, f, kind, labels, count).items():
                            pooled[kind][name].append(values)
                count += 1
        print(f"split {split}: {len(train)} training frames, {len(one)} and {len(two)} to judge by", flush=True)
    for kind, table in pooled.items():
        report_calibration(kind, {n: np.concatenate(v) for n, v in table.items()}, count)


def judgement(potential, frame, kind: str, labels: tuple, number: int) -> dict[str, np.ndarray]:
    """Errors of one kind of label of a frame, and what was said of them."""
    error, *parts = labels
    found, group = potential.errors.recalibration, potential.calibration.of(kind, frame.config_type)
    return {
        "error": error,
        "std": np.sqrt(found.models[kind].variance(*parts)),
        "stated": np.sqrt(group.latent(parts[0], parts[1]) + group.noise**2),
        "half": found.conformal[kind].factor(0.9) * np.sqrt(found.interval_models[kind].variance(*parts)),
        "frame": np.full(len(error), number),
        "type": np.full(len(error), str(frame.config_type)),
        "judged": found.models[kind].testable(*parts),
    }


def report_calibration(kind: str, t: dict, n_frames: int) -> None:
    rng = np.random.default_rng(0)
    judged = {n: v[t["judged"]] for n, v in t.items()}
    fixed = int(np.sum(~t["judged"]))
    print(f"\n{kind}: {len(t['error'])} labels of {n_frames} test frames, {fixed} fixed by symmetry, left out")
    statistics = {
        "std of z": (lambda e, s: np.sqrt(np.mean((e / s) ** 2)), ("error", "std")),
        "within one sigma": (lambda e, s: np.mean(np.abs(e) <= s), ("error", "std")),
        "rank correlation": (metrics.rank_correlation, ("error", "std")),
        "90 % intervals cover": (lambda e, h: np.mean(np.abs(e) <= h), ("error", "half")),
    }
    for name, (f, names) in statistics.items():
        arrays = [judged[n] for n in names]
        low, high = metrics.cluster_bootstrap(f, arrays, judged["frame"], rng, 200)
        print(f"  {name:<24} {f(*arrays):.3f}  [{low:.3f}, {high:.3f}]")
    ceiling = metrics.rank_correlation_ceiling(judged["std"], rng)
    print(f"  rank correlation of perfect error bars of these sizes {ceiling:.3f}")
    print(f"  all labels: 90 % intervals cover {np.mean(np.abs(t['error']) <= t['half']):.3f}, "
          f"rank correlation {metrics.rank_correlation(t['error'], t['std']):.3f}")  # fmt: skip
    if kind == "forces":
        e, s = (np.sqrt(np.sum(t[n].reshape(-1, 3) ** 2, axis=1)) for n in ("error", "std"))
        print(f"  per atom (norms), rank correlation {metrics.rank_correlation(e, s):.3f}")
    print("as the fit states it:")
    print(metrics.summaries_table(metrics.grouped_summary(judged["error"], judged["stated"], judged["type"])))
    print("recalibrated:")
    print(metrics.summaries_table(metrics.grouped_summary(judged["error"], judged["std"], judged["type"])))


def domain(o) -> None:
    def ordered(atoms):
        """Share of atoms with the coordination of the crystal."""
        pairs = neighbours(atoms, o.bond)
        return float(np.mean(np.bincount(pairs.i, minlength=len(atoms)) == o.coordination))

    inside, outside = [], {"surface": [], "liquid": []}
    for atoms in frames_with_calculators(*o.frames):
        kind = str(atoms.info.get("config_type")).lower()
        if "surf" in kind:
            outside["surface"].append(atoms)
        elif ordered(atoms) < 0.5:
            outside["liquid"].append(atoms)
        elif ordered(atoms) > 0.8 and "vac" not in kind:
            inside.append(atoms)
    order = np.random.default_rng(0).permutation(len(inside))
    cut = int(0.7 * len(inside))
    p = gapkit.GAP(random_state=0).fit([inside[k] for k in order[:cut]]).potential_

    def scores(frames):
        std = [p.local_spread(p.structure(atoms), noise=False) for atoms in frames]
        return np.array([s.max() for s in std]), np.concatenate(std)

    home = scores([inside[k] for k in order[cut:]])
    print(f"bulk solid: {cut} training frames, {len(inside) - cut} held out")
    for name, frames in outside.items():
        away = scores(frames)
        frame, atom = (metrics.out_of_domain_auroc(h, a) for h, a in zip(home, away, strict=True))
        print(f"{name}: {len(frames)} frames, AUROC of the largest deviation {frame:.3f}, per atom {atom:.3f}")


STRATEGIES = {
    "random": RandomChoice(),
    "variance": MaximumVariance(),
    "d-optimal": DOptimal(),
    "reduction": VarianceReduction(),
}


def pool(o) -> None:
    frames = frames_with_calculators(*o.frames)
    strategies = {n: s for n, s in STRATEGIES.items() if n in (o.strategies or STRATEGIES)}
    curves = {name: [] for name in strategies}
    whole = gapkit.GAP(random_state=0, sparse=o.sparse).fit(frames[:: o.every])
    frozen = frozen_levels(whole, seed=0)  # a search of levels on a few frames is noisier than what is compared
    for seed in range(o.seeds):
        order = np.random.default_rng(seed).permutation(len(frames))
        cut = len(frames) // 5
        test, rest = [frames[k] for k in order[:cut]], [frames[k] for k in order[cut:]]
        for name, strategy in strategies.items():
            with tempfile.TemporaryDirectory() as folder:
                log = ActiveLearning(
                    folder, frozen, rest[: o.batch], PoolExplorer(rest),
                    partial(StoredLabels, rest), strategy, o.batch, Stop(generations=o.generations), test=test,
                    workers=0, random_state=seed,
                ).run()  # fmt: skip
            curves[name].append([r.force_rmse for r in log])
            print(f"seed {seed} {name:<10} " + " ".join(f"{r.labels}:{r.force_rmse:.4f}" for r in log), flush=True)
    report_curves(np.array([r.labels for r in log]), curves)


def copper(kind: str, n: int, rng: np.random.Generator) -> list[Atoms]:
    """Frames of copper, 28 to 36 atoms: displaced and strained crystal, or one of three kinds of defect."""
    cell = bulk("Cu", "fcc", a=3.61, cubic=True)
    seed = int(rng.integers(2**31))
    if kind == "crystal":
        std = float(rng.uniform(0.05, 0.12))
        return list(generation.cell_strains(cell * 2, 0.02, n, displacement=std, random_state=seed))
    if kind == "vacancy":
        return list(generation.vacancies(cell * 2, n, temperatures=(900.0,), random_state=seed))
    if kind == "interstitial":
        return list(generation.interstitials(cell * 2, n, temperatures=(900.0,), random_state=seed))
    slabs = [(1, 0, 0), (1, 1, 0), (1, 1, 1)]
    made = [
        generation.surfaces(
            cell, [slabs[int(k)]], 1, layers=2, repeat=(2, 2), temperatures=(900.0,), random_state=seed + i
        )
        for i, k in enumerate(rng.integers(3, size=n))
    ]
    return [next(iter(frames)) for frames in made]


DEFECTS = ("vacancy", "interstitial", "slab")


def live(o) -> None:
    def stream(gap, rng):
        """Sixty frames of a simulation that meets a defect now and then."""
        for _ in range(60):
            kind = str(rng.choice(DEFECTS)) if rng.random() < o.rare else "crystal"
            yield from copper(kind, 1, rng)

    def labelled(frames):
        for atoms in frames:
            atoms.calc = EMT()
            results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            atoms.calc = SinglePointCalculator(atoms, **results)
        return frames

    rng = np.random.default_rng(1000)
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=5.0), gapkit.SquaredExponential(0.6), n_sparse=15),
        gapkit.Term(gapkit.SOAP(r_cut=5.0, n_max=6, l_max=4), gapkit.DotProduct(4), n_sparse=o.sparse),
    ]
    some = labelled([a for k in ("crystal", *DEFECTS) for a in copper(k, 8, rng)])
    frozen = frozen_levels(gapkit.GAP(terms, e0={"Cu": 0.0}, random_state=0, folds=4).fit(some), seed=0)
    test = labelled([a for k in ("crystal", *DEFECTS) for a in copper(k, 10, rng)])
    strategies = {n: s for n, s in STRATEGIES.items() if n in (o.strategies or STRATEGIES)}
    curves = {name: [] for name in strategies}
    for seed in range(o.seeds):
        start = labelled(copper("crystal", o.batch, np.random.default_rng([7, seed])))
        for name, strategy in strategies.items():
            with tempfile.TemporaryDirectory() as folder:
                log = ActiveLearning(
                    folder, frozen, start, GeneratorExplorer(stream, 60), EMT, strategy, o.batch,
                    Stop(generations=o.generations), test=test, workers=0, random_state=seed,
                ).run()  # fmt: skip
            curves[name].append([r.force_rmse for r in log])
            print(f"seed {seed} {name:<10} " + " ".join(f"{r.labels}:{r.force_rmse:.4f}" for r in log), flush=True)
    report_curves(np.array([r.labels for r in log]), curves)


def report_curves(labels: np.ndarray, curves: dict[str, list]) -> None:
    """Means over seeds with standard errors, and with how many labels each strategy reaches the last random error."""
    mean = {n: np.mean(c, axis=0) for n, c in curves.items()}
    print("labels      " + " ".join(f"{n:>8}" for n in labels))
    for name, c in curves.items():
        error = np.std(c, axis=0, ddof=1) / np.sqrt(len(c)) if len(c) > 1 else np.zeros(len(labels))
        print(f"{name:<11} " + " ".join(f"{m:8.4f}" for m in mean[name]))
        print(f"{'':<11} " + " ".join(f"±{e:7.4f}" for e in error))
    for name in sorted(set(curves) - {"random"}):
        reached = labels[mean[name] <= mean["random"][-1]]
        when = f"with {reached[0]} labels" if len(reached) else "not within these labels"
        print(f"{name} reaches the error of {labels[-1]} random labels {when}")


def update(o) -> None:
    frames = frames_with_calculators(*o.frames)
    many = [frames[k % len(frames)].copy() for k in range(o.n)]
    rng = np.random.default_rng(0)
    for k, atoms in enumerate(many):
        atoms.calc = frames[k % len(frames)].calc
    noise = {"energy": 0.01, "forces": 0.1}
    new = [frames[k] for k in rng.permutation(len(frames))[:10]]
    begin = time.perf_counter()
    gap = gapkit.GAP(random_state=0, sparse=o.sparse, noise=noise).fit(many)
    fit = time.perf_counter() - begin
    begin = time.perf_counter()
    gap.update(new)
    took = time.perf_counter() - begin
    print(f"fit of {len(many)} frames, {gap.potential_.basis.n_columns} sparse points: {fit:.1f} s")
    print(f"update with 10 frames, rows included: {took:.2f} s; {fit / took:.0f} times faster")


def negative(o) -> None:
    frames = frames_with_calculators(*o.frames)
    gap = gapkit.GAP(random_state=0, sparse=o.sparse).fit(frames[::3])
    p, rng = gap.potential_, np.random.default_rng(0)
    done, least = 0, np.inf
    while done < o.queries:
        atoms = frames[int(rng.integers(len(frames)))].copy()
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.1, 0.1, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=rng.uniform(0, 0.3), size=atoms.positions.shape)
        try:
            structure = p.structure(atoms)
        except gapkit.exceptions.DataError:
            continue  # two atoms on one spot
        rows = p.basis.local_rows(structure)
        residual, weights = p.posterior.variances(p.basis.whiten(rows.K), rows.prior)
        least = min(least, float(residual.min()), float(weights.min()))
        done += len(atoms)
    print(f"{done} random environments: smallest part of a variance {least:.3g} eV^2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, options in (
        (calibration, {"--always": str, "--splits": 7, "--most": 10**9, "--method": "variance"}),
        (domain, {"--coordination": 4, "--bond": 2.85}),
        (pool, {"--seeds": 5, "--generations": 10, "--batch": 5, "--sparse": 300, "--every": 1, "--strategies": str}),
        (live, {"--seeds": 5, "--generations": 10, "--batch": 4, "--sparse": 200, "--rare": 0.1, "--strategies": str}),
        (update, {"--n": 1000, "--sparse": 1000}),
        (negative, {"--queries": 10**6, "--sparse": 1000}),
    ):
        command = commands.add_parser(function.__name__)
        if function is not live:
            command.add_argument("frames", nargs="+")
        for name, value in options.items():
            if value is str:
                command.add_argument(name, nargs="+")
            else:
                command.add_argument(name, type=type(value), default=value)
        command.set_defaults(run=function)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gapkit.exceptions.GapkitWarning)
        options.run(options)


if __name__ == "__main__":
    main()
