"""Barriers with error bars by a potential, and rates over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from gapkit.apps.kinetics.prefactor_errors import log_prefactor_std
from gapkit.apps.kinetics.rates import STATISTICS, RatePosterior, rates
from gapkit.apps.kinetics.stationary_points import PointMotion, errors_of_points
from gapkit.apps.kinetics.tunnelling import KINDS
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.paths import Path, PathSettings, find_path
from gapkit.settings import Settings
from gapkit.vibrations import hessian, normal_modes


@dataclass(frozen=True)
class BarrierSettings(Settings):
    """Search for a barrier, and rates over it.

    Attributes
    ----------
    images : int
        Images of the band between the ends.
    fmax : float, eV/A
        Largest force across the band at the end.
    temperatures : tuple of float, K
        Temperatures of the rates.
    statistics : str
        Nuclei: "quantum" or "classical" oscillators.
    tunnelling : str
        Factor from tunnelling: "none", "wigner", "bell" or "eckart".
    degeneracy : float
        Number of equivalent saddles around the initial minimum.
    ln_prefactor_std : float or None
        Standard deviation of the logarithm of the prefactor; None: the potential's own
        (:func:`gapkit.apps.kinetics.prefactor_errors.log_prefactor_std`).
    """

    images: int = 5
    fmax: float = 0.03
    temperatures: tuple[float, ...] = (300.0, 400.0, 500.0, 600.0, 800.0)
    statistics: str = "quantum"
    tunnelling: str = "none"
    degeneracy: float = 1.0
    ln_prefactor_std: float | None = None

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        PathSettings(images=self.images, fmax=self.fmax)
        if not self.temperatures or not all(0 < t < np.inf for t in self.temperatures):
            raise SettingsError(f"temperatures must be positive (K), not {self.temperatures}")
        if self.statistics not in STATISTICS:
            raise SettingsError(f"statistics must be one of {', '.join(STATISTICS)}, not {self.statistics!r}")
        if self.tunnelling not in KINDS:
            raise SettingsError(f"tunnelling must be one of {', '.join(KINDS)}, not {self.tunnelling!r}")
        if not 0 < self.degeneracy < np.inf:
            raise SettingsError(f"degeneracy must be positive, not {self.degeneracy}")
        if self.ln_prefactor_std is not None and not 0 <= self.ln_prefactor_std < np.inf:
            raise SettingsError(f"ln_prefactor_std must not be negative, not {self.ln_prefactor_std}")


@dataclass(frozen=True)
class BarrierResult:
    """Barrier between two minima by a potential, with the parts of its error.

    Standard deviations are those of a comparison with the reference method: ``forward_std`` squared is the sum of the
    squares of ``label_error`` and ``motion_error``, which are standard deviations too. ``function_error`` stands apart:
    it is the part that the posterior of the function knows, an order of magnitude too small (docs/apps/kinetics.md).

    Attributes
    ----------
    settings : BarrierSettings
    path : gapkit.sampling.paths.Path
        The path with its saddle.
    forward, forward_std : float, eV
        Barrier from the initial minimum.
    backward, backward_std : float, eV
        Barrier from the final minimum.
    reaction_energy, reaction_energy_std : float, eV
        Energy of the final less that of the initial minimum.
    label_error : (2,) eV
        Parts of the two barriers' errors at fixed geometries, as of new labels (misfit and noise included).
    function_error : (2,) eV
        The same of the function alone.
    motion_shift, motion_error : (2,) eV
        Mean and standard deviation of the change of both barriers from the motion of the stationary points to those of
        the reference; the mean is not added.
    domain_excess : (3,)
        Of initial minimum, saddle and final minimum: above 1 a point is out of the domain of the training data.
    imaginary : float, cm^-1
        Size of the imaginary frequency of the saddle.
    rates : RatePosterior
        From the initial minimum.
    """

    settings: BarrierSettings
    path: Path
    forward: float
    forward_std: float
    backward: float
    backward_std: float
    reaction_energy: float
    reaction_energy_std: float
    label_error: np.ndarray
    function_error: np.ndarray
    motion_shift: np.ndarray
    motion_error: np.ndarray
    domain_excess: np.ndarray
    imaginary: float
    rates: RatePosterior

    @property
    def in_domain(self) -> bool:
        """Whether both minima and the saddle are in the domain of the training data."""
        return bool(np.all(self.domain_excess <= 1))

    def to_dict(self) -> dict[str, Any]:
        """Settings, barriers with the parts of their errors, and rates, JSON-ready."""
        low, high = self.rates.interval(0.9)
        return {
            "settings": self.settings.as_dict(),
            "forward": self.forward, "forward_std": self.forward_std,
            "backward": self.backward, "backward_std": self.backward_std,
            "reaction_energy": self.reaction_energy, "reaction_energy_std": self.reaction_energy_std,
            "label_error": self.label_error.tolist(), "function_error": self.function_error.tolist(),
            "motion_shift": self.motion_shift.tolist(), "motion_error": self.motion_error.tolist(),
            "domain_excess": self.domain_excess.tolist(), "imaginary": self.imaginary,
            "ln_prefactor_std": self.rates.ln_prefactor_std,
            "temperature": self.rates.temperature.tolist(), "rate": self.rates.median.tolist(),
            "rate_low": low.tolist(), "rate_high": high.tolist(), "ln_rate_std": self.rates.ln_rate_std.tolist(),
            "connects": None if self.path.connects is None else list(self.path.connects),
            "notes": [*self.path.notes, *self.rates.notes],
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{'':<10}{'value':>9} {'std':>8}   parts: {'label':>7} {'motion':>7} | function alone (meV)"]
        for k, name in enumerate(("forward", "backward")):
            value, std = getattr(self, name), getattr(self, f"{name}_std")
            lines.append(
                f"{name:<10}{value:>9.4f} {std:>8.4f}eV        {1e3 * self.label_error[k]:>7.1f} "
                f"{1e3 * self.motion_error[k]:>7.1f} | {1e3 * self.function_error[k]:.1f}"
            )
        lines.append(f"{'reaction':<10}{self.reaction_energy:>9.4f} {self.reaction_energy_std:>8.4f}eV")
        lines.append(
            f"imaginary frequency {self.imaginary:.0f}i cm^-1; standard deviation of ln(prefactor) "
            f"{self.rates.ln_prefactor_std:.2f}"
        )
        if not self.in_domain:
            points = [
                f"{name} ({x:.1f} times the limit)"
                for name, x in zip(("initial minimum", "saddle", "final minimum"), self.domain_excess, strict=True)
                if x > 1
            ]
            lines.append(f"OUT OF DOMAIN: {', '.join(points)}; label such frames and fit again")
        return "\n".join([*lines, *(f"note: {note}" for note in self.path.notes), str(self.rates)])


def run_barrier(
    gap: GAP,
    initial: ase.Atoms,
    final: ase.Atoms,
    settings: BarrierSettings | None = None,
    *,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> BarrierResult:
    """Barrier and rates between two minima by a fitted potential, with error bars.

    A band with a climbing image gives the path, the saddle is refined and proved, both sides are followed down
    (:func:`gapkit.sampling.paths.find_path`), Hessians of minimum and saddle give the rates.

    Parameters
    ----------
    gap
        A fitted model.
    initial, final
        The two ends; they are relaxed first.
    random_state
        Not used: the search has no random numbers.
    progress
        Whether to show progress bars.

    Raises
    ------
    DataError
        Where the ends are the same minimum, no saddle of first order is found, or the path crosses another minimum.
    SettingsError, NumericsError
        As :func:`gapkit.sampling.paths.find_path`.
    """
    settings = settings or BarrierSettings()
    calculator = gap.calculator()
    path = find_path(
        initial, final, calculator, PathSettings(images=settings.images, fmax=settings.fmax), progress=progress
    )
    if path.saddle is None or not path.saddle.is_saddle:
        raise DataError(f"no saddle of first order lies between the two minima: {'; '.join(path.notes) or path.saddle}")
    if path.connects is not None and not all(path.connects):
        which = " and ".join(n for n, met in zip(("initial", "final"), path.connects, strict=True) if not met)
        raise DataError(
            f"the way down from the saddle does not end at the {which} frame: the path crosses another minimum "
            "(gapkit.sampling.paths.find_path returns it as Path.minima); search each part by itself"
        )
    points = [path.images[0], path.saddle.atoms, path.images[-1]]
    labels, function = gap.joint_energies(points), gap.joint_energies(points, include_noise=False)
    label_error = np.array([labels.difference(1, k).std for k in (0, 2)])
    hessians = [hessian(a, calculator, progress=progress) for a in points]
    motion, excess = errors_of_points(gap, points, hessians)
    motion_error = np.array([_moved(motion[1], motion[k]) for k in (0, 2)])
    std = np.hypot(label_error, motion_error)
    modes = [normal_modes(h) for h in hessians[:2]]
    prefactor_std = settings.ln_prefactor_std
    if prefactor_std is None:
        prefactor_std = log_prefactor_std(gap, *modes)
    found = rates(
        modes[0], modes[1], np.array(settings.temperatures), barrier_std=float(std[0]),
        ln_prefactor_std=prefactor_std, statistics=settings.statistics, tunnelling=settings.tunnelling,
        degeneracy=settings.degeneracy, backward=path.barrier_backward,
    )  # fmt: skip
    return BarrierResult(
        settings=settings,
        path=path,
        forward=path.barrier_forward,
        forward_std=float(std[0]),
        backward=path.barrier_backward,
        backward_std=float(std[1]),
        reaction_energy=path.reaction_energy,
        reaction_energy_std=float(np.hypot(labels.difference(2, 0).std, _moved(motion[2], motion[0]))),
        label_error=label_error,
        function_error=np.array([function.difference(1, k).std for k in (0, 2)]),
        motion_shift=np.array([motion[1].shift - motion[k].shift for k in (0, 2)]),
        motion_error=motion_error,
        domain_excess=excess,
        imaginary=float(-modes[1].frequencies[0]),
        rates=found,
    )


def _moved(first: PointMotion, second: PointMotion) -> float:
    """Standard deviation (eV) of an energy difference from the motion of both points."""
    return float(np.hypot(first.shift_std, second.shift_std))
