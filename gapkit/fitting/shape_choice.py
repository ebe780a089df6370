"""The shape of the default SOAP: cutoff and resolution of least held-out error, on a part of the training frames.

No one cutoff and resolution is best for every element (docs/ACCURACY.md). Shapes about the default are fitted to a part
of the frames with fewer sparse points and judged by held-out error over the same folds. The search goes outwards for as
long as a longer cutoff pays, else inwards. The search for the levels of a shape starts from those of the best shape
before it, and on few sparse points also from those that follow from the labels. Only an improvement that the noise of
such a comparison does not explain counts, and of two shapes as good as each other the one tried first is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gapkit.descriptors import SOAP
from gapkit.exceptions import NumericsError
from gapkit.fitting.candidates import choose_sparse_points, gather_pool
from gapkit.fitting.level_choice import EnergySample, LevelSearch, find_levels, several_starts
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.rows import accumulate_rows
from gapkit.fitting.shells import REACH, Shells
from gapkit.fitting.training_set import TrainingSet, assign_folds
from gapkit.models.basis import SparseBasis
from gapkit.models.held_out import HeldOutError
from gapkit.models.level_search import search_levels
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.numerics.threads import blas_threads
from gapkit.progress import quiet
from gapkit.structures.neighbours import neighbours

#: atoms and sparse points of the comparison, about: with fewer points shorter cutoffs look better than they are
PILOT_ATOMS, PILOT_SPARSE = 4000, 750
#: training sets of fewer frames or labels keep the default shape (their folds say too little), and those of more
#: species (their finer descriptors are long)
FEWEST_FRAMES, FEWEST_LABELS, MOST_SPECIES = 20, 3000, 2
#: a shape: factor of the cutoff, what is added to n_max and l_max, factor of sigma; first the default itself
DEFAULT = (1.0, 0, 1.0)
#: longer cutoffs, tried in turn for as long as each one pays, and the finer and shorter shapes that are tried where the
#: first of them does not; the search inwards ends at a shape that is ``LOST`` worse than the best
OUTWARDS = ((1.2, 2, 1.0), (1.4, 2, 1.0), (1.65, 2, 1.0))
INWARDS = ((1.0, 2, 1.0), (0.93, 2, 0.8), (0.85, 2, 0.8), (0.77, 2, 0.8))
#: bounds of the cutoffs tried: length (A) and mean number of neighbours
LONGEST_TRIED, MOST_NEIGHBOURS = 10.0, 300
#: n_max and l_max are not raised beyond this
FINEST = 12
#: least improvement of the objective (the log of energy error times force error) for another shape than the one before,
#: and for a longer cutoff, with which predictions cost up to three times as much
WORTH, WORTH_LONGER = 0.03, 0.15
#: how much worse a shape is than the best when shapes beyond it are not tried
LOST = 0.03
#: columns and iterations of a level search that starts from the levels of another shape, and iterations of its last
#: stage: differences that count are far larger than what more of them would change
ROUGH, ROUGH_ITERATIONS, LAST_ITERATIONS = 250, 20, 60


@dataclass(frozen=True)
class Shape:
    """A SOAP that was tried, and the objective of its levels: log energy error (eV/atom) + log force error (eV/A)."""

    soap: SOAP
    score: float

    def __str__(self) -> str:
        s = self.soap
        return f"r_cut {s.r_cut} n_max {s.n_max} l_max {s.l_max} sigma {s.sigma}"


def is_worth_comparing(data: TrainingSet) -> bool:
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
        of_type = [k for k, t in enumerate(data.targets) if str(t.config_type) == name and not t.isolated]
        n = min(len(of_type), max(5, round(share * len(of_type))))
        kept += [of_type[k] for k in np.linspace(0, len(of_type), n, endpoint=False).astype(int)]
    kept = sorted(kept + [k for k, t in enumerate(data.targets) if t.isolated])
    return replace(data, frames=tuple(data.frames[k] for k in kept), targets=tuple(data.targets[k] for k in kept))


def choose_shape(
    terms: Sequence[Term],
    data: TrainingSet,
    given: NoiseSettings,
    n_folds: int,
    n_threads: int,
    progress_bar: Callable[..., Any],
) -> tuple[tuple[Term, ...], list[Shape]]:
    """Terms with the best shape of SOAP for these frames, and the shapes that were tried (the default first)."""
    comparison = Comparison(pilot(data), given, n_folds, n_threads, quiet(progress_bar))
    shells = Shells.of([f.atoms for f in comparison.data.frames], LONGEST_TRIED + REACH)
    progress = progress_bar(total=1 + max(len(OUTWARDS), len(INWARDS)), desc="cutoff and resolution", unit="fit")

    def scored(shape: tuple[float, int, float]) -> tuple[float, tuple[Term, ...]]:
        changed = reshaped(terms, shape, shells)
        score = comparison.score(changed)
        progress.update()
        return score, changed

    least, best = scored(DEFAULT)
    longer = False
    for shape in OUTWARDS:
        if not within_bounds(reshaped(terms, shape, shells), comparison.data):
            break
        score, changed = scored(shape)
        if not score < least - WORTH_LONGER:
            break
        least, best, longer = score, changed, True
    for shape in () if longer else INWARDS:
        score, changed = scored(shape)
        if score < least - WORTH:
            least, best = score, changed
        elif not score < least + LOST:
            break
    progress.close()
    return best, comparison.tried


@dataclass
class Comparison:
    """Small fits to the same frames over the same folds, which differ by the shape of their SOAP.

    Attributes
    ----------
    tried : list of Shape
        Shapes in the order of the comparison, with their scores (infinite for a fit that failed).
    """

    data: TrainingSet
    given: NoiseSettings
    n_folds: int
    n_threads: int
    progress_bar: Callable[..., Any]
    tried: list[Shape] = field(default_factory=list)
    _folds: np.ndarray | None = None
    _search: LevelSearch | None = None

    def score(self, terms: Sequence[Term]) -> float:
        """Held-out error of a small fit with these terms; infinite where rounding makes it impossible."""
        fewer = [replace(t, n_sparse=min(t.n_sparse, PILOT_SPARSE)) for t in terms]
        rng = np.random.default_rng(0)
        pool = gather_pool(self.data, fewer, rng, self.progress_bar)
        if self._folds is None:
            self._folds = assign_folds(self.data, pool.fingerprints, self.n_folds)
        try:
            score = self._held_out_error(choose_sparse_points(pool, fewer, rng, self.progress_bar), fewer, self._folds)
        except (NumericsError, np.linalg.LinAlgError):
            score = float("inf")
        soap: Any = next(t.descriptor for t in terms if t.descriptor.of_atoms)
        self.tried.append(Shape(soap, score))
        return score

    def _held_out_error(self, basis: SparseBasis, terms: Sequence[Term], folds: np.ndarray) -> float:
        """Held-out error by all columns at the levels that are found for them."""
        data, given = self.data, replace(self.given, objective="held_out_error")
        triangles = Triangles(basis.n_columns, len(terms))
        sample = replace(EnergySample.of(basis, data), columns=np.arange(basis.n_columns))
        separate_groups = tuple(
            given.by_config
        )  # virials share one level: a dozen of them would cost more than the rest
        accumulate_rows(
            triangles, data, basis, folds, separate_groups, self.n_threads, self.progress_bar, sample, variances=False
        )
        with blas_threads(self.n_threads, basis.n_columns):
            if self._search is None:
                search = find_levels(triangles, basis, data, terms, given, self.progress_bar, sample, self.n_threads)
            else:
                search = _search_from(self._search, triangles, basis, sample)
            score = float(_objective(search, triangles, basis, sample, basis.n_columns).evaluate(search.levels)[0])
        if self._search is None or score < min(t.score for t in self.tried):
            self._search = search
        return score


def _search_from(search: LevelSearch, triangles: Triangles, basis: SparseBasis, sample: EnergySample) -> LevelSearch:
    """The search for the levels of a shape from those of another one."""
    rough = _objective(search, triangles, basis, sample, min(ROUGH, basis.n_columns))
    starts = [search.levels, *several_starts(search.rough.start, rough)]
    levels = search_levels(rough, search.lower, starts, ROUGH_ITERATIONS)
    whole = _objective(search, triangles, basis, sample, basis.n_columns)
    return replace(search, levels=search_levels(whole, search.lower, [levels], LAST_ITERATIONS))


def _objective(
    search: LevelSearch, triangles: Triangles, basis: SparseBasis, sample: EnergySample, n_columns: int
) -> HeldOutError:
    """Held-out error by the leading columns, as a function of the levels that are free in ``search``."""
    columns = basis.leading_columns(n_columns)
    smaller = triangles.select(columns) if len(columns) < basis.n_columns else triangles
    rows = sample.rows()
    if rows is not None:
        rows = replace(rows, A=rows.A[:, columns])
    free = search.rough.free_noise, search.rough.free_signal
    start, n_threads = search.rough.start, search.rough.n_threads
    return HeldOutError(smaller, basis.column_terms()[columns], start, *free, energies=rows, n_threads=n_threads)


def within_bounds(terms: Sequence[Term], data: TrainingSet) -> bool:
    """Whether the cutoff of these terms is among those to be tried: its length, and its neighbours on average."""
    r_cut = max(t.descriptor.r_cut for t in terms if t.descriptor.of_atoms)
    if r_cut > LONGEST_TRIED:
        return False
    pairs = [neighbours(f.atoms, r_cut) for f in data.frames[:: max(1, len(data.frames) // 20)]]
    return sum(len(p.distances) for p in pairs) <= MOST_NEIGHBOURS * sum(p.n_atoms for p in pairs)


def reshaped(terms: Sequence[Term], shape: tuple[float, int, float], shells: Shells | None = None) -> tuple[Term, ...]:
    """The terms with another shape of their SOAP, its cutoff between ``shells``; for the default the terms as given."""
    if shape == DEFAULT:
        return tuple(terms)
    changed = []
    for term in terms:
        made = term.descriptor.reshaped(*shape, FINEST)
        if shells is not None and made.of_atoms:
            made = made.reshaped(shells.away_from(made.r_cut) / made.r_cut, 0, 1.0, FINEST)
        changed.append(term.with_descriptor(made))
    return tuple(changed)


def shapes_of(terms: Sequence[Term]) -> Iterator[tuple[Term, ...]]:
    """The terms with the default shape of their SOAP and each of those that the search inwards tries."""
    for shape in (DEFAULT, *INWARDS):
        yield reshaped(terms, shape)
