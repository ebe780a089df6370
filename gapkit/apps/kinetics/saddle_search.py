"""Loop of an active search for a saddle: search on the potential, ask the oracle where it matters, learn, repeat."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ase
import numpy as np

from gapkit.apps.kinetics.saddle_labels import Labeller, Learner, distance, domain_excess, frame_within, nearest
from gapkit.apps.kinetics.stationary_points import residual_shift
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, GapkitWarning, NumericsError
from gapkit.sampling.paths import Path, PathSettings, Saddle, find_path
from gapkit.sampling.paths.ends import check_ends, final_positions
from gapkit.sampling.paths.interpolation import idpp, straight_line
from gapkit.vibrations import hessian

#: names of the three stationary points
POINTS = ("initial", "saddle", "final")
#: distance (A) from a labelled point up to which a new place of it is the same
NEAR = 0.05
#: displacement (A) of the atom that moves most, for the oracle's own curvature
_ALONG = 0.05
#: searches without a path that are forgiven, one after the other
_PATIENCE = 6
#: energies (eV) that are equal when two labels of a minimum are compared
_EQUAL = 1e-3


@dataclass(frozen=True)
class SearchStep:
    """One step of the loop.

    Attributes
    ----------
    labels : int
        Labels that the potential had learnt.
    forward : float, eV
        Barrier by the potential; nan without a path.
    largest_force : (3,) eV/A
        Labelled forces of initial minimum, saddle and final minimum so far; infinite where there is none.
    excess : float
        Domain excess of the potential's saddle; above 1 it is out of the domain of the labels.
    asked : tuple of str
        Reasons of the labels that the step asked for.
    note : str
        Reason why the potential has no path, or empty.
    """

    labels: int
    forward: float
    largest_force: tuple[float, float, float]
    excess: float
    asked: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        forces = " ".join(f"{f:>7.3f}" for f in self.largest_force)
        return f"{self.labels:>4} labels {self.forward:>8.4f} eV, forces {forces} eV/A, asked: {', '.join(self.asked)}"


@dataclass(frozen=True)
class Limits:
    """Numbers that decide what the loop asks for and when it ends.

    Attributes
    ----------
    images, start_images : int
        Images of the band; images of the interpolated path that are labelled at the beginning.
    rattle : float, A
        Standard deviation of random displacements of these images.
    fmax : float, eV/A
        Largest labelled force at the stationary points.
    barrier_std : float, eV
        Largest standard deviation of the barriers from the residual forces.
    trust, longest : float
        Largest domain excess of a frame that is labelled, and largest distance (A) from all labelled frames.
    max_labels : int
    verify : bool
        Whether the oracle's own curvature along the mode is taken.
    """

    images: int
    start_images: int
    rattle: float
    fmax: float
    barrier_std: float
    trust: float
    longest: float
    max_labels: int
    verify: bool


class SaddleSearch:
    """State of the loop.

    Attributes
    ----------
    best : dict
        Labelled frames of initial minimum, saddle and final minimum, by name.
    path : Path or None
        The last path on the potential.
    curvature : float or None, eV/A^2
        By the oracle, along the saddle's mode.
    shift, shift_error : dict
        By :func:`gapkit.apps.kinetics.stationary_points.residual_shift`, by name (eV).
    converged : bool
    steps : list of SearchStep
    """

    def __init__(
        self,
        initial: ase.Atoms,
        final: ase.Atoms,
        limits: Limits,
        label: Labeller,
        learner: Learner,
        rng: np.random.Generator,
    ) -> None:
        self.free = check_ends(initial, final)
        aligned = final.copy()
        aligned.set_positions(final_positions(initial, final, self.free, True), apply_constraint=False)
        if distance(initial, aligned) < NEAR:
            raise DataError("the two ends are the same frame: no atom moves")
        self.ends, self.limits, self.label, self.learner, self._rng = (initial, aligned), limits, label, learner, rng
        self.fmax = limits.fmax
        self.best: dict[str, ase.Atoms] = {}
        self.shift, self.shift_error = dict[str, float](), dict[str, float]()
        self.path: Path | None = None
        self.curvature: float | None = None
        self.converged = False
        self.steps: list[SearchStep] = []
        self._new: list[ase.Atoms] = []
        self._verified: ase.Atoms | None = None

    # ---- labels

    def largest_force(self, name: str) -> float:
        """Largest labelled force (eV/A) on a free atom of a stationary point; infinite where it has no label."""
        return self._largest(self.best[name]) if name in self.best else np.inf

    def _largest(self, labelled: ase.Atoms) -> float:
        return float(np.linalg.norm(labelled.calc.results["forces"][self.free], axis=1).max())

    def _ask(self, wanted: Sequence[tuple[str, ase.Atoms]]) -> None:
        """Label frames; those that are a stationary point of the potential become the best known one of its name."""
        frames = [self._unlike_known(atoms) for _, atoms in wanted]
        found = self.label(frames)
        self._new += [a for a in found if a is not None]
        for (name, _), labelled in zip(wanted, found, strict=True):
            point = name.removeprefix("towards ")
            if point in POINTS and labelled is not None and self._better(point, labelled, on_the_way=name != point):
                self.best[point] = labelled
                self.shift.pop(point, None)

    def _better(self, point: str, labelled: ase.Atoms, on_the_way: bool) -> bool:
        """Whether a label is the best one of a point: ends go down in energy, or in force at an equal energy."""
        if point == "saddle":
            return not on_the_way
        if point not in self.best:
            return True
        change = labelled.calc.results["energy"] - self.best[point].calc.results["energy"]
        return change < -_EQUAL or (abs(change) <= _EQUAL and self._largest(labelled) < self.largest_force(point))

    def _unlike_known(self, atoms: ase.Atoms) -> ase.Atoms:
        """The frame, displaced a little at random where its label is known: a label twice teaches nothing."""
        if self.label.frames and distance(nearest(self.label.frames, atoms), atoms) < 1e-4:
            return self._rattled(atoms)
        return atoms

    def _rattled(self, atoms: ase.Atoms) -> ase.Atoms:
        made = atoms.copy()
        noise = np.zeros_like(atoms.positions)
        noise[self.free] = self._rng.normal(scale=self.limits.rattle, size=(len(self.free), 3))
        made.set_positions(atoms.positions + noise, apply_constraint=False)
        return made

    def _interpolated(self, images: int) -> list[ase.Atoms]:
        """Images between the ends, by pair potentials (IDPP)."""
        initial, final = self.ends
        line = idpp(initial, straight_line(initial.positions, final.positions, images), self.free, True)
        made = [initial.copy() for _ in line[1:-1]]
        for atoms, x in zip(made, line[1:-1], strict=True):
            atoms.set_positions(x, apply_constraint=False)
        return made

    def begin(self) -> None:
        """Labels of both ends, and of displaced images of the interpolated path where nothing else is known."""
        wanted = [("initial", self.ends[0]), ("final", self.ends[1])]
        if not self.learner.knows:
            wanted += [("start", self._rattled(a)) for a in self._interpolated(self.limits.start_images)]
        self._ask(wanted)
        for name in ("initial", "final"):
            if name not in self.best:
                raise DataError(f"the oracle failed for the {name} frame: {self.label.failures[0]}")

    # ---- the loop

    def run(self, callback: Callable[[SearchStep], bool | None]) -> GAP:
        """Run until the saddle is found or the labels are used up; return the potential of all labels."""
        lost = 0
        while True:
            gap = self.learner.learn(self._new)
            learnt, self._new = len(self.label.frames), []
            found = self._search(gap)
            if isinstance(found, str):
                lost += 1
                note, wanted, excess = found, self._lost(gap), np.inf
            else:
                lost, note, self.path = 0, "", found
                top = _top(found)
                wanted, excess = self._wanted(gap, found, top), domain_excess(gap, top)
            left = self.limits.max_labels - learnt
            wanted = wanted[: max(left, 0)]
            forces = (self.largest_force("initial"), self.largest_force("saddle"), self.largest_force("final"))
            forward = self.path.barrier_forward if self.path is not None and not note else np.nan
            step = SearchStep(learnt, forward, forces, excess, tuple(name for name, _ in wanted), note)
            self.steps.append(step)
            stop = callback(step)
            if not wanted and not note and left > 0:
                wanted = self._last_checks(gap, found)  # type: ignore[arg-type]
                self.converged = not wanted
            if self.converged or stop or not wanted or lost > _PATIENCE:
                return gap
            self._ask(wanted[: max(left, 0)])

    def _search(self, gap: GAP) -> Path | str:
        """A path on the potential from the best known ends, or the reason why there is none."""
        initial, final = self.ends[0].copy(), self.ends[1].copy()
        for name, atoms in (("initial", initial), ("final", final)):
            atoms.set_positions(self.best[name].positions, apply_constraint=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", GapkitWarning)  # the path's notes say the same
                return find_path(initial, final, gap.calculator(), PathSettings(images=self.limits.images))
        except (DataError, NumericsError) as error:
            return str(error)

    def _lost(self, gap: GAP) -> list[tuple[str, ase.Atoms]]:
        """The two most doubtful images of the interpolated path: labels for a potential that has no path."""
        images = sorted(self._interpolated(self.limits.images), key=lambda a: domain_excess(gap, a))
        return [("no path", self._rattled(a)) for a in images[-2:]]

    def _wanted(self, gap: GAP, path: Path, top: ase.Atoms) -> list[tuple[str, ase.Atoms]]:
        """Frames of a path that must be labelled, with the reason."""
        ends = [self._point(gap, "initial", path.images[0]), self._point(gap, "final", path.images[-1])]
        wanted = [one for one in ends if one is not None]
        if any(name not in POINTS for name, _ in wanted):
            return wanted  # a path between ends that are not reached yet is worth no labels
        saddle, doubtful = self._point(gap, "saddle", top), self._doubtful(gap, path, top)
        if saddle is not None:
            wanted.append(saddle)
        if doubtful is not None:
            wanted.append(("path", self._within(gap, doubtful)))
        return wanted

    def _point(self, gap: GAP, name: str, atoms: ase.Atoms) -> tuple[str, ase.Atoms] | None:
        """Frame to label for a stationary point of the potential; None where its label is good enough."""
        if self.largest_force(name) < self.fmax and distance(self.best[name], atoms) < NEAR:
            return None
        frame = self._within(gap, atoms)
        return (name if frame is atoms else f"towards {name}", frame)

    def _within(self, gap: GAP, atoms: ase.Atoms) -> ase.Atoms:
        return frame_within(gap, self.label.frames, atoms, self.limits.trust, self.limits.longest)

    def _doubtful(self, gap: GAP, path: Path, top: ase.Atoms) -> ase.Atoms | None:
        """The least certain image that may lie above the saddle by two standard deviations, if there is one."""
        images = [a for a in path.images[1:-1] if distance(nearest(self.label.frames, a), a) > 2 * NEAR]
        images = [a for a in images if distance(a, top) > 2 * NEAR]
        if not images:
            return None
        joint = gap.joint_energies([*images, top])
        differences = [joint.difference(k, len(images)) for k in range(len(images))]
        reach = [d.value + 2 * d.std - self.limits.barrier_std for d in differences]
        likely = [k for k in range(len(images)) if reach[k] > 0]
        return images[max(likely, key=lambda k: differences[k].std)] if likely else None

    def _last_checks(self, gap: GAP, path: Path) -> list[tuple[str, ase.Atoms]]:
        """Frames to label because the points are not good enough yet: none where the search has converged."""
        if path.saddle is None or not path.saddle.is_saddle:
            return self._lost(gap)
        self.weigh(gap)
        for name in ("initial", "final"):
            if np.hypot(self.shift_error["saddle"], self.shift_error[name]) > self.limits.barrier_std:
                self.fmax *= 0.5
                return self._wanted(gap, path, _top(path)) or [("saddle", _top(path))]
        if self.limits.verify and self._verified is not self.best["saddle"]:
            self._verify(path.saddle)
            if self.curvature is not None and self.curvature >= 0:
                return [("no saddle", self._rattled(self.best["saddle"]))]
        return []

    def _verify(self, saddle: Saddle) -> None:
        """The oracle's own curvature along the mode, by one label beside the labelled saddle."""
        at = self.best["saddle"]
        step = _ALONG * saddle.mode / np.linalg.norm(saddle.mode, axis=1).max()
        side = at.copy()
        side.set_positions(at.positions + step)
        (labelled,) = self.label([side])
        self._verified = at
        if labelled is not None:
            self._new.append(labelled)
            change = labelled.calc.results["forces"] - at.calc.results["forces"]
            self.curvature = float(-np.vdot(change, step) / np.vdot(step, step))

    def weigh(self, gap: GAP) -> None:
        """Shifts of the labelled points to the reference's own stationary points."""
        for name in POINTS:
            if name not in self.best or name in self.shift:
                continue
            atoms = self.ends[0].copy()
            atoms.set_positions(self.best[name].positions, apply_constraint=False)
            H = hessian(atoms, gap.calculator())
            self.shift[name], self.shift_error[name] = residual_shift(H, self.best[name].calc.results["forces"])


def _top(path: Path) -> ase.Atoms:
    """The refined saddle of a path, or its highest image between the ends."""
    if path.saddle is not None and path.saddle.is_saddle:
        return path.saddle.atoms
    return path.images[1 + int(np.argmax(path.energies[1:-1]))]
