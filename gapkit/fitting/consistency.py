r"""Tests of whether energies, forces and virials are derivatives of one function, and in which units they would be.

A model that learns from forces alone predicts energies up to a constant per species; one that learns from energies and
forces predicts virials. Two questions are asked of them, by a small model (:mod:`gapkit.fitting.judging_model`).

The first is asked of energies and forces together. Each convention that a file may follow (units, sign, energies per
atom) multiplies the targets of one kind. The evidence of the targets, with levels of noise and signal that suit them
best (:mod:`gapkit.models.kind_posterior`), and with the logarithm of that factor for every label, says how much better
than the labels as they are they belong together. A convention with far more evidence is named.

The second is asked of virials. With labels :math:`y_k` per atom, predictions :math:`p_k` and weights
:math:`w_k = 1 / (v_k + \mathrm{median}\, v)` of their posterior variances, the line :math:`y_k = b\,p_k` by weighted
least squares has the slope b = 1 where the labels belong together. A convention under which almost nothing of the
labels is left, beside the predictions, is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gapkit.exceptions import DataError, GapkitWarning
from gapkit.fitting.judging_model import KINDS, JudgingModel
from gapkit.models.kind_posterior import KindPosterior, KindRegression, Likely, Sums
from gapkit.models.left_out import Key
from gapkit.structures.label_conventions import CONVENTIONS, ORDERS, USUAL, Convention

#: fewest frames with a label of a kind that is compared
FEWEST = 4
#: labels that are set aside have no part where at least this share of their kind is left; from so many frames on, no
#: single one decides
MAJORITY, MANY = 2 / 3, 10
#: logarithm of the evidence by which a convention must be likelier than labels as they are, and that per energy
LIKELIER, LIKELIER_EACH = 10.0, 0.3
#: a convention has at least this share of what any factor gains
KNOWN = 0.8
#: conventions within this of the best are named too
AS_LIKELY = 3.0
#: other factors of energies that are tried; those near one are left out, since a model that misses part of the function
#: may prefer them
FACTORS = np.concatenate([np.logspace(-4, -0.4, 37), np.logspace(0.4, 4, 37)])
#: energies count with noise smaller than assumed by these factors
WEIGHTS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
#: rms of what is left of virials, over rms of what is predicted: above the first they may not belong there; a
#: convention fits below the second, and leaves less than this share of what the labels as they are leave
APART, FITS, BETTER = 0.5, 0.3, 0.35
#: conventions fit equally well where they leave so many times as much as the best
AS_WELL = 1.5
#: frames whose labels are so many times farther off than those of the median frame have no part in predictions
ODD = 15.0


_PLURAL = {"forces": "forces", "energy": "energies"}


@dataclass(frozen=True)
class Consistency:
    """Comparison of the labels of one kind with predictions from other kinds.

    Attributes
    ----------
    kind, source : str
        Label kinds: the one that is compared, and what predicts it.
    n_frames : int
    slope, slope_std : float
        Slope of the line of labels over predictions, and its standard error; 1 where the labels belong together.
    left : float
        Root mean square of label minus prediction, over that of the predictions.
    conventions : tuple of str
        Conventions under which the labels would belong together, best first, where they do not as they are.
    factor : float
        Where no convention does it: what the labels would have to be multiplied by; 1 where they belong to the forces.
    points : (n, 2)
        Predictions and labels, eV per atom; of energies without what constants per species explain.
    """

    kind: str
    source: str
    n_frames: int
    slope: float
    slope_std: float
    left: float
    conventions: tuple[str, ...] = ()
    factor: float = 1.0
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)), repr=False, compare=False)

    def __str__(self) -> str:
        line = (
            f"{self.kind} predicted from {self.source} ({self.n_frames} frames): slope {self.slope:.3g} +- "
            f"{self.slope_std:.2g}, rest {self.left:.2g} of what is predicted"
        )
        return line + (f"; as if {' or '.join(self.conventions)}" if self.conventions else "")

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Consistency:
        """Comparison from the dictionary of :meth:`as_dict`, with ``points`` added."""
        return cls(**{**table, "conventions": tuple(table["conventions"]), "points": np.array(table["points"])})

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the comparison, without the points."""
        table = asdict(self) | {"conventions": list(self.conventions)}
        return {name: value for name, value in table.items() if name != "points"}


def check_consistency(found: Sequence[Consistency]) -> None:
    """Raise :class:`DataError` where labels do not belong together, and would under a known convention."""
    apart = [c for c in found if c.conventions]
    if apart:
        raise DataError(
            "labels are not derivatives of one function: "
            + "; ".join(map(str, apart))
            + ". Convert them to eV, eV/A and eV/A^3 (tension positive), or give screen=False if they are right"
        )
    for c in found:
        if c.factor != 1.0:
            warnings.warn(
                f"labels are not derivatives of one function: {c}; times {c.factor:.2g}, {c.kind} labels would belong "
                "there far better; look at their units, and at whether both are of the same frames",
                GapkitWarning,
                stacklevel=6,
            )


