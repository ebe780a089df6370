"""One file per model: a zip of NumPy arrays and a JSON header. Reading it never runs code.

Members: ``header.json`` (format, version, units, settings, calibration, training set, and the SHA-256 of every array)
and one ``.npy`` per array, read with ``allow_pickle=False``. Triangular matrices are stored packed. A file is written
under a temporary name in the same folder and then renamed, so that a crash leaves an older file as it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from gapkit.exceptions import GapkitError, ModelFileError
from gapkit.models.basis import SparseBasis, SparseBlock
from gapkit.models.levels import Levels
from gapkit.models.posterior import Posterior
from gapkit.models.terms import term_from_settings
from gapkit.models.triangles import Triangle, Triangles
from gapkit.potential.baseline import baseline_calculator
from gapkit.potential.model import Potential
from gapkit.potential.training import Fit
from gapkit.structures.reference_energies import ReferenceEnergies
from gapkit.uncertainty.calibration import Calibration, GroupCalibration

FORMAT = "gapkit-model"
FORMAT_VERSION = 1
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
    arrays: dict[str, np.ndarray] = {"alpha": potential.alpha, "weights": potential.posterior.weights}
    arrays["R"] = _pack(potential.posterior.R.T)
    for k, b in enumerate(potential.basis.blocks):
        arrays[f"block{k}.points"] = b.points
        arrays[f"block{k}.factor"] = _pack(b.factor)
    for k, term in enumerate(potential.terms):
        for name, array in term.descriptor.arrays().items():
            arrays[f"term{k}.{name}"] = array
    header: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "gapkit_version": gapkit_version(),
        "units": UNITS,
        "species": list(potential.species),
        "terms": [t.settings() for t in potential.terms],
        "blocks": [
            {"term": b.term, "channel": list(b.channel), "jitter": b.jitter} for b in potential.basis.blocks
        ],
        "signal": [float(s) for s in potential.posterior.signal],
        "reference": {
            "values": {str(z): float(e) for z, e in potential.reference.values.items()},
            "source": {str(z): s for z, s in potential.reference.source.items()},
        },
        "baseline": _describe_baseline(potential.baseline),
        "calibration": {
            "scale": potential.calibration.scale,
            "groups": {g: vars(c) for g, c in potential.calibration.groups.items()},
        },
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
    header, arrays = _read(Path(path))
    try:
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
    except GapkitError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(
            f"{path}: the header of this model file does not hold together ({type(error).__name__}: {error}); "
            "it was altered or written by another program"
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
        term = term_from_settings(settings)
        own = {name.split(".", 1)[1]: a for name, a in arrays.items() if name.startswith(f"term{k}.")}
        terms.append(term.with_descriptor(term.descriptor.with_arrays(species, own)))
    blocks, begin = [], 0
    for k, b in enumerate(header["blocks"]):
        points = arrays[f"block{k}.points"]
        term = terms[b["term"]]
        columns = slice(begin, begin + len(points))
        factor = _unpack(arrays[f"block{k}.factor"], len(points))
        blocks.append(
            SparseBlock(
                b["term"], term.descriptor, term.kernel, tuple(b["channel"]), points, factor, b["jitter"], columns
            )
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
    if len(arrays["weights"]) != basis.n_columns or len(arrays["alpha"]) != basis.n_columns:
        raise ValueError("weights and sparse points do not match")
    reference = ReferenceEnergies(
        {int(z): float(e) for z, e in header["reference"]["values"].items()},
        {int(z): s for z, s in header["reference"]["source"].items()},
    )
    calibration = Calibration(
        {g: GroupCalibration(**c) for g, c in header["calibration"]["groups"].items()},
        header["calibration"]["scale"],
    )
    return Potential(
        tuple(terms),
        basis,
        posterior,
        arrays["alpha"],
        reference,
        _restore_baseline(header["baseline"], baseline, path),
        calibration,
        species,
        header["metadata"],
    )


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
        return given
    return baseline_calculator(stored)


def _json_float(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _pack(lower: np.ndarray) -> np.ndarray:
    """The lower triangle, row by row."""
    return lower[np.tril_indices(len(lower))]


def _unpack(packed: np.ndarray, n: int) -> np.ndarray:
    lower = np.zeros((n, n))
    lower[np.tril_indices(n)] = packed
    return lower


def _write(path: Path, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    members = {}
    for name, array in arrays.items():
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
        members[f"{name}.npy"] = stream.getvalue()
    header = {**header, "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}}
    text = json.dumps(header, indent=1, allow_nan=True).encode()
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent or Path(), prefix=path.name, suffix=".tmp")
    except OSError as error:
        raise ModelFileError(f"{path}: cannot write there ({error.strerror})") from None
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr("header.json", text)
                archive.writestr("header.sha256", hashlib.sha256(text).hexdigest())
                for name, data in members.items():
                    archive.writestr(name, data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    damaged = f"{path}: this model file is truncated or altered; restore it from a copy or fit the model again"
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with zipfile.ZipFile(path) as archive:
            if "header.json" not in archive.namelist():
                raise ModelFileError(f"{path}: not a gapkit model (it has no header)")
            text = archive.read("header.json")
            header = json.loads(text)
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise ModelFileError(f"{path}: not a gapkit model")
            found = header.get("format_version")
            if not isinstance(found, int) or found > FORMAT_VERSION:
                raise ModelFileError(
                    f"{path}: model format {found} is newer than {FORMAT_VERSION}, which this gapkit "
                    f"({gapkit_version()}) reads; install a newer gapkit"
                )
            if hashlib.sha256(text).hexdigest() != archive.read("header.sha256").decode():
                raise ModelFileError(damaged)
            arrays = {}
            for name, digest in header["sha256"].items():
                data = archive.read(name)
                if hashlib.sha256(data).hexdigest() != digest:
                    raise ModelFileError(damaged)
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(
                    io.BytesIO(data), allow_pickle=False
                )
            return header, arrays
    except ModelFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelFileError(f"{damaged} ({error})") from None
    except (KeyError, ValueError, OSError, NotImplementedError, AttributeError, RuntimeError) as error:
        raise ModelFileError(f"{damaged} ({type(error).__name__}: {error})") from None
