"""Knowledge of atoms without neighbours; only isolated atoms among the training frames determine their energies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gapkit.fitting.training_set import TrainingSet
from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.structures.reference_energies import LEAST_SQUARES, ReferenceEnergies
from gapkit.structures.structure import Structure

#: atoms whose prior is looked at
ATOMS = 200
#: largest standard deviation (eV): solids of the elements are bound by 0.02 to 8.9 eV per atom, 4 on average (Kittel,
#: Introduction to Solid State Physics, 8th edition, table 3.1)
COHESION = 5.0


def with_lone_atoms(
    data: TrainingSet, sample: Sequence[Structure], basis: SparseBasis, posterior: Posterior
) -> ReferenceEnergies:
    """Reference energies with standard deviations of the energies of atoms without neighbours, by species.

    What is added to a reference energy by least squares is taken off the local energies of bonded atoms, so that the
    prior of these is that of the lone atom. Species whose energies are from isolated atoms, or given, have none; nor
    have those of which training frames hold lone atoms.

    Parameters
    ----------
    data
        Training set.
    sample
        Some of its frames.
    basis, posterior
        Basis and posterior of the model.
    """
    unknown = {z for z, source in data.reference.source.items() if source.startswith(LEAST_SQUARES)}
    if not unknown:
        return data.reference
    least = dict.fromkeys(sorted(unknown), np.inf)
    for frame, targets in zip(data.frames, data.targets, strict=True):
        if not targets.isolated:
            structure = Structure(frame.atoms, basis.r_cut)
            coordination = structure.coordination()
            for z in unknown & set(structure.numbers.tolist()):
                least[z] = min(least[z], float(coordination[structure.numbers == z].min()))
    bonded = {z: c for z, c in least.items() if 0 < c < np.inf}
    alone = {z: s for z in bonded if (s := _prior_std(z, sample, basis, posterior)) is not None}
    return replace(data.reference, alone=alone, bonded={z: c for z, c in bonded.items() if z in alone})


def _prior_std(z: int, sample: Sequence[Structure], basis: SparseBasis, posterior: Posterior) -> float | None:
    """Prior standard deviation (eV) of local energies of a species, at most that of cohesion; None without atoms."""
    variances: list[float] = []
    for structure in sample:
        atoms = structure.centres_of(z)[: ATOMS - len(variances)]
        if len(atoms):
            variances += (basis.local_rows(structure, atoms).prior @ posterior.signal**2).tolist()
    return min(float(np.sqrt(np.mean(variances))), COHESION) if variances else None
