"""The choice of defaults, by held-out error on training frames alone (docs/ACCURACY.md).

    python benchmarks/selection.py TRAIN.xyz [MORE.xyz ...] [--every 4] [--sparse 1000]
        [--only objective shape points exact]

Prints a table per question: which objective of the levels, which shape of the SOAP kernel, how many sparse points,
whether the mean should take every label as a functional (with power two, both ways).
Every line is one fit; its errors are those of the folds that it held out. Test files are not for this script.
``--every n`` takes each n-th frame (and all isolated atoms), for a first look.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from ase import Atoms

import gapkit
from gapkit.model_selection import candidates, sparse_curve
from gapkit.model_selection.tuning import held_out_error
from gapkit.structures.files import read_frames


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--sparse", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=("objective", "shape", "points", "exact"))
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


if __name__ == "__main__":
    main()
