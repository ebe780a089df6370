"""A check of ASE calculators: derivatives, sums, invariances, and that nothing stays behind from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np

from gapkit.checks import check_count, check_positive
from gapkit.exceptions import SettingsError
from gapkit.randomness import seed_of
from gapkit.testing import calculator_physics, calculator_states
from gapkit.testing.calculator_trial import CalculatorTrial
from gapkit.testing.frames import metal_frames
from gapkit.testing.report import CheckReport

#: copper, which effective-medium theory and most parameter sets know
COPPER = (29,)


def check_calculator(
    calculator: Any,
    frames: ase.Atoms | Sequence[ase.Atoms] | None = None,
    *,
    refuses_nan: bool = True,
    coordinates: int = 6,
    random_state: int | np.random.Generator | None = 0,
    tolerance: float = 1e-5,
) -> CheckReport:
    """Try everything that dynamics, relaxation and fits ask of an ASE calculator.

    Forces and stress against finite differences of the energy; local energies and stresses against their sums;
    translation, rotation, order of atoms, atoms in other cells, supercells; results that do not depend on what was
    calculated before, are not changed from outside, and vanish where a frame fails; ``batch_forces(atoms)``, where the
    calculator has it, against one frame after the other.

    Finite differences carry the noise of the energy. Two steps that should give the same derivative measure that noise,
    which is allowed beside ``tolerance``; an energy so noisy that nothing can be said fails the check.

    Parameters
    ----------
    calculator
        ASE calculator; constraints of frames are not applied.
    frames
        A frame, or frames, of species that the calculator knows; default: a crystal, a slab and a cluster of five atoms
        at most, of the species of a gapkit potential, else of copper. Frames are copied.
    refuses_nan
        Whether a position that is not a number must be an error. Most calculators of ASE give a number for it: False
        leaves the check out, and asks only that the next frame is right.
    coordinates
        Number of coordinates of each frame whose forces are tried one by one; one more derivative is along a random
        displacement of all atoms. Each costs 8 energies.
    random_state
        Seed of displacements and rotations.
    tolerance
        Difference allowed from finite differences, in units of the largest number of its kind. Numbers that should be
        the same but for rounding may differ by a thousandth of it.

    Returns
    -------
    CheckReport
        Checks that were made, with the largest difference of each.

    Raises
    ------
    AssertionError
        For the first check that fails: what differs, where, by how much, and what to do.
    SettingsError
        For no calculator, no frames, or numbers that are not positive.

    Examples
    --------
    >>> import gapkit
    >>> from gapkit.testing import check_calculator
    >>> report = check_calculator(gapkit.ZBL(r_cut=4.0, cutoff_width=2.0))
    >>> "forces" in report.passed, report.left_out["sum of stresses"]
    (True, 'stresses are not implemented')
    """
    if isinstance(calculator, type) or not hasattr(calculator, "get_property"):
        raise SettingsError(f"calculator must be an ASE calculator, constructed, not {calculator!r:.80}")
    tolerance, coordinates = check_positive("tolerance", tolerance), check_count("coordinates", coordinates)
    rng = np.random.default_rng(seed_of(random_state))
    chosen: dict[str, ase.Atoms] | list[ase.Atoms]
    if frames is None:
        chosen = metal_frames(getattr(getattr(calculator, "potential", None), "species", COPPER), rng)
    else:
        chosen = [frames] if isinstance(frames, ase.Atoms) else list(frames)
    if not chosen:
        raise SettingsError("frames must hold at least one frame; leave it out for those that come with gapkit")
    trial = CalculatorTrial.of(calculator, chosen, float(tolerance), rng)
    calculator_physics.check_results(trial)
    calculator_states.check_history(trial)
    calculator_states.check_aliases(trial)
    calculator_physics.check_sums(trial)
    calculator_physics.check_forces(trial, int(coordinates))
    calculator_physics.check_stress(trial)
    calculator_physics.check_invariances(trial)
    calculator_states.check_batches(trial)
    calculator_states.check_errors(trial, refuses_nan)
    return trial.checks.report()
