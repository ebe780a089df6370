"""Turnover frequencies of mechanisms with error bars, and the number to compute next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapkit.apps.kinetics.mechanism import Mechanism
from gapkit.apps.kinetics.rate_control import (
    checked_covariance,
    independent_errors,
    sampled,
    sensitivity,
    value_of_information,
)
from gapkit.apps.kinetics.steady_state import Conditions, Network, SteadyState, solve
from gapkit.exceptions import SettingsError
from gapkit.randomness import generator_of
from gapkit.settings import Settings
from gapkit.uncertainty.lognormal import interval_factors


@dataclass(frozen=True)
class MicrokineticsSettings(Settings):
    """Conditions of a mechanism, and errors of its energies.

    Attributes
    ----------
    temperature : float, K
        Temperature of the reactor.
    energy_std : float, eV
        Standard deviation of the energies of intermediates and transition states, where no covariance is given.
    correlation : float
        Correlation of these errors, from 0 to 1.
    n_samples : int
        Draws of the energies; 0: linear error propagation alone.
    measurement_std : float, eV
        Error of one more calculation, whose worth is told for every energy.
    """

    temperature: float = 600.0
    energy_std: float = 0.0
    correlation: float = 0.0
    n_samples: int = 0
    measurement_std: float = 0.0

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not 0 < self.temperature < np.inf:
            raise SettingsError(f"temperature must be positive (K), not {self.temperature}")
        if not 0 <= self.energy_std < np.inf or not 0 <= self.measurement_std < np.inf:
            raise SettingsError("energy_std and measurement_std must be finite and not negative (eV)")
        if not 0 <= self.correlation <= 1:
            raise SettingsError(f"correlation must lie in [0, 1], not {self.correlation}")
        if self.n_samples < 0 or self.n_samples == 1:
            raise SettingsError(f"n_samples must be 0 or at least 2, not {self.n_samples}")


@dataclass(frozen=True)
class MicrokineticsResult:
    """Turnover frequency of a mechanism at rest, its error, and the energies that it rests on.

    Attributes
    ----------
    settings : MicrokineticsSettings
    mechanism : Mechanism
    state : SteadyState
        Amounts and rates.
    rate_control : (r,)
        Degree of rate control of each reaction; they sum to one.
    slopes : (p,) 1/eV
        Derivatives of the logarithm of the turnover frequency by the energies.
    apparent_energy : float, eV
        Apparent activation energy.
    ln_turnover, ln_turnover_std : float
        Logarithm of the turnover frequency (1/s), and its standard deviation by linear propagation.
    samples : (n,)
        Logarithms by draws of the energies; empty where none were asked for.
    failed : int
        Draws without a forward turnover.
    information : (p,)
        Share of the variance of the logarithm that one more calculation of each energy would remove.
    """

    settings: MicrokineticsSettings
    mechanism: Mechanism
    state: SteadyState
    rate_control: np.ndarray
    slopes: np.ndarray
    apparent_energy: float
    ln_turnover: float
    ln_turnover_std: float
    samples: np.ndarray
    failed: int
    information: np.ndarray

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval (1/s) that holds the turnover frequency with the probability ``level``.

        From the draws where there are any, else log-normal.
        """
        if len(self.samples):
            low, high = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2])
            return float(np.exp(low)), float(np.exp(high))
        down, up = interval_factors(self.ln_turnover_std, level)
        return float(self.state.turnover * down), float(self.state.turnover * up)

    def to_dict(self) -> dict[str, Any]:
        """Settings, amounts, rate control, errors and the worth of more numbers, JSON-ready."""
        names = [r.name for r in self.mechanism.reactions]
        return {
            "settings": self.settings.as_dict(),
            "amounts": self.state.amounts,
            "turnover": self.state.turnover,
            "ln_turnover_std": self.ln_turnover_std,
            "ln_turnover_std_sampled": float(self.samples.std(ddof=1)) if len(self.samples) else None,
            "interval": list(self.interval()),
            "failed": self.failed,
            "apparent_energy": self.apparent_energy,
            "net_rates": dict(zip(names, self.state.net_rates.tolist(), strict=True)),
            "rate_control": dict(zip(names, self.rate_control.tolist(), strict=True)),
            "slopes": dict(zip(self.mechanism.parameters, self.slopes.tolist(), strict=True)),
            "information": dict(zip(self.mechanism.parameters, self.information.tolist(), strict=True)),
        }

    def __str__(self) -> str:
        low, high = self.interval()
        lines = [
            f"turnover frequency {self.state.turnover:.4g} 1/s at {self.settings.temperature:g} K, 90 % interval "
            f"{low:.3g} to {high:.3g}; std of its logarithm {self.ln_turnover_std:.2f} (linear)"
        ]
        if len(self.samples):
            lines[0] += f", {self.samples.std(ddof=1):.2f} ({len(self.samples)} draws)"
        if self.failed:
            lines.append(f"{self.failed} draws had no forward turnover and are left out")
        lines.append(f"apparent activation energy {self.apparent_energy:.3f} eV")
        lines.append("amounts: " + ", ".join(f"{k} {v:.3g}" for k, v in self.state.amounts.items()))
        lines.append(f"{'reaction':<40} {'net rate 1/s':>12} {'rate control':>12}")
        for r, rate, control in zip(self.mechanism.reactions, self.state.net_rates, self.rate_control, strict=True):
            lines.append(f"{r.name + ': ' + r.equation:<40.40} {rate:>12.4g} {control:>12.4f}")
        if self.information.any():
            lines.append(f"{'energy':<40} {'d ln r/dE 1/eV':>14} {'worth of one more number':>25}")
            for k in np.argsort(self.information)[::-1][:6]:
                name, share = self.mechanism.parameters[k], 100 * self.information[k]
                lines.append(f"{name:<40.40} {self.slopes[k]:>14.2f} {share:>23.1f} %")
        return "\n".join(lines)


