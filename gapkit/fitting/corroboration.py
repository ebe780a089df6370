"""Tests of whether the labels of a frame support each other: those of an unusual frame do, wrong labels do not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from gapkit.models.left_out import Key, LeftOutFrames

#: labels are borne out where those of the frame that are known make their error smaller by this factor: the forces on
#: half of the atoms those of the other half, labels that stand those that are suspicious
SMALLER = 2.0
#: two suspicious label kinds bear each other out where either makes the error of the other smaller by this factor
MUTUALLY = 3.0
#: a label kind that made another's error larger by this factor is contradicted
WORSE = 3.0
#: labels whose error falls to this share where they are known lie where no other frame has a say
#: and the error is no more than so many posterior standard deviations
UNSEEN, PRIOR_ERRORS = 0.02, 5.0
#: an error below this share of the labels' size may be a misfit rather than a mistake
MISFIT = 0.1


class Corroboration:
    """Label kinds of one suspicious frame, and errors of each as predicted by the others.

    Parameters
    ----------
    model
        Rows of all frames.
    frame
        The frame.
    aside
        Label kinds of frames that have no part in any posterior.
    errors
        By label kind, errors (n,) under the posterior without the frame, in units of the noise.
    allowed
        By label kind, the root-mean-square error that would not be suspicious.
    deviations
        By label kind, the posterior standard deviation of a label without the frame, in units of the noise.
    sizes
        By label kind, the size of what the model explains, in units of the noise.
    atoms : (n,) int
        Atom of each force label.
    """

    def __init__(
        self,
        model: LeftOutFrames,
        frame: int,
        aside: Collection[Key],
        errors: Mapping[str, np.ndarray],
        allowed: Mapping[str, float],
        deviations: Mapping[str, float],
        sizes: Mapping[str, float],
        atoms: np.ndarray,
    ) -> None:
        self.model, self.frame, self.aside = model, frame, aside
        self.errors, self.allowed, self.deviations = errors, allowed, deviations
        self.sizes, self.atoms = sizes, atoms

    def not_borne_out(self, suspicious: Sequence[str]) -> list[str]:
        """Label kinds among the ``suspicious`` ones that the frame's other labels contradict, or do not support."""
        suspicious = [kind for kind in suspicious if not self._unseen(kind)]
        if len(suspicious) > 1 and all(map(self._misfit, suspicious)):
            return []  # a function that the model cannot follow there shows in several labels at once
        accepted = [kind for kind in self.errors if kind not in suspicious]
        if "forces" not in suspicious or self._contradicted("forces", accepted) or not self._forces_stand():
            return self._left(list(suspicious), accepted)
        rest = [kind for kind in suspicious if kind != "forces"]
        left = self._left(rest, [*accepted, "forces"])
        # forces that go with none of the suspicious labels beside them are another frame's
        return list(suspicious) if rest and len(left) == len(rest) else left

    def _left(self, left: list[str], accepted: list[str]) -> list[str]:
        """Label kinds of ``left`` that are not supported once the ``accepted`` ones are known."""
        while left:
            now = self._given(accepted)
            stand = [kind for kind in left if now[kind] <= self._allowed_given(kind)] or self._pair(left, accepted, now)
            if not stand:
                break
            left = [kind for kind in left if kind not in stand]
            accepted = [*accepted, *stand]
        return left

    def _given(self, known: Sequence[str]) -> dict[str, float]:
        """Root-mean-square errors by label kind where the kinds ``known`` of the frame are known."""
        found = self.model.errors_given(self.frame, {kind: slice(None) for kind in known}, self.aside)
        return {kind: _rms(error) for kind, error in found.items()}

    def _allowed_given(self, kind: str) -> float:
        """Error of a suspicious kind, where other labels of the frame are known, that lets it stand."""
        return max(self.allowed[kind], _rms(self.errors[kind]) / SMALLER)

    def _contradicted(self, kind: str, accepted: Sequence[str]) -> bool:
        """Whether knowing ``kind`` makes an accepted kind suspicious."""
        with_it = self._given([kind])
        return any(with_it[other] > max(self.allowed[other], WORSE * _rms(self.errors[other])) for other in accepted)

    def _unseen(self, kind: str) -> bool:
        """Whether no other frame has a say: the model follows the labels at once where they are known, and their errors
        are not beyond the prior's posterior standard deviations."""
        error = _rms(self.errors[kind])
        return error < PRIOR_ERRORS * self.deviations[kind] and self._given([kind])[kind] < UNSEEN * error

    def _misfit(self, kind: str) -> bool:
        """Whether an error is small beside the labels themselves."""
        return _rms(self.errors[kind]) < MISFIT * self.sizes[kind]

    def _forces_stand(self) -> bool:
        """Whether the forces on each half of the atoms bear out the other half, or err by a misfit's share only."""
        error = self.errors["forces"]
        if self._misfit("forces"):
            return True
        half = np.isin(self.atoms, np.unique(self.atoms)[::2])
        if half.all():
            return False
        before = after = 0.0
        for known in (half, ~half):
            found = self.model.errors_given(self.frame, {"forces": np.flatnonzero(known)}, self.aside)["forces"]
            before += float(np.sum(error[~known] ** 2))
            after += float(np.sum(found[~known] ** 2))
        return after * SMALLER**2 < before

    def _pair(self, left: Sequence[str], accepted: Sequence[str], now: Mapping[str, float]) -> list[str]:
        """Two label kinds that bear each other out; none where there are no such two."""
        for place, one in enumerate(left):
            for other in left[place + 1 :]:
                with_one, with_other = self._given([*accepted, one]), self._given([*accepted, other])
                if with_one[other] * MUTUALLY < now[other] and with_other[one] * MUTUALLY < now[one]:
                    return [one, other]
        return []


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
