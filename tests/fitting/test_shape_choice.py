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
from gapkit.fitting.shape_choice import (
    DEFAULT,
    Comparison,
    choose_shape,
    is_worth_comparing,
    pilot,
    reshaped,
    within_bounds,
)
from gapkit.fitting.shells import Shells
from gapkit.fitting.training_set import in_order, training_set
from gapkit.models.held_out import rounding_of
from gapkit.models.level_search import search_levels
from gapkit.models.levels import held_out_statistics
from gapkit.models.posterior import Posterior
from gapkit.structures.labels import labelled_frames
from gapkit.structures.neighbours import neighbours
from tests.conftest import copper_frames, small_gap

QUIET = partial(tqdm, disable=True)
GOOD = (1.5, 3, 0.6)


def data_of(frames):
    return in_order(training_set(labelled_frames(frames), "auto", None))


def terms_for(data, r_cut=2.8):
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=3.5), gapkit.SquaredExponential(0.6), n_sparse=10),
        gapkit.Term(gapkit.SOAP(r_cut=r_cut, n_max=2, l_max=1, sigma=0.9), gapkit.DotProduct(4), n_sparse=40),
    ]
    return choose_terms(terms, data)


def choose(monkeypatch, inwards, data, terms, outwards=()):
    monkeypatch.setattr(shape_choice, "INWARDS", inwards)
    monkeypatch.setattr(shape_choice, "OUTWARDS", outwards)
    monkeypatch.setattr(Shells, "away_from", lambda self, r_cut: r_cut)
    return choose_shape(terms, data, NoiseSettings.parse("auto"), 3, 1, QUIET)


def settings(term):
    s = term.descriptor
    return s.r_cut, s.n_max, s.l_max, s.sigma


def test_a_better_shape_is_found_and_the_rest_of_the_terms_stays(monkeypatch, train):
    data = data_of(train)
    terms = terms_for(data)
    chosen, tried = choose(monkeypatch, (GOOD,), data, terms)
    assert settings(chosen[1]) == (4.2, 5, 4, 0.54)
    assert chosen[1].n_sparse == 40 and chosen[1].kernel == terms[1].kernel and chosen[0] == terms[0]
    assert chosen[1].descriptor.basis_.species == (29,)
    assert tried[1].score < tried[0].score - shape_choice.WORTH
    assert str(tried[1]) == "r_cut 4.2 n_max 5 l_max 4 sigma 0.54"


def test_a_worse_one_or_one_within_the_noise_is_not(monkeypatch, train):
    data = data_of(train)
    good = choose_terms([gapkit.Term(gapkit.SOAP(r_cut=4.2, n_max=6, l_max=4), gapkit.DotProduct(4))], data)
    worse = ((0.65, 0, 1.8),)
    chosen, tried = choose(monkeypatch, worse, data, good)
    assert chosen == good and tried[1].score > tried[0].score
    monkeypatch.setattr(shape_choice, "WORTH", 10.0)
    chosen, tried = choose(monkeypatch, (GOOD,), data, terms_for(data))
    assert settings(chosen[1]) == (2.8, 2, 1, 0.9) and tried[1].score < tried[0].score


def test_the_score_is_the_held_out_error_of_a_fit_with_that_shape(monkeypatch, train):
    data = data_of(train)
    monkeypatch.setattr(shape_choice, "PILOT_SPARSE", 25)
    _, tried = choose(monkeypatch, (), data, terms_for(data))
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
    rounding = rounding_of(np.array([t.energy / t.n_atoms for t in data.targets]))
    energy = np.mean(np.sqrt(np.square(errors) + rounding**2))
    force = np.sqrt(held_out_statistics(fit.triangles, basis.column_terms(), fit.levels)["forces"].squared_error)
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


