"""Checks of predictions: kernel sums over environments, their derivatives, and the rows that a fit is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import ase
import numpy as np

from gapkit.descriptors.base import Channel, KernelSum, Sums
from gapkit.exceptions import SettingsError
from gapkit.kernels import DotProduct, Kernel, SquaredExponential
from gapkit.models.basis import SparseBasis
from gapkit.structures.neighbours import FrameArrays
from gapkit.structures.structure import Structure
from gapkit.testing.finite_differences import (
    STENCIL,
    VOIGT,
    central_difference,
    displaced,
    moved_along,
    refined_difference,
    strained,
)
from gapkit.testing.frames import channel_name
from gapkit.testing.probes import AtomSums, atom_sums
from gapkit.testing.symmetries import halves
from gapkit.testing.trial import Trial

#: sparse points of a kernel sum
N_POINTS = 5
#: steps of finite differences of energies and of prior variances by positions (A); by strain over the cutoff in A
STEP, PRIOR_STEP = 2e-4, 2e-3


def usual_kernels(trial: Trial, x: np.ndarray) -> list[Kernel]:
    """Kernels that models take for features ``x`` (e, f): powers of the dot product, and the squared exponential."""
    # not so narrow that finite differences fail where few environments happen to be alike
    scale = np.maximum(x.std(axis=0), 0.2 * (np.abs(x).max() or 1.0))
    if x.shape[1] > 8:
        stationary = SquaredExponential(float(np.linalg.norm(scale)))
    else:
        stationary = SquaredExponential(tuple(2 * scale))
    return [DotProduct(2), DotProduct(4), stationary] if trial.descriptor.of_atoms else [stationary, DotProduct(2)]


def kernel_sums(trial: Trial, channel: Channel, kernel: Kernel, projected: bool = False) -> KernelSum:
    """Kernel sum of random weights at features of the frames; ``projected`` on a few random directions."""
    x = trial.features(channel)
    x = x[trial.rng.permutation(len(x))[:N_POINTS]]
    weights = trial.rng.normal(size=len(x))
    scaled = kernel.scale(x)
    if not projected:
        return KernelSum(kernel, scaled, weights)
    q, _ = np.linalg.qr(trial.rng.normal(size=(x.shape[1], min(3, x.shape[1]))))
    return KernelSum(kernel, np.ascontiguousarray(scaled @ q), weights, np.ascontiguousarray(q.T))


def _cases(trial: Trial, kernel: Kernel | None) -> Iterator[tuple[str, Channel, list[KernelSum]]]:
    """Kernel sums of each channel: one kernel, two together, and one that is projected."""
    for channel in trial.channels:
        x = trial.features(channel)
        if not len(x):
            continue
        kernels = [kernel] if kernel is not None else usual_kernels(trial, x)
        singles = [[kernel_sums(trial, channel, k)] for k in kernels]
        for group in [*singles, [s for one in singles for s in one]]:
            names = " and ".join(type(s.kernel).__name__ for s in group)
            yield f"{channel_name(channel)}, {names}", channel, group
        if trial.descriptor.of_atoms and not kernels[0].centred:
            yield (
                f"{channel_name(channel)}, {type(kernels[0]).__name__}, projected",
                channel,
                [kernel_sums(trial, channel, kernels[0], True)],
            )


def check_predictions(trial: Trial, kernel: Kernel | None) -> None:
    """add_prediction adds the kernel sum over environments, its gradient and strain derivatives."""
    nine = "nine strain components"
    for case, channel, group in _cases(trial, kernel):
        predictor = trial.descriptor.predictor(group)
        for name, atoms in zip(trial.names, trial.frames, strict=True):
            context, structure = f"{name}, {case}", trial.structure(atoms)
            expected = _kernel_sum_over(trial, structure, channel, group)
            got = _predicted(trial, structure, channel, predictor)
            _same_prediction(
                trial, "predictions are kernel sums", got, expected, context,
                "add_prediction must add weight * g(x) to sums.local and its derivatives to what is in sums already",
            )  # fmt: skip
            if not expected.value.any():
                continue
            parts = AtomSums(*(np.zeros_like(a) for a in (expected.value, expected.gradient, expected.strain)))
            for domain, owner in halves(trial, atoms):
                for total, part in zip(
                    (parts.value, parts.gradient, parts.strain),
                    vars(_predicted(trial, domain, channel, predictor)).values(),
                    strict=True,
                ):
                    np.add.at(total, owner, part)
            _same_prediction(
                trial, "predictions of domains with ghosts", parts, expected, context,
                "add_prediction must take structure.centres only",
            )  # fmt: skip
            _check_nine(trial, nine, structure, channel, predictor, got, context)
        together = Structure.of_frames(FrameArrays.of(trial.frames), trial.descriptor.r_cut)
        found, begin = _predicted(trial, together, channel, predictor), 0
        for name, atoms in zip(trial.names, trial.frames, strict=True):
            alone = _predicted(trial, trial.structure(atoms), channel, predictor)
            of_frame = found.of(np.arange(begin, begin + len(atoms)))
            _same_prediction(
                trial, "predictions of many frames", of_frame, alone, f"{name}, {case}",
                "use structure.pairs and structure.n_atoms only: a structure may hold the atoms of many frames",
            )  # fmt: skip
            begin += len(atoms)
        described = trial.descriptor.describe_predictor(channel, predictor)
        trial.checks.holds(
            "predictions are kernel sums",
            isinstance(described, list) and all(isinstance(line, str) for line in described),
            f"describe_predictor gives {described!r:.80}",
            "give a list of lines of text",
        )


def _kernel_sum_over(trial: Trial, structure: Structure, channel: Channel, group: Sequence[KernelSum]) -> AtomSums:
    """The mean by the environments and the chain rule."""
    batch = trial.descriptor.environments(structure, channel)
    phi, dphi = np.zeros((len(batch), 1)), np.zeros((*batch.x.shape, 1))
    for s in group:
        phi[:, 0] += s.kernel.of_scaled(s.features(batch.x), s.points) @ s.weights
        slope = s.values_and_slopes(batch.x)[1] if len(batch) else np.zeros((0, s.points.shape[1]))
        slope = slope if s.directions is None else slope @ s.directions
        dphi[:, :, 0] += slope * s.kernel.scale(np.ones((1, batch.x.shape[1])))
    return atom_sums(batch, structure.n_atoms, phi, dphi)


def _predicted(
    trial: Trial, structure: Structure, channel: Channel, predictor: object, components: int = 6
) -> AtomSums:
    """Contribution of ``add_prediction`` to sums that were not zero before."""
    sums = Sums.zeros(structure.n_atoms, components)
    for array in (sums.local, sums.gradient, sums.strain):
        array += 1.0
    trial.descriptor.add_prediction(structure, channel, predictor, sums)
    return AtomSums(sums.local[:, None] - 1.0, sums.gradient[:, :, None] - 1.0, sums.strain[:, :, None] - 1.0)


def _same_prediction(trial: Trial, check: str, got: AtomSums, expected: AtomSums, context: str, remedy: str) -> None:
    unit = max(1.0, float(np.abs(expected.value).max()))
    for part, scale, name in (
        ("value", unit, "local energy"),
        ("gradient", unit / trial.descriptor.r_cut, "derivative of the energy by the position"),
        ("strain", unit, "strain derivative of the local energy"),
    ):
        trial.checks.close(
            check, getattr(got, part), getattr(expected, part), 10 * trial.equal,
            lambda k, name=name: f"{context}, {name} of atom {k[0]}",  # type: ignore[misc]
            remedy, scale, ("add_prediction adds", "expected"),
        )  # fmt: skip


def _check_nine(
    trial: Trial, check: str, structure: Structure, channel: Channel, predictor: object, six: AtomSums, context: str
) -> None:
    try:
        nine = _predicted(trial, structure, channel, predictor, 9)
    except SettingsError:
        if check not in trial.checks.report().passed:
            trial.checks.leave_out(check, "refused by SettingsError, as by the base class: no heat flux, no LAMMPS")
        return
    tensor = nine.strain.reshape(structure.n_atoms, 3, 3)
    unit = max(1.0, float(np.abs(six.value).max()))
    symmetric = np.stack([0.5 * (tensor[:, a, b] + tensor[:, b, a]) for a, b in VOIGT], axis=1)
    remedy = (
        "give r_c dE_a/dr_d row by row, summed over the vectors from the atom to its neighbours, or raise a "
        "SettingsError where sums.strain has nine columns"
    )
    trial.checks.close(
        check, symmetric, six.strain[:, :, 0], 10 * trial.equal,
        lambda k: f"{context}, atom {k[0]}, symmetric part, component {k[1]}", remedy, unit, ("nine give", "six give"),
    )  # fmt: skip
    trial.checks.close(
        check, tensor, tensor.transpose(0, 2, 1), 10 * trial.equal,
        lambda k: f"{context}, atom {k[0]}, components {k[1]}, {k[2]} and {k[2]}, {k[1]} of a local energy that turns "
        "with its atoms", remedy, unit,
    )  # fmt: skip


def check_energy_derivatives(trial: Trial, kernel: Kernel | None) -> None:
    """Gradient and strain derivatives of add_prediction are finite differences of its energy."""
    largest, rng = 0.0, trial.rng
    for case, channel, group in _cases(trial, kernel):
        predictor = trial.descriptor.predictor(group)

        def energy(atoms: ase.Atoms, channel=channel, predictor=predictor) -> float:
            return float(_predicted(trial, trial.structure(atoms), channel, predictor).value.sum())

        for name, atoms in zip(trial.names, trial.frames, strict=True):
            got = _predicted(trial, trial.structure(atoms), channel, predictor)
            if not got.value.any():
                continue
            unit = max(1.0, float(np.abs(got.value).max()))
            along, strain = rng.normal(size=(len(atoms), 3)), int(rng.integers(6))
            exact = [float(np.sum(got.gradient[:, :, 0] * along)), float(got.strain[:, strain].sum())]
            numerical: list[Any] = []
            for right, change, h in (
                (exact[0], partial(moved_along, atoms, along), STEP),
                (exact[1], partial(strained, atoms, strain), STEP / trial.descriptor.r_cut),
            ):
                difference = partial(_slope, energy, change)
                numerical.append(refined_difference(difference, np.array(right), h, trial.tolerance * unit))
            trial.checks.close(
                "derivatives of the energy", exact, numerical, 10 * trial.tolerance,
                lambda k, name=name, case=case: (  # type: ignore[misc]
                    f"{name}, {case}, by {'a strain' if k[0] else 'a displacement of all atoms'}"
                ),
                "sums.gradient must be dE/dr, sums.strain dE_a/d(strain) of what is added to sums.local", unit,
                ("add_prediction gives", "finite differences of the energy give"),
            )  # fmt: skip
            largest = max(largest, *(float(abs(slope)) for slope in numerical))
    trial.checks.holds(
        "derivatives of the energy",
        largest > 1e-6,
        "the energy of no frame changes with positions or strain",
        "give frames whose atoms are within the cutoff of each other, or another kernel",
    )


def _slope(energy: Callable[[ase.Atoms], float], change: Callable[[float], ase.Atoms], h: float) -> np.ndarray:
    return np.array(central_difference(lambda s: energy(change(s)), h))


def check_rows(trial: Trial, kernel: Kernel | None) -> None:
    """Covariances and prior variances, as a fit asks for them, are those of finite differences of kernel sums."""
    d = trial.descriptor
    for channel in trial.channels:
        x = trial.features(channel)
        if not len(x):
            continue
        for k in [kernel] if kernel is not None else usual_kernels(trial, x)[-2:]:
            points = x[trial.rng.permutation(len(x))[:N_POINTS]]
            points = points[np.unique(k.scale(points).round(6), axis=0, return_index=True)[1]]
            basis = SparseBasis.build([(0, d, k, channel, points)], 1)
            for name, atoms in zip(trial.names, trial.frames, strict=True):
                structure = trial.structure(atoms)
                rows = basis.rows(structure)
                if not len(d.environments(structure, channel, derivatives=False)):
                    continue
                context = f"{name}, {channel_name(channel)}, {type(k).__name__}"
                local = basis.local_rows(structure).K.sum(axis=0)
                _close_rows(trial, rows.K[0], local, f"{context}, energy", "local energies")
                for target, what, change, h in _few_changes(trial, atoms):
                    prior, at = float(rows.prior[1 + target, 0]), f"{context}, derivative by {what}"
                    right, unit = np.append(rows.K[1 + target], prior), float(rows.prior[0, 0]) / d.r_cut**2
                    found = refined_difference(
                        partial(_functional, trial, channel, k, points, change), right, h, trial.tolerance * unit
                    )
                    if found is None:
                        continue  # a pair crosses the cutoff
                    _close_rows(trial, rows.K[1 + target], found[:-1], at, "finite differences")
                    trial.checks.close(
                        "prior variances", prior, found[-1], 100 * trial.tolerance, at,
                        "give complete groups of rows of J (x, y, z of an atom; six strains) and a true feature_range",
                        unit, ("rows give", "finite differences give"),
                    )  # fmt: skip


def _functional(
    trial: Trial,
    channel: Channel,
    kernel: Kernel,
    points: np.ndarray,
    change: Callable[[float], ase.Atoms],
    h: float,
) -> np.ndarray | None:
    """Covariances of a finite difference of the energy with ``points`` (m, f), and its variance: (m + 1,)."""
    stencil = [(c / h, trial.batch(change(s * h), channel)) for s, c in STENCIL]
    if len({len(batch) for _, batch in stencil}) > 1:
        return None
    x = np.vstack([batch.x for _, batch in stencil])
    weight = np.concatenate([c * batch.weight for c, batch in stencil])
    return np.append(kernel(points, x) @ weight, weight @ kernel(x) @ weight)


def _close_rows(trial: Trial, got: np.ndarray, expected: np.ndarray, context: str, how: str) -> None:
    trial.checks.close(
        "rows of a fit", got, expected, 10 * trial.tolerance, lambda k: f"{context}, sparse point {k[0]}",
        "environments and frame_environments must describe one and the same energy", 1.0,
        ("rows give", f"{how} give"),
    )  # fmt: skip


def _few_changes(trial: Trial, atoms: ase.Atoms):
    """A random coordinate and a random strain: target, name, change and step."""
    a, axis, v = int(trial.rng.integers(len(atoms))), int(trial.rng.integers(3)), int(trial.rng.integers(6))
    name = f"the {'xyz'[axis]} coordinate of atom {a}"
    yield 3 * a + axis, name, partial(displaced, atoms, a, axis), PRIOR_STEP
    h = PRIOR_STEP / trial.descriptor.r_cut
    yield 3 * len(atoms) + v, f"strain component {v}", partial(strained, atoms, v), h
