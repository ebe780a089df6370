"""Diffusion from displacements: covariances, unwrapping, coverage for Brownian ions, bounds where no ion hops."""

from __future__ import annotations

from dataclasses import replace

import ase
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gapkit.apps.ion_transport.diffusion import DiffusionSettings, diffusion
from gapkit.apps.ion_transport.displacements import brownian_covariance, mean_square_displacements, slope_weights
from gapkit.apps.ion_transport.toys import brownian_ions, caged_ions
from gapkit.apps.ion_transport.trajectories import IonTrajectory, unwrapped
from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling import ReplicaSettings, read_records, run_replicas

ALONE = DiffusionSettings(species="Li", reference="none")


def displacement_covariance(frames: int, n: int, m: int, noise: float) -> np.ndarray:
    """Covariance of all displacements over n frames with all over m frames, from that of positions."""
    position = np.minimum.outer(np.arange(frames), np.arange(frames)) + noise * np.eye(frames)
    first = np.eye(frames)[n:] - np.eye(frames)[: frames - n]
    second = np.eye(frames)[m:] - np.eye(frames)[: frames - m]
    return first @ position @ second.T


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_the_covariance_of_displacements_is_twice_the_mean_squared_covariance(noise):
    lags = np.array([1, 3, 4, 9])
    found = brownian_covariance(12, lags, noise)
    expected = [[2 * np.mean(displacement_covariance(12, n, m, noise) ** 2) for m in lags] for n in lags]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_covariance_is_that_of_simulated_walks():
    lags, rng = np.array([1, 2, 5]), np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(20000, 20)), axis=1)
    msd = np.array([((x[:, lag:] - x[:, :-lag]) ** 2).mean(axis=1) for lag in lags])
    np.testing.assert_allclose(np.cov(msd), brownian_covariance(20, lags, 0.0), rtol=0.08)


def test_weights_give_slope_and_intercept_of_a_line():
    lags = np.array([2, 3, 5, 8])
    slope, intercept, variance = slope_weights(40, lags, 0.3)
    assert slope @ (3.0 * lags + 2.0) == pytest.approx(3.0)
    assert intercept @ (3.0 * lags + 2.0) == pytest.approx(2.0)
    assert variance == pytest.approx(slope @ brownian_covariance(40, lags, 0.3) @ slope)
    plain = np.polynomial.polynomial.polyfit(lags, np.eye(4), 1)[1]
    assert variance < plain @ brownian_covariance(40, lags, 0.3) @ plain


def test_displacements_equal_a_double_loop():
    x = np.random.default_rng(0).normal(size=(7, 2, 3))
    expected = np.mean([np.sum((x[t + 3, i] - x[t, i]) ** 2) for t in range(4) for i in range(2)])
    assert mean_square_displacements(x, np.array([3]))[0] == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.floats(-4, 4)] * 3))
def test_unwrapping_finds_the_path_again_in_a_skewed_cell(seed, shear):
    rng = np.random.default_rng(seed)
    cell = np.array([[9.0, 0, 0], [shear[0], 8.0, 0], [shear[1], shear[2], 10.0]])
    path = np.cumsum(rng.uniform(-0.6, 0.6, size=(40, 3, 3)), axis=0)
    folded = path @ np.linalg.inv(cell)
    wrapped = (folded - np.floor(folded)) @ cell
    np.testing.assert_allclose(unwrapped(wrapped, cell) - wrapped[0], path - path[0], atol=1e-9)


def test_an_atom_that_moves_half_a_cell_is_refused():
    x = np.zeros((3, 2, 3))
    x[2, 1, 0] = 4.4
    with pytest.raises(DataError, match="frame 2, atom 1: it moved 4.40 A"):
        unwrapped(x, 10 * np.eye(3))
    assert unwrapped(x, 10 * np.eye(3), (False, False, True))[2, 1, 0] == 4.4


