"""The centres of domains with ghosts around them: sums over domains are those of the whole frame."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones

from gapkit.exceptions import DataError, NumericsError, SettingsError, SpeciesError
from gapkit.numerics.vectors import add_strain
from gapkit.potential import potential as module
from gapkit.potential.baseline import ZBL
from gapkit.structures.neighbours import Neighbours, neighbours
from gapkit.structures.structure import Structure
from tests.numerical import VOIGT, central_difference, strained
from tests.potential.conftest import alloys

ALL_MODELS = ["many terms", "plain", "squared exponential", "exact mean"]
#: models whose descriptors give nine components
NINE = ["many terms", "plain", "exact mean"]


def frame(kind):
    """A crystal of two species smaller than the cutoffs, one of 16 atoms, or an isolated molecule."""
    if kind == "small":
        return Atoms(alloys(2, seed=5)[1], calculator=None)
    if kind == "molecule":
        atoms = molecule("CH3OH")
        atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
        return atoms
    atoms = bulk("Cu", cubic=True, a=3.8) * (2, 2, 1)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.05, 0], [-0.1, 0.97, 0.02], [0.03, 0, 1.04]], scale_atoms=True)
    rng = np.random.default_rng(2)
    atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    atoms.symbols[rng.random(len(atoms)) < 0.4] = "Ag"
    return atoms


def frames_of(name):
    return [frame("molecule")] if name == "exact mean" else [frame("small"), frame("crystal")]


class Domain:
    """Owned atoms and their ghosts, as an engine has them; written without any of gapkit's searches.

    Attributes
    ----------
    owner : (n,)
        Atom of the frame that each atom of the domain is, or is a copy of; owned atoms and ghosts are mixed.
    centres : (k,)
        Owned atoms.
    i, j, vectors
        Pairs around all atoms of the domain within ``reach``, those around ghosts as far as the ghosts go.
    """

    def __init__(self, atoms, owned, reach):
        shifts = [np.zeros(3)]
        if atoms.pbc.any():
            shifts = [np.array(s) @ atoms.cell.array for s in itertools.product(range(-4, 5), repeat=3)]
        positions, owner, mine = [], [], []
        for a, shift in itertools.product(range(len(atoms)), shifts):
            x = atoms.positions[a] + shift
            home = a in owned and not shift.any()
            if home or np.linalg.norm(x - atoms.positions[owned], axis=1).min(initial=np.inf) < reach:
                positions.append(x)
                owner.append(a)
                mine.append(home)
        order = np.random.default_rng(len(owner)).permutation(len(owner))
        self.positions, self.owner = np.array(positions).reshape(-1, 3)[order], np.array(owner, dtype=int)[order]
        self.numbers = atoms.numbers[self.owner]
        self.centres = np.flatnonzero(np.array(mine, dtype=bool)[order])
        apart = self.positions[None] - self.positions[:, None]
        self.i, self.j = np.nonzero(np.linalg.norm(apart, axis=2) < reach)
        keep = self.i != self.j
        self.i, self.j = self.i[keep], self.j[keep]
        self.vectors = apart[self.i, self.j]
        self.reach = reach

    def pairs(self, kept=None):
        """The pair list, or the part of it with these indices, in their order."""
        kept = np.arange(len(self.i)) if kept is None else kept
        n = len(self.numbers)
        return Neighbours.of_pairs(n, self.reach, self.i[kept], self.j[kept], self.vectors[kept])


def domains(atoms, parts, reach):
    """Slabs along one axis, or eight octants; every atom has one owner."""
    if parts == 8:
        which = (atoms.positions > np.median(atoms.positions, axis=0)) @ [1, 2, 4]
    else:
        which = np.argsort(np.argsort(atoms.positions[:, 0])) * parts // len(atoms)
    return [Domain(atoms, np.flatnonzero(which == k), reach) for k in range(parts) if np.any(which == k)]


def gathered(p, atoms, parts, reach=None, **options):
    """Local energies, forces and atomic virials of the whole frame, from its domains."""
    n, components = len(atoms), options.get("components", 6)
    local, forces = np.full(n, np.nan), np.zeros((n, 3))
    virials, variance = np.full((n, components), np.nan), np.full(n, np.nan)
    energy = 0.0
    for d in domains(atoms, parts, reach or p.r_cut):
        found = p.evaluate_centres(d.numbers, d.pairs(), d.centres, **options)
        own = d.owner[d.centres]
        local[own], virials[own] = found.local_energy, found.atomic_virials
        if found.local_variance is not None:
            variance[own] = found.local_variance
        np.add.at(forces, d.owner, found.forces)
        energy += found.energy
        np.testing.assert_array_equal(found.forces, -found.gradient)
    return energy, local, forces, virials, variance


@pytest.mark.parametrize("name", ALL_MODELS)
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_domains_add_up_to_the_frame(name, parts, potentials):
    p = potentials[name]
    for atoms in frames_of(name):
        whole = p.evaluate(atoms)
        energy, local, forces, virials, _ = gathered(p, atoms, parts)
        assert energy == pytest.approx(whole.energy, rel=1e-12)
        scale = 1e-12 * np.abs(whole.local_energy).max()
        np.testing.assert_allclose(local, whole.local_energy, atol=scale)
        np.testing.assert_allclose(forces, whole.forces, atol=1e-12 * np.abs(whole.atomic_virials).max())
        np.testing.assert_allclose(virials, whole.atomic_virials, atol=1e-12 * np.abs(whole.atomic_virials).max())
        if whole.virial is not None:
            np.testing.assert_allclose(virials.sum(axis=0), whole.virial, atol=1e-11 * np.abs(whole.virial).max())
        assert np.abs(whole.forces).max() > 0.05 and np.abs(whole.atomic_virials).max() > 0.05


@pytest.mark.parametrize("baseline", [None, ZBL(r_cut=2.9, cutoff_width=1.5), ZBL(r_cut=5.5, cutoff_width=2.0)])
def test_a_local_baseline_comes_with_its_domain(baseline, potentials):
    """Its own cutoff may be longer than the model's."""
    p = replace(potentials["plain"], baseline=baseline)
    assert p.r_cut == max(4.2, getattr(baseline, "r_cut", 0.0))
    atoms = frame("small")
    whole = p.evaluate(atoms)
    energy, local, forces, virials, _ = gathered(p, atoms, 3)
    assert energy == pytest.approx(whole.energy, rel=1e-12)
    np.testing.assert_allclose(local, whole.local_energy, rtol=1e-12)
    np.testing.assert_allclose(forces, whole.forces, atol=1e-12 * np.abs(whole.atomic_virials).max())
    np.testing.assert_allclose(virials, whole.atomic_virials, atol=1e-12 * np.abs(whole.atomic_virials).max())
    nine = gathered(p, atoms, 3, components=9)[3].reshape(-1, 3, 3)
    expected = [0.5 * (nine[:, a, b] + nine[:, b, a]) for a, b in VOIGT]
    np.testing.assert_allclose(np.transpose(expected), virials, atol=1e-12 * np.abs(virials).max())


