"""Errors of training labels under the posterior of the other folds; ``fit`` sets error bars by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gapkit.exceptions import DataError
from gapkit.fitting.hidden_directions import LeftOutDirections
from gapkit.fitting.mean import Mean
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.levels import kind_of
from gapkit.models.observations import Targets, informative
from gapkit.models.posterior import Posterior
from gapkit.models.terms import Term
from gapkit.structures.structure import Structure
from gapkit.uncertainty.calibration import Calibration
from gapkit.uncertainty.label_errors import KINDS, FrameErrors, pooled
from gapkit.uncertainty.recalibration import POWERS, ErrorModel, Recalibration, power_of
from gapkit.uncertainty.variance_parts import VarianceParts

#: labels, about, whose rows are made again: three numbers per label kind need no more
LABELS = 5000
#: energies, about, that are made again alone, at the cost of a prediction each
ENERGIES = 1000
#: share of the sample in which the function's variance is within the part of a new label's that follows the posterior's
WITHIN = 0.99


def known_errors(errors: tuple, targets: Targets, prior: np.ndarray) -> tuple:
    """Errors of energy, forces (3n,) and virial (6,) with NaN where there is no label, or none that tells anything.

    ``prior`` (7 + 3n, terms): prior variances of the frame's energy and its derivatives, under unit kernels.
    """
    energy, forces, virial = errors
    end = 1 + 3 * targets.n_atoms
    if forces is not None:
        forces = np.where(targets.force_labels & informative(prior[1:end]), forces, np.nan)
    if virial is not None:
        virial = np.where(informative(prior[end:] / targets.n_atoms**2), virial, np.nan)
    return energy, forces, virial


class OutOfFold:
    """Errors and posterior variances of a sample of frames, each under the posterior without its fold.

    Parameters
    ----------
    data, basis, terms
        Training set, sparse functionals and terms.
    folds : (frames,) int
        Fold of each frame; negative ones are never held out.
    progress_bar
        Makes a progress bar.
    mean
        Its errors count, with the variances of the sparse posterior.

    Attributes
    ----------
    errors : list of FrameErrors
        Filled by :meth:`evaluate_fold`, fold by fold.
    """

    def __init__(
        self,
        data: TrainingSet,
        basis: SparseBasis,
        terms: Sequence[Term],
        folds: np.ndarray,
        progress_bar: Callable[..., Any],
        mean: Mean,
    ) -> None:
        self.data, self.basis, self.folds, self.progress_bar, self.mean = data, basis, folds, progress_bar, mean
        held = np.flatnonzero(folds >= 0)
        labels = sum(data.targets[n].n_rows for n in held)
        whole = set(held[:: max(1, -(-labels // LABELS))].tolist())
        energies = [n for n in held if data.targets[n].energy is not None and n not in whole]
        alone = set(energies[:: max(1, -(-len(energies) // ENERGIES))])
        self.sample = {int(n): n in whole for n in sorted(whole | alone) if mean.has_errors(int(n))}
        self.errors: list[FrameErrors] = []
        self._directions = LeftOutDirections(data, basis, terms, folds)
        self._progress: Any = None
        self._left = len(self.sample)

    def evaluate_fold(self, fold: int, posterior: Posterior, mean: Posterior | None = None) -> None:
        """Add the errors of the frames of ``fold`` under ``posterior``, which was solved without them.

        ``mean``: another such posterior, whose errors count, beside the variances of ``posterior``.
        """
        in_fold = [(n, whole) for n, whole in self.sample.items() if self.folds[n] == fold]
        if self._progress is None:
            self._progress = self.progress_bar(total=len(self.sample), desc="error bars", unit="frame")
        directions = self._directions.without(fold)
        for n, whole in in_fold:
            targets = self.data.targets[n]
            derivatives = whole and targets.derivatives
            structure = Structure(self.data.frames[n].atoms, self.basis.r_cut)
            rows = self.basis.rows(structure, derivatives=derivatives, hidden=directions)
            A = self.basis.whiten(rows.K)
            errors = self.mean.errors_of(n, targets, (mean or posterior).mean(A))
            if errors is None:
                continue
            errors = known_errors(errors, targets, rows.prior) if derivatives else (errors[0], None, None)
            self.errors.append(FrameErrors.of(targets.n_atoms, VarianceParts.of_rows(posterior, A, rows), *errors))
        self._progress.update(len(in_fold))
        self._left -= len(in_fold)
        if self._left == 0:
            self._progress.close()

    def consistent(self, calibration: Calibration, recalibration: Recalibration) -> Calibration:
        """The calibration with the function's variances shrunk, per label kind, until nearly all of the sample's are
        within what its errors bear out; of an exact mean, which leaves no misfit, as large as they are on average."""
        groups = dict(calibration.groups)
        for kind, model in recalibration.models.items():
            if model.n == 0:
                continue  # of another kind: no error of this one was seen
            _, residual, weights, hidden = pooled(self.errors, range(len(self.errors)), kind)
            testable = model.testable(residual, weights)
            latent = calibration.of(kind).latent(residual, weights)[testable]
            rise = model.rise(residual, weights, hidden)[testable]
            if not self.mean.is_exact:
                share = min(1.0, float(np.quantile(rise / latent, 1 - WITHIN)))
            else:
                share = float(rise.sum() / latent.sum())
            for name, group in calibration.groups.items():
                if kind_of(name) == kind:
                    groups[name] = replace(
                        group, residual_scale=share * group.residual_scale, weight_scale=share * group.weight_scale
                    )
        return replace(calibration, groups=groups)

    def largest_energy_variance(self) -> float | None:
        """Largest variance of a frame's energy, per atom (eV^2), under the posterior without its fold, left in the
        weights or hidden by projections; None where no frame has an energy."""
        energies = [e.kinds["energy"] for e in self.errors if "energy" in e.kinds]
        variances = [float(weights[0] + hidden[0]) for _, _, weights, hidden in energies]
        return max(variances, default=None)

    def recalibration(self) -> Recalibration:
        """Error models of the label kinds with labels enough; without conformal scores, which need frames apart."""
        models: dict[str, ErrorModel] = {}
        for kind in KINDS:
            try:
                labels = pooled(self.errors, range(len(self.errors)), kind)
                n_frames = sum(kind in e.kinds for e in self.errors)
                # more than one makes error bars far from all frames absurd, unless thousands of forces say so
                highest = POWERS[1] if kind == "forces" or "forces" in models else 1.0
                models[kind] = ErrorModel.fit(
                    *labels, power=power_of(models), n_frames=n_frames, highest=highest, fewest=1
                )
            except DataError:
                continue  # too few labels: error bars stay as the levels give them
        borrowed = ErrorModel.borrowed(models) if "forces" not in models else None
        if borrowed is not None:
            models["forces"] = borrowed
        return Recalibration(models, {}, {}, len(self.errors))
