"""From labelled frames to a fitted potential: the way of the data, one function per stage."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from tqdm import tqdm

from gapkit.descriptors import SOAP, Descriptor, PairDistance
from gapkit.descriptors.base import Channel
from gapkit.exceptions import DataError, SettingsError
from gapkit.kernels import Kernel
from gapkit.models.basis import SparseBasis
from gapkit.models.folds import cluster_folds
from gapkit.models.levels import Levels, held_out_statistics, search_levels
from gapkit.models.observations import ISOLATED, ISOLATED_NOISE, Targets, observations
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_points import selection
from gapkit.models.terms import Term
from gapkit.models.triangles import Triangles
from gapkit.numerics import kernel_functions
from gapkit.numerics.threads import blas_threads, map_blocks, thread_count
from gapkit.potential.baseline import baseline_labels
from gapkit.potential.defaults import default_terms, starting_levels
from gapkit.potential.model import Potential
from gapkit.structures.labels import LabelledFrame, check_distances
from gapkit.structures.neighbours import Structure
from gapkit.structures.reference_energies import ReferenceEnergies, reference_energies
from gapkit.uncertainty.calibration import Calibration, calibrate

logger = logging.getLogger("gapkit")

#: candidate environments kept per channel for the choice of sparse points
POOL = 20_000
#: dimensions of the fingerprint by which frames are put into folds
FINGERPRINT = 48
#: largest number of columns that the level search uses
SEARCH_COLUMNS = 800
#: candidate environments per channel whose variance sets the domain limit
DOMAIN_SAMPLE = 2000
#: fold of rows that are never held out
ALWAYS = -1


@dataclass(frozen=True)
class TrainingSet:
    """Checked frames with what the model must explain of each."""

    frames: tuple[LabelledFrame, ...]
    targets: tuple[Targets, ...]
    reference: ReferenceEnergies
    species: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Number of labels."""
        return sum(t.n_rows for t in self.targets)


