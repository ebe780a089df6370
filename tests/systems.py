"""Small models and frames that several tests share; labels are made up where only algebra is tested."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from ase import Atoms

from gapkit.descriptors import SOAP, PairDistance, Triplet
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.basis import SparseBasis
from gapkit.models.observations import Observations, Targets, observations
from gapkit.models.sparse_points import pivoted_cholesky
from gapkit.models.triangles import Triangles
from gapkit.structures.structure import Structure
from tests.numerical import random_cluster, skewed_crystal


def frames(n: int, seed: int = 0, symbols: str = "SiOSi"):
    """Clusters and small skewed crystals in turn."""
    rng = np.random.default_rng(seed)
    return [random_cluster(symbols, rng, 1.5, 2.2) if k % 2 else skewed_crystal(symbols, rng) for k in range(n)]


def small_basis(sample, n_sparse: int = 6, seed: int = 1) -> SparseBasis:
    """Pair, triplet and SOAP terms with a few sparse points each, taken from ``sample``."""
    rng = np.random.default_rng(seed)
    species = sorted({int(z) for a in sample for z in a.numbers})
    terms = [
        (PairDistance(3.6, 0.8).for_species(species), SquaredExponential(0.7)),
        (Triplet(3.0, 0.8).for_species(species), SquaredExponential((1.0, 1.5, 1.0))),
        (SOAP(r_cut=3.8, n_max=4, l_max=3).for_species(species), DotProduct(3)),
    ]
    chosen = []
    for k, (descriptor, kernel) in enumerate(terms):
        for channel in descriptor.channels:
            x = np.vstack([descriptor.environments(Structure(a, 3.8), channel, derivatives=False).x for a in sample])
            if len(x):
                # well-conditioned, so that explicit inverses in the tests' dense formulas keep their digits
                x = rng.permutation(x)
                pick, _ = pivoted_cholesky(x, kernel, n_sparse, tolerance=1e-3)
                chosen.append((k, descriptor, kernel, channel, x[pick]))
    return SparseBasis.build(chosen, len(terms))


def made_up_targets(sample, seed: int = 2) -> list[Targets]:
    """Random labels, some of them missing."""
    rng = np.random.default_rng(seed)
    targets = []
    for k, atoms in enumerate(sample):
        targets.append(
            Targets(
                energy=float(rng.normal()) if k % 5 != 4 else None,
                forces=rng.normal(size=(len(atoms), 3)) if k % 4 != 3 else None,
                virial=rng.normal(size=6) if atoms.pbc.all() else None,
                n_atoms=len(atoms),
                config_type="crystal" if atoms.pbc.all() else "cluster",
            )
        )
    return targets


def all_observations(basis, sample, targets, separate_groups=()):
    """Observations of every frame: list of (frame index, Observations)."""
    made = []
    for n, (atoms, t) in enumerate(zip(sample, targets, strict=True)):
        rows = basis.rows(basis.structure(atoms), derivatives=t.derivatives)
        made.extend((n, o) for o in observations(t, rows, separate_groups))
    return made


def triangles_of(basis, made, folds) -> Triangles:
    """Streaming triangles of these observations."""
    triangles = Triangles(basis.n_columns, basis.n_terms)
    for n, o in made:
        triangles.update(basis.whiten(o.K), o.y, o.prior, o.group, int(folds[n]), len(o.y) * np.log(o.scale))
    return triangles


@dataclass(frozen=True)
class SmallModel:
    """Some frames and the basis of their sparse points; labels, folds and triangles are made when first asked for."""

    frames: list[Atoms]
    basis: SparseBasis

    @cached_property
    def observations(self) -> list[tuple[int, Observations]]:
        """Made-up observations of all frames."""
        return all_observations(self.basis, self.frames, made_up_targets(self.frames))

    @cached_property
    def folds(self) -> np.ndarray:
        """(n_frames,) Frames are dealt to three folds in turn."""
        return np.arange(len(self.frames)) % 3

    @cached_property
    def triangles(self) -> Triangles:
        """Triangles of all observations in three folds."""
        return triangles_of(self.basis, self.observations, self.folds)

    @cached_property
    def terms(self) -> np.ndarray:
        """(n_columns,) Term of each column."""
        return self.basis.column_terms()


@cache
def small_model(n_frames: int) -> SmallModel:
    """The model of ``frames(n_frames)``; tests share it and do not change it."""
    sample = frames(n_frames)
    return SmallModel(sample, small_basis(sample))