@pytest.mark.parametrize("name", NINE)
def test_nine_components_are_derivatives_by_any_deformation_of_the_pairs(name, potentials):
    """-sum_d r_c dE_i/dr_d: minus the derivative of E_i as the component d of each vector grows by h times c."""
    p, atoms = potentials[name], frames_of(name)[0]
    (d,) = domains(atoms, 1, p.r_cut + 0.3)
    virials = p.evaluate_centres(d.numbers, d.pairs(), d.centres, components=9).atomic_virials.reshape(-1, 3, 3)
    assert virials.shape[0] == len(atoms)
    for a, b in itertools.product(range(3), repeat=2):

        def energies(h, a=a, b=b):
            vectors = d.vectors.copy()
            vectors[:, b] += h * d.vectors[:, a]
            pairs = Neighbours.of_pairs(len(d.numbers), p.r_cut, d.i, d.j, vectors)
            return p.evaluate_centres(d.numbers, pairs, d.centres).local_energy

        numerical = -central_difference(energies, 3e-4)
        np.testing.assert_allclose(virials[:, a, b], numerical, atol=2e-7 * np.abs(virials).max())
    assert np.abs(virials[:, 0, 1]).max() > 1e-3 * np.abs(virials).max()


@pytest.mark.parametrize("name", NINE)
def test_the_symmetric_part_of_nine_components_are_the_six(name, potentials):
    """And there is no other part: the energy of an environment does not change as it is turned."""
    p = potentials[name]
    for atoms in frames_of(name):
        six = gathered(p, atoms, 2)[3]
        nine = gathered(p, atoms, 2, components=9)[3].reshape(-1, 3, 3)
        expected = np.transpose([0.5 * (nine[:, a, b] + nine[:, b, a]) for a, b in VOIGT])
        np.testing.assert_allclose(six, expected, atol=1e-12 * np.abs(six).max())
        np.testing.assert_allclose(nine, nine.transpose(0, 2, 1), atol=1e-10 * np.abs(six).max())


