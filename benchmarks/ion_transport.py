"""Error bars of ion transport against known answers, and a potential of silver iodide against its own reference.

    python benchmarks/ion_transport.py [profiles] [brownian] [silver]

Without arguments all three. Profiles: coverage of barriers of 1,000 random periodic profiles of three ensembles each.
Brownian: coverage of diffusion constants of 300 runs. Silver: diffusion and activation energy of alpha-AgI by the pair
potential, and by potentials that were fitted to its disordered frames and to those of the ordered crystal (an hour of
one core).
"""

from __future__ import annotations

import sys
import time
from functools import partial

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from scipy import stats

import gapkit
from gapkit.apps.ion_transport import TransportSettings, run_transport
from gapkit.apps.ion_transport.diffusion import DiffusionSettings, diffusion
from gapkit.apps.ion_transport.displacements import mean_square_displacements
from gapkit.apps.ion_transport.silver_iodide import SilverIodide, alpha_silver_iodide
from gapkit.apps.ion_transport.toys import brownian_ions, power_law_profile, prior_profile, profile_trials
from gapkit.sampling import ReplicaSettings, run_replicas

ENSEMBLES = {
    "prior": prior_profile,
    "6 harmonics, k^-1.5": power_law_profile,
    "20 harmonics, k^-2": partial(power_law_profile, harmonics=20, amplitude=0.2, power=2.0),
}
SILVER = {
    "species": "Ag", "charge": 0.5815, "temperatures": (500.0, 600.0, 750.0), "timestep": 4.0, "disordering": 900.0,
}  # fmt: skip


def profiles(trials: int = 1000) -> None:
    """Coverage of 90 % intervals of barriers, linearised intervals, and rms z."""
    for name, ensemble in ENSEMBLES.items():
        for where in ("equispaced", "random", "forces"):
            rng = np.random.default_rng(0)
            held, linear, z, error = 0, 0, [], []
            for true, found in profile_trials(ensemble, where, trials, rng):
                low, high = found.interval(0.9)
                held += low <= true <= high
                linear += abs(found.linear - true) < 1.645 * found.linear_std
                z.append((found.value - true) / found.value_std)
                error.append(found.value - true)
            print(
                f"{name:20s} {where:10s} 90 % intervals hold {held / trials:.1%}, linearised {linear / trials:.1%}, "
                f"rms z {np.sqrt(np.mean(np.square(z))):.2f}, median |error| {1e3 * np.median(np.abs(error)):.0f} meV"
            )


def brownian(trials: int = 300, true: float = 5e-4) -> None:
    """Coverage of 90 % intervals of diffusion constants, and that of ordinary least squares."""
    for name, toy in {
        "8 ions, 200 frames": {},
        "with vibrations of 0.2 A": {"vibration": 0.2},
        "1 ion": {"n_ions": 1},
        "30 ions, 1,000 frames": {"n_ions": 30, "frames": 1000},
    }.items():
        held, together, naive, values, stds = 0, 0, 0, [], []
        for k in range(trials):
            walk = brownian_ions(true, random_state=k, **toy)
            found = diffusion(walk, DiffusionSettings(species="Li", reference="none"))
            inside = [low <= true <= high for low, high in (found.tracer.interval(), found.collective.interval())]
            held, together = held + inside[0], together + inside[1]
            values.append(found.tracer.value / true)
            stds.append(found.tracer.value_std / true)
            lags = np.arange(4, 23)
            fit = stats.linregress(lags * walk.frame_time, mean_square_displacements(walk.positions[0], lags))
            naive += abs(fit.slope / 6 - true) < stats.t.ppf(0.95, len(lags) - 2) * fit.stderr / 6
        print(
            f"{name:26s} tracer {held / trials:.1%}, collective {together / trials:.1%}, least squares "
            f"{naive / trials:.1%}; D / true {np.mean(values):.4f}, scatter {np.std(values):.4f}, "
            f"stated {np.mean(stds):.4f}"
        )


def labelled(temperature: float, ordered: bool, n: int, seed: int) -> list[ase.Atoms]:
    """Frames of dynamics by the pair potential, one a picosecond, with labels."""
    calculator = SilverIodide()
    found: list[ase.Atoms] = []
    start = alpha_silver_iodide(3, ordered=ordered, random_state=seed)
    if not ordered:
        hot = ReplicaSettings(temperature=900, steps=500, timestep=4, friction=0.02)
        (start,) = run_replicas(start, calculator, hot, random_state=seed).frames()
    positions: list[np.ndarray] = []
    bath = ReplicaSettings(temperature=temperature, steps=250 * n, timestep=4)
    keep = (250, lambda state: positions.append(state.positions[0]))
    run_replicas(start, calculator, bath, random_state=seed + 1, observers=[keep])
    for x in positions[1:]:
        frame = ase.Atoms(start.numbers, x, cell=start.cell, pbc=True, calculator=calculator)
        labels = {"energy": frame.get_potential_energy(), "forces": frame.get_forces(), "stress": frame.get_stress()}
        frame.calc = SinglePointCalculator(frame, **labels)
        found.append(frame)
    return found


def silver() -> None:
    """Diffusion by the pair potential, and by potentials fitted to 48 frames of it."""
    start = alpha_silver_iodide(3, random_state=0)

    def ask(name: str, calculator: object, steps: int, seed: int) -> None:
        begin = time.process_time()
        found = run_transport(start, calculator, TransportSettings(steps=steps, **SILVER), random_state=seed)
        print(f"{name}, {steps} steps, {time.process_time() - begin:.0f} s\n{found}", flush=True)

    ask("pair potential", SilverIodide(), 50000, 1)
    test = [frame for t in (500, 750) for frame in labelled(t, False, 6, 77 + t)]
    for name, ordered, temperatures in (
        ("disordered", False, (450, 550, 650, 750, 850, 950)),
        ("ordered", True, (50, 100, 150, 200, 250, 300)),
    ):
        train = [f for k, t in enumerate(temperatures) for f in labelled(t, ordered, 8, 10 * k)]
        term = gapkit.Term(gapkit.SOAP(r_cut=6.5, n_max=8, l_max=4), gapkit.DotProduct(2), n_sparse=400)
        gap = gapkit.GAP(terms=[term], e0={"Ag": 0.0, "I": 0.0}, folds=3, random_state=0).fit(train)
        print(f"{name} frames\n{gap.evaluate(test)}", flush=True)
        ask(f"potential of {name} frames", gap.calculator(), 12500, 3)


if __name__ == "__main__":
    for part in sys.argv[1:] or ("profiles", "brownian", "silver"):
        {"profiles": profiles, "brownian": brownian, "silver": silver}[part]()
