r"""Phonons of crystals: force constants of a supercell by phonopy, all displaced supercells evaluated together.

Symmetry, displacements, dynamical matrices and meshes are phonopy's (Togo, Chaput, Tadano, Tanaka, J. Phys. Condens.
Matter 35, 353001 (2023)); the package is the extra ``phonons`` of gapkit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from ase import Atoms, units

from gapkit.checkpoints import stoppable
from gapkit.checks import check_count, check_positive
from gapkit.exceptions import DataError, GapkitError, GapkitWarning, NumericsError, SettingsError
from gapkit.progress import progress_bar
from gapkit.sampling.batches import batch_forces
from gapkit.structures.labels import check_structure
from gapkit.vibrations.harmonic import Oscillators, oscillators
from gapkit.vibrations.hessians import ATOMS_AT_ONCE
from gapkit.vibrations.modes import FORCE_LIMIT, QUANTUM

#: displacement (A) of one atom of the supercell
DISTANCE = 0.01


def _phonopy() -> ModuleType:
    """The module phonopy.

    Raises
    ------
    GapkitError
        Where it is not installed.
    """
    try:
        import phonopy
    except ImportError as error:
        raise GapkitError("phonons need phonopy: pip install 'gapkit[phonons]'") from error
    return phonopy


@dataclass(frozen=True, eq=False)
class Mesh:
    """Wavenumbers on a mesh of wave vectors.

    Attributes
    ----------
    q : (q, 3)
        Wave vectors in units of the cell's reciprocal vectors.
    weights : (q,)
        Share of each in the zone; the sum is one.
    frequencies : (q, 3 n) cm^-1
        Negative where imaginary.
    """

    q: np.ndarray
    weights: np.ndarray
    frequencies: np.ndarray


@dataclass(frozen=True, eq=False)
class Phonons:
    """Phonons of a crystal.

    Attributes
    ----------
    atoms : ase.Atoms
        The cell, of n atoms, with the masses used.
    phonopy : phonopy.Phonopy
        The object with the force constants, for all that phonopy can do; its frequencies are in THz.
    force_constants : (n, N, 3, 3) or (N, N, 3, 3) eV/A^2
        Between atoms of the cell and of the supercell, in phonopy's order.
    n_displacements : int
        Number of displaced supercells.
    largest_force : float, eV/A
        Largest force on an atom of the undisplaced crystal.
    """

    atoms: Atoms
    phonopy: Any
    force_constants: np.ndarray
    n_displacements: int
    largest_force: float

    def frequencies(self, q: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
        """Wavenumbers (q, 3 n), in cm^-1, at wave vectors (q, 3) in units of the cell's reciprocal vectors.

        Negative values mark imaginary frequencies, as of :class:`~gapkit.vibrations.modes.NormalModes`.

        Raises
        ------
        SettingsError
            For wave vectors of another shape, or not finite.
        """
        points = np.atleast_2d(np.asarray(q, dtype=float))
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise SettingsError(f"q must be wave vectors (q, 3) of finite components, not {np.asarray(q).shape}")
        return self.phonopy.run_qpoints(points).frequencies * _wavenumbers_per_thz()

    def mesh(self, mesh: Sequence[int] = (10, 10, 10)) -> Mesh:
        """Wavenumbers on a mesh of wave vectors that holds the zone centre, those that symmetry makes equal left out.

        Raises
        ------
        SettingsError
            For a mesh that is not three whole numbers.
        """
        found = self.phonopy.run_mesh(_three("mesh", mesh), is_gamma_center=True)
        weights = np.asarray(found.weights, dtype=float)
        return Mesh(np.array(found.qpoints), weights / weights.sum(), found.frequencies * _wavenumbers_per_thz())

    def density_of_states(
        self, wavenumbers: np.ndarray, mesh: Sequence[int] = (10, 10, 10), width: float = 5.0
    ) -> np.ndarray:
        """Density of states (modes per cm^-1 and cell) at ``wavenumbers`` (cm^-1), smeared by normal laws.

        The integral over all wavenumbers is 3 n.

        Parameters
        ----------
        mesh
            Numbers of wave vectors.
        width : float
            Standard deviation (cm^-1) of the smearing.
        """
        sigma, at = check_positive("width", width, "cm^-1"), np.asarray(wavenumbers, dtype=float)
        found = self.mesh(mesh)
        density = np.zeros(at.shape)
        for nu, weight in zip(found.frequencies, found.weights, strict=True):
            z = (at[..., None] - nu) / sigma
            density += weight * np.exp(-0.5 * z * z).sum(axis=-1)
        return density / (sigma * np.sqrt(2 * np.pi))

    def thermochemistry(
        self, temperature: float | np.ndarray, mesh: Sequence[int] = (10, 10, 10), *, classical: bool = False
    ) -> Oscillators:
        """Vibrational thermodynamics per cell, as the mean over a mesh; the three translations are left out.

        Parameters
        ----------
        temperature : float or array, K
        mesh
            Numbers of wave vectors.
        classical
            Whether oscillators are classical.

        Raises
        ------
        SettingsError
            For a temperature that is not positive.
        NumericsError
            For imaginary frequencies: the crystal is unstable, or forces are too noisy.
        """
        found = self.mesh(mesh)
        shares = np.repeat(found.weights[:, None], found.frequencies.shape[1], axis=1)
        centre = int(np.abs(found.q).sum(axis=1).argmin())
        shares[centre, np.argsort(np.abs(found.frequencies[centre]))[:3]] = 0.0
        kept = shares > 0
        energies, shares = found.frequencies[kept] * units.invcm, shares[kept]
        if (energies <= 0).any():
            raise NumericsError(
                f"{int((energies <= 0).sum())} of {len(energies)} frequencies are imaginary, the lowest "
                f"{energies.min() / units.invcm:.3g} cm^-1: relax the crystal, take a larger supercell, or follow the "
                "instability"
            )
        return oscillators(energies, temperature, classical=classical, shares=shares)


def phonons(
    atoms: Atoms,
    calculator: Any = None,
    supercell: int | Sequence[int] = 2,
    *,
    distance: float = DISTANCE,
    sum_rule: bool = True,
    symprec: float = 1e-5,
    copies: int | None = None,
    force_limit: float | None = FORCE_LIMIT,
    progress: bool = False,
) -> Phonons:
    """Phonons of a crystal from forces in a supercell with one atom displaced at a time.

    Forces of the undisplaced supercell, which remain where the crystal is not quite relaxed, are subtracted.

    Parameters
    ----------
    atoms
        The cell, periodic in all directions; wave vectors are those of this cell.
    calculator
        ASE calculator; default: that of ``atoms``.
    supercell
        Repetitions along each cell vector; the supercell should be larger than twice the cutoff of the calculator.
    distance : float
        Displacement (A).
    sum_rule
        Whether force constants are made to obey the acoustic sum rule and the symmetry of second derivatives.
    symprec : float
        Tolerance (A) of phonopy's search for symmetry.
    copies
        Supercells in one call of the calculator; default: 20,000 atoms' worth.
    force_limit : float or None
        A warning is given for a larger force (eV/A) on an atom of the undisplaced crystal; None: never.
    progress
        Whether to show a bar.

    Raises
    ------
    GapkitError
        Where phonopy is not installed.
    DataError
        For a structure that is not periodic in all directions, or that has constraints.
    SettingsError
        For parameters that cannot work, and where there is no calculator.
    NumericsError
        For forces that are not finite.

    Warns
    -----
    GapkitWarning
        Where the crystal is no stationary point of the energy.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> copper = phonons(bulk("Cu", a=3.6), EMT(), 3)
    >>> copper.n_displacements, copper.frequencies([[0, 0, 0.5]]).shape
    (1, (1, 3))
    """
    module = _phonopy()
    check_structure(atoms, "the crystal")
    if not atoms.pbc.all():
        raise DataError("phonons need a structure that is periodic in all directions; use hessian for molecules")
    if atoms.constraints:
        raise DataError("the structure has constraints, which phonons do not know; remove them")
    numbers = _three("supercell", (supercell,) * 3 if isinstance(supercell, int | np.integer) else supercell)
    h = check_positive("distance", distance, "A")
    check_positive("symprec", symprec, "A")
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )
    work = module.Phonopy(cell, np.diag(numbers), primitive_matrix=np.eye(3), symprec=symprec)
    work.generate_displacements(distance=h)
    perfect = work.supercell
    large = Atoms(perfect.symbols, perfect.positions, cell=perfect.cell, pbc=True)
    large.info = dict(atoms.info)
    evaluate = batch_forces(large, atoms.calc if calculator is None else calculator)
    displaced = work.supercells_with_displacements
    at_once = check_count("copies", max(1, ATOMS_AT_ONCE // len(large)) if copies is None else copies)
    positions = np.array([perfect.positions, *(s.positions for s in displaced)])
    parts = []
    total = len(positions)
    with stoppable() as stop, progress_bar(desc="phonons", unit="supercell", show=progress, total=total) as bar:
        for start in range(0, len(positions), at_once):
            parts.append(evaluate(positions[start : start + at_once])[1])
            bar.update(len(parts[-1]))
            if stop.requested:
                raise KeyboardInterrupt(f"phonons were stopped after {start + len(parts[-1])} of {total} supercells")
    forces = np.concatenate(parts)
    largest = float(np.linalg.norm(forces[0], axis=1).max())
    if force_limit is not None and largest > check_positive("force_limit", force_limit, "eV/A"):
        warnings.warn(
            f"no stationary point: the largest force is {largest:.2g} eV/A; relax the crystal to below "
            f"{force_limit:g} eV/A with the same calculator, or set force_limit",
            GapkitWarning,
            stacklevel=2,
        )
    work.forces = forces[1:] - forces[0]
    work.produce_force_constants(show_drift=False)
    if sum_rule:
        work.symmetrize_force_constants(show_drift=False)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    bare.set_masses(atoms.get_masses())
    return Phonons(bare, work, np.array(work.force_constants), len(displaced), largest)


def _three(name: str, values: Any) -> list[int]:
    try:
        given = list(values)
    except TypeError:
        given = []
    if len(given) != 3:
        raise SettingsError(f"{name} must be three whole numbers, not {values!r}")
    return [check_count(name, v) for v in given]


def _wavenumbers_per_thz() -> float:
    """cm^-1 per unit of phonopy's frequencies, which phonopy makes from older values of the constants of nature."""
    from phonopy.physical_units import get_physical_units

    return QUANTUM / units.invcm / get_physical_units().DefaultToTHz
