"""Domain reports: distances in closed form, bounds, invariances, maps; phases left out."""

import json
from functools import cache

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import gapkit
from gapkit.apps.transferability.environments import (
    domain_map,
    environments,
    kernel,
    nearest,
)
from gapkit.apps.transferability.phases import PhasesSettings, leave_phase_out, run_phases
from gapkit.apps.transferability.pictures import domain_figure, draw_phases, phases_figure
from gapkit.apps.transferability.run import DomainSettings, run_domain
from gapkit.apps.transferability.toys import radial_distance, std_ceiling
from gapkit.cli.main import main
from gapkit.descriptors import SOAP, PairDistance
from gapkit.exceptions import DataError, GapkitError, SettingsError, SpeciesError
from gapkit.kernels import DotProduct, SquaredExponential
from gapkit.models.terms import Term
from tests.numerical import random_rotation

SHAPE = {"r_cut": 4.0, "n_max": 4, "l_max": 3, "sigma": 0.5}
ZETA = 2


def labelled(atoms, name, trajectory):
    """A frame with the energy, forces and stress of a Lennard-Jones solid of the size of silicon."""
    calculator: Calculator = LennardJones(sigma=2.1, epsilon=0.5, rc=4.0, smooth=True)
    atoms = atoms.copy()
    atoms.calc = calculator
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.all():
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(config_type=name, trajectory=trajectory)
    return atoms


def rattled(structure, n, name, seed, stdev=0.08):
    rng = np.random.default_rng(seed)
    out = []
    for k in range(n):
        atoms = structure.copy()
        atoms.set_cell(atoms.cell * (1 + rng.uniform(low=-0.03, high=0.03)), scale_atoms=True)
        atoms.rattle(stdev=stdev, rng=rng)
        out.append(labelled(atoms, name, f"{name}-{k}"))
    return out


@cache
def training():
    return rattled(bulk("Si", "diamond", a=5.43, cubic=True), 8, "diamond", 0)


@cache
def strangers():
    return rattled(bulk("Si", "fcc", a=3.9, cubic=True), 4, "fcc", 1, stdev=0.15)


def untrained(**shape):
    settings = SHAPE | shape
    return gapkit.GAP(terms=[Term(SOAP(**settings), DotProduct(ZETA), n_sparse=40)], folds=2, random_state=0)


@cache
def model():
    """One SOAP term."""
    return untrained().fit(list(training()))


@cache
def report():
    return run_domain(model(), list(training()), [*training()[:2], *strangers()])


# exact answers


def test_a_training_environment_is_at_distance_zero():
    r = report()
    known = r.new.frame < 2
    np.testing.assert_allclose(r.distance[known], 0.0, atol=5e-8)
    np.testing.assert_array_equal(r.training.frame[r.place[known]], r.new.frame[known])
    np.testing.assert_array_equal(r.training.atom[r.place[known]], r.new.atom[known])
    # variances are differences from a prior variance: known to 1e-13 of that
    prior = float(np.sum(model().potential_.posterior.signal ** 2))
    np.testing.assert_allclose(r.std[known] ** 2, r.training.std[r.place[known]] ** 2, atol=1e-13 * prior)
    assert r.std[known].min() > 1e-5
    assert r.nearest_to(11) == (1, 3, "diamond")
    assert r.distance[~known].min() > 0.05


@pytest.mark.parametrize("scale", [0.94, 1.03, 1.1])
def test_distance_of_a_scaled_crystal_is_known(scale):
    crystal = bulk("Si", "diamond", a=5.43)
    scaled = crystal.copy()
    scaled.set_cell(crystal.cell * scale, scale_atoms=True)
    shape = SHAPE | {"l_max": 0}
    gap = untrained(l_max=0).fit(list(training()))
    found, _ = nearest(gap, environments(gap, [scaled]), environments(gap, [crystal]))
    expected = radial_distance(crystal, scaled, r_cut=4.0, n_max=shape["n_max"], sigma=0.5, zeta=ZETA)
    assert expected > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_three_environments_keep_their_distances_on_the_map():
    """Any three points span a plane, so two components hold everything."""
    gap = model()
    new = environments(gap, [Atoms("Si3", positions=[[0, 0, 0], [2.3, 0, 0], [3.0, 2.6, 0]])])
    empty = environments(gap, [Atoms("Si3", positions=[[0, 0, 0], [2.3, 0, 0], [3.0, 2.6, 0]])])
    empty = type(empty)(
        **{name: getattr(empty, name)[:0] for name in ("frame", "atom", "number", "config_type", "trajectory", "std")},
        features={},
    )
    chart = domain_map(gap, empty, new)
    k = kernel(gap, 14, new.features[14], new.features[14])
    apart = np.sqrt(np.maximum(2 - 2 * k, 0))
    assert apart[0, 1] > 0.05
    on_map = np.linalg.norm(chart.new[:, None] - chart.new[None], axis=2)
    np.testing.assert_allclose(on_map, apart, atol=1e-7)
    assert chart.explained.sum() == pytest.approx(1.0)
    assert len(chart.training) == 0


