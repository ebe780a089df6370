"""Growth: toys with exact answers, detailed balance move by move, bookkeeping, resumption, uncertainty."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100
from ase.units import kB
from PIL import Image
from scipy.stats import chi2, chisquare, kstest
from sklearn.base import clone

from gapkit.apps.growth import lattice, toys
from gapkit.apps.growth.barrier_model import SurfaceBarrierModel
from gapkit.apps.growth.ensemble import GrowthEnsemble, grow_ensemble
from gapkit.apps.growth.hops import Hop, contacts, environment_class, hops_from_frames
from gapkit.apps.growth.islands import island_sizes
from gapkit.apps.growth.lattice_barriers import (
    COUNTS,
    DISTINCT,
    MIRROR,
    REVERSE,
    LatticeBarriers,
    LatticeGeometry,
    barriers_from_model,
    bond_counting,
)
from gapkit.apps.growth.pictures import animate_growth, ensemble_figure, growth_figure, surface_growth_figure
from gapkit.apps.growth.run import SurfaceGrowthSettings, run_surface_growth
from gapkit.apps.growth.simulation import (
    GrowthSettings,
    Surface,
    initial_heights,
    look,
    run_growth,
)
from gapkit.cli.main import main
from gapkit.datasets import load_surface_barriers
from gapkit.exceptions import DataError, SettingsError

DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))
T = 500.0


def hot_barriers(seed: int = 0, leaving: float = np.inf) -> LatticeBarriers:
    """Random symmetric parts, the same both ways and for mirror images: nothing but detailed balance holds."""
    rng = np.random.default_rng(seed)
    symmetric = 0.5 + rng.uniform(-0.1, 0.1, size=len(COUNTS))
    same = symmetric[: lattice.N_SAME]
    same = same + same[REVERSE]
    symmetric[: lattice.N_SAME] = 0.25 * (same + same[MIRROR])
    flipped = np.ravel_multi_index(COUNTS[lattice.N_SAME :][:, [2, 3, 0, 1]].T, (5, 5, 5, 5))
    between = symmetric[lattice.N_SAME :]
    symmetric[lattice.N_SAME :] = 0.5 * (between + between[flipped])
    return LatticeBarriers(symmetric, bond=0.07, second_bond=0.03, leaving=leaving)


def test_islands_are_joined_across_the_boundary_and_not_along_diagonals():
    """A ring around the field, two atoms that meet across a corner of it only, a second layer on top."""
    field = np.zeros((7, 5), dtype=int)
    field[3] = 1  # all around along the second axis
    field[0, 0] = field[6, 0] = field[6, 1] = 1  # across the boundary of the first axis
    field[1, 2] = field[2, 1] = 1  # neighbours along a diagonal are not; (2, 1) touches the ring
    field[3, 2] = 2
    assert island_sizes(field).tolist() == [6, 3, 1]
    assert island_sizes(field, level=2).tolist() == [1]
    assert island_sizes(field, level=3).tolist() == [] and island_sizes(field, level=0).tolist() == [35]
    np.testing.assert_array_equal(island_sizes(np.roll(field, (3, 2), axis=(0, 1))), island_sizes(field))
    with pytest.raises(DataError, match="matrix"):
        island_sizes(np.zeros((2, 3, 3)))


def test_places_beside_others_on_the_lattice_count_as_clusters():
    hops = hops_from_frames(load_surface_barriers("Cu"))
    geometry = LatticeGeometry.from_hop(next(h for h in hops if h.surface == "flat100"))
    assert environment_class(geometry.hop(0)) == "terrace" and environment_class(geometry.hop(5)) == "cluster"


def settings(**changes) -> GrowthSettings:
    return GrowthSettings(**{"size": 8, "temperature": T, "flux": 0.0, "duration": 1.0, "prefactor": 1e9, **changes})


def at(heights, n_steps, x, y):
    """Height of any column of the endless surface."""
    L = len(heights)
    return int(heights[x % L, y % L]) - n_steps * (x // L)


def bonds(heights, n_steps):
    """Lateral nearest and second-neighbour bonds of a whole period: every atom below the lower of two columns' tops."""
    L = len(heights)
    near = far = 0
    for x, y in itertools.product(range(L), repeat=2):
        h = at(heights, n_steps, x, y)
        near += sum(min(h, at(heights, n_steps, x + a, y + b)) for a, b in ((1, 0), (0, 1)))
        far += sum(min(h, at(heights, n_steps, x + a, y + b)) for a, b in ((1, 1), (1, -1)))
    return near, far


