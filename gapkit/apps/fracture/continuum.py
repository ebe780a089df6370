r"""Stress around crack tips in linear elastic fracture mechanics, averaged as the atoms' stress is, and kinks.

A sphere's average over atoms is, in plane strain, an average over a disc: the weight
:math:`(1 - r^2/R^2)^2` of :mod:`gapkit.descriptors.stress`, integrated along the front, is
:math:`(1 - \rho^2/R^2)^{5/2}` up to a factor.

Energy release rate and stress intensity (plane strain): :math:`G = (K_I^2 + K_{II}^2)/E'`, :math:`E' = E/(1 - \nu^2)`
(Irwin 1957). A short kink at an angle theta has, to first order (Cotterell and Rice, Int. J. Fract. 16, 155 (1980),
eqs. 24 to 26),

.. math::
    k_I = C_{11} K_I + C_{12} K_{II}, \quad k_{II} = C_{21} K_I + C_{22} K_{II}, \qquad
    C_{11} = \tfrac14 (3\cos\tfrac\theta2 + \cos\tfrac{3\theta}2), \;
    C_{12} = -\tfrac34 (\sin\tfrac\theta2 + \sin\tfrac{3\theta}2), \;
    C_{21} = \tfrac14 (\sin\tfrac\theta2 + \sin\tfrac{3\theta}2), \;
    C_{22} = \tfrac14 (\cos\tfrac\theta2 + 3\cos\tfrac{3\theta}2) .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gapkit.exceptions import SettingsError

#: in-plane stress xx, yy, xy (n,) at points x, y (n,)
PlaneStress = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Isotropic:
    """An isotropic elastic body.

    Attributes
    ----------
    young : float, eV/A^3
    poisson : float
    """

    young: float = 1.0
    poisson: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.young < np.inf and -1 < self.poisson < 0.5):
            raise SettingsError(f"no elastic body has E = {self.young} and nu = {self.poisson}")

    @property
    def plane_modulus(self) -> float:
        """E' of plane strain (eV/A^3)."""
        return self.young / (1.0 - self.poisson**2)

    def griffith(self, toughness: float) -> float:
        """Critical stress intensity (eV/A^(5/2)) where crack growth costs ``toughness`` (eV/A^2): Griffith and Irwin,
        ``K^2 = E' Gamma``."""
        return float(np.sqrt(self.plane_modulus * toughness))

    def release_rate(self, kI, kII=0.0):
        """Energy release rate G (eV/A^2)."""
        return (np.square(kI) + np.square(kII)) / self.plane_modulus


def kink(theta, kI, kII) -> tuple[np.ndarray, np.ndarray]:
    """Stress intensity factors of a short kink at an angle (rad) from those of the crack; see the module's text."""
    s1, s3, c1, c3 = np.sin(theta / 2), np.sin(1.5 * theta), np.cos(theta / 2), np.cos(1.5 * theta)
    first = 0.25 * (3 * c1 + c3) * kI - 0.75 * (s1 + s3) * kII
    second = 0.25 * (s1 + s3) * kI + 0.25 * (c1 + 3 * c3) * kII
    return first, second


def best_kink(kI: float, kII: float) -> float:
    """Angle (rad) of the kink whose energy release rate is largest, to first order, within 80 degrees."""
    theta = np.radians(np.linspace(-80.0, 80.0, 3201))
    first, second = kink(theta, kI, kII)
    return float(theta[np.argmax(np.where(first > 0, first**2 + second**2, -np.inf))])


