"""Levels found again without each fold, so that out-of-fold errors of few frames do not depend on their own labels.

A search for levels makes held-out errors as small as a handful of levels can. Of five frames, held-out energies came
out with a tenth to a millionth of the error of new ones, and error bars that follow from them were as much too narrow.
Errors of a fold under levels that were searched without it have no such bias (Varma and Simon, BMC Bioinformatics 7, 91
(2006); Cawley and Talbot, J. Mach. Learn. Res. 11, 2079 (2010), section 5). The mean keeps the levels of all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gapkit.fitting.level_choice import enough_for_evidence, rough_levels
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.levels import Levels
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.uncertainty.recalibration import FEW_FRAMES


def are_few(data: TrainingSet) -> bool:
    """Whether there are fewer frames than ``FEW_FRAMES``, isolated atoms apart."""
    return sum(not t.isolated for t in data.targets) < FEW_FRAMES


def one_fold_of_few(triangles: Triangles, data: TrainingSet) -> bool:
    """Whether few frames all fall into one fold, with labels enough to find their levels by the evidence."""
    return len(triangles.folds) < 2 and are_few(data) and enough_for_evidence(triangles)


def levels_by_fold(
    triangles: Triangles,
    basis: SparseBasis,
    data: TrainingSet,
    terms: Sequence[Term],
    given: NoiseSettings,
    levels: Levels,
    n_threads: int = 1,
) -> dict[int, Levels]:
    """Levels by fold, from a rough search without the frames of the fold.

    The table is empty where ``FEW_FRAMES`` or more can be held out, or where no level is free. Noise of labels that no
    other fold has is taken from ``levels``.
    """
    folds = triangles.folds
    free = any(t.signal is None for t in terms) or any(given.given(g) is None for g in triangles.groups)
    if len(folds) < 2 or not are_few(data) or not free:
        return {}
    found = {}
    for fold in folds:
        alone = rough_levels(triangles.without(fold), basis, data, terms, given, n_threads)
        found[fold] = replace(alone, noise={**levels.noise, **alone.noise})
    return found
