"""Cross-validation by group, learning curves, and the search over kernel shapes."""

import itertools
import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
from gapkit import fingerprints, model_selection
from gapkit.estimators.gap import GAP
from gapkit.exceptions import DataError, GapkitWarning, NumericsError, SettingsError
from gapkit.model_selection import tuning
from gapkit.model_selection.cross_validation import frame_groups, group_splits
from gapkit.model_selection.learning_curves import LearningCurve, nested_subsets
from tests.conftest import copper_frames, label, small_gap

# folds=1 is chosen on purpose in several tests
pytestmark = pytest.mark.filterwarnings("ignore:all frames fall into one fold:gapkit.exceptions.GapkitWarning")

FIXED = {"energy": 0.01, "forces": 0.1, "virial": 0.1}


@pytest.fixture(scope="module")
def frames():
    """Sixteen frames of two config_types in four trajectories, and an isolated atom."""
    made = copper_frames(16, seed=5)
    for k, atoms in enumerate(made):
        atoms.info["trajectory"] = f"run {k % 4 if atoms.info['config_type'] == 'bulk' else 3}"
    return [*made, label(Atoms("Cu", positions=[[0, 0, 0]]))]


def test_groups_are_held_out_whole_and_once_and_isolated_atoms_are_always_fitted_to(frames):
    labels = frame_groups(frames, "trajectory")
    assert labels[-1] is None
    seen = []
    for train, test in group_splits(labels, None):
        assert not {labels[k] for k in train} & {labels[k] for k in test}
        assert len(frames) - 1 in train
        assert sorted([*train, *test]) == list(range(len(frames)))
        seen += list(test)
    assert sorted(seen) == list(range(len(frames) - 1))


def test_frames_without_the_entry_are_groups_of_their_own(frames):
    bare = [a.copy() for a in frames[:3]]
    del bare[1].info["trajectory"]
    assert frame_groups(bare, "trajectory")[1] == "frame 1"
    assert frame_groups(bare, ["a", "a", 3]) == ["a", "a", "3"]
    with pytest.raises(SettingsError, match="one label per frame"):
        frame_groups(bare, ["a"])


def test_cross_validation_is_a_fit_without_the_group(frames):
    model = small_gap(noise_levels=FIXED, folds=1)
    result = model_selection.cross_validate(model, frames, "config_type")
    assert result.groups == (("bulk",), ("cluster",)) or result.groups == (("cluster",), ("bulk",))
    place = result.groups.index(("cluster",))
    others = [a for a in frames if a.info.get("config_type") != "cluster"]
    alone = small_gap(noise_levels=FIXED, folds=1).fit(others)
    expected = alone.evaluate([a for a in frames if a.info.get("config_type") == "cluster"], uncertainty=False)
    assert result.values("force_mae_ev_per_ang")[place] == pytest.approx(expected.summary["force_mae_ev_per_ang"])
    assert result.n_train[place] == len(others)
    assert "cluster" in str(result) and "mean" in str(result)
    assert not hasattr(model, "potential_")


def test_one_group_cannot_be_held_out(frames):
    with pytest.raises(DataError, match="one group"):
        list(group_splits(["a", "a", None], None))
    with pytest.raises(SettingsError, match="n_splits"):
        list(group_splits(["a", "b"], 3))


def test_nested_subsets_grow_and_keep_shares():
    labels = ["a"] * 40 + ["b"] * 8 + [None]
    subsets = nested_subsets(labels, [6, 12, 24, 48])
    for small, large in itertools.pairwise(subsets):
        assert set(small) < set(large)
    assert [len(s) - 1 for s in subsets] == [6, 12, 24, 48]
    assert all(48 in s for s in subsets)
    assert [sum(40 <= k < 48 for k in s) for s in subsets] == [1, 2, 4, 8]
    first = [k for k in subsets[1] if k < 40]
    assert min(first) < 10 and max(first) >= 30


