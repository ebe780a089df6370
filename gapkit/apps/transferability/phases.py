"""Leave a phase out and predict it: energies of unseen crystal structures relative to a known one, with error bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from sklearn.base import clone

from gapkit.apps.transferability.run import DomainSettings, run_domain
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import seed_of
from gapkit.settings import Settings


@dataclass(frozen=True)
class PhaseTransfer:
    """Energies of the frames of a family that a model has not seen, relative to a reference frame that it has.

    Attributes
    ----------
    families : tuple of str
        Config_types that were left out of the training set.
    volume : (n,)
        Volumes of the frames (A^3/atom).
    reference, predicted : (n,)
        Energy above the reference frame (eV/atom): labels, and the model without the families.
    predicted_std, function_std : (n,)
        Standard deviations of ``predicted`` as a new label, and of the function alone (eV/atom).
    distance : (n,)
        Largest kernel distance of an atom of each frame to the nearest training environment.
    distance_limit : float
        See :class:`gapkit.apps.transferability.run.DomainResult`.
    neighbour : tuple of str
        Config_type of the environment nearest to that atom.
    trajectory : tuple of str
        Trajectories of the frames.
    """

    families: tuple[str, ...]
    volume: np.ndarray
    reference: np.ndarray
    predicted: np.ndarray
    predicted_std: np.ndarray
    function_std: np.ndarray
    distance: np.ndarray
    distance_limit: float
    neighbour: tuple[str, ...]
    trajectory: tuple[str, ...]

    @property
    def error(self) -> np.ndarray:
        """Predicted minus reference (n,), eV/atom."""
        return self.predicted - self.reference

    @property
    def z(self) -> np.ndarray:
        """Errors (n,) in predicted standard deviations."""
        return self.error / self.predicted_std

    @property
    def lowest(self) -> int:
        """Index of the frame with the lowest label: the phase near its own equilibrium."""
        return int(np.argmin(self.reference))

    def __str__(self) -> str:
        k = self.lowest
        label, value, std = 1e3 * self.reference[k], 1e3 * self.predicted[k], 1e3 * self.predicted_std[k]
        rmse, z = 1e3 * np.sqrt(np.mean(self.error**2)), np.sqrt(np.mean(self.z**2))
        return (
            f"{' + '.join(self.families):<22} at {self.volume[k]:5.2f} A^3/atom: reference {label:6.1f}, predicted "
            f"{value:6.1f} +- {std:4.1f} meV/atom; {len(self.z)} frames: error {rmse:5.1f}, rms z {z:4.2f}, "
            f"farthest atom at {self.distance.max():.3f} (limit {self.distance_limit:.3f})"
        )


def leave_phase_out(
    gap: GAP, training: Sequence[ase.Atoms], frames: Sequence[ase.Atoms], reference: ase.Atoms
) -> PhaseTransfer:
    """Fit a copy of ``gap`` to ``training`` without the families of ``frames`` and predict those.

    Parameters
    ----------
    gap
        Settings of the model; fitted or not.
    training
        Labelled frames; those with a config_type that occurs among ``frames`` are left out.
    frames
        Labelled frames of the unseen families, periodic along all axes.
    reference
        Labelled frame of another family that energies are relative to (per atom).

    Raises
    ------
    DataError
        Where ``frames`` is empty, a frame names no config_type, the reference is of an unseen family, or nothing is
        left to train on.
    """
    frames = list(frames)
    if not frames:
        raise DataError("there are no frames of an unseen phase; give at least one")
    unnamed = [k for k, a in enumerate(frames) if "config_type" not in a.info]
    if unnamed:
        raise DataError(f"frame {unnamed[0]} has no info['config_type'], which says what to leave out")
    families = tuple(sorted({str(a.info["config_type"]) for a in frames}))
    if str(reference.info.get("config_type")) in families:
        raise DataError(
            f"the reference frame is of the unseen family {reference.info['config_type']!r}: take a known one"
        )
    rest = [a for a in training if str(a.info.get("config_type")) not in families]
    if not rest:
        raise DataError(f"no training frames are left without {', '.join(families)}")
    model = clone(gap).fit(rest)
    latent = model.joint_energies([*frames, reference], include_noise=False)
    joint = model.joint_energies([*frames, reference])
    labels = np.array([a.get_potential_energy() / len(a) for a in (*frames, reference)])
    predicted, std, narrow = [], [], []
    for k, atoms in enumerate(frames):
        c = np.zeros(len(frames) + 1)
        c[k], c[-1] = 1 / len(atoms), -1 / len(reference)
        difference = joint.combination(c)
        predicted.append(difference.value)
        std.append(difference.std)
        narrow.append(latent.combination(c).std)
    report = run_domain(model, rest, frames, DomainSettings(map_environments=0))
    far = [report.least_known(k) for k in range(len(frames))]
    return PhaseTransfer(
        families=families,
        volume=np.array([a.get_volume() / len(a) for a in frames]),
        reference=labels[:-1] - labels[-1],
        predicted=np.array(predicted),
        predicted_std=np.array(std),
        function_std=np.array(narrow),
        distance=report.distance[far],
        distance_limit=report.distance_limit,
        neighbour=tuple(report.nearest_to(k)[2] for k in far),
        trajectory=tuple(str(a.info.get("trajectory", "")) for a in frames),
    )


@dataclass(frozen=True)
class PhasesSettings(Settings):
    """Families that are left out, each with a model of its own.

    Attributes
    ----------
    families : tuple of str
        Config_types among the frames; several that are left out together are joined by ``+``. Empty: each config_type
        of the frames but the reference's, one after another.
    """

    families: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not all(name.strip() for family in self.families for name in family.split("+")):
            raise SettingsError(f"families must be names of config_types, joined by +, not {self.families!r}")


@dataclass(frozen=True)
class PhasesResult:
    """Transfers to phases that were left out.

    Attributes
    ----------
    settings : PhasesSettings
    transfers : tuple of PhaseTransfer
        One for each family (eV/atom, A^3/atom).
    """

    settings: PhasesSettings
    transfers: tuple[PhaseTransfer, ...]

    def __str__(self) -> str:
        head = "energies above the reference frame, of phases left out of the training set"
        return "\n".join([head, *map(str, self.transfers)])


def run_phases(
    gap: GAP,
    training: Sequence[ase.Atoms],
    frames: Sequence[ase.Atoms],
    reference: ase.Atoms,
    settings: PhasesSettings | None = None,
    *,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> PhasesResult:
    """:func:`leave_phase_out` for each family of the settings.

    Parameters
    ----------
    gap, training, frames, reference
        Arguments of :func:`leave_phase_out`; ``frames`` may hold families that are not asked about.
    random_state
        Seed of the fits, in the place of the model's own.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        As :func:`leave_phase_out`.
    """
    s = settings or PhasesSettings()
    known = str(reference.info.get("config_type"))
    named = dict.fromkeys(str(a.info.get("config_type")) for a in frames)
    families = s.families or tuple(name for name in named if name != known)
    model = gap if random_state is None else clone(gap).set_params(random_state=seed_of(random_state))
    transfers = []
    for family in progress_bar(families, desc="left out", unit="fit", show=progress):
        names = {name.strip() for name in family.split("+")}
        chosen = [a for a in frames if str(a.info.get("config_type")) in names]
        transfers.append(leave_phase_out(model, training, chosen, reference))
    return PhasesResult(s, tuple(transfers))
