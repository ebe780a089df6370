"""Where a potential has been judged: what counts as out of the domain of its training frames, and how far.

Two questions are asked of a frame. The deviation of each local energy is compared with the largest in a sample of the
training frames: one strange atom is found among thousands. Of molecules and clusters labels determine local energies
only up to their sum, so that their deviations are large everywhere; there the deviation of the whole energy, per
square root of atoms, is compared with the largest that a frame had under the posterior of the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ase
import numpy as np

from gapkit.fitting.training_set import TrainingSet
from gapkit.structures.neighbours import Structure

if TYPE_CHECKING:
    from gapkit.fitting.out_of_fold import OutOfFold
    from gapkit.potential.potential import Potential
    from gapkit.uncertainty.variance_parts import VarianceParts

#: training environments, about, whose variance sets the limit
SAMPLE = 4000
#: how much larger than the largest of the training frames a deviation may be
MARGIN = 1.5
#: the same of energies of whole frames, of which there are fewer to take the largest of
ENERGY_MARGIN = 2.0


@dataclass(frozen=True)
class Excess:
    """How far a frame is out of the domain.

    Attributes
    ----------
    value : float
        The largest deviation in units of its limit: above 1 the frame is out of the domain.
    reason : str
        What has that deviation.
    """

    value: float
    reason: str


def excess(
    potential: Potential,
    structure: Structure,
    local_std: np.ndarray,
    noise: bool,
    parts: VarianceParts | None = None,
) -> Excess:
    """That of one frame.

    Parameters
    ----------
    local_std : (n,)
        Standard deviations of local energies (eV), with or without ``noise``.
    parts
        What :meth:`Potential.variance_parts` gave for this frame, where it is known already.
    """
    limit, worst = potential.domain_limit(noise), int(np.argmax(local_std))
    found = Excess(
        float(local_std[worst] / limit),
        f"atom {worst}: the standard deviation of its local energy, {local_std[worst]:.3g} eV, is above {limit:.3g} eV",
    )
    largest = potential.metadata.get("domain_energy_variance")
    if largest is None:
        return found
    _, weights, hidden = parts if parts is not None else potential.variance_parts(structure, derivatives=False)
    ratio = float(np.sqrt((weights[0] + hidden[0]) / structure.n_atoms / largest)) / ENERGY_MARGIN
    if ratio <= found.value:
        return found
    times = ENERGY_MARGIN * ratio
    return Excess(ratio, f"the deviation of its energy is {times:.3g} times the largest of a held-out training frame")


def domain_sample(data: TrainingSet) -> list[ase.Atoms]:
    """Every so many training frames, without isolated atoms: almost everything is nearer to the data than they are to
    each other."""
    bonded = [f for f, t in zip(data.frames, data.targets, strict=True) if not t.isolated]
    step = max(1, sum(f.n_atoms for f in bonded) // SAMPLE)
    return [frame.atoms for frame in bonded[::step]]


def domain_variance(potential: Potential, sample: Sequence[ase.Atoms], structures: Sequence[Structure]) -> float:
    """Largest calibrated variance (eV^2, without noise) of a local energy in a sample of the training frames, by the
    exact formula and by the cheap forms, which may say more: a calculator warns by either."""
    largest = 0.0
    for atoms, structure in zip(sample, structures, strict=True):
        largest = max(largest, float(potential.local_spread(structure, noise=False).max()) ** 2)
        if potential.has_fast_local_variance(structure.numbers):
            p = potential.evaluate(atoms, structure=structure, local_variance=True)
            largest = max(largest, float(p.local_variance.max()))
    return largest


def frame_limit(data: TrainingSet, out_of_fold: OutOfFold) -> float | None:
    """Largest held-out variance (eV^2 per atom) of an energy, in the weights or hidden; None where a training frame is
    periodic (its local energies say more) or none was held out."""
    if any(f.atoms.pbc.any() for f in data.frames):
        return None
    return out_of_fold.largest_energy_variance()
