"""Fracture: potential against matscipy's, relaxation, clusters, labels, learning; continuum toys against theory."""

import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapkit.apps.fracture import continuum as fields
from gapkit.apps.fracture.bond_labels import (
    BondLabels,
    BondStress,
    label_history,
    label_strained,
    load_both_ways,
    open_bond,
)
from gapkit.apps.fracture.cleaving_silicon import EPSILON, STILLINGER_WEBER, CleavingSilicon
from gapkit.apps.fracture.clusters import Cluster, RimLoad
from gapkit.apps.fracture.crystals import JOULE_PER_M2, SYSTEMS, CrackSystem, Material, matscipy_module
from gapkit.apps.fracture.fracture_potential import FracturePotential
from gapkit.apps.fracture.matscipy_rupture import rupture_by_matscipy
from gapkit.apps.fracture.pictures import fracture_figure
from gapkit.apps.fracture.run import (
    FractureSettings,
    label_material,
    learn_fracture,
    load_from_atoms,
    load_from_continuum,
    rupture_descriptors,
    tip_descriptors,
)
from gapkit.cli.main import main
from gapkit.descriptors.stress import atomic_stresses, averaged_stress
from gapkit.exceptions import DataError, GapkitError, NumericsError, SettingsError, SpeciesError
from gapkit.sampling.relaxation import SpringNetwork, relax
from tests.numerical import central_difference, displaced, strained

SYSTEM = SYSTEMS["(111)[1-10]"]


@pytest.fixture(scope="module")
def material() -> Material:
    return Material.measured(CleavingSilicon())


@pytest.fixture(scope="module")
def cluster(material) -> Cluster:
    return Cluster(material, SYSTEM, radius=11.0)


@pytest.fixture(scope="module")
def history(cluster, material):
    return load_both_ways(cluster, RimLoad(material.griffith(SYSTEM)), factor=1.06, name="(111)[1-10] 0.0")


def rattled(seed=1):
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell.array @ np.array([[1.02, 0.03, 0], [0, 1, 0.05], [0, 0.02, 0.97]]), scale_atoms=True)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.12, size=(len(atoms), 3))
    return atoms


# the potential that cleaves


@pytest.mark.parametrize("name", ["Holland_Marder_PRL_80_746_Si", "Stillinger_Weber_PRB_31_5262_Si"])
def test_silicon_is_matscipys(name):
    form = matscipy_module("calculators.manybody.explicit_forms.stillinger_weber")
    oracle = matscipy_module("calculators.manybody").Manybody(**form.StillingerWeber(getattr(form, name)))
    mine = CleavingSilicon() if name.startswith("Holland") else CleavingSilicon(STILLINGER_WEBER)
    for pbc in ((True, True, True), (True, False, True)):
        atoms = rattled()
        atoms.pbc = pbc
        for quantity in ("energy", "forces", "stress", "stresses", "energies"):
            a, b = mine.get_property(quantity, atoms), oracle.get_property(quantity, atoms)
            np.testing.assert_allclose(a, b, atol=1e-8 * max(1.0, np.abs(b).max()), err_msg=quantity)


def test_silicon_by_finite_differences():
    atoms, calculator = rattled(), CleavingSilicon(skin=0.0)
    forces, stress = calculator.get_property("forces", atoms), calculator.get_property("stress", atoms)
    assert np.abs(forces).max() > 0.5 and np.abs(stress).max() > 1e-3

    def energy(frame):
        return calculator.get_property("energy", frame)

    for atom, axis in ((0, 0), (5, 2)):
        slope = central_difference(lambda h, a=atom, c=axis: energy(displaced(atoms, a, c, h)), 1e-4)
        assert forces[atom, axis] == pytest.approx(-slope, abs=1e-6)
    for component in range(6):
        slope = central_difference(lambda h, v=component: energy(strained(atoms, v, h)), 1e-4)
        assert stress[component] * atoms.get_volume() == pytest.approx(slope, abs=1e-5)


