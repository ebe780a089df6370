"""The choice of defaults, by held-out error on training frames alone (docs/ACCURACY.md).

    python benchmarks/selection.py TRAIN.xyz [MORE.xyz ...] [--every 4] [--sparse 1000]
        [--only objective shape points exact levels]

Prints a table per question: which objective of the levels, which shape of the SOAP kernel, how many sparse points,
whether the mean should take every label as a functional (with power two, both ways), and whether levels should be
searched on all columns (errors of a fold are then by levels that were found without it, so that a search that fits the
held-out errors too closely is found out; energies mean absolute, per atom).
Every line is one fit; its errors are those of the folds that it held out. Test files are not for this script.
``--every n`` takes each n-th frame (and all isolated atoms), for a first look.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial

import numpy as np
from ase import Atoms
from tqdm import tqdm

import gapkit
from gapkit.fitting import level_choice
from gapkit.fitting.candidates import choose_sparse_points, choose_terms, gather_pool
from gapkit.fitting.level_choice import EnergySample, find_levels, separate_groups
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.training_set import assign_folds, in_order, training_set
from gapkit.model_selection import candidates, sparse_curve
from gapkit.model_selection.tuning import held_out_error
from gapkit.models.levels import kind_of
from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles
from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames

quiet = partial(tqdm, disable=True)


def line(label: str, gap: gapkit.GAP, frames: list[Atoms]) -> gapkit.GAP:
    """Fit, and print held-out root-mean-square errors of energies (meV per square root of atoms) and forces."""
    begin = time.perf_counter()
    gap.fit(frames)
    energy, force = (held_out_error(gap, kind) for kind in ("energy", "forces"))
    level = gap.potential_.metadata["levels"]
    text = " ".join(f"{kind} {value:.3g}" for kind, value in sorted(gap.potential_.metadata["noise"].items()))
    print(
        f"{label:<44} E {1e3 * (energy or np.nan):8.2f} meV  F {force or np.nan:.4f} eV/A  "
        f"log evidence per label {level['log_evidence_per_label'] or np.nan:8.3f}  noise {text}  "
        f"{time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    return gap


def objectives(frames: list[Atoms], terms: list[gapkit.Term]) -> None:
    """Levels by each objective, all else equal."""
    for name in ("held_out_error", "leave_one_out", "held_out_density", "evidence"):
        line(f"objective {name}", gapkit.GAP(terms=terms, noise=name, random_state=0), frames)


def shapes(frames: list[Atoms], n_sparse: int) -> None:
    """The default SOAP and its variations by one setting, all with as many sparse points."""
    made = candidates(frames)
    own = made[0].terms[1]
    for candidate in made:
        keys = ("r_cut", "n_max", "sigma", "zeta")
        if sum(own[k] != candidate.terms[1][k] for k in keys) > 1:
            break
        terms = candidate.made()
        share = n_sparse / terms[1].n_sparse
        line(candidate.name, gapkit.GAP(terms=candidate.made(share), random_state=0), frames)


def points(frames: list[Atoms], terms: list[gapkit.Term]) -> None:
    """Held-out errors against the number of sparse points, from one fit: whitened columns nest."""
    gap = line("default", gapkit.GAP(terms=terms, random_state=0), frames)
    m = gap.potential_.basis.n_columns
    print(sparse_curve(gap, [m // 16, m // 8, m // 4, m // 2, 3 * m // 4, m]))


def exact_mean(frames: list[Atoms], n_sparse: int) -> None:
    """The exact mean against that of sparse points, all else equal."""
    pair, soap = candidates(frames)[0].made()
    soap = replace(soap, kernel=gapkit.DotProduct(2), n_sparse=n_sparse)
    for name, exact in (("sparse points, zeta 2", False), ("every label, zeta 2", True)):
        line(name, gapkit.GAP(terms=[pair, soap], exact=exact, random_state=0), frames)


def nested_levels(frames: list[Atoms]) -> None:
    """Errors of each fold by levels found on the others, with and without the last stage of the search."""
    data = in_order(training_set(labelled_frames(frames), "auto", None))
    rng, given, terms = np.random.default_rng(0), NoiseSettings.parse("auto"), choose_terms("auto", data)
    pool = gather_pool(data, terms, rng, quiet)
    basis, folds = choose_sparse_points(pool, terms, rng, quiet), assign_folds(data, pool.fingerprints, 5)
    triangles, sample = Triangles(basis.n_columns, len(terms)), EnergySample.of(basis, data)
    accumulate_rows(triangles, data, basis, folds, separate_groups(data, given), 1, quiet, sample)
    energies = sample.rows()
    assert energies is not None and len(sample.columns) == basis.n_columns
    memory = level_choice.LAST_BYTES
    for name, allowed in (("levels on 800 columns", 0.0), (f"levels on all {basis.n_columns}", memory)):
        level_choice.LAST_BYTES = allowed
        absolute, square, count = [], 0.0, 0
        for fold in triangles.folds:
            others = Triangles(basis.n_columns, len(terms))
            others.items = {key: t for key, t in triangles.items.items() if key[1] != fold}
            part = replace(sample, kept=[row for row in sample.kept if row[2] != fold])
            levels = find_levels(others, basis, data, terms, given, quiet, part).levels
            posterior = Posterior.solve(others, levels.noise, levels.signal, basis.column_terms())
            mine = energies.fold == fold
            absolute.append(np.abs(posterior.mean(energies.A[mine]) - energies.y[mine]))
            for (group, f), triangle in triangles.items.items():
                if f == fold and kind_of(group) == "forces":
                    square, count = square + posterior.squared_error(triangle), count + triangle.n_rows
        energy, force = float(np.mean(np.concatenate(absolute))), float(np.sqrt(square / count))
        print(
            f"{name:<44} E {1e3 * energy:8.3f} meV/atom  F {force:.4f} eV/A  logs {np.log(energy * force):.3f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--sparse", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=("objective", "shape", "points", "exact", "levels"))
    o = parser.parse_args()
    frames = read_frames(*o.train)
    isolated = [a for a in frames if len(a) == 1 and not a.pbc.any()]
    frames = [a for a in frames if len(a) > 1 or a.pbc.any()][:: o.every] + isolated
    asked = o.only or ("objective", "shape", "points", "exact")
    default = candidates(frames)[0]
    fewer = default.made(o.sparse / default.made()[1].n_sparse)
    print(f"{len(frames)} frames")
    if "objective" in asked:
        objectives(frames, fewer)
    if "shape" in asked:
        shapes(frames, o.sparse)
    if "points" in asked:
        points(frames, default.made())
    if "exact" in asked:
        exact_mean(frames, o.sparse)
    if "levels" in asked:
        nested_levels(frames)


if __name__ == "__main__":
    main()
