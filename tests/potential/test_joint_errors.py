"""Joint errors of several energies, samples of the posterior, and propagation: dense algebra and counting samples."""

from dataclasses import replace

import numpy as np
import pytest

import gapkit
from gapkit.estimators.committee import Committee
from gapkit.exceptions import DataError, GapkitWarning, SettingsError
from gapkit.models.cross_covariances import (
    added_columns,
    energy_covariances,
    extended_basis,
    split_energy_covariances,
)
from gapkit.models.posterior import Posterior
from gapkit.potential.joint import joint_energies
from gapkit.potential.samples import Sampler, sampled_energies
from gapkit.propagation import left_out_share, propagate
from gapkit.sampling.batches import batch_forces
from gapkit.uncertainty.calibration import Calibration, GroupCalibration
from gapkit.uncertainty.label_errors import StatedErrors
from tests import systems
from tests.conftest import copper_frames, label, small_gap

NOISE = {"energy": 0.02, "forces": 0.3, "virial": 0.5}
SIGNAL = np.array([0.7, 0.4, 1.5])


@pytest.fixture(scope="module")
def model() -> systems.SmallModel:
    return systems.small_model(9)


@pytest.fixture(scope="module")
def posterior(model) -> Posterior:
    """The posterior of all frames in one fold."""
    triangles = systems.triangles_of(model.basis, model.observations, np.zeros(len(model.frames)))
    return Posterior.solve(triangles, NOISE, SIGNAL, model.terms)


@pytest.fixture(scope="module")
def query(model):
    """Four frames that the model has not seen."""
    return [model.basis.structure(a) for a in systems.frames(4, seed=77)]


def whitened(basis, structures):
    return basis.whiten(np.vstack([basis.rows(s, derivatives=False, prior=False).K for s in structures]))


def environment_kernel(block, one, two):
    """sum_ee' w_e w_e' k(x_e, x_e'), with the kernel's own formula."""
    a = block.descriptor.environments(one, block.channel, derivatives=False)
    b = block.descriptor.environments(two, block.channel, derivatives=False)
    return a.weight @ block.kernel(a.x, b.x) @ b.weight if len(a) and len(b) else 0.0


def test_prior_covariances_are_double_sums_over_environments(model, query):
    prior = energy_covariances(model.basis, query)
    for i, one in enumerate(query):
        own = model.basis.rows(one, derivatives=False).prior[0]
        np.testing.assert_allclose(prior[i, i], own, rtol=1e-10)
        for j, two in enumerate(query):
            expected = np.zeros(model.basis.n_terms)
            for b in model.basis.blocks:
                expected[b.term] += environment_kernel(b, one, two)
            np.testing.assert_allclose(prior[i, j], expected, rtol=1e-9, atol=1e-12)
    assert abs(prior[0, 1]).max() > 1e-3


def test_joint_covariance_equals_the_dense_formula(model, posterior, query):
    """k_ab - Q_an (Q_nn + noise)^-1 Q_nb, with Q = K_m K_mm^-1 K_m^T (Quinonero-Candela and Rasmussen, eq. 19)."""
    delta2 = SIGNAL**2
    K_n = np.vstack([o.K for _, o in model.observations])
    noise = np.concatenate([np.full(len(o.y), NOISE[o.group] ** 2) for _, o in model.observations])
    K_q = np.vstack([model.basis.rows(s, derivatives=False, prior=False).K for s in query])
    inverse = np.zeros((model.basis.n_columns, model.basis.n_columns))
    for b in model.basis.blocks:
        inverse[b.columns, b.columns] = delta2[b.term] * np.linalg.inv(b.factor @ b.factor.T)
    Q_qn, Q_nn = K_q @ inverse @ K_n.T, K_n @ inverse @ K_n.T
    prior = energy_covariances(model.basis, query)
    dense = prior @ delta2 - Q_qn @ np.linalg.solve(Q_nn + np.diag(noise), Q_qn.T)
    residual, weights = posterior.covariances(whitened(model.basis, query), prior)
    np.testing.assert_allclose(residual + weights, dense, rtol=1e-6, atol=1e-8 * dense.max())
    off = residual[~np.eye(len(query), dtype=bool)]
    assert np.abs(off).max() > 1e-3 * residual.max()
    assert np.linalg.eigvalsh(residual).min() > -1e-9 * residual.max()


