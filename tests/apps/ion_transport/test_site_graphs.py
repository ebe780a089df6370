"""Diffusion on site graphs: closed forms, correlation factors, and kinetic Monte Carlo against the exact solution."""

from __future__ import annotations

import numpy as np
import pytest

from gapkit.apps.ion_transport.site_graphs import (
    FCC_CELL,
    FCC_HOPS,
    SiteGraph,
    lattice_graph,
    tracer_correlation_factor,
    tracer_vacancy_graph,
    vacancy_walk,
)
from gapkit.apps.ion_transport.toys import barrier_chain, barrier_chain_diffusion
from gapkit.exceptions import DataError, SettingsError


@pytest.mark.parametrize("rates", [(1.0, 1.0), (1.0, 1e-3), (3.0, 0.2, 7.0)])
def test_a_chain_of_barriers_diffuses_by_the_mean_resistance(rates):
    graph = barrier_chain(rates, spacing=1.7)
    tensor = graph.diffusion()
    assert tensor[0, 0] == pytest.approx(barrier_chain_diffusion(rates, 1.7), rel=1e-10)
    assert np.abs(tensor[1:]).max() < 1e-12
    assert graph.uncorrelated_diffusion()[0, 0] >= tensor[0, 0] * (1 - 1e-12)


def test_a_chain_of_wells_diffuses_by_occupations_and_rates():
    """Two sites of unequal depth: D = L^2 / sum 1 / (p_i k_i,i+1)."""
    up, down, a = 0.3, 2.0, 1.0
    start, end = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    x = np.array([[a, 0, 0], [-a, 0, 0], [a, 0, 0], [-a, 0, 0]])
    graph = SiteGraph(2, start, end, x, np.array([up, up, down, down]))
    p = np.array([down, up]) / (up + down)
    np.testing.assert_allclose(graph.occupation(), p)
    assert graph.diffusion()[0, 0] == pytest.approx(4 * a**2 / (1 / (p[0] * up) + 1 / (p[1] * down)), rel=1e-12)
    np.testing.assert_allclose(graph.drift(), 0, atol=1e-15)


def test_a_random_walk_on_a_lattice_is_free():
    """D = z k a^2 / 6 on the face-centred cubic lattice, in any cell."""
    for shape in ((1, 1, 1), (3, 2, 4)):
        tensor = lattice_graph(shape, FCC_HOPS, FCC_CELL, rate=0.5).diffusion()
        np.testing.assert_allclose(tensor, np.eye(3) * 12 * 0.5 * 0.5 / 6, atol=1e-12)


def test_a_biased_walk_spreads_about_its_drift():
    """Asymmetric walk: v = (k - q) a, D = (k + q) a^2 / 2."""
    x = np.array([[2.0, 0, 0], [-2.0, 0, 0]])
    graph = SiteGraph(1, np.zeros(2, int), np.zeros(2, int), x, np.array([3.0, 1.0]))
    assert graph.drift()[0] == pytest.approx(4.0)
    assert graph.diffusion()[0, 0] == pytest.approx(8.0)
    doubled = SiteGraph(2, np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), np.tile(x, (2, 1)), np.tile([3.0, 1.0], 2))
    assert doubled.diffusion()[0, 0] == pytest.approx(8.0)


def test_walks_agree_with_the_exact_diffusion_constant():
    graph = barrier_chain((1.0, 0.1, 2.0), spacing=1.3)
    times = np.array([200.0, 400.0])
    x = graph.walk(times, n_walkers=4000, random_state=0)[:, :, 0]
    squares = (x[1] - x[0]) ** 2 / (2 * 200.0)  # the second half: the first forgets where walkers began
    error = squares.std() / np.sqrt(len(squares))
    offset = 2 * 3.9**2 / 400.0  # of the places within a cell, at most
    assert abs(squares.mean() - graph.diffusion()[0, 0]) < 4 * error + offset
    again = graph.walk(times, n_walkers=4000, random_state=0)[:, :, 0]
    np.testing.assert_array_equal(x, again)


