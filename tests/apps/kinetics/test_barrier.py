"""Barriers found by search on a fitted potential, with the oracle that labelled its frames beside them."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import gapkit
from gapkit.apps.kinetics import BarrierSettings, MicrokineticsSettings, run_barrier, run_microkinetics
from gapkit.apps.kinetics.pictures import barrier_figure, microkinetics_figure
from gapkit.apps.kinetics.prefactor_errors import CURVATURE, log_prefactor_std
from gapkit.apps.kinetics.stationary_points import point_motion
from gapkit.apps.kinetics.toys import two_step_mechanism
from gapkit.cli.main import main
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.paths import PathSettings, find_path
from gapkit.structures.files import write_frames
from gapkit.vibrations import given_hessian, hessian, normal_modes


def vacancy_ends():
    perfect = bulk("Al", cubic=True, a=3.994) * (2, 2, 2)
    neighbour = int(np.argsort(perfect.get_distances(0, range(len(perfect)), mic=True))[1])
    initial, final = perfect.copy(), perfect.copy()
    final.positions[neighbour] += final.get_distance(neighbour, 0, mic=True, vector=True)
    del initial[0], final[0]
    return initial, final


def labelled(atoms):
    atoms.calc = EMT()
    atoms.get_potential_energy()
    return atoms


@pytest.fixture(scope="module")
def ends():
    return vacancy_ends()


@pytest.fixture(scope="module")
def gap(ends):
    """A potential of frames about the vacancy and the straight line of its hop, none of them from a search."""
    rng = np.random.default_rng(0)
    initial, final = ends
    frames = []
    for k in range(20):
        frame = initial.copy()
        share = 0.0 if k < 8 else rng.uniform(0.1, 0.9)
        frame.positions += share * (final.positions - initial.positions)
        frame.positions += rng.normal(scale=0.08, size=frame.positions.shape)
        frames.append(labelled(frame))
    return gapkit.GAP(random_state=0).fit(frames)


@pytest.fixture(scope="module")
def found(gap, ends):
    settings = BarrierSettings(images=3, statistics="classical", temperatures=(400.0, 800.0))
    return run_barrier(gap, *ends, settings)


def test_a_searched_barrier_is_the_oracles_within_its_error(found, ends):
    truth = find_path(*ends, EMT(), PathSettings(images=3))
    assert truth.barrier_forward == pytest.approx(0.400, abs=0.005)
    assert abs(found.forward - truth.barrier_forward) < 3 * found.forward_std
    assert found.forward_std < 0.03
    assert found.forward == pytest.approx(found.backward, abs=0.002)  # both ends are equal by symmetry
    assert found.reaction_energy_std < 0.1 * found.forward_std
    assert found.in_domain


def test_the_error_of_the_barrier_is_the_sum_of_its_stated_parts(found):
    assert found.forward_std**2 == pytest.approx(found.label_error[0] ** 2 + found.motion_error[0] ** 2)
    assert np.all(found.function_error > 0)
    assert found.rates.barrier_std == found.forward_std
    assert "label" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["forward"] == found.forward


def test_the_command_writes_numbers_and_picture(gap, ends, tmp_path, capsys):
    model, first, last = tmp_path / "al.gapkit", tmp_path / "i.xyz", tmp_path / "f.xyz"
    gap.save(model)
    write_frames(first, [ends[0]])
    write_frames(last, [ends[1]])
    out, picture = tmp_path / "b.json", tmp_path / "b.png"
    arguments = ["--images", "3", "--statistics", "classical", "--quiet", "--json", str(out), "--plot", str(picture)]
    assert main(["barrier", str(model), str(first), str(last), *arguments]) == 0
    assert json.loads(out.read_text())["forward_std"] > 0
    assert picture.stat().st_size > 5000
    assert "forward" in capsys.readouterr().out


def test_equal_ends_are_refused(gap, ends):
    with pytest.raises(DataError, match="same minimum"):
        run_barrier(gap, ends[0], ends[0].copy())
    with pytest.raises(SettingsError, match="tunnelling"):
        BarrierSettings(tunnelling="much")


def test_motion_of_a_stationary_point_is_that_of_drawn_forces():
    """A quadratic surface with force errors: the energy at its own minimum, by draws."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(6, 6))
    H = root @ root.T + 2 * np.eye(6)
    std = rng.uniform(0.02, 0.1, size=(2, 3))
    atoms = bulk("Al", cubic=True)[:2]
    found = point_motion(given_hessian(atoms, H), std)
    f = rng.normal(size=(200_000, 6)) * std.ravel()
    energy = -0.5 * np.einsum("ni,ij,nj->n", f, np.linalg.inv(H), f)
    assert abs(energy.mean() - found.shift) < 4 * energy.std() / np.sqrt(len(f))
    assert found.shift_std == pytest.approx(energy.std(), rel=0.03)