def test_silicon_knows_silicon_only():
    with pytest.raises(SpeciesError, match="silicon only"):
        CleavingSilicon().get_property("energy", Atoms("Ge2", positions=[[0, 0, 0], [2.4, 0, 0]]))
    with pytest.raises(SettingsError, match="strength"):
        CleavingSilicon(-1.0)


# crystals


def test_material_against_matscipys_own_constants(material):
    form = matscipy_module("calculators.manybody.explicit_forms.stillinger_weber")
    oracle = matscipy_module("calculators.manybody").Manybody(**form.StillingerWeber(form.Holland_Marder_PRL_80_746_Si))
    crystal = bulk("Si", "diamond", a=material.a0, cubic=True)
    crystal.calc = oracle
    C = oracle.get_property("elastic_constants", crystal)
    C = matscipy_module("elasticity").full_3x3x3x3_to_Voigt_6x6(C) if C.ndim == 4 else C
    assert np.abs(crystal.get_stress()).max() < 1e-6
    # the analytic ones include what the sublattices do between themselves
    np.testing.assert_allclose([material.C11, material.C12, material.C44], [C[0, 0], C[0, 1], C[3, 3]], rtol=2e-3)


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_surface_energy_is_one_bond(material, name):
    """Cleaving breaks bonds that are alone in knowing of each other: 2 gamma A = epsilon on every plane, and the
    unreconstructed surface of this potential hardly relaxes."""
    system = SYSTEMS[name]
    cell = material.crystal(system)
    cluster = Cluster(material, system, radius=9.0)
    area = cluster.advance * cluster.period
    assert 2 * material.surface_energy(system) * area == pytest.approx(EPSILON, rel=1e-3)
    assert abs(np.linalg.det(cell.cell)) / len(cell) == pytest.approx(material.volume)
    assert 1.2 < material.surface_energy(system) / JOULE_PER_M2 < 1.8


def test_griffith_is_two_gamma(material):
    """K_G^2 B = 2 gamma, with B the compliance of the K-field: energy release from its own displacements and stress by
    Irwin's crack closure integral."""
    field, k = material.k_field(SYSTEM), material.griffith(SYSTEM)
    d, (s, w) = 1.0, np.polynomial.legendre.leggauss(60)
    theta = 0.25 * np.pi * (s + 1)  # x = d sin^2 theta takes both square roots
    x, by_x = d * np.sin(theta) ** 2, 0.25 * np.pi * w * d * np.sin(2 * theta)
    ahead = field.crack.stresses(x, np.zeros_like(x), k)[1]
    behind = d - x
    opening = (
        field.crack.displacements(behind, np.full_like(x, np.pi - 1e-12), k)[1]
        - field.crack.displacements(behind, np.full_like(x, -np.pi + 1e-12), k)[1]
    )
    assert np.sum(by_x * ahead * opening) / (2 * d) == pytest.approx(2 * material.surface_energy(SYSTEM), rel=1e-6)


def test_crack_systems_are_checked():
    with pytest.raises(SettingsError, match="right angles"):
        CrackSystem((1, 1, 1), (1, 1, 0))
    assert SYSTEM.name == "(111)[1-10]"
    x, y, z = SYSTEM.directions
    assert np.linalg.det([x, y, z]) > 0 and np.dot(x, y) == np.dot(x, z) == 0


def test_without_matscipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matscipy", None)
    monkeypatch.delitem(sys.modules, "matscipy.elasticity", raising=False)
    with pytest.raises(GapkitError, match=r"gapkit\[fracture\]"):
        matscipy_module("elasticity")


# relaxation