def test_frames_are_unwrapped_and_checked():
    walk = brownian_ions(1e-3, n_ions=3, frames=50, random_state=0)
    frames = [ase.Atoms("Li3", x, cell=[9, 9, 9], pbc=True) for x in walk.positions[0]]
    for frame in frames:
        frame.wrap()
    found = IonTrajectory.from_frames(frames, 100.0)
    np.testing.assert_allclose(np.diff(found.positions, axis=1), np.diff(walk.positions, axis=1), atol=1e-9)
    other = [f.copy() for f in frames]
    other[7].set_cell([9, 9, 10])
    with pytest.raises(DataError, match="frame 7: its cell"):
        IonTrajectory.from_frames(other, 100.0)
    with pytest.raises(DataError, match="frame 4: its atoms"):
        IonTrajectory.from_frames([*frames[:4], frames[4][:2]], 100.0)
    with pytest.raises(DataError, match="run 1 has 49"):
        IonTrajectory.from_frames([frames, frames[1:]], 100.0)
    with pytest.raises(DataError, match="no frames"):
        IonTrajectory.from_frames([], 100.0)


def test_records_of_replicas_are_a_trajectory(tmp_path):
    atoms = ase.Atoms("LiCl", [[0, 0, 0], [3, 0, 0]], cell=[[9, 0, 0], [1, 8, 0], [0, 0, 7]], pbc=True)
    settings = ReplicaSettings(n_replicas=2, steps=20, record_every=5, timestep=2.0)
    path = tmp_path / "run.records"
    run = run_replicas(atoms, lambda x: (np.zeros(len(x)), -0.1 * x), settings, trajectory=path, random_state=0)
    found = IonTrajectory.from_records(read_records(path))
    assert found.positions.shape == (2, 5, 2, 3)
    assert found.frame_time == 10.0 and found.time == 40.0
    np.testing.assert_array_equal(found.positions[:, -1], run.state.positions)
    np.testing.assert_array_equal(found.cell, atoms.cell[:])
    assert found.volume == pytest.approx(504.0)
    np.testing.assert_allclose(found.masses, atoms.get_masses())


def test_references_remove_the_drift_of_all_atoms():
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(scale=0.1, size=(1, 60, 5, 3)), axis=1)
    drift = np.linspace(0, 30, 60)[None, :, None, None] * np.array([1.0, -2.0, 0.5])
    numbers, masses = np.array([3, 3, 17, 17, 17]), np.array([7.0, 7.0, 35.0, 35.0, 35.0])
    still = IonTrajectory(x, numbers, masses, 20 * np.eye(3), 10.0)
    moving = IonTrajectory(x + drift, numbers, masses, 20 * np.eye(3), 10.0)
    for reference in ("auto", "framework", "centre_of_mass"):
        np.testing.assert_allclose(moving.ions("Li", reference), still.ions("Li", reference), atol=1e-9)
    assert np.abs(moving.ions("Li", "none") - still.ions("Li", "none")).max() > 10
    np.testing.assert_allclose(still.ions("Li", "framework"), x[:, :, :2] - x[:, :, 2:].mean(axis=2)[:, :, None])
    with pytest.raises(DataError, match="species 'Na'"):
        still.ions("Na")
    with pytest.raises(DataError, match="no framework"):
        brownian_ions(1e-3, random_state=0).ions("Li", "framework")


def test_the_charge_current_of_a_neutral_cell_is_that_in_the_frame_of_the_framework():
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(size=(1, 30, 4, 3)), axis=1)
    cell = IonTrajectory(x, np.array([47, 47, 53, 53]), np.array([107.9] * 2 + [126.9] * 2), 20 * np.eye(3), 1.0)
    current = x[:, :, :2].sum(axis=2) - x[:, :, 2:].sum(axis=2)
    np.testing.assert_allclose(cell.ions("Ag").sum(axis=2), current, atol=1e-9)


