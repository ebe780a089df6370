"""Dimers on Si(100): a test of a potential of bulk silicon at its surface.

The atoms of an ideal Si(100) face have two broken bonds each. In pairs they lean together to dimers (2x1), which then
buckle: one atom goes up, the other down. :func:`run_dimers` relaxes the three faces with a potential and gives the
energy gain per dimer with the standard deviation of the difference, from the covariance of the three energies.

Slabs are as in ``data/silicon_surface``: eight layers, no hydrogen, both faces alike by inversion, the two middle
layers as in the crystal. Lengths in A, energies in eV, angles in degrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.build import diamond100
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.potential.joint import Difference, JointEnergies
from gapkit.progress import progress_bar
from gapkit.settings import Settings

#: the three faces, in the order of their energies
FACES = ("unreconstructed", "symmetric", "buckled")
#: symmetries of a face that its relaxation keeps; see :class:`FaceSymmetry`
SYMMETRIES = {"unreconstructed": ("half", "across", "along"), "symmetric": ("across", "along"), "buckled": ("along",)}
#: dimers in a cell: one on each face
DIMERS = 2


@dataclass(frozen=True)
class DimersSettings(Settings):
    """The slab, its relaxation, and the kind of error bars.

    Attributes
    ----------
    lattice_constant : float
        Lattice constant of the crystal (A).
    n_layers : int
        Layers; a multiple of four, so that dimers of both faces lie along the same axis.
    vacuum : float
        On each side (A).
    bond : float
        Bond length of the dimers that relaxation starts from (A).
    buckling : float
        Height difference of the dimers that relaxation starts from (A).
    force_max : float
        Largest force (eV/A) on an atom that may move, when relaxed.
    max_step : float
        Longest step (A).
    steps : int
        Largest number of steps.
    include_noise : bool
        Whether standard deviations are those of new labels or of the function alone.
    config_type : str or None
        Whose noise: that of this config_type where the model has levels of its own for it.
    """

    lattice_constant: float = 5.47
    n_layers: int = 8
    vacuum: float = 4.5
    bond: float = 2.35
    buckling: float = 0.75
    force_max: float = 0.005
    max_step: float = 0.05
    steps: int = 400
    include_noise: bool = True
    config_type: str | None = "si100_2x1"

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if self.n_layers < 8 or self.n_layers % 4:
            raise SettingsError(f"n_layers must be a multiple of four, at least 8, not {self.n_layers!r}")
        for name in ("lattice_constant", "vacuum", "bond", "force_max", "max_step", "steps"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} must be positive, not {getattr(self, name)!r}")
        if not 0 < self.buckling < self.bond:
            raise SettingsError(f"buckling must be between 0 and the bond length, not {self.buckling!r}")


@dataclass(frozen=True)
class Slab:
    """An ideal Si(100) 2x1 slab, long axis y, the backbonds of its outermost atoms in the plane of x.

    Attributes
    ----------
    atoms : ase.Atoms
    upper, lower : (n / 2,)
        Atoms of the upper half, and their images by inversion.
    top : (2,)
        Places within ``upper`` of the outermost layer.
    fixed : (4,)
        Atoms of the two middle layers.
    """

    atoms: ase.Atoms
    upper: np.ndarray
    lower: np.ndarray
    top: np.ndarray
    fixed: np.ndarray

    @classmethod
    def ideal(cls, settings: DimersSettings | None = None) -> Slab:
        """Slab as cut from the crystal, not reconstructed."""
        s = settings or DimersSettings()
        size = (1, 2, s.n_layers)
        atoms = diamond100("Si", size=size, a=s.lattice_constant, vacuum=s.vacuum)
        atoms.pbc = (True, True, False)
        atoms.info.clear()
        heights = atoms.positions[:, 2]
        middle = (heights.max() + heights.min()) / 2
        upper = np.flatnonzero(heights > middle)
        # a centre of inversion lies halfway between an atom and any atom of the layer as far on the other side
        centre = (atoms.positions[np.argmax(heights)] + atoms.positions[np.argmin(heights)]) / 2
        images = _places(atoms[upper], 2 * centre - atoms.positions[upper], atoms)
        top = np.flatnonzero(heights[upper] > heights.max() - 0.3)
        away = np.abs(heights - middle)
        return cls(atoms, upper, images, top, np.flatnonzero(away < away.min() + 0.3))

    def moved(self, half: np.ndarray) -> ase.Atoms:
        """Upper half moved by ``half`` (n / 2, 3; A), the lower half by its inverse."""
        out = self.atoms.copy()
        out.positions[self.upper] += half
        out.positions[self.lower] -= half
        return out


def _places(half: ase.Atoms, positions: np.ndarray, whole: ase.Atoms) -> np.ndarray:
    """Which atoms of ``whole`` lie at ``positions`` of images of ``half``."""
    images = half.copy()
    images.positions = positions
    apart = (images + whole).get_all_distances(mic=True)[: len(half), len(half) :]
    if apart.min(axis=1).max() > 1e-6:
        raise DataError("the slab has not the symmetry that was asked for")
    return apart.argmin(axis=1)


class FaceSymmetry:
    """Averages fields over the symmetries of a face, and over both faces.

    A slab has fewer symmetries than its faces: with eight layers the dimers above and below are a quarter of a cell
    apart, so that a mirror of one face is none of the other, and a symmetric dimer would begin to tilt. So both faces
    are tied together by inversion, and the symmetries act on the upper half.

    Parameters
    ----------
    slab
        The ideal slab.
    names
        "across" (mirror in the middle of the dimer, across it), "along" (mirror in the plane of the dimer), "half"
        (translation by half the long axis).
    """

    def __init__(self, slab: Slab, names: Sequence[str]) -> None:
        self.slab = slab
        half = slab.atoms[slab.upper]
        first, second = half.positions[slab.top]
        self.operations = []
        for name in names:
            signs, positions = np.ones(3), half.positions.copy()
            if name == "half":
                positions += half.cell[1] / 2
            elif name in ("across", "along"):
                axis, fixed = (1, (first + second) / 2) if name == "across" else (0, first)
                signs[axis] = -1
                positions = fixed + signs * (positions - fixed)
            else:
                raise SettingsError(f"a symmetry must be 'across', 'along' or 'half', not {name!r}")
            self.operations.append((_places(half, positions, half), signs))

    def average(self, field: np.ndarray) -> np.ndarray:
        """The part of displacements or forces ``field`` (n, 3) that keeps the symmetries; a projection."""
        half = (field[self.slab.upper] - field[self.slab.lower]) / 2
        for image, signs in self.operations:
            turned = np.empty_like(half)
            turned[image] = signs * half
            half = (half + turned) / 2
        out = np.zeros_like(field)
        out[self.slab.upper], out[self.slab.lower] = half, -half
        return out

    # what ASE asks of a constraint
    def adjust_forces(self, atoms: ase.Atoms, forces: np.ndarray) -> None:
        """Project forces (eV/A) in place."""
        forces[:] = self.average(forces)

    def adjust_positions(self, atoms: ase.Atoms, new: np.ndarray) -> None:
        """Project the step to ``new`` (A) in place."""
        new[:] = atoms.positions + self.average(new - atoms.positions)

    def get_removed_dof(self, atoms: ase.Atoms) -> int:
        """Degrees of freedom that are fixed: those beyond half of the atoms."""
        return 3 * len(self.slab.upper)


def starting_slabs(settings: DimersSettings | None = None) -> tuple[Slab, dict[str, ase.Atoms]]:
    """The ideal slab, and where the relaxation of each face begins: dimers with the settings' bond and buckling."""
    s = settings or DimersSettings()
    slab = Slab.ideal(s)
    half = slab.atoms.positions[slab.upper]
    first, second = half[slab.top]
    middle = (first + second) / 2 - [0, 0, 0.25]  # dimers lie lower than the ideal face
    out = {"unreconstructed": slab.atoms.copy()}
    for name, height in (("symmetric", 0.0), ("buckled", s.buckling)):
        moves = np.zeros_like(half)
        flat = np.sqrt(s.bond**2 - height**2)
        for place, sign in zip(slab.top, (-1, 1), strict=True):
            side = sign * np.sign(second[1] - first[1])
            moves[place] = middle + np.array([0, side * flat / 2, sign * height / 2]) - half[place]
        out[name] = slab.moved(moves)
    return slab, out


