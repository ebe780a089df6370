r"""Features of the stress around an atom or a point: a few numbers that no rotation changes.

A calculator's ``stresses`` are atomic virials over the volume of the whole cell (their sum is the stress). The local
stress of atom i is its virial over its own volume :math:`\Omega_i`, and the average around a point c is

.. math::
    \bar\sigma(c) = \frac{\sum_i w(|r_i - c|)\, \Omega_i \sigma_i}{\sum_i w(|r_i - c|)\, \Omega_i},
    \qquad w(r) = (1 - r^2/R^2)^2 ,

in the way of Hardy (J. Chem. Phys. 76, 622 (1982)): smooth as atoms enter and leave, and an average over the material
alone, so that a void neither counts as stress nor as volume. With the principal stresses
:math:`\sigma_1 \ge \sigma_2 \ge \sigma_3` and the deviator s the invariants are

.. math::
    p = \tfrac13 \mathrm{tr}\,\sigma, \quad q = \sqrt{\tfrac32\, s:s}, \quad \eta = \frac{p}{\sqrt{q^2 + q_0^2}}, \quad
    \theta = \tfrac13 \arccos\frac{27 \det s}{2\,(q^2 + q_0^2)^{3/2}}, \quad \sigma_1

(hydrostatic stress, von Mises stress, triaxiality, Lode angle, largest principal stress; Bai and Wierzbicki, Int. J.
Plasticity 24, 1071 (2008), eqs. 1 to 7). Triaxiality and Lode angle have no value at q = 0: the small stress
:math:`q_0` lets them go smoothly to a large :math:`p/q_0` and to 30 degrees there.

**Volumes.** In a bulk the Voronoi cells fill space. An atom at a free surface has an open cell, and one next to a
narrow crack a cell that reaches across it: both are cut at ``largest`` times the median of the closed cells, so that
surface atoms have a volume near that of the bulk (a little more, by at most that factor) whatever the vacuum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError
from scipy.spatial import ConvexHull, QhullError, Voronoi, cKDTree
from sklearn.base import BaseEstimator, TransformerMixin

from gapkit.exceptions import DataError, SettingsError

#: names of the invariants, and their units
INVARIANTS = ("hydrostatic", "von_mises", "triaxiality", "lode_angle", "max_principal")
UNITS = {
    "hydrostatic": "eV/A^3",
    "von_mises": "eV/A^3",
    "triaxiality": "1",
    "lode_angle": "rad",
    "max_principal": "eV/A^3",
}
#: q_0 of the module's text (eV/A^3), 0.16 GPa
STRESS_FLOOR = 1e-3

#: eV/A^3 in one LAMMPS unit of pressure, by ``units`` style
_LAMMPS_PRESSURE = {"metal": 6.241509074e-7, "real": 6.241509074e-7 * 1.01325, "si": 6.241509074e-12}
#: A^3 in one LAMMPS unit of volume
_LAMMPS_VOLUME = {"metal": 1.0, "real": 1.0, "si": 1e30}


def tensors(stress: np.ndarray) -> np.ndarray:
    """Symmetric tensors (..., 3, 3) of Voigt vectors (..., 6), in ASE's order xx yy zz yz xz xy."""
    s = np.asarray(stress, dtype=float)
    if s.shape[-1:] != (6,):
        raise DataError(f"stress must have 6 components (xx yy zz yz xz xy), not the shape {s.shape}")
    return s[..., [[0, 5, 4], [5, 1, 3], [4, 3, 2]]]


