"""Hessians by central differences: exact for springs, of the right order in the step, and honest about their errors."""

import signal

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixBondLength

from gapkit.exceptions import DataError, GapkitWarning, NumericsError, SettingsError
from gapkit.sampling.batches import batch_forces
from gapkit.vibrations import given_hessian, hessian, impose_sum_rule
from gapkit.vibrations.rigid_motions import project_out, translations
from tests.vibrations.springs import Quadratic, Springs, Together

RNG = np.random.default_rng(0)
POINTS = np.array([[0.0, 0.0, 0.0], [1.2, 0.1, 0.0], [0.3, 1.4, 0.2], [0.5, 0.4, 1.3]])
STRAINED = Springs(RNG.uniform(1, 9, (4, 4)), 1.0 + RNG.uniform(0, 0.6, (4, 4)))
STRAINED.k = 0.5 * (STRAINED.k + STRAINED.k.T)
STRAINED.d = 0.5 * (STRAINED.d + STRAINED.d.T)
ATOMS = Atoms("OHCN", POINTS)


def test_the_hessian_of_a_quadratic_energy_is_exact_for_every_step():
    K = RNG.normal(size=(12, 12))
    K = K + K.T
    for step in (0.002, 0.5):
        found = hessian(ATOMS, Quadratic(K, POINTS + 0.3), step=step)
        np.testing.assert_allclose(found.matrix, K, atol=1e-10)
        assert found.step == step and found.asymmetry < 1e-10 and found.step_error is None
        np.testing.assert_allclose(found.forces, (K @ np.full(12, 0.3)).reshape(4, 3))
        assert found.energy == pytest.approx(0.5 * 0.09 * K.sum())


def test_the_hessian_of_a_network_of_springs_is_that_in_closed_form():
    exact = STRAINED.hessian(POINTS)
    assert np.abs(exact - exact.T).max() < 1e-12 and np.abs(exact).max() > 5
    found = hessian(ATOMS, STRAINED, extrapolate=True)
    np.testing.assert_allclose(found.matrix, exact, atol=1e-8)


def test_the_error_falls_with_the_square_of_the_step_and_after_extrapolation_with_its_fourth_power():
    exact = STRAINED.hessian(POINTS)
    for extrapolate, order in ((False, 2), (True, 4)):
        errors = [
            np.abs(hessian(ATOMS, STRAINED, step=h, extrapolate=extrapolate).matrix - exact).max() for h in (0.04, 0.02)
        ]
        assert errors[1] > 1e-7
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_the_estimated_error_is_that_of_the_differences_that_are_not_extrapolated():
    error = np.abs(hessian(ATOMS, STRAINED, step=0.02).matrix - STRAINED.hessian(POINTS)).max()
    assert hessian(ATOMS, STRAINED, step=0.02, extrapolate=True).step_error == pytest.approx(error, rel=0.05)


def test_forces_without_an_energy_show_as_asymmetry():
    K = np.diag(np.arange(1.0, 13.0))
    K[0, 5] = 0.04
    found = hessian(ATOMS, Quadratic(K, POINTS))
    assert found.asymmetry == pytest.approx(0.04)
    assert found.matrix[0, 5] == found.matrix[5, 0] == pytest.approx(0.02)
    K[0, 5] = 4.0
    with pytest.warns(GapkitWarning, match="asymmetric by 4 eV"):
        hessian(ATOMS, Quadratic(K, POINTS))


def test_groups_of_copies_are_limited_and_do_not_change_the_numbers():
    whole, few = Together(STRAINED), Together(STRAINED)
    once = hessian(ATOMS, whole, extrapolate=True)
    again = hessian(ATOMS, few, extrapolate=True, copies=9)
    np.testing.assert_array_equal(once.matrix, again.matrix)
    assert whole.calls == [1, 48]
    assert few.calls == [1, 8, 8, 8, 8, 8, 8]


def test_large_structures_are_evaluated_in_smaller_groups(monkeypatch):
    monkeypatch.setattr("gapkit.vibrations.hessians.ATOMS_AT_ONCE", 16)
    together = Together(STRAINED)
    hessian(ATOMS, together)
    assert max(together.calls) == 4


