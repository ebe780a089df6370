"""Dimers on Si(100): slabs and symmetries, relaxation against closed forms, differences with covariance, the cure."""

from functools import cache

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic

import gapkit
from gapkit.apps.fracture.cleaving_silicon import STILLINGER_WEBER, CleavingSilicon
from gapkit.apps.transferability.learning import LearningSettings, at_random, largest_std, run_learning
from gapkit.apps.transferability.pictures import dimers_figure, learning_figure
from gapkit.apps.transferability.run import run_domain
from gapkit.apps.transferability.si100 import (
    FACES,
    SYMMETRIES,
    DimersSettings,
    FaceSymmetry,
    Slab,
    dimer_geometry,
    reference_study,
    relaxed,
    run_dimers,
    starting_slabs,
)
from gapkit.descriptors import SOAP
from gapkit.exceptions import DataError, GapkitError, NumericsError, SettingsError
from gapkit.kernels import DotProduct
from gapkit.models.terms import Term


class Springs(Calculator):
    """Every atom tied to a place of its own: E = k/2 sum |r - r0|^2, whatever the cell (k in eV/A^2)."""

    implemented_properties = ("energy", "forces")

    def __init__(self, anchors, stiffness=2.0):
        super().__init__()
        self.anchors, self.stiffness = anchors, stiffness

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        away, _ = find_mic(atoms.positions - self.anchors, atoms.cell, atoms.pbc)
        self.results = {"energy": self.stiffness / 2 * np.sum(away**2), "forces": -self.stiffness * away}


def labelled(atoms, name, trajectory):
    """A frame with the energy and forces of Stillinger and Weber's silicon."""
    out = atoms.copy()
    out.calc = CleavingSilicon(STILLINGER_WEBER)
    out.calc = SinglePointCalculator(out, energy=out.get_potential_energy(), forces=out.get_forces())
    out.info.update(config_type=name, trajectory=trajectory)
    return out


@cache
def solid():
    rng = np.random.default_rng(0)
    out = []
    for k in range(8):
        atoms = bulk("Si", "diamond", a=5.43 * (1 + rng.uniform(low=-0.03, high=0.03)), cubic=True)
        atoms.rattle(stdev=0.08, rng=rng)
        out.append(labelled(atoms, "diamond", f"diamond-{k}"))
    return out


@cache
def slabs():
    """Faces, displaced at random: a pool."""
    slab, starts = starting_slabs()
    rng = np.random.default_rng(1)
    out = []
    for k in range(6):
        atoms = starts[FACES[k % 3]].copy()
        atoms.positions += slab.moved(rng.normal(scale=0.05, size=(8, 3))).positions - slab.atoms.positions
        out.append(labelled(atoms, "si100_2x1", f"slab-{k}"))
    return out


@cache
def faces():
    _, starts = starting_slabs()
    out = []
    for name, atoms in starts.items():
        out.append(labelled(atoms, "si100_2x1", name))
        out[-1].info["reconstruction"] = name
    return out


def untrained():
    shape = SOAP(r_cut=4.0, n_max=3, l_max=2, sigma=0.5)
    return gapkit.GAP(terms=[Term(shape, DotProduct(2), n_sparse=40)], folds=2, random_state=0)


@cache
def model():
    return untrained().fit(list(solid()))


# slabs


