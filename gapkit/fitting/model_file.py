"""One file per model: a zip of NumPy arrays and a JSON header. Reading it never runs code.

The header holds format, version, units, settings, calibration and the account of the training set; see
``model_archive`` for the container and ``model_schema`` for the keys. Triangular matrices are stored packed; the
Cholesky factor of a kernel matrix is made again from the sparse points where that gives the same bits. What is read is
judged before it is used: the container, the schema, and the identities of ``model_identities``. A file is written under
a temporary name in the same folder and then renamed, so that a crash leaves an older file as it was.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gapkit.exceptions import GapkitWarning, ModelFileError
from gapkit.fitting import model_identities as identities
from gapkit.fitting import model_schema
from gapkit.fitting.fit import Fit
from gapkit.fitting.model_archive import FORMAT, FORMAT_VERSION, read_archive, refusal, write_archive
from gapkit.fitting.training_set import ALWAYS
from gapkit.models.basis import SparseBasis
from gapkit.models.levels import Levels
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_block import SparseBlock, factor_of
from gapkit.models.terms import Term, term_from_settings
from gapkit.models.triangles import Triangle, Triangles
from gapkit.numerics.threads import blas_threads
from gapkit.potential.baseline import baseline_calculator
from gapkit.potential.domain import Domain
from gapkit.potential.local_variance import LocalForm, supports
from gapkit.potential.potential import Potential
from gapkit.structures.reference_energies import OpenCombination, ReferenceEnergies
from gapkit.uncertainty.calibration import Calibration, GroupCalibration
from gapkit.uncertainty.label_errors import FittedErrors, LabelErrors, StatedErrors
from gapkit.uncertainty.recalibration import Recalibration
from gapkit.version import __version__


def save_model(path: str | os.PathLike, fit: Fit, estimator: dict[str, Any], updatable: bool = False) -> None:
    """Write a fitted model to a file.

    Parameters
    ----------
    path
        Target file; replaced only when the new one is complete.
    fit
        Fit or potential to save.
    estimator
        JSON-ready constructor arguments of the ``GAP`` object.
    updatable
        Keep the triangles too, so that ``GAP.update`` works after loading (larger file).

    Raises
    ------
    ModelFileError
        Where the folder cannot be written to.
    """
    potential = fit.potential
    recalibration = potential.errors.recalibration
    arrays: dict[str, np.ndarray] = {"alpha": potential.alpha, "weights": potential.posterior.weights}
    arrays["R"] = _pack(potential.posterior.R.T)
    arrays["z"], arrays["c"] = _right_side(potential.posterior), identities.sums_of(potential.basis)
    for k, b in enumerate(potential.basis.blocks):
        arrays[f"block{k}.points"] = b.points
        if not _follows_from_points(b):
            arrays[f"block{k}.factor"] = _pack(b.factor)
        if b.directions is not None:
            arrays[f"block{k}.directions"] = b.directions
    for k, (points, weights) in potential.mean_points.items():
        arrays[f"extra{k}.weights"] = weights
        if not _is_identity(points):
            arrays[f"extra{k}.points"] = points
    for k, term in enumerate(potential.terms):
        for name, array in term.descriptor.arrays().items():
            arrays[f"term{k}.{name}"] = array
    for k, form in potential.local_forms.items():
        arrays.update({f"form{k}.soap": form.soap, f"form{k}.pair": form.pair, f"form{k}.signs": form.signs})
    header: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "gapkit_version": __version__,
        "units": model_schema.UNITS,
        "species": list(potential.species),
        "terms": [t.settings() for t in potential.terms],
        "blocks": [{"term": b.term, "channel": list(b.channel), "jitter": b.jitter} for b in potential.basis.blocks],
        "signal": [float(s) for s in potential.posterior.signal],
        "reference": {
            "values": {str(z): float(e) for z, e in potential.reference.values.items()},
            "source": {str(z): s for z, s in potential.reference.source.items()},
            "alone": {str(z): float(s) for z, s in potential.reference.alone.items()},
            "bonded": {str(z): float(c) for z, c in potential.reference.bonded.items()},
            "open": [
                {"weights": {str(z): w for z, w in c.weights.items()}, "std": c.std}
                for c in potential.reference.open_combinations
            ],
        },
        "baseline": _describe_baseline(potential.baseline),
        "calibration": {
            "residual_scale": potential.calibration.residual_scale,
            "weight_scale": potential.calibration.weight_scale,
            "groups": {g: vars(c) for g, c in potential.calibration.groups.items()},
        },
        "recalibration": None if recalibration is None else recalibration.as_dict(),
        "domain": vars(potential.domain),
        "noise_levels": potential.noise_levels,
        "metadata": potential.metadata,
        "estimator": estimator,
    }
    if updatable:
        header["levels"] = {"noise": fit.levels.noise, "objective": _json_float(fit.levels.objective)}
        header["triangles"] = []
        arrays["folds"] = fit.folds
        for k, ((group, fold), t) in enumerate(fit.triangles.items.items()):
            arrays[f"triangle{k}"] = t.reduce()
            header["triangles"].append(
                {
                    "group": group,
                    "fold": fold,
                    "n_rows": t.n_rows,
                    "log_scale": t.log_scale,
                    "prior": [float(s) for s in t.prior],
                }
            )
    write_archive(Path(path), header, arrays)


def load_model(path: str | os.PathLike, baseline: Any = None) -> tuple[Fit | Potential, dict[str, Any]]:
    """Read a model: a :class:`Fit` if it was saved as updatable, else its potential; and the constructor arguments.

    ``baseline`` gives the ASE calculator of a model that was fitted on top of one (ZBL is stored by itself).

    Raises
    ------
    ModelFileError
        For a file that is missing, truncated, altered, of a newer format, or no model.
    """
    baseline = baseline_calculator(baseline)
    header, arrays = read_archive(Path(path), f"this gapkit ({__version__})")
    try:
        found = header["format_version"]
        if found == 1:
            header = _upgraded(header)
        model_schema.header(header, found)
        potential = _potential(header, arrays, baseline, path)
        return _fit(header, arrays, potential) if "triangles" in header else potential, dict(header["estimator"])
    except ModelFileError:
        raise
    except Exception as error:  # a header that another program wrote can break anything
        reason = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise refusal(
            path,
            "this model file does not hold together; it was written or changed by another program; fit the model "
            f"again ({reason})",
        ) from error


def _potential(header: dict, arrays: dict, baseline: Any, path: Any) -> Potential:
    species = tuple(header["species"])
    _check_names(header, arrays)
    terms = _terms(header, arrays, species)
    basis = _basis(header, arrays, terms)
    _check_blocks(basis)
    signal, column_terms = np.array(header["signal"], dtype=float), basis.column_terms()
    R = np.ascontiguousarray(_unpack(arrays["R"], basis.n_columns).T)
    posterior = Posterior(arrays["weights"], R, signal, signal[column_terms], column_terms)
    mean_points = _mean_points(basis, arrays)
    _check_identities(header, arrays, basis, posterior, mean_points)
    reference = _reference(header["reference"])
    calibration = Calibration(
        {g: GroupCalibration(**c) for g, c in header["calibration"]["groups"].items()},
        header["calibration"]["residual_scale"],
        header["calibration"]["weight_scale"],
    )
    errors: LabelErrors = StatedErrors(calibration)
    if header["recalibration"] is not None:
        recalibration = Recalibration.from_dict(header["recalibration"])
        errors = FittedErrors(calibration, recalibration, exact=bool(mean_points))
    return Potential(
        terms,
        basis,
        posterior,
        arrays["alpha"],
        reference,
        _restore_baseline(header["baseline"], baseline, path),
        errors,
        species,
        Domain(**header["domain"]),
        dict(header["noise_levels"]),
        header["metadata"],
        local_forms=_local_forms(basis, arrays),
        mean_points=mean_points,
    )


def _reference(table: dict) -> ReferenceEnergies:
    """Reference energies; files of older versions do not say what is open."""

    def by_number(of: dict) -> dict:
        return {int(z): value for z, value in of.items()}

    combinations = tuple(OpenCombination(by_number(c["weights"]), float(c["std"])) for c in table.get("open", ()))
    return ReferenceEnergies(
        {z: float(e) for z, e in by_number(table["values"]).items()},
        by_number(table["source"]),
        combinations,
        by_number(table.get("alone", {})),
        by_number(table.get("bonded", {})),
    )


def _fit(header: dict, arrays: dict, potential: Potential) -> Fit:
    """State of the fit from which ``update`` continues."""
    triangles = Triangles(potential.basis.n_columns, potential.basis.n_terms)
    for k, t in enumerate(header["triangles"]):
        triangles.items[(t["group"], t["fold"])] = Triangle(
            arrays[f"triangle{k}"], t["n_rows"], t["log_scale"], np.array(t["prior"])
        )
    folds, n_frames = arrays["folds"], header["metadata"]["n_frames"]
    if folds.shape != (n_frames,) or folds.min(initial=0) < ALWAYS:
        raise ValueError(f"folds have the shape {folds.shape}, for {n_frames} frames")
    identities.check_triangles(triangles, potential.posterior, header["levels"]["noise"])
    objective = header["levels"]["objective"]
    levels = Levels(
        header["levels"]["noise"], potential.posterior.signal, float("nan") if objective is None else objective
    )
    return Fit(potential, triangles, levels, folds)


def _check_names(header: dict, arrays: dict) -> None:
    """Raise ValueError for an array that is missing, unknown or not finite."""
    needed = {"alpha", "weights", "R"} | ({"c", "z"} if header["format_version"] >= 4 else set())
    allowed: set[str] = set()
    for k in range(len(header["blocks"])):
        needed.add(f"block{k}.points")
        allowed |= {f"block{k}.factor", f"block{k}.directions", f"extra{k}.weights"}
        allowed |= {f"extra{k}.points"} if f"extra{k}.weights" in arrays else set()
        form = {f"form{k}.{name}" for name in ("soap", "pair", "signs")}
        needed |= form if form & set(arrays) else set()
    if "triangles" in header:
        needed |= {"folds", *(f"triangle{k}" for k in range(len(header["triangles"])))}
    for name in sorted(needed - set(arrays)):
        raise ValueError(f"the array {name} is missing")
    for name, array in sorted(arrays.items()):
        if name not in needed | allowed and not re.fullmatch(r"term\d+\..*", name):  # those are the descriptors' own
            raise ValueError(f"the array {name} is unknown")
        if not np.all(np.abs(array) <= model_schema.LARGEST):
            raise ValueError(f"the array {name} is not of finite numbers")


def _terms(header: dict, arrays: dict, species: tuple[int, ...]) -> tuple[Term, ...]:
    """The terms, whose descriptors have the arrays of the file and no others."""
    made = [term_from_settings(settings) for settings in header["terms"]]
    identities.check_terms(made, header["terms"])
    terms, known = [], set()
    for k, term in enumerate(made):
        of_term = {name.split(".", 1)[1]: a for name, a in arrays.items() if name.startswith(f"term{k}.")}
        descriptor = term.descriptor.with_arrays(species, of_term)
        if set(of_term) != set(descriptor.arrays()):
            raise ValueError(f"term {k} has not the arrays of its descriptor")
        descriptor.check_arrays()
        known |= {f"term{k}.{name}" for name in of_term}
        terms.append(term.with_descriptor(descriptor))
    for name in sorted(set(arrays) - known):
        if name.startswith("term"):
            raise ValueError(f"the array {name} is unknown")
    return tuple(terms)


def _basis(header: dict, arrays: dict, terms: tuple[Term, ...]) -> SparseBasis:
    """The sparse functionals; ValueError where shapes do not fit each other, before anything is made of them."""
    points = [arrays[f"block{k}.points"] for k in range(len(header["blocks"]))]
    for k, p in enumerate(points):
        if p.ndim != 2 or not p.size:
            raise ValueError(f"the sparse points of block {k} have the shape {p.shape}")
    m = sum(map(len, points))
    shapes = {"alpha": (m,), "weights": (m,), "c": (2, m), "z": (m,), "R": (m * (m + 1) // 2,)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{name} has the shape {arrays[name].shape}, not {shape}, for {m} sparse points")
    if header["metadata"]["n_sparse"] != m:
        raise ValueError(f"metadata.n_sparse is {header['metadata']['n_sparse']}, for {m} sparse points")
    blocks = []
    for k, (b, p) in enumerate(zip(header["blocks"], points, strict=True)):
        term, channel = terms[b["term"]], tuple(b["channel"])
        if channel not in term.descriptor.channels:
            raise ValueError(f"block {k} has the channel {channel}, which its descriptor has not")
        packed = arrays.get(f"block{k}.factor")
        if packed is None:
            factor = factor_of(p, term.kernel, b["jitter"])
        elif packed.shape == (len(p) * (len(p) + 1) // 2,):
            factor = _unpack(packed, len(p))
        else:
            raise ValueError(f"the factor of block {k} has the shape {packed.shape}")
        onto = arrays.get(f"block{k}.directions")
        blocks.append(
            SparseBlock(b["term"], term.descriptor, term.kernel, channel, p, factor, b["jitter"], slice(0), onto)
        )
    if len({(b.term, b.channel) for b in blocks}) < len(blocks):
        raise ValueError("a channel of a term stands twice")
    return SparseBasis.of_blocks(blocks, len(terms))


def _check_identities(
    header: dict, arrays: dict, basis: SparseBasis, posterior: Posterior, mean_points: Mapping[int, tuple]
) -> None:
    """Raise ValueError where the numbers of a file contradict each other; see ``model_identities``."""
    for k, block in enumerate(basis.blocks):
        identities.check_points(block, f"block {k}")
        identities.check_jitter(block, f"block {k}")
        if f"block{k}.factor" in arrays:
            identities.check_factor(block, f"block {k}")
    if "c" in arrays:
        identities.check_sums(basis, arrays["c"])
    identities.check_posterior(posterior, arrays.get("z"))
    if not mean_points:
        identities.check_weights(basis, arrays["alpha"], arrays["weights"])
    for k in mean_points:
        if f"extra{k}.points" in arrays:
            identities.check_orthonormal(mean_points[k][0], f"block {k}")
        if not header["metadata"].get("updates") and arrays["alpha"][basis.blocks[k].columns].any():
            raise ValueError(f"block {k} has weights beside those of its exact mean")


def _upgraded(header: dict[str, Any]) -> dict[str, Any]:
    """A header of format 1 as one of format 2: numbers that predictions depend on come out of the metadata."""
    metadata = dict(header["metadata"])
    domain = {
        "local_variance": metadata.pop("domain_variance", np.inf),
        "energy_variance": metadata.pop("domain_energy_variance", None),
    }
    return {
        **header,
        "recalibration": metadata.pop("recalibration", None),
        "domain": domain,
        "noise_levels": dict(metadata.get("noise", {})),
        "metadata": metadata,
    }


def _mean_points(basis: SparseBasis, arrays: dict[str, np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Points and weights of an exact mean; ValueError where they do not fit their block."""
    mean_points = {}
    for k, block in enumerate(basis.blocks):
        if f"extra{k}.weights" not in arrays:
            continue
        weights, stored = arrays[f"extra{k}.weights"], arrays.get(f"extra{k}.points")
        if weights.ndim != 1 or not 0 < len(weights) <= block.points.shape[1]:
            raise ValueError(f"the weights of the further points of block {k} have the shape {weights.shape}")
        points = np.eye(len(weights)) if stored is None else stored
        if points.shape != (*weights.shape, block.points.shape[1]) or not block.descriptor.of_atoms:
            raise ValueError(f"the further points of block {k} have the shape {points.shape}")
        mean_points[k] = points, weights
    return mean_points


