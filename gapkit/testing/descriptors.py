"""A check of descriptors: all that models ask of one."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np

from gapkit.checks import check_positive
from gapkit.descriptors import Descriptor
from gapkit.exceptions import SettingsError
from gapkit.kernels import Kernel
from gapkit.randomness import seed_of
from gapkit.testing import environments, predictions, storage, symmetries
from gapkit.testing.frames import small_frames
from gapkit.testing.report import CheckReport
from gapkit.testing.trial import Trial


def check_descriptor(
    descriptor: Descriptor,
    frames: Sequence[ase.Atoms] | None = None,
    *,
    kernel: Kernel | None = None,
    random_state: int | np.random.Generator | None = 0,
    tolerance: float = 1e-6,
) -> CheckReport:
    """Try everything that models ask of a descriptor.

    Shapes and types; derivatives of features and weights by positions and strain against finite differences of fourth
    order; environments of some atoms, of many frames, of domains with ghosts; translation, rotation, order of atoms,
    choice of the cell; continuity at the cutoff; predictions and their derivatives; rows and prior variances of a fit;
    copies, settings, and a small model that is fitted, saved and loaded.

    Parameters
    ----------
    descriptor
        Descriptor as it is constructed: the check asks it :meth:`~gapkit.descriptors.Descriptor.for_species`.
    frames
        Frames to try it on; default: eight small ones of carbon, oxygen and silicon, isolated, partly periodic, skewed,
        smaller than the cutoff, and on a line. Of frames that are given, only their species are used.
    kernel
        Kernel of predictions and of the small model; default: several.
    random_state
        Seed of frames, displacements and rotations.
    tolerance
        Difference allowed from finite differences, in units of the largest number of its kind. Numbers that should be
        the same but for rounding may differ by a thousandth of it.

    Returns
    -------
    CheckReport
        Checks that were made, with the largest difference of each.

    Raises
    ------
    AssertionError
        For the first check that fails: what differs, where, by how much, and what to do.
    SettingsError
        For an object that is no descriptor, no frames, or a tolerance that is not positive.

    Examples
    --------
    >>> import gapkit
    >>> from gapkit.testing import check_descriptor
    >>> report = check_descriptor(gapkit.PairDistance(r_cut=3.0))
    >>> "derivatives by strain" in report.passed
    True
    """
    if not isinstance(descriptor, Descriptor):
        raise SettingsError(f"descriptor must be a gapkit.descriptors.Descriptor, constructed, not {descriptor!r:.80}")
    tolerance = check_positive("tolerance", tolerance)
    rng = np.random.default_rng(seed_of(random_state))
    chosen = small_frames(descriptor.r_cut, rng) if frames is None else list(frames)
    if not chosen:
        raise SettingsError("frames must hold at least one frame; leave it out for those that come with gapkit")
    trial = Trial.of(descriptor, chosen, float(tolerance), rng)
    environments.check_species_and_channels(trial)
    environments.check_shapes(trial)
    environments.check_ways_to_ask(trial)
    environments.check_derivatives(trial)
    environments.check_frame_environments(trial)
    environments.check_kinds(trial)
    symmetries.check_invariances(trial)
    symmetries.check_cutoff(trial)
    symmetries.check_structures(trial)
    predictions.check_predictions(trial, kernel)
    predictions.check_energy_derivatives(trial, kernel)
    predictions.check_rows(trial, kernel)
    storage.check_copies(trial)
    storage.check_reshaped(trial)
    storage.check_settings(trial)
    storage.check_model(trial, kernel)
    return trial.checks.report()
