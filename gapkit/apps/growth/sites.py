r"""Features of an atom's site on a surface: a few smooth numbers with gradients.

All lengths are taken in units of the crystal's bond length b, so that metals can be compared. With r the distance of a
neighbour, :math:`\hat u` its direction, n the surface normal, :math:`s(r)` a switch that falls from 1 to 0 between the
first and the second shell of the fcc crystal, and :math:`s_2, s_3` the same after the second and the third shell:

.. math::
    C = \sum s, \quad C_2 = \sum (s_2 - s), \quad C_3 = \sum (s_3 - s_2), \quad
    \Gamma = \tfrac1{12} \sum_j s(r_j)\, C(j), \quad
    A = \frac{\sum s\, \hat u\cdot n}{1 + \sum s}, \quad A_3 = \frac{\sum s_3\, \hat u\cdot n}{1 + \sum s_3} .

C is the smooth coordination number and Gamma the generalised one (Calle-Vallejo, Martinez, Garcia-Lastra, Sautet and
Loffreda, Angew. Chem. Int. Ed. 53, 8316 (2014)), in which C(j) counts the neighbours of neighbour j, the site's own
atom left out; A and A_3 are the vertical asymmetries. The local strain is the Almansi tensor e that explains the
lengths of the bonds best: under a homogeneous deformation of a crystal each bond fulfils
:math:`\hat u\cdot e\,\hat u = \tfrac12 (1 - b^2/r^2)` exactly (Malvern, Introduction to the Mechanics of a Continuous
Medium (1969), sec. 4.5), so that

.. math:: e = \arg\min \sum s\, [\hat u\cdot e\,\hat u - \tfrac12 (1 - b^2/r^2)]^2 + \lambda |e|^2 ,

with a small ridge lambda for sites with few neighbours. Its invariants are features: tr e,
:math:`J_2 = \tfrac12 d:d` and :math:`J_3 = \det d` of the deviator d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from gapkit.descriptors.soap import SOAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.structures.neighbours import Neighbours, neighbours

#: names of the descriptors, and their units
FEATURES = (
    "coordination",
    "second_shell",
    "third_shell",
    "generalised_coordination",
    "asymmetry",
    "outer_asymmetry",
    "strain_trace",
    "strain_j2",
    "strain_j3",
)
UNITS = dict.fromkeys(FEATURES, "1")

# Voigt pairs, the off-diagonal ones times sqrt(2), so that the norm of the 6-vector is that of the tensor
_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_WEIGHT = np.array([1.0, 1.0, 1.0, np.sqrt(2.0), np.sqrt(2.0), np.sqrt(2.0)])


@dataclass(frozen=True)
class SiteSettings:
    """Shape of the switches; lengths in units of the bond length.

    Attributes
    ----------
    first, second, third : (2,) float
        Where the switch after each shell begins to fall and where it reaches zero; the shells of an fcc crystal are at
        1, 1.414 and 1.732, and the next at 2.
    ridge : float
        lambda of the strain fit.
    normal : (3,) float
        Outward normal of the surface.
    """

    first: tuple[float, float] = (1.05, 1.41)
    second: tuple[float, float] = (1.42, 1.73)
    third: tuple[float, float] = (1.74, 2.0)
    ridge: float = 0.1
    normal: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("first", "second", "third"):
            low, high = getattr(self, name)
            if not 0 < low < high < np.inf:
                raise SettingsError(f"{name} must be two rising positive numbers (bond lengths), not {(low, high)}")
        if not 0 <= self.ridge < np.inf:
            raise SettingsError(f"ridge must be finite and not negative, not {self.ridge}")
        if not 0 < np.linalg.norm(self.normal) < np.inf:
            raise SettingsError(f"normal must be a vector that is not zero, not {self.normal}")

    @property
    def reach(self) -> float:
        """Largest distance (bond lengths) that counts."""
        return max(self.first[1], self.second[1], self.third[1])


def switch(r: np.ndarray, span: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Falling switch ``1 - x^3 (10 - 15 x + 6 x^2)`` over ``span``, and its slope: continuous to the second
    derivative."""
    low, high = span
    x = np.clip((r - low) / (high - low), 0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2), -30.0 * x**2 * (1.0 - x) ** 2 / (high - low)


