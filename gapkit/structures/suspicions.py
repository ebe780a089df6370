"""What looks wrong with the labels of a set of frames before any fit: said in warnings, never in silence.

Each check returns one sentence or None. :func:`warn_of_labels` gives them as warnings.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from gapkit.exceptions import GapkitWarning
from gapkit.structures.labels import FORCE_NAMES, VIRIAL_NAMES, LabelledFrame

#: arrays (N, 3) that ASE itself makes, and that are no forces
ORDINARY = {"positions", "momenta", "velocities", "initial_magmoms", "magmoms", "dipoles", "scaled_positions"}
#: parts of a name that make an array (N, 3) or a number look like a label
FORCE_WORDS, ENERGY_WORDS, VIRIAL_WORDS = ("force", "grad"), ("energy", "energies"), ("virial", "stress")
#: names of energies that are no label of the whole frame's
OTHER_ENERGIES = ("kinetic", "per_atom", "formation", "cohesive", "atomic", "local", "std", "fermi", "error", "free")


def warn_of_labels(frames: Sequence[Atoms], labelled: Sequence[LabelledFrame], named: Sequence[str | None]) -> None:
    """Warn of labels that are there but not read, and of frames that differ in their level of theory.

    Parameters
    ----------
    frames, labelled
        The frames, and what was read of them.
    named
        Keys that the user named: these are not looked for elsewhere.
    """
    said = [
        *unread(frames, labelled, {n for n in named if n is not None}),
        placeholders(labelled),
        levels_of_theory(frames, labelled),
    ]
    for sentence in said:
        if sentence is not None:
            warnings.warn(sentence, GapkitWarning, stacklevel=4)


def unread(frames: Sequence[Atoms], labelled: Sequence[LabelledFrame], named: set[str]) -> Iterator[str]:
    """A sentence for every name under which frames that lack a label seem to have it."""
    found: Counter[tuple[str, str, str]] = Counter()
    for atoms, frame in zip(frames, labelled, strict=True):
        if frame.forces is None and not frame.placeholders:
            for name, values in atoms.arrays.items():
                if name not in ORDINARY and name not in FORCE_NAMES and _like_forces(name, values, len(atoms)):
                    found["forces", name, "forces_key"] += 1
        for name, value in atoms.info.items():
            label = _label_like(str(name), value)
            if label is not None and getattr(frame, label) is None:
                found[label, str(name), f"{label}_key"] += 1
    for (label, name, key), n in sorted(found.items()):
        if name not in named:
            yield (
                f"{n} of {len(frames)} frames have {name!r}, which looks like a {label} label and is not read; name it "
                f"with {key}={name!r}, or rename it"
            )


def _label_like(name: str, value: Any) -> str | None:
    """Which label of a whole frame an entry of ``atoms.info`` looks like."""
    word = name.lower()
    if name not in VIRIAL_NAMES and any(w in word for w in VIRIAL_WORDS) and np.size(value) in (6, 9):
        return "virial"
    energy = any(w in word for w in ENERGY_WORDS) and not any(w in word for w in OTHER_ENERGIES)
    return "energy" if energy and np.size(value) == 1 else None


def _like_forces(name: str, values: np.ndarray, n_atoms: int) -> bool:
    word = name.lower()
    return np.shape(values) == (n_atoms, 3) and any(w in word for w in FORCE_WORDS)


def levels_of_theory(frames: Sequence[Atoms], labelled: Sequence[LabelledFrame]) -> str | None:
    """A sentence where frames alike differ in ``info["level_of_theory"]``: their energies need not belong together.

    Alike are frames of one composition and one periodicity; a cluster may be computed by other settings than a crystal.
    """
    alike: dict[tuple[str, str], dict[str, list[float]]] = {}
    for atoms, frame in zip(frames, labelled, strict=True):
        name = atoms.info.get("level_of_theory")
        if name is not None and frame.energy is not None and not frame.is_isolated_atom:
            kind = atoms.get_chemical_formula(empirical=True), str(atoms.pbc)
            alike.setdefault(kind, {}).setdefault(str(name), []).append(frame.energy / frame.n_atoms)
    mixed = [(kind[0], levels) for kind, levels in sorted(alike.items()) if len(levels) > 1]
    if not mixed:
        return None
    formula, levels = mixed[0]
    parts = [f"{name!r} ({len(e)} frames, {np.median(e):.3f} eV/atom)" for name, e in sorted(levels.items())]
    return (
        f"frames of {formula} are of several levels of theory: {'; '.join(parts[:4])}; their energies need not belong "
        "to one function: fit one level at a time, or remove the key if they agree"
    )


def placeholders(labelled: Sequence[LabelledFrame]) -> str | None:
    """A sentence where forces of exactly zero stand for no force and were left out."""
    found = [f for f in labelled if f.placeholders]
    if not found:
        return None
    atoms = sum(f.placeholders for f in found)
    return (
        f"forces of exactly zero on {atoms} atoms of {len(found)} of {len(labelled)} frames (the first: frame "
        f"{found[0].index}) are not what symmetry makes vanish: they are taken for placeholders and left out"
    )
