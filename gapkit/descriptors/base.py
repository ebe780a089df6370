"""The contract between descriptors and models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from gapkit.exceptions import SettingsError
from gapkit.kernels import Kernel
from gapkit.numerics import design_rows
from gapkit.structures.structure import Structure

#: a channel is what has its own sparse points: a centre species, a species pair, a species triple
Channel = tuple[int, ...]


@dataclass(frozen=True)
class EnvironmentBatch:
    r"""Environments e of one channel of one frame; each adds ``weight * g(x)`` to the energy of its atom.

    Environments of one atom stand together. Derivatives of an environment come by whole atoms (all three coordinates of
    an atom that it depends on, zeros included) and with all six strains: prior variances count on it.

    Attributes
    ----------
    x : (e, f)
        Features.
    weight : (e,)
        Smooth cutoff factor, 1 for descriptors that have theirs built in.
    atom : (e,)
        Atom that owns the environment's energy.
    start : (e + 1,)
        Derivatives of environment e are the rows ``start[e]`` to ``start[e + 1]`` of ``J``. Empty without derivatives.
    target : (c,)
        Variable of each row's derivative: ``3 a + axis`` for a position, ``3 n_atoms + v`` for the strain (Voigt, ASE
        order).
    J : (c, f)
        dx / d(target), in feature units per A (per unit strain).
    dweight : (c,)
        d(weight) / d(target).
    """

    x: np.ndarray
    weight: np.ndarray
    atom: np.ndarray
    start: np.ndarray
    target: np.ndarray
    J: np.ndarray
    dweight: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Sums:
    """Sums over environments that descriptors add to, with the arrays that several descriptors share.

    Attributes
    ----------
    local : (n,)
        Local energies (eV).
    gradient : (n, 3)
        dE/dr (eV/A).
    strain : (n, 6) or (n, 9)
        Strain derivative of each atom's own local energy (eV): Voigt, or all of r_c dE_a/dr_d row by row.
    kernels : (n, q)
        Sums of the pair kernels, where variances are asked for (``gapkit.potential.local_variance``); else q = 0.
    variance : (n,)
        Variances of local energies (eV^2), from which descriptors take what the model explains; empty where they are
        not asked for.
    """

    local: np.ndarray
    gradient: np.ndarray
    strain: np.ndarray
    kernels: np.ndarray
    variance: np.ndarray

    @classmethod
    def zeros(
        cls, n: int, components: int = 6, kernels: np.ndarray | None = None, variance: np.ndarray | None = None
    ) -> Sums:
        """Empty sums for ``n`` atoms, with 6 or 9 ``components`` of the strain derivative."""
        kernels = np.zeros((0, 0)) if kernels is None else kernels
        variance = np.zeros(0) if variance is None else variance
        return cls(np.zeros(n), np.zeros((n, 3)), np.zeros((n, components)), kernels, variance)


@dataclass(frozen=True)
class KernelSum:
    r"""The mean of one channel of one term as a function of the features, :math:`g(x) = \sum_m w_m k(U x, z_m)`.

    Attributes
    ----------
    kernel : Kernel
    points : (m, d)
        Sparse points z, scaled by the kernel, projected.
    weights : (m,)
        eV.
    directions : (d, f) or None
        U, orthonormal rows; None: the identity.
    centre : (d,) or None
        Where environments lie, projected like the points; None: the mean of the points.
    """

    kernel: Kernel
    points: np.ndarray
    weights: np.ndarray
    directions: np.ndarray | None = None
    centre: np.ndarray | None = None

    @property
    def middle(self) -> np.ndarray:
        """The centre, or the mean of the points: (d,)."""
        return self.points.mean(axis=0) if self.centre is None else self.centre

    def features(self, X: np.ndarray) -> np.ndarray:
        """Rows of ``X`` (n, f), scaled by the kernel and projected: (n, d)."""
        return projected(self.kernel.scale(X), self.directions)

    def values_and_slopes(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """g (n,) at the rows of ``X`` (n, f), and its slopes (n, d) by the scaled and projected features."""
        k = self.kernel
        return design_rows.values_and_slopes(
            self.features(X), self.points, self.weights, k.function, k.parameter, k.centred
        )


def projected(X: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
    """``X`` (n, f) in the basis ``directions`` (d, f): (n, d); as it is where that is None."""
    return X if directions is None else X @ directions.T


#: descriptors by name
DESCRIPTORS: dict[str, type[Descriptor]] = {}


class Descriptor(ABC):
    """A map from environments to feature vectors, per channel.

    Settings are set at construction; :meth:`for_species` gives the descriptor that knows its species, and only that
    one can describe. A subclass with a ``name`` can stand in tables of settings and in model files, once its module is
    imported; ``gapkit.testing.check_descriptor`` tries all that models ask of it.
    """

    #: name in settings and files
    name: ClassVar[str]
    r_cut: float
    #: range of the feature, where there is one only
    feature_range: tuple[float, float] | None = None
    #: whether an environment is a pair of atoms, its one feature their distance
    of_pairs: bool = False
    #: whether each atom is one environment of weight 1, a unit vector: k(x, x) = 1 for dot-product kernels. Such a
    #: descriptor describes the many-body part of a model: it is projected, resized, and carries the exact mean
    of_atoms: bool = False
    #: whether :meth:`frame_environments` are those of :meth:`environments`, which for a few atoms cost only their share
    each_atom_alone: bool = False
    #: whether the predictor of a dot-product kernel can carry a form for variances of local energies
    #: (``gapkit.potential.local_variance``)
    carries_forms: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name")
        if name is None:
            return
        known = DESCRIPTORS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"the name {name!r} is that of {known.__module__}.{known.__qualname__}; choose another")
        DESCRIPTORS[name] = cls

    @abstractmethod
    def for_species(self, species: Iterable[int]) -> Descriptor:
        """Copy of the descriptor, with the same settings, for these atomic numbers."""

    @abstractmethod
    def n_features(self, channel: Channel) -> int:
        """Number of features of an environment of this channel."""

    @property
    @abstractmethod
    def channels(self) -> tuple[Channel, ...]:
        """Channels with sparse points of their own."""

    @abstractmethod
    def environments(
        self, structure: Structure, channel: Channel, derivatives: bool = True, atoms: np.ndarray | None = None
    ) -> EnvironmentBatch:
        """Environments of ``channel`` around ``atoms`` (default: all centres of the structure)."""

    def frame_environments(self, structure: Structure, channel: Channel, derivatives: bool = True) -> EnvironmentBatch:
        """Environments whose sum is the frame's energy, where it does not matter which atom owns which."""
        return self.environments(structure, channel, derivatives)

    def reshaped(self, cutoff: float, finer: int, width: float, finest: int) -> Descriptor:
        """The descriptor with its cutoff and width multiplied, and ``finer`` more functions (``finest`` at most); the
        same, where it has no such settings."""
        return self

    def with_form(self, predictor: Any, s: KernelSum, soap: np.ndarray, pair: np.ndarray, signs: np.ndarray) -> Any:
        """Predictor of the one kernel sum ``s`` that also subtracts the part explained by the form from variances."""
        raise NotImplementedError(f"{type(self).__name__} carries no forms")

    def predictor(self, sums: Sequence[KernelSum]) -> Any:
        """Object that :meth:`add_prediction` evaluates, from one channel's kernel sums; made once per potential."""
        return tuple(sums)

    def describe_predictor(self, channel: Channel, predictor: Any) -> list[str]:
        """Lines on the evaluation and the cost of a channel's prediction, for users."""
        return []

    def add_prediction(self, structure: Structure, channel: Channel, predictor: Any, sums: Sums) -> None:
        """Add this channel's mean prediction, from :meth:`predictor`, to ``sums``.

        Raises
        ------
        SettingsError
            For nine strain components, where the descriptor gives derivatives by atoms and not by pairs.
        """
        if sums.strain.shape[1] != 6:
            raise SettingsError(
                f"{type(self).__name__} gives six components of the virial (its derivatives are by atoms), not nine; "
                "ask for six, or give the descriptor an add_prediction of its own"
            )
        batch = self.environments(structure, channel)
        for s in predictor:
            g, slope = s.values_and_slopes(batch.x)
            design_rows.add_prediction(
                g, slope, batch.weight, batch.atom, batch.start, batch.target, s.features(batch.J), batch.dweight,
                structure.n_atoms, sums.local, sums.gradient, sums.strain,
            )  # fmt: skip

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """JSON-ready constructor arguments, with ``"name"``."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays that a model file keeps; loading computes none of them again."""
        return {}

    def check_arrays(self) -> None:  # noqa: B027  most descriptors keep none
        """Raise ValueError where arrays from a model file have not the shapes that compiled code relies on."""

    def with_arrays(self, species: Iterable[int], arrays: dict[str, np.ndarray]) -> Descriptor:
        """The descriptor of a model file, from :meth:`arrays`."""
        return self.for_species(species)