def test_a_subset_of_atoms_has_the_block_of_the_whole_hessian():
    whole = hessian(ATOMS, STRAINED).matrix.reshape(4, 3, 4, 3)
    held = ATOMS.copy()
    held.set_constraint(FixAtoms([0, 2]))
    for atoms, indices in ((ATOMS, [3, 1]), (ATOMS, [-1, 1]), (ATOMS, [False, True, False, True]), (held, None)):
        part = hessian(atoms, STRAINED, indices=indices)
        np.testing.assert_array_equal(part.indices, [1, 3])
        np.testing.assert_allclose(part.matrix, whole[np.ix_([1, 3], range(3), [1, 3], range(3))].reshape(6, 6))
        assert not part.complete and part.sum_rule_error is None
        assert part.largest_force == pytest.approx(np.linalg.norm(part.forces[[1, 3]], axis=1).max())
        with pytest.raises(SettingsError, match="some are held"):
            part.with_sum_rule()


def test_another_order_of_the_atoms_permutes_rows_and_columns():
    methanol = molecule("CH3OH")
    order = np.random.default_rng(1).permutation(len(methanol))
    rows = (3 * order[:, None] + np.arange(3)).ravel()
    straight, permuted = hessian(methanol, EMT()), hessian(methanol[order], EMT())
    np.testing.assert_allclose(permuted.matrix, straight.matrix[np.ix_(rows, rows)], atol=1e-9)


def test_a_translation_costs_nothing_after_the_sum_rule_and_nothing_else_changes():
    noisy = STRAINED.hessian(POINTS)
    rng = np.random.default_rng(3)
    noise = rng.normal(scale=0.01, size=noisy.shape)
    noisy = noisy + noise + noise.T
    fixed = impose_sum_rule(noisy)
    assert np.abs(noisy.reshape(12, 4, 3).sum(axis=1)).max() > 0.01
    np.testing.assert_allclose(fixed.reshape(12, 4, 3).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_array_equal(fixed, fixed.T)
    moves = translations(np.ones(4))
    across = np.eye(12) - moves @ moves.T
    np.testing.assert_allclose(across @ fixed @ across, across @ noisy @ across, atol=1e-12)


def test_the_sum_rule_is_kept_by_springs_and_its_violation_reported():
    found = hessian(ATOMS, STRAINED, step=0.05)
    assert found.with_sum_rule().sum_rule_error < 1e-10
    K = np.diag(np.arange(1.0, 13.0))
    assert hessian(ATOMS, Quadratic(K, POINTS)).sum_rule_error == pytest.approx(12)


def test_projection_removes_directions_and_keeps_the_others():
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 4)))
    K = np.random.default_rng(1).normal(size=(12, 12))
    P = np.eye(12) - Q @ Q.T
    np.testing.assert_allclose(project_out(K + K.T, Q), P @ (K + K.T) @ P, atol=1e-12)


def test_the_structure_is_left_as_it_is_and_its_calculator_is_used():
    atoms = ATOMS.copy()
    atoms.calc = STRAINED
    atoms.set_masses([16, 2, 12, 14])
    found = hessian(atoms, progress=True)
    np.testing.assert_array_equal(atoms.positions, POINTS)
    assert found.atoms.calc is None and found.atoms.get_masses().tolist() == [16, 2, 12, 14]


def test_a_given_hessian_is_made_symmetric_and_checked():
    K = np.arange(144.0).reshape(12, 12)
    found = given_hessian(ATOMS, K, energy=-1.0, forces=np.ones((4, 3)))
    np.testing.assert_array_equal(found.matrix, 0.5 * (K + K.T))
    assert found.energy == -1.0 and found.largest_force == pytest.approx(np.sqrt(3))
    assert given_hessian(ATOMS, K[:6, :6], indices=[1, 3]).indices.tolist() == [1, 3]
    for matrix, more, match in (
        (K[:6], {}, r"shape \(12, 12\)"),
        (K * np.nan, {}, "not finite"),
        (K, {"forces": np.ones(3)}, "forces"),
    ):
        with pytest.raises(DataError, match=match):
            given_hessian(ATOMS, matrix, **more)
    with pytest.raises(SettingsError, match="increasing order"):
        given_hessian(ATOMS, K[:6, :6], indices=[3, 1])