def _local_forms(basis: SparseBasis, arrays: dict[str, np.ndarray]) -> dict[int, LocalForm]:
    """The forms of the file; ValueError where one does not fit its block."""
    forms = {}
    n_pair = sum(len(b.points) for b in basis.blocks if b.descriptor.of_pairs)
    for k, block in enumerate(basis.blocks):
        if f"form{k}.soap" not in arrays:
            continue
        form = LocalForm(*(arrays[f"form{k}.{name}"] for name in ("soap", "pair", "signs")))
        if form.signs.ndim != 1 or not np.all(np.abs(form.signs) == 1):
            raise ValueError(f"the signs of block {k} are not of plus and minus one")
        rank = len(form.signs)
        shapes = form.soap.shape, form.pair.shape
        if not supports(basis) or shapes != ((rank, len(block.points)), (rank, n_pair)):
            raise ValueError(f"the form of block {k} has the shapes {shapes}")
        forms[k] = form
    return forms


def _check_blocks(basis: SparseBasis) -> None:
    """Raise ValueError unless points and directions have the shapes that compiled code will rely on."""
    for k, b in enumerate(basis.blocks):
        features = b.descriptor.n_features(b.channel)
        if b.directions is not None:
            if b.kernel.centred or b.directions.ndim != 2 or b.directions.shape[1] != features or not len(b.directions):
                raise ValueError(f"the directions of block {k} have the shape {b.directions.shape}")
            if not np.allclose(b.directions @ b.directions.T, np.eye(len(b.directions)), rtol=0, atol=1e-8):
                raise ValueError(f"the directions of block {k} are not orthonormal")
            features = len(b.directions)
        if b.points.shape[1] != features:
            raise ValueError(f"the sparse points of block {k} have {b.points.shape[1]} features, not {features}")


