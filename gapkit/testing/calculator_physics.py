"""Checks of a calculator's numbers: shapes, sums, derivatives, invariances."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ase
import numpy as np
from ase.build import make_supercell

from gapkit.structures.labels import cell_volume
from gapkit.testing.calculator_trial import SCALES, CalculatorTrial
from gapkit.testing.finite_differences import VOIGT, displaced, moved_along, settled_difference, strained
from gapkit.testing.frames import random_rotation

#: steps of positions (A); steps of strains are a fifth of these numbers
STEPS = (1e-3, 4e-3, 1.6e-2)
#: error of a finite difference, in units of the largest force or stress, beyond which it says nothing
NOISIEST = 1e-2
#: force (eV/A) and stress (eV/A^3) that are taken for the largest of a frame where all are smaller
LEAST_FORCE, LEAST_STRESS = 0.1, 0.01


def check_results(trial: CalculatorTrial) -> None:
    """Energy, free energy, forces and stress are there, finite, and of the right shapes; frames stay as they are."""
    checks, check = trial.checks, "results"
    implemented = getattr(trial.calculator, "implemented_properties", ())
    for name in ("energy", "free_energy", "forces"):
        checks.holds(
            check, name in implemented, f"{name} is not among the implemented properties {list(implemented)}",
            "state it in implemented_properties, and give it in results"
            + (": for a model without electrons it is the energy" if name == "free_energy" else ""),
        )  # fmt: skip
    for name, atoms in trial.each():
        before, n = atoms.copy(), len(atoms)
        shapes = {"energy": (), "forces": (n, 3), "energies": (n,), "stress": (6,), "stresses": (n, 6)}
        for what, value in trial.results(atoms).items():
            checks.holds(
                check, value.shape == shapes[what], f"{name}: {what} has the shape {value.shape}, not {shapes[what]}",
                "give one row per atom, and stresses in Voigt order xx yy zz yz xz xy",
            )  # fmt: skip
            checks.holds(
                check, np.isfinite(value).all(), f"{name}: {what} is not finite",
                "look for a division by zero, or raise an error for frames that cannot be computed",
            )  # fmt: skip
        checks.holds(
            check, atoms == before and atoms.calc is None, f"{name}: the calculator changes the frame it is given",
            "work on a copy: self.atoms after Calculator.calculate(self, atoms, ...)",
        )  # fmt: skip
        checks.close(
            check, trial.ask("free_energy", atoms), trial.ask("free_energy", atoms.copy()), trial.equal,
            f"{name}, free energy", "give the same free energy for the same frame", 1.0,
        )  # fmt: skip


def check_sums(trial: CalculatorTrial) -> None:
    """Local energies sum to the energy, local stresses to the stress."""
    for local, whole in (("energies", "energy"), ("stresses", "stress")):
        check = f"sum of {local}"
        if not trial.implements(local):
            trial.checks.leave_out(check, f"{local} are not implemented")
            continue
        for name, atoms in trial.each():
            if local == "stresses" and not trial.has_stress(atoms):
                continue
            trial.checks.close(
                check, np.sum(trial.ask(local, atoms), axis=0), trial.ask(whole, atoms), trial.equal,
                f"{name}, {whole}", f"share the {whole} among atoms so that {local} sum to it, or leave {local} out",
                SCALES[whole], (f"{local} sum to", f"{whole} is"),
            )  # fmt: skip


def check_forces(trial: CalculatorTrial, coordinates: int) -> None:
    """Forces are minus the derivative of the energy by positions."""
    largest = 0.0
    for name, atoms in trial.each():
        n, forces = len(atoms), np.array(trial.ask("forces", atoms), dtype=float)
        unit = max(float(np.abs(forces).max()), LEAST_FORCE)
        for flat in trial.rng.permutation(3 * n)[:coordinates].tolist():
            a, axis = divmod(flat, 3)
            context = f"{name}, {'xyz'[axis]} component of the force on atom {a}"
            derivative = _derivative(
                trial, "forces", partial(displaced, atoms, a, axis), 1.0, unit, context
            )  # fmt: skip
            _close(trial, "forces", forces[a, axis], derivative, -1.0, unit, context, _FORCES)
            largest = max(largest, abs(derivative[0]))
        along = trial.rng.normal(size=(n, 3))
        along /= np.linalg.norm(along)
        context = f"{name}, forces along a displacement of all atoms"
        derivative = _derivative(
            trial, "forces", partial(moved_along, atoms, along), 1.0, unit, context
        )  # fmt: skip
        _close(trial, "forces", float(np.sum(forces * along)), derivative, -1.0, unit, context, _FORCES)
        trial.checks.close(
            "sum of forces", forces.sum(axis=0), np.zeros(3), 1e-2 * trial.tolerance, f"{name}, sum of forces",
            "forces on a frame without outer fields sum to zero: give each pair's force to both ends", max(unit, 1.0),
        )  # fmt: skip
    trial.checks.holds(
        "forces",
        largest > 1e-6,
        "the energy changes with no position that was tried",
        "give frames whose atoms interact and are not in equilibrium (atoms.rattle)",
    )


_FORCES = (
    "look at sign and factor of the forces (each pair counts for both ends), and give the free energy, whose "
    "derivatives forces are, in results['free_energy']"
)
_STRESS = "look at sign (tension positive), volume, Voigt order xx yy zz yz xz xy, and factors of the shear components"


def check_stress(trial: CalculatorTrial) -> None:
    """The stress is the strain derivative of the energy over the volume."""
    frames = [(name, atoms) for name, atoms in trial.each() if trial.has_stress(atoms)]
    if not frames:
        reason = (
            "no frame is periodic with a cell volume" if trial.implements("stress") else "stress is not implemented"
        )
        trial.checks.leave_out("stress", reason)
        return
    largest = 0.0
    for name, atoms in frames:
        stress, volume = np.array(trial.ask("stress", atoms), dtype=float), cell_volume(atoms)
        assert volume is not None
        unit = max(float(np.abs(stress).max()), LEAST_STRESS)
        for v, component in enumerate(("xx", "yy", "zz", "yz", "xz", "xy")):
            context = f"{name}, stress component {component}"
            derivative = _derivative(
                trial, "stress", partial(strained, atoms, v), volume, unit, context, 0.2
            )  # fmt: skip
            _close(trial, "stress", stress[v], derivative, 1.0, unit, context, _STRESS)
            largest = max(largest, abs(derivative[0]))
    trial.checks.holds("stress", largest > 1e-8, "the energy changes with no strain", "give frames under strain")


def _derivative(
    trial: CalculatorTrial,
    check: str,
    change: Callable[[float], ase.Atoms],
    divisor: float,
    unit: float,
    context: str,
    shorter: float = 1.0,
) -> tuple[float, float]:
    """Derivative of the energy by a ``change`` of the frame, over ``divisor``, and its error; steps are ``shorter``."""
    steps = [shorter * h for h in STEPS]
    found = settled_difference(lambda s: trial.energy(change(s)), steps, 0.1 * trial.tolerance * unit * divisor)
    value, error = found[0] / divisor, found[1] / divisor
    trial.checks.holds(
        check,
        error <= NOISIEST * max(unit, abs(value)),
        f"{context}: finite differences of the energy with steps of {steps[0]:g} to {steps[-1]:g} differ "
        f"by {error:.2g}",
        "the energy is noisy or jumps: converge it, and let it be continuous where neighbours cross the cutoff",
    )
    return value, error


def _close(
    trial: CalculatorTrial,
    check: str,
    found: float,
    derivative: tuple[float, float],
    sign: float,
    unit: float,
    context: str,
    remedy: str,
) -> None:
    trial.checks.close(
        check, found, sign * derivative[0], trial.tolerance, context, remedy, unit,
        (f"the calculator's {check} {'are' if check == 'forces' else 'is'}", "finite differences of the energy give"),
        noise=derivative[1],
    )  # fmt: skip


def check_invariances(trial: CalculatorTrial) -> None:
    """Translation, rotation, order of atoms, choice of the cell and supercells change nothing."""
    rng, allowed = trial.rng, 1e-2 * trial.tolerance
    for name, atoms in trial.each():
        n, known = len(atoms), trial.results(atoms)

        def ask(check, changed, expected, remedy, context=name):
            trial.same_results(check, trial.results(changed), expected, context, remedy, allowed)

        moved = atoms.copy()
        moved.positions += rng.normal(scale=3.0, size=3)
        ask("translation", moved, known, "use vectors between atoms only, never positions")
        rotation = random_rotation(rng)
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ rotation.T)
        turned.positions = atoms.positions @ rotation.T
        ask("rotation", turned, _rotated(known, rotation), "vectors must turn with the frame, energies stay")
        order = rng.permutation(n)
        ask(
            "order of atoms", atoms[order], {k: v[order] if k in _BY_ATOM else v for k, v in known.items()},
            "results must not depend on the numbering of atoms",
        )  # fmt: skip
        if not atoms.pbc.any():
            continue
        shifted = atoms.copy()
        shifted.positions += (rng.integers(-2, 3, size=(n, 3)) * atoms.pbc) @ atoms.cell.array
        ask("atoms in other cells", shifted, known, "take the vectors of neighbours from a list that knows the images")
        double = np.where(np.cumsum(atoms.pbc) == 1, 2, 1) * atoms.pbc + ~atoms.pbc
        twice = {k: np.concatenate([v, v]) if k in _BY_ATOM else v for k, v in known.items()}
        twice["energy"] = 2 * known["energy"]
        twice |= {"stresses": twice["stresses"] / 2} if "stresses" in twice else {}
        ask("supercell", atoms * double, twice, "energies must not depend on the choice of the cell")
        if atoms.pbc.all():
            other = make_supercell(atoms, [[1, 1, 0], [0, 1, 0], [0, -1, 1]], wrap=False)
            ask("other cell vectors", other, known, "results must not depend on the choice of the cell vectors")


_BY_ATOM = ("forces", "energies", "stresses")


def _rotated(results: dict[str, np.ndarray], rotation: np.ndarray) -> dict[str, np.ndarray]:
    """Results of a frame whose vectors are multiplied by ``rotation``."""
    turned = dict(results)
    turned["forces"] = results["forces"] @ rotation.T
    for name in ("stress", "stresses"):
        if name in results:
            tensor = np.empty((*results[name].shape[:-1], 3, 3))
            for v, (a, b) in enumerate(VOIGT):
                tensor[..., a, b] = tensor[..., b, a] = results[name][..., v]
            tensor = rotation @ tensor @ rotation.T
            turned[name] = np.stack([tensor[..., a, b] for a, b in VOIGT], axis=-1)
    return turned
