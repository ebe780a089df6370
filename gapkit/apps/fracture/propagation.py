r"""A crack that advances step by step where its fracture potential exceeds the critical value of the place.

The stress around the tip is that of linear elasticity, averaged as the atoms' stress is; it is linear in
:math:`K_I`, :math:`K_{II}` and the T-stress, so that three averages per radius, made once, serve all loads. At each
step all directions within ``max_turn`` are tried; the crack goes where :math:`\Phi(\theta) - \Phi_c` is largest, and
stays where that is negative. How the stress intensity depends on load and crack is a function that the caller gives.

The error bars come from repeating the growth with draws of the potential and of the critical values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from gapkit.apps.fracture.bond_labels import BondStress
from gapkit.apps.fracture.continuum import averaged_field, crystal_near_tip, near_tip, plane_strain_zz
from gapkit.apps.fracture.fracture_potential import FracturePotential
from gapkit.exceptions import SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.settings import Settings


@dataclass(frozen=True)
class Tip:
    """A crack tip.

    Attributes
    ----------
    x, y : float, A
    angle : float, rad
        Angle of the crack behind the tip, from +x.
    grown : float, A
        Length of the path since the start.
    """

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    grown: float = 0.0


#: (kI, kII, T-stress) at a tip under a load, in the axes of the tip; eV/A^(5/2), eV/A^3
TipLoad = Callable[[float, Tip], tuple[float, float, float]]


class TipDescriptors:
    """Descriptors of a crack tip in a continuum, as functions of the stress intensity.

    Parameters
    ----------
    stress : BondStress
        The descriptors that the potential was trained on.
    poisson : float
        Poisson's ratio of an isotropic body.
    field : optional
        matscipy's crack field of a crystal instead; it has no T-stress.
    """

    def __init__(self, stress: BondStress, poisson: float = 0.25, field: Any = None) -> None:
        self.stress = stress
        zz: Any
        if field is None:
            units = [near_tip(1.0), near_tip(0.0, 1.0), near_tip(0.0, 0.0, 1.0)]
            zz = poisson
        else:
            units = [crystal_near_tip(field, 1.0), crystal_near_tip(field, 0.0, 1.0)]
            zz = plane_strain_zz(field)
        self._units = np.array([[averaged_field(u, R, zz) for u in units] for R in stress.radii])
        self.n_components = len(units)

    def __call__(self, k: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Descriptors (n, f) for (kI, kII, T) (n, 3) or (kI, kII) (n, 2) and bond directions (n, 3)."""
        k = np.atleast_2d(np.asarray(k, dtype=float))
        if k.shape[1] > self.n_components and np.any(k[:, self.n_components :]):
            raise SettingsError("the field of a crystal has no T-stress")
        k = k[:, : self.n_components]
        averages = np.einsum("rcv,nc->rnv", self._units[:, : k.shape[1]], k)
        return self.stress.of_stress(averages, np.broadcast_to(normals, (len(k), 3)))

    def directions(self, k: tuple[float, float, float], theta: np.ndarray) -> np.ndarray:
        """Descriptors (n, f) of one tip for growth at the angles theta (n,) (rad) from its axis."""
        normals = np.column_stack([-np.sin(theta), np.cos(theta), np.zeros_like(theta)])
        return self(np.broadcast_to(np.asarray(k, dtype=float), (len(theta), len(k))), normals)


@dataclass(frozen=True)
class Phases:
    """Materials side by side along x, with their critical values.

    Attributes
    ----------
    edges : (p - 1,) float, A
        Places of the interfaces, increasing.
    critical, std : (p,) float, eV
        Critical values and their standard deviations.
    """

    edges: tuple[float, ...] = ()
    critical: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if len(self.critical) != len(self.edges) + 1 or len(self.std) != len(self.critical):
            raise SettingsError("p materials have p critical values, p standard deviations and p - 1 interfaces")
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise SettingsError(f"interfaces must be increasing, not {self.edges}")

    def ahead(self, x: float, towards: float) -> float:
        """Critical value (eV) just ahead of a tip at x that goes to the right (towards > 0) or to the left."""
        side: Literal["left", "right"] = "right" if towards > 0 else "left"
        return self.critical[int(np.searchsorted(np.array(self.edges), x, side=side))]

    def draw(self, rng: np.random.Generator) -> Phases:
        """Phases with critical values drawn from their normal distributions."""
        values = np.asarray(self.critical) + rng.normal(size=len(self.critical)) * np.asarray(self.std)
        return Phases(self.edges, tuple(map(float, values)), self.std)

    def nearest(self, x: float) -> float:
        """The interface nearest to a place (A)."""
        return min(self.edges, key=lambda edge: abs(edge - x))

    def step_to_interface(self, x: float, dx: float) -> float:
        """The part (0 to 1) of a step dx that ends at the next interface; infinite where none is reached."""
        for edge in self.edges:
            if (x < edge <= x + dx) or (x + dx <= edge < x):
                return (edge - x) / dx
        return np.inf


