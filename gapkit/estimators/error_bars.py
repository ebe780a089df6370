"""Error bars of a fitted model beyond one standard deviation per number: covariances, samples, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import ase
import numpy as np
from sklearn.utils.validation import check_is_fitted

from gapkit.fitting.recalibrate import fit_recalibration, recalibrated
from gapkit.potential.intervals import half_widths
from gapkit.potential.joint import Difference, JointEnergies, joint_energies
from gapkit.potential.potential import Potential
from gapkit.potential.samples import SampledPotential, Sampler
from gapkit.progress import progress_bar
from gapkit.structures.labels import atoms_list, labelled_frames


class ErrorBars:
    """The part of :class:`gapkit.GAP` that is about errors: it works on ``potential_`` alone."""

    potential_: Potential
    _fit: Any
    energy_key: str | None
    forces_key: str | None
    virial_key: str | None

    def joint_energies(self, X: Sequence[ase.Atoms], noise: bool = True) -> JointEnergies:
        """Energies of frames with the covariance of their errors (:func:`gapkit.potential.joint.joint_energies`)."""
        check_is_fitted(self, "potential_")
        return joint_energies(self.potential_, atoms_list(X), noise)

    def energy_difference(self, final: ase.Atoms, initial: ase.Atoms, noise: bool = True) -> Difference:
        """E(final) - E(initial) and its standard deviation (eV), with the correlation of both errors."""
        return self.joint_energies([final, initial], noise).difference(0, 1)

    def samples(
        self, n: int, random_state: int | None = None, frames: Sequence[ase.Atoms] = ()
    ) -> list[SampledPotential]:
        """``n`` potentials drawn from the posterior, each with a ``calculator()``.

        They carry the variance left in the weights, and the Nystrom residual at the environments of ``frames``.
        """
        check_is_fitted(self, "potential_")
        return Sampler.of(self.potential_, frames).samples(n, np.random.default_rng(random_state))

    def recalibrate(
        self,
        X: Sequence[ase.Atoms],
        method: str = "variance",
        random_state: int | None = None,
        progress: bool = False,
    ) -> Self:
        """Set the standard deviations of new labels by frames that were not fitted to.

        Parameters
        ----------
        X
            Labelled frames of the kind that predictions are wanted for: neither training nor test frames.
        method
            ``"variance"``: the noise follows the posterior variance; ``"scale"``: one factor per label kind. See
            :mod:`gapkit.uncertainty.recalibration`.
        random_state
            Seed of the cut into frames that set the standard deviation of intervals and frames that set their width.

        Raises
        ------
        DataError
            For too few labels, or frames that the potential cannot compute.
        """
        check_is_fitted(self, "potential_")
        frames = labelled_frames(X, self.energy_key, self.forces_key, self.virial_key, True)
        for frame in frames:
            self.potential_.check(frame.atoms, f"frame {frame.index}")
        shown = partial(progress_bar, desc="recalibrate", unit="frame", show=progress)
        found = fit_recalibration(self.potential_, frames, method, np.random.default_rng(random_state), shown)
        self.potential_ = recalibrated(self.potential_, found)
        if self._fit is not None:
            self._fit = replace(self._fit, potential=self.potential_)
        return self

    def intervals(self, X: Sequence[ase.Atoms], level: float = 0.9, by_frame: bool = False) -> list[dict[str, Any]]:
        """Half-widths of intervals that hold a new label with probability ``level``, per frame.

        Split conformal (:class:`gapkit.uncertainty.recalibration.SplitConformal`): for a model that was recalibrated.
        ``energy`` (eV), ``forces`` (n, 3), ``stress`` (6,); None where there were no such calibration labels.
        """
        check_is_fitted(self, "potential_")
        return [
            half_widths(self.potential_, atoms, level, by_frame, f"frame {k}") for k, atoms in enumerate(atoms_list(X))
        ]
