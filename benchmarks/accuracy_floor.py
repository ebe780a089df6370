"""How good a fit could be if it knew the test frames: levels and shape chosen by the test errors themselves.

    python benchmarks/accuracy_floor.py TRAIN.xyz --test TEST.xyz [--sparse 2500] [--only 0 3]

For each shape that a default fit compares (``fitting/shape_choice.py``), with power four and two: weights from the
training frames alone, but noise and signal levels that minimise, on the *test* frames, the energy error, the force
error, or the product of both that a fit minimises on held-out training frames. No honest choice of these settings can
do better. Prints test errors (mean absolute), and beside them those of the levels that a fit finds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from gapkit.fitting.candidates import choose_sparse_points, choose_terms, gather_pool
from gapkit.fitting.level_choice import EnergySample, find_levels, separate_groups
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.shape_choice import shapes_of
from gapkit.fitting.training_set import TrainingSet, assign_folds, in_order, training_set
from gapkit.kernels import DotProduct
from gapkit.models.held_out import EnergyRows, HeldOutError
from gapkit.models.level_search import search_levels
from gapkit.models.levels import Levels, kind_of
from gapkit.models.observations import Observations
from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles
from gapkit.structures.files import read_frames
from gapkit.structures.labels import labelled_frames

#: fold of the test frames; training frames are in none, so that they are always fitted to
TEST = 0
quiet = partial(tqdm, disable=True)


class TestError(HeldOutError):
    """The objective of a fit, of test frames: one fold is enough."""

    needs_folds: ClassVar[bool] = False


@dataclass
class TestRows:
    """Whitened rows of energies (per atom) and forces of the test frames."""

    kept: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=lambda: {"energy": [], "forces": []})

    def offer(self, observed: Observations, A: np.ndarray, fold: int, frame: int) -> None:
        """Keep those of test frames."""
        kind = kind_of(observed.group)
        if fold == TEST and kind in self.kept:
            scale = observed.scale if kind == "energy" else 1.0
            self.kept[kind].append((A / scale, observed.y / scale))

    def of(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows and labels of one kind."""
        A, y = zip(*self.kept[kind], strict=True)
        return np.vstack(A), np.concatenate(y)


def errors(triangles: Triangles, terms: np.ndarray, rows: TestRows, levels: Levels) -> tuple[float, float]:
    """Mean absolute test errors of energies (meV per atom) and forces (eV/A)."""
    posterior = Posterior.solve(triangles, levels.noise, levels.signal, terms, leave_out=TEST)
    energy, force = (float(np.mean(np.abs(posterior.mean(A) - y))) for A, y in (rows.of("energy"), rows.of("forces")))
    return 1e3 * energy, force


def shape(train: TrainingSet, both: TrainingSet, folds: np.ndarray, terms, test: np.ndarray) -> None:
    """Errors of one shape, by the levels of a fit and by those that know the test frames."""
    rng, given = np.random.default_rng(0), NoiseSettings.parse("auto")
    basis = choose_sparse_points(gather_pool(train, terms, rng, quiet), terms, rng, quiet)
    own = separate_groups(train, given)
    fitted, sample = Triangles(basis.n_columns, len(terms)), EnergySample.of(basis, train)
    accumulate_rows(fitted, train, basis, folds, own, 1, quiet, sample)
    search = find_levels(fitted, basis, train, terms, given, quiet, sample)
    rows, triangles = TestRows(), Triangles(basis.n_columns, len(terms))
    accumulate_rows(triangles, both, basis, np.where(test, TEST, -1), own, 1, quiet, rows)
    A, y = rows.of("energy")
    found = {"as a fit chooses": search.levels}
    start = replace(search.levels, objective=float("nan"))
    free = tuple(g for g in triangles.groups if g in search.final.free_noise)
    for name, kinds in {
        "by test energies": ("energy",),
        "by test forces": ("forces",),
        "by both": ("energy", "forces"),
    }.items():
        objective = TestError(triangles, basis.column_terms(), start, free, search.final.free_signal, kinds)
        if "energy" in kinds:
            objective.energies = EnergyRows(A, y, np.zeros(len(y), dtype=int))
        found[name] = search_levels(objective, search.lower, max_iterations=40)
        del objective
    line = []
    for levels in found.values():
        energy, force = errors(triangles, basis.column_terms(), rows, levels)
        line.append(f"{energy:.2f} {force:.4f}")
    soap = terms[-1].descriptor
    label = f"r {soap.r_cut} n{soap.n_max} l{soap.l_max} sigma {soap.sigma} zeta {terms[-1].kernel.zeta}"
    print(f"{label:<34}" + "".join(f"{part:>20}" for part in line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="+")
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--sparse", type=int, default=2500)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of shapes")
    o = parser.parse_args()
    frames, test = read_frames(*o.train), read_frames(*o.test)
    train = in_order(training_set(labelled_frames(frames), "auto", None))
    known = train.species, train.reference
    asked = training_set(labelled_frames(test), None, None, known=known)
    both = replace(train, frames=train.frames + asked.frames, targets=train.targets + asked.targets)
    is_test = np.arange(len(both.frames)) >= len(train.frames)
    terms = choose_terms("auto", train)
    folds = assign_folds(train, gather_pool(train, terms, np.random.default_rng(0), quiet).fingerprints, 5)
    print(f"{'test MAE: meV/atom, eV/A':<34}" + "".join(
        f"{name:>20}" for name in ("as a fit chooses", "by test energies", "by test forces", "by both")
    ))  # fmt: skip
    for number, made in enumerate(shapes_of(terms, train)):
        if o.only and number not in o.only:
            continue
        for zeta in (4, 2):
            pair, soap = made
            changed = replace(soap, kernel=DotProduct(zeta), n_sparse=min(o.sparse, soap.n_sparse))
            shape(train, both, folds, (pair, changed), is_test)


if __name__ == "__main__":
    main()
