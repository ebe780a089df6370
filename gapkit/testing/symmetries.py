"""Checks of the symmetries of environments, of the cutoff, and of structures that are no single frame."""

from __future__ import annotations

import itertools

import ase
import numpy as np
from ase.build import make_supercell

from gapkit.structures.neighbours import FrameArrays
from gapkit.structures.structure import Structure
from gapkit.testing.frames import channel_name, domain, random_rotation
from gapkit.testing.probes import AtomSums
from gapkit.testing.trial import Trial

#: distance (A) of an atom from the cutoff on either side of it
NEAR = 1e-5


def check_invariances(trial: Trial) -> None:
    """Translation, rotation, order of atoms, choice of the cell, and supercells change nothing."""
    rng = trial.rng
    for context, atoms, channel in trial.each():
        n, sums = len(atoms), trial.sums(trial.structure(atoms), channel)

        def ask(check, changed, expected, remedy, context=context, channel=channel):
            got = trial.sums(trial.structure(changed), channel)
            trial.same_sums(check, got, expected, context, remedy)

        moved = atoms.copy()
        moved.positions += rng.normal(scale=3.0, size=3)
        ask("translation", moved, sums, "use vectors between atoms only, never positions")
        turned, rotation = atoms.copy(), random_rotation(rng)
        turned.set_cell(atoms.cell.array @ rotation.T)
        turned.positions = atoms.positions @ rotation.T
        ask(
            "rotation", turned, sums.rotated(rotation),
            "features must not depend on the orientation: use distances, angles, or sums over m of harmonics",
        )  # fmt: skip
        order = rng.permutation(n)
        ask(
            "order of atoms", atoms[order], sums.of(order),
            "features must not depend on the numbering of atoms; check how atom indices are used",
        )  # fmt: skip
        if not atoms.pbc.any():
            continue
        shifted = atoms.copy()
        shifted.positions += (rng.integers(-2, 3, size=(n, 3)) * atoms.pbc) @ atoms.cell.array
        ask("atoms in other cells", shifted, sums, "use the vectors of the pair list, which know the images")
        double = np.where(np.cumsum(atoms.pbc) == 1, 2, 1) * atoms.pbc + ~atoms.pbc
        twice = np.concatenate([np.arange(n)] * 2)
        ask("supercell", atoms * double, sums.of(twice), "features must not depend on the choice of the cell")
        if atoms.pbc.all():
            other = make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, -1, 1]], wrap=False)
            ask("other cell vectors", other, sums, "features must not depend on the choice of the cell vectors")


def check_cutoff(trial: Trial) -> None:
    """Sums over environments and their derivatives are continuous as a neighbour crosses the cutoff."""
    r_cut, rng, check = trial.descriptor.r_cut, trial.rng, "smooth at the cutoff"
    directions = random_rotation(rng)
    along = 0.5 * directions[0] + np.sqrt(0.75) * directions[1]
    seen = 0.0
    for species in itertools.product(trial.species[:3], repeat=3):
        structures = {}
        for s in (-2 * NEAR, -NEAR, NEAR, 2 * NEAR, -0.2 * r_cut):
            positions = np.array([np.zeros(3), 0.55 * r_cut * directions[0], (r_cut + s) * along])
            structures[s] = trial.structure(ase.Atoms(species, positions=positions))
        for channel in trial.channels:
            near = trial.sums(structures[-0.2 * r_cut], channel)
            if not near.value[:, 0].any():
                continue  # no environment of this channel
            sides = {s: trial.sums(structure, channel) for s, structure in structures.items()}
            seen = max(seen, float(np.abs(sides[NEAR].value - near.value).max()))
            unit = float(np.abs(near.value).max())
            for part, scale, name in (
                ("value", unit, "the sum over environments jumps"),
                ("gradient", unit / r_cut, "the derivative by positions jumps"),
                ("strain", unit, "the strain derivative jumps"),
            ):
                # the limits from both sides, by straight lines
                inside, outside = (2 * getattr(sides[s], part) - getattr(sides[2 * s], part) for s in (-NEAR, NEAR))
                trial.checks.close(
                    check, inside, outside, trial.tolerance,
                    lambda k, name=name, channel=channel, species=species: (  # type: ignore[misc]
                        f"three atoms of {ase.Atoms(species).symbols}, {channel_name(channel)}, atom {k[0]}, {name} as "
                        "a neighbour crosses r_cut"
                    ),
                    "multiply by a function that goes to zero at r_cut with its derivative, such as "
                    "gapkit.descriptors.base.smooth_cutoff",
                    max(scale, float(np.abs(getattr(near, part)).max())), ("inside", "outside"),
                )  # fmt: skip
    trial.checks.holds(
        check,
        seen > 1e-6,
        "no environment depends on a neighbour at 0.8 r_cut",
        "state as r_cut the distance where neighbours cease to count",
    )


def check_structures(trial: Trial) -> None:
    """Many frames in one structure are those frames alone; domains with ghosts sum to the whole."""
    r_cut = trial.descriptor.r_cut
    together = Structure.of_frames(FrameArrays.of(trial.frames), r_cut)
    begin = np.cumsum([0, *(len(atoms) for atoms in trial.frames)])
    for channel in trial.channels:
        found = trial.sums(together, channel)
        for name, atoms, a, b in zip(trial.names, trial.frames, begin[:-1], begin[1:], strict=True):
            alone, context = trial.sums(trial.structure(atoms), channel), f"{name}, {channel_name(channel)}"
            trial.same_sums(
                "many frames in one structure", found.of(np.arange(a, b)), alone, context,
                "use structure.pairs and structure.n_atoms only: a structure may hold the atoms of many frames",
            )  # fmt: skip
    for context, atoms, channel in trial.each():
        whole = trial.sums(trial.structure(atoms), channel)
        added = AtomSums(*(np.zeros_like(getattr(whole, part)) for part in ("value", "gradient", "strain")))
        for structure, owner in halves(trial, atoms):
            part = trial.sums(structure, channel)
            ghosts = np.setdiff1d(np.arange(len(owner)), structure.centres)
            trial.checks.holds(
                "domains with ghosts",
                not part.value[ghosts].any(),
                f"{context}: environments around ghosts, of which only the centres have any",
                "take structure.centres_of(number, atoms), not all atoms of the structure",
            )
            for name in ("value", "gradient", "strain"):
                np.add.at(getattr(added, name), owner, getattr(part, name))
        trial.same_sums(
            "domains with ghosts", added, whole, context,
            "make environments of structure.centres only, with derivatives by all atoms, ghosts included",
        )  # fmt: skip


def halves(trial: Trial, atoms: ase.Atoms) -> list[tuple[Structure, np.ndarray]]:
    """Two domains with ghosts whose centres together are all atoms, and the owners of their atoms."""
    order = trial.rng.permutation(len(atoms))
    cut = (len(atoms) + 1) // 2
    parts = [np.sort(part) for part in (order[:cut], order[cut:]) if len(part)]
    return [domain(atoms, trial.descriptor.r_cut, part, trial.rng) for part in parts]