def code_by_hand(heights, n_steps, x, y, d):
    """Plain twin of the floor's codes."""

    def counts(x, y, level, lowered=None):
        n = [0, 0]
        for a, b in itertools.product((-1, 0, 1), repeat=2):
            h = at(heights, n_steps, x + a, y + b) - ((x + a, y + b) == lowered)
            n[bool(a and b)] += (a, b) != (0, 0) and h >= level
        return n

    h = at(heights, n_steps, x, y)
    if d == lattice.LEAVE:
        n1, n2 = counts(x, y, h)
        return 1024 + 625 + 5 * n1 + n2
    ex, ey = DIRECTIONS[d]
    hj = at(heights, n_steps, x + ex, y + ey)
    if hj + 1 == h:
        places = [(x + a * ex - b * ey, y + a * ey + b * ex) for a, b in lattice.PATCH]
        return sum((at(heights, n_steps, *p) >= h) << k for k, p in enumerate(places))
    n1, n2 = counts(x, y, h)
    m1, m2 = counts(x + ex, y + ey, hj + 1, lowered=(x, y))
    return 1024 + ((n1 * 5 + n2) * 5 + m1) * 5 + m2


def rough_surface(n_steps=0, size=8, seed=1):
    rng = np.random.default_rng(seed)
    return initial_heights(size, n_steps) + rng.integers(0, 3, size=(size, size)).astype(np.int32)


# toys with exact answers


def test_random_deposition_is_poisson():
    coverage = 1.7
    result = run_growth(toys.no_hops(), settings(size=128, flux=1.0, duration=coverage, n_records=3), random_state=0)
    n = 128**2
    expected = n * toys.poisson_layers(coverage, 7)
    seen = np.bincount(result.heights.ravel(), minlength=7)[:7]
    expected, seen = (np.append(v, n - v.sum()) for v in (expected, seen))
    assert chisquare(seen, expected).pvalue > 0.01
    assert abs(result.deposited - n * coverage) < 4 * np.sqrt(n * coverage)
    # the variance of a sample variance of Poisson's law is (coverage + 2 coverage^2) / n
    w2 = result.roughness[-1] ** 2
    assert abs(w2 - toys.random_deposition_roughness(coverage) ** 2) < 4 * np.sqrt((coverage + 2 * coverage**2) / n)
    assert result.growth_rate == pytest.approx(result.deposited / n / coverage)
    assert result.hopped == result.crossed == result.left == 0


def test_waiting_times_are_exponential_over_a_million_events():
    surface = Surface.start(
        settings(size=32, flux=1e4, temperature=600.0), bond_counting(0.4, 0.1, 0.02, 0.05, 0.7), random_state=0
    )
    waiting = np.zeros(1_000_000)
    assert surface.advance(1e9, len(waiting), waiting) == len(waiting)
    assert surface.tallies[: lattice.SHIFT_X].min() > 500  # all kinds of events take part
    bins = np.bincount(np.minimum((-np.expm1(-waiting) * 50).astype(int), 49), minlength=50)
    assert chisquare(bins).pvalue > 0.01


def test_clock_of_a_constant_rate():
    """One adatom on a bare field: the number of events in a time is Poisson, whatever the time is cut into."""
    hop = bond_counting(0.5, 0.0, step_edge=np.inf)
    rate = 4 * toys.diffusion_constant(0.5, T, 1e9)
    start = np.zeros((8, 8), dtype=int)
    start[3, 4] = 1
    surface = Surface.start(settings(), hop, start, random_state=0)
    assert surface.total_rate == pytest.approx(rate, rel=1e-12)
    for k in range(1, 2001):
        surface.advance(0.5 * k / rate)
    assert surface.time == pytest.approx(1000 / rate)
    assert abs(surface.events - 1000) < 4 * np.sqrt(1000)
    before = surface.time
    surface.advance(np.inf, 1)
    gaps = [surface.time - before]
    for _ in range(3000):
        before = surface.time
        surface.advance(np.inf, 1)
        gaps.append(surface.time - before)
    assert kstest(np.array(gaps) * rate, "expon").pvalue > 0.01


def test_random_walk_diffusion_constant():
    start = np.zeros((8, 8), dtype=int)
    start[0, 7] = 1
    D = toys.diffusion_constant(0.5, T, 1e9)
    time, n = 25.0 / D, 400
    walks = []
    for seed in range(n):
        surface = Surface.start(settings(), bond_counting(0.5, 0.1), start, seed)
        surface.advance(time)
        walks.append(surface.result().shift)
    x2 = np.array(walks, dtype=float).ravel() ** 2  # x and y of a continuous-time walk are independent
    mean, kurtosis = 2 * D * time, 2 * D * time * (1 + 2 * 2 * D * time)
    assert abs(x2.mean() - mean) < 4 * np.sqrt(kurtosis / (2 * n))


