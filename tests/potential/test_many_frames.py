"""Many frames in one pass, and copies of one frame, against single evaluations."""

from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.linalg
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms

import gapkit
import gapkit.potential.calculator
from gapkit.exceptions import DataError, GapkitError, NumericsError, SettingsError, SpeciesError
from gapkit.potential import potential as module
from gapkit.potential import spreads
from gapkit.potential.baseline import ZBL
from gapkit.sampling.batches import batch_forces
from gapkit.structures import verlet_list
from gapkit.structures.neighbours import SMALL, FrameArrays
from gapkit.structures.verlet_list import VerletList
from gapkit.uncertainty.calibration import Calibration, GroupCalibration
from gapkit.uncertainty.label_errors import StatedErrors
from tests.potential.conftest import alloys

UNCERTAINTIES = [None, "local", "energy", "full"]
MODELS = ["many terms", "plain", "squared exponential", "exact mean"]


def company(name):
    """Frames of a model's species: periodic, isolated, partly periodic, of one atom and of many."""
    rng = np.random.default_rng(7)
    if name == "exact mean":
        frames = [molecule(m) for m in ("CH3OH", "H2O", "CH3OH", "CO", "CH3CH2OH")] + [Atoms("O")]
        for atoms in frames:
            atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        return frames
    slab = fcc111("Cu", (2, 2, 2), vacuum=4.0)
    slab.pbc = (True, True, False)
    slab.positions += rng.normal(scale=0.05, size=slab.positions.shape)
    wide = bulk("Cu", cubic=True, a=3.8) * (3, 3, 2)
    wide.positions += rng.normal(scale=0.1, size=wide.positions.shape)
    frames = [*alloys(5, seed=5), Atoms("Cu"), bulk("Ag", a=4.2), slab, wide, *alloys(3, seed=6)]
    assert len(wide) > SMALL
    return [Atoms(a, calculator=None) for a in frames]


def worst(found, expected):
    """Largest difference over the largest number; 0 for two that are not there."""
    if expected is None:
        assert found is None
        return 0.0
    assert np.shape(found) == np.shape(expected)
    scale = np.abs(expected).max(initial=0.0)
    return float(np.abs(np.subtract(found, expected)).max(initial=0.0) / max(scale, 1e-3))


MEANS = ["energy", "forces", "virial", "stress", "local_energy", "atomic_virials"]


@pytest.mark.parametrize("name", MODELS)
def test_means_of_a_pass_are_those_of_single_frames(name, potentials):
    frames = company(name)
    together = potentials[name].evaluate_many(frames)
    assert len(together) == len(frames)
    for atoms, found in zip(frames, together, strict=True):
        alone = potentials[name].evaluate(atoms)
        assert found.local_variance is None and found.spread is None
        assert [a for a in MEANS if worst(getattr(found, a), getattr(alone, a)) > 1e-12] == []
    assert any(e.virial is not None for e in together) != (name == "exact mean")
    assert max(np.abs(e.forces).max() for e in together) > 0.1


def stated(p):
    """The potential with error bars that are the posterior's own: residual and weights count as they are."""
    levels = {kind: GroupCalibration(0.02, 1.0, 1.0) for kind in ("energy", "forces", "virial")}
    return replace(p, errors=StatedErrors(Calibration(levels, 1.0, 1.0)))


