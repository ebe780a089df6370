"""Labels of an active search for a saddle: their oracle, the model of them, and frames within its domain."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import ase
import numpy as np
from sklearn.base import clone

from gapkit.active.labelling import LabelStore, label_frames
from gapkit.estimators.gap import GAP
from gapkit.exceptions import GapkitError, GapkitWarning, SettingsError
from gapkit.sampling.paths.ends import minimum_image

#: length (A) that a frame on the way to another one moves at least
LEAST_MOVE = 0.1
#: shares of the way that are tried
_SHARES = 6


class Labeller:
    """Labels of frames by an oracle, each asked for once and kept in a folder.

    Parameters
    ----------
    make_oracle
        Returns a new ASE calculator.
    store
        Folder of the labels.

    Attributes
    ----------
    frames : list of ase.Atoms
        Labelled frames, without constraints, in the order in which they were asked for.
    calls : int
        Calls of the oracle, failed ones included; labels that the folder had already are not among them.
    failures : list of str
        Reasons of failed labels.
    """

    def __init__(self, make_oracle: Callable[[], Any], store: LabelStore) -> None:
        if not callable(make_oracle):
            raise SettingsError(
                f"make_oracle must return a new calculator when it is called, such as ase's class EMT or "
                f"functools.partial(gapkit.oracles.oracle, 'gfn2'), not {make_oracle!r:.80}"
            )
        self._make, self._store = make_oracle, store
        self.frames: list[ase.Atoms] = []
        self.calls, self.failures = 0, list[str]()

    def __call__(self, frames: Sequence[ase.Atoms]) -> list[ase.Atoms | None]:
        """Labelled copies of the frames; None where the oracle failed."""
        self.calls += sum(atoms not in self._store for atoms in frames)
        label_frames(frames, self._make, self._store, workers=0, retries=0)
        found = [self._store.get(atoms) for atoms in frames]
        for atoms, labelled in zip(frames, found, strict=True):
            if labelled is not None:
                self.frames.append(labelled)
            else:
                self.failures.append(str(self._store.failure(atoms)))
        return found


class Learner:
    """Model of all labels so far: fitted anew to all frames, or, where a fitted model was given, updated.

    Parameters
    ----------
    model
        Unfitted, or fitted with what an update needs.
    frames
        Labelled frames that a fit begins with.
    """

    def __init__(self, model: GAP, frames: Sequence[ase.Atoms]) -> None:
        self.gap = copy.copy(model)
        self.fitted = hasattr(model, "potential_")
        if self.fitted and len(frames):
            raise SettingsError("give a fitted model or training frames: a fitted model would not learn the frames")
        self.frames = list(frames)

    @property
    def knows(self) -> bool:
        """Whether there is knowledge beside the labels of the search."""
        return self.fitted or bool(self.frames)

    def learn(self, new: Sequence[ase.Atoms]) -> GAP:
        """The model with new labelled frames."""
        self.frames += new
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GapkitWarning)  # sets of few frames are what the search begins with
            if self.fitted:
                if len(new):
                    self.gap = copy.copy(self.gap).update(new)
            else:
                self.gap = clone(self.gap).fit(self.frames)
        return self.gap


def domain_excess(gap: GAP, atoms: ase.Atoms) -> float:
    """Distance of a frame from the domain of the training frames: above 1 it is out; infinite if it has no energy."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GapkitWarning)
            std = gap.predict([atoms], uncertainty="local").local_energy_std
            assert std is not None
            return gap.potential_.domain_excess(gap.potential_.structure(atoms), std[0], True).ratio
    except GapkitError:
        return np.inf


def distance(first: ase.Atoms, second: ase.Atoms) -> float:
    """Largest displacement (A) of an atom between two frames, by the shortest way through periodic boundaries."""
    step = minimum_image(second.positions - first.positions, first)
    return float(np.linalg.norm(step, axis=1).max())


def nearest(known: Sequence[ase.Atoms], atoms: ase.Atoms) -> ase.Atoms:
    """The frame among ``known`` with the smallest :func:`distance` from ``atoms``.

    Frames with other atoms or another cell do not count; at least one frame is alike.
    """
    alike = [a for a in known if np.array_equal(a.numbers, atoms.numbers) and np.allclose(a.cell, atoms.cell)]
    return min(alike, key=lambda a: distance(a, atoms))


def frame_within(gap: GAP, known: Sequence[ase.Atoms], atoms: ase.Atoms, limit: float, longest: float) -> ase.Atoms:
    """The frame itself where the model may be trusted, else a frame on the way to it.

    A frame is trusted where no atom is further than ``longest`` (A) from its place in the nearest frame among
    ``known``, and the domain excess is at most ``limit``. The way is the straight line from that nearest frame. The
    farthest of a few frames on it that is trusted is taken; where there is none, a frame at 0.1 A.
    """
    origin = nearest(known, atoms)
    step = minimum_image(atoms.positions - origin.positions, atoms)
    length = float(np.linalg.norm(step, axis=1).max())
    if length <= longest and domain_excess(gap, atoms) <= limit:
        return atoms
    between = atoms.copy()
    far = min(1.0, longest / length)
    for share in np.linspace(far, min(LEAST_MOVE / length, far), _SHARES):
        between.set_positions(origin.positions + share * step, apply_constraint=False)
        if domain_excess(gap, between) <= limit:
            break
    return between