def test_the_number_of_hops_of_a_walk_is_poissons():
    x = np.array([[1.0, 0, 0]])
    counts = SiteGraph(1, np.zeros(1, int), np.zeros(1, int), x, np.array([0.5])).walk(
        np.array([0.0, 20.0]), n_walkers=5000, random_state=1
    )[:, :, 0]
    assert (counts[0] == 0).all()
    assert abs(counts[1].mean() - 10) < 4 * np.sqrt(10 / 5000)
    assert abs(counts[1].var() - 10) < 4 * np.sqrt(210 / 5000)  # fourth central moment 3 m^2 + m, less m^2


def test_the_correlation_factor_of_a_vacancy_on_the_fcc_lattice_is_0_78146():
    sizes = np.array([6, 8, 10])
    factors = [tracer_correlation_factor(lattice_graph((L, L, L), FCC_HOPS, FCC_CELL)) for L in sizes]
    sites = sizes.astype(float) ** 3
    limit = np.linalg.solve(np.column_stack([np.ones(3), 1 / sites, sites ** (-5 / 3)]), factors)[0]
    assert limit == pytest.approx(0.78146, abs=2e-5)


def test_monte_carlo_of_a_vacancy_agrees_with_the_exact_correlation_factor():
    lattice = lattice_graph((5, 5, 5), FCC_HOPS, FCC_CELL)
    exact = tracer_correlation_factor(lattice)
    found = vacancy_walk(lattice, 20000, n_runs=60, random_state=0)
    assert found.correlation_factor_std < 0.02
    assert abs(found.correlation_factor - exact) < 4 * found.correlation_factor_std
    tracer = np.trace(tracer_vacancy_graph(lattice).diffusion()) / 3
    mean, error = found.tracer_diffusion.mean(), found.tracer_diffusion.std(ddof=1) / np.sqrt(60)
    assert abs(mean - tracer) < 4 * error


def test_a_vacancy_moves_its_tracer_once_around_a_ring():
    """In one dimension atoms cannot pass each other, and D = k / (N - 1)^2.

    The vacancy's place relative to the tracer walks around N - 1 places, and each turn moves the tracer by one.
    """
    for n in (4, 9):
        ring = lattice_graph((n, 1, 1), np.array([[1, 0, 0], [-1, 0, 0]]), np.eye(3), rate=0.7)
        tracer = np.trace(tracer_vacancy_graph(ring).diffusion())
        assert tracer == pytest.approx(0.7 / (n - 1) ** 2, rel=1e-10)


def test_graphs_that_cannot_work_are_refused():
    one = np.zeros(1, int)
    with pytest.raises(DataError, match="positive"):
        SiteGraph(1, one, one, np.zeros((1, 3)), np.zeros(1))
    with pytest.raises(DataError, match="no site"):
        SiteGraph(1, one, one + 1, np.zeros((1, 3)), np.ones(1))
    with pytest.raises(DataError, match="sites and hops"):
        SiteGraph(0, one[:0], one[:0], np.zeros((0, 3)), np.ones(0))
    with pytest.raises(DataError, match="displacements"):
        SiteGraph(1, one, one, np.zeros((1, 2)), np.ones(1))
    apart = SiteGraph(2, np.array([0, 1]), np.array([0, 1]), np.ones((2, 3)), np.ones(2))
    with pytest.raises(DataError, match="2 groups"):
        apart.diffusion()
    graph = barrier_chain((1.0, 2.0))
    with pytest.raises(SettingsError, match="rise"):
        graph.walk(np.array([2.0, 1.0]))
    with pytest.raises(SettingsError, match="n_walkers"):
        graph.walk(np.array([2.0]), n_walkers=0)
    with pytest.raises(SettingsError, match="one rate"):
        vacancy_walk(graph, 10)
    with pytest.raises(SettingsError, match="n_runs"):
        vacancy_walk(lattice_graph((3, 3, 3), FCC_HOPS, FCC_CELL), 10, n_runs=1)
