"""Strategies that choose the candidates to label next, one small class each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import ase
import numpy as np
import scipy.linalg

from gapkit.estimators.gap import GAP
from gapkit.exceptions import SettingsError
from gapkit.models.levels import kind_of
from gapkit.numerics.threads import blas_threads, limited_threads, thread_count
from gapkit.potential.potential import Potential


class Candidates:
    """Candidate frames, with the predictions of the current model about them.

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
        """Candidates as a fitted model sees them."""
        return cls(gap.potential_, frames)

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def local_std(self) -> list[np.ndarray]:
        """Standard deviations (n,) of each frame's local energies (eV), without noise."""
        names = [f"candidate {k}" for k in range(len(self.frames))]
        return self.potential.local_std_many(self.frames, include_noise=False, names=names)

    @cached_property
    def largest_std(self) -> np.ndarray:
        """Largest standard deviation of a local energy of each frame (frames,), in eV."""
        return np.array([std.max() for std in self.local_std])

    def knowledge(self) -> list[np.ndarray]:
        """Columns R^-T delta a (m, n) of each frame's local energies; their products are posterior covariances."""
        p, out = self.potential, []
        with limited_threads(p.n_jobs), blas_threads(thread_count()):
            for k, atoms in enumerate(self.frames):
                rows = p.basis.local_rows(p.structure(atoms, f"candidate {k}"))
                out.append(p.posterior.half_rows(p.basis.whiten(rows.K)))
        return out

    def force_knowledge(self, most: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
        """Per frame, R^-T delta a (m, n) of force components, and the share of its components that are among them.

        Parameters
        ----------
        most
            Components per frame at most; of larger frames as many are drawn at random.
        """
        p, out, share = self.potential, [], []
        with limited_threads(p.n_jobs), blas_threads(thread_count()):
            for k, atoms in enumerate(self.frames):
                K = p.basis.rows(p.structure(atoms, f"candidate {k}"), prior=False).K[1 : 1 + 3 * len(atoms)]
                pick = np.sort(rng.permutation(len(K))[:most])
                out.append(p.posterior.half_rows(p.basis.whiten(K[pick])))
                share.append(len(pick) / len(K))
        return out, np.array(share)


class Acquisition(Protocol):
    """Chooses at most ``n`` candidates; returns their places, best first."""

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]: ...


@dataclass(frozen=True)
class RandomChoice:
    """Choice of uniformly random candidates, with which every other strategy is compared."""

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        return [int(k) for k in rng.permutation(len(candidates))[:n]]


@dataclass(frozen=True)
class MaximumVariance:
    """Choice of the frames with the most uncertain atom; the chosen frames may be near-copies."""

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        return [int(k) for k in np.argsort(-candidates.largest_std, kind="stable")[:n]]


@dataclass(frozen=True)
class AtomThreshold:
    """Frames with atoms beyond ``factor`` times the domain limit, those with the most of them first.

    See :meth:`gapkit.potential.potential.Potential.domain_limit`. Frames within the domain are not chosen at all.
    """

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < np.inf:
            raise SettingsError(f"factor must be positive, not {self.factor}")

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        limit = self.factor * candidates.potential.domain_limit(include_noise=False)
        beyond = np.array([int(np.sum(std > limit)) for std in candidates.local_std])
        order = np.lexsort((-candidates.largest_std, -beyond))
        return [int(k) for k in order[:n] if beyond[k] > 0]


