"""Barrier of a periodic energy profile along a path, with an error bar: a Bayesian linear model over Fourier functions.

The profile E(s) of an ion that moves through a crystal repeats with the lattice. Its barrier max E - min E is no linear
function of the profile, and the abscissae of maximum and minimum are uncertain too. The posterior of the barrier
therefore comes from random profiles; a linearised standard deviation stands beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from gapkit.checks import check_level
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.randomness import generator_of

#: abscissae in a period at which profiles are searched for their extrema
N_ABSCISSAE = 256
#: prior standard deviation of the mean of the profile about the mean label (eV)
OFFSET = 10.0
#: nodes of the hyperparameters: number, lowest and highest node, median and standard deviation of the logarithm
HYPERPRIORS = {
    "length": (6, 0.03, 0.3, 0.1, 1.0),
    "signal": (10, 0.02, 5.0, 0.3, 1.2),
    "noise": (5, 1e-4, 0.1, 3e-3, 1.5),
    "force_noise": (5, 1e-3, 0.5, 0.03, 1.5),
}
_MOST_SAMPLES = 1_000_000
#: values of one or two hyperparameters, and the logarithm of their prior weight
Node = tuple[Any, float]


@dataclass(frozen=True)
class ProfileBarrier:
    """Barrier of a periodic profile with its uncertainty.

    Attributes
    ----------
    value, value_std : float, eV
        Mean and standard deviation of max - min over random profiles of the posterior.
    samples : (S,) eV
        Barriers of the random profiles.
    linear, linear_std : float, eV
        Barrier of the mean profile, and its standard deviation with the abscissae of the extrema held fixed. The
        barrier of the mean profile is too low on average, because averaging flattens extrema.
    maximum, minimum : float
        Abscissae of the extrema of the mean profile, in the unit of the period.
    """

    value: float
    value_std: float
    samples: np.ndarray
    linear: float
    linear_std: float
    maximum: float
    minimum: float

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval (eV) that holds the barrier with the probability ``level``.

        Raises
        ------
        SettingsError
            For a level that is not between 0 and 1.
        """
        check_level(level)
        low, high = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval()
        return (
            f"barrier {self.value:.4f} +- {self.value_std:.4f} eV, 90 % between {low:.4f} and {high:.4f} eV "
            f"(linearised {self.linear:.4f} +- {self.linear_std:.4f} eV)"
        )