def test_sampled_weights_have_the_posterior_mean_and_covariance(model, posterior, query):
    A = whitened(model.basis, query)
    n = 20_000
    drawn = posterior.sample_weights(n, np.random.default_rng(0), scale=2.0) @ A.T
    _, expected = posterior.covariances(A, energy_covariances(model.basis, query))
    std = 2 * np.sqrt(np.diagonal(expected))
    z = (drawn.mean(axis=0) - posterior.mean(A)) / (std / np.sqrt(n))
    assert np.abs(z).max() < 4
    np.testing.assert_allclose(np.cov(drawn.T), 4 * expected, atol=4 * np.max(std**2) * np.sqrt(2 / n))


def test_an_extended_basis_leaves_no_residual_at_its_frames(model, query):
    wider, added = extended_basis(model.basis, query)
    fresh = added_columns(model.basis, wider)
    assert fresh.sum() == added == wider.n_columns - model.basis.n_columns > 0
    A, prior = whitened(wider, query), energy_covariances(wider, query)
    np.testing.assert_allclose(A[:, ~fresh], whitened(model.basis, query), atol=1e-8)  # old columns stay
    terms = wider.column_terms()
    for t in range(model.basis.n_terms):
        explained = A[:, terms == t] @ A[:, terms == t].T
        np.testing.assert_allclose(explained, prior[:, :, t], atol=1e-4 * prior[:, :, t].max())
    few, n_few = extended_basis(model.basis, query, most=5)
    assert n_few == few.n_columns - model.basis.n_columns == 5


def test_a_difference_of_a_frame_with_itself_has_no_error(gap, held_out):
    same = gap.energy_difference(held_out[0], held_out[0].copy())
    assert same.value == 0
    assert same.std < 1e-6 * gap.joint_energies(held_out[:1]).std[0]
    moved = held_out[0].copy()
    moved.positions[0] += 0.01
    near, far = gap.energy_difference(moved, held_out[0]), gap.energy_difference(held_out[3], held_out[0])
    independent = np.hypot(*gap.joint_energies([moved, held_out[0]]).std)
    assert 0 < near.std < 0.2 * independent
    assert near.std < far.std


@pytest.fixture(scope="module")
def of_two_dozen():
    """A potential of 24 frames and 30 sparse points."""
    return small_gap().fit(copper_frames(24, seed=1))


@pytest.mark.parametrize("step", [0.01, 0.05])
def test_errors_of_differences_of_near_frames_are_as_large_as_stated(of_two_dozen, step):
    """Two independent errors would give rms z = 0.02 and 0.11, a correlation of the weights alone 3.5 and 3.7."""
    rng, z = np.random.default_rng(0), []
    for atoms in copper_frames(60, seed=7):
        moved = atoms.copy()
        moved.positions[0] += step * rng.normal(size=3)
        true = label(moved).get_potential_energy() - atoms.get_potential_energy()
        found = of_two_dozen.energy_difference(moved, atoms)
        z.append((found.value - true) / found.std)
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.6


def test_what_projections_hide_of_two_energies_has_the_variances_of_each():
    soap = gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(3), n_sparse=20, projection=12)
    pair = gapkit.Term(gapkit.PairDistance(r_cut=4.0), gapkit.SquaredExponential(0.7), n_sparse=10)
    basis = small_gap(terms=[pair, soap]).fit(copper_frames(12, seed=1)).potential_.basis
    structures = [basis.structure(a) for a in copper_frames(6, seed=7)]
    whole, hidden = split_energy_covariances(basis, structures)
    for i, s in enumerate(structures):
        alone = basis.rows(s, derivatives=False, hidden=True).hidden[0]
        np.testing.assert_allclose(hidden[i, i], alone, rtol=1e-6, atol=1e-9 * hidden.max())
    soap = hidden[:, :, -1]
    assert hidden[:, :, 0].max() == 0 < soap.max()  # pairs are not projected
    assert np.linalg.eigvalsh(soap).min() > -1e-9 * soap.max()
    np.testing.assert_array_equal(whole, energy_covariances(basis, structures))
    assert np.all(np.abs(soap) < np.abs(whole[:, :, -1]))


@pytest.mark.parametrize("noise", [True, False])
def test_the_diagonal_is_what_predict_says(gap, held_out, noise):
    p = gap.predict(held_out, uncertainty="energy", include_noise=noise)
    joint = gap.joint_energies(held_out, include_noise=noise)
    np.testing.assert_allclose(joint.energy, p.energy, rtol=1e-12)
    if noise:
        np.testing.assert_allclose(joint.std, p.energy_std, rtol=1e-6)
    else:  # the function has the variance that the levels state; predictions say less where the error model does
        levels = replace(gap.potential_, errors=StatedErrors(gap.potential_.calibration))
        stated = [levels.standard_deviations(a, include_noise=False, forces=False).energy for a in held_out]
        np.testing.assert_allclose(joint.std, stated, rtol=1e-6)
        assert np.all(p.energy_std <= joint.std * (1 + 1e-6))
    assert np.linalg.eigvalsh(joint.covariance).min() > -1e-9 * joint.covariance.max()
    both = joint.combination([1, 0, -1, 0, 0, 0])
    assert both == joint.difference(0, 2)
    with pytest.raises(DataError, match="one finite coefficient per frame"):
        joint.combination([1, 2])
    with pytest.raises(DataError, match="give at least one"):
        joint_energies(gap.potential_, [])


