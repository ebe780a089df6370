"""Committees of refitted models, for comparison with the posterior; a committee costs a fit for each member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
from sklearn.base import clone

from gapkit.estimators.gap import GAP
from gapkit.exceptions import SettingsError
from gapkit.potential.samples import SampledPotential
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.structures.labels import labelled_frames


@dataclass(frozen=True)
class Committee:
    """Committee: models fitted to resampled frames, or with different sparse points.

    Attributes
    ----------
    gap
        The model that the members are variants of; it gives the mean.
    members : list of GAP
    """

    gap: GAP
    members: list[GAP]

    @classmethod
    def fit(
        cls,
        gap: GAP,
        frames: Sequence[ase.Atoms],
        n_members: int = 8,
        vary: str = "frames",
        random_state: int | None = None,
        progress: bool = False,
    ) -> Committee:
        """Refit a fitted model ``n_members`` times with its reference energies and levels.

        Parameters
        ----------
        gap
            Fitted to ``frames``.
        vary
            ``"frames"``: bootstrap, frames drawn with replacement (isolated atoms always stay); ``"sparse"``: all
            frames, random sparse points.

        Raises
        ------
        SettingsError
            For fewer than two members, or an unknown ``vary``.
        """
        if n_members < 2:
            raise SettingsError(f"a committee has at least 2 members, not {n_members}")
        if vary not in ("frames", "sparse"):
            raise SettingsError(f"vary must be 'frames' or 'sparse', not {vary!r}")
        rng = generator_of(random_state)
        checked = labelled_frames(frames, gap.energy_key, gap.forces_key, gap.virial_key, True)
        always = [f.index for f in checked if f.is_isolated_atom]
        not_isolated = np.array([f.index for f in checked if not f.is_isolated_atom])
        members = []
        for _ in progress_bar(range(n_members), desc="committee", unit="fit", show=progress):
            pick = rng.choice(not_isolated, size=len(not_isolated)) if vary == "frames" else not_isolated
            member = frozen_levels(gap, int(rng.integers(2**31)))
            if vary == "sparse":
                member.set_params(sparse="random")
            members.append(member.fit([frames[k] for k in [*pick, *always]]))
        return cls(gap, members)

    def samples(self, n: int | None = None, random_state: int | None = None) -> list[SampledPotential]:
        """Potentials of all members, or of ``n`` drawn without replacement, like :meth:`gapkit.GAP.samples`."""
        drawn = [SampledPotential(m.potential_) for m in self.members]
        if n is None or n == len(drawn):
            return drawn
        if not 1 <= n < len(drawn):
            raise SettingsError(f"the committee has {len(drawn)} members; ask for at most as many, not {n}")
        pick = generator_of(random_state).permutation(len(drawn))[:n]
        return [drawn[k] for k in pick]

    def energy_std(self, frames: Sequence[ase.Atoms]) -> np.ndarray:
        """Standard deviation (frames,) of the members' energies (eV)."""
        return np.std([m.predict(frames).energy for m in self.members], axis=0, ddof=1)

    def forces_std(self, frames: Sequence[ase.Atoms]) -> list[np.ndarray]:
        """Standard deviations (n, 3) of the members' forces (eV/A), per frame."""
        forces = [m.predict(frames).forces for m in self.members]
        return [np.std([f[k] for f in forces], axis=0, ddof=1) for k in range(len(frames))]


def frozen_levels(gap: GAP, seed: int) -> GAP:
    """An unfitted model with the levels, reference energies and terms that ``gap`` found."""
    potential = gap.potential_
    terms = [replace(t, signal=float(s)) for t, s in zip(potential.terms, potential.posterior.signal, strict=True)]
    noise: dict = {"config_types": {}}
    for group, level in potential.noise_levels.items():
        kind, _, config = group.partition(":")
        if kind in ("energy", "forces", "virial"):
            (noise["config_types"].setdefault(config, {}) if config else noise)[kind] = float(level)
    e0 = {int(z): float(e) for z, e in potential.reference.values.items()}
    return clone(gap).set_params(terms=terms, noise_levels=noise, e0=e0, folds=1, random_state=seed, sparse="auto")
