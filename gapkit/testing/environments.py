"""Checks of environments as arrays: shapes, derivatives, and that all ways to ask for them agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import ase
import numpy as np

from gapkit.descriptors import Descriptor, EnvironmentBatch
from gapkit.descriptors.base import Channel
from gapkit.structures.structure import Structure
from gapkit.testing.finite_differences import (
    central_difference,
    displaced,
    moved_along,
    refined_difference,
    strained,
)
from gapkit.testing.trial import Trial

#: step of finite differences by positions (A); by strain over the cutoff in A
STEP = 2e-4


def check_species_and_channels(trial: Trial) -> None:
    """Channels are tuples of whole numbers, each once, whatever the order of species; the original stays as it was."""
    checks, check = trial.checks, "species and channels"
    before, described = trial.channels, trial.descriptor
    checks.holds(
        check,
        isinstance(described, Descriptor) and type(described) is type(trial.given),
        f"for_species gives a {type(described).__name__}",
        "let for_species return a copy of the descriptor (copy.copy) that knows its species",
    )
    checks.holds(
        check,
        described.r_cut == trial.given.r_cut > 0,
        f"r_cut is {trial.given.r_cut} before and {described.r_cut} after for_species",
        "keep the cutoff that was set at construction, a positive distance in A",
    )
    whole = all(isinstance(c, tuple) and all(isinstance(z, int | np.integer) for z in c) for c in before)
    checks.holds(
        check,
        isinstance(before, tuple) and len(before) and whole and len(set(before)) == len(before),
        f"channels are {before!r:.200}",
        "give a tuple of tuples of atomic numbers, each once and at least one",
    )
    backwards = trial.given.for_species(trial.species[::-1]).channels
    checks.holds(
        check,
        backwards == before,
        f"channels are {before!r:.200}, and {backwards!r:.200} for the same species in another order",
        "sort the species in for_species",
    )
    trial.given.for_species(trial.species[:1])
    checks.holds(
        check,
        trial.descriptor.channels == before,
        "for_species changes a descriptor that was made by it before",
        "let for_species change a copy (copy.copy), not the descriptor itself",
    )


def check_shapes(trial: Trial) -> None:
    """Arrays have the shapes and types that compiled code relies on, and finite values."""
    for context, atoms, channel in trial.each():
        for derivatives in (True, False):
            batch = trial.batch(atoms, channel, derivatives)
            _check_batch(trial, batch, trial.structure(atoms), channel, context, derivatives)


def _check_batch(
    trial: Trial, batch: EnvironmentBatch, structure: Structure, channel: Channel, context: str, derivatives: bool
) -> None:
    check, checks = "shapes and types", trial.checks
    f, e, n = trial.descriptor.n_features(channel), len(batch.x), structure.n_atoms
    rows = len(batch.target)
    whole, real = np.dtype(np.int64), np.dtype(np.float64)
    wanted = {
        "x": ((e, f), real), "weight": ((e,), real), "atom": ((e,), whole), "start": ((e + 1,), whole),
        "target": ((rows,), whole), "J": ((rows, f), real), "dweight": ((rows,), real),
    }  # fmt: skip
    for name, (shape, kind) in wanted.items():
        array = getattr(batch, name)
        checks.holds(
            check,
            isinstance(array, np.ndarray) and array.shape == shape,
            f"{context}: {name} has the shape {np.shape(array)}, not {shape}",
            "see gapkit.descriptors.EnvironmentBatch: e environments, f = n_features(channel), c rows of derivatives; "
            "without environments the shapes are the same with e = c = 0",
        )
        checks.holds(
            check,
            array.dtype == kind,
            f"{context}: {name} is of {array.dtype}, not {kind}",
            f"make it with dtype=np.{kind}: compiled code relies on it",
        )
        checks.holds(
            check,
            array.flags.c_contiguous,
            f"{context}: {name} is not contiguous",
            "use np.ascontiguousarray: compiled code reads rows one after the other",
        )
        checks.holds(
            check,
            np.isfinite(array).all(),
            f"{context}: {name} is not finite at {tuple(map(int, np.argwhere(~np.isfinite(array))[:1].ravel()))}",
            "look for a division by a distance of zero, or a root of a negative number",
        )
    holds = lambda condition, what, remedy: checks.holds(check, condition, f"{context}: {what}", remedy)  # noqa: E731
    if not derivatives:
        holds(rows == 0, f"{rows} derivatives, without being asked", "leave J empty for derivatives=False")
    holds(
        batch.start[0] == 0 and batch.start[-1] == rows and (np.diff(batch.start) >= 0).all(),
        f"start runs from {batch.start[0]} to {batch.start[-1]} for {rows} rows of J",
        "start[e] is the first row of environment e, start[-1] the number of rows; all zero without derivatives",
    )
    holds(
        np.isin(batch.atom, structure.centres).all(),
        f"atom names {batch.atom[~np.isin(batch.atom, structure.centres)][:1]}, which is no centre of the structure",
        "name the atom that owns the environment's energy, by its index in the frame",
    )
    holds(
        len(np.unique(batch.atom)) == 1 + np.count_nonzero(np.diff(batch.atom)) or not e,
        "environments of one atom do not stand together",
        "sort them by atom: prior variances of local energies are summed atom by atom",
    )
    holds(
        ((batch.target >= 0) & (batch.target < 3 * n + 6)).all(),
        f"target runs from {batch.target.min(initial=0)} to {batch.target.max(initial=0)} for {n} atoms",
        "3 a + axis stands for a position, 3 n_atoms + v for a strain component (v = 0 to 5)",
    )
    for k in range(e):
        count = np.bincount(batch.target[batch.start[k] : batch.start[k + 1]], minlength=3 * n + 6)
        positions, strain = count[: 3 * n].reshape(n, 3), count[3 * n :]
        complete = (positions == positions[:, :1]).all() and (strain == strain[0]).all()
        holds(
            complete,
            f"environment {k} has rows of J for some coordinates of an atom, or some components of the strain, alone",
            "give rows for x, y and z of an atom, and for all six components, zero ones too: variances count on it",
        )


def check_kinds(trial: Trial) -> None:
    """The flags of the class are true: of_atoms, of_pairs, feature_range."""
    checks, check, d = trial.checks, "flags of the class", trial.descriptor
    for context, atoms, channel in trial.each():
        batch, structure = trial.batch(atoms, channel), trial.structure(atoms)
        if d.of_atoms:
            centres = structure.centres_of(channel[0])
            checks.holds(
                check,
                len(channel) == 1 and np.array_equal(batch.atom, centres),
                f"{context}: of_atoms is set, but environments belong to the atoms {batch.atom}, not {centres}",
                "make one environment for each atom of the channel's species, in the order of atoms",
            )
            checks.close(
                check, np.linalg.norm(batch.x, axis=1), np.ones(len(batch)), trial.equal,
                lambda k, context=context: f"{context}, environment {k[0]}, length of x",  # type: ignore[misc]
                "normalise x, and J with it, or leave of_atoms False",
            )  # fmt: skip
            checks.close(
                check, batch.weight, np.ones(len(batch)), 0.0, f"{context}, weights",
                "give weights of 1, or leave of_atoms False",
            )  # fmt: skip
        if d.feature_range is not None and len(batch):
            low, high = d.feature_range
            checks.holds(
                check,
                batch.x.shape[1] == 1 and low <= batch.x.min() and batch.x.max() <= high,
                f"{context}: features from {batch.x.min():.4g} to {batch.x.max():.4g}, feature_range {low} to {high}",
                "widen feature_range to all values of the one feature, or set it to None",
            )
    if d.of_pairs:
        for name, atoms in zip(trial.names, trial.frames, strict=True):
            found = np.sort(np.concatenate([trial.batch(atoms, c, False).x.ravel() for c in trial.channels]))
            expected = np.sort(trial.structure(atoms).pairs(d.r_cut).distances)
            checks.close(
                check, found, expected, trial.equal, f"{name}, features of all pairs",
                "make one environment per pair and end, its feature the distance, or leave of_pairs False",
            )  # fmt: skip
    if not (d.of_atoms or d.of_pairs or d.feature_range):
        checks.leave_out(check, "neither of_atoms, of_pairs nor feature_range is set")


def check_derivatives(trial: Trial) -> None:
    """J and dweight are the derivatives of x and weight, by positions and strain."""
    tested = {"positions": 0.0, "strain": 0.0}
    for context, atoms, channel in trial.each():
        batch = trial.batch(atoms, channel)
        if not len(batch):
            continue
        exact = dense_derivatives(batch, len(atoms))
        unit = float(np.abs(batch.x).max()) or 1.0
        for kind, name, exact_here, change, h in _changes(trial, atoms, exact):
            scale = unit if kind == "strain" else unit / trial.descriptor.r_cut
            columns = _columns(trial, channel, change)
            numerical = refined_difference(
                lambda h, columns=columns, batch=batch: _difference(columns, batch, h),  # type: ignore[misc]
                exact_here, h, trial.tolerance * min(scale, 1.0 / trial.descriptor.r_cut),
            )  # fmt: skip
            if numerical is None:
                continue  # a pair crosses the cutoff
            f = batch.x.shape[1]
            for column, what in ((slice(0, f), "J"), (slice(f, None), "dweight")):
                trial.checks.close(
                    f"derivatives by {kind}", exact_here[:, column], numerical[:, column], trial.tolerance,
                    lambda k, context=context, what=what, name=name: (  # type: ignore[misc]
                        f"{context}, environment {k[0]}" + (f", feature {k[1]}" if what == "J" else "") + f", by {name}"
                    ),
                    f"check sign, factor and target of {what}" if what == "J" else
                    "give the derivative of the weight, that of the cutoff function among others, in dweight",
                    scale if what == "J" else 1.0 if kind == "strain" else 1.0 / trial.descriptor.r_cut,
                    (f"{what} is", "finite differences give"),
                )  # fmt: skip
            tested[kind] = max(tested[kind], float(np.abs(numerical).max(initial=0.0)) / scale)
    for kind, largest in tested.items():
        trial.checks.holds(
            f"derivatives by {kind}",
            largest > 1e-6,
            f"no environment of any frame changes with the {kind}",
            "give frames whose atoms are within the cutoff of each other and in no perfect crystal (atoms.rattle)",
        )


def dense_derivatives(batch: EnvironmentBatch, n_atoms: int) -> np.ndarray:
    """Derivatives of features and weight by every target: (3 n + 6, e, f + 1)."""
    exact = np.zeros((3 * n_atoms + 6, len(batch), batch.x.shape[1] + 1))
    owner = np.repeat(np.arange(len(batch)), np.diff(batch.start))
    np.add.at(exact, (batch.target, owner), np.column_stack([batch.J, batch.dweight]))
    return exact


def _changes(
    trial: Trial, atoms: ase.Atoms, exact: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray, Callable[[float], ase.Atoms], float]]:
    """Displacements of two atoms along each axis, of all atoms at once, and the six strains."""
    n, rng = len(atoms), trial.rng
    for a in rng.permutation(n)[:2].tolist():
        for axis in range(3):
            name = f"the {'xyz'[axis]} coordinate of atom {a}"
            yield "positions", name, exact[3 * a + axis], partial(displaced, atoms, a, axis), STEP
    along = rng.normal(size=(n, 3))
    total = np.einsum("c,cef->ef", along.ravel(), exact[: 3 * n])
    yield "positions", "a displacement of all atoms", total, partial(moved_along, atoms, along), STEP
    for v, name in enumerate(("xx", "yy", "zz", "yz", "xz", "xy")):
        h = STEP / trial.descriptor.r_cut
        yield "strain", f"the strain component {name}", exact[3 * n + v], partial(strained, atoms, v), h


def _columns(trial: Trial, channel: Channel, change: Callable[[float], ase.Atoms]):
    def columns(s: float) -> tuple[np.ndarray, np.ndarray]:
        batch = trial.batch(change(s), channel, False)
        return batch.atom, np.column_stack([batch.x, batch.weight])

    return columns


def _difference(columns, batch: EnvironmentBatch, h: float) -> np.ndarray | None:
    """Finite differences, or None where environments appear or vanish."""
    found = {}
    for s in (-2 * h, -h, h, 2 * h):
        owner, found[s] = columns(s)
        if not np.array_equal(owner, batch.atom):
            return None
    return central_difference(found.__getitem__, h)


def check_ways_to_ask(trial: Trial) -> None:
    """Environments are the same without derivatives, twice, with a longer pair list, and for some atoms."""
    checks, d = trial.checks, trial.descriptor
    for context, atoms, channel in trial.each():
        structure = trial.structure(atoms)
        whole = d.environments(structure, channel)
        for array in (d.environments(structure, channel), d.environments(structure, channel, derivatives=False)):
            array.x.fill(np.nan)
            array.weight.fill(np.nan)
        again = d.environments(structure, channel)
        _same(
            trial,
            "asked again",
            again,
            whole,
            context,
            "keep no arrays between calls, and give out no array that is kept",
        )
        plain = d.environments(structure, channel, derivatives=False)
        for name in ("x", "weight", "atom"):
            checks.close(
                "without derivatives", getattr(plain, name), getattr(whole, name), trial.equal, f"{context}, {name}",
                "let features and weights be the same with derivatives=False",
            )  # fmt: skip
        longer = Structure(atoms, 1.3 * d.r_cut)
        trial.same_sums(
            "longer pair list", trial.sums(longer, channel), trial.probes(channel)(whole, len(atoms)), context,
            "take pairs with structure.pairs(self.r_cut): a structure may hold pairs beyond the descriptor's cutoff",
        )  # fmt: skip
        subset = np.sort(trial.rng.permutation(len(atoms))[: (len(atoms) + 1) // 2]).astype(np.int64)
        for some in (subset, subset[:0]):
            part = d.environments(structure, channel, atoms=some)
            foreign = part.atom[~np.isin(part.atom, some)]
            checks.holds(
                "some atoms",
                not len(foreign),
                f"{context}: environments(atoms={some.tolist()}) has one that belongs to atom {foreign[:1].tolist()}",
                "take structure.centres_of(number, atoms), and name as atom the one that owns the environment",
            )
            _same(
                trial, "some atoms", part, _of_atoms(whole, some), f"{context}, atoms={some.tolist()}",
                "environments(atoms=...) must give those of the whole that belong to these atoms, in the same order",
            )  # fmt: skip


def _of_atoms(batch: EnvironmentBatch, atoms: np.ndarray) -> EnvironmentBatch:
    keep = np.isin(batch.atom, atoms)
    rows = np.repeat(keep, np.diff(batch.start))
    start = np.concatenate([[0], np.cumsum(np.diff(batch.start)[keep])])
    return EnvironmentBatch(
        batch.x[keep], batch.weight[keep], batch.atom[keep], start, batch.target[rows], batch.J[rows],
        batch.dweight[rows],
    )  # fmt: skip


def _same(
    trial: Trial, check: str, got: EnvironmentBatch, expected: EnvironmentBatch, context: str, remedy: str
) -> None:
    for name in ("atom", "start", "target", "x", "weight", "J", "dweight"):
        trial.checks.close(
            check, getattr(got, name), getattr(expected, name), trial.equal, f"{context}, {name}", remedy,
        )  # fmt: skip


def check_frame_environments(trial: Trial) -> None:
    """frame_environments sum to the same as environments; they are the same where each_atom_alone is set."""
    for context, atoms, channel in trial.each():
        structure = trial.structure(atoms)
        probes, n = trial.probes(channel), len(atoms)
        part = trial.descriptor.frame_environments(structure, channel)
        _check_batch(trial, part, structure, channel, f"{context} (frame_environments)", True)
        sums, whole = probes(part, n), probes(trial.descriptor.environments(structure, channel), n)
        unit = float(np.abs(whole.value).max(initial=0.0))
        for name, scale in (("value", unit), ("strain", unit)):
            trial.checks.close(
                "frame_environments", getattr(sums, name).sum(axis=0), getattr(whole, name).sum(axis=0), trial.equal,
                f"{context}, {name} of the sum", "frame_environments must sum to the same energy as environments",
                scale, ("frame_environments give", "environments give"),
            )  # fmt: skip
        trial.checks.close(
            "frame_environments", sums.gradient, whole.gradient, trial.equal,
            lambda k, context=context: f"{context}, derivative by the position of atom {k[0]}",  # type: ignore[misc]
            "frame_environments must have the derivatives of the same energy", unit / trial.descriptor.r_cut,
            ("frame_environments give", "environments give"),
        )  # fmt: skip
        if trial.descriptor.each_atom_alone:
            _same(
                trial, "each_atom_alone", part, trial.descriptor.environments(structure, channel), context,
                "frame_environments must be environments, or each_atom_alone False",
            )  # fmt: skip