def test_learning_curve_falls_and_never_fits_to_its_test_frames(frames, monkeypatch):
    fitted = []
    fit = GAP.fit
    monkeypatch.setattr(GAP, "fit", lambda self, X, **k: (fitted.append([id(a) for a in X]), fit(self, X, **k))[1])
    test = copper_frames(6, seed=6)
    curve = model_selection.learning_curve(
        small_gap(noise_levels=FIXED, folds=1, sparse=60), frames, [4, 16], test=test
    )
    assert curve.size.tolist() == [4, 16]
    assert curve.force[1] < curve.force[0]
    assert curve.slope() == pytest.approx(np.log(curve.force[1] / curve.force[0]) / np.log(4))
    assert not {id(a) for a in test} & {k for ids in fitted for k in ids}
    assert "training frames" in str(curve)
    with pytest.raises(SettingsError, match="sizes"):
        model_selection.learning_curve(small_gap(), frames, [99], test=test)


def test_slope_of_a_power_law_is_its_exponent():
    n = np.array([10, 20, 80])
    curve = LearningCurve(n, np.full(3, np.nan), 3 * n**-0.5)
    assert curve.slope() == pytest.approx(-0.5)
    with pytest.raises(DataError, match="two errors"):
        curve.slope("energy")


def test_sparse_curve_ends_at_the_models_own_held_out_error():
    gap = small_gap().fit(copper_frames(24, seed=1))  # errors of fewer frames are those under levels of their own
    curve = model_selection.sparse_curve(gap, [8, 30])
    groups = gap.potential_.calibration.groups
    assert curve.size[-1] == gap.potential_.basis.n_columns == 30
    assert curve.force[-1] == pytest.approx(groups["forces"].held_out_rmse, rel=1e-6)
    assert curve.energy[-1] == pytest.approx(1e3 * groups["energy"].held_out_rmse, rel=1e-6)
    assert curve.force[0] > 1.05 * curve.force[-1]


def test_sparse_curve_needs_triangles(model_file):
    with pytest.raises(SettingsError, match="updatable"):
        model_selection.sparse_curve(gapkit.load(model_file))


def choices():
    def candidate(name, r_cut, zeta=3):
        terms = small_gap().terms
        soap = {**terms[1].settings(), "r_cut": r_cut, "zeta": zeta}
        return model_selection.Candidate(name, (terms[0].settings(), soap))

    return [candidate("good", 4.0), candidate("blind", 2.0), candidate("also", 4.3)]


def test_tuning_takes_the_least_score_and_goes_on_after_a_kill(train, tmp_path):
    state = tmp_path / "tune.json"
    seen = []
    gap, found = model_selection.tune(small_gap(), train, 5, choices(), state, seen.append)
    assert found.complete
    assert found.best.name in ("good", "also")
    assert gap.terms[1].descriptor.r_cut > 3.9
    last = max(t.round for t in found.trials)
    assert min(t.score for t in found.trials if t.round == last) == pytest.approx(
        next(t.score for t in found.trials if t.round == last and t.candidate == found.best.name)
    )
    assert "blind" in str(found) and f"best: {found.best.name}" in str(found)
    # the last trial is lost, as by a kill: only that one is made again
    table = json.loads(state.read_text())
    table["trials"].pop()
    state.write_text(json.dumps(table))
    again = []
    _, second = model_selection.tune(small_gap(), train, 5, choices(), state, again.append)
    assert len(again) == 1
    assert second.best.name == found.best.name


def with_other_labels(frames):
    """The same structures with seven times the energies and forces."""
    changed = []
    for atoms in frames:
        copy = atoms.copy()
        labels = {k: 7.0 * np.asarray(v) for k, v in atoms.calc.results.items()}
        copy.calc = SinglePointCalculator(copy, **labels)
        changed.append(copy)
    return changed


