"""SOAP against dscribe, its invariances, its derivatives, and the kernel's multiplicities."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from hypothesis import given, settings
from hypothesis import strategies as st

from gapkit.descriptors import SOAP
from gapkit.exceptions import SettingsError, SpeciesError
from gapkit.testing import check_descriptor
from tests.numerical import random_cluster, random_rotation, skewed_crystal

COMPRESSIONS = ("off", "mu1nu1", "mu2")
RNG = np.random.default_rng(3)
MIXED = random_cluster("SiOSiOCOC", RNG)
CRYSTAL = skewed_crystal("SiOCSi", RNG)


def relative(a, b):
    """Largest distance of two sets of vectors, relative to their norms."""
    return float(np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("n_max", "l_max"), [(1, 0), (4, 3), (8, 6)])
@pytest.mark.parametrize("frame", [MIXED, CRYSTAL], ids=["cluster", "small skewed cell"])
def test_numbers_are_dscribes(frame, compression, n_max, l_max):
    soap = SOAP(r_cut=4.5, n_max=n_max, l_max=l_max, compression=compression).fit([frame])
    expected = soap.to_dscribe(periodic=bool(frame.pbc.any())).create(frame)
    assert relative(soap.transform([frame]), expected) < 1e-8


@pytest.mark.parametrize("power", [1, 2, 3])
def test_single_species_and_cutoff_powers_are_dscribes(power):
    si = bulk("Si") * (2, 1, 1)
    si.rattle(0.1, seed=1)
    soap = SOAP(r_cut=5.0, n_max=8, l_max=6, sigma=0.4, cutoff_power=power).fit([si])
    assert relative(soap.transform([si]), soap.to_dscribe().create(si)) < 1e-8


def test_partly_periodic_frame_equals_a_wide_periodic_one():
    slab = bulk("Si", cubic=True)
    slab.rattle(0.05, seed=2)
    slab.center(vacuum=8.0, axis=2)
    slab.pbc = (True, True, False)
    wide = slab.copy()
    wide.pbc = True
    soap = SOAP(r_cut=4.5, n_max=5, l_max=4).fit([slab])
    np.testing.assert_allclose(soap.transform([slab]), soap.transform([wide]), rtol=0, atol=1e-12)
    isolated = slab.copy()
    isolated.pbc = False
    assert relative(soap.transform([isolated]), soap.transform([slab])) > 1e-2


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), compression=st.sampled_from(COMPRESSIONS))
def test_rotation_translation_and_permutation(seed, compression):
    rng = np.random.default_rng(seed)
    frame = skewed_crystal("SiOCSi", rng)
    soap = SOAP(species=["Si", "O", "C"], r_cut=4.0, n_max=4, l_max=4, compression=compression).fit([])
    p = soap.transform([frame])
    order = rng.permutation(len(frame))
    moved = frame[order]
    rotation = random_rotation(rng)
    moved.set_cell(moved.cell.array @ rotation.T)
    moved.positions = moved.positions @ rotation.T + rng.normal(scale=3.0, size=3)
    assert relative(soap.transform([moved]), p[order]) < 1e-10


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_choice_of_cell(seed):
    rng = np.random.default_rng(seed)
    frame = skewed_crystal("SiOCSi", rng)
    soap = SOAP(r_cut=4.0, n_max=4, l_max=4).fit([frame])
    p = soap.transform([frame])
    other = make_supercell(frame, [[1, 1, 0], [0, 1, 0], [0, -1, 1]])
    other.wrap()
    assert relative(soap.transform([other]), p) < 1e-10
    double = frame * (1, 2, 1)
    assert relative(soap.transform([double]), np.vstack([p, p])) < 1e-10


def test_image_of_itself_and_isolated_atom():
    one = Atoms("Si", cell=[2.4] * 3, pbc=True)
    alone = Atoms("Si")
    soap = SOAP(r_cut=4.0, n_max=4, l_max=3).fit([one])
    assert relative(soap.transform([one]), soap.to_dscribe().create(one)) < 1e-8
    assert relative(soap.transform([alone]), soap.to_dscribe(periodic=False).create(alone)) < 1e-8


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_multiplicities_turn_the_dot_product_into_the_full_sum(compression):
    """The kernel's dot product is the sum over all species and n, n' of the uncompressed-by-symmetry spectrum."""
    soap = SOAP(r_cut=4.5, n_max=3, l_max=2, compression=compression).fit([MIXED])
    packed = soap.transform([MIXED]) * soap.basis_.multiplicity
    full = []
    for a, b, symmetric, begin in soap.basis_.blocks:
        raw = soap.transform([MIXED])[:, begin:]
        for l in range(3):
            block = np.zeros((len(MIXED), 3, 3))
            if symmetric:
                upper = np.triu_indices(3)
                block[:, upper[0], upper[1]] = raw[:, l * 6 : l * 6 + 6]
                block[:, upper[1], upper[0]] = raw[:, l * 6 : l * 6 + 6]
            else:
                block = raw[:, l * 9 : l * 9 + 9].reshape(-1, 3, 3)
            full.append(block.reshape(len(MIXED), -1))
            if a != b and compression == "off":  # (b, a) stands nowhere, and equals (a, b) transposed
                full.append(block.transpose(0, 2, 1).reshape(len(MIXED), -1))
    full = np.hstack(full)
    np.testing.assert_allclose(packed @ packed.T, full @ full.T, rtol=1e-12)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_derivatives_of_unit_vectors_equal_finite_differences(compression):
    """And all else that models ask of a descriptor."""
    check_descriptor(SOAP(r_cut=4.5, n_max=5, l_max=4, compression=compression), [MIXED, CRYSTAL])


def test_a_neighbour_enters_smoothly():
    soap = SOAP(species=["Si"], r_cut=4.0, n_max=6, l_max=4).fit([])
    inside = soap.transform([Atoms("Si2", positions=[[0, 0, 0], [0, 0, 4.0 - 1e-7]])])
    outside = soap.transform([Atoms("Si2", positions=[[0, 0, 0], [0, 0, 4.0 + 1e-7]])])
    assert relative(inside, outside) < 1e-11


def test_thread_count_changes_nothing():
    frame = bulk("Si", cubic=True) * (3, 3, 3)
    frame.rattle(0.1, seed=4)
    one, two = (SOAP(r_cut=4.0, n_max=4, l_max=3, n_jobs=n).fit([frame]) for n in (1, 2))
    np.testing.assert_allclose(one.transform([frame]), two.transform([frame]), rtol=0, atol=1e-10)


def test_feature_names_follow_the_blocks():
    soap = SOAP(species=["Si", "O"], n_max=2, l_max=1).fit([])
    names = soap.get_feature_names_out()
    assert len(names) == len(set(names)) == soap.basis_.n_features == soap.to_dscribe().get_number_of_features()
    where = soap.to_dscribe().get_location(("O", "Si"))
    assert all("O_Si" in n for n in names[where])


@pytest.mark.parametrize(
    "bad",
    [{"n_max": 13}, {"n_max": 0}, {"l_max": -1}, {"sigma": 0.0}, {"r_cut": 0.9}, {"r_cut": np.nan},
     {"cutoff_power": 0}, {"compression": "mu3"}, {"species": []}, {"species": ["Xx"]}, {"n_max": "4"}, {"l_max": 2.5}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(bad):
    with pytest.raises(SettingsError):
        SOAP(**{"species": ["Si"], **bad}).fit([])


def test_unknown_species_is_named():
    soap = SOAP(species=["Si"]).fit([])
    with pytest.raises(SpeciesError, match="species O not among"):
        soap.transform([Atoms("SiO", positions=[[0, 0, 0], [0, 0, 2]])])


def test_settings_of_numpy_types_work_like_python_ones():
    soap = SOAP(species=["Si"], n_max=np.int64(3), l_max=np.int32(2), r_cut=np.float32(4.0), sigma=np.float64(0.5))
    assert json.loads(json.dumps(soap.settings())) == SOAP(n_max=3, l_max=2, r_cut=4.0).settings()