def near_tip(kI: float, kII: float = 0.0, t_stress: float = 0.0) -> PlaneStress:
    """K-field of an isotropic body around a tip at the origin, the crack along -x (Williams, J. Appl. Mech. 24, 109
    (1957)); ``t_stress`` (eV/A^3) is the constant part along x."""

    def stress(x, y):
        r, theta = np.hypot(x, y), np.arctan2(y, x)
        s, c, s3, c3 = np.sin(theta / 2), np.cos(theta / 2), np.sin(1.5 * theta), np.cos(1.5 * theta)
        f = 1.0 / np.sqrt(2.0 * np.pi * r)
        xx = f * (kI * c * (1 - s * s3) - kII * s * (2 + c * c3)) + t_stress
        yy = f * (kI * c * (1 + s * s3) + kII * s * c * c3)
        xy = f * (kI * c * s * c3 + kII * c * (1 - s * s3))
        return xx, yy, xy

    return stress


def griffith_crack(half_length: float, yy: float, xy: float = 0.0, xx: float = 0.0) -> PlaneStress:
    """Exact field of a crack of length 2a in an infinite plate under remote stress (eV/A^3), around its right tip,
    which is the origin (Westergaard, J. Appl. Mech. 6, A49 (1939)): ``K_I = yy sqrt(pi a)``,
    ``K_II = xy sqrt(pi a)``, T-stress ``xx - yy``."""

    def stress(x, y):
        z = x + half_length + 1j * y
        root = np.sqrt(z - half_length) * np.sqrt(z + half_length)
        shape, slope = z / root, -(half_length**2) / root**3
        return (
            yy * (shape.real - y * slope.imag) + xx - yy + xy * (2 * shape.imag + y * slope.real),
            yy * (shape.real + y * slope.imag) - xy * y * slope.real,
            -yy * y * slope.real + xy * (shape.real - y * slope.imag),
        )

    return stress


def crystal_near_tip(field: Any, kI: float, kII: float = 0.0) -> PlaneStress:
    """K-field of a crystal from matscipy's crack (:meth:`gapkit.apps.fracture.crystals.Material.k_field`)."""

    def stress(x, y):
        return field.crack.stresses(np.hypot(x, y), np.arctan2(y, x), kI, kII)

    return stress


def averaged_field(
    stress: PlaneStress,
    radius: float,
    out_of_plane: Callable[[np.ndarray], np.ndarray] | float = 0.25,
    centre: tuple[float, float] = (0.0, 0.0),
    n_points: int = 48,
) -> np.ndarray:
    """Stress (6,) in eV/A^3, Voigt, averaged around a point near a tip at the origin.

    Parameters
    ----------
    radius : float
        R (A).
    out_of_plane : float or callable
        Poisson's ratio, ``zz = nu (xx + yy)``; or a function of the averaged (xx, yy, xy).
    centre : (2,)
        Centre of the average (A).
    n_points : int
        Gauss points along the radius (in its square root, which takes the singularity) and twice as many around the
        tip.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_points)
    reach = radius + float(np.hypot(*centre))
    s = 0.5 * (nodes + 1.0)
    r = reach * s**2
    by_r = 0.5 * weights * 2.0 * reach * s * r
    turn, by_turn = np.polynomial.legendre.leggauss(2 * n_points)
    angle, by_angle = np.pi * turn, np.pi * by_turn
    x, y = r[:, None] * np.cos(angle), r[:, None] * np.sin(angle)
    rho = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2
    w = np.clip(1.0 - rho, 0.0, None) ** 2.5 * by_r[:, None] * by_angle
    parts = stress(x.ravel(), y.ravel())
    plane = np.array([np.sum(w.ravel() * part) for part in parts]) / w.sum()
    zz = out_of_plane(plane) if callable(out_of_plane) else out_of_plane * (plane[0] + plane[1])
    return np.array([plane[0], plane[1], float(zz), 0.0, 0.0, plane[2]])


def plane_strain_zz(field: Any) -> Callable[[np.ndarray], np.ndarray]:
    """zz of a crystal in plane strain from averaged (xx, yy, xy), by matscipy's compliances: ``e_zz = 0``."""
    S = field.S

    def zz(plane):
        return -(S[2, 0] * plane[0] + S[2, 1] * plane[1] + S[2, 5] * plane[2]) / S[2, 2]

    return zz