# defining equations and bounds


def test_distance_is_that_of_dscribe_vectors():
    """The kernel from dscribe's own power spectrum: products of n < n' count twice."""
    gap = model()
    soap = SOAP(species=["Si"], **SHAPE).fit([])
    other = strangers()[0]
    names = soap.get_feature_names_out()
    twice = np.array([name.split("_")[3][1:] != name.split("_")[4][1:] for name in names])
    vectors = []
    for atoms in (training()[3], other):
        p = soap.to_dscribe().create(atoms) * np.where(twice, np.sqrt(2), 1.0)
        vectors.append(p / np.linalg.norm(p, axis=1)[:, None])
    expected = np.sqrt(2 - 2 * (vectors[1] @ vectors[0].T) ** ZETA).min(axis=1)
    found, _ = nearest(gap, environments(gap, [other]), environments(gap, [training()[3]]))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_no_deviation_exceeds_what_prior_and_distance_allow():
    r, potential = report(), model().potential_
    energy = potential.calibration.of("energy")
    scale = max(energy.residual_scale, energy.weight_scale)
    prior = float(np.sqrt(scale)) * potential.posterior.signal[0]
    ceiling = std_ceiling(r.training.std[r.place], r.distance, prior)
    assert np.all(r.std <= ceiling * (1 + 1e-6))
    assert r.std[r.distance > 0.1].max() > r.training.std.max()
    assert np.any(r.std > 0.05 * ceiling)  # no empty bound
    every = np.sqrt(np.maximum(2 - 2 * kernel(model(), 14, r.new.features[14], r.training.features[14]), 0))
    best = (r.training.std[None] + prior * every).min(axis=1)
    assert np.all(r.std <= best * (1 + 1e-6))


def test_distances_are_a_metric():
    r = report()
    x = r.new.features[14]
    d = np.sqrt(np.maximum(2 - 2 * kernel(model(), 14, x, x), 0))
    assert np.all((d >= 0) & (d <= np.sqrt(2)))
    assert np.all(d[:, :, None] <= d[:, None, :] + d[None, :, :].transpose(0, 2, 1) + 1e-7)


def test_map_never_stretches_distances():
    r = report()
    chart = domain_map(model(), r.training, r.new, random_state=0)
    assert len(chart.training) == len(r.training) and len(chart.new) == len(r.new)
    k = kernel(model(), 14, r.new.features[14], r.training.features[14])
    on_map = np.linalg.norm(chart.new[:, None] - chart.training[None], axis=2)
    assert np.all(on_map <= np.sqrt(np.maximum(2 - 2 * k, 0)) + 1e-7)
    assert 0.2 < chart.explained.sum() <= 1
    assert chart.explained[0] >= chart.explained[1]
    again = domain_map(model(), r.training, r.new, random_state=0)
    np.testing.assert_allclose(again.new, chart.new, atol=1e-9)
    few = domain_map(model(), r.training, r.new, most=5, random_state=1)
    assert len(few.training) == len(few.new) == 5
    within = run_domain(model(), r.training, list(strangers()), DomainSettings(map_environments=5), random_state=1)
    np.testing.assert_array_equal(within.chart.training_place, few.training_place)
    assert run_domain(model(), r.training, list(strangers()), DomainSettings(map_environments=0)).chart is None


def test_limit_is_a_quantile_between_trajectories():
    gap = model()
    frames = [a.copy() for a in training()]
    frames[1] = frames[0].copy()
    frames[1].info["trajectory"] = "copy"
    copied = run_domain(gap, frames, [training()[0]])
    np.testing.assert_allclose(copied.training_distance[:16], 0, atol=5e-8)
    for atoms in frames[:2]:
        atoms.info["trajectory"] = "one"
    together = run_domain(gap, frames, [training()[0]], DomainSettings(quantile=0.5))
    assert together.training_distance[:16].min() > 1e-3
    assert together.distance_limit == pytest.approx(np.median(together.training_distance))
    alone = run_domain(gap, frames[:1], [training()[0]])
    assert alone.distance_limit == 0.0


