"""gapkit.GAP: a scikit-learn estimator over frames; its update, report and predictions."""

import json

import numpy as np
import pytest
from ase import Atoms
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict, cross_val_score

import gapkit
from gapkit.exceptions import DataError, NumericsError
from gapkit.fitting.training_set import training_set
from gapkit.models.observations import observations
from gapkit.models.posterior import Posterior
from gapkit.models.triangles import Triangles
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, label, small_gap

# folds=1 is chosen on purpose in several tests
pytestmark = pytest.mark.filterwarnings("ignore:all frames fall into one fold:gapkit.exceptions.GapkitWarning")

FIXED = {"energy": 0.01, "forces": 0.1, "virial": 0.1}


# ---- scikit-learn


def test_parameters_are_stored_as_given_and_cloned():
    gap = small_gap(noise_levels=dict(FIXED), sparse={"n": 7}, baseline="zbl")
    assert set(gap.get_params()) == {
        "terms", "baseline", "e0", "noise_levels", "sparse", "exact", "folds", "screen", "energy_key", "forces_key",
        "virial_key", "n_jobs", "random_state",
    }  # fmt: skip
    copy = clone(gap)
    assert copy is not gap
    assert copy.get_params()["noise_levels"] == FIXED
    assert [t.settings() for t in copy.terms] == [t.settings() for t in gap.terms]
    assert copy.set_params(folds=2, sparse="random") is copy
    assert (copy.folds, copy.sparse, gap.folds) == (2, "random", 3)
    with pytest.raises(ValueError, match="Invalid parameter 'fold'"):
        gap.set_params(fold=2)


def test_fit_changes_no_parameter_and_a_clone_of_a_fitted_model_is_not_fitted(train):
    gap = small_gap(sparse=12)
    before = {k: repr(v) for k, v in gap.get_params().items()}
    assert gap.fit(train, None) is gap
    assert {k: repr(v) for k, v in gap.get_params().items()} == before
    assert not hasattr(clone(gap), "potential_")


@pytest.mark.parametrize(
    "use",
    [
        lambda g, X: g.predict(X),
        lambda g, X: g.evaluate(X),
        lambda g, X: g.score(X),
        lambda g, X: g.update(X),
        lambda g, X: g.calculator(),
        lambda g, X: g.describe(),
        lambda g, X: g.save("m.gapkit"),
    ],
)
def test_an_unfitted_model_says_so(train, use):
    with pytest.raises(NotFittedError):
        use(small_gap(), train)


def test_the_default_fit_is_deterministic(train, held_out):
    a, b = (gapkit.GAP(terms=small_gap().terms, folds=2).fit(train) for _ in range(2))
    np.testing.assert_array_equal(a.predict(held_out).energy, b.predict(held_out).energy)


def test_score_is_minus_the_force_error(gap, held_out):
    p = gap.predict(held_out)
    errors = np.concatenate([(f - a.get_forces()).ravel() for f, a in zip(p.forces, held_out, strict=True)])
    assert gap.score(held_out) == pytest.approx(-np.sqrt(np.mean(errors**2)), rel=1e-12)
    assert -0.1 < gap.score(held_out) < -0.001


def test_score_without_forces_is_that_of_energies(gap, held_out):
    only = []
    for atoms in held_out:
        only.append(atoms.copy())
        only[-1].info["energy"] = atoms.get_potential_energy()
    p = gap.predict(held_out)
    errors = [(e - a.get_potential_energy()) / len(a) for e, a in zip(p.energy, held_out, strict=True)]
    assert gap.score(only) == pytest.approx(-np.sqrt(np.mean(np.square(errors))), rel=1e-12)
    for atoms in only:
        atoms.info["virial"] = np.eye(3) if atoms.pbc.any() else None
        del atoms.info["energy"]
    with pytest.raises(DataError, match="neither forces nor energies"):
        gap.score(only)


@pytest.mark.filterwarnings("ignore:error bars of energies follow from:gapkit.exceptions.GapkitWarning")
def test_cross_val_predict_gives_the_energies_of_frames_that_were_left_out(train):
    predicted = cross_val_predict(small_gap(noise_levels=FIXED), train, cv=KFold(3, shuffle=True, random_state=0))
    for learned, left_out in KFold(3, shuffle=True, random_state=0).split(train):
        gap = small_gap(noise_levels=FIXED).fit([train[k] for k in learned])
        np.testing.assert_array_equal(predicted[left_out], gap.predict([train[k] for k in left_out]).energy)


