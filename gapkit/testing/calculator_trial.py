"""Frames and results that all checks of a calculator share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from gapkit.structures.labels import cell_volume
from gapkit.testing.frames import frame_name
from gapkit.testing.report import Checks


@dataclass(frozen=True)
class CalculatorTrial:
    """Calculator under test, with frames and tolerances.

    Attributes
    ----------
    calculator
        ASE calculator.
    frames : tuple of ase.Atoms
    names : tuple of str
        Names of the frames in messages.
    checks : Checks
    tolerance : float
        Difference allowed from finite differences, in units of the largest number of its kind.
    rng : numpy.random.Generator
    """

    calculator: Any
    frames: tuple[ase.Atoms, ...]
    names: tuple[str, ...]
    checks: Checks
    tolerance: float
    rng: np.random.Generator

    @classmethod
    def of(
        cls,
        calculator: Any,
        frames: dict[str, ase.Atoms] | list[ase.Atoms],
        tolerance: float,
        rng: np.random.Generator,
    ) -> CalculatorTrial:
        """Trial on frames with names of their own, or without."""
        named = list(frames.items()) if isinstance(frames, dict) else [(None, atoms) for atoms in frames]
        names = tuple(frame_name(k, atoms, name) for k, (name, atoms) in enumerate(named))
        plain = tuple(_without_constraints(atoms) for _, atoms in named)
        return cls(calculator, plain, names, Checks(type(calculator).__name__), tolerance, rng)

    @property
    def equal(self) -> float:
        """Difference allowed between numbers that should be the same but for rounding."""
        return 1e-3 * self.tolerance

    def each(self) -> list[tuple[str, ase.Atoms]]:
        """Names and frames."""
        return list(zip(self.names, self.frames, strict=True))

    def implements(self, name: str) -> bool:
        """Whether the calculator states that it has this property."""
        return name in getattr(self.calculator, "implemented_properties", ())

    def has_stress(self, atoms: ase.Atoms) -> bool:
        """Whether a stress can be asked for."""
        return self.implements("stress") and cell_volume(atoms) is not None

    def ask(self, name: str, atoms: ase.Atoms) -> Any:
        """A property of a frame, as ASE asks for it: eV, eV/A, eV/A^3."""
        return self.calculator.get_property(name, atoms)

    def energy(self, atoms: ase.Atoms) -> float:
        """The energy (eV) that forces are derivatives of: the free energy where there is one."""
        return float(self.ask("free_energy" if self.implements("free_energy") else "energy", atoms))

    def results(self, atoms: ase.Atoms) -> dict[str, np.ndarray]:
        """Energy, forces and all other results of the calculator, copied."""
        names = ["energy", "forces"] + ["energies"] * self.implements("energies")
        if self.has_stress(atoms):
            names += ["stress"] + ["stresses"] * self.implements("stresses")
        return {name: np.array(self.ask(name, atoms), dtype=float) for name in names}

    def same_results(
        self,
        check: str,
        got: dict[str, np.ndarray],
        expected: dict[str, np.ndarray],
        context: str,
        remedy: str,
        allowed: float | None = None,
    ) -> None:
        """Ask that results are the same but for rounding."""
        for name, value in expected.items():
            self.checks.close(
                check, got[name], value, self.equal if allowed is None else allowed,
                lambda k, name=name: f"{context}, {name}" + (f" of atom {k[0]}" if len(k) > 1 else ""),  # type: ignore[misc]
                remedy, SCALES[name],
            )  # fmt: skip


#: numbers (eV, eV/A, eV/A^3) below which rounding of a sum of larger numbers may decide
SCALES = {"energy": 1.0, "energies": 1.0, "forces": 1.0, "stress": 0.1, "stresses": 0.1}


def _without_constraints(atoms: ase.Atoms) -> ase.Atoms:
    plain = atoms.copy()
    plain.set_constraint()
    return plain
