"""Replicas in motion: settings, states, and steps that draw each replica's random numbers from its own stream."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase import units

from gapkit.exceptions import NumericsError, SettingsError
from gapkit.sampling.batches import batch_forces
from gapkit.sampling.dynamics import FRICTION, check_run
from gapkit.sampling.integrators import baoab_step, thermal_velocities, thermostat, velocity_verlet_step
from gapkit.sampling.starts import fixed_coordinates
from gapkit.settings import Settings

#: settings that a resumed run may change: they do not change its trajectory
_FREE = ("steps", "checkpoint_every", "n_replicas")


@dataclass(frozen=True)
class ReplicaSettings(Settings):
    """Settings of the molecular dynamics of replicas.

    Attributes
    ----------
    ensemble : str
        ``nve``: velocity Verlet; ``nvt``: Langevin dynamics, by the splitting BAOAB.
    temperature : float, K
        Temperature of the thermostat, and of velocities that are drawn.
    timestep : float, fs
    friction : float, 1/fs
        Friction of the thermostat.
    steps : int
        Number of steps.
    draw_velocities : bool
        Whether velocities are drawn from the Maxwell-Boltzmann distribution; otherwise they are those of the frames.
    n_replicas : int or None
        Number of copies of a single frame; None: as many replicas as frames.
    first_replica : int
        Number of the first replica, which chooses the random streams: runs of replicas 0 to 49 and of 50 to 99, on two
        machines, are one run of 100.
    record_every : int
        Steps between records; step 0 is one.
    record_velocities : bool
        Whether records hold velocities too.
    checkpoint_every : int
        Steps between checkpoints; a run that was killed repeats the steps after the last one.
    """

    ensemble: str = "nvt"
    temperature: float = 300.0
    timestep: float = 1.0
    friction: float = FRICTION
    steps: int = 1000
    draw_velocities: bool = True
    n_replicas: int | None = None
    first_replica: int = 0
    record_every: int = 10
    record_velocities: bool = False
    checkpoint_every: int = 1000

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        check_run(self.steps, self.timestep, self.temperature)
        if self.ensemble not in ("nve", "nvt"):
            raise SettingsError(f"ensemble must be 'nve' or 'nvt', not {self.ensemble!r}")
        if not 0 <= self.friction < np.inf:
            raise SettingsError(f"friction must be finite and not negative (1/fs), not {self.friction}")
        if self.first_replica < 0:
            raise SettingsError(f"first_replica must not be negative, not {self.first_replica}")
        for name in ("n_replicas", "record_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True)
class ReplicaState:
    """Replicas after a step; the arrays are read-only, and later steps have others.

    Attributes
    ----------
    step : int
    positions : (R, n, 3) A
    velocities : (R, n, 3)
        In ASE's unit (``atoms.set_velocities`` takes it); A/fs times ``ase.units.fs``.
    energies : (R,) eV
        Potential energies.
    forces : (R, n, 3) eV/A
    """

    step: int
    positions: np.ndarray
    velocities: np.ndarray
    energies: np.ndarray
    forces: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.positions, self.velocities, self.energies, self.forces):
            array.flags.writeable = False


class Motion:
    """Replicas in motion: the constants of a run, and the random streams."""

    def __init__(self, starts: list[ase.Atoms], calculator: Any, settings: ReplicaSettings, fixed: Any) -> None:
        self.settings = settings
        self.atoms = starts[0].copy()
        self.held = fixed_coordinates(starts[0], fixed)
        self.n_free = int((~self.held).sum())
        if not self.n_free:
            raise SettingsError("all coordinates are fixed: nothing can move; fix fewer")
        self.masses = self.atoms.get_masses()
        self.inverse_masses = np.where(self.held, 0.0, 1 / self.masses[:, None])
        given = callable(calculator) and not hasattr(calculator, "get_potential_energy")
        self.forces = calculator if given else batch_forces(starts[0], calculator)
        self.x0 = np.array([a.positions for a in starts])
        self.v0 = np.array([a.get_velocities() for a in starts])
        self.v0[:, self.held] = 0.0
        self.dt, self.kT = settings.timestep * units.fs, settings.temperature * units.kB
        self.damping, self.noise_std = thermostat(self.dt, settings.friction / units.fs, self.kT, self.inverse_masses)
        self.normals = np.empty(self.x0.shape)

    def evaluate(self, positions: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Energies and forces in arrays of their own, as they should be."""
        try:
            energies, forces = self.forces(positions)
        except NumericsError as error:
            raise NumericsError(f"step {step}: {error}") from error
        energies, forces = np.array(energies, dtype=float), np.array(forces, dtype=float)
        if energies.shape != positions.shape[:1] or forces.shape != positions.shape:
            raise SettingsError(
                f"forces of positions {positions.shape} must be energies {positions.shape[:1]} and forces "
                f"{positions.shape}, not {energies.shape} and {forces.shape}"
            )
        finite = np.isfinite(energies) & np.isfinite(forces.reshape(len(forces), -1)).all(axis=1)
        if not finite.all():
            raise NumericsError(
                f"replica {np.flatnonzero(~finite)[0]}, step {step}: an energy or force is not finite; take a shorter "
                "timestep, or look at the frames before"
            )
        return energies, forces

    def draw(self) -> np.ndarray:
        """Standard normal numbers (R, n, 3), those of each replica from its own stream."""
        for stream, row in zip(self.streams, self.normals, strict=True):
            stream.standard_normal(out=row)
        return self.normals

    def seed(self, seed: int) -> None:
        """Begin the random streams."""
        if seed < 0:
            raise SettingsError(f"random_state must not be negative, not {seed}")
        numbers = range(self.settings.first_replica, self.settings.first_replica + len(self.x0))
        self.streams = [np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(r,))) for r in numbers]

    def begin(self, seed: int) -> ReplicaState:
        """State at step 0."""
        self.seed(seed)
        velocities = self.v0.copy()
        if self.settings.draw_velocities:
            velocities = thermal_velocities(self.kT, self.inverse_masses, self.draw())
        return ReplicaState(0, self.x0.copy(), velocities, *self.evaluate(self.x0.copy(), 0))

    def step(self, state: ReplicaState) -> ReplicaState:
        """State one step later."""
        number = state.step + 1
        common: dict[str, Any] = {
            "dt": self.dt,
            "inverse_masses": self.inverse_masses,
            "evaluate": lambda positions: self.evaluate(positions, number),
        }
        start = state.positions, state.velocities, state.forces
        if self.settings.ensemble == "nve":
            moved = velocity_verlet_step(*start, **common)
        else:
            moved = baoab_step(*start, **common, damping=self.damping, noise=self.noise_std * self.draw())
        return ReplicaState(number, *moved)

    def identity(self, recorded: bool) -> dict[str, Any]:
        """Settings and digests of the arrays that the trajectory depends on, without calculator and seed."""
        settings = {k: v for k, v in self.settings.as_dict().items() if k not in _FREE}
        arrays = {
            "atomic numbers": self.atoms.numbers,
            "masses": self.masses,
            "cell": self.atoms.cell.array,
            "periodic directions": self.atoms.pbc,
            "fixed coordinates": self.held,
            "starting positions": self.x0,
        }
        if not self.settings.draw_velocities:
            arrays["starting velocities"] = self.v0
        digests = {k: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() for k, v in arrays.items()}
        return {**settings, **digests, "number of replicas": len(self.x0), "whether there is a trajectory": recorded}
