r"""Familiarity of structures with the training set: standard deviations and kernel distances, atom by atom.

Two questions are asked of every atom. What does the model itself say: the standard deviation of the local energy (of
the function, without noise). And what has it seen: the distance to the nearest training environment in the geometry
of its own kernel,

.. math:: d(x, y) = \sqrt{k(x, x) + k(y, y) - 2 k(x, y)}

(Schoelkopf and Smola, Learning with Kernels (2002), eq. 2.81), with k the unit kernel of the SOAP term (with several,
their mean weighted by prior variance), so that d has no unit and is at most :math:`\sqrt{2}`. The two belong together:
a posterior covariance is never above its prior, so no standard deviation exceeds that of a training environment by
more than the prior allows over that distance, :math:`\sigma(x) \le \sigma(y) + \delta\, d(x, y)`, for a model of one
SOAP term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from gapkit.apps.transferability.environments import (
    LEAST_MAPPED,
    DomainMap,
    Environments,
    domain_map,
    environments,
    nearest,
)
from gapkit.estimators.gap import GAP
from gapkit.exceptions import SettingsError
from gapkit.settings import Settings


@dataclass(frozen=True)
class DomainSettings(Settings):
    """Limit of distance of a domain, and size of its map.

    Attributes
    ----------
    quantile : float
        Share of the training environments that lie within ``distance_limit``, each measured to the nearest one of
        another trajectory.
    map_environments : int
        At most this many training environments, and as many new ones, on the map; 0: no map.
    """

    quantile: float = 0.95
    map_environments: int = 1000

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not 0 < self.quantile < 1:
            raise SettingsError(f"quantile must be between 0 and 1, not {self.quantile!r}")
        if self.map_environments and self.map_environments < LEAST_MAPPED:
            raise SettingsError(f"map_environments must be 0 or at least {LEAST_MAPPED}, not {self.map_environments!r}")


@dataclass(frozen=True)
class DomainResult:
    """Familiarity of a potential with the atoms of some frames.

    Attributes
    ----------
    settings : DomainSettings
    training, new : Environments
        Environments of the training frames, and of the new frames.
    std_limit : float
        Standard deviation of a local energy (eV) beyond which the potential itself calls an atom out of domain
        (:meth:`gapkit.potential.potential.Potential.domain_limit`, without noise).
    distance_limit : float
        Quantile of ``training_distance``.
    training_distance : (n_training,)
        Distance of each training environment to the nearest one of another trajectory.
    distance : (n,)
        Distance of each new environment to the nearest training environment.
    place : (n,)
        Which one that is (index into ``training``; -1: none of this species).
    energy, energy_std : (n_frames,)
        Predicted energy of each frame, and its standard deviation as a new label (eV).
    chart : DomainMap or None
        Map of both sets; None where it was not asked for, or where there are too few environments.
    """

    settings: DomainSettings
    training: Environments
    new: Environments
    std_limit: float
    distance_limit: float
    training_distance: np.ndarray
    distance: np.ndarray
    place: np.ndarray
    energy: np.ndarray
    energy_std: np.ndarray
    chart: DomainMap | None = None

    @property
    def std(self) -> np.ndarray:
        """Standard deviations (n,) of the local energies (eV)."""
        return self.new.std

    @property
    def std_ratio(self) -> np.ndarray:
        """Standard deviations (n,) in units of ``std_limit``."""
        return self.new.std / self.std_limit

    @property
    def std_rank(self) -> np.ndarray:
        """Share (n,) of the training environments whose standard deviation is smaller."""
        return np.searchsorted(np.sort(self.training.std), self.new.std) / len(self.training)

    @property
    def unfamiliar(self) -> np.ndarray:
        """Whether each atom (n,) is beyond ``distance_limit``, or beyond ``std_limit``."""
        return (self.distance > self.distance_limit) | (self.new.std > self.std_limit)

    def nearest_to(self, environment: int) -> tuple[int, int, str]:
        """Training frame, atom and config_type nearest to an environment; (-1, -1, "") where there is none."""
        at = self.place[environment]
        if at < 0:
            return -1, -1, ""
        known = self.training
        return int(known.frame[at]), int(known.atom[at]), str(known.config_type[at])

    def least_known(self, frame: int) -> int:
        """Place of the environment of ``frame`` that is farthest from the training set."""
        of_frame = np.flatnonzero(self.new.frame == frame)
        return int(of_frame[np.argmax(self.distance[of_frame])])

    def to_dict(self) -> dict[str, Any]:
        """Settings, limits, energies, and the distance and standard deviation of every atom, JSON-ready."""
        atoms = {"frame": self.new.frame, "atom": self.new.atom, "distance": self.distance, "std": self.std,
                 "unfamiliar": self.unfamiliar}  # fmt: skip
        return {
            "settings": self.settings.as_dict(),
            "std_limit": self.std_limit,
            "distance_limit": self.distance_limit,
            "energy": self.energy.tolist(),
            "energy_std": self.energy_std.tolist(),
            "atoms": {name: values.tolist() for name, values in atoms.items()},
        }

    def __str__(self) -> str:
        # one line per frame: its farthest atom, what that is nearest to, its least certain atom, atoms unfamiliar
        lines = [
            f"{'frame':>5} {'config_type':<16} {'atoms':>5} {'distance':>8} {'nearest training':<24} "
            f"{'std meV':>8} {'/limit':>6} {'unfamiliar':>10}"
        ]
        for frame in range(len(self.energy_std)):
            of_frame = np.flatnonzero(self.new.frame == frame)
            far = self.least_known(frame)
            where, atom, name = self.nearest_to(far)
            known = f"{name} {where}:{atom}" if where >= 0 else "none of this species"
            lines.append(
                f"{frame:>5} {self.new.config_type[far]!s:<16} {len(of_frame):>5} {self.distance[far]:>8.3f} "
                f"{known:<24} "
                f"{1e3 * self.std[of_frame].max():>8.1f} {self.std_ratio[of_frame].max():>6.2f} "
                f"{int(self.unfamiliar[of_frame].sum()):>10}"
            )
        lines.append(
            f"limits: distance {self.distance_limit:.3f} ({100 * self.settings.quantile:g} % of the training "
            f"environments are nearer to another trajectory), std {1e3 * self.std_limit:.1f} meV"
        )
        return "\n".join(lines)


def run_domain(
    gap: GAP,
    training: Sequence[ase.Atoms] | Environments,
    frames: Sequence[ase.Atoms],
    settings: DomainSettings | None = None,
    *,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> DomainResult:
    """Standard deviations and distances of every atom of ``frames``.

    Parameters
    ----------
    gap
        A fitted model with a SOAP term.
    training
        The frames that it was fitted to (a model file holds only sparse points), or their
        :func:`gapkit.apps.transferability.environments.environments`, which saves time where many frames are asked
        about one after another.
    frames
        The frames in question; labels are not needed.
    random_state
        Seed of the choice of environments for the map.
    progress
        Whether to show a progress bar.

    Raises
    ------
    SettingsError, SpeciesError, DataError
        As ``environments``.
    """
    settings = settings or DomainSettings()
    frames = list(frames)
    known = training if isinstance(training, Environments) else environments(gap, training, progress)
    new = environments(gap, frames, progress)
    training_distance, at = nearest(gap, known, known, other_trajectory=True)
    within = training_distance[at >= 0]
    distance, place = nearest(gap, new, known)
    p = gap.predict(frames, uncertainty="energy")
    assert p.energy_std is not None
    chart = None
    z = int(np.bincount(new.number).argmax())
    if settings.map_environments and len(known.rows(z)) + len(new.rows(z)) >= LEAST_MAPPED:
        chart = domain_map(gap, known, new, z, settings.map_environments, random_state)
    return DomainResult(
        settings=settings,
        training=known,
        new=new,
        std_limit=gap.potential_.domain_limit(noise=False),
        distance_limit=float(np.quantile(within, settings.quantile)) if len(within) else 0.0,
        training_distance=training_distance,
        distance=distance,
        place=place,
        energy=p.energy,
        energy_std=p.energy_std,
        chart=chart,
    )
