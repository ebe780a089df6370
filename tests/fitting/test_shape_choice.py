"""The shape of the default SOAP: what is compared, by what, and when it changes."""

from functools import partial

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from tqdm import tqdm

import gapkit
from gapkit.fitting import shape_choice
from gapkit.fitting.candidates import choose_terms
from gapkit.fitting.noise_settings import NoiseSettings
from gapkit.fitting.shape_choice import SHAPES, choose_shape, pilot, worthwhile
from gapkit.fitting.training_set import in_order, training_set
from gapkit.models.held_out import ROUNDED
from gapkit.models.posterior import Posterior
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, small_gap

QUIET = partial(tqdm, disable=True)
SAME, GOOD = (1.0, 0, 1.0), (1.5, 3, 0.6)


def data_of(frames):
    return in_order(training_set(labelled_frames(frames), "auto", None))


def terms_for(data, r_cut=2.8):
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=3.5), gapkit.SquaredExponential(0.6), n_sparse=10),
        gapkit.Term(gapkit.SOAP(r_cut=r_cut, n_max=2, l_max=1, sigma=0.9), gapkit.DotProduct(4), n_sparse=40),
    ]
    return choose_terms(terms, data)


def choose(monkeypatch, shapes, data, terms):
    monkeypatch.setattr(shape_choice, "SHAPES", shapes)
    return choose_shape(terms, data, NoiseSettings.parse("auto"), 3, 1, QUIET)


def settings(term):
    s = term.descriptor
    return s.r_cut, s.n_max, s.l_max, s.sigma


def test_a_better_shape_is_found_and_the_rest_of_the_terms_stays(monkeypatch, train):
    data = data_of(train)
    terms = terms_for(data)
    chosen, tried = choose(monkeypatch, (SAME, GOOD), data, terms)
    assert settings(chosen[1]) == (4.2, 5, 4, 0.54)
    assert chosen[1].n_sparse == 40 and chosen[1].kernel == terms[1].kernel and chosen[0] == terms[0]
    assert chosen[1].descriptor.basis_.species == (29,)
    assert tried[1].score < tried[0].score - shape_choice.WORTH
    assert str(tried[1]) == "r_cut 4.2 n_max 5 l_max 4 sigma 0.54"


def test_a_worse_one_or_one_within_the_noise_is_not(monkeypatch, train):
    data = data_of(train)
    good = choose_terms([gapkit.Term(gapkit.SOAP(r_cut=4.2, n_max=6, l_max=4), gapkit.DotProduct(4))], data)
    worse = SAME, (0.65, 0, 1.8)
    chosen, tried = choose(monkeypatch, worse, data, good)
    assert chosen == good and tried[1].score > tried[0].score
    monkeypatch.setattr(shape_choice, "WORTH", 10.0)
    chosen, tried = choose(monkeypatch, (SAME, GOOD), data, terms_for(data))
    assert settings(chosen[1]) == (2.8, 2, 1, 0.9) and tried[1].score < tried[0].score


def test_the_score_is_the_held_out_error_of_a_fit_with_that_shape(monkeypatch, train):
    data = data_of(train)
    monkeypatch.setattr(shape_choice, "PILOT_SPARSE", 25)
    _, tried = choose(monkeypatch, (SAME,), data, terms_for(data))
    gap = gapkit.GAP(list(terms_for(data)), sparse=25, folds=3, random_state=0, exact=False).fit(train)
    fit, basis = gap._fit, gap.potential_.basis
    errors = []
    for fold in fit.triangles.folds:
        posterior = Posterior.solve(
            fit.triangles, fit.levels.noise, fit.levels.signal, basis.column_terms(), leave_out=fold
        )
        for k in np.flatnonzero(fit.folds == fold):
            row = basis.whiten(basis.rows(basis.structure(data.frames[k].atoms), derivatives=False).K)
            errors.append((posterior.mean(row)[0] - data.targets[k].energy) / data.targets[k].n_atoms)
    rounding = ROUNDED * np.std([t.energy / t.n_atoms for t in data.targets])
    energy = np.mean(np.sqrt(np.square(errors) + rounding**2))
    force = gap.potential_.metadata["held_out_rmse"]["forces"]
    assert tried[0].score == pytest.approx(np.log(energy) + np.log(force), abs=1e-6)


def test_the_pilot_has_every_config_type_and_all_isolated_atoms(monkeypatch):
    monkeypatch.setattr(shape_choice, "PILOT_ATOMS", 60)
    frames = copper_frames(40, seed=5)
    alone = Atoms("Cu", positions=[(0, 0, 0)])
    alone.calc = SinglePointCalculator(alone, energy=0.0)
    data = data_of([*frames, alone])
    small = pilot(data)
    names = [t.config_type for t in small.targets if not t.isolated]
    share = 60 / sum(t.n_atoms for t in data.targets)
    for name in ("bulk", "cluster"):
        whole = sum(a.info["config_type"] == name for a in frames)
        assert names.count(name) == max(5, round(share * whole))
    assert sum(t.isolated for t in small.targets) == 1
    assert [f.index for f in small.frames] == sorted([f.index for f in small.frames], key=order_in(data))


def test_a_shape_that_cannot_be_fitted_is_not_taken(monkeypatch, train):
    def judge(basis, terms, *rest):
        if settings(terms[-1])[1] == 5:
            raise np.linalg.LinAlgError("not positive definite")
        return -5.0

    monkeypatch.setattr(shape_choice, "_judge", judge)
    data = data_of(train)
    chosen, tried = choose(monkeypatch, (SAME, GOOD), data, terms_for(data))
    assert settings(chosen[1]) == (2.8, 2, 1, 0.9)
    assert [t.score for t in tried] == [-5.0, np.inf]


def order_in(data):
    place = {f.index: k for k, f in enumerate(data.frames)}
    return place.__getitem__


def test_small_sets_and_given_terms_keep_their_shape(monkeypatch, train):
    assert not worthwhile(data_of(train))
    called = []
    monkeypatch.setattr("gapkit.fitting.stages.choose_shape", lambda *a: called.append(a) or (a[0], []))
    monkeypatch.setattr(shape_choice, "FEWEST_FRAMES", 5)
    monkeypatch.setattr(shape_choice, "FEWEST_LABELS", 50)
    assert worthwhile(data_of(train))
    small_gap().fit(train)
    gapkit.GAP(sparse=20, folds=2).fit(train)
    assert not called
    gapkit.GAP(folds=2).fit(train)
    assert len(called) == 1


def test_a_fit_says_what_it_compared(monkeypatch, train):
    monkeypatch.setattr(shape_choice, "FEWEST_FRAMES", 5)
    monkeypatch.setattr(shape_choice, "FEWEST_LABELS", 50)
    monkeypatch.setattr(shape_choice, "SHAPES", ((1.0, 0, 1.0), (0.7, 0, 1.0)))
    gap = gapkit.GAP(folds=2).fit(train)
    shapes = gap.potential_.metadata["levels"]["shapes"]
    assert len(shapes) == 2 and all(np.isfinite(score) for _, score in shapes)
    assert f"{shapes[0][0]}: {shapes[0][1]:.3f}" in gap.describe()


def test_the_first_shape_is_the_default_itself():
    assert SHAPES[0] == SAME
