"""Vibrational analysis by a potential, with error bars, and beside a reference where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase import units

from gapkit.apps.vibrational_spectra.diagnosis import HessianDiagnosis, compare_hessians
from gapkit.apps.vibrational_spectra.hessian_errors import HessianErrors, hessian_errors
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.propagation import propagate
from gapkit.randomness import seed_of
from gapkit.sampling.relaxation import RelaxationSettings, relax_many
from gapkit.settings import Settings
from gapkit.vibrations import NormalModes, hessian, normal_modes, oscillators


@dataclass(frozen=True)
class VibrationsSettings(Settings):
    """Relaxation, Hessian, and temperature of a vibrational analysis.

    Attributes
    ----------
    fmax : float, eV/A
        Largest force at the minimum. Loose minima have rotations with frequencies of tens of cm^-1.
    step : float, A
        Displacement of the central differences of forces.
    reference_step : float, A
        The same for the reference; longer, because its forces are converged less than a potential's are exact. Its
        differences are extrapolated.
    temperature : float, K
        Temperature of the free energy.
    n_samples : int
        Potentials drawn from the posterior, with which the structure is relaxed anew; 0: none. Their scatter has the
        motion of the minimum in it, and no misfit.
    """

    fmax: float = 1e-4
    step: float = 0.002
    reference_step: float = 0.01
    temperature: float = 298.15
    n_samples: int = 0

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        for name in ("fmax", "step", "reference_step", "temperature"):
            if not 0 < getattr(self, name) < np.inf:
                raise SettingsError(f"{name} must be positive and finite, not {getattr(self, name)}")
        if self.n_samples < 0 or self.n_samples == 1:
            raise SettingsError(f"n_samples must be 0 or at least 2, not {self.n_samples}")


@dataclass(frozen=True)
class VibrationsResult:
    """Vibrations of a structure by a potential.

    Standard deviations are those of a comparison with the reference method at the same geometry, as of new labels
    (misfit included). The motion of the minimum is not in them.

    Attributes
    ----------
    settings : VibrationsSettings
    modes : NormalModes
        Modes at the minimum.
    errors : HessianErrors
        Covariance of the elements of the Hessian.
    frequencies, frequencies_std : (k,) cm^-1
    step_error : float, cm^-1
        Largest change of a frequency when the differences are extrapolated to a step of zero.
    rigid : float, cm^-1
        Largest frequency of a translation or rotation, zero at an exact minimum.
    zero_point_energy, zero_point_energy_std : float, eV
    free_energy, free_energy_std : float, eV
        Of the vibrations at ``settings.temperature``, zero-point energy included.
    samples : (s, k) cm^-1
        Frequencies by drawn potentials, each at its own minimum; empty without samples.
    diagnosis : HessianDiagnosis or None
        Comparison with the reference at the potential's minimum.
    """

    settings: VibrationsSettings
    modes: NormalModes
    errors: HessianErrors
    frequencies: np.ndarray
    frequencies_std: np.ndarray
    step_error: float
    rigid: float
    zero_point_energy: float
    zero_point_energy_std: float
    free_energy: float
    free_energy_std: float
    samples: np.ndarray
    diagnosis: HessianDiagnosis | None

    def to_dict(self) -> dict[str, Any]:
        """Settings, frequencies, energies with their errors, and the diagnosis, JSON-ready."""
        return {
            "settings": self.settings.as_dict(),
            "frequencies": self.frequencies.tolist(), "frequencies_std": self.frequencies_std.tolist(),
            "step_error": self.step_error, "rigid": self.rigid,
            "zero_point_energy": self.zero_point_energy, "zero_point_energy_std": self.zero_point_energy_std,
            "free_energy": self.free_energy, "free_energy_std": self.free_energy_std,
            "samples": self.samples.tolist(),
            "diagnosis": None if self.diagnosis is None else self.diagnosis.to_dict(),
        }  # fmt: skip

    def __str__(self) -> str:
        drawn = len(self.samples) > 0
        lines = [f"{'mode':>4} {'cm^-1':>9} {'std':>7}" + (f" {'std of samples':>15}" if drawn else "")]
        for k, (nu, std) in enumerate(zip(self.frequencies, self.frequencies_std, strict=True)):
            scatter = f" {self.samples[:, k].std(ddof=1):>15.1f}" if drawn else ""
            lines.append(f"{k:>4} {nu:>9.1f} {std:>7.2f}{scatter}")
        lines += [
            f"zero-point energy {self.zero_point_energy:.4f} +- {self.zero_point_energy_std:.4f} eV; vibrational free "
            f"energy at {self.settings.temperature:g} K {self.free_energy:.4f} +- {self.free_energy_std:.4f} eV",
            f"finite step: at most {self.step_error:.2g} cm^-1; translations and rotations: at most {self.rigid:.2g} "
            "cm^-1",
        ]
        if self.diagnosis is not None:
            z = (self.diagnosis.frequencies - self.diagnosis.reference) / self.frequencies_std[
                self.diagnosis.assignment
            ]
            lines += [
                "",
                "beside the reference",
                str(self.diagnosis),
                f"rms error over std {np.sqrt(np.mean(z**2)):.2f}",
            ]
        return "\n".join(lines)


def run_vibrations(
    gap: GAP,
    atoms: ase.Atoms,
    reference: Any = None,
    settings: VibrationsSettings | None = None,
    *,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> VibrationsResult:
    """Vibrations at the minimum of a potential next to a structure, with error bars.

    Parameters
    ----------
    gap
        A fitted model.
    atoms
        The structure; atoms held by ``FixAtoms`` do not vibrate. The cell stays.
    reference
        ASE calculator of the reference method, for a diagnosis; default: none.
    random_state
        Seed of the drawn potentials, or a generator.
    progress
        Whether to show progress bars.

    Raises
    ------
    DataError
        Where the relaxed structure is no minimum, with the mode that leads down; for a single free atom, which has no
        vibrations, and for more than 60 modes.
    SettingsError, NumericsError
        As :func:`gapkit.vibrations.hessian`.
    """
    s = settings or VibrationsSettings()
    calculator = gap.calculator()
    relaxation = RelaxationSettings(fmax=s.fmax)
    relaxed = relax_many([atoms], calculator, relaxation, strict=True, progress=progress)[0].atoms
    second = hessian(relaxed, calculator, step=s.step, extrapolate=True, progress=progress)
    modes = normal_modes(second)
    _check_minimum(modes)
    errors = hessian_errors(gap, modes)
    relative = errors.relative_covariance
    quanta = modes.energies
    occupied = quanta * (0.5 + 1.0 / np.expm1(quanta / (units.kB * s.temperature)))  # dF / d ln nu
    found = oscillators(quanta, s.temperature)
    plain = normal_modes(hessian(relaxed, calculator, step=s.step))
    diagnosis = None
    if reference is not None:
        truth = hessian(relaxed, reference, step=s.reference_step, extrapolate=True, progress=progress)
        diagnosis = compare_hessians(normal_modes(truth, force_limit=None), second)
    return VibrationsResult(
        settings=s,
        modes=modes,
        errors=errors,
        frequencies=modes.frequencies,
        frequencies_std=modes.frequencies * np.sqrt(np.diagonal(relative)),
        step_error=float(np.abs(plain.frequencies - modes.frequencies).max()),
        rigid=float(np.abs(modes.removed).max(initial=0.0)),
        zero_point_energy=float(found.zero_point_energy),
        zero_point_energy_std=float(0.5 * np.sqrt(quanta @ relative @ quanta)),
        free_energy=float(found.free_energy),
        free_energy_std=float(np.sqrt(occupied @ relative @ occupied)),
        samples=_samples(gap, relaxed, s, random_state, progress),
        diagnosis=diagnosis,
    )


def _check_minimum(modes: NormalModes) -> None:
    if len(modes.frequencies) == 0:
        raise DataError("a single free atom has no vibrations: give a molecule or a crystal")
    if modes.n_imaginary:
        mode = int(np.argmin(modes.frequencies))
        atom = int(np.argmax(np.linalg.norm(modes.displacements[mode], axis=1)))
        raise DataError(
            f"the relaxed structure is no minimum: mode {mode} has {-modes.frequencies[mode]:.0f}i cm^-1 and moves "
            f"atom {atom} most; displace the atoms along it (NormalModes.displaced) and start again"
        )


def _samples(
    gap: GAP,
    relaxed: ase.Atoms,
    s: VibrationsSettings,
    random_state: int | np.random.Generator | None,
    progress: bool,
) -> np.ndarray:
    """Frequencies (samples, k) by drawn potentials, each at its own minimum."""
    if not s.n_samples:
        return np.zeros((0, 0))

    def frequencies(calculator: Any) -> np.ndarray:
        there = relax_many([relaxed], calculator, RelaxationSettings(fmax=s.fmax), strict=True)[0].atoms
        return normal_modes(hessian(there, calculator, step=s.step)).frequencies

    drawn = propagate(frequencies, gap, s.n_samples, random_state=seed_of(random_state), progress=progress)
    return drawn.samples