def bond_length(atoms: ase.Atoms) -> float:
    """Bond length (A) of the crystal below a surface: ``info["bond_length"]`` where it is given, else the shortest
    distance of the fixed atoms, which keep the crystal's places; where none is fixed, the median over atoms of the
    distance to the nearest neighbour.

    Raises
    ------
    DataError
        Where a frame has no two atoms within 6 A.
    """
    if "bond_length" in atoms.info:
        return float(atoms.info["bond_length"])
    fixed = [i for c in atoms.constraints if hasattr(c, "get_indices") for i in c.get_indices()]
    part = atoms[np.unique(fixed)] if len(fixed) > 1 else atoms
    pairs = neighbours(part, 6.0)
    if len(pairs.i) == 0:
        raise DataError("no two atoms are within 6 A: give info['bond_length'] (A)")
    nearest = np.full(len(part), np.inf)
    np.minimum.at(nearest, pairs.i, pairs.distances)
    return float(nearest.min() if part is not atoms else np.median(nearest[np.isfinite(nearest)]))


@dataclass(frozen=True)
class _Site:
    """Neighbours of one atom, ``centre``: indices j (p,), distances r (p,) in bonds, directions u (p, 3)."""

    centre: int
    j: np.ndarray
    r: np.ndarray
    u: np.ndarray

    def sum_by_atom(self, by_pair: np.ndarray, n_atoms: int) -> np.ndarray:
        """Gradient (n_atoms, 3) from the derivatives (p, 3) by the vectors to the neighbours."""
        out = np.zeros((n_atoms, 3))
        np.add.at(out, self.j, by_pair)
        out[self.centre] -= by_pair.sum(axis=0)
        return out

    def of_radial(self, slope: np.ndarray) -> np.ndarray:
        """Derivatives (p, 3) of a sum of radial functions with these slopes (p,)."""
        return slope[:, None] * self.u

    def of_direction(self, weight: np.ndarray, slope: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Derivatives (p, 3) of ``sum weight(r) u.normal``."""
        along = self.u @ normal
        across = normal - along[:, None] * self.u
        return slope[:, None] * along[:, None] * self.u + (weight / self.r)[:, None] * across


def site_descriptors(
    atoms: ase.Atoms,
    site: int = -1,
    settings: SiteSettings | None = None,
    bond: float | None = None,
    gradient: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Descriptors of the place of one atom; see the module's text for the formulas.

    Parameters
    ----------
    atoms
        Frame.
    site
        Index of the atom whose place is described; the last one, an adatom, by default.
    settings
        Switches and normal.
    bond
        Bond length (A) of the crystal; :func:`bond_length` by default.
    gradient
        Whether to return derivatives too.

    Returns
    -------
    values : (f,)
        In the order of ``FEATURES``, without units.
    derivatives : (f, n_atoms, 3)
        By all positions (1/A), on request.

    Raises
    ------
    DataError
        For a site that the frame has not.
    SettingsError
        For a bond length that is not positive.

    Examples
    --------
    >>> from ase.build import add_adsorbate, fcc100
    >>> slab = fcc100("Cu", (4, 4, 3), a=3.61, vacuum=8.0)
    >>> add_adsorbate(slab, "Cu", 1.8, "hollow")
    >>> values = site_descriptors(slab, bond=3.61 / 2**0.5)
    >>> dict(zip(FEATURES, values.round(2).tolist()))["coordination"]
    4.0
    """
    settings = settings or SiteSettings()
    n = len(atoms)
    if not -n <= site < n:
        raise DataError(f"site {site} is not in a frame of {n} atoms: give the index of an atom")
    bond = bond_length(atoms) if bond is None else float(bond)
    if not 0 < bond < np.inf:
        raise SettingsError(f"bond must be a positive length (A), not {bond}")
    site %= n
    pairs = neighbours(atoms, settings.reach * bond)
    here = _neighbours_of(pairs, site, bond)
    normal = np.asarray(settings.normal, dtype=float) / np.linalg.norm(settings.normal)
    generalised, around = _generalised(here, pairs, bond, settings)
    parts = [*_counts(here, settings), generalised, *_asymmetries(here, normal, settings), *_strain(here, settings)]
    values = np.array([value for value, _ in parts])
    if not gradient:
        return values
    derivatives = np.stack([here.sum_by_atom(by_pair, n) for _, by_pair in parts])
    for by_pair, shell in around:
        derivatives[3] += shell.sum_by_atom(by_pair, n)
    return values, derivatives / bond


def _neighbours_of(pairs: Neighbours, atom: int, bond: float) -> _Site:
    of_atom = slice(pairs.first[atom], pairs.first[atom + 1])
    r = pairs.distances[of_atom]
    return _Site(atom, pairs.j[of_atom], r / bond, pairs.vectors[of_atom] / r[:, None])


def _counts(here: _Site, settings: SiteSettings) -> list[tuple[float, np.ndarray]]:
    """Coordination, second and third shell: value and derivatives (p, 3)."""
    spans = (settings.first, settings.second, settings.third)
    (s1, d1), (s2, d2), (s3, d3) = (switch(here.r, span) for span in spans)
    return [
        (float(value.sum()), here.of_radial(slope))
        for value, slope in ((s1, d1), (s2 - s1, d2 - d1), (s3 - s2, d3 - d2))
    ]


def _generalised(
    here: _Site, pairs: Neighbours, bond: float, settings: SiteSettings
) -> tuple[tuple[float, np.ndarray], list[tuple[np.ndarray, _Site]]]:
    """Generalised coordination with derivatives (p, 3) by the site's own bonds, and, for each neighbour, those by its
    bonds."""
    weight, slope = switch(here.r, settings.first)
    value, by_pair, around = 0.0, np.zeros((len(here.r), 3)), []
    for k in np.flatnonzero(weight > 0):
        j = int(here.j[k])
        shell = _neighbours_of(pairs, j, bond)
        keep = shell.j != here.centre
        shell = _Site(j, shell.j[keep], shell.r[keep], shell.u[keep])
        s, ds = switch(shell.r, settings.first)
        value += weight[k] * s.sum() / 12.0
        by_pair[k] = slope[k] * s.sum() / 12.0 * here.u[k]
        around.append((weight[k] / 12.0 * shell.of_radial(ds), shell))
    return (float(value), by_pair), around


def _asymmetries(here: _Site, normal: np.ndarray, settings: SiteSettings) -> list[tuple[float, np.ndarray]]:
    """Vertical asymmetry of the first shell and of all three: value and derivatives (p, 3)."""
    out = []
    for span in (settings.first, settings.third):
        s, ds = switch(here.r, span)
        total, lean = 1.0 + s.sum(), float(s @ (here.u @ normal))
        by_pair = here.of_direction(s, ds, normal) / total - lean / total**2 * here.of_radial(ds)
        out.append((lean / total, by_pair))
    return out


def _strain(here: _Site, settings: SiteSettings) -> list[tuple[float, np.ndarray]]:
    """Trace, J2 and J3 of the local strain: value and derivatives (p, 3)."""
    s, ds = switch(here.r, settings.first)
    V = np.stack([_WEIGHT[c] * here.u[:, a] * here.u[:, b] for c, (a, b) in enumerate(_PAIRS)], axis=1)
    target = 0.5 * (1.0 - here.r**-2)
    G = (V * s[:, None]).T @ V + max(settings.ridge, 1e-12) * np.eye(6)
    e = np.linalg.solve(G, (V * s[:, None]).T @ target)
    tensor = _tensor(e)
    trace = float(np.trace(tensor))
    d = tensor - trace / 3.0 * np.eye(3)
    cofactor = d @ d - 0.5 * np.sum(d * d) * np.eye(3)  # d(det d)/dd of a traceless symmetric tensor
    slopes = (np.eye(3), d, cofactor - np.trace(cofactor) / 3.0 * np.eye(3))
    values = (trace, 0.5 * float(np.sum(d * d)), float(np.linalg.det(d)))
    residual = target - V @ e
    out = []
    for value, slope in zip(values, slopes, strict=True):
        g = np.array([_WEIGHT[c] * slope[a, b] for c, (a, b) in enumerate(_PAIRS)])
        a = np.linalg.solve(G, g)  # de = G^-1 sum d[s V (target - V e)] at fixed e
        Va = V @ a
        radial = ds * Va * residual + s * Va * here.r**-3
        along_a = 2.0 * (here.u @ _tensor(a) - Va[:, None] * here.u) / here.r[:, None]
        along_e = 2.0 * (here.u @ tensor - (V @ e)[:, None] * here.u) / here.r[:, None]
        by_pair = radial[:, None] * here.u + (s * residual)[:, None] * along_a - (s * Va)[:, None] * along_e
        out.append((value, by_pair))
    return out


def _tensor(vector: np.ndarray) -> np.ndarray:
    """Symmetric T (3, 3) with ``u.T u`` equal to the 6-vector times the products of u."""
    out = np.zeros((3, 3))
    for c, (a, b) in enumerate(_PAIRS):
        out[a, b] = out[b, a] = vector[c] * _WEIGHT[c] / (1.0 if a == b else 2.0)
    return out


class SurfaceSites(TransformerMixin, BaseEstimator):
    """Transformer from frames to the descriptors of one site each: (n, 9), see ``FEATURES``.

    The site is the frame's last atom, or ``info["site_index"]``; the bond length is :func:`bond_length`.

    Parameters
    ----------
    settings : SiteSettings, optional
        Switches and normal.
    """

    def __init__(self, settings: SiteSettings | None = None) -> None:
        self.settings = settings

    def fit(self, X: Sequence[ase.Atoms], y: Any = None) -> SurfaceSites:
        """Nothing is learned; the frames are checked."""
        _checked(X)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Sequence[ase.Atoms]) -> np.ndarray:
        """Descriptors (n, 9) of the frames' sites."""
        rows = [site_descriptors(a, int(a.info.get("site_index", -1)), self.settings) for a in _checked(X)]
        return np.array(rows).reshape(-1, len(FEATURES))

    def gradient(self, atoms: ase.Atoms) -> np.ndarray:
        """Derivatives (9, n_atoms, 3) by positions (1/A)."""
        site = int(atoms.info.get("site_index", -1))
        return site_descriptors(atoms, site, self.settings, gradient=True)[1]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the site descriptors."""
        return np.array(FEATURES, dtype=object)


class SoapSites(TransformerMixin, BaseEstimator):
    """Transformer from frames to the SOAP vector of one site each, to compare with :class:`SurfaceSites`.

    Frames are scaled to a bond length of 2.5 A and all atoms counted as one species, so that metals can be compared.

    Parameters
    ----------
    r_cut : float
        Cutoff in bond lengths.
    n_max, l_max : int
        Size of the expansion.
    """

    def __init__(self, r_cut: float = 2.0, n_max: int = 5, l_max: int = 4) -> None:
        self.r_cut = r_cut
        self.n_max = n_max
        self.l_max = l_max

    def fit(self, X: Sequence[ase.Atoms], y: Any = None) -> SoapSites:
        """Nothing is learned; the frames are checked."""
        _checked(X)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Sequence[ase.Atoms]) -> np.ndarray:
        """Unit SOAP vectors (n, f) of the frames' sites."""
        soap = SOAP(species=["Cu"], r_cut=2.5 * self.r_cut, n_max=self.n_max, l_max=self.l_max)
        rows = []
        for atoms in _checked(X):
            scaled = ase.Atoms(numbers=np.full(len(atoms), 29), cell=atoms.cell, pbc=atoms.pbc)
            scaled.positions = atoms.positions
            scaled.set_cell(atoms.cell * (2.5 / bond_length(atoms)), scale_atoms=True)
            row = soap.fit([scaled]).transform([scaled])[int(atoms.info.get("site_index", -1))]
            rows.append(row / np.linalg.norm(row))
        return np.array(rows)


def _checked(X: Sequence[ase.Atoms]) -> Sequence[ase.Atoms]:
    """``X``, if it is a sequence of frames."""
    if isinstance(X, ase.Atoms) or not all(isinstance(a, ase.Atoms) for a in X):
        raise DataError("expected a list of ase.Atoms: put a single frame in a list")
    return X
