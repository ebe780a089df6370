"""Knowledge of atoms without neighbours; only isolated atoms among the training frames determine their energies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gapkit.models.basis import SparseBasis
from gapkit.models.posterior import Posterior
from gapkit.structures.reference_energies import LEAST_SQUARES, ReferenceEnergies
from gapkit.structures.structure import Structure

#: atoms whose prior is looked at
ATOMS = 200
#: largest standard deviation (eV): solids of the elements are bound by 0.02 to 8.9 eV per atom, 4 on average (Kittel,
#: Introduction to Solid State Physics, 8th edition, table 3.1)
COHESION = 5.0


def lone_stds(
    reference: ReferenceEnergies, sample: Sequence[Structure], basis: SparseBasis, posterior: Posterior
) -> dict[int, float]:
    """Standard deviation (eV) of the energy of an atom without neighbours, by species.

    What is added to a reference energy by least squares is taken off the local energies of bonded atoms, so that the
    prior of these is that of the lone atom. Species whose energies are from isolated atoms, or given, have none; nor
    have those of which training frames hold lone atoms.

    Parameters
    ----------
    reference
        Reference energies.
    sample
        Training frames.
    basis, posterior
        Basis and posterior of the model.
    """
    unknown = {z for z, source in reference.source.items() if source.startswith(LEAST_SQUARES)}
    for structure in sample:
        unknown -= set(structure.numbers[structure.lone()].tolist())
    found = {}
    for z in sorted(unknown):
        variances: list[float] = []
        for structure in sample:
            atoms = structure.centres_of(z)[: ATOMS - len(variances)]
            if len(atoms):
                variances += (basis.local_rows(structure, atoms).prior @ posterior.signal**2).tolist()
        if variances:
            found[z] = min(float(np.sqrt(np.mean(variances))), COHESION)
    return found