@dataclass(frozen=True)
class PropagationSettings(Settings):
    """Settings of the growth of a crack.

    Attributes
    ----------
    step : float, A
        Growth at a time.
    max_turn : float, degrees
        Largest change of direction in a step; 0 keeps the crack straight.
    n_angles : int
        Directions tried, odd, so that straight ahead is among them.
    max_length : float, A
        Growth at which the run ends.
    n_samples : int
        Draws of the potential and of the critical values for the error bars, at least 2; 0: none.
    """

    step: float = 10.0
    max_turn: float = 70.0
    n_angles: int = 57
    max_length: float = 1000.0
    n_samples: int = 0

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not (0 < self.step < np.inf and self.max_length > 0 and 0 <= self.max_turn <= 90):
            raise SettingsError("step and max_length must be positive (A), max_turn from 0 to 90 degrees")
        if self.n_angles < 1 or self.n_angles % 2 == 0:
            raise SettingsError(f"n_angles must be odd, not {self.n_angles}")
        if self.n_samples < 0 or self.n_samples == 1:
            raise SettingsError(f"n_samples must be 0 or at least 2, not {self.n_samples}")

    @property
    def angles(self) -> np.ndarray:
        """Directions tried (rad)."""
        if self.max_turn == 0:
            return np.zeros(1)
        return np.radians(np.linspace(-self.max_turn, self.max_turn, self.n_angles))


@dataclass(frozen=True)
class CrackPath:
    """A grown crack.

    Attributes
    ----------
    path : (k, 2) A
        Tip after every step, the start first.
    load : (k - 1,)
        Load at which each step was made.
    excess : (k - 1,) eV
        Driving force beyond the critical value before each step.
    loads : (l,)
        Loads that were given.
    arrest : (l,) A
        Growth at which the crack stayed, for each load; infinite where it ran through.
    arrest_x : (l,) A
        Place x of the tip there.
    """

    path: np.ndarray
    load: np.ndarray
    excess: np.ndarray
    loads: np.ndarray
    arrest: np.ndarray
    arrest_x: np.ndarray

    @property
    def angles(self) -> np.ndarray:
        """Directions (rad) of the steps, from +x."""
        d = np.diff(self.path, axis=0)
        return np.arctan2(d[:, 1], d[:, 0])


def grow_crack(
    potential: FracturePotential,
    descriptors: TipDescriptors,
    tip_load: TipLoad,
    loads: np.ndarray,
    settings: PropagationSettings | None = None,
    phases: Phases | None = None,
    drive: Callable[[np.ndarray], np.ndarray] | None = None,
    start: Tip | None = None,
) -> CrackPath:
    """Grow a crack under a sequence of loads.

    Parameters
    ----------
    tip_load
        Gives (kI, kII, T) at the tip.
    loads : (l,)
        In this order; at each the crack grows until it arrests.
    phases
        Materials; by default one, with the potential's critical value.
    drive
        Driving force (n,) from descriptors (n, f); the potential's mean by default, or one of its draws.
    start
        First tip; at the origin, along x, by default.
    """
    settings = settings or PropagationSettings()
    phases = phases or Phases(critical=(potential.critical_,), std=(potential.critical_std_,))
    drive = drive or potential.predict
    loads = np.atleast_1d(np.asarray(loads, dtype=float))
    angles = settings.angles
    tip = start or Tip()
    path, used, excesses = [(tip.x, tip.y)], [], []
    arrest, arrest_x = np.full(len(loads), np.inf), np.full(len(loads), np.nan)

    def look(load: float, tip: Tip) -> tuple[float, float]:
        """Largest excess (eV) and its direction."""
        phi = drive(descriptors.directions(tip_load(load, tip), angles))
        critical = np.array([phases.ahead(tip.x, np.cos(tip.angle + a)) for a in angles])
        best = int(np.argmax(phi - critical - 1e-9 * np.abs(angles)))  # straight ahead where all are equal
        return float(phi[best] - critical[best]), float(angles[best])

    for n, load in enumerate(loads):
        excess, turn = look(load, tip)
        while excess > 0 and tip.grown < settings.max_length:
            direction = tip.angle + turn
            share = phases.step_to_interface(tip.x, settings.step * np.cos(direction))
            new = _advanced(tip, direction, min(share, 1.0) * settings.step)
            if share <= 1.0:  # onto the interface itself, whatever the rounding
                new = replace(new, x=phases.nearest(new.x))
            new_excess, new_turn = look(load, new)
            if new_excess <= 0 and share > 1.0:  # it stays on the way: where, to first order
                new = _advanced(tip, direction, settings.step * excess / (excess - new_excess))
            used.append(load)
            excesses.append(excess)
            path.append((new.x, new.y))
            tip, excess, turn = new, new_excess, new_turn
        if tip.grown >= settings.max_length:
            break
        arrest[n], arrest_x[n] = tip.grown, tip.x
    return CrackPath(np.array(path), np.array(used), np.array(excesses), loads, arrest, arrest_x)


