"""A small model that predicts each frame's labels from all other frames.

Few sparse points of coarse descriptors do: labels that contradict all others need no fine ones. Rows of all labels are
kept, so that the posterior without any frame, or any label kind, costs little (:mod:`gapkit.models.left_out`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gapkit.fitting.candidates import choose_sparse_points, gather_pool
from gapkit.fitting.default_terms import starting_levels
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.left_out import Key, KindRows, LeftOutFrames
from gapkit.models.levels import Levels
from gapkit.models.observations import Observations, informative, observations
from gapkit.models.terms import Term
from gapkit.numerics.threads import map_blocks
from gapkit.progress import quiet
from gapkit.structures.structure import Structure

#: label kinds, in the order in which a suspicious frame's are borne out: forces are many, and tell the most
KINDS = ("forces", "energy", "virial")
#: sparse points of the model that judges, and force labels that it keeps, about
SPARSE, FORCE_LABELS = 200, 20_000
#: most radial functions, and degrees, of its descriptors: a label that contradicts all others needs no fine ones
COARSE = 5
#: signal over noise is this many times larger than at the start of the search for levels: a stiff model cannot tell
#: labels that bear each other out
LOOSER = 10.0
#: prior standard deviation (eV) of the energy per atom of each species, which a wrong energy would shift
COMPOSITION = 10.0


@dataclass(frozen=True)
class KindPlaces:
    """Places (n,) of the labels that the rows of a frame and label kind stand for, and the unit of their errors."""

    places: np.ndarray
    scale: float


class JudgingModel:
    """Rows of the frames of a training set under a small model that predicts each from all others.

    Parameters
    ----------
    data
        Training set in its order.
    judged
        Places of the frames that are judged.
    terms
        Terms of the fit; those of this model have fewer sparse points and coarser descriptors.
    n_threads
        Threads.
    progress_bar
        Makes a progress bar.

    Attributes
    ----------
    rows : LeftOutFrames
        Rows over their noise, by place of the frame and label kind.
    kinds : dict
        By the same keys, :class:`KindPlaces`.
    of_kind : dict
        By label kind, places of the judged frames that have it.
    n_columns : int
        Columns of the sparse points; those behind are the energies of the species.
    fingerprints : (frames, features)
        Mean descriptor of each frame of the training set.
    """

    def __init__(
        self,
        data: TrainingSet,
        tested: Sequence[int],
        terms: Sequence[Term],
        n_threads: int,
        progress_bar: Callable[..., Any],
    ) -> None:
        self.data = data
        terms = [
            replace(
                t.with_descriptor(t.descriptor.reshaped(1.0, 0, 1.0, COARSE)),
                n_sparse=min(t.n_sparse, SPARSE),
                selection="greedy",
            )
            for t in terms
        ]
        rng = np.random.default_rng(0)
        pool = gather_pool(data, terms, rng, quiet(progress_bar))
        basis = choose_sparse_points(pool, terms, rng, quiet(progress_bar))
        levels = _robust_levels(data, tested, terms)
        self.noise = levels.noise
        self.kinds: dict[Key, KindPlaces] = {}
        rows = self._rows(basis, tested, n_threads, progress_bar)
        precision = np.concatenate(
            [levels.signal[basis.column_terms()] ** -2.0, np.full(len(data.species), COMPOSITION**-2.0)]
        )
        self.rows, self.n_columns = LeftOutFrames(rows, precision), basis.n_columns
        self.fingerprints = pool.fingerprints
        self.of_kind = {kind: [k for k in tested if (k, kind) in rows] for kind in KINDS}

    def _rows(
        self, basis: SparseBasis, tested: Sequence[int], n_threads: int, progress_bar: Callable[..., Any]
    ) -> dict[Key, KindRows]:
        """Whitened rows of all frames over their noise; energies know the composition too."""
        data = self.data
        forces = sum(t.forces.size for t in data.targets if t.forces is not None)
        every = max(1, -(-forces // FORCE_LABELS))
        progress = progress_bar(total=len(tested), desc="screening", unit="frame")

        def of_frame(k: int) -> list[tuple[Key, KindPlaces, KindRows]]:
            targets, structure = data.targets[k], Structure(data.frames[k].atoms, basis.r_cut)
            rows = basis.rows(structure, derivatives=targets.derivatives, prior=False)
            kept = [self._kept(basis, k, o, every) for o in observations(targets, rows, variances=False)]
            progress.update()
            return [(key, kind, of_kind) for key, kind, of_kind in kept if len(of_kind.y)]

        rows = {}
        for per_frame in map_blocks(of_frame, tested, n_threads):
            for key, kind, kept in per_frame:
                self.kinds[key], rows[key] = kind, kept
        progress.close()
        return rows

    def _kept(self, basis: SparseBasis, k: int, o: Observations, every: int) -> tuple[Key, KindPlaces, KindRows]:
        """Rows of one label kind that are judged: of large sets the forces on each ``every``-th atom.

        Derivatives that say nothing of the weights, since symmetry fixes them, have no rows.
        """
        n = self.data.targets[k].n_atoms
        places = np.zeros(1, dtype=np.int64) if o.places is None else o.places
        kept = np.ones(len(places), dtype=bool)
        if o.group == "forces" and every > 1:
            kept = places // 3 % max(1, min(every, n // 4)) == 0
        sigma = self.noise[o.group]
        A = np.zeros((int(kept.sum()), basis.n_columns + len(self.data.species)))
        A[:, : basis.n_columns] = basis.whiten(o.K[kept])
        y, places = o.y[kept] / sigma, places[kept]
        if o.group == "energy":
            numbers = self.data.frames[k].atoms.numbers
            count = np.array([np.count_nonzero(numbers == z) for z in self.data.species])
            A[0, basis.n_columns :] = count / np.sqrt(n)
        else:
            known = informative(np.sum(A**2, axis=1, keepdims=True) / o.scale**2)
            A, y, places = A[known], y[known], places[known]
        return (k, o.group), KindPlaces(places, sigma * o.scale), KindRows(A / sigma, y)


def _robust_levels(data: TrainingSet, tested: Sequence[int], terms: Sequence[Term]) -> Levels:
    """Levels to judge by: those that the search starts from, by a frame of median forces, with less noise."""
    sizes = [
        (float(np.sqrt(np.mean(np.square(t.forces)))), k) for k in tested if (t := data.targets[k]).forces is not None
    ]
    if sizes:
        typical = [data.targets[sorted(sizes)[len(sizes) // 2][1]]]
    else:
        spread = sorted(tested, key=lambda k: (data.targets[k].energy or 0.0) / data.targets[k].n_atoms)
        typical = [data.targets[k] for k in spread[len(spread) // 10 : len(spread) - len(spread) // 10]]
    levels, _ = starting_levels(typical, terms, KINDS)
    return replace(levels, noise={kind: sigma / LOOSER for kind, sigma in levels.noise.items()})
