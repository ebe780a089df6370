"""Live reference calculators: right numbers where they are installed, a clear remedy where they are not."""

import sys

import numpy as np
import pytest
from ase.build import bulk, molecule

from gapkit import datasets
from gapkit.oracles import ORACLES, OracleNotInstalledError, oracle


def assert_forces_are_slopes(atoms, *, step=1e-3, tolerance=1e-3):
    """Force on one atom against a central difference of energies, along a random direction."""
    direction = np.random.default_rng(5).normal(size=3)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[0] += sign * step * direction
        energies.append(moved.get_potential_energy())
    expected = atoms.get_forces()[0] @ direction
    assert abs(expected) > 0.01
    assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(expected, abs=tolerance)


@pytest.fixture
def bent_ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(rng=np.random.default_rng(1), stdev=0.05)
    return atoms


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="choose one of gpaw-si"):
        oracle("vasp")


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_absence_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, ORACLES[name].module, None)
    with pytest.raises(OracleNotInstalledError, match="pip install"):
        oracle(name)


def test_emt():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(rng=np.random.default_rng(0), stdev=0.05)
    atoms.calc = oracle("emt")
    assert_forces_are_slopes(atoms)


def test_stillinger_weber():
    pytest.importorskip("matscipy")
    atoms = bulk("Si", cubic=True, a=5.431)
    atoms.calc = oracle("sw-si")
    # Stillinger and Weber (1985): the energy per atom is 2 epsilon, fitted to -4.3363 eV
    assert atoms.get_potential_energy() / 8 == pytest.approx(-4.3363, abs=1e-3)
    atoms.rattle(rng=np.random.default_rng(0), stdev=0.05)
    assert_forces_are_slopes(atoms)


def test_gfn2(bent_ethanol):
    pytest.importorskip("tblite")
    bent_ethanol.calc = oracle("gfn2")
    assert_forces_are_slopes(bent_ethanol)


def test_pyscf():
    pytest.importorskip("pyscf")
    water = molecule("H2O")
    water.rattle(rng=np.random.default_rng(1), stdev=0.05)
    water.calc = oracle("pyscf-pbe")
    assert_forces_are_slopes(water)
    periodic = bulk("Si")
    periodic.calc = oracle("pyscf-pbe")
    with pytest.raises(ValueError, match="isolated molecules"):
        periodic.get_potential_energy()


def test_gpaw_repeats_a_stored_label():
    pytest.importorskip("gpaw")
    stored = next(a for a in datasets.load_silicon("train") if len(a) == 2 and a.pbc.all())
    again = stored.copy()
    again.calc = oracle("gpaw-si")
    assert again.get_potential_energy(force_consistent=True) == pytest.approx(stored.get_potential_energy(), abs=1e-4)
    assert again.get_forces() == pytest.approx(stored.get_forces(), abs=1e-3)
