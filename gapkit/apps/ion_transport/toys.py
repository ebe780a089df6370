"""Ions whose transport is known in closed form, and random energy profiles with known barriers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapkit.apps.ion_transport.barrier_profile import (
    N_ABSCISSAE,
    extrema,
    fourier_functions,
    hyperprior,
    spectrum,
)


@dataclass(frozen=True)
class RandomProfile:
    """Random periodic profile of period 1.

    Attributes
    ----------
    coefficients : (1 + 2 harmonics,) eV
        Constant, cosines, sines.
    noise, force_noise : float
        Standard deviations of labels: energies (eV) and forces (eV per period).
    """

    coefficients: np.ndarray
    noise: float
    force_noise: float

    @property
    def harmonics(self) -> int:
        """Number of harmonics."""
        return len(self.coefficients) // 2

    @property
    def barrier(self) -> float:
        """Largest minus smallest value (eV)."""
        grid = np.arange(N_ABSCISSAE) / N_ABSCISSAE
        return float(extrema((fourier_functions(grid, self.harmonics) @ self.coefficients)[None])[0])

    def labels(self, s: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Energies (n,) in eV and forces (n,) in eV per period at ``s`` (n,), with noise."""
        energy = fourier_functions(s, self.harmonics) @ self.coefficients
        force = -(fourier_functions(s, self.harmonics, derivative=True) @ self.coefficients)
        return (
            energy + rng.normal(scale=self.noise, size=len(s)),
            force + rng.normal(scale=self.force_noise, size=len(s)),
        )


def prior_profile(rng: np.random.Generator, harmonics: int = 8) -> RandomProfile:
    """Profile from the prior of :class:`gapkit.apps.ion_transport.barrier_profile.PeriodicBarrier`, hyperparameters
    included: the ensemble over which its intervals hold exactly."""

    def drawn(name: str) -> float:
        values, logs = np.array(hyperprior(name)).T
        weights = np.exp(logs)
        return float(rng.choice(values, p=weights / weights.sum()))

    decay = spectrum(drawn("length"), harmonics, smooth=bool(rng.integers(2)))
    scale = drawn("signal") * np.sqrt(np.r_[0.0, decay, decay])
    return RandomProfile(rng.normal(size=len(scale)) * scale, drawn("noise"), drawn("force_noise"))


def power_law_profile(
    rng: np.random.Generator, harmonics: int = 6, amplitude: float = 0.3, power: float = 1.5, noise: float = 0.02
) -> RandomProfile:
    """Profile whose coefficients have the standard deviations ``amplitude k**-power`` (eV): not of the prior.

    Forces have five times the noise of energies.

    Examples
    --------
    >>> power_law_profile(np.random.default_rng(0), harmonics=2).coefficients.round(3).tolist()
    [0.0, -0.04, 0.068, 0.031, -0.057]
    """
    decay = amplitude * np.arange(1, harmonics + 1) ** -power
    scale = np.r_[0.0, decay, decay]
    return RandomProfile(rng.normal(size=len(scale)) * scale, noise, 5 * noise)
