"""Which levels are free, by what they are judged, and the choice of an objective."""

import numpy as np
import pytest

import gapkit
from gapkit.exceptions import SettingsError
from gapkit.fitting import level_choice
from gapkit.fitting.level_choice import EnergySample, last_columns, relative_errors, separate_groups
from gapkit.fitting.noise_settings import OBJECTIVES, NoiseSettings
from gapkit.fitting.training_set import TrainingSet
from gapkit.models.evidence import Evidence
from gapkit.models.held_out import HeldOutError
from gapkit.models.level_search import search_levels
from gapkit.models.levels import Levels
from gapkit.models.observations import Observations, Targets, group_name
from tests import systems
from tests.conftest import copper_frames, label, small_gap


def data_of(virials):
    """A training set of frames of these config_types, with a virial each unless the name ends in '-'."""
    targets = tuple(
        Targets(0.0, np.zeros((2, 3)), None if c.endswith("-") else np.zeros(6), 2, c.rstrip("-")) for c in virials
    )
    return TrainingSet((), targets, None, (14,))


def test_virials_of_frequent_config_types_have_a_noise_of_their_own():
    data = data_of(["a"] * 5 + ["b"] * 9 + ["c"] * 4 + ["d-"] * 9)
    assert separate_groups(data, NoiseSettings.parse("auto")) == ("virial:a", "virial:b")
    named = NoiseSettings.parse({"config_types": {"b": {"forces": 0.2}}})
    assert separate_groups(data, named) == ("b", "virial:a")
    assert separate_groups(data, NoiseSettings.parse({"virial": 0.1})) == ()
    assert separate_groups(data_of(["a"] * 9), NoiseSettings.parse("auto")) == ()


def test_group_names():
    own = ("liquid", "virial:gas")
    assert group_name("forces", "liquid", own) == "forces:liquid"
    assert group_name("virial", "gas", own) == "virial:gas"
    assert group_name("forces", "gas", own) == "forces"
    assert group_name("forces", None, own) == "forces"


def test_the_sample_is_bounded_per_atom_and_of_what_can_be_held_out(monkeypatch):
    monkeypatch.setattr(level_choice, "ENERGY_SAMPLE", 3)
    model = systems.small_model(8)
    frames, basis, made = model.frames, model.basis, model.observations
    data = data_of(["a"] * 7)
    sample = EnergySample.of(basis, data)
    assert sample.every == 3
    for n, o in made:
        sample.offer(o, basis.whiten(o.K), n % 3, n)
    rows = sample.rows()
    energies = [(n, o) for n, o in made if o.group == "energy"][::3]
    np.testing.assert_array_equal(rows.fold, [n % 3 for n, _ in energies])
    np.testing.assert_allclose(rows.y, [o.y[0] / np.sqrt(len(frames[n])) for n, o in energies])
    np.testing.assert_allclose(rows.A[0], basis.whiten(energies[0][1].K)[0] / energies[0][1].scale)
    before = len(sample.kept)
    isolated = Observations("isolated_atom", made[0][1].K[:1], np.zeros(1), np.zeros((1, 3)), 1.0)
    sample.offer(isolated, basis.whiten(isolated.K), -1, 99)
    assert len(sample.kept) == before
    assert EnergySample.of(basis, data).rows() is None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_fits_a_good_potential(train, held_out, name):
    gap = small_gap(noise=name).fit(train)
    assert gap.potential_.metadata["levels"]["objective"] == name
    assert gap.evaluate(held_out, uncertainty=False).summary["force_rmse_ev_per_ang"] < 0.1


def test_objectives_differ_and_each_is_best_by_its_own_measure(train):
    evidence = {
        name: small_gap(noise=name).fit(train).potential_.metadata["levels"]["log_evidence_per_label"]
        for name in ("held_out_error", "evidence")
    }
    assert evidence["evidence"] > evidence["held_out_error"] + 1e-3


def test_the_objective_may_stand_in_the_table_of_levels(train):
    gap = small_gap(noise={"objective": "evidence", "energy": 0.02}).fit(train)
    assert gap.potential_.metadata["noise"]["energy"] == 0.02
    assert gap.potential_.metadata["levels"]["objective"] == "evidence"
    with pytest.raises(SettingsError, match="objective must be one of"):
        small_gap(noise={"objective": "luck"}).fit(train)


