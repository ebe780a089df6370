"""Random frames and files thrown at fit, predict and load: finite results, or an error that gapkit means to raise."""

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import gapkit
from gapkit.exceptions import GapkitError, GapkitWarning
from gapkit.structures.neighbours import neighbours
from tests.conftest import small_gap

# folds=1 is chosen on purpose in several tests
pytestmark = pytest.mark.filterwarnings("ignore:all frames fall into one fold:gapkit.exceptions.GapkitWarning")

ORDINARY = st.floats(-4, 4)
ANY = st.floats(width=64)  # NaN and infinity included
EXTREME = st.sampled_from(
    [0.0, -0.0, 1e-300, 1e-12, 1e-3, 1e3, 1e5, 1e9, 1e150, -1e200, 1e308, np.nan, np.inf, -np.inf]
)
FUZZ = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def numbers(draw, shape, wild):
    """An array of ordinary numbers, in a few places (or, rarely, everywhere) replaced by wild ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.uniform(-3, 3, size=shape)
    if wild:
        for _ in range(draw(st.integers(1, 3))):
            values.flat[draw(st.integers(0, values.size - 1))] = draw(ANY | EXTREME)
    return values


@st.composite
def cells(draw, wild=False):
    """Cells from cubic to skewed, tiny, flat, left-handed, or of any numbers."""
    kind = draw(st.sampled_from(["cubic", "skewed", "long", "left"] + ["tiny", "flat", "zero", "any"] * wild))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    edge = draw(st.floats(2.2, 7.0))
    cell = edge * np.eye(3)
    if kind == "skewed":
        cell += rng.uniform(-2, 2, size=(3, 3))
    if kind == "long":
        cell[1] = [37.3 * edge, edge, 0.3]
    if kind == "left":
        cell = cell[[1, 0, 2]]
    if kind == "tiny":
        cell *= 10.0 ** -draw(st.integers(1, 200))
    if kind == "flat":
        cell[2] = cell[0] * draw(st.floats(-2, 2)) + cell[1]
    if kind == "zero":
        cell[draw(st.integers(0, 2))] = 0.0
    if kind == "any":
        cell = numbers(draw, (3, 3), True)
    return cell


@st.composite
def frames(draw, wild=False):
    """One to six atoms with some of the labels; ``wild``: anything may be wrong with them."""
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    spoiled = draw(st.sampled_from(["cell", "positions", "numbers", "labels", "spot", "far"])) if wild else None
    cell = draw(cells(wild=spoiled == "cell"))
    positions = rng.uniform(0, 1, size=(n, 3)) @ np.where(np.isfinite(cell) & (np.abs(cell) < 50), cell, 3.0)
    if spoiled == "positions":
        positions = numbers(draw, (n, 3), True)
    if spoiled == "spot":
        positions[-1] = positions[0] + draw(st.sampled_from([0.0, 1e-300, 1e-9, 1e-4, 2e-3, 0.05])) + cell[0]
    if spoiled == "far":
        positions[0, draw(st.integers(0, 2))] = 10.0 ** draw(st.integers(1, 308))
    species = st.sampled_from([29, 29, 29, 79, 1, 0, 119] if spoiled == "numbers" else [29])
    with np.errstate(all="ignore"):
        atoms = Atoms(numbers=[draw(species) for _ in range(n)], positions=positions, cell=cell, pbc=pbc)
    labels_wild = spoiled == "labels"
    results = {}
    if draw(st.booleans()):
        results["energy"] = float(numbers(draw, 1, labels_wild and draw(st.booleans()))[0])
    if draw(st.booleans()):
        shape = (n, 3) if not labels_wild or draw(st.booleans()) else draw(st.sampled_from([(n, 2), (3,), (n + 1, 3)]))
        results["forces"] = numbers(draw, shape, labels_wild and draw(st.booleans()))
    if draw(st.booleans()):
        results["stress"] = 0.1 * numbers(draw, 6, labels_wild and draw(st.booleans()))
    if draw(st.booleans()):
        atoms.info["config_type"] = draw(st.sampled_from(["a", "b", 3, None, ""]))
    if draw(st.booleans()):
        atoms.info["virial"] = numbers(draw, draw(st.sampled_from([(3, 3), (9,), (6,), (2,)])), labels_wild)
        results.pop("stress", None)
    if not any(pbc):
        results.pop("stress", None)
    if draw(st.booleans()):
        atoms.calc = SinglePointCalculator(atoms, **results)
    else:
        for key, value in results.items():
            if key == "forces" and np.shape(value)[0] == n:
                atoms.arrays[key] = value
            else:
                atoms.info[key] = value
    return atoms


def all_finite(prediction, atoms):
    """Every number is finite, every standard deviation positive, and only a frame without volume lacks a stress."""
    for name, value in vars(prediction).items():
        for part in value:
            if part is None:
                assert name.startswith("stress")
                assert atoms.cell.volume == 0 or not atoms.pbc.any()
                continue
            assert np.isfinite(part).all(), name
            if name.endswith("_std"):
                assert np.all(np.asarray(part) >= 0), name


def test_pairs_of_skewed_and_wide_frames_are_those_of_ase():
    """Where bins lie along other vectors than those of the cell."""
    rng = np.random.default_rng(0)
    for k in range(60):
        cell = 4 * np.eye(3) + rng.uniform(-1, 1, size=(3, 3))
        cell[1] += rng.integers(-9, 9) * cell[0]
        cell[2] += rng.integers(-3, 3) * cell[1]
        atoms = Atoms("Cu4", positions=rng.uniform(0, 6, size=(4, 3)), cell=cell, pbc=rng.integers(0, 2, size=3))
        if k % 3 == 0:
            atoms.positions[0] += rng.uniform(-400, 400, size=3)
        pairs = neighbours(atoms, 4.5)
        i, j, vectors = neighbor_list("ijD", atoms, 4.5)

        def ordered(i, j, vectors):
            rows = np.column_stack([i, j, vectors])
            return rows[np.lexsort(np.round(rows, 5).T)]

        np.testing.assert_allclose(
            ordered(pairs.i, pairs.j, pairs.vectors), ordered(i, j, vectors), rtol=0, atol=1e-9, err_msg=str(k)
        )
        np.testing.assert_allclose(np.linalg.norm(pairs.vectors, axis=1), pairs.distances, atol=1e-12)


@pytest.mark.parametrize("pbc", [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 1, 1), (1, 1, 1)])
def test_a_far_atom_and_a_skewed_cell_neither_hang_nor_crash(gap, pbc):
    for place in np.diag([1.9e3, 1.9e3, 1.9e3]):
        atoms = Atoms("Cu2", positions=[place, [1, 1, 1]], cell=[[5, 0, 0], [186.5, 5, 0.3], [0, 0, 5]], pbc=pbc)
        assert np.isfinite(gap.predict([atoms]).energy[0])


def one_line(error, begin=""):
    """The message is one line that begins so."""
    assert str(error).startswith(begin)
    assert len(str(error).splitlines()) == 1


@settings(FUZZ, max_examples=250)
@given(frames(wild=True) | frames())
def test_predict(gap, atoms):
    try:
        prediction = gap.predict([atoms], uncertainty=True)
    except GapkitError as error:
        event("refused")
        one_line(error, "frame 0: ")
        return
    event("predicted")
    all_finite(prediction, atoms)


@settings(FUZZ, max_examples=100)
@given(frames(wild=True) | frames())
def test_calculator(gap, atoms):
    atoms = atoms.copy()
    atoms.calc = gap.calculator()
    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except GapkitError:
        return
    assert np.isfinite(energy)
    assert np.isfinite(forces).all()


def fitted(sample, **changes):
    """A model of them, or None where they are refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GapkitWarning)  # no energies, undetermined reference energies
        try:
            return small_gap(**{"folds": 2, **changes}).fit(sample)
        except GapkitError as error:
            event("refused")
            one_line(error)
            return None