def test_strain_of_one_vector_in_either_form():
    """Rows of r (x) g, which of a sum that is invariant under rotation could not be told from columns."""
    r, g = np.array([1.0, 2.0, 5.0]), np.array([7.0, 11.0, 13.0])
    six, nine = np.zeros((3, 6)), np.ones((3, 9))
    add_strain(six, 1, *r, *g)
    add_strain(nine, 1, *r, *g)
    np.testing.assert_array_equal(nine[1].reshape(3, 3) - 1, np.outer(r, g))
    np.testing.assert_array_equal(six[1], [0.5 * (np.outer(r, g) + np.outer(g, r))[a, b] for a, b in VOIGT])
    assert np.all(six[[0, 2]] == 0) and np.all(nine[[0, 2]] == 1)


def test_nine_components_are_refused_where_derivatives_are_by_atoms(potentials):
    p, atoms = potentials["squared exponential"], frame("small")
    (d,) = domains(atoms, 1, p.r_cut)
    with pytest.raises(SettingsError, match="SOAP gives six components of the virial"):
        p.evaluate_centres(d.numbers, d.pairs(), d.centres, components=9)


# -- variances of local energies -------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 8])
def test_variances_of_local_energies_are_those_of_the_frame(parts, potentials):
    p = potentials["plain"]
    for atoms in frames_of("plain"):
        whole = p.evaluate(atoms, local_variance=True)
        energy, _, _, _, variance = gathered(p, atoms, parts, local_variance=True)
        assert energy == pytest.approx(whole.energy, rel=1e-12)
        np.testing.assert_allclose(variance, whole.local_variance, rtol=1e-9)
        assert variance.min() > 0


def test_ghosts_do_not_decide_how_small_a_variance_may_be(potentials, monkeypatch):
    """What no environment was counted around keeps the prior variance, far above that of the centres."""
    monkeypatch.setattr(module, "LEAST_VARIANCE", 0.3)
    p, atoms = potentials["plain"], frame("crystal")
    for d in domains(atoms, 2, p.r_cut):
        found = p.evaluate_centres(d.numbers, d.pairs(), d.centres, local_variance=True).local_variance
        monkeypatch.setattr(module, "LEAST_VARIANCE", 0.0)
        expected = p.evaluate_centres(d.numbers, d.pairs(), d.centres, local_variance=True).local_variance
        monkeypatch.setattr(module, "LEAST_VARIANCE", 0.3)
        np.testing.assert_allclose(found, np.maximum(expected, 0.3 * expected.max()), rtol=1e-12)


def test_variances_without_forms_are_refused(potentials):
    p = potentials["many terms"]
    (d,) = domains(frame("small"), 1, p.r_cut)
    with pytest.raises(SettingsError, match="has_fast_local_variance"):
        p.evaluate_centres(d.numbers, d.pairs(), d.centres, local_variance=True)


