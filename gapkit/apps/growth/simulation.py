r"""Growth of a crystal surface by kinetic Monte Carlo, with the barrier model's uncertainty carried to the result.

Atoms fall on a square lattice of columns at flux F per column, hop with rates :math:`\nu e^{-E/k_BT}` and may leave
again. Event times are exact (``gapkit.apps.growth.lattice``); barriers are in detailed balance
(``gapkit.apps.growth.lattice_barriers``). Overhangs, and the shift by half a cell from layer to layer of a real (100)
crystal, are left out.

With h the height of a column above the plane of the surface, roughness and growth rate are

.. math:: w^2 = \frac1N \sum (h - \bar h)^2, \qquad v = \frac{d\bar h}{dt} .
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from ase.units import kB

from gapkit.apps.growth import lattice
from gapkit.apps.growth.lattice_barriers import LatticeBarriers
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import seed_of
from gapkit.safe_write import replacing
from gapkit.settings import Settings

_LARGEST = 2048  # columns a side: moves are counted in 32 bits
_ROUND = 50_000  # events between two looks at the clock and the progress bar
_FORMAT = 2
# arrays of the compiled floor, in its order
_MEMBERS = (
    "tree", "counts", "blocks", "pool", "free", "n_free", "class_of_move", "place", "changed", "seen", "state",
)  # fmt: skip


@dataclass(frozen=True)
class GrowthSettings(Settings):
    """Size, conditions and records of a surface that grows by given barriers.

    Attributes
    ----------
    size : int
        Columns a side, at least 6.
    temperature : float, K
        Temperature of the surface.
    flux : float, 1/s
        Atoms that arrive per column and second.
    duration : float, s
        Time to be simulated; with flux F the surface takes up F x duration layers.
    prefactor : float, 1/s
        Attempts per second, nu.
    n_steps : int
        Steps of a vicinal surface along x, downhill towards +x; 0 is a flat one.
    mobile_substrate : bool
        Whether the atoms of the initial surface may move too.
    n_records : int
        Times at which the surface is looked at, evenly spread, the start not counted.
    keep_heights : bool
        Whether the heights at those times are kept, for pictures.
    """

    size: int = 128
    temperature: float = 300.0
    flux: float = 1.0
    duration: float = 1.0
    prefactor: float = 1e13
    n_steps: int = 0
    mobile_substrate: bool = False
    n_records: int = 50
    keep_heights: bool = False

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        if not 6 <= self.size <= _LARGEST:
            raise SettingsError(f"size must lie between 6 and {_LARGEST} columns, not {self.size}")
        if not 0 < self.temperature < np.inf or not 0 < self.prefactor < np.inf or not 0 < self.duration < np.inf:
            raise SettingsError(
                "temperature (K), prefactor (1/s) and duration (s) must be positive and finite, not "
                f"{self.temperature}, {self.prefactor}, {self.duration}"
            )
        if not 0 <= self.flux < np.inf:
            raise SettingsError(f"flux must be finite and not negative (1/s), not {self.flux}")
        if not 0 <= self.n_steps <= self.size // 2 or self.n_records < 1:
            raise SettingsError(
                f"n_steps must lie from 0 to size / 2 and n_records be at least 1, not {self.n_steps}, {self.n_records}"
            )


@dataclass(frozen=True)
class GrowthResult:
    """A grown surface; arrays over the record times (k,), the start included.

    Attributes
    ----------
    time : (k,) s
    mean_height : (k,) layers
    roughness : (k,) layers
        w, against the plane of the vicinal surface.
    step_density : (k,)
        Share of nearest-neighbour pairs of columns whose heights differ, beyond what the steps of a vicinal surface
        need.
    adatoms : (k,)
        Top atoms without a lateral nearest neighbour, per column.
    events : (k,) int
        Since the start.
    deposited, left, hopped, crossed : int
        Events by kind: arrivals, departures, hops within a layer and between layers.
    shift : (2,) int
        Sum of all hops (columns); squared, the collective displacement.
    heights : (L, L) or (k, L, L) int
        At the end, or at all record times.
    settings : GrowthSettings
    """

    time: np.ndarray
    mean_height: np.ndarray
    roughness: np.ndarray
    step_density: np.ndarray
    adatoms: np.ndarray
    events: np.ndarray
    deposited: int
    left: int
    hopped: int
    crossed: int
    shift: tuple[int, int]
    heights: np.ndarray
    settings: GrowthSettings

    @property
    def growth_rate(self) -> float:
        """Mean growth rate (layers per second)."""
        return float((self.mean_height[-1] - self.mean_height[0]) / (self.time[-1] - self.time[0]))

    def __str__(self) -> str:
        lines = [f"{'time (s)':>12} {'layers':>9} {'roughness':>9} {'step density':>12} {'adatoms':>9} {'events':>12}"]
        for k in np.unique(np.linspace(0, len(self.time) - 1, 11).round().astype(int)):
            lines.append(
                f"{self.time[k]:>12.5g} {self.mean_height[k]:>9.3f} {self.roughness[k]:>9.3f} "
                f"{self.step_density[k]:>12.4f} {self.adatoms[k]:>9.4f} {self.events[k]:>12d}"
            )
        lines.append(f"growth rate {self.growth_rate:.4g} layers/s")
        return "\n".join(lines)


def look(heights: np.ndarray, n_steps: int) -> tuple[float, float, float, float]:
    """Mean height and roughness (layers), step density and adatoms (per pair, per column) of a surface (L, L)."""
    L = len(heights)
    plane = np.arange(L)[:, None] * n_steps / L
    flat = heights + plane
    right = np.roll(heights, -1, axis=0)
    right[-1] -= n_steps
    up = np.roll(heights, -1, axis=1)
    steps = (np.mean(right != heights) + np.mean(up != heights)) / 2 - n_steps / (2 * L)
    left = np.roll(heights, 1, axis=0)
    left[0] += n_steps
    alone = np.ones((L, L), dtype=bool)
    for other in (right, left, up, np.roll(heights, 1, axis=1)):
        alone &= other < heights
    return float(heights.mean()), float(flat.std()), float(steps), float(alone.mean())


def initial_heights(size: int, n_steps: int) -> np.ndarray:
    """Heights (L, L) of a surface with straight steps, evenly spread, the lowest terrace at 0."""
    x = np.arange(size)
    return np.repeat((n_steps - 1 - x * n_steps // size if n_steps else 0 * x)[:, None], size, axis=1).astype(np.int32)


@dataclass
class Surface:
    """A growing surface: everything that the next event depends on, so that a run continued from a checkpoint equals
    one that was never interrupted, bit by bit.

    Made by :meth:`start`; :meth:`advance` runs it.
    """

    settings: GrowthSettings
    barriers: LatticeBarriers
    heights: np.ndarray
    base: np.ndarray
    rng: np.random.Generator
    clock: np.ndarray
    tallies: np.ndarray
    class_of_code: np.ndarray
    rates: np.ndarray
    members: tuple[np.ndarray, ...]
    records: list[tuple[float, ...]] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    seed: int = 0

    @classmethod
    def start(
        cls,
        settings: GrowthSettings,
        barriers: LatticeBarriers,
        heights: np.ndarray | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> Surface:
        """A surface at time zero.

        Parameters
        ----------
        heights : (L, L), optional
            Where it starts; its atoms above the plane of :func:`initial_heights` may move.
        random_state
            Seed of the random numbers.
        """
        seed = seed_of(random_state)
        plane = initial_heights(settings.size, settings.n_steps)
        start = plane if heights is None else np.array(heights, dtype=np.int32)
        if start.shape != plane.shape:
            raise DataError(f"heights must have shape {plane.shape}, not {start.shape}")
        base = np.full_like(plane, -(2**30)) if settings.mobile_substrate else plane.copy()
        class_of_code, rates = rate_classes(settings, barriers)
        surface = cls(
            settings, barriers, start.copy(), base, np.random.default_rng(seed), np.zeros(1),
            np.zeros(lattice.N_TALLIES, dtype=np.int64), class_of_code, rates, _members(settings.size, len(rates)),
            seed=seed,
        )  # fmt: skip
        surface._set_deposition()
        lattice.classify_all(
            surface.heights, surface.base, settings.n_steps, class_of_code, surface.members, surface.rates
        )
        surface._record()
        return surface

    def _set_deposition(self) -> None:
        deposition = len(self.rates) - 1
        self.members[1][deposition] = self.settings.size**2
        half = len(self.members[0]) // 2
        lattice.mark(deposition, half + deposition, *self.members[8:])

    @property
    def time(self) -> float:
        """Simulated time (s)."""
        return float(self.clock[0])

    @property
    def events(self) -> int:
        """Number of events up to this moment."""
        return int(self.tallies[: lattice.SHIFT_X].sum())

    @property
    def total_rate(self) -> float:
        """Sum of the rates of all moves (1/s)."""
        return float(self.members[0][1])

    def advance(self, until: float, max_events: int = 2**62, waiting: np.ndarray | None = None) -> int:
        """Run to time ``until`` (s), or for ``max_events``; the number of events done.

        ``waiting`` (k,) takes the first k waiting times, each times the total rate.
        """
        return lattice.advance(
            self.heights, self.base, self.settings.n_steps, self.class_of_code, self.rates, self.members, self.rng,
            self.clock, self.tallies, float(until), int(max_events), np.empty(0) if waiting is None else waiting,
        )  # fmt: skip

    def _record(self) -> None:
        self.records.append((self.time, *look(self.heights, self.settings.n_steps), float(self.events)))
        if self.settings.keep_heights:
            self.kept.append(self.heights.copy())

    def result(self) -> GrowthResult:
        """Result of the run up to this moment."""
        time, mean, roughness, steps, adatoms, events = np.array(self.records).T
        t = [int(v) for v in self.tallies]
        heights = np.array(self.kept) if self.settings.keep_heights else self.heights.copy()
        return GrowthResult(
            time, mean, roughness, steps, adatoms, events.astype(np.int64), t[lattice.DEPOSITED], t[lattice.LEFT],
            t[lattice.HOPPED], t[lattice.CROSSED], (t[lattice.SHIFT_X], t[lattice.SHIFT_Y]), heights, self.settings,
        )  # fmt: skip

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint; an existing one is replaced only when the new one is complete."""
        header = {
            "format": _FORMAT,
            "settings": self.settings.as_dict(),
            "seed": self.seed,
            "bonds": [self.barriers.bond, self.barriers.second_bond, self.barriers.leaving],
            "rng": self.rng.bit_generator.state,
        }
        with replacing(path) as temporary, open(temporary, "wb") as file:
            members: dict[str, Any] = dict(zip(_MEMBERS, self.members, strict=True))
            np.savez(
                file, header=np.array(json.dumps(header)), symmetric=self.barriers.symmetric, heights=self.heights,
                base=self.base, clock=self.clock, tallies=self.tallies, records=np.array(self.records),
                kept=np.array(self.kept), **members,
            )  # fmt: skip

    @classmethod
    def load(cls, path: str | os.PathLike) -> Surface:
        """Continue from a checkpoint.

        Raises
        ------
        DataError
            Where the file is no complete checkpoint of this format.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            header = json.loads(str(arrays["header"]))
            if header["format"] == 1:  # the seed stood among the settings
                header["seed"] = header["settings"].pop("seed")
            elif header["format"] != _FORMAT:
                raise DataError(f"{path}: checkpoint of format {header['format']}, this version reads {_FORMAT}")
            settings = GrowthSettings.from_dict(header["settings"])
            barriers = LatticeBarriers(arrays["symmetric"], *header["bonds"])
            rng = np.random.default_rng()
            rng.bit_generator.state = header["rng"]
            return cls(
                settings, barriers, arrays["heights"], arrays["base"], rng, arrays["clock"], arrays["tallies"],
                *rate_classes(settings, barriers), tuple(arrays[n] for n in _MEMBERS),
                [tuple(r) for r in arrays["records"].tolist()], list(arrays["kept"]), header["seed"],
            )  # fmt: skip
        except DataError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise DataError(f"{path}: not a complete growth checkpoint ({error}); start anew") from None


def rate_classes(settings: GrowthSettings, barriers: LatticeBarriers) -> tuple[np.ndarray, np.ndarray]:
    """Class (1674,) of each code, and the rates (n_classes,) in 1/s, deposition last."""
    class_of_code, energies = barriers.classes()
    rates = settings.prefactor * np.exp(-energies / (kB * settings.temperature))
    if not np.all(np.isfinite(rates)):
        raise SettingsError("a rate is not finite: check barriers (eV) and temperature (K)")
    return class_of_code, np.append(rates, settings.flux)


def _members(size: int, n_classes: int) -> tuple[np.ndarray, ...]:
    """Arrays that hold the members of the classes, all empty."""
    n_moves = size**2 * lattice.N_MOVES
    half = 1 << max(1, int(np.ceil(np.log2(n_classes))))
    n_blocks = n_moves // lattice.BLOCK + n_classes + 1
    return (
        np.zeros(2 * half),
        np.zeros(n_classes, dtype=np.int64),
        np.zeros((n_classes, n_moves // lattice.BLOCK + 1), dtype=np.int32),
        np.zeros((n_blocks, lattice.BLOCK), dtype=np.int32),
        np.arange(n_blocks, dtype=np.int32),
        np.array([n_blocks], dtype=np.int64),
        np.full(n_moves, -1, dtype=np.int32),
        np.zeros(n_moves, dtype=np.int32),
        np.zeros(n_classes, dtype=np.int64),
        np.zeros(2 * half, dtype=np.int64),
        np.zeros(2, dtype=np.int64),
    )


def run_growth(
    barriers: LatticeBarriers,
    settings: GrowthSettings | None = None,
    *,
    checkpoint: str | os.PathLike | None = None,
    heights: np.ndarray | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> GrowthResult:
    """Grow a surface.

    Parameters
    ----------
    barriers, settings
        By which barriers, and how.
    checkpoint
        File that is written at every record time. If it is there already, the run goes on from it.
    heights : (L, L), optional
        Where the surface starts.
    random_state
        Seed of the random numbers; a run that goes on keeps those of its checkpoint.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        Where the checkpoint is that of another seed, other settings or other barriers.
    """
    settings = settings or GrowthSettings()
    seed = seed_of(random_state)
    if checkpoint is not None and Path(checkpoint).exists():
        surface = Surface.load(checkpoint)
        same = np.array_equal(surface.barriers.barriers, barriers.barriers)
        reseeded = random_state is not None and surface.seed != seed
        if surface.settings != settings or not same or reseeded:
            raise DataError(
                f"{checkpoint}: checkpoint of another run; remove it, or give its settings, barriers and random_state"
            )
    else:
        surface = Surface.start(settings, barriers, heights, seed)
    times = settings.duration * np.arange(settings.n_records + 1) / settings.n_records
    with progress_bar(total=settings.n_records, desc="growth", show=progress) as bar:
        bar.update(len(surface.records) - 1)
        for until in times[len(surface.records) :]:
            while surface.time < until:
                surface.advance(until, _ROUND)
                bar.set_postfix_str(f"events {surface.events}", refresh=False)
            surface._record()
            if checkpoint is not None:
                surface.save(checkpoint)
            bar.update()
    return surface.result()
