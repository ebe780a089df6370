"""The domain of a potential: limits and excess by hand."""

import numpy as np
import pytest

from gapkit.potential.domain import ENERGY_MARGIN, MARGIN, Domain


def test_the_worst_atom_decides():
    domain = Domain(local_variance=0.04)
    assert domain.local_limit() == pytest.approx(MARGIN * 0.2)
    assert domain.local_limit(noise=0.4) == pytest.approx(np.hypot(MARGIN * 0.2, 0.4))
    found = domain.excess(np.array([0.1, 0.6, 0.2]))
    assert found.value == pytest.approx(2.0) and found.reason.startswith("atom 1: ")


def test_whole_energies_decide_where_they_say_more():
    domain = Domain(local_variance=0.04, energy_variance=0.01)
    local = np.array([0.15, 0.3])
    within = domain.excess(local, energy_variance=0.01 * ENERGY_MARGIN**2)
    assert within.value == pytest.approx(1.0)
    beyond = domain.excess(local, energy_variance=0.09 * ENERGY_MARGIN**2)
    assert beyond.value == pytest.approx(3.0) and "energy is 6 times" in beyond.reason
    assert Domain(0.04).excess(local, energy_variance=99.0).reason.startswith("atom 1")


def test_a_domain_that_was_not_measured_warns_of_nothing():
    assert Domain().excess(np.array([1e3])).value == 0.0