class Reservoir:
    """A bounded uniform sample of a stream of feature vectors (Vitter, ACM Trans. Math. Softw. 11, 37 (1985))."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.kept: list[np.ndarray] = []
        self.seen = 0

    def add(self, x: np.ndarray) -> None:
        """Offer the rows of ``x``."""
        for row in x:
            self.seen += 1
            if len(self.kept) < self.size:
                self.kept.append(row.copy())
            else:
                place = int(self.rng.integers(self.seen))
                if place < self.size:
                    self.kept[place] = row.copy()

    def features(self) -> np.ndarray:
        """The sample (c, f)."""
        return np.array(self.kept)


def training_set(
    frames: Sequence[LabelledFrame],
    e0: Any,
    baseline: Any,
    known: tuple[tuple[int, ...], ReferenceEnergies] | None = None,
) -> TrainingSet:
    """Subtract reference energies and baseline.

    ``known`` gives species and reference energies of an existing model; else they follow from the frames. A species
    seen only as an isolated atom is left out.
    """
    usable = [f for f in frames if f.energy is not None or f.forces is not None or f.virial is not None]
    if known is None:
        bonded = [f for f in usable if not f.is_isolated_atom]
        if not bonded:
            raise DataError("all labelled frames are isolated atoms: there is nothing to learn; add bonded frames")
        species = tuple(sorted({int(z) for f in bonded for z in f.atoms.numbers}))
        reference = reference_energies(frames, species, e0)
    else:
        species, reference = known
    kept, targets = [], []
    for frame in usable:
        if frame.is_isolated_atom and (int(frame.atoms.numbers[0]) not in species or frame.energy is None):
            continue
        kept.append(frame)
        targets.append(_targets(frame, reference, baseline))
    return TrainingSet(tuple(kept), tuple(targets), reference, species)


def _targets(frame: LabelledFrame, reference: ReferenceEnergies, baseline: Any) -> Targets:
    energy, forces, virial = frame.energy, frame.forces, frame.virial
    if energy is not None:
        energy = energy - reference.of(frame.atoms.numbers)
    if baseline is not None:
        base = baseline_labels(baseline, frame.atoms, f"frame {frame.index}", stress=virial is not None)
        energy = None if energy is None else energy - base["energy"]
        forces = None if forces is None else forces - base["forces"]
        virial = None if virial is None else virial - base["virial"]
    return Targets(energy, forces, virial, frame.n_atoms, frame.config_type, frame.is_isolated_atom)


def choose_terms(terms: Any, data: TrainingSet, sparse: Any = "auto") -> tuple[Term, ...]:
    """The given terms for the species of the training set; ``"auto"``: :func:`default_terms`.

    ``sparse`` changes number and selection of sparse points as ``gapkit.GAP`` documents.
    """
    if isinstance(terms, str):
        if terms != "auto":
            raise SettingsError(f"terms must be 'auto' or a list of gapkit.Term, not {terms!r}")
        bonded = [f.atoms for f, t in zip(data.frames, data.targets, strict=True) if not t.isolated]
        terms = default_terms(bonded[:: max(1, len(bonded) // 200)], data.n_rows)
    terms = tuple(terms)
    if not terms or not all(isinstance(t, Term) for t in terms):
        raise SettingsError("terms must be 'auto' or a list of one or more gapkit.Term")
    changes = sparse_settings(sparse)
    described = [t.with_descriptor(t.descriptor.for_species(data.species)) for t in terms]
    return tuple(t if isinstance(t.descriptor, PairDistance) else replace(t, **changes) for t in described)


def sparse_settings(sparse: Any) -> dict[str, Any]:
    """``sparse`` of ``gapkit.GAP`` as changes to a term."""
    if isinstance(sparse, Mapping):
        unknown = set(sparse) - {"n", "selection"}
        if unknown:
            raise SettingsError(f"sparse has the keys n and selection, not {', '.join(sorted(map(str, unknown)))}")
        return {"n_sparse" if k == "n" else k: v for k, v in sparse.items()}
    if isinstance(sparse, str):
        return {} if sparse == "auto" else {"selection": sparse}
    if isinstance(sparse, int | np.integer) and not isinstance(sparse, bool):
        return {"n_sparse": int(sparse)}
    raise SettingsError(f"sparse must be 'auto', a number, the name of a selection or a table, not {sparse!r}")


@dataclass(frozen=True)
class Pool:
    """Candidates for sparse points, per term and channel, and a fingerprint per frame."""

    candidates: dict[tuple[int, Channel], np.ndarray]
    seen: dict[tuple[int, Channel], int]
    fingerprints: np.ndarray


def gather_pool(data: TrainingSet, terms: Sequence[Term], rng: np.random.Generator, bar: Callable[..., Any]) -> Pool:
    """One pass over the frames: a bounded sample of environments and each frame's mean descriptor."""
    r_cut = max(t.descriptor.r_cut for t in terms)
    reservoirs: dict[tuple[int, Channel], Reservoir] = {}
    widest = max(range(len(terms)), key=lambda k: isinstance(terms[k].descriptor, SOAP))
    projections: dict[Channel, np.ndarray] = {}
    project = np.random.default_rng(20)
    fingerprints = np.zeros((len(data.frames), FINGERPRINT))
    for n, frame in enumerate(bar(data.frames, desc="descriptors", unit="frame")):
        structure = Structure(frame.atoms, r_cut)
        pairs = structure.pairs(r_cut)
        check_distances(pairs.distances, pairs.i, pairs.j, f"frame {frame.index}")
        for k, term in enumerate(terms):
            for channel in term.descriptor.channels:
                x = term.descriptor.environments(structure, channel, derivatives=False).x
                if len(x) == 0:
                    continue
                reservoirs.setdefault((k, channel), Reservoir(POOL, rng)).add(x)
                if k == widest:
                    if channel not in projections:
                        projections[channel] = project.normal(size=(x.shape[1], FINGERPRINT))
                    fingerprints[n] += x.sum(axis=0) @ projections[channel] / frame.n_atoms
    return Pool(
        {key: r.features() for key, r in reservoirs.items()},
        {key: r.seen for key, r in reservoirs.items()},
        fingerprints,
    )


def choose_sparse_points(
    pool: Pool, terms: Sequence[Term], rng: np.random.Generator, bar: Callable[..., Any]
) -> SparseBasis:
    """Sparse points of every channel, in proportion to the square root of its environments, at least ten each."""
    chosen: list[tuple[int, Descriptor, Kernel, Channel, np.ndarray]] = []
    for key in bar(sorted(pool.candidates), desc="sparse points", unit="channel"):
        k, channel = key
        term = terms[k]
        share = {c: np.sqrt(n) for (other, c), n in pool.seen.items() if other == k}
        n = max(10, round(term.n_sparse * share[channel] / sum(share.values())))
        candidates = pool.candidates[key]
        index = selection(term.selection)(candidates, term.kernel, n, rng)
        chosen.append((k, term.descriptor, term.kernel, channel, candidates[index]))
    return SparseBasis.build(chosen, len(terms))


