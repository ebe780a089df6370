"""Limits of the domain (:mod:`gapkit.potential.domain`), measured on the training frames at the end of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ase
import numpy as np

from gapkit.fitting.out_of_fold import OutOfFold
from gapkit.fitting.training_set import TrainingSet
from gapkit.potential.domain import Domain
from gapkit.potential.local_variance import LocalVariance
from gapkit.potential.spreads import Spreads
from gapkit.structures.structure import Structure

#: training environments, about, whose variance sets the limit
SAMPLE = 4000


def domain_sample(data: TrainingSet) -> list[ase.Atoms]:
    """Every so many training frames, without isolated atoms: almost everything is nearer to the data than they are to
    each other."""
    bonded = [f for f, t in zip(data.frames, data.targets, strict=True) if not t.isolated]
    step = max(1, sum(f.n_atoms for f in bonded) // SAMPLE)
    return [frame.atoms for frame in bonded[::step]]


def measured_domain(
    data: TrainingSet,
    out_of_fold: OutOfFold,
    structures: Sequence[Structure],
    spreads: Spreads,
    forms: LocalVariance,
    progress_bar: Callable[..., Any],
) -> Domain:
    """The domain of a fitted model.

    Parameters
    ----------
    structures
        Training frames from :func:`domain_sample`, with their pair lists.
    spreads, forms
        Variances of local energies by the exact formula, and by the cheap forms.
    progress_bar
        Makes a progress bar.
    """
    watched = progress_bar(structures, desc="limits of the domain", unit="frame")
    return Domain(local_variance(spreads, forms, watched), frame_limit(data, out_of_fold))


def local_variance(spreads: Spreads, forms: LocalVariance, structures: Iterable[Structure]) -> float:
    """Largest calibrated variance (eV^2, without noise) of a local energy in a sample of the training frames, by the
    exact formula and by the cheap forms, which may say more: a calculator warns by either. Above zero, so that whatever
    is unknown is out of the domain of a model that knows all of its frames."""
    largest = float(np.finfo(float).tiny)
    for structure in structures:
        exact = spreads.local_variances(structure, [None], np.array([0, structure.n_atoms]))
        largest = max(largest, float(exact.max()))
        if forms.serves(structure.numbers):
            largest = max(largest, float(forms.of(structure).max()))
    return largest


def frame_limit(data: TrainingSet, out_of_fold: OutOfFold) -> float | None:
    """Largest held-out variance (eV^2 per atom) of an energy, in the weights or hidden; None where a training frame is
    periodic (its local energies say more) or none was held out."""
    if any(f.atoms.pbc.any() for f in data.frames):
        return None
    return out_of_fold.largest_energy_variance()