@settings(FUZZ, max_examples=120)
@given(st.lists(frames(), min_size=1, max_size=5))
def test_fit_to_ordinary_frames_with_any_labels(train, sample):
    gap = fitted(sample)
    if gap is not None:
        event("fitted")
        for atoms in train[:2]:
            all_finite(gap.predict([atoms], uncertainty=True), atoms)
        assert np.isfinite([v for v in gap.evaluate(sample).summary.values() if v is not None]).all()


@settings(FUZZ, max_examples=150)
@given(st.lists(frames(), max_size=2), frames(wild=True), st.lists(frames(), max_size=2), st.booleans())
def test_fit_to_frames_of_which_one_is_wild(train, before, wild, after, zbl):
    gap = fitted([*before, wild, *after], folds=1, baseline="zbl" if zbl else None)
    if gap is not None:
        event("fitted")
        for atoms in train[:2]:
            if set(atoms.numbers) <= set(gap.potential_.species):
                all_finite(gap.predict([atoms], uncertainty=True), atoms)


@settings(FUZZ, max_examples=60)
@given(frames(wild=True) | frames())
def test_update(train, atoms):
    gap = small_gap(folds=1, noise_levels={"energy": 0.01, "forces": 0.1, "virial": 0.1}).fit(train[:4])
    before = gap.predict(train[:1]).energy
    try:
        gap.update([atoms])
    except GapkitError:
        assert gap.predict(train[:1]).energy == before
        return
    all_finite(gap.predict(train[:1], uncertainty=True), train[0])


@settings(FUZZ, max_examples=60)
@given(frames(wild=True) | frames())
def test_zbl(atoms):
    atoms = atoms.copy()
    atoms.calc = gapkit.ZBL()
    try:
        assert np.isfinite(atoms.get_potential_energy())
        assert np.isfinite(atoms.get_forces()).all()
    except GapkitError:
        event("refused")


@settings(FUZZ, max_examples=80)
@given(st.data())
def test_load_after_several_changes(model_file, tmp_path, data):
    content = bytearray(model_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        end = min(len(content), begin + data.draw(st.integers(0, 40)))
        content[begin:end] = data.draw(st.binary(max_size=40))
    path = tmp_path / "bad.gapkit"
    path.write_bytes(bytes(content))
    if bytes(content) == model_file.read_bytes():
        return
    with pytest.raises(GapkitError):
        gapkit.load(path)