@dataclass(frozen=True)
class DOptimal:
    r"""Choice of the batch whose local energies, taken together, reduce the entropy of the weights most.

    Greedy: each step takes the frame of largest :math:`\log\det(1 + H^T H / s^2)`, where H (m, n) are the rows of its
    local energies given the data and the frames taken before (:meth:`Candidates.knowledge`), and then conditions all
    others on it, so that a near-copy of a chosen frame has little left to tell. Chaloner and Verdinelli, Stat. Sci. 10,
    273 (1995), sec. 2.2.

    Attributes
    ----------
    noise : float or None
        s, the error (eV) that a local energy is taken to be measured with; None: the root mean square of the
        candidates' own standard deviations, so that frames are compared where it matters.
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
        left, chosen = list(range(len(known))), list[int]()
        while left and len(chosen) < n:
            gain = np.array([np.linalg.slogdet(np.eye(known[k].shape[1]) + known[k].T @ known[k])[1] for k in left])
            best = left[int(np.argmax(gain / cost[left]))]
            chosen.append(best)
            left.remove(best)
            if len(chosen) < n:
                condition(known, best, left)
        return chosen


@dataclass(frozen=True)
class VarianceReduction:
    r"""Choice of the batch whose forces, once known, leave the least variance in the forces of all candidates.

    Greedy: each step takes the frame j that lowers the mean variance of the candidates' force components most. With H
    (m, n) the rows of a frame's forces given the data and the frames taken before, and T those of a sample of all
    frames' components, the variance falls by :math:`\mathrm{tr}[(s^2 + H_j^T H_j)^{-1} H_j^T T T^T H_j]`: a frame
    pays by what it tells of all candidates, itself included, not by how strange it is (Cohn, Ghahramani and Jordan, J.
    Artif. Intell. Res. 4, 129 (1996)).

    Attributes
    ----------
    noise : float or None
        s, the error of a force label (eV/A); None: the noise level of the fit.
    most : int
        Force components per frame that stand for all of them.
    targets : int
        Force components per frame among the targets T.
    per_atom : bool
        Divide by the number of atoms, for labels whose cost grows with the frame.
    """

    noise: float | None = None
    most: int = 96
    targets: int = 12
    per_atom: bool = False

    def __call__(self, candidates: Candidates, n: int, rng: np.random.Generator) -> list[int]:
        known, share = candidates.force_knowledge(self.most, rng)
        s = self.noise if self.noise is not None else _force_noise(candidates.potential)
        # a sampled component stands for 1 / share of its like
        known = [H / (s * np.sqrt(f)) for H, f in zip(known, share, strict=True)]
        aims = [np.sqrt(f / H.shape[1]) * H for H, f in zip(known, share, strict=True)]
        T = np.hstack([H[:, rng.permutation(H.shape[1])[: self.targets]] for H in aims])
        cost = np.array([len(a) if self.per_atom else 1 for a in candidates.frames])
        left, chosen = list(range(len(known))), list[int]()
        while left and len(chosen) < n:
            covariance = T @ T.T
            gain = np.array([self._gain(known[k], covariance) for k in left])
            best = left[int(np.argmax(gain / cost[left]))]
            chosen.append(best)
            left.remove(best)
            if len(chosen) < n:
                known.append(T)
                condition(known, best, [*left, len(known) - 1])
                T = known.pop()
        return chosen

    @staticmethod
    def _gain(H: np.ndarray, covariance: np.ndarray) -> float:
        """Fall of the summed target variance once the rows ``H`` (m, n) are known with unit noise."""
        factor = scipy.linalg.cho_factor(np.eye(H.shape[1]) + H.T @ H, check_finite=False)
        return float(np.trace(scipy.linalg.cho_solve(factor, H.T @ (covariance @ H), check_finite=False)))


def _force_noise(potential: Potential) -> float:
    """Largest noise level of forces (eV/A) in the fit."""
    levels = [s for group, s in potential.noise_levels.items() if kind_of(group) == "forces"]
    if not levels:
        raise SettingsError("the model was fitted without forces: give VarianceReduction a noise (eV/A)")
    return max(levels)


def condition(known: list[np.ndarray], on: int, candidates: Sequence[int]) -> None:
    """Replace H of ``candidates`` by (1 + H_on H_on^T)^(-1/2) H: the columns once the labels of ``on`` are known."""
    U, sizes, _ = np.linalg.svd(known[on], full_matrices=False)
    shrink = 1.0 - (1.0 + sizes**2) ** -0.5
    for k in candidates:
        known[k] = known[k] - U @ (shrink[:, None] * (U.T @ known[k]))
