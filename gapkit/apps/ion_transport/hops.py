r"""Diffusion by hops of point defects: barriers by search, rates with errors, and the exact walk on the site graph.

The diffusion tensor of one defect follows exactly from the rates of its hops
(:meth:`gapkit.apps.ion_transport.site_graphs.SiteGraph.diffusion`). With c defects per site, the atoms diffuse with

.. math:: D^* = c\, f\, D_\mathrm{defect},

f the tracer correlation factor: 0.78146 for vacancies in the face-centred cubic lattice (Montet, Phys. Rev. B 7, 650
(1973)), 1 for an atom that walks from one interstitial site to the next. The error of a rate is an error of the
potential, which all temperatures share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ase import units

from gapkit.apps.ion_transport.diffusion import CM2_PER_S
from gapkit.apps.ion_transport.hop_frames import HopNetwork
from gapkit.apps.ion_transport.site_graphs import SiteGraph, tracer_correlation_factor
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.settings import Settings
from gapkit.uncertainty.arrhenius import Arrhenius, fit_arrhenius
from gapkit.uncertainty.lognormal import interval_factors

#: rates in 1/s of one 1/fs
_PER_FS = 1e-15
#: change of ln k in the numerical derivative of ln D
_STEP = 1e-4
#: most sites of the lattices from which the correlation factor is extrapolated
_MOST_SITES = 1100


class BarrierSearch(Protocol):
    """Search for the barrier of one hop, which gives a :class:`gapkit.apps.kinetics.BarrierResult`.

    An application imports no other one; so the caller passes :func:`gapkit.apps.kinetics.run_barrier`.
    """

    def __call__(self, gap: GAP, initial: Any, final: Any, /, *, progress: bool = ...) -> Any: ...


@dataclass(frozen=True)
class HopsSettings(Settings):
    """Defects that carry the diffusion; temperatures are those of the search.

    Attributes
    ----------
    concentration : tuple of float
        Defects per site of the defect, one number for all temperatures or one for each. At 1, the default, tracer
        diffusion constants are those for each unit of concentration.
    correlation_factor : float or None
        Tracer diffusion constant over the concentration times the diffusion constant of the defect; None: found for
        vacancies on a Bravais lattice, and 1 for interstitials.
    """

    concentration: tuple[float, ...] = (1.0,)
    correlation_factor: float | None = None

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not self.concentration or not all(0 < c <= 1 for c in self.concentration):
            raise SettingsError(f"concentration must lie above 0 and at most at 1, not {self.concentration}")
        if self.correlation_factor is not None and not 0 < self.correlation_factor < np.inf:
            raise SettingsError(f"correlation_factor must be positive, not {self.correlation_factor}")


@dataclass(frozen=True)
class HopsResult:
    """Diffusion by hops of a defect at several temperatures.

    Attributes
    ----------
    settings : HopsSettings
    network : HopNetwork
        Sites and hops.
    barriers : tuple
        Barrier of each kind of hop (:class:`gapkit.apps.kinetics.BarrierResult`).
    temperature : (t,) K
    concentration : (t,)
        Defects per site.
    tensor : (t, 3, 3) A^2/fs
        Diffusion tensor of one defect, at the medians of the rates.
    correlation_factor, correlation_factor_std : (t,)
        Tracer correlation factor, and its standard deviation by extrapolation to an infinite lattice.
    potential_error : (t,)
        Standard deviation of ln D from the errors of barriers and prefactors, which all temperatures share. Several
        kinds of hops have errors as if these were fully correlated, an upper bound.
    statistical_error : (t,)
        Standard deviation of ln D from the correlation factor.
    shared_covariance : (t, t)
        Covariance of ln D between temperatures from the potential.
    """

    settings: HopsSettings
    network: HopNetwork
    barriers: tuple[Any, ...]
    temperature: np.ndarray
    concentration: np.ndarray
    tensor: np.ndarray
    correlation_factor: np.ndarray
    correlation_factor_std: np.ndarray
    potential_error: np.ndarray
    statistical_error: np.ndarray
    shared_covariance: np.ndarray

    @property
    def defect(self) -> np.ndarray:
        """Diffusion constants (t,) of one defect (A^2/fs): means over the directions."""
        return np.trace(self.tensor, axis1=1, axis2=2) / 3

    @property
    def tracer(self) -> np.ndarray:
        """Tracer diffusion constants (t,) of the atoms (A^2/fs): medians."""
        return self.concentration * self.correlation_factor * self.defect

    @property
    def tracer_std(self) -> np.ndarray:
        """Standard deviations (t,) of the tracer diffusion constants, to first order (A^2/fs)."""
        return self.tracer * np.hypot(self.potential_error, self.statistical_error)

    def interval(self, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Ends (t,) of the central intervals of the tracer diffusion constants (A^2/fs), log-normal."""
        low, high = interval_factors(np.hypot(self.potential_error, self.statistical_error), level)
        return self.tracer * low, self.tracer * high

    def arrhenius(self) -> Arrhenius:
        """Arrhenius law of tracer diffusion (A^2/fs), with both kinds of errors."""
        return fit_arrhenius(
            self.temperature, np.log(self.tracer), self.statistical_error, shared_covariance=self.shared_covariance
        )

    def to_dict(self) -> dict[str, Any]:
        """Settings, hops and diffusion constants (cm^2/s) with their errors, JSON-ready."""
        low, high = self.interval(0.9)
        return {
            "settings": self.settings.as_dict(),
            "defect": self.network.defect, "species": self.network.species,
            "hops": [
                {"distance": hop.distance, "per_site": hop.per_site, **barrier.to_dict()}
                for hop, barrier in zip(self.network.kinds, self.barriers, strict=True)
            ],
            "temperature": self.temperature.tolist(),
            "concentration": self.concentration.tolist(),
            "defect_tensor": (CM2_PER_S * self.tensor).tolist(),
            "correlation_factor": self.correlation_factor.tolist(),
            "correlation_factor_std": self.correlation_factor_std.tolist(),
            "tracer": (CM2_PER_S * self.tracer).tolist(), "tracer_std": (CM2_PER_S * self.tracer_std).tolist(),
            "tracer_low": (CM2_PER_S * low).tolist(), "tracer_high": (CM2_PER_S * high).tolist(),
            "potential_error": self.potential_error.tolist(), "statistical_error": self.statistical_error.tolist(),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"{self.network.defect} of {self.network.species}, {len(self.network.sites)} sites",
            f"{'hop (A)':>8} {'from a site':>11} {'barrier (eV)':>18}   {'ln prefactor (THz)':>18}",
        ]
        for hop, found in zip(self.network.kinds, self.barriers, strict=True):
            ln_nu = float(_ln_prefactor(found)[0] + np.log(1e-12))
            said = f"{found.forward:.4f} +- {found.forward_std:.4f}"
            lines.append(
                f"{hop.distance:>8.3f} {hop.per_site:>11g} {said:>18}   {ln_nu:>8.2f} +- "
                f"{found.rates.ln_prefactor_std:.2f}" + ("" if found.in_domain else "  OUT OF DOMAIN")
            )
        lines.append(
            f"{'T (K)':>7} {'defect D (cm^2/s)':>18} {'f':>8} {'tracer D (cm^2/s)':>18} {'90 % interval':>23}   "
            "std of ln D: potential, statistical"
        )
        low, high = self.interval(0.9)
        for k, T in enumerate(self.temperature):
            ends = f"{CM2_PER_S * low[k]:.2e} to {CM2_PER_S * high[k]:.2e}"
            lines.append(
                f"{T:>7.1f} {CM2_PER_S * self.defect[k]:>18.3e} {self.correlation_factor[k]:>8.4f} "
                f"{CM2_PER_S * self.tracer[k]:>18.3e} {ends:>23}   {self.potential_error[k]:.2f}, "
                f"{self.statistical_error[k]:.1e}"
            )
        return "\n".join(lines)


