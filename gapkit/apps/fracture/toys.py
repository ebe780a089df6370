r"""Continuum cracks with known answers: Griffith cracks, a cantilever that arrests cracks, a crack that turns.

The label of a continuum is :math:`\Phi = (G(\theta) - \Gamma) A`: energy release rate of a kink at theta, cost of new
crack Gamma, area A per bond. Then :math:`\Phi = 0` at :math:`K_I = \sqrt{E' \Gamma}` (Griffith 1921; Irwin 1957).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gapkit.apps.fracture.bond_labels import BondStress
from gapkit.apps.fracture.continuum import Isotropic, averaged_field, griffith_crack, kink
from gapkit.apps.fracture.fracture_potential import FracturePotential
from gapkit.apps.fracture.propagation import Phases, Tip, TipLoad


@dataclass(frozen=True)
class ToyMaterial:
    """A brittle isotropic body; the defaults are near silicon.

    Attributes
    ----------
    body : Isotropic
    toughness : float, eV/A^2
        Gamma.
    area : float, A^2
        A, per bond.
    noise : float, eV
        Standard deviation of labels.
    scatter : float
        Relative standard deviation of the stress intensity at which a test piece breaks.
    stress : BondStress
        Descriptors; of one radius, since all cracks here have nearly the same field near their tips.
    """

    body: Isotropic = field(default_factory=lambda: Isotropic(1.0, 0.22))
    toughness: float = 0.17
    area: float = 12.8
    noise: float = 0.03
    scatter: float = 0.01
    stress: BondStress = field(default_factory=lambda: BondStress(radii=(6.0,)))

    @property
    def griffith(self) -> float:
        """Critical stress intensity (eV/A^(5/2))."""
        return self.body.griffith(self.toughness)

    def driving(self, kI, kII=0.0, theta=0.0):
        """Exact label (eV) of growth at theta from a crack with these stress intensity factors."""
        return (self.body.release_rate(*kink(theta, kI, kII)) - self.toughness) * self.area


def griffith_crack_labels(
    material: ToyMaterial,
    half_lengths: tuple[float, ...] = (60.0, 200.0, 1000.0),
    modes: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7),
    loads: tuple[float, ...] = (0.5, 0.8, 1.1, 1.4),
    angles: tuple[float, ...] = (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0),
    random_state: int | np.random.Generator | None = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of finite cracks in a plate under tension and shear; the pure opening mode and the K-field of an endless
    crack are not among them.

    Parameters
    ----------
    half_lengths
        a (A).
    modes
        ``atan2(kII, kI)`` (rad).
    loads
        Size of the stress intensity over Griffith's.
    angles
        Directions of growth (degrees).

    Returns
    -------
    X : (n, f)
        Descriptors, from the exact field of each crack.
    y : (n,)
        Labels with noise (eV).
    groups : (n,) int
        One per mode: a potential that chooses its settings without a mode can be trusted between modes.
    """
    rng = np.random.default_rng(random_state)
    theta = np.radians(np.asarray(angles))
    normals = np.column_stack([-np.sin(theta), np.cos(theta), np.zeros_like(theta)])
    X, y, groups = [], [], []
    for a in half_lengths:
        for group, mode in enumerate(modes):
            for load in loads:
                kI, kII = load * material.griffith * np.array([np.cos(mode), np.sin(mode)])
                root = np.sqrt(np.pi * a)
                remote = griffith_crack(a, kI / root, kII / root, kI / root)
                averages = np.array([averaged_field(remote, R, material.body.poisson) for R in material.stress.radii])
                averages = np.repeat(averages[:, None], len(theta), axis=1)
                X.append(material.stress.of_stress(averages, normals))
                y.append(material.driving(kI, kII, theta) + rng.normal(size=len(theta)) * material.noise)
                groups.append(np.full(len(theta), group))
    return np.concatenate(X), np.concatenate(y), np.concatenate(groups)