def rounding(p, rows, n_atoms):
    r"""By how much company may change the posterior variances of these rows (eV^2).

    The variance of a row k is :math:`k(x, x) - |a|^2 + a^T W a` with :math:`a = L^{-1} k`. Company changes the order
    of sums, within the rounding of any order: the solve has :math:`(L + \Delta) a = k`, :math:`|\Delta| \le m
    \epsilon |L|` (Higham, Accuracy and Stability of Numerical Algorithms, 2002, theorem 8.5). So :math:`|a|^2` changes
    by :math:`2 |\alpha^T \Delta a| \le 2 m \epsilon (\sum |\alpha|)^2` with :math:`\alpha = L^{-T} a`, rows of L being
    unit vectors; :math:`a^T W a` by :math:`2 m \epsilon \sum |\beta| |a|` with :math:`\beta = L^{-T} W a`, and by the
    solve with the factor of W; the prior variance by the rounding of a sum over atoms. Twice: two calculations differ.
    """
    eps, posterior = np.finfo(float).eps, p.posterior
    A = p.basis.whiten(rows.K)
    scaled = A * posterior.column_signal
    left = scipy.linalg.cho_solve((posterior.R, False), scaled.T).T
    alpha = np.array([p.basis.unwhiten(row) for row in A]) * posterior.column_signal
    beta = np.array([p.basis.unwhiten(row) for row in left * posterior.column_signal])
    sums = np.abs(alpha).sum(axis=1) ** 2 + np.abs(beta).sum(axis=1) * np.linalg.norm(A, axis=1)
    sums += np.linalg.norm(scaled, axis=1) * np.linalg.norm(left, axis=1)
    return 4 * p.basis.n_columns * eps * sums + 2 * n_atoms * eps * rows.prior @ posterior.signal**2


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("uncertainty", ["local", "energy", "full"])
def test_error_bars_of_a_pass_are_those_of_single_frames(name, uncertainty, potentials):
    p, frames = replace(stated(potentials[name]), local_forms={}), company(name)
    if uncertainty == "full":
        frames = [atoms for atoms in frames if len(atoms) <= SMALL]  # else it takes long
    together = p.evaluate_many(frames, uncertainty, noise=False)
    asked = []
    for atoms, found in zip(frames, together, strict=True):
        n, structure = len(atoms), p.structure(atoms)
        (alone,) = p.evaluate_many([atoms], uncertainty, noise=False)
        assert [a for a in MEANS if worst(getattr(found, a), getattr(alone, a)) > 1e-12] == []
        per_atom = rounding(p, p.basis.local_rows(structure), n)
        if uncertainty == "local":
            assert np.all(np.abs(found.local_variance - alone.local_variance) <= per_atom)
            exact = p.local_spread(structure, noise=False) ** 2
            assert np.all(np.abs(found.local_variance - exact) <= per_atom + 1e-14 * exact)
            assert found.spread is None
            continue
        assert found.local_variance is None
        rows = rounding(p, p.basis.rows(structure, uncertainty == "full"), n)
        volume = atoms.get_volume() if atoms.cell.rank == 3 else np.nan
        bounds = {
            "energy": rows[0],
            "local_energy": per_atom,
            "forces": rows[1 : 3 * n + 1].reshape(-1, 3),
            "stress": rows[3 * n + 1 :] / volume**2,
        }
        for kind, bound in bounds.items():
            mine, theirs = getattr(found.spread, kind), getattr(alone.spread, kind)
            if theirs is None:
                assert mine is None and (uncertainty == "energy" or not atoms.pbc.any())
                continue
            # a square root and a square lose two more bits, and what is zero by symmetry has rounding of its own
            assert np.all(np.abs(np.square(mine) - np.square(theirs)) <= bound + 1e-15 * np.square(theirs) + 1e-24)
            asked.append(np.ravel(np.square(theirs) > 1e3 * bound))
    assert uncertainty == "local" or np.mean(np.concatenate(asked)) > 0.9  # the bound does not allow everything


@pytest.mark.parametrize("name", ["plain", "exact mean"])
def test_error_bars_that_a_fit_calibrated_are_those_of_single_frames(name, potentials):
    p = potentials[name]
    frames = company(name)
    for atoms, found in zip(frames, p.evaluate_many(frames, "full"), strict=True):
        expected = p.spread(atoms, config_type=atoms.info.get("config_type"))
        for attribute in (f.name for f in fields(expected)):
            mine, theirs = getattr(found.spread, attribute), getattr(expected, attribute)
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-9) if theirs is not None else None
            assert (mine is None) == (theirs is None)


