r"""Mechanisms whose energies all come from one potential, with the covariance of their errors.

Every minimum becomes a species and every saddle a transition state. At one temperature T each has the enthalpy
:math:`E + U_{vib}(T)` and the entropy :math:`S_{vib}(T) + S_{rot}(T) + k_B \ln g` of harmonic oscillators and a rigid
rotor, the imaginary mode of a saddle left out; g counts equivalent saddles. The constants of the mechanism are then
those of :func:`gapkit.apps.kinetics.rates.ln_rates` with quantum nuclei.

The covariance is that of new labels at these geometries (:func:`gapkit.potential.joint.joint_energies`) and, where two
frames share an error, of the motion of their stationary points (:mod:`gapkit.apps.kinetics.stationary_points`) with the
same correlation. Errors of vibrational free energies are added where they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase import units

from gapkit.apps.kinetics.mechanism import Mechanism, Reaction, Species
from gapkit.apps.kinetics.prefactor_errors import vibrational_covariance
from gapkit.apps.kinetics.stationary_points import errors_of_points
from gapkit.checks import check_positive
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.paths.ends import minimum_image
from gapkit.sampling.paths.rigid import aligned
from gapkit.sampling.paths.saddle import refine_saddle
from gapkit.sampling.relaxation import RelaxationSettings, free_atoms, relax_many
from gapkit.vibrations import Hessian, NormalModes, hessian, normal_modes
from gapkit.vibrations.rigid_motions import principal_axes
from gapkit.vibrations.thermochemistry import harmonic_thermochemistry, rotational_entropy

#: distance (A) that an atom of a given frame may lie from the stationary point that is found from it
FARTHEST = 0.5


@dataclass(frozen=True)
class SaddleFrame:
    """A saddle between two minima.

    Attributes
    ----------
    first, last : str
        Names of the minima.
    atoms : ase.Atoms
    degeneracy : float
        Number of equivalent saddles between the two minima, such as two mirror images.
    """

    first: str
    last: str
    atoms: ase.Atoms
    degeneracy: float = 1.0


@dataclass(frozen=True)
class FramesMechanism:
    """A mechanism from the stationary points of a potential.

    Attributes
    ----------
    mechanism : Mechanism
        Valid at ``temperature``.
    temperature : float, K
    frames : list of ase.Atoms
        Stationary points in the order of ``mechanism.parameters``.
    covariance : (p, p) eV^2 or None
        Of the errors of the energies, as of the reference's own stationary points; None for a plain calculator.
    function_covariance : (p, p) eV^2 or None
        The part that the posterior of the function knows.
    domain_excess : (p,) or None
        Above 1 a point is out of the domain of the training data.
    """

    mechanism: Mechanism
    temperature: float
    frames: list[ase.Atoms]
    covariance: np.ndarray | None = None
    function_covariance: np.ndarray | None = None
    domain_excess: np.ndarray | None = None

    @property
    def in_domain(self) -> bool:
        """Whether all points are in the domain of the training data; also true where there is no such domain."""
        return self.domain_excess is None or bool(np.all(self.domain_excess <= 1))

    def __str__(self) -> str:
        zero = self.frames[0].get_potential_energy()
        std = None if self.covariance is None else np.sqrt(np.diagonal(self.covariance))
        lines = [f"{'state':<28} {'energy (eV)':>12} {'std (meV)':>10} {'free energy (eV)':>17}"]
        states = [(s.energy, s.entropy) for s in self.mechanism.species]
        states += [(float(r.energy or 0.0), r.entropy) for r in self.mechanism.reactions]
        free = [h - self.temperature * s for h, s in states]
        for k, name in enumerate(self.mechanism.parameters):
            shown = "" if std is None else f"{1e3 * std[k]:.2f}"
            energy = self.frames[k].get_potential_energy() - zero
            lines.append(f"{name:<28} {energy:>12.4f} {shown:>10} {free[k] - free[0]:>17.4f}")
        if not self.in_domain:
            lines.append("OUT OF DOMAIN: label such frames and fit again")
        return "\n".join(lines)


def mechanism_from_frames(
    model: Any,
    minima: Mapping[str, ase.Atoms],
    saddles: Mapping[str, SaddleFrame],
    fixed: Sequence[str],
    temperature: float,
    observed: Mapping[str, float] | None = None,
    *,
    vibration_std: float | None = 0.0,
    progress: bool = False,
) -> FramesMechanism:
    """Mechanism from minima and saddles of one potential, with the covariance of all its energies.

    Minima are relaxed and saddles refined on the potential first, then their Hessians give the free energies. Give a
    second calculator the same frames, and it gets its own stationary points: so two methods are compared.

    Parameters
    ----------
    model
        A fitted :class:`gapkit.GAP`, or any ASE calculator (no covariance then).
    minima
        Frames by name.
    saddles
        Saddles by the name of their reaction; whether they connect their minima is what
        :func:`gapkit.sampling.paths.find_path` proves.
    fixed
        Minima whose activities are conditions: where the reaction comes from and goes to.
    temperature : float, K
    observed
        As :class:`gapkit.apps.kinetics.Mechanism`.
    vibration_std : float or None
        Standard deviation of the vibrational free energy of a state over k_B T, which is that of the logarithm of its
        partition function; None: the potential's own
        (:func:`gapkit.apps.kinetics.prefactor_errors.vibrational_covariance`), which was five times the error in the
        network of malonaldehyde.
    progress
        Whether to show progress bars.

    Raises
    ------
    DataError
        For a frame whose stationary point is of another kind, or lies far from it.
    SettingsError
        For names of minima that do not exist, and numbers that cannot work.
    """
    T = check_positive("temperature", temperature, "K")
    if vibration_std is not None and not 0 <= vibration_std < np.inf:
        raise SettingsError(f"vibration_std must be finite and not negative, not {vibration_std}")
    named = {*fixed, *(name for s in saddles.values() for name in (s.first, s.last))}
    unknown = sorted(named - set(minima))
    if unknown:
        raise SettingsError(f"there are no minima {', '.join(unknown)}; there are {', '.join(minima)}")
    calculator = model.calculator() if isinstance(model, GAP) else model
    points = _stationary(minima, saddles, calculator, progress)
    hessians = [hessian(atoms, calculator, progress=progress) for atoms in points.values()]
    modes = dict(zip(points, (normal_modes(h) for h in hessians), strict=True))
    species = tuple(
        Species(name, "fixed" if name in fixed else "well", *_state(name, modes[name], T, 0)) for name in minima
    )
    reactions = []
    for name, saddle in saddles.items():
        enthalpy, entropy = _state(name, modes[f"TS:{name}"], T, 1)
        entropy += units.kB * float(np.log(check_positive("degeneracy", saddle.degeneracy)))
        reactions.append(Reaction(name, {saddle.first: 1}, {saddle.last: 1}, enthalpy, entropy))
    mechanism = Mechanism(species, tuple(reactions), dict(observed or {}))
    frames = list(points.values())
    if not isinstance(model, GAP):
        return FramesMechanism(mechanism, T, frames)
    covariance, excess = _errors(model, frames, hessians)
    if vibration_std is None:
        covariance = covariance + vibrational_covariance(model, list(modes.values()), T)
    else:
        std = np.sqrt(np.diagonal(covariance))
        covariance = covariance * (1.0 + np.outer(1 / std, 1 / std) * (units.kB * T * vibration_std) ** 2)
    function = model.joint_energies(frames, include_noise=False).covariance
    return FramesMechanism(mechanism, T, frames, covariance, function, excess)


def _stationary(
    minima: Mapping[str, ase.Atoms], saddles: Mapping[str, SaddleFrame], calculator: Any, progress: bool
) -> dict[str, ase.Atoms]:
    """Stationary points by the names of the parameters."""
    settings = RelaxationSettings(fmax=1e-3, longest_step=0.1)
    relaxed = relax_many(list(minima.values()), calculator, settings, progress=progress, strict=True)
    found = dict(zip(minima, (r.atoms for r in relaxed), strict=True))
    given = dict(minima)
    for name, saddle in saddles.items():
        top = refine_saddle(saddle.atoms, calculator, progress=progress)
        if not top.is_saddle:
            raise DataError(f"saddle {name}: {top}")
        found[f"TS:{name}"], given[f"TS:{name}"] = top.atoms, saddle.atoms
    for name, atoms in found.items():
        start, moving = given[name].positions, free_atoms(atoms)
        whole = not atoms.pbc.any() and len(moving) == len(atoms)
        step = (aligned(start, atoms.positions) if whole else start) - atoms.positions
        moved = float(np.linalg.norm(minimum_image(step, atoms), axis=1).max())
        if moved > FARTHEST:
            raise DataError(
                f"{name}: the stationary point found lies {moved:.2f} A from the given frame; give a frame nearer to it"
            )
    return found


def _state(name: str, modes: NormalModes, temperature: float, n_imaginary: int) -> tuple[float, float]:
    """Enthalpy (eV) and entropy (eV/K) of a stationary point."""
    if modes.n_imaginary != n_imaginary:
        raise DataError(f"{name} has {modes.n_imaginary} imaginary modes, not {n_imaginary}")
    found = harmonic_thermochemistry(modes, temperature, n_imaginary=n_imaginary)
    entropy = float(found.entropy)
    if modes.kind == "nonlinear":
        moments = principal_axes(modes.atoms.positions, modes.masses)[0]
        entropy += float(rotational_entropy(moments, np.array(temperature), 1))
    return float(found.internal_energy), entropy


def _errors(gap: GAP, frames: list[ase.Atoms], hessians: list[Hessian]) -> tuple[np.ndarray, np.ndarray]:
    """Covariance (p, p) of the energies of the reference's stationary points, and domain excess (p,)."""
    labels = gap.joint_energies(frames).covariance
    points, excess = errors_of_points(gap, frames, hessians)
    motion = np.array([p.shift_std for p in points])
    std = np.sqrt(np.diagonal(labels))
    correlation = labels / np.outer(std, std)
    return labels + correlation * np.outer(motion, motion), excess
