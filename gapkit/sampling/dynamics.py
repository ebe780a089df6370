"""Molecular dynamics with progress and a record of conserved quantities."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from gapkit.checkpoints import stoppable
from gapkit.exceptions import SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.sampling.md_files import MDFiles

#: friction of the Langevin thermostat (1/fs)
FRICTION = 0.01


@dataclass(frozen=True)
class Trajectory:
    """Record of a molecular-dynamics run.

    Attributes
    ----------
    time : (k,) fs
    total_energy, potential_energy : (k,) eV per atom
    temperature : (k,) K
    interrupted : bool
        Whether Ctrl-C ended the run early, at the end of a step; what was recorded before is all there.
    frames : list of ase.Atoms
        Every ``record_every`` steps, and at the last, with momenta, energy and forces (and stress where there is one);
        none where they were written to a file.
    """

    time: np.ndarray
    total_energy: np.ndarray
    potential_energy: np.ndarray
    temperature: np.ndarray
    frames: list[ase.Atoms]
    interrupted: bool = False

    @property
    def drift(self) -> float:
        """Change of the total energy over the run by a straight-line fit (eV per atom)."""
        if len(self.time) < 2 or self.time[-1] == self.time[0]:
            return 0.0
        slope = np.polyfit(self.time, self.total_energy, 1)[0]
        return float(slope * (self.time[-1] - self.time[0]))


def check_run(steps: int, timestep: float, temperature: float) -> None:
    """Raise :class:`SettingsError` for a number of steps, a time step (fs) or a temperature (K) that cannot work."""
    if steps < 1:
        raise SettingsError(f"steps must be at least 1, not {steps}")
    if not 0 < timestep < np.inf:
        raise SettingsError(f"timestep must be positive and finite (fs), not {timestep}")
    if not 0 <= temperature < np.inf:
        raise SettingsError(f"temperature must be finite and not negative (K), not {temperature}")


def langevin(
    atoms: ase.Atoms,
    temperature: float,
    timestep: float,
    random_state: int | np.random.Generator | None = None,
    friction: float = FRICTION,
) -> Langevin:
    """Langevin dynamics of ``atoms``, which it moves, at ``temperature`` (K).

    The centre of mass moves too: ASE's way to hold it (``fixcm``) does not sample the canonical ensemble.

    Parameters
    ----------
    timestep
        fs.
    random_state
        A seed, a generator, or None for another run each time.
    friction
        1/fs.

    Raises
    ------
    SettingsError
        For a ``random_state`` of another kind.
    """
    rng = generator_of(random_state)
    return Langevin(
        atoms, timestep * units.fs, temperature_K=temperature, friction=friction / units.fs, rng=rng, fixcm=False
    )


def run_md(
    atoms: ase.Atoms,
    calculator: Any,
    temperature: float,
    steps: int,
    timestep: float = 1.0,
    ensemble: str = "nve",
    random_state: int | np.random.Generator | None = None,
    record_every: int = 10,
    callback: Callable[[int], None] | None = None,
    files: MDFiles | None = None,
    progress: bool = False,
) -> Trajectory:
    """Velocity Verlet (``nve``) or Langevin (``nvt``, friction 0.01/fs) from thermal velocities.

    Parameters
    ----------
    atoms
        Starting structure; a copy is moved.
    calculator
        ASE calculator.
    temperature
        K. Velocities are drawn at this temperature unless the atoms already move.
    steps, timestep
        Number of steps and their length (fs).
    random_state
        Seed of the velocities and of the thermostat, or a generator.
    record_every
        Steps between records; the first and the last step are always recorded.
    callback
        Called with the step number at each record.
    files
        Where frames go as they are recorded; they are not kept in memory then. A run of files with a state goes on from
        it, to ``steps`` steps in all, as if it had not been interrupted; the result has the part from there on.
    progress
        Whether to show a progress bar.

    Raises
    ------
    SettingsError
        For a number that cannot work, and a ``random_state`` of another kind.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from ase.calculators.emt import EMT
    >>> run = run_md(bulk("Cu", cubic=True), EMT(), 300, steps=20, random_state=0)
    >>> run.time.tolist(), bool(abs(run.drift) < 1e-4)
    ([0.0, 10.0, 20.0], True)
    """
    check_run(steps, timestep, temperature)
    if record_every < 1:
        raise SettingsError(f"record_every must be at least 1, not {record_every}")
    if ensemble not in ("nve", "nvt"):
        raise SettingsError(f"ensemble must be 'nve' or 'nvt', not {ensemble!r}")
    rng = generator_of(random_state)
    atoms = atoms.copy()
    atoms.calc = calculator
    if not np.any(atoms.get_momenta()):
        thermalize_momenta(atoms, temperature, rng=rng)
        Stationary(atoms)
    if ensemble == "nve":
        dynamics: Any = VelocityVerlet(atoms, timestep * units.fs)
    else:
        dynamics = langevin(atoms, temperature, timestep, rng)
    record = array("d")  # four numbers for each record
    frames: list[ase.Atoms] = []

    def note() -> None:
        potential = atoms.get_potential_energy() / len(atoms)
        kinetic = atoms.get_kinetic_energy() / len(atoms)
        record.extend((dynamics.nsteps * timestep, potential + kinetic, potential, atoms.get_temperature()))

    def observe() -> None:
        note()
        snapshot = atoms.copy()
        results = {k: v for k, v in atoms.calc.results.items() if k in ("energy", "forces", "stress")}
        snapshot.calc = SinglePointCalculator(snapshot, **results)
        if files is None:
            frames.append(snapshot)
        else:
            files.record(snapshot)
        if callback is not None:
            callback(dynamics.nsteps)

    dynamics.attach(observe, interval=record_every)
    if files is not None:
        dynamics.attach(lambda: files.save(dynamics.nsteps, atoms, rng), interval=record_every)
        if files.state is not None:
            dynamics.nsteps = _go_on(files.state, atoms, rng)
            note()
    interrupted, whole = False, True
    try:
        with stoppable() as stop, progress_bar(desc="dynamics", total=steps, show=progress) as bar:
            for _ in dynamics.irun(max(steps - dynamics.nsteps, 0)):
                bar.update(dynamics.nsteps - bar.n)
                if stop.requested:
                    interrupted = dynamics.nsteps < steps
                    break
    except KeyboardInterrupt:  # a second Ctrl-C, or that of a callback: the step may not be complete
        if not record:
            raise
        interrupted, whole = True, False
    if whole and files is not None:
        files.save(dynamics.nsteps, atoms, rng, now=True)
    if whole and dynamics.nsteps % record_every:  # not counted in the saved state: a run that goes on has no such frame
        observe()
    time, total, potential, kelvin = np.array(record).reshape(-1, 4).T.copy()
    return Trajectory(time, total, potential, kelvin, frames, interrupted)


def _go_on(state: Mapping[str, np.ndarray], atoms: ase.Atoms, rng: np.random.Generator) -> int:
    """Put atoms and random numbers into a saved state; returns the number of its step."""
    atoms.positions = state["positions"]
    atoms.set_momenta(state["momenta"], apply_constraint=False)
    rng.bit_generator.state = json.loads(str(state["rng"]))
    return int(state["step"])