def test_noise_is_that_of_each_frames_config_type(potentials):
    """Variances of a frame's labels are those of the function, times its config_type's scales, plus its noise."""
    levels = {
        "energy": GroupCalibration(0.01, 1.0, 1.0),
        "energy:hot": GroupCalibration(0.05, 4.0, 4.0),
        "forces": GroupCalibration(0.1, 1.0, 1.0),
        "forces:hot": GroupCalibration(0.3, 9.0, 9.0),
        "virial": GroupCalibration(0.2, 1.0, 1.0),
    }
    p = replace(potentials["plain"], errors=StatedErrors(Calibration(levels, 1.0, 1.0)))
    frames = [alloys(1, seed=5)[0] for _ in range(3)]
    for atoms, config in zip(frames, ("hot", None, "unknown"), strict=True):
        atoms.info["config_type"] = config
    frames[1].info.clear()
    n = len(frames[0])
    hot, cold, other = (e.spread for e in p.evaluate_many(frames, "full"))
    alone = p.evaluate_many(frames[1:2], "full", noise=False)[0].spread
    for found, scale, energy, force_scale, force in ((hot, 4, 0.05, 9, 0.3), (cold, 1, 0.01, 1, 0.1)):
        np.testing.assert_allclose(found.local_energy**2, scale * alone.local_energy**2 + energy**2, rtol=1e-9)
        np.testing.assert_allclose(found.energy**2, scale * alone.energy**2 + n * energy**2, rtol=1e-9)
        np.testing.assert_allclose(found.forces**2, force_scale * alone.forces**2 + force**2, rtol=1e-9)
    np.testing.assert_allclose(cold.stress**2, alone.stress**2 + n * (0.2 / frames[0].get_volume()) ** 2, rtol=1e-9)
    np.testing.assert_allclose(other.forces, cold.forces, rtol=1e-9)


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
@pytest.mark.parametrize("name", ["many terms", "plain"])
def test_passes_and_their_parts_have_no_seams(name, uncertainty, potentials, monkeypatch):
    """Frames before, at and after the end of a pass, one larger than a pass; chunks of atoms and of rows likewise."""
    p, frames = potentials[name], company(name)
    if uncertainty == "full" and name == "many terms":
        frames[8] = bulk("Ag", cubic=True, a=4.2) * (3, 1, 1)
    expected = p.evaluate_many(frames, uncertainty)
    passes = []
    whole = type(p)._pass
    monkeypatch.setattr(
        type(p), "_pass", lambda self, part, *rest: passes.append(len(part)) or whole(self, part, *rest)
    )
    monkeypatch.setattr(module, "PASS", 11)
    monkeypatch.setattr(spreads, "CHUNK", 3)
    monkeypatch.setattr(spreads, "ROWS", 40)
    found = p.evaluate_many(frames, uncertainty)
    assert passes == [1, 3, 3, 1, 1, 1, 2]
    assert sum(passes) == len(found) == len(frames)
    for mine, theirs in zip(found, expected, strict=True):
        assert [a for a in MEANS if worst(getattr(mine, a), getattr(theirs, a)) > 1e-12] == []
        assert worst(mine.local_variance, theirs.local_variance) < 1e-9
        if theirs.spread is not None:
            assert worst(mine.spread.local_energy, theirs.spread.local_energy) < 1e-9
            assert worst(mine.spread.energy, theirs.spread.energy) < 1e-9


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
def test_no_frames_are_no_evaluations(uncertainty, potentials):
    assert potentials["plain"].evaluate_many([], uncertainty) == []
    assert potentials["plain"].local_spreads([]) == []


def test_error_bars_of_an_unknown_kind_are_refused(potentials):
    with pytest.raises(SettingsError, match="'forces'"):
        potentials["plain"].evaluate_many([], "forces")


@pytest.mark.parametrize("name", ["plain", "exact mean"])
def test_company_changes_no_bit_of_a_small_frame(name, potentials):
    """Of pairs, and of SOAP with dot-product kernels, whose products are gapkit's own: each column is one atom's."""
    frames = [atoms for atoms in company(name) if len(atoms) <= SMALL]
    together = potentials[name].evaluate_many(frames)
    turned = potentials[name].evaluate_many(frames[::-1])[::-1]
    for atoms, one, two in zip(frames, together, turned, strict=True):
        alone = potentials[name].evaluate(atoms)
        for found in (one, two):
            assert found.energy == alone.energy
            np.testing.assert_array_equal(found.forces, alone.forces)
            np.testing.assert_array_equal(found.atomic_virials, alone.atomic_virials)


def test_local_spreads_are_those_of_single_frames(potentials, monkeypatch):
    p = potentials["plain"]
    frames = company("plain")
    monkeypatch.setattr(module, "PASS", 11)
    for noise in (True, False):
        for atoms, found in zip(frames, p.local_spreads(frames, noise), strict=True):
            np.testing.assert_allclose(found, p.local_spread(p.structure(atoms), noise), rtol=1e-8)