# -- pair lists as engines have them ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_MODELS)
def test_order_longer_reach_and_pairs_around_ghosts_change_nothing(name, potentials):
    p, rng = potentials[name], np.random.default_rng(0)
    atoms = frames_of(name)[0]
    for d in domains(atoms, 2, p.r_cut + 0.8):
        expected = p.evaluate_centres(d.numbers, d.pairs(), d.centres, local_variance=name == "plain")
        of_centres = np.flatnonzero(np.isin(d.i, d.centres))
        assert len(of_centres) < len(d.i) or name == "exact mean"
        assert np.linalg.norm(d.vectors, axis=1).max() > p.r_cut or name == "exact mean"
        lists = [
            d.pairs(rng.permutation(len(d.i))),
            d.pairs(rng.permutation(of_centres)),
            Neighbours.of_pairs(len(d.numbers), p.r_cut, d.i, d.j, d.vectors),
        ]
        for pairs in lists:
            found = p.evaluate_centres(d.numbers, pairs, rng.permutation(d.centres), local_variance=name == "plain")
            scale = np.abs(expected.atomic_virials).max()
            np.testing.assert_allclose(found.local_energy, expected.local_energy, rtol=1e-12)
            np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-12 * scale)
            np.testing.assert_allclose(found.atomic_virials, expected.atomic_virials, atol=1e-12 * scale)
            if name == "plain":
                np.testing.assert_allclose(found.local_variance, expected.local_variance, rtol=1e-9)


def test_results_are_in_rising_order_of_the_centres(potentials):
    p = potentials["plain"]
    d = domains(frame("crystal"), 2, p.r_cut)[0]
    found = p.evaluate_centres(d.numbers, d.pairs(), d.centres)
    again = p.evaluate_centres(d.numbers, d.pairs(), d.centres[::-1])
    np.testing.assert_array_equal(found.local_energy, again.local_energy)
    single = [p.evaluate_centres(d.numbers, d.pairs(), [a]).local_energy[0] for a in sorted(d.centres)]
    np.testing.assert_allclose(found.local_energy, single, rtol=1e-12)


def test_a_domain_without_centres_has_no_share(potentials):
    p, atoms = potentials["many terms"], frame("small")
    pairs = neighbours(atoms, p.r_cut)
    found = p.evaluate_centres(atoms.numbers, pairs, [])
    assert found.energy == 0.0 and found.local_energy.shape == (0,) and found.atomic_virials.shape == (0, 6)
    assert not found.gradient.any() and found.gradient.shape == (4, 3)
    nothing = p.evaluate_centres(np.zeros(0, dtype=int), Neighbours.of_pairs(0, p.r_cut, [], [], []), [])
    assert nothing.gradient.shape == (0, 3)


def test_no_environment_of_a_ghost_is_made(potentials):
    """None of them would change a number, and all of them would cost as much as those of the centres."""
    atoms = frame("crystal")
    for d in domains(atoms, 3, potentials["many terms"].r_cut):
        structure = Structure.of_pairs(d.numbers, d.pairs().around(d.centres), d.centres)
        np.testing.assert_array_equal(structure.centres, d.centres)
        for z in (29, 47):
            owned = d.centres[d.numbers[d.centres] == z]
            np.testing.assert_array_equal(structure.centres_of(z), owned)
            assert np.count_nonzero(d.numbers == z) > len(owned)
            np.testing.assert_array_equal(structure.centres_of(z, np.arange(5)), np.flatnonzero(d.numbers[:5] == z))
        for b in potentials["many terms"].basis.blocks:
            batch = b.descriptor.environments(structure, b.channel, derivatives=False)
            assert set(batch.atom.tolist()) <= set(d.centres.tolist())


def test_pairs_of_any_order_become_a_sorted_list():
    """Against the plain definition; pairs at the cutoff and beyond are left out, what is no number stays."""
    rng = np.random.default_rng(0)
    i, j, vectors = rng.integers(0, 7, 50), rng.integers(0, 7, 50), rng.normal(size=(50, 3))
    vectors[7], vectors[8] = [2.0, 0, 0], [np.nan, 0, 0]
    pairs = Neighbours.of_pairs(7, 2.0, i.tolist(), j.tolist(), vectors.tolist())
    kept = [p for p in range(50) if not np.linalg.norm(vectors[p]) >= 2.0]
    expected = sorted(kept, key=lambda p: i[p])
    np.testing.assert_array_equal(pairs.vectors, vectors[expected])
    np.testing.assert_array_equal(pairs.j, j[expected])
    np.testing.assert_array_equal(np.diff(pairs.first), np.bincount(i[kept], minlength=7))
    np.testing.assert_allclose(pairs.distances, np.linalg.norm(vectors[expected], axis=1), rtol=1e-15)
    around = pairs.around(np.array([2, 5]))
    own = np.isin(pairs.i, [2, 5])
    np.testing.assert_array_equal(around.vectors, pairs.vectors[own])
    np.testing.assert_array_equal(np.diff(around.first), np.where(np.isin(range(7), [2, 5]), np.diff(pairs.first), 0))
    assert pairs.around(np.arange(7)) is pairs