def test_relaxation_finds_the_minimum_and_keeps_a_constraint(cluster):
    atoms = cluster.reference.copy()
    atoms.calc = CleavingSilicon()
    start = atoms.positions.copy()
    atoms.positions[cluster.free] += np.random.default_rng(0).normal(scale=0.1, size=(len(cluster.free), 3))
    found = relax(atoms, cluster.springs, fmax=1e-5)
    np.testing.assert_allclose(found.positions, start, atol=1e-4)  # the crystal
    bond = int(cluster.plane_bonds[np.argmin(np.abs(cluster.bond_middles[cluster.plane_bonds, 0]))])
    direction = cluster.opening_direction(bond)

    def held(change):
        moved = start.copy()
        moved[cluster.free] += 0.5 * change * direction.reshape(-1, 3)
        return relax(cluster.frame(moved), cluster.springs, direction, fmax=1e-5)

    state = held(0.2)
    assert cluster.opening(state.positions, bond) == pytest.approx(cluster.opening(start, bond) + 0.2, abs=1e-9)
    slope = central_difference(lambda h: held(0.2 + h).energy, 0.01)
    assert state.force == pytest.approx(slope, rel=1e-4) and slope > 0.5
    with pytest.raises(NumericsError, match="no minimum"):
        relax(atoms, cluster.springs, fmax=1e-9, max_evaluations=3)
    atoms.calc = None
    with pytest.raises(SettingsError, match="no calculator"):
        relax(atoms, cluster.springs)


def test_springs_are_the_inverse_of_what_they_solve():
    atoms = bulk("Si", "diamond", a=5.43, cubic=True) * 2
    springs = SpringNetwork(atoms, np.arange(20), 2.6)
    g = np.random.default_rng(0).normal(size=60)
    columns = np.array([springs.solve(e) for e in np.eye(60)])
    np.testing.assert_allclose(columns, columns.T, atol=1e-12)
    assert np.linalg.eigvalsh(columns).min() > 0
    np.testing.assert_allclose(springs.solve(g), columns @ g, atol=1e-12)


# clusters and labels


def test_cluster_is_symmetric_about_its_bond(cluster, material):
    free = cluster.reference.positions[cluster.free]
    assert len(cluster.reference) < 250 and cluster.period == pytest.approx(material.a0 / np.sqrt(2), rel=1e-6)
    assert cluster.advance == pytest.approx(np.sqrt(3.0 / 8.0) * material.a0, rel=1e-3)
    tip = cluster.plane_bonds[np.argmin(np.abs(cluster.bond_middles[cluster.plane_bonds, 0]))]
    np.testing.assert_allclose(cluster.bond_middles[tip, :2], 0.0, atol=1e-3)
    assert np.hypot(*free[:, :2].T).max() < 11.0
    u = cluster.displacement(RimLoad(material.griffith(SYSTEM)))
    above, below = (np.argmin(np.linalg.norm(free[:, :2] - [-6, s], axis=1)) for s in (1.2, -1.2))
    assert u[cluster.free][above, 1] > 0.3 > -0.3 > u[cluster.free][below, 1]
    with pytest.raises(SettingsError, match="front"):
        cluster.displacement(RimLoad(strain=(0, 0, 0.01, 0, 0, 0)))
    with pytest.raises(SettingsError, match="twice the cutoff"):
        Cluster(material, SYSTEM, radius=5.0)


def test_the_lattice_traps_the_crack_around_griffiths_load(history, material):
    k = material.griffith(SYSTEM)
    assert 0.5 * k < history.k_minus < 0.95 * k and 1.1 * k < history.k_plus < 1.8 * k
    assert history.rupture[1] / history.rupture[0] == pytest.approx(1.06)
    cluster = history.cluster
    assert cluster.bond_middles[history.broke, :2] == pytest.approx([0, 0], abs=1e-3)
    for state in history.states:
        assert cluster.tip_position(state.positions) == pytest.approx(-0.5 * cluster.advance, abs=1e-3)


def test_rupture_is_matscipys(cluster, material, tmp_path, monkeypatch):
    """The same field on the same rim, by matscipy's crack; a far field that moves with the tip gives way earlier."""
    monkeypatch.chdir(tmp_path)
    k = material.griffith(SYSTEM)
    own = load_both_ways(cluster, RimLoad(k), factor=1.02, heal=False).rupture
    low, high = rupture_by_matscipy(material, SYSTEM, 11.0, factor=1.02)
    assert low < own[1] * 1.01 and own[0] < high * 1.01
    moving = rupture_by_matscipy(material, SYSTEM, 11.0, factor=1.02, flexible=True)
    assert k < moving[0] < low
    assert not list(tmp_path.iterdir())  # matscipy leaves files
    with pytest.raises(DataError, match="stays at 1.1"):
        rupture_by_matscipy(material, SYSTEM, 11.0, factor=1.09, largest=1.1)
    with pytest.raises(SettingsError, match="factor"):
        rupture_by_matscipy(material, SYSTEM, factor=1.0)