def test_label_noise_of_an_energy_grows_with_the_root_of_the_number_of_atoms(train, held_out):
    """Without recalibration (one fold): var = var of the function + n_atoms sigma^2, sigma the given 10 meV."""
    levels = {"energy": 0.01, "forces": 0.1, "virial": 0.1}
    plain = small_gap(noise_levels=levels, folds=1).fit(train)
    labels, function = (plain.joint_energies(held_out, include_noise=noise).std for noise in (True, False))
    n_atoms = np.array([len(a) for a in held_out])
    assert len(set(n_atoms)) == 3
    np.testing.assert_allclose(labels**2 - function**2, n_atoms * levels["energy"] ** 2, rtol=1e-9)


@pytest.mark.parametrize("noise", [True, False])
def test_each_energy_has_the_levels_of_its_config_type(gap, held_out, noise):
    """a rho + lambda^2 omega + n_atoms sigma^2, with (a, lambda^2, sigma) of clusters (4, 9, 50 meV), of others (1, 2,
    10 meV)."""
    levels = {"energy": GroupCalibration(0.01, 1.0, 2.0), "energy:cluster": GroupCalibration(0.05, 4.0, 9.0)}
    potential = replace(gap.potential_, errors=StatedErrors(Calibration(levels, 1.0, 1.0)))
    variance = []
    for atoms in held_out:
        parts = potential.variance_parts(potential.structure(atoms), derivatives=False)
        a, b, sigma = (4.0, 9.0, 0.05) if atoms.info["config_type"] == "cluster" else (1.0, 2.0, 0.01)
        variance.append(a * parts.residual[0] + b * parts.weights[0] + noise * len(atoms) * sigma**2)
    assert {a.info["config_type"] for a in held_out} == {"bulk", "cluster"}
    np.testing.assert_allclose(joint_energies(potential, held_out, noise).std ** 2, variance, rtol=1e-6)


def test_sampled_energies_have_the_joint_covariance(gap, held_out):
    """The variance of an energy difference against posterior samples plus residual."""
    n = 6000
    drawn = sampled_energies(gap.potential_, held_out, n, np.random.default_rng(1))
    joint = gap.joint_energies(held_out, include_noise=False)
    tolerance = 5 * np.sqrt(2 / n) * joint.covariance.max()
    np.testing.assert_allclose(np.cov(drawn.T), joint.covariance, atol=tolerance)
    for i, j in ((1, 0), (3, 0), (4, 5)):
        assert np.std(drawn[:, i] - drawn[:, j]) == pytest.approx(joint.difference(i, j).std, rel=0.05)
    only_weights = sampled_energies(gap.potential_, held_out, n, np.random.default_rng(1), residual=False)
    assert np.all(np.std(only_weights, axis=0) < 1.02 * joint.std)
    assert joint.residual_share.max() > 0.1  # the residual matters in this model


def test_a_sample_is_one_function_with_consistent_forces(gap, held_out):
    sample = gap.samples(2, random_state=3, frames=held_out[:1])[1]
    atoms = held_out[0].copy()
    atoms.calc = sample.calculator()
    forces, h = atoms.get_forces(), 1e-4
    for atom, axis in ((0, 0), (2, 1)):
        ends = []
        for sign in (1, -1):
            moved = held_out[0].copy()
            moved.positions[atom, axis] += sign * h
            ends.append(sample.evaluate(moved).energy)
        assert -(ends[0] - ends[1]) / (2 * h) == pytest.approx(forces[atom, axis], abs=2e-5)
    assert abs(atoms.get_potential_energy() - gap.predict(held_out[:1]).energy[0]) > 1e-5
    again = gap.samples(2, random_state=3, frames=held_out[:1])[1]
    assert again.evaluate(held_out[0]).energy == sample.evaluate(held_out[0]).energy


def difference(frames):
    def f(calculator):
        energies = []
        for atoms in frames:
            atoms = atoms.copy()
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy())
        return energies[1] - energies[0]

    return f


