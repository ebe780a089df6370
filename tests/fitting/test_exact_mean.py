"""The exact mean: dense algebra, out-of-fold errors against refits, derivatives, files, updates, samples."""

import warnings
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

import gapkit
import gapkit.model_selection
from gapkit.exceptions import NumericsError, OutOfDomainWarning, SettingsError
from gapkit.fitting import exact_mean
from gapkit.fitting.exact_mean import LabelCovariances, Labels, is_affordable
from gapkit.fitting.training_set import training_set
from gapkit.models.basis import SparseBasis
from gapkit.models.exact_gp import held_out_objective, minimum_downwards, solve_exact
from gapkit.models.held_out import rounded_absolute, rounding_of
from gapkit.models.observations import observations
from gapkit.numerics.label_covariances import covariances as label_covariances
from gapkit.numerics.lower_panels import LowerPanels
from gapkit.potential.joint import joint_energies
from gapkit.potential.samples import sampled_energies
from gapkit.structures.labels import labelled_frames
from gapkit.structures.structure import Structure
from gapkit.uncertainty.label_errors import StatedErrors
from tests.conftest import label
from tests.numerical import central_difference, displaced


def molecules(n, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = molecule("CH3OH")
        atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
        frames.append(label(atoms))
    return frames


def crystals(n, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(scale=0.03, size=(3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        frames.append(label(atoms))
    return frames


def model(**changes):
    terms = [
        gapkit.Term(gapkit.PairDistance(r_cut=3.5), gapkit.SquaredExponential(0.6), n_sparse=8, signal=2.0),
        gapkit.Term(gapkit.SOAP(r_cut=4.0, n_max=4, l_max=3), gapkit.DotProduct(2), n_sparse=15, signal=10.0),
    ]
    e0 = {"H": 3.0, "C": 3.5, "O": 4.0, "Cu": 0.2}
    noise = {"energy": 0.01, "forces": 0.05, "virial": 0.05}
    fixed = {"terms": terms, "e0": e0, "noise": noise, "folds": 3, "random_state": 0, "exact": True}
    return gapkit.GAP(**{**fixed, **changes})


@pytest.fixture(scope="module", params=["molecules", "crystals"])
def frames(request):
    return molecules(9, 1) if request.param == "molecules" else crystals(9, 1)


@pytest.fixture(scope="module")
def gap(frames):
    return model().fit(frames)


def covariances(gap, frames):
    data = training_set(labelled_frames(frames), gap.e0, None, (gap.potential_.species, gap.potential_.reference))
    return LabelCovariances(data, gap.potential_.basis, (), lambda it=None, **_: it if it is not None else Silent())


class Silent:
    def update(self, n=1):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("power", [1, 2, 3])
def test_covariances_are_derivatives_of_the_kernel(power):
    """Features linear in two coordinates each: central differences of sums of kernels."""
    rng = np.random.default_rng(0)
    x, x2 = rng.uniform(0.2, 1.0, size=(3, 5)), rng.uniform(0.2, 1.0, size=(2, 5))
    J, J2 = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 2, 5))
    out = label_covariances(x, np.stack([x / power, *J]), x2, np.stack([x2 / power, *J2]), power)

    def k(q, q2):
        return np.sum(((x + np.tensordot(q, J, 1)) @ (x2 + np.tensordot(q2, J2, 1)).T) ** power)

    h, zero = 1e-4, np.zeros(2)
    assert out[0, 0] == pytest.approx(k(zero, zero), rel=1e-12)
    for i in range(2):
        e = h * np.eye(2)[i]
        assert out[1 + i, 0] == pytest.approx((k(e, zero) - k(-e, zero)) / (2 * h), rel=1e-6)
        assert out[0, 1 + i] == pytest.approx((k(zero, e) - k(zero, -e)) / (2 * h), rel=1e-6)
        for j in range(2):
            f = h * np.eye(2)[j]
            mixed = (k(e, f) - k(e, -f) - k(-e, f) + k(-e, -f)) / (4 * h * h)
            assert out[1 + i, 1 + j] == pytest.approx(mixed, rel=1e-5)
    assert np.abs(out).min() > 1e-3


@pytest.mark.parametrize("power", [1, 2, 4])
def test_covariances_are_those_of_every_pair_of_environments(power):
    rng = np.random.default_rng(1)
    x, x2 = rng.uniform(0.1, 1.0, size=(4, 6)), rng.uniform(0.1, 1.0, size=(3, 6))
    J, J2 = rng.normal(size=(5, 4, 6)), rng.normal(size=(7, 3, 6))
    t = x @ x2.T
    bend = power * (power - 1) * t ** (power - 2) if power > 1 else 0.0 * t
    expected = np.einsum("ef,nef,mfe->nm", bend, J @ x2.T, J2 @ x.T)
    expected += np.einsum("ef,nec,mfc->nm", power * t ** (power - 1), J, J2)
    np.testing.assert_allclose(label_covariances(x, J, x2, J2, power), expected, rtol=1e-10)


def test_labels_are_those_of_the_sparse_rows(frames, gap):
    """Rows, scales, labels and groups agree with the observations that the triangles get."""
    c = covariances(gap, frames)
    for k, labels in enumerate(c.labels):
        assert c.whitened(k).shape == (len(labels.y), len(c.columns))
    n = 0
    structure = Structure(c.data.frames[n].atoms, gap.potential_.r_cut)
    rows = gap.potential_.basis.rows(structure)
    made = list(observations(c.data.targets[n], rows))
    labels = Labels.of(c.data.targets[n], ())
    np.testing.assert_allclose(np.vstack([o.K for o in made]), rows.K[labels.rows] * labels.scale[:, None], rtol=1e-14)
    np.testing.assert_allclose(np.concatenate([o.y for o in made]), labels.y, rtol=1e-14)
    assert [g for o in made for g in [o.group] * len(o.y)] == labels.groups


def test_prior_variances_are_those_of_the_sparse_model(frames, gap):
    """The diagonal of the SOAP part agrees with ``SparseBasis.rows``, an independent route; no projection here."""
    c = covariances(gap, frames)
    assert all(b.directions is None for b in gap.potential_.basis.blocks)
    K = c.matrix(range(len(frames)), np.array([0.0, 1.0])).lower()
    expected = []
    for frame, labels in zip(c.data.frames, c.labels, strict=True):
        prior = gap.potential_.basis.rows(Structure(frame.atoms, gap.potential_.r_cut)).prior[:, 1]
        expected.append(prior[labels.rows] * labels.scale**2)
    np.testing.assert_allclose(np.diag(K), np.concatenate(expected), rtol=1e-9, atol=1e-14)


def test_the_mean_is_that_of_dense_algebra(frames, gap):
    """Energies, forces and virials of new frames: cross covariances times (K + noise)^-1 y."""
    held_out = molecules(2, 5) if not frames[0].pbc.any() else crystals(2, 5)
    both = covariances(gap, [*frames, *held_out])
    signal = gap.potential_.posterior.signal
    lower = both.matrix(range(len(frames) + 2), signal).lower()
    K = np.tril(lower) + np.tril(lower, -1).T
    n = sum(len(both.labels[k].y) for k in range(len(frames)))
    factor = gap.potential_.metadata["levels"]["exact_noise_factor"]
    noise = {k: factor * v for k, v in gap.noise.items()}
    variance = np.array([noise[g] ** 2 for lab in both.labels for g in lab.groups])[:n]
    y = np.concatenate([lab.y for lab in both.labels])
    mean = K[n:, :n] @ np.linalg.solve(K[:n, :n] + np.diag(variance), y[:n])
    begin = 0
    for k, atoms in enumerate(held_out):
        labels, targets = both.labels[len(frames) + k], both.data.targets[len(frames) + k]
        p = gap.potential_.evaluate(atoms)
        errors = [[(p.energy - atoms.get_potential_energy()) / np.sqrt(len(atoms))]]
        errors.append((p.forces - atoms.get_forces()).ravel())
        if targets.virial is not None:
            errors.append((p.virial - both.data.frames[len(frames) + k].virial) / np.sqrt(len(atoms)))
        end = begin + len(labels.y)
        expected = mean[begin:end] - labels.y
        np.testing.assert_allclose(np.concatenate(errors), expected, rtol=1e-6, atol=1e-7 * np.abs(y).max())
        begin = end


def test_errors_of_a_fold_are_those_of_a_solution_without_it():
    rng = np.random.default_rng(0)
    A, y, noise = rng.normal(size=(30, 40)), rng.normal(size=30), rng.uniform(0.5, 1.0, size=30)
    K, folds = A @ A.T, np.repeat([0, 1, 2, -1], [12, 9, 6, 3])
    solution = solve_exact(LowerPanels.of(K), y, noise, folds)
    np.testing.assert_allclose(solution.alpha, np.linalg.solve(K + np.diag(noise), y), rtol=1e-9)
    for fold in range(3):
        out, rest = folds == fold, folds != fold
        mean = K[np.ix_(out, rest)] @ np.linalg.solve(K[np.ix_(rest, rest)] + np.diag(noise[rest]), y[rest])
        np.testing.assert_allclose(solution.errors[out], mean - y[out], rtol=1e-8)
    assert np.isnan(solution.errors[folds < 0]).all()


def test_of_many_labels_the_last_fold_has_the_same_errors(monkeypatch):
    rng = np.random.default_rng(1)
    A, y, noise = rng.normal(size=(30, 40)), rng.normal(size=30), rng.uniform(0.5, 1.0, size=30)
    K, folds = A @ A.T, np.repeat([-1, 0, 1, 2], [3, 12, 9, 6])
    every = solve_exact(LowerPanels.of(K), y, noise, folds)
    monkeypatch.setattr("gapkit.models.exact_gp.EVERY_FOLD", 20)
    last = solve_exact(LowerPanels.of(K), y, noise, folds)
    np.testing.assert_allclose(last.alpha, every.alpha, rtol=1e-12)
    np.testing.assert_allclose(last.errors[-6:], every.errors[-6:], rtol=1e-9)
    assert np.isnan(last.errors[:-6]).all()


def test_the_objective_counts_energies_and_forces_that_have_errors():
    errors, y = np.array([0.1, np.nan, 0.2, 0.4, 9.0]), np.array([1.0, 2.0, 3.0, 5.0, 0.0])
    kinds = np.array(["energy", "energy", "forces", "forces", "virial"])
    expected = 0.0
    for mine in ([0], [2, 3]):
        expected += np.log(rounded_absolute(errors[mine], rounding_of(y[mine]))[0] / len(mine))
    assert held_out_objective(errors, y, kinds) == pytest.approx(expected, rel=1e-12)
    only = rounded_absolute(errors[4:], rounding_of(y[4:]))[0]
    assert held_out_objective(errors[4:], y[4:], kinds[4:]) == pytest.approx(np.log(only), rel=1e-12)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda q: (q + 1.234) ** 2, -1.234),
        (lambda q: (q + 0.1) ** 2, -0.1),
        (lambda q: (q - 0.3) ** 2, 0.0),
        (lambda q: (q + 9.0) ** 2, -3.0),
        (lambda q: q, -3.0),
        (lambda q: -q, 0.0),
        (lambda q: (q + 1.3) ** 2 if q > -2.0 else np.inf, -1.5),
        (lambda q: q if q > -1.7 else np.inf, -1.5),
    ],
)
def test_the_minimum_below_zero_is_found(value, expected):
    assert minimum_downwards(value, -3.0, 0.5) == pytest.approx(expected, abs=1e-9)