def consistencies(judging: JudgingModel, aside: Collection[Key] = ()) -> tuple[Consistency, ...]:
    """Energies against forces, and virials against both, or against the one that there is.

    Labels of few frames must not decide on all: frames and label kinds ``aside`` have no part, unless they are many.
    Where frames are few, a convention must be the likeliest without any one of them too.
    """
    chosen = _Chosen.without(judging, aside)
    found = _compared(chosen)
    frames = {k for places in chosen.of_kind.values() for k in places}
    if len(frames) >= MANY or not any(c.conventions or c.factor != 1.0 for c in found):
        return found
    for k in frames:
        without_frame = {c.kind: c.conventions for c in _compared(chosen.without_frame(k), enough=AS_LIKELY)}
        found = tuple(  # a kind of which too few are left says nothing
            replace(c, conventions=tuple(n for n in c.conventions if n in without_frame[c.kind]), factor=1.0)
            if c.kind in without_frame
            else c
            for c in found
        )
    return found


@dataclass(frozen=True)
class _Chosen:
    """Judging model, and which frames (places) have a part, by label kind."""

    judging: JudgingModel
    of_kind: Mapping[str, list[int]]

    @classmethod
    def without(cls, judging: JudgingModel, aside: Collection[Key]) -> _Chosen:
        """All frames without those that are set aside, as far as these are the lesser part."""
        kept = {kind: [k for k in places if (k, kind) not in aside] for kind, places in judging.of_kind.items()}
        return cls(
            judging,
            {k: v if len(v) >= MAJORITY * len(judging.of_kind[k]) else judging.of_kind[k] for k, v in kept.items()},
        )

    def without_frame(self, frame: int) -> _Chosen:
        """All but one frame."""
        return replace(self, of_kind={kind: [k for k in places if k != frame] for kind, places in self.of_kind.items()})

    def sums(self, kind: str) -> Sums:
        """Sums over the rows of one kind, without frames far from what the labels of this kind make of them."""
        rows, places = self.judging.rows, self.of_kind[kind]
        absent = {k for k in self.judging.of_kind[kind] if k not in places}
        sums = rows.sums(kind, absent)
        weights = KindRegression.of(sums, rows.precision).most_likely(sums).weights
        sizes = {k: float(np.mean((rows.rows[k, kind].y - rows.rows[k, kind].A @ weights) ** 2)) for k in places}
        typical = float(np.median(list(sizes.values())))
        odd = {k for k, size in sizes.items() if size > ODD**2 * typical}
        return rows.sums(kind, absent | odd) if odd else sums


def _compared(chosen: _Chosen, enough: float = LIKELIER) -> tuple[Consistency, ...]:
    """The comparisons of all frames that have a part; none where they are too few.

    ``enough``: logarithm of the evidence by which a convention must be likelier, beside that per label.
    """
    have = [kind for kind in KINDS if len(chosen.of_kind[kind]) >= FEWEST]
    if len(have) < 2:
        return ()
    pair = _Pair(chosen, have[0], have[1])
    likely, factor = pair.likely_conventions(enough)
    if have[1] == "virial":
        return (pair.consistency(likely, factor),)
    compared = {c: _virials(chosen, "energies and forces", pair.posterior(c)) for c in likely if "virial" in have}
    if compared and any(c.left <= APART for c in compared.values()):  # virials say which of them is right
        likely = [c for c in likely if compared[c].left <= APART]
    return (pair.consistency(likely, factor), *(compared[c] for c in likely[:1] if c in compared))