def test_strangers_are_told_from_training():
    r = report()
    assert not r.unfamiliar[r.new.frame < 2].any()
    assert r.unfamiliar[r.new.frame >= 2].all()
    np.testing.assert_allclose(r.std_ratio * r.std_limit, r.std)
    assert r.std_rank[r.new.frame >= 2].min() > 0.5
    assert 0 <= r.std_rank.min() <= r.std_rank.max() <= 1
    expected = model().predict(list(strangers()), uncertainty="energy").energy_std
    np.testing.assert_allclose(r.energy_std[2:], expected)
    lines = str(r).splitlines()
    assert len(lines) == 2 + 6 and "fcc" in lines[3] and "diamond" in lines[3]
    far = r.least_known(3)
    assert r.new.frame[far] == 3
    assert r.distance[far] == r.distance[r.new.frame == 3].max()


# invariances


def test_invariances():
    gap, known = model(), environments(model(), list(training()))
    atoms = strangers()[0]
    reference = run_domain(gap, known, [atoms])
    rng = np.random.default_rng(0)
    turned = atoms.copy()
    rotation = random_rotation(rng)
    turned.set_cell(atoms.cell.array @ rotation.T, scale_atoms=False)
    turned.positions = atoms.positions @ rotation.T + rng.normal(size=3)
    order = rng.permutation(len(atoms))
    doubled = turned[order] * (2, 1, 1)
    moved = run_domain(gap, known, [doubled])
    for name in ("distance", "std", "place"):
        a, b = getattr(reference, name)[order], getattr(moved, name)
        np.testing.assert_allclose(b[: len(atoms)], a, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(b[len(atoms) :], a, rtol=1e-6, atol=1e-9)


# species


def test_a_species_without_training_atoms_is_as_far_as_can_be():
    frames = gapkit.datasets.load_ionic()[::6][:6]
    terms = [Term(SOAP(**SHAPE), DotProduct(ZETA), n_sparse=30)]
    gap = gapkit.GAP(terms=terms, folds=2, e0={"Na": 0.0, "Cl": 0.0}).fit(frames)
    sodium = frames[0][frames[0].numbers == 11]
    r = run_domain(gap, [sodium], frames[:1])
    chlorine = r.new.number == 17
    np.testing.assert_allclose(r.distance[chlorine], np.sqrt(2))
    assert np.all(r.place[chlorine] == -1) and np.all(r.place[~chlorine] >= 0)
    assert "none of this species" in str(r)
    assert r.nearest_to(int(np.flatnonzero(chlorine)[0])) == (-1, -1, "")
    assert domain_map(gap, r.training, r.new, number=17).training.shape == (0, 2)
    with pytest.raises(SpeciesError, match="not trained on"):
        run_domain(gap, frames, [bulk("Si")])


# phases left out


def test_a_phase_left_out_is_not_in_the_training_set():
    everything = [*training(), *strangers()]
    reference = training()[0]
    found = leave_phase_out(untrained(), everything, strangers(), reference)
    direct = model().predict([*strangers(), reference]).energy
    sizes = np.array([len(a) for a in strangers()])
    np.testing.assert_allclose(found.predicted, direct[:-1] / sizes - direct[-1] / len(reference), rtol=1e-6)
    labels = np.array([a.get_potential_energy() for a in strangers()]) / sizes
    np.testing.assert_allclose(found.reference, labels - reference.get_potential_energy() / len(reference))
    np.testing.assert_allclose(found.z, found.error / found.predicted_std)
    np.testing.assert_allclose(found.volume, [a.get_volume() / len(a) for a in strangers()])
    one = model().joint_energies([strangers()[2], reference]).combination([1 / sizes[2], -1 / len(reference)])
    assert found.predicted_std[2] == pytest.approx(one.std, rel=1e-6)
    one = (
        model()
        .joint_energies([strangers()[2], reference], include_noise=False)
        .combination([1 / sizes[2], -1 / len(reference)])
    )
    assert found.function_std[2] == pytest.approx(one.std, rel=1e-6)
    assert found.families == ("fcc",) and set(found.neighbour) == {"diamond"}
    assert np.all(found.distance > found.distance_limit)
    assert found.reference[found.lowest] == found.reference.min()
    assert str(found).startswith("fcc")


def test_several_phases(tmp_path):
    warm = rattled(bulk("Si", "diamond", a=5.43, cubic=True), 3, "warm", 2, stdev=0.2)
    everything = [*training(), *strangers(), *warm]
    settings = PhasesSettings(("warm", "fcc + warm"))
    result = run_phases(untrained(), everything, everything, training()[0], settings)
    results = result.transfers
    assert [r.families for r in results] == [("warm",), ("fcc", "warm")]
    assert [len(r.z) for r in results] == [3, 7]
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    draw_phases(axes, results)
    assert len(axes.get_legend_handles_labels()[1]) == 2
    phases_figure(result, tmp_path / "phases.png")
    assert (tmp_path / "phases.png").stat().st_size > 10_000
    assert len(str(result).splitlines()) == 3
    each = run_phases(untrained(), everything, [*strangers(), *warm, training()[0]], training()[0])
    assert [t.families for t in each.transfers] == [("fcc",), ("warm",)]  # the reference's own family stays
    np.testing.assert_allclose(each.transfers[1].predicted, results[0].predicted)
    with pytest.raises(SettingsError, match="joined by"):
        PhasesSettings(("fcc+",))


# pictures and errors


def test_pictures(tmp_path):
    r = report()
    domain_figure(r, tmp_path / "domain.png")
    assert (tmp_path / "domain.png").stat().st_size > 10_000
    with pytest.raises(GapkitError, match="picture format"):
        domain_figure(r, tmp_path / "domain.frames")


@pytest.mark.parametrize("bad", [{"quantile": 0.0}, {"quantile": 1.0}, {"map_environments": 2}])
def test_settings_are_checked(bad):
    with pytest.raises(SettingsError):
        DomainSettings(**bad)


def test_what_cannot_be_judged_says_so():
    with pytest.raises(DataError, match="no frames"):
        run_domain(model(), list(training()), [])
    with pytest.raises(DataError, match="no frames"):
        run_domain(model(), [], list(training()))
    pairs = gapkit.GAP(terms=[Term(PairDistance(r_cut=4.0), SquaredExponential(0.5), n_sparse=10)], folds=2)
    pairs.fit(list(training()))
    with pytest.raises(SettingsError, match="SOAP"):
        run_domain(pairs, list(training()), list(strangers()))
    with pytest.raises(DataError, match="3 environments"):
        domain_map(model(), *[environments(model(), [Atoms("Si", cell=[9] * 3, pbc=True)])] * 2)
    with pytest.raises(DataError, match="give at least one"):
        leave_phase_out(untrained(), list(training()), [], training()[0])
    with pytest.raises(DataError, match="no training frames"):
        leave_phase_out(untrained(), list(training()), list(training()), strangers()[0])
    with pytest.raises(DataError, match="unseen family 'fcc'"):
        leave_phase_out(untrained(), list(training()), list(strangers()), strangers()[0])
    nameless = strangers()[0].copy()
    del nameless.info["config_type"]
    with pytest.raises(DataError, match="config_type"):
        leave_phase_out(untrained(), list(training()), [nameless], training()[0])


def test_command(tmp_path, capsys):
    model().save(tmp_path / "model.gapkit")
    write(tmp_path / "train.xyz", list(training()))
    write(tmp_path / "new.xyz", list(strangers()))
    paths = [str(tmp_path / name) for name in ("model.gapkit", "new.xyz", "train.xyz", "domain.png")]
    told = ["--json", str(tmp_path / "domain.json"), "--quantile", "0.5", "--quiet"]
    assert main(["domain", *paths[:2], "--training", paths[2], "--plot", paths[3], *told]) == 0
    numbers = json.loads((tmp_path / "domain.json").read_text())
    assert numbers["settings"] == {"quantile": 0.5, "map_environments": 1000}
    np.testing.assert_allclose(numbers["energy"], model().predict(list(strangers())).energy)
    assert len(numbers["atoms"]["distance"]) == sum(map(len, strangers())) and "training" not in numbers
    out = capsys.readouterr().out
    assert out.count("diamond ") == len(strangers()) and "limits: distance" in out
    assert (tmp_path / "domain.png").stat().st_size > 10_000
    assert main(["domain", *paths[:2], "--training", str(tmp_path / "none.xyz")]) == 2
    assert "none.xyz" in capsys.readouterr().err