def test_the_minimum_does_not_jump_where_two_values_tie():
    """Between steps the least value changes from one to the next: on both sides the vertex is the same."""
    found = [minimum_downwards(lambda q, c=c: np.cosh(q + c), -3.0, 0.5) for c in (1.25 - 1e-9, 1.25 + 1e-9)]
    assert found[0] == pytest.approx(found[1], abs=1e-8)


def test_the_factor_is_searched_on_all_frames_of_few_labels(frames, gap, monkeypatch):
    both = covariances(gap, frames)
    folds = np.arange(len(frames)) % 3
    folds[0] = -1
    whole = both.searched(folds)
    assert sorted(whole) == list(range(len(frames))) and (np.diff(folds[whole]) >= 0).all()
    held = sum(len(both.labels[n].y) for n in range(1, len(frames)))
    monkeypatch.setattr(exact_mean, "SEARCH_LABELS", -(-held // 2))
    part = both.searched(folds)
    assert sorted(part) == [0, *range(1, len(frames), 2)]


def test_the_factor_moves_no_more_than_the_labels(frames):
    """Noise in the last digits of the labels moves the factor by as little: no choice among a few is made."""
    nudged = [a.copy() for a in frames]
    rng = np.random.default_rng(0)
    for a, b in zip(nudged, frames, strict=True):
        results = {k: v * (1 + 1e-12 * rng.normal(size=np.shape(v))) for k, v in b.calc.results.items()}
        a.calc = SinglePointCalculator(a, **results)
    factors = [model().fit(f).potential_.metadata["levels"]["exact_noise_factor"] for f in (frames, nudged)]
    assert factors[1] == pytest.approx(factors[0], rel=1e-4)


def test_a_singular_covariance_is_named():
    with pytest.raises(NumericsError, match="not positive definite: labels repeat"):
        solve_exact(LowerPanels.of(np.full((2, 2), -1.0)), np.ones(2), np.zeros(2), np.zeros(2, dtype=int))


def test_forces_are_derivatives_of_the_energy(frames, gap):
    atoms = frames[0].copy()

    def energy(step):
        return gap.potential_.evaluate(displaced(atoms, 1, 0, step)).energy

    force = gap.potential_.evaluate(atoms).forces[1, 0]
    assert abs(force) > 1e-2
    assert central_difference(energy, 1e-3) == pytest.approx(-force, rel=1e-4)


def test_more_is_learned_than_from_sparse_points():
    train, held_out = molecules(12, 3), molecules(8, 4)
    exact, sparse = (-model(exact=e).fit(train).score(held_out) for e in (True, False))
    assert exact < 0.8 * sparse


def test_a_file_keeps_the_mean(frames, gap, tmp_path):
    gap.save(tmp_path / "m.gapkit", updatable=True)
    loaded = gapkit.load(tmp_path / "m.gapkit")
    mine, theirs = gap.predict(frames[:2], uncertainty=True), loaded.predict(frames[:2], uncertainty=True)
    np.testing.assert_array_equal(mine.energy, theirs.energy)
    np.testing.assert_array_equal(mine.energy_std, theirs.energy_std)
    assert loaded.exact is True


def test_points_of_projected_features_are_unit_vectors_and_not_in_the_file(tmp_path):
    """Features along the eigenvectors of the mean: the same functions, bit for bit after loading."""
    soap = gapkit.SOAP(r_cut=3.5, n_max=4, l_max=3)
    terms = [model().terms[0], gapkit.Term(soap, gapkit.DotProduct(2), n_sparse=15, signal=10.0, projection=24)]
    train, test = molecules(9, 1), molecules(2, 2)
    gap = model(terms=terms).fit(train)
    assert len(gap.potential_.extra) == 3
    for k, (points, weights) in gap.potential_.extra.items():
        block = gap.potential_.basis.blocks[k]
        np.testing.assert_array_equal(points, np.eye(len(weights)))
        np.testing.assert_allclose(block.directions @ block.directions.T, np.eye(len(weights)), atol=1e-12)
        K = block.kernel.of_scaled(block.points)
        np.testing.assert_allclose(block.factor @ block.factor.T, K, atol=2e-8 * K.max())
    structure, turn = Structure(test[0], gap.potential_.r_cut), np.random.default_rng(0)
    turned = [
        b if b.directions is None else b.rotated(np.linalg.qr(turn.normal(size=(len(b.directions),) * 2))[0])
        for b in gap.potential_.basis.blocks
    ]
    rows = [SparseBasis.of_blocks(b, 2).rows(structure) for b in (gap.potential_.basis.blocks, turned)]
    np.testing.assert_allclose(rows[0].K, rows[1].K, rtol=1e-9, atol=1e-12)
    gap.save(tmp_path / "m.gapkit")
    with zipfile.ZipFile(tmp_path / "m.gapkit") as archive:
        names = archive.namelist()
    assert sum("extra" in n for n in names) == 3 and not any("extra" in n and "points" in n for n in names)
    p, q = gap.predict(test, uncertainty=True), gapkit.load(tmp_path / "m.gapkit").predict(test, uncertainty=True)
    for name in ("energy", "energy_std", "forces", "forces_std"):
        np.testing.assert_array_equal(np.ravel(getattr(p, name)), np.ravel(getattr(q, name)))


def test_only_projected_features_are_rotated(gap):
    with pytest.raises(ValueError, match="only projected features"):
        gap.potential_.basis.blocks[-1].rotated(np.eye(2))


def test_a_file_keeps_the_variance_of_the_function(frames, gap, tmp_path):
    """Joint covariances of the function of an exact mean are scaled to its error models."""
    gap.save(tmp_path / "m.gapkit")
    found = gapkit.load(tmp_path / "m.gapkit").joint_energies(frames[:3], noise=False)
    expected = gap.joint_energies(frames[:3], noise=False)
    np.testing.assert_array_equal(found.covariance, expected.covariance)
    p = gap.potential_
    levels = replace(p, errors=StatedErrors(p.calibration))
    # of few frames the error model has a power of one, and its variances are nearly those of the levels
    assert np.any(np.abs(joint_energies(levels, frames[:3], noise=False).std / expected.std - 1) > 5e-3)


def test_an_update_with_what_is_known_already_changes_little_and_with_news_much(frames):
    gap = model().fit(frames[:6])
    news = frames[6:]
    before = -gap.score(news)
    gap.update(news)
    after = -gap.score(news)
    refit = -model().fit(frames).score(news)
    assert refit < after < 0.9 * before


def test_samples_scatter_about_the_mean(frames, gap):
    atoms = frames[0]
    drawn = np.array([s.evaluate(atoms).energy for s in gap.samples(200, random_state=0)])
    assert abs(drawn.mean() - gap.potential_.evaluate(atoms).energy) < 4 * drawn.std() / np.sqrt(200)
    assert drawn.std() > 0


def test_error_bars_follow_the_errors_of_the_mean():
    train, held_out = molecules(40, 6), molecules(40, 7)
    report = model(folds=5).fit(train).evaluate(held_out)
    assert 0.6 < report.summary["force_z_std"] < 1.5


@pytest.fixture(scope="module")
def thermal():
    """A fit of thermal methanol, and its O-H bond pulled apart: up to 0.6 A the error is that of thermal frames."""
    train = molecules(60, 8)
    soap = gapkit.SOAP(r_cut=3.5, n_max=6, l_max=4, sigma=0.4)
    terms = [model().terms[0], gapkit.Term(soap, gapkit.DotProduct(2), n_sparse=150, signal=10.0)]
    gap = model(folds=5, noise="auto", terms=terms).fit(train)
    pulled = []
    for distance in (0.0, 0.3, 0.8, 1.0):
        atoms = molecule("CH3OH")
        bond = atoms.get_distance(1, 3, vector=True)
        atoms.positions[3] += distance * bond / np.linalg.norm(bond)
        pulled.append(label(atoms))
    return gap, train, pulled


def test_error_bars_grow_where_a_bond_breaks(thermal):
    gap, _, pulled = thermal
    p = gap.predict(pulled, uncertainty="energy")
    error = np.abs(p.energy - [a.get_potential_energy() for a in pulled])
    assert error[2] > 100 * error[0]
    assert np.all(np.diff(p.energy_std) > 0)
    assert np.all(error < 5 * p.energy_std)
    difference = gap.energy_difference(pulled[-1], pulled[0])
    assert abs(difference.value - (pulled[-1].get_potential_energy() - pulled[0].get_potential_energy())) < (
        5 * difference.std
    )


@pytest.mark.parametrize("uncertainty", ["local", "full"])
def test_a_broken_bond_is_out_of_the_domain(thermal, uncertainty):
    gap, train, pulled = thermal
    calculator = gap.calculator(uncertainty)
    excess = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutOfDomainWarning)
        for atoms in [*train[:10], *molecules(20, 9)]:
            calculator.calculate(atoms)
            excess.append(calculator.results["domain_excess"])
    assert max(excess) < 1
    for atoms in pulled[2:]:
        with pytest.warns(OutOfDomainWarning, match="the standard deviation of its energy"):
            gap.calculator(uncertainty).calculate(atoms)


def test_the_card_says_where_the_domain_of_molecules_ends(thermal):
    assert "2 times the largest in held-out frames" in gapkit.model_selection.model_card(thermal[0])
    crystal = model(exact=False).fit(crystals(8, 1))
    assert crystal.potential_.domain.energy_variance is None
    assert "held-out frames" not in gapkit.model_selection.model_card(crystal)


def test_the_function_is_as_uncertain_everywhere(thermal):
    """Standard deviations, joint covariances and samples of the function agree, near the data and far."""
    gap, _, pulled = thermal
    alone = gap.predict(pulled, uncertainty="energy", noise=False).energy_std
    joint = gap.joint_energies(pulled, noise=False)
    np.testing.assert_allclose(joint.std, alone, rtol=1e-6)
    drawn = [sampled_energies(gap.potential_, [a], 2000, np.random.default_rng(0))[:, 0] for a in pulled]
    np.testing.assert_allclose(np.std(drawn, axis=1), alone, rtol=0.1)
    assert np.all(alone <= gap.predict(pulled, uncertainty="energy").energy_std)


def test_default_terms_take_it_for_molecules_alone():
    e0 = {"H": 3.0, "C": 3.5, "O": 4.0}
    assert gapkit.GAP(e0=e0).fit(molecules(8, 1)).potential_.extra
    assert not gapkit.GAP().fit(crystals(8, 1)).potential_.extra
    assert not gapkit.GAP(e0=e0, exact=False).fit(molecules(8, 1)).potential_.extra
    data = training_set(labelled_frames(molecules(2, 1)), e0, None)
    assert is_affordable(data)
    assert not is_affordable(replace(data, targets=data.targets * 1000, frames=data.frames * 1000))


@pytest.mark.parametrize("exact", ["always", 2, None])
def test_what_exact_may_be(exact):
    with pytest.raises(SettingsError, match="exact must be"):
        gapkit.GAP(exact=exact).fit(molecules(3, 1))


def test_terms_that_do_not_suit_are_refused():
    terms = [gapkit.Term(gapkit.SOAP(r_cut=3.5, n_max=4, l_max=3), gapkit.DotProduct(4), n_sparse=10)]
    with pytest.raises(SettingsError, match=r"DotProduct\(2\)"):
        gapkit.GAP(terms=terms, exact=True, e0={"H": 3.0, "C": 3.5, "O": 4.0}).fit(molecules(3, 1))
