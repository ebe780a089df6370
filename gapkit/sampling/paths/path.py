"""Settings of a search for a path, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import ase
import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.sampling.paths.curve import PathCurve
from gapkit.sampling.paths.saddle import Saddle, SaddleSettings
from gapkit.sampling.relaxation import RelaxationSettings, free_atoms
from gapkit.settings import Settings


@dataclass(frozen=True)
class PathSettings(Settings):
    """Settings of :func:`gapkit.sampling.paths.finding.find_path`.

    Attributes
    ----------
    images : int
        Number of images between the ends.
    fmax : float
        Largest force at the end across the path, and on the climbing image (eV/A).
    steps : int
        Largest number of iterations of the band.
    spring : float
        Stiffness of the springs between images (eV/A^2).
    climb : bool
        Whether the highest image climbs.
    climb_below : float
        Largest force below which it starts to (eV/A).
    longest_step : float
        Longest step of an atom in an iteration of the band (A).
    idpp : bool
        Whether images start from image-dependent pair potentials instead of a straight line.
    align : bool
        Whether overall translation and rotation are left out. False: atoms stand in an outer field.
    relax_ends : bool
        Whether the ends are relaxed first.
    ends : RelaxationSettings
        Relaxation of the ends, and of the way down from the saddle (there with steps of at most 0.1 A).
    refine : bool
        Whether the saddle is refined, proved, and followed down.
    saddle : SaddleSettings
        Search for the saddle; its ``align`` is that of the path.
    same : float
        Distance of an atom (A) up to which two minima are the same.
    """

    images: int = 7
    fmax: float = 0.03
    steps: int = 500
    spring: float = 1.0
    climb: bool = True
    climb_below: float = 0.3
    longest_step: float = 0.2
    idpp: bool = True
    align: bool = True
    relax_ends: bool = True
    ends: RelaxationSettings = field(default_factory=lambda: RelaxationSettings(fmax=1e-3))
    refine: bool = True
    saddle: SaddleSettings = field(default_factory=SaddleSettings)
    same: float = 0.1

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        for name in ("fmax", "spring", "climb_below", "longest_step", "same"):
            if not 0 < getattr(self, name) < np.inf:
                raise SettingsError(f"{name} must be positive and finite, not {getattr(self, name)}")
        for name in ("images", "steps"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def saddle_settings(self) -> SaddleSettings:
        """Settings of the saddle, with the path's ``align``."""
        return replace(self.saddle, align=self.align)


@dataclass(frozen=True)
class Path:
    """A path between two minima.

    Attributes
    ----------
    images : list of ase.Atoms
        The ends included, with energies and forces; atoms move from image to image without jumps between periodic
        images.
    energies : (k,) eV
    coordinate : (k,) A
        Length of the path up to each image.
    residual : (k,) eV/A
        Largest force on an atom across the path; of the climbing image its whole force, as of the ends.
    climbing : int or None
        Image that climbs, counted among those between the ends.
    barrier_forward, barrier_backward : float, eV
        Barriers from the refined saddle; without one, from the highest image.
    saddle : Saddle or None
        With its mode, which points to the final frame, and its curvatures.
    minima : (ase.Atoms, ase.Atoms) or None
        Minima on the initial and the final side of the saddle.
    connects : (bool, bool) or None
        Whether these are the ends; None where there was no way down.
    ends_converged, band_converged : bool
    interrupted : bool
        Whether Ctrl-C ended the search early.
    iterations : int
        Iterations of the band.
    evaluations : int
        Evaluations of energies and forces, everything included.
    notes : tuple of str
        Whatever a reader of the barrier should know.
    """

    images: list[ase.Atoms]
    energies: np.ndarray
    coordinate: np.ndarray
    residual: np.ndarray
    climbing: int | None
    barrier_forward: float
    barrier_backward: float
    saddle: Saddle | None
    minima: tuple[ase.Atoms, ase.Atoms] | None
    connects: tuple[bool, bool] | None
    ends_converged: bool
    band_converged: bool
    interrupted: bool
    iterations: int
    evaluations: int
    notes: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the ends are relaxed, the band has converged, and the saddle is one of first order."""
        return self.ends_converged and self.band_converged and self.saddle is not None and self.saddle.is_saddle

    @property
    def reaction_energy(self) -> float:
        """Energy of the final less that of the initial frame (eV)."""
        return float(self.energies[-1] - self.energies[0])

    @property
    def curvature(self) -> float | None:
        """Lowest curvature at the saddle (eV/A^2)."""
        return None if self.saddle is None else self.saddle.curvature

    @property
    def largest_perpendicular_force(self) -> float:
        """Largest force on an atom across the path, and on the climbing image (eV/A); the ends left out."""
        return float(self.residual[1:-1].max())

    def curve(self) -> PathCurve:
        """Energies and positions of the free atoms between the images."""
        free = free_atoms(self.images[0])
        positions = np.array([image.positions[free] for image in self.images])
        return PathCurve(positions, self.energies, np.array([i.calc.results["forces"][free] for i in self.images]))

    def __str__(self) -> str:
        lines = ["image  coordinate (A)  energy (eV)  force across (eV/A)"]
        rows = zip(self.coordinate, self.energies - self.energies[0], self.residual, strict=True)
        for k, (s, e, f) in enumerate(rows):
            mark = "  climbing" if self.climbing is not None and k == self.climbing + 1 else ""
            lines.append(f"{k:5d}  {s:14.3f}  {e:11.4f}  {f:19.4f}{mark}")
        lines.append(f"barrier {self.barrier_forward:.4f} eV forward, {self.barrier_backward:.4f} eV backward")
        if self.saddle is not None:
            lines.append(str(self.saddle))
        if self.connects is not None:
            words = ["yes" if met else "NO" for met in self.connects]
            lines.append(f"down from the saddle to the initial frame: {words[0]}, to the final frame: {words[1]}")
        state = "interrupted" if self.interrupted else "converged" if self.converged else "not converged"
        lines.append(f"{state}; {self.iterations} iterations, {self.evaluations} evaluations")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])
