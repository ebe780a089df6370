"""Suspicions about the labels of a set of frames before any fit; each becomes a warning.

Each check returns a :class:`Problem` or None. :func:`warn_of_labels` gives them as warnings.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from gapkit.exceptions import GapkitWarning
from gapkit.structures.label_conventions import ENERGY_UNITS
from gapkit.structures.labels import FORCE_NAMES, VIRIAL_NAMES, LabelledFrame

#: arrays (N, 3) that ASE itself makes, and that are no forces
ORDINARY = {"positions", "momenta", "velocities", "initial_magmoms", "magmoms", "dipoles", "scaled_positions"}
#: parts of a name that make an array (N, 3) or a number look like a label
FORCE_WORDS, ENERGY_WORDS, VIRIAL_WORDS = ("force", "grad"), ("energy", "energies"), ("virial", "stress")
#: largest force (eV/A) and energy per atom (eV, all electrons of the heaviest elements) that labels can be
LARGEST_FORCE, LARGEST_ENERGY = 1e3, 1e6
#: energies per atom (eV) of one composition may differ by this; two groups are narrow beside the gap between them; a
#: unit is named where the ratio of the groups is that of it, to this share
LARGEST_SPREAD, NARROW, UNIT_MATCH = 1.0, 0.2, 0.03
#: frames of one composition that groups are looked for in, and atoms of a frame, at least
FEWEST_ALIKE = 4
#: no bonds explain a gap (eV/atom) larger than this
LARGEST_GAP = 10.0
#: names of energies that are no label of the whole frame's
OTHER_ENERGIES = ("kinetic", "per_atom", "formation", "cohesive", "atomic", "local", "std", "fermi", "error", "free")


class Problem(NamedTuple):
    """Something suspicious about labels.

    Attributes
    ----------
    kind : str
        In one word or two, such as ``unread`` or ``levels of theory``.
    frames : tuple of int
        Frames that it is about, by their position in the user's list.
    text : str
        A sentence.
    """

    kind: str
    frames: tuple[int, ...]
    text: str


def warn_of_labels(
    frames: Sequence[Atoms], labelled: Sequence[LabelledFrame], named: Sequence[str | None]
) -> list[Problem]:
    """Warn of each of the :func:`suspicions`, and return them."""
    found = suspicions(frames, labelled, named)
    for problem in found:
        warnings.warn(problem.text, GapkitWarning, stacklevel=4)
    return found


def suspicions(
    frames: Sequence[Atoms], labelled: Sequence[LabelledFrame], named: Sequence[str | None] = ()
) -> list[Problem]:
    """Suspicions about labels: not read, placeholders, of several levels of theory or units, implausibly large.

    Parameters
    ----------
    frames, labelled
        The frames, and what was read of them.
    named
        Keys that the user named: these are not looked for elsewhere.
    """
    checks = (placeholders(labelled), levels_of_theory(frames, labelled), mixed_units(labelled), sizes(labelled))
    return [*unread(frames, labelled, {n for n in named if n is not None}), *(p for p in checks if p is not None)]


def unread(frames: Sequence[Atoms], labelled: Sequence[LabelledFrame], named: set[str]) -> Iterator[Problem]:
    """A problem for every name under which frames that lack a label seem to have it."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for atoms, frame in zip(frames, labelled, strict=True):
        if frame.forces is None and not frame.placeholders:
            for name, values in atoms.arrays.items():
                if name not in ORDINARY and name not in FORCE_NAMES and _like_forces(name, values, len(atoms)):
                    found.setdefault(("forces", name, "forces_key"), []).append(frame.index)
        for name, value in atoms.info.items():
            label = _label_like(str(name), value)
            if label is not None and getattr(frame, label) is None:
                found.setdefault((label, str(name), f"{label}_key"), []).append(frame.index)
    for (label, name, key), where in sorted(found.items()):
        if name not in named:
            yield Problem(
                "unread",
                tuple(where),
                f"{len(where)} of {len(frames)} frames have {name!r}, which looks like a {label} label and is not "
                f"read; name it with {key}={name!r}, or rename it",
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


def levels_of_theory(frames: Sequence[Atoms], labelled: Sequence[LabelledFrame]) -> Problem | None:
    """Frames alike that differ in ``info["level_of_theory"]``: their energies need not belong together.

    Alike are frames of one composition and one periodicity; a cluster may be computed by other settings than a crystal.
    """
    alike: dict[tuple[str, str], dict[str, list[LabelledFrame]]] = {}
    for atoms, frame in zip(frames, labelled, strict=True):
        name = atoms.info.get("level_of_theory")
        if name is not None and frame.energy is not None and not frame.is_isolated_atom:
            alike.setdefault(_kind(frame), {}).setdefault(str(name), []).append(frame)
    mixed = [(kind[0], levels) for kind, levels in sorted(alike.items()) if len(levels) > 1]
    if not mixed:
        return None
    formula, levels = mixed[0]
    parts = [f"{name!r} ({len(f)} frames, {np.median(_per_atom(f)):.3f} eV/atom)" for name, f in sorted(levels.items())]
    return Problem(
        "levels of theory",
        tuple(f.index for frames_of in levels.values() for f in frames_of),
        f"frames of {formula} are of several levels of theory: {'; '.join(parts[:4])}; their energies need not belong "
        "to one function: fit one level at a time, or remove the key if they agree",
    )


def _kind(frame: LabelledFrame) -> tuple[str, str]:
    return frame.atoms.get_chemical_formula(empirical=True), str(frame.atoms.pbc)


def _per_atom(frames: Sequence[LabelledFrame]) -> np.ndarray:
    return np.array([f.energy / f.n_atoms for f in frames if f.energy is not None])


def placeholders(labelled: Sequence[LabelledFrame]) -> Problem | None:
    """Forces of exactly zero that stand for no force and were left out."""
    found = [f for f in labelled if f.placeholders]
    if not found:
        return None
    atoms = sum(f.placeholders for f in found)
    return Problem(
        "placeholders",
        tuple(f.index for f in found),
        f"forces of exactly zero on {atoms} atoms of {len(found)} of {len(labelled)} frames (the first: frame "
        f"{found[0].index}) are not what symmetry makes vanish: they are taken for placeholders and left out",
    )


def mixed_units(labelled: Sequence[LabelledFrame]) -> Problem | None:
    """Energies per atom of one composition that fall into two groups, one a known unit times the other."""
    alike: dict[tuple[str, str], list[LabelledFrame]] = {}
    for frame in labelled:
        if frame.energy is not None and not frame.is_isolated_atom:
            alike.setdefault(_kind(frame), []).append(frame)
    for (formula, _), frames in sorted(alike.items()):
        order = np.argsort(_per_atom(frames))
        energies = _per_atom(frames)[order]
        if len(energies) < FEWEST_ALIKE or not np.ptp(energies) > LARGEST_SPREAD:
            continue
        split = 1 + int(np.argmax(np.diff(energies)))
        groups = energies[:split], energies[split:]
        gap = float(groups[1][0] - groups[0][-1])
        if max(np.ptp(g) for g in groups) > NARROW * gap:
            continue
        small, large = sorted((float(np.median(g)) for g in groups), key=abs)
        fewer = min((order[:split], order[split:]), key=len)
        ratios = {name: max(unit, 1 / unit) for name, unit in ENERGY_UNITS.items()}
        if frames[fewer[0]].n_atoms >= FEWEST_ALIKE:
            ratios["eV per atom"] = float(frames[fewer[0]].n_atoms)
        names = [name for name, ratio in ratios.items() if abs(ratio * small / large - 1) < UNIT_MATCH]
        if any(np.ptp(g) > UNIT_MATCH * abs(float(np.median(g))) for g in groups):
            names = []  # the ratio of the groups means nothing
        if not names and (len(fewer) < 2 or gap < LARGEST_GAP):
            continue  # one strange frame, which screening judges; or bonds that are broken
        return Problem(
            "mixed units",
            tuple(sorted(frames[k].index for k in fewer)),
            f"energies of {formula} fall into two groups of {split} and {len(energies) - split} frames around "
            f"{np.median(groups[0]):.4g} and {np.median(groups[1]):.4g} eV/atom"
            + (f", as if one were in {names[0]}" if names else "")
            + "; bring all to eV of the whole frame, by one method",
        )
    return None


def sizes(labelled: Sequence[LabelledFrame]) -> Problem | None:
    """Suspicions about forces or energies per atom that are larger than any bond gives."""
    found = []
    for frame in labelled:
        force = 0.0 if frame.forces is None else float(np.abs(frame.forces).max())
        energy = 0.0 if frame.energy is None else abs(frame.energy) / frame.n_atoms
        if force > LARGEST_FORCE or energy > LARGEST_ENERGY:
            found.append((frame.index, force, energy))
    if not found:
        return None
    index, force, energy = found[0]
    return Problem(
        "size",
        tuple(f[0] for f in found),
        f"labels of {len(found)} frames are beyond all measure (the first: frame {index}, forces up to {force:.3g} "
        f"eV/A, energy {energy:.3g} eV/atom); look at their units, and at atoms that are too close",
    )