def test_two_states_of_a_column():
    """Arrival and departure without hops: heights follow the geometric law of a birth and death chain."""
    leaving = 0.6
    rate = toys.diffusion_constant(leaving, T, 1e9)
    s = settings(size=96, flux=0.4 * rate, duration=60 / rate, n_records=1)
    result = run_growth(toys.no_hops(leaving), s, random_state=0)
    bare = toys.bare_share(s.flux, rate)
    assert bare == pytest.approx(0.6)
    n = 96**2
    assert abs(np.sum(result.heights == 0) - n * bare) < 4 * np.sqrt(n * bare * (1 - bare))
    seen = np.bincount(np.minimum(result.heights.ravel(), 6), minlength=7)
    expected = n * np.append(bare * 0.4 ** np.arange(6), 0.4**6)
    assert chisquare(seen, expected).pvalue > 0.01


def pair_history(barriers, n_events, seed=0):
    """State (relative place, or 0 where stacked) and duration of each stay of two adatoms on an 8 x 8 field."""
    start = np.zeros((8, 8), dtype=int)
    start[2, 2] = start[5, 5] = 1
    surface = Surface.start(settings(), barriers, start, seed)
    states, stays = np.empty(n_events, dtype=int), np.empty(n_events)
    for k in range(n_events):
        places = np.argwhere(surface.heights > 0)
        apart = np.sort((places[-1] - places[0] + 4) % 8 - 4)
        states[k] = 0 if len(places) == 1 else 1 + abs(apart[0]) * 9 + abs(apart[1])
        before = surface.time
        surface.advance(np.inf, 1)
        stays[k] = surface.time - before
    return states, stays


def blocks_of(values, weights, n=50):
    """Weighted mean of ``values`` and its standard error by blocks."""
    parts = np.array(
        [[np.sum(v * w), np.sum(w)] for v, w in zip(*(np.array_split(a, n) for a in (values, weights)), strict=True)]
    )
    mean = parts[:, 0].sum() / parts[:, 1].sum()
    return mean, np.std(parts[:, 0] - mean * parts[:, 1], ddof=1) * np.sqrt(n) / parts[:, 1].sum()


@pytest.mark.parametrize("barriers", [bond_counting(0.5, 0.07, 0.03, 0.02), hot_barriers()], ids=["bonds", "random"])
def test_two_adatoms_obey_boltzmann(barriers):
    states, stays = pair_history(barriers, 60_000)
    bound = np.isin(states, [1 + 0 * 9 + 1, 1 + 1 * 9 + 0])
    mean, error = blocks_of(bound, stays)
    assert abs(mean - toys.bound_share(8, 0.07, 0.03, T)) < 4 * error
    assert error < 0.02 * mean * 4
    stacked, error = blocks_of(states == 0, stays)
    weight = mean / (2 * np.exp(0.07 / (kB * T)))
    assert abs(stacked - weight) < 4 * np.hypot(error, 0.02 * weight)


def test_slowed_moves_keep_detailed_balance():
    """Moves next to a bond that hardly have a barrier: far fewer events, the same equilibrium."""
    fast = hot_barriers(5)
    fast = LatticeBarriers(fast.symmetric - 0.35 * (COUNTS.sum(axis=1) > 0), fast.bond, fast.second_bond)
    slow = fast.slowed(T, 10.0)
    assert np.array_equal(slow.change, fast.change) and slow.barriers[0] == fast.barriers[0]
    lowest = fast.barriers[0] - kB * T * np.log(10.0)
    assert fast.barriers.min() < 0.5 * lowest
    assert slow.barriers.min() == pytest.approx(lowest)
    high = fast.barriers > lowest + 0.1
    np.testing.assert_allclose(slow.barriers[high], fast.barriers[high])
    states, stays = pair_history(slow, 60_000)
    mean, error = blocks_of(np.isin(states, [1 + 0 * 9 + 1, 1 + 1 * 9 + 0]), stays)
    assert abs(mean - toys.bound_share(8, 0.07, 0.03, T)) < 4 * error < 0.2 * mean
    same = LatticeBarriers(np.full(len(COUNTS), np.inf), 0.0)
    assert same.slowed(T) is same and fast.slowed(T, np.inf) is fast
    with pytest.raises(SettingsError, match="ratio"):
        fast.slowed(T, 0.5)


def test_opposite_flows_are_equal():
    """Detailed balance in the run itself: as many passages from one state of the pair to another as back."""
    states, _ = pair_history(hot_barriers(3), 60_000, seed=2)
    pairs, counts = np.unique(np.stack([states[:-1], states[1:]], 1), axis=0, return_counts=True)
    flow = {tuple(p): int(c) for p, c in zip(pairs, counts, strict=True)}
    tested = 0
    for (a, b), forth in flow.items():
        back = flow.get((b, a), 0)
        if a < b and forth + back > 200:
            assert abs(forth - back) < 4 * np.sqrt(forth + back) + 1
            tested += 1
    assert tested > 8


