"""Sources of candidates: a pool, a generator of frames, or dynamics with the current model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import ase
import numpy as np
from ase.md.velocitydistribution import Stationary, thermalize_momenta

from gapkit.estimators.gap import GAP
from gapkit.exceptions import GapkitError, OutOfDomainWarning, SettingsError
from gapkit.generation.frames import fresh
from gapkit.sampling.dynamics import langevin


class Explorer(Protocol):
    """Candidate frames for the current model; ``rng`` alone decides what is random."""

    def __call__(self, gap: GAP, rng: np.random.Generator) -> list[ase.Atoms]: ...


@dataclass(frozen=True)
class PoolExplorer:
    """All frames of a fixed pool; the loop leaves out those that are labelled."""

    frames: Sequence[ase.Atoms]

    def __call__(self, gap: GAP, rng: np.random.Generator) -> list[ase.Atoms]:
        return list(self.frames)


@dataclass(frozen=True)
class GeneratorExplorer:
    """First ``n`` frames of a generator, which is created again for each generation.

    ``make(gap, rng)`` returns an iterable of frames, such as those of ``gapkit.generation``.
    """

    make: Callable[[GAP, np.random.Generator], Iterable[ase.Atoms]]
    n: int = 100

    def __call__(self, gap: GAP, rng: np.random.Generator) -> list[ase.Atoms]:
        return list(islice(self.make(gap, rng), self.n))


@dataclass(frozen=True)
class DynamicsExplorer:
    """Langevin dynamics with the current model from each of the starting frames, stopped at large uncertainty.

    Attributes
    ----------
    starts
        Starting frames.
    temperature
        K.
    steps
        Longest run.
    timestep
        fs.
    every
        Steps between candidates.
    stop_factor
        A run ends, with a last candidate, when it is out of the domain by this factor (``gapkit.potential.domain``) ...
    stop_std
        ... or the standard deviation of a local energy passes this many eV. Give it for a model of few frames, whose
        domain is wide and whose predictions in it are poor.
    """

    starts: Sequence[ase.Atoms]
    temperature: float
    steps: int = 500
    timestep: float = 1.0
    every: int = 10
    stop_factor: float = 2.0
    stop_std: float = float("inf")

    def __post_init__(self) -> None:
        numbers = {n: getattr(self, n) for n in ("temperature", "steps", "timestep", "every", "stop_factor")}
        for name, value in numbers.items():
            if not 0 < value < np.inf:
                raise SettingsError(f"{name} of an explorer must be positive and finite, not {value!r}")
        if not self.stop_std > 0:
            raise SettingsError(f"stop_std of an explorer must be positive (eV), not {self.stop_std!r}")
        if not len(self.starts):
            raise SettingsError("an explorer needs at least one starting frame")

    def __call__(self, gap: GAP, rng: np.random.Generator) -> list[ase.Atoms]:
        return [frame for k, start in enumerate(self.starts) for frame in self._run(gap, start, k, rng)]

    def _run(self, gap: GAP, start: ase.Atoms, number: int, rng: np.random.Generator) -> list[ase.Atoms]:
        moving = fresh(start, "dynamics", f"dynamics-{number}-{int(rng.integers(2**31))}")
        moving.calc = gap.calculator(uncertainty="local", include_noise=False)
        thermalize_momenta(moving, self.temperature, rng=rng)
        Stationary(moving)
        dynamics = langevin(moving, self.temperature, self.timestep, rng)
        frames: list[ase.Atoms] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutOfDomainWarning)  # leaving the domain is what this run is for
            for _ in range(0, self.steps, self.every):
                try:
                    dynamics.run(self.every)
                    worst = float(np.max(moving.calc.results["energies_std"]))
                    excess = moving.calc.results["domain_excess"]
                except (GapkitError, ArithmeticError, KeyError):
                    break  # the model's atoms fell into each other: what came before is of use
                frames.append(fresh(moving, "dynamics", moving.info["trajectory"]))
                if excess > self.stop_factor or worst > self.stop_std:
                    break
        return frames
