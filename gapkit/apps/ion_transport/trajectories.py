"""Paths of ions through periodic cells: unwrapped positions, checked, relative to a chosen frame of reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.data import atomic_numbers
from ase.geometry import minkowski_reduce
from ase.geometry.geometry import general_find_mic

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.recording import ReplicaRecords

#: frames of reference of displacements
REFERENCES = ("auto", "centre_of_mass", "framework", "none")
#: largest step between two frames, in units of half the shortest lattice vector, where images become alike
LARGEST_STEP = 0.7


@dataclass(frozen=True)
class IonTrajectory:
    """Positions of all atoms of one or more independent runs at even times.

    Attributes
    ----------
    positions : (R, T, n, 3) A
        Unwrapped: without jumps at the faces of the cell.
    numbers : (n,)
        Atomic numbers.
    masses : (n,) u
    cell : (3, 3) A
    frame_time : float, fs
        Time between two frames.
    """

    positions: np.ndarray
    numbers: np.ndarray
    masses: np.ndarray
    cell: np.ndarray
    frame_time: float

    def __post_init__(self) -> None:
        x = self.positions
        if x.ndim != 4 or x.shape[3] != 3 or x.shape[2] != len(self.numbers) or len(self.masses) != len(self.numbers):
            raise DataError(
                f"positions must have the shape (runs, frames, {len(self.numbers)}, 3), with a mass for each atom, not "
                f"{x.shape}"
            )
        if not np.isfinite(x).all():
            raise DataError(f"run {np.argwhere(~np.isfinite(x))[0][0]}: a position is not finite")
        if not 0 < self.frame_time < np.inf:
            raise SettingsError(f"frame_time must be positive and finite (fs), not {self.frame_time}")

    @classmethod
    def from_frames(
        cls, runs: Sequence[ase.Atoms] | Sequence[Sequence[ase.Atoms]], frame_time: float, wrapped: bool = True
    ) -> IonTrajectory:
        """Trajectory of the frames of one run, or of several runs.

        Parameters
        ----------
        runs
            Frames of one run, or a list of them for each run; atoms, cell and number of frames are the same.
        frame_time
            Time between two frames (fs).
        wrapped
            Whether atoms may jump to a periodic image between frames; each step is then the shortest one.

        Raises
        ------
        DataError
            For frames that differ in atoms or cell, with the frame's number; for an atom that moves so far between two
            frames that its periodic images cannot be told apart.
        """
        if not len(runs):
            raise DataError("no frames: a trajectory needs at least two")
        several: Sequence[Sequence[ase.Atoms]] = [runs] if isinstance(runs[0], ase.Atoms) else runs  # type: ignore
        first = several[0][0]
        for r, run in enumerate(several):
            if len(run) != len(several[0]):
                raise DataError(
                    f"run {r} has {len(run)} frames and run 0 has {len(several[0])}: cut them to one length"
                )
            for k, frame in enumerate(run):
                if len(frame) != len(first) or (frame.numbers != first.numbers).any():
                    raise DataError(f"run {r}, frame {k}: its atoms are not those of the first frame, in their order")
                if not np.allclose(frame.cell[:], first.cell[:], rtol=0, atol=1e-6):
                    raise DataError(
                        f"run {r}, frame {k}: its cell is not that of the first frame; give a run of constant volume"
                    )
        x = np.array([[frame.positions for frame in run] for run in several])
        if wrapped:
            x = np.array([unwrapped(run, first.cell[:], first.pbc) for run in x])
        return cls(x, first.numbers.copy(), first.get_masses(), first.cell[:].copy(), float(frame_time))

    @classmethod
    def from_records(cls, records: ReplicaRecords) -> IonTrajectory:
        """Trajectory of the records of replicas, whose positions carry no jumps.

        Raises
        ------
        DataError
            For fewer than two records.
        """
        if len(records) < 2:
            raise DataError(f"{records.path}: {len(records)} records make no trajectory; at least two are needed")
        x, header = np.ascontiguousarray(np.swapaxes(records.positions, 0, 1)), records.header
        numbers, masses, cell = (np.array(header[key]) for key in ("numbers", "masses", "cell"))
        return cls(x, numbers, masses, cell, float(records.time[1] - records.time[0]))

    @property
    def volume(self) -> float:
        """Volume of the cell (A^3)."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def time(self) -> float:
        """Length of one run (fs)."""
        return (self.positions.shape[1] - 1) * self.frame_time

    def after(self, time: float) -> IonTrajectory:
        """Trajectory without the first ``time`` (fs).

        Raises
        ------
        SettingsError
            Where fewer than two frames are left.
        """
        first = int(np.ceil(time / self.frame_time - 1e-9))
        if first < 0 or self.positions.shape[1] - first < 2:
            raise SettingsError(f"leaving out {time:g} fs of {self.time:g} fs leaves no trajectory: take a longer run")
        return IonTrajectory(self.positions[:, first:], self.numbers, self.masses, self.cell, self.frame_time)

    def ions(self, species: str, reference: str = "auto") -> np.ndarray:
        """Positions (R, T, k, 3) of the atoms of one species (A), relative to a frame of reference.

        Parameters
        ----------
        species
            Chemical symbol.
        reference
            ``framework``: the centre of mass of all other atoms is held. The sum of displacements is the charge that
            was carried only in this frame, or in any frame if the framework's charge is counted too.
            ``centre_of_mass``: the centre of mass of all atoms is held, which moves under a thermostat. Where all k
            atoms are of the species and independent, their diffusion constant becomes smaller by the factor 1 - 1/k.
            ``none``: positions as they are. ``auto``: the framework where there is one, else the centre of mass.

        Raises
        ------
        DataError
            Where no atom is of the species; where no other atoms make a framework.
        SettingsError
            For another reference.
        """
        if reference not in REFERENCES:
            raise SettingsError(f"reference must be one of {', '.join(REFERENCES)}, not {reference!r}")
        of_species = self.numbers == atomic_numbers.get(species, -1)
        if not of_species.any():
            raise DataError(f"no atom is of the species {species!r}")
        if reference == "auto":
            reference = "centre_of_mass" if of_species.all() else "framework"
        if reference == "none":
            return self.positions[:, :, of_species]
        weights = self.masses * ~of_species if reference == "framework" else self.masses
        if not weights.any():
            raise DataError(f"all atoms are {species}: no framework; give the reference 'centre_of_mass' or 'none'")
        centre = np.einsum("n,rtnc->rtc", weights / weights.sum(), self.positions)
        return self.positions[:, :, of_species] - centre[:, :, None, :]