# -- what is refused -------------------------------------------------------------------------------------------


def test_a_baseline_that_is_no_sum_over_environments_is_refused_with_the_remedy(potentials):
    p = replace(potentials["plain"], baseline=LennardJones(rc=4.0))
    (d,) = domains(frame("small"), 1, p.r_cut)
    with pytest.raises(SettingsError, match=r"LennardJones is no sum over environments .*baseline=None or 'zbl'"):
        p.evaluate_centres(d.numbers, d.pairs(), d.centres)


@pytest.mark.parametrize("components", [7, 3, 0, "6", None])
def test_other_components_are_refused(components, potentials):
    p = potentials["plain"]
    (d,) = domains(frame("small"), 1, p.r_cut)
    with pytest.raises(SettingsError, match=f"components must be 6 or 9, not {components!r}"):
        p.evaluate_centres(d.numbers, d.pairs(), d.centres, components=components)


def test_a_list_that_does_not_reach_far_enough_is_refused(potentials):
    p, atoms = potentials["plain"], frame("small")
    with pytest.raises(SettingsError, match=r"made for 4\.1 A, the potential needs 4\.2 A; search farther"):
        p.evaluate_centres(atoms.numbers, neighbours(atoms, 4.1), range(4))
    farther = replace(p, baseline=ZBL(r_cut=5.0))
    with pytest.raises(SettingsError, match=r"needs 5\.0 A"):
        farther.evaluate_centres(atoms.numbers, neighbours(atoms, 4.2), range(4))


@pytest.mark.parametrize(
    ("centres", "words"),
    [
        ([0, 4], "whole numbers from 0 to 3"),
        ([-1, 2], "whole numbers from 0 to 3"),
        ([1, 1], "each once"),
        ([0.0, 1.0], "whole numbers"),
        ([True, False], "whole numbers"),
        ([True, True, False, False], "each once"),
        ([[0, 1]], "each once"),
        (3, "each once"),
        (["0"], "whole numbers"),
        ([np.nan], "whole numbers"),
    ],
)
def test_centres_that_are_no_list_of_atoms_are_refused(centres, words, potentials):
    p, atoms = potentials["plain"], frame("small")
    with pytest.raises(DataError, match=words):
        p.evaluate_centres(atoms.numbers, neighbours(atoms, p.r_cut), centres)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("farther", [0.0, 0.8])
def test_vectors_that_are_not_finite_are_refused(farther, value, potentials):
    """Also in a list that reaches farther than the potential, whose farther pairs are left out."""
    p, atoms = potentials["plain"], frame("small")
    found = neighbours(atoms, p.r_cut + farther)
    vectors = found.vectors.copy()
    vectors[5, 1] = value
    pairs = replace(found, vectors=vectors, distances=np.linalg.norm(vectors, axis=1))
    with pytest.raises(DataError, match=f"the vector from atom {found.i[5]} to atom {found.j[5]} is not finite"):
        p.evaluate_centres(atoms.numbers, pairs, range(4))
    if np.isnan(value):
        pairs = Neighbours.of_pairs(4, p.r_cut + farther, found.i, found.j, vectors)
        with pytest.raises(DataError, match="is not finite"):
            p.evaluate_centres(atoms.numbers, pairs, range(4))
    others = [a for a in range(4) if a != found.i[5]]  # around other centres it is not asked for
    assert np.isfinite(p.evaluate_centres(atoms.numbers, pairs, others).energy)