def check_cutoff(r_cut: float, smallest: float = 0.5) -> float:
    """``r_cut`` as a float, or a :class:`SettingsError`."""
    if not isinstance(r_cut, Real) or not np.isfinite(r_cut) or r_cut <= smallest:
        raise SettingsError(f"r_cut must be a finite distance above {smallest} A, not {r_cut!r}")
    return float(r_cut)


def check_width(width: float, r_cut: float) -> float:
    """The length over which a weight goes to zero (A), or a :class:`SettingsError`."""
    if not (isinstance(width, Real) and 0 < width <= r_cut):
        raise SettingsError(f"cutoff_width must be positive and at most r_cut ({r_cut} A), not {width!r}")
    return float(width)


def smooth_cutoff(r: np.ndarray, r_cut: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Quintic step from 1 at ``r_cut - width`` to 0 at ``r_cut``, and its derivative (1/A).

    :math:`1 - 10 s^3 + 15 s^4 - 6 s^5`, two continuous derivatives at both ends.

    Examples
    --------
    >>> import numpy as np
    >>> value, slope = smooth_cutoff(np.array([3.0, 4.0, 4.5, 5.0]), r_cut=5.0, width=1.0)
    >>> value.tolist()
    [1.0, 1.0, 0.5, 0.0]
    """
    s = np.clip((r - (r_cut - width)) / width, 0.0, 1.0)
    return 1 - s**3 * (10 - 15 * s + 6 * s * s), -30 * s**2 * (1 - s) ** 2 / width