def test_ideal_slab_is_cut_from_the_crystal():
    slab = Slab.ideal()
    atoms = slab.atoms
    assert len(atoms) == 16
    np.testing.assert_allclose(atoms.cell.lengths(), [5.47 / np.sqrt(2), 5.47 * np.sqrt(2), 9.5725 + 9.0], atol=1e-9)
    np.testing.assert_array_equal(atoms.pbc, [True, True, False])
    heights = atoms.positions[:, 2]
    np.testing.assert_allclose(np.diff(np.unique(np.round(heights, 6))), 5.47 / 4, atol=1e-6)
    inner = np.argsort(np.abs(heights - heights.mean()))[:8]
    bonds = np.sum(np.abs(atoms.get_all_distances(mic=True) - 5.47 * np.sqrt(3) / 4) < 1e-6, axis=1)
    assert np.all(bonds[inner] >= 2)  # images along the short axis count once
    assert sorted(np.concatenate([slab.upper, slab.lower])) == list(range(16))
    np.testing.assert_allclose(heights[slab.upper] + heights[slab.lower], heights.max() + heights.min())
    assert len(slab.fixed) == 4 and np.ptp(heights[slab.fixed]) < 1.5
    # broken bonds point along the long axis: backbonds lie in the plane of x
    top = slab.upper[slab.top[0]]
    vectors = atoms.get_distances(top, range(16), mic=True, vector=True)
    back = [v for v in vectors if 0.5 < np.linalg.norm(v) < 2.5]
    assert back and all(abs(v[0]) > 1 and abs(v[1]) < 1e-9 for v in back)


@pytest.mark.parametrize("face", FACES)
def test_symmetry_is_an_orthogonal_projection(face):
    symmetry = FaceSymmetry(Slab.ideal(), SYMMETRIES[face])
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 16, 3))
    once = symmetry.average(a)
    np.testing.assert_allclose(symmetry.average(once), once, atol=1e-12)
    assert np.sum(once * b) == pytest.approx(np.sum(a * symmetry.average(b)))
    kept = np.linalg.matrix_rank([symmetry.average(x.reshape(16, 3)).ravel() for x in np.eye(48)])
    # eight atoms above: none, a mirror, two mirrors, two mirrors and a translation
    assert kept == {"unreconstructed": 4, "symmetric": 8, "buckled": 16}[face]


@pytest.mark.parametrize("face", FACES)
def test_forces_keep_the_symmetry_of_a_face(face):
    """Short-ranged forces on the outer layers of a displaced but symmetric face have its symmetry."""
    slab = Slab.ideal()
    symmetry = FaceSymmetry(slab, SYMMETRIES[face])
    move = symmetry.average(np.random.default_rng(3).normal(scale=0.1, size=(16, 3)))
    atoms = slab.atoms.copy()
    atoms.positions += move
    atoms.calc = LennardJones(sigma=2.1, epsilon=0.5, rc=3.0, smooth=True)
    forces = atoms.get_forces()
    outer = slab.upper[slab.atoms.positions[slab.upper, 2] > slab.atoms.positions[:, 2].max() - 2.0]
    assert np.abs(forces[outer]).max() > 0.1
    np.testing.assert_allclose(symmetry.average(forces)[outer], forces[outer], atol=1e-9)


def test_starts_have_the_bond_and_tilt_that_was_asked_for():
    settings = DimersSettings(bond=2.4, buckling=0.6)
    slab, starts = starting_slabs(settings)
    flat, tilted = dimer_geometry(starts["symmetric"]), dimer_geometry(starts["buckled"])
    assert flat.length == pytest.approx(2.4) and flat.buckling == pytest.approx(0.0, abs=1e-9)
    assert tilted.length == pytest.approx(2.4) and tilted.height == pytest.approx(0.6)
    assert tilted.buckling == pytest.approx(np.degrees(np.arcsin(0.25)))
    assert dimer_geometry(starts["unreconstructed"]).length == pytest.approx(5.47 / np.sqrt(2))
    for face, atoms in starts.items():
        move = atoms.positions - slab.atoms.positions
        np.testing.assert_allclose(FaceSymmetry(slab, SYMMETRIES[face]).average(move), move, atol=1e-12)


# relaxation


@pytest.mark.parametrize("face", FACES)
def test_relaxation_finds_the_nearest_symmetric_place(face):
    """With springs the answer is the projection of their anchors; middle layers stay where they are."""
    slab, starts = starting_slabs()
    symmetry = FaceSymmetry(slab, SYMMETRIES[face])
    pull = np.random.default_rng(5).normal(scale=0.2, size=(16, 3))
    found = relaxed(starts[face], Springs(slab.atoms.positions + pull), slab, face, DimersSettings(force_max=1e-4))
    expected = symmetry.average(pull)
    assert np.abs(expected).max() > 0.05
    expected[slab.fixed] = 0.0
    np.testing.assert_allclose(found.positions - slab.atoms.positions, expected, atol=1e-4)
    assert found.calc is None and not found.constraints


