"""Labels that contradict all others, found before the fit and left out of it.

One wrong label of a few dozen frames decides noise levels, error bars and reference energies of all. Every frame is
therefore judged by a small model of the other frames. A label kind of a frame is suspicious where its error, over its
posterior standard deviation, is many times that of a typical frame. The frames that are set aside are found worst
first, and judged again until nothing changes, since a bad frame spoils the errors of its neighbours.

A suspicious frame need not be a bad one: the only frame under high pressure is unlike all others too. But its labels
bear each other out. Given the forces on half of its atoms, those on the other half are predicted far better, and so are
its virial and energy. A wrong label makes the errors of the frame's other labels larger. Labels that are neither as
expected nor borne out are left out of the fit, and a warning names them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gapkit.exceptions import GapkitWarning, NumericsError
from gapkit.fitting.alike import Alike, alike
from gapkit.fitting.consistency import Consistency, check_consistency, consistencies
from gapkit.fitting.corroboration import Corroboration
from gapkit.fitting.judging_model import LOOSER, SPARSE, JudgingModel
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.left_out import Key, KindErrors
from gapkit.models.observations import Targets
from gapkit.models.terms import Term
from gapkit.numerics.threads import blas_threads
from gapkit.structures.labels import LabelledFrame
from gapkit.structures.reference_energies import reference_energies

#: fewest frames with a label of a kind: with fewer there is no typical error
FEWEST_FRAMES = 10
#: error, over that of a typical frame, beyond which a label kind of a frame is suspicious: sqrt(3 n) for n frames,
#: where one of them doubles the root-mean-square error of all, but at least and at most this
LEAST = 8.0
MOST = {"forces": 15.0, "energy": 30.0, "virial": 15.0}
#: errors (eV/A; eV per square root of atoms) below these are no faults: programs of electronic structure leave as much
NEGLIGIBLE = {"forces": 0.03, "energy": 0.005, "virial": 0.05}
#: and this many times that for a frame with nothing but an energy, which no other label can bear out
ALONE = 2.0
#: a large error is not rare where this share of the frames has it: the typical error is then at least this quantile
#: over ``TAIL``; and a config_type of so many frames has a typical error of its own
COMMON, TAIL, OWN_TYPE = 0.85, 2.5, 5
#: frames at this share of the worst error, or more, are set aside together
TOGETHER = 0.3
#: rounds of judging, at most, and of the robust fit that says where to begin
ROUNDS, START_ROUNDS = 8, 6
#: labels beyond this (eV, eV/A) have squares that overflow: they are said to be beyond all measure, and not judged
LARGEST = 1e50
#: labels that the warning spells out
SPELLED_OUT = 8


@dataclass(frozen=True)
class ScreenedLabel:
    """A label kind of one frame that was left out of the fit.

    Attributes
    ----------
    frame : int
        Position in the list that the user gave.
    kind : str
        ``energy``, ``forces`` or ``virial``.
    label, expected : float
        The label with the largest error, and what the other frames make of it: eV, or eV/A.
    place : str
        Which of the labels that is.
    z : float
        Root-mean-square error, over the posterior standard deviation, in units of that of a typical frame.
    """

    frame: int
    kind: str
    label: float
    expected: float
    place: str
    z: float

    def __str__(self) -> str:
        unit = "eV/A" if self.kind == "forces" else "eV"
        of = f" ({self.place})" if self.place else ""
        return (
            f"frame {self.frame}, {self.kind}{of}: {self.label:.6g} {unit}, expected {self.expected:.6g} {unit}, "
            f"{self.z:.0f} times the error of a typical frame"
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the label that was left out."""
        return asdict(self)


