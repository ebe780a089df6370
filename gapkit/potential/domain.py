"""Domain of a potential: which frames are unlike those that it was fitted to, and by how much.

Two questions are asked of a frame. The standard deviation of each local energy is compared with the largest in a sample
of the training frames: one strange atom is found among thousands. Labels of molecules and clusters determine local
energies only up to their sum, so that their standard deviations are large everywhere. There the standard deviation of
the whole energy, per square root of atoms, is compared with the largest that a training frame had under the posterior
of the other folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: how much larger than the largest of the training frames the standard deviation of a local energy may be
MARGIN = 1.5
#: distance from the domain, at least, of a frame with an atom that has no neighbours, where training frames had none
LONE_EXCESS = 2.0
#: the same of energies of whole frames, of which there are fewer to take the largest of
ENERGY_MARGIN = 2.0


@dataclass(frozen=True)
class DomainExcess:
    """Distance of a frame from the domain.

    Attributes
    ----------
    ratio : float
        The largest standard deviation in units of its limit: above 1 the frame is out of the domain.
    reason : str
        Which number has that standard deviation.
    """

    ratio: float
    reason: str


@dataclass(frozen=True)
class Domain:
    """Largest variances among the training frames.

    Attributes
    ----------
    local_variance : float
        Largest variance of a local energy (eV^2), calibrated, without noise; inf, under which no frame is
        out, where it was not measured.
    energy_variance : float or None
        Largest variance of a held-out frame's energy, per atom (eV^2), left in the weights or hidden by projections;
        None where whole energies are not judged.
    """

    local_variance: float = np.inf
    energy_variance: float | None = None

    def local_limit(self, noise: float = 0.0) -> float:
        """Largest standard deviation of a local energy (eV) within the domain, for labels of this noise (eV)."""
        return float(np.sqrt(MARGIN**2 * self.local_variance + noise**2))

    def excess(self, local_std: np.ndarray, noise: float = 0.0, energy_variance: float | None = None) -> DomainExcess:
        """Largest standard deviation of a frame in units of its limit: above 1 the frame is out of the domain.

        Parameters
        ----------
        local_std : (n,)
            Standard deviations of local energies (eV), with noise of the standard deviation ``noise``.
        energy_variance
            Variance of the frame's energy, per atom, as :attr:`energy_variance`; needed where that is not None.
        """
        limit, worst = self.local_limit(noise), int(np.argmax(local_std))
        found = DomainExcess(
            float(local_std[worst] / limit),
            f"atom {worst}: the standard deviation of its local energy, {local_std[worst]:.3g} eV, is above "
            f"{limit:.3g} eV",
        )
        if self.energy_variance is None or energy_variance is None:
            return found
        times = float(np.sqrt(energy_variance / self.energy_variance))
        if times / ENERGY_MARGIN <= found.ratio:
            return found
        return DomainExcess(
            times / ENERGY_MARGIN,
            f"the standard deviation of its energy is {times:.3g} times the largest of a held-out training frame",
        )