def fourier_functions(s: np.ndarray, harmonics: int, period: float = 1.0, derivative: bool = False) -> np.ndarray:
    """Constant, cosines and sines (n, 1 + 2 harmonics) of the path coordinate, or their slopes.

    Examples
    --------
    >>> fourier_functions(np.array([0.0, 0.25]), 1).round(12).tolist()
    [[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    k = 2 * np.pi * np.arange(1, harmonics + 1) / period
    phase = np.asarray(s, dtype=float)[:, None] * k
    if derivative:
        return np.hstack([np.zeros((len(phase), 1)), -k * np.sin(phase), k * np.cos(phase)])
    return np.hstack([np.ones((len(phase), 1)), np.cos(phase), np.sin(phase)])


def spectrum(length: float, harmonics: int, smooth: bool = True) -> np.ndarray:
    """Prior variances (harmonics,) of the coefficients of cos and sin, for a profile of unit variance.

    ``length`` is in units of the period. A smooth profile has the spectrum of the squared-exponential covariance,
    exp(-2 (pi k length)^2); another one that of the Matern covariance with nu = 3/2, (3 + (2 pi k length)^2)^-2
    (Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eqs. 4.11 and 4.15, in one dimension).

    Examples
    --------
    >>> round(float(spectrum(0.1, 8).sum()), 12)
    1.0
    """
    wave = 2 * np.pi * length * np.arange(1, harmonics + 1)
    decay = np.exp(-0.5 * (wave**2 - wave[0] ** 2)) if smooth else (3 + wave**2) ** -2.0
    return decay / decay.sum()


def hyperprior(name: str, unit: float = 1.0) -> list[Node]:
    """Nodes of a hyperparameter of :data:`HYPERPRIORS` in multiples of ``unit``: a log-normal prior on a grid.

    Examples
    --------
    >>> [round(value, 3) for value, _ in hyperprior("length")]
    [0.03, 0.048, 0.075, 0.119, 0.189, 0.3]
    """
    number, low, high, median, spread = HYPERPRIORS[name]
    values = np.geomspace(low, high, number)
    return [(float(v * unit), float(-0.5 * (np.log(v / median) / spread) ** 2)) for v in values]


def extrema(profiles: np.ndarray) -> np.ndarray:
    """Differences (S,) of the largest and the smallest value of periodic functions on even abscissae (S, N_ABSCISSAE).

    A parabola through three neighbouring abscissae refines each extremum.
    """

    def peak(f: np.ndarray) -> np.ndarray:
        rows, top = np.arange(len(f)), f.argmax(axis=1)
        left, middle, right = (f[rows, (top + shift) % f.shape[1]] for shift in (-1, 0, 1))
        curvature = 2 * middle - left - right
        return middle + (right - left) ** 2 / (8 * np.maximum(curvature, np.finfo(float).tiny)) * (curvature > 0)

    return peak(profiles) + peak(-profiles)


class PeriodicBarrier:
    """Bayesian linear model of a periodic energy profile; :meth:`barrier` gives max - min with its uncertainty.

    The profile is a constant and ``harmonics`` cosines and sines with independent normal coefficients
    (:func:`spectrum`). Smoothness and length of the spectrum, standard deviation of the profile (signal), and noise of
    energies and forces are not chosen but averaged over, on a grid weighted by evidence and prior: intervals at the
    most probable hyperparameters are too narrow for few labels (Rasmussen and Williams (2006), sec. 5.2).

    Parameters
    ----------
    harmonics
        Number of harmonics.
    period
        Period of the path coordinate, such as 1 or a length (A).
    noise
        Standard deviation of the labels' energies (eV); None: averaged over, with a log-normal prior of median 3 meV.
    force_noise
        Standard deviation of the labels' forces (eV per unit of the coordinate); None: averaged over, with a log-normal
        prior of median 0.03 eV per unit of ``period``.

    Raises
    ------
    SettingsError
        For a number that cannot work.

    Examples
    --------
    >>> s = np.arange(9) / 9
    >>> barrier = PeriodicBarrier(noise=1e-3).fit(s, 0.2 * np.cos(2 * np.pi * s)).barrier(random_state=0)
    >>> bool(abs(barrier.value - 0.4) < 2 * barrier.value_std < 0.02)
    True
    """

    def __init__(
        self,
        harmonics: int = 8,
        period: float = 1.0,
        noise: float | None = None,
        force_noise: float | None = None,
    ) -> None:
        if not (isinstance(harmonics, int | np.integer) and harmonics >= 1):
            raise SettingsError(f"harmonics must be a whole number of at least 1, not {harmonics!r}")
        for name, value in (("period", period), ("noise", noise), ("force_noise", force_noise)):
            if value is not None and not 0 < value < np.inf:
                raise SettingsError(f"{name} must be positive and finite, not {value}")
        self.harmonics, self.period, self.noise, self.force_noise = int(harmonics), float(period), noise, force_noise

    def fit(
        self,
        s: Sequence[float] | np.ndarray,
        energy: Sequence[float] | np.ndarray,
        forces: Sequence[float] | np.ndarray | None = None,
    ) -> PeriodicBarrier:
        """Learn the profile from labels.

        Parameters
        ----------
        s : (n,)
            Path coordinate of the labels; any number of periods.
        energy : (n,) eV
            Energies.
        forces : (n,) eV per unit of the coordinate
            Forces along the path, -dE/ds; nan where a label has none.

        Raises
        ------
        DataError
            For arrays of other shapes, values that are not finite, fewer than three labels in all, or labels at one
            place of the period only.
        """
        s, energy = _column("s", s), _column("energy", energy)
        if len(s) != len(energy):
            raise DataError(f"s and energy must have one length, not {len(s)} and {len(energy)}")
        slope_at, slopes = np.empty(0), np.empty(0)
        if forces is not None:
            given = np.asarray(forces, dtype=float)
            if given.shape != s.shape or np.isinf(given).any():
                raise DataError(f"forces must be finite or nan and have the shape {s.shape}, not {given.shape}")
            known = ~np.isnan(given)
            slope_at, slopes = s[known], -given[known]
        if len(s) + len(slopes) < 3 or np.ptp(np.mod(s / self.period, 1.0)) < 1e-9:
            raise DataError(
                f"{len(s)} energies and {len(slopes)} forces: at least three labels, at more than one place of the "
                "period, are needed"
            )
        self.mean_energy_ = float(energy.mean())
        functions = np.vstack(
            [
                fourier_functions(s, self.harmonics, self.period),
                fourier_functions(slope_at, self.harmonics, self.period, derivative=True),
            ]
        )
        self._condition(functions, np.r_[energy - self.mean_energy_, slopes], len(energy))
        return self

    def _condition(self, functions: np.ndarray, labels: np.ndarray, n_energies: int) -> None:
        """Evidence of all nodes of the hyperparameters, and what the posterior of the coefficients needs."""
        shapes, signals, noises = self._nodes(len(labels) > n_energies)
        unit = np.array([np.tile(spectrum(length, self.harmonics, smooth), 2) for (smooth, length), _ in shapes])
        inside = np.einsum("ni,gi,mi->gnm", functions[:, 1:], unit, functions[:, 1:])
        offset = OFFSET**2 * np.outer(functions[:, 0], functions[:, 0])
        grid = list(itertools.product(range(len(shapes)), signals, noises))
        which = np.array([g for g, _, _ in grid])
        scale = np.array([signal**2 for _, (signal, _), _ in grid])
        noise = np.array([pair for _, _, (pair, _) in grid])
        self._noise = np.repeat(noise, (n_energies, len(labels) - n_energies), axis=1) ** 2
        log_prior = np.array([shapes[g][1] + signal[1] + pair[1] for g, signal, pair in grid])
        self._prior = np.hstack([np.full((len(grid), 1), OFFSET**2), scale[:, None] * unit[which]])
        covariance = offset + scale[:, None, None] * inside[which]
        covariance[:, np.arange(len(labels)), np.arange(len(labels))] += self._noise
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise NumericsError(
                "the covariance of the labels is not positive definite: two labels stand at one place with next to no "
                "noise; leave one out, or give a larger noise"
            ) from None
        white = np.linalg.solve(factor, np.broadcast_to(labels, (len(grid), len(labels)))[:, :, None])[:, :, 0]
        evidence = -0.5 * (white**2).sum(axis=1) - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        log_weight = evidence + log_prior
        self.weights_ = np.exp(log_weight - logsumexp(log_weight))
        self._functions, self._labels, self._covariance = functions, labels, covariance

    def _nodes(self, with_forces: bool) -> tuple[list[Node], list[Node], list[Node]]:
        """Nodes of the spectrum (smooth, length), the signal, and the noise of energies and forces."""

        def axis(name: str, given: float | None, unit: float = 1.0) -> list[Node]:
            return [(given, 0.0)] if given is not None else hyperprior(name, unit)

        force = axis("force_noise", self.force_noise, 1 / self.period) if with_forces else [(1.0, 0.0)]
        noises = [((a, b), p + q) for (a, p), (b, q) in itertools.product(axis("noise", self.noise), force)]
        shapes = [((smooth, a), p) for smooth, (a, p) in itertools.product((True, False), axis("length", None))]
        return shapes, axis("signal", None), noises

    def coefficients(self, n_samples: int, random_state: int | np.random.Generator | None = None) -> np.ndarray:
        """Coefficients (S, 1 + 2 harmonics) of random profiles of the posterior, hyperparameters drawn too (eV).

        A draw of prior and noise is corrected by the labels (Matheron's rule; Wilson et al., J. Mach. Learn. Res. 22,
        105 (2021), eq. 6).
        """
        rng = generator_of(random_state)
        node = rng.choice(len(self.weights_), size=n_samples, p=self.weights_)
        prior = self._prior[node]
        drawn = rng.normal(size=prior.shape) * np.sqrt(prior)
        noise = rng.normal(size=(n_samples, len(self._labels))) * np.sqrt(self._noise[node])
        rest = self._labels - drawn @ self._functions.T - noise
        used, place = np.unique(node, return_inverse=True)
        inverse = np.linalg.inv(self._covariance[used])
        return drawn + prior * (np.einsum("snm,sm->sn", inverse[place], rest) @ self._functions)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of the coefficients over all nodes."""
        kept = self.weights_ > 1e-8 * self.weights_.max()
        weight = self.weights_[kept] / self.weights_[kept].sum()
        gain = np.linalg.solve(self._covariance[kept], self._functions[None] * self._prior[kept][:, None, :])
        means = np.einsum("gnf,n->gf", gain, self._labels)
        mean = weight @ means
        inside = np.einsum("gf,nf,gnh->gfh", self._prior[kept], self._functions, gain)
        covariance = np.diag(weight @ self._prior[kept]) - np.einsum("g,gfh->fh", weight, inside)
        return mean, covariance + np.einsum("g,gf,gh->fh", weight, means - mean, means - mean)

    def profile(self, s: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n,) and standard deviation (n,) of the profile at ``s`` relative to its mean over a period (eV)."""
        functions = fourier_functions(_column("s", s), self.harmonics, self.period)[:, 1:]
        mean, covariance = self._moments()
        variance = np.einsum("ni,ij,nj->n", functions, covariance[1:, 1:], functions)
        return functions @ mean[1:], np.sqrt(np.maximum(variance, 0.0))

    @property
    def offset(self) -> float:
        """Mean of the profile over a period (eV), which :meth:`profile` leaves out."""
        return self.mean_energy_ + float(self._moments()[0][0])

    def barrier(self, n_samples: int = 2000, random_state: int | np.random.Generator | None = None) -> ProfileBarrier:
        """Posterior of max - min of the profile.

        Parameters
        ----------
        n_samples
            Number of random profiles.

        Raises
        ------
        SettingsError
            For fewer than ten samples, or more than a million; before :meth:`fit`.
        """
        if not hasattr(self, "weights_"):
            raise SettingsError("the profile has not been fitted: call fit first")
        if not 10 <= n_samples <= _MOST_SAMPLES:
            raise SettingsError(f"n_samples must be between 10 and {_MOST_SAMPLES}, not {n_samples}")
        grid = np.arange(N_ABSCISSAE) * self.period / N_ABSCISSAE
        functions = fourier_functions(grid, self.harmonics, self.period)
        rng = generator_of(random_state)
        samples = extrema(self.coefficients(n_samples, rng) @ functions.T)
        mean, covariance = self._moments()
        profile = functions @ mean
        top, bottom = int(profile.argmax()), int(profile.argmin())
        slope = functions[top] - functions[bottom]
        return ProfileBarrier(
            value=float(samples.mean()),
            value_std=float(samples.std(ddof=1)),
            samples=samples,
            linear=float(extrema(profile[None])[0]),
            linear_std=float(np.sqrt(max(slope @ covariance @ slope, 0.0))),
            maximum=float(grid[top]),
            minimum=float(grid[bottom]),
        )


def _column(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Finite numbers (n,), checked."""
    column = np.asarray(values, dtype=float)
    if column.ndim != 1 or not np.isfinite(column).all():
        raise DataError(f"{name} must be a list of finite numbers, not an array of shape {column.shape}")
    return column
