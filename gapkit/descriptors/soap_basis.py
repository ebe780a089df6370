"""The tables of a SOAP descriptor, and the layout of its feature vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import ase.data
import numpy as np

from gapkit.exceptions import SpeciesError
from gapkit.numerics import harmonics, radial

#: grid points of the radial table; interpolation error below 1e-10 of the largest value (tests/numerics/test_radial.py)
TABLE_POINTS = 1500
#: by which slopes of a radial table may differ from those of its values, in units of the largest value, for cutoffs up
#: to ``USUAL`` (A); with the sixth power of the cutoff beyond
SLOPES_AGREE, USUAL = 1e-8, 12.0


@dataclass(frozen=True)
class SoapBasis:
    """Tables that compiled functions need, made once per setting and set of species.

    Attributes
    ----------
    species : tuple of int
        Atomic numbers in ascending order.
    table : (k,) float
        Radial table (``gapkit.numerics.radial.hermite_table``), with the centre's f_n0(0) Y_00 in ``centre``.
    blocks : (b, 4) int
        Power-spectrum blocks (channel a, channel b, symmetric, first feature).
    feature_scale : (f,)
        dscribe's prefactor pi sqrt(8 / (2 l + 1)) of each feature.
    multiplicity : (f,)
        Square root of how often each feature stands in the full power spectrum: the factor that turns the plain dot
        product of dscribe's vectors into the SOAP kernel.
    """

    species: tuple[int, ...]
    table: np.ndarray
    inverse_spacing: float
    centre: np.ndarray
    n_max: int
    l_max: int
    n_pad: int
    n_channels: int
    summed: int
    merged: bool
    blocks: np.ndarray
    feature_scale: np.ndarray
    multiplicity: np.ndarray

    @property
    def n_features(self) -> int:
        return len(self.feature_scale)

    @cached_property
    def compiled_arrays(self) -> tuple:
        """The tuple that ``gapkit.numerics.soap_frames`` unpacks."""
        return (
            (
                radial.in_octets(self.table, self.l_max + 1, self.n_pad),
                self.inverse_spacing,
                harmonics.recursion(self.l_max),
            ),
            self.centre,
            self.l_max,
            self.n_max,
            self.n_pad // 8,
            self.n_channels,
            self.summed,
            harmonics.ladder(self.l_max),
        )

    @cached_property
    def padded_scale(self) -> np.ndarray:
        """Prefactor times multiplicity of each feature, and eight zeros behind."""
        return np.append(self.feature_scale * self.multiplicity, np.zeros(8))

    @cached_property
    def _channels(self) -> np.ndarray:
        """Density channel by atomic number; -1 for those that are not known."""
        lookup = np.full(256, -1)
        lookup[list(self.species)] = 0 if self.merged else np.arange(len(self.species))
        return lookup

    def channel_of(self, numbers: np.ndarray) -> np.ndarray:
        """Density channel of each atomic number; :class:`SpeciesError` for one that is not known."""
        channel = self._channels[numbers]
        if channel.min(initial=0) < 0:
            unknown = sorted({ase.data.chemical_symbols[z] for z in np.unique(numbers[channel < 0])})
            known = ", ".join(ase.data.chemical_symbols[z] for z in self.species)
            raise SpeciesError(
                f"species {', '.join(unknown)} not among those of the descriptor ({known}); "
                "fit on frames that hold every species"
            )
        return channel


def check_radial_table(table: np.ndarray, centre: np.ndarray, n_max: int, r_cut: float) -> None:
    """Raise ValueError where a radial table contradicts itself.

    Slopes are those of the values, by Simpson's rule over two intervals; values and slopes end at zero; beyond
    ``n_max`` all is zero; and the ``centre``'s own density is that at distance zero.

    Parameters
    ----------
    table : (k, l_max + 1, 2, n_pad)
        Values, and slopes times the spacing.
    centre : (n_pad,)
    """
    value, slope = table[:, :, 0], table[:, :, 1]
    allowed = SLOPES_AGREE * max(1.0, r_cut / USUAL) ** 6 * np.abs(value).max(axis=0)
    with np.errstate(all="ignore"):
        rise = value[2:] - value[:-2]
        simpson = (slope[:-2] + 4 * slope[1:-1] + slope[2:]) / 3
        agrees = np.all(np.abs(rise - simpson) <= allowed)
    ends = np.all(np.abs(table[-1]) <= allowed[:, None])
    middle = np.allclose(centre, value[0, 0] * math.sqrt(1 / (4 * math.pi)), rtol=1e-12, atol=0)
    if not (agrees and ends and middle) or table[..., n_max:].any():
        raise ValueError("the radial table is none of smooth functions that end at the cutoff")


def power_spectrum_blocks(n_species: int, n_max: int, l_max: int, compression: str):
    """Blocks, prefactor and multiplicity of the feature vector, in dscribe's order.

    Multiplicity: the full sum over species and n, n' visits a feature with (a, n) different from (b, n') twice where
    only one of the two orders is kept (``off``: n < n' or a < b; ``mu2``: n < n'), and once where both are
    (``mu1nu1`` keeps every (species, n, n')).
    """
    summed = n_species
    if compression == "off":
        pairs = [(a, b, a == b) for a in range(n_species) for b in range(a, n_species)]
    elif compression == "mu1nu1":
        pairs = [(a, summed, False) for a in range(n_species)]
    else:
        pairs = [(0, 0, True)]
    blocks: list[tuple[int, int, int, int]] = []
    prefactor: list[float] = []
    multiplicity: list[float] = []
    for a, b, symmetric in pairs:
        blocks.append((a, b, int(symmetric), len(prefactor)))
        for l in range(l_max + 1):
            for n in range(n_max):
                for n2 in range(n if symmetric else 0, n_max):
                    prefactor.append(math.pi * math.sqrt(8 / (2 * l + 1)))
                    single = n == n2 if symmetric else compression == "mu1nu1"
                    multiplicity.append(1.0 if single else math.sqrt(2.0))
    return np.array(blocks, dtype=np.int64), np.array(prefactor), np.array(multiplicity)