def test_cross_validation(train):
    scores = cross_val_score(small_gap(noise_levels=FIXED, folds=1), train, cv=3)
    assert scores.shape == (3,)
    parts = [train[4:], train[:4]]
    expected = small_gap(noise_levels=FIXED, folds=1).fit(parts[0]).score(parts[1])
    assert scores[0] == pytest.approx(expected, rel=1e-9)
    groups = [a.info["config_type"] for a in train]
    assert np.isfinite(cross_val_score(small_gap(noise_levels=FIXED), train, groups=groups, cv=GroupKFold(2))).all()


def test_grid_search(train, held_out):
    search = GridSearchCV(small_gap(noise_levels=FIXED, folds=1), {"sparse": [10, 20]}, cv=2, error_score="raise")
    search.fit(train)
    mean = search.cv_results_["mean_test_score"]
    assert mean.shape == (2,)
    assert len(set(mean)) == 2
    assert search.best_params_["sparse"] == [10, 20][int(np.argmax(mean))]
    best = search.best_estimator_
    assert best.potential_.basis.n_columns == 10 + search.best_params_["sparse"]
    assert search.score(held_out) == best.score(held_out)


# ---- predictions


def test_a_single_frame_stands_for_a_list_of_one(gap, held_out):
    np.testing.assert_array_equal(gap.predict(held_out[0]).forces[0], gap.predict(held_out).forces[0])


def test_local_energies_sum_to_the_energy_with_e0(gap, held_out):
    p = gap.predict(held_out)
    np.testing.assert_allclose([e.sum() for e in p.local_energy], p.energy, atol=1e-11)
    # an atom alone has its e0, and what the SOAP term gives to an empty environment
    lone = gap.predict([Atoms("Cu"), Atoms("Cu2", positions=[[0, 0, 0], [50, 0, 0]])])
    assert lone.energy[1] == pytest.approx(2 * lone.energy[0], rel=1e-12)


def test_the_potential_is_good(gap, held_out):
    report = gap.evaluate(held_out)
    assert report.summary["energy_rmse_mev_per_atom"] < 5
    assert report.summary["force_rmse_ev_per_ang"] < 0.06  # the forces are about 1 eV/A
    assert 0.2 < report.summary["force_z_std"] < 5


def test_standard_deviations(gap, held_out):
    full, cheap = gap.predict(held_out, uncertainty=True), gap.predict(held_out, uncertainty="energy")
    function = gap.predict(held_out, uncertainty=True, include_noise=False)
    np.testing.assert_allclose(cheap.energy_std, full.energy_std, rtol=1e-7)
    assert cheap.forces_std == [None] * 6
    assert gap.predict(held_out).energy_std is None
    assert (function.energy_std > 0).all()
    assert (function.energy_std < full.energy_std).all()
    for n, atoms in enumerate(held_out):
        potential = gap.potential_
        parts = potential.variance_parts(potential.structure(atoms), derivatives=False)
        residual, weights, hidden = parts
        model = potential.errors.recalibration.models["energy"]
        expected = len(atoms) * model.variance(*(part[0] / len(atoms) for part in (residual, weights, hidden)))
        assert full.energy_std[n] ** 2 == pytest.approx(expected, rel=1e-6)
        stated = potential.calibration.of("energy", atoms.info["config_type"]).latent(residual[0], weights[0])
        assert function.energy_std[n] ** 2 == pytest.approx(min(stated, expected - len(atoms) * model.floor), rel=1e-6)
        assert full.forces_std[n].shape == (len(atoms), 3)
        assert (full.stress_std[n] is None) == (not atoms.pbc.any())


def test_predictions_do_not_depend_on_the_company(gap, held_out):
    together = gap.predict(held_out, uncertainty=True)
    for n, atoms in enumerate(held_out):
        alone = gap.predict([atoms], uncertainty=True)
        assert alone.energy[0] == together.energy[n]
        np.testing.assert_array_equal(alone.forces_std[0], together.forces_std[n])


