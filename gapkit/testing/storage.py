"""Checks of a stored descriptor: settings, arrays, copies, and the file of a model with the descriptor."""

from __future__ import annotations

import copy
import json
import pickle
import sys
import tempfile
from pathlib import Path

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols

from gapkit.descriptors import Descriptor
from gapkit.descriptors.base import DESCRIPTORS, smooth_cutoff
from gapkit.estimators.gap import GAP, load
from gapkit.kernels import Kernel
from gapkit.models.terms import Term, term_from_settings
from gapkit.structures.labels import cell_volume
from gapkit.structures.neighbours import neighbours
from gapkit.structures.structure import Structure
from gapkit.testing.finite_differences import VOIGT
from gapkit.testing.predictions import usual_kernels
from gapkit.testing.trial import Trial


def check_copies(trial: Trial) -> None:
    """Pickles and deep copies give the same numbers."""
    for way, other in (
        ("deep copy", copy.deepcopy(trial.descriptor)),
        ("pickle", pickle.loads(pickle.dumps(trial.descriptor)) if _picklable(trial.descriptor) else None),
    ):
        if other is None:
            trial.checks.leave_out(way, "the class cannot be found by its name: move it to the top of a module")
        else:
            _same_numbers(trial, way, other, "keep all that the descriptor needs in plain attributes")


def _picklable(descriptor: Descriptor) -> bool:
    """Whether the class can be found by its name, which pickle needs."""
    kind = type(descriptor)
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def check_settings(trial: Trial) -> None:
    """Settings are JSON, and with arrays they make the same descriptor again."""
    checks, d = trial.checks, trial.descriptor
    if getattr(d, "name", None) is None:
        for check in ("settings", "arrays", "model file"):
            checks.leave_out(check, "the class has no name: it cannot stand in tables of settings and model files")
        return
    settings = d.settings()
    remedy = 'give {"name": self.name, ...} with every argument of the constructor, as plain numbers, words and lists'
    try:
        same = json.loads(json.dumps(settings)) == settings
    except TypeError as error:
        checks.fail("settings", f"{settings!r:.200} cannot be written as JSON ({error})", remedy)
    checks.holds("settings", same, f"{settings!r:.200} changes when it is written as JSON and read", remedy)
    checks.holds(
        "settings",
        settings.get("name") == d.name and DESCRIPTORS.get(d.name) is type(d),
        f"the name in settings is {settings.get('name')!r}, that of the class {d.name!r}, which stands for "
        f"{DESCRIPTORS.get(d.name)}",
        remedy,
    )
    try:
        made = term_from_settings(settings).descriptor
    except Exception as error:
        checks.fail("settings", f"no descriptor can be made of {settings!r:.200} ({error})", remedy)
    checks.holds("settings", made.settings() == settings, f"settings come back as {made.settings()!r:.200}", remedy)
    _same_numbers(trial, "settings", made.for_species(trial.species), remedy)
    arrays = d.arrays()
    good = all(a.dtype == np.float64 and np.isfinite(a).all() for a in arrays.values())
    checks.holds("arrays", good, "an array is not of finite float64 numbers", "model files hold nothing else")
    kept = made.with_arrays(trial.species, {name: a.copy() for name, a in arrays.items()})
    kept.check_arrays()
    checks.holds(
        "arrays",
        all(np.array_equal(kept.arrays()[name], a) for name, a in arrays.items()),
        "arrays are not those that were given to with_arrays",
        "keep them as they are, so that a loaded model gives the same numbers",
    )
    _same_numbers(trial, "arrays", kept, "make the descriptor of settings, species and arrays alone")


def check_reshaped(trial: Trial) -> None:
    """A reshaped descriptor describes; it is the same, or one with other settings."""
    d = trial.descriptor
    other = d.reshaped(0.9, 1, 0.9, 12)
    trial.checks.holds(
        "reshaped",
        type(other) is type(d) and other.channels == d.channels and other.r_cut > 0,
        f"reshaped gives a {type(other).__name__} with the channels {getattr(other, 'channels', None)!r:.80}",
        "give a descriptor of the same class for the same species, or self",
    )
    for context, atoms, channel in trial.each():
        x = other.environments(Structure(atoms, other.r_cut), channel).x
        trial.checks.holds(
            "reshaped",
            x.shape[1] == other.n_features(channel) and np.isfinite(x).all(),
            f"{context}: features of the reshaped descriptor are of the shape {x.shape}, or not finite",
            "make new tables for new settings",
        )


