"""From labels and covariances to rows of the least-squares problem."""

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


@dataclass(frozen=True)
class Targets:
    """What the sparse Gaussian process must explain of one frame: labels less reference energies and baseline.

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
    """

    energy: float | None
    forces: np.ndarray | None
    virial: np.ndarray | None
    n_atoms: int
    config_type: str | None = None
    isolated: bool = False

    @property
    def n_rows(self) -> int:
        """Number of labels."""
        rows = 0 if self.energy is None else 1
        if not self.isolated:
            rows += (0 if self.forces is None else 3 * self.n_atoms) + (0 if self.virial is None else 6)
        return rows

    @property
    def derivatives(self) -> bool:
        """Whether any label is a derivative of the energy."""
        return not self.isolated and (self.forces is not None or self.virial is not None)


@dataclass(frozen=True)
class Observations:
    """Rows of one frame and noise group, divided by ``scale``: (n, m), (n,), (n, terms)."""

    group: str
    K: np.ndarray
    y: np.ndarray
    prior: np.ndarray
    scale: float


def group_name(kind: str, config_type: str | None, own_groups: Iterable[str]) -> str:
    """``kind``, or ``kind:config_type`` where that config_type has noise levels of its own.

    ``own_groups`` names config_types (all kinds of label) or single groups such as ``virial:liquid``.
    """
    own = f"{kind}:{config_type}"
    return own if config_type is not None and not {config_type, own}.isdisjoint(own_groups) else kind


def observations(targets: Targets, rows: FrameRows, own_groups: Iterable[str] = ()) -> Iterator[Observations]:
    """Rows of a frame by noise group.

    Energies and virials are divided by the square root of the number of atoms, so that their noise levels are per
    square root of atoms; forces and virials are minus the derivatives by positions and strain.
    """
    own = tuple(own_groups)
    scale = math.sqrt(targets.n_atoms)
    if targets.energy is not None:
        kind = ISOLATED if targets.isolated else group_name("energy", targets.config_type, own)
        yield Observations(
            kind, rows.K[:1] / scale, np.array([targets.energy / scale]), rows.prior[:1] / scale**2, scale
        )
    if targets.isolated:
        return
    end = 1 + 3 * targets.n_atoms
    if targets.forces is not None:
        kind = group_name("forces", targets.config_type, own)
        yield Observations(kind, -rows.K[1:end], targets.forces.ravel(), rows.prior[1:end], 1.0)
    if targets.virial is not None:
        kind = group_name("virial", targets.config_type, own)
        yield Observations(kind, -rows.K[end:] / scale, targets.virial / scale, rows.prior[end:] / scale**2, scale)