def test_isolated_atoms_fix_e0(train):
    atom = Atoms("Cu", info={"energy": 0.75})
    gap = small_gap(noise_levels=FIXED).fit([*train, atom])
    assert gap.potential_.reference.values == {29: 0.75}
    assert gap.predict([Atoms("Cu")]).energy[0] == pytest.approx(0.75, abs=0.05)
    gold = Atoms("Au", info={"energy": 0.2})
    with_gold = small_gap(noise_levels=FIXED).fit([*train, gold])
    assert with_gold.potential_.species == (29,)


def test_own_noise_of_a_config_type(train, held_out):
    gap = small_gap(folds=1, noise_levels={**FIXED, "config_types": {"cluster": {"forces": 0.7}}}).fit(train)
    p = gap.predict(held_out, uncertainty=True)
    for std, atoms in zip(p.forces_std, held_out, strict=True):
        assert (std > 0.69).all() == (atoms.info["config_type"] == "cluster")
    strange = held_out[0].copy()
    strange.info["config_type"] = "never seen"
    np.testing.assert_array_equal(gap.predict([strange], uncertainty=True).forces_std[0], p.forces_std[0])


# ---- update


def refit_with_frozen_levels(gap, frames):
    """Posterior of all rows of all frames, made here from the public pieces of gapkit.models."""
    potential, levels = gap.potential_, gap._fit.levels
    data = training_set(
        labelled_frames(frames), None, potential.baseline, known=(potential.species, potential.reference)
    )
    triangles = Triangles(potential.basis.n_columns, potential.basis.n_terms)
    for frame, targets in zip(data.frames, data.targets, strict=True):
        rows = potential.basis.rows(potential.basis.structure(frame.atoms), derivatives=targets.derivatives)
        for o in observations(targets, rows):
            triangles.update(potential.basis.whiten(o.K), o.y, o.prior, o.group, 0)
    return triangles, Posterior.solve(triangles, levels.noise, levels.signal, potential.basis.column_terms())


@pytest.mark.parametrize("loaded", [False, True], ids=["fitted", "loaded"])
def test_update_equals_a_refit_with_everything_else_frozen(train, held_out, tmp_path, loaded):
    gap = small_gap(baseline={"name": "zbl", "r_cut": 3.2}).fit(train)
    if loaded:
        gap.save(tmp_path / "m.gapkit", updatable=True)
        gap = gapkit.load(tmp_path / "m.gapkit")
    before = gap.potential_
    assert gap.update(held_out) is gap
    triangles, posterior = refit_with_frozen_levels(gap, [*train, *held_out])
    basis = before.basis
    for atoms in [*held_out, *copper_frames(2, seed=9)]:
        structure = before.structure(atoms)
        rows = basis.rows(structure)
        A = basis.whiten(rows.K)
        # strain derivatives of a compressed frame are some hundred eV: rounding of either solution is relative to them
        np.testing.assert_allclose(gap.potential_.posterior.mean(A), posterior.mean(A), rtol=1e-9, atol=1e-8)
        expected = posterior.variance(A, rows.prior)
        np.testing.assert_allclose(
            gap.potential_.posterior.variance(A, rows.prior), expected, rtol=1e-7, atol=1e-9 * expected.max()
        )
        assert np.abs(before.posterior.mean(A) - posterior.mean(A)).max() > 1e-4
    for group in triangles.groups:
        assert gap._fit.triangles.count(group) == triangles.count(group)
    assert gap.potential_.reference == before.reference
    assert gap.potential_.metadata["n_frames"] == 18


def test_labels_of_a_new_config_type_take_the_largest_noise_of_their_kind(train, held_out):
    """Where every config_type of the training set has a level of its own: 20 meV for crystals, 50 meV for clusters."""
    own = {"bulk": {"energy": 0.02}, "cluster": {"energy": 0.05}}
    gap = small_gap(noise_levels={"energy": 0.01, "forces": 0.1, "virial": 0.1, "config_types": own}).fit(train)
    before = gap.potential_.noise_levels
    assert before["energy:bulk"] == 0.02 and before["energy:cluster"] == 0.05 and "energy" not in before
    new = held_out[0].copy()
    new.calc = held_out[0].calc
    new.info["config_type"] = "liquid"
    after = gap.update([new]).potential_.noise_levels
    assert after == {**before, "energy": 0.05, "forces": 0.1, "virial": 0.1}


