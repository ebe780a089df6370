"""Candidates for sparse points: gathered in one pass, bounded, and chosen from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gapkit.descriptors import SOAP, Descriptor, PairDistance
from gapkit.descriptors.base import Channel
from gapkit.exceptions import SettingsError
from gapkit.kernels import Kernel
from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_points import selection
from gapkit.models.terms import Term
from gapkit.numerics import kernel_functions
from gapkit.potential.defaults import default_terms
from gapkit.potential.training_set import TrainingSet
from gapkit.structures.labels import check_distances
from gapkit.structures.neighbours import Structure
from gapkit.uncertainty.calibration import Calibration

#: candidate environments kept per channel for the choice of sparse points
POOL = 20_000
#: dimensions of the fingerprint by which frames are put into folds
FINGERPRINT = 48
#: candidate environments per channel whose variance sets the domain limit
DOMAIN_SAMPLE = 2000


def choose_terms(terms: Any, data: TrainingSet, sparse: Any = "auto") -> tuple[Term, ...]:
    """The given terms for the species of the training set; ``"auto"``: :func:`default_terms`.

    ``sparse`` changes number and selection of sparse points as ``gapkit.GAP`` documents.
    """
    if isinstance(terms, str):
        if terms != "auto":
            raise SettingsError(f"terms must be 'auto' or a list of gapkit.Term, not {terms!r}")
        bonded = [f.atoms for f, t in zip(data.frames, data.targets, strict=True) if not t.isolated]
        terms = default_terms(bonded[:: max(1, len(bonded) // 200)], data.n_rows)
    terms = tuple(terms)
    if not terms or not all(isinstance(t, Term) for t in terms):
        raise SettingsError("terms must be 'auto' or a list of one or more gapkit.Term")
    changes = sparse_settings(sparse)
    described = [t.with_descriptor(t.descriptor.for_species(data.species)) for t in terms]
    return tuple(t if isinstance(t.descriptor, PairDistance) else replace(t, **changes) for t in described)


def sparse_settings(sparse: Any) -> dict[str, Any]:
    """``sparse`` of ``gapkit.GAP`` as changes to a term."""
    if isinstance(sparse, Mapping):
        unknown = set(sparse) - {"n", "selection"}
        if unknown:
            raise SettingsError(f"sparse has the keys n and selection, not {', '.join(sorted(map(str, unknown)))}")
        return {"n_sparse" if k == "n" else k: v for k, v in sparse.items()}
    if isinstance(sparse, str):
        return {} if sparse == "auto" else {"selection": sparse}
    if isinstance(sparse, int | np.integer) and not isinstance(sparse, bool):
        return {"n_sparse": int(sparse)}
    raise SettingsError(f"sparse must be 'auto', a number, the name of a selection or a table, not {sparse!r}")


class Reservoir:
    """A bounded uniform sample of a stream of feature vectors (Vitter, ACM Trans. Math. Softw. 11, 37 (1985))."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.kept: list[np.ndarray] = []
        self.seen = 0

    def add(self, x: np.ndarray) -> None:
        """Offer the rows of ``x``."""
        for row in x:
            self.seen += 1
            if len(self.kept) < self.size:
                self.kept.append(row.copy())
            else:
                place = int(self.rng.integers(self.seen))
                if place < self.size:
                    self.kept[place] = row.copy()

    def features(self) -> np.ndarray:
        """The sample (c, f)."""
        return np.array(self.kept)


@dataclass(frozen=True)
class Pool:
    """Candidates for sparse points, per term and channel, and a fingerprint per frame."""

    candidates: dict[tuple[int, Channel], np.ndarray]
    seen: dict[tuple[int, Channel], int]
    fingerprints: np.ndarray


def gather_pool(data: TrainingSet, terms: Sequence[Term], rng: np.random.Generator, bar: Callable[..., Any]) -> Pool:
    """One pass over the frames: a bounded sample of environments and each frame's mean descriptor."""
    r_cut = max(t.descriptor.r_cut for t in terms)
    reservoirs: dict[tuple[int, Channel], Reservoir] = {}
    widest = max(range(len(terms)), key=lambda k: isinstance(terms[k].descriptor, SOAP))
    projections: dict[Channel, np.ndarray] = {}
    project = np.random.default_rng(20)
    fingerprints = np.zeros((len(data.frames), FINGERPRINT))
    for n, frame in enumerate(bar(data.frames, desc="descriptors", unit="frame")):
        structure = Structure(frame.atoms, r_cut)
        pairs = structure.pairs(r_cut)
        check_distances(pairs.distances, pairs.i, pairs.j, f"frame {frame.index}")
        for k, term in enumerate(terms):
            for channel in term.descriptor.channels:
                x = term.descriptor.environments(structure, channel, derivatives=False).x
                if len(x) == 0:
                    continue
                reservoirs.setdefault((k, channel), Reservoir(POOL, rng)).add(x)
                if k == widest:
                    if channel not in projections:
                        projections[channel] = project.normal(size=(x.shape[1], FINGERPRINT))
                    fingerprints[n] += x.sum(axis=0) @ projections[channel] / frame.n_atoms
    return Pool(
        {key: r.features() for key, r in reservoirs.items()},
        {key: r.seen for key, r in reservoirs.items()},
        fingerprints,
    )


def choose_sparse_points(
    pool: Pool, terms: Sequence[Term], rng: np.random.Generator, bar: Callable[..., Any]
) -> SparseBasis:
    """Sparse points of every channel, in proportion to the square root of its environments, at least ten each."""
    chosen: list[tuple[int, Descriptor, Kernel, Channel, np.ndarray]] = []
    for key in bar(sorted(pool.candidates), desc="sparse points", unit="channel"):
        k, channel = key
        term = terms[k]
        share = {c: np.sqrt(n) for (other, c), n in pool.seen.items() if other == k}
        n = max(10, round(term.n_sparse * share[channel] / sum(share.values())))
        candidates = pool.candidates[key]
        index = selection(term.selection)(candidates, term.kernel, n, rng)
        chosen.append((k, term.descriptor, term.kernel, channel, candidates[index]))
    return SparseBasis.build(chosen, len(terms))


def domain_variance(pool: Pool, basis: SparseBasis, posterior: Posterior, calibration: Calibration) -> float:
    """Largest calibrated variance (eV^2, no noise) of a local function among a sample of training environments.

    Of SOAP terms; of all terms where there is none.
    """
    blocks = [b for b in basis.blocks if isinstance(b.descriptor, SOAP)] or list(basis.blocks)
    energy = calibration.of("energy")
    largest = 0.0
    for b in blocks:
        x = pool.candidates[b.term, b.channel][:DOMAIN_SAMPLE]
        K = np.zeros((len(x), basis.n_columns))
        t = b.kernel.argument(b.kernel.scale(x), b.points)
        kernel_functions.apply(b.kernel.function, b.kernel.parameter, t, t, np.empty_like(t))
        K[:, b.columns] = t
        prior = np.zeros((len(x), basis.n_terms))
        prior[:, b.term] = b.kernel.diagonal(x)
        largest = max(largest, float(energy.latent(*posterior.variances(basis.whiten(K), prior)).max()))
    return largest
