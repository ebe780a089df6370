r"""Barriers by an oracle with few calls: the saddle is searched on a potential that learns the oracle's labels.

The potential only leads to the stationary points. At the end both minima and the saddle carry the oracle's own labels,
so the barrier has no error of the potential's energy. What is left are the residual forces f of the labels. Each point
lies :math:`\tfrac12 f^T H^{-1} f` above (a saddle: also below) the reference's own stationary point, to second order;
this shift is applied with the potential's Hessian and stated as the error, beside the label noise.

Surrogate searches of this kind: Koistinen, Dagbjartsdottir, Asgeirsson, Vehtari and Jonsson, J. Chem. Phys. 147, 152720
(2017); Torres, Jennings, Hansen, Boes and Bligaard, Phys. Rev. Lett. 122, 156001 (2019).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np

from gapkit.active.labelling import LabelStore
from gapkit.apps.kinetics.saddle_labels import Labeller, Learner
from gapkit.apps.kinetics.saddle_search import POINTS, Limits, SaddleSearch, SearchStep
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import generator_of
from gapkit.sampling.paths import Path
from gapkit.settings import Settings


@dataclass(frozen=True)
class ActiveBarrierSettings(Settings):
    """Active search for a barrier.

    Attributes
    ----------
    fmax : float, eV/A
        Largest force of the oracle at both minima and the saddle.
    barrier_std : float, eV
        Largest standard deviation of the barriers from the residual forces; ``fmax`` is halved until it holds.
    label_noise : float, eV
        Standard deviation of the oracle's energies, as of a method with convergence noise; it is added to the errors.
    images : int
        Images of the band on the potential.
    start_images : int
        Images of the interpolated path that are labelled first, where neither model nor frames are given.
    rattle : float, A
        Standard deviation of the random displacements of these images.
    trust : float
        Largest domain excess of a frame that is labelled; a search that leads further is followed only so far.
    longest : float, A
        Largest displacement of an atom of such a frame from the nearest labelled one, for the same purpose.
    max_labels : int
        Labels after which the search is given up.
    verify : bool
        Whether the oracle's own curvature along the saddle's mode is taken, by one more label.
    """

    fmax: float = 0.02
    barrier_std: float = 0.005
    label_noise: float = 0.0
    images: int = 5
    start_images: int = 3
    rattle: float = 0.05
    trust: float = 3.0
    longest: float = 0.3
    max_labels: int = 60
    verify: bool = True

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        for name in ("fmax", "barrier_std", "rattle", "trust", "longest"):
            if not 0 < getattr(self, name) < np.inf:
                raise SettingsError(f"{name} must be positive and finite, not {getattr(self, name)}")
        if not 0 <= self.label_noise < np.inf:
            raise SettingsError(f"label_noise must not be negative, not {self.label_noise}")
        for name, least in (("images", 1), ("start_images", 1), ("max_labels", 4)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class ActiveBarrierResult:
    """Barrier between two minima by an oracle's labels, and what the search for it has cost.

    Attributes
    ----------
    settings : ActiveBarrierSettings
    converged : bool
        Whether forces and errors are below the limits, no image of the path may lie above the saddle, and the saddle is
        one of first order whose two sides lead down to both ends on the potential.
    forward, forward_std : float, eV
        Barrier from the initial minimum: labels, with the shifts of both points applied.
    backward, backward_std : float, eV
        Barrier from the final minimum.
    reaction_energy, reaction_energy_std : float, eV
        Energy of the final less that of the initial minimum.
    points : tuple of ase.Atoms
        Initial minimum, saddle and final minimum with the oracle's labels.
    largest_force : (3,) eV/A
        Labelled forces there.
    shift, shift_error : (3,) eV
        Energy of the reference's own stationary points less the labels, and its standard deviation.
    curvature : float or None, eV/A^2
        By the oracle, along the saddle's mode; None where it was not taken.
    path : gapkit.sampling.paths.Path
        The last path on the potential.
    frames : list of ase.Atoms
        All labelled frames, in the order of the search.
    calls : int
        Calls of the oracle, failed ones included; labels that were in the folder already are not among them.
    failures : tuple of str
        Reasons of failed labels.
    steps : tuple of SearchStep
        Course of the search.
    gap : gapkit.GAP
        The potential of these labels, but for the one that gave ``curvature``.
    """

    settings: ActiveBarrierSettings
    converged: bool
    forward: float
    forward_std: float
    backward: float
    backward_std: float
    reaction_energy: float
    reaction_energy_std: float
    points: tuple[ase.Atoms, ase.Atoms, ase.Atoms]
    largest_force: np.ndarray
    shift: np.ndarray
    shift_error: np.ndarray
    curvature: float | None
    path: Path
    frames: list[ase.Atoms]
    calls: int
    failures: tuple[str, ...]
    steps: tuple[SearchStep, ...]
    gap: GAP

    def to_dict(self) -> dict[str, Any]:
        """Settings, barriers with their errors, and the cost, JSON-ready; frames are left out."""
        return {
            "settings": self.settings.as_dict(), "converged": self.converged,
            "forward": self.forward, "forward_std": self.forward_std,
            "backward": self.backward, "backward_std": self.backward_std,
            "reaction_energy": self.reaction_energy, "reaction_energy_std": self.reaction_energy_std,
            "largest_force": self.largest_force.tolist(), "shift": self.shift.tolist(),
            "shift_error": self.shift_error.tolist(), "curvature": self.curvature,
            "connects": None if self.path.connects is None else list(self.path.connects),
            "labels": len(self.frames), "calls": self.calls, "failures": list(self.failures),
            "notes": list(self.path.notes),
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [f"{'':<10}{'value':>9} {'std':>8}"]
        for name in ("forward", "backward", "reaction_energy"):
            value, std = getattr(self, name), getattr(self, f"{name}_std")
            lines.append(f"{name.split('_')[0]:<10}{value:>9.4f} {std:>8.4f} eV")
        rows = zip(POINTS, self.largest_force, self.shift, strict=True)
        lines += [f"{n:<10}largest force {f:.4f} eV/A, shift {1e3 * s:+.2f} meV" for n, f, s in rows]
        if self.curvature is not None:
            lines.append(f"curvature along the mode, by the oracle: {self.curvature:.3f} eV/A^2")
        state = "converged" if self.converged else "NOT CONVERGED"
        lines.append(f"{state}; {self.calls} calls of the oracle, {len(self.frames)} labels")
        if self.path.connects is not None and not all(self.path.connects):
            lines.append("the way down from the saddle does not end at both ends: this is not the barrier between them")
        return "\n".join([*lines, *(f"note: {note}" for note in self.path.notes)])


def run_active_barrier(
    make_oracle: Callable[[], Any],
    initial: ase.Atoms,
    final: ase.Atoms,
    settings: ActiveBarrierSettings | None = None,
    *,
    model: GAP | None = None,
    frames: Sequence[ase.Atoms] = (),
    folder: str | os.PathLike | None = None,
    callback: Callable[[SearchStep], bool | None] | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> ActiveBarrierResult:
    """Barrier between two minima by an oracle, searched on a potential that learns its labels.

    The ends and a few images of the interpolated path are labelled, a potential is fitted, both ends are relaxed and
    the saddle is found on it (:func:`gapkit.sampling.paths.find_path`), and the oracle labels these three points, with
    the least certain image of the path that may lie above the saddle. This repeats until the labelled forces are small.
    A point that lies too far out of the domain of the labels is approached in steps, so a rough first potential does
    no harm.

    Parameters
    ----------
    make_oracle
        Returns a new ASE calculator, such as ``functools.partial(gapkit.oracles.oracle, "gfn2")``. Charge and spin
        belong into its settings.
    initial, final
        The two ends, with the same atoms in the same order; they need not be relaxed.
    model
        Unfitted: it is fitted to the labels (default: :class:`gapkit.GAP` with its defaults). Fitted, and saved with
        ``updatable=True`` if it comes from a file: it is updated by the labels, and stays as it was.
    frames
        Labelled frames to begin with, of the same oracle; for an unfitted model.
    folder
        For the labels (:class:`gapkit.active.LabelStore`). A search that was killed and is started again with the same
        input takes them from there. Default: a temporary folder.
    callback
        Told every :class:`SearchStep`; True ends the search.
    random_state
        Seed of displacements, and of the default model.
    progress
        Whether a bar shows the labels.

    Raises
    ------
    DataError
        For ends between which there is no path, an oracle that fails for an end, or a potential that finds no path.
    SettingsError
        For an oracle that cannot be called, frames beside a fitted model, or an unknown kind of constraint.

    Examples
    --------
    >>> from ase.calculators.emt import EMT
    >>> from gapkit.apps.kinetics.toys import vacancy_hop
    >>> found = run_active_barrier(EMT, *vacancy_hop("Al", 3.994), random_state=0)  # doctest: +SKIP
    >>> round(found.forward, 3), found.calls  # doctest: +SKIP
    (0.398, 10)
    """
    settings = settings or ActiveBarrierSettings()
    rng = generator_of(random_state)
    model = GAP(random_state=int(rng.integers(2**31))) if model is None else model
    limits = Limits(**{name: getattr(settings, name) for name in Limits.__dataclass_fields__})
    learner = Learner(model, frames)
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder
        label = Labeller(make_oracle, LabelStore(place))
        search = SaddleSearch(initial, final, limits, label, learner, rng)
        bar = stack.enter_context(progress_bar(desc="saddle", unit="label", show=progress, total=settings.max_labels))
        search.begin()

        def each(step: SearchStep) -> bool | None:
            bar.update(len(label.frames) - bar.n)
            bar.set_postfix_str(f"{step.forward:.3f} eV, saddle {step.largest_force[1]:.3f} eV/A", refresh=False)
            return None if callback is None else callback(step)

        gap = search.run(each)
    if search.path is None or "saddle" not in search.best:
        last = search.steps[-1].note
        raise DataError(
            f"no saddle was labelled within {label.calls} calls of the oracle"
            + (f"; the potential: {last}" if last else "")
            + "; relax the ends first, or give frames between them"
        )
    return _result(settings, search, gap)


def _result(settings: ActiveBarrierSettings, search: SaddleSearch, gap: GAP) -> ActiveBarrierResult:
    """The result of a search that has labelled a saddle."""
    search.weigh(gap)
    initial, saddle, final = (search.best[name] for name in POINTS)
    points = (initial, saddle, final)
    shift, error = (np.array([table[name] for name in POINTS]) for table in (search.shift, search.shift_error))
    energy = np.array([a.calc.results["energy"] for a in points]) + shift
    noise = np.sqrt(2) * settings.label_noise

    def std(first: int, second: int) -> float:
        return float(np.sqrt(error[first] ** 2 + error[second] ** 2 + noise**2))

    assert search.path is not None
    return ActiveBarrierResult(
        settings=settings, converged=search.converged and search.path.connects == (True, True),
        forward=float(energy[1] - energy[0]), forward_std=std(1, 0),
        backward=float(energy[1] - energy[2]), backward_std=std(1, 2),
        reaction_energy=float(energy[2] - energy[0]), reaction_energy_std=std(2, 0),
        points=points, largest_force=np.array([search.largest_force(name) for name in POINTS]),
        shift=shift, shift_error=error, curvature=search.curvature, path=search.path, frames=search.label.frames,
        calls=search.label.calls, failures=tuple(search.label.failures), steps=tuple(search.steps), gap=gap,
    )  # fmt: skip
