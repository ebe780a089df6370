"""Candidates for sparse points: gathered in one pass, bounded, and chosen from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gapkit.descriptors import Descriptor
from gapkit.descriptors.base import Channel
from gapkit.exceptions import SettingsError
from gapkit.fitting.default_terms import default_terms
from gapkit.fitting.training_set import TrainingSet
from gapkit.kernels import Kernel
from gapkit.models.basis import POTENTIAL_JITTER, SparseBasis
from gapkit.models.projection import principal_directions
from gapkit.models.sparse_points import GreedyVariance, pivoted_cholesky, selection
from gapkit.models.terms import Term
from gapkit.structures.labels import check_distances
from gapkit.structures.structure import Structure

#: candidate environments kept per channel for the choice of sparse points, and the memory they may take
POOL, POOL_BYTES = 20_000, 200_000_000
#: dimensions of the fingerprint by which frames are put into folds
FINGERPRINT = 48


def choose_terms(
    terms: Any, data: TrainingSet, sparse: Mapping[str, Any] | None = None, exact: bool = False
) -> tuple[Term, ...]:
    """The given terms for the species of the training set; ``"auto"``: :func:`default_terms`.

    ``sparse``: changes to terms that are not of pairs; ``exact``: terms for an exact mean, if they are not given.
    """
    if isinstance(terms, str):
        if terms != "auto":
            raise SettingsError(f"terms must be 'auto' or a list of gapkit.Term, not {terms!r}")
        bonded = [f.atoms for f, t in zip(data.frames, data.targets, strict=True) if not t.isolated]
        bonded.sort(
            key=lambda a: (len(a), a.get_volume() if a.pbc.all() else 0.0, float(a.positions[0] @ a.positions[-1]))
        )
        sample = bonded[:: max(1, len(bonded) // 200)]
        terms = default_terms(sample, data.n_rows, len(data.species), exact=exact)
    terms = tuple(terms)
    if not terms or not all(isinstance(t, Term) for t in terms):
        raise SettingsError("terms must be 'auto' or a list of one or more gapkit.Term")
    described = [t.with_descriptor(t.descriptor.for_species(data.species)) for t in terms]
    return tuple(t if t.descriptor.of_pairs else replace(t, **(sparse or {})) for t in described)


class Reservoir:
    """A bounded uniform sample of a stream of feature vectors (Vitter, ACM Trans. Math. Softw. 11, 37 (1985))."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.seen = 0
        self._rows = np.empty((0, 0))

    def add(self, x: np.ndarray) -> None:
        """Offer the rows of ``x``."""
        if self.seen == 0:
            self._rows = np.empty((self.size, x.shape[1]))  # the system gives memory to rows that are written
        first = x[: max(0, self.size - self.seen)]
        self._rows[self.seen : self.seen + len(first)] = first
        self.seen += len(first)
        for row in x[len(first) :]:
            self.seen += 1
            place = int(self.rng.integers(self.seen))
            if place < self.size:
                self._rows[place] = row

    def features(self) -> np.ndarray:
        """The sample (c, f), not to be written to."""
        return self._rows[: min(self.seen, self.size)]


@dataclass(frozen=True)
class Pool:
    """Candidates for sparse points, and a fingerprint per frame.

    Attributes
    ----------
    reservoirs : dict
        By term and channel; there by config_type where the term is stratified, else under the empty string.
    fingerprints : (frames, FINGERPRINT)
    """

    reservoirs: dict[tuple[int, Channel], dict[str, Reservoir]]
    fingerprints: np.ndarray

    def seen(self, key: tuple[int, Channel]) -> int:
        """Environments of a term and channel."""
        return sum(r.seen for r in self.reservoirs[key].values())

    def candidates(self, key: tuple[int, Channel]) -> np.ndarray:
        """All candidates of a term and channel (c, f)."""
        parts = [r.features() for _, r in sorted(self.reservoirs[key].items())]
        return parts[0] if len(parts) == 1 else np.vstack(parts)