# detailed balance and codes, move by move


@pytest.mark.parametrize("n_steps", [0, 2])
def test_every_move_and_its_reverse(n_steps):
    """Barrier there less barrier back is the change of the whole surface's bond energy, counted by hand; and the floor
    gives every move the class that the plain twin gives it."""
    barriers, heights = hot_barriers(), rough_surface(n_steps)
    energies, hops = barriers.barriers, 0
    surface = Surface.start(settings(n_steps=n_steps, mobile_substrate=True), barriers, heights, random_state=0)
    near, far = bonds(heights, n_steps)
    for x, y, d in itertools.product(range(8), range(8), range(5)):
        code = code_by_hand(heights, n_steps, x, y, d)
        assert surface.members[6][(x * 8 + y) * 5 + d] == surface.class_of_code[code]
        if d == lattice.LEAVE:
            continue
        ex, ey = DIRECTIONS[d]
        after = heights.copy()
        after[x, y] -= 1
        after[(x + ex) % 8, (y + ey) % 8] += 1
        back = code_by_hand(after, n_steps, x + ex, y + ey, (d + 2) % 4)
        near_after, far_after = bonds(after, n_steps)
        change = -barriers.bond * (near_after - near) - barriers.second_bond * (far_after - far)
        assert energies[code] - energies[back] == pytest.approx(change, abs=1e-9)
        hops += code < 1024
    assert 0 < hops < 256  # both kinds were met


def test_codes_turn_and_mirror():
    np.testing.assert_array_equal(REVERSE[REVERSE], np.arange(1024))
    np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(1024))
    np.testing.assert_array_equal(COUNTS[REVERSE], COUNTS[:1024][:, [2, 3, 0, 1]])
    np.testing.assert_array_equal(COUNTS[MIRROR], COUNTS[:1024])
    assert len(np.unique(DISTINCT)) == 544
    table = hot_barriers()
    np.testing.assert_allclose((table.barriers[:1024] - table.barriers[REVERSE]), table.change[:1024], atol=1e-12)
    assert table.barriers.min() >= 0


def test_bond_counting_is_the_energy_of_the_initial_site():
    table = bond_counting(0.5, 0.2, 0.05)
    n1, n2 = COUNTS[:, 0], COUNTS[:, 1]
    expected = 0.5 + 0.2 * n1 + 0.05 * n2
    np.testing.assert_allclose(table.barriers[:1649], expected, atol=1e-12)


# bookkeeping