class _Pair:
    """Labels of two kinds, under conventions of either.

    Parameters
    ----------
    judged
        The model, and which frames have a part.
    source, kind
        Label kinds: the one that predicts, ``forces`` or ``energy``, and the one that is compared, ``energy`` or
        ``virial``.
    """

    def __init__(self, chosen: _Chosen, source: str, kind: str) -> None:
        judging = chosen.judging
        self.judging, self.source, self.kind = judging, source, kind
        rows = judging.rows
        self.sums = chosen.sums(source)
        places = chosen.of_kind[kind]
        about = [judging.kinds[k, kind] for k in places]
        self.A = np.vstack([rows.rows[k, kind].A for k in places])
        self.frame = np.repeat(np.arange(len(places)), [len(a.places) for a in about])
        self.component = np.concatenate([a.places for a in about])
        self.scale = np.array([a.scale for a in about])[self.frame]
        self.labels = _Labels.of(judging, kind, places)
        gram, n = self.A.T @ self.A, self.sums.n + len(self.A)
        self.regressions = [KindRegression(self.sums.gram + w**2 * gram, n, rows.precision) for w in WEIGHTS]

    def likely_conventions(self, enough: float = LIKELIER) -> tuple[list[Convention], float]:
        """Conventions with far more evidence than the labels as they are, best first; else these.

        The number is what energies or virials would have to be multiplied by where some other factor is far better than
        every convention; else 1.
        """
        n = len(self.A)
        known = [c for c in CONVENTIONS if c.kind == self.kind and c.order in ((), ORDERS[""])]
        if not self.labels.baseline.any():  # what was subtracted from the source has the right units
            known += [c for c in CONVENTIONS if c.kind == self.source and not c.power]
        usual = self._likely(USUAL)[0]
        gain = {c: self._likely(c)[0] - usual for c in known}
        tried = [Convention(self.kind, "", float(sign * f)) for f in FACTORS for sign in (1.0, -1.0)]
        other = {c: self._likely(c)[0] - usual for c in tried}
        best, free = max(gain.values()), max(other, key=other.__getitem__)
        enough += LIKELIER_EACH * n
        if other[free] > enough and other[free] * KNOWN > best:
            return [USUAL], free.factor if self._explained(free) else 1.0
        found = [c for c in known if gain[c] > max(enough, best - AS_LIKELY) and self._explained(c)]
        return sorted(found, key=lambda c: -gain[c]) or [USUAL], 1.0

    def _explained(self, convention: Convention) -> bool:
        """Whether the labels under a convention are explained, rather than taken for noise."""
        y = self.targets(convention)
        left = y - self.A @ self.posterior(convention).weights
        return bool(np.sum(left**2) < APART**2 * np.sum(y**2))

    def posterior(self, convention: Convention) -> KindPosterior:
        """Posterior of the weights where the labels follow a convention."""
        _, w, likely = self._likely(convention)
        return self.regressions[WEIGHTS.index(w)].posterior(self._sums(convention, w)[0], likely)

    def _likely(self, convention: Convention) -> tuple[float, float, Likely]:
        """Logarithm of the evidence of the labels as given, the weight of energies or virials, and levels."""
        n, log_factor = len(self.A), float(np.log(abs(convention.factor)))
        factor = log_factor * (self.sums.n if convention.kind == self.source else n)
        if convention.power:
            one = np.ones((len(self.labels.n_atoms), 1))
            times = replace(convention, factor=1.0, order=()).converted(one, self.labels.n_atoms, self.labels.volume)
            factor += float(np.sum(np.log(times[self.frame])))
        tried = []
        for w, regression in zip(WEIGHTS, self.regressions, strict=True):
            likely = regression.likely(*self._sums(convention, w))
            tried.append((likely.log_evidence + n * float(np.log(w)) + factor, w, likely))
        return max(tried, key=lambda t: t[0])

    def _sums(self, convention: Convention, weight: float) -> tuple[np.ndarray, float]:
        """A^T y and y^T y of all labels under a convention."""
        y = weight**2 * self.targets(convention)
        times = convention.factor if convention.kind == self.source else 1.0
        square = times**2 * self.sums.square + float(y @ y) / weight**2
        return times * self.sums.moment + self.A.T @ y, square

    def targets(self, convention: Convention) -> np.ndarray:
        """Energies or virials (n,) in units of their noise, without what constants per species explain."""
        y = self.labels.under(convention if convention.kind == self.kind else USUAL)
        return np.asarray(y[self.frame, self.component] / self.scale)

    def consistency(self, likely: Sequence[Convention], factor: float) -> Consistency:
        """Line of energies or virials over what forces alone predict, with what was found of conventions."""
        judging = self.judging
        posterior = KindRegression.of(self.sums, judging.rows.precision).most_likely(self.sums)
        A = self.A[:, : judging.n_columns]
        scale = self.scale / self.labels.n_atoms[self.frame]
        w = _weights(posterior.variances(A) * scale**2)
        y, p = w * scale * self.targets(USUAL), w * scale * (A @ posterior.weights[: judging.n_columns])
        constants = self.labels.constants[self.frame] * w[:, None]
        left, s, _ = np.linalg.svd(constants, full_matrices=False)
        known = left[:, s > 1e-8 * s.max(initial=1e-300)]
        y, p = y - known @ (known.T @ y), p - known @ (known.T @ p)
        names = () if list(likely) == [USUAL] else tuple(c.name for c in likely)
        line, n_frames = _line(y, p, known.shape[1]), len(self.labels.n_atoms)
        points = np.column_stack([p, y]) / w[:, None]
        return Consistency(self.kind, f"{_PLURAL[self.source]} alone", n_frames, *line, names, factor, points)


