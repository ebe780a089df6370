"""Relaxation of many frames in one batch: minima in closed form, independence of each other, ASE's optimisers."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixedPlane
from ase.optimize import BFGS, FIRE, LBFGS

from gapkit.exceptions import DataError, NumericsError, SettingsError
from gapkit.sampling.descent import Descent, two_loops
from gapkit.sampling.relaxation import RelaxationSettings, free_atoms, relax_many
from tests.numerical import random_rotation
from tests.sampling.surfaces import CoupledDoubleWell, Quadratic, Surface

SHARP = RelaxationSettings(fmax=1e-5)


def clusters(count: int, seed: int = 0) -> list[Atoms]:
    """Copper clusters away from a minimum, all different."""
    rng = np.random.default_rng(seed)
    start = bulk("Cu", cubic=True).repeat(2)[:9]
    start.pbc = False
    found = []
    for _ in range(count):
        atoms = start.copy()
        atoms.positions += rng.normal(scale=0.15, size=(9, 3))
        found.append(atoms)
    return found


# exact answers
def test_a_quadratic_energy_is_minimised_at_its_closed_form():
    surface = Quadratic(4, seed=1)
    rng = np.random.default_rng(2)
    frames = [Atoms("Ar4", positions=rng.normal(scale=2.0, size=(4, 3))) for _ in range(3)]
    for found in relax_many(frames, surface, SHARP):
        assert found.converged and found.message == ""
        np.testing.assert_allclose(found.atoms.positions, surface.minimum, atol=1e-4)
        assert found.energy == pytest.approx(surface.lowest, abs=1e-9)


def test_two_loops_with_all_pairs_of_a_quadratic_are_its_inverse():
    """BFGS with steps that are conjugate knows the whole matrix (Nocedal and Wright, theorem 6.4)."""
    H = Quadratic(2, seed=3).H
    steps = list(np.linalg.eigh(H)[1].T)
    g = np.random.default_rng(0).normal(size=6)
    np.testing.assert_allclose(two_loops(g, steps, [H @ s for s in steps], lambda q: q), -np.linalg.solve(H, g))


def test_no_atom_moves_further_in_a_step_than_allowed():
    descent = Descent(np.zeros((2, 3)), 0.0, 100.0 * np.array([3.0, 4.0, 0.0, 0.0, 1.0, 0.0]), longest_step=0.2)
    step = descent.trial()
    assert np.linalg.norm(step, axis=1).max() == pytest.approx(0.2)
    np.testing.assert_allclose(step[0] / 0.2, [-0.6, -0.8, 0.0], atol=1e-12)


def test_a_step_that_rises_is_refused_and_the_next_is_shorter():
    descent = Descent(np.zeros((1, 3)), 0.0, np.array([1.0, 0.0, 0.0]))
    first = descent.trial()
    assert not descent.tell(np.inf, np.zeros(3))
    np.testing.assert_array_equal(descent.x, 0.0)
    np.testing.assert_allclose(descent.trial(), 0.4 * first)
    assert not descent.tell(1.0, np.array([-5.0, 0.0, 0.0]))
    np.testing.assert_allclose(descent.trial(), 0.16 * first)


def test_the_way_down_from_beside_a_saddle_is_short():
    """Steps grow where the curvature is negative, else the start takes hundreds."""
    well = CoupledDoubleWell()
    start = well.minimum(1.0)
    start.positions[:] = [[0.01, 0.0, 0.0], well.o]
    (found,) = relax_many([start], well, SHARP)
    assert found.converged and found.evaluations < 40
    np.testing.assert_allclose(found.atoms.positions, well.minimum(1.0).positions, atol=1e-4)


def test_steps_are_as_short_as_the_settings_say():
    surface, seen = Quadratic(2, seed=1), []
    whole = surface.value
    surface.value = lambda x: seen.append(x.copy()) or whole(x)
    relax_many([Atoms("Ar2", positions=surface.minimum + 1.0)], surface, RelaxationSettings(longest_step=0.03, steps=9))
    moves = np.linalg.norm(np.diff(seen, axis=0), axis=2)
    assert len(seen) == 9 and moves.max() == pytest.approx(0.03)


# definition
def test_fixed_atoms_stay_and_forces_on_the_others_vanish():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.rattle(0.1, seed=0)
    slab.set_constraint([FixAtoms([0, 1]), FixAtoms([3])])
    assert free_atoms(slab).tolist() == [2, *range(4, 12)]
    before = slab.positions.copy()
    (found,) = relax_many([slab], EMT(), RelaxationSettings(fmax=1e-3))
    np.testing.assert_array_equal(slab.positions, before)
    np.testing.assert_array_equal(found.atoms.positions[[0, 1, 3]], before[[0, 1, 3]])
    assert np.linalg.norm(found.atoms.positions - before, axis=1)[free_atoms(slab)].min() > 1e-3
    again = found.atoms.copy()
    again.calc = EMT()
    assert again.get_potential_energy() == pytest.approx(found.energy, abs=1e-10)
    np.testing.assert_allclose(again.get_forces(apply_constraint=False), found.atoms.calc.results["forces"], atol=1e-9)
    assert np.linalg.norm(again.get_forces(), axis=1).max() == pytest.approx(found.largest_force, abs=1e-9)
    assert found.largest_force < 1e-3


# independence of the other frames
def test_a_frame_relaxes_the_same_alone_and_beside_others():
    slab = fcc111("Cu", (1, 1, 3), vacuum=6.0)
    slab.rattle(0.1, seed=1)
    frames = [*clusters(3), slab, molecule("N2"), clusters(4)[-1]]
    together = relax_many(frames, EMT())
    backwards = relax_many(frames[::-1], EMT())[::-1]
    for k, frame in enumerate(frames):
        (alone,) = relax_many([frame], EMT())
        for found in (together[k], backwards[k]):
            np.testing.assert_allclose(found.atoms.positions, alone.atoms.positions, rtol=0, atol=1e-12)
            assert found.energy == pytest.approx(alone.energy, abs=1e-12)
            assert found.evaluations == alone.evaluations
    assert together[0].evaluations > 3


def test_frames_of_one_kind_share_a_batch_which_they_leave_as_they_converge():
    surface = Quadratic(3, seed=5, batches=True)
    rng = np.random.default_rng(6)
    frames = [Atoms("Ar3", positions=surface.minimum + s * rng.normal(size=(3, 3))) for s in (0.0, 0.01, 0.1, 1.0)]
    found = relax_many(frames, surface, RelaxationSettings(fmax=1e-4))
    counts = sorted(f.evaluations for f in found)
    assert counts[0] == 1 and len(set(counts)) > 2
    assert len(surface.sizes) == counts[-1] and sum(surface.sizes) == sum(counts)
    assert surface.sizes == [sum(c > step for c in counts) for step in range(counts[-1])]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.set_cell([9.0, 9.0, 9.0]),
        lambda a: a.set_pbc([True, False, False]),
        lambda a: a.set_atomic_numbers([18, 18, 10]),
        lambda a: a.set_initial_magnetic_moments([1.0, 0.0, 0.0]),
        lambda a: a.set_initial_charges([1.0, 0.0, 0.0]),
        lambda a: a.info.update(charge=1),
    ],
)
def test_frames_of_another_kind_have_a_batch_of_their_own(change):
    surface = Quadratic(3, seed=5, batches=True)
    frames = [Atoms("Ar3", positions=surface.minimum, cell=[8.0, 8.0, 8.0]) for _ in range(2)]
    relax_many(frames, surface)
    assert surface.sizes == [2]
    change(frames[1])
    relax_many(frames, surface)
    assert surface.sizes == [2, 1, 1]


def test_the_minimum_turns_with_the_frame():
    (atoms,) = clusters(1, seed=3)
    turn = random_rotation(np.random.default_rng(1))
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn + [1.0, 2.0, 3.0]
    one, other = relax_many([atoms, turned], EMT(), SHARP)
    np.testing.assert_allclose(one.atoms.positions @ turn + [1.0, 2.0, 3.0], other.atoms.positions, atol=1e-3)
    assert one.energy == pytest.approx(other.energy, abs=1e-7)


# another library
@pytest.mark.parametrize("optimiser", [LBFGS, BFGS, FIRE])
def test_the_minimum_is_that_of_ase(optimiser):
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.rattle(0.05, seed=4)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() > 2))
    (found,) = relax_many([slab], EMT(), RelaxationSettings(fmax=1e-4))
    slab.calc = EMT()
    optimiser(slab, logfile=None).run(fmax=1e-4, steps=1000)
    assert found.energy == pytest.approx(slab.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(found.atoms.positions, slab.positions, atol=1e-3)


# what fails
class Cliff(Surface):
    """Harmonic, with no finite energy beyond x = 1 A."""

    def value(self, x):
        if x[0, 0] > 1.0:
            return np.nan, np.full_like(x, np.nan)
        return 0.5 * np.sum((x - [0.9, 0.0, 0.0]) ** 2), x - [0.9, 0.0, 0.0]


def test_a_frame_without_a_finite_energy_fails_alone():
    frames = [Atoms("H", positions=[[x, 0.0, 0.0]]) for x in (0.0, 2.0, 0.5)]
    found = relax_many(frames, Cliff(), RelaxationSettings(fmax=1e-6))
    assert [f.converged for f in found] == [True, False, True]
    assert "no energy at the start (copy 0: " in found[1].message and found[1].evaluations == 1
    assert found[1].atoms.calc is None and found[1].energy == np.inf
    for k in (0, 2):
        np.testing.assert_allclose(found[k].atoms.positions, [[0.9, 0.0, 0.0]], atol=1e-5)


def test_a_step_to_no_finite_energy_is_shortened():
    (found,) = relax_many(
        [Atoms("H", positions=[[0.5, 3.0, 0.0]])], Cliff(), RelaxationSettings(fmax=1e-6, longest_step=2.0)
    )
    assert found.converged
    np.testing.assert_allclose(found.atoms.positions, [[0.9, 0.0, 0.0]], atol=1e-5)


def test_a_frame_that_does_not_converge_is_flagged_or_an_error_where_asked():
    frames = [*clusters(2), molecule("N2")]
    short = RelaxationSettings(fmax=1e-3, steps=3)
    found = relax_many(frames, EMT(), short)
    assert [f.evaluations for f in found[:2]] == [3, 3] and not found[0].converged
    assert "after 3 evaluations" in str(found[0]) and "eV/A" in found[0].message
    assert found[0].energy < EMT().get_potential_energy(frames[0])
    with pytest.raises(NumericsError, match=r"not relaxed: frames 0, 1.*of frame 0, the largest force is"):
        relax_many(frames, EMT(), short, strict=True)
    assert relax_many([], EMT()) == []


def test_frames_that_cannot_be_relaxed_are_named():
    good, bad = molecule("N2"), molecule("N2")
    with pytest.raises(SettingsError, match="frame 0 has no calculator"):
        relax_many([good])
    bad.set_constraint(FixedPlane(0, (0, 0, 1)))
    with pytest.raises(SettingsError, match="frame 1: a constraint FixedPlane is not provided for"):
        relax_many([good, bad], EMT())
    bad.set_constraint()
    bad.positions[0, 0] = np.nan
    with pytest.raises(DataError, match="frame 1: a position is not finite"):
        relax_many([good, bad], EMT())
    for wrong, name in ({"fmax": 0.0}, "fmax"), ({"steps": 0}, "steps"), ({"longest_step": -1.0}, "longest_step"):
        with pytest.raises(SettingsError, match=name):
            RelaxationSettings(**wrong)
    assert RelaxationSettings.from_json(SHARP.to_json()) == SHARP


def test_each_frame_may_bring_its_own_calculator():
    surfaces = [Quadratic(2, seed=k, batches=True) for k in (1, 2)]
    frames = [Atoms("Ar2", positions=np.zeros((2, 3))) for _ in surfaces]
    for frame, surface in zip(frames, surfaces, strict=True):
        frame.calc = surface
    for found, surface in zip(relax_many(frames, settings=SHARP), surfaces, strict=True):
        np.testing.assert_allclose(found.atoms.positions, surface.minimum, atol=1e-4)


def test_a_frame_with_all_atoms_fixed_is_relaxed_as_it_stands():
    atoms = molecule("N2")
    atoms.set_constraint(FixAtoms([0, 1]))
    (found,) = relax_many([atoms], EMT())
    assert found.converged and found.evaluations == 1 and found.largest_force == 0.0


def test_a_single_frame_must_be_given_as_a_list():
    with pytest.raises(DataError, match=r"frames must be a list of frames: give \[atoms\] for one"):
        relax_many(molecule("N2"), EMT())