def run_hops(
    gap: GAP,
    network: HopNetwork,
    settings: HopsSettings | None = None,
    *,
    search: BarrierSearch,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> HopsResult:
    """Diffusion of atoms by hops of a defect, from barriers that are searched on a fitted potential.

    Parameters
    ----------
    gap
        A fitted model.
    network
        Hops from :func:`gapkit.apps.ion_transport.hop_frames.vacancy_hops` or
        :func:`gapkit.apps.ion_transport.hop_frames.interstitial_hops`. Each kind is searched once.
    settings
        Concentration of the defects, and a correlation factor where none is known.
    search
        Function of the model, the two ends and ``progress`` that gives barrier and rates:
        :func:`gapkit.apps.kinetics.run_barrier`, or that with settings bound by :func:`functools.partial`. Its
        ``degeneracy`` must stay 1, because the site graph counts the hops.
    random_state
        Not used: no random numbers are drawn.
    progress
        Whether to show progress bars.

    Raises
    ------
    SettingsError
        Where the correlation factor is not known and not given, and for another number of concentrations than
        temperatures.
    DataError
        As the search, and for rates at different temperatures.
    """
    s = settings or HopsSettings()
    if s.correlation_factor is None and not _has_factor(network):
        raise SettingsError(
            f"no correlation factor is known for a {network.defect} on sites that are no Bravais lattice: give "
            "correlation_factor (D_tracer over concentration times D_defect)"
            if network.defect == "vacancy"
            else f"no correlation factor is known for an {network.defect}: give correlation_factor"
        )
    found = []
    for number, hop in enumerate(progress_bar(network.kinds, desc="kinds of hops", show=progress)):
        try:
            found.append(search(gap, hop.initial, hop.final, progress=progress))
        except DataError as error:
            raise DataError(f"hop {number} ({hop.distance:.3f} A): {error}") from error
    return hops_from_barriers(network, found, s)


def hops_from_barriers(network: HopNetwork, barriers: list[Any], settings: HopsSettings) -> HopsResult:
    """Diffusion by hops whose barriers and rates are known, one for each kind; see :func:`run_hops`."""
    T = np.asarray(barriers[0].rates.temperature, dtype=float)
    if any(not np.array_equal(b.rates.temperature, T) for b in barriers):
        raise DataError("the rates of the hops belong to different temperatures: search all with the same settings")
    if len(settings.concentration) not in (1, len(T)):
        raise SettingsError(f"give one concentration, or one for each of {len(T)} temperatures")
    concentration = np.broadcast_to(np.array(settings.concentration), T.shape).copy()
    ln_k = np.array([b.rates.ln_rate for b in barriers]) + np.log(_PER_FS)  # (kinds, t)
    tensor = np.array([network.graph(np.exp(k)).diffusion() for k in ln_k.T])
    factor, factor_std = np.array([_correlation(network, np.exp(k), settings) for k in ln_k.T]).T
    weights = np.array([_sensitivities(network, k) for k in ln_k.T]).T  # (kinds, t)
    prefactor = np.array([b.rates.ln_prefactor_std for b in barriers]) @ weights
    barrier = np.array([b.rates.barrier_std for b in barriers]) @ weights / (units.kB * T)
    covariance = np.outer(prefactor, prefactor) + np.outer(barrier, barrier)
    return HopsResult(
        settings=settings,
        network=network,
        barriers=tuple(barriers),
        temperature=T,
        concentration=concentration,
        tensor=tensor,
        correlation_factor=factor,
        correlation_factor_std=factor_std,
        potential_error=np.sqrt(np.diagonal(covariance)),
        statistical_error=factor_std / factor,
        shared_covariance=covariance,
    )


def infinite_correlation_factor(network: HopNetwork, rates: np.ndarray) -> tuple[float, float]:
    """Tracer correlation factor of a vacancy on an infinite Bravais lattice, and the error of the extrapolation.

    Periodic lattices of N sites differ by a term in 1/N. The last two of growing sizes give the value; its standard
    deviation is the change from the two before.

    Parameters
    ----------
    network
        Hops of a vacancy, the same from every site.
    rates : (k,)
        Rates of the kinds of hops, in any unit.

    Raises
    ------
    DataError
        Where other hops leave one site than another.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from gapkit.apps.ion_transport.hop_frames import vacancy_hops
    >>> f, error = infinite_correlation_factor(vacancy_hops(bulk("Al", cubic=True) * (2, 2, 2), "Al"), np.ones(1))
    >>> bool(abs(f - 0.78146) < 1e-4 and error < 1e-3)
    True
    """
    if not network.is_lattice:
        raise DataError("the correlation factor of a vacancy is found on Bravais lattices alone")
    most = max(int((_MOST_SITES / len(network.sites)) ** (1 / 3)), 3)
    sizes = [most - 2, most - 1, most]
    inverse = np.array([1.0 / (len(network.sites) * n**3) for n in sizes])
    found = np.array([tracer_correlation_factor(_graph(network.repeated(n), rates)) for n in sizes])
    slopes = np.diff(found) / np.diff(inverse)
    limits = found[1:] - slopes * inverse[1:]
    return float(limits[1]), float(abs(limits[1] - limits[0]))


def _graph(network: HopNetwork, rates: np.ndarray) -> SiteGraph:
    """Site graph with rates of the order of one, so that differences do not underflow."""
    return network.graph(np.asarray(rates) / np.max(rates))


def _has_factor(network: HopNetwork) -> bool:
    return network.defect == "interstitial" or (network.defect == "vacancy" and network.is_lattice)


def _correlation(network: HopNetwork, rates: np.ndarray, settings: HopsSettings) -> tuple[float, float]:
    if settings.correlation_factor is not None:
        return settings.correlation_factor, 0.0
    if network.defect == "interstitial":
        return 1.0, 0.0
    return infinite_correlation_factor(network, rates)


def _sensitivities(network: HopNetwork, ln_k: np.ndarray) -> np.ndarray:
    """Derivatives (kinds,) of ln of the trace of D by ln of each rate; they sum to one."""
    if len(ln_k) == 1:
        return np.ones(1)

    def ln_trace(shift: np.ndarray) -> float:
        return float(np.log(np.trace(network.graph(np.exp(ln_k + shift)).diffusion())))

    steps = _STEP * np.eye(len(ln_k))
    return np.array([(ln_trace(s) - ln_trace(-s)) / (2 * _STEP) for s in steps])


def _ln_prefactor(found: Any) -> np.ndarray:
    """Logarithms (t,) of the rates without the Boltzmann factor of the barrier (1/s)."""
    return found.rates.ln_rate + found.forward / (units.kB * found.rates.temperature)