def _describe_baseline(baseline: Any) -> dict[str, Any] | None:
    if baseline is None:
        return None
    if hasattr(baseline, "settings") and baseline.settings().get("name") == "zbl":
        return baseline.settings()
    return {"name": "calculator", "class": type(baseline).__name__}


def _restore_baseline(stored: dict[str, Any] | None, given: Any, path: Any) -> Any:
    if stored is None:
        if given is not None:
            raise refusal(path, "the model was fitted without a baseline; load it without one")
        return None
    if stored["name"] == "calculator":
        if given is None:
            raise refusal(
                path,
                f"the model was fitted on top of the ASE calculator {stored['class']}, which a file cannot hold; give "
                "it: gapkit.load(path, baseline=calculator)",
            )
        if type(given).__name__ != stored["class"]:
            warnings.warn(
                f"{path}: the model was fitted on top of the calculator {stored['class']}, and is loaded on top of "
                f"{type(given).__name__}",
                GapkitWarning,
                stacklevel=5,
            )
        return given
    if given is not None:
        raise refusal(path, f"the file holds the model's baseline {stored['name']}; load it without one")
    return baseline_calculator(stored)


def _right_side(posterior: Posterior) -> np.ndarray:
    """z = R (w / delta), (m,): what ties the triangle of a posterior to its weights."""
    with blas_threads(1):
        return posterior.R @ (posterior.weights / posterior.column_signal)


def _json_float(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _follows_from_points(block: SparseBlock) -> bool:
    """Whether the points give the factor again, bit for bit."""
    try:
        return np.array_equal(factor_of(block.points, block.kernel, block.jitter), block.factor)
    except np.linalg.LinAlgError:
        return False


def _is_identity(points: np.ndarray) -> bool:
    return len(points) == points.shape[1] and np.array_equal(points, np.eye(len(points)))


def _pack(lower: np.ndarray) -> np.ndarray:
    """The lower triangle, row by row."""
    return lower[np.tril_indices(len(lower))]


def _unpack(packed: np.ndarray, n: int) -> np.ndarray:
    lower = np.zeros((n, n), order="F")  # as the Cholesky factorisation leaves it: LAPACK rounds by the order
    lower[np.tril_indices(n)] = packed
    return lower