@dataclass(frozen=True)
class _Labels:
    """Energies or virials of n frames as they were given, and what is subtracted from them.

    Attributes
    ----------
    given, baseline : (n, c)
        eV.
    n_atoms, volume : (n,)
        The volume (A^3) is 1 where there is none.
    constants : (n, s)
        Orthonormal vectors that span energies per atom of constants per species; no columns for virials.
    """

    given: np.ndarray
    baseline: np.ndarray
    n_atoms: np.ndarray
    volume: np.ndarray
    constants: np.ndarray

    @classmethod
    def of(cls, judging: JudgingModel, kind: str, places: Sequence[int]) -> _Labels:
        """Labels of one kind of the frames at ``places``."""
        data = judging.data
        frames, targets = [data.frames[k] for k in places], [data.targets[k] for k in places]
        n_atoms = np.array([f.n_atoms for f in frames], dtype=float)
        volume = np.array([f.volume or 1.0 for f in frames])
        if kind == "virial":
            virials = np.array([f.virial for f in frames])
            baseline = virials - np.array([t.virial for t in targets])
            return cls(virials, baseline, n_atoms, volume, np.zeros((len(frames), 0)))
        energies = np.array([[f.energy] for f in frames], dtype=float)
        reference = np.array([[data.reference.of(f.atoms.numbers)] for f in frames])
        baseline = energies - reference - np.array([[t.energy] for t in targets])
        baseline[np.abs(baseline) < 1e-9 * np.abs(energies)] = 0.0  # rounding of a difference
        counts = np.array([[np.count_nonzero(f.atoms.numbers == z) for z in data.species] for f in frames])
        left, s, _ = np.linalg.svd(counts / n_atoms[:, None], full_matrices=False)
        return cls(energies, baseline, n_atoms, volume, left[:, s > 1e-3 * s[0]])

    def under(self, convention: Convention) -> np.ndarray:
        """Labels (n, c) in eV without baseline, where they follow a convention; without constants per species."""
        y = convention.converted(self.given, self.n_atoms, self.volume) - self.baseline
        per_atom = y / self.n_atoms[:, None]
        return np.asarray(y - self.n_atoms[:, None] * (self.constants @ (self.constants.T @ per_atom)))


def _virials(chosen: _Chosen, source: str, posterior: KindPosterior) -> Consistency:
    """Virials against what a posterior makes of them; components that symmetry fixes are zero in both."""
    judging, places = chosen.judging, chosen.of_kind["virial"]
    labels = _Labels.of(judging, "virial", places)
    n, n_atoms = len(places), labels.n_atoms[:, None]
    label, mean, variance = np.zeros((n, 6)), np.zeros((n, 6)), np.zeros(n)
    for row, k in enumerate(places):
        about, rows = judging.kinds[k, "virial"], judging.rows.rows[k, "virial"]
        A = rows.A[:, : judging.n_columns]
        label[row, about.places] = rows.y * about.scale
        mean[row, about.places] = A @ posterior.weights[: judging.n_columns] * about.scale
        variance[row] = float(np.mean(posterior.variances(A))) * about.scale**2
    w = _weights(variance / labels.n_atoms**2)[:, None] / n_atoms
    slope, slope_std, left = _line(w * label, w * mean, 0)

    def rest(y: np.ndarray) -> float:
        """Share that is left of the diagonal or of the shear, whichever is larger."""
        return max(_line(w * y[:, part], w * mean[:, part], 0)[2] for part in (slice(0, 3), slice(3, 6)))

    now = rest(label)
    names = {c.name: rest(labels.under(c)) for c in CONVENTIONS if c.kind == "virial"}
    best = min(names.values())
    if now <= APART or best > FITS or best > BETTER * now:
        names = {}
    fitting = sorted((name for name, r in names.items() if r <= AS_WELL * best), key=names.__getitem__)
    points = np.column_stack([(mean / n_atoms).ravel(), (label / n_atoms).ravel()])
    return Consistency("virial", source, n, slope, slope_std, left, tuple(fitting), points=points)


def _weights(variance: np.ndarray) -> np.ndarray:
    """Roots (n,) of the weights of lines, from posterior variances (n,)."""
    return np.asarray(np.sqrt(1.0 / np.maximum(variance + np.median(variance), 1e-300)))


def _line(y: np.ndarray, p: np.ndarray, constants: int) -> tuple[float, float, float]:
    """Slope of the line y = b p, its standard error, and rms of y - p over that of p; all finite without signal."""
    size = max(float(np.sum(p * p)), 1e-24 * float(np.sum(y * y)), 1e-200)
    slope = float(np.sum(y * p)) / size
    freedom = max(1, y.size - constants - 1)
    slope_std = float(np.sqrt(np.sum((y - slope * p) ** 2) / freedom / size))
    return slope, slope_std, float(np.sqrt(np.sum((y - p) ** 2) / size))