def test_energy_on_the_way_is_the_integral_of_the_force(cluster, material):
    state = cluster.relaxed(RimLoad(material.griffith(SYSTEM)), fmax=1e-4)
    bond = cluster.tip_bond(state.positions)
    cut = open_bond(cluster, state, bond, step=0.05, fmax=1e-4)
    assert np.trapezoid(cut.force, cut.opening) == pytest.approx(cut.energy[-1], abs=3e-3)
    assert cut.barrier > 0 and cut.other_bonds == 0
    # in one or many steps: the same end
    assert open_bond(cluster, state, bond, step=2.0).driving == pytest.approx(cut.driving, abs=1e-3)
    broken = int(np.flatnonzero(cluster.broken(state.positions))[-1])
    if cluster.opening(state.positions, broken) > 1.6 * material.bond:
        with pytest.raises(SettingsError, match="rim|open already"):
            open_bond(cluster, state, broken)


@pytest.fixture(scope="module")
def labels(history) -> BondLabels:
    return label_history(history, every=2, most=3)


def test_labels_follow_griffith(labels, material):
    """The energy released by the tip bond rises with the load and vanishes near Griffith's: (K^2/K_G^2 - 1) epsilon for
    an endless body. A rim at 11 A costs some of it."""
    tip = labels.part(labels.tip)
    order = np.argsort(tip.k)
    k, driving = tip.k[order] / material.griffith(SYSTEM), tip.driving[order]
    assert np.all(np.diff(driving) > 0)
    assert np.interp(0.0, driving, k) == pytest.approx(1.0, abs=0.12)
    other = labels.part(~labels.tip)
    assert np.all(other.driving < np.interp(other.k, tip.k[order], driving))
    assert labels.X.shape[1] == len(labels.names) == 6
    # the bond feels more traction than any other, and nothing of the label is among the features
    assert np.all(tip.X[:, labels.names.index("normal_traction")] > 0)


def test_stress_off_the_tip_is_that_of_the_continuum(history, material):
    """Above the tip, where the crystal is nearly linear: the atoms' average and the K-field's, and both volumes."""
    cluster, R, centre = history.cluster, 4.0, (1.0, 6.0)
    n = [load.k for load in history.loads].index(material.griffith(SYSTEM))
    frame = cluster.frame(history.states[n].positions)
    field = material.k_field(SYSTEM)
    expected = fields.averaged_field(
        fields.crystal_near_tip(field, history.loads[n].k), R, fields.plane_strain_zz(field), centre
    )
    u = cluster.displacement(history.loads[n])  # the continuum's point is the crystal's before it was displaced
    near = np.argmin(np.linalg.norm(cluster.reference.positions[:, :2] - centre, axis=1))
    where = [[centre[0] + u[near, 0], centre[1] + u[near, 1], 0.0]]
    for volumes in (np.full(len(frame), material.volume), None):
        sigma, volumes = atomic_stresses(frame, None, volumes)
        got = averaged_stress(frame, sigma, volumes, where, R)[0]
        np.testing.assert_allclose(got[[0, 1, 2, 5]], expected[[0, 1, 2, 5]], atol=0.12 * expected[1])
    assert expected[1] > 0.03


def test_strained_crystals(cluster):
    strains = [(0.0, e, 0.0, 0.0, 0.0, 0.0) for e in (0.0, 0.06, 0.12)]
    made = label_strained(cluster, strains, name="strained (111)[1-10]")
    assert np.all(np.diff(made.driving) > 0) and made.driving[0] < -EPSILON
    assert list(made.home) == ["(111)[1-10]"] * 3 and not made.tip.any()
    np.testing.assert_allclose(made.X[0], 0.0, atol=1e-3)
    with pytest.raises(DataError, match="smaller"):
        label_strained(cluster, [(0.0, 0.6, 0.0, 0.0, 0.0, 0.0)])