@dataclass(frozen=True)
class Findings:
    """Findings about the labels of a training set, made before the fit.

    Attributes
    ----------
    left_out : tuple of ScreenedLabel
        Labels that contradict all others.
    consistencies : tuple of Consistency
        Each label kind against what another predicts.
    scores : dict
        Out-of-fold error of each judged label kind, by the frame's position in the user's list and kind, in units of
        that of a typical frame.
    alike : tuple of Alike
        Frames with one geometry and different labels.
    """

    left_out: tuple[ScreenedLabel, ...] = ()
    consistencies: tuple[Consistency, ...] = ()
    scores: Mapping[Key, float] = field(default_factory=dict)
    alike: tuple[Alike, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the findings."""
        return {
            "left_out": [label.as_dict() for label in self.left_out],
            "consistencies": [c.as_dict() | {"points": c.points.tolist()} for c in self.consistencies],
            "scores": [[frame, kind, z] for (frame, kind), z in sorted(self.scores.items())],
            "alike": [pair.as_dict() for pair in self.alike],
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Findings:
        """Findings from the dictionary of :meth:`as_dict`."""
        return cls(
            tuple(ScreenedLabel(**label) for label in table["left_out"]),
            tuple(Consistency.from_dict(c) for c in table["consistencies"]),
            {(int(frame), str(kind)): float(z) for frame, kind, z in table["scores"]},
            tuple(Alike(**pair | {"frames": tuple(pair["frames"])}) for pair in table["alike"]),
        )


def screened(
    data: TrainingSet, terms: Sequence[Term], e0: Any, n_threads: int, progress: Callable[..., Any]
) -> tuple[TrainingSet, Findings]:
    """Training set without labels that contradict all others, and the findings; a warning names those labels.

    Parameters
    ----------
    data
        Training set in its order.
    terms
        Terms of the fit; the model that judges has fewer sparse points.
    e0
        As ``gapkit.GAP``: reference energies are found again where an energy is left out.
    n_threads
        Threads.
    progress
        Maker of progress bars.

    Raises
    ------
    DataError
        Where energies, forces and virials are no derivatives of one function, and would be under a known convention of
        units, sign or order.
    """
    found = findings(data, terms, n_threads, progress)
    check_consistency(found.consistencies)
    for sentence in (alike_line(found.alike), left_out_line(found.left_out)):
        if sentence is not None:
            warnings.warn(sentence, GapkitWarning, stacklevel=5)
    if not found.left_out:
        return data, found
    place = {frame.index: k for k, frame in enumerate(data.frames)}
    return without_labels(data, [(place[label.frame], label.kind) for label in found.left_out], e0), found


def left_out_line(labels: Sequence[ScreenedLabel]) -> str | None:
    """A sentence about labels that contradict all others; None where there are none."""
    if not labels:
        return None
    return (
        "labels that contradict those of all other frames were left out of the fit: "
        + _first([str(label) for label in labels])
        + ". Correct or remove them; if they are right, add frames like them, or give screen=False"
    )


def alike_line(pairs: Sequence[Alike]) -> str | None:
    """A sentence about frames with one geometry and different labels; None where there are none."""
    if not pairs:
        return None
    return (
        "frames with one geometry (within the cutoff) have different labels: "
        + _first([str(pair) for pair in pairs], 3)
        + ". One function cannot have both: remove the wrong ones, or fit them apart"
    )


def _first(lines: list[str], n: int = SPELLED_OUT) -> str:
    """The first lines, and how many more there are."""
    return "; ".join([*lines[:n], *([f"and {len(lines) - n} more"] if len(lines) > n else [])])


def findings(data: TrainingSet, terms: Sequence[Term], n_threads: int, progress: Callable[..., Any]) -> Findings:
    """Findings about each frame's labels, by a small model of the other frames; empty where its equations fail."""
    tested = [k for k, t in enumerate(data.targets) if not t.isolated]
    if len(tested) < 2 or max(_largest(data.targets[k]) for k in tested) > LARGEST:
        return Findings()
    try:
        with blas_threads(n_threads, SPARSE):
            judging = JudgingModel(data, tested, terms, n_threads, progress)
            labels, scores, aside = _Screening(judging).contradictions()
            slopes = consistencies(judging, aside)
    except (NumericsError, np.linalg.LinAlgError):
        return Findings()  # equations without a solution judge nobody
    named = tuple(sorted(labels, key=lambda label: (label.frame, label.kind)))
    by_frame = {(data.frames[k].index, kind): z for (k, kind), z in scores.items()}
    return Findings(named, slopes, by_frame, alike(data, judging.fingerprints))


def without_labels(data: TrainingSet, keys: Sequence[Key], e0: Any) -> TrainingSet:
    """The training set without the label kinds ``keys`` (place in the set, kind); a frame without labels is left out.

    Reference energies by least squares are found again without them.
    """
    frames, targets = list(data.frames), list(data.targets)
    for k, kind in keys:
        frames[k] = _without(frames[k], kind)
        none: dict[str, Any] = {kind: None}
        targets[k] = replace(targets[k], **none)
    kept = [k for k, t in enumerate(targets) if t.n_rows]
    reference = data.reference
    if any(kind == "energy" for _, kind in keys):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GapkitWarning)  # what there is to say was said of the whole set
            again = reference_energies(frames, data.species, e0)
        reference = replace(
            reference,
            values=reference.values | again.values,
            source=reference.source | again.source,
            open_combinations=again.open_combinations,
        )
    for k in kept:
        energy, numbers = targets[k].energy, frames[k].atoms.numbers
        if energy is not None:
            shift = data.reference.of(numbers) - reference.of(numbers)
            targets[k] = replace(targets[k], energy=energy + shift)
    return replace(
        data, frames=tuple(frames[k] for k in kept), targets=tuple(targets[k] for k in kept), reference=reference
    )


def _without(frame: LabelledFrame, kind: str) -> LabelledFrame:
    changes: dict[str, Any] = {kind: None}
    return replace(frame, **changes)


