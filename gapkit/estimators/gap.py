"""``GAP``, the facade of the package: a scikit-learn estimator over lists of ``ase.Atoms``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ase
import ase.data
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from gapkit.estimators.error_bars import ErrorBars
from gapkit.estimators.report import Report, evaluate_frames
from gapkit.estimators.stored_parameters import restored, stored
from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.fitting.fit import Fit, fit_potential, update_fit
from gapkit.fitting.label_report import label_report
from gapkit.fitting.model_archive import refusal
from gapkit.fitting.model_file import load_model, save_model
from gapkit.fitting.screening import ScreenedLabel
from gapkit.fitting.settings import FitSettings
from gapkit.numerics.compilation import announce_compilation
from gapkit.potential.calculator import GAPCalculator
from gapkit.potential.evaluation import uncertainty_kind
from gapkit.potential.potential import Potential
from gapkit.progress import progress_bar, report
from gapkit.structures.labels import atoms_list, labelled_frames
from gapkit.structures.plausibility import check_contacts
from gapkit.structures.suspicions import warn_of_labels

_UNSOLVABLE = (
    "the least-squares problem could not be solved ({}): labels or levels are out of range; give noise levels, use "
    "fewer sparse points, or add frames"
)


@dataclass(frozen=True)
class Prediction:
    """Predictions for a list of frames; standard deviations are None unless asked for.

    As an array a prediction is its energies; scikit-learn's ``cross_val_predict`` returns these.

    Attributes
    ----------
    energy, energy_std : (frames,)
        eV.
    forces, forces_std : list of (n, 3)
        eV/A.
    stress, stress_std : list of (6,) or None
        eV/A^3, Voigt xx yy zz yz xz xy, tension positive; None for a frame without cell volume.
    local_energy, local_energy_std : list of (n,)
        eV; local energies sum to the energy, reference energies included.
    """

    energy: np.ndarray
    forces: list[np.ndarray]
    stress: list[np.ndarray | None]
    local_energy: list[np.ndarray]
    energy_std: np.ndarray | None = None
    forces_std: list[np.ndarray | None] | None = None
    stress_std: list[np.ndarray | None] | None = None
    local_energy_std: list[np.ndarray] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.energy, dtype=dtype)


class GAP(ErrorBars, BaseEstimator):
    """Gaussian approximation potential: a sparse Gaussian process on energies, forces and virials at once.

    Bartok, Payne, Kondor, Csanyi, Phys. Rev. Lett. 104, 136403 (2010); Deringer et al., Chem. Rev. 121, 10073 (2021).
    The defaults need no tuning: terms follow from the training frames, noise and signal levels from held-out error.

    Parameters
    ----------
    terms
        ``"auto"``: a pair term and SOAP, sized by the data, whose cutoff and resolution are judged by held-out error
        where there are frames enough and ``sparse`` is ``"auto"`` too; or a list of :class:`gapkit.Term` (or tables of
        settings).
    baseline
        None, ``"zbl"``, or any ASE calculator: subtracted before the fit and added after it.
    e0
        ``"auto"``: from isolated-atom frames, else by least squares; ``"isolated"``, ``"least_squares"``; or a table of
        energies (eV) by symbol.
    noise
        ``"auto"``: from held-out error by folds; ``"leave_one_out"``, ``"held_out_density"`` or ``"evidence"``: from
        these objectives; or a table such as ``{"energy": 0.002, "forces": 0.1, "virial": 0.1, "config_types":
        {"liquid": {"forces": 0.3}}, "objective": "evidence"}`` (eV per square root of atoms, eV/A); levels not given,
        or given as ``"auto"``, are searched. A config_type named there gets noise groups of its own; virials have one
        for each frequent config_type anyway.
    sparse
        ``"auto"``: as the terms say; a number of sparse points for SOAP and triplet terms; the name of a selection
        (``"greedy"``, ``"leverage"``, ``"cur"``, ``"fps"``, ``"random"``); or ``{"n": 500, "selection": "cur",
        "stratified": True}``, where stratified shares the points among config_types.
    exact
        Whether the mean takes every label as a functional of its own (``gapkit.fitting.exact_mean``) rather than
        sparse points, which then carry the error bars alone; True wants one SOAP term with ``DotProduct(2)``.
        ``"auto"``: for default terms, where no frame is periodic and there are at most 30,000 labels.
    folds
        Number of folds for held-out error. Frames that share ``info["trajectory"]`` stay together, the others are
        grouped by similarity.
    screen
        Whether labels that contradict those of all other frames are left out of the fit, with a warning that names them
        (``gapkit.fitting.screening``); ``describe`` lists them.
    energy_key, forces_key, virial_key
        Names of the labels; default: ASE results, then ``energy``, ``forces``, ``virial`` or ``stress`` in info/arrays.
    n_jobs
        Threads; default: what the environment allows.
    random_state
        Seed for sampling candidates and random selections; the default selection of a pool that fits is deterministic.

    Attributes
    ----------
    potential_ : gapkit.potential.potential.Potential
        The fitted potential.
    label_report_ : gapkit.fitting.label_report.LabelReport
        Report on the labels: read, not read, contradictions, coverage (of a model that was fitted
        here; ``gapkit.check_labels`` gives it without a fit).

    Examples
    --------
    >>> import gapkit
    >>> gap = gapkit.GAP(folds=3)
    >>> gap.get_params()["folds"]
    3
    """

    def __init__(
        self,
        terms: Any = "auto",
        baseline: Any = None,
        e0: Any = "auto",
        noise: Any = "auto",
        sparse: Any = "auto",
        exact: bool | str = "auto",
        folds: int = 5,
        screen: bool = True,
        energy_key: str | None = None,
        forces_key: str | None = None,
        virial_key: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.terms = terms
        self.baseline = baseline
        self.e0 = e0
        self.noise = noise
        self.sparse = sparse
        self.exact = exact
        self.folds = folds
        self.screen = screen
        self.energy_key = energy_key
        self.forces_key = forces_key
        self.virial_key = virial_key
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _frames(self, X: Any, require_labels: bool = True):
        return labelled_frames(X, self.energy_key, self.forces_key, self.virial_key, require_labels)

    def fit(
        self,
        X: Sequence[ase.Atoms],
        y: Any = None,
        progress: bool = False,
        checkpoint: str | os.PathLike | None = None,
        memory: float | None = None,
    ) -> GAP:
        """Fit the potential to labelled frames.

        Parameters
        ----------
        X
            Frames with energies, forces, stresses or virials; any may be missing in a frame.
        y
            Ignored; labels travel with the frames.
        progress
            Show progress bars, one line of what is to come, and held-out errors.
        checkpoint
            File that keeps what finished stages chose: which labels are left out, the shape of SOAP, noise and signal
            levels. A fit that was killed goes on behind these stages when it is called again, and its result is the
            same to the last bit.
        memory
            Memory (GB) that the fit may plan for; a fit that needs more is refused before its long work. Default: what
            the machine has and the process's limits and control group allow.

        Raises
        ------
        DataError
            A frame or label that cannot be used, by index and key; a checkpoint that is damaged or cannot be written.
        SettingsError
            A parameter that cannot work; a checkpoint of another fit; a fit that needs more memory than there is.
        NumericsError
            Where a factorisation fails.
        """
        settings = FitSettings.of(self.get_params(deep=False))
        announce_compilation()
        given = atoms_list(X)
        frames = self._frames(given)
        suspicious = warn_of_labels(given, frames, (self.energy_key, self.forces_key, self.virial_key))
        for frame in frames:
            check_contacts(frame.atoms, f"frame {frame.index}")
        try:
            fit = fit_potential(frames, settings, progress, checkpoint, memory)
        except np.linalg.LinAlgError as error:
            raise NumericsError(_UNSOLVABLE.format(error)) from error
        self._fit: Fit | None = fit
        self.potential_ = fit.potential
        self.label_report_ = label_report(frames, fit.findings, suspicious, domain=fit.potential.metadata["domain"])
        if progress:
            report(held_out_table(fit.potential))
        return self

    def update(self, X: Sequence[ase.Atoms], progress: bool = False) -> GAP:
        """Add frames to a fitted model: equal to a refit with reference energies, sparse points and levels frozen.

        An exact mean is corrected by the mean that the sparse posterior gives to its errors on the
        new frames: close to a refit, not equal to it.

        Raises
        ------
        SettingsError
            For a model loaded from a file that was not saved with ``updatable=True``.
        DataError
            As :meth:`fit`; a species or kind of label that the model was not fitted to. The model stays as it was.
        """
        check_is_fitted(self, "potential_")
        if self._fit is None:
            raise SettingsError("this model was saved without its triangles: save it with updatable=True to update it")
        frames = self._frames(X)
        for frame in frames:
            if frame.is_isolated_atom:
                check_contacts(frame.atoms, f"frame {frame.index}")
            else:
                self.potential_.structure(frame.atoms, f"frame {frame.index}")
        try:
            self._fit = update_fit(self._fit, frames, self.n_jobs, progress)
        except np.linalg.LinAlgError as error:
            raise NumericsError(_UNSOLVABLE.format(error)) from error
        self.potential_ = self._fit.potential
        return self

    def predict(self, X: Sequence[ase.Atoms], uncertainty: bool | str | None = None, noise: bool = True) -> Prediction:
        """Predict energies, forces, stresses and local energies of frames.

        Parameters
        ----------
        X
            Frames; labels are not needed.
        uncertainty
            None (or False); ``"local"``: standard deviations of local energies; ``"energy"``: also of energies;
            ``"full"`` (or True): also of forces and stresses, which cost far more.
        noise
            Whether a standard deviation is that of a new label (function, label noise and misfit) or of the function.
        """
        check_is_fitted(self, "potential_")
        kind = uncertainty_kind(uncertainty)
        means = self.potential_.evaluate_many(atoms_list(X, may_be_empty=True), kind, noise)
        prediction = Prediction(
            energy=np.array([m.energy for m in means]),
            forces=[m.forces for m in means],
            stress=[m.stress for m in means],
            local_energy=[m.local_energy for m in means],
        )
        if kind is None:
            return prediction
        if kind == "local":
            variances = [m.local_variance for m in means if m.local_variance is not None]
            types = [atoms.info.get("config_type") for atoms in atoms_list(X, may_be_empty=True)]
            local = [self.potential_.with_noise(v, noise, t) for v, t in zip(variances, types, strict=True)]
            return replace(prediction, local_energy_std=local)
        spreads = [m.spread for m in means if m.spread is not None]
        return replace(
            prediction,
            energy_std=np.array([s.energy for s in spreads]),
            forces_std=[s.forces for s in spreads],
            stress_std=[s.stress for s in spreads],
            local_energy_std=[s.local_energy for s in spreads],
        )

    def evaluate(self, X: Sequence[ase.Atoms], uncertainty: bool | str | None = True, progress: bool = False) -> Report:
        """Report of errors and calibration on labelled frames; it prints as a table, overall and by config_type.

        ``uncertainty``: as in :meth:`predict`; ``"energy"`` judges the standard deviations of energies alone.
        """
        check_is_fitted(self, "potential_")

        def shown(frames: Any) -> Any:
            return progress_bar(frames, desc="evaluate", unit="frame", show=progress)

        return evaluate_frames(self.potential_, self._frames(X), uncertainty_kind(uncertainty), shown)

    def score(self, X: Sequence[ase.Atoms], y: Any = None) -> float:
        """Minus the root-mean-square force error (eV/A); minus that of energies (eV/atom) where there are no forces."""
        summary = self.evaluate(X, uncertainty=False).summary
        if summary["force_rmse_ev_per_ang"] is not None:
            return -summary["force_rmse_ev_per_ang"]
        if summary["energy_rmse_mev_per_atom"] is not None:
            return -1e-3 * summary["energy_rmse_mev_per_atom"]
        raise DataError("the frames have neither forces nor energies to score; give labelled frames")

    def calculator(self, uncertainty: bool | str | None = None, noise: bool = True, skin: float = 0.7) -> GAPCalculator:
        """ASE calculator of the potential.

        ``uncertainty`` is None, ``"local"``, ``"energy"`` or ``"full"``; ``skin`` (A) is that of the pair list. See
        :class:`GAPCalculator`.
        """
        check_is_fitted(self, "potential_")
        return GAPCalculator(self.potential_, uncertainty, noise, skin)

    def describe(self) -> str:
        """Description of the model as text: species, terms, training set, levels and held-out errors."""
        check_is_fitted(self, "potential_")
        p, m = self.potential_, self.potential_.metadata
        lines = [
            f"gapkit potential for {', '.join(m['species'])}, cutoff {p.r_cut} A, {m['n_sparse']} sparse points",
            f"trained on {m['n_frames']} frames, {m['n_atoms']} atoms, {m['n_labels']} labels; "
            + ", ".join(f"{k} {n}" for k, n in m["config_types"].items()),
            f"training set SHA-256 {m['training_hash']}",
        ]
        for term, signal in zip(p.terms, p.posterior.signal, strict=True):
            settings = {k: v for k, v in term.settings().items() if k not in ("name", "signal")}
            detail = ", ".join(f"{k} {v}" for k, v in settings.items())
            lines.append(f"term {term.settings()['name']}: {detail}; signal {signal:.3g} eV")
        lines += [f"  {line}" for line in p.describe_passes()]
        for z, energy in sorted(p.reference.values.items()):
            lines.append(f"e0 of {ase.data.chemical_symbols[z]}: {energy:.6f} eV ({p.reference.source.get(z, '')})")
        dropped = m.get("levels", {}).get("dropped_terms")
        if dropped:
            lines.append(f"dropped, because their signal vanished: {', '.join(dropped)}")
        lines += screened_lines(m)
        lines += shape_lines(m.get("levels", {}).get("shapes") or [])
        lines.append(f"baseline: {type(p.baseline).__name__ if p.baseline is not None else 'none'}")
        return "\n".join([*lines, held_out_table(p)])

    def save(self, path: str | os.PathLike, updatable: bool = False) -> None:
        """Write a model file; with ``updatable`` it also holds the data that :meth:`update` needs."""
        check_is_fitted(self, "potential_")
        if self._fit is None and updatable:
            raise SettingsError("this model was loaded without its triangles and cannot be saved as updatable")
        fit = replace(self._fit or Fit.of_potential(self.potential_), potential=self.potential_)
        save_model(path, fit, stored(self.get_params(deep=False)), updatable)


def screened_lines(metadata: Mapping[str, Any]) -> list[str]:
    """The labels that were left out of a fit because they contradict all others."""
    labels = [ScreenedLabel(**table) for table in metadata.get("screened", [])]
    return [f"left out of the fit, because it contradicts all others: {label}" for label in labels]


def shape_lines(shapes: Sequence[Sequence[Any]]) -> list[str]:
    """The shapes of SOAP that a fit compared, best first."""
    ranked = sorted(shapes, key=lambda shape: shape[1])
    words = "; ".join(f"{name}: {score:.3f}" for name, score in ranked)
    return [f"SOAP by held-out error (log energy + log force) on a part of the frames: {words}"] if words else []


def held_out_table(potential: Potential) -> str:
    """Held-out root-mean-square errors of the fit, one line per noise group."""
    units = {"energy": "eV/sqrt(atoms)", "forces": "eV/A", "virial": "eV/sqrt(atoms)"}
    lines = [f"{'label':<24} {'held-out RMSE':>14} {'noise':>10}"]
    for group, c in sorted(potential.calibration.groups.items()):
        if np.isfinite(c.held_out_rmse):
            lines.append(f"{group:<24} {c.held_out_rmse:>14.4g} {c.noise:>10.4g}  {units[group.split(':')[0]]}")
    return "\n".join(lines)


def load(path: str | os.PathLike, baseline: Any = None) -> GAP:
    """Read a model that :meth:`GAP.save` wrote.

    Parameters
    ----------
    path
        Model file.
    baseline
        The ASE calculator of a model fitted on top of one.

    Raises
    ------
    ModelFileError
        For a file that is missing, truncated, altered, of a newer format, or no model.
    """
    loaded, settings = load_model(path, baseline)
    potential = loaded.potential if isinstance(loaded, Fit) else loaded
    try:
        gap = GAP(**restored(settings, potential))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise refusal(path, f"the settings in this model file are not gapkit's ({error})") from None
    gap.potential_ = replace(potential, n_jobs=gap.n_jobs)
    gap._fit = replace(loaded, potential=gap.potential_) if isinstance(loaded, Fit) else None
    return gap