def _same_numbers(trial: Trial, check: str, other: Descriptor, remedy: str) -> None:
    trial.checks.holds(
        check,
        type(other) is type(trial.descriptor) and other.channels == trial.channels,
        f"a {type(other).__name__} with the channels {other.channels!r:.200}",
        remedy,
    )
    for context, atoms, channel in trial.each():
        batch, structure = trial.batch(atoms, channel), trial.structure(atoms)
        again = other.environments(structure, channel)
        for name in ("x", "weight", "J", "dweight"):
            trial.checks.close(
                check, getattr(again, name), getattr(batch, name), trial.equal, f"{context}, {name}", remedy,
            )  # fmt: skip


def toy_labels(atoms: ase.Atoms, reach: float) -> ase.Atoms:
    """The frame with labels of a soft pair repulsion exp(-r/(0.3 reach)) eV that ends at ``reach`` (A)."""
    pairs = neighbours(atoms, reach)
    r = pairs.distances
    cut, dcut = smooth_cutoff(r, reach, 0.5 * reach)
    bare = np.exp(-r / (0.3 * reach))
    slope = 0.5 * bare * (dcut - cut / (0.3 * reach))
    pull = (slope / r)[:, None] * pairs.vectors
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, pairs.i, pull)
    np.add.at(forces, pairs.j, -pull)
    results = {"energy": float(0.5 * bare @ cut), "forces": forces}
    volume = cell_volume(atoms) if atoms.pbc.all() else None
    if volume is not None:
        virial = pairs.vectors.T @ pull
        results["stress"] = np.array([virial[a, b] for a, b in VOIGT]) / volume
    labelled = atoms.copy()
    labelled.calc = SinglePointCalculator(labelled, **results)
    return labelled


def tiny_model(trial: Trial, kernel: Kernel | None) -> tuple[GAP, list[ase.Atoms]]:
    """A model with the descriptor as its one term, fitted to toy labels of the frames, and these frames."""
    reach = trial.descriptor.r_cut
    frames = [toy_labels(atoms, reach) for atoms in trial.frames]
    for atoms in trial.frames:
        moved = atoms.copy()
        moved.positions += trial.rng.normal(scale=0.02 * reach, size=moved.positions.shape)
        frames.append(toy_labels(moved, reach))
    if kernel is None:
        x = max((trial.features(channel) for channel in trial.channels), key=len)
        kernel = usual_kernels(trial, x)[0]
    terms = [Term(trial.given, kernel, n_sparse=10)]
    noise = {"energy": 0.01, "forces": 0.05, "virial": 0.05}
    gap = GAP(
        terms=terms, e0={chemical_symbols[z]: 0.0 for z in trial.species}, noise_levels=noise, folds=2, random_state=0
    )
    return gap.fit(frames), frames


def check_model(trial: Trial, kernel: Kernel | None) -> None:
    """A model with the descriptor can be fitted, predicts with error bars, and is the same from a file."""
    if not isinstance(trial.descriptor.settings().get("name"), str):
        trial.checks.leave_out("a fitted model", "settings() gives no name, which a fit asks for")
        return
    gap, frames = tiny_model(trial, kernel)
    remedy = "the checks above should have found a cause; if they did not, look at what the error says"
    predicted = gap.predict(frames, uncertainty=True)
    plain = gap.predict(frames)
    for k, name in enumerate(trial.names):
        trial.checks.close(
            "a fitted model", predicted.energy[k], plain.energy[k], 10 * trial.equal, f"{name}, energy",
            "asking for error bars must not change a prediction", 1.0, ("with error bars", "without"),
        )  # fmt: skip
        assert predicted.energy_std is not None and predicted.forces_std is not None
        stds = np.append(np.asarray(predicted.forces_std[k]), predicted.energy_std[k])
        trial.checks.holds("a fitted model", np.isfinite(stds).all() and (stds >= 0).all(), f"{name}: {stds}", remedy)
    if getattr(trial.descriptor, "name", None) is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gapkit"
        gap.save(path)
        loaded = load(path).predict(frames)
    for k, name in enumerate(trial.names):
        for what, got, expected in (
            ("energy", loaded.energy[k], plain.energy[k]),
            ("forces", loaded.forces[k], plain.forces[k]),
        ):
            trial.checks.close(
                "model file", got, expected, trial.equal, f"{name}, {what}",
                "keep in settings() and arrays() all that the numbers depend on", 1.0, ("loaded", "before saving"),
            )  # fmt: skip