def test_updates_in_turn_equal_one_update(train, held_out):
    once, twice = small_gap(noise_levels=FIXED).fit(train), small_gap(noise_levels=FIXED).fit(train)
    once.update(held_out)
    twice.update(held_out[:2]).update(held_out[2:])
    np.testing.assert_allclose(once.predict(train).energy, twice.predict(train).energy, rtol=0, atol=1e-8)


def test_update_improves_on_the_new_frames(train, held_out):
    gap = small_gap(noise_levels=FIXED).fit(train[:4])
    before = gap.score(held_out)
    assert gap.update([*train[4:], *held_out]).score(held_out) > before


def test_update_with_a_kind_of_label_that_the_model_does_not_know(train):
    bare = []
    for atoms in train:
        bare.append(atoms.copy())
        bare[-1].arrays["forces"] = atoms.get_forces()
        bare[-1].info["energy"] = atoms.get_potential_energy()
    gap = small_gap(noise_levels=FIXED).fit(bare)
    with pytest.raises(DataError, match="labels of kind virial, which the model was not fitted to: fit again"):
        gap.update(train)


# ---- evaluate


KEYS = {
    "n_frames", "n_atoms", "energy_rmse_mev_per_atom", "energy_mae_mev_per_atom", "force_rmse_ev_per_ang",
    "force_mae_ev_per_ang", "virial_rmse_mev_per_atom", "energy_z_std", "force_z_std",
}  # fmt: skip


def plain_report(gap, frames):
    """The same numbers from predict and the frames' labels, in a few lines."""
    p = gap.predict(frames, uncertainty=True)
    energy, force, virial, ze, zf = [], [], [], [], []
    for n, a in enumerate(frames):
        error = p.energy[n] - a.get_potential_energy()
        energy.append(1e3 * error / len(a))
        ze.append(error / p.energy_std[n])
        force.append((p.forces[n] - a.get_forces()).ravel())
        zf.append(force[-1] / p.forces_std[n].ravel())
        if a.pbc.any():
            virial.append(1e3 * a.get_volume() * (p.stress[n] - a.get_stress()) / len(a))
    force, zf = np.concatenate(force), np.concatenate(zf)

    def rms(x):
        return float(np.sqrt(np.mean(np.square(x)))) if len(x) else None

    return {
        "n_frames": len(frames),
        "n_atoms": sum(map(len, frames)),
        "energy_rmse_mev_per_atom": rms(energy),
        "energy_mae_mev_per_atom": float(np.mean(np.abs(energy))),
        "force_rmse_ev_per_ang": rms(force),
        "force_mae_ev_per_ang": float(np.mean(np.abs(force))),
        "virial_rmse_mev_per_atom": rms(virial),
        "energy_z_std": rms(ze),
        "force_z_std": rms(zf),
    }


def test_report_equals_a_plain_recomputation(gap, held_out):
    report = gap.evaluate(held_out)
    table = json.loads(report.to_json())
    assert set(table) == KEYS | {"config_types"}
    types = table.pop("config_types")
    assert table == pytest.approx(plain_report(gap, held_out), rel=1e-9)
    assert set(types) == {"bulk", "cluster"}
    for name, numbers in types.items():
        own = [a for a in held_out if a.info["config_type"] == name]
        assert set(numbers) == KEYS
        if name == "cluster":
            assert numbers.pop("virial_rmse_mev_per_atom") is None
            expected = plain_report(gap, own)
            assert expected.pop("virial_rmse_mev_per_atom") is None
            assert numbers == pytest.approx(expected, rel=1e-9)
        else:
            assert numbers == pytest.approx(plain_report(gap, own), rel=1e-9)
    assert sum(t["n_frames"] for t in types.values()) == 6