def gather_pool(
    data: TrainingSet, terms: Sequence[Term], rng: np.random.Generator, progress_bar: Callable[..., Any]
) -> Pool:
    """One pass over the frames: a bounded sample of environments and each frame's mean descriptor."""
    r_cut = max(t.descriptor.r_cut for t in terms)
    n_types = max(1, len({str(t.config_type) for t in data.targets}))
    reservoirs: dict[tuple[int, Channel], dict[str, Reservoir]] = {}
    widest = max(range(len(terms)), key=lambda k: terms[k].descriptor.of_atoms)
    projections: dict[Channel, np.ndarray] = {}
    fingerprints = np.zeros((len(data.frames), FINGERPRINT))
    for n, frame in enumerate(progress_bar(data.frames, desc="descriptors", unit="frame")):
        structure = Structure(frame.atoms, r_cut)
        pairs = structure.pairs(r_cut)
        check_distances(pairs.distances, pairs.i, pairs.j, f"frame {frame.index}")
        for k, term in enumerate(terms):
            for channel in term.descriptor.channels:
                x = term.descriptor.environments(structure, channel, derivatives=False).x
                if len(x) == 0:
                    continue
                of_channel = reservoirs.setdefault((k, channel), {})
                stratum = str(data.targets[n].config_type) if term.stratified else ""
                if stratum not in of_channel:
                    size = min(POOL, POOL_BYTES // (8 * x.shape[1])) // (n_types if term.stratified else 1)
                    of_channel[stratum] = Reservoir(max(1000, size), rng)
                of_channel[stratum].add(x)
                if k == widest:
                    if channel not in projections:
                        seed = [20, *channel]  # by channel, not by order of appearance
                        projections[channel] = np.random.default_rng(seed).normal(size=(x.shape[1], FINGERPRINT))
                    fingerprints[n] += x.sum(axis=0) @ projections[channel] / frame.n_atoms
    return Pool(reservoirs, fingerprints)


def choose_sparse_points(
    pool: Pool, terms: Sequence[Term], rng: np.random.Generator, progress_bar: Callable[..., Any]
) -> SparseBasis:
    """Sparse points of every channel, in proportion to the square root of its environments, at least ten each."""
    chosen: list[tuple[int, Descriptor, Kernel, Channel, np.ndarray]] = []
    directions: dict[tuple[int, Channel], np.ndarray] = {}
    for key in progress_bar(sorted(pool.reservoirs), desc="choosing sparse points", unit="channel"):
        k, channel = key
        term = terms[k]
        whole = sum(np.sqrt(pool.seen(other)) for other in pool.reservoirs if other[0] == k)
        n = max(10, round(term.n_sparse * np.sqrt(pool.seen(key)) / whole))
        chosen.append((k, term.descriptor, term.kernel, channel, _choose(pool.reservoirs[key], term, n, rng)))
        if term.projection is not None:
            onto = principal_directions(pool.candidates(key), term.projection)
            if onto is not None:
                directions[key] = onto
    return SparseBasis.build(chosen, len(terms), directions=directions)


def _choose(strata: Mapping[str, Reservoir], term: Term, n: int, rng: np.random.Generator) -> np.ndarray:
    """Features of about ``n`` sparse points (n, f), best first.

    Each of several strata has its share; their points together are then taken in the order of pivoted Cholesky, which
    leaves out what two strata have in common.
    """
    choose = selection(term.selection)
    if term.descriptor.of_pairs and isinstance(choose, GreedyVariance):
        # distances have few directions: below the least jitter points say nothing new, and rounding would choose them
        choose = replace(choose, tolerance=max(choose.tolerance, POTENTIAL_JITTER))
    if len(strata) == 1:
        (only,) = (r.features() for r in strata.values())
        return only[choose(only, term.kernel, n, rng)]
    whole = sum(np.sqrt(r.seen) for r in strata.values())
    parts = []
    for _, reservoir in sorted(strata.items()):
        features = reservoir.features()
        share = max(1, round(n * np.sqrt(reservoir.seen) / whole))
        parts.append(features[choose(features, term.kernel, share, rng)])
    union = np.vstack(parts)
    return union[pivoted_cholesky(union, term.kernel, len(union))[0]]