def test_atoms_of_a_species_not_trained_on_are_refused_ghosts_too(potentials):
    p, atoms = potentials["plain"], frame("small")
    numbers = atoms.numbers.copy()
    numbers[3] = 78
    with pytest.raises(SpeciesError, match="domain: atom 3 is Pt"):
        p.evaluate_centres(numbers, neighbours(atoms, p.r_cut), [0, 1])
    numbers[3] = -5
    with pytest.raises(SpeciesError, match="domain: atom 3 is of atomic number -5"):
        p.evaluate_centres(numbers, neighbours(atoms, p.r_cut), [0, 1])


def test_two_atoms_on_one_spot_are_refused(potentials):
    p, atoms = potentials["plain"], frame("small")
    atoms.positions[2] = atoms.positions[1]
    with pytest.raises(DataError, match=r"domain: atoms (1 and 2|2 and 1) are 0 A apart"):
        p.evaluate_centres(atoms.numbers, neighbours(atoms, p.r_cut), range(4))


@pytest.mark.parametrize("name", ["many terms", "plain", "squared exponential"])
def test_two_ghosts_on_one_spot_end_in_an_error_only_where_their_distance_counts(name, potentials):
    """No pair tells of them: the neighbours of the centre are all that is known."""
    p = potentials[name]
    pairs = Neighbours.of_pairs(3, p.r_cut, [0, 0], [1, 2], [[2.5, 0, 0], [2.5, 0, 0]])
    if name == "many terms":
        with pytest.raises(DataError, match="atoms 1 and 2, neighbours of atom 0, are 0 A apart"):
            p.evaluate_centres(np.array([29, 29, 47]), pairs, [0])
        return
    found = p.evaluate_centres(np.array([29, 29, 47]), pairs, [0])
    assert np.isfinite(found.energy) and np.isfinite(found.gradient).all()


def test_lists_that_do_not_match_are_refused(potentials):
    p, atoms = potentials["plain"], frame("small")
    with pytest.raises(DataError, match="4 atoms in the pair list, but atomic numbers \\(3,\\)"):
        p.evaluate_centres(atoms.numbers[:3], neighbours(atoms, p.r_cut), [0])
    for i, j, vectors in (([0], [1, 2], [[1.0, 0, 0]]), ([0], [1], np.ones((2, 3)))):
        with pytest.raises(DataError, match="do not match"):
            Neighbours.of_pairs(3, 4.0, i, j, vectors)
    for i, j in (([0], [3]), ([-1], [0]), ([3], [0]), ([0], [-1])):
        with pytest.raises(DataError, match="not among the 3"):
            Neighbours.of_pairs(3, 4.0, i, j, [[1.0, 0, 0]])


class _Wall:
    r_cut = 1.0

    def add_prediction(self, structure, sums):
        sums.gradient[structure.pairs(self.r_cut).j] += np.inf


def test_an_energy_or_force_that_is_not_finite_is_refused(potentials):
    p = replace(potentials["plain"], baseline=_Wall())
    pairs = Neighbours.of_pairs(2, 4.5, [0], [1], [[0.5, 0, 0]])
    with pytest.raises(NumericsError, match="far too close"):
        p.evaluate_centres(np.array([29, 29]), pairs, [0])


# -- atomic virials of whole frames ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "many terms"])
def test_each_atomic_virial_is_minus_the_strain_derivative_of_its_own_local_energy(name, potentials):
    """With a ZBL baseline that counts: at 2.6 A copper and silver repel each other."""
    p = replace(potentials[name], baseline=ZBL(r_cut=3.2, cutoff_width=1.0))
    atoms = frame("small")
    mean = p.evaluate(atoms)
    without = replace(p, baseline=None).evaluate(atoms)
    assert np.abs(mean.atomic_virials - without.atomic_virials).max() > 0.1
    np.testing.assert_allclose(mean.atomic_virials.sum(axis=0), mean.virial, atol=1e-12 * np.abs(mean.virial).max())
    np.testing.assert_allclose(mean.virial, -mean.stress * atoms.get_volume(), rtol=1e-12)
    for component in range(6):
        numerical = -central_difference(lambda h, v=component: p.evaluate(strained(atoms, v, h)).local_energy, 3e-4)
        np.testing.assert_allclose(
            mean.atomic_virials[:, component], numerical, atol=1e-6 * np.abs(mean.atomic_virials).max()
        )
        assert np.abs(numerical).max() > 1e-3
