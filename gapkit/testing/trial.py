"""Frames, channels, probes and comparisons that all checks of a descriptor share."""

from __future__ import annotations

from dataclasses import dataclass, field

import ase
import numpy as np

from gapkit.descriptors import Descriptor, EnvironmentBatch
from gapkit.descriptors.base import Channel
from gapkit.structures.structure import Structure
from gapkit.testing.frames import channel_name, frame_name
from gapkit.testing.probes import AtomSums, Probes
from gapkit.testing.report import Checks

#: probes of each channel
N_PROBES = 4


@dataclass(frozen=True)
class Trial:
    """Descriptor under test, with frames, channels and tolerances.

    Attributes
    ----------
    given : Descriptor
        The descriptor as the user gave it.
    descriptor : Descriptor
        The descriptor for the species of the frames.
    frames : tuple of ase.Atoms
    names : tuple of str
        Names of the frames in messages.
    checks : Checks
    tolerance : float
        Difference allowed from finite differences, in units of the largest number of its kind; numbers that should be
        the same but for rounding may differ by a thousandth of it.
    rng : numpy.random.Generator
    """

    given: Descriptor
    descriptor: Descriptor
    frames: tuple[ase.Atoms, ...]
    names: tuple[str, ...]
    checks: Checks
    tolerance: float
    rng: np.random.Generator
    _probes: dict[Channel, Probes] = field(default_factory=dict)
    _features: dict[Channel, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        descriptor: Descriptor,
        frames: dict[str, ase.Atoms] | list[ase.Atoms],
        tolerance: float,
        rng: np.random.Generator,
    ) -> Trial:
        """Trial on frames with names of their own, or without."""
        named = frames.items() if isinstance(frames, dict) else ((None, atoms) for atoms in frames)
        names = tuple(frame_name(k, atoms, name) for k, (name, atoms) in enumerate(named))
        plain = tuple(
            ase.Atoms(a.numbers, a.positions, cell=a.cell, pbc=a.pbc)
            for a in (frames.values() if isinstance(frames, dict) else frames)
        )
        species = sorted({int(z) for atoms in plain for z in atoms.numbers})
        checks = Checks(type(descriptor).__name__)
        return cls(descriptor, descriptor.for_species(species), plain, names, checks, tolerance, rng)

    @property
    def equal(self) -> float:
        """Difference allowed between numbers that should be the same but for rounding."""
        return 1e-3 * self.tolerance

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels of the descriptor."""
        return self.descriptor.channels

    @property
    def species(self) -> list[int]:
        """Atomic numbers of the frames."""
        return sorted({int(z) for atoms in self.frames for z in atoms.numbers})

    def structure(self, atoms: ase.Atoms) -> Structure:
        """The frame with its pair list."""
        return Structure(atoms, self.descriptor.r_cut)

    def batch(self, atoms: ase.Atoms, channel: Channel, derivatives: bool = True) -> EnvironmentBatch:
        """Environments of a frame."""
        return self.descriptor.environments(self.structure(atoms), channel, derivatives)

    def features(self, channel: Channel) -> np.ndarray:
        """Features (e, f) of the environments of all frames."""
        if channel not in self._features:
            self._features[channel] = np.vstack([self.batch(a, channel, False).x for a in self.frames])
        return self._features[channel]

    def probes(self, channel: Channel) -> Probes:
        """The channel's probes."""
        if channel not in self._probes:
            self._probes[channel] = Probes.of(self.features(channel), N_PROBES, self.rng)
        return self._probes[channel]

    def sums(self, structure: Structure, channel: Channel) -> AtomSums:
        """Sums of the channel's probes over the environments of a structure."""
        batch = self.descriptor.environments(structure, channel)
        return self.probes(channel)(batch, structure.n_atoms)

    def same_sums(self, check: str, got: AtomSums, expected: AtomSums, context: str, remedy: str) -> None:
        """Ask that sums over environments, and their derivatives, are the same but for rounding."""
        unit = float(np.abs(expected.value).max(initial=0.0))
        for part, scale, name in (
            ("value", unit, "the sum over its environments"),
            ("gradient", unit / self.descriptor.r_cut, "the derivative by its position"),
            ("strain", unit, "the strain derivative of its environments"),
        ):
            self.checks.close(
                check,
                getattr(got, part),
                getattr(expected, part),
                self.equal,
                lambda k, name=name: f"{context}, atom {k[0]}, {name}",  # type: ignore[misc]
                remedy,
                scale,
            )

    def each(self):
        """Name, frame, channel and the channel's name, of all frames and channels."""
        for name, atoms in zip(self.names, self.frames, strict=True):
            for channel in self.channels:
                yield f"{name}, {channel_name(channel)}", atoms, channel