def assign_folds(data: TrainingSet, fingerprints: np.ndarray, n_folds: int) -> np.ndarray:
    """Fold of each frame; isolated atoms are never held out."""
    folds = np.full(len(data.frames), ALWAYS)
    index = np.array([k for k, t in enumerate(data.targets) if not t.isolated], dtype=np.int64)
    strata = [f"{data.frames[k].config_type}|{data.frames[k].atoms.get_chemical_formula()}" for k in index]
    folds[index] = cluster_folds(fingerprints[index], strata, [data.frames[k].trajectory for k in index], n_folds)
    return folds


def accumulate_rows(
    triangles: Triangles,
    data: TrainingSet,
    basis: SparseBasis,
    folds: np.ndarray,
    own_groups: Sequence[str],
    n_threads: int,
    bar: Callable[..., Any],
) -> None:
    """Make, whiten and reduce the rows of all frames, a batch at a time."""

    def frame_rows(n: int):
        targets = data.targets[n]
        structure = Structure(data.frames[n].atoms, basis.r_cut)
        rows = basis.rows(structure, derivatives=targets.derivatives)
        return list(observations(targets, rows, own_groups))

    progress = bar(total=len(data.frames), desc="rows", unit="frame")
    for batch in _batches(data.targets, max(2000, basis.n_columns)):
        made = map_blocks(frame_rows, batch, n_threads)
        flat = [(n, o) for n, per_frame in zip(batch, made, strict=True) for o in per_frame]
        with blas_threads(n_threads):
            A = basis.whiten(np.vstack([o.K for _, o in flat]))
            begin = 0
            for n, o in flat:
                part = A[begin : begin + len(o.y)]
                begin += len(o.y)
                log_scale = len(o.y) * float(np.log(o.scale))
                triangles.update(part, o.y, o.prior, o.group, int(folds[n]), log_scale)
        progress.update(len(batch))
    progress.close()


def _batches(targets: Sequence[Targets], rows: int) -> Iterator[list[int]]:
    """Consecutive frames with about ``rows`` labels together."""
    batch: list[int] = []
    held = 0
    for n, t in enumerate(targets):
        batch.append(n)
        held += 3 * t.n_atoms + 7
        if held >= rows:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class NoiseSettings:
    """Noise levels that the user gives: by kind, and by config_type and kind.

    ``"auto"`` levels are searched. Units: ``energy`` and ``virial`` eV per square root of atoms, ``forces`` eV/A.
    """

    by_kind: dict[str, float]
    by_config: dict[str, dict[str, float]]

    @classmethod
    def parse(cls, noise: Any) -> NoiseSettings:
        """From ``"auto"`` or ``{"energy": 0.001, "forces": 0.1, "config_types": {"liquid": {"forces": 0.3}}}``."""
        if noise is None or (isinstance(noise, str) and noise == "auto"):
            return cls({}, {})
        if not isinstance(noise, Mapping):
            raise SettingsError(f"noise must be 'auto' or a table of standard deviations, not {noise!r}")
        table = dict(noise)
        by_config = {str(c): cls._levels(v) for c, v in dict(table.pop("config_types", {})).items()}
        return cls(cls._levels(table), by_config)

    @staticmethod
    def _levels(table: Mapping[str, Any]) -> dict[str, float]:
        levels = {}
        for kind, value in table.items():
            if kind not in ("energy", "forces", "virial"):
                raise SettingsError(f"noise has levels for energy, forces and virial, not for {kind!r}")
            if isinstance(value, str) and value == "auto":
                continue
            if not (np.isscalar(value) and np.isfinite(value) and float(value) > 0):
                raise SettingsError(f"noise of {kind!r} must be a positive number or 'auto', not {value!r}")
            levels[kind] = float(value)
        return levels

    def given(self, group: str) -> float | None:
        """The level given for a noise group, or None."""
        kind, _, config = group.partition(":")
        if config and kind in self.by_config.get(config, {}):
            return self.by_config[config][kind]
        return self.by_kind.get(kind)


@dataclass(frozen=True)
class Fit:
    """A fitted potential and what ``update`` needs to go on from it."""

    potential: Potential
    triangles: Triangles
    levels: Levels
    folds: np.ndarray


