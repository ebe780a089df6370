"""Ion transport in one call: from dynamics or trajectories at several temperatures to conductivities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import ase
import numpy as np

from gapkit.apps.ion_transport.conductivity import (
    Arrhenius,
    Conductivity,
    arrhenius,
    conductivity,
    potential_covariance,
)
from gapkit.apps.ion_transport.diffusion import CM2_PER_S, Diffusion, DiffusionEstimate, DiffusionSettings, diffusion
from gapkit.apps.ion_transport.trajectories import IonTrajectory
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import seed_of
from gapkit.sampling.replica_motion import ReplicaSettings, ReplicaState
from gapkit.sampling.replicas import run_replicas

#: an activation energy needs as many temperatures
_FEWEST_TEMPERATURES = 2


@dataclass(frozen=True)
class TransportSettings(DiffusionSettings):
    """Dynamics and statistics of ion transport; those of displacements alone: :class:`DiffusionSettings`.

    Attributes
    ----------
    temperatures : tuple of float, K
        Temperatures of the runs.
    charge : float, e
        Charge of an ion of the species.
    timestep : float, fs
        Time step of the dynamics.
    steps : int
        Steps at each temperature that count.
    equilibration : int
        Steps before them that do not count.
    disordering : float or None, K
        Temperature of as many steps before the equilibration, which free ions from an ordered start; None: none.
    friction : float, 1/fs
        Friction of the Langevin thermostat; it slows ions down unless it is far below the rate of their collisions.
    n_replicas : int
        Independent runs at each temperature.
    record_every : int
        Steps between recorded positions.
    """

    temperatures: tuple[float, ...] = (500.0, 600.0, 750.0)
    charge: float = 1.0
    timestep: float = 2.0
    steps: int = 20000
    equilibration: int = 1000
    disordering: float | None = None
    friction: float = 0.001
    n_replicas: int = 2
    record_every: int = 25

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        super().check()
        T = self.temperatures
        if not T or len(set(T)) < len(T) or not all(0 < t < np.inf for t in T):
            raise SettingsError(f"temperatures must be positive and different (K), not {list(T)}")
        if self.disordering is not None and not 0 < self.disordering < np.inf:
            raise SettingsError(f"disordering must be a positive temperature (K), not {self.disordering}")
        if not 0 < abs(self.charge) < np.inf:
            raise SettingsError(f"charge must be finite and not zero (e), not {self.charge}")
        if self.equilibration < 1 or self.n_replicas < 1:
            raise SettingsError(
                f"equilibration and n_replicas must be at least 1, not {self.equilibration} and {self.n_replicas}"
            )
        self.dynamics(T[0], self.steps)

    @property
    def statistics(self) -> DiffusionSettings:
        """Settings of the displacements alone."""
        return DiffusionSettings(**{f.name: getattr(self, f.name) for f in fields(DiffusionSettings)})

    def dynamics(self, temperature: float, steps: int) -> ReplicaSettings:
        """Settings of one run."""
        return ReplicaSettings(
            temperature=temperature,
            timestep=self.timestep,
            friction=self.friction,
            steps=steps,
            record_every=self.record_every,
        )


@dataclass(frozen=True)
class TransportResult:
    """Diffusion and conductivity at several temperatures.

    Attributes
    ----------
    settings : TransportSettings
    temperatures : (m,) K
    diffusion : tuple of Diffusion
        Tracer and collective diffusion at each temperature.
    conductivity : tuple of Conductivity
        At each temperature (S/cm).
    tracer_line, conductivity_line : Arrhenius or None
        Activation energies of tracer diffusion and of the conductivity times the temperature (by the collective
        diffusion constant); None where diffusion is resolved at fewer than two temperatures.
    log_draws : (S, m) or None
        ln of the tracer diffusion constants (A^2/fs) by draws of the potential.
    """

    settings: TransportSettings
    temperatures: np.ndarray
    diffusion: tuple[Diffusion, ...]
    conductivity: tuple[Conductivity, ...]
    tracer_line: Arrhenius | None
    conductivity_line: Arrhenius | None
    log_draws: np.ndarray | None

    @property
    def activation_energy(self) -> float:
        """Activation energy of tracer diffusion (eV); nan where it is not resolved."""
        return float("nan") if self.tracer_line is None else self.tracer_line.activation_energy

    @property
    def activation_energy_std(self) -> float:
        """Standard deviation of the activation energy by finite runs and, with draws, the potential (eV)."""
        return float("nan") if self.tracer_line is None else self.tracer_line.activation_energy_std

    def to_dict(self) -> dict[str, Any]:
        """Settings and numbers with their error bars, JSON-ready; diffusion constants in cm^2/s."""

        def plain(found: DiffusionEstimate) -> dict[str, Any]:
            return {
                "value": CM2_PER_S * found.value,
                "value_std": CM2_PER_S * found.value_std,
                "upper": CM2_PER_S * found.upper,
                "resolved": found.resolved,
                "diffusive": found.diffusive,
                "exponent": found.exponent,
                "exponent_std": found.exponent_std,
                "lag_fs": found.lags.tolist(),
                "msd": found.msd.tolist(),
                "msd_std": found.msd_std.tolist(),
            }

        def line(found: Arrhenius | None) -> dict[str, Any] | None:
            if found is None:
                return None
            names = ("activation_energy", "activation_energy_std", "statistical_std", "potential_std")
            return {name: getattr(found, name) for name in names} | {"temperatures": found.temperatures.tolist()}

        rows = [
            {
                "temperature": float(t),
                "tracer": plain(d.tracer),
                "collective": plain(d.collective),
                "haven": d.haven,
                "haven_std": d.haven_std,
                "hops": d.hops,
                "conductivity": {f.name: getattr(s, f.name) for f in fields(s)},
            }
            for t, d, s in zip(self.temperatures, self.diffusion, self.conductivity, strict=True)
        ]
        return {
            "settings": self.settings.as_dict(),
            "temperatures": rows,
            "tracer_line": line(self.tracer_line),
            "conductivity_line": line(self.conductivity_line),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.diffusion[0].n_ions} {self.settings.species} ions, statistical errors of one standard deviation",
            "   T (K)   tracer D (cm^2/s)          collective D (cm^2/s)      Haven ratio     conductivity (S/cm)",
        ]
        for t, d, s in zip(self.temperatures, self.diffusion, self.conductivity, strict=True):
            haven = "" if d.haven is None else f"{d.haven:.2f} +- {d.haven_std:.2f}"
            charge = f"{s.collective:.3g} +- {s.collective_std:.1g}"
            if not d.collective.resolved:
                charge = f"below {s.collective_upper:.2g}"
            tracer, collective = (str(one).partition(" cm^2/s")[0] for one in (d.tracer, d.collective))
            lines.append(f"{t:8g}   {tracer:<26} {collective:<26} {haven:<15} {charge}")
            if d.tracer.resolved and not d.tracer.diffusive:
                lines.append(
                    f"           displacements grow as t^({d.tracer.exponent:.2f} +- {d.tracer.exponent_std:.2f})"
                )
        for name, found in (("tracer diffusion", self.tracer_line), ("conductivity", self.conductivity_line)):
            absent = "no activation energy, which needs diffusion at two temperatures"
            lines.append(f"{name}: {absent if found is None else found}")
        return "\n".join(lines)


def run_transport(
    source: ase.Atoms | Mapping[float, IonTrajectory],
    calculator: Any = None,
    settings: TransportSettings | None = None,
    *,
    posterior: Sequence[Any] = (),
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> TransportResult:
    """Diffusion, conductivity and activation energy of ions.

    Parameters
    ----------
    source
        Start of the dynamics, which runs at all temperatures of the settings; or trajectories by temperature (K), whose
        temperatures then count.
    calculator
        ASE calculator of the dynamics; default: that of the start.
    posterior
        Calculators of at least three potentials drawn from the posterior (``gap.samples(n)``): the dynamics runs with
        each of them too, and the scatter of ln D beyond that of finite runs is the potential's error.
    random_state
        Seed of all runs.
    progress
        Whether to show progress bars.

    Raises
    ------
    DataError
        See :func:`gapkit.apps.ion_transport.diffusion.diffusion`; for trajectories of different species.
    SettingsError
        Where a start has no calculator, or draws are given with trajectories, or fewer than three.

    Examples
    --------
    >>> from gapkit.apps.ion_transport.toys import brownian_ions
    >>> walks = {t: brownian_ions(d, n_ions=16, frames=400, random_state=0) for t, d in ((500, 2e-4), (700, 6e-4))}
    >>> found = run_transport(walks, settings=TransportSettings(species="Li", reference="none"))
    >>> print(found.tracer_line)
    activation energy 0.1657 +- 0.0043 eV (statistical 0.0043)
    """
    s = settings or TransportSettings()
    if len(posterior) and (isinstance(source, Mapping) or len(posterior) < 3):
        raise SettingsError("draws of the potential need a start of the dynamics, and must be at least three")
    if isinstance(source, Mapping):
        if not source:
            raise DataError("no trajectories: give at least one by its temperature (K)")
        s = replace(s, temperatures=tuple(float(t) for t in source))
        runs = list(source.values())
    else:
        if calculator is None and source.calc is None:
            raise SettingsError("no calculator: set atoms.calc, or give one")
        _check_start(source, s)
        seeds = np.random.default_rng(seed_of(random_state)).integers(2**31, size=1 + len(posterior)).tolist()
        runs = _runs(source, calculator, s, seeds[0], progress)
    found = [diffusion(run, s.statistics) for run in runs]
    shared, draws = None, None
    if len(posterior):
        assert isinstance(source, ase.Atoms)
        tracers = [
            [diffusion(run, s.statistics).tracer for run in _runs(source, one, s, seed, False)]
            for one, seed in progress_bar(
                list(zip(posterior, seeds[1:], strict=True)), desc="draws of the potential", show=progress
            )
        ]
        draws, shared = _draws(tracers)
    T = np.array(s.temperatures)
    carried = [
        conductivity(d.tracer, d.collective, d.n_ions, s.charge, run.volume, t)
        for d, run, t in zip(found, runs, T, strict=True)
    ]
    return TransportResult(
        settings=s,
        temperatures=T,
        diffusion=tuple(found),
        conductivity=tuple(carried),
        tracer_line=_line(T, [d.tracer for d in found], shared),
        conductivity_line=_line(T, [d.collective for d in found], shared),
        log_draws=draws,
    )


def _check_start(start: ase.Atoms, s: TransportSettings) -> None:
    """Refuse what the statistics would refuse after the dynamics: no ion of the species, too few records."""
    frames = s.steps // s.record_every + 1
    still = np.repeat(start.positions[None, None], frames, axis=1).repeat(s.n_replicas, axis=0)
    trajectory = IonTrajectory(
        still, start.numbers, start.get_masses(), start.cell[:].copy(), s.timestep * s.record_every
    )
    diffusion(trajectory, s.statistics)


def _runs(start: ase.Atoms, calculator: Any, s: TransportSettings, seed: int, progress: bool) -> list[IonTrajectory]:
    """Trajectories at all temperatures, each from the start anew."""
    rng = np.random.default_rng(seed)
    calculator = start.calc if calculator is None else calculator
    first = start.copy()
    trajectories = []
    for temperature in s.temperatures:
        frames = [first] * s.n_replicas
        hot = [] if s.disordering is None else [s.disordering]
        for bath in (*hot, temperature):
            run = run_replicas(frames, calculator, s.dynamics(bath, s.equilibration), random_state=seed_of(rng))
            frames = run.frames()
        positions: list[np.ndarray] = []

        def keep(state: ReplicaState, positions: list[np.ndarray] = positions) -> None:
            positions.append(state.positions)

        settings = replace(s.dynamics(temperature, s.steps), draw_velocities=False)
        run_replicas(
            frames, calculator, settings, random_state=seed_of(rng), progress=progress,
            observers=[(s.record_every, keep)],
        )  # fmt: skip
        trajectories.append(
            IonTrajectory(
                np.stack(positions, axis=1), first.numbers, first.get_masses(), first.cell[:].copy(),
                s.timestep * s.record_every,
            )
        )  # fmt: skip
    return trajectories


def _draws(tracers: Sequence[Sequence[DiffusionEstimate]]) -> tuple[np.ndarray, np.ndarray]:
    """ln D (S, m) of draws of the potential, and its covariance (m, m) beyond the scatter of finite runs."""
    if not all(one.resolved for row in tracers for one in row):
        raise DataError(
            "diffusion is not resolved with every draw of the potential: ln D has no variance there; run longer, or at "
            "higher temperatures"
        )
    log = np.array([[np.log(one.value) for one in row] for row in tracers])
    std = np.array([[one.value_std / one.value for one in row] for row in tracers])
    return log, potential_covariance(log, std)


def _line(T: np.ndarray, estimates: list[DiffusionEstimate], shared: np.ndarray | None) -> Arrhenius | None:
    """Arrhenius line, or None where diffusion is resolved at fewer than two temperatures."""
    if sum(e.resolved for e in estimates) < _FEWEST_TEMPERATURES:
        return None
    return arrhenius(T, estimates, shared)