def covered(trials: int, **toy) -> tuple[float, float, float, np.ndarray]:
    """Shares of 90 % intervals that hold D: tracer, collective, and least squares of the mean; z of the tracer."""
    true, held, together, naive, z = 5e-4, 0, 0, 0, []
    for k in range(trials):
        walk = brownian_ions(true, random_state=k, **toy)
        found = diffusion(walk, ALONE)
        low, high = found.tracer.interval(0.9)
        held += low <= true <= high
        low, high = found.collective.interval(0.9)
        together += low <= true <= high
        z.append((found.tracer.value - true) / found.tracer.value_std)
        lags = np.arange(4, 23)
        fit = stats.linregress(lags * walk.frame_time, mean_square_displacements(walk.positions[0], lags))
        naive += abs(fit.slope / 6 - true) < stats.t.ppf(0.95, len(lags) - 2) * fit.stderr / 6
    return held / trials, together / trials, naive / trials, np.array(z)


def test_intervals_of_90_percent_hold_the_diffusion_constant_in_86_to_94_percent_of_300_runs():
    held, together, naive, z = covered(300)
    assert 0.86 <= held <= 0.94
    assert 0.84 <= together <= 0.95  # 0.9 +- 3.2 binomial standard deviations
    assert naive < 0.2  # least squares takes correlated displacements as independent
    assert abs(z.mean()) < 4 * z.std() / np.sqrt(len(z))


def test_vibrations_do_not_bias_the_diffusion_constant():
    held, _, _, z = covered(150, vibration=0.3)
    assert 0.82 <= held <= 0.97
    assert abs(z.mean()) < 4 * z.std() / np.sqrt(len(z))
    found = diffusion(brownian_ions(5e-4, n_ions=40, frames=800, vibration=0.3, random_state=0), ALONE).tracer
    assert found.intercept == pytest.approx(6 * 0.3**2, rel=0.1)
    assert found.diffusive


def test_independent_ions_have_the_standard_deviation_of_brownian_ones_and_a_haven_ratio_of_one():
    found = diffusion(brownian_ions(5e-4, n_ions=40, frames=4000, random_state=0), ALONE)
    assert 0.5 < found.tracer.value_std / found.tracer.brownian_std < 2.0
    low, high = found.haven_interval
    assert low < found.haven < high
    assert abs(found.haven - 1) < 4 * found.haven_std
    assert found.n_ions == 40 and found.time == pytest.approx(399_900)


def test_ions_that_move_together_have_the_haven_ratio_of_their_number():
    one = brownian_ions(5e-4, n_ions=1, frames=2000, random_state=0).positions
    pair = IonTrajectory(np.repeat(one, 2, axis=2), np.array([3, 3]), np.ones(2), 20 * np.eye(3), 100.0)
    found = diffusion(pair, ALONE)
    assert found.haven == pytest.approx(0.5)
    assert found.haven_std == pytest.approx(0.0, abs=1e-9)


def test_caged_ions_give_a_bound_and_no_logarithm():
    found = diffusion(caged_ions(n_ions=10, frames=400, amplitude=0.2, random_state=0), ALONE)
    assert found.hops == 0
    for one in (found.tracer, found.collective):
        assert not one.resolved
        assert one.value == 0.0
        # no event in a time t: 95 % of the posterior exp(-rate t) are below 3 / t
        assert one.upper == pytest.approx(-np.log(0.05) * 2.0**2 / 6 / (10 * found.time))
        assert one.interval(0.95) == (0.0, pytest.approx(one.upper))
    assert found.haven is None
    assert "below" in str(found.tracer)


def test_few_hops_that_are_not_resolved_have_a_bound_above_the_estimate():
    still = caged_ions(n_ions=10, frames=400, amplitude=0.2, random_state=0)
    x = still.positions.copy()
    x[:, 233:, 4, 0] += 2.5  # one ion hops once
    found = diffusion(IonTrajectory(x, still.numbers, still.masses, still.cell, still.frame_time), ALONE)
    assert 1 <= found.hops <= 2  # a mean over the hop lies between its ends
    assert not found.tracer.resolved
    assert found.tracer.upper > max(found.tracer.value, 0)


