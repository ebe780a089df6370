"""Molecular dynamics of many copies of one structure at once, recorded on disk, and resumable to the last bit.

Each replica has random numbers of its own, so that its trajectory does not depend on how many others run beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator

from gapkit.checkpoints import Checkpoint, stoppable
from gapkit.exceptions import DataError, SettingsError
from gapkit.fingerprints import described
from gapkit.progress import progress_bar
from gapkit.randomness import seed_of
from gapkit.sampling.integrators import kinetic_energies
from gapkit.sampling.recording import RecordWriter, RunningAverages
from gapkit.sampling.replica_motion import Motion, ReplicaSettings, ReplicaState
from gapkit.sampling.starts import same_structure

#: every so many steps, step 0 included, the function is called with the state
Observer = tuple[int, Callable[[ReplicaState], Any]]


@dataclass(frozen=True)
class ReplicaRun:
    """Dynamics of replicas: the last state, and averages over the records.

    Attributes
    ----------
    settings : ReplicaSettings
    seed : int
        The run is repeated by ``random_state=seed``.
    atoms : ase.Atoms
        Structure of all replicas: atomic numbers, cell, periodic directions, masses, constraints.
    state : ReplicaState
        After the last step.
    n_free : int
        Coordinates that are not fixed.
    interrupted : bool
        Whether Ctrl-C or SIGTERM ended the run early.
    records : int
        Number of records that averages are over.
    temperature, temperature_std : (R,) K
        Mean and standard deviation (of single records, not of the mean) of the kinetic temperature.
    potential_energy, potential_energy_std : (R,) eV
        Mean and standard deviation of the potential energy.
    total_energy, total_energy_std : (R,) eV
        Mean and standard deviation of the total energy, which the ensemble ``nve`` conserves.
    drift : (R,) eV per atom
        Change of the total energy over the run by a straight-line fit. Under ``nvt``, which does not conserve it, that
        tells how far from equilibrium the run began.
    trajectory : Path or None
        File of the records (:func:`gapkit.sampling.recording.read_records`).
    """

    settings: ReplicaSettings
    seed: int
    atoms: ase.Atoms
    state: ReplicaState
    n_free: int
    interrupted: bool
    records: int
    temperature: np.ndarray
    temperature_std: np.ndarray
    potential_energy: np.ndarray
    potential_energy_std: np.ndarray
    total_energy: np.ndarray
    total_energy_std: np.ndarray
    drift: np.ndarray
    trajectory: Path | None

    @property
    def time(self) -> float:
        """Length of the run (fs)."""
        return self.state.step * self.settings.timestep

    def frames(self) -> list[ase.Atoms]:
        """The last frame of each replica, with velocities, energy and forces."""
        frames = []
        for r, x in enumerate(self.state.positions):
            frame = self.atoms.copy()
            frame.set_positions(x, apply_constraint=False)
            frame.set_velocities(self.state.velocities[r])
            energy, forces = float(self.state.energies[r]), self.state.forces[r].copy()
            frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
            frames.append(frame)
        return frames

    def __str__(self) -> str:
        s = self.settings
        bath = f" at {s.temperature:g} K, friction {s.friction:g}/fs" if s.ensemble == "nvt" else ""
        lines = [
            f"{len(self.temperature)} replicas of {self.atoms.get_chemical_formula()}, {s.ensemble}{bath}, seed "
            f"{self.seed}: {self.state.step} steps of {s.timestep:g} fs"
            + (", interrupted" if self.interrupted else ""),
            "mean +- standard deviation over records",
            "replica   temperature (K)    potential energy (eV)      total energy (eV)       drift (meV/atom)",
        ]
        for r in range(len(self.temperature)):
            lines.append(
                f"{s.first_replica + r:7d}{self.temperature[r]:10.1f} +- {self.temperature_std[r]:5.1f}"
                f"{self.potential_energy[r]:15.4f} +- {self.potential_energy_std[r]:6.4f}"
                f"{self.total_energy[r]:15.4f} +- {self.total_energy_std[r]:6.4f}{1e3 * self.drift[r]:15.4f}"
            )
        return "\n".join(lines)


def run_replicas(
    frames: ase.Atoms | Sequence[ase.Atoms],
    calculator: Any = None,
    settings: ReplicaSettings | None = None,
    *,
    fixed: np.ndarray | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
    trajectory: str | os.PathLike | None = None,
    observers: Sequence[Observer] = (),
) -> ReplicaRun:
    """Molecular dynamics of replicas, which start from ``frames`` and see the same forces.

    Replica r draws from a random stream of its own, given by the seed and r (counted from ``first_replica``). Its
    trajectory is the same to the last bit with any number of others, and after a resumption, where forces are: a
    calculator whose forces depend in the last bits on earlier calls, such as one with a pair list that serves for
    several steps, makes a trajectory that is right but another. Positions are never wrapped into the cell, and the
    centre of mass is free to move.

    A run with a checkpoint can be killed at any moment: called again, it goes on from the last checkpoint. Ctrl-C and
    SIGTERM end it after the step that runs, with a checkpoint; a second Ctrl-C ends it at once.

    Parameters
    ----------
    frames
        Starting structures, one for each replica; or one, which ``n_replicas`` of the settings multiplies. All have
        the same atoms in the same order, cell, periodic directions, masses and constraints. They are left as they are.
    calculator
        ASE calculator, or a function from positions (R, n, 3; A) to energies (R,; eV) and forces (R, n, 3; eV/A).
        Default: the calculator of the first frame.
    settings
        Default: ``ReplicaSettings()``.
    fixed
        Mask (n, 3), or (n,) for whole atoms, of coordinates that do not move, beside those of the frames' FixAtoms and
        FixCartesian.
    random_state
        Seed, or a generator that draws one.
    progress
        Whether a bar is shown.
    checkpoint
        File of the state. Where it is there, the run is resumed from it; ``steps`` may be larger than before. It stays
        when the run ends.
    trajectory
        File of the records, which must not be there at the beginning of a run; None: nothing is recorded.
    observers
        Pairs of a number k and a function, which is called at every k-th step, step 0 included. A run that was killed
        calls observers again for the steps that it repeats.

    Raises
    ------
    DataError
        For frames that differ in more than positions and velocities, with the frame's number; for files that do not
        belong to the run, or cannot be written.
    SettingsError
        For a number that cannot work, constraints of another kind, a checkpoint of another run.
    NumericsError
        For an energy or force that is not finite, with the replica and the step.

    Examples
    --------
    >>> def springs(x):
    ...     return 0.5 * (x**2).sum(axis=(1, 2)), -x
    >>> settings = ReplicaSettings(n_replicas=3, steps=50, temperature=100)
    >>> run = run_replicas(ase.Atoms("Ar"), springs, settings, random_state=0)
    >>> run.state.positions.shape, run.records, run.interrupted
    ((3, 1, 3), 6, False)
    """
    settings = ReplicaSettings() if settings is None else settings
    starts = [frames] if isinstance(frames, ase.Atoms) else list(frames)
    same_structure(starts)
    if settings.n_replicas is not None:
        if len(starts) not in (1, settings.n_replicas):
            raise SettingsError(
                f"{len(starts)} frames for {settings.n_replicas} replicas: give one frame, or as many as replicas"
            )
        starts *= settings.n_replicas // len(starts)
    if checkpoint is not None and trajectory is not None and Path(checkpoint).resolve() == Path(trajectory).resolve():
        raise SettingsError(f"{checkpoint}: is named both as checkpoint and as trajectory; give two files")
    for k, observer in enumerate(observers):
        if not (isinstance(observer, tuple | list) and len(observer) == 2 and callable(observer[1])):
            raise SettingsError(f"observer {k} must be a pair (number of steps, function), not {observer!r:.80}")
        if not isinstance(observer[0], Integral) or observer[0] < 1:
            raise SettingsError(f"observer {k}: steps must be a whole number of at least 1, not {observer[0]!r}")
    motion = Motion(starts, calculator, settings, fixed)
    saved = None
    if checkpoint is not None:
        forces_of = described(starts[0].calc if calculator is None else calculator)
        saved = Checkpoint(checkpoint, {**motion.identity(trajectory is not None), "calculator": forces_of})
    with stoppable() as stop:
        log = _Log(motion, saved, trajectory)
        try:
            state = log.begin(random_state)
            if log.averages.count == 0:
                log.note(state, observers)
            with progress_bar(desc="dynamics", show=progress, total=settings.steps) as bar:
                bar.initial = bar.n = state.step
                while state.step < settings.steps and not stop.requested:
                    state = motion.step(state)
                    log.note(state, observers)
                    if state.step % settings.checkpoint_every == 0:
                        log.save(state)
                    bar.update()
            log.save(state)
        finally:
            log.close()
    mean, std = log.averages.mean, log.averages.std
    return ReplicaRun(
        settings=settings,
        seed=log.seed,
        atoms=motion.atoms,
        state=state,
        n_free=motion.n_free,
        interrupted=state.step < settings.steps,
        records=log.averages.count,
        temperature=mean[0],
        temperature_std=std[0],
        potential_energy=mean[1],
        potential_energy_std=std[1],
        total_energy=mean[2],
        total_energy_std=std[2],
        drift=log.averages.slope[2] * state.step * settings.timestep / len(motion.atoms),
        trajectory=None if trajectory is None else Path(trajectory),
    )


class _Log:
    """Memory of a run: averages, the file of records, and the checkpoint that counts the records on the disk."""

    def __init__(self, motion: Motion, saved: Checkpoint | None, trajectory: str | os.PathLike | None) -> None:
        self.motion, self.saved, self.trajectory = motion, saved, trajectory
        self.averages = RunningAverages.empty(3, len(motion.x0))
        self.writer: RecordWriter | None = None
        self.seed = self.saved_step = -1

    def begin(self, random_state: int | np.random.Generator | None) -> ReplicaState:
        """State of the checkpoint, or at step 0; the file of records is cut to what the checkpoint counts."""
        old = None if self.saved is None else self.saved.load()
        if old is not None:
            state = self._resumed(old, random_state)
        else:
            if self.trajectory is not None and Path(self.trajectory).exists():
                raise DataError(
                    f"{self.trajectory}: is there already, and no checkpoint counts its records; give another name, or "
                    "remove it"
                )
            self.seed = seed_of(random_state)
            state = self.motion.begin(self.seed)
            self.save(state)  # before there is a file of records: from now on it belongs to this run
        if self.trajectory is not None:
            self.writer = RecordWriter(self.trajectory, self._header(), self.averages.count)
        return state

    def _resumed(self, old: dict[str, np.ndarray], random_state: int | np.random.Generator | None) -> ReplicaState:
        path = self.saved.path if self.saved else ""
        self.seed, self.saved_step = int(old["seed"]), int(old["step"])
        if random_state is not None and seed_of(random_state) != self.seed:
            raise SettingsError(
                f"{path}: checkpoint of the seed {self.seed}; give that, none, or another checkpoint file"
            )
        if self.saved_step > self.motion.settings.steps:
            raise SettingsError(
                f"{path}: checkpoint of step {self.saved_step}, beyond the {self.motion.settings.steps} steps that are "
                "asked for; ask for more, or give another checkpoint file"
            )
        self.motion.seed(self.seed)
        for stream, text in zip(self.motion.streams, old["streams"], strict=True):
            stream.bit_generator.state = json.loads(str(text))
        self.averages = RunningAverages.from_arrays(old)
        return ReplicaState(self.saved_step, *(old[k] for k in ("positions", "velocities", "energies", "forces")))

    def note(self, state: ReplicaState, observers: Sequence[Observer]) -> None:
        """Averages, record and observers, where it is their turn."""
        motion, settings = self.motion, self.motion.settings
        if state.step % settings.record_every == 0:
            kinetic = kinetic_energies(state.velocities, motion.masses)
            temperature = 2 * kinetic / (units.kB * motion.n_free)
            series = np.array([temperature, state.energies, state.energies + kinetic])
            self.averages.add(state.step * settings.timestep, series)
            if self.writer is not None:
                self.writer.append(state.step, state.energies, kinetic, state.positions, state.velocities)
        for every, observer in observers:
            if state.step % every == 0:
                observer(state)

    def save(self, state: ReplicaState) -> None:
        """Write the checkpoint, once the records that it counts are on the disk."""
        if self.saved is None or self.saved_step == state.step:
            return
        if self.writer is not None:
            self.writer.sync()
        self.saved.save(
            {
                "step": np.array(state.step),
                "seed": np.array(self.seed),
                "positions": state.positions,
                "velocities": state.velocities,
                "energies": state.energies,
                "forces": state.forces,
                "streams": np.array([json.dumps(s.bit_generator.state) for s in self.motion.streams]),
                **self.averages.as_arrays(),
            }
        )
        self.saved_step = state.step

    def _header(self) -> dict[str, Any]:
        motion, settings = self.motion, self.motion.settings
        return {
            "replicas": len(motion.x0),
            "numbers": motion.atoms.numbers.tolist(),
            "masses": motion.masses.tolist(),
            "cell": motion.atoms.cell.tolist(),
            "pbc": motion.atoms.pbc.tolist(),
            "n_free": motion.n_free,
            "timestep": settings.timestep,
            "record_every": settings.record_every,
            "velocities": settings.record_velocities,
            "ensemble": settings.ensemble,
            "temperature": settings.temperature,
            "friction": settings.friction,
            "first_replica": settings.first_replica,
            "seed": self.seed,
        }

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
