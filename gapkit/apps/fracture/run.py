r"""Fracture potential of a crystal, fitted to a potential that cracks it, and critical loads that it was not shown.

Cracks of several crack systems and mode angles are loaded quasi-statically; bonds around their tips, and bonds of
strained crystals, are labelled; a :class:`gapkit.apps.fracture.fracture_potential.FracturePotential` learns from
them, and takes its critical value from the bonds that broke by themselves. For each crack system in turn the potential
is fitted without it, and asked for its critical loads: from the stress of the relaxed atoms below, and from linear
elasticity alone. The references are those of the same atoms: rupture at :math:`K_+`, healing at :math:`K_-`, and
Griffith's :math:`K_G` between.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from gapkit.apps.fracture.bond_labels import (
    BondLabels,
    BondStress,
    LoadingHistory,
    bonds_descriptors,
    bonds_near_tip,
    label_history,
    label_strained,
    load_both_ways,
)
from gapkit.apps.fracture.clusters import Cluster, RimLoad
from gapkit.apps.fracture.crystals import MPA_SQRT_M, SYSTEMS, Material
from gapkit.apps.fracture.fracture_potential import FracturePotential, critical_load, hold_out
from gapkit.apps.fracture.label_files import LabelFile
from gapkit.apps.fracture.propagation import TipDescriptors
from gapkit.exceptions import DataError, SettingsError
from gapkit.progress import progress_bar
from gapkit.randomness import seed_of
from gapkit.settings import Settings
from gapkit.uncertainty.held_out import HeldOut


@dataclass(frozen=True)
class FractureSettings(Settings):
    """Cracks and strained crystals that are loaded and labelled.

    Attributes
    ----------
    systems : tuple of str
        Names in ``gapkit.apps.fracture.crystals.SYSTEMS``, at least two.
    modes : tuple of float, rad
        Mode angles ``atan2(kII, kI)``.
    radius : float, A
        Radius of the part of a cluster that moves.
    cutoff : float, A
        Range of the potential.
    factor : float
        Ratio of one load to the next.
    every : int
        Loads from one labelled state to the next.
    most : int
        Bonds labelled in a state, the tip bond among them.
    strains : tuple of float
        Strains across the crack plane of crystals without a crack.
    """

    systems: tuple[str, ...] = tuple(SYSTEMS)
    modes: tuple[float, ...] = (0.0, 0.2, -0.2, 0.4, -0.4)
    radius: float = 16.0
    cutoff: float = 3.8
    factor: float = 1.03
    every: int = 5
    most: int = 3
    strains: tuple[float, ...] = (0.0, 0.04, 0.08, 0.12)

    def check(self) -> None:
        """Raise :class:`SettingsError` for values that cannot work."""
        unknown = set(self.systems) - set(SYSTEMS)
        if unknown or len(self.systems) < 2:
            raise SettingsError(f"systems must be at least two of {', '.join(SYSTEMS)}, not {self.systems}")
        if not self.modes or max(abs(m) for m in self.modes) >= np.pi / 2:
            raise SettingsError(f"mode angles must lie between -pi/2 and pi/2, not {self.modes}")
        if not (0 < self.radius < np.inf and 0 < self.cutoff < np.inf and 1 < self.factor < np.inf):
            raise SettingsError(
                "radius and cutoff must be positive and finite (A) and factor finite and above 1, not "
                f"{self.radius}, {self.cutoff} and {self.factor}"
            )
        if self.every < 1 or self.most < 1:
            raise SettingsError(f"every and most must be at least 1, not {self.every} and {self.most}")


@dataclass(frozen=True)
class CriticalPrediction:
    """Critical load of one crack, predicted by a potential that had not seen its crack system.

    Attributes
    ----------
    system : str
    mode : float, rad
    griffith, k_minus, k_plus : float, eV/A^(5/2)
        Griffith's (of pure opening), and the atoms' own loads of healing and rupture.
    atoms, atoms_std : float, eV/A^(5/2)
        Predicted load of rupture, from the stress of the relaxed atoms at loads up to Griffith's.
    continuum, continuum_std : float, eV/A^(5/2)
        Prediction from the stress of linear elasticity alone, by a potential trained on such stresses.
    """

    system: str
    mode: float
    griffith: float
    k_minus: float
    k_plus: float
    atoms: float
    atoms_std: float
    continuum: float
    continuum_std: float

    def trapped(self, value: float) -> bool:
        """Whether a load lies where the lattice traps the crack."""
        return self.k_minus <= value <= self.k_plus

    def miss(self, value: float) -> float:
        """Distance of a load from the trapping range, as a share of its nearer end; 0 within."""
        if self.trapped(value):
            return 0.0
        end = self.k_minus if value < self.k_minus else self.k_plus
        return abs(value - end) / end


@dataclass(frozen=True)
class FractureResult:
    """Labels, fracture potential, and its predictions.

    Attributes
    ----------
    settings : FractureSettings
    histories : tuple of LoadingHistory
    labels : BondLabels
    potential : FracturePotential
        Fitted to all labels, with its critical value (eV).
    continuum : FracturePotential
        Fracture potential of the K-field, from all histories; see :func:`continuum_potential`.
    by_history, by_system : HeldOut
        Loading histories (with their mirror images), and whole crack systems, left out (eV).
    predictions : tuple of CriticalPrediction
        Predictions for crack systems left out.
    """

    settings: FractureSettings
    histories: tuple[LoadingHistory, ...]
    labels: BondLabels
    potential: FracturePotential
    continuum: FracturePotential
    by_history: HeldOut
    by_system: HeldOut
    predictions: tuple[CriticalPrediction, ...]

    @property
    def critical(self) -> float:
        """Critical driving force (eV per bond)."""
        return self.potential.critical_

    @property
    def critical_std(self) -> float:
        """Standard error of the critical driving force (eV per bond): its scatter over the square root of ruptures."""
        return self.potential.critical_error_

    def to_dict(self) -> dict[str, Any]:
        """Settings, left-out errors, critical value and predicted critical loads (eV, eV/A^(5/2)), JSON-ready."""
        left_out = {"by_history": self.by_history, "by_system": self.by_system}
        return {
            "settings": self.settings.as_dict(),
            "n_bonds": len(self.labels),
            "critical": self.critical,
            "critical_std": self.critical_std,
            **{name: {"r2": h.r2, "rmse": h.rmse, "z_rms": h.z_rms} for name, h in left_out.items()},
            "predictions": [asdict(c) for c in self.predictions],
        }

    def __str__(self) -> str:
        p, tip = self.potential, self.labels.tip
        lines = [
            f"{len(self.labels)} labelled bonds, {tip.sum()} of them at crack tips",
            f"loading histories left out: R2 {self.by_history.r2:.3f}, RMSE {self.by_history.rmse:.3f} eV, "
            f"rms z {self.by_history.z_rms:.2f}; tip bonds R2 {self.by_history.part(tip).r2:.3f}",
            f"crack systems left out: R2 {self.by_system.r2:.3f}, RMSE {self.by_system.rmse:.3f} eV, "
            f"rms z {self.by_system.z_rms:.2f}; tip bonds R2 {self.by_system.part(tip).r2:.3f}",
            f"critical driving force {self.critical:.2f} +- {self.critical_std:.2f} eV per bond "
            f"(scatter {p.critical_std_:.2f} eV)",
            "critical loads in MPa m^(1/2), crack systems left out",
            "crack system   mode (deg)   K-     K_G    K+     from atoms      from the continuum",
        ]
        for c in self.predictions:
            k = np.array([c.k_minus, c.griffith, c.k_plus, c.atoms, c.atoms_std, c.continuum, c.continuum_std])
            k = k / MPA_SQRT_M
            lines.append(
                f"{c.system:14s} {np.degrees(c.mode):8.1f}   {k[0]:5.3f}  {k[1]:5.3f}  {k[2]:5.3f}  "
                f"{k[3]:5.3f} +- {k[4]:5.3f}  {k[5]:5.3f} +- {k[6]:5.3f}"
            )
        return "\n".join(lines)


def rupture_descriptors(history: LoadingHistory, stress: BondStress) -> np.ndarray:
    """Descriptors (f,) of the bond that broke, at the last load before.

    Raises
    ------
    DataError
        Where no bond broke.
    """
    if history.rupture is None:
        raise DataError(f"{history.name}: no bond broke; load further")
    positions = history.states[-1].positions
    return bonds_descriptors(history.cluster, positions, np.array([history.broke]), stress)[0]


def tip_descriptors(history: LoadingHistory, stress: BondStress, most: int = 3) -> np.ndarray:
    """Descriptors (k, most, f) of the bonds nearest to the tip at all loads of a history."""
    bonds = bonds_near_tip(history.cluster, history.states[0].positions, 3.6, most)
    return np.array([bonds_descriptors(history.cluster, s.positions, bonds, stress) for s in history.states])


def load_from_atoms(
    potential: FracturePotential, history: LoadingHistory, X: np.ndarray, highest: float
) -> tuple[float, float]:
    """Load of rupture (eV/A^(5/2)) and its standard deviation from the descriptors (k, b, f) of the bonds at the loads
    of a history, those up to ``highest`` alone: the parabola through the largest driving forces is continued until it
    reaches the critical value.

    Not a number where fewer than four loads are that low, or the critical value is not reached at twice ``highest``.
    """
    loads = np.array([load.k for load in history.loads])
    low = loads <= highest * (1.0 + 1e-9)
    if low.sum() < 4:
        return float("nan"), float("nan")
    loads, X = loads[low], X[low]
    phi, std = (v.reshape(X.shape[:2]) for v in potential.predict(X.reshape(-1, X.shape[-1]), return_std=True))
    best, rows = phi.argmax(axis=1), np.arange(len(loads))
    fit = np.polynomial.Polynomial.fit(loads, phi[rows, best], 2)
    grid = np.linspace(loads[0], 2.0 * highest, 4001)
    above = np.flatnonzero(fit(grid) > potential.critical_)
    if len(above) == 0 or above[0] == 0:
        return float("nan"), float("nan")
    found = float(grid[above[0]])
    combined_std = np.hypot(std[rows, best][-1], potential.critical_std_)
    return found, float(combined_std / abs(fit.deriv()(found)))


def continuum_tip(history: LoadingHistory, stress: BondStress) -> Callable[[np.ndarray], np.ndarray]:
    """Descriptors (k, 2) of the tip of a history by linear elasticity alone, for sizes (k,) of the stress intensity:
    the tractions across the crack plane, since a continuum has no bonds. Invariants are left out: in a K-field they are
    those tractions times numbers that belong to the crack system, and lead astray in one not trained on."""
    cluster = history.cluster
    tip = TipDescriptors(replace(stress, invariants=()), field=cluster.material.k_field(cluster.system))
    mix = np.array([np.cos(history.mode), np.sin(history.mode)])
    return lambda k: tip(np.asarray(k)[:, None] * mix, np.array([0.0, 1.0, 0.0]))


def continuum_potential(
    histories: Sequence[LoadingHistory], labels: BondLabels, stress: BondStress
) -> FracturePotential:
    """The fracture potential of a continuum: labels of tip bonds by the atoms, their stress by the K-field.

    Its use is where there are no atoms, in :mod:`gapkit.apps.fracture.propagation`. Close to the tip the stress of the
    atoms is not that of linear elasticity, so that the two kinds of descriptors must not be mixed. Cracks that turn off
    their plane (another bond than the tip's breaks) are left out: the bond they leave behind is not the crack's way.

    Raises
    ------
    DataError
        Where no crack, or only one, went on along its plane.
    """
    X, y, home, ruptures = [], [], [], []
    histories = [h for h in histories if h.rupture is None or h.tip_broke]
    if not histories:
        raise DataError("all cracks turn off their plane: load others")
    for h in histories:
        of_tip = (labels.history == h.name) & labels.tip
        describe = continuum_tip(h, stress)
        X.append(describe(labels.k[of_tip]))
        y.append(labels.driving[of_tip])
        home.append(labels.home[of_tip])
        if h.rupture is not None:
            ruptures.append(describe(np.array([h.k_plus]))[0])
    group = np.concatenate(home)
    if len(np.unique(group)) < 2:
        group = np.concatenate([np.full(len(v), n) for n, v in enumerate(y)])
    return FracturePotential().fit(np.concatenate(X), np.concatenate(y), group).set_critical(np.array(ruptures))


def load_from_continuum(
    potential: FracturePotential, history: LoadingHistory, stress: BondStress
) -> tuple[float, float]:
    """Load of rupture (eV/A^(5/2)) of the tip bond and its standard deviation, from the K-field alone, by a
    :func:`continuum_potential`; not a number where there is none between 0.3 and 2.5 of Griffith's load."""
    scale = history.cluster.material.griffith(history.cluster.system)
    try:
        found = critical_load(potential, continuum_tip(history, stress), np.linspace(0.3, 2.5, 45) * scale)
    except DataError:
        return float("nan"), float("nan")
    return found.load, found.std


def label_material(
    material: Material,
    settings: FractureSettings,
    stress: BondStress,
    progress: bool = False,
    checkpoint: str | os.PathLike | None = None,
) -> tuple[list[LoadingHistory], BondLabels]:
    """Load cracks and strain crystals of all systems and modes, and label their bonds.

    ``checkpoint``: file that keeps those that are finished (:class:`gapkit.apps.fracture.label_files.LabelFile`).
    """
    kept = LabelFile(checkpoint, material, settings, stress)
    histories, parts = [], []
    for name in progress_bar(settings.systems, desc="crack systems", show=progress):
        cluster = Cluster(material, SYSTEMS[name], settings.radius, settings.cutoff)
        k = material.griffith(SYSTEMS[name])
        for mode in settings.modes:
            label = f"{name} {np.degrees(mode):.1f}"
            labels, history = kept.labels(label), kept.history(label, cluster)
            if labels is None or history is None:
                start = RimLoad(k * np.cos(mode), k * np.sin(mode))
                history = load_both_ways(cluster, start, settings.factor, name=label)
                labels = label_history(history, stress, settings.every, most=settings.most)
                kept.keep(label, labels, history)
            histories.append(history)
            parts.append(labels)
        if settings.strains:
            label = f"strained {name}"
            labels = kept.labels(label)
            if labels is None:
                strains = [(0.0, e, 0.0, 0.0, 0.0, 0.0) for e in settings.strains]
                labels = label_strained(cluster, strains, stress, name=label)
                kept.keep(label, labels)
            parts.append(labels)
    return histories, BondLabels.joined(parts)


def run_fracture(
    material: Material,
    settings: FractureSettings | None = None,
    *,
    stress: BondStress | None = None,
    checkpoint: str | os.PathLike | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> FractureResult:
    """Crack a material, learn when its bonds break, and predict the critical loads of crack systems left out.

    Parameters
    ----------
    material
        Crystal with a calculator.
    stress
        Descriptors of the stress around a bond; the default ones otherwise.
    checkpoint
        File that keeps cracks and crystals whose bonds are labelled: a run that was killed labels none of them again.
    random_state
        Seed of the choice of sparse points, where there are more labels than sparse points.
    progress
        Whether to show progress bars.

    Raises
    ------
    SettingsError
        For the checkpoint of another run, with what differs.
    DataError
        As :func:`learn_fracture`; for a damaged checkpoint.
    """
    settings, seed = settings or FractureSettings(), seed_of(random_state)
    stress = stress or BondStress(volume=material.volume)
    histories, labels = label_material(material, settings, stress, progress, checkpoint)
    return learn_fracture(histories, labels, settings, stress, seed)


def learn_fracture(
    histories: Sequence[LoadingHistory],
    labels: BondLabels,
    settings: FractureSettings,
    stress: BondStress,
    random_state: int | None = None,
) -> FractureResult:
    """Potential, left-out errors and predictions from labelled histories.

    Raises
    ------
    DataError
        For fewer than two ruptures, or two of tip bonds, outside a crack system: load more of them.
    """
    X, y, home = labels.X, labels.driving, labels.home
    broken = [h for h in histories if h.rupture is not None]
    ruptures = np.array([rupture_descriptors(h, stress) for h in broken])
    owner = np.array([h.cluster.system.name for h in broken])
    potential = FracturePotential(random_state=random_state).fit(X, y, home).set_critical(ruptures)
    predictions, mean, std = [], np.empty(len(y)), np.empty(len(y))
    for name in settings.systems:
        out = home == name
        blind = clone(potential).fit(X[~out], y[~out], _inner(home[~out], labels.history[~out]))
        blind.set_critical(ruptures[owner != name])
        other_histories = [h for h in histories if h.cluster.system.name != name]
        smooth = continuum_potential(other_histories, labels, stress)
        mean[out], std[out] = blind.predict(X[out], return_std=True)
        for h in histories:
            if h.cluster.system.name != name:
                continue
            k_g = h.cluster.material.griffith(h.cluster.system)
            atoms = load_from_atoms(blind, h, tip_descriptors(h, stress, settings.most), k_g)
            continuum = load_from_continuum(smooth, h, stress)
            predictions.append(CriticalPrediction(name, h.mode, k_g, h.k_minus, h.k_plus, *atoms, *continuum))
    return FractureResult(
        settings,
        tuple(histories),
        labels,
        potential,
        continuum_potential(histories, labels, stress),
        hold_out(potential, X, y, labels.load_case, labels.load_case),
        HeldOut(y, mean, std, home),
        tuple(predictions),
    )


def _inner(home: np.ndarray, history: np.ndarray) -> np.ndarray:
    """Groups within a fit: crack systems, or loading histories where there is one system only."""
    return home if len(np.unique(home)) > 1 else history
