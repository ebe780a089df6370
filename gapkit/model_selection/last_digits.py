"""Changes of the predictions of a fit when only last digits of its input change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from sklearn.base import clone

from gapkit.checks import check_count, check_positive
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.structures.labels import labelled_frames

#: relative noise of positions and labels that stands for other last digits
AMPLITUDE = 1e-12


@dataclass(frozen=True)
class Movement:
    """Largest change of a prediction between a fit and refits to the same frames with other last digits.

    Attributes
    ----------
    energy : float
        eV/atom.
    force : float
        eV/A; of one component.
    refits, frames : int
        Number of refits, and of frames that predictions were compared for.
    amplitude : float
        Relative noise of positions and labels.
    """

    energy: float
    force: float
    refits: int
    frames: int
    amplitude: float

    def __str__(self) -> str:
        times = "one refit" if self.refits == 1 else f"{self.refits} refits"
        return (
            f"last digits (noise of {self.amplitude:g}, {times}, {self.frames} frames) move energies by up to "
            f"{1e3 * self.energy:.2g} meV/atom and forces by up to {self.force:.2g} eV/A"
        )


def noisy_copies(
    frames: Sequence[ase.Atoms], gap: GAP, rng: np.random.Generator, amplitude: float = AMPLITUDE
) -> list[ase.Atoms]:
    """Copies of labelled frames whose positions and labels carry relative noise; labels are ASE results.

    ``gap`` says by which names the frames' labels go. Forces and positions get noise in units of their largest.
    """

    def noisy(values):
        size = np.max(np.abs(values), initial=0.0)
        return np.asarray(values) + amplitude * size * rng.normal(size=np.shape(values))

    copies = []
    for frame in labelled_frames(frames, gap.energy_key, gap.forces_key, gap.virial_key, require_labels=False):
        atoms = frame.atoms.copy()
        atoms.positions = noisy(atoms.positions)
        results = {} if frame.energy is None else {"energy": float(noisy(frame.energy))}
        if frame.forces is not None:
            results["forces"] = noisy(frame.forces)
        if frame.virial is not None:
            results["stress"] = noisy(-frame.virial / frame.volume)
        atoms.calc = SinglePointCalculator(atoms, **results)
        copies.append(atoms)
    return copies


def last_digits(
    gap: GAP,
    frames: Sequence[ase.Atoms],
    test: Sequence[ase.Atoms] | None = None,
    refits: int = 1,
    amplitude: float = AMPLITUDE,
    random_state: int = 0,
    progress: bool = False,
) -> Movement:
    """Fit again to frames with other last digits, and compare predictions; the model keeps the result for its card.

    A fit with many free choices can amplify rounding: which sparse points are taken, where a search for levels ends.
    Such movements are no property of the data, and no error bar contains them.

    Parameters
    ----------
    gap
        A model that was fitted to ``frames``.
    frames
        Its training frames.
    test
        Frames that predictions are compared for; labels are not needed. Default: at most 200 of ``frames``.
    refits
        Number of refits, each at the cost of the fit.
    amplitude
        Relative noise of positions and labels.
    random_state
        Seed of the noise.
    progress
        Show a bar of the refits.

    Raises
    ------
    SettingsError
        For ``refits`` or an ``amplitude`` that is not positive.
    DataError
        Where there are no frames to compare predictions for.
    """
    check_count("refits", refits)
    check_positive("amplitude", amplitude)
    compared = list(frames[:: max(1, len(frames) // 200)] if test is None else test)
    if not compared:
        raise DataError("there are no frames to compare predictions for; give one or more as test")
    first, rng = gap.predict(compared), generator_of(random_state)
    sizes = np.array([len(atoms) for atoms in compared])
    energy = force = 0.0
    for _ in progress_bar(range(refits), desc="refits", unit="fit", show=progress):
        names = {"energy_key": None, "forces_key": None, "virial_key": None}
        again = clone(gap).set_params(**names).fit(noisy_copies(frames, gap, rng, amplitude)).predict(compared)
        energy = max(energy, float(np.max(np.abs(again.energy - first.energy) / sizes)))
        force = max(force, *(float(np.abs(a - b).max()) for a, b in zip(again.forces, first.forces, strict=True)))
    found = Movement(energy, force, refits, len(compared), amplitude)
    metadata = {**gap.potential_.metadata, "last_digits": asdict(found)}
    gap.potential_ = replace(gap.potential_, metadata=metadata)
    return found