def _advanced(tip: Tip, direction: float, length: float) -> Tip:
    return Tip(tip.x + length * np.cos(direction), tip.y + length * np.sin(direction), direction, tip.grown + length)


@dataclass(frozen=True)
class PropagationResult:
    """Growth of a crack with the mean potential, and with draws of the potential and of the critical values.

    Attributes
    ----------
    settings : PropagationSettings
    mean : CrackPath
        With the mean potential.
    samples : tuple of CrackPath
    """

    settings: PropagationSettings
    mean: CrackPath
    samples: tuple[CrackPath, ...]

    @property
    def arrest_x(self) -> np.ndarray:
        """(l,) place x of the tip at arrest (A) by the mean potential, for each load; nan where it ran through."""
        return self.mean.arrest_x

    @property
    def sampled_arrest_x(self) -> np.ndarray:
        """(n_samples, l) places of arrest (A) of the draws; nan where the crack ran through."""
        return np.array([s.arrest_x for s in self.samples]).reshape(len(self.samples), len(self.mean.loads))

    @property
    def arrest_x_std(self) -> np.ndarray:
        """(l,) standard deviation of the place of arrest (A), over the draws that arrested; nan for fewer than two."""
        with np.errstate(invalid="ignore"):
            return np.array(
                [
                    np.std(c[np.isfinite(c)], ddof=1) if np.isfinite(c).sum() > 1 else np.nan
                    for c in self.sampled_arrest_x.T
                ]
            )

    def share_at(self, x: float, width: float = 1e-6) -> np.ndarray:
        """(l,) share of the draws that arrested at a place (A).

        Raises
        ------
        SettingsError
            Where there are no draws.
        """
        if not self.samples:
            raise SettingsError("there are no draws: run with PropagationSettings(n_samples=...)")
        return np.mean(np.abs(self.sampled_arrest_x - x) <= width, axis=0)

    def __str__(self) -> str:
        lines = [f"{'load':>12} {'growth (A)':>11} {'arrest x (A)':>12} {'std (A)':>9}"]
        for load, grown, x, std in zip(
            self.mean.loads, self.mean.arrest, self.arrest_x, self.arrest_x_std, strict=True
        ):
            lines.append(f"{load:>12.4g} {grown:>11.2f} {x:>12.2f} {std:>9.2f}")
        lines.append(f"{len(self.samples)} draws of the potential and of the critical values")
        return "\n".join(lines)


def run_propagation(
    potential: FracturePotential,
    descriptors: TipDescriptors,
    tip_load: TipLoad,
    loads: np.ndarray,
    settings: PropagationSettings | None = None,
    *,
    phases: Phases | None = None,
    start: Tip | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> PropagationResult:
    """Grow the same crack with the mean potential and with draws.

    Parameters
    ----------
    potential, descriptors, tip_load, loads, phases, start
        Arguments of :func:`grow_crack`.
    random_state
        Seed of the draws.
    progress
        Whether to show a progress bar.
    """
    s = settings or PropagationSettings()
    rng = generator_of(random_state)
    phases = phases or Phases(critical=(potential.critical_,), std=(potential.critical_std_,))
    common = (potential, descriptors, tip_load, loads, s)
    mean = grow_crack(*common, phases, None, start)
    draws = progress_bar(range(s.n_samples), desc="cracks", unit="draw", show=progress)
    samples = [grow_crack(*common, phases.draw(rng), potential.draw(rng), start) for _ in draws]
    return PropagationResult(s, mean, tuple(samples))


def resistance_curve(
    potential: FracturePotential,
    descriptors: TipDescriptors,
    x: np.ndarray,
    loads: np.ndarray,
    phases: Phases | None = None,
    drive: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Stress intensity kI (n,) in eV/A^(5/2) that a straight crack needs to grow at the places x (n,) in A.

    ``loads`` (k,), increasing stress intensities, are interpolated between; infinite where the largest does not do.
    """
    phases = phases or Phases(critical=(potential.critical_,), std=(potential.critical_std_,))
    drive = drive or potential.predict
    k = np.column_stack([loads, np.zeros_like(loads)])
    phi = np.maximum.accumulate(drive(descriptors(k, np.array([0.0, 1.0, 0.0]))))
    critical = np.array([phases.ahead(float(v), 1.0) for v in x])
    phi = phi + 1e-12 * np.arange(len(phi))  # strictly increasing, for the interpolation
    return np.where(critical > phi[-1], np.inf, np.interp(critical, phi, loads))