def unwrapped(positions: np.ndarray, cell: np.ndarray, pbc: Sequence[bool] | np.ndarray = (True,) * 3) -> np.ndarray:
    """Positions (T, n, 3) without jumps at the faces of a cell: each step is the shortest of its periodic images.

    Raises
    ------
    DataError
        For a step of more than 0.7 of half the shortest vector of the lattice: steps beyond half of that vector cannot
        be told from shorter ones of an image.

    Examples
    --------
    >>> x = np.array([[[9.5, 0, 0]], [[0.5, 0, 0]], [[1.5, 0, 0]]])
    >>> unwrapped(x, 10 * np.eye(3))[:, 0, 0].tolist()
    [9.5, 10.5, 11.5]
    """
    pbc = np.asarray(pbc, dtype=bool)
    positions = np.asarray(positions, dtype=float)
    if not pbc.any() or len(positions) < 2:
        return positions.copy()
    steps = np.diff(positions, axis=0)
    complete = ase.Atoms(cell=cell, pbc=pbc).cell.complete()
    reduced, _ = minkowski_reduce(complete, pbc)
    shortest, _ = general_find_mic(steps.reshape(-1, 3), complete, pbc)
    plane, _ = np.linalg.qr(complete[pbc].T)  # steps along other directions have no images
    lengths = np.linalg.norm(shortest @ plane, axis=1).reshape(steps.shape[:2])
    largest = LARGEST_STEP * float(np.linalg.norm(reduced[pbc], axis=1).min()) / 2
    if lengths.max() > largest:
        frame, atom = np.unravel_index(lengths.argmax(), lengths.shape)
        raise DataError(
            f"frame {frame + 1}, atom {atom}: it moved {lengths.max():.2f} A since the frame before, more than the "
            f"{largest:.2f} A at which periodic images of this cell are told apart safely; record frames more often"
        )
    return np.concatenate([positions[:1], positions[:1] + np.cumsum(shortest.reshape(steps.shape), axis=0)])