def stress_invariants(stress: np.ndarray, floor: float = STRESS_FLOOR) -> np.ndarray:
    """Invariants of stresses, see the module's text.

    Parameters
    ----------
    stress : (..., 6)
        Voigt, ASE's order, eV/A^3, tension positive.
    floor : float
        q_0 (eV/A^3), positive.

    Returns
    -------
    values : (..., 5)
        In the order of ``INVARIANTS``; finite everywhere.

    Raises
    ------
    DataError
        For stresses that are not finite, or not six components.
    """
    if not 0 < floor < np.inf:
        raise SettingsError(f"floor must be a positive stress (eV/A^3), not {floor}")
    sigma = tensors(stress)
    if not np.isfinite(sigma).all():
        raise DataError("a stress is not finite: look at the frame that it comes from")
    p = np.trace(sigma, axis1=-2, axis2=-1) / 3.0
    s = sigma - p[..., None, None] * np.eye(3)
    q2 = 1.5 * np.einsum("...ab,...ab->...", s, s)
    smooth = np.sqrt(q2 + floor**2)
    lode = np.arccos(np.clip(13.5 * np.linalg.det(s) / smooth**3, -1.0, 1.0)) / 3.0
    return np.stack([p, np.sqrt(q2), p / smooth, lode, np.linalg.eigvalsh(sigma)[..., -1]], axis=-1)