def test_a_picture_of_rate_control_is_drawn(tmp_path):
    settings = MicrokineticsSettings(energy_std=0.05)
    result = run_microkinetics(two_step_mechanism(), {"A": 1.0, "B": 0.0}, None, settings)
    microkinetics_figure(result, tmp_path / "m.png")
    assert (tmp_path / "m.png").stat().st_size > 5000


def test_the_command_rates_reads_a_mechanism(tmp_path, capsys):
    path = tmp_path / "m.toml"
    path.write_text(
        '[species]\nA = {kind="fixed"}\nW = {kind="well"}\nB = {kind="fixed"}\n[reactions]\n'
        'r = {equation="A <-> W", energy=0.3}\ns = {equation="W <-> B", energy=0.5}\n'
    )
    arguments = ["--activity", "B=0", "--energy-std", "0.05", "--n-samples", "50", "--quiet"]
    assert main(["rates", str(path), *arguments, "--json", str(tmp_path / "r.json")]) == 0
    made = json.loads((tmp_path / "r.json").read_text())
    assert sum(made["rate_control"].values()) == pytest.approx(1.0)
    assert "turnover frequency" in capsys.readouterr().out
    assert main(["rates", str(path), "--activity", "B"]) == 2
    assert "NAME=VALUE" in capsys.readouterr().err


def test_a_barrier_is_drawn(found, tmp_path):
    barrier_figure(found, tmp_path / "b.png")
    assert (tmp_path / "b.png").stat().st_size > 5000


def test_the_error_of_a_prefactor_is_that_of_posterior_samples(gap, found):
    """Vineyard's prefactor of three atoms, once for each of 60 samples of the function, at the same points."""
    points = [found.path.images[0], found.path.saddle.atoms]
    moving = [int(np.argmax(np.linalg.norm(points[1].positions - points[0].positions, axis=1))), 5, 17]

    def modes(calculator):
        return [normal_modes(hessian(atoms, calculator, indices=moving), force_limit=None) for atoms in points]

    def log_prefactor(calculator):
        first, second = (np.log(m.angular_frequencies[~m.imaginary]).sum() for m in modes(calculator))
        return first - second

    stated = log_prefactor_std(gap, *modes(gap.calculator()))
    samples = gap.samples(60, random_state=0)
    drawn = np.std([log_prefactor(s.calculator()) for s in samples], ddof=1)
    potential = gap.potential_
    scale = potential.calibration.of("energy").weight_scale
    rows = [potential.basis.rows(potential.structure(a), derivatives=False, prior=False).K[0] for a in points]
    weights = potential.posterior.weight_variance(potential.basis.whiten(np.array(rows)))
    factor = np.max(gap.joint_energies(points).std ** 2 / (scale * weights))
    assert stated == pytest.approx(CURVATURE * np.sqrt(factor) * drawn, rel=0.35)  # four standard errors of 60 draws
    with pytest.raises(DataError, match="one imaginary mode"):
        log_prefactor_std(gap, *reversed(modes(gap.calculator())))