def broken_pieces(
    material: ToyMaterial,
    toughness: float | None = None,
    n: int = 8,
    random_state: int | np.random.Generator | None = 1,
) -> np.ndarray:
    """Descriptors (n, f) at the rupture of n finite cracks under tension, whose stress intensities scatter around
    Griffith's; ``toughness`` (eV/A^2) of another material with the same elasticity."""
    rng = np.random.default_rng(random_state)
    k_c = material.body.griffith(material.toughness if toughness is None else toughness)
    rows = []
    for a in rng.uniform(80.0, 300.0, size=n):
        kI = k_c * (1.0 + material.scatter * rng.normal())
        pull = kI / np.sqrt(np.pi * a)
        remote = griffith_crack(a, pull, 0.0, pull)
        averages = np.array([averaged_field(remote, R, material.body.poisson) for R in material.stress.radii])
        rows.append(material.stress.of_stress(averages[:, None], np.array([[0.0, 1.0, 0.0]]))[0])
    return np.array(rows)


def two_phases(potential: FracturePotential, material: ToyMaterial, tougher: float, edge: float, n: int = 8) -> Phases:
    """Critical values of a material and of a tougher one (eV/A^2) beyond x = ``edge`` (A), each from n test pieces."""
    values = [potential.predict(broken_pieces(material, g, n, seed)) for g, seed in ((None, 1), (tougher, 2))]
    return Phases((edge,), tuple(float(v.mean()) for v in values), tuple(float(v.std(ddof=1)) for v in values))


@dataclass(frozen=True)
class DoubleCantilever:
    """A beam cut along its middle and held open at its end: the longer the crack, the weaker its load, so that it
    arrests. ``G = 3 E' d^2 h^3 / (16 a^4)`` with opening d, arm height h and crack length a (beam theory; Anderson,
    Fracture Mechanics, 4th ed. (2017), sec. 2.4).

    Attributes
    ----------
    body : Isotropic
    height : float, A
        h of one arm.
    length : float, A
        a at the start, where the tip's x is zero.

    Examples
    --------
    >>> from gapkit.apps.fracture.continuum import Isotropic
    >>> beam = DoubleCantilever(Isotropic(1.0, 0.25))
    >>> opening = beam.opening_for(toughness=0.1, x=300.0)
    >>> round(beam.arrest(opening, (0.1, 0.2), edge=1000.0), 6)  # it stays where G has fallen to the toughness
    300.0
    """

    body: Isotropic
    height: float = 400.0
    length: float = 2000.0

    def release_rate(self, opening: float, x: float) -> float:
        """Energy release rate G (eV/A^2) with the tip at x (A)."""
        return 3.0 * self.body.plane_modulus * opening**2 * self.height**3 / (16.0 * (self.length + x) ** 4)

    def opening_for(self, toughness: float, x: float) -> float:
        """Opening (A) at which G equals a toughness (eV/A^2) at x."""
        return float(np.sqrt(toughness / self.release_rate(1.0, x)))

    @property
    def tip_load(self) -> TipLoad:
        """The load is the opening (A)."""

        def load(opening: float, tip: Tip) -> tuple[float, float, float]:
            return float(np.sqrt(self.body.plane_modulus * self.release_rate(opening, tip.x))), 0.0, 0.0

        return load

    def arrest(self, opening: float, toughness: tuple[float, float], edge: float) -> float:
        """Exact place x (A) of arrest in two phases with an interface at ``edge``; at least 0, the start."""
        reach = [self.length * (self.release_rate(opening, 0.0) / g) ** 0.25 - self.length for g in toughness]
        if reach[0] < edge:
            return max(0.0, reach[0])
        return max(edge, reach[1])


def turning_load(kII_over_kI: float) -> TipLoad:
    """Mixed mode on a crack that may turn: to first order the stress intensity at the tip of a crack that has turned by
    an angle is that of a kink at this angle (Cotterell and Rice 1980). The load is ``sqrt(kI^2 + kII^2)``."""
    mode = np.arctan2(kII_over_kI, 1.0)

    def load(k: float, tip: Tip) -> tuple[float, float, float]:
        kI, kII = kink(tip.angle, k * np.cos(mode), k * np.sin(mode))
        return float(kI), float(kII), 0.0

    return load
