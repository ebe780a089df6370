"""Report on the labels of frames before any fit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ase import Atoms

from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, GapkitError, GapkitWarning
from gapkit.fitting.candidates import choose_terms
from gapkit.fitting.label_report import LabelReport, label_report
from gapkit.fitting.screening import Findings, findings
from gapkit.fitting.settings import FitSettings
from gapkit.fitting.stages import wants_exact
from gapkit.fitting.training_set import in_order, training_set
from gapkit.numerics.threads import limited_threads, thread_count
from gapkit.progress import progress_bar
from gapkit.structures.labels import LabelledFrame, atoms_list, labelled_frames
from gapkit.structures.plausibility import check_contacts
from gapkit.structures.suspicions import Problem, suspicions


def check_labels(X: Sequence[Atoms], gap: GAP | None = None, progress: bool = False) -> LabelReport:
    """Report on the labels of frames before any fit: labels read, labels not read, contradictions.

    A frame that a fit would refuse is a problem of the report, and has no part in the rest of it.

    Parameters
    ----------
    X
        Frames as for :meth:`gapkit.GAP.fit`.
    gap
        An estimator, fitted or not, whose parameters are used; default: ``gapkit.GAP()``.
    progress
        Show progress bars.

    Raises
    ------
    DataError
        Where no frame is left to judge.

    Examples
    --------
    >>> from ase.build import bulk
    >>> crystals = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)]
    >>> for atoms, energy in zip(crystals, (0.1, 0.0, 0.1)):
    ...     atoms.info["energy"] = energy
    >>> check_labels(crystals).ok
    True
    """
    gap = GAP() if gap is None else gap
    settings = FitSettings.of(gap.get_params(deep=False))
    given = atoms_list(X)
    keys = (gap.energy_key, gap.forces_key, gap.virial_key)
    usable, problems = _usable(given, keys)
    frames = [given[k] for k in usable]
    if not frames:
        raise DataError(f"no frame can be used: {problems[0].text}")
    labelled = _numbered(labelled_frames(frames, *keys, require_labels=False), usable)
    found, refused, notes = _examined(labelled, settings, progress)
    return label_report(labelled, found, [*problems, *refused, *suspicions(frames, labelled, keys)], notes)


def _numbered(labelled: Sequence[LabelledFrame], places: Sequence[int]) -> list[LabelledFrame]:
    """Frames with their positions in the user's list."""
    return [replace(frame, index=k) for frame, k in zip(labelled, places, strict=True)]


def _usable(frames: Sequence[Atoms], keys: tuple[str | None, ...]) -> tuple[list[int], list[Problem]]:
    """Places of frames that a fit would take, and why it would not take the others."""
    usable, problems = [], []
    for k, atoms in enumerate(frames):
        try:
            labelled_frames([atoms], keys[0], keys[1], keys[2], require_labels=False)
            check_contacts(atoms, f"frame {k}")
        except GapkitError as error:
            text = str(error)
            problems.append(Problem("refused", (k,), text.replace("frame 0:", f"frame {k}:", 1)))
        else:
            usable.append(k)
    return usable, problems


def _examined(
    labelled: Sequence[LabelledFrame], settings: FitSettings, progress: bool
) -> tuple[Findings, list[Problem], list[str]]:
    """Findings of a small model about the labels, reasons for which a fit would be refused, and warnings."""
    bars: Any = partial(progress_bar, show=progress)
    problems: list[Problem] = []
    with warnings.catch_warnings(record=True) as said, limited_threads(settings.n_jobs):
        warnings.simplefilter("always", GapkitWarning)
        try:
            data = in_order(training_set(labelled, settings.e0, settings.baseline))
            terms = choose_terms(settings.terms, data, settings.sparse, wants_exact(data, settings))
            found = findings(data, terms, thread_count(), bars)
        except GapkitError as error:
            found = Findings()
            problems.append(Problem("refused", (), str(error)))
    return found, problems, [str(w.message) for w in said if issubclass(w.category, GapkitWarning)]
