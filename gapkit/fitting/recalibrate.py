"""A potential whose error bars were set by frames of their own: standard deviations, and intervals with a guarantee."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ase
import numpy as np

from gapkit.exceptions import DataError, SettingsError
from gapkit.potential.potential import Potential, Spread
from gapkit.structures.labels import LabelledFrame, cell_volume
from gapkit.structures.neighbours import Structure
from gapkit.uncertainty.recalibration import ErrorModel, Recalibration, SplitConformal, power_of
from gapkit.uncertainty.variance_parts import VarianceParts

#: where a model file keeps a recalibration: in the potential's metadata
KEY = "recalibration"
#: forces first: their error model says what to expect of the others
KINDS = ("forces", "energy", "virial")

#: errors of labels, and the parts of their posterior variances: (error, residual, weights, hidden), of one shape
Labels = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FrameErrors:
    """Errors of one frame's labels by kind, with the parts of their posterior variances.

    Energies and virials are divided by the square root of the number of atoms, as in the fit. ``kinds`` maps a label
    kind to (error, residual, weights, hidden), arrays of one shape.
    """

    kinds: dict[str, Labels]

    @classmethod
    def of(
        cls,
        n: int,
        parts: VarianceParts,
        energy: float | None,
        forces: np.ndarray | None,
        virial: np.ndarray | None,
    ) -> FrameErrors:
        """From the errors of a frame of ``n`` atoms in eV and eV/A (None where there is no label), and the parts of
        its variances."""
        kinds = {}
        for kind, error, scale in (("energy", energy, n**0.5), ("forces", forces, 1.0), ("virial", virial, n**0.5)):
            if error is not None:
                kinds[kind] = (np.ravel(error) / scale, *parts.of_labels(kind, n))
        return cls(kinds)


def frame_errors(potential: Potential, frame: LabelledFrame) -> FrameErrors:
    """Errors and variances of a labelled frame."""
    where = f"frame {frame.index}"
    structure = potential.structure(frame.atoms, where)
    mean = potential.evaluate(frame.atoms, where, structure)
    return FrameErrors.of(
        frame.n_atoms,
        potential.variance_parts(structure, frame.forces is not None or frame.virial is not None),
        None if frame.energy is None else mean.energy - frame.energy,
        None if frame.forces is None else mean.forces - frame.forces,
        None if frame.virial is None or mean.virial is None else mean.virial - frame.virial,
    )


def fit_recalibration(
    potential: Potential,
    frames: Sequence[LabelledFrame],
    method: str = "variance",
    rng: np.random.Generator | None = None,
    bar: Callable[[Iterable], Iterable] = iter,
) -> Recalibration:
    """Error models and conformal scores from labelled frames that the potential was not fitted to.

    Standard deviations are set by all frames. For intervals the frames are cut into halves at random: one sets the
    standard deviation that the intervals are in units of, the other gives the scores.

    Parameters
    ----------
    method
        ``"variance"``: :class:`ErrorModel`, which follows the posterior variance; ``"scale"``: one factor per label
        kind for the error bars that the potential has.

    Raises
    ------
    SettingsError
        For an unknown method.
    DataError
        Where there are too few labels.
    """
    if method not in ("variance", "scale"):
        raise SettingsError(f"method must be 'variance' or 'scale', not {method!r}")
    usable = [f for f in frames if not f.is_isolated_atom]
    if len(usable) < 2:
        raise DataError(f"recalibration needs at least 2 labelled frames that were not fitted to, not {len(usable)}")
    errors = [frame_errors(potential, f) for f in bar(usable)]
    order = (rng if rng is not None else np.random.default_rng()).permutation(len(errors))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    models, interval_models, conformal = {}, {}, {}
    for kind in KINDS:
        if not any(kind in e.kinds for e in errors):
            continue
        models[kind] = _model(method, potential, kind, pooled(errors, range(len(errors)), kind), models)
        try:
            model = _model(method, potential, kind, pooled(errors, first, kind), interval_models)
            scores = _scores(model, errors, second, kind)
        except DataError:
            continue  # too few labels of this kind for intervals: asking for one says so
        interval_models[kind], conformal[kind] = model, scores
    return Recalibration(models, interval_models, conformal, len(usable))


def pooled(errors: Sequence[FrameErrors], pick: Iterable[int], kind: str) -> Labels:
    """(error, residual, weights, hidden) of all labels of one kind, of those errors that ``pick`` names.

    Raises
    ------
    DataError
        Where there is none.
    """
    parts = [errors[k].kinds[kind] for k in pick if kind in errors[k].kinds]
    if not parts:
        raise DataError(f"no calibration frame has a label of kind {kind}")
    error, residual, weights, hidden = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return error, residual, weights, hidden


def _model(
    method: str,
    potential: Potential,
    kind: str,
    labels: Labels,
    others: Mapping[str, ErrorModel],
) -> ErrorModel:
    if method == "variance":
        return ErrorModel.fit(*labels, power=power_of(others))
    known = potential.recalibration.models if isinstance(potential, RecalibratedPotential) else {}
    return (known.get(kind) or ErrorModel.stated(potential.calibration.of(kind))).rescaled(*labels)


def _scores(model: ErrorModel, errors: Sequence[FrameErrors], pick: Iterable[int], kind: str) -> SplitConformal:
    error, *parts = pooled(errors, pick, kind)
    judged = model.judged(*parts)
    n_frames = sum(kind in errors[k].kinds for k in pick)
    return SplitConformal.fit(error[judged], np.sqrt(model.variance(*parts)[judged]), n_frames)


@dataclass(frozen=True)
class RecalibratedPotential(Potential):
    """A potential whose standard deviations of new labels come from a :class:`Recalibration`.

    Those of local energies, for which there are no labels, stay. The function alone (``noise=False``) is as the levels
    state it, but never more uncertain than the part of the label's variance that follows the posterior variance. An
    exact mean has that part itself: what its levels state is of its sparse twin, which knows less.
    """

    @property
    def recalibration(self) -> Recalibration:
        """What :func:`fit_recalibration` found."""
        return Recalibration.from_dict(self.metadata[KEY])

    def spread(
        self,
        atoms: ase.Atoms,
        where: str = "frame",
        structure: Structure | None = None,
        noise: bool = True,
        forces: bool = True,
        config_type: str | None = None,
        parts: VarianceParts | None = None,
    ) -> Spread:
        """As :meth:`Potential.spread`; label kinds that were not recalibrated are as the fit states them."""
        structure = structure or self.structure(atoms, where)
        parts = parts if parts is not None else self.variance_parts(structure, forces)
        stated = super().spread(atoms, where, structure, noise, forces, config_type, parts)
        new = self.label_std(structure, self.recalibration.models, cell_volume(atoms), parts, noise)
        known = {name: std for name, std in new.items() if std is not None}
        if not noise and not self.extra:
            known = {name: np.minimum(std, getattr(stated, name)) for name, std in known.items()}
        return replace(stated, **known)

    def growth(self, kind: str, parts: VarianceParts, config_type: str | None = None) -> np.ndarray:
        """As :meth:`Potential.growth`."""
        if not self.extra or kind not in self.recalibration.models:
            return super().growth(kind, parts)
        latent = self.calibration.of(kind, config_type).latent(parts.residual, parts.weights)
        rise = self.recalibration.models[kind].rise(*parts)
        return np.divide(rise, latent, out=np.ones_like(latent), where=latent > 0)

    def label_std(
        self,
        structure: Structure,
        models: dict[str, ErrorModel],
        volume: float | None,
        parts: VarianceParts,
        noise: bool = True,
    ) -> dict[str, Any]:
        """Standard deviations of new labels by ``models``: ``energy`` (eV), ``forces`` (n, 3), ``stress`` (6,).

        ``parts`` is from :meth:`variance_parts`; without derivatives in it, there is only the energy. Without
        ``noise``, only the part of the variance that follows the posterior variance.
        """
        n = structure.n_atoms

        def deviation(kind: str) -> np.ndarray:
            variance = models[kind].variance if noise else models[kind].rise
            return np.sqrt(variance(*parts.of_labels(kind, n)))

        derivatives = len(parts.residual) > 1
        std: dict[str, Any] = {"energy": None, "forces": None, "stress": None}
        if "energy" in models:
            std["energy"] = float(np.sqrt(n) * deviation("energy")[0])
        if derivatives and "forces" in models:
            std["forces"] = deviation("forces").reshape(n, 3)
        if derivatives and "virial" in models and volume is not None:
            std["stress"] = np.sqrt(n) * deviation("virial") / volume
        return std

    def half_widths(self, atoms: ase.Atoms, level: float, by_frame: bool, where: str = "frame") -> dict[str, Any]:
        """Half-widths of conformal intervals, as :meth:`label_std`.

        Raises
        ------
        SettingsError
            Where error bars are those of ``fit``: a promise needs frames that were not fitted to.
        DataError
            For a level that the calibration frames cannot promise.
        """
        recalibration = self.recalibration
        if not recalibration.conformal:
            raise SettingsError("intervals need a calibration split: call recalibrate(frames) first")
        structure = self.structure(atoms, where)
        parts = self.variance_parts(structure, True)
        widths = self.label_std(structure, recalibration.interval_models, cell_volume(atoms), parts)
        for name, kind in (("energy", "energy"), ("forces", "forces"), ("stress", "virial")):
            if widths[name] is not None:
                widths[name] = recalibration.conformal[kind].factor(level, by_frame) * widths[name]
        return widths


def recalibrated(potential: Potential, recalibration: Recalibration) -> RecalibratedPotential:
    """The potential with these error bars."""
    table = potential.metadata | {KEY: recalibration.as_dict()}
    fields = {name: getattr(potential, name) for name in Potential.__dataclass_fields__} | {"metadata": table}
    return RecalibratedPotential(**fields)


def restored(potential: Potential) -> Potential:
    """A potential from a model file, with its recalibration if the file holds one."""
    if KEY not in potential.metadata or isinstance(potential, RecalibratedPotential):
        return potential
    return recalibrated(potential, Recalibration.from_dict(potential.metadata[KEY]))