class _Screening:
    """The judgement of one training set by a small model of it."""

    def __init__(self, judging: JudgingModel) -> None:
        self.data, self.model = judging.data, judging.rows
        self.kinds, self.of_kind, self.noise = judging.kinds, judging.of_kind, judging.noise

    def contradictions(self) -> tuple[list[ScreenedLabel], dict[Key, float], set[Key]]:
        """Labels to leave out, the scores of all, and those that were set aside for judging."""
        aside, scores, errors = self._set_aside()
        suspicious: dict[int, list[str]] = {}
        for (k, kind), z in scores.items():
            if _rms(errors[k, kind].error) * self.noise[kind] < NEGLIGIBLE[kind]:
                continue
            if z > self.limit(kind) * (ALONE if self.model.kinds[k] == ["energy"] else 1.0):
                suspicious.setdefault(k, []).append(kind)
        energies = np.array([self.model.rows[k, "energy"].y[0] for k in self.of_kind["energy"]])
        middle = float(np.median(energies)) if len(energies) else 0.0
        spread = float(np.median(np.abs(energies - middle))) if len(energies) else 0.0
        found = []
        for k, kinds in suspicious.items():
            by_kind = {kind: errors[k, kind].error for kind in self.model.kinds[k]}
            allowed = {kind: _rms(e) * self.limit(kind) / max(scores[k, kind], 1e-12) for kind, e in by_kind.items()}
            atoms = self.kinds[k, "forces"].places // 3 if "forces" in by_kind else np.zeros(0, dtype=np.int64)
            deviations = {kind: float(np.sqrt(1.0 + errors[k, kind].variance.mean())) for kind in by_kind}
            sizes = {kind: _rms(self.model.rows[k, kind].y) for kind in by_kind}
            if "energy" in by_kind:
                sizes["energy"] = max(spread, abs(float(self.model.rows[k, "energy"].y[0] - middle)))
            frame = Corroboration(self.model, k, aside, by_kind, allowed, deviations, sizes, atoms)
            for kind in frame.not_borne_out(kinds):
                found.append(self._screened(k, kind, by_kind[kind], scores[k, kind]))
        return found, scores, aside

    def limit(self, kind: str) -> float:
        """Score beyond which a label kind is suspicious; infinite where there are too few frames with it."""
        n = len(self.of_kind[kind])
        return float(np.clip(np.sqrt(3 * n), LEAST, MOST[kind])) if n >= FEWEST_FRAMES else np.inf

    def _set_aside(self) -> tuple[set[Key], dict[Key, float], dict[Key, KindErrors]]:
        """Label kinds without a part in the posterior, worst first until nothing changes; scores and errors then."""
        aside = self._start()
        for _ in range(ROUNDS):
            errors = self.model.errors(aside)
            scores = self._scores(errors)
            beyond = {key: z for key, z in scores.items() if z > LEAST and np.isfinite(self.limit(key[1]))}
            fresh = {key: z for key, z in beyond.items() if key not in aside}
            worst = max(fresh.values(), default=0.0)
            now = (aside & set(beyond)) | {key for key, z in fresh.items() if z >= TOGETHER * worst}
            if now == aside:
                break
            aside = now
        return aside, scores, errors

    def _start(self) -> set[Key]:
        """Label kinds that a robust fit cannot explain: were they in the first posterior, all would look bad."""
        residuals = self.model.residuals(START_ROUNDS, LOOSER**-2)
        aside = set()
        for kind, frames in self.of_kind.items():
            if np.isfinite(self.limit(kind)):
                t = np.array([residuals[k, kind] for k in frames])
                aside |= {(frames[n], kind) for n in np.flatnonzero(t > LEAST * _typical(t))}
        return aside

    def _scores(self, errors: Mapping[Key, KindErrors]) -> dict[Key, float]:
        """Standardised error of every frame and label kind over that of a typical frame."""
        scores = {}
        for kind, frames in self.of_kind.items():
            if not frames:
                continue
            t = np.array([errors[k, kind].standardised for k in frames])
            typical = _typical(t)
            types = np.array([str(self.data.targets[k].config_type) for k in frames])
            for name in np.unique(types):
                of_type = np.flatnonzero(types == name)
                typical_of_type = float(np.median(t[of_type])) if len(of_type) >= OWN_TYPE else 0.0
                scores.update({(frames[n], kind): float(t[n]) / max(typical, typical_of_type) for n in of_type})
        return scores

    def _screened(self, k: int, kind: str, error: np.ndarray, z: float) -> ScreenedLabel:
        """The label kind as users know it, by the label with the largest error."""
        frame, about = self.data.frames[k], self.kinds[k, kind]
        worst = int(np.argmax(np.abs(error)))
        place = int(about.places[worst])
        if kind == "energy":
            label, where = float(frame.energy or 0.0), ""
        elif kind == "forces":
            assert frame.forces is not None
            label, where = float(frame.forces.ravel()[place]), f"atom {place // 3}, {'xyz'[place % 3]}"
        else:
            assert frame.virial is not None
            label, where = float(frame.virial[place]), ("xx", "yy", "zz", "yz", "xz", "xy")[place]
        return ScreenedLabel(frame.index, kind, label, label - float(error[worst]) * about.scale, where, z)


def _largest(targets: Targets) -> float:
    """Largest absolute label of a frame."""
    arrays = [np.ravel(x) for x in (targets.energy, targets.forces, targets.virial) if x is not None]
    return float(np.abs(np.concatenate(arrays)).max()) if arrays else 0.0


def _typical(t: np.ndarray) -> float:
    """Error of a typical frame, of errors (n,)."""
    return max(float(np.median(t)), float(np.quantile(t, COMMON)) / TAIL, 1e-12)


def _rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
