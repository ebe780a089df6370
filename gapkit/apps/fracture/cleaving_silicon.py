r"""The potential of Stillinger and Weber for silicon, compiled, with the parameters of Holland and Marder that cleave.

.. math::
    e_i = \tfrac12 \sum_j A \epsilon\, [B (\sigma/r)^p - 1]\, e^{\sigma/(r - a\sigma)}
        + \sum_{j<k} \lambda \epsilon\, (\cos\theta_{jik} + \tfrac13)^2
          e^{\gamma\sigma/(r_{ij} - a\sigma)} e^{\gamma\sigma/(r_{ik} - a\sigma)}

(Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3 to 2.6, q = 0). Holland and Marder (Phys. Rev. Lett. 80,
746 (1998)) doubled lambda, so that silicon cracks instead of flowing. matscipy has the same potential
(``Holland_Marder_PRL_80_746_Si``), the oracle of the tests; this one is some tens of times faster on small frames,
which is what a few thousand relaxations need.
"""

from __future__ import annotations

import math

import numpy as np
from ase.calculators.calculator import all_changes
from numba import njit

from gapkit.exceptions import SettingsError, SpeciesError
from gapkit.potential.locked_calculator import LockedCalculator
from gapkit.structures.verlet_list import VerletList

#: eV, A, and pure numbers; Stillinger and Weber (1985), eq. 2.7, with their energy unit as matscipy has it
EPSILON, SIGMA, A, B, P, REACH, GAMMA = 2.1683, 2.0951, 7.049556277, 0.6022245584, 4, 1.80, 1.20
#: three-body strength of Stillinger and Weber, and of Holland and Marder
STILLINGER_WEBER, HOLLAND_MARDER = 21.0, 42.0
#: range of the potential (A)
CUTOFF = REACH * SIGMA


@njit(cache=True, nogil=True)
def _evaluate(first, j, vectors, distances, strength, local, forces, virials):
    """Local energies (n,), forces (n, 3) and the strain derivative (n, 3, 3) of each atom's own energy, added."""
    for i in range(len(first) - 1):
        begin, end = first[i], first[i + 1]
        for p in range(begin, end):
            r = distances[p]
            gap = r - CUTOFF
            if gap > -1e-9:
                continue
            decay = math.exp(SIGMA / gap)
            power = B * (SIGMA / r) ** P
            local[i] += 0.5 * A * EPSILON * (power - 1.0) * decay
            slope = 0.5 * A * EPSILON * decay * (-P * power / r - (power - 1.0) * SIGMA / gap**2)
            for c in range(3):
                g = slope * vectors[p, c] / r
                forces[i, c] += g
                forces[j[p], c] -= g
                for d in range(3):
                    virials[i, c, d] += g * vectors[p, d]
        for p in range(begin, end):
            rp = distances[p]
            gp = rp - CUTOFF
            if gp > -1e-9:
                continue
            dp = math.exp(GAMMA * SIGMA / gp)
            for q in range(p + 1, end):
                rq = distances[q]
                gq = rq - CUTOFF
                if gq > -1e-9:
                    continue
                dq = math.exp(GAMMA * SIGMA / gq)
                dot = 0.0
                for c in range(3):
                    dot += vectors[p, c] * vectors[q, c]
                cosine = dot / (rp * rq)
                bend = cosine + 1.0 / 3.0
                front = strength * EPSILON * dp * dq
                local[i] += front * bend * bend
                by_cosine = 2.0 * front * bend
                by_rp = -front * bend * bend * GAMMA * SIGMA / gp**2
                by_rq = -front * bend * bend * GAMMA * SIGMA / gq**2
                for c in range(3):
                    up, uq = vectors[p, c] / rp, vectors[q, c] / rq
                    fp = by_rp * up + by_cosine * (uq - cosine * up) / rp
                    fq = by_rq * uq + by_cosine * (up - cosine * uq) / rq
                    forces[i, c] += fp + fq
                    forces[j[p], c] -= fp
                    forces[j[q], c] -= fq
                    for d in range(3):
                        virials[i, c, d] += fp * vectors[p, d] + fq * vectors[q, d]


class CleavingSilicon(LockedCalculator):
    """ASE calculator of the Stillinger-Weber form; energy, forces, stress, local energies, and ``stresses``: the strain
    derivative of each atom's own energy over the cell's volume (eV/A^3), as gapkit's calculators partition it.

    Parameters
    ----------
    strength : float
        lambda; Holland and Marder's by default.
    skin : float
        Extra reach (A) of the pair list, which is kept while atoms move less.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", "stresses"]  # noqa: RUF012

    def __init__(self, strength: float = HOLLAND_MARDER, skin: float = 0.5, **kwargs) -> None:
        if not 0 <= strength < np.inf:
            raise SettingsError(f"strength must be finite and not negative, not {strength}")
        super().__init__(**kwargs)
        self.strength = float(strength)
        self._pairs = VerletList(CUTOFF, skin)

    def fingerprint(self) -> dict[str, float]:
        """Parameters that the energies depend on, for :func:`gapkit.fingerprints.described`."""
        return {"strength": self.strength}

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        self.results = {}
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms
        if np.any(frame.numbers != 14):
            raise SpeciesError("this potential knows silicon only")
        pairs = self._pairs.pairs(frame)
        n = len(frame)
        local, forces, virials = np.zeros(n), np.zeros((n, 3)), np.zeros((n, 3, 3))
        _evaluate(pairs.first, pairs.j, pairs.vectors, pairs.distances, self.strength, local, forces, virials)
        energy = float(local.sum())
        self.results = {"energy": energy, "free_energy": energy, "energies": local, "forces": forces}
        if frame.cell.rank == 3:
            symmetric = 0.5 * (virials + virials.transpose(0, 2, 1)) / frame.get_volume()
            voigt = symmetric.reshape(n, 9)[:, [0, 4, 8, 5, 2, 1]]
            self.results["stresses"] = voigt
            self.results["stress"] = voigt.sum(axis=0)
