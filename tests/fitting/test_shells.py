"""Neighbour shells of training frames, and cutoffs that keep away from them."""

import warnings

import numpy as np
import pytest
from ase.build import bulk, molecule

import gapkit
from gapkit.exceptions import GapkitWarning
from gapkit.fitting.default_terms import default_terms, distances_of
from gapkit.fitting.shells import FARTHEST, Shells, warn_of_touched_shells
from tests.conftest import label


def crystals(a=3.6, rattle=0.05, n=4):
    """Cells of fcc copper, rattled."""
    rng = np.random.default_rng(0)
    made = [bulk("Cu", a=a, cubic=True) * (2, 2, 2) for _ in range(n)]
    for atoms in made:
        atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
    return made


def liquid(n=3):
    """Atoms at random places, with no order at all."""
    rng = np.random.default_rng(1)
    made = [bulk("Cu", a=3.6, cubic=True) * (2, 2, 2) for _ in range(n)]
    for atoms in made:
        atoms.set_scaled_positions(rng.random((len(atoms), 3)))
    return made


def shells_of_fcc(a=3.6):
    return a * np.sqrt(np.arange(1, 12) / 2)


@pytest.mark.parametrize("rattle", [0.0, 0.05, 0.08])
def test_a_cutoff_is_moved_to_the_middle_of_the_nearest_gap(rattle):
    shells = Shells.of(crystals(rattle=rattle), 8.0)
    third, fourth = shells_of_fcc()[2:4]  # 4.41 and 5.09
    assert shells.touched_by(4.4)
    assert shells.away_from(4.45) == pytest.approx((third + fourth) / 2, abs=0.1)
    assert not shells.touched_by(shells.away_from(4.45))
    assert shells.away_from(shells.away_from(4.45)) == shells.away_from(4.45)


def test_without_order_cutoffs_stay_and_no_shell_is_touched():
    shells = Shells.of(liquid(), 8.0)
    for r_cut in np.arange(3.0, 6.5, 0.25):
        assert shells.away_from(r_cut) == r_cut and not shells.touched_by(r_cut)
    for frames in ([], [molecule("C2H6")]):
        shells = Shells.of(frames, 8.0)
        assert shells.away_from(4.4) == 4.4 and not shells.touched_by(4.4)


def test_a_cutoff_is_never_moved_far():
    shells = Shells.of(crystals(), 8.0)
    for r_cut in np.arange(2.6, 7.0, 0.1):
        assert abs(shells.away_from(r_cut) - r_cut) <= FARTHEST


def test_noise_in_the_last_digits_moves_no_cutoff():
    rng = np.random.default_rng(2)
    for rattle in (0.0, 0.05):
        frames = crystals(rattle=rattle)
        moved = [atoms.copy() for atoms in frames]
        for atoms in moved:
            atoms.positions *= 1 + 1e-12 * rng.normal(size=atoms.positions.shape)
        before, after = Shells.of(frames, 8.0), Shells.of(moved, 8.0)
        for r_cut in np.arange(3.0, 6.5, 0.1):
            assert before.away_from(r_cut) == after.away_from(r_cut)


def test_the_default_cutoff_lies_between_shells_of_a_crystal_and_takes_in_forty_neighbours_of_a_liquid():
    frames = crystals()
    r_cut = default_terms(frames, 4000, 1)[1].descriptor.r_cut
    shells = shells_of_fcc()
    assert np.abs(shells - distances_of(frames)[1]).min() < np.abs(shells - r_cut).min()
    assert np.abs(shells - r_cut).min() > 0.25
    assert default_terms(liquid(), 4000, 1)[1].descriptor.r_cut == round(distances_of(liquid())[1], 1)


def test_a_fit_warns_of_a_given_cutoff_that_touches_a_shell_and_names_one_that_does_not():
    frames = [label(atoms) for atoms in crystals(n=3)]

    def terms(r_cut):
        return [gapkit.Term(gapkit.SOAP(r_cut=r_cut, n_max=2, l_max=1), gapkit.DotProduct(2), n_sparse=10)]

    with pytest.warns(GapkitWarning, match=r"cutoff 4\.4 A of term 0 \(SOAP\) touches .* 4\.40 A .* 4\.8 A lies"):
        gapkit.GAP(terms(4.4), folds=1, noise_levels={"energy": 0.01, "forces": 0.1, "virial": 0.1}).fit(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_touched_shells(terms(4.8), frames)
        warn_of_touched_shells(terms(4.4), liquid())
        warn_of_touched_shells([gapkit.Term(gapkit.PairDistance(r_cut=4.4), gapkit.SquaredExponential(1.0))], frames)