def test_loading_that_cannot_start_is_an_error(cluster, material):
    with pytest.raises(DataError, match="does not stay"):
        load_both_ways(cluster, RimLoad(0.3 * material.griffith(SYSTEM)))
    with pytest.raises(SettingsError, match="factor"):
        load_both_ways(cluster, RimLoad(1.0), factor=0.9)


# the whole way


def test_a_system_left_out_has_no_say_in_its_critical_load(material):
    """Loads of rupture from atoms are those of a potential that is fitted here to the bonds of the other system alone,
    and has its critical value."""
    names = ("(111)[1-10]", "(110)[001]")
    settings = FractureSettings(systems=names, modes=(0.0, 0.2), radius=9.0, factor=1.06, strains=())
    stress = BondStress(volume=material.volume)
    histories, labels = label_material(material, settings, stress)
    result = learn_fracture(histories, labels, settings, stress)
    home = {h.name: h.cluster.system.name for h in histories}
    for prediction, h in zip(result.predictions, histories, strict=True):
        others = [o for o in histories if home[o.name] != home[h.name]]
        known = np.isin(labels.history, [o.name for o in others])
        blind = FracturePotential().fit(labels.X[known], labels.driving[known], labels.history[known])
        blind.set_critical(np.array([rupture_descriptors(o, stress) for o in others]))
        load, std = load_from_atoms(blind, h, tip_descriptors(h, stress), material.griffith(h.cluster.system))
        assert 0.5 * h.k_plus < load < 2.0 * h.k_plus
        assert prediction.atoms == pytest.approx(load) and prediction.atoms_std == pytest.approx(std)


@pytest.mark.slow
def test_an_unseen_crack_system(material, tmp_path):
    """Four systems: each predicted by a potential that saw the others."""
    settings = FractureSettings(modes=(0.0, 0.2, 0.4))
    stress = BondStress(volume=material.volume)
    histories, labels = label_material(material, settings, stress)
    result = learn_fracture(histories, labels, settings, stress)
    assert result.by_history.r2 > 0.95 and result.by_system.r2 > 0.85
    assert len(result.predictions) == 12
    for c, h in zip(result.predictions, histories, strict=True):
        assert c.k_minus < c.griffith < c.k_plus
        assert c.miss(c.atoms) < 0.1
        if h.tip_broke:  # the K-field knows of no other bond
            assert abs(c.continuum - c.k_plus) < 2.5 * c.continuum_std < 0.4 * c.k_plus
    straight = [c.miss(c.continuum) for c, h in zip(result.predictions, histories, strict=True) if h.tip_broke]
    assert np.mean(np.array(straight) < 0.1) > 0.6  # trapping differs between fronts in one plane: not in the K-field
    assert "K_G" in str(result)
    fracture_figure(result, tmp_path / "fracture.png")
    assert (tmp_path / "fracture.png").stat().st_size > 10_000
    # too few loads below, or no threshold within reach: not a number rather than a guess
    h = histories[0]
    X = tip_descriptors(h, stress)
    assert np.isnan(load_from_atoms(result.potential, h, X, 0.1 * h.loads[0].k)[0])
    assert load_from_continuum(result.continuum, h, stress)[0] > 0
    assert rupture_descriptors(h, stress).shape == (6,)


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="at least two"):
        FractureSettings(systems=("(111)[1-10]",))
    with pytest.raises(SettingsError, match="mode angles"):
        FractureSettings(modes=(2.0,))
    with pytest.raises(SettingsError, match="radii"):
        BondStress(radii=())
    with pytest.raises(SettingsError, match="no invariant"):
        BondStress(invariants=("pressure",))
    assert fields.Isotropic().plane_modulus > 1


def test_command(tmp_path, capsys):
    picture = tmp_path / "fracture.png"
    arguments = ["fracture", "--modes", "0", "--radius", "9", "--factor", "1.08", "--quiet", "-o", str(picture)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "critical driving force" in out and "(110)[001]" in out
    assert picture.stat().st_size > 10_000
    assert main([*arguments[:-1], str(tmp_path / "fracture.txt")]) == 2
    assert "fracture.txt" in capsys.readouterr().err
