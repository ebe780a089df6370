"""Records of replicas on disk, and averages in constant memory."""

import numpy as np
import pytest
from ase import Atoms, units
from hypothesis import given
from hypothesis import strategies as st

from gapkit.exceptions import DataError, SettingsError
from gapkit.sampling.recording import RunningAverages, read_records
from gapkit.sampling.replicas import ReplicaSettings, run_replicas


def wells(x):
    return (x**4).sum(axis=(1, 2)), -4 * x**3


def pair() -> Atoms:
    return Atoms(
        "CH", positions=[[0, 0, 0.1], [1, 0, 0]], cell=[[9, 0, 0], [1, 8, 0], [0, 0, 7]], pbc=[True, True, False]
    )


def record(path, velocities=True, **changes):
    """States that an observer saw, and the run that wrote the file."""
    states = []
    settings = ReplicaSettings(
        **{"steps": 20, "n_replicas": 3, "record_every": 4, "timestep": 0.5, "record_velocities": velocities, **changes}
    )
    fixed = np.array([[False, True, False], [False, False, False]])
    run = run_replicas(
        pair(), wells, settings, random_state=0, trajectory=path, observers=[(4, states.append)], fixed=fixed
    )
    return states, run


def test_records_are_the_states_to_the_last_bit(tmp_path):
    states, run = record(tmp_path / "run.records")
    read = read_records(run.trajectory)
    assert len(read) == run.records == 6
    np.testing.assert_array_equal(read.time, [0, 2, 4, 6, 8, 10])
    for k, state in enumerate(states):
        assert np.array_equal(read.positions[k], state.positions)
        assert np.array_equal(read.velocities[k], state.velocities)
        assert np.array_equal(read.potential_energy[k], state.energies)
    np.testing.assert_allclose(read.temperature.mean(axis=0), run.temperature)
    np.testing.assert_allclose(read.kinetic_energy, read.temperature * 5 * units.kB / 2)
    assert read.header["seed"] == 0


def test_records_become_frames(tmp_path):
    states, run = record(tmp_path / "run.records")
    read = read_records(run.trajectory)
    for k in (2, -1):
        for r, frame in enumerate(read.frames(k)):
            assert frame.get_chemical_symbols() == ["C", "H"]
            assert np.array_equal(frame.cell.array, pair().cell.array) and frame.pbc.tolist() == [True, True, False]
            assert np.array_equal(frame.positions, states[k].positions[r])
            np.testing.assert_allclose(frame.get_velocities(), states[k].velocities[r], rtol=1e-14)
    for k in (6, -7):
        with pytest.raises(SettingsError, match=f"record {k} is not there; the file holds 6"):
            read.frames(k)


def test_velocities_are_recorded_on_request_only(tmp_path):
    _, run = record(tmp_path / "with.records")
    _, bare = record(tmp_path / "without.records", velocities=False)
    with pytest.raises(SettingsError, match="velocities were not recorded; set record_velocities"):
        _ = read_records(bare.trajectory).velocities
    assert not read_records(bare.trajectory).frames(3)[0].get_momenta().any()
    a, b = (read_records(r.trajectory) for r in (run, bare))
    assert np.array_equal(a.positions, b.positions)
    assert run.trajectory.stat().st_size - bare.trajectory.stat().st_size == 6 * 3 * 2 * 3 * 8


def test_the_file_can_be_read_while_it_grows(tmp_path):
    path, counts = tmp_path / "run.records", []

    def look(state):
        read = read_records(path)
        counts.append((state.step, len(read)))
        if len(read):
            assert np.array_equal(read.positions[state.step // 5], np.array(read.positions[-1]))
            if state.step % 5 == 0:
                assert np.array_equal(read.positions[-1], state.positions)

    run_replicas(pair(), wells, ReplicaSettings(steps=12, record_every=5), trajectory=path, observers=[(1, look)])
    assert counts == [(k, k // 5 + 1) for k in range(13)]


@pytest.mark.parametrize("cut", [1, 100, 500])
def test_a_record_that_is_not_complete_is_left_out(tmp_path, cut):
    path = tmp_path / "run.records"
    record(path)
    whole = read_records(path).positions.copy()
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    size = 8 + 2 * 3 * 8 + 2 * 3 * 2 * 3 * 8
    kept = 6 - -(-cut // size)
    assert len(read_records(path)) == kept < 6
    assert np.array_equal(read_records(path).positions, whole[:kept])


def test_a_file_without_records_is_empty(tmp_path):
    path = tmp_path / "run.records"
    record(path)
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    read = read_records(path)
    assert len(read) == 0 and read.positions.shape == (0, 3, 2, 3) and read.time.shape == (0,)


@pytest.mark.parametrize(
    "text",
    [b"", b"text\n", b'{"format": "gapkit replicas 2", "replicas": 1}\n', b'{"format": "gapkit replicas 1", "replicas"',
     b'{"format": "gapkit replicas 1", "replicas": 1}\n', b'{"format": "gapkit replicas 1", what\n'],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(tmp_path, text):
    (tmp_path / "run.records").write_bytes(text)
    with pytest.raises(DataError, match=r"run.records: no file of replica records \("):
        read_records(tmp_path / "run.records")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="none.records: cannot be read"):
        read_records(tmp_path / "none.records")
    with pytest.raises(DataError, match="cannot be written .* does not exist; make it first"):
        record(tmp_path / "no_folder" / "run.records")
    with pytest.raises(DataError, match="is there already"):
        record(tmp_path)


series = st.lists(st.tuples(st.floats(-3, 3), st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=30)


@given(series, st.floats(-1e6, 1e6))
def test_running_averages_are_those_of_the_whole_series(rows, offset):
    """Also for values whose mean is large beside their spread."""
    time = np.arange(len(rows)) + np.array([r[0] for r in rows]) * 0.1
    values = np.array([r[1:] for r in rows]) + offset
    averages = RunningAverages.empty(1, 2)
    for t, value in zip(time, values, strict=True):
        averages.add(t, value[None])
    tolerance = 1e-9 * max(abs(offset), 1)
    np.testing.assert_allclose(averages.mean[0], values.mean(axis=0), atol=tolerance)
    np.testing.assert_allclose(averages.std[0], values.std(axis=0), atol=tolerance)
    slope = ((time - time.mean())[:, None] * (values - values.mean(axis=0))).sum(axis=0) / (
        (time - time.mean()) ** 2
    ).sum()
    np.testing.assert_allclose(averages.slope[0], slope, atol=tolerance)
    back = RunningAverages.from_arrays(averages.as_arrays())
    assert back.count == averages.count and np.array_equal(back.std, averages.std) and back.slope.shape == (1, 2)


def test_averages_of_one_value_have_no_spread_and_no_slope():
    averages = RunningAverages.empty(2, 1)
    assert not averages.std.any() and not averages.slope.any()
    averages.add(3.0, np.array([[5.0], [-1.0]]))
    assert averages.mean.tolist() == [[5.0], [-1.0]]
    assert not averages.std.any() and not averages.slope.any()
