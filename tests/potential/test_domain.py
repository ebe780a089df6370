"""The domain of a potential: limits and excess by hand."""

from dataclasses import replace

import numpy as np
import pytest

from gapkit.potential.domain import ENERGY_MARGIN, MARGIN, Domain
from gapkit.uncertainty.variance_parts import VarianceParts


def test_the_worst_atom_decides():
    domain = Domain(local_variance=0.04)
    assert domain.local_limit() == pytest.approx(MARGIN * 0.2)
    assert domain.local_limit(noise=0.4) == pytest.approx(np.hypot(MARGIN * 0.2, 0.4))
    found = domain.excess(np.array([0.1, 0.6, 0.2]))
    assert found.ratio == pytest.approx(2.0) and found.reason.startswith("atom 1: ")


def test_whole_energies_decide_where_they_say_more():
    domain = Domain(local_variance=0.04, energy_variance=0.01)
    local = np.array([0.15, 0.3])
    within = domain.excess(local, energy_variance=0.01 * ENERGY_MARGIN**2)
    assert within.ratio == pytest.approx(1.0)
    beyond = domain.excess(local, energy_variance=0.09 * ENERGY_MARGIN**2)
    assert beyond.ratio == pytest.approx(3.0) and "energy is 6 times" in beyond.reason
    assert Domain(0.04).excess(local, energy_variance=99.0).reason.startswith("atom 1")


def test_a_domain_that_was_not_measured_warns_of_nothing():
    assert Domain().excess(np.array([1e3])).ratio == 0.0


def test_the_energy_of_a_frame_is_judged_by_its_weights_and_what_is_hidden_per_atom(gap, held_out):
    """Five atoms with 0.2 eV^2 in the weights and 0.25 eV^2 hidden: 0.09 eV^2 per atom, nine times the largest. The
    residual does not count."""
    potential = replace(gap.potential_, domain=Domain(0.04, 0.01))
    structure = potential.structure(held_out[3])
    assert structure.n_atoms == 5
    parts = VarianceParts(residual=np.array([9.0]), weights=np.array([0.2]), hidden=np.array([0.25]))
    found = potential.domain_excess(structure, np.full(5, 0.1), False, parts)
    assert found.ratio == pytest.approx(3.0 / ENERGY_MARGIN) and "energy is 3 times" in found.reason