def with_scores(monkeypatch, scores):
    """Scores by (r_cut, n_max) in place of fits; returns the shapes in the order in which they are asked for."""
    asked = []

    def held_out_error(self, basis, terms, folds):
        asked.append(settings(terms[-1]))
        score = scores[asked[-1][0]] if asked[-1][0] in scores else scores[asked[-1][:2]]
        if score is None:
            raise np.linalg.LinAlgError("not positive definite")
        return score

    monkeypatch.setattr(Comparison, "_held_out_error", held_out_error)
    return asked


def test_a_shape_that_cannot_be_fitted_is_not_taken(monkeypatch, train):
    with_scores(monkeypatch, {2.8: -5.0, 4.2: None})
    data = data_of(train)
    chosen, tried = choose(monkeypatch, (GOOD,), data, terms_for(data))
    assert settings(chosen[1]) == (2.8, 2, 1, 0.9)
    assert [t.score for t in tried] == [-5.0, np.inf]


def test_a_default_that_cannot_be_fitted_gives_way_to_a_shape_that_can(monkeypatch, train):
    with_scores(monkeypatch, {2.8: None, 4.2: -5.0})
    data = data_of(train)
    chosen, _ = choose(monkeypatch, (GOOD,), data, terms_for(data))
    assert settings(chosen[1])[0] == 4.2


LONGER = ((1.25, 0, 1.0), (1.5, 0, 1.0), (2.0, 0, 1.0))


def test_the_search_goes_outwards_for_as_long_as_a_longer_cutoff_pays(monkeypatch, train):
    data = data_of(train)
    asked = with_scores(monkeypatch, {2.8: -5.0, 3.5: -5.3, 4.2: -5.5, 5.6: -5.6})
    chosen, tried = choose(monkeypatch, (GOOD,), data, terms_for(data), LONGER)
    assert settings(chosen[1]) == (4.2, 2, 1, 0.9)
    assert [s[0] for s in asked] == [2.8, 3.5, 4.2, 5.6] == [t.soap.r_cut for t in tried]


def test_cutoffs_that_are_tried_lie_between_shells(monkeypatch, train):
    data = data_of(train)
    shells = Shells.of([f.atoms for f in data.frames], 8.0)
    changed = reshaped(terms_for(data), GOOD, shells)
    assert settings(reshaped(terms_for(data), GOOD)[1])[0] == 4.2
    assert settings(changed[1]) == (shells.away_from(4.2), 5, 4, 0.54)
    assert abs(shells.away_from(4.2) - 4.2) > 0.1


def test_no_cutoff_is_tried_beyond_one_that_does_not_pay_and_shorter_ones_are_tried_instead(monkeypatch, train):
    data = data_of(train)
    asked = with_scores(monkeypatch, {2.8: -5.0, 3.5: -5.04, 2.5: -5.04, 2.2: -4.9, 2.0: -9.0})
    shorter = ((0.9, 0, 1.0), (0.8, 0, 1.0), (0.7, 0, 1.0))
    chosen, _ = choose(monkeypatch, shorter, data, terms_for(data), LONGER)
    assert [s[0] for s in asked] == [2.8, 3.5, 2.5, 2.2]
    assert settings(chosen[1])[0] == 2.5


def test_cutoffs_stay_within_their_length_and_number_of_neighbours(monkeypatch, train):
    data = data_of(train)
    terms = terms_for(data)
    assert within_bounds(terms, data)
    mean = np.sum([len(data_pairs(f, 2.8)) for f in data.frames]) / sum(t.n_atoms for t in data.targets)
    monkeypatch.setattr(shape_choice, "MOST_NEIGHBOURS", 0.8 * mean)
    assert not within_bounds(terms, data)
    monkeypatch.setattr(shape_choice, "MOST_NEIGHBOURS", 1.2 * mean)
    assert within_bounds(terms, data)
    monkeypatch.setattr(shape_choice, "LONGEST_TRIED", 2.7)
    assert not within_bounds(terms, data)
    asked = with_scores(monkeypatch, {2.8: -5.0})
    choose(monkeypatch, (), data, terms, LONGER)
    assert [s[0] for s in asked] == [2.8]


