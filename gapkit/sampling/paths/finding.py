"""Minimum-energy path between two minima: ends, starting images, band, saddle, and the way down as a check."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ase
import numpy as np

from gapkit.checkpoints import stoppable
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.progress import progress_bar
from gapkit.sampling.batches import BatchForces, batch_forces
from gapkit.sampling.paths.band import Band, optimise_band
from gapkit.sampling.paths.curve import PathCurve
from gapkit.sampling.paths.ends import check_ends, exchanged_atoms, final_positions, minimum_image
from gapkit.sampling.paths.interpolation import idpp, straight_line
from gapkit.sampling.paths.path import Path, PathSettings
from gapkit.sampling.paths.rigid import rotation
from gapkit.sampling.paths.saddle import Saddle, descend, refine_saddle
from gapkit.sampling.relaxation import RelaxationSettings, relax_many, with_results


def find_path(
    initial: ase.Atoms,
    final: ase.Atoms,
    calculator: Any = None,
    settings: PathSettings | None = None,
    *,
    start: Sequence[ase.Atoms] | None = None,
    progress: bool = False,
) -> Path:
    """Minimum-energy path between two minima, its saddle and barrier.

    The ends are relaxed, images are put between them, the band is optimised with a climbing image
    (:func:`gapkit.sampling.paths.band.optimise_band`), the saddle refined from it
    (:func:`gapkit.sampling.paths.saddle.refine_saddle`), and both sides of the saddle followed down to see whether the
    minima are the given ends. All images are evaluated in one batch at every iteration.

    Atoms go by the shortest way through periodic boundaries. A final molecule is turned onto the initial one, and its
    images neither drift nor rotate (their motion along the six rigid modes is projected out); in periodic frames
    without fixed atoms overall translation is left out. Ctrl-C ends the search with the path as it is.

    Parameters
    ----------
    initial, final
        Ends, with the same atoms in the same order, the same cell, and the same ``FixAtoms``; left as they are.
    calculator
        ASE calculator; default: that of ``initial``.
    settings
        See :class:`gapkit.sampling.paths.path.PathSettings`.
    start
        Images between the ends to start from, such as those of an interrupted search; their number replaces
        ``settings.images``.
    progress
        Whether bars are shown.

    Raises
    ------
    DataError
        For ends between which there is no path: see :func:`gapkit.sampling.paths.ends.check_ends`; also for ends that
        are the same frame, or relax to the same minimum.
    SettingsError
        Without a calculator, or for a constraint other than ``FixAtoms``.
    NumericsError
        For an energy or force that is not finite.

    Warns
    -----
    GapkitWarning
        Where another order of equal atoms is nearer: the path exchanges atoms, which may be a mistake in the order.

    Examples
    --------
    >>> from ase.build import add_adsorbate, fcc100
    >>> from ase.calculators.emt import EMT
    >>> from ase.constraints import FixAtoms
    >>> initial = fcc100("Al", size=(2, 2, 3), vacuum=8.0)
    >>> add_adsorbate(initial, "Au", 1.7, "hollow")
    >>> initial.set_constraint(FixAtoms(mask=initial.get_tags() > 1))
    >>> final = initial.copy()
    >>> final.positions[-1, 0] += initial.cell[0, 0] / 2
    >>> path = find_path(initial, final, EMT(), PathSettings(images=3))
    >>> path.converged, path.connects, round(path.barrier_forward, 3)
    (True, (True, True), 0.374)
    """
    settings = settings if settings is not None else PathSettings()
    calculator = initial.calc if calculator is None else calculator
    if calculator is None:
        raise SettingsError("no calculator: set initial.calc, or give one")
    free = check_ends(initial, final)
    evaluate = batch_forces(initial, calculator)
    notes: list[str] = []
    with stoppable() as stop:
        ends, forces, energies, evaluations = _ends(initial, final, calculator, settings, notes, progress)
        largest = np.linalg.norm(forces[:, free], axis=2).max(axis=1)
        ends_converged = bool(np.all(largest < settings.ends.fmax))
        x1 = final_positions(ends[0], ends[1], free, settings.align)
        if settings.align and not initial.pbc.any() and len(free) == len(initial):
            before = ends[1].positions - ends[1].positions.mean(axis=0)
            forces[1] = forces[1] @ rotation(before, x1 - x1.mean(axis=0))
        move = np.linalg.norm(x1 - ends[0].positions, axis=1)
        if move.max() < settings.same:
            how = "relax to the same minimum" if settings.relax_ends else "are the same frame"
            raise DataError(
                f"the two ends {how}: no atom moves by more than {move.max():.2g} A"
                + (" (overall motion left out; align=False keeps it)" if settings.align else "")
            )
        exchanged = exchanged_atoms(ends[0], x1)
        if len(exchanged):
            text = (
                f"another order of equal atoms is nearer: atoms {', '.join(map(str, exchanged[:12]))} change places on "
                "this path; where that is not meant, use final[gapkit.sampling.paths.matching_order(initial, final)]"
            )
            notes.append(text)
            warnings.warn(text, GapkitWarning, stacklevel=2)
        line = _start(ends[0], x1, free, settings, start)
        band = _band(line, energies, evaluate, free, ends[0], settings, progress)
        evaluations += band.iterations * len(band.energies)
        all_energies = np.array([energies[0], *band.energies, energies[1]])
        all_forces = np.concatenate([forces[:1], band.forces, forces[1:]])
        curve = PathCurve(band.positions[:, free], all_energies, all_forces[:, free])
        images = [with_results(initial, *one) for one in zip(band.positions, all_energies, all_forces, strict=True)]
        _note_shape(curve, notes)

        saddle, back, forth = None, None, None
        top = int(np.argmax(all_energies))
        if not band.converged:
            notes.append(f"the band did not converge: largest force {band.residual.max():.2g} eV/A")
        if top in (0, len(images) - 1):
            notes.append(
                "no image lies above the ends: no saddle was refined, and the barrier is that of the higher end"
            )
        elif settings.refine and not stop.requested:
            tangent = band.tangent[top - 1]
            saddle = refine_saddle(images[top], calculator, settings.saddle_settings, mode=tangent, progress=progress)
            evaluations += saddle.evaluations
            saddle = replace(saddle, mode=saddle.mode * np.sign(np.vdot(saddle.mode, tangent) or 1.0))
            _note_saddle(saddle, images[top], notes)
            if saddle.is_saddle and not stop.requested:
                low = RelaxationSettings(settings.ends.fmax, settings.ends.steps, 0.1)
                back, forth = descend(saddle.atoms, saddle.mode, calculator, low, progress=progress)
                evaluations += back.evaluations + forth.evaluations
                if "interrupted" in (back.message, forth.message):
                    back, forth = None, None
        interrupted = stop.requested
    connects = _connects(back, forth, images, free, settings, notes)
    height = saddle.energy if saddle is not None and saddle.is_saddle else float(all_energies.max())
    across = np.concatenate([largest[:1], band.residual, largest[1:]])
    return Path(
        images=images, energies=all_energies, coordinate=curve.coordinate, residual=across, climbing=band.climbing,
        barrier_forward=float(height - energies[0]), barrier_backward=float(height - energies[1]), saddle=saddle,
        minima=None if back is None or forth is None else (back.atoms, forth.atoms), connects=connects,
        ends_converged=ends_converged, band_converged=band.converged, interrupted=interrupted,
        iterations=band.iterations, evaluations=evaluations, notes=tuple(notes),
    )  # fmt: skip


def _ends(initial, final, calculator, settings, notes, progress):
    """Both ends as atoms (relaxed where asked), their forces (2, n, 3), energies (2,), evaluations."""
    if settings.relax_ends:
        relaxed = relax_many([initial, final], calculator, settings.ends, progress=progress)
        for name, end in zip(("initial", "final"), relaxed, strict=True):
            if not np.isfinite(end.energy):
                raise DataError(f"the {name} frame: {end.message}")
            if not end.converged:
                notes.append(f"the {name} frame did not relax: {end.message}")
        forces = np.array([end.atoms.calc.results["forces"] for end in relaxed])
        count = sum(end.evaluations for end in relaxed)
        return [e.atoms for e in relaxed], forces, np.array([e.energy for e in relaxed]), count
    energies, forces = batch_forces(initial, calculator)(np.array([initial.positions, final.positions]))
    return [initial, final], np.array(forces), energies, 2


def _start(initial: ase.Atoms, x1: np.ndarray, free: np.ndarray, settings: PathSettings, start) -> np.ndarray:
    """Images (k + 2, n, 3) at the start, the ends included."""
    x0 = initial.get_positions()
    if start is None:
        line = straight_line(x0, x1, settings.images)
        return idpp(initial, line, free, settings.align) if settings.idpp else line
    if not len(start):
        raise DataError("no images to start from")
    images = [x0]
    for k, image in enumerate(start):
        if not np.array_equal(image.numbers, initial.numbers) or not np.isfinite(image.positions).all():
            raise DataError(f"image {k} to start from: other atoms than the ends have, or a position is not finite")
        images.append(images[-1] + minimum_image(image.positions - images[-1], initial))
    held = np.setdiff1d(np.arange(len(initial)), free)
    line = np.array([*images, x1])
    line[1:, held] = x0[held]
    return line


def _band(line, energies, evaluate: BatchForces, free, initial, settings: PathSettings, progress) -> Band:
    """The optimised band."""
    with stoppable() as stop, progress_bar(desc="band", unit="step", show=progress, total=settings.steps) as bar:

        def each(largest: float) -> bool:
            bar.set_postfix_str(f"{largest:.3f} eV/A", refresh=False)
            bar.update()
            return stop.requested

        return optimise_band(
            line, energies, evaluate, free, initial.pbc, fmax=settings.fmax, steps=settings.steps, modes=settings.align,
            spring=settings.spring, climb_below=settings.climb_below if settings.climb else None,
            longest_step=settings.longest_step, each=each,
        )  # fmt: skip


def _note_shape(curve: PathCurve, notes: list[str]) -> None:
    """Say where the path has a minimum of its own, 10 meV below the maxima beside it."""
    high, low = curve.extrema()
    for place in low:
        before, after = high[high < place], high[high > place]
        if len(before) and len(after):
            depth = min(curve.energy(before[-1]), curve.energy(after[0])) - curve.energy(place)
            if depth > 0.01:
                notes.append(
                    f"the path has a minimum of its own at {place:.2f} A, {depth:.3f} eV deep: search from "
                    "each end to it"
                )


def _note_saddle(saddle: Saddle, image: ase.Atoms, notes: list[str]) -> None:
    if not saddle.force_converged:
        notes.append(f"the saddle did not converge: largest force {saddle.largest_force:.2g} eV/A")
    elif saddle.negative != 1:
        notes.append(f"the refined point has {saddle.negative} negative curvatures: it is no saddle of first order")
    away = float(np.linalg.norm(saddle.atoms.positions - image.positions, axis=1).max())
    if away > 0.3:
        notes.append(f"the saddle lies {away:.2f} A from the climbing image: it may belong to another path")


def _connects(back, forth, images, free, settings, notes) -> tuple[bool, bool] | None:
    """Whether the minima on both sides of the saddle are the ends."""
    if back is None or forth is None:
        return None
    found = []
    for name, side, end in (("initial", back, images[0]), ("final", forth, images[-1])):
        x = final_positions(end, side.atoms, free, settings.align)
        move = np.linalg.norm(x - end.positions, axis=1)
        met = bool(move.max() < settings.same)
        found.append(met)
        if not side.converged:
            notes.append(f"the way down to the {name} frame did not converge: {side.message}")
        if not met:
            above = side.energy - end.get_potential_energy()
            notes.append(
                f"the way down from the saddle does not end in the {name} frame: atom {move.argmax()} is "
                f"{move.max():.2f} A away, at {above:+.3f} eV"
            )
    return found[0], found[1]