def test_ballistic_and_confined_motion_are_not_diffusive():
    time = np.arange(400.0)[None, :, None, None]
    velocity = np.random.default_rng(0).normal(size=(1, 1, 20, 3))
    ballistic = IonTrajectory(time * velocity, np.full(20, 3), np.ones(20), 20 * np.eye(3), 1.0)
    found = diffusion(ballistic, ALONE).tracer
    assert found.exponent > 1.1 and not found.diffusive
    assert "not diffusive" in str(found)


def test_fast_correlated_motion_moves_the_start_of_the_window():
    rng = np.random.default_rng(0)
    x = np.zeros((1, 20000, 20, 3))
    velocity = np.zeros((20, 3))
    for t in range(1, 20000):  # velocities are forgotten in 20 frames
        velocity = 0.95 * velocity + rng.normal(scale=0.05, size=velocity.shape)
        x[0, t] = x[0, t - 1] + velocity
    walk = IonTrajectory(x, np.full(20, 3), np.ones(20), 20 * np.eye(3), 1.0)
    found = diffusion(walk, ALONE).tracer
    exact = 0.05**2 / (1 - 0.95) ** 2 / 2
    assert found.lags[0] > 5
    assert found.diffusive
    assert abs(found.value - exact) < 4 * found.value_std
    early = diffusion(walk, DiffusionSettings(species="Li", reference="none", first_time=1.0)).tracer
    assert early.exponent > found.exponent


def test_settings_and_runs_that_cannot_work_are_refused():
    for wrong in (
        {"reference": "wall"}, {"blocks": 2}, {"longest_lag": 0.9}, {"first_time": -1.0}, {"hop_length": 0.0},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            DiffusionSettings(**wrong)
    with pytest.raises(DataError, match="blocks of 8 frames"):
        diffusion(brownian_ions(1e-3, frames=40, random_state=0), ALONE)
    with pytest.raises(DataError, match="first_time"):
        diffusion(
            brownian_ions(1e-3, random_state=0), DiffusionSettings(species="Li", reference="none", first_time=1e6)
        )
    with pytest.raises(SettingsError, match="rising lags"):
        slope_weights(10, np.array([3, 2]))
    with pytest.raises(DataError, match="not finite"):
        IonTrajectory(np.full((1, 2, 1, 3), np.nan), np.array([3]), np.ones(1), np.eye(3), 1.0)
    with pytest.raises(SettingsError, match="longer run"):
        brownian_ions(1e-3, random_state=0).after(1e9)


def test_diffusion_constants_agree_with_kinisi():
    """Frozen numbers of kinisi 2.1.0 (``DiffusionAnalyzer``, lags from 100 fs on) for six runs of 5e-5 cm^2/s."""
    kinisi = np.array([4.9768, 4.9491, 4.9457, 4.9122, 5.1106, 5.0548]) * 1e-5
    stated = np.array([1.196, 1.151, 1.181, 1.176, 1.206, 1.236]) * 1e-6
    runs = [brownian_ions(5e-4, n_ions=20, frames=300, random_state=k, vibration=0.1) for k in range(6)]
    found = [diffusion(run, replace(ALONE, first_time=100.0)).tracer for run in runs]
    np.testing.assert_allclose([f.cm2_per_s for f in found], kinisi, atol=0.5e-6)
    np.testing.assert_allclose([0.1 * f.brownian_std for f in found], stated, rtol=0.25)
    mean = np.sqrt(np.mean([0.01 * f.value_std**2 for f in found]))
    assert mean == pytest.approx(np.sqrt(np.mean(stated**2)), rel=0.3)
