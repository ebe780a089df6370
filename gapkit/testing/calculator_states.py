"""Checks of a calculator's state: nothing of one frame may show in the results of another."""

from __future__ import annotations

from collections.abc import Iterator

import ase
import numpy as np

from gapkit.testing.calculator_trial import CalculatorTrial

_STALE = (
    "results must follow from the frame alone: compare all that they depend on (positions, cell, pbc, numbers) with "
    "the frame that they were made for, and make lists of neighbours anew where atoms moved too far"
)


def check_history(trial: CalculatorTrial) -> None:
    """A frame has the same results whatever was calculated before, and whatever was asked first."""
    differs: dict[str, bool] = {}
    for name, atoms in trial.each():
        first = trial.results(atoms)
        for what, other in _changed(atoms, trial.rng):
            after_first = trial.results(other)
            if what in ("with an atom moved", "strained"):
                changed = any(not np.array_equal(after_first[k], first[k]) for k in first)
                differs[what] = differs.get(what, False) or changed
            # another frame in between, so that the path to this one is another
            trial.results(_far_from(other, trial.rng))
            trial.same_results(
                "earlier frames", trial.results(other), after_first, f"{name}, {what}, after another frame", _STALE
            )
            again = trial.results(atoms)
            trial.same_results("earlier frames", again, first, f"{name}, after the frame {what}", _STALE)
        for single in first:
            trial.results(_far_from(atoms, trial.rng))
            alone = {single: np.array(trial.ask(single, atoms), dtype=float)}
            trial.same_results(
                "one property alone", alone, {single: first[single]},
                f"{name}, asked first for {single}", "make all that is asked for, in any order",
            )  # fmt: skip
    for what, changed in differs.items():
        trial.checks.holds("earlier frames", changed, f"the results of every frame {what} are those of before", _STALE)


def _changed(atoms: ase.Atoms, rng: np.random.Generator) -> Iterator[tuple[str, ase.Atoms]]:
    """Frames that differ from ``atoms`` in one thing each."""
    moved = atoms.copy()
    moved.positions[int(rng.integers(len(atoms)))] += rng.normal(scale=0.05, size=3)
    yield "with an atom moved", moved
    if atoms.pbc.any():
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * (1 + 0.02 * atoms.pbc[:, None]), scale_atoms=False)
        yield "strained", strained
        cut = atoms.copy()
        cut.pbc = np.arange(3) > np.flatnonzero(atoms.pbc)[0]
        cut.pbc &= atoms.pbc
        yield "made periodic in one direction less", cut
    if len(atoms) > 1:
        fewer = atoms.copy()
        del fewer[0]
        yield "without its first atom", fewer


def _far_from(atoms: ase.Atoms, rng: np.random.Generator) -> ase.Atoms:
    """A frame of the same atoms at clearly other places."""
    other = atoms.copy()
    other.positions *= 1.07
    other.set_cell(atoms.cell.array * 1.07)
    other.positions += rng.normal(scale=0.03, size=other.positions.shape)
    return other


def check_aliases(trial: CalculatorTrial) -> None:
    """Arrays that were given out neither change later nor change the results when a user changes them."""
    check, followed = "arrays given out", False
    for name, atoms in trial.each():
        work = atoms.copy()
        work.calc = trial.calculator
        forces = work.get_forces()
        kept = forces.copy()
        work.positions += trial.rng.normal(scale=0.03, size=work.positions.shape)
        moved = work.get_forces().copy()
        trial.checks.holds(
            check,
            np.array_equal(forces, kept),
            f"{name}: forces that were given out change when another frame is calculated",
            "make new arrays for each frame, or give out copies",
        )
        followed = followed or not np.array_equal(moved, kept)
        given = work.get_forces()
        given[:] = 0.0
        trial.checks.holds(
            check,
            np.array_equal(work.get_forces(), moved),
            f"{name}: results change when a user changes the forces that were given out",
            "let get_property give a copy of the array, as ase.calculators.calculator.Calculator does",
        )
        work.positions[:] = atoms.positions
        trial.checks.close(
            "atoms moved in place", work.get_forces(), kept, trial.equal,
            lambda k, name=name: f"{name}, moved there and back, force on atom {k[0]}",  # type: ignore[misc]
            _STALE, 1.0,
        )  # fmt: skip
    trial.checks.holds(
        "atoms moved in place",
        followed,
        "forces of every frame stay the same after atoms.positions was changed in place",
        "keep a copy of the frame (Calculator.calculate does), not the frame itself",
    )


def check_batches(trial: CalculatorTrial) -> None:
    """Results of ``batch_forces(atoms)`` equal those of the calculator for one copy after the other."""
    check, whole = "batch_forces", getattr(trial.calculator, "batch_forces", None)
    if whole is None:
        trial.checks.leave_out(check, "the calculator has no such method: copies are evaluated one by one")
        return
    remedy = "batch_forces(atoms) gives a function from positions (R, n, 3) to energies (R,) and forces (R, n, 3)"
    for name, atoms in trial.each():
        function = whole(atoms.copy())
        for size in (3, 2):  # another number of copies, and other positions, with one and the same function
            positions = atoms.positions + trial.rng.normal(scale=0.05, size=(size, len(atoms), 3))
            kept = positions.copy()
            energies, forces = function(positions)
            trial.checks.holds(check, np.array_equal(positions, kept), f"{name}: positions are changed", remedy)
            trial.checks.holds(
                check,
                np.shape(energies) == (size,) and np.shape(forces) == positions.shape,
                f"{name}: energies {np.shape(energies)} and forces {np.shape(forces)} for {size} copies",
                remedy,
            )
            for r in range(size):
                copy = atoms.copy()
                copy.positions = positions[r]
                expected = {"energy": trial.energy(copy), "forces": trial.ask("forces", copy)}
                got = {"energy": energies[r], "forces": forces[r]}
                trial.same_results(check, got, expected, f"{name}, copy {r}", remedy)


def check_errors(trial: CalculatorTrial, refuses_nan: bool) -> None:
    """A position that is not a number is an error, leaves no results, and no trace in the next frame."""
    check, calculator = "a position that is not a number", trial.calculator
    for name, atoms in trial.each():
        expected = trial.results(atoms)
        bad = atoms.copy()
        bad.positions[len(bad) // 2, 1] = np.nan
        error: Exception | None = None
        with np.errstate(all="ignore"):
            try:
                found = trial.energy(bad)
            except Exception as raised:
                error = raised
        if refuses_nan:
            trial.checks.holds(
                check, error is not None, f"{name}: no error, but an energy of {found if error is None else 0.0:g} eV",
                "raise an error for positions that are not finite, or say refuses_nan=False if the calculator is not "
                "yours to change",
            )  # fmt: skip
        else:
            trial.checks.leave_out(check, "refuses_nan=False")
        if error is not None:
            trial.checks.holds(
                "results after an error",
                not getattr(calculator, "results", {}),
                f"{name}: results hold {sorted(getattr(calculator, 'results', {}))} after {type(error).__name__}",
                "set self.results = {} before anything can fail",
            )
        trial.same_results(
            "the frame after an error", trial.results(atoms), expected, name,
            "keep no list of neighbours and no results of a frame that failed",
        )  # fmt: skip