def relaxed(
    atoms: ase.Atoms, calculator: Calculator, slab: Slab, face: str, settings: DimersSettings | None = None
) -> ase.Atoms:
    """``atoms`` (a face of ``slab``) with its outer layers relaxed, middle layers and symmetries kept; no calculator.

    Raises
    ------
    NumericsError
        Where forces stay above ``force_max`` (eV/A), or atoms fall onto each other.
    """
    s = settings or DimersSettings()
    symmetry = FaceSymmetry(slab, SYMMETRIES[face])
    out = atoms.copy()
    out.positions = slab.atoms.positions + symmetry.average(out.positions - slab.atoms.positions)
    out.set_constraint([symmetry, FixAtoms(indices=slab.fixed)])
    out.calc = calculator
    try:
        done = BFGS(out, logfile=None, maxstep=s.max_step).run(fmax=s.force_max, steps=s.steps)
    except DataError as error:  # a potential without repulsion: gapkit refuses atoms on one spot
        raise NumericsError(
            f"{face}: the relaxation left what can be evaluated ({error}); the potential has no minimum here: "
            "start elsewhere, or label frames of this kind"
        ) from error
    if not done:
        largest = np.linalg.norm(out.get_forces(), axis=1).max()
        raise NumericsError(
            f"{face}: a force of {largest:.3g} eV/A is left after {s.steps} steps; the potential may have no minimum "
            "here: start elsewhere, or label frames of this kind"
        )
    out.set_constraint()
    out.calc = None
    return out