@pytest.mark.parametrize(
    ("changes", "differ"),
    [
        ({"frames": lambda frames: frames[:8]}, "frames, labels"),
        ({"frames": with_other_labels}, "labels"),
        ({"gap": {"noise_levels": {"energy": 0.1, "forces": 0.5}, "folds": 2}}, r"settings \(folds, noise_levels\)"),
        ({"version": "0.0.1"}, "version"),
    ],
)
def test_trials_of_another_search_are_made_again(train, tmp_path, monkeypatch, changes, differ):
    state = tmp_path / "tune.json"
    model_selection.tune(small_gap(), train, 5, choices()[:1], state)
    made_before = state.read_text()
    monkeypatch.setattr(fingerprints, "__version__", changes.get("version", fingerprints.__version__))
    frames, gap = changes.get("frames", list)(train), small_gap(**changes.get("gap", {}))
    made = []
    with pytest.warns(GapkitWarning, match=rf"tune.json: its trials do not count.* with other {differ};") as said:
        _, found = model_selection.tune(gap, frames, 5, choices()[:1], state, made.append)
    assert len([w for w in said if "trials do not count" in str(w.message)]) == 1
    assert len(made) == len(found.trials) == 1
    assert state.read_text() != made_before
    again = []
    model_selection.tune(gap, frames, 5, choices()[:1], state, again.append)
    assert not again


def test_a_search_goes_on_with_another_number_of_threads(train, tmp_path):
    state, again = tmp_path / "tune.json", []
    model_selection.tune(small_gap(), train, 5, choices()[:1], state)
    model_selection.tune(small_gap(n_jobs=1), train, 5, choices()[:1], state, again.append)
    assert not again


@pytest.mark.parametrize("text", ["{}", "[]", '{"run": 3, "trials": []}', '{"run": {}, "trials": [{"score": 1}]}', "x"])
def test_a_file_that_is_no_record_of_a_search_is_refused(train, tmp_path, text):
    state = tmp_path / "tune.json"
    state.write_text(text)
    with pytest.raises(SettingsError, match=r"tune.json: is no record of a search"):
        model_selection.tune(small_gap(), train, 5, choices()[:1], state)


def test_a_spent_budget_still_gives_a_model(train):
    gap, found = model_selection.tune(small_gap(), train, 1e-9, choices())
    assert len(found.trials) == 1
    assert not found.complete
    assert found.best.name == "good"
    assert hasattr(gap, "potential_")
    assert "budget spent" in str(found)


def test_a_candidate_that_cannot_be_fitted_is_last(train, monkeypatch):
    fit = GAP.fit

    def failing(self, X, **k):
        if self.terms[1].descriptor.r_cut < 3:
            raise NumericsError("not positive definite")
        return fit(self, X, **k)

    monkeypatch.setattr(GAP, "fit", failing)
    trial = tuning._evaluate(small_gap(), choices()[1], 0, 0.5, train)
    assert trial.score == np.inf and trial.force is None


def test_wrong_budgets_and_records_are_refused(train, tmp_path):
    with pytest.raises(SettingsError, match="minutes"):
        model_selection.tune(small_gap(), train, 0)
    broken = tmp_path / "tune.json"
    broken.write_text("{}")
    with pytest.raises(SettingsError, match="no record of a search"):
        model_selection.tune(small_gap(), train, 1, choices(), broken)


def test_candidates_begin_with_the_default_and_change_little_first(train):
    made = model_selection.candidates(train)
    assert len({c.key for c in made}) == len(made) > 10
    default = [t.settings() for t in tuning._sample_terms(train, GAP(), False)]
    assert [dict(t) for t in made[0].terms] == default
    differs = [sum(made[0].terms[1][k] != c.terms[1][k] for k in ("r_cut", "n_max", "sigma", "zeta")) for c in made]
    assert differs == sorted(differs)
    fewer = made[0].made(0.5)
    assert fewer[0].n_sparse == default[0]["n_sparse"]
    assert fewer[1].n_sparse < default[1]["n_sparse"]


def test_fast_terms_are_smaller(train):
    fast = model_selection.fast_terms(train)
    default = model_selection.candidates(train)[0].made()
    assert fast[1].descriptor.n_max < default[1].descriptor.n_max
    assert fast[1].n_sparse <= 200
    assert gapkit.GAP(terms=list(fast), folds=3).fit(train).potential_.basis.n_columns <= 240
