"""Error bars set by frames that a potential was not fitted to: standard deviations, and intervals with a guarantee."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gapkit.exceptions import DataError, SettingsError
from gapkit.potential.evaluation import Evaluation
from gapkit.potential.potential import Potential
from gapkit.structures.labels import LabelledFrame
from gapkit.uncertainty.label_errors import KINDS, FittedErrors, FrameErrors, pooled
from gapkit.uncertainty.recalibration import ErrorModel, Recalibration, SplitConformal, power_of


def frame_errors(potential: Potential, frame: LabelledFrame, mean: Evaluation) -> FrameErrors:
    """Errors of the prediction ``mean`` of a labelled frame, and variances."""
    structure = potential.structure(frame.atoms, f"frame {frame.index}")
    return FrameErrors.of(
        frame.n_atoms,
        potential.variance_parts(structure, frame.forces is not None or frame.virial is not None),
        None if frame.energy is None else mean.energy - frame.energy,
        None if frame.forces is None else np.where(frame.force_labels, (mean.forces - frame.forces).ravel(), np.nan),
        None if frame.virial is None or mean.virial is None else mean.virial - frame.virial,
    )


def fit_recalibration(
    potential: Potential,
    frames: Sequence[LabelledFrame],
    method: str = "variance",
    rng: np.random.Generator | None = None,
    progress_bar: Callable[[Iterable], Iterable] = iter,
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
    names = [f"frame {f.index}" for f in usable]
    means = potential.evaluate_many([f.atoms for f in usable], context=names)
    errors = [frame_errors(potential, f, mean) for f, mean in zip(progress_bar(usable), means, strict=True)]
    order = (rng if rng is not None else np.random.default_rng()).permutation(len(errors))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    models: dict[str, ErrorModel] = {}
    interval_models: dict[str, ErrorModel] = {}
    conformal: dict[str, SplitConformal] = {}
    for kind in KINDS:
        if not any(kind in e.kinds for e in errors):
            continue
        models[kind] = _model(method, potential, kind, errors, range(len(errors)), models)
        try:
            model = _model(method, potential, kind, errors, first, interval_models)
            scores = _scores(model, errors, second, kind)
        except DataError:
            continue  # too few labels of this kind for intervals: asking for one says so
        interval_models[kind], conformal[kind] = model, scores
    return Recalibration(models, interval_models, conformal, len(usable))


def _model(
    method: str,
    potential: Potential,
    kind: str,
    errors: Sequence[FrameErrors],
    pick: Iterable[int],
    fitted: Mapping[str, ErrorModel],
) -> ErrorModel:
    labels, n_frames = pooled(errors, pick, kind), sum(kind in errors[k].kinds for k in pick)
    if method == "variance":
        return ErrorModel.fit(*labels, power=power_of(fitted), n_frames=n_frames)
    known = potential.errors.recalibration.models if potential.errors.recalibration is not None else {}
    return (known.get(kind) or ErrorModel.stated(potential.calibration.of(kind))).rescaled(*labels, n_frames=n_frames)


def _scores(model: ErrorModel, errors: Sequence[FrameErrors], pick: Iterable[int], kind: str) -> SplitConformal:
    error, *parts = pooled(errors, pick, kind)
    testable = model.testable(*parts)
    n_frames = sum(kind in errors[k].kinds for k in pick)
    return SplitConformal.fit(error[testable], np.sqrt(model.variance(*parts)[testable]), n_frames)


def recalibrated(potential: Potential, recalibration: Recalibration) -> Potential:
    """The potential with error bars by these error models."""
    return replace(potential, errors=FittedErrors(potential.calibration, recalibration, exact=bool(potential.extra)))
