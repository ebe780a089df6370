"""Settings that follow from the training frames: terms, and the levels to start the search from."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np

from gapkit.descriptors import SOAP, PairDistance
from gapkit.fitting.shells import REACH, Shells
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.levels import Levels, kind_of
from gapkit.models.observations import ISOLATED, ISOLATED_NOISE, Targets
from gapkit.models.terms import Term
from gapkit.structures.neighbours import neighbours

#: neighbours within the default SOAP cutoff on average, and the bounds of that cutoff (A)
NEIGHBOURS, SHORTEST, LONGEST = 40, 3.5, 6.5
#: sparse points of the default SOAP term: at most per species and in all, and labels per sparse point
MOST_PER_SPECIES, MOST_SPARSE, LABELS_PER_POINT = 2500, 7500, 4
#: sparse points beside an exact mean, which carry the error bars
EXACT_SPARSE = 1000
#: resolution of the default SOAP (n_max, l_max, sigma in A), and where bonds are shorter than ``SHORT_BOND`` (A)
COARSE, FINE, SHORT_BOND = (8, 6, 0.5), (8, 6, 0.4), 1.6
#: a force component (eV/A) below this vanishes by symmetry
FELT = 1e-6
#: root mean squares of forces (eV/A) that signals of some eV suit; others are in another unit, or of another world
ORDINARY = (1e-2, 20.0)
#: resolution of a fast fit, and its sparse points
FAST, FAST_SPARSE = (6, 4, 0.5), 200


def distances_of(frames: Sequence[ase.Atoms]) -> tuple[float, float]:
    """Median distance to the nearest neighbour, and the cutoff that takes in 40 neighbours on average (A).

    Molecules have fewer: there the cutoff is 1.1 times their longest distance below its upper bound, so that
    in a small molecule every atom sees every other.
    """
    nearest, everything, n_atoms = [], [], 0
    for atoms in frames:
        pairs = neighbours(atoms, LONGEST)
        n_atoms += pairs.n_atoms
        everything.append(pairs.distances)
        distance = np.full(pairs.n_atoms, np.inf)
        np.minimum.at(distance, pairs.i, pairs.distances)
        nearest.append(distance[np.isfinite(distance)])
    pooled = np.sort(np.concatenate(everything)) if everything else np.zeros(0)
    if len(pooled) == 0:
        return 2.5, SHORTEST
    wanted = NEIGHBOURS * n_atoms
    r_cut = pooled[wanted] if wanted < len(pooled) else 1.1 * np.quantile(pooled, 0.999)
    return float(np.median(np.concatenate(nearest))), float(np.clip(r_cut, SHORTEST, LONGEST))


def default_terms(
    frames: Sequence[ase.Atoms], n_labels: int, n_species: int, fast: bool = False, exact: bool = False
) -> tuple[Term, ...]:
    """Default terms: a pair term for the repulsive wall and one SOAP term, sized by the data (docs/ACCURACY.md).

    The cutoff takes in 40 neighbours on average; in ordered frames it is moved into the nearest gap between two shells.

    Parameters
    ----------
    frames
        Training frames without isolated atoms (a sample is enough).
    n_labels
        Number of energies, force components and virial components.
    n_species
        Number of species of the whole training set.
    fast
        A coarser SOAP and few sparse points: a fit in seconds.
    exact
        For an exact mean: a kernel of power two, and sparse points for the error bars alone.
    """
    nearest, r_cut = distances_of(frames)
    r_cut = Shells.of(frames, r_cut + REACH).away_from(round(r_cut, 1))
    most = FAST_SPARSE * n_species if fast else min(MOST_SPARSE, MOST_PER_SPECIES * n_species)
    if exact:
        most = min(most, EXACT_SPARSE)
    n_sparse = int(np.clip(n_labels // LABELS_PER_POINT, 50, most))
    n_max, l_max, sigma = FAST if fast else FINE if nearest < SHORT_BOND else COARSE
    return (
        Term(PairDistance(r_cut=r_cut), SquaredExponential(round(0.25 * nearest, 2)), n_sparse=30),
        Term(
            SOAP(r_cut=r_cut, n_max=n_max, l_max=l_max, sigma=sigma),
            DotProduct(2 if exact else 4),
            n_sparse=n_sparse,
            projection="auto",
        ),
    )


def starting_levels(
    targets: Sequence[Targets], terms: Sequence[Term], groups: Sequence[str]
) -> tuple[Levels, dict[str, float]]:
    """Levels to start from, and the lower bound of each group's noise.

    sigma_F is 5 % of the spread of the forces (of the energies per square root of atoms, where there are no forces),
    sigma_E = 0.07 sigma_F and sigma_V = 2 sigma_F per square root of atoms. Noise is bounded below by 1 % of its
    start: forces that vanish by symmetry would drive it to zero. Signals start at 20 eV (SOAP) and 2 eV, in proportion
    smaller or larger where forces are beyond ``ORDINARY``.
    """
    forces = [t.forces.ravel()[t.force_labels] for t in targets if t.forces is not None and not t.isolated]
    energies = [t.energy / np.sqrt(t.n_atoms) for t in targets if t.energy is not None and not t.isolated]
    felt = np.concatenate([*forces, np.zeros(0)])
    felt = felt[np.abs(felt) > FELT]  # those that vanish by symmetry say nothing of how well forces can be known
    sigma_f = 0.05 * float(np.sqrt(np.mean(felt**2))) if len(felt) else 0.0
    if not sigma_f > 1e-6:
        sigma_f = max(0.5 * float(np.std(energies)) if energies else 0.1, 1e-3)
    start = {"energy": 0.07 * sigma_f, "forces": sigma_f, "virial": 2 * sigma_f}
    noise = {g: ISOLATED_NOISE if g == ISOLATED else start[kind_of(g)] for g in groups}
    unit = sigma_f / float(np.clip(sigma_f, 0.05 * ORDINARY[0], 0.05 * ORDINARY[1]))
    signal = np.array([t.signal if t.signal is not None else unit * (20.0 if _is_soap(t) else 2.0) for t in terms])
    return Levels(noise, signal), {g: 0.01 * s for g, s in noise.items()}


def _is_soap(term: Term) -> bool:
    return term.descriptor.of_atoms