@pytest.mark.parametrize("n_steps", [0, 3])
def test_classes_after_many_events_are_those_of_a_fresh_start(n_steps):
    s = settings(size=12, flux=2e4, n_steps=n_steps, mobile_substrate=n_steps > 0)
    surface = Surface.start(s, hot_barriers(leaving=0.5), random_state=0)
    surface.advance(1e9, 20_000)
    fresh = Surface.start(s, hot_barriers(leaving=0.5), surface.heights, random_state=0)
    np.testing.assert_array_equal(surface.members[6], fresh.members[6])
    np.testing.assert_array_equal(surface.members[1], fresh.members[1])
    np.testing.assert_allclose(surface.members[0], fresh.members[0], rtol=1e-12)
    _, counts, blocks, pool, _, _, _, place, *_ = surface.members
    for move, c in enumerate(surface.members[6]):
        if c >= 0:
            k = place[move]
            assert k < counts[c] and pool[blocks[c, k // lattice.BLOCK], k % lattice.BLOCK] == move
    assert surface.heights.sum() - initial_heights(12, n_steps).sum() == surface.tallies[0] - surface.tallies[1]
    if not s.mobile_substrate:
        assert surface.heights.min() >= 0


def test_moves_are_chosen_by_their_rates():
    """From one state, the first event falls on each class as often as its share of the total rate says."""
    heights = rough_surface(size=8, seed=3)
    first = Surface.start(settings(flux=3e3, temperature=900.0), hot_barriers(), heights, random_state=0)
    rates, counts = first.rates, first.members[1]
    seen = np.zeros(len(rates))
    for seed in range(4000):
        surface = Surface.start(settings(flux=3e3, temperature=900.0), hot_barriers(), heights, seed)
        old = surface.members[6].copy()
        before = surface.heights.copy()
        surface.advance(np.inf, 1)
        change = surface.heights - before
        if change.sum() == 1:
            seen[-1] += 1
            continue
        (x, y), (x2, y2) = np.argwhere(change == -1)[0], np.argwhere(change == 1)[0]
        step = ((x2 - x + 4) % 8 - 4, (y2 - y + 4) % 8 - 4)
        seen[old[(x * 8 + y) * 5 + DIRECTIONS.index(step)]] += 1
    share = rates * counts / np.sum(rates * counts)
    order = np.argsort(share)
    groups = np.array_split(order, 12)
    expected = np.array([4000 * share[g].sum() for g in groups])
    observed = np.array([seen[g].sum() for g in groups])
    keep = expected > 5
    statistic = np.sum((observed[keep] - expected[keep]) ** 2 / expected[keep])
    assert chi2.sf(statistic, keep.sum() - 1) > 0.01


def test_nothing_happens_without_rates():
    surface = Surface.start(settings(), bond_counting(0.5, 0.1), random_state=0)
    assert surface.advance(3.0) == 0 and surface.time == 3.0


def test_look_by_hand():
    flat = initial_heights(8, 2)
    assert look(flat, 2)[2] == pytest.approx(0.0)
    assert look(np.zeros((8, 8), dtype=int), 0) == (0.0, 0.0, 0.0, 0.0)
    one = np.zeros((8, 8), dtype=int)
    one[7, 0] = 1
    mean, w, steps, adatoms = look(one, 0)
    assert (mean, adatoms) == (1 / 64, 1 / 64)
    assert w == pytest.approx(np.sqrt(1 / 64 - 1 / 64**2)) and steps == pytest.approx(4 / 128)


def test_runs_repeat_and_resume_bit_by_bit(tmp_path):
    s = settings(size=16, flux=500.0, duration=0.01, n_records=6, n_steps=2, keep_heights=True)
    barriers = hot_barriers(leaving=0.7)
    whole = run_growth(barriers, s, random_state=4)
    path = tmp_path / "growth.npz"
    surface = Surface.start(s, barriers, random_state=4)
    for until in s.duration * np.arange(1, 3) / 6:
        surface.advance(until)
        surface._record()
    surface.advance(s.duration * 2.4 / 6, 10**9)
    surface.advance(s.duration * 2 / 6)
    other = Surface.start(s, barriers, random_state=4)
    for until in s.duration * np.arange(1, 3) / 6:
        other.advance(until)
        other._record()
    other.save(path)
    resumed = run_growth(barriers, s, checkpoint=path, random_state=4)
    for name in ("time", "mean_height", "roughness", "step_density", "adatoms", "events", "heights"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name), err_msg=name)
    assert resumed.shift == whole.shift and resumed.events[-1] > 1000
    again = run_growth(barriers, s, checkpoint=path)  # complete already
    np.testing.assert_array_equal(again.heights, whole.heights)
    differently = run_growth(barriers, s, random_state=5)
    assert np.any(differently.heights[-1] != whole.heights[-1])


def test_wrong_checkpoints_are_refused(tmp_path):
    s, barriers = settings(size=8, flux=10.0, n_records=2), bond_counting(0.5, 0.1)
    path = tmp_path / "growth.npz"
    run_growth(barriers, s, checkpoint=path, random_state=3)
    with pytest.raises(DataError, match="another run"):
        run_growth(bond_counting(0.5, 0.2), s, checkpoint=path)
    with pytest.raises(DataError, match="another run"):
        run_growth(barriers, settings(size=8, flux=11.0, n_records=2), checkpoint=path)
    with pytest.raises(DataError, match="another run"):
        run_growth(barriers, s, checkpoint=path, random_state=4)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a complete growth checkpoint"):
        Surface.load(path)


@pytest.mark.parametrize(
    "changes",
    [{"size": 4}, {"temperature": 0.0}, {"flux": -1.0}, {"duration": np.nan}, {"n_records": 0}, {"n_steps": 7}],
)
def test_settings_that_cannot_work(changes):
    with pytest.raises(SettingsError):
        settings(**changes)


def test_barriers_that_cannot_work():
    with pytest.raises(SettingsError, match="symmetric"):
        LatticeBarriers(np.zeros(3), 0.1)
    with pytest.raises(SettingsError, match="bond"):
        LatticeBarriers(np.zeros(1649), np.inf)
    with pytest.raises(DataError, match="shape"):
        Surface.start(settings(), bond_counting(0.5, 0.1), np.zeros((3, 3)), random_state=0)
    with pytest.raises(SettingsError, match="2 replicas"):
        grow_ensemble([bond_counting(0.5, 0.1)], settings(), 1)


def test_roughness_is_measured_from_the_vicinal_plane():
    size, n_steps = 16, 2
    width = size // n_steps
    sawtooth = np.sqrt((width**2 - 1) / 12) / width  # of 0, 1/width, ... (width - 1)/width
    assert look(initial_heights(size, n_steps), n_steps)[1] == pytest.approx(sawtooth)


# from a barrier model

GEOMETRY = LatticeGeometry("Cu", 2.54, 0.654 * 2.54, 0.758 * 2.54, 0.705 * 2.54)


class CountingModel:
    """A barrier model that counts contacts: 0.4 eV and 0.15 eV for each neighbour beyond four, with 10 meV errors."""

    evaluations = 0

    def fit(self, hops: list[Hop]):
        return self

    def features(self, hops: list[Hop]) -> np.ndarray:
        self.evaluations += len(hops)
        return np.array([[contacts(h.initial) - 4.0, contacts(h.final) - 4.0] for h in hops])

    def predict(self, hops, return_std, features):
        return 0.4 + 0.15 * features[:, 0], np.full(len(hops), 0.01)

    def sample(self, hops, n_samples, rng, features):
        return self.predict(hops, True, features)[0] + 0.01 * rng.normal(size=(n_samples, 1))


def test_environments_have_the_neighbours_that_their_codes_say():
    for code in (0, 1, 0b0000110000, 0b1111111111, 677, 90):
        hop = GEOMETRY.hop(code)
        assert contacts(hop.initial) == 4 + COUNTS[code, 0]
        assert contacts(hop.final) == 4 + COUNTS[code, 2]
        assert len(hop.initial) == 3 * 56 + bin(code).count("1") + 1


def test_a_counting_model_gives_the_bond_counting_table():
    model = CountingModel()
    made = barriers_from_model(model, GEOMETRY, n_samples=3, random_state=0, step_edge=0.1)
    assert model.evaluations == made.n_evaluations == 544
    toy = bond_counting(0.4, 0.15, step_edge=0.1)
    np.testing.assert_allclose(made.mean.barriers[:1649], toy.barriers[:1649], atol=1e-9)
    assert made.mean.bond == pytest.approx(0.15) and made.misfit < 1e-9
    assert len(made.samples) == 3
    for sample in made.samples:  # a common error of all barriers moves K alone
        assert sample.bond == pytest.approx(0.15, abs=1e-9)
        shift = sample.symmetric[:1024] - made.mean.symmetric[:1024]
        assert np.ptp(shift) < 1e-9 and abs(shift[0]) > 1e-4


class CurvedModel:
    """Barriers with a square of the neighbours at the start, which no two bond energies explain."""

    def features(self, hops: list[Hop]) -> np.ndarray:
        return COUNTS[[int(h.name.removeprefix("code-")) for h in hops]]

    def predict(self, hops, return_std, features):
        n1, n2 = features[:, 0], features[:, 1]
        return 0.4 + 0.15 * n1 + 0.02 * n1**2 + 0.05 * n2 - 0.01 * n1 * n2, np.full(len(hops), 0.01)

    def sample(self, hops, n_samples, rng, features):
        return np.tile(self.predict(hops, True, features)[0], (n_samples, 1))


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.7])
def test_bonds_are_a_least_squares_fit_over_the_environments_of_a_random_layer(coverage):
    """Weights of the fit: probabilities c^k (1 - c)^(10 - k) of k atoms on the ten sites of a patch."""
    made = barriers_from_model(CurvedModel(), GEOMETRY, coverage=coverage)
    k = np.array([bin(code).count("1") for code in range(1024)])
    probability = coverage**k * (1 - coverage) ** (10 - k)
    assert probability.sum() == pytest.approx(1.0)
    n1, n2, m1, m2 = COUNTS[:1024].T
    change = 0.15 * (n1 - m1) + 0.02 * (n1**2 - m1**2) + 0.05 * (n2 - m2) - 0.01 * (n1 * n2 - m1 * m2)
    D = np.stack([n1 - m1, n2 - m2], axis=1)
    bonds = np.linalg.solve(D.T @ (probability[:, None] * D), D.T @ (probability * change))
    np.testing.assert_allclose([made.mean.bond, made.mean.second_bond], bonds, rtol=1e-9)
    assert made.misfit == pytest.approx(np.sqrt(probability @ (change - D @ bonds) ** 2), rel=1e-9)
    plain = np.linalg.lstsq(D, change)[0]
    assert made.misfit > 1e-3 and (coverage == 0.5) == bool(np.allclose(bonds, plain, rtol=1e-6))