def test_a_relaxation_that_does_not_end_says_so():
    slab, starts = starting_slabs()
    with pytest.raises(NumericsError, match=r"buckled: a force of .* left after 2 steps"):
        relaxed(starts["buckled"], Springs(slab.atoms.positions), slab, "buckled", DimersSettings(steps=2))


def test_a_collapse_is_no_minimum():
    """gapkit's calculators refuse atoms on one spot; a relaxation that ends there has found no minimum."""
    slab, starts = starting_slabs()

    class Collapse(Springs):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            if not np.allclose(atoms.positions, starts["buckled"].positions):
                raise DataError("atoms 1 and 2 are on one spot")
            super().calculate(atoms, properties, system_changes)

    with pytest.raises(NumericsError, match="buckled: the relaxation left .* on one spot"):
        relaxed(starts["buckled"], Collapse(slab.atoms.positions), slab, "buckled")


# energies


def test_gains_are_differences_with_their_covariance(tmp_path):
    gap = model()
    study = run_dimers(gap, frames={a.info["reconstruction"]: a for a in faces()})
    first, _, last = (study.frames[face] for face in FACES)
    difference = gap.energy_difference(last, first)
    gain = study.gain("buckled")
    assert gain.value == pytest.approx(difference.value / 2)
    assert gain.std == pytest.approx(difference.std / 2)
    back = study.gain("unreconstructed", "buckled")
    assert (back.value, back.std) == pytest.approx((-gain.value, gain.std))
    assert study.gain("symmetric", "symmetric").std == 0.0
    function = run_dimers(gap, DimersSettings(include_noise=False), frames=study.frames)
    assert function.gain("buckled").value == pytest.approx(gain.value)
    apart = np.sqrt(function.energies.covariance[0, 0] + function.energies.covariance[2, 2]) / 2
    assert 0 < function.gain("buckled").std < 0.8 * apart  # errors of the faces go together
    assert "buckled" in str(study) and f"{gain.value:.3f}" in str(study)
    dimers_figure(study, tmp_path / "dimers.png")
    assert (tmp_path / "dimers.png").stat().st_size > 10_000


def test_reference_energies_are_those_of_the_labels():
    reference = reference_study(faces())
    energy = {a.info["reconstruction"]: a.get_potential_energy() for a in faces()}
    gain = reference.gain("symmetric")
    assert gain.value == pytest.approx((energy["symmetric"] - energy["unreconstructed"]) / 2)
    assert gain.std == 0.0
    assert reference.geometry("buckled").height == pytest.approx(0.75)
    with pytest.raises(DataError, match="'buckled'"):
        reference_study(faces()[:2])
    with pytest.raises(DataError, match="'symmetric'"):
        run_dimers(model(), frames={"unreconstructed": faces()[0]})


def test_own_relaxation_ends_where_forces_vanish():
    """A model of the toy solid, fitted to slabs as well, relaxes the faces; both faces stay images of each other."""
    gap = untrained().fit([*solid(), *slabs(), *faces()])
    study = run_dimers(gap, DimersSettings(force_max=0.02))
    slab = Slab.ideal()
    for face in FACES:
        atoms = study.frames[face]
        move = atoms.positions - slab.atoms.positions
        np.testing.assert_allclose(move[slab.upper], -move[slab.lower], atol=1e-9)
        np.testing.assert_allclose(move[slab.fixed], 0, atol=1e-9)
        forces = FaceSymmetry(slab, SYMMETRIES[face]).average(gap.predict([atoms]).forces[0])
        forces[slab.fixed] = 0
        assert np.linalg.norm(forces, axis=1).max() < 0.02


# the cure


