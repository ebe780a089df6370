"""Neighbour shells of training frames, and cutoffs that do not touch them.

The weight of a neighbour falls to zero at the cutoff, so that a shell of a crystal that lies there is hardly seen.
Models of such cutoffs gave the worst prefactors of vacancy hops among those compared, though not every cutoff between
shells gave a good one (docs/howto/terms.md). In frames without order the density of neighbours has no gaps, and cutoffs
stay.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.exceptions import GapkitWarning
from gapkit.models.terms import Term
from gapkit.structures.neighbours import neighbours

#: standard deviation (A) of the Gaussian that smooths distances, and spacing (A) of the cutoffs that are looked at
SMOOTH, SPACING = 0.1, 0.1
#: half width (A) of the window about a cutoff that decides whether there is order, and farthest move of a cutoff
WINDOW, FARTHEST = 0.6, 0.5
#: how far beyond a cutoff (A) distances must be known
REACH = WINDOW + 6 * SMOOTH
#: density of a gap and of a shell, relative to the mean density of the window
GAP, SHELL = 0.5, 1.2
#: decimals of the logarithm of the density that are compared: equally good cutoffs are not told apart by rounding
DECIMALS = 6
#: frames that shells are looked for in, at most
MOST_FRAMES = 60


@dataclass(frozen=True)
class Shells:
    """Distances of neighbours in frames.

    Attributes
    ----------
    distances : (p,) A
        Sorted distances of all pairs.

    Examples
    --------
    >>> from ase.build import bulk
    >>> shells = Shells.of([bulk("Cu", a=3.6)], 7.0)
    >>> shells.touched_by(4.4), shells.touched_by(4.8)
    (True, False)
    >>> round(shells.away_from(4.4), 2)
    4.8
    """

    distances: np.ndarray

    @classmethod
    def of(cls, frames: Sequence[ase.Atoms], r_cut: float) -> Shells:
        """Shells of the periodic ones of these frames out to ``r_cut`` (A); of a sample where there are many."""
        periodic = [atoms for atoms in frames if atoms.pbc.any()]
        sample = periodic[:: max(1, -(-len(periodic) // MOST_FRAMES))]
        found = [neighbours(atoms, r_cut).distances for atoms in sample]
        return cls(np.sort(np.concatenate(found)) if found else np.zeros(0))

    def density(self, r: np.ndarray) -> np.ndarray:
        """Smoothed number of neighbours per volume (g,) at distances ``r`` (g,; A), in arbitrary units."""
        low, high = np.searchsorted(self.distances, [r.min() - 6 * SMOOTH, r.max() + 6 * SMOOTH])
        away = (r[:, None] - self.distances[None, low:high]) / SMOOTH
        return np.exp(-0.5 * away**2).sum(axis=1) / r**2

    def touched_by(self, r_cut: float) -> bool:
        """Whether a cutoff (A) lies in a shell, with a gap beside it."""
        window = self._window(r_cut)
        density = self.density(window)
        mean = density.mean()
        return bool(mean > 0 and density.min() < GAP * mean and self._at(r_cut) > SHELL * mean)

    def away_from(self, r_cut: float) -> float:
        """The nearest cutoff (A) in a gap between shells, a multiple of ``SPACING``; ``r_cut`` where there is no gap.

        Of two gaps equally near it is the farther one, which loses no neighbours.
        """
        window = self._window(r_cut)
        density = self.density(window)
        mean = density.mean()
        if not mean > 0:
            return float(r_cut)
        depth = np.round(np.log(np.maximum(density / mean, 1e-300)), DECIMALS)
        inner = depth[1:-1]
        least = (inner <= depth[:-2]) & (inner < depth[2:]) & (inner < np.log(GAP))
        gaps = window[1:-1][least]
        gaps = gaps[np.abs(gaps - r_cut) <= FARTHEST]
        if not len(gaps):
            return float(r_cut)
        return float(gaps[np.argmin(np.round(np.abs(gaps - r_cut) - 1e-3 * (gaps > r_cut), DECIMALS))])

    def shell_at(self, r_cut: float) -> float:
        """Distance (A) of the densest place within 0.3 A of a cutoff."""
        window = self._window(r_cut)
        near = window[np.abs(window - r_cut) <= 0.3]
        return float(near[np.argmax(self.density(near))])

    def _at(self, r: float) -> float:
        return float(self.density(np.array([r]))[0])

    @staticmethod
    def _window(r_cut: float) -> np.ndarray:
        """Multiples of ``SPACING`` within ``WINDOW`` of a cutoff."""
        first, last = np.ceil((r_cut - WINDOW) / SPACING), np.floor((r_cut + WINDOW) / SPACING)
        return np.round(np.arange(first, last + 1) * SPACING, 2)


def warn_of_touched_shells(terms: Sequence[Term], frames: Sequence[ase.Atoms]) -> None:
    """Warn of many-body terms whose cutoff touches a neighbour shell of the frames.

    Warns
    -----
    GapkitWarning
        With the shell, and a cutoff that does not touch one.
    """
    for k, term in enumerate(terms):
        if not term.descriptor.of_atoms:
            continue
        r_cut = float(term.descriptor.r_cut)
        shells = Shells.of(frames, r_cut + REACH)
        better = shells.away_from(r_cut)
        if shells.touched_by(r_cut) and better != r_cut:
            warnings.warn(
                f"the cutoff {r_cut:g} A of term {k} ({type(term.descriptor).__name__}) touches the neighbour shell at "
                f"about {shells.shell_at(r_cut):.2f} A of the training frames, which may spoil force constants more "
                f"than errors of forces show; {better:g} A lies between two shells",
                GapkitWarning,
                stacklevel=2,
            )
