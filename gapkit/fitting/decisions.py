"""Decisions of the finished stages of a fit, kept in a file from which a fit that was killed continues.

Kept are numbers, not matrices: which labels the screening left out, the shape of the default SOAP, noise and signal
levels. All else is computed again, and the fit is the same to the last bit as one that was not interrupted.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from gapkit.checkpoints import Checkpoint
from gapkit.descriptors import SOAP
from gapkit.exceptions import DataError, GapkitWarning
from gapkit.fingerprints import run_fingerprint
from gapkit.fitting.screening import Findings, alike_line, left_out_line, without_labels
from gapkit.fitting.settings import FitSettings
from gapkit.fitting.shape_choice import Shape
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.levels import Levels
from gapkit.models.terms import Term, term_from_settings
from gapkit.safe_write import check_target, shown
from gapkit.structures.labels import LabelledFrame

T = TypeVar("T")


class Decisions:
    """Decisions of the finished stages of a fit, by the name of the stage, as JSON-ready tables.

    Parameters
    ----------
    checkpoint
        File that keeps them; None: they are kept nowhere.

    Raises
    ------
    SettingsError
        For a file of a fit with other frames, labels, settings or version, with what differs.
    DataError
        For a file that is no complete checkpoint of a fit, or that cannot be written.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self._checkpoint = checkpoint
        self._tables: dict[str, Any] = {}
        if checkpoint is None:
            return
        check_target(checkpoint.path, DataError)
        state = checkpoint.load()
        if state is None:
            self._save()  # a place that cannot be written to is found before the work
            return
        try:
            self._tables = dict(json.loads(str(state["decisions"])))
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from None

    @classmethod
    def of_fit(
        cls, path: str | os.PathLike | None, frames: Sequence[LabelledFrame], settings: FitSettings
    ) -> Decisions:
        """The decisions of a fit to these frames with these settings; ``path``: the file, or None."""
        if path is None:
            return cls()
        names = {field.name: getattr(settings, field.name) for field in fields(settings)}
        names["folds"] = names.pop("n_folds")
        return cls(Checkpoint(path, {"kind": "fit", **run_fingerprint(frames, names)}))

    def get(self, stage: str, read: Callable[[Any], T]) -> T | None:
        """Decision of a stage, read from its table by ``read``; None for a stage that was not finished."""
        if stage not in self._tables:
            return None
        try:
            return read(self._tables[stage])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(error) from None

    def keep(self, stage: str, table: Any) -> None:
        """Keep the choice of a stage."""
        self._tables[stage] = table
        self._save()

    def _save(self) -> None:
        if self._checkpoint is not None:
            text = json.dumps(self._tables, default=lambda value: value.item())  # numbers of NumPy
            self._checkpoint.save({"decisions": np.array(text)})

    def _damaged(self, error: Exception) -> DataError:
        assert self._checkpoint is not None
        return DataError(
            f"{shown(self._checkpoint.path)}: not a checkpoint of a fit ({error}); remove it to start anew"
        )

    # ---- the stages

    def settled(self, settings: FitSettings, exact: bool) -> FitSettings:
        """Settings without those that follow from chance or the machine, where the fit has a file.

        Left out are the seed, where the user gave none, and whether the mean is ``exact``, which depends on the memory.
        """
        if self._checkpoint is None:
            return settings
        known = self.get("settings", lambda table: (int(table["seed"]), bool(table["exact"])))
        if known is None:
            entropy: Any = np.random.SeedSequence().entropy
            known = int(entropy), exact
            self.keep("settings", {"seed": known[0], "exact": known[1]})
        seed = known[0] if settings.random_state is None else settings.random_state
        return replace(settings, random_state=seed, exact=known[1])

    def screening(self, data: TrainingSet, e0: Any) -> tuple[TrainingSet, Findings] | None:
        """Training set without the labels that were left out, and the findings, which are warned of again."""

        def read(table: Any) -> tuple[TrainingSet, Findings]:
            found = Findings.from_dict(table)
            place = {frame.index: k for k, frame in enumerate(data.frames)}
            keys = [(place[label.frame], label.kind) for label in found.left_out]
            return (without_labels(data, keys, e0) if keys else data), found

        known = self.get("screening", read)
        for line in () if known is None else (alike_line(known[1].alike), left_out_line(known[1].left_out)):
            if line is not None:
                warnings.warn(line, GapkitWarning, stacklevel=5)
        return known

    def keep_screening(self, found: Findings) -> None:
        """Keep the findings about the labels."""
        self.keep("screening", found.as_dict())

    def shape(self, species: Sequence[int]) -> tuple[tuple[Term, ...], list[Shape]] | None:
        """Terms with the chosen shape of SOAP, and the shapes that were tried."""

        def read(table: Any) -> tuple[tuple[Term, ...], list[Shape]]:
            made = [term_from_settings(t) for t in table["terms"]]
            terms = tuple(t.with_descriptor(t.descriptor.for_species(species)) for t in made)
            tried = [(term_from_settings(s).descriptor.for_species(species), score) for s, score in table["tried"]]
            return terms, [Shape(soap, float(score)) for soap, score in tried if isinstance(soap, SOAP)]

        return self.get("shape", read)

    def keep_shape(self, terms: Sequence[Term], shapes: Sequence[Shape]) -> None:
        """Keep the chosen terms and the shapes that were tried."""
        tried = [[shape.soap.settings(), shape.score] for shape in shapes]
        self.keep("shape", {"terms": [term.settings() for term in terms], "tried": tried})

    def levels(self, groups: Sequence[str], n_terms: int) -> tuple[Levels, dict[str, Any]] | None:
        """Noise levels of these groups, signal levels of so many terms, and the record of their search."""

        def read(table: Any) -> tuple[Levels, dict[str, Any]]:
            noise = {str(group): float(sigma) for group, sigma in table["noise"].items()}
            signal = np.array(table["signal"], dtype=float)
            if not set(groups) <= set(noise) or signal.shape != (n_terms,) or not min(*noise.values(), *signal) > 0:
                raise ValueError("its levels are those of other terms or labels")
            return Levels(noise, signal, float(table["objective"])), dict(table["account"])

        return self.get("levels", read)

    def keep_levels(self, levels: Levels, summary: dict[str, Any]) -> None:
        """Keep the levels, and the record of their search."""
        table = {"noise": levels.noise, "signal": levels.signal.tolist(), "objective": levels.objective}
        self.keep("levels", {**table, "account": summary})