def data_pairs(frame, r_cut):
    return neighbours(frame.atoms, r_cut).distances


def test_levels_of_another_shape_are_searched_from_those_of_the_best_before_it(monkeypatch, train):
    data = data_of(train)
    starts = []

    def search(objective, lower, begin, *rest):
        starts.append(begin[0])
        return search_levels(objective, lower, begin, *rest)

    monkeypatch.setattr(shape_choice, "search_levels", search)
    comparison = Comparison(pilot(data), NoiseSettings.parse("auto"), 3, 1, QUIET)
    terms = terms_for(data)
    scores = [comparison.score(reshaped(terms, shape)) for shape in (DEFAULT, (0.7, 0, 1.0), GOOD, (1.2, 0, 1.0))]
    assert scores[2] < scores[0] < scores[1]
    assert len(starts) == 6
    default, after_worse, after_better = (start.noise["forces"] for start in starts[::2])
    assert default == after_worse != after_better


def test_the_levels_of_a_shape_are_as_good_as_those_of_a_search_of_its_own(monkeypatch, train):
    data = data_of(train)
    terms = terms_for(data)
    _, tried = choose(monkeypatch, (GOOD,), data, terms)
    _, alone = choose(monkeypatch, (), data, reshaped(terms, GOOD))
    assert tried[1].score < alone[0].score + 0.5 * shape_choice.WORTH


def test_the_choice_and_its_scores_survive_noise_in_the_last_digits(monkeypatch, train):
    rng = np.random.default_rng(0)
    found = []
    for scale in (0.0, 1e-12):
        moved = [a.copy() for a in train]
        for new, old in zip(moved, train, strict=True):
            new.calc = old.calc
            new.positions *= 1 + scale * rng.normal(size=new.positions.shape)
            new.calc = SinglePointCalculator(new, **old.calc.results)
        data = data_of(moved)
        chosen, tried = choose(monkeypatch, (GOOD,), data, terms_for(data))
        found.append((settings(chosen[1]), [t.score for t in tried]))
    assert found[0][0] == found[1][0]
    assert found[0][1] == pytest.approx(found[1][1], abs=0.1 * shape_choice.WORTH)


def order_in(data):
    place = {f.index: k for k, f in enumerate(data.frames)}
    return place.__getitem__


def test_small_sets_and_given_terms_keep_their_shape(monkeypatch, train):
    assert not is_worth_comparing(data_of(train))
    called = []
    monkeypatch.setattr("gapkit.fitting.stages.choose_shape", lambda *a: called.append(a) or (a[0], []))
    monkeypatch.setattr(shape_choice, "FEWEST_FRAMES", 5)
    monkeypatch.setattr(shape_choice, "FEWEST_LABELS", 50)
    assert is_worth_comparing(data_of(train))
    small_gap().fit(train)
    gapkit.GAP(sparse=20, folds=2).fit(train)
    assert not called
    gapkit.GAP(folds=2).fit(train)
    assert len(called) == 1


def test_a_fit_says_what_it_compared(monkeypatch, train):
    monkeypatch.setattr(shape_choice, "FEWEST_FRAMES", 5)
    monkeypatch.setattr(shape_choice, "FEWEST_LABELS", 50)
    monkeypatch.setattr(shape_choice, "OUTWARDS", ())
    monkeypatch.setattr(shape_choice, "INWARDS", ((0.7, 0, 1.0),))
    gap = gapkit.GAP(folds=2).fit(train)
    shapes = gap.potential_.metadata["levels"]["shapes"]
    assert len(shapes) == 2 and all(np.isfinite(score) for _, score in shapes)
    assert f"{shapes[0][0]}: {shapes[0][1]:.3f}" in gap.describe()


def test_the_first_shape_is_the_default_itself(train):
    terms = terms_for(data_of(train))
    assert reshaped(terms, DEFAULT) == terms