def ideal_hop(size: tuple[int, int, int]) -> Hop:
    """A hop on a terrace of copper with the lattice constant 3.6 A, relaxed nowhere."""
    ends = []
    for place, height in (("hollow", 1.7), ("bridge", 2.0), ("hollow", 1.7)):
        ends.append(fcc100("Cu", size, a=3.6, vacuum=6.0))
        add_adsorbate(ends[-1], "Cu", height, place)
    return Hop(ends[0], ends[2], ends[1], name="ideal", surface="flat100")


@pytest.mark.parametrize("size", [(4, 4, 4), (3, 3, 3)])
def test_geometry_of_a_hop_on_an_ideal_terrace(size):
    """Layers of fcc (100) are half a lattice constant apart, neighbours a / sqrt(2)."""
    hop = ideal_hop(size)
    made = LatticeGeometry.from_hop(hop)
    assert made.metal == "Cu"
    found = (made.bond, made.hollow, made.bridge, made.spacing)
    np.testing.assert_allclose(found, (3.6 / np.sqrt(2), 1.7, 2.0, 1.8), rtol=1e-9)
    with pytest.raises(DataError, match="flat100"):
        LatticeGeometry.from_hop(replace(hop, transition=None, name="no saddle"))


def test_uncertain_barriers_make_uncertain_growth():
    tables = [bond_counting(0.5 + e, 0.1) for e in (-0.08, 0.0, 0.08)]
    s = settings(size=24, flux=2e3, duration=1e-3, n_records=4)
    same = grow_ensemble([tables[1]] * 3, s, 3, random_state=0)
    spread = grow_ensemble(tables, s, 3, random_state=0)
    _, by_barriers, by_chance = spread.variance_components(spread.roughness[:, :, -1])
    _, none, _ = same.variance_components(same.roughness[:, :, -1])
    assert by_barriers > 3 * by_chance and by_barriers > 3 * none
    assert spread.roughness.shape == (3, 3, 5)
    np.testing.assert_allclose(spread.growth_rate.mean(), 2e3, rtol=0.1)


