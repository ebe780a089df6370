"""Cross-validation that keeps groups of frames together: by config_type, by trajectory, or by any labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from gapkit.estimators.gap import GAP
from gapkit.estimators.report import Report
from gapkit.exceptions import DataError, SettingsError


@dataclass(frozen=True)
class CrossValidation:
    """Errors of models on the groups that each was not fitted to; prints as a table.

    Attributes
    ----------
    groups : tuple of tuple of str
        Groups held out in each split.
    n_train, n_test : tuple of int
        Frames fitted to and judged on.
    reports : tuple of Report
    """

    groups: tuple[tuple[str, ...], ...]
    n_train: tuple[int, ...]
    n_test: tuple[int, ...]
    reports: tuple[Report, ...]

    def values(self, key: str) -> np.ndarray:
        """A number of every split's report (``Report.summary``), nan where it has none."""
        return np.array([np.nan if r.summary[key] is None else r.summary[key] for r in self.reports])

    def __str__(self) -> str:
        lines = [f"{'held out':<32} {'train':>6} {'test':>6} {'E MAE':>10} {'F MAE':>10}"]
        lines.append(f"{'':<32} {'':>6} {'':>6} {'meV/atom':>10} {'eV/A':>10}")
        energy, force = self.values("energy_mae_mev_per_atom"), self.values("force_mae_ev_per_ang")
        for k, names in enumerate(self.groups):
            sizes = f"{self.n_train[k]:>6} {self.n_test[k]:>6}"
            lines.append(f"{', '.join(names):<32.32} {sizes} {energy[k]:>10.2f} {force[k]:>10.4f}")
        lines.append(f"{'mean':<32} {'':>6} {'':>6} {np.nanmean(energy):>10.2f} {np.nanmean(force):>10.4f}")
        return "\n".join(lines)


def frame_groups(frames: Sequence[Atoms], groups: str | Sequence[Any]) -> list[str | None]:
    """Group of each frame; None for isolated atoms, which every split is fitted to.

    ``groups``: the name of an ``info`` entry (``"config_type"``, ``"trajectory"``; frames without it are groups of
    their own), or one label per frame.

    Raises
    ------
    SettingsError
        Where there are more or fewer labels than frames.
    """
    if not isinstance(groups, str):
        labels = list(groups)
        if len(labels) != len(frames):
            raise SettingsError(f"groups must have one label per frame: {len(labels)} for {len(frames)} frames")
    else:
        labels = [a.info.get(groups, f"frame {k}") for k, a in enumerate(frames)]
    return [None if len(a) == 1 and not a.pbc.any() else str(g) for a, g in zip(frames, labels, strict=True)]


def group_splits(labels: Sequence[str | None], n_splits: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to fit to and to test on: whole groups, each held out once; frames labelled None are always fitted to.

    ``n_splits`` None: one group at a time.

    Examples
    --------
    >>> [(train.tolist(), test.tolist()) for train, test in group_splits(["a", "a", "b", None], n_splits=None)]
    [([2, 3], [0, 1]), ([0, 1, 3], [2])]
    """
    index = np.array([k for k, g in enumerate(labels) if g is not None], dtype=np.int64)
    always = np.array([k for k, g in enumerate(labels) if g is None], dtype=np.int64)
    chosen_labels = [labels[k] for k in index]
    n_groups = len(set(chosen_labels))
    if n_groups < 2:
        raise DataError("all frames are of one group, so none can be held out; give other groups")
    if n_splits is not None and not 2 <= n_splits <= n_groups:
        raise SettingsError(f"n_splits must be from 2 to the number of groups, {n_groups}, not {n_splits!r}")
    for train, test in GroupKFold(n_splits or n_groups).split(index, groups=chosen_labels):
        yield np.sort(np.concatenate([index[train], always])), index[test]


def cross_validate(
    gap: GAP,
    frames: Sequence[Atoms],
    groups: str | Sequence[Any] = "config_type",
    n_splits: int | None = None,
    uncertainty: bool = False,
    callback: Callable[[int, Report], None] | None = None,
) -> CrossValidation:
    """Fit clones of ``gap`` with whole groups of frames held out, and test each on the frames that it has not seen.

    By config_type this asks how the model extrapolates, by trajectory how it does on like frames that are not
    near-copies of those it was fitted to.

    Parameters
    ----------
    groups
        Name of an ``info`` entry, or one label per frame.
    n_splits
        Number of models; default: one for each group.
    uncertainty
        Also judge standard deviations.
    callback
        Called with the number of a split and its report.
    """
    frames = list(frames)
    labels = frame_groups(frames, groups)
    held, reports, sizes = [], [], []
    for k, (train, test) in enumerate(group_splits(labels, n_splits)):
        model = clone(gap).fit([frames[i] for i in train])
        reports.append(model.evaluate([frames[i] for i in test], uncertainty=uncertainty))
        held.append(tuple(sorted({str(labels[i]) for i in test})))
        sizes.append((len(train), len(test)))
        if callback is not None:
            callback(k, reports[-1])
    return CrossValidation(tuple(held), tuple(a for a, _ in sizes), tuple(b for _, b in sizes), tuple(reports))
