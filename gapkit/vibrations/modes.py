r"""Normal modes of a molecule, a crystal's cell or a part of these.

With the mass-weighted Hessian :math:`\tilde H_{jk} = H_{jk}/\sqrt{m_j m_k}` without translations and rotations,
:math:`\tilde H e = \omega^2 e` (Wilson, Decius, Cross, Molecular Vibrations (1955), chapter 2).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from gapkit.checks import check_count, check_positive
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.vibrations.hessians import Hessian
from gapkit.vibrations.rigid_motions import complement, rotations, shape_of_molecule, translations

#: quantum hbar omega (eV) where omega^2 is one eV/(A^2 amu)
QUANTUM = units._hbar * 1e10 / math.sqrt(units._e * units._amu)
#: modes below this wavenumber (cm^-1) are flagged as soft
SOFT_LIMIT = 30.0
#: largest force (eV/A) of a structure that counts as stationary
FORCE_LIMIT = 0.01


def wavenumbers(squared: np.ndarray) -> np.ndarray:
    """Wavenumbers (cm^-1) from squares of angular frequencies in eV/(A^2 amu); negative where the square is negative.

    Examples
    --------
    >>> wavenumbers(np.array([1.0, -4.0])).round(3)
    array([  521.471, -1042.942])
    """
    return np.sign(squared) * np.sqrt(np.abs(squared)) * QUANTUM / units.invcm


@dataclass(frozen=True, eq=False)
class NormalModes:
    """Normal modes of a structure, the lowest first.

    Attributes
    ----------
    frequencies : (k,) cm^-1
        Wavenumbers. A negative value marks an imaginary frequency: -500 stands for 500i, a direction along which the
        energy falls.
    eigenvectors : (k, n, 3)
        Orthonormal mass-weighted displacements; zero for atoms that are held. The component of largest modulus is
        positive.
    masses : (n,) amu
        Masses of the atoms.
    atoms : ase.Atoms
        The structure, with these masses.
    energy : float, eV
        Energy of the structure.
    kind : str
        Motions that were projected out: ``"atom"`` (three translations), ``"linear"`` (and two rotations),
        ``"nonlinear"`` (and three), ``"periodic"`` (translations only), ``"held"`` (nothing, as atoms are held) or
        ``"external"`` (nothing, as asked).
    removed : (r,) cm^-1
        Wavenumbers of the motions that were projected out, translations first. Exact forces at a stationary point
        give zero; what is there measures the error of the Hessian.
    largest_force : float, eV/A
        Largest force on an atom that moves.
    soft_limit : float, cm^-1
        Modes below are soft.
    """

    frequencies: np.ndarray
    eigenvectors: np.ndarray
    masses: np.ndarray
    atoms: Atoms
    energy: float
    kind: str
    removed: np.ndarray
    largest_force: float
    soft_limit: float

    @property
    def imaginary(self) -> np.ndarray:
        """Whether each mode is imaginary: (k,) bool."""
        return self.frequencies < 0

    @property
    def soft(self) -> np.ndarray:
        """Whether the wavenumber of each mode, real or imaginary, is below ``soft_limit``: (k,) bool."""
        return np.abs(self.frequencies) < self.soft_limit

    @property
    def n_imaginary(self) -> int:
        """Number of imaginary modes: 0 at a minimum, 1 at a saddle point between two minima."""
        return int(self.imaginary.sum())

    @property
    def energies(self) -> np.ndarray:
        """Quanta hbar omega (eV) with the sign of ``frequencies``: (k,)."""
        return self.frequencies * units.invcm

    @property
    def angular_frequencies(self) -> np.ndarray:
        """omega with the sign of ``frequencies``, in radians per unit of time of ASE, (eV/amu)^(1/2)/A: (k,)."""
        return self.energies / QUANTUM

    @property
    def reduced_masses(self) -> np.ndarray:
        r"""Reduced masses (amu): 1 / sum_j e_j^2 / m_j, those of displacements of unit length. (k,)"""
        return 1 / np.einsum("kac,a->k", self.eigenvectors**2, 1 / self.masses)

    @property
    def force_constants(self) -> np.ndarray:
        """Reduced mass times omega^2 (eV/A^2), negative for imaginary modes: (k,)."""
        return self.reduced_masses * np.sign(self.frequencies) * self.angular_frequencies**2

    @property
    def displacements(self) -> np.ndarray:
        """Cartesian displacements e / sqrt(m), each mode scaled to unit length: (k, n, 3)."""
        moved = self.eigenvectors / np.sqrt(self.masses)[:, None]
        return moved * np.sqrt(self.reduced_masses)[:, None, None]

    @property
    def atom_shares(self) -> np.ndarray:
        """Share of each atom in the kinetic energy of each mode, which add to one: (k, n)."""
        return np.einsum("kac,kac->ka", self.eigenvectors, self.eigenvectors)

    def displaced(self, mode: int, distance: float) -> Atoms:
        """Copy of the structure moved along a mode.

        Parameters
        ----------
        mode
            Number of the mode; 0 is the lowest.
        distance : float
            Displacement (A) of the atom that moves farthest; negative for the other way.

        Raises
        ------
        SettingsError
            For a mode that is not there.
        """
        if not isinstance(mode, int | np.integer) or not -len(self.frequencies) <= mode < len(self.frequencies):
            raise SettingsError(f"there is no mode {mode!r} among {len(self.frequencies)}")
        moved, copy = self.displacements[mode], self.atoms.copy()
        copy.positions += moved * (distance / np.linalg.norm(moved, axis=1).max())
        return copy

    def oscillation(self, mode: int, distance: float = 0.2, n_frames: int = 20) -> list[Atoms]:
        """Frames of one period of a mode, for a viewer; parameters as :meth:`displaced`."""
        phases = 2 * np.pi * np.arange(check_count("n_frames", n_frames)) / n_frames
        return [self.displaced(mode, distance * math.sin(phase)) for phase in phases]

    def __str__(self) -> str:
        lines = [
            f"{len(self.frequencies)} normal modes, {self.n_imaginary} imaginary, {int(self.soft.sum())} soft "
            f"(below {self.soft_limit:g} cm^-1)",
            f"{self.atoms.get_chemical_formula()}: {_WORDS[self.kind]}; largest force {self.largest_force:.2g} eV/A",
        ]
        if len(self.removed):
            lines.append(f"largest wavenumber of a removed motion: {np.abs(self.removed).max():.2g} cm^-1")
        if len(self.frequencies):
            lines.append("mode      cm^-1       meV  mass (amu)  eV/A^2")
        rows = zip(self.frequencies, self.energies, self.reduced_masses, self.force_constants, self.soft, strict=True)
        for k, (nu, quantum, mass, stiffness, soft) in enumerate(rows):
            mark = "i" if nu < 0 else " "
            lines.append(
                f"{k:4d} {abs(nu):10.2f}{mark} {1e3 * abs(quantum):8.2f}{mark} {mass:10.3f} {stiffness:8.2f}"
                + ("  soft" if soft else "")
            )
        return "\n".join(lines)


_WORDS = {
    "atom": "an atom, translations projected out",
    "linear": "linear molecule, translations and two rotations projected out",
    "nonlinear": "molecule, translations and rotations projected out",
    "periodic": "periodic, translations projected out",
    "held": "atoms are held, nothing projected out",
    "external": "nothing projected out",
}


def normal_modes(
    hessian: Hessian,
    *,
    masses: Sequence[float] | np.ndarray | None = None,
    project: bool = True,
    soft_limit: float = SOFT_LIMIT,
    force_limit: float | None = FORCE_LIMIT,
) -> NormalModes:
    """Normal modes from a Hessian.

    Translations and rotations are no vibrations and are projected out before the matrix is diagonalised, so that
    3 n - 6 modes remain of a molecule, 3 n - 5 of a linear one, none of an atom, and 3 n - 3 of a structure that is
    periodic in any direction. Where atoms are held nothing is projected out. A molecule is linear where no atom is
    farther than 0.02 A from the axis of least inertia.

    Parameters
    ----------
    hessian
        Result of :func:`~gapkit.vibrations.hessians.hessian`.
    masses : (n,) amu
        Masses of all atoms, such as those of isotopes; default: those of the structure.
    project
        False: nothing is projected out, as for atoms in an external field.
    soft_limit : float
        Modes below this wavenumber (cm^-1) are flagged: anharmonic, and the least certain.
    force_limit : float or None
        A warning is given for a larger force (eV/A); None: never.

    Raises
    ------
    SettingsError
        For parameters that cannot work, and masses of another number.
    DataError
        For several atoms on one spot.

    Warns
    -----
    GapkitWarning
        Where the structure is no stationary point: frequencies of rotations and of floppy modes are wrong then. Where
        a translation of the whole structure costs energy.

    Examples
    --------
    >>> from ase.calculators.emt import EMT
    >>> from ase.optimize import BFGS
    >>> from gapkit.vibrations.hessians import hessian
    >>> nitrogen = Atoms("N2", [[0, 0, 0], [0, 0, 1.0]], calculator=EMT())
    >>> _ = BFGS(nitrogen, logfile=None).run(fmax=1e-4)
    >>> modes = normal_modes(hessian(nitrogen))
    >>> modes.kind, modes.n_imaginary, modes.frequencies.round()
    ('linear', 0, array([1231.]))
    """
    limit = check_positive("soft_limit", soft_limit, "cm^-1")
    atoms, free = hessian.atoms.copy(), hessian.indices
    if masses is not None:
        given = np.array(masses, dtype=float)
        if given.shape != (len(atoms),):
            raise SettingsError(f"masses must have one value for each of {len(atoms)} atoms, not {given.shape}")
        atoms.set_masses(given)
    m = atoms.get_masses()
    if not (np.isfinite(m) & (m > 0)).all():
        atom = int(np.argmin(np.isfinite(m) & (m > 0)))
        raise SettingsError(f"the mass of atom {atom} is {m[atom]:g}; masses must be positive")
    force = hessian.largest_force
    stationary = force_limit is None or force <= check_positive("force_limit", force_limit, "eV/A")
    if not stationary:
        warnings.warn(
            f"no stationary point: the largest force is {force:.2g} eV/A; relax the structure to below "
            f"{force_limit:g} eV/A with the same calculator, or set force_limit",
            GapkitWarning,
            stacklevel=2,
        )
    root = np.sqrt(np.repeat(m[free], 3))
    weighted = hessian.matrix / np.outer(root, root)
    kind, motions = _rigid(hessian, m, project)
    removed = wavenumbers(np.einsum("jr,jk,kr->r", motions, weighted, motions))
    if stationary and len(removed) and np.abs(removed[:3]).max() > limit:
        warnings.warn(
            f"a translation of the whole structure has {np.abs(removed[:3]).max():.3g} cm^-1, not zero: in an external "
            "field set project=False; otherwise the forces are inconsistent",
            GapkitWarning,
            stacklevel=2,
        )
    basis = complement(motions)
    squared, inside = np.linalg.eigh(basis.T @ weighted @ basis)
    vectors = (basis @ inside).T
    if len(vectors):
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
        vectors = vectors * np.sign(largest)
    whole = np.zeros((len(vectors), len(atoms), 3))
    whole[:, free] = vectors.reshape(len(vectors), len(free), 3)
    return NormalModes(wavenumbers(squared), whole, m, atoms, hessian.energy, kind, removed, force, limit)


def _rigid(hessian: Hessian, masses: np.ndarray, project: bool) -> tuple[str, np.ndarray]:
    """Kind of the structure, and the motions (3 m, r) that are to be projected out."""
    if not hessian.complete:
        return "held", np.empty((len(hessian.matrix), 0))
    if not project:
        return "external", np.empty((len(hessian.matrix), 0))
    if hessian.atoms.pbc.any():
        return "periodic", translations(masses)
    positions = hessian.atoms.positions
    motions = np.hstack([translations(masses), rotations(positions, masses)])
    return shape_of_molecule(positions, masses), motions


def check_kind(modes: NormalModes) -> None:
    """Raise :class:`DataError` unless the structure is a free molecule or atom."""
    if modes.kind not in ("atom", "linear", "nonlinear"):
        raise DataError(
            f"an ideal gas is made of free molecules, and here is: {_WORDS[modes.kind]}; use harmonic_thermochemistry"
        )