def test_a_surface_grows_by_the_settings_of_its_question():
    """The counting model's barriers are those of bond counting: terrace, bonds, step edge and leaving, code by code."""
    s = SurfaceGrowthSettings(
        size=8, flux=10.0, duration=0.01, prefactor=1e9, n_records=2, n_samples=2, n_replicas=3, step_edge=0.2,
        leaving=1.1,
    )  # fmt: skip
    found = run_surface_growth([ideal_hop((4, 4, 4))], s, model=CountingModel(), random_state=0)
    toy = bond_counting(0.4, 0.15, step_edge=0.2, leaving=1.1)
    np.testing.assert_allclose(found.barriers.mean.barriers, toy.barriers, atol=1e-9)
    assert found.terrace_barrier == pytest.approx(0.4) and found.terrace_barrier_std == pytest.approx(0.01)
    assert found.ensemble.roughness.shape == (2, 3, 3) and found.growth.settings == s.growth


def test_variance_components_by_hand():
    rng = np.random.default_rng(0)
    values = rng.normal(scale=0.3, size=(4000, 1)) + rng.normal(scale=0.5, size=(4000, 3))
    ensemble = GrowthEnsemble(np.arange(2.0), values[..., None], values[..., None])
    mean, between, within = ensemble.variance_components(values)
    assert mean == pytest.approx(values.mean())
    assert between == pytest.approx(0.3, abs=0.03) and within == pytest.approx(0.5, abs=0.02)


# pictures and the whole way


@pytest.fixture(scope="module")
def copper():
    """Two hops of copper at the border of a step, and one on the flat terrace that gives the lattice its lengths."""
    hops = [h for h in hops_from_frames(load_surface_barriers("Cu")) if h.surface in ("flat100", "step100")]
    model = SurfaceBarrierModel(folds=2, clusters=0, random_state=0)
    settings = SurfaceGrowthSettings(size=12, temperature=260.0, flux=1e6, duration=3e-7, n_records=3, n_samples=3)
    return hops, model, settings, run_surface_growth(hops, settings, model=clone(model), random_state=5)


def test_the_whole_way_is_its_parts(copper):
    """Fit, draw, slow down, grow, each with the one seed: the result holds what the parts give by hand."""
    hops, model, s, result = copper
    by_hand = clone(model).fit(hops)
    flat = next(h for h in hops if h.surface == "flat100")
    barriers = barriers_from_model(by_hand, LatticeGeometry.from_hop(flat), 3, np.random.default_rng(5), step_edge=0.1)
    grown = run_growth(barriers.mean.slowed(260.0, 1e3), s.growth, random_state=5)
    np.testing.assert_array_equal(result.growth.roughness, grown.roughness)
    ensemble = grow_ensemble([b.slowed(260.0, 1e3) for b in barriers.samples], s.growth, 2, random_state=5)
    np.testing.assert_array_equal(result.ensemble.roughness, ensemble.roughness)
    mean, due_to_barriers, _ = ensemble.variance_components(ensemble.roughness[:, :, -1])
    assert (result.roughness, result.roughness_std) == (mean, due_to_barriers)
    assert (result.terrace_barrier, result.terrace_barrier_std) == (barriers.mean.barriers[0], barriers.std[0])