@dataclass(frozen=True)
class Dimer:
    """Geometry of a dimer.

    Attributes
    ----------
    length : float
        Distance of its atoms (A); of an unreconstructed face, that of neighbours in the outermost layer.
    buckling : float
        Angle of the dimer with the surface (degrees).
    height : float
        Height difference (A).
    """

    length: float
    buckling: float
    height: float


def dimer_geometry(atoms: ase.Atoms) -> Dimer:
    """Geometry of the dimer that the two highest atoms of a slab make, periodic images considered."""
    if len(atoms) < 2:
        raise DataError(f"a dimer needs two atoms; this frame has {len(atoms)}")
    low, high = np.argsort(atoms.positions[:, 2])[-2:]
    vector = atoms.get_distance(int(low), int(high), mic=True, vector=True)
    length = float(np.linalg.norm(vector))
    return Dimer(length, float(np.degrees(np.arcsin(min(1.0, abs(vector[2]) / length)))), float(abs(vector[2])))


@dataclass(frozen=True)
class DimersResult:
    """Three faces and the energies between them.

    Attributes
    ----------
    settings : DimersSettings
    frames : dict
        Slab by face; relaxed by the potential, or given (A).
    energies : JointEnergies
        Energies of the slabs in the order of ``FACES``, with the covariance of their errors (eV, eV^2).
    """

    settings: DimersSettings
    frames: dict[str, ase.Atoms]
    energies: JointEnergies

    def gain(self, final: str, initial: str = "unreconstructed") -> Difference:
        """Energy of ``final`` minus that of ``initial``, per dimer, with its standard deviation (eV)."""
        c = np.zeros(len(FACES))
        c[FACES.index(final)] += 1 / DIMERS
        c[FACES.index(initial)] -= 1 / DIMERS
        return self.energies.combination(c)

    def geometry(self, face: str) -> Dimer:
        """Dimer of a face."""
        return dimer_geometry(self.frames[face])

    def __str__(self) -> str:
        lines = [f"{'face':<16} {'energy per dimer (eV)':>24} {'length (A)':>11} {'buckling (deg)':>15}"]
        for face in FACES:
            d, g = self.gain(face), self.geometry(face)
            lines.append(f"{face:<16} {d.value:>14.3f} +- {d.std:<6.3f} {g.length:>11.3f} {g.buckling:>15.1f}")
        return "\n".join(lines)


def run_dimers(
    gap: GAP,
    settings: DimersSettings | None = None,
    *,
    frames: Mapping[str, ase.Atoms] | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> DimersResult:
    """Relax the three faces with ``gap`` and take their energies.

    Parameters
    ----------
    gap
        A fitted potential of silicon.
    settings
        The slab.
    frames
        Slabs by face that are taken as they are (the reference's geometries, say); default: relaxed by ``gap``.
    random_state
        Nothing here is random: the relaxation starts from the settings' slabs.
    progress
        Whether to show a progress bar.

    Raises
    ------
    NumericsError
        As :func:`relaxed`.
    DataError
        Where ``frames`` lacks a face.
    """
    s = settings or DimersSettings()
    if frames is None:
        slab, starts = starting_slabs(s)
        faces = progress_bar(FACES, desc="relax", unit="face", show=progress)
        frames = {face: relaxed(starts[face], gap.calculator(), slab, face, s) for face in faces}
    missing = [face for face in FACES if face not in frames]
    if missing:
        raise DataError(f"there is no frame for {missing[0]!r}: give all of {', '.join(FACES)}")
    used = {face: frames[face].copy() for face in FACES}
    for atoms in used.values():
        if s.config_type is not None:
            atoms.info["config_type"] = s.config_type
    return DimersResult(s, used, gap.joint_energies([used[face] for face in FACES], s.include_noise))


def reference_study(frames: Sequence[ase.Atoms]) -> DimersResult:
    """Dimers of labelled slabs that say their face in ``info["reconstruction"]``; without error bars (zero).

    Raises
    ------
    DataError
        Where a face is missing.
    """
    found = {str(a.info.get("reconstruction")): a for a in frames}
    missing = [face for face in FACES if face not in found]
    if missing:
        raise DataError(f"no frame has info['reconstruction'] = {missing[0]!r}; all of {', '.join(FACES)} are needed")
    energy = np.array([found[face].get_potential_energy() for face in FACES])
    none = np.zeros((len(FACES), len(FACES)))
    labelled = {face: found[face] for face in FACES}
    return DimersResult(DimersSettings(), labelled, JointEnergies(energy, none, np.zeros(len(FACES))))
