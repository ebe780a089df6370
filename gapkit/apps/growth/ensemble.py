"""The barrier model's uncertainty carried to growth: one run, or a few, for each draw of the barriers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gapkit.apps.growth.lattice_barriers import LatticeBarriers
from gapkit.apps.growth.simulation import GrowthSettings, run_growth
from gapkit.exceptions import SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import seed_of


@dataclass(frozen=True)
class GrowthEnsemble:
    """Growth under many draws of the barriers.

    Attributes
    ----------
    time : (k,) s
    roughness, mean_height : (s, r, k) layers
        Roughness and height of sample s and replica r.
    """

    time: np.ndarray
    roughness: np.ndarray
    mean_height: np.ndarray

    @property
    def growth_rate(self) -> np.ndarray:
        """Growth rates (s, r) of the draws, in layers per second."""
        return (self.mean_height[:, :, -1] - self.mean_height[:, :, 0]) / (self.time[-1] - self.time[0])

    def variance_components(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean of ``values`` (s, r, ...), standard deviation due to the barriers, and that due to chance in one run:
        variance components of a one-way layout (Searle, Casella and McCulloch, Variance Components (1992), 3.5)."""
        n_replicas = values.shape[1]
        within = values.var(axis=1, ddof=1).mean(axis=0)
        between = values.mean(axis=1).var(axis=0, ddof=1) - within / n_replicas
        return values.mean(axis=(0, 1)), np.sqrt(np.maximum(between, 0.0)), np.sqrt(within)


def grow_ensemble(
    samples: Sequence[LatticeBarriers],
    settings: GrowthSettings | None = None,
    n_replicas: int = 2,
    *,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> GrowthEnsemble:
    """Grow under each draw of the barriers, ``n_replicas`` times with other random numbers.

    Raises
    ------
    SettingsError
        For fewer than two samples or replicas: their variances could not be told apart.
    """
    if len(samples) < 2 or n_replicas < 2:
        raise SettingsError(f"at least 2 samples and 2 replicas are needed, not {len(samples)} and {n_replicas}")
    settings = replace(settings or GrowthSettings(), keep_heights=False)
    seeds = np.random.SeedSequence(seed_of(random_state)).generate_state(len(samples) * n_replicas)
    runs = []
    with progress_bar(total=len(seeds), desc="ensemble", show=progress) as bar:
        for k, seed in enumerate(seeds):
            runs.append(run_growth(samples[k // n_replicas], settings, random_state=int(seed)))
            bar.update()
    shape = (len(samples), n_replicas, -1)
    return GrowthEnsemble(
        runs[0].time,
        np.array([r.roughness for r in runs]).reshape(shape),
        np.array([r.mean_height for r in runs]).reshape(shape),
    )