class Broken(Quadratic):
    """NaN where atom 2 has moved."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if not np.array_equal(atoms.positions[2], self.reference[2]):
            self.results["forces"] = np.full((4, 3), np.nan)


def test_forces_that_are_not_finite_are_an_error_that_says_where():
    with pytest.raises(NumericsError, match=r"atoms 2 to 2 is displaced by 0.002 A"):
        hessian(ATOMS, Broken(np.eye(12), POINTS), copies=6)
    with pytest.raises(NumericsError, match="of the structure is not finite"):
        hessian(ATOMS, Broken(np.eye(12), POINTS + 1))


def constrained(constraint):
    atoms = ATOMS.copy()
    atoms.set_constraint(constraint)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "options", "match"),
    [
        (ATOMS, {"calculator": None}, "no calculator"),
        (ATOMS, {"step": 0.0}, "step must be a positive number"),
        (ATOMS, {"step": np.nan}, "step must be a positive number"),
        (ATOMS, {"copies": 0}, "copies must be a whole number"),
        (ATOMS, {"indices": []}, "at least one atom"),
        (ATOMS, {"indices": [0, 4]}, "no atom 4 among 4"),
        (ATOMS, {"indices": [1, 1]}, "named twice"),
        (ATOMS, {"indices": [0.5]}, "list of at least one atom"),
        (constrained(FixAtoms([1])), {"indices": [0, 1]}, "atom 1 is held by FixAtoms"),
        (constrained(FixAtoms([0, 1, 2, 3])), {}, "every atom is held"),
        (constrained(FixBondLength(0, 1)), {}, "FixBondLengths has no Hessian"),
    ],
)
def test_parameters_that_cannot_work_are_refused(atoms, options, match):
    with pytest.raises(SettingsError, match=match):
        hessian(atoms, **{"calculator": STRAINED, **options})


def test_a_structure_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="atom 1 is not finite"):
        hessian(Atoms("H2", [[0, 0, 0], [0, 0, np.inf]]), EMT())


class Counted(Quadratic):
    """A quadratic energy that counts its calls, and asks the process to stop in one of them."""

    def __init__(self, K, minimum, stop_in=None):
        super().__init__(K, minimum)
        self.calls, self.stop_in = 0, stop_in

    def batch_forces(self, atoms):
        inner = batch_forces(atoms, Quadratic(self.K, self.reference))

        def evaluate(positions):
            self.calls += 1
            if self.calls == self.stop_in:
                signal.raise_signal(signal.SIGINT)
            return inner(positions)

        return evaluate


def test_the_checkpoint_of_another_calculator_is_refused(tmp_path):
    path = tmp_path / "hessian.npz"
    hessian(ATOMS, LennardJones(sigma=2.0), checkpoint=path)
    with pytest.raises(SettingsError, match=r"differs in calculator \(parameters \(.*sigma\)\)"):
        hessian(ATOMS, LennardJones(sigma=2.1), checkpoint=path)
    hessian(ATOMS, LennardJones(sigma=2.0), checkpoint=path)


def test_a_hessian_that_was_stopped_goes_on_from_its_checkpoint(tmp_path):
    K = np.random.default_rng(1).normal(size=(12, 12))
    K, minimum, path = K + K.T, POINTS + 0.1, tmp_path / "hessian.npz"
    with pytest.raises(KeyboardInterrupt, match="after 4 of 12 columns"):
        hessian(ATOMS, Counted(K, minimum, stop_in=3), copies=4, checkpoint=path)
    rest = Counted(K, minimum)
    found = hessian(ATOMS, rest, copies=4, checkpoint=path)
    assert rest.calls == 1 + 4  # the structure itself, and four of six groups of two columns
    np.testing.assert_array_equal(found.matrix, hessian(ATOMS, Quadratic(K, minimum), copies=4).matrix)
    with pytest.raises(SettingsError, match="checkpoint of another run, which differs in displacements"):
        hessian(ATOMS, rest, copies=4, checkpoint=path, step=0.01)
