"""Error bars of one to nineteen frames: they say how little is known, and no more than that."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit.exceptions import DataError, GapkitWarning
from gapkit.fitting import stages
from gapkit.fitting.nested_levels import levels_by_fold
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.models.levels import HeldOutSums
from gapkit.models.posterior import Posterior
from gapkit.potential.local_variance import LocalVariance
from gapkit.potential.spreads import Spreads
from gapkit.structures.labels import labelled_frames
from gapkit.uncertainty.label_errors import pooled
from gapkit.uncertainty.recalibration import FEW_FRAMES, ErrorModel, inflation
from tests.conftest import copper_frames, label, small_gap

#: a 99 % interval of errors over error bars that are right: of ten frames of one fit, errors are one number
FAR = 10.0


def rattled(n: int, seed: int) -> list[Atoms]:
    """Rattled and strained copper, eight atoms."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu") * (2, 2, 2)
        strain = np.eye(3) * (1 + rng.uniform(-0.03, 0.05)) + rng.normal(scale=0.01, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.rattle(0.12 * rng.uniform(0.3, 1), rng=rng)
        frames.append(label(atoms))
    return frames


def trimers(n: int, seed: int) -> list[Atoms]:
    """Three atoms by a Morse potential."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = Atoms("Ar3", [[0, 0, 0], [2.5, 0, 0], [1.25, 2.16, 0]])
        atoms.rattle(0.2 * rng.uniform(0.3, 1), rng=rng)
        atoms.calc = MorsePotential(epsilon=1.0, r0=2.5, rho0=6.0, rcut1=5.5, rcut2=6.5)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def quiet_fit(frames, **settings) -> gapkit.GAP:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)
        return gapkit.GAP(random_state=0, **settings).fit(frames)


def z_scores(gap, frames) -> tuple[np.ndarray, np.ndarray]:
    """Errors over error bars of energies (n,) and of all force components."""
    p = gap.predict(frames, uncertainty=True)
    energy = [(e - a.get_potential_energy()) / s for e, s, a in zip(p.energy, p.energy_std, frames, strict=True)]
    forces = [(f - a.get_forces()) / s for f, s, a in zip(p.forces, p.forces_std, frames, strict=True)]
    return np.array(energy), np.concatenate([z.ravel() for z in forces])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("make", [rattled, trimers])
def test_error_bars_of_few_frames_are_of_the_order_of_the_errors(make, n):
    test = make(8, seed=999)
    found = [z_scores(quiet_fit(make(n, seed)), test) for seed in (0, 2)]
    for z in (np.concatenate(kind) for kind in zip(*found, strict=True)):
        assert np.mean(np.abs(z) < FAR) >= 0.98
        assert np.sqrt(np.mean(z**2)) > 0.02


@pytest.fixture(scope="module")
def small():
    """What the stages of a fit to twelve frames found, and its training set."""
    kept = {}
    evaluate_folds = stages.evaluate_folds

    def keeping(data, found, solution, settings, work):
        kept.update(data=data, found=found, evaluation=evaluate_folds(data, found, solution, settings, work))
        return kept["evaluation"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "evaluate_folds", keeping)
        small_gap().fit(copper_frames(12, seed=1))
    return kept["data"], kept["found"], kept["evaluation"]


def test_a_fold_has_no_part_in_the_levels_that_judge_it(small):
    """Without a fold's rows the same levels come out, whatever its labels are."""
    data, found, _ = small
    made, triangles = found.design, found.triangles
    fold = triangles.folds[0]
    damaged = triangles.without(-5)
    for key, triangle in triangles.items.items():
        if key[1] == fold:
            damaged.items[key] = type(triangle)(1e3 * triangle.reduce(), triangle.n_rows, 0.0, triangle.prior)
    again = levels_by_fold(damaged, made.basis, data, made.terms, NoiseSettings(), found.levels)
    assert again[fold].noise == found.by_fold[fold].noise
    np.testing.assert_array_equal(again[fold].signal, found.by_fold[fold].signal)
    other = triangles.folds[1]
    assert again[other].noise != found.by_fold[other].noise


def test_errors_are_those_of_levels_without_the_fold_and_variances_those_of_the_mean(small):
    _, found, evaluation = small
    columns, fold = found.design.basis.column_terms(), found.triangles.folds[0]
    alone, levels = found.by_fold[fold], found.levels
    mean = Posterior.solve(found.triangles, alone.noise, alone.signal, columns, leave_out=fold)
    posterior = Posterior.solve(found.triangles, levels.noise, levels.signal, columns, leave_out=fold)
    seen, ours = HeldOutSums(), HeldOutSums()
    seen.add(found.triangles, fold, posterior)
    ours.add(found.triangles, fold, posterior, mean)
    both = seen.statistics()["energy"], ours.statistics()["energy"]
    assert both[0].weight_variance == both[1].weight_variance and both[0].squared_error != both[1].squared_error
    square = sum(t.n_rows for (g, f), t in found.triangles.items.items() if (g, f) == ("energy", fold))
    frames = [e.kinds["energy"] for e in evaluation.out_of_fold.errors[: int(square)]]
    assert both[1].squared_error == pytest.approx(np.mean([e[0] ** 2 for e in frames]), rel=1e-6)
    assert both[1].weight_variance == pytest.approx(np.mean([e[2] for e in frames]), rel=1e-6)


def test_frames_enough_are_judged_by_the_levels_of_all(small):
    data, found, _ = small
    many = [*data.targets, *data.targets][:FEW_FRAMES]
    more = type(data)(data.frames, tuple(many), data.reference, data.species)
    made = found.design
    assert levels_by_fold(found.triangles, made.basis, more, made.terms, NoiseSettings(), found.levels) == {}


def test_levels_that_are_given_are_searched_by_nobody(small):
    data, found, _ = small
    terms = [gapkit.Term(t.descriptor, t.kernel, signal=1.0) for t in found.design.terms]
    given = NoiseSettings.parse({"energy": 0.01, "forces": 0.1, "virial": 0.1})
    assert levels_by_fold(found.triangles, found.design.basis, data, terms, given, found.levels) == {}


def test_a_scale_from_few_errors_covers_as_a_new_error_does():
    """95 % of the errors of a new frame lie within two (1.96 t_20 / z) error bars, for any number of frames."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 12, 20):
        errors = rng.normal(size=(200_000, n + 1))
        std = np.sqrt(inflation(n) * np.mean(errors[:, :n] ** 2, axis=1))
        assert np.mean(np.abs(errors[:, n]) < 2.0860 * std) == pytest.approx(0.95, abs=0.002)


def test_an_error_model_of_frames_enough_is_the_same():
    rng = np.random.default_rng(3)
    labels = rng.normal(size=60), np.abs(rng.normal(size=60)), np.abs(rng.normal(size=60))
    assert ErrorModel.fit(*labels, n_frames=FEW_FRAMES) == ErrorModel.fit(*labels)
    fewer = ErrorModel.fit(*labels, n_frames=FEW_FRAMES - 15)
    assert fewer.variance(*labels[1:]).mean() > 1.3 * ErrorModel.fit(*labels).variance(*labels[1:]).mean()
    assert fewer.power <= 1.0


def test_one_label_is_enough_for_an_error_model_of_a_frame():
    model = ErrorModel.fit(np.array([0.3]), np.array([0.2]), np.array([1.0]), n_frames=1, fewest=1)
    assert 2.0 < np.sqrt(model.variance(np.array([0.2]), np.array([1.0]))[0]) / 0.3 < 10.0
    far = ErrorModel.fit(np.array([0.3, 0.1]), np.full(2, 1e-9), np.ones(2), n_frames=2, fewest=1)
    assert far.residual_weight == 1.0  # what no sparse point explains counts once at most


@pytest.mark.parametrize("make", ["volumes", "strained"])
def test_labels_that_vanish_by_symmetry_tell_nothing_of_error_bars(make):
    """Error bars of rattled frames are of the order of their errors, and such frames are out of the domain."""
    rng = np.random.default_rng(1)
    if make == "volumes":
        train = [label(bulk("Cu", cubic=True, a=a)) for a in np.linspace(3.3, 4.1, 17)]
    else:
        train = []
        for _ in range(30):
            atoms = bulk("Cu", cubic=True)
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.02, size=(3, 3))), scale_atoms=True)
            train.append(label(atoms))
    gap, test = quiet_fit(train), rattled(4, seed=3)
    energy, forces = z_scores(gap, test)
    assert 0.05 < np.sqrt(np.mean(energy**2)) < 4.0
    assert 0.1 < np.sqrt(np.mean(forces**2)) < 3.0
    p = gap.predict(test, uncertainty=True)
    spread = np.ptp([a.get_potential_energy() / len(a) for a in train])
    assert all(s / len(a) < max(3 * spread, 0.5) for s, a in zip(p.energy_std, test, strict=True))
    structure = gap.potential_.structure(test[0])
    assert gap.potential_.domain_excess(structure, gap.potential_.local_spread(structure, noise=False), False).value > 1


def test_forces_without_labels_have_error_bars_by_those_of_virials():
    known = {
        "energy": ErrorModel(1.0, 2.0, 0.9, 0.1, 0.2, 1e-9, 30, 0.5),
        "virial": ErrorModel(3.0, 4.0, 1.1, 0.3, 0.1, 1e-9, 90, 0.4),
    }
    lent = ErrorModel.borrowed(known)
    assert (lent.floor, lent.factor) == (0.0, 4.0 * inflation(2))
    assert (lent.power, lent.reference, lent.n) == (1.1, 0.3, 0)
    assert ErrorModel.borrowed({"energy": known["energy"]}).power == 0.9
    assert ErrorModel.borrowed({}) is None


def test_one_frame_says_that_its_levels_are_those_of_most_evidence():
    with pytest.warns(GapkitWarning, match="levels are those of most evidence and error bars are not calibrated"):
        gap = small_gap().fit(copper_frames(1, seed=1))
    assert gap.potential_.metadata["levels"]["objective"] == "evidence"
    few, enough = (small_gap(folds=1).fit(copper_frames(n, seed=1)) for n in (FEW_FRAMES - 1, FEW_FRAMES))
    assert few.potential_.metadata["levels"]["objective"] == "evidence"
    assert enough.potential_.metadata["levels"]["objective"] == "held_out_error"
    np.testing.assert_array_equal(enough.potential_.posterior.signal, [2.0, 20.0])  # where the search would start


def test_labels_in_another_unit_have_error_bars_in_that_unit():
    """Signals start in proportion to forces that are far from any in eV/A, and at the same 20 eV where they are not."""
    energies = {}
    for unit in (1.0, 1e-6, 1e6):
        frames = copper_frames(6, seed=1)
        for atoms in frames:
            results = {key: unit * np.asarray(value) for key, value in atoms.calc.results.items()}
            atoms.calc = SinglePointCalculator(atoms, **{**results, "energy": float(results["energy"])})
        gap = quiet_fit(frames, screen=False)
        p = gap.predict(copper_frames(3, seed=2), uncertainty=True)
        energies[unit] = np.array(p.energy_std) / unit
    for unit in (1e-6, 1e6):
        assert np.all(np.abs(np.log(energies[unit] / energies[1.0])) < np.log(30.0)), unit


def test_recalibration_by_few_frames_is_as_careful(gap, held_out):
    """Error bars by six frames are wider than those that count each label as a frame of its own."""
    from gapkit.fitting.recalibrate import _model, frame_errors

    potential = gap.potential_
    frames = labelled_frames(held_out)
    errors = [frame_errors(potential, f, potential.evaluate(f.atoms)) for f in frames]
    for method in ("variance", "scale"):
        careful = _model(method, potential, "forces", errors, range(6), {})
        labels = pooled(errors, range(6), "forces")
        stated = potential.errors.recalibration.models["forces"]
        plain = ErrorModel.fit(*labels) if method == "variance" else stated.rescaled(*labels)
        ratio = careful.variance(*labels[1:]).mean() / plain.variance(*labels[1:]).mean()
        assert 1.1 < ratio < 3.0
        if method == "scale":
            assert ratio == pytest.approx(inflation(6))


def test_an_energy_that_is_no_energy_is_refused_by_frame():
    frames = copper_frames(3, seed=1)
    frames[1].calc = SinglePointCalculator(frames[1], energy=-1e300)
    with pytest.raises(DataError, match=r"frame 1: the energy -1e\+300 eV is beyond 1e\+100 eV"):
        quiet_fit(frames)


def test_a_model_that_knows_everything_of_its_frames_can_be_saved(tmp_path, monkeypatch):
    """Variances of local energies that vanish leave a limit of the domain above zero, which a file must have."""
    lone = rattled(1, seed=0)[0]
    monkeypatch.setattr(Spreads, "local_variances", lambda self, structure, *_: np.zeros(structure.n_atoms))
    monkeypatch.setattr(LocalVariance, "serves", lambda *_: False)
    gap = quiet_fit([lone])
    monkeypatch.undo()
    assert gap.potential_.domain.local_variance > 0
    gap.save(tmp_path / "m.gapkit")
    assert gapkit.load(tmp_path / "m.gapkit").predict([lone]).energy == gap.predict([lone]).energy


def test_a_handful_of_labels_does_not_choose_levels():
    frames = rattled(2, seed=0)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    gap = quiet_fit(frames, folds=1)
    assert gap.potential_.metadata["levels"]["objective"] == "held_out_error"
    assert np.sqrt(np.mean(z_scores(gap, rattled(6, seed=9))[1] ** 2)) < 3.0
