r"""Rates from a minimum and a saddle by harmonic transition state theory, with the error of the barrier.

Classical (Vineyard, J. Phys. Chem. Solids 3, 121 (1957)):
:math:`k = g \prod_i \nu_i / \prod_j' \nu_j^\ddagger\; e^{-E/k_BT}`. Quantum (Eyring, J. Chem. Phys. 3, 107 (1935)):
:math:`k = g\, (k_BT/h)\, e^{-(F^\ddagger - F)/k_BT}` with free energies F of harmonic oscillators, the imaginary mode
left out, times a tunnelling factor. g is the number of equivalent saddles, or the ratio of symmetry numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

from gapkit.apps.kinetics.tunnelling import crossover_temperature, tunnelling_factor
from gapkit.checks import check_all_positive, check_positive
from gapkit.exceptions import DataError, SettingsError
from gapkit.uncertainty.arrhenius import Arrhenius, fit_arrhenius
from gapkit.uncertainty.lognormal import interval_factors, mean_factor, mean_is_meaningful, share_of_mean_in_tail
from gapkit.vibrations import NormalModes
from gapkit.vibrations.harmonic import oscillators
from gapkit.vibrations.rigid_motions import principal_axes

#: h/e: one over this time (s) is the frequency of one eV
_PLANCK = units._hplanck / units._e
STATISTICS = ("classical", "quantum")


@dataclass(frozen=True)
class RatePosterior:
    r"""Rates at several temperatures, whose logarithms have errors that all temperatures share.

    The barrier has the standard deviation s_E and the logarithm of the prefactor s_A, with a correlation where both
    come from the same potential; then
    :math:`\mathrm{cov}(\ln k_T, \ln k_{T'}) = s_A^2 - c\,(1/k_BT + 1/k_BT') + s_E^2/(k_BT\,k_BT')`, c their covariance.

    Attributes
    ----------
    temperature : (t,) K
    ln_rate : (t,)
        Logarithms of the rates (1/s) at the mean barrier and prefactor: logarithms of the medians.
    barrier, barrier_std : float, eV
    ln_prefactor_std : float
    covariance_of_both : float, eV
        Covariance of the barrier and the logarithm of the prefactor.
    tunnelling : (t,)
        Factors from tunnelling, part of the rates.
    notes : tuple of str
        Limits that the rates come near to.
    """

    temperature: np.ndarray
    ln_rate: np.ndarray
    barrier: float
    barrier_std: float
    ln_prefactor_std: float
    covariance_of_both: float
    tunnelling: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def covariance(self) -> np.ndarray:
        """Covariance (t, t) of the logarithms of the rates."""
        inverse = 1.0 / (units.kB * self.temperature)
        both = self.covariance_of_both * (inverse[:, None] + inverse[None])
        return self.ln_prefactor_std**2 - both + self.barrier_std**2 * np.outer(inverse, inverse)

    @property
    def ln_rate_std(self) -> np.ndarray:
        """Standard deviations (t,) of the logarithms of the rates."""
        return np.sqrt(np.clip(np.diagonal(self.covariance), 0.0, None))

    @property
    def median(self) -> np.ndarray:
        """Median rates (t,) in 1/s."""
        return np.exp(self.ln_rate)

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Ends (t,) of the central interval (1/s) that holds the share ``level``."""
        low, high = interval_factors(self.ln_rate_std, level)
        return self.median * low, self.median * high

    @property
    def mean(self) -> np.ndarray:
        """Mean rates (t,) in 1/s, the median times exp(s^2/2); see :attr:`mean_is_meaningful`."""
        return self.median * mean_factor(self.ln_rate_std)

    @property
    def mean_is_meaningful(self) -> np.ndarray:
        """Whether each mean (t,) says anything (:func:`gapkit.uncertainty.lognormal.mean_is_meaningful`)."""
        kT = units.kB * self.temperature
        return mean_is_meaningful(self.barrier, kT * self.ln_rate_std, kT)

    @property
    def share_of_mean_in_tail(self) -> np.ndarray:
        """Share (t,) of each mean that rests on barriers more than two standard deviations low."""
        return share_of_mean_in_tail(self.ln_rate_std)

    def corrected(self, bias: float) -> RatePosterior:
        """Rates with a known systematic error of the barrier taken out.

        Parameters
        ----------
        bias : float, eV
            Predicted less true barrier; the rates change by the factor exp(bias / k_B T).
        """
        ln_rate = self.ln_rate + bias / (units.kB * self.temperature)
        return RatePosterior(
            self.temperature, ln_rate, self.barrier - bias, self.barrier_std, self.ln_prefactor_std,
            self.covariance_of_both, self.tunnelling, self.notes,
        )  # fmt: skip

    def arrhenius(self) -> Arrhenius:
        """Arrhenius law of the rates; all errors are shared by the temperatures."""
        return fit_arrhenius(self.temperature, self.ln_rate, shared_covariance=self.covariance)

    def __str__(self) -> str:
        low, high = self.interval(0.9)
        lines = [
            f"{'T (K)':>7} {'k (1/s)':>11} {'90 % interval':>25} {'std ln k':>9} {'mean k':>13} {'tunnelling':>10}"
        ]
        rows = zip(
            self.temperature, self.median, low, high, self.ln_rate_std, self.mean, self.mean_is_meaningful,
            self.tunnelling, strict=True,
        )  # fmt: skip
        for T, k, lo, hi, s, mean, sound, kappa in rows:
            said = f"{mean:.3g}" if sound else "no meaning"
            lines.append(f"{T:>7.1f} {k:>11.3g} {lo:>11.3g} to {hi:>9.3g} {s:>10.2f} {said:>13} {kappa:>10.3g}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def ln_rates(
    minimum: NormalModes,
    saddle: NormalModes,
    temperature: float | np.ndarray,
    *,
    barrier: float | None = None,
    statistics: str = "quantum",
    tunnelling: str = "none",
    backward: float = np.inf,
    degeneracy: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of rates (1/s) by harmonic transition state theory, and tunnelling factors, both of shape (t,).

    Parameters
    ----------
    minimum, saddle
        Normal modes of both points, of the same atoms: none imaginary, and exactly one.
    temperature : float or (t,), K
    barrier : float, eV, optional
        Energy of the saddle above the minimum; default: from the modes' energies.
    statistics
        ``"classical"`` (Vineyard) or ``"quantum"`` (Eyring).
    tunnelling
        See :func:`gapkit.apps.kinetics.tunnelling.tunnelling_factor`; quantum alone.
    backward : float, eV
        Barrier from the product, for Eckart's factor; default: that of a product far below.
    degeneracy
        Number of equivalent saddles around the minimum.

    Raises
    ------
    DataError
        For other numbers of imaginary modes, and modes of different atoms or constraints.
    SettingsError
        For other values that cannot work.
    """
    if statistics not in STATISTICS:
        raise SettingsError(f"statistics must be one of {', '.join(STATISTICS)}, not {statistics!r}")
    if tunnelling != "none" and statistics == "classical":
        raise SettingsError("classical nuclei do not tunnel: use statistics='quantum', or tunnelling='none'")
    T = np.atleast_1d(check_all_positive("temperature", temperature, "K"))
    _check_modes(minimum, saddle)
    E = saddle.energy - minimum.energy if barrier is None else float(barrier)
    real, imaginary = saddle.energies[~saddle.imaginary], float(-saddle.energies[saddle.imaginary][0])
    kT = units.kB * T
    turned = _rotation(minimum, saddle)
    if statistics == "classical":
        # quanta in eV; one more at the minimum than at the saddle leaves a frequency
        ln_nu = np.log(minimum.energies).sum() - np.log(real).sum() - np.log(_PLANCK)
        ln_k = ln_nu - E / kT
    else:
        free = oscillators(real, T).free_energy - oscillators(minimum.energies, T).free_energy
        ln_k = np.log(kT / _PLANCK) - (E + free) / kT
    zero_point = 0.5 * (real.sum() - minimum.energies.sum())
    kappa = tunnelling_factor(
        tunnelling, imaginary / units.invcm, T, max(E + zero_point, 1e-6), max(backward + zero_point, 1e-6)
    ) if tunnelling == "eckart" else tunnelling_factor(tunnelling, imaginary / units.invcm, T)  # fmt: skip
    return ln_k + np.log(kappa) + np.log(check_positive("degeneracy", degeneracy)) + turned, kappa


def rates(
    minimum: NormalModes,
    saddle: NormalModes,
    temperature: float | np.ndarray,
    *,
    barrier_std: float = 0.0,
    ln_prefactor_std: float = 0.0,
    covariance_of_both: float = 0.0,
    **how: float | str,
) -> RatePosterior:
    """Rates by harmonic transition state theory with the errors of barrier and prefactor.

    Parameters
    ----------
    minimum, saddle, temperature
        As :func:`ln_rates`, whose other parameters ``how`` may name.
    barrier_std : float, eV
        Standard deviation of the barrier; a new label's, where rates are to be those of the reference method.
    ln_prefactor_std : float
        Standard deviation of the logarithm of the prefactor.
    covariance_of_both : float, eV
        Covariance of the two.

    Raises
    ------
    SettingsError, DataError
        As :func:`ln_rates`; for errors that are negative or no covariance.
    """
    s_E, s_A, c = float(barrier_std), float(ln_prefactor_std), float(covariance_of_both)
    if not (0 <= s_E < np.inf and 0 <= s_A < np.inf):
        raise SettingsError(f"standard deviations must be finite and not negative, not {s_E} and {s_A}")
    if abs(c) > s_E * s_A * (1 + 1e-9):
        raise SettingsError(f"a covariance of {c:g} eV is more than the standard deviations {s_E:g} and {s_A:g} allow")
    T = np.atleast_1d(check_all_positive("temperature", temperature, "K"))
    ln_k, kappa = ln_rates(minimum, saddle, T, **how)  # type: ignore[arg-type]
    given = how.get("barrier")
    E = saddle.energy - minimum.energy if given is None else float(given)
    notes = limits(E, float(-saddle.frequencies[saddle.imaginary][0]), T, str(how.get("statistics", "quantum")))
    return RatePosterior(T, ln_k, E, s_E, s_A, c, kappa, notes)


def limits(barrier: float, wavenumber: float, temperature: np.ndarray, statistics: str) -> tuple[str, ...]:
    """Sentences on the limits of the theory that these temperatures (K) reach.

    Parameters
    ----------
    barrier : float, eV
    wavenumber : float, cm^-1
        Size of the imaginary frequency.
    """
    notes = []
    T = float(np.min(temperature))
    hottest = float(np.max(temperature))
    if barrier < 3 * units.kB * hottest:
        notes.append(
            f"the barrier is {barrier / (units.kB * hottest):.1f} k_B T at {hottest:.0f} K: below about 3 k_B T the "
            "two states are not apart, and transition state theory has no rate to give"
        )
    crossover = crossover_temperature(wavenumber)
    if 1.5 * crossover > T and statistics == "quantum":
        notes.append(
            f"{T:.0f} K is near or below the crossover temperature of tunnelling, {crossover:.0f} K: Wigner's factor "
            "is too small there and one-dimensional factors are estimates; path integrals are the remedy"
        )
    if 1.5 * crossover > T and statistics == "classical":
        notes.append(f"quantum effects matter at {T:.0f} K: one quantum of the saddle is {crossover * 2 * np.pi:.0f} K")
    return tuple(notes)


def _check_modes(minimum: NormalModes, saddle: NormalModes) -> None:
    if not np.array_equal(minimum.atoms.numbers, saddle.atoms.numbers) or not np.allclose(
        minimum.masses, saddle.masses
    ):
        raise DataError("the modes of minimum and saddle belong to different atoms or masses")
    if minimum.n_imaginary:
        raise DataError(
            f"the minimum has {minimum.n_imaginary} imaginary modes ({minimum.frequencies[0]:.0f} cm^-1): relax it "
            "tighter, or along them (NormalModes.displaced)"
        )
    if saddle.n_imaginary != 1:
        raise DataError(f"the saddle has {saddle.n_imaginary} imaginary modes; a saddle of first order has one")
    if len(minimum.frequencies) != len(saddle.frequencies):
        raise DataError(
            f"the minimum has {len(minimum.frequencies)} modes ({minimum.kind}) and the saddle "
            f"{len(saddle.frequencies)} ({saddle.kind}): hold the same atoms in both"
        )


def _rotation(minimum: NormalModes, saddle: NormalModes) -> float:
    """Logarithm of the ratio of the rotational partition functions of free molecules; zero where nothing turns."""
    if minimum.kind != "nonlinear":
        return 0.0
    before, after = (principal_axes(m.atoms.positions, m.masses)[0] for m in (minimum, saddle))
    return float(0.5 * np.log(after).sum() - 0.5 * np.log(before).sum())
