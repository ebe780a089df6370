"""Which candidates to label next: one small class per strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import ase
import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.gap import GAP
from gapkit.potential.model import Potential


class Candidates:
    """Candidate frames and what the current model knows of them.

    Parameters
    ----------
    potential
        The current model.
    frames
        At least one frame.
    """

    def __init__(self, potential: Potential, frames: Sequence[ase.Atoms]) -> None:
        self.potential = potential
        self.frames = list(frames)

    @classmethod
    def of(cls, gap: GAP, frames: Sequence[ase.Atoms]) -> Candidates:
        """For a fitted model."""
        return cls(gap.potential_, frames)

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def local_std(self) -> list[np.ndarray]:
        """Standard deviations (n,) of each frame's local energies (eV), without noise."""
        p = self.potential
        return [p.local_spread(p.structure(a, f"candidate {k}"), noise=False) for k, a in enumerate(self.frames)]

    @cached_property
    def largest_std(self) -> np.ndarray:
        """The largest of them, per frame (frames,)."""
        return np.array([std.max() for std in self.local_std])

    def knowledge(self) -> list[np.ndarray]:
        """Per frame, R^-T delta a (m, n) of its local energies: their products are the covariances of the weights."""
        p, out = self.potential, []
        with limited_threads(p.n_jobs), blas_threads(thread_count()):
            for k, atoms in enumerate(self.frames):
                rows = p.basis.local_rows(p.structure(atoms, f"candidate {k}"))
                out.append(p.posterior.half_rows(p.basis.whiten(rows.K)))
        return out


class Acquisition(Protocol):
    """Chooses at most ``n`` candidates; returns their places, best first."""

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]: ...


@dataclass(frozen=True)
class RandomChoice:
    """Uniformly random candidates: what every other strategy is compared with."""

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        return [int(k) for k in rng.permutation(len(candidates))[:n]]


@dataclass(frozen=True)
class MaximumVariance:
    """The frames whose least known atom is least known; it may choose near-copies."""

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        return [int(k) for k in np.argsort(-candidates.largest_std, kind="stable")[:n]]


@dataclass(frozen=True)
class AtomThreshold:
    """Frames with atoms beyond ``factor`` times the domain limit, those with the most of them first.

    See :meth:`gapkit.potential.model.Potential.domain_limit`. Frames within the domain are not chosen at all.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < np.inf:
            raise SettingsError(f"factor must be positive, not {self.factor}")

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        limit = self.factor * candidates.potential.domain_limit(noise=False)
        beyond = np.array([int(np.sum(std > limit)) for std in candidates.local_std])
        order = np.lexsort((-candidates.largest_std, -beyond))
        return [int(k) for k in order[:n] if beyond[k] > 0]


@dataclass(frozen=True)
class DOptimal:
    r"""The batch whose local energies, taken together, tell most about the weights.

    Greedy: each step takes the frame of largest :math:`\log\det(1 + H^T H / s^2)`, where H (m, n) are the rows of its
    local energies given the data and the frames taken before (:meth:`Candidates.knowledge`), and then conditions all
    others on it, so that a near-copy of a chosen frame has little left to tell. Chaloner and Verdinelli, Stat. Sci. 10,
    273 (1995), sec. 2.2.

    Attributes
    ----------
    noise : float or None
        s, the error (eV) that a local energy is taken to be measured with; None: the root mean square of the
        candidates' own deviations, so that frames are compared where it matters.
    per_atom : bool
        Divide by the number of atoms: information for the cost of a label that grows with the frame.
    """

    noise: float | None = None
    per_atom: bool = False

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        known = candidates.knowledge()
        s = self.noise
        if s is None:
            s = float(np.sqrt(np.mean(np.concatenate([np.einsum("mn,mn->n", H, H) for H in known])))) or 1.0
        known = [H / s for H in known]
        cost = np.array([H.shape[1] if self.per_atom else 1 for H in known])
        left, chosen = list(range(len(known))), []
        while left and len(chosen) < n:
            gain = np.array([np.linalg.slogdet(np.eye(known[k].shape[1]) + known[k].T @ known[k])[1] for k in left])
            best = left[int(np.argmax(gain / cost[left]))]
            chosen.append(best)
            left.remove(best)
            if len(chosen) < n:
                condition(known, best, left)
        return chosen


def condition(known: list[np.ndarray], on: int, others: Sequence[int]) -> None:
    """Replace H of ``others`` by (1 + H_on H_on^T)^(-1/2) H: what is left to learn once ``on`` is known."""
    U, sizes, _ = np.linalg.svd(known[on], full_matrices=False)
    shrink = 1.0 - (1.0 + sizes**2) ** -0.5
    for k in others:
        known[k] = known[k] - U @ (shrink[:, None] * (U.T @ known[k]))