def plan_line(data: TrainingSet, basis: SparseBasis, n_folds: int, n_threads: int) -> str:
    """One line before the long work: rows, sparse points, memory, time."""
    m = basis.n_columns
    rows = data.n_rows
    kinds = sum(any(getattr(t, k) is not None for t in data.targets) for k in ("energy", "forces", "virial"))
    memory = 8e-9 * m * m * (kinds * n_folds * 2.0 + 8) + 8e-9 * 3 * max(2000, m) * m + 0.3
    atoms = sum(t.n_atoms for t in data.targets)
    features = max(b.points.shape[1] for b in basis.blocks)
    columns = min(130.0, 3.0 * atoms / len(data.frames) + 6.0)
    per_channel = m / len({b.channel for b in basis.blocks if b.points.shape[1] == features})
    flops = atoms * 2.0 * columns * features * per_channel + 6.0 * rows * m * m + 12 * n_folds * m**3
    seconds = flops / (18e9 * n_threads) + 40 * n_folds * min(m, SEARCH_COLUMNS) ** 3 / 20e9 + 5
    return (
        f"gapkit: {rows} labels of {len(data.frames)} frames ({atoms} atoms), {m} sparse points, "
        f"about {memory:.1f} GB and {seconds:.0f} s"
    )


def fit_potential(
    frames: Sequence[LabelledFrame],
    terms: Any = "auto",
    baseline: Any = None,
    e0: Any = "auto",
    noise: Any = "auto",
    sparse: Any = "auto",
    n_folds: int = 5,
    n_jobs: int | None = None,
    random_state: Any = None,
    progress: bool = False,
) -> Fit:
    """Fit a potential to labelled frames; see ``gapkit.GAP`` for the parameters."""
    rng = np.random.default_rng(random_state)
    n_threads = thread_count(n_jobs)
    given = NoiseSettings.parse(noise)

    def bar(*args: Any, **kwargs: Any) -> Any:
        return tqdm(*args, disable=not progress, leave=False, **kwargs)

    data = training_set(frames, e0, baseline)
    terms = choose_terms(terms, data, sparse)
    pool = gather_pool(data, terms, rng, bar)
    basis = choose_sparse_points(pool, terms, rng, bar)
    folds = assign_folds(data, pool.fingerprints, n_folds)
    if progress:
        tqdm.write(plan_line(data, basis, n_folds, n_threads))
    triangles = Triangles(basis.n_columns, len(terms))
    accumulate_rows(triangles, data, basis, folds, tuple(given.by_config), n_threads, bar)
    with blas_threads(n_threads):
        levels = choose_levels(triangles, basis, data, terms, given, bar)
        posterior = Posterior.solve(triangles, levels.noise, levels.signal, basis.column_terms())
        held_out = {}
        if len(triangles.folds) > 1:
            held_out = held_out_statistics(triangles, basis.column_terms(), levels)
        calibration = calibrate(levels, held_out)
        potential = Potential(
            terms=terms,
            basis=basis,
            posterior=posterior,
            alpha=basis.unwhiten(posterior.weights),
            reference=data.reference,
            baseline=baseline,
            calibration=calibration,
            species=data.species,
            metadata={
                **describe_training(data, basis, levels, calibration, n_folds),
                "domain_variance": domain_variance(pool, basis, posterior, calibration),
            },
        )
    return Fit(potential, triangles, levels, folds)


def domain_variance(pool: Pool, basis: SparseBasis, posterior: Posterior, calibration: Calibration) -> float:
    """Largest calibrated variance (eV^2, no noise) of a local function among a sample of training environments.

    Of SOAP terms; of all terms where there is none.
    """
    blocks = [b for b in basis.blocks if isinstance(b.descriptor, SOAP)] or list(basis.blocks)
    energy = calibration.of("energy")
    largest = 0.0
    for b in blocks:
        x = pool.candidates[b.term, b.channel][:DOMAIN_SAMPLE]
        K = np.zeros((len(x), basis.n_columns))
        t = b.kernel.argument(b.kernel.scale(x), b.points)
        kernel_functions.apply(b.kernel.function, b.kernel.parameter, t, t, np.empty_like(t))
        K[:, b.columns] = t
        prior = np.zeros((len(x), basis.n_terms))
        prior[:, b.term] = b.kernel.diagonal(x)
        largest = max(largest, float(energy.latent(*posterior.variances(basis.whiten(K), prior)).max()))
    return largest


