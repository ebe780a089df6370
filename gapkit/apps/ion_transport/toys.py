"""Ions whose transport is known in closed form, and random energy profiles with known barriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gapkit.apps.ion_transport.barrier_profile import (
    N_ABSCISSAE,
    PeriodicBarrier,
    ProfileBarrier,
    extrema,
    fourier_functions,
    hyperprior,
    spectrum,
)
from gapkit.apps.ion_transport.site_graphs import SiteGraph
from gapkit.apps.ion_transport.trajectories import IonTrajectory
from gapkit.randomness import generator_of


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

    def labels(
        self, s: np.ndarray, random_state: int | np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies (n,) in eV and forces (n,) in eV per period at ``s`` (n,), with noise."""
        rng = generator_of(random_state)
        energy = fourier_functions(s, self.harmonics) @ self.coefficients
        force = -(fourier_functions(s, self.harmonics, derivative=True) @ self.coefficients)
        return (
            energy + rng.normal(scale=self.noise, size=len(s)),
            force + rng.normal(scale=self.force_noise, size=len(s)),
        )


def prior_profile(random_state: int | np.random.Generator | None = None, harmonics: int = 8) -> RandomProfile:
    """Profile from the prior of :class:`gapkit.apps.ion_transport.barrier_profile.PeriodicBarrier`, hyperparameters
    included: the ensemble over which its intervals hold exactly."""
    rng = generator_of(random_state)

    def drawn(name: str) -> float:
        values, logs = np.array(hyperprior(name)).T
        weights = np.exp(logs)
        return float(rng.choice(values, p=weights / weights.sum()))

    decay = spectrum(drawn("length"), harmonics, smooth=bool(rng.integers(2)))
    scale = drawn("signal") * np.sqrt(np.r_[0.0, decay, decay])
    return RandomProfile(rng.normal(size=len(scale)) * scale, drawn("noise"), drawn("force_noise"))


def power_law_profile(
    random_state: int | np.random.Generator | None = None,
    harmonics: int = 6,
    amplitude: float = 0.3,
    power: float = 1.5,
    noise: float = 0.02,
) -> RandomProfile:
    """Profile whose coefficients have the standard deviations ``amplitude k**-power`` (eV): not of the prior.

    Forces have five times the noise of energies.

    Examples
    --------
    >>> power_law_profile(0, harmonics=2).coefficients.round(3).tolist()
    [0.0, -0.04, 0.068, 0.031, -0.057]
    """
    rng = generator_of(random_state)
    decay = amplitude * np.arange(1, harmonics + 1) ** -power
    scale = np.r_[0.0, decay, decay]
    return RandomProfile(rng.normal(size=len(scale)) * scale, noise, 5 * noise)


def profile_trials(
    ensemble: Callable[[np.random.Generator], RandomProfile], labels: str, trials: int, rng: np.random.Generator
) -> Iterator[tuple[float, ProfileBarrier]]:
    """True barrier (eV) and posterior of random profiles, each from labels of its own.

    Parameters
    ----------
    ensemble
        Function that draws a profile.
    labels
        ``"equispaced"``: nine energies at even distances from a random start; ``"random"``: nine at random places;
        ``"forces"``: five energies at even distances with forces.
    trials
        Number of profiles.

    Examples
    --------
    >>> [(true, found)] = profile_trials(prior_profile, "forces", 1, np.random.default_rng(0))
    >>> low, high = found.interval(0.99)
    >>> bool(low < true < high)
    True
    """
    for _ in range(trials):
        toy = ensemble(rng)
        n = 5 if labels == "forces" else 9
        s = rng.random(size=n) if labels == "random" else (np.arange(n) + rng.random()) / n
        energy, force = toy.labels(s, rng)
        fitted = PeriodicBarrier().fit(s, energy, force if labels == "forces" else None)
        yield toy.barrier, fitted.barrier(random_state=rng)


def brownian_ions(
    diffusion: float,
    n_ions: int = 8,
    frames: int = 200,
    frame_time: float = 100.0,
    vibration: float = 0.0,
    runs: int = 1,
    cell: np.ndarray | None = None,
    random_state: int | np.random.Generator | None = None,
) -> IonTrajectory:
    """Independent Brownian ions ("Li") of a known diffusion constant (A^2/fs): <r^2> = 6 D t.

    Parameters
    ----------
    frame_time
        fs.
    vibration
        Standard deviation of independent errors of each coordinate (A), as of fast vibrations.
    cell : (3, 3) A
        Default: a cube of 20 A; positions are not wrapped into it.

    Examples
    --------
    >>> brownian_ions(1e-4, n_ions=3, frames=5, random_state=0).positions.shape
    (1, 5, 3, 3)
    """
    rng = generator_of(random_state)
    steps = rng.normal(scale=np.sqrt(2 * diffusion * frame_time), size=(runs, frames, n_ions, 3))
    x = np.cumsum(steps, axis=1) + rng.normal(scale=vibration, size=steps.shape)
    cell = 20.0 * np.eye(3) if cell is None else np.asarray(cell, dtype=float)
    return IonTrajectory(x, np.full(n_ions, 3), np.full(n_ions, 6.94), cell, frame_time)


def caged_ions(
    n_ions: int = 8,
    frames: int = 200,
    frame_time: float = 100.0,
    amplitude: float = 0.3,
    random_state: int | np.random.Generator | None = None,
) -> IonTrajectory:
    """Ions ("Li") that vibrate about fixed sites with a standard deviation ``amplitude`` (A), and never hop."""
    rng = generator_of(random_state)
    x = rng.uniform(0, 20, size=(1, 1, n_ions, 3)) + rng.normal(scale=amplitude, size=(1, frames, n_ions, 3))
    return IonTrajectory(x, np.full(n_ions, 3), np.full(n_ions, 6.94), 20.0 * np.eye(3), frame_time)


def barrier_chain(rates: Sequence[float], spacing: float = 1.0) -> SiteGraph:
    """Chain of equal sites along x, with a barrier of its own rate (1/fs) from each site to the next.

    Examples
    --------
    >>> barrier_chain((1.0, 2.0)).n_sites
    2
    """
    n = len(rates)
    forward = np.arange(n)
    step = np.array([[spacing, 0.0, 0.0]])
    return SiteGraph(
        n_sites=n,
        start=np.r_[forward, (forward + 1) % n],
        end=np.r_[(forward + 1) % n, forward],
        displacement=np.vstack([np.repeat(step, n, axis=0), np.repeat(-step, n, axis=0)]),
        rate=np.r_[np.asarray(rates, dtype=float), np.asarray(rates, dtype=float)],
    )


def barrier_chain_diffusion(rates: Sequence[float], spacing: float = 1.0) -> float:
    """Diffusion constant (A^2/fs) of :func:`barrier_chain`: spacing^2 over the mean of 1 / rate.

    Rates add like conductances in series (Haus and Kehr, Phys. Rep. 150, 263 (1987), sec. 2).

    Examples
    --------
    >>> round(barrier_chain_diffusion((1.0, 3.0)), 12)
    1.5
    """
    return float(spacing**2 / np.mean(1 / np.asarray(rates, dtype=float)))