def test_without_draws_there_is_a_value_and_no_error_bar(copper, tmp_path):
    hops, model, s, result = copper
    alone = run_surface_growth(hops, replace(s, n_samples=0), model=clone(model), random_state=5)
    assert alone.ensemble is None and alone.roughness == result.growth.roughness[-1]
    assert np.isnan(alone.roughness_std) and np.isnan(alone.growth_rate_std)
    assert alone.growth_rate == result.growth.growth_rate
    for name, one in (("alone.png", alone), ("ensemble.png", result)):
        surface_growth_figure(one, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.parametrize("bad", [{"n_samples": 1}, {"n_replicas": 1}, {"fastest": 0.5}, {"size": 3}])
def test_settings_of_the_whole_way_are_checked(bad):
    with pytest.raises(SettingsError, match=next(iter(bad))):
        SurfaceGrowthSettings(**bad)


def test_a_checkpoint_of_format_1_goes_on(tmp_path):
    """Its seed stood among the settings."""
    s, barriers, path = settings(size=8, flux=10.0, n_records=4, duration=0.4), hot_barriers(), tmp_path / "growth.npz"
    whole = run_growth(barriers, s, random_state=7)
    surface = Surface.start(s, barriers, random_state=7)
    surface.advance(0.1)
    surface._record()
    surface.save(path)
    with np.load(path) as stored:
        arrays = dict(stored)
    header = json.loads(str(arrays.pop("header")))
    header["settings"]["seed"], header["format"] = header.pop("seed"), 1
    with open(path, "wb") as file:
        np.savez(file, header=np.array(json.dumps(header)), **arrays)
    resumed = run_growth(barriers, s, checkpoint=path, random_state=7)
    np.testing.assert_array_equal(resumed.roughness, whole.roughness)


def test_pictures_and_animation(tmp_path):
    s = settings(size=16, flux=5e3, duration=2e-4, n_records=4, keep_heights=True)
    result = run_growth(hot_barriers(), s, random_state=0)
    growth_figure(result, tmp_path / "growth.png")
    animate_growth(result, tmp_path / "growth.gif")
    ensemble = grow_ensemble([hot_barriers(k) for k in range(2)], s, random_state=0)
    ensemble_figure([("toy", ensemble)], tmp_path / "ensemble.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000 < (tmp_path / "ensemble.png").stat().st_size
    with Image.open(tmp_path / "growth.gif") as film:
        assert film.n_frames > 1
        assert film.size[0] > 200
    with pytest.raises(DataError, match="keep_heights"):
        growth_figure(run_growth(hot_barriers(), settings(duration=1e-6)), tmp_path / "no.png")
    with pytest.raises(DataError, match="gif"):
        animate_growth(result, tmp_path / "growth.mp4")


def test_command(tmp_path, capsys):
    folder = tmp_path / "grown"
    (tmp_path / "growth.toml").write_text('metal = "Ag"\nsize = 16\nflux = 1e7\nn_records = 5\nkeep_heights = false\n')
    options = ["--config", str(tmp_path / "growth.toml"), "--json", str(tmp_path / "growth.json"), "--size", "12"]
    arguments = ["growth", *options, "--layers", "0.3", "--samples", "2"]
    assert main([*arguments, "--quiet", "-o", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "544 environments" in out and "(barriers)" in out
    numbers = json.loads((tmp_path / "growth.json").read_text())
    assert numbers["settings"]["metal"] == "Ag" and numbers["settings"]["size"] == 12
    assert len(numbers["growth"]["time"]) == 6 and numbers["settings"]["duration"] == pytest.approx(3e-8)
    assert f"roughness (layers): {numbers['roughness']:.4g} +- {numbers['roughness_std']:.2g}" in out
    assert {p.name for p in folder.iterdir()} == {"growth.npz", "growth.png", "growth.gif", "uncertainty.png"}
    assert numbers["settings"] == SurfaceGrowthSettings.from_dict(numbers["settings"]).as_dict()
    (tmp_path / "bad.toml").write_text('flux = "fast"')
    assert main(["growth", "--config", str(tmp_path / "bad.toml"), "-o", str(folder)]) == 2
    assert "bad.toml: flux must be a number" in capsys.readouterr().err
    assert main(["growth", "--metal", "Fe", "--quiet", "-o", str(folder)]) == 2
    assert "Fe" in capsys.readouterr().err