def curve(choose, name="chosen", random_state=0, **settings):
    s = LearningSettings(sizes=(0, 2, 4), slab=DimersSettings(steps=3), **settings)
    return run_learning(
        model(),
        list(solid()),
        list(slabs()),
        list(slabs())[4:],
        reference_study(faces()),
        choose,
        s,
        name=name,
        random_state=random_state,
    )


def test_the_first_choice_is_the_least_certain_frame():
    p = model().potential_
    std = [p.local_std(p.structure(a), include_noise=False).max() for a in slabs()]
    rng = np.random.default_rng(0)
    assert largest_std(model(), slabs(), 2, rng) == [int(k) for k in np.argsort(std)[::-1][:2]]
    assert sorted(at_random(model(), slabs(), 6, rng)) == list(range(6))


def test_a_curve_adds_what_was_chosen_and_judges_it():
    before = model().potential_
    found = curve(largest_std)
    assert model().potential_ is before
    np.testing.assert_array_equal(found.n_added, [0, 2, 4])
    chosen = [s.chosen for s in found.steps]
    assert chosen[0] == () and chosen[1] == chosen[2][:2] and len(set(chosen[2])) == 4
    assert found.final.potential_.metadata["n_frames"] == 8 + 4
    # three steps of relaxation are too few: that is told, not hidden
    assert all(s.study is None for s in found.steps) and np.isnan(found.errors()).all()
    known = [*solid(), *(slabs()[k] for k in chosen[2])]
    report = run_domain(found.final, known, faces())
    assert found.steps[2].distance == pytest.approx(report.distance.max())
    assert found.steps[2].surface_std == pytest.approx(report.std.max())
    assert found.steps[2].distance < found.steps[0].distance
    p = found.final.predict(list(slabs())[4:], uncertainty="energy")
    error = np.array([e - a.get_potential_energy() for e, a in zip(p.energy, list(slabs())[4:], strict=True)]) / 16
    assert found.steps[2].energy_rmse == pytest.approx(np.sqrt(np.mean(error**2)))
    assert found.steps[2].z == pytest.approx(np.sqrt(np.mean((16 * error / p.energy_std) ** 2)))
    assert found.steps[2].energy_rmse < found.steps[0].energy_rmse
    assert str(found).count("\n") == 4


def test_updates_in_place_of_fits(tmp_path):
    found = curve(at_random, refit=False, random_state=2)
    again = curve(at_random, refit=False, random_state=2)
    assert found.steps[2].chosen == again.steps[2].chosen
    assert found.steps[2].energy_rmse == pytest.approx(again.steps[2].energy_rmse, rel=1e-6)
    direct = untrained().fit(list(solid()))
    direct.update([slabs()[k] for k in found.steps[1].chosen]).update([slabs()[k] for k in found.steps[2].chosen[2:]])
    frame = slabs()[5]
    assert found.final.predict([frame]).energy[0] == pytest.approx(direct.predict([frame]).energy[0], rel=1e-8)
    learning_figure(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    with pytest.raises(GapkitError, match="picture format"):
        learning_figure([found], tmp_path / "curve.docx")


# settings


@pytest.mark.parametrize(
    "bad", [{"n_layers": 6}, {"n_layers": 4}, {"vacuum": 0.0}, {"buckling": 3.0}, {"force_max": -1.0}, {"steps": 0}]
)
def test_slab_settings_are_checked(bad):
    with pytest.raises(SettingsError):
        DimersSettings(**bad)


@pytest.mark.parametrize("sizes", [(), (5, 5), (10, 5), (-1, 2)])
def test_sizes_must_rise(sizes):
    with pytest.raises(SettingsError, match="rising"):
        LearningSettings(sizes=sizes)


def test_too_small_a_pool_and_unknown_symmetries_are_refused():
    with pytest.raises(DataError, match="not enough for 30"):
        run_learning(model(), list(solid()), list(slabs()), list(slabs()), reference_study(faces()))
    with pytest.raises(SettingsError, match="'across'"):
        FaceSymmetry(Slab.ideal(), ("diagonal",))
    with pytest.raises(DataError, match="two atoms"):
        dimer_geometry(faces()[0][:1])