def choose_levels(
    triangles: Triangles,
    basis: SparseBasis,
    data: TrainingSet,
    terms: Sequence[Term],
    given: NoiseSettings,
    bar: Callable[..., Any],
) -> Levels:
    """Levels of least held-out error, on the leading columns of the model where it is large."""
    start, lower = starting_levels(data.targets, terms, triangles.groups)
    fixed = {g: given.given(g) for g in triangles.groups}
    fixed[ISOLATED] = ISOLATED_NOISE
    noise = {g: level if fixed[g] is None else float(fixed[g] or 0.0) for g, level in start.noise.items()}
    start = Levels(noise, start.signal)
    free_noise = tuple(g for g in triangles.groups if fixed[g] is None)
    free_signal = tuple(k for k, t in enumerate(terms) if t.signal is None)
    smaller, column_terms = triangles, basis.column_terms()
    if basis.n_columns > SEARCH_COLUMNS:
        columns = basis.leading_columns(SEARCH_COLUMNS)
        smaller, column_terms = triangles.select(columns), column_terms[columns]
    progress = bar(desc="levels", unit="step")

    def report(value: float) -> None:
        progress.set_postfix_str(f"objective {value:.4f}")
        progress.update()

    levels = search_levels(smaller, column_terms, start, lower, free_noise, free_signal, callback=report)
    progress.close()
    return levels


def update_fit(fit: Fit, frames: Sequence[LabelledFrame], n_jobs: int | None = None, progress: bool = False) -> Fit:
    """Add frames with everything but the weights frozen: equal to a refit with the same levels, to rounding.

    New frames are dealt to the folds in turn, so that the held-out statistics go on counting.
    """
    potential = fit.potential
    data = training_set(frames, None, potential.baseline, known=(potential.species, potential.reference))
    for frame in data.frames:
        potential.structure(frame.atoms, f"frame {frame.index}")
    n_threads = thread_count(n_jobs)
    n_folds = max(1, len(fit.triangles.folds))
    begin = len(fit.folds)
    new = np.array(
        [ALWAYS if t.isolated else (begin + k) % n_folds for k, t in enumerate(data.targets)], dtype=np.int64
    )
    own = sorted({g.partition(":")[2] for g in fit.levels.noise if ":" in g})
    added = Triangles(potential.basis.n_columns, potential.basis.n_terms)

    def bar(*args: Any, **kwargs: Any) -> Any:
        return tqdm(*args, disable=not progress, leave=False, **kwargs)

    accumulate_rows(added, data, potential.basis, new, own, n_threads, bar)
    missing = [g for g in added.groups if g not in fit.levels.noise]
    if missing:
        raise DataError(
            f"the new frames have labels of kind {', '.join(missing)}, which the model was not fitted to: fit again"
        )
    with blas_threads(n_threads):
        triangles = fit.triangles.merge(added)
        posterior = Posterior.solve(triangles, fit.levels.noise, fit.levels.signal, potential.basis.column_terms())
        metadata = dict(potential.metadata)
        metadata["n_frames"] = metadata["n_frames"] + len(data.frames)
        metadata["n_labels"] = metadata["n_labels"] + data.n_rows
        metadata["updates"] = metadata.get("updates", 0) + 1
        changed = replace(
            potential, posterior=posterior, alpha=potential.basis.unwhiten(posterior.weights), metadata=metadata
        )
    return Fit(changed, triangles, fit.levels, np.concatenate([fit.folds, new]))


def training_hash(frames: Sequence[LabelledFrame]) -> str:
    """SHA-256 of numbers, positions, cells and labels, in the order given."""
    digest = hashlib.sha256()
    for f in frames:
        parts: list[Any] = [f.atoms.numbers, f.atoms.positions, f.atoms.cell.array, f.atoms.pbc]
        parts += [f.energy if f.energy is not None else np.nan, f.forces, f.virial]
        for part in parts:
            if part is not None:
                digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def describe_training(
    data: TrainingSet, basis: SparseBasis, levels: Levels, calibration: Calibration, n_folds: int
) -> dict[str, Any]:
    """JSON-ready account of the training set, the levels and the held-out errors."""
    types: dict[str, int] = {}
    for f in data.frames:
        name = f.config_type or "none"
        types[name] = types.get(name, 0) + 1
    return {
        "n_frames": len(data.frames),
        "n_atoms": int(sum(f.n_atoms for f in data.frames)),
        "n_labels": data.n_rows,
        "species": [chemical_symbols[z] for z in data.species],
        "config_types": types,
        "training_hash": training_hash(data.frames),
        "n_sparse": basis.n_columns,
        "folds": n_folds,
        "noise": dict(levels.noise),
        "signal": [float(s) for s in levels.signal],
        "objective": None if np.isnan(levels.objective) else levels.objective,
        "held_out_rmse": {g: c.held_out_rmse for g, c in calibration.groups.items() if np.isfinite(c.held_out_rmse)},
    }