def test_report_without_some_labels(gap, held_out):
    frames = [a.copy() for a in held_out]
    for n, (frame, labelled) in enumerate(zip(frames, held_out, strict=True)):
        frame.info.pop("config_type")
        if n < 2:
            frame.info["energy"] = labelled.get_potential_energy()
    report = gap.evaluate(frames)
    table = json.loads(report.to_json())
    assert table["n_frames"] == 2
    assert table["energy_mae_mev_per_atom"] == pytest.approx(plain_report(gap, held_out[:2])["energy_mae_mev_per_atom"])
    for key in ("force_rmse_ev_per_ang", "force_mae_ev_per_ang", "virial_rmse_mev_per_atom", "force_z_std"):
        assert table[key] is None
    assert list(table["config_types"]) == ["none"]
    assert "NaN" not in report.to_json()
    assert "-" in str(report)


def test_report_of_forces_that_vanish_by_symmetry_in_a_model_without_forces(held_out):
    """Force and standard deviation are both zero there: such a component does not count, and nothing is NaN."""
    frames = [a.copy() for a in held_out]
    for frame, labelled in zip(frames, held_out, strict=True):
        frame.info["energy"] = labelled.get_potential_energy()
    gap = small_gap(noise_levels=FIXED).fit(frames)
    lone = Atoms("Cu", info={"energy": 0.0, "config_type": "atom"})
    lone.arrays["forces"] = np.zeros((1, 3))
    report = gap.evaluate([lone])
    assert report.summary["force_rmse_ev_per_ang"] == 0.0
    assert report.summary["force_z_std"] is None
    assert "NaN" not in report.to_json()


def test_a_factorisation_that_fails_is_an_error_with_a_remedy(train, held_out, monkeypatch):
    gap = small_gap(noise_levels=FIXED).fit(train)

    def fail(*_, **__):
        raise np.linalg.LinAlgError("2-th leading minor")

    monkeypatch.setattr("gapkit.estimators.gap.fit_potential", fail)
    monkeypatch.setattr("gapkit.estimators.gap.update_fit", fail)
    for use in (gap.fit, gap.update):
        with pytest.raises(NumericsError, match="2-th leading minor.*; give noise levels, use fewer sparse points"):
            use(held_out)


def test_report_without_uncertainty(gap, held_out):
    report = gap.evaluate(held_out, uncertainty=False)
    table = json.loads(report.to_json())
    assert table["energy_z_std"] is None
    assert table["force_z_std"] is None
    full = gap.evaluate(held_out).as_dict()
    assert table["force_rmse_ev_per_ang"] == full["force_rmse_ev_per_ang"]


def test_report_prints_a_line_per_type_and_one_for_all(gap, held_out):
    lines = str(gap.evaluate(held_out)).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["bulk", "cluster", "all"]
    assert len({len(line) for line in lines[2:]}) == 1
    assert len(str(gap.evaluate(held_out[:1])).splitlines()) == 3


def test_labels_under_other_names(train, held_out, gap):
    def renamed(frames):
        out = []
        for a in frames:
            (frame,) = labelled_frames([a], None, None, None, True)
            b = a.copy()
            b.info["dft_energy"], b.arrays["dft_forces"] = frame.energy, frame.forces
            if frame.virial is not None:
                b.info["dft_virial"] = frame.virial
            out.append(b)
        return out

    keys = {"energy_key": "dft_energy", "forces_key": "dft_forces", "virial_key": "dft_virial"}
    named = small_gap(**keys).fit(renamed(train))
    np.testing.assert_allclose(named.predict(held_out).energy, gap.predict(held_out).energy, rtol=0, atol=1e-8)
    assert named.evaluate(renamed(held_out)).summary == pytest.approx(gap.evaluate(held_out).summary, rel=1e-6)


def test_defaults_need_no_tuning():
    frames = copper_frames(16, seed=11)
    gap = gapkit.GAP().fit(frames)
    assert [t.settings()["name"] for t in gap.potential_.terms] == ["pair", "soap"]
    assert gap.score(copper_frames(4, seed=12)) > -0.05
    assert np.isfinite(gap.predict([label(a) for a in copper_frames(2, seed=13)]).energy).all()


def test_a_fit_does_not_depend_on_the_order_of_frames(gap, train, held_out):
    order = np.random.default_rng(0).permutation(len(train))
    other = small_gap().fit([train[k] for k in order])
    assert other.potential_.metadata["training_hash"] == gap.potential_.metadata["training_hash"]
    for one, two in zip(gap.predict(held_out, True).forces, other.predict(held_out, True).forces, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)
