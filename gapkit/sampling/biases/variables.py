"""Collective variables: distances, angles, torsions, differences of distances, coordination numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np

from gapkit.exceptions import NumericsError, SettingsError
from gapkit.sampling.biases.contract import OfVectors, whole_atoms
from gapkit.sampling.biases.geometry import Box

_COLLINEAR = 1e-6  # sine of the angle below which a torsion has no meaning
_STRAIGHT = 1e-12  # sine of the angle below which an angle's gradient goes to zero


def _dyad(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b^T of vectors (R, 3)."""
    return a[:, :, None] * b[:, None, :]


def _cross_matrix(a: np.ndarray) -> np.ndarray:
    """Matrix of the cross product from the left, a x b = [a] b, for vectors (R, 3)."""
    matrix = np.zeros((len(a), 3, 3))
    matrix[:, 2, 1], matrix[:, 0, 2], matrix[:, 1, 0] = a.T
    return matrix - matrix.transpose(0, 2, 1)


@dataclass(frozen=True)
class Distance(OfVectors):
    """Distance of two atoms (A).

    Raises
    ------
    SettingsError
        For atoms that are negative, equal or no whole numbers; all variables do so.

    Examples
    --------
    >>> Distance(0, 1).gradient(np.array([[0.0, 0, 0], [0, 0, 2]]))
    array([[ 0.,  0., -1.],
           [ 0.,  0.,  1.]])
    """

    i: int
    j: int

    def __post_init__(self) -> None:
        self._take_atoms("i", "j")

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        return [(self.i, self.j)]

    def _function(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r = self._lengths(v)
        return r[:, 0], v / r[..., None]

    def _curvature(self, v: np.ndarray) -> np.ndarray:
        r = self._lengths(v)[:, 0, None, None]
        u = v[:, 0] / r[:, 0]
        return ((np.eye(3) - _dyad(u, u)) / r)[:, None, :, None, :]


@dataclass(frozen=True)
class DistanceDifference(OfVectors):
    """Difference of two distances, r_ij - r_kl (A), such as donor-proton minus proton-acceptor.

    Examples
    --------
    >>> DistanceDifference(0, 1, 1, 2).value(np.array([[0.0, 0, 0], [1, 0, 0], [2.5, 0, 0]]))
    -0.5
    """

    i: int
    j: int
    k: int
    l: int

    def __post_init__(self) -> None:
        self._take_atoms("i", "j")
        self._take_atoms("k", "l")

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        return [(self.i, self.j), (self.k, self.l)]

    def _function(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r = self._lengths(v)
        return r[:, 0] - r[:, 1], v / r[..., None] * np.array([1.0, -1.0])[:, None]

    def _curvature(self, v: np.ndarray) -> np.ndarray:
        r = self._lengths(v)[..., None]
        u = v / r
        curvature = np.zeros((len(v), 2, 3, 2, 3))
        for q, sign in enumerate((1.0, -1.0)):
            curvature[:, q, :, q] = sign * (np.eye(3) - _dyad(u[:, q], u[:, q])) / r[:, q, None]
        return curvature


@dataclass(frozen=True)
class Angle(OfVectors):
    """Angle i-j-k at atom j (rad), from 0 to pi.

    Where the three atoms are in a line the gradient has no direction, and is given as zero, the mean over all
    directions; its Hessian diverges there (NumericsError).

    Examples
    --------
    >>> round(float(np.degrees(Angle(0, 1, 2).value(np.array([[1.0, 0, 0], [0, 0, 0], [0, 3, 0]])))), 6)
    90.0
    """

    i: int
    j: int
    k: int

    span: ClassVar[tuple[float, float] | None] = (0.0, np.pi)

    def __post_init__(self) -> None:
        self._take_atoms("i", "j", "k")

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        return [(self.j, self.i), (self.j, self.k)]

    def _parts(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors (R, 2, 3), lengths (R, 2), cosine and sine (R,), product u x w (R, 3)."""
        r = self._lengths(v)
        u = v / r[..., None]
        normal = np.cross(u[:, 0], u[:, 1])
        return u, r, np.sum(u[:, 0] * u[:, 1], axis=-1), np.linalg.norm(normal, axis=-1), normal

    def _function(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, r, cosine, sine, normal = self._parts(v)
        n = normal / np.maximum(sine, _STRAIGHT)[:, None]
        slope = np.stack([np.cross(u[:, 0], n), -np.cross(u[:, 1], n)], axis=1) / r[..., None]
        return np.arctan2(sine, cosine), slope

    def _curvature(self, v: np.ndarray) -> np.ndarray:
        u, r, cosine, sine, normal = self._parts(v)
        if (sine < _COLLINEAR).any():
            copy = int(np.argmin(sine))
            raise NumericsError(f"copy {copy}: the atoms of {self} are in a line, where the Hessian diverges")
        n = normal / sine[:, None]
        across = _dyad(n, n)
        curvature = np.empty((len(v), 2, 3, 2, 3))
        curvature[:, 0, :, 1] = curvature[:, 1, :, 0] = -across / (r[:, 0] * r[:, 1] * sine)[:, None, None]
        for q, turned in enumerate((np.cross(u[:, 0], n), -np.cross(u[:, 1], n))):
            along = _dyad(u[:, q], turned)
            diagonal = (cosine / sine)[:, None, None] * across - along - along.transpose(0, 2, 1)
            curvature[:, q, :, q] = diagonal / r[:, q, None, None] ** 2
        return curvature


@dataclass(frozen=True)
class Torsion(OfVectors):
    """Torsion i-j-k-l about the bond j-k (rad), from -pi to pi with the period 2 pi; the sign is that of IUPAC and ASE.

    Derivatives: Blondel, Karplus, J. Comput. Chem. 17, 1132 (1996). Where i-j-k or j-k-l are in a line the torsion is
    not defined (NumericsError).

    Examples
    --------
    >>> x = np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]])
    >>> round(float(np.degrees(Torsion(0, 1, 2, 3).value(x))), 6)
    90.0
    """

    i: int
    j: int
    k: int
    l: int
    period: ClassVar[float | None] = 2 * np.pi
    span: ClassVar[tuple[float, float] | None] = (-4 * np.pi, 4 * np.pi)

    def __post_init__(self) -> None:
        self._take_atoms("i", "j", "k", "l")

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        return [(self.i, self.j), (self.j, self.k), (self.k, self.l)]

    def _normals(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """b1 x b2 and b2 x b3 (R, 3); NumericsError where three atoms are in a line."""
        r = self._lengths(v)
        m, n = np.cross(v[:, 0], v[:, 1]), np.cross(v[:, 1], v[:, 2])
        for normal, first, names in ((m, 0, (self.i, self.j, self.k)), (n, 1, (self.j, self.k, self.l))):
            sine = np.linalg.norm(normal, axis=-1) / (r[:, first] * r[:, first + 1])
            if (sine < _COLLINEAR).any():
                raise NumericsError(
                    f"copy {int(np.argmin(sine))}: atoms {', '.join(map(str, names))} of {self} are in a line, where "
                    "the torsion is not defined"
                )
        return m, n

    def _function(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m, n = self._normals(v)
        b1, b2, b3 = v[:, 0], v[:, 1], v[:, 2]
        r = np.linalg.norm(b2, axis=-1, keepdims=True)
        value = np.arctan2(r[:, 0] * np.sum(b1 * n, axis=-1), np.sum(m * n, axis=-1))
        m, n = m / np.sum(m * m, axis=-1, keepdims=True), n / np.sum(n * n, axis=-1, keepdims=True)
        along1, along3 = (np.sum(b * b2, axis=-1, keepdims=True) / r for b in (b1, b3))
        return value, np.stack([r * m, -along1 * m - along3 * n, r * n], axis=1)

    def _curvature(self, v: np.ndarray) -> np.ndarray:
        m, n = self._normals(v)
        b1, b2, b3 = v[:, 0], v[:, 1], v[:, 2]
        r = np.linalg.norm(b2, axis=-1)[:, None]
        u = b2 / r
        cross1, cross2, cross3 = _cross_matrix(b1), _cross_matrix(b2), _cross_matrix(b3)

        def inverted(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """a / a^2 and its derivative by a."""
            square = np.sum(a * a, axis=-1)[:, None]
            return a / square, (np.eye(3) - 2 * _dyad(a, a) / square[:, None]) / square[:, None]

        (m, by_m), (n, by_n) = inverted(m), inverted(n)
        along1, along3 = np.sum(b1 * u, axis=-1)[:, None], np.sum(b3 * u, axis=-1)[:, None]
        curvature = np.zeros((len(v), 3, 3, 3, 3))
        curvature[:, 0, :, 0] = -r[:, None] * by_m @ cross2
        curvature[:, 0, :, 1] = r[:, None] * by_m @ cross1 + _dyad(m, u)
        curvature[:, 2, :, 2] = r[:, None] * by_n @ cross2
        curvature[:, 2, :, 1] = -r[:, None] * by_n @ cross3 + _dyad(n, u)
        curvature[:, 1, :, 0] = curvature[:, 0, :, 1].transpose(0, 2, 1)
        curvature[:, 1, :, 2] = curvature[:, 2, :, 1].transpose(0, 2, 1)
        curvature[:, 1, :, 1] = (
            along3[:, None] * by_n @ cross3
            - along1[:, None] * by_m @ cross1
            - _dyad(m, (b1 - along1 * u) / r)
            - _dyad(n, (b3 - along3 * u) / r)
        )
        return curvature


@dataclass(frozen=True)
class Coordination(OfVectors):
    """Coordination number, sum over pairs of 1 / (1 + (r / r_0)^power): a smooth count of neighbours.

    The rational switching function (1 - x^n) / (1 - x^m) of Iannuzzi, Laio, Parrinello, Phys. Rev. Lett. 90, 238302
    (2003), with m = 2 n. An atom that stands among centres and neighbours is no neighbour of itself. Only the closest
    image of a pair counts: the cell's smallest height must be more than twice ``r_0``, and better four times.

    Parameters
    ----------
    centres, neighbours : tuples of atoms
        Every pair of a centre with a neighbour counts.
    r_0
        Distance that counts one half (A).
    power
        Exponent n, a whole number from 4 to 30.

    Raises
    ------
    SettingsError
        For atoms or numbers that cannot work; by the methods, for a cell that is too small.

    Examples
    --------
    >>> Coordination((0,), (1, 2), r_0=2.0).value(np.array([[0.0, 0, 0], [2, 0, 0], [0, 0, 200]]))
    0.500000000001
    """

    centres: tuple[int, ...]
    neighbours: tuple[int, ...]
    r_0: float
    power: int = 6

    def __post_init__(self) -> None:
        for name in ("centres", "neighbours"):
            atoms = getattr(self, name)
            if isinstance(atoms, Integral) or len(atoms) == 0:
                raise SettingsError(f"Coordination: {name} must be a tuple of at least one atom, not {atoms!r}")
            object.__setattr__(self, name, whole_atoms("Coordination", atoms))
        if not self.pairs:
            raise SettingsError("Coordination: the only centre is the only neighbour")
        if not (isinstance(self.r_0, Real) and 0 < self.r_0 < np.inf):
            raise SettingsError(f"Coordination: r_0 must be a distance above 0 A, not {self.r_0!r}")
        if not (isinstance(self.power, Integral) and 4 <= self.power <= 30):
            raise SettingsError(f"Coordination: power must be a whole number from 4 to 30, not {self.power!r}")

    @property
    def pairs(self) -> Sequence[tuple[int, int]]:
        return [(i, j) for i in self.centres for j in self.neighbours if i != j]

    def _vectors(self, positions: np.ndarray, box: Box) -> np.ndarray:
        if box.height <= 2 * self.r_0:
            raise SettingsError(
                f"{self}: the cell's smallest height, {box.height:.3f} A, is not above twice r_0; take a larger cell"
            )
        return super()._vectors(positions, box)

    def _terms(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Switching function f (R, q), f'/r and f'' - f'/r over r^2, which stay finite at r = 0."""
        square = np.sum(v * v, axis=-1) / self.r_0**2
        half = self.power / 2
        f = 1 / (1 + square**half)
        slope = -self.power * square ** (half - 1) * f**2 / self.r_0**2
        bend = (self.power - 2 - 2 * self.power * (1 - f)) / np.maximum(square, 1e-300) / self.r_0**2
        return f, slope, slope * bend

    def _function(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        f, slope, _ = self._terms(v)
        return f.sum(axis=1), slope[..., None] * v

    def _curvature(self, v: np.ndarray) -> np.ndarray:
        _, slope, bend = self._terms(v)
        q = np.arange(v.shape[1])
        curvature = np.zeros((len(v), len(q), 3, len(q), 3))
        diagonal = slope[..., None, None] * np.eye(3) + bend[..., None, None] * v[..., :, None] * v[..., None, :]
        curvature[:, q, :, q] = diagonal.transpose(1, 0, 2, 3)
        return curvature
