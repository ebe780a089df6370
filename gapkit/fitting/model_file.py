"""One file per model: a zip of NumPy arrays and a JSON header. Reading it never runs code.

Members: ``header.json`` (format, version, units, settings, calibration, training set) and one ``.npy`` per array, read
with ``allow_pickle=False``. Triangular matrices are stored packed; the Cholesky factor of a kernel matrix is made again
from the sparse points where that gives the same bits. The last 64 bytes of the file, in the zip's comment,
are the SHA-256 of all bytes before them, so that any change shows. A file is written under a temporary name in the same
folder and then renamed, so that a crash leaves an older file as it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import numpy as np

from gapkit.exceptions import GapkitWarning, ModelFileError, SettingsError
from gapkit.fitting.fit import Fit
from gapkit.models.basis import SparseBasis
from gapkit.models.levels import Levels
from gapkit.models.posterior import Posterior
from gapkit.models.sparse_block import SparseBlock, factor_of
from gapkit.models.terms import term_from_settings
from gapkit.models.triangles import Triangle, Triangles
from gapkit.potential.baseline import baseline_calculator
from gapkit.potential.domain import Domain
from gapkit.potential.local_variance import LocalForm, supports
from gapkit.potential.potential import Potential
from gapkit.safe_write import replacing
from gapkit.structures.reference_energies import ReferenceEnergies
from gapkit.uncertainty.calibration import Calibration, GroupCalibration
from gapkit.uncertainty.label_errors import FittedErrors, LabelErrors, StatedErrors
from gapkit.uncertainty.recalibration import Recalibration

FORMAT = "gapkit-model"
FORMAT_VERSION = 3
#: formats that are read: in the first, metadata held error models, the domain and the noise levels; the first two have
#: the points of every exact mean, and every factor of sparse points
READABLE = (1, 2, 3)
#: bytes of the seal at the end of a file: a SHA-256 in hexadecimal
SEAL = 64
UNITS = {"energy": "eV", "length": "A", "force": "eV/A", "virial": "eV", "stress": "eV/A^3"}


def save_model(path: str | os.PathLike, fit: Fit, estimator: dict[str, Any], updatable: bool = False) -> None:
    """Write a model.

    Parameters
    ----------
    path
        Target file; replaced only when the new one is complete.
    fit
        What to save.
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
    for k, b in enumerate(potential.basis.blocks):
        arrays[f"block{k}.points"] = b.points
        if not _follows_from_points(b):
            arrays[f"block{k}.factor"] = _pack(b.factor)
        if b.directions is not None:
            arrays[f"block{k}.directions"] = b.directions
    for k, (points, weights) in potential.extra.items():
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
        "gapkit_version": gapkit_version(),
        "units": UNITS,
        "species": list(potential.species),
        "terms": [t.settings() for t in potential.terms],
        "blocks": [{"term": b.term, "channel": list(b.channel), "jitter": b.jitter} for b in potential.basis.blocks],
        "signal": [float(s) for s in potential.posterior.signal],
        "reference": {
            "values": {str(z): float(e) for z, e in potential.reference.values.items()},
            "source": {str(z): s for z, s in potential.reference.source.items()},
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
    _write(Path(path), header, arrays)


def load_model(path: str | os.PathLike, baseline: Any = None) -> tuple[Fit | Potential, dict[str, Any]]:
    """Read a model: a :class:`Fit` if it was saved as updatable, else its potential; and the constructor arguments.

    ``baseline`` gives the ASE calculator of a model that was fitted on top of one (ZBL is stored by itself).

    Raises
    ------
    ModelFileError
        For a file that is missing, truncated, altered, of a newer format, or no model.
    """
    baseline = baseline_calculator(baseline)
    header, arrays = _read(Path(path))
    try:
        if header["format_version"] == 1:
            header = _upgraded(header)
        potential = _potential(header, arrays, baseline, path)
        estimator = dict(header["estimator"])
        if "triangles" not in header:
            return potential, estimator
        triangles = Triangles(potential.basis.n_columns, potential.basis.n_terms)
        for k, t in enumerate(header["triangles"]):
            triangles.items[(t["group"], t["fold"])] = Triangle(
                arrays[f"triangle{k}"], t["n_rows"], t["log_scale"], np.array(t["prior"])
            )
        objective = header["levels"]["objective"]
        levels = Levels(
            header["levels"]["noise"], potential.posterior.signal, float("nan") if objective is None else objective
        )
        return Fit(potential, triangles, levels, arrays["folds"]), estimator
    except ModelFileError:
        raise
    except Exception as error:  # a header that another program wrote can break anything
        raise ModelFileError(
            f"{path}: the header of this model file does not hold together ({type(error).__name__}: {error}); "
            "it was written by another program; fit the model again"
        ) from error


def gapkit_version() -> str:
    """Version of the installed package; ``"unknown"`` in a bare checkout."""
    try:
        return version("gapkit")
    except PackageNotFoundError:
        return "unknown"


def _potential(header: dict, arrays: dict, baseline: Any, path: Any) -> Potential:
    species = tuple(int(z) for z in header["species"])
    terms = []
    for k, settings in enumerate(header["terms"]):
        if not all(0 <= settings.get(name, 0) <= 12 for name in ("n_max", "l_max")):
            raise ValueError(f"term {k} has n_max or l_max out of range")
        term = term_from_settings(settings)
        own = {name.split(".", 1)[1]: a for name, a in arrays.items() if name.startswith(f"term{k}.")}
        terms.append(term.with_descriptor(term.descriptor.with_arrays(species, own)))
    blocks, begin = [], 0
    for k, b in enumerate(header["blocks"]):
        points = arrays[f"block{k}.points"]
        term = terms[b["term"]]
        columns = slice(begin, begin + len(points))
        if f"block{k}.factor" in arrays:
            factor = _unpack(arrays[f"block{k}.factor"], len(points))
        else:
            factor = factor_of(points, term.kernel, b["jitter"])
        channel, onto = tuple(b["channel"]), arrays.get(f"block{k}.directions")
        blocks.append(
            SparseBlock(b["term"], term.descriptor, term.kernel, channel, points, factor, b["jitter"], columns, onto)
        )
        begin = columns.stop
    basis = SparseBasis(blocks, len(terms))
    signal = np.array(header["signal"])
    column_terms = basis.column_terms()
    posterior = Posterior(
        arrays["weights"],
        np.ascontiguousarray(_unpack(arrays["R"], basis.n_columns).T),
        signal,
        signal[column_terms],
        column_terms,
    )
    if len({(b.term, b.channel) for b in basis.blocks}) < len(basis.blocks):
        raise ValueError("a channel of a term stands twice")
    _check_arrays(basis, arrays)
    reference = ReferenceEnergies(
        {int(z): float(e) for z, e in header["reference"]["values"].items()},
        {int(z): s for z, s in header["reference"]["source"].items()},
    )
    calibration = Calibration(
        {g: GroupCalibration(**c) for g, c in header["calibration"]["groups"].items()},
        header["calibration"]["residual_scale"],
        header["calibration"]["weight_scale"],
    )
    extra = _extra(basis, arrays)
    errors: LabelErrors = StatedErrors(calibration)
    if header["recalibration"] is not None:
        recalibration = Recalibration.from_dict(header["recalibration"])
        errors = FittedErrors(calibration, recalibration, exact=bool(extra))
    return Potential(
        tuple(terms),
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
        extra=extra,
    )


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


def _extra(basis: SparseBasis, arrays: dict[str, np.ndarray]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Points and weights of an exact mean; ValueError where they do not fit their block."""
    extra = {}
    for k, block in enumerate(basis.blocks):
        if f"extra{k}.weights" not in arrays:
            continue
        weights = arrays[f"extra{k}.weights"]
        if weights.ndim != 1:
            raise ValueError(f"the weights of the further points of block {k} have the shape {weights.shape}")
        points = arrays.get(f"extra{k}.points", np.eye(len(weights)))
        if points.shape != (*weights.shape, block.points.shape[1]) or not block.descriptor.of_atoms:
            raise ValueError(f"the further points of block {k} have the shape {points.shape}")
        extra[k] = points, weights
    return extra


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


def _check_arrays(basis: SparseBasis, arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError unless every array has the shape that compiled code will rely on, and is finite."""
    for name, array in arrays.items():
        if array.dtype != (np.int64 if name == "folds" else np.float64) or not np.isfinite(array).all():
            raise ValueError(f"the array {name} is not of finite numbers")
    for name in ("weights", "alpha"):
        if arrays[name].shape != (basis.n_columns,):
            raise ValueError(f"{name} and sparse points do not match")
    for k, b in enumerate(basis.blocks):
        if b.channel not in b.descriptor.channels:
            raise ValueError(f"block {k} has the channel {b.channel}, which its descriptor has not")
        b.descriptor.check_arrays()
        features = b.descriptor.n_features(b.channel)
        if b.directions is not None:
            if b.kernel.centred or b.directions.ndim != 2 or b.directions.shape[1] != features or not len(b.directions):
                raise ValueError(f"the directions of block {k} have the shape {b.directions.shape}")
            if not np.allclose(b.directions @ b.directions.T, np.eye(len(b.directions)), atol=1e-8):
                raise ValueError(f"the directions of block {k} are not orthonormal")
            features = len(b.directions)
        if b.points.shape[1:] != (features,):
            raise ValueError(f"the sparse points of block {k} have {b.points.shape[1:]} features, not {features}")


def _describe_baseline(baseline: Any) -> dict[str, Any] | None:
    if baseline is None:
        return None
    if hasattr(baseline, "settings") and baseline.settings().get("name") == "zbl":
        return baseline.settings()
    return {"name": "calculator", "class": type(baseline).__name__}


def _restore_baseline(stored: dict[str, Any] | None, given: Any, path: Any) -> Any:
    if stored is None:
        if given is not None:
            raise ModelFileError(f"{path}: the model was fitted without a baseline; load it without one")
        return None
    if stored["name"] == "calculator":
        if given is None:
            raise ModelFileError(
                f"{path}: the model was fitted on top of the ASE calculator {stored['class']}, which a file cannot "
                "hold; give it: gapkit.load(path, baseline=calculator)"
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
        raise ModelFileError(f"{path}: the file holds the model's baseline {stored['name']}; load it without one")
    return baseline_calculator(stored)


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


def _write(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    try:
        text = json.dumps(header, indent=1, allow_nan=True, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise SettingsError(f"a parameter of this model cannot be kept in a file: {error}") from None
    with replacing(path, ModelFileError) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("header.json", text)
            for name, array in arrays.items():
                stream = io.BytesIO()
                # the order in memory is kept: it decides how LAPACK rounds
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
                archive.writestr(f"{name}.npy", stream.getvalue())
            archive.comment = SEAL * b"0"
        with open(temporary, "rb+") as file:
            seal = _digest(file, temporary.stat().st_size - SEAL)
            file.seek(-SEAL, os.SEEK_END)
            file.write(seal)


def _plain(value: Any) -> Any:
    """NumPy numbers as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r:.80} is not a number, a word or a table of them")


def _digest(file: IO[bytes], n_bytes: int) -> bytes:
    """SHA-256, in hexadecimal, of the first ``n_bytes`` of an open file."""
    digest = hashlib.sha256()
    file.seek(0)
    while n_bytes > 0:
        block = file.read(min(n_bytes, 1 << 20))
        if not block:
            break
        digest.update(block)
        n_bytes -= len(block)
    return digest.hexdigest().encode()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    damaged = f"{path}: this model file is truncated or altered; restore it from a copy or fit the model again"
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with open(path, "rb") as file:
            start = file.read(4)
            sealed = _digest(file, path.stat().st_size - SEAL) == file.read(SEAL)
            if start[:2] != b"PK":
                raise ModelFileError(f"{path}: not a gapkit model")
            with zipfile.ZipFile(file) as archive:
                if "header.json" not in archive.namelist():
                    raise ModelFileError(f"{path}: not a gapkit model (it has no header)")
                header = json.loads(archive.read("header.json"))
                if not isinstance(header, dict) or header.get("format") != FORMAT:
                    raise ModelFileError(f"{path}: not a gapkit model")
                found = header.get("format_version")
                if isinstance(found, int) and found > FORMAT_VERSION:
                    raise ModelFileError(
                        f"{path}: model format {found} is newer than {FORMAT_VERSION}, which this gapkit "
                        f"({gapkit_version()}) reads; install a newer gapkit"
                    )
                if not sealed or found not in READABLE:
                    raise ModelFileError(damaged)
                arrays = {}
                for name in archive.namelist():
                    if name.endswith(".npy"):
                        stream = io.BytesIO(archive.read(name))
                        arrays[name.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
                return header, arrays
    except ModelFileError:
        raise
    except PermissionError:
        raise ModelFileError(f"{path}: no permission to read it") from None
    except Exception as error:  # zipfile, its decompressors and NumPy's reader raise whatever they like
        raise ModelFileError(f"{damaged} ({type(error).__name__}: {error})") from None
