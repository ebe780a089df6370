"""Hops of a vacancy counted in dynamics: atoms assigned to the sites of a crystal, recrossings taken out."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.geometry import minkowski_reduce
from scipy.optimize import linear_sum_assignment

from gapkit.apps.ion_transport.trajectories import IonTrajectory
from gapkit.exceptions import DataError, SettingsError

#: an atom has arrived at a site within this share of the distance between neighbouring sites
CORE = 0.35

#: rounds in which sites are assigned to the first frame, each less the drift found by the one before
ALIGNMENTS = 5


@dataclass(frozen=True)
class HopCounts:
    """Number of hops of one vacancy in independent runs.

    Attributes
    ----------
    hops : (R,) int
        Hops after which the atom stayed for the dwell time.
    recrossings : (R,) int
        Arrivals that the same atom took back within the dwell time, there and back counted as one.
    time : float, fs
        Length of one run.
    """

    hops: np.ndarray
    recrossings: np.ndarray
    time: float

    @property
    def rate(self) -> float:
        """Hops of the vacancy in a second."""
        return float(self.hops.sum() / (len(self.hops) * self.time) * 1e15)

    @property
    def rate_std(self) -> float:
        """Standard deviation of the rate (1/s) by Poisson's law; of no hop, that of one."""
        return float(np.sqrt(max(self.hops.sum(), 1)) / (len(self.hops) * self.time) * 1e15)

    def __str__(self) -> str:
        return (
            f"{self.hops.sum()} hops and {self.recrossings.sum()} recrossings in {len(self.hops)} runs of "
            f"{self.time / 1e3:g} ps: {self.rate:.3g} +- {self.rate_std:.2g} 1/s"
        )


def count_hops(trajectory: IonTrajectory, crystal: ase.Atoms, dwell: float = 300.0) -> HopCounts:
    """Count the hops of one vacancy.

    Each atom belongs to a site, which it keeps until it has come near the vacant one: that makes vibrations about the
    saddle no hops. A hop that the same atom takes back within ``dwell`` is a recrossing. The crystal may drift.

    Parameters
    ----------
    trajectory
        Runs of a crystal without one of its atoms; frames at most a vibration apart.
    crystal
        The perfect crystal, whose atoms are the sites.
    dwell
        Time (fs) that an atom must stay: above the time in which it loses the energy that brought it over the barrier,
        and far below that between two hops.

    Raises
    ------
    DataError
        For another number of atoms or another cell; where the first frame lies apart from the sites.
    SettingsError
        For a dwell time that is negative or not finite.
    """
    if not 0 <= dwell < np.inf:
        raise SettingsError(f"dwell must be finite and not negative (fs), not {dwell}")
    n = len(trajectory.numbers)
    if len(crystal) != n + 1:
        raise DataError(f"{n} atoms on {len(crystal)} sites: one vacancy leaves {len(crystal) - 1} atoms")
    if not np.allclose(crystal.cell[:], trajectory.cell, rtol=0, atol=1e-6):
        raise DataError("the crystal's cell is not that of the trajectory")
    sites = np.asarray(crystal.positions)
    reach = CORE * float(np.sort(crystal.get_distances(0, range(len(crystal)), mic=True))[1])
    cell = np.asarray(minkowski_reduce(trajectory.cell, True)[0])
    kept, lost = [], []
    for r, run in enumerate(trajectory.positions):
        events = _arrivals(run, sites, cell, reach, r)
        good = _lasting(events, dwell / trajectory.frame_time)
        kept.append(good)
        lost.append((len(events) - good) // 2)
    return HopCounts(np.array(kept), np.array(lost), trajectory.time)


def _shortest(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Shortest periodic images (..., 3) of vectors that have one within half of the reduced cell's heights."""
    return vectors - np.round(vectors @ np.linalg.inv(cell)) @ cell


def _arrivals(run: np.ndarray, sites: np.ndarray, cell: np.ndarray, reach: float, r: int) -> list[tuple[int, int]]:
    """Frame and atom of each arrival at the vacant site."""
    home, drift = _homes(run[0], sites, cell, reach, r)
    (vacant,) = set(range(len(sites))) - set(home.tolist())
    events = []
    for t, x in enumerate(run):
        drift = drift + _shortest(x - sites[home] - drift, cell).mean(axis=0)
        distance = np.linalg.norm(_shortest(x - sites[vacant] - drift, cell), axis=1)
        nearest = int(distance.argmin())
        if distance[nearest] < reach:
            home[nearest], vacant = vacant, home[nearest]
            events.append((t, nearest))
    return events


def _homes(x: np.ndarray, sites: np.ndarray, cell: np.ndarray, reach: float, r: int) -> tuple[np.ndarray, np.ndarray]:
    """Site of each atom, no two on one, by the least sum of squared distances; and the drift of the crystal (3,).

    Dynamics with a thermostat moves the whole crystal, by an angstrom within a picosecond where atoms are few.
    """
    drift = np.zeros(3)
    for _ in range(ALIGNMENTS):
        apart = np.linalg.norm(_shortest((x - drift)[:, None] - sites[None], cell), axis=2)
        home = linear_sum_assignment(apart**2)[1]
        drift = drift + _shortest(x - drift - sites[home], cell).mean(axis=0)
    typical = float(np.median(np.linalg.norm(_shortest(x - drift - sites[home], cell), axis=1)))
    if typical > reach:
        raise DataError(
            f"run {r}: atoms of the first frame are {typical:.2f} A from their sites: move the crystal onto them, or "
            "begin with a frame nearer to the start"
        )
    return home, drift


def _lasting(events: list[tuple[int, int]], dwell: float) -> int:
    """Number of arrivals that are not taken back within ``dwell`` frames."""
    kept: list[tuple[int, int]] = []
    for t, atom in events:
        if kept and kept[-1][1] == atom and t - kept[-1][0] < dwell:
            kept.pop()
        else:
            kept.append((t, atom))
    return len(kept)
