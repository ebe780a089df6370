"""The pool of candidates for sparse points, and its strata."""

from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

import gapkit
from gapkit.exceptions import SettingsError
from gapkit.fitting import candidates as pools
from gapkit.fitting.candidates import Reservoir, choose_sparse_points, choose_terms, gather_pool
from gapkit.fitting.training_set import training_set
from gapkit.models.terms import term_from_settings
from gapkit.structures.labels import labelled_frames
from tests.conftest import copper_frames, label, small_gap

QUIET = partial(tqdm, disable=True)
SOAP = gapkit.SOAP(r_cut=3.6, n_max=4, l_max=3)


def common_and_rare():
    """Twenty frames of copper and one with a vacancy, which differs by its config_type."""
    frames = copper_frames(21, seed=3)
    for atoms in frames[1:]:
        atoms.info["config_type"] = "common"
    frames[0].info["config_type"] = "rare"
    del frames[0][0]
    frames[0] = label(frames[0])
    return frames


def chosen(frames, **settings):
    """Sparse points of a fit, and which of them are environments of the first frame."""
    data = training_set(labelled_frames(frames), "auto", None)
    terms = choose_terms([gapkit.Term(SOAP, gapkit.DotProduct(4), n_sparse=30, **settings)], data)
    pool = gather_pool(data, terms, np.random.default_rng(0), QUIET)
    basis = choose_sparse_points(pool, terms, np.random.default_rng(0), QUIET)
    x = terms[0].descriptor.fit([frames[0]]).transform([frames[0]]) * terms[0].descriptor.basis_.multiplicity
    x /= np.linalg.norm(x, axis=1)[:, None]
    points = basis.blocks[0].points
    return points, np.array([np.abs(x - p).max(axis=1).min() < 1e-10 for p in points])


def test_a_rare_config_type_has_its_share_of_the_points():
    frames = common_and_rare()
    _, uniform = chosen(frames, selection="random")
    points, shared = chosen(frames, selection="random", stratified=True)
    n_rare, n_common = len(frames[0]), sum(map(len, frames[1:]))
    expected = round(30 * np.sqrt(n_rare) / (np.sqrt(n_rare) + np.sqrt(n_common)))
    assert shared.sum() == expected > uniform.sum()
    assert len(points) == 30


def test_what_strata_have_in_common_is_taken_once():
    frames = common_and_rare()
    twin = frames[1].copy()
    twin.info["config_type"] = "copy"
    twin = label(twin)
    points, _ = chosen([*frames, twin], stratified=True)
    K = gapkit.DotProduct(4)(points)
    assert np.linalg.eigvalsh(K).min() > 1e-12
    np.fill_diagonal(K, 0.0)
    assert K.max() < 1 - 1e-9


def test_each_stratum_keeps_candidates_of_its_own(monkeypatch):
    monkeypatch.setattr(pools, "POOL", 10)
    frames = common_and_rare()
    data = training_set(labelled_frames(frames), "auto", None)
    terms = choose_terms([gapkit.Term(SOAP, gapkit.DotProduct(4), stratified=True)], data)
    pool = gather_pool(data, terms, np.random.default_rng(0), QUIET)
    strata = pool.reservoirs[0, (29,)]
    assert {name: r.seen for name, r in strata.items()} == {
        "rare": len(frames[0]), "common": sum(map(len, frames[1:])),
    }  # fmt: skip
    assert pool.seen((0, (29,))) == sum(map(len, frames))
    assert len(pool.candidates((0, (29,)))) == sum(len(r.features()) for r in strata.values())


def test_a_reservoir_is_a_uniform_sample():
    stream = np.arange(200.0)[:, None]
    counts = np.zeros(200)
    for seed in range(400):
        reservoir = Reservoir(20, np.random.default_rng(seed))
        for part in np.array_split(stream, 7):
            reservoir.add(part)
        counts[reservoir.features()[:, 0].astype(int)] += 1
    assert reservoir.seen == 200 and counts.sum() == 400 * 20
    # 400 draws of probability 1/10 each: standard deviation 6
    assert np.abs(counts.mean() - 40) < 1e-12 and np.abs(counts - 40).max() < 4.5 * 6
    assert abs(counts[:20].mean() - 40) < 4 * 6 / np.sqrt(20)


def test_stratified_goes_through_settings_files_and_sparse(train):
    term = gapkit.Term(SOAP, gapkit.DotProduct(4), stratified=True)
    assert term_from_settings(term.settings()).stratified
    gap = small_gap(sparse={"n": 12, "stratified": True}).fit(train)
    assert gap.potential_.terms[-1].stratified
    for bad in ("yes", 1):
        with pytest.raises(SettingsError, match="stratified must be true or false"):
            small_gap(sparse={"n": 12, "stratified": bad}).fit(train)
    with pytest.raises(SettingsError, match="stratified must be true or false"):
        gapkit.GAP(terms=[{"name": "soap", "stratified": "no"}]).fit(train)


def test_a_reservoir_keeps_what_one_of_single_rows_keeps():
    """Offered in blocks of any size, against the algorithm row by row."""
    rows, kept, rng = np.arange(90.0).reshape(45, 2), [], np.random.default_rng(3)
    for seen, row in enumerate(rows, 1):
        if len(kept) < 20:
            kept.append(row)
        elif (place := int(rng.integers(seen))) < 20:
            kept[place] = row
    reservoir = Reservoir(20, np.random.default_rng(3))
    for begin, end in [(0, 7), (7, 7), (7, 25), (25, 45)]:
        reservoir.add(rows[begin:end])
        assert len(reservoir.features()) == min(20, end)
    np.testing.assert_array_equal(reservoir.features(), kept)
    assert reservoir.seen == 45
