"""Hops of a vacancy counted in dynamics: crystals that drift and vibrate, atoms that come back, atoms at the saddle."""

import numpy as np
import pytest
from ase.build import bulk

from gapkit.apps.ion_transport.hop_counting import count_hops
from gapkit.apps.ion_transport.trajectories import IonTrajectory
from gapkit.exceptions import DataError, SettingsError


def fcc(repeat=2, symbol="Al", a=4.0):
    return bulk(symbol, cubic=True, a=a) * ((repeat,) * 3)


def hopping(moves, frames=400, drift=0.002, seed=0):
    """Trajectory of a crystal that drifts and vibrates, where atoms move by instalments of two frames; each move is a
    frame and a choice of the atom: "new" or "back" (the atom that moved last)."""
    rng = np.random.default_rng(seed)
    crystal = fcc()
    x = crystal.positions[1:].copy()
    vacant, last = crystal.positions[0].copy(), 0
    out = []
    for t in range(frames):
        for frame, which in moves:
            if t == frame:
                ways = (vacant - x + 4) % 8 - 4
                near = np.flatnonzero(np.linalg.norm(ways, axis=1) < 2.9)
                last = last if which == "back" else int(rng.choice(near[near != last]))
                step = ways[last]
                vacant, x[last] = x[last].copy(), x[last] + step
        out.append(x + drift * t + rng.normal(scale=0.12, size=x.shape))
    crystal_run = IonTrajectory(np.array([out]), crystal.numbers[1:], crystal.get_masses()[1:], crystal.cell[:], 20.0)
    return crystal_run, crystal


def test_hops_are_counted_in_a_crystal_that_drifts_across_its_cell():
    run, crystal = hopping([(50, "new"), (120, "new"), (300, "new")], drift=0.05)
    counts = count_hops(run, crystal)
    assert counts.hops.tolist() == [3] and counts.recrossings.tolist() == [0]
    assert counts.rate == pytest.approx(3 / (399 * 20e-15)) and counts.rate_std == pytest.approx(counts.rate / 3**0.5)
    assert "3 hops and 0 recrossings" in str(counts)


def test_a_crystal_that_has_drifted_before_the_first_frame_is_put_back():
    run, crystal = hopping([(50, "new"), (120, "new"), (300, "new")])
    moved = run.positions + 1.2 * np.array([0.6, 0.64, 0.48])
    counts = count_hops(IonTrajectory(moved, run.numbers, run.masses, run.cell, 20.0), crystal)
    assert counts.hops.tolist() == [3]


def test_an_atom_that_comes_back_within_the_dwell_time_has_not_hopped():
    run, crystal = hopping([(50, "new"), (60, "back"), (200, "new"), (240, "back")])
    assert count_hops(run, crystal, dwell=300).hops.tolist() == [2]
    assert count_hops(run, crystal, dwell=300).recrossings.tolist() == [1]
    assert count_hops(run, crystal, dwell=100).hops.tolist() == [4]
    assert count_hops(run, crystal, dwell=2000).hops.tolist() == [0]


def test_an_atom_at_the_saddle_has_not_arrived():
    run, crystal = hopping([])
    x = run.positions.copy()
    x[0, 100:200, 0] = 0.5 * (crystal.positions[0] + crystal.positions[1])
    counts = count_hops(IonTrajectory(x, run.numbers, run.masses, run.cell, 20.0), crystal)
    assert counts.hops.tolist() == [0]
    assert counts.rate == 0 and counts.rate_std > 0


def test_counting_refuses_other_crystals_and_settings():
    run, crystal = hopping([], frames=3)
    with pytest.raises(DataError, match="31 atoms on 256 sites"):
        count_hops(run, fcc(4))
    with pytest.raises(DataError, match="cell"):
        count_hops(run, fcc(a=4.1))
    apart = IonTrajectory(0.3 * run.positions, run.numbers, run.masses, run.cell, 20.0)
    with pytest.raises(DataError, match="from their sites"):
        count_hops(apart, crystal)
    with pytest.raises(SettingsError, match="dwell"):
        count_hops(run, crystal, dwell=-1)


def test_no_two_atoms_of_a_hot_first_frame_share_a_site():
    run, crystal = hopping([(200, "new")])
    x = run.positions.copy()
    x[0, 0, 0] = 0.3 * crystal.positions[0] + 0.7 * crystal.positions[1]
    x[0, 0, 1] = 0.55 * crystal.positions[1] + 0.45 * crystal.positions[2]  # nearest to the site of another atom
    counts = count_hops(IonTrajectory(x, run.numbers, run.masses, run.cell, 20.0), crystal)
    assert counts.hops.tolist() == [1]