# -- fast variances of local energies --------------------------------------------------------------------------


def test_fast_variances_do_not_depend_on_company(potentials):
    """An environment far from the data has a variance so large that a share of it is more than that of others."""
    p = potentials["plain"]
    tame = alloys(1, seed=5)[0]
    far = Atoms("Cu3", positions=[[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    alone = p.evaluate(tame, local_variance=True).local_variance
    scale = module.LEAST_VARIANCE
    wild = p.evaluate(far, local_variance=True).local_variance
    assert 0.5 * alone.min() < 0.5 * wild.max()
    try:
        module.LEAST_VARIANCE = 0.9
        expected = p.evaluate(tame, local_variance=True).local_variance
        found = p.evaluate_many([far, tame], "local")[1].local_variance
    finally:
        module.LEAST_VARIANCE = scale
    np.testing.assert_array_equal(found, expected)
    assert np.all(expected >= 0.9 * alone.max() * (1 - 1e-12))


def test_a_frame_without_a_form_takes_none_from_others(potentials):
    """A form is 15 % off: whether a frame has one must not depend on who stands beside it."""
    p = potentials["plain"]
    copper = next(k for k in p.local_forms if p.basis.blocks[k].channel == (29,))
    p = replace(p, local_forms={copper: p.local_forms[copper]})
    both, only = alloys(1, seed=5)[0], bulk("Cu", cubic=True, a=3.7)
    only.positions += 0.1 * np.random.default_rng(0).normal(size=(4, 3))
    assert p.has_fast_local_variance(only.numbers) and not p.has_fast_local_variance(both.numbers)
    found = p.evaluate_many([both, only, both], "local")
    fast = p.evaluate(only, local_variance=True).local_variance
    exact = p.local_spread(p.structure(only), noise=False) ** 2
    assert np.abs(fast / exact - 1).max() > 1e-4
    np.testing.assert_allclose(found[1].local_variance, fast, rtol=1e-9)
    expected = p.local_spread(p.structure(both), noise=False) ** 2
    for k in (0, 2):
        np.testing.assert_allclose(found[k].local_variance, expected, rtol=1e-8)
        np.testing.assert_array_equal(found[k].forces, p.evaluate(both).forces)


# -- baselines -------------------------------------------------------------------------------------------------


class Charges(Calculator):
    """A baseline that depends on what an atom is told: its initial charge, and the frame's field."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        q, field = self.atoms.get_initial_charges(), self.atoms.info.get("field", 0.0)
        self.results = {"energy": float(-field * q @ self.atoms.positions[:, 0]), "forces": np.zeros((len(q), 3))}
        self.results["forces"][:, 0] = field * q


BASELINES = {
    "local": lambda: ZBL(r_cut=2.9, cutoff_width=1.5),
    "local, farther than the model": lambda: ZBL(r_cut=5.5, cutoff_width=2.0),
    "not local": lambda: LennardJones(sigma=2.2, epsilon=0.1, rc=5.0),
}


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_added_in_passes_as_to_single_frames(name, potentials):
    baseline = BASELINES[name]()
    bare, p = potentials["plain"], replace(potentials["plain"], baseline=baseline)
    frames = [atoms for atoms in company("plain") if atoms.cell.rank in (0, 3)]
    for atoms, found, without in zip(frames, p.evaluate_many(frames), bare.evaluate_many(frames), strict=True):
        alone = p.evaluate(atoms)
        assert [a for a in MEANS if worst(getattr(found, a), getattr(alone, a)) > 1e-12] == []
        work = atoms.copy()
        work.calc = baseline
        assert found.energy - without.energy == pytest.approx(work.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(found.forces - without.forces, work.get_forces(), atol=1e-10)
        np.testing.assert_allclose(found.local_energy.sum(), found.energy, atol=1e-10)
        if found.virial is not None:
            np.testing.assert_allclose(found.stress - without.stress, work.get_stress(), atol=1e-11)
            np.testing.assert_allclose(found.atomic_virials.sum(axis=0), found.virial, atol=1e-10)
    copies = np.array([frames[0].positions, frames[0].positions + 0.1 * np.sin(np.arange(24).reshape(8, 3))])
    energies, forces = p.evaluate_copies(frames[0], copies)
    for x, energy, force in zip(copies, energies, forces, strict=True):
        alone = p.evaluate(Atoms(frames[0], positions=x))
        assert energy == pytest.approx(alone.energy, rel=1e-12)
        np.testing.assert_allclose(force, alone.forces, atol=1e-12)


def test_constraints_do_not_reach_the_baseline(potentials):
    """An atom that the user holds has the force that it has."""
    p = replace(potentials["plain"], baseline=BASELINES["not local"]())
    free = alloys(1, seed=5)[0]
    held = free.copy()
    held.set_constraint(FixAtoms([0, 1, 2]))
    np.testing.assert_array_equal(p.evaluate(held).forces, p.evaluate(free).forces)
    np.testing.assert_array_equal(p.evaluate_copies(held, free.positions[None])[1][0], p.evaluate(free).forces)


def test_copies_bring_to_the_baseline_what_their_frame_knows(potentials):
    p = replace(potentials["plain"], baseline=Charges())
    atoms = Atoms("CuAg", positions=[[0, 0, 0], [2.6, 0.3, 0]])
    atoms.set_initial_charges([0.5, -1.0])
    atoms.info["field"] = 0.7
    energies, forces = p.evaluate_copies(atoms, np.array([atoms.positions, atoms.positions + 0.4]))
    for k, shift in enumerate((0.0, 0.4)):
        moved = atoms.copy()
        moved.positions += shift
        alone = p.evaluate(moved)
        assert energies[k] == pytest.approx(alone.energy, rel=1e-12)
        np.testing.assert_allclose(forces[k], alone.forces, atol=1e-12)
    assert abs(energies[1] - energies[0]) == pytest.approx(0.7 * 0.5 * 0.4, rel=1e-9)


# -- frames that fail ------------------------------------------------------------------------------------------


class Wall:
    """A local baseline whose energy is infinite within its cutoff."""

    r_cut = 1.0

    def add_prediction(self, structure, sums):
        sums.local[structure.pairs(self.r_cut).i] += np.inf


def spoilt(kind):
    atoms = alloys(1, seed=5)[0]
    if kind == "species":
        atoms.symbols[3] = "Pt"
    elif kind == "not finite":
        atoms.positions[3, 1] = np.nan
    elif kind == "contact":
        atoms.positions[3] = atoms.positions[1]
    elif kind == "empty":
        atoms = Atoms()
    elif kind == "far":
        atoms.positions[3, 2] = 1e7
    return atoms


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("species", SpeciesError, "atom 3 is Pt"),
        ("not finite", DataError, "the position of atom 3 is not finite"),
        ("contact", DataError, "atoms (1 and 3|3 and 1) are 0 A apart"),
        ("empty", DataError, "it has no atoms"),
        ("far", DataError, "the position of atom 3 is 1e\\+07 A"),
    ],
)
def test_a_bad_frame_is_named(kind, error, words, uncertainty, potentials, monkeypatch):
    p, good, bad = potentials["plain"], alloys(1, seed=5)[0], spoilt(kind)
    frames = [good, good, bad, good]
    with pytest.raises(error, match=f"^frame 2: {words}"):
        p.evaluate_many(frames, uncertainty)
    monkeypatch.setattr(module, "PASS", 10)  # in a pass of its own
    with pytest.raises(error, match=f"^frame 2: {words}"):
        p.evaluate_many(frames, uncertainty)
    with pytest.raises(error, match=f"^c: {words}"):
        p.evaluate_many(frames, uncertainty, context="abcd")
    with pytest.raises(error, match=f"^c: {words}"):
        p.local_spreads(frames, context="abcd")
    with pytest.raises(error, match=f"^frame: {words}"):
        p.evaluate(bad)


def test_an_energy_that_is_not_finite_names_its_frame(potentials):
    p = replace(potentials["plain"], baseline=Wall())
    near, apart = (Atoms("Cu2", positions=[[0, 0, 0], [x, 0, 0]]) for x in (0.8, 2.5))
    frames = [Atoms("Cu"), apart, near, Atoms("Cu")]
    with pytest.raises(NumericsError, match="^frame 2: the potential gives"):
        p.evaluate_many(frames)
    assert len(p.evaluate_many(frames[:2])) == 2
    with pytest.raises(NumericsError, match="^copy 1: the potential gives"):
        p.evaluate_copies(apart, np.array([apart.positions, near.positions]))
    silver = replace(potentials["plain"], baseline=_Fails())
    with pytest.raises(GapkitError, match=r"^b: the baseline calculator _Fails failed \(RuntimeError: no copper\)"):
        silver.evaluate_many([Atoms("Ag"), Atoms("Cu")], context="ab")
    with pytest.raises(GapkitError, match=r"^copy 0: the baseline calculator _Fails failed"):
        silver.evaluate_copies(Atoms("Cu"), np.zeros((1, 1, 3)))


class _Fails(Calculator):
    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if 29 in self.atoms.numbers:
            raise RuntimeError("no copper")
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


# -- copies ----------------------------------------------------------------------------------------------------


def walk(atoms, copies, steps, scale, seed=0):
    """Positions (R, n, 3) of copies that move at random."""
    rng = np.random.default_rng(seed)
    positions = np.array([atoms.positions] * copies)
    for _ in range(steps):
        positions = positions + rng.normal(scale=scale, size=positions.shape)
        yield positions


def as_single_frames(p, atoms, positions):
    moved = [Atoms(atoms, positions=x) for x in positions]
    found = [p.evaluate(a) for a in moved]
    return np.array([e.energy for e in found]), np.array([e.forces for e in found])


@pytest.mark.parametrize("name", MODELS)
def test_small_copies_are_single_frames_to_the_last_bit(name, potentials):
    p = potentials[name]
    for atoms in (a for a in company(name) if len(a) <= SMALL):
        (positions,) = walk(atoms, 5, 1, 0.05)
        energies, forces = p.evaluate_copies(atoms, positions)
        expected = as_single_frames(p, atoms, positions)
        np.testing.assert_allclose(energies, expected[0], rtol=1e-12)
        np.testing.assert_allclose(forces, expected[1], atol=1e-12 * np.abs(expected[1]).max(initial=1.0))
        if name in ("plain", "exact mean"):  # products of other terms are a library's, and depend on their number
            np.testing.assert_array_equal(energies, expected[0])
            np.testing.assert_array_equal(forces, expected[1])
            alone = p.evaluate_copies(atoms, positions[3:4])
            np.testing.assert_array_equal(forces[3], alone[1][0])
            positions[1, 0] += [0.01, 0, 0]  # what one copy does is nothing to the others
            again = p.evaluate_copies(atoms, positions)
            np.testing.assert_array_equal(np.delete(again[1], 1, axis=0), np.delete(forces, 1, axis=0))


def test_copies_of_any_layout_and_in_several_passes(potentials, monkeypatch):
    p, atoms = potentials["plain"], company("plain")[0]
    (positions,) = walk(atoms, 7, 1, 0.05)
    energies, forces = p.evaluate_copies(atoms, positions)
    for other in (np.asfortranarray(positions), np.repeat(positions, 2, axis=0)[::2], positions.astype(">f8")):
        np.testing.assert_array_equal(p.evaluate_copies(atoms, other)[1], forces)
    positions.setflags(write=False)
    monkeypatch.setattr(module, "PASS", 17)
    found = p.evaluate_copies(atoms, positions)
    np.testing.assert_array_equal(found[0], energies)
    np.testing.assert_array_equal(found[1], forces)
    assert atoms == company("plain")[0]
    nothing = p.evaluate_copies(atoms, np.zeros((0, len(atoms), 3)))
    assert nothing[0].shape == (0,) and nothing[1].shape == (0, len(atoms), 3)


def large(n):
    atoms = bulk("Cu", cubic=True, a=3.75) * (3, 3, n)
    atoms.symbols[::5] = "Ag"
    return atoms


@pytest.mark.parametrize("name", ["plain", "many terms"])
@pytest.mark.parametrize("skin", [0.7, 0.0])
def test_large_copies_with_kept_lists_are_single_frames(name, skin, potentials, monkeypatch):
    """108 atoms: copies walk, and their number changes on the way; a copy that jumps gets a new list."""
    p, atoms = potentials[name], large(3)
    assert len(atoms) > SMALL
    searched = []
    search = verlet_list.neighbours
    monkeypatch.setattr(verlet_list, "neighbours", lambda a, r_cut: searched.append(len(a)) or search(a, r_cut))
    calculator = gapkit.potential.calculator.GAPCalculator(p, skin=skin)
    evaluate = batch_forces(atoms, calculator)
    for k, (copies, searches) in enumerate(((3, 3), (3, 0), (2, 2), (2, 0), (4, 4))):
        (positions,) = walk(atoms, 4, 1, 0.02, seed=k)
        energies, forces = evaluate(positions[:copies])
        assert len(searched) == (searches if skin else 0)
        searched.clear()
        expected = as_single_frames(p, atoms, positions[:copies])
        np.testing.assert_allclose(energies, expected[0], rtol=1e-12)
        np.testing.assert_allclose(forces, expected[1], atol=1e-12 * np.abs(expected[1]).max())
    positions[2, 40] += [1.2, 0.8, 0.3]
    energies, forces = evaluate(positions)
    assert len(searched) == (1 if skin else 0)
    expected = as_single_frames(p, atoms, positions)
    np.testing.assert_allclose(energies, expected[0], rtol=1e-12)
    np.testing.assert_allclose(forces, expected[1], atol=1e-12 * np.abs(expected[1]).max())
    assert np.ptp(energies) > 1e-3


def test_kept_lists_follow_copies_that_move_far_and_change_places(potentials):
    p, atoms = potentials["plain"], large(2)
    lists = [VerletList(p.r_cut, 0.5) for _ in range(3)]
    for positions in walk(atoms, 3, 8, 0.08):
        order = np.random.default_rng(0).permutation(3)
        energies, forces = p.evaluate_copies(atoms, positions[order], lists)
        expected = as_single_frames(p, atoms, positions[order])
        np.testing.assert_allclose(energies, expected[0], rtol=1e-12)
        np.testing.assert_allclose(forces, expected[1], atol=1e-12 * np.abs(expected[1]).max())
    assert min(kept.n_searches for kept in lists) > 1


def test_kept_lists_serve_copies_across_passes(potentials, monkeypatch):
    p, atoms = potentials["plain"], large(2)
    (positions,) = walk(atoms, 5, 1, 0.05)
    lists = [VerletList(p.r_cut, 0.5) for _ in range(5)]
    energies, forces = p.evaluate_copies(atoms, positions)
    monkeypatch.setattr(module, "PASS", 2 * len(atoms))
    found = p.evaluate_copies(atoms, positions, lists)
    np.testing.assert_allclose(found[0], energies, rtol=1e-12)
    np.testing.assert_allclose(found[1], forces, atol=1e-12 * np.abs(forces).max())
    assert [kept.n_searches for kept in lists] == [1] * 5


@pytest.mark.parametrize("kept", [False, True])
def test_a_bad_copy_is_named(kept, potentials, monkeypatch):
    p, atoms = potentials["plain"], large(2)
    positions = np.array([atoms.positions] * 4)
    lists = [VerletList(p.r_cut, 0.5) for _ in range(4)] if kept else ()
    p.evaluate_copies(atoms, positions, lists)
    monkeypatch.setattr(module, "PASS", 2 * len(atoms))
    positions[3, 5, 1] = np.nan
    with pytest.raises(DataError, match="^copy 3: the position of atom 5 is not finite"):
        p.evaluate_copies(atoms, positions, lists)
    positions[3] = positions[2]
    positions[2, 7] = positions[2, 8] + 1e-5
    with pytest.raises(DataError, match="^copy 2: atoms (7 and 8|8 and 7) are"):
        p.evaluate_copies(atoms, positions, lists)


def test_arrays_of_frames_are_those_frames():
    frames = company("plain")
    arrays = FrameArrays.of(frames)
    for k, atoms in enumerate(frames):
        np.testing.assert_array_equal(arrays.frame(k).positions, atoms.positions)
        np.testing.assert_array_equal(arrays.frame(k).numbers, atoms.numbers)
        np.testing.assert_array_equal(arrays.frame(k).cell.array, atoms.cell.array)
        np.testing.assert_array_equal(arrays.frame(k).pbc, atoms.pbc)
    copies = FrameArrays.of_copies(frames[0], np.array([frames[0].positions, frames[0].positions + 1]))
    assert copies.frame(1) == Atoms(frames[0], positions=frames[0].positions + 1)