def test_propagation_of_a_difference_gives_its_analytic_error(gap, held_out):
    pair = [held_out[0], held_out[3]]
    result = propagate(difference(pair), gap, 1500, random_state=0)
    analytic = gap.energy_difference(pair[1], pair[0], include_noise=False)
    assert result.value == pytest.approx(analytic.value, abs=1e-8)
    assert result.std == pytest.approx(analytic.std, rel=0.08)  # four standard errors of 1,500 draws
    assert result.left_out < 0.05
    low, high = result.interval(0.9)
    assert low < result.value < high
    assert (high - low) / 2 == pytest.approx(1.645 * analytic.std, rel=0.15)


def test_propagation_sees_frames_that_are_asked_for_as_a_batch(gap, held_out):
    """The error of a difference is that of the same difference by single calls, residual included."""
    frame = held_out[0]
    moved = frame.positions + 0.1 * np.random.default_rng(3).normal(size=frame.positions.shape)

    def by_batch(calculator):
        energies, _ = batch_forces(frame, calculator)(np.array([frame.positions, moved]))
        return energies[1] - energies[0]

    other = frame.copy()
    other.positions = moved
    single = propagate(difference([frame, other]), gap, 30, random_state=0)
    batch = propagate(by_batch, gap, 30, random_state=0)
    assert batch.std == pytest.approx(single.std, rel=1e-6) and batch.std > 0


def test_propagation_warns_where_the_residual_is_left_out(gap, held_out):
    with pytest.warns(GapkitWarning, match="leave out"):
        bare = propagate(difference(held_out[:2]), gap, 8, residual=False, random_state=0)
    assert bare.left_out > 0.2
    assert left_out_share([1.0, 1.0], [4.0, 4.0]) == 0.75
    assert left_out_share([0.0], [0.0]) == 0.0


def test_propagation_reports_failures_and_refuses_nonsense(gap, held_out):
    calls = []

    def sometimes(calculator):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("did not converge")
        return difference(held_out[:2])(calculator)

    with pytest.warns(GapkitWarning, match="failed for 1 of 6 samples .*did not converge"):
        result = propagate(sometimes, gap, 6, random_state=0)
    assert len(result.samples) == 5 and len(result.failures) == 1
    with pytest.raises(DataError, match="not finite"):
        propagate(lambda c: float("nan"), gap, 4)
    with pytest.raises(DataError, match="a number or an array"):
        propagate(lambda c: "text", gap, 4)
    with pytest.raises(DataError, match="did not use its calculator"):
        propagate(lambda c: 1.0, gap, 4)
    with pytest.raises(SettingsError, match="at least 2 samples"):
        propagate(difference(held_out[:2]), gap, 1)
    with pytest.raises(SettingsError, match="number of samples"):
        gap.samples(0)
    with pytest.raises(SettingsError, match="kind must be"):
        Sampler.of(gap.potential_, kind="charge")


def test_a_committee_stands_in_for_samples(gap, train, held_out):
    committee = Committee.fit(gap, train, 3, random_state=0)
    values = [difference(held_out[:2])(m.calculator()) for m in committee.members]
    assert len(set(values)) == 3
    result = propagate(difference(held_out[:2]), committee, 3)
    assert result.std == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    np.testing.assert_allclose(
        committee.energy_std(held_out), np.std([m.predict(held_out).energy for m in committee.members], 0, ddof=1)
    )
    assert committee.forces_std(held_out)[1].shape == (len(held_out[1]), 3)
    for member in committee.members:
        assert member.potential_.metadata["noise"] == gap.potential_.metadata["noise"]
        assert member.potential_.reference.values == gap.potential_.reference.values
    sparse = Committee.fit(gap, train, 2, vary="sparse", random_state=0)
    assert len({float(m.potential_.basis.blocks[-1].points[0, 0]) for m in sparse.members}) == 2
    with pytest.raises(SettingsError, match="at least 2 members"):
        Committee.fit(gap, train, 1)
    with pytest.raises(SettingsError, match="vary must be"):
        Committee.fit(gap, train, 2, vary="labels")


def test_the_baseline_is_part_of_every_sample(train, held_out):
    gap = small_gap(baseline="zbl").fit(train)
    drawn = sampled_energies(gap.potential_, held_out[:2], 3, np.random.default_rng(0))
    samples = Sampler.of(gap.potential_, held_out[:2]).samples(3, np.random.default_rng(0))
    direct = [[s.evaluate(a).energy for a in held_out[:2]] for s in samples]
    np.testing.assert_allclose(drawn, direct, atol=1e-6)
