"""Rows of the least-squares problem, from labels and covariances."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from gapkit.models.basis import FrameRows

#: group of isolated-atom energies: never held out, with a fixed small noise
ISOLATED = "isolated_atom"
#: that noise (eV)
ISOLATED_NOISE = 1e-3
#: prior variance, under unit kernels, below which a derivative is fixed by symmetry: positions in files have eight
#: decimals, and a derivative of a signal of 10 eV stays below 1e-4 eV/A there
FIXED = 1e-10


@dataclass(frozen=True)
class Targets:
    """Targets of the sparse Gaussian process for one frame: labels less reference energies and baseline.

    Attributes
    ----------
    energy : float or None
        eV.
    forces : (n, 3) or None
        eV/A.
    virial : (6,) or None
        eV, Voigt.
    n_atoms : int
    config_type : str or None
    isolated : bool
        An isolated atom.
    held : (n, 3) bool or None
        Force components that are no labels.
    """

    energy: float | None
    forces: np.ndarray | None
    virial: np.ndarray | None
    n_atoms: int
    config_type: str | None = None
    isolated: bool = False
    held: np.ndarray | None = None

    @property
    def n_rows(self) -> int:
        """Number of labels."""
        rows = 0 if self.energy is None else 1
        if not self.isolated:
            rows += (0 if self.forces is None else int(self.force_labels.sum())) + (0 if self.virial is None else 6)
        return rows

    @property
    def force_labels(self) -> np.ndarray:
        """Booleans (3n,) of the force components that are labels, of a frame with forces."""
        return np.ones(3 * self.n_atoms, dtype=bool) if self.held is None else ~self.held.ravel()

    @property
    def derivatives(self) -> bool:
        """Whether any label is a derivative of the energy."""
        return not self.isolated and (self.forces is not None or self.virial is not None)


@dataclass(frozen=True)
class Observations:
    """Rows of one frame and noise group, divided by ``scale``: (n, m), (n,), (n, terms).

    ``places`` (n,) says which of the labels of their kind they are; None: all.
    """

    group: str
    K: np.ndarray
    y: np.ndarray
    prior: np.ndarray
    scale: float
    places: np.ndarray | None = None


def informative(prior: np.ndarray) -> np.ndarray:
    """Booleans (n,) of the derivatives that depend on the function, by their prior variances (n, terms).

    A force that vanishes by symmetry does so for every function: its row is zero, so that the label is predicted
    without error before anything is learned, and says nothing of noise or error bars. Variances are per A^2 (forces) or
    per atom (virials).
    """
    return np.asarray(prior.sum(axis=1) > FIXED)


def group_name(kind: str, config_type: str | None, separate_groups: Iterable[str]) -> str:
    """Name of a noise group: ``kind``, or ``kind:config_type`` where that config_type has levels of its own.

    ``separate_groups`` names config_types (all kinds of label) or single groups such as ``virial:liquid``.
    """
    group = f"{kind}:{config_type}"
    return group if config_type is not None and not {config_type, group}.isdisjoint(separate_groups) else kind


def observations(
    targets: Targets, rows: FrameRows, separate_groups: Iterable[str] = (), variances: bool = True
) -> Iterator[Observations]:
    """Rows of a frame by noise group.

    Energies and virials are divided by the square root of the number of atoms, so that their noise levels are per
    square root of atoms; forces and virials are minus the derivatives by positions and strain. Components that are no
    labels, and those that are fixed by symmetry (:func:`informative`), have no rows; without ``variances`` the prior
    variances are not known, and the latter have rows as well.
    """
    groups = tuple(separate_groups)
    scale = math.sqrt(targets.n_atoms)
    if targets.energy is not None:
        kind = ISOLATED if targets.isolated else group_name("energy", targets.config_type, groups)
        yield Observations(
            kind, rows.K[:1] / scale, np.array([targets.energy / scale]), rows.prior[:1] / scale**2, scale
        )
    if targets.isolated:
        return
    end = 1 + 3 * targets.n_atoms
    if targets.forces is not None:
        kind = group_name("forces", targets.config_type, groups)
        free = np.flatnonzero(targets.force_labels & (informative(rows.prior[1:end]) if variances else True))
        if len(free):
            yield Observations(kind, -rows.K[1 + free], targets.forces.ravel()[free], rows.prior[1 + free], 1.0, free)
    if targets.virial is not None:
        kind = group_name("virial", targets.config_type, groups)
        free = np.flatnonzero(informative(rows.prior[end:] / scale**4)) if variances else np.arange(6)
        if len(free):
            K, prior = rows.K[end + free], rows.prior[end + free]
            yield Observations(kind, -K / scale, targets.virial[free] / scale, prior / scale**2, scale, free)