def test_an_updated_model_keeps_the_virial_groups(train):
    frames = copper_frames(24, seed=11)
    for k, atoms in enumerate(frames):
        if atoms.info["config_type"] == "bulk":
            atoms.info["config_type"] = f"bulk {k % 2}"
    gap = small_gap().fit(frames)
    own = [g for g in gap.potential_.metadata["noise"] if g.startswith("virial:")]
    assert own == ["virial:bulk 0", "virial:bulk 1"]
    rows = gap._fit.triangles.count("virial:bulk 0")
    gap.update(frames[:1])
    assert gap._fit.triangles.count("virial:bulk 0") == rows + 6 * (frames[0].info["config_type"] == "bulk 0")
    again = gap.update([label(frames[1])])
    assert np.isfinite(again.predict(frames[:1]).energy).all()


def test_an_update_by_an_unknown_config_type_takes_the_largest_virial_noise(train):
    frames = [a for a in copper_frames(24, seed=11) if a.info["config_type"] == "bulk"]
    for k, atoms in enumerate(frames):
        atoms.info["config_type"] = f"bulk {k % 2}"
    gap = small_gap().fit(frames)
    noise = dict(gap._fit.levels.noise)
    assert "virial" not in noise
    new = copper_frames(1, seed=12)
    new[0].info["config_type"] = "melt"
    gap.update(new)
    assert gap._fit.levels.noise == noise | {"virial": max(noise["virial:bulk 0"], noise["virial:bulk 1"])}
    assert gap._fit.triangles.count("virial") == 6


def test_errors_of_levels_are_those_of_a_known_curvature():
    start = Levels({"energy": 0.1, "forces": 0.2}, np.array([1.0]))
    model = systems.small_model(9)
    basis, triangles = model.basis, model.triangles
    n_frames = triangles.count("energy")

    class Bowl(Evidence):
        """Curvatures 4 and 0.25 about the start, for the two free levels."""

        def __call__(self, x):
            away, curvature = x - self.start_point, np.array([4.0, 0.25])
            return float(0.5 * curvature @ away**2), curvature * away

    bowl = Bowl(triangles, basis.column_terms(), start, ("energy",), (0,))
    assert relative_errors(bowl, start) == pytest.approx([1 / np.sqrt(4.0 * n_frames), 1 / np.sqrt(0.25 * n_frames)])


def test_a_fixed_level_leaves_the_scale_free_to_be_known(train):
    gap = small_gap().fit(train)
    fit, m = gap._fit, gap.potential_.metadata
    objective = HeldOutError(
        fit.triangles, gap.potential_.basis.column_terms(), fit.levels, tuple(g for g in m["noise"]), (0, 1)
    )
    pinned = relative_errors(objective, fit.levels)
    assert max(pinned) < 10.0
    assert gapkit.GAP().get_params()["noise"] == "auto"


def test_the_last_stage_searches_on_the_whole_model(train, monkeypatch):
    calls = []

    def recording(objective, lower, starts=None, *arguments, **more):
        found = search_levels(objective, lower, starts, *arguments, **more)
        before = objective(objective.point((starts or [objective.start])[0]))[0]
        if objective.energies is not None:  # levels without a fold are found from triangles alone
            calls.append((objective.triangles.n_columns, objective.energies.A.shape[1], before - found.objective))
        return found

    monkeypatch.setattr(level_choice, "search_levels", recording)
    monkeypatch.setattr(level_choice, "ROUGH_COLUMNS", 6)
    monkeypatch.setattr(level_choice, "SEARCH_COLUMNS", 12)
    gap = small_gap().fit(train)
    m = gap.potential_.basis.n_columns
    assert [c[:2] for c in calls[:3]] == [(6, 6), (12, 12), (m, m)] and m > 24
    assert calls[2][2] > 1e-3  # levels of a part are not the best ones of the whole
    assert gap._fit.levels.objective == pytest.approx(gap.potential_.metadata["objective"])
    monkeypatch.setattr(level_choice, "LAST_BYTES", 4 * 20**2 * 10)  # no memory for all columns, nor for twice as many
    calls.clear()
    small_gap().fit(train)
    assert max(c[0] for c in calls) == 12


def test_columns_of_the_last_stage_fit_the_memory(monkeypatch):
    triangles = systems.small_model(9).triangles
    assert last_columns(triangles, {}) == level_choice.LAST_COLUMNS
    monkeypatch.setattr(level_choice, "LAST_BYTES", 1e6)
    kept = 4 * len(triangles.groups) * len(triangles.folds) * last_columns(triangles, {}) ** 2
    assert 0.5e6 < kept <= 1e6