def run_microkinetics(
    mechanism: Mechanism,
    activities: Mapping[str, float],
    covariance: np.ndarray | None = None,
    settings: MicrokineticsSettings | None = None,
    *,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> MicrokineticsResult:
    """Steady state of a mechanism, its turnover frequency with an error bar, and the number to compute next.

    Parameters
    ----------
    mechanism
    activities
        Pressures of gases (bar), activities of fixed species.
    covariance : (p, p) eV^2, optional
        Of the errors of the energies, in the order of ``mechanism.parameters``, such as that of
        :meth:`gapkit.GAP.joint_energies`; default: from the settings ``energy_std`` and ``correlation``.
    random_state
        Seed of the draws.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        For a covariance that is none, and where the observed reactions do not run forward.
    SettingsError
        For activities of unknown species, or missing pressures.
    NumericsError
        Where there is no steady state.
    """
    settings = settings or MicrokineticsSettings()
    if covariance is None:
        C = independent_errors(mechanism, settings.energy_std, settings.correlation)
    else:
        C = checked_covariance(covariance, len(mechanism.parameters))
    network = Network(mechanism, Conditions(settings.temperature, activities))
    state = solve(network)
    found = sensitivity(network, state)
    draws, failed = np.zeros(0), 0
    if settings.n_samples:
        rng = generator_of(random_state)
        draws, failed = sampled(network, state, C, settings.n_samples, rng, progress)
    return MicrokineticsResult(
        settings=settings,
        mechanism=mechanism,
        state=state,
        rate_control=found.rate_control,
        slopes=found.slopes,
        apparent_energy=found.apparent_energy,
        ln_turnover=float(np.log(state.turnover)),
        ln_turnover_std=float(np.sqrt(max(found.slopes @ C @ found.slopes, 0.0))),
        samples=draws,
        failed=failed,
        information=value_of_information(found.slopes, C, settings.measurement_std),
    )
