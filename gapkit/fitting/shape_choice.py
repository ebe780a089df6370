"""The shape of the default SOAP: cutoff and resolution of least held-out error, on a part of the training frames.

No one cutoff and resolution is best for every element (docs/ACCURACY.md). A few shapes about the default are fitted to
a part of the frames with fewer sparse points, levels searched anew for each, and judged by held-out error over the same
folds. Only an improvement that the noise of such a comparison does not explain counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gapkit.descriptors import SOAP
from gapkit.exceptions import NumericsError
from gapkit.fitting.candidates import choose_sparse_points, gather_pool
from gapkit.fitting.level_choice import EnergySample, find_levels, own_groups
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.training_set import TrainingSet, assign_folds
from gapkit.models.basis import SparseBasis
from gapkit.models.held_out import HeldOutError
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.numerics.threads import blas_threads

#: atoms and sparse points of the comparison, about: with fewer points shorter cutoffs look better than they are
PILOT_ATOMS, PILOT_SPARSE = 15_000, 1200
#: training sets of fewer frames or labels keep the default shape (their folds say too little), and those of more
#: species (their finer descriptors are long)
FEWEST_FRAMES, FEWEST_LABELS, MOST_SPECIES = 60, 6000, 2
#: what is tried: factor of the cutoff, what is added to n_max and l_max, factor of sigma; first the default itself
SHAPES = ((1.0, 0, 1.0), (1.0, 2, 1.0), (0.93, 2, 0.8), (0.85, 2, 0.8))
#: n_max and l_max are not raised beyond this
FINEST = 12
#: least improvement of the objective (the log of energy error times force error) for another shape than the default
WORTH = 0.03


@dataclass(frozen=True)
class Shape:
    """A SOAP that was tried, and the objective of its levels: log energy error (eV/atom) + log force error (eV/A)."""

    soap: SOAP
    score: float

    def __str__(self) -> str:
        s = self.soap
        return f"r_cut {s.r_cut} n_max {s.n_max} l_max {s.l_max} sigma {s.sigma}"


def worthwhile(data: TrainingSet) -> bool:
    """Whether there are frames and labels enough for a comparison, energies and forces, of few species."""
    kinds = [any(getattr(t, kind) is not None for t in data.targets) for kind in ("energy", "forces")]
    enough = len(data.frames) >= FEWEST_FRAMES and data.n_rows >= FEWEST_LABELS
    return enough and all(kinds) and len(data.species) <= MOST_SPECIES


def pilot(data: TrainingSet) -> TrainingSet:
    """About ``PILOT_ATOMS`` atoms: of every config_type its share, at least five frames; all isolated atoms."""
    atoms = sum(t.n_atoms for t in data.targets)
    share = min(1.0, PILOT_ATOMS / atoms)
    kept: list[int] = []
    for name in sorted({str(t.config_type) for t in data.targets}):
        mine = [k for k, t in enumerate(data.targets) if str(t.config_type) == name and not t.isolated]
        n = min(len(mine), max(5, round(share * len(mine))))
        kept += [mine[k] for k in np.linspace(0, len(mine), n, endpoint=False).astype(int)]
    kept = sorted(kept + [k for k, t in enumerate(data.targets) if t.isolated])
    return replace(data, frames=tuple(data.frames[k] for k in kept), targets=tuple(data.targets[k] for k in kept))


def choose_shape(
    terms: Sequence[Term],
    data: TrainingSet,
    given: NoiseSettings,
    n_folds: int,
    n_threads: int,
    bar: Callable[..., Any],
) -> tuple[tuple[Term, ...], list[Shape]]:
    """The terms with the best shape of SOAP for these frames, and what was tried (first the default)."""
    small = pilot(data)
    folds: np.ndarray | None = None
    tried: list[Shape] = []
    best = tuple(terms)
    for changed in bar(list(shapes_of(terms, data)), desc="cutoff and resolution", unit="fit"):
        fewer = [replace(t, n_sparse=min(t.n_sparse, PILOT_SPARSE)) for t in changed]
        rng, quiet = np.random.default_rng(0), _quiet(bar)
        pool = gather_pool(small, fewer, rng, quiet)
        if folds is None:
            folds = assign_folds(small, pool.fingerprints, n_folds)
        try:
            basis = choose_sparse_points(pool, fewer, rng, quiet)
            score = _judge(basis, fewer, small, folds, given, n_threads, quiet)
        except (NumericsError, np.linalg.LinAlgError):
            score = np.inf
        soap = next(t.descriptor for t in changed if t.descriptor.of_atoms)
        tried.append(Shape(soap, score))
        if len(tried) > 1 and score < tried[0].score - WORTH and score <= min(t.score for t in tried):
            best = changed
    return best, tried


def _judge(
    basis: SparseBasis,
    terms: Sequence[Term],
    data: TrainingSet,
    folds: np.ndarray,
    given: NoiseSettings,
    n_threads: int,
    bar: Callable[..., Any],
) -> float:
    """Held-out error by all columns at the levels that the search on fewer of them finds."""
    triangles = Triangles(basis.n_columns, len(terms))
    sample = replace(EnergySample.of(basis, data), columns=np.arange(basis.n_columns))
    accumulate_rows(triangles, data, basis, folds, own_groups(data, given), n_threads, bar, sample)
    judged = replace(given, objective="held_out_error")
    with blas_threads(n_threads):
        levels = find_levels(triangles, basis, data, terms, judged, bar, sample).levels
        error = HeldOutError(triangles, basis.column_terms(), levels, (), (), energies=sample.rows())
        return float(error.evaluate(levels)[0])


def _quiet(bar: Callable[..., Any]) -> Callable[..., Any]:
    """The bar without output: one line for each small fit would be many."""
    return lambda *args, **settings: bar(*args, **{**settings, "show": False})


def shapes_of(terms: Sequence[Term], data: TrainingSet) -> Iterator[tuple[Term, ...]]:
    """The terms with each shape of their SOAP."""
    for cutoff, finer, width in SHAPES:
        yield tuple(t.with_descriptor(t.descriptor.reshaped(cutoff, finer, width, FINEST)) for t in terms)