def tractions(stress: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Normal traction ``n.s n`` and size of the shear traction ``|s n - n (n.s n)|`` on planes: (..., 2), eV/A^3.

    Invariant where stress and normal (..., 3) turn together.
    """
    n = np.asarray(normal, dtype=float)
    length = np.linalg.norm(n, axis=-1, keepdims=True)
    if not np.all(length > 0):
        raise DataError("a normal is zero: it has no plane")
    n = n / length
    t = np.einsum("...ab,...b->...a", tensors(stress), n)
    across = np.einsum("...a,...a->...", t, n)
    return np.stack([across, np.linalg.norm(t - across[..., None] * n, axis=-1)], axis=-1)


def voronoi_volumes(atoms: ase.Atoms, largest: float = 1.3, reach: float | None = None) -> np.ndarray:
    """Voronoi volumes (n,) in A^3 of a frame's atoms, cut at ``largest`` times the median of the closed cells.

    Parameters
    ----------
    atoms
        Frame of any periodicity.
    largest : float
        At least 1.
    reach : float, optional
        How far periodic images are taken into account (A); by default 3.5 times the mean distance between atoms,
        more where a cell that is not cut needs it.

    Raises
    ------
    DataError
        Where no cell is closed: a frame of few atoms, or a sheet, has no volume per atom; give ``volumes``.
    """
    if not 1 <= largest < np.inf:
        raise SettingsError(f"largest must be a factor of at least 1, not {largest}")
    if len(atoms) == 0:
        raise DataError("a frame without atoms has no volumes")
    pbc = np.asarray(atoms.pbc, dtype=bool)
    n = len(atoms)
    if reach is None:
        extent = np.ptp(atoms.positions, axis=0) + 2.5
        box = atoms.cell.complete().array
        size = abs(np.linalg.det(box)) if pbc.all() else float(np.prod(extent))
        reach = 3.5 * (size / n) ** (1.0 / 3.0)
    for _ in range(4):
        points, _ = _with_images(atoms, reach)
        try:
            volumes, radii = _closed_cells(points, n)
        except QhullError as error:
            raise DataError(f"no Voronoi cells for {n} atoms in a plane or on a line: give volumes") from error
        closed = np.isfinite(volumes)
        if not closed.any():
            raise DataError(f"none of the {n} Voronoi cells is closed: give volumes")
        median = float(np.median(volumes[closed]))
        limit = largest * float(np.median(volumes[closed & (volumes <= 2.0 * median)]))
        # no image beyond ``reach`` can cut a cell whose corners are all nearer than half of it
        if not pbc.any() or not np.any(2.0 * radii[volumes <= limit] > reach):
            break
        reach *= 1.5
    return np.minimum(volumes, limit)


def _with_images(atoms: ase.Atoms, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the atoms and of their periodic images within ``reach`` of the cell's atoms, and whose they are."""
    pbc = np.asarray(atoms.pbc, dtype=bool)
    positions = np.asarray(atoms.positions, dtype=float)
    if not pbc.any():
        return positions, np.arange(len(atoms))
    cell = atoms.cell.complete().array
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    scaled = positions @ np.linalg.inv(cell)
    span = np.ptp(scaled, axis=0)
    number = [int(np.ceil(reach / heights[k] + span[k])) if pbc[k] else 0 for k in range(3)]
    shifts = np.array(
        [
            (a, b, c)
            for a in range(-number[0], number[0] + 1)
            for b in range(-number[1], number[1] + 1)
            for c in range(-number[2], number[2] + 1)
            if (a, b, c) != (0, 0, 0)
        ]
    ).reshape(-1, 3)
    low, high = scaled.min(axis=0) - reach / heights, scaled.max(axis=0) + reach / heights
    images = (scaled[None, :, :] + shifts[:, None, :]).reshape(-1, 3)
    owner = np.tile(np.arange(len(atoms)), len(shifts))
    near = np.all((images > low) & (images < high), axis=1)
    return np.concatenate([positions, images[near] @ cell]), np.concatenate([np.arange(len(atoms)), owner[near]])


def _closed_cells(points: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (n,) of the first n cells, infinite where open, and the distance to their furthest corner."""
    diagram = Voronoi(points)
    volumes, radii = np.full(n, np.inf), np.full(n, np.inf)
    for i in range(n):
        region = diagram.regions[diagram.point_region[i]]
        if len(region) == 0 or -1 in region:
            continue
        corners = diagram.vertices[region]
        radii[i] = np.linalg.norm(corners - points[i], axis=1).max()
        volumes[i] = ConvexHull(corners).volume
    return volumes, radii


def atomic_stresses(
    atoms: ase.Atoms, stresses: np.ndarray | None = None, volumes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Local stress of every atom and its volume.

    Parameters
    ----------
    atoms
        Frame, with a calculator that gives ``stresses`` (gapkit's and matscipy's do) unless they are given.
    stresses : (n, 6), optional
        Atomic virials over the cell's volume (eV/A^3, Voigt, tension positive): ASE's convention, their sum is the
        stress. Those of LAMMPS: :func:`lammps_stresses`.
    volumes : (n,), optional
        A^3; :func:`voronoi_volumes` by default.

    Returns
    -------
    sigma : (n, 6)
        eV/A^3, Voigt.
    volumes : (n,)
        A^3.

    Raises
    ------
    DataError
        Where the calculator gives no ``stresses``, or arrays do not fit the frame.
    """
    n = len(atoms)
    if stresses is None:
        if atoms.calc is None:
            raise DataError("the frame has no calculator: set atoms.calc, or give stresses")
        try:
            stresses = atoms.calc.get_property("stresses", atoms)
        except PropertyNotImplementedError:
            stresses = None
        if stresses is None:
            raise DataError(f"{type(atoms.calc).__name__} gives no atomic stresses here: give stresses")
    stresses = np.asarray(stresses, dtype=float)
    if stresses.shape != (n, 6):
        raise DataError(f"stresses of {n} atoms must be of the shape ({n}, 6), not {stresses.shape}")
    volumes = voronoi_volumes(atoms) if volumes is None else np.asarray(volumes, dtype=float)
    if volumes.shape != (n,) or not np.all((volumes > 0) & np.isfinite(volumes)):
        raise DataError(f"volumes must be {n} positive numbers (A^3)")
    return stresses * (atoms.get_volume() / volumes)[:, None], volumes


def lammps_stresses(per_atom: np.ndarray, atoms: ase.Atoms, units: str = "metal") -> np.ndarray:
    """``stresses`` (n, 6) in ASE's convention from LAMMPS' ``compute stress/atom ... virial``.

    LAMMPS gives stress times volume in its units of pressure and volume, tension positive, in the order
    xx yy zz xy xz yz (LAMMPS manual, compute stress/atom; ``virial`` leaves the kinetic part out).

    Parameters
    ----------
    per_atom : (n, 6)
        The compute's columns.
    atoms
        The frame, in the same order of atoms.
    units
        "metal", "real" or "si".
    """
    if units not in _LAMMPS_PRESSURE:
        raise SettingsError(f"units must be one of {', '.join(_LAMMPS_PRESSURE)}, not {units!r}")
    values = np.asarray(per_atom, dtype=float)
    if values.shape != (len(atoms), 6):
        raise DataError(f"per-atom stresses must be of the shape ({len(atoms)}, 6), not {values.shape}")
    factor = _LAMMPS_PRESSURE[units] * _LAMMPS_VOLUME[units] / atoms.get_volume()
    return values[:, [0, 1, 2, 5, 4, 3]] * factor


def weight(r: np.ndarray, radius: float) -> np.ndarray:
    """``(1 - r^2/R^2)^2`` within the radius, 0 beyond; its slope is continuous."""
    return np.clip(1.0 - (np.asarray(r) / radius) ** 2, 0.0, None) ** 2


def averaged_stress(
    atoms: ase.Atoms, sigma: np.ndarray, volumes: np.ndarray, centres: np.ndarray, radius: float
) -> np.ndarray:
    """Stress (c, 6) in eV/A^3 averaged around points, see the module's text.

    Parameters
    ----------
    sigma, volumes : (n, 6) eV/A^3, (n,) A^3
        Results of :func:`atomic_stresses`.
    centres : (c, 3)
        Points (A).
    radius : float
        R (A).

    Raises
    ------
    DataError
        Where no atom is within the radius of a point.
    """
    if not 0 < radius < np.inf:
        raise SettingsError(f"radius must be a positive length (A), not {radius}")
    centres = np.atleast_2d(np.asarray(centres, dtype=float))
    around = ase.Atoms(positions=np.concatenate([atoms.positions, centres]), cell=atoms.cell, pbc=atoms.pbc)
    points, owner = _with_images(around, radius)  # images of the centres only widen the search
    real = owner < len(atoms)
    points, owner = points[real], owner[real]
    out = np.empty((len(centres), 6))
    for k, near in enumerate(cKDTree(points).query_ball_point(centres, radius)):
        near = np.asarray(near, dtype=int)
        w = weight(np.linalg.norm(points[near] - centres[k], axis=1), radius) * volumes[owner[near]]
        if not w.sum() > 0:
            raise DataError(f"no atom within {radius} A of the point {centres[k].round(2)}: choose a larger radius")
        out[k] = w @ sigma[owner[near]] / w.sum()
    return out


class StressDescriptors(TransformerMixin, BaseEstimator):
    """Transformer from frames to the invariants of the averaged stress around every atom: (sum of n_atoms, 5 per
    radius).

    Parameters
    ----------
    radii : tuple of float
        Radii (A) over which the stress is averaged.
    floor : float
        q_0 (eV/A^3) of the module's text.
    """

    def __init__(self, radii: tuple[float, ...] = (6.0,), floor: float = STRESS_FLOOR) -> None:
        self.radii = radii
        self.floor = floor

    def fit(self, X: Sequence[ase.Atoms], y: Any = None) -> StressDescriptors:
        """Return the transformer; nothing is learned."""
        if len(self.radii) == 0:
            raise SettingsError("give at least one radius (A)")
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Sequence[ase.Atoms]) -> np.ndarray:
        """Invariants of all atoms of all frames, one row each."""
        return np.concatenate([self.describe(atoms) for atoms in X])

    def describe(
        self, atoms: ase.Atoms, centres: np.ndarray | None = None, stresses: np.ndarray | None = None
    ) -> np.ndarray:
        """Invariants (c, 5 per radius) around points (c, 3), the atoms by default; ``stresses`` as for
        :func:`atomic_stresses`."""
        self.fit([atoms])
        sigma, volumes = atomic_stresses(atoms, stresses)
        centres = atoms.positions if centres is None else centres
        parts = [averaged_stress(atoms, sigma, volumes, centres, radius) for radius in self.radii]
        return np.concatenate([stress_invariants(part, self.floor) for part in parts], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features."""
        return np.array([f"{name}_{radius:g}A" for radius in self.radii for name in INVARIANTS], dtype=object)
